//! What a schedule will cost and how surely it will work, before anything runs.

use serde::Serialize;

use crate::he::ckks::params::RingProfile;
use crate::he::noise::{self, BfvNoise};
use crate::he::params::Profile;

use super::lower::AtomKind;
use super::parameters::Parameters;
use super::schedule::{Schedule, Source, product_samples};

/// Seconds per unit on one core, and how many cores there are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Costs {
    pub cores: usize,
    pub pbs_seconds: f64,
    pub operand_seconds: f64,
    /// Accumulating one ring product.
    pub accumulate_seconds: f64,
    /// Scale-down and relinearisation of one sum of products.
    pub finish_seconds: f64,
    /// To the torus, and the ring key switch.
    pub switch_seconds: f64,
    pub pack_seconds: f64,
    /// Making all keys.
    pub key_seconds: f64,
    /// How much faster all cores together are than one.
    pub parallel: f64,
    /// Whether these were measured on this machine.
    pub measured: bool,
}

impl Costs {
    /// Measured once on a Zen 4 core at 2.6 GHz, ring degree 4096: a stand-in where nothing can be measured.
    pub fn typical(parameters: Parameters, cores: usize) -> Self {
        let profile = match parameters {
            Parameters::Tfhe(profile) => profile,
            Parameters::Ckks(profile) => return Self::typical_ring(profile, cores),
        };
        let scale = profile.ring.degree as f64 / 4096.0 * profile.ring.prime_bits.len() as f64 / 3.0;
        Self {
            cores,
            pbs_seconds: 0.0144 * profile.pbs.decomposition.levels as f64 / 2.0,
            operand_seconds: 0.5e-3 * scale,
            accumulate_seconds: 0.06e-3 * scale,
            finish_seconds: 2.45e-3 * scale,
            switch_seconds: 0.23e-3 * scale,
            pack_seconds: 0.12 * scale * profile.packing_digits as f64,
            key_seconds: 3.5 * scale / cores as f64,
            parallel: cores as f64 * 0.95,
            measured: false,
        }
    }

    fn typical_ring(profile: &RingProfile, cores: usize) -> Self {
        // Degree 15: 0.364 s, 31: 0.424 s, 63: 0.486 s on a Zen 5 core.
        let degree = (profile.function_degree + 1) as f64;
        Self {
            cores,
            pbs_seconds: 0.364 + 0.061 * (degree / 16.0).log2(),
            operand_seconds: 0.05e-3,
            accumulate_seconds: 0.02e-3,
            finish_seconds: 0.1e-3,
            switch_seconds: 0.04e-3,
            pack_seconds: 0.15e-3,
            key_seconds: 6.0,
            parallel: 1.0 + 0.7 * (cores.min(2) - 1) as f64,
            measured: false,
        }
    }
}

/// A batch of look-ups of one step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SiteReport {
    pub name: String,
    pub luts: usize,
    /// Inputs are read in −range..range.
    pub range: f64,
    /// Standard deviation of the input's error, as a fraction of 2·range.
    pub input_error: f64,
    /// Probability that one value lies beyond its range, if values are normal with the nominal size.
    pub range_excess_probability: f64,
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
    pub batch: usize,
    pub steps: usize,
    pub luts_per_step: usize,
    pub products_per_step: usize,
    pub packs_per_step: usize,
    pub step_seconds: f64,
    pub train_seconds: f64,
    pub calibrated: bool,
    pub memory_bytes: usize,
    pub key_bytes: usize,
    /// Seeded, as sent.
    pub key_wire_bytes: usize,
    pub ciphertext_bytes_per_sample: f64,
    pub alignments: usize,
    /// Largest over the look-up sites, as a fraction of the full range.
    pub lut_input_error: f64,
    /// Largest over the look-up sites, for one value.
    pub range_excess_probability: f64,
    /// That one decryption at the end is wrong, over the whole run.
    pub failure_probability: f64,
    pub parameters: ParametersReport,
    pub sites: Vec<SiteReport>,
    pub operands: Vec<OperandReport>,
    pub warnings: Vec<String>,
}

