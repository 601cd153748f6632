//! Negacyclic number-theoretic transforms: natural order in, bit-reversed order out, the inverse not normalised.
//!
//! Position j of a transformed limb holds the polynomial's value at ψ^(2·rev(j)+1), ψ a primitive 2N-th root of unity. Automorphisms rely on
//! that order.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use super::{Modulus, isa::Kind};
use crate::he::ring::arith::{invmod, mulmod};

/// Transforms of one degree modulo one prime.
pub struct Transform {
    degree: usize,
    tables: Tables,
}

/// Each variant is made only with an [`super::Isa`] of its kind: it is the proof that the instructions are there.
enum Tables {
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Tables),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Tables),
    Portable(portable::Tables),
}

/// Powers of ψ and of ψ^-1 in bit-reversed order.
struct Powers {
    forward: Vec<u64>,
    inverse: Vec<u64>,
}

impl Powers {
    fn new(n: usize, p: u64, psi: u64) -> Powers {
        let bits = n.trailing_zeros();
        let powers = |psi: u64| {
            let mut t = vec![0; n];
            let mut x = 1;
            for k in 0..n {
                t[k.reverse_bits() >> (usize::BITS - bits)] = x;
                x = mulmod(x, psi, p);
            }
            t
        };
        Powers { forward: powers(psi), inverse: powers(invmod(psi, p)) }
    }

    /// The factors of the last three layers of a transform, which work inside eight neighbouring residues: for each group of `LANES` such
    /// blocks seven vectors, one lane per block.
    #[cfg(target_arch = "x86_64")]
    fn lanes<const LANES: usize, T>(t: &[u64], form: impl Fn(u64) -> T) -> Vec<[T; LANES]> {
        let n = t.len();
        let mut o = Vec::with_capacity(7 * n / (8 * LANES));
        for c in 0..n / (8 * LANES) {
            for (m, per) in [(n / 8, 1), (n / 4, 2), (n / 2, 4)] {
                for k in 0..per {
                    o.push(std::array::from_fn(|g| form(t[m + per * (LANES * c + g) + k])));
                }
            }
        }
        o
    }
}

impl Transform {
    /// For a degree n of at least 16, a power of two, and a primitive 2n-th root of unity ψ modulo m. The vector code works through three
    /// layers at a time: where log2 n is no multiple of three, or below nine, the portable code stands in.
    pub fn new(n: usize, m: Modulus, psi: u64) -> Transform {
        let powers = Powers::new(n, m.p, psi);
        let layers = n.trailing_zeros();
        let tables = match m.isa().kind() {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 if layers.is_multiple_of(3) && layers >= 9 => {
                Tables::Avx512(avx512::Tables::new(m, &powers))
            }
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 if layers.is_multiple_of(3) && layers >= 9 => {
                Tables::Avx2(avx2::Tables::new(m, &powers))
            }
            _ => Tables::Portable(portable::Tables::new(m, &powers)),
        };
        Transform { degree: n, tables }
    }

    /// Coefficients → values, in place; residues in [0, p) on both sides.
    ///
    /// # Panics
    /// If the length is not the degree.
    pub fn forward(&self, x: &mut [u64]) {
        assert_eq!(x.len(), self.degree);
        match &self.tables {
            // SAFETY: these tables exist only where the instructions were detected.
            #[cfg(target_arch = "x86_64")]
            Tables::Avx512(t) => unsafe { t.forward(x) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Tables::Avx2(t) => unsafe { t.forward(x) },
            Tables::Portable(t) => t.forward(x),
        }
    }

    /// out = (a − forward(x))·c/R: [`Transform::forward`] and [`super::subc`] in one, for the modulus m of this transform. What x holds
    /// afterwards is unspecified.
    ///
    /// # Panics
    /// If a length is not the degree.
    pub fn forward_subtracted(&self, x: &mut [u64], a: &[u64], c: u64, m: Modulus, out: &mut [u64]) {
        assert!(x.len() == self.degree && a.len() == self.degree && out.len() == self.degree);
        match &self.tables {
            // SAFETY: these tables exist only where the instructions were detected.
            #[cfg(target_arch = "x86_64")]
            Tables::Avx512(t) => unsafe { t.forward_subtracted(x, a, c, out) },
            _ => {
                self.forward(x);
                super::subc(a, x, c, m, out);
            }
        }
    }

    /// Values → coefficients times the degree, in place.
    ///
    /// # Panics
    /// If the length is not the degree.
    pub fn inverse(&self, x: &mut [u64]) {
        self.run_inverse(None, 1, x);
    }

    /// As [`Transform::inverse`], times c, from `src` to `dst`: for little more than the transform alone.
    ///
    /// # Panics
    /// If a length is not the degree.
    pub fn inverse_scaled(&self, src: &[u64], c: u64, dst: &mut [u64]) {
        assert_eq!(src.len(), self.degree);
        self.run_inverse(Some(src), c, dst);
    }

    fn run_inverse(&self, src: Option<&[u64]>, c: u64, x: &mut [u64]) {
        assert_eq!(x.len(), self.degree);
        match &self.tables {
            // SAFETY: these tables exist only where the instructions were detected.
            #[cfg(target_arch = "x86_64")]
            Tables::Avx512(t) => unsafe { t.inverse(src, c, x) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Tables::Avx2(t) => unsafe { t.inverse(src, c, x) },
            Tables::Portable(t) => {
                if let Some(src) = src {
                    x.copy_from_slice(src);
                }
                t.inverse(c, x);
            }
        }
    }
}
