//! Integers modulo t, and tables that a bootstrap of one value reads.

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use crate::he::params::Profile;
use crate::plan::schedule::{Schedule, SiteStep};

use super::super::encode;
use super::{Domain, LookedUp, gauss};

pub struct Integers<'a> {
    schedule: &'a Schedule,
    profile: &'static Profile,
    rng: ChaCha20Rng,
}

impl<'a> Integers<'a> {
    pub fn new(schedule: &'a Schedule, profile: &'static Profile, seed: u64) -> Self {
        Self { schedule, profile, rng: ChaCha20Rng::seed_from_u64(seed) }
    }
}

impl Domain for Integers<'_> {
    type Number = i64;

    fn add(&self, a: i64, b: i64) -> i64 {
        a.wrapping_add(b)
    }

    fn multiply(&self, a: i64, b: i64) -> i64 {
        a.wrapping_mul(b)
    }

    fn times(&self, a: i64, factor: i64) -> i64 {
        a.wrapping_mul(factor)
    }

    fn centred(&self, a: i64) -> i64 {
        encode::centred(self.schedule, a)
    }

    fn units(&self, a: i64) -> f64 {
        a as f64
    }

    fn look_up(&mut self, _: usize, step: &SiteStep, inputs: &[f64], _: Option<&[f64]>) -> LookedUp {
        let (parameters, t) = (self.schedule.parameters, self.schedule.modulus());
        let switches = parameters.lut_input_error(step.tables.len(), step.reads.len());
        let output_noise = parameters.table_variance_units().sqrt();
        // Entries of the table between −1 and 1.
        let entries = (self.profile.pbs.polynomial_size / step.tables.len()) as f64;
        let mut units = vec![Vec::with_capacity(inputs.len()); step.tables.len()];
        let mut beyond = 0;
        for &input in inputs {
            let torus = input / t + gauss(&mut self.rng, switches);
            let x = ((4.0 * torus) * entries / 2.0).round() * 2.0 / entries;
            // The torus in units of the range: −2..2, of which the outer half is the negated table.
            let x = x - 4.0 * (x / 4.0).round();
            let (x, sign) = match x {
                x if x >= 1.0 => (x - 2.0, -1.0),
                x if x < -1.0 => (x + 2.0, -1.0),
                x => (x, 1.0),
            };
            beyond += u64::from(sign < 0.0);
            for (table, out) in step.tables.iter().zip(&mut units) {
                let value = sign * table.value(x * step.range) * table.amplitude;
                out.push(value + gauss(&mut self.rng, output_noise) + table.centre * table.amplitude);
            }
        }
        // No table multiplies another before it is packed.
        LookedUp { units, values: Vec::new(), beyond }
    }

    fn with_noise(&mut self, a: i64, _: f64) -> i64 {
        // What stands between the values is an exact integer here.
        a
    }

    fn label_noise(&mut self) -> f64 {
        let noise = self.schedule.parameters.label_variance_units().sqrt();
        gauss(&mut self.rng, noise)
    }

    fn element(&mut self, fresh: Option<f64>, public: i64, packed: Option<f64>) -> i64 {
        let mut integer = fresh.unwrap_or(0.0).round() as i64 + public;
        if let Some(packed) = packed {
            let rounding = self.schedule.parameters.packed_noise_units(0.0);
            integer += (packed + gauss(&mut self.rng, rounding)).round() as i64;
        }
        integer
    }
}
