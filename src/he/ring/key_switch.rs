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
        let n = self.n;
        let mut out = Vec::with_capacity(pr.len());
        for ((cv, (ys, v)), t) in self.modup[l].iter().zip(pr).zip(tmp) {
            if !cv.from.contains(&i) {
                self.conv_limb(cv, ys, v, i, t);
                out.push(&**t);
            } else if tainted {
                simd::mulc(lb(src, i, n), self.m[i].r2, self.m[i].md, t);
                out.push(&**t);
            } else {
                out.push(lb(src, i, n));
            }
        }
        out
    }

    /// Room for k limbs.
    pub fn tmp(&self, k: usize) -> Vec<Buffer> {
        (0..k).map(|_| Buffer::new(self.n)).collect()
    }

    /// (src·key + P·add)/P, or divided by P·q_{l−1} if `drop`, each component permuted: the digits and the extended result are never
    /// materialised, only those limbs of it that the division converts. The noise of the key switch is divided by q_{l−1} too.
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
        let one = |i: usize, tmp: &mut [Buffer], o0: &mut [u64], o1: &mut [u64]| {
            let dg = self.digits(src, l, tainted, &pr, i, tmp);
            let m = &self.m[i];
            let pc = mulmod(self.pmod(i), if tainted { m.r2 } else { m.r }, m.p);
            let ad = |k: usize| if i < l { add[k].map(|a| (lb(a, i, n), pc)) } else { None };
            simd::dot(
                &simd::Dot {
                    digs: &dg,
                    key: key.limb(self, i),
                    kd: key.nd,
                    add0: ad(0),
                    add1: ad(1),
                    perm,
                    acc: false,
                    range: (0, n / 8),
                    base: 0,
                },
                m.w,
                m.md,
                o0,
                o1,
            );
        };
        let cv = &self.moddown[l][usize::from(drop)];
        let ns = cv.from.len();
        let mut s = [Buffer::new(n * ns), Buffer::new(n * ns)];
        let [s0, s1] = &mut s;
        let jobs: Vec<_> = s0.chunks_exact_mut(n).zip(s1.chunks_exact_mut(n)).zip(&cv.from).collect();
        parallel::run(jobs, |((a, b), &i)| one(i, &mut self.tmp(nd), a, b));
        let q = self.prepare(
            s.iter()
                .map(|x| Source { conversion: cv, tainted: false, limbs: x.chunks_exact(n).collect() })
                .collect(),
        );
        let lo = l - usize::from(drop);
        let mut out = [Buffer::new(n * lo), Buffer::new(n * lo)];
        let [a0, a1] = &mut out;
        let jobs: Vec<_> = a0.chunks_exact_mut(n).zip(a1.chunks_exact_mut(n)).enumerate().collect();
        parallel::run(jobs, |(i, (a, b))| {
            let (mut r0, mut r1) = (Buffer::new(n), Buffer::new(n));
            let mut tmp = self.tmp(nd);
            one(i, &mut tmp, &mut r0, &mut r1);
            for (r, o, (ys, v)) in [(&r0, a, &q[0]), (&r1, b, &q[1])] {
                self.conv_divided(cv, ys, v, i, r, &mut tmp[0], o);
            }
        });
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
