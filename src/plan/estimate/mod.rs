//! What a schedule will cost and how surely it will work, before anything runs.

mod costs;
mod ring;
mod seconds;
mod tfhe;

use serde::Serialize;

use crate::he::noise;

pub use self::costs::{Costs, RingUnits, TfheUnits, Units};
pub use self::ring::BootstrapReport;
pub use self::seconds::StageSeconds;
use super::choice::Choice;
use super::functions::RingFunction;
use super::gather::GatherPlan;
use super::lower::AtomKind;
use super::parameters::Parameters;
use super::schedule::{Schedule, Source};

/// A batch of look-ups of one step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SiteReport {
    pub name: String,
    pub luts: usize,
    /// Inputs are read in −range..range.
    pub range: f64,
    /// Standard deviation of the input's error, as a fraction of 2·range.
    pub input_error: f64,
    /// Standard deviation of the error with which a polynomial stands for its worst function, as a fraction of the largest
    /// output; 0 where tables are exact.
    pub fit_error: f64,
    /// Probability that one value lies beyond its range, if values are normal with the nominal size.
    pub range_excess_probability: f64,
    /// Key switches that bring what it reads to its lanes, in one step (ring engine).
    pub moves: usize,
}

/// A packed tensor, for readers of the plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperandReport {
    pub name: String,
    /// `client` or `packed`.
    pub source: &'static str,
    pub level: usize,
    pub polynomials: usize,
    /// Fraction of the coefficients that hold values.
    pub fill: f64,
    /// Units of t per unit of value.
    pub amplitude: f64,
    /// Standard deviation of the error, in units of t.
    pub noise: f64,
    /// Key switches that bring its values to their places, in one step (ring engine).
    pub moves: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ParametersReport {
    pub scheme: &'static str,
    pub profile: &'static str,
    /// Degree of the ring of products.
    pub ring_degree: usize,
    pub ring_modulus_bits: f64,
    #[serde(flatten)]
    pub tables: TableParameters,
    pub depth: usize,
    pub security_bits: f64,
    pub security_source: &'static str,
}

/// What tables are evaluated with.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum TableParameters {
    Tfhe { plaintext_bits: u32, lwe_dimension: usize, glwe_dimension: usize, polynomial_size: usize },
    Ckks { bootstrap_degree: usize, bootstrap_modulus_bits: f64, function_degree: usize },
}

impl TableParameters {
    /// In words.
    pub fn describe(&self) -> String {
        match self {
            Self::Tfhe { plaintext_bits, lwe_dimension, .. } => {
                format!("t=2^{plaintext_bits}, LWE {lwe_dimension}")
            }
            Self::Ckks { bootstrap_degree, function_degree, .. } => {
                format!("bootstraps of {bootstrap_degree} values, functions of degree {function_degree}")
            }
        }
    }
}

impl ParametersReport {
    pub fn of(parameters: Parameters) -> Self {
        let (ring_modulus_bits, tables) = match parameters {
            Parameters::Tfhe(profile) => (
                profile.log2_q(profile.depth()),
                TableParameters::Tfhe {
                    plaintext_bits: profile.ring.plaintext_bits,
                    lwe_dimension: profile.n_lwe,
                    glwe_dimension: profile.pbs.glwe_dimension,
                    polynomial_size: profile.pbs.polynomial_size,
                },
            ),
            Parameters::Ckks(profile) => (
                parameters.modulus().log2(),
                TableParameters::Ckks {
                    bootstrap_degree: parameters.lanes(),
                    bootstrap_modulus_bits: profile.primes.iter().map(|&p| (p as f64).log2()).sum(),
                    function_degree: profile.function_degree,
                },
            ),
        };
        Self {
            scheme: parameters.scheme(),
            profile: parameters.name(),
            ring_degree: parameters.degree(),
            ring_modulus_bits,
            tables,
            depth: parameters.depth(),
            security_bits: parameters.security_bits(),
            security_source: parameters.security_source(),
        }
    }
}

