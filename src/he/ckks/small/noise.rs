//! Predicted noise of the small ring. Pure.
//!
//! *Units* are standard deviations in steps of the product modulus q0·q1; the *torus* is what a function reads, a fraction of q0.

use super::super::params::{RingProfile, SMALL_LOG_DEGREE};
use crate::he::params::RING_NOISE_VARIANCE;

const DEGREE: f64 = (1u64 << SMALL_LOG_DEGREE) as f64;

/// Variance of the rounding of both polynomials of a ciphertext after a division, in squared steps of what remains:
/// 1/12 for the body, and 1/12 for each coefficient of the mask under a uniform ternary secret (2/3 of which are not zero).
fn rounding_variance() -> f64 {
    (1.0 + DEGREE * 2.0 / 3.0) / 12.0
}

/// A fresh coefficient: the encryption's centred binomial noise.
pub fn fresh_units() -> f64 {
    RING_NOISE_VARIANCE.sqrt()
}

/// One key switch (relinearisation, automorphism): the rounding of the division by the special prime p, and the key's noise
/// times the digits, which are uniform modulo q0 and modulo q1, divided by p.
pub fn switch_units(profile: &RingProfile) -> f64 {
    let special = profile.special_primes[0] as f64;
    let digits: f64 = profile.primes[..2].iter().map(|&q| (q as f64 / special).powi(2) / 12.0).sum();
    (rounding_variance() + DEGREE * RING_NOISE_VARIANCE * digits).sqrt()
}

/// What a route of so many levels adds to the noise of its sources: every level doubles the switching noise of those below
/// it, where the values themselves are divided beforehand: σ·√((4^depth − 1)/3).
pub fn route_units(profile: &RingProfile, depth: u32) -> f64 {
    switch_units(profile) * ((4f64.powi(depth as i32) - 1.0) / 3.0).sqrt()
}

/// A factor of a product, as the prediction sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factor {
    /// Euclidean norm of the polynomial's coefficients, at their amplitude.
    pub norm: f64,
    /// Standard deviation of a coefficient's noise.
    pub units: f64,
}

/// A coefficient of a sum of products with one relinearisation: m₁·e₂ + m₂·e₁ + e₁·e₂ for each product.
pub fn product_units(profile: &RingProfile, products: &[(Factor, Factor)]) -> f64 {
    let variance: f64 = products
        .iter()
        .map(|(a, b)| {
            (a.norm * b.units).powi(2) + (b.norm * a.units).powi(2) + DEGREE * (a.units * b.units).powi(2)
        })
        .sum();
    (variance + switch_units(profile).powi(2)).sqrt()
}

/// A sum of products that is divided by q0 with its relinearisation, as a fraction of the torus: the rounding of the part under
/// s², whose coefficients have variance 8/9·N (each pair of its factors comes twice), and of both others.
pub fn narrow_error(profile: &RingProfile) -> f64 {
    let square = DEGREE * DEGREE * 8.0 / 9.0 / 12.0;
    (square + 2.0 * rounding_variance()).sqrt() / profile.primes[1] as f64
}

/// What a route of so many levels adds to narrow ciphertexts, as a fraction of the torus.
pub fn narrow_route_error(profile: &RingProfile, depth: u32) -> f64 {
    route_units(profile, depth) / profile.primes[1] as f64
}

/// The division by q1 on the way into the large ring, as a fraction of the torus.
pub fn rescale_error(profile: &RingProfile) -> f64 {
    rounding_variance().sqrt() / profile.primes[0] as f64
}
