//! Ciphertexts of the large ring, and sums and products of them.

use super::complex::Complex;
use crate::he::ring::{
    arith::{imod, invmod, mulmod},
    buffer::Buffer,
    context::{Limb, RnsContext},
    key_switch::{SwitchKey, lb, to_ntt},
    parallel, simd,
};

/// A ciphertext of the large ring in the transform domain: c0 + c1·s is the phase.
#[derive(Clone)]
pub struct Ciphertext {
    /// c0 and c1, one limb of residues after the other.
    pub(crate) c: [Buffer; 2],
    /// Number of limbs.
    pub(crate) l: usize,
    /// Units of the phase per unit of value.
    pub(crate) scale: f64,
}

impl Ciphertext {
    /// Number of limbs.
    pub fn level(&self) -> usize {
        self.l
    }

    /// Units of the phase per unit of value.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        8 * (self.c[0].len() + self.c[1].len())
    }

    /// A limb of both polynomials.
    pub(crate) fn limb(&self, i: usize, n: usize) -> [&[u64]; 2] {
        [lb(&self.c[0], i, n), lb(&self.c[1], i, n)]
    }
}

/// A sum of products that is not relinearised yet; its residues carry the Montgomery factor 1/R.
pub(crate) struct Tensor {
    pub d: [Buffer; 3],
    pub l: usize,
    pub scale: f64,
}

impl Tensor {
    pub(crate) fn new(n: usize, l: usize, scale: f64) -> Self {
        Tensor { d: [0; 3].map(|_| Buffer::new(n * l)), l, scale }
    }
}

/// An integer complex constant.
pub(crate) type Integer = (i128, i128);

/// The constant's residues on the first and on the second half of the positions: X^(N/2) is i in every slot.
pub(crate) fn residues(m: &Limb, (re, im): Integer) -> [u64; 2] {
    let (r, i) = (imod(re, m.p), mulmod(imod(im, m.p), m.ipow, m.p));
    [(r + i) % m.p, (r + m.p - i) % m.p]
}

/// A complex constant at a scale.
pub(crate) fn rounded(x: Complex, scale: f64) -> Integer {
    ((x.re * scale).round() as i128, (x.im * scale).round() as i128)
}

impl RnsContext {
    /// Divides by the last prime.
    pub(crate) fn rescale(&self, x: &Ciphertext) -> Ciphertext {
        let (n, l) = (self.n, x.l);
        let conversion = &self.resc[l];
        let half = |k: usize| {
            let (ys, v) = self.conv_prep(conversion, false, |j| lb(&x.c[k], j, n));
            let mut out = Buffer::new(n * (l - 1));
            let jobs: Vec<_> = out.chunks_exact_mut(n).enumerate().collect();
            parallel::run(jobs, |(i, o)| {
                let mut t = Buffer::new(n);
                self.conv_divided(conversion, &ys, &v, i, lb(&x.c[k], i, n), &mut t, o);
            });
            out
        };
        let (c0, c1) = parallel::join(|| half(0), || half(1));
        Ciphertext { c: [c0, c1], l: l - 1, scale: x.scale / self.m[l - 1].p as f64 }
    }

    /// Σ products + Σ constant·ciphertext + constant, all times two if `double` says so (the products alone), at level l.
    pub(crate) fn tensor(
        &self,
        l: usize,
        (x, y): (&Ciphertext, &Ciphertext),
        terms: &[(&Ciphertext, Integer)],
        constant: Integer,
        double: bool,
    ) -> Tensor {
        let n = self.n;
        let mut tensor = Tensor::new(n, l, x.scale * y.scale);
        let [d0, d1, d2] = &mut tensor.d;
        let limbs = d0.chunks_exact_mut(n).zip(d1.chunks_exact_mut(n)).zip(d2.chunks_exact_mut(n));
        parallel::run(limbs.enumerate().collect(), |(i, ((a, b), c))| {
            let m = &self.m[i];
            let terms: Vec<_> = terms.iter().map(|(x, k)| (x.limb(i, n), residues(m, *k))).collect();
            let r_inverse = invmod(m.r, m.p);
            let sum = simd::Sum {
                prods: &[(x.limb(i, n), y.limb(i, n))],
                lins: &terms,
                cst: residues(m, constant).map(|x| mulmod(x, r_inverse, m.p)),
                dbl: double,
            };
            simd::sum(&sum, m.md, a, b, c);
        });
        tensor
    }

    /// Relinearises and divides by the last prime, in one division.
    pub(crate) fn relinearise(&self, key: &SwitchKey, t: &Tensor) -> Ciphertext {
        let c = self.ks(&t.d[2], t.l, true, key, [Some(&t.d[0]), Some(&t.d[1])], None, true);
        Ciphertext { c, l: t.l - 1, scale: t.scale / self.m[t.l - 1].p as f64 }
    }

    /// x·y, divided by the last prime.
    pub(crate) fn product(&self, key: &SwitchKey, x: &Ciphertext, y: &Ciphertext) -> Ciphertext {
        self.relinearise(key, &self.tensor(x.l.min(y.l), (x, y), &[], (0, 0), false))
    }

    /// Σ constant·ciphertext at level l, without a division.
    pub(crate) fn combination(&self, l: usize, terms: &[(&Ciphertext, Integer)], scale: f64) -> Ciphertext {
        let n = self.n;
        let mut c = [Buffer::new(n * l), Buffer::new(n * l)];
        let [c0, c1] = &mut c;
        let limbs = c0.chunks_exact_mut(n).zip(c1.chunks_exact_mut(n));
        parallel::run(limbs.enumerate().collect(), |(i, (a, b))| {
            let m = &self.m[i];
            let terms: Vec<_> =
                terms.iter().map(|(x, k)| (x.limb(i, n), residues(m, *k).map(|x| m.mont(x)))).collect();
            let sum = simd::Sum { prods: &[], lins: &terms, cst: [0, 0], dbl: false };
            simd::sum(&sum, m.md, a, b, &mut []);
        });
        Ciphertext { c, l, scale }
    }

    /// Brings a ciphertext down to a level and a scale: limbs are left away but for one, by which it divides.
    pub(crate) fn settle(&self, x: &Ciphertext, level: usize, scale: f64) -> Ciphertext {
        let factor = (scale * self.m[level].p as f64 / x.scale).round().max(1.0);
        let raised = self.combination(level + 1, &[(x, (factor as i128, 0))], x.scale * factor);
        self.rescale(&raised)
    }

    /// Adds small integers to the coefficients of the phase.
    pub(crate) fn add_coefficients(&self, x: &mut Ciphertext, values: &[i64]) {
        let n = self.n;
        let limbs: Vec<usize> = (0..x.l).collect();
        let plain = to_ntt(self, values, &limbs);
        for i in 0..x.l {
            let p = self.m[i].p;
            for (y, z) in x.c[0][i * n..(i + 1) * n].iter_mut().zip(lb(&plain, i, n)) {
                let s = *y + z;
                *y = s.min(s.wrapping_sub(p));
            }
        }
    }

    /// X → X^g with a hybrid key.
    pub(crate) fn automorphism(&self, key: &SwitchKey, x: &Ciphertext, g: u64) -> Ciphertext {
        let c = self.ks(&x.c[1], x.l, false, key, [Some(&x.c[0]), None], Some(&self.perms[&g]), false);
        Ciphertext { c, l: x.l, scale: x.scale }
    }
}
