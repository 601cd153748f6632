//! Hybrid key switching (Han and Ki, CT-RSA 2020), fused with rescaling: digits are never materialised.

use super::{
    arith::mulmod,
    buffer::Buffer,
    context::{Limb, RnsContext},
    conversion::{BaseConversion, Source},
    parallel,
    simd::{self, Perm},
};

/// Limb `i` of a polynomial of degree n.
pub fn lb(b: &[u64], i: usize, n: usize) -> &[u64] {
    &b[i * n..(i + 1) * n]
}

/// [`simd::dot`] over whole limbs, in halves: a thread that has nothing else left takes one.
pub fn dot(a: &simd::Dot, m: &Limb, o0: &mut [u64], o1: &mut [u64]) {
    let half = o0.len() / 2;
    let groups = half / 8;
    let ((low0, high0), (low1, high1)) = (o0.split_at_mut(half), o1.split_at_mut(half));
    // In the bit-reversed order an automorphism maps aligned chunks to aligned chunks.
    let run = |h: usize, o0: &mut [u64], o1: &mut [u64]| {
        let base = h * groups;
        let first = a.perm.map_or(base, |perm| perm.src_chunk(h, groups));
        simd::dot(&simd::Dot { range: (first, first + groups), base, ..*a }, m.w, m.md, o0, o1);
    };
    parallel::join(|| run(0, low0, low1), || run(1, high0, high1));
}

/// A public polynomial of integers to limbs in the transform domain.
pub fn to_ntt(ctx: &RnsContext, x: &[i64], limbs: &[usize]) -> Buffer {
    let n = ctx.n;
    let largest = x.iter().map(|v| v.unsigned_abs()).max().unwrap_or(0);
    let mut b = Buffer::new(n * limbs.len());
    let jobs: Vec<_> = b.chunks_exact_mut(n).zip(limbs).collect();
    parallel::run(jobs, |(c, &i)| {
        let m = &ctx.m[i];
        if largest < m.p {
            residues(m, x, c);
        } else {
            for (y, &v) in c.iter_mut().zip(x) {
                *y = v.rem_euclid(m.p.cast_signed()).cast_unsigned();
            }
        }
        m.transform.forward(c);
    });
    b
}

/// As [`to_ntt`] for coefficients smaller than every prime, which may be secret: into storage of the caller's, without a branch or a memory
/// access that depends on them. `out` holds one chunk per entry of `limbs`.
///
/// # Panics
/// If a length is wrong.
pub fn small_to_ntt(ctx: &RnsContext, x: &[i64], limbs: &[usize], out: &mut [u64]) {
    assert!(x.len() == ctx.n && out.len() == ctx.n * limbs.len());
    let jobs: Vec<_> = out.chunks_exact_mut(ctx.n).zip(limbs).collect();
    parallel::run(jobs, |(c, &i)| {
        residues(&ctx.m[i], x, c);
        ctx.fwd(i, c);
    });
}

/// x mod p for |x| < p, in constant time.
fn residues(m: &Limb, x: &[i64], out: &mut [u64]) {
    let p = m.p.cast_signed();
    for (y, &v) in out.iter_mut().zip(x) {
        *y = (v + (p & (v >> 63))).cast_unsigned();
    }
}

/// x(X^g).
pub fn automorph(x: &[i64], g: u64) -> Vec<i64> {
    let n = x.len();
    let mut o = vec![0; n];
    for (i, &v) in x.iter().enumerate() {
        let e = (i as u64 * g) as usize % (2 * n);
        if e < n { o[e] = v } else { o[e - n] = -v }
    }
    o
}

/// A switching key, without secrets: for each limb, per group of eight residues, for each digit, (b, a), packed to 5 or 6 bytes per residue.
pub struct SwitchKey {
    /// All limbs, and 64 bytes of padding.
    pub data: Vec<u8>,
    /// Where each limb of the context begins; unused limbs have `usize::MAX`.
    pub off: Vec<usize>,
    /// Digits.
    pub nd: usize,
}

impl SwitchKey {
    /// Room for a key over these limbs.
    pub fn zeroed(ctx: &RnsContext, limbs: &[usize], digits: usize) -> SwitchKey {
        let mut off = vec![usize::MAX; ctx.m.len()];
        let mut size = 0;
        for &i in limbs {
            off[i] = size;
            size += SwitchKey::limb_bytes(ctx, i, digits);
        }
        SwitchKey { data: simd::zeroed_bytes(size + 64), off, nd: digits }
    }

