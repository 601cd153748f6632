//! Look-up tables as the polynomials that a blind rotation turns.

use super::{error::HeError, params::Profile};

/// A table of one or two functions of the same input.
///
/// The input is a torus value in [-1/4, 1/4), read as the signed range [-1, 1). Beyond it a table repeats with the
/// opposite sign, f(z + 2) = −f(z), so that tables should be centred: f(1) = −f(−1).
#[derive(Debug, Clone)]
pub struct LutTable {
    /// Coefficients, those of two functions interleaved.
    pub(crate) coefficients: Vec<u64>,
    pub(crate) outputs: usize,
}

impl LutTable {
    /// A table of one function from [-1, 1) to fractions of the torus.
    ///
    /// # Errors
    /// An output is not finite or outside [-1/2, 1/2].
    pub fn new(profile: &Profile, f: impl Fn(f64) -> f64) -> Result<Self, HeError> {
        Self::interleave(profile, &[&f])
    }

    /// A table of two functions for the price of one; its input is read with one bit less.
    ///
    /// # Errors
    /// An output is not finite or outside [-1/2, 1/2].
    pub fn pair(profile: &Profile, f: impl Fn(f64) -> f64, g: impl Fn(f64) -> f64) -> Result<Self, HeError> {
        Self::interleave(profile, &[&f, &g])
    }

    fn interleave(profile: &Profile, functions: &[&dyn Fn(f64) -> f64]) -> Result<Self, HeError> {
        let outputs = functions.len();
        let entries = profile.pbs.polynomial_size / outputs;
        let mut coefficients = Vec::with_capacity(profile.pbs.polynomial_size);
        for entry in 0..entries {
            let input = 2.0 * entry as f64 / entries as f64 - 1.0;
            for (output, f) in functions.iter().enumerate() {
                let value = f(input);
                if !(-0.5..=0.5).contains(&value) {
                    return Err(HeError::TableValue { output, input, value });
                }
                coefficients.push(torus(value));
            }
        }
        Ok(LutTable { coefficients, outputs })
    }

    /// Number of functions, 1 or 2.
    pub fn outputs(&self) -> usize {
        self.outputs
    }
}

/// The torus element nearest to a fraction.
pub(crate) fn torus(fraction: f64) -> u64 {
    (fraction * 64f64.exp2()).round() as i128 as u64
}