/// How often a step runs, and on how much data.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    pub steps: usize,
    /// Training samples that the client encrypts.
    pub samples: usize,
}

pub fn report(
    program: &str,
    schedule: &Schedule,
    costs: &Costs,
    extent: Extent,
    alignments: usize,
) -> Report {
    let parameters = schedule.parameters;
    let sites: Vec<SiteReport> = schedule
        .sites
        .iter()
        .map(|site| SiteReport {
            name: site.tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(" + "),
            luts: site.elements * if site.per_sample { schedule.batch } else { 1 },
            range: site.range,
            input_error: site.input_error,
            range_excess_probability: noise::gaussian_excess(site.range / site.rms.max(1e-9)),
        })
        .collect();
    let operands: Vec<OperandReport> = schedule
        .operands
        .iter()
        .map(|operand| OperandReport {
            name: names(schedule, operand),
            source: if operand.packed { "packed" } else { "client" },
            level: operand.level,
            polynomials: schedule.polynomials(&operand.layout, operand.per_sample),
            fill: (operand.layout.samples * operand.form.elements()) as f64 / schedule.degree() as f64,
            amplitude: operand.amplitude,
            noise: operand.noise,
        })
        .collect();
    let step_seconds = step_seconds(schedule, costs);
    let largest = |f: fn(&SiteReport) -> f64| sites.iter().map(f).fold(0.0, f64::max);
    let client_bytes = client_bytes(schedule);
    Report {
        program: program.to_owned(),
        batch: schedule.batch,
        steps: extent.steps,
        luts_per_step: schedule.luts(),
        products_per_step: schedule.ring_products(),
        packs_per_step: packs(schedule),
        step_seconds,
        train_seconds: step_seconds * extent.steps as f64,
        calibrated: costs.measured,
        memory_bytes: memory_bytes(schedule, extent),
        key_bytes: parameters.key_bytes(),
        key_wire_bytes: parameters.key_wire_bytes(),
        ciphertext_bytes_per_sample: client_bytes.seeded / schedule.batch as f64,
        alignments,
        lut_input_error: largest(|s| s.input_error),
        range_excess_probability: largest(|s| s.range_excess_probability),
        failure_probability: failure_probability(schedule, extent.steps),
        parameters: ParametersReport::of(parameters),
        warnings: warnings(schedule, extent.steps),
        sites,
        operands,
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
    let extended: usize = schedule
        .operands
        .iter()
        .filter(|o| o.level > 0)
        .map(|o| schedule.polynomials(&o.layout, o.per_sample))
        .sum();
    let sums: usize = schedule
        .products
        .iter()
        .map(|p| {
            if p.batch_sum || !p.per_sample() {
                1
            } else {
                schedule.batch.div_ceil(product_samples(schedule, p))
            }
        })
        .sum();
    let switches: usize = schedule
        .sites
        .iter()
        .flat_map(|site| &site.reads)
        .map(|read| schedule.polynomials(&read.layout, read.per_sample))
        .sum();
    let one_core = schedule.bootstraps() as f64 * costs.pbs_seconds
        + packs(schedule) as f64 * costs.pack_seconds
        + extended as f64 * costs.operand_seconds
        + schedule.ring_products() as f64 * costs.accumulate_seconds
        + sums as f64 * costs.finish_seconds
        + switches as f64 * costs.switch_seconds;
    one_core / costs.parallel.max(1.0)
}

/// What the client sends for one batch.
struct ClientBytes {
    seeded: f64,
    memory: f64,
}

fn client_bytes(schedule: &Schedule) -> ClientBytes {
    let parameters = schedule.parameters;
    let mut bytes = ClientBytes { seeded: 0.0, memory: 0.0 };
    for operand in schedule.operands.iter().filter(|o| o.fresh) {
        let count = schedule.polynomials(&operand.layout, operand.per_sample) as f64;
        bytes.seeded += count * parameters.seeded_ciphertext_bytes(operand.level) as f64;
        bytes.memory += count * parameters.ciphertext_bytes(operand.level) as f64;
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

/// Peak memory of a run: keys, the encrypted data, and what one step holds.
fn memory_bytes(schedule: &Schedule, extent: Extent) -> usize {
    const PROCESS: f64 = 60e6;
    let batches = extent.samples.div_ceil(schedule.batch.max(1)).max(1) as f64;
    let data = client_bytes(schedule).memory * batches;
    let work = match schedule.parameters {
        Parameters::Tfhe(profile) => tfhe_bytes(schedule, profile),
        Parameters::Ckks(_) => ring_bytes(schedule),
    };
    (schedule.parameters.key_bytes() as f64 + data + work + PROCESS) as usize
}

/// What a step of the ring engine holds at most: the ciphertexts of its small rings, and one bootstrap at work.
fn ring_bytes(schedule: &Schedule) -> f64 {
    // Measured: a run with 1.1 GiB of keys has a peak of 2.05 GiB, in which the tables of the transforms take part.
    const BOOTSTRAP: f64 = 0.95 * 1024.0 * 1024.0 * 1024.0;
    let ring: usize = schedule
        .operands
        .iter()
        .map(|o| {
            schedule.parameters.ciphertext_bytes(o.level) * schedule.polynomials(&o.layout, o.per_sample)
        })
        .sum();
    // Products are as many again.
    2.0 * ring as f64 + BOOTSTRAP
}

fn tfhe_bytes(schedule: &Schedule, profile: &Profile) -> f64 {
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
                let values = operand.layout.samples * operand.form.elements();
                BfvNoise::packed(profile, values.min(profile.ring.degree), profile.depth(), operand.level)
            } else {
                BfvNoise::fresh(profile, operand.level)
            }
        }
        Source::Master(_) => BfvNoise::none(),
    };
    let pieces =
        if product.batch_sum { schedule.batch.div_ceil(product_samples(schedule, product)) } else { 1 };
    let pair = (side(product.sides[0]), side(product.sides[1]));
    BfvNoise::product_sum(profile, product.level + 1, std::iter::repeat_n(pair, pieces))
}

