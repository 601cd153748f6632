//! Predictions of the functional bootstrap's errors. Pure: numbers only.

use super::params::RingProfile;

/// Standard deviation of the error with which a function reads its input, as a fraction of the torus.
pub fn input_error(_profile: &RingProfile) -> f64 {
    (-14.6f64).exp2()
}

/// Standard deviation of the error that a function of a degree adds to its output beyond that of its input, in units of
/// the output modulus at [`RingProfile::output_scale`]. `spread` is Σ|c_k| of its coefficients without the mean.
pub fn output_error(profile: &RingProfile, _degree: usize, spread: f64) -> f64 {
    let constants = (-15.3f64).exp2();
    let slots_to_coefficients = (-11.6f64).exp2() * spread / 2.0;
    constants.hypot(slots_to_coefficients) * profile.output_scale()
}
