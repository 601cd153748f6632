//! BFV ciphertexts and the operations that need no key. Every operation checks profile and level first: the library
//! underneath panics where they differ.

use super::{
    bfv_ring::{Representation, Ring},
    error::{HeError, library},
};
use fhe_math::rq::Poly;
use num_bigint::BigUint;
use std::sync::Arc;

/// The largest public integer that may multiply a ciphertext: 12 bits of noise.
const MAX_INTEGER: i64 = 1 << 12;

/// A ciphertext of N centred integers modulo t, with as many RNS primes as its level needs.
#[derive(Clone)]
pub struct Ciphertext {
    pub(crate) ring: Arc<Ring>,
    pub(crate) inner: fhe::bfv::Ciphertext,
    pub(crate) level: usize,
}

impl std::fmt::Debug for Ciphertext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ciphertext")
            .field("profile", &self.ring.profile.name)
            .field("level", &self.level)
            .field("primes", &self.primes())
            .finish()
    }
}

impl Ciphertext {
    /// Wraps two polynomials in NTT representation.
    pub(crate) fn from_polynomials(
        ring: &Arc<Ring>,
        operation: &'static str,
        polynomials: Vec<Poly>,
        level: usize,
    ) -> Result<Self, HeError> {
        let inner = fhe::bfv::Ciphertext::new(polynomials, &ring.parameters).map_err(library(operation))?;
        Ok(Ciphertext { ring: ring.clone(), inner, level })
    }

    /// The ring.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Products still possible.
    pub fn level(&self) -> usize {
        self.level
    }

    /// RNS primes that the ciphertext really has.
    pub fn primes(&self) -> usize {
        self.inner.first().map_or(0, |p| p.ctx().moduli().len())
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.inner.len() * self.primes() * self.ring.degree() * 8
    }

    /// An encryption of zero that hides nothing: the neutral element of addition.
    pub fn zero(ring: &Arc<Ring>, level: usize) -> Result<Self, HeError> {
        let at = ring.level("zero", level)?;
        let zero = Poly::zero(&at.context, Representation::Ntt);
        Self::from_polynomials(ring, "zero", vec![zero.clone(), zero], level)
    }

    fn check_pair(&self, operation: &'static str, other: &Self) -> Result<(), HeError> {
        if !Arc::ptr_eq(&self.ring, &other.ring) {
            let (left, right) = (self.ring.profile.name, other.ring.profile.name);
            return Err(HeError::ProfileMismatch { operation, left, right });
        }
        if self.level != other.level {
            return Err(HeError::LevelMismatch { operation, left: self.level, right: other.level });
        }
        Ok(())
    }

    /// Applies a function to both polynomials.
    fn map(&self, operation: &'static str, f: impl Fn(&Poly) -> Poly) -> Result<Self, HeError> {
        let polynomials = self.inner.iter().map(f).collect();
        Self::from_polynomials(&self.ring, operation, polynomials, self.level)
    }

    /// Adds another ciphertext of the same profile and level.
    pub fn add_assign(&mut self, other: &Self) -> Result<(), HeError> {
        self.check_pair("addition", other)?;
        for (a, b) in self.inner.iter_mut().zip(other.inner.iter()) {
            *a += b;
        }
        Ok(())
    }

    /// Subtracts another ciphertext of the same profile and level.
    pub fn sub_assign(&mut self, other: &Self) -> Result<(), HeError> {
        self.check_pair("subtraction", other)?;
        for (a, b) in self.inner.iter_mut().zip(other.inner.iter()) {
            *a -= b;
        }
        Ok(())
    }

    /// The sum of two ciphertexts of the same profile and level.
    pub fn add(&self, other: &Self) -> Result<Self, HeError> {
        let mut sum = self.clone();
        sum.add_assign(other)?;
        sum.unseeded("addition")
    }

    /// The difference of two ciphertexts of the same profile and level.
    pub fn sub(&self, other: &Self) -> Result<Self, HeError> {
        let mut difference = self.clone();
        difference.sub_assign(other)?;
        difference.unseeded("subtraction")
    }

    /// A changed ciphertext no longer has the mask that its seed describes.
    fn unseeded(self, operation: &'static str) -> Result<Self, HeError> {
        let polynomials = self.inner.iter().cloned().collect();
        Self::from_polynomials(&self.ring, operation, polynomials, self.level)
    }

    /// The negated ciphertext.
    pub fn negate(&self) -> Result<Self, HeError> {
        self.map("negation", |p| -p)
    }

    /// A public integer of at most 12 bits times the ciphertext; the noise grows by the same factor.
    pub fn mul_integer(&self, factor: i64) -> Result<Self, HeError> {
        if factor.abs() > MAX_INTEGER {
            let operation = "multiplication by an integer";
            return Err(HeError::MultiplierTooLarge { operation, value: factor, max: MAX_INTEGER });
        }
        let magnitude = BigUint::from(factor.unsigned_abs());
        self.map("multiplication by an integer", |p| {
            let product = p * &magnitude;
            if factor < 0 { -&product } else { product }
        })
    }

    /// Adds public integers, one per coefficient (fewer are followed by zeros); no noise, no level.
    pub fn add_plain(&self, coefficients: &[i64]) -> Result<Self, HeError> {
        let operation = "addition of a constant";
        let plain = self.ring.plaintext(operation, coefficients, self.level)?;
        let sum = Ciphertext { ring: self.ring.clone(), inner: &self.inner + &plain, level: self.level };
        sum.unseeded(operation)
    }

    /// Multiplies by a public polynomial with small integer coefficients (fewer are followed by zeros). No level is
    /// spent; the noise grows by the polynomial's Euclidean norm, so that its coefficients must stay small: a
    /// scaled weight, a mask of zeros and ones.
    pub fn mul_plain(&self, coefficients: &[i64]) -> Result<Self, HeError> {
        let operation = "multiplication by a plaintext";
        let mut plain =
            self.ring.public_polynomial(operation, coefficients, self.ring.level(operation, self.level)?)?;
        plain.change_representation(Representation::Ntt);
        self.map(operation, |p| p * &plain)
    }

    /// Drops RNS primes down to those of a lower level, rounding; a switch to its own level changes nothing.
    pub fn switch_down(&self, level: usize) -> Result<Self, HeError> {
        if level > self.level {
            return Err(HeError::LevelOutOfBounds { operation: "switch down", level, max: self.level });
        }
        let target = self.ring.level("switch down", level)?;
        let mut lower = self.inner.clone();
        if level < self.level {
            lower.switch_to_level(target.dropped).map_err(library("switch down"))?;
        }
        Ok(Ciphertext { ring: self.ring.clone(), inner: lower, level })
    }
}
