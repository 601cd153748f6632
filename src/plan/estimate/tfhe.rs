//! Estimates of the engine on BFV and TFHE.

use crate::he::noise::BfvNoise;
use crate::he::params::Profile;

use super::super::lower::AtomKind;
use super::super::schedule::{Schedule, Source};
use super::costs::TfheUnits;
use super::seconds::StageSeconds;

/// Seconds of one step on one core.
pub(super) fn seconds(schedule: &Schedule, costs: &TfheUnits) -> StageSeconds {
    let extended: usize = schedule
        .operands
        .iter()
        .filter(|o| o.level > 0)
        .map(|o| schedule.polynomials(&o.layout, o.per_sample))
        .sum();
    let switches: usize = schedule
        .sites
        .iter()
        .flat_map(|site| &site.reads)
        .map(|read| schedule.polynomials(&read.layout, read.per_sample))
        .sum();
    StageSeconds {
        // Extraction belongs to the look-ups.
        functions: schedule.luts() as f64 * costs.pbs_seconds + switches as f64 * costs.switch_seconds,
        routes_out: super::packs(schedule) as f64 * costs.pack_seconds
            + extended as f64 * costs.operand_seconds,
        products: schedule.ring_products() as f64 * costs.accumulate_seconds
            + schedule.ring_sums() as f64 * costs.finish_seconds,
        ..StageSeconds::default()
    }
}

/// What one step holds besides keys and data.
pub(super) fn working_bytes(schedule: &Schedule, profile: &Profile) -> f64 {
    let lwe = ((profile.lut_output_dimension() + 1) * 8) as f64;
    let outputs: usize = schedule
        .sites
        .iter()
        .map(|s| s.elements * s.tables.len() * if s.per_sample { schedule.batch } else { 1 })
        .sum();
    let labels = schedule
        .atoms
        .iter()
        .filter(|a| matches!(a.kind, AtomKind::Label(_)))
        .map(|a| crate::graph::elements(&a.shape) * schedule.batch);
    let lwes = (outputs + labels.sum::<usize>()) as f64 * lwe;
    let ring: f64 = schedule
        .operands
        .iter()
        .map(|o| {
            let own = profile.ciphertext_bytes(o.level) as f64;
            // The extended copy has three more primes.
            let primes = profile.primes(o.level) as f64;
            let extended = if o.level > 0 { own * (primes + 3.0) / primes } else { 0.0 };
            (own + extended) * schedule.polynomials(&o.layout, o.per_sample) as f64
        })
        .sum();
    // Packing holds the switched masks of a batch of packs, 4 bytes a coefficient and key bit.
    let packing = (profile.lut_output_dimension() * profile.ring.degree * 4) as f64 * 2.0;
    lwes * 2.0 + ring + packing
}

fn product_noise(schedule: &Schedule, profile: &Profile, index: usize) -> BfvNoise {
    let product = &schedule.products[index];
    let side = |source: Source| match source {
        Source::Product(inner) => product_noise(schedule, profile, inner),
        Source::Operand(i) => {
            let operand = &schedule.operands[i];
            if operand.packed {
                let values = operand.layout.samples * operand.form.elements() / operand.layout.pieces.max(1);
                BfvNoise::packed(profile, values.min(profile.ring.degree), profile.depth(), operand.level)
            } else {
                BfvNoise::fresh(profile, operand.level)
            }
        }
        Source::Master(_) => BfvNoise::none(),
    };
    let groups = if product.batch_sum { schedule.groups(product) } else { 1 };
    let pieces = groups * product.sums.iter().map(Vec::len).max().unwrap_or(1);
    let pair = (side(product.sides[0]), side(product.sides[1]));
    BfvNoise::product_sum(profile, product.level + 1, std::iter::repeat_n(pair, pieces))
}

/// That the decryption of a master, or of a result, is wrong anywhere.
pub(super) fn decryption_failure(schedule: &Schedule, profile: &Profile, steps: usize) -> f64 {
    let mut total = 0.0;
    for master in &schedule.masters {
        for (source, factor) in &master.gradient {
            if let Source::Product(product) = source {
                let noise = product_noise(schedule, profile, *product).times_integer(*factor);
                let noise = noise.times_count(steps.max(1) as f64);
                total += master.elements as f64 * noise.failure_probability(profile);
            }
        }
    }
    for output in &schedule.outputs {
        for (source, factor) in output.reads.iter().flat_map(|read| &read.sources) {
            if let Source::Product(product) = source {
                let noise = product_noise(schedule, profile, *product).times_integer(*factor);
                total += crate::graph::elements(&output.shape) as f64 * noise.failure_probability(profile);
            }
        }
    }
    total.min(1.0)
}
