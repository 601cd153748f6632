//! Predictions of the functional bootstrap's errors, stage by stage. Pure: numbers only.
//!
//! Throughout N is the degree, σ² = [`RING_NOISE_VARIANCE`], and ρ the error that one division adds to a slot at the working
//! scale Δ. A division rounds both polynomials: (1 + 2N/3)/12 per coefficient of the phase under a uniform ternary secret,
//! N times that per (complex) slot. Key switches are divided by the special primes, and
//! their noise stays below it but for those that act at the scale q0.

use super::{
    params::{LOG_DEGREE, RAISE_BOUND, RingProfile, SMALL_LOG_DEGREE, SPARSE_WEIGHT},
    stages::{EXPONENTIAL_BITS, FUNCTION_BITS, Factor, Role, SQUARINGS, Stages},
};
use crate::he::params::RING_NOISE_VARIANCE;
use std::f64::consts::TAU;

/// What the Chebyshev series of the exponential makes of ρ: T_8 is reached in three doublings (each multiplies an error by
/// four times a Chebyshev polynomial) and is multiplied by half of the series.
const SERIES_GAIN: f64 = 8.0;

/// What the sources that are left out (the other key switches, the rounding of divisions at larger scales) add at most to
/// the variance in the slots: measured, 5%.
const OTHER_SOURCES: f64 = 1.1;

/// What the key switches after a mask add to the standard deviation of what it hides: measured, 10%.
const HIDDEN_MARGIN: f64 = 1.2;

/// The standard deviations of a row's stages at a degree.
pub(crate) struct Model<'a> {
    profile: &'a RingProfile,
    stages: Stages,
    degree: f64,
}

impl<'a> Model<'a> {
    pub(crate) fn new(profile: &'a RingProfile, log_degree: usize) -> Self {
        Model { profile, stages: Stages::new(profile, log_degree), degree: f64::from(1u32 << log_degree) }
    }

    /// Variance of a division's rounding in a coefficient of the phase under the dense secret.
    fn rounding(&self) -> f64 {
        (1.0 + 2.0 * self.degree / 3.0) / 12.0
    }

    /// Variance of a division's rounding in a slot at a scale, both parts together.
    fn slot_rounding(&self, scale: f64) -> f64 {
        self.degree * self.rounding() / (scale * scale)
    }

    fn working_scale(&self) -> f64 {
        self.profile.working_bits.exp2()
    }

    /// The raise, as a fraction of the torus: the switch to the sparse secret, and the one back to the dense secret, whose
    /// rounding is the larger.
    pub(crate) fn raise(&self) -> f64 {
        let q0 = self.profile.primes[0] as f64;
        let switch = self.degree * RING_NOISE_VARIANCE / 12.0
            * (q0 / self.profile.special_primes[0] as f64).powi(2)
            + (1.0 + SPARSE_WEIGHT as f64) / 12.0;
        (switch + self.rounding()).sqrt() / q0
    }

    /// Error of a transform relative to its input's size: every diagonal's plaintext has rounded coefficients, of which
    /// there are two per slot of its period, and a row sums as many entries of magnitude one as its layers have paths.
    pub(crate) fn transform(&self, factors: &[Factor], first_is_masked: bool) -> f64 {
        let slots = self.degree / 2.0;
        let variance = |(i, factor): (usize, &Factor)| {
            let period = factor.lengths.iter().max().map_or(1.0, |&l| l as f64);
            let period = if first_is_masked && i == 0 { slots } else { period };
            let diagonals = super::stages::rotations(slots as usize, &factor.lengths).len() as f64;
            let paths = (1u64 << factor.lengths.len()) as f64;
            // A mask that differs between the halves takes two matrices.
            let matrices = if first_is_masked && i == 0 { 2.0 } else { 1.0 };
            matrices * diagonals * 2.0 * period / (12.0 * factor.scale * factor.scale * paths)
        };
        factors.iter().enumerate().map(variance).sum::<f64>().sqrt()
    }

    /// Up to the slots, as a fraction of the torus: values t + I have a variance of (h + 1)/12.
    pub(crate) fn slots(&self) -> f64 {
        let size = (1.0 + SPARSE_WEIGHT as f64) / 12.0;
        let transform = self.transform(&self.stages.to_slots, false).powi(2) * size;
        let sum = self.raise().powi(2) + transform + self.first_switch() + self.extraction();
        (OTHER_SOURCES * sum).sqrt()
    }

