//! Noise predictions, one beside every kernel. Pure formulas over a [`Profile`].
//!
//! Three units appear, and every name says which: a fraction of the torus (of Q for a ring ciphertext), *units of
//! t* (one step of the plaintext integers), and bits of margin. All predictions are standard deviations or
//! variances of one coefficient; sources stand beside the formulas. Notation: N ring degree, t plaintext modulus, s
//! the uniform ternary secret (variance 2/3), σ² = [`RING_NOISE_VARIANCE`], n the LWE dimension, N_T the
//! polynomial size of the bootstrap.

use super::params::{Profile, RING_NOISE_VARIANCE, secure_lwe_variance};

/// Variance of a coefficient of a uniform ternary polynomial.
const TERNARY_VARIANCE: f64 = 2.0 / 3.0;
/// Variance of rounding to the nearest integer.
const ROUNDING_VARIANCE: f64 = 1.0 / 12.0;

/// Standard deviation of a fresh value's rounding to an integer, in units of t.
pub fn fresh_rounding_units() -> f64 {
    ROUNDING_VARIANCE.sqrt()
}

/// The noise of a BFV ciphertext: the variance of e/Q, where c0 + c1·s = (Q/t)·m + e.
///
/// Relative to Q, so that a switch to fewer primes changes it only by what it adds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BfvNoise {
    variance: f64,
}

impl BfvNoise {
    /// A noise of this variance of e/Q.
    pub fn from_variance(variance: f64) -> Self {
        BfvNoise { variance }
    }

    /// A ciphertext without noise (a plaintext constant).
    pub fn none() -> Self {
        Self::from_variance(0.0)
    }

    /// Variance of e/Q.
    pub fn variance(self) -> f64 {
        self.variance
    }

    /// A fresh encryption at a level: the sampled noise, and the rounding of (Q/t)·m down to an integer.
    pub fn fresh(profile: &Profile, level: usize) -> Self {
        Self::from_variance((RING_NOISE_VARIANCE + 1.0 / 3.0) * scale(profile, level))
    }

    /// What packing returns for a pack that holds `values` LWEs: Σ over the key's bits and digits of digit
    /// polynomial times fresh noise. The key lives at `key_level`; below it the result is switched down.
    pub fn packed(profile: &Profile, values: usize, key_level: usize, level: usize) -> Self {
        let digits = profile.packing_digits as f64;
        let digit_base = (f64::from(profile.ring.plaintext_bits) / digits).ceil().exp2();
        let digit_variance = digit_base * digit_base * ROUNDING_VARIANCE;
        let fresh = BfvNoise::fresh(profile, key_level).variance();
        let terms = profile.lut_output_dimension() as f64 * digits * values.min(profile.ring.degree) as f64;
        let sum = Self::from_variance(
            terms * digit_variance * fresh + ROUNDING_VARIANCE * scale(profile, key_level),
        );
        if level < key_level { sum.switch_down(profile, level) } else { sum }
    }

    /// The sum or difference of two independent ciphertexts of one level.
    pub fn plus(self, other: Self) -> Self {
        Self::from_variance(self.variance + other.variance)
    }

    /// The sum of `count` independent ciphertexts with this noise.
    pub fn times_count(self, count: f64) -> Self {
        Self::from_variance(self.variance * count)
    }

    /// A public integer times a ciphertext.
    pub fn times_integer(self, factor: i64) -> Self {
        self.times_plain(factor as f64 * factor as f64)
    }

    /// A public integer polynomial of squared norm Σ wᵢ² times a ciphertext.
    pub fn times_plain(self, squared_norm: f64) -> Self {
        Self::from_variance(self.variance * squared_norm)
    }

    /// Switching down to a level: rounds both polynomials to the smaller modulus.
    pub fn switch_down(self, profile: &Profile, to_level: usize) -> Self {
        Self::from_variance(self.variance + switch_rounding(profile, to_level))
    }

