//! Estimates of the ring engine.

use serde::Serialize;

use crate::he::ckks::noise::raise_failure_probability;
use crate::he::ckks::params::RingProfile;

use super::super::gather::{Bootstrap, GatherPlan};
use super::super::schedule::Schedule;
use super::costs::RingUnits;

/// A bootstrap of one step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BootstrapReport {
    /// Tables that are evaluated on its values.
    pub tables: Vec<String>,
    pub values: usize,
    /// Share of the lanes that hold values.
    pub fill: f64,
    /// Only half of the lanes are evaluated, for little more than half of the time.
    pub half: bool,
}

pub(super) fn bootstraps(schedule: &Schedule, gather: &GatherPlan) -> Vec<BootstrapReport> {
    let report = |bootstrap: &Bootstrap| {
        let sites = bootstrap.sites();
        let tables = sites.iter().flat_map(|&site| &schedule.sites[site].tables);
        BootstrapReport {
            tables: tables.map(|table| table.name.clone()).collect(),
            values: bootstrap.used,
            fill: bootstrap.fill(schedule.degree()),
            half: bootstrap.low,
        }
    };
    gather.bootstraps().map(report).collect()
}

/// Seconds of one step on one core.
pub(super) fn seconds(schedule: &Schedule, gather: &GatherPlan, units: &RingUnits) -> f64 {
    let bootstrap = |bootstrap: &Bootstrap| {
        let sites = bootstrap.sites();
        let functions: usize = sites.iter().map(|&site| schedule.sites[site].tables.len()).sum();
        // The k-th tables of all sites share an output.
        let outputs = sites.iter().map(|&site| schedule.sites[site].tables.len()).max().unwrap_or(0);
        let (open, share) =
            if bootstrap.low { (units.open_low_seconds, 0.5) } else { (units.open_seconds, 1.0) };
        open + share * functions as f64 * units.function_seconds + outputs as f64 * units.close_seconds
    };
    // On the way into a bootstrap ciphertexts are narrow.
    let [narrow, full] = gather.switches(schedule);
    let switches = narrow as f64 / 2.0 + full as f64;
    gather.bootstraps().map(bootstrap).sum::<f64>()
        + switches * units.switch_seconds
        + schedule.ring_sums() as f64 * units.product_seconds
        + schedule.ring_products() as f64 * units.accumulate_seconds
}

/// What one step holds besides keys and data.
pub(super) fn working_bytes(schedule: &Schedule, profile: &RingProfile) -> f64 {
    // Digits, powers and slots of one bootstrap: measured as what a peak has beyond keys and transforms.
    const BOOTSTRAP: f64 = 0.55 * 1024.0 * 1024.0 * 1024.0;
    let operands: usize = schedule
        .operands
        .iter()
        .map(|o| {
            schedule.parameters.ciphertext_bytes(o.level) * schedule.polynomials(&o.layout, o.per_sample)
        })
        .sum();
    // Products are as many again.
    2.0 * operands as f64 + profile.transform_bytes as f64 + BOOTSTRAP
}

/// That a coefficient leaves the interval of the exponential at a modulus raise, in any bootstrap of the run.
pub(super) fn raise_failure(gather: &GatherPlan, steps: usize) -> f64 {
    raise_failure_probability(gather.bootstraps().count() as f64 * steps.max(1) as f64)
}