/// What `hesn plan` says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub program: String,
    /// Why the program runs on the scheme of its parameters.
    pub scheme_reason: String,
    pub batch: usize,
    /// Different batches: so many are encrypted.
    pub batches: usize,
    pub steps: usize,
    pub luts_per_step: usize,
    /// One for each look-up, or for up to 32,768 of them on the ring engine.
    pub bootstraps_per_step: usize,
    pub products_per_step: usize,
    /// Automorphisms that bring values to their places (ring engine).
    pub switches_per_step: usize,
    pub packs_per_step: usize,
    pub step_seconds: f64,
    /// What the seconds of a step are made of.
    pub stage_seconds: StageSeconds,
    pub train_seconds: f64,
    pub calibrated: bool,
    pub memory_bytes: usize,
    /// Of it, encrypted batches: all that the run draws, each encrypted once.
    pub data_memory_bytes: usize,
    pub key_bytes: usize,
    /// Seeded, as sent.
    pub key_wire_bytes: usize,
    pub ciphertext_bytes_per_sample: f64,
    /// What the client gets back: the masters.
    pub weight_bytes: usize,
    /// Ciphertexts that are switched down only to meet their partners, in one epoch.
    pub alignments: usize,
    /// The same if every value entered at the ring's full depth.
    pub alignments_naive: usize,
    /// Largest over the look-up sites, as a fraction of the full range.
    pub lut_input_error: f64,
    /// Largest over the look-up sites, for one value.
    pub range_excess_probability: f64,
    /// That one decryption at the end, or one modulus raise, is wrong, over the whole run.
    pub failure_probability: f64,
    pub parameters: ParametersReport,
    pub sites: Vec<SiteReport>,
    pub operands: Vec<OperandReport>,
    /// Of the ring engine.
    pub bootstraps: Vec<BootstrapReport>,
    pub warnings: Vec<String>,
}

/// How often a step runs, and on how much data.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    pub steps: usize,
    /// Training samples that the client encrypts.
    pub samples: usize,
}

impl Extent {
    fn steps_per_epoch(&self, batch: usize) -> usize {
        (self.samples / batch.max(1)).clamp(1, self.steps.max(1))
    }
}

/// Ciphertexts that are switched down in one step only to meet their partners.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alignments {
    /// With the levels that the checker found.
    pub solved: usize,
    /// If every value entered at the ring's full depth.
    pub naive: usize,
}

/// What the client gets back at the end.
pub fn weight_bytes(schedule: &Schedule) -> usize {
    let pieces = |master: usize| schedule.layout(Source::Master(master)).pieces;
    let pieces: usize = (0..schedule.masters.len()).map(pieces).sum();
    pieces * schedule.parameters.wire_ciphertext_bytes()
}