/// That the client's decryption of a master, or of a result, is wrong anywhere. What goes into a table needs no exact
/// decryption.
fn failure_probability(schedule: &Schedule, steps: usize) -> f64 {
    match schedule.parameters {
        Parameters::Tfhe(profile) => decryption_failure(schedule, profile, steps),
        Parameters::Ckks(_) => raise_failure(schedule, steps),
    }
}

/// That a coefficient leaves the interval of the exponential at a modulus raise, in any bootstrap of the run.
fn raise_failure(schedule: &Schedule, steps: usize) -> f64 {
    let coefficients = (schedule.bootstraps() * steps.max(1) * schedule.parameters.lanes()) as f64;
    (coefficients * RAISE_FAILURE_LOG2.exp2()).min(1.0)
}

/// log2 of the probability that one coefficient of a raise is too large, |I| > K: below 2^-40 for 10^4 ciphertexts.
const RAISE_FAILURE_LOG2: f64 = -69.0;

fn decryption_failure(schedule: &Schedule, profile: &Profile, steps: usize) -> f64 {
    let mut total = 0.0;
    for master in &schedule.masters {
        let noise = product_noise(schedule, profile, master.gradient.0).times_count(steps.max(1) as f64);
        total += master.elements as f64 * noise.failure_probability(profile);
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

/// Where noise is a large part of a value's range.
fn warnings(schedule: &Schedule, steps: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    for site in &schedule.sites {
        let name = site.tables.first().map_or("table", |t| t.name.as_str());
        if site.input_error > 1.0 / 32.0 {
            warnings.push(format!(
                "`{name}` reads its input with an error of {:.1} % of its range: narrow the range, or use `--profile precise`",
                100.0 * site.input_error
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
    warnings
}