    /// A sum of products of independent operands at `level`, relinearised, at `level − 1`.
    ///
    /// With c0 + c1·s = Q·κ + e, κ of variance (1 + 2N/3)/12 (c0 and c1 are uniform modulo Q), a product is t·Q·κκ'
    /// plus t(κe' + κ'e) + (t/Q)ee' (Fan and Vercauteren 2012, lemma 2, with variances instead of bounds).
    pub fn product_sum(
        profile: &Profile,
        level: usize,
        terms: impl IntoIterator<Item = (Self, Self)>,
    ) -> Self {
        let n = ring_degree(profile);
        let t = profile.t() as f64;
        let kappa = ROUNDING_VARIANCE * (1.0 + n * TERNARY_VARIANCE);
        let tensor: f64 = terms
            .into_iter()
            .map(|(a, b)| (a.variance(), b.variance()))
            .map(|(a, b)| t * t * n * (kappa * (a + b) + a * b))
            .sum();
        let down = level.saturating_sub(1);
        // Scaling (c0, c1, c2) down by t/Q to the lower level rounds each. A coefficient of s² is a sum of pairs of
        // equal terms, hence its variance of 2·N·(2/3)².
        let s_squared = 2.0 * n * TERNARY_VARIANCE * TERNARY_VARIANCE;
        let rounding = ROUNDING_VARIANCE * (1.0 + n * (TERNARY_VARIANCE + s_squared));
        let scaled = tensor + rounding * scale(profile, down);
        Self::from_variance(scaled + relinearisation(profile, down) + switch_rounding(profile, down))
    }

    /// One product; see [`BfvNoise::product_sum`].
    pub fn product(self, other: Self, profile: &Profile, level: usize) -> Self {
        Self::product_sum(profile, level, [(self, other)])
    }

    /// log2 of the standard deviation of e/Q.
    pub fn log2_relative(self) -> f64 {
        0.5 * self.variance.log2()
    }

    /// log2 of the standard deviation in units of the modulus at a level.
    pub fn log2_units(self, profile: &Profile, level: usize) -> f64 {
        self.log2_relative() + profile.log2_q(level)
    }

    /// Bits between one standard deviation and the bound Q/(2t) at which a decryption fails.
    pub fn margin_bits(self, profile: &Profile) -> f64 {
        -f64::from(profile.ring.plaintext_bits) - 1.0 - self.log2_relative()
    }

    /// Probability that one coefficient decrypts wrongly: P(|e| ≥ Q/(2t)) for Gaussian e.
    pub fn failure_probability(self, profile: &Profile) -> f64 {
        gaussian_excess(self.margin_bits(profile).exp2())
    }
}

/// Key switching of the quadratic part at `level`, by one centred digit per prime of the level with a key over all
/// primes: ℓ·N·σ²·q²/12 over Q².
fn relinearisation(profile: &Profile, level: usize) -> f64 {
    let digits = profile.primes(level) as f64;
    let log2_prime =
        profile.ring.prime_bits.iter().take(profile.primes(level)).max().copied().unwrap_or(0) as f64;
    let digit_variance = (2.0 * log2_prime).exp2() * ROUNDING_VARIANCE;
    digits * ring_degree(profile) * digit_variance * RING_NOISE_VARIANCE * scale(profile, profile.depth())
}

/// Rounding of c0 and c1 to the modulus of a level.
fn switch_rounding(profile: &Profile, level: usize) -> f64 {
    ROUNDING_VARIANCE * (1.0 + ring_degree(profile) * TERNARY_VARIANCE) * scale(profile, level)
}

/// Variance of the noise of the ring key switch, as a fraction of the torus squared.
///
/// N·ℓ·E\[digit²\]·σ² for the key's noise, and the part of the mask below the last digit, times s (Chillotti et al.
/// 2020, section 4.1, for a ring). Centred digits of base B have E\[d²\] = (B² + 2)/12.
pub fn ring_switch_variance(profile: &Profile) -> f64 {
    let n = ring_degree(profile);
    let levels = profile.ring_key_switch.levels as f64;
    let base = (profile.ring_key_switch.base_log as f64).exp2();
    let noise = (2.0 * profile.lwe_noise_log2).exp2();
    n * levels * (base * base + 2.0) / 12.0 * noise
        + n * TERNARY_VARIANCE * ROUNDING_VARIANCE * base.powf(-2.0 * levels)
}

/// Variance of the centred modulus switch to Z_(2·N_T), as a fraction of the torus squared. With `outputs` = 2 the
/// table has half as many entries and the rounding steps are twice as wide.
///
/// For a binary secret, once the mean Σeᵢ/2 is subtracted each rounding eᵢ counts with (sᵢ − 1/2)² = 1/4.
pub fn modulus_switch_variance(profile: &Profile, outputs: usize) -> f64 {
    let steps = 2.0 * profile.pbs.polynomial_size as f64 / outputs.max(1).next_power_of_two() as f64;
    ROUNDING_VARIANCE * (1.0 + profile.n_lwe as f64 / 4.0) / (steps * steps)
}