pub fn report(
    program: &str,
    schedule: &Schedule,
    costs: &Costs,
    extent: Extent,
    alignments: Alignments,
    choice: &Choice,
) -> Report {
    let parameters = schedule.parameters;
    let fits = fit_errors(schedule);
    let gather = schedule.ring.as_ref().map(|ring| &ring.gather);
    let sites: Vec<SiteReport> = schedule
        .sites
        .iter()
        .enumerate()
        .map(|(index, site)| SiteReport {
            fit_error: fits.get(index).copied().unwrap_or(0.0),
            name: site.tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(" + "),
            luts: site.elements * if site.per_sample { schedule.batch } else { 1 },
            range: site.range,
            input_error: site.input_error,
            range_excess_probability: noise::gaussian_excess(site.range / site.rms.max(1e-9)),
            moves: gather.map_or(0, |gather| gather.site_switches(index)),
        })
        .collect();
    let operands: Vec<OperandReport> = schedule
        .operands
        .iter()
        .enumerate()
        .map(|(index, operand)| OperandReport {
            name: names(schedule, operand),
            source: if operand.packed { "packed" } else { "client" },
            level: operand.level,
            polynomials: schedule.polynomials(&operand.layout, operand.per_sample),
            fill: (operand.layout.samples * operand.form.elements()) as f64
                / (operand.layout.pieces * schedule.degree()) as f64,
            amplitude: operand.amplitude,
            noise: operand.noise,
            moves: gather.map_or(0, |gather| gather.operand_switches(schedule, index)),
        })
        .collect();
    let stage_seconds = stage_seconds(schedule, costs);
    let step_seconds = stage_seconds.total();
    let largest = |f: fn(&SiteReport) -> f64| sites.iter().map(f).fold(0.0, f64::max);
    let client_bytes = client_bytes(schedule);
    Report {
        program: program.to_owned(),
        scheme_reason: choice.to_string(),
        batch: schedule.batch,
        batches: batches(schedule, extent),
        steps: extent.steps,
        luts_per_step: schedule.luts(),
        bootstraps_per_step: gather.map_or(schedule.luts(), |gather| gather.bootstraps().count()),
        products_per_step: schedule.ring_products(),
        switches_per_step: gather.map_or(0, |gather| gather.switches(schedule).total()),
        packs_per_step: packs(schedule),
        step_seconds,
        stage_seconds,
        train_seconds: step_seconds * extent.steps as f64,
        calibrated: costs.measured,
        memory_bytes: memory_bytes(schedule, extent, most_at_once(schedule, costs.cores)),
        data_memory_bytes: data_memory(schedule, batches(schedule, extent)) as usize,
        key_bytes: parameters.key_bytes(),
        key_wire_bytes: parameters.key_wire_bytes(),
        ciphertext_bytes_per_sample: client_bytes.seeded / schedule.batch as f64,
        weight_bytes: weight_bytes(schedule),
        alignments: alignments.solved * extent.steps_per_epoch(schedule.batch),
        alignments_naive: alignments.naive * extent.steps_per_epoch(schedule.batch),
        lut_input_error: largest(|s| s.input_error),
        range_excess_probability: largest(|s| s.range_excess_probability),
        failure_probability: failure_probability(schedule, gather, extent.steps),
        parameters: ParametersReport::of(parameters),
        warnings: warnings(schedule, extent.steps),
        sites,
        operands,
        bootstraps: gather.map_or_else(Vec::new, |gather| ring::bootstraps(schedule, gather)),
    }
}

