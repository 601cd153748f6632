//! Ciphertexts of the small ring, and the operations that need no key.

use super::{
    program::Value,
    ring::{DEGREE, LIMBS, SmallRing, Spare, Width, add_in, sub_in},
};
use crate::he::{
    error::HeError,
    ring::{
        arith::{imod, invmod},
        buffer::Buffer,
        simd,
    },
};
use std::sync::Arc;

/// The largest magnitude of a public coefficient.
pub(crate) const MAX_COEFFICIENT: i64 = 1 << 60;

/// 4096 integers modulo q0·q1 (or q1 alone), each with its noise: body + mask·secret, in the transform domain.
#[derive(Clone)]
pub struct SmallCiphertext {
    pub(crate) ring: Arc<SmallRing>,
    pub(crate) width: Width,
    /// Body and mask, each limb after limb.
    pub(crate) polynomials: [Buffer; 2],
}

impl std::fmt::Debug for SmallCiphertext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmallCiphertext")
            .field("ring", &self.ring)
            .field("width", &self.width)
            .finish_non_exhaustive()
    }
}

/// One limb of a polynomial.
pub(crate) fn limb(polynomial: &[u64], i: usize) -> &[u64] {
    &polynomial[i * DEGREE..(i + 1) * DEGREE]
}

/// One limb of a polynomial, to be written.
pub(crate) fn limb_mut(polynomial: &mut [u64], i: usize) -> &mut [u64] {
    &mut polynomial[i * DEGREE..(i + 1) * DEGREE]
}

impl SmallCiphertext {
    /// A ciphertext whose content is still to be written.
    pub(crate) fn unwritten(ring: &Arc<SmallRing>, width: Width) -> Self {
        let polynomials = [0, 1].map(|_| Buffer::new(width.limbs().len() * DEGREE));
        SmallCiphertext { ring: ring.clone(), width, polynomials }
    }

    /// An encryption of zero that hides nothing: the neutral element of addition.
    pub fn zero(ring: &Arc<SmallRing>) -> Self {
        Self::zero_of(ring, Width::Full)
    }

    /// The same, of any width.
    pub fn zero_of(ring: &Arc<SmallRing>, width: Width) -> Self {
        let mut zero = Self::unwritten(ring, width);
        zero.polynomials.iter_mut().for_each(|p| p.fill(0));
        zero
    }

    /// The ring.
    pub fn ring(&self) -> &Arc<SmallRing> {
        &self.ring
    }

    /// The modulus.
    pub fn width(&self) -> Width {
        self.width
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        2 * self.width.limbs().len() * DEGREE * size_of::<u64>()
    }

    /// Limb `i` of body and mask.
    pub(crate) fn limbs(&self, i: usize) -> [&[u64]; 2] {
        let i = i - self.width.limbs().start;
        [limb(&self.polynomials[0], i), limb(&self.polynomials[1], i)]
    }

    /// Limb `i` of body and mask, to be written.
    pub(crate) fn limbs_mut(&mut self, i: usize) -> [&mut [u64]; 2] {
        let i = i - self.width.limbs().start;
        let [body, mask] = &mut self.polynomials;
        [limb_mut(body, i), limb_mut(mask, i)]
    }

    pub(crate) fn check_ring(&self, operation: &'static str, ring: &Arc<SmallRing>) -> Result<(), HeError> {
        if Arc::ptr_eq(&self.ring, ring) {
            return Ok(());
        }
        let (left, right) = (ring.profile.name, self.ring.profile.name);
        Err(HeError::ProfileMismatch { operation, left, right })
    }

    pub(crate) fn check_width(&self, operation: &'static str, width: Width) -> Result<(), HeError> {
        if self.width == width {
            return Ok(());
        }
        Err(HeError::LevelMismatch { operation, left: width.level(), right: self.width.level() })
    }

    fn zip(
        &mut self,
        operation: &'static str,
        other: &Self,
        f: impl Fn(&mut [u64], &[u64], u64),
    ) -> Result<(), HeError> {
        other.check_ring(operation, &self.ring)?;
        other.check_width(operation, self.width)?;
        let ring = self.ring.clone();
        for i in self.width.limbs() {
            for (a, b) in self.limbs_mut(i).into_iter().zip(other.limbs(i)) {
                f(a, b, ring.context.m[i].p);
            }
        }
        Ok(())
    }

    /// Adds another ciphertext of the same ring and width.
    ///
    /// # Errors
    /// Rings or widths differ.
    pub fn add_assign(&mut self, other: &Self) -> Result<(), HeError> {
        self.zip("addition", other, add_in)
    }

    /// Subtracts another ciphertext of the same ring and width.
    ///
    /// # Errors
    /// Rings or widths differ.
    pub fn sub_assign(&mut self, other: &Self) -> Result<(), HeError> {
        self.zip("subtraction", other, sub_in)
    }

    /// Multiplies by a public integer; the noise grows by the same factor.
    pub fn mul_integer(&mut self, factor: i64) {
        let ring = self.ring.clone();
        for i in self.width.limbs() {
            let m = &ring.context.m[i];
            let factor = m.mont(imod(factor.into(), m.p));
            for limb in self.limbs_mut(i) {
                simd::mulc_in(limb, factor, m.md);
            }
        }
    }