/// Error of a table's input, as a standard deviation in fractions of the torus (the signed range [-1, 1) covers half
/// of it): the input is Σ wᵢ·xᵢ over extracted LWEs xᵢ, and `squared_weights` = Σ wᵢ² (1 for a single one).
pub fn lut_input_error(profile: &Profile, outputs: usize, squared_weights: f64) -> f64 {
    (squared_weights * ring_switch_variance(profile) + modulus_switch_variance(profile, outputs)).sqrt()
}

/// The same as a fraction of the full width 2R of the signed range.
pub fn lut_input_error_of_range(profile: &Profile, outputs: usize, squared_weights: f64) -> f64 {
    2.0 * lut_input_error(profile, outputs, squared_weights)
}

/// Variance of the noise that a bootstrap puts out, as a fraction of the torus squared.
///
/// The formula of tfhe-rs (`pbs_variance_132_bits_security_gaussian_fft_mul`) with the profile's own noise instead
/// of the curve's: external products, decomposition, and the 53-bit mantissa of the FFT.
pub fn pbs_output_variance(profile: &Profile) -> f64 {
    let k = profile.pbs.glwe_dimension as f64;
    let size = profile.pbs.polynomial_size as f64;
    let levels = profile.pbs.decomposition.levels as f64;
    let base = (profile.pbs.decomposition.base_log as f64).exp2();
    let key_noise = (2.0 * profile.pbs.noise_log2).exp2();
    pbs_variance(profile.n_lwe as f64, k, size, base, levels, key_noise)
}

fn pbs_variance(n: f64, k: f64, size: f64, base: f64, levels: f64, key_noise: f64) -> f64 {
    const LOG2_MODULUS: f64 = 64.0;
    const MANTISSA: f64 = 53.0;
    let modulus = (-2.0 * LOG2_MODULUS).exp2();
    let lowest_digit = base.powf(-2.0 * levels);
    let fft = 0.00705
        * (2.0 * (LOG2_MODULUS - MANTISSA) + 2.0 * base.log2() - 2.0 * LOG2_MODULUS).exp2()
        * levels.powf(1.01827)
        * k.powf(1.22003)
        * size.powf(2.22003)
        * (k + 1.0).powf(1.01827);
    let external = levels * size * key_noise * (base * base / 12.0 + 1.0 / 6.0) * (k + 1.0);
    let decomposition =
        0.5 * k * size * (modulus / 48.0 + lowest_digit / 24.0) + lowest_digit / 24.0 - modulus / 24.0;
    n * (fft + external + decomposition)
}

/// The variance that the formula gives for noise on the 132-bit curve itself; equals tfhe-rs's own.
pub fn pbs_output_variance_on_curve(profile: &Profile) -> f64 {
    let base = (profile.pbs.decomposition.base_log as f64).exp2();
    pbs_variance(
        profile.n_lwe as f64,
        profile.pbs.glwe_dimension as f64,
        profile.pbs.polynomial_size as f64,
        base,
        profile.pbs.decomposition.levels as f64,
        secure_lwe_variance(profile.pbs.output_dimension()),
    )
}

/// Variance of a label's noise in a [`LabelCiphertext`](super), as a fraction of the torus squared.
pub fn label_variance(profile: &Profile) -> f64 {
    (2.0 * profile.pbs.noise_log2).exp2()
}

/// Error of a packed value as a standard deviation in units of t: `lwe_variance` (fraction of the torus squared) is
/// that of the LWE that is packed, e.g. [`pbs_output_variance`], times Σ wᵢ² for a combination.
///
/// Besides, the mask is rounded to t: each of n coefficients counts with 1/12·(s − 1/2)² once centred.
pub fn packed_error_units(profile: &Profile, lwe_variance: f64) -> f64 {
    let t = profile.t() as f64;
    let rounding = ROUNDING_VARIANCE * (1.0 + profile.lut_output_dimension() as f64 / 4.0);
    (lwe_variance * t * t + rounding).sqrt()
}

/// Error of a packed table output, in units of t.
pub fn packed_lut_error_units(profile: &Profile) -> f64 {
    packed_error_units(profile, pbs_output_variance(profile))
}