    /// Bytes of limb `i` of a key with so many digits, without padding.
    pub fn limb_bytes(ctx: &RnsContext, i: usize, digits: usize) -> usize {
        2 * digits * ctx.n * ctx.m[i].w
    }

    /// The packed residues of a limb, with enough padding behind them to load whole vectors.
    ///
    /// # Panics
    /// If the key does not have the limb.
    pub fn limb(&self, ctx: &RnsContext, limb: usize) -> &[u8] {
        let o = self.off[limb];
        &self.data[o..o + SwitchKey::limb_bytes(ctx, limb, self.nd) + 64 - 8 * ctx.m[limb].w]
    }

    /// The packed residues of a limb, to be written.
    ///
    /// # Panics
    /// If the key does not have the limb.
    pub fn limb_mut(&mut self, ctx: &RnsContext, limb: usize) -> &mut [u8] {
        let o = self.off[limb];
        &mut self.data[o..o + SwitchKey::limb_bytes(ctx, limb, self.nd)]
    }

    /// Its size in memory.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }
}

impl RnsContext {
    /// P mod the prime of limb `i`.
    pub fn pmod(&self, i: usize) -> u64 {
        let p = self.m[i].p;
        self.m[self.l..].iter().fold(1, |a, x| mulmod(a, x.p % p, p))
    }

    /// All digits of a polynomial of level l, in coefficients, ready for conversion to any limb.
    pub fn prep(&self, src: &[u64], l: usize, tainted: bool) -> Vec<(Buffer, Buffer)> {
        let limbs = |cv: &BaseConversion| cv.from.iter().map(|&j| lb(src, j, self.n)).collect();
        let digits = self.modup[l].iter();
        self.prepare(digits.map(|cv| Source { conversion: cv, tainted, limbs: limbs(cv) }).collect())
    }

