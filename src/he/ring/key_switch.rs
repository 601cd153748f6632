//! Hybrid key switching, fused with rescaling: digits are never materialised.
use super::arith::mulmod;
use super::buffer::Buffer;
use super::context::RnsContext;
use super::simd::{self, Perm};

pub fn lb(b: &[u64], i: usize, n: usize) -> &[u64] {
    &b[i * n..(i + 1) * n]
}

/// Small integer polynomial to NTT limbs.
pub fn to_ntt(ctx: &RnsContext, x: &[i64], limbs: &[usize]) -> Buffer {
    let n = ctx.n;
    let mut b = Buffer::new(n * limbs.len());
    let jobs: Vec<_> = b.chunks_exact_mut(n).zip(limbs).collect();
    super::parallel::run(jobs, |(c, &i)| {
        let p = ctx.m[i].p as i64;
        for (y, &v) in c.iter_mut().zip(x) {
            *y = if v.abs() < p { (if v < 0 { v + p } else { v }) as u64 } else { v.rem_euclid(p) as u64 };
        }
        ctx.fwd(i, c);
    });
    b
}
/// x(X^g)
pub fn automorph(x: &[i64], g: u64) -> Vec<i64> {
    let n = x.len();
    let mut o = vec![0; n];
    for (i, &v) in x.iter().enumerate() {
        let e = (i as u64 * g) as usize % (2 * n);
        if e < n { o[e] = v } else { o[e - n] = -v }
    }
    o
}

/// Key-switching key: for each limb, per group of 8 residues, for each digit, (b, a);
/// packed to 5 or 6 bytes per residue.
pub struct SwitchKey {
    pub data: Vec<u8>,
    pub off: Vec<usize>,
    pub nd: usize,
}
impl SwitchKey {
    pub fn limb(&self, ctx: &RnsContext, limb: usize) -> &[u8] {
        let w = ctx.m[limb].w;
        let o = self.off[limb];
        &self.data[o..o + 2 * self.nd * ctx.n * w + 64 - 8 * w]
    }
    pub fn bytes(&self) -> usize {
        self.data.len()
    }
}
impl RnsContext {
    pub fn pmod(&self, i: usize) -> u64 {
        let p = self.m[i].p;
        self.m[self.l..].iter().fold(1, |a, x| mulmod(a, x.p % p, p))
    }
    /// All digits of a polynomial, in coefficients, ready for conversion to any limb.
    pub fn prep(&self, src: &[u64], l: usize, tainted: bool) -> Vec<(Buffer, Buffer)> {
        self.modup[l].iter().map(|cv| self.conv_prep(cv, tainted, |j| lb(src, j, self.n))).collect()
    }
    /// All digits in limb i (NTT domain).
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
        self.modup[l]
            .iter()
            .zip(pr)
            .zip(tmp)
            .map(|((cv, (ys, v)), t)| {
                if cv.from.contains(&i) {
                    let s = lb(src, i, n);
                    if !tainted {
                        return s;
                    }
                    simd::mulc(s, self.m[i].r2, self.m[i].md, t);
                } else {
                    self.conv_limb(cv, ys, v, i, t);
                }
                &**t
            })
            .collect()
    }
    pub fn tmp(&self, k: usize) -> Vec<Buffer> {
        (0..k).map(|_| Buffer::new(self.n)).collect()
    }
    /// (src * key + add) / P, or / (P*q_{l-1}): never materialises the digits or the extended result.
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
        let cv = &self.moddown[l][drop as usize];
        let ns = cv.from.len();
        let mut s = [Buffer::new(n * ns), Buffer::new(n * ns)];
        let [s0, s1] = &mut s;
        let jobs: Vec<_> = s0.chunks_exact_mut(n).zip(s1.chunks_exact_mut(n)).zip(&cv.from).collect();
        super::parallel::run(jobs, |((a, b), &i)| one(i, &mut self.tmp(nd), a, b));
        let pos = |j: usize| cv.from.iter().position(|&x| x == j).unwrap();
        let q: Vec<(Buffer, Buffer)> =
            s.iter().map(|x| self.conv_prep(cv, false, |j| lb(x, pos(j), n))).collect();
        let lo = l - drop as usize;
        let mut out = [Buffer::new(n * lo), Buffer::new(n * lo)];
        let [a0, a1] = &mut out;
        let jobs: Vec<_> = a0.chunks_exact_mut(n).zip(a1.chunks_exact_mut(n)).enumerate().collect();
        super::parallel::run(jobs, |(i, (a, b))| {
            let (mut r0, mut r1) = (Buffer::new(n), Buffer::new(n));
            let mut tmp = self.tmp(nd);
            one(i, &mut tmp, &mut r0, &mut r1);
            for (r, o, (ys, v)) in [(&r0, a, &q[0]), (&r1, b, &q[1])] {
                self.conv_limb(cv, ys, v, i, &mut tmp[0]);
                simd::subc(r, &tmp[0], cv.sinv[i], self.m[i].md, o);
            }
        });
        out
    }
    /// x / P or x / (P*q_{l-1}); x holds l + k limbs.
    pub fn mod_down(&self, x: &[u64], l: usize, drop: bool) -> Buffer {
        let n = self.n;
        let cv = &self.moddown[l][drop as usize];
        let at = |j: usize| if j < l { j } else { j - self.l + l };
        let (ys, v) = self.conv_prep(cv, false, |j| lb(x, at(j), n));
        let lo = l - drop as usize;
        let mut out = Buffer::new(n * lo);
        let jobs: Vec<_> = out.chunks_exact_mut(n).enumerate().collect();
        super::parallel::run(jobs, |(i, o)| {
            let mut t = Buffer::new(n);
            self.conv_limb(cv, &ys, &v, i, &mut t);
            simd::subc(lb(x, i, n), &t, cv.sinv[i], self.m[i].md, o);
        });
        out
    }
}