    /// Variance of the key switches in the first factor, as a fraction of the torus squared: the only ones that act at
    /// the scale q0. Their noise is σ²·N/12 times the square of the largest digit over the special primes.
    fn first_switch(&self) -> f64 {
        let bits = |p: &u64| (*p as f64).log2();
        let primes: Vec<f64> = self.profile.primes.iter().map(bits).collect();
        let special: f64 = self.profile.special_primes.iter().map(bits).sum();
        let ratio = (largest_digit(&primes, self.profile.digits) - special).exp2();
        self.degree * RING_NOISE_VARIANCE / 12.0 * (ratio / self.profile.primes[0] as f64).powi(2)
    }

    /// Variance that the division after the split adds to one part of the value.
    fn extraction(&self) -> f64 {
        self.slot_rounding(self.working_scale()) / 2.0 * RAISE_BOUND * RAISE_BOUND
    }

    /// |E − exp(2πi·t)| after series and squarings, which multiply what the series adds.
    pub(crate) fn exponential(&self) -> f64 {
        let squared = f64::from(1u32 << SQUARINGS);
        let constants = 8.0 / 12.0 * (-2.0 * EXPONENTIAL_BITS).exp2();
        let series = SERIES_GAIN * SERIES_GAIN * self.slot_rounding(self.working_scale()) + constants;
        let input = TAU * TAU * (self.slots().powi(2) + self.extraction());
        (input + squared * squared * series).sqrt()
    }

    /// A polynomial of a degree, in units of its values, without what it makes of its input's error: the rounded constants
    /// of the upper halves of its blocks, which have lost `loss` bits, and the last division.
    pub(crate) fn polynomial(&self, degree: usize, loss: f64, scale: f64) -> f64 {
        let constants = (degree as f64 + 1.0) / 2.0 / 12.0 * (2.0 * (loss - FUNCTION_BITS)).exp2();
        (constants + self.slot_rounding(scale) / 2.0).sqrt()
    }

    /// The scale at which a polynomial that is an output leaves its last division.
    pub(crate) fn slot_scale(&self) -> f64 {
        self.stages.slot_scale(self.profile)
    }

    fn loss(&self, degree: usize, role: Role) -> f64 {
        // With a second level to spare the polynomial keeps its full precision until it is divided.
        if role == Role::Output || self.profile.spare_levels(degree) > 1 {
            return 0.0;
        }
        self.stages.factor_loss(self.profile, role)
    }

    /// From the polynomial to the output, in units of its values, for values of a root mean square of `spread`.
    pub(crate) fn output(&self, polynomial: f64, spread: f64, masked: bool) -> f64 {
        let scale = self.profile.output_scale();
        let transform = if masked {
            self.transform(&self.stages.masked_to_coefficients, true)
        } else {
            self.transform(&self.stages.to_coefficients, false)
        };
        let special = self.profile.special_primes[0] as f64;
        let small = (1.0 + 2.0 / 3.0 * f64::from(1u32 << SMALL_LOG_DEGREE)) / 12.0
            + self.degree * RING_NOISE_VARIANCE / 12.0 * (self.profile.primes[1] as f64 / special).powi(2);
        let recombination = self.slot_rounding(scale) / 2.0;
        let divisions = (self.rounding() + small) / (scale * scale);
        (polynomial.powi(2) + (transform * spread).powi(2) + recombination + divisions).sqrt()
    }

    /// A product of slots, in units of its values, for factors of root mean squares `sizes`.
    pub(crate) fn product(&self, degrees: [usize; 2], sizes: [f64; 2]) -> f64 {
        let working = self.working_scale();
        let [first, second] = [(degrees[0], Role::FirstFactor), (degrees[1], Role::SecondFactor)]
            .map(|(degree, role)| self.polynomial(degree, self.loss(degree, role), working));
        let division = self.slot_rounding(self.slot_scale()) / 2.0;
        ((first * sizes[1]).powi(2) + (second * sizes[0]).powi(2) + division).sqrt()
    }
}

/// Bits of the largest of `count` runs of consecutive primes, split so that it is as small as can be.
fn largest_digit(bits: &[f64], count: usize) -> f64 {
    if count <= 1 || bits.len() <= 1 {
        return bits.iter().sum();
    }
    let split = |i: usize| bits[..i].iter().sum::<f64>().max(largest_digit(&bits[i..], count - 1));
    (1..bits.len()).map(split).fold(f64::INFINITY, f64::min)
}

/// Standard deviation of the error with which a function reads its input, as a fraction of the torus. (E = exp(2πi·t) has an
/// error of phase and one of magnitude; over a function's range both count alike.)
pub fn input_error(profile: &RingProfile) -> f64 {
    Model::new(profile, LOG_DEGREE).exponential() / TAU
}