    /// All digits in limb i, in the transform domain: limbs of `src` itself where they are its own.
    pub fn digits<'a>(
        &self,
        src: &'a [u64],
        l: usize,
        tainted: bool,
        pr: &[(Buffer, Buffer)],
        i: usize,
        tmp: &'a mut [Buffer],
    ) -> Vec<&'a [u64]> {
        let own = if i < l { lb(src, i, self.n) } else { &[] };
        let mut out = vec![own; pr.len()];
        let digits = self.modup[l].iter().zip(pr).zip(tmp).zip(&mut out);
        let jobs = digits.filter(|(((cv, _), _), _)| tainted || !cv.from.contains(&i)).collect();
        parallel::run(jobs, |(((cv, (ys, v)), t), out)| {
            if cv.from.contains(&i) {
                simd::mulc(own, self.m[i].r2, self.m[i].md, t);
            } else {
                self.conv_limb(cv, ys, v, i, t);
            }
            *out = t;
        });
        out
    }

    /// Room for k limbs.
    pub fn tmp(&self, k: usize) -> Vec<Buffer> {
        (0..k).map(|_| Buffer::new(self.n)).collect()
    }

    /// (src·key + P·add)/P, or divided by P·q_{l−1} if `drop`, each component permuted: the digits and the extended result are never
    /// materialised, only those limbs of it that the division converts, in coefficients. The noise of the key switch is divided by q_{l−1} too.
    #[allow(clippy::too_many_arguments)]
    pub fn ks(
        &self,
        src: &[u64],
        l: usize,
        tainted: bool,
        key: &SwitchKey,
        add: [Option<&[u64]>; 2],
        perm: Option<&Perm>,
        drop: bool,
    ) -> [Buffer; 2] {
        let n = self.n;
        let pr = self.prep(src, l, tainted);
        let nd = pr.len();
        let one = |i: usize| -> [Buffer; 2] {
            let mut tmp = self.tmp(nd);
            let dg = self.digits(src, l, tainted, &pr, i, &mut tmp);
            let mut out = [Buffer::new(n), Buffer::new(n)];
            let [o0, o1] = &mut out;
            let m = &self.m[i];
            let pc = mulmod(self.pmod(i), if tainted { m.r2 } else { m.r }, m.p);
            let ad = |k: usize| if i < l { add[k].map(|a| (lb(a, i, n), pc)) } else { None };
            let product = simd::Dot {
                digs: &dg,
                key: key.limb(self, i),
                kd: key.nd,
                add0: ad(0),
                add1: ad(1),
                perm,
                acc: false,
                range: (0, n / 8),
                base: 0,
            };
            dot(&product, m, o0, o1);
            out
        };
        let cv = &self.moddown[l][usize::from(drop)];
        let ns = cv.from.len();
        let mut q = [0; 2].map(|_| (Buffer::new(n * ns), Buffer::new(n)));
        let [(y0, _), (y1, _)] = &mut q;
        let jobs: Vec<_> = y0.chunks_exact_mut(n).zip(y1.chunks_exact_mut(n)).enumerate().collect();
        parallel::run(jobs, |(t, (y0, y1))| {
            let i = cv.from[t];
            let [r0, r1] = one(i);
            let inverse = |r: &[u64], y: &mut [u64]| self.inv_scaled(i, r, cv.scale[t][0], y);
            parallel::join(|| inverse(&r0, y0), || inverse(&r1, y1));
        });
        self.round(q.iter_mut().map(|q| (cv, q)));
        let lo = l - usize::from(drop);
        let mut out = [Buffer::new(n * lo), Buffer::new(n * lo)];
        let [a0, a1] = &mut out;
        let jobs: Vec<_> = a0.chunks_exact_mut(n).zip(a1.chunks_exact_mut(n)).enumerate().collect();
        parallel::run(jobs, |(i, (a, b))| {
            let [r0, r1] = one(i);
            let divide = |r: &[u64], o: &mut [u64], (ys, v): &(Buffer, Buffer)| {
                self.conv_divided(cv, ys, v, i, r, &mut Buffer::new(n), o);
            };
            parallel::join(|| divide(&r0, a, &q[0]), || divide(&r1, b, &q[1]));
        });
        out
    }

    /// Of each x/P as by [`RnsContext::mod_down`]: itself, and all its digits as by [`RnsContext::prep`].
    pub fn mod_down_prep(&self, xs: &[&[u64]], l: usize) -> Vec<(Buffer, Vec<(Buffer, Buffer)>)> {
        let n = self.n;
        let cv = &self.moddown[l][0];
        let down = self.prepare(
            xs.iter()
                .map(|x| Source {
                    conversion: cv,
                    tainted: false,
                    limbs: x[l * n..].chunks_exact(n).collect(),
                })
                .collect(),
        );
        let digits = || self.modup[l].iter().map(|cv| (Buffer::new(n * cv.from.len()), Buffer::new(n)));
        let mut out: Vec<_> = xs.iter().map(|_| (Buffer::new(n * l), digits().collect::<Vec<_>>())).collect();
        let mut jobs = vec![];
        for ((x, down), (out, digits)) in xs.iter().zip(&down).zip(&mut out) {
            let ys = self.modup[l].iter().zip(digits).flat_map(|(cv, (y, _))| {
                let scales = cv.scale.iter().map(|scale| scale[0]);
                scales.zip(y.chunks_exact_mut(n))
            });
            // Digits are consecutive limbs.
            for (i, (out, (scale, y))) in out.chunks_exact_mut(n).zip(ys).enumerate() {
                jobs.push((i, *x, down, out, scale, y));
            }
        }
        parallel::run(jobs, |(i, x, (ys, v), out, scale, y)| {
            self.conv_divided(cv, ys, v, i, lb(x, i, n), y, out);
            self.inv_scaled(i, out, scale, y);
        });
        let digits = out.iter_mut().flat_map(|(_, digits)| self.modup[l].iter().zip(digits));
        self.round(digits);
        out
    }

    /// x/P, or x/(P·q_{l−1}) if `drop`, rounded; x holds the l + k limbs of the extended basis.
    pub fn mod_down(&self, x: &[u64], l: usize, drop: bool) -> Buffer {
        let n = self.n;
        let cv = &self.moddown[l][usize::from(drop)];
        let at = |j: usize| if j < l { j } else { j - self.l + l };
        let (ys, v) = self.conv_prep(cv, false, |j| lb(x, at(j), n));
        let lo = l - usize::from(drop);
        let mut out = Buffer::new(n * lo);
        let jobs: Vec<_> = out.chunks_exact_mut(n).enumerate().collect();
        parallel::run(jobs, |(i, o)| {
            let mut t = Buffer::new(n);
            self.conv_divided(cv, &ys, &v, i, lb(x, i, n), &mut t, o);
        });
        out
    }
}
