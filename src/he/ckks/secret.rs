//! The client's secret of the ring engine.

use super::{
    params::{LOG_DEGREE, RINGS, SMALL_LOG_DEGREE, SPARSE_WEIGHT},
    random,
};
use crate::he::error::HeError;
use zeroize::Zeroizing;

/// The three secret polynomials. Wiped from memory when dropped; neither shown nor cloned.
pub struct RingSecret {
    /// Uniform ternary, degree 2^15: the secret of the large ring.
    pub(crate) dense: Zeroizing<Vec<i64>>,
    /// Ternary of weight [`SPARSE_WEIGHT`], degree 2^15: the secret under which a ciphertext's modulus is raised.
    pub(crate) sparse: Zeroizing<Vec<i64>>,
    /// Uniform ternary, degree 4096: the secret of the small ring. X → X^8 embeds it into the large one.
    pub(crate) small: Zeroizing<Vec<i64>>,
}

impl RingSecret {
    /// Draws a new secret.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn generate() -> Result<Self, HeError> {
        Self::of_degrees(1 << LOG_DEGREE, 1 << SMALL_LOG_DEGREE)
    }

    /// A secret for rings of other degrees: for tests of the stages.
    pub(crate) fn of_degrees(degree: usize, small_degree: usize) -> Result<Self, HeError> {
        Ok(RingSecret {
            dense: random::ternary(degree)?,
            sparse: random::sparse(degree, SPARSE_WEIGHT)?,
            small: random::ternary(small_degree)?,
        })
    }

    /// The small secret in the large ring.
    pub(crate) fn embedded(&self) -> Zeroizing<Vec<i64>> {
        let mut embedded = Zeroizing::new(vec![0; self.dense.len()]);
        for (x, &s) in embedded.iter_mut().step_by(RINGS).zip(self.small.iter()) {
            *x = s;
        }
        embedded
    }
}