/// Standard deviation of the error that a function of a degree adds to its output beyond that of its input, in units of
/// the output modulus at [`RingProfile::output_scale`], where a mask hides some of the values. `spread` is the standard
/// deviation of its values about their mean: [`TrigPolynomial::spread`] over the torus.
///
/// A mask costs nothing for degrees up to [`RingProfile::factor_degree`]; a function of a higher degree has its mask folded
/// into a matrix with many more rounded coefficients.
///
/// [`TrigPolynomial::spread`]: super::fit::TrigPolynomial::spread
pub fn output_error(profile: &RingProfile, degree: usize, spread: f64) -> f64 {
    output(profile, degree, spread, degree > profile.factor_degree())
}

/// The same where nothing is masked.
pub fn unmasked_output_error(profile: &RingProfile, degree: usize, spread: f64) -> f64 {
    output(profile, degree, spread, false)
}

/// Standard deviation of the error where a mask hides everything, in units of the output modulus, if it lets a share `fill`
/// of the values through: what comes after the mask, which is in proportion to the values that are left. A mask that is
/// folded into a matrix meets all of them.
pub fn hidden_error(profile: &RingProfile, degree: usize, spread: f64, fill: f64) -> f64 {
    let folded = degree > profile.factor_degree();
    let left = if folded { spread } else { spread * fill.sqrt() };
    let model = Model::new(profile, LOG_DEGREE);
    // The division that follows the mask.
    let division = (model.slot_rounding(model.slot_scale()) / 2.0).sqrt();
    HIDDEN_MARGIN * model.output(division, left, folded) * profile.output_scale()
}

fn output(profile: &RingProfile, degree: usize, spread: f64, masked: bool) -> f64 {
    let model = Model::new(profile, LOG_DEGREE);
    let polynomial = model.polynomial(degree, 0.0, model.slot_scale());
    model.output(polynomial, spread, masked) * profile.output_scale()
}

/// Standard deviation of the error that a masked slot product adds to its output beyond those of its factors' inputs, in
/// units of the output modulus: `degrees` and root mean squares of the values of the first (|f| ≤ 1) and the second factor.
pub fn product_error(profile: &RingProfile, degrees: [usize; 2], sizes: [f64; 2]) -> f64 {
    let model = Model::new(profile, LOG_DEGREE);
    let product = model.product(degrees, sizes);
    // A mask is multiplied into a second factor that has a level for it.
    let folded = profile.spare_levels(degrees[1]) < 2;
    model.output(product, sizes[0] * sizes[1], folded) * profile.output_scale()
}

/// Probability that a run of so many bootstraps meets a coefficient with |t + I| > K, where the exponential's series ends.
///
/// t + I is a sum of h + 1 variables that are uniform on (−1/2, 1/2): c0/q0, and c1/q0 times each non-zero coefficient of
/// the sparse secret. P(|sum of m| > K) is twice the tail of Irwin and Hall, 1/m!·Σ_j (−1)^j·C(m, j)·(m/2 − K − j)^m over
/// the j that leave a positive base; a union bound over N coefficients follows.
pub fn raise_failure_probability(bootstraps: f64) -> f64 {
    let m = SPARSE_WEIGHT as i32 + 1;
    let base = f64::from(m) / 2.0 - RAISE_BOUND;
    let mut tail = 0.0;
    let mut term_factor = 1.0;
    for j in 0..m {
        let x = base - f64::from(j);
        if x <= 0.0 {
            break;
        }
        // x^m/m!, one factor at a time, so that nothing overflows.
        let power = (1..=m).fold(1.0, |p, i| p * x / f64::from(i));
        tail += term_factor * power;
        term_factor *= -f64::from(m - j) / f64::from(j + 1);
    }
    (2.0 * tail * f64::from(1u32 << LOG_DEGREE) * bootstraps).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::he::ckks::params::RING_PROFILES;

    #[test]
    fn ten_thousand_raises_fail_with_less_than_2_to_the_minus_40() {
        let p = raise_failure_probability(1e4);
        assert!(p < (-40.0f64).exp2() && p > 1e-18, "{p}");
        // 2.5^33/33! is the leading term of the tail.
        let leading = 2.0 * (1..=33).fold(1.0, |p, i| p * 2.5 / f64::from(i));
        assert!((p / (leading * 32768.0 * 1e4) - 1.0).abs() < 1e-4);
        assert_eq!(raise_failure_probability(1e60), 1.0);
    }

    #[test]
    fn rows_read_to_fourteen_bits_and_masks_of_high_degree_cost_more() {
        for profile in &RING_PROFILES {
            let read = input_error(profile).log2();
            assert!((-15.5..-14.0).contains(&read), "{}: 2^{read}", profile.name);
            let degree = profile.function_degree;
            assert!(output_error(profile, degree, 0.08) > unmasked_output_error(profile, degree, 0.08));
            let low = profile.factor_degree();
            assert_eq!(output_error(profile, low, 0.08), unmasked_output_error(profile, low, 0.08));
        }
    }
}
