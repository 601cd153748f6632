//! Reals modulo q0·q1, and functions that a bootstrap of many values evaluates as a polynomial.

use crate::he::ckks::params::RingProfile;
use crate::plan::functions::RingFunction;
use crate::plan::schedule::{ProductStep, Schedule};

use super::curves::{Curve, SiteCurves, TableCurves};
use super::noise::Stream;
use super::{Domain, nearest, products};

pub struct Reals {
    modulus: f64,
    fresh_noise: f64,
    sites: Vec<SiteCurves>,
}

impl Reals {
    pub fn new(schedule: &Schedule, profile: &RingProfile) -> Self {
        let functions = schedule.ring.as_ref().map_or(&[][..], |ring| &ring.functions);
        let table = |function: &RingFunction| TableCurves {
            output: function.output.as_ref().map(|p| Curve::polynomial(p, profile.output_scale())),
            // Its error counts where it is multiplied.
            factor: function.factor.as_ref().map(|p| Curve::polynomial(p, 1.0)),
            noise: function.output_noise,
        };
        let curves =
            |site: &Vec<RingFunction>| SiteCurves { tables: site.iter().map(table).collect(), entries: None };
        Self {
            modulus: schedule.modulus(),
            fresh_noise: schedule.parameters.fresh_noise_units(),
            sites: functions.iter().map(curves).collect(),
        }
    }
}

impl Domain for Reals {
    type Number = f64;

    fn add(a: f64, b: f64) -> f64 {
        a + b
    }

    fn times(a: f64, factor: i64) -> f64 {
        a * factor as f64
    }

    fn centred(&self, a: f64) -> f64 {
        a - self.modulus * nearest(a / self.modulus)
    }

    fn units(a: f64) -> f64 {
        a
    }

    fn sites(&self) -> &[SiteCurves] {
        &self.sites
    }

    fn sums(&self, step: &ProductStep, sides: [&[f64]; 2], batch: usize) -> Vec<f64> {
        products::sums(step, sides, batch)
    }

    fn with_noise(&self, a: f64, deviation: f64, noise: &mut Stream) -> f64 {
        a + noise.gauss(deviation)
    }

    fn label_noise(&self) -> f64 {
        // Labels are fresh values.
        0.0
    }

    fn element(&self, fresh: Option<f64>, public: i64, packed: Option<f64>, noise: &mut Stream) -> f64 {
        let fresh = match fresh {
            Some(value) => value.round() + noise.gauss(self.fresh_noise),
            None => 0.0,
        };
        fresh + public as f64 + packed.unwrap_or(0.0)
    }
}