/// P(|x| ≥ z) for a standard normal x, that is erfc(z/√2), to a relative error below 2·10^-7.
///
/// Chebyshev fit of Press et al., Numerical Recipes, section 6.2 (`erfcc`).
pub fn gaussian_excess(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let u = 1.0 / (1.0 + 0.5 * x);
    const C: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let fit = C.iter().rev().fold(0.0, |sum, c| sum * u + c);
    let tail = u * (-x * x + fit).exp();
    if z >= 0.0 { tail } else { 2.0 - tail }
}

fn ring_degree(profile: &Profile) -> f64 {
    profile.ring.degree as f64
}

/// 1/Q² at a level.
fn scale(profile: &Profile, level: usize) -> f64 {
    (-2.0 * profile.log2_q(level)).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::he::params::{PROFILES, profile};

    /// Operands that a table made, a full pack, through all products that the profile promises, each time against
    /// a further packed operand of the same level.
    fn after_all_products(p: &Profile) -> BfvNoise {
        let mut noise = BfvNoise::packed(p, p.ring.degree, p.depth(), p.depth());
        for level in (1..=p.depth()).rev() {
            noise = noise.product(BfvNoise::packed(p, p.ring.degree, p.depth(), level), p, level);
        }
        noise
    }

    #[test]
    fn every_level_of_every_profile_holds_a_hundred_additions() {
        for p in &PROFILES {
            let result = after_all_products(p).times_count(100.0);
            // 2^13 coefficients, 2^20 ciphertexts.
            let run = result.failure_probability(p) * 33f64.exp2();
            assert!(run < 1e-9, "{}: margin {:.1} bits", p.name, result.margin_bits(p));
        }
    }

    #[test]
    fn one_prime_would_not_hold_a_hundred_additions() {
        let p = profile("standard").unwrap();
        let one = Profile { primes_at_level: &[1, 3], ..*p };
        let sum = after_all_products(&one).times_count(100.0);
        assert!(sum.failure_probability(&one) * 33f64.exp2() > 1e-3);
    }

    #[test]
    fn a_product_too_many_fails() {
        for p in &PROFILES {
            let mut noise = BfvNoise::packed(p, p.ring.degree, p.depth(), p.depth());
            for _ in 0..=p.depth() {
                noise = noise.product(noise, p, p.depth());
            }
            assert!(noise.margin_bits(p) < 3.0, "{}: {:.1}", p.name, noise.margin_bits(p));
        }
    }

    #[test]
    fn known_figures() {
        let p = profile("standard").unwrap();
        // Measured with an independent implementation of the same kernels: 2^-22.2, 9.5 units, 2^-8.9 and 2^-7.9 of the
        // range for LWEs without the ring switch's noise.
        assert!((0.5 * pbs_output_variance(p).log2() + 22.2).abs() < 0.3);
        assert!((packed_lut_error_units(p) - 9.5).abs() < 0.7);
        assert!(((2.0 * modulus_switch_variance(p, 1).sqrt()).log2() + 8.9).abs() < 0.1);
        assert!(((2.0 * modulus_switch_variance(p, 2).sqrt()).log2() + 7.9).abs() < 0.1);
        assert!((fresh_rounding_units() - 0.2887).abs() < 1e-4);
        let precise = profile("precise").unwrap();
        assert!((0.5 * pbs_output_variance(precise).log2() + 25.7).abs() < 0.3);
    }

    #[test]
    fn the_tail_of_the_normal_distribution() {
        for (z, p) in
            [(0.0, 1.0), (1.0, 0.317_310_5), (2.0, 0.045_500_3), (6.0, 1.973_175e-9), (-1.0, 1.682_689_5)]
        {
            assert!((gaussian_excess(z) / p - 1.0).abs() < 1e-6, "{z}: {}", gaussian_excess(z));
        }
    }

    #[cfg(feature = "server")]
    #[test]
    fn the_bootstrap_formula_is_that_of_tfhe() {
        use tfhe::core_crypto::commons::noise_formulas::lwe_programmable_bootstrap::pbs_variance_132_bits_security_gaussian_fft_mul_impl;
        for p in &PROFILES {
            let theirs = pbs_variance_132_bits_security_gaussian_fft_mul_impl(
                p.n_lwe as f64,
                p.pbs.glwe_dimension as f64,
                p.pbs.polynomial_size as f64,
                (p.pbs.decomposition.base_log as f64).exp2(),
                p.pbs.decomposition.levels as f64,
                53.0,
                64f64.exp2(),
            );
            assert!((pbs_output_variance_on_curve(p) / theirs - 1.0).abs() < 1e-6, "{}", p.name);
        }
    }
}
