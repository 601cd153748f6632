//! Reals modulo q0·q1, and functions that a bootstrap of many values evaluates as a polynomial.

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use crate::he::ckks::params::RingProfile;
use crate::plan::functions::RingFunction;
use crate::plan::schedule::{Schedule, SiteStep};

use super::{Domain, LookedUp, gauss};

pub struct Reals<'a> {
    schedule: &'a Schedule,
    profile: &'static RingProfile,
    modulus: f64,
    /// By site and table.
    functions: &'a [Vec<RingFunction>],
    rng: ChaCha20Rng,
}

impl<'a> Reals<'a> {
    pub fn new(schedule: &'a Schedule, profile: &'static RingProfile, seed: u64) -> Self {
        let functions = schedule.ring.as_ref().map_or(&[][..], |ring| &ring.functions);
        let rng = ChaCha20Rng::seed_from_u64(seed);
        Self { modulus: schedule.modulus(), functions, schedule, profile, rng }
    }
}

impl Domain for Reals<'_> {
    type Number = f64;

    fn add(&self, a: f64, b: f64) -> f64 {
        a + b
    }

    fn multiply(&self, a: f64, b: f64) -> f64 {
        a * b
    }

    fn times(&self, a: f64, factor: i64) -> f64 {
        a * factor as f64
    }

    fn centred(&self, a: f64) -> f64 {
        a - self.modulus * (a / self.modulus).round()
    }

    fn units(&self, a: f64) -> f64 {
        a
    }

    fn look_up(
        &mut self,
        site: usize,
        step: &SiteStep,
        inputs: &[f64],
        multiplier: Option<&[f64]>,
    ) -> LookedUp {
        let read_error = self.schedule.parameters.lut_input_error(step.tables.len(), step.reads.len());
        let mut units = vec![Vec::with_capacity(inputs.len()); step.tables.len()];
        let mut values = units.clone();
        let scale = self.profile.output_scale();
        let mut beyond = 0;
        for (at, &input) in inputs.iter().enumerate() {
            let torus = input / self.modulus + gauss(&mut self.rng, read_error);
            let torus = torus - torus.round();
            beyond += u64::from(torus.abs() > 0.25);
            // In the slots, before it becomes a ciphertext of the small ring.
            let multiplier = multiplier.map_or(1.0, |values| values[at]);
            for (index, function) in self.functions[site].iter().enumerate() {
                if let Some(output) = &function.output {
                    let noise = gauss(&mut self.rng, function.output_noise);
                    units[index].push(output.eval(torus) * multiplier * scale + noise);
                }
                if let Some(factor) = &function.factor {
                    // Its error counts where it is multiplied.
                    values[index].push(factor.eval(torus));
                }
            }
        }
        LookedUp { units, values, beyond }
    }

    fn with_noise(&mut self, a: f64, deviation: f64) -> f64 {
        a + gauss(&mut self.rng, deviation)
    }

    fn label_noise(&mut self) -> f64 {
        // Labels are fresh values.
        0.0
    }

    fn element(&mut self, fresh: Option<f64>, public: i64, packed: Option<f64>) -> f64 {
        let fresh = match fresh {
            Some(value) => value.round() + gauss(&mut self.rng, self.schedule.parameters.fresh_noise_units()),
            None => 0.0,
        };
        fresh + public as f64 + packed.unwrap_or(0.0)
    }
}