    /// Adds public integers, one per coefficient (fewer are followed by zeros); no noise. They are steps of q0·q1; a narrow
    /// ciphertext gets them divided by q0 and rounded.
    ///
    /// # Errors
    /// More coefficients than the ring has, or one beyond 2^60.
    pub fn add_plain(&mut self, coefficients: &[i64]) -> Result<(), HeError> {
        let ring = self.ring.clone();
        let mut values = checked("addition of constants", coefficients)?;
        if self.width == Width::Narrow {
            let q0 = ring.context.m[0].p as i64;
            values.iter_mut().for_each(|v| *v = (*v + q0 / 2).div_euclid(q0));
        }
        let (mut plain, mut spare) = (Buffer::new(DEGREE), Spare::new());
        for i in self.width.limbs() {
            ring.transform(i, &values, &mut plain, &mut spare);
            let [body, _] = self.limbs_mut(i);
            add_in(body, &plain, ring.context.m[i].p);
        }
        Ok(())
    }

    /// Multiplies by a public polynomial (fewer coefficients are followed by zeros); the noise grows by the Euclidean norm of
    /// its coefficients.
    ///
    /// # Errors
    /// More coefficients than the ring has, or one beyond 2^60.
    pub fn mul_plain(&self, coefficients: &[i64]) -> Result<Self, HeError> {
        let values = checked("multiplication by constants", coefficients)?;
        let mut product = Self::unwritten(&self.ring, self.width);
        let (mut plain, mut junk, mut spare) = (Buffer::new(DEGREE), Buffer::new(DEGREE), Spare::new());
        for i in self.width.limbs() {
            let m = &self.ring.context.m[i];
            self.ring.transform(i, &values, &mut plain, &mut spare);
            simd::mulc_in(&mut plain, m.r2, m.md);
            let terms = [(&plain[..], self.limbs(i))];
            self.ring.combine(i, &terms, &[], product.limbs_mut(i), &mut junk);
        }
        Ok(product)
    }

    /// The ciphertext divided by q0 and rounded, its values being the same fractions of the smaller modulus: for what is only
    /// read by a bootstrap. Adds a rounding of [`switch_units`](super::noise::switch_units) steps of q1. One that is narrow
    /// stays as it is.
    pub fn narrow(&self) -> Self {
        if self.width == Width::Narrow {
            return self.clone();
        }
        let context = &self.ring.context;
        let (m0, m1) = (&context.m[0], &context.m[1]);
        let conversion = &context.modup[LIMBS][0];
        let inverse = m1.mont(invmod(m0.p, m1.p));
        let mut narrow = Self::unwritten(&self.ring, Width::Narrow);
        let [mut digit, mut multiple, mut rest] = std::array::from_fn(|_| Buffer::new(DEGREE));
        for (k, out) in narrow.limbs_mut(1).into_iter().enumerate() {
            context.inv_to(0, self.limbs(0)[k], &mut digit);
            simd::mulc_in(&mut digit, conversion.y[0], m0.md);
            simd::round(&[&digit], &conversion.inv, &mut multiple);
            simd::bconv(&[&digit], &multiple, &conversion.c[1], m1.md, &mut rest);
            context.fwd(1, &mut rest);
            simd::subc(self.limbs(1)[k], &rest, inverse, m1.md, out);
        }
        narrow
    }

    /// X^shift times the ciphertext; shifts are exponents modulo 2N, so that N is a sign.
    pub fn shift(&self, shift: u32) -> Self {
        let mut shifted = Self::unwritten(&self.ring, self.width);
        Sum::new(&self.ring).write((self, 0, shift), &mut shifted);
        shifted
    }
}

/// A term of a sum: a ciphertext, how often it is halved (exactly, modulo Q), and its shift.
pub(crate) type Term<'a> = (&'a SmallCiphertext, u32, u32);

/// Sums of shifted ciphertexts.
pub(crate) struct Sum<'a> {
    ring: &'a SmallRing,
    monomial: Buffer,
    junk: Buffer,
}

impl<'a> Sum<'a> {
    pub(crate) fn new(ring: &'a SmallRing) -> Self {
        Sum { ring, monomial: Buffer::new(DEGREE), junk: Buffer::new(DEGREE) }
    }

    /// Writes a term.
    pub(crate) fn write(&mut self, (x, halvings, shift): Term<'_>, out: &mut SmallCiphertext) {
        let Sum { ring, monomial, junk } = self;
        for i in out.width.limbs() {
            ring.monomial(i, shift, ring.halved(i, halvings), monomial);
            let product = [(&monomial[..], x.limbs(i))];
            ring.combine(i, &product, &[], out.limbs_mut(i), junk);
        }
    }

    /// Adds a term.
    pub(crate) fn add(&mut self, (x, halvings, shift): Term<'_>, sum: &mut SmallCiphertext) {
        let Sum { ring, monomial, .. } = self;
        for i in sum.width.limbs() {
            ring.monomial(i, shift, ring.halved(i, halvings), monomial);
            let [body, mask] = sum.limbs_mut(i);
            simd::add_product(x.limbs(i), monomial, ring.context.m[i].md, body, mask);
        }
    }
}

/// Public coefficients, filled up with zeros.
pub(crate) fn checked(operation: &'static str, coefficients: &[i64]) -> Result<Vec<i64>, HeError> {
    if coefficients.len() > DEGREE {
        return Err(HeError::TooManyCoefficients { operation, got: coefficients.len(), degree: DEGREE });
    }
    if let Some(&value) = coefficients.iter().find(|c| c.unsigned_abs() > MAX_COEFFICIENT as u64) {
        return Err(HeError::MultiplierTooLarge { operation, value, max: MAX_COEFFICIENT });
    }
    let mut values = coefficients.to_vec();
    values.resize(DEGREE, 0);
    Ok(values)
}

/// How often a value is halved when it is read.
pub(crate) fn halvings(value: Value) -> u32 {
    match value {
        Value::Source { halvings, .. } => halvings,
        Value::Step { .. } => 0,
    }
}
