//! Ring products: operands extended once per use, lazy accumulation, one scale-down and one relinearisation.

use super::{
    bfv_ring::{ProductBasis, Representation, Ring},
    ciphertext::Ciphertext,
    error::{HeError, library},
    keys::ServerKeys,
};
use fhe_math::rq::{Poly, traits::TryConvertFrom};
use std::sync::Arc;

/// A ciphertext extended to the basis in which tensor products are exact. Costs a good part of a product: make it
/// once for all products that an operand enters.
pub struct Operand {
    ring: Arc<Ring>,
    level: usize,
    parts: [Poly; 2],
}

impl Operand {
    /// Level of the ciphertext from which the operand was made.
    pub fn level(&self) -> usize {
        self.level
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        2 * self.parts[0].ctx().moduli().len() * self.ring.degree() * 8
    }
}

/// Accumulators of the three components of a sum of tensor products.
struct Accumulator {
    parts: [Vec<u128>; 3],
    terms: usize,
}

impl Accumulator {
    fn new(length: usize) -> Self {
        Accumulator { parts: [vec![0; length], vec![0; length], vec![0; length]], terms: 0 }
    }

    /// Adds the tensor product of two operands, without reduction.
    fn add(&mut self, a: &Operand, b: &Operand) -> Result<(), HeError> {
        let (a0, a1) = (a.parts[0].coefficients(), a.parts[1].coefficients());
        let (b0, b1) = (b.parts[0].coefficients(), b.parts[1].coefficients());
        let slices = (a0.as_slice(), a1.as_slice(), b0.as_slice(), b1.as_slice());
        let (Some(a0), Some(a1), Some(b0), Some(b1)) = slices else {
            return Err(library("product")("operands are not contiguous"));
        };
        let length = self.parts[0].len();
        let [c0, c1, c2] = &mut self.parts;
        // Equal lengths in sight of the compiler spare it the bounds checks.
        let (a0, a1, b0, b1) = (&a0[..length], &a1[..length], &b0[..length], &b1[..length]);
        let (c0, c1, c2) = (&mut c0[..length], &mut c1[..length], &mut c2[..length]);
        for i in 0..length {
            let (x0, x1) = (u128::from(a0[i]), u128::from(a1[i]));
            let (y0, y1) = (u128::from(b0[i]), u128::from(b1[i]));
            c0[i] += x0 * y0;
            c1[i] += x0 * y1 + x1 * y0;
            c2[i] += x1 * y1;
        }
        self.terms += 1;
        Ok(())
    }

    /// Reduces, scales by t·Q'/Q² and lands in the lower level's basis, in power basis.
    fn scale_down(&self, basis: &ProductBasis, degree: usize) -> Result<[Poly; 3], HeError> {
        let scale = |part: &[u128]| {
            let rows = part.chunks_exact(degree).zip(basis.context.moduli_operators());
            let reduced: Vec<u64> =
                rows.flat_map(|(row, modulus)| row.iter().map(|&x| modulus.reduce_u128(x))).collect();
            let mut p = Poly::try_convert_from(reduced, &basis.context, true, Representation::Ntt)
                .map_err(library("product"))?;
            p.change_representation(Representation::PowerBasis);
            p.scale(&basis.reduce).map_err(library("product"))
        };
        let [c0, c1, c2] = &self.parts;
        Ok([scale(c0)?, scale(c1)?, scale(c2)?])
    }
}

impl ServerKeys {
    /// Extends a ciphertext for products.
    ///
    /// # Errors
    /// Its level is 0, or its profile is not that of the keys.
    pub fn operand(&self, ciphertext: &Ciphertext) -> Result<Operand, HeError> {
        self.check_ring("product", &ciphertext.ring)?;
        let basis = self.product_basis(ciphertext.level)?;
        let extend = |i: usize| ciphertext.inner[i].scale(&basis.extend).map_err(library("product"));
        Ok(Operand {
            ring: ciphertext.ring.clone(),
            level: ciphertext.level,
            parts: [extend(0)?, extend(1)?],
        })
    }

    /// Σ aᵢ·bᵢ: accumulated before one scale-down and one relinearisation, at one level less.
    ///
    /// # Errors
    /// No terms, or operands of different levels or of another profile.
    pub fn product_sum(&self, terms: &[(&Operand, &Operand)]) -> Result<Ciphertext, HeError> {
        let Some(&(first, _)) = terms.first() else {
            return Err(HeError::Count { operation: "product", what: "terms", got: 0, expected: 1 });
        };
        for operand in terms.iter().flat_map(|&(a, b)| [a, b]) {
            self.check_ring("product", &operand.ring)?;
            if operand.level != first.level {
                return Err(HeError::LevelMismatch {
                    operation: "product",
                    left: first.level,
                    right: operand.level,
                });
            }
        }
        let basis = self.product_basis(first.level)?;
        let mut sum: Option<Ciphertext> = None;
        for part in terms.chunks(basis.max_terms) {
            let product = self.product_part(basis, part, first.level)?;
            match &mut sum {
                None => sum = Some(product),
                Some(sum) => sum.add_assign(&product)?,
            }
        }
        sum.ok_or(HeError::Count { operation: "product", what: "terms", got: 0, expected: 1 })
    }

    /// The product of two ciphertexts of one level.
    ///
    /// # Errors
    /// As [`ServerKeys::operand`] and [`ServerKeys::product_sum`].
    pub fn product(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext, HeError> {
        self.product_sum(&[(&self.operand(a)?, &self.operand(b)?)])
    }

    fn product_basis(&self, level: usize) -> Result<&ProductBasis, HeError> {
        let profile = self.ring.profile;
        let exhausted = HeError::LevelExhausted { profile: profile.name, depth: profile.depth() };
        self.ring.level("product", level)?.product.as_ref().ok_or(exhausted)
    }

    /// One run of accumulation, short enough for the basis.
    fn product_part(
        &self,
        basis: &ProductBasis,
        terms: &[(&Operand, &Operand)],
        level: usize,
    ) -> Result<Ciphertext, HeError> {
        let degree = self.ring.degree();
        let mut sum = Accumulator::new(basis.context.moduli().len() * degree);
        for (a, b) in terms {
            sum.add(a, b)?;
        }
        let lower = level - 1;
        let parts = sum.scale_down(basis, degree)?;
        let [mut c0, mut c1, c2] = parts;
        let key =
            self.relinearisation.get(lower).ok_or_else(|| library("product")("no relinearisation key"))?;
        let [k0, k1] = key.switch(&c2)?;
        for (c, k) in [(&mut c0, k0), (&mut c1, k1)] {
            c.change_representation(Representation::Ntt);
            *c += &k;
        }
        Ciphertext::from_polynomials(&self.ring, "product", vec![c0, c1], lower)
    }
}