fn names(schedule: &Schedule, operand: &super::schedule::Operand) -> String {
    let mut names: Vec<String> = Vec::new();
    for term in &operand.form.terms {
        let name = match schedule.atoms[term.atom.0 as usize].kind {
            AtomKind::Fresh(_) => "input".into(),
            AtomKind::Label(_) => "label".into(),
            AtomKind::Lut { site, function } => schedule.sites[site].tables[function].name.clone(),
            AtomKind::Weight { param, .. } => schedule
                .masters
                .iter()
                .find(|m| m.param == param)
                .map_or_else(|| "weights".into(), |m| m.name.clone()),
            AtomKind::Product(_) => "product".into(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() { "ones".into() } else { names.join(" and ") }
}

/// Polynomials that are packed from look-ups in one step.
fn packs(schedule: &Schedule) -> usize {
    let packed = schedule.operands.iter().filter(|operand| operand.packed);
    packed.map(|operand| schedule.polynomials(&operand.layout, operand.per_sample)).sum()
}

/// Predicted time of one step, in seconds.
pub fn step_seconds(schedule: &Schedule, costs: &Costs) -> f64 {
    stage_seconds(schedule, costs).total()
}

/// Predicted time of one step, by what it is spent on.
pub fn stage_seconds(schedule: &Schedule, costs: &Costs) -> StageSeconds {
    let speedup = costs.parallel.max(1.0);
    match (&costs.units, &schedule.ring) {
        (Units::Tfhe(units), _) => tfhe::seconds(schedule, units).scaled(1.0 / speedup),
        (Units::Ckks(units), Some(ring)) => {
            let mut seconds = ring::seconds(schedule, &ring.gather, units).scaled(1.0 / speedup);
            seconds += ring::bootstrap_seconds(schedule, &ring.gather, units, costs);
            seconds
        }
        (Units::Ckks(_), None) => StageSeconds::default(),
    }
}

/// What the client sends for one batch.
struct ClientBytes {
    seeded: f64,
    memory: f64,
}

fn client_bytes(schedule: &Schedule) -> ClientBytes {
    let parameters = schedule.parameters;
    let mut bytes = ClientBytes { seeded: 0.0, memory: 0.0 };
    let gather = schedule.ring.as_ref().map(|ring| &ring.gather);
    let mut add = |count: usize, level: usize, memory: usize| {
        bytes.seeded += (count * parameters.seeded_ciphertext_bytes(level)) as f64;
        bytes.memory += (count * memory) as f64;
    };
    for wire in gather.into_iter().flat_map(|gather| &gather.wires) {
        add(wire.lanes.rings, 0, parameters.fresh_ciphertext_bytes(0));
    }
    for (index, operand) in schedule.operands.iter().enumerate().filter(|(_, operand)| operand.fresh) {
        if gather.is_none_or(|gather| gather.is_direct(schedule, index)) {
            let count = schedule.polynomials(&operand.layout, operand.per_sample);
            add(count, operand.level, parameters.fresh_ciphertext_bytes(operand.level));
        }
    }
    let labels: usize = schedule
        .atoms
        .iter()
        .filter(|a| matches!(a.kind, AtomKind::Label(_)) && !parameters.is_fresh(a.kind))
        .map(|a| crate::graph::elements(&a.shape))
        .max()
        .unwrap_or(0);
    let label_bytes = (labels * schedule.batch * 8) as f64;
    bytes.seeded += label_bytes;
    bytes.memory += label_bytes;
    bytes
}

/// Batches that are encrypted before a run.
fn batches(schedule: &Schedule, extent: Extent) -> usize {
    extent.samples.div_ceil(schedule.batch.max(1)).max(1)
}

fn data_memory(schedule: &Schedule, batches: usize) -> f64 {
    client_bytes(schedule).memory * batches as f64
}

/// Bootstraps that so many threads make at the same time, at most: one where the scheme has none of many values.
pub fn most_at_once(schedule: &Schedule, threads: usize) -> usize {
    let stages = schedule.ring.iter().flat_map(|ring| &ring.gather.stages);
    let most = stages.map(|stage| stage.bootstraps.len()).max().unwrap_or(1);
    threads.min(most).max(1)
}

/// Peak memory of a run: keys, the encrypted data, and what one step holds with `at_once` bootstraps at the same time.
pub fn memory_bytes(schedule: &Schedule, extent: Extent, at_once: usize) -> usize {
    memory_of(schedule, batches(schedule, extent), at_once)
}

/// The same where encrypted batches wait in a file; none where they cannot.
pub fn spilled_memory_bytes(schedule: &Schedule, at_once: usize) -> Option<usize> {
    schedule.parameters.is_ckks().then(|| memory_of(schedule, 2, at_once))
}

/// How a run keeps to a memory limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Encrypted batches wait in a file.
    pub spill: bool,
    /// Bootstraps at the same time.
    pub at_once: usize,
}

impl Room {
    /// The fastest way that needs no more than `limit` bytes with so many threads: fewer bootstraps at the same time before
    /// a file.
    pub fn within(schedule: &Schedule, extent: Extent, threads: usize, limit: u64) -> Option<Self> {
        let most = most_at_once(schedule, threads);
        let fits = |bytes: usize| bytes as u64 <= limit;
        let most_of = |spill: bool, bytes: &dyn Fn(usize) -> Option<usize>| {
            let at_once = (1..=most).rev().find(|&at_once| bytes(at_once).is_some_and(fits))?;
            Some(Self { spill, at_once })
        };
        most_of(false, &|at_once| Some(memory_bytes(schedule, extent, at_once)))
            .or_else(|| most_of(true, &|at_once| spilled_memory_bytes(schedule, at_once)))
    }
}

fn memory_of(schedule: &Schedule, batches: usize, at_once: usize) -> usize {
    const PROCESS: f64 = 60e6;
    let data = data_memory(schedule, batches);
    let work = match schedule.parameters {
        Parameters::Tfhe(profile) => tfhe::working_bytes(schedule, profile),
        Parameters::Ckks(profile) => ring::working_bytes(schedule, profile, at_once),
    };
    (schedule.parameters.key_bytes() as f64 + data + work + PROCESS) as usize
}

/// That the client's decryption of a master, or of a result, is wrong anywhere, or that a modulus raise fails. What goes
/// into a table needs no exact decryption.
fn failure_probability(schedule: &Schedule, gather: Option<&GatherPlan>, steps: usize) -> f64 {
    match schedule.parameters {
        Parameters::Tfhe(profile) => tfhe::decryption_failure(schedule, profile, steps),
        Parameters::Ckks(_) => gather.map_or(0.0, |gather| ring::raise_failure(gather, steps)),
    }
}

/// A polynomial that is farther from its function than this share of the largest output is told of.
const NOTABLE_FIT_ERROR: f64 = 0.01;

/// By site: how far the polynomial of its worst function is from it.
fn fit_errors(schedule: &Schedule) -> Vec<f64> {
    let worst = |own: &Vec<RingFunction>| own.iter().map(|f| f.fit_error).fold(0.0, f64::max);
    match &schedule.ring {
        None => vec![0.0; schedule.sites.len()],
        Some(ring) => ring.functions.iter().map(worst).collect(),
    }
}

/// Where noise is a large part of a value's range, a range too narrow, or a function badly approximated.
pub fn warnings(schedule: &Schedule, steps: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    let functions = schedule.ring.as_ref().map_or(&[][..], |ring| &ring.functions);
    for (site, own) in schedule.sites.iter().zip(functions) {
        for (table, function) in site.tables.iter().zip(own) {
            // The step of a mask may be as soft as a polynomial makes it.
            let notable =
                if function.factor.is_some() { 10.0 * NOTABLE_FIT_ERROR } else { NOTABLE_FIT_ERROR };
            if function.fit_error > notable {
                warnings.push(format!(
                    "`{}` is approximated with an error of {:.0} % of its largest value on ±{}: narrow the range, write a \
                     smoother function, or use `--scheme tfhe`",
                    table.name,
                    100.0 * function.fit_error,
                    site.range
                ));
            }
        }
    }
    for site in &schedule.sites {
        let name = site.tables.first().map_or("table", |t| t.name.as_str());
        if site.input_error > 1.0 / 32.0 {
            warnings.push(format!(
                "`{name}` reads its input with an error of {:.1} % of its range: narrow the range{}",
                100.0 * site.input_error,
                if schedule.parameters.is_ckks() {
                    ""
                } else {
                    ", or use `--profile precise` or `--scheme ckks`"
                }
            ));
        }
        if site.range < site.rms {
            warnings.push(format!(
                "`{name}` reads ±{} but its input is nominally ±{:.1}: widen it with `in -{r}..{r}`",
                site.range,
                site.rms,
                r = (2.0 * site.rms).log2().ceil().exp2()
            ));
        }
    }
    for master in &schedule.masters {
        let drift = master.step_noise * (steps as f64).sqrt();
        if drift > master.range / 8.0 {
            warnings.push(format!(
                "the weights `{}` gather an error of {drift:.3} over {steps} steps (their range is ±{:.2}): lower the rate or take larger batches",
                master.name, master.range
            ));
        }
    }
    warnings.dedup();
    warnings
}
