//! Estimates of the ring engine.

use serde::Serialize;

use crate::he::ckks::noise::raise_failure_probability;
use crate::he::ckks::params::{BOOTSTRAP_BYTES, RingProfile};

use super::super::gather::{Bootstrap, GatherPlan};
use super::super::schedule::{Schedule, Source, Stage, shifted};
use super::super::stages::{groups, last_reads, streamed};
use super::costs::{Costs, RingUnits};
use super::seconds::StageSeconds;

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

/// Seconds of one step on one core, bootstraps left away.
pub(super) fn seconds(schedule: &Schedule, gather: &GatherPlan, units: &RingUnits) -> StageSeconds {
    let [look_ups, masters, operands] = gather.move_costs(schedule);
    StageSeconds {
        // On the way into a bootstrap ciphertexts are narrow.
        routes_in: (look_ups / 2.0 + masters) * units.switch_seconds,
        routes_out: operands * units.switch_seconds,
        products: schedule.ring_sums() as f64 * units.product_seconds
            + schedule.ring_products() as f64 * units.accumulate_seconds,
        ..StageSeconds::default()
    }
}

/// Wall-clock seconds of the bootstraps of one step: as many at the same time as there are cores.
pub(super) fn bootstrap_seconds(
    schedule: &Schedule,
    gather: &GatherPlan,
    units: &RingUnits,
    costs: &Costs,
) -> StageSeconds {
    let mut seconds = StageSeconds::default();
    for stage in &gather.stages {
        for group in groups(stage.bootstraps.len(), costs.cores) {
            let speedup = costs.bootstrap_speedup(group.len());
            for bootstrap in &stage.bootstraps[group] {
                seconds += one_bootstrap(schedule, gather, bootstrap, units).scaled(1.0 / speedup);
            }
        }
    }
    seconds
}

/// Seconds of a bootstrap on one core.
fn one_bootstrap(
    schedule: &Schedule,
    gather: &GatherPlan,
    bootstrap: &Bootstrap,
    units: &RingUnits,
) -> StageSeconds {
    let sites = bootstrap.sites();
    let used = |site: usize| {
        let is_factor = |table| schedule.sites.iter().any(|other| other.multiplier == Some((site, table)));
        let tables = 0..schedule.sites[site].tables.len();
        let outputs = tables.clone().filter(|&table| gather.uses(site, table)).count();
        (outputs, tables.filter(|&table| is_factor(table)).count())
    };
    let functions: usize = sites.iter().map(|&site| used(site)).map(|(own, factors)| own + factors).sum();
    // The k-th outputs of all sites share a ciphertext.
    let outputs = sites.iter().map(|&site| used(site).0).max().unwrap_or(0);
    let (open, share) = if bootstrap.low { (units.open_low_seconds, 0.5) } else { (units.open_seconds, 1.0) };
    StageSeconds {
        open,
        functions: share * functions as f64 * units.function_seconds,
        close: outputs as f64 * units.close_seconds,
        ..StageSeconds::default()
    }
}

/// What one step holds besides keys and data, with so many bootstraps at the same time.
pub(super) fn working_bytes(schedule: &Schedule, profile: &RingProfile, at_once: usize) -> f64 {
    // Buffers of bootstraps and of ciphertexts that were dropped: the pool keeps so much of them at most, and has it soon.
    const POOL: usize = 1 << 30;
    let ciphertext = schedule.parameters.ciphertext_bytes(0);
    let polynomials = |source: Source| {
        let per_sample = match source {
            Source::Operand(i) => schedule.operands[i].per_sample,
            Source::Product(i) => schedule.products[i].per_sample(),
            Source::Master(_) => false,
        };
        schedule.polynomials(schedule.layout(source), per_sample)
    };
    let mut live: usize =
        (0..schedule.masters.len()).map(|i| polynomials(Source::Master(i)) * ciphertext).sum();
    let looked_up = |site: usize| {
        let rings = schedule.ring.as_ref().map_or(0, |ring| ring.gather.sites[site].lanes.rings);
        rings * schedule.sites[site].tables.len()
    };
    let streamed = streamed(schedule);
    let kept = |source: Source| match source {
        Source::Product(i) if streamed[i] => 0,
        source => polynomials(source),
    };
    // Shifted copies of a side, while a product is made.
    let copies = |product: usize| {
        let step = &schedule.products[product];
        let pairs = step.pairs(step.sides.map(|side| schedule.layout(side)), schedule.batch);
        shifted(&pairs).1.len()
    };
    let mut peak = live;
    for (stage, ends) in schedule.stages.iter().zip(last_reads(schedule)) {
        let own: usize = match stage {
            Stage::Operands(own) => own.iter().map(|&i| polynomials(Source::Operand(i))).sum(),
            Stage::Products(own) => own.iter().map(|&i| kept(Source::Product(i))).sum(),
            Stage::Tables(own) => own.iter().map(|&site| looked_up(site)).sum(),
        };
        let copied = match stage {
            Stage::Products(own) => own.iter().map(|&product| copies(product)).max().unwrap_or(0),
            _ => 0,
        };
        // What masters will change by is kept until the step ends.
        let changes: usize = ends.masters.iter().map(|&i| polynomials(Source::Master(i))).sum();
        live += (own + changes) * ciphertext;
        peak = peak.max(live + copied * ciphertext);
        let ended: usize = ends.sources.iter().map(|&source| kept(source)).sum();
        let ended = ended + ends.sites.iter().map(|&site| looked_up(site)).sum::<usize>();
        live = live.saturating_sub(ended * ciphertext);
    }
    // What a bootstrap frees stays with the pool and the allocator, which have some that nothing uses.
    const IDLE: usize = 90 << 20;
    (peak + POOL.max(at_once * BOOTSTRAP_BYTES + IDLE)) as f64 + profile.transform_bytes as f64
}

/// That a coefficient leaves the interval of the exponential at a modulus raise, in any bootstrap of the run.
pub(super) fn raise_failure(gather: &GatherPlan, steps: usize) -> f64 {
    raise_failure_probability(gather.bootstraps().count() as f64 * steps.max(1) as f64)
}
