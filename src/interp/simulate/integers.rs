//! Integers modulo t, and tables that a bootstrap of one value reads.

use std::num::Wrapping;

use crate::he::params::Profile;
use crate::plan::schedule::{ProductStep, Schedule, SiteStep, Table};

use super::super::encode;
use super::Domain;
use super::curves::{Curve, SiteCurves, TableCurves};
use super::noise::Stream;
use super::products;

/// Up to here f64 holds every integer.
const EXACT: f64 = (1u64 << f64::MANTISSA_DIGITS) as f64;

pub struct Integers<'a> {
    schedule: &'a Schedule,
    label_noise: f64,
    packing_noise: f64,
    sites: Vec<SiteCurves>,
}

impl<'a> Integers<'a> {
    pub fn new(schedule: &'a Schedule, profile: &Profile) -> Self {
        let parameters = schedule.parameters;
        let noise = parameters.table_variance_units().sqrt();
        let curves = |step: &SiteStep| {
            // Entries of the table between −1 and 1.
            let entries = profile.pbs.polynomial_size / step.tables.len();
            let table = |table| TableCurves {
                output: Some(Curve::Entries(entries_of(table, step.range, entries))),
                // No table multiplies another before it is packed.
                factor: None,
                noise,
            };
            SiteCurves { tables: step.tables.iter().map(table).collect(), entries: Some(2 * entries) }
        };
        Self {
            schedule,
            label_noise: parameters.label_variance_units().sqrt(),
            packing_noise: parameters.packed_noise_units(0.0),
            sites: schedule.sites.iter().map(curves).collect(),
        }
    }
}

/// Outputs over the torus, in units, the centre included: the inner half is the table, the outer one the negated table.
fn entries_of(table: &Table, range: f64, entries: usize) -> Vec<f64> {
    let entry = |i: usize| {
        let x = 2.0 * i as f64 / entries as f64;
        let (x, sign) = match x {
            x if x >= 3.0 => (x - 4.0, 1.0),
            x if x >= 1.0 => (x - 2.0, -1.0),
            x => (x, 1.0),
        };
        (sign * table.value(x * range) + table.centre) * table.amplitude
    };
    (0..2 * entries).map(entry).collect()
}

impl Domain for Integers<'_> {
    type Number = i64;

    fn add(a: i64, b: i64) -> i64 {
        a.wrapping_add(b)
    }

    fn times(a: i64, factor: i64) -> i64 {
        a.wrapping_mul(factor)
    }

    fn centred(&self, a: i64) -> i64 {
        encode::centred(self.schedule, a)
    }

    fn units(a: i64) -> f64 {
        a as f64
    }

    fn sites(&self) -> &[SiteCurves] {
        &self.sites
    }

    fn sums(&self, step: &ProductStep, sides: [&[i64]; 2], batch: usize) -> Vec<i64> {
        let largest = sides.map(|side| side.iter().map(|v| v.unsigned_abs()).max().unwrap_or(0) as f64);
        let terms = step.kind.summed() as f64 * if step.batch_sum { batch as f64 } else { 1.0 };
        if largest[0] * largest[1] * terms <= EXACT {
            let [left, right] = sides.map(|side| side.iter().map(|&v| v as f64).collect::<Vec<_>>());
            let sums = products::sums(step, [&left, &right], batch);
            return sums.into_iter().map(|v| v as i64).collect();
        }
        // Modulo 2^64 and with it modulo t, a power of two.
        let [left, right] = sides.map(|side| side.iter().map(|&v| Wrapping(v)).collect::<Vec<_>>());
        products::sums(step, [&left, &right], batch).into_iter().map(|v| v.0).collect()
    }

    fn with_noise(&self, a: i64, _: f64, _: &mut Stream) -> i64 {
        // What stands between the values is an exact integer here.
        a
    }

    fn label_noise(&self) -> f64 {
        self.label_noise
    }

    fn element(&self, fresh: Option<f64>, public: i64, packed: Option<f64>, noise: &mut Stream) -> i64 {
        let mut integer = fresh.unwrap_or(0.0).round() as i64 + public;
        if let Some(packed) = packed {
            integer += (packed + noise.gauss(self.packing_noise)).round() as i64;
        }
        integer
    }
}
