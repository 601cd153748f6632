//! The encrypted run without encryption: the same sums and products at the same amplitudes, with noise of the size that
//! the schedule predicts for each place. Needs no key.
//!
//! The walk through a schedule is one; what numbers are, and how a table reads and gives them, is the [`Domain`] of a
//! scheme: integers modulo t for BFV and TFHE, reals modulo q0·q1 for CKKS.

mod curves;
mod integers;
mod maps;
mod noise;
mod prepared;
mod products;
mod reals;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::graph::elements;
use crate::plan::parameters::Parameters;
use crate::plan::schedule::{ProductStep, Schedule, SiteStep, Source, Stage};

use super::numeric::for_each_row;
use super::{Batch, Engine, EngineError, Excess, Trace, Watch};
use curves::SiteCurves;
use integers::Integers;
use noise::{Noise, PIECE, Place, Stream};
use prepared::{Gather, Origin, Prepared};
use reals::Reals;

/// The numbers of a scheme, and its noise.
trait Domain: Sync {
    type Number: Copy + Default + Send + Sync;

    fn add(a: Self::Number, b: Self::Number) -> Self::Number;
    /// By a public integer.
    fn times(a: Self::Number, factor: i64) -> Self::Number;
    /// The representative of a number modulo the modulus that is next to zero.
    fn centred(&self, a: Self::Number) -> Self::Number;
    /// In units.
    fn units(a: Self::Number) -> f64;

    /// What tables give, by site.
    fn sites(&self) -> &[SiteCurves];
    /// Sums of products; `sides` hold `[batch, elements]` where the side depends on the sample, else `[elements]`.
    fn sums(&self, step: &ProductStep, sides: [&[Self::Number]; 2], batch: usize) -> Vec<Self::Number>;
    /// A sum with the noise that comes from beside the places of values, or from ways between them, in units.
    fn with_noise(&self, a: Self::Number, deviation: f64, noise: &mut Stream) -> Self::Number;
    /// The standard deviation of a label's noise where it comes as an LWE, in units.
    fn label_noise(&self) -> f64;
    /// An element of an operand: what the client encrypts, if it does, what is public, and what tables gave, if they did.
    fn element(
        &self,
        fresh: Option<f64>,
        public: i64,
        packed: Option<f64>,
        noise: &mut Stream,
    ) -> Self::Number;
}

/// The integer next to x, for |x| < 2^51; `f64::round` is a call where the processor's own rounding may be missing.
#[inline]
fn nearest(x: f64) -> f64 {
    // From here on f64 holds no fractions.
    const WHOLE: f64 = 1.5 * (1u64 << 52) as f64;
    (x + WHOLE) - WHOLE
}

/// A schedule over the numbers of a scheme.
struct Simulation<'a, D: Domain> {
    domain: D,
    schedule: &'a Schedule,
    prepared: Prepared,
    /// Public initial weights, by master.
    initial: Vec<Vec<f32>>,
    masters: Vec<Vec<D::Number>>,
    /// Of the least learning rate.
    multiple: i64,
    excesses: Vec<Excess>,
    /// Of the next step.
    noise: Noise,
}

/// Values of one step.
struct State<N> {
    operands: Vec<Vec<N>>,
    products: Vec<Vec<N>>,
    /// By site and table: units.
    tables: Vec<Vec<Vec<f64>>>,
    /// By site and table: what later sites multiply with.
    values: Vec<Vec<Vec<f64>>>,
}

impl<N> State<N> {
    /// What the step has made: nothing of a master.
    fn made(&self, source: Source) -> &[N] {
        match source {
            Source::Operand(i) => &self.operands[i],
            Source::Product(i) => &self.products[i],
            Source::Master(_) => &[],
        }
    }
}

impl<'a, D: Domain> Simulation<'a, D> {
    fn new(schedule: &'a Schedule, initial: Vec<Vec<f32>>, seed: u64, domain: D) -> Self {
        let masters = schedule.masters.iter().map(|master| vec![D::Number::default(); master.elements]);
        Self {
            prepared: Prepared::new(schedule, &initial),
            masters: masters.collect(),
            multiple: 1,
            excesses: vec![Excess::default(); schedule.sites.len()],
            domain,
            schedule,
            initial,
            noise: Noise { seed, step: 0 },
        }
    }

    fn run(&mut self, batch: &Batch<'_>, watch: &dyn Watch) -> Result<State<D::Number>, EngineError> {
        let schedule = self.schedule;
        let mut state = State {
            operands: vec![Vec::new(); schedule.operands.len()],
            products: vec![Vec::new(); schedule.products.len()],
            tables: vec![Vec::new(); schedule.sites.len()],
            values: vec![Vec::new(); schedule.sites.len()],
        };
        for stage in &schedule.stages {
            if watch.cancelled() {
                return Err(EngineError::Cancelled);
            }
            match stage {
                Stage::Tables(sites) => {
                    for &site in sites {
                        let luts = self.look_up(site, &mut state, batch.size);
                        watch.luts(luts as u64);
                    }
                }
                Stage::Operands(operands) => {
                    for &operand in operands {
                        state.operands[operand] = self.pack(operand, &state, batch);
                    }
                }
                Stage::Products(products) => {
                    for &product in products {
                        state.products[product] = self.product(product, &state, batch.size);
                    }
                }
            }
        }
        self.noise.step += 1;
        Ok(state)
    }

    fn source<'s>(&'s self, source: Source, state: &'s State<D::Number>) -> &'s [D::Number] {
        match source {
            Source::Master(i) => &self.masters[i],
            source => state.made(source),
        }
    }

    /// The sums of reads, `[samples, width]`, in units.
    fn gathered(&self, reads: &[Gather], state: &State<D::Number>, samples: usize, width: usize) -> Vec<f64> {
        let mut out = vec![0.0; samples * width];
        for_each_row(&mut out, width, |sample, out| {
            let mut sums = vec![D::Number::default(); width];
            for read in reads {
                for &(source, factor, width) in &read.sources {
                    let first = if read.per_sample { sample * width } else { 0 };
                    let values = &self.source(source, state)[first..][..width];
                    read.map.each(&mut sums, values, |sum, v| *sum = D::add(*sum, D::times(v, factor)));
                }
            }
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = D::units(self.domain.centred(sum)));
        });
        out
    }

    /// One batch of look-ups; how many.
    fn look_up(&mut self, site: usize, state: &mut State<D::Number>, batch: usize) -> usize {
        let step = &self.schedule.sites[site];
        let samples = if step.per_sample { batch } else { 1 };
        let mut torus = self.gathered(&self.prepared.sites[site], state, samples, step.elements);
        for_each_row(&mut torus, step.elements, |_, values| {
            let public = |element| step.constant.get(element) * step.amplitude;
            values.iter_mut().enumerate().for_each(|(element, v)| *v += public(element));
        });
        let beyond = self.read(site, step, &mut torus);
        let multiplier = step.multiplier.map(|(site, table)| state.values[site][table].as_slice());
        let curves = &self.domain.sites()[site];
        let (mut units, mut values) = (Vec::new(), Vec::new());
        for (index, table) in curves.tables.iter().enumerate() {
            let count = |some: bool| if some { torus.len() } else { 0 };
            let mut output = vec![0.0; count(table.output.is_some())];
            if let Some(curve) = &table.output {
                self.noise.pieces(Place::Output(site, index), &mut output, |first, out, noise| {
                    curve.apply(&torus[first..][..out.len()], out);
                    // In the slots, before it becomes a ciphertext of the small ring.
                    if let Some(multiplier) = multiplier {
                        out.iter_mut().zip(&multiplier[first..]).for_each(|(own, by)| *own *= by);
                    }
                    out.iter_mut().for_each(|own| *own += noise.gauss(table.noise));
                    0
                });
            }
            units.push(output);
            let mut factor = vec![0.0; count(table.factor.is_some())];
            if let Some(curve) = &table.factor {
                let pieces = factor.par_chunks_mut(PIECE).zip(torus.par_chunks(PIECE));
                pieces.for_each(|(out, torus)| curve.apply(torus, out));
            }
            values.push(factor);
        }
        (state.tables[site], state.values[site]) = (units, values);
        self.excesses[site].lookups += torus.len() as u64;
        self.excesses[site].beyond += beyond;
        torus.len()
    }

    /// Makes of inputs in units what the tables of a site see: places on the torus, −1/2..1/2, with the error of reading.
    /// How many lie beyond the range.
    fn read(&self, site: usize, step: &SiteStep, inputs: &mut [f64]) -> u64 {
        let modulus = self.schedule.modulus();
        let error = self.schedule.parameters.lut_input_error(step.tables.len(), step.reads.len());
        let entries = self.domain.sites()[site].entries.map(|entries| entries as f64);
        self.noise.pieces(Place::Input(site), inputs, |_, inputs, noise| {
            let mut beyond = 0;
            for value in inputs {
                let torus = *value / modulus + noise.gauss(error);
                let torus = entries.map_or(torus, |entries| nearest(torus * entries) / entries);
                *value = torus - nearest(torus);
                beyond += u64::from(!(-0.25..0.25).contains(value));
            }
            beyond
        })
    }

    fn pack(&self, operand: usize, state: &State<D::Number>, batch: &Batch<'_>) -> Vec<D::Number> {
        let own = &self.prepared.operands[operand];
        let samples = if own.per_sample { batch.size } else { 1 };
        let width = own.public.len();
        let (mut fresh, mut packed) = (Vec::new(), Vec::new());
        if own.fresh {
            fresh.resize(samples * width, 0.0);
            for_each_row(&mut fresh, width, |sample, out| {
                for term in &own.terms {
                    let values = match term.origin {
                        Origin::Fresh(node) => batch.fresh_values(node, sample),
                        Origin::FreshLabel => batch.label_values(sample),
                        _ => continue,
                    };
                    term.map.each(out, values, |own, v| *own += term.units * f64::from(v));
                }
            });
        }
        if own.packed {
            packed.resize(samples * width, 0.0);
            for_each_row(&mut packed, width, |sample, out| {
                for term in &own.terms {
                    match term.origin {
                        Origin::Label => {
                            let labels = batch.label_values(sample);
                            term.map.each(out, labels, |own, v| *own += term.units * f64::from(v));
                        }
                        Origin::Table(site, table) => {
                            let first = if term.per_sample { sample * term.width } else { 0 };
                            let values = &state.tables[site][table][first..][..term.width];
                            term.map.each(out, values, |own, v| *own += term.units * v);
                        }
                        _ => {}
                    }
                }
            });
        }
        let mut out = vec![D::Number::default(); samples * width];
        self.noise.pieces(Place::Operand(operand), &mut out, |first, out, noise| {
            let elements = (0..width).cycle().skip(first % width);
            for ((i, number), element) in out.iter_mut().enumerate().zip(elements) {
                let fresh = own.fresh.then(|| fresh[first + i]);
                let packed = own.packed.then(|| {
                    let label = own.label_factors.get(element);
                    packed[first + i] + label.map_or(0.0, |f| noise.gauss(f * self.domain.label_noise()))
                });
                let element = self.domain.element(fresh, own.public[element], packed, noise);
                *number = self.domain.centred(element);
            }
            0
        });
        out
    }

    fn product(&self, product: usize, state: &State<D::Number>, batch: usize) -> Vec<D::Number> {
        let step = &self.schedule.products[product];
        let sides = step.sides.map(|side| self.source(side, state));
        let mut out = self.domain.sums(step, sides, batch);
        let [left, right, constant] = step.cross_variance;
        let squares = sides.map(mean_square::<D>);
        let cross = (left * squares[0] + right * squares[1] + constant).sqrt();
        self.noise.pieces(Place::Product(product), &mut out, |_, values, noise| {
            for value in values {
                *value = self.domain.centred(self.domain.with_noise(*value, cross, noise));
            }
            0
        });
        out
    }

    fn evaluate(&mut self, batch: &Batch<'_>, watch: &dyn Watch) -> Result<Vec<Vec<f32>>, EngineError> {
        let state = self.run(batch, watch)?;
        let outputs = self.schedule.outputs.iter().zip(&self.prepared.outputs).map(|(output, reads)| {
            let units = self.gathered(reads, &state, 1, elements(&output.shape));
            let value = |(i, units): (usize, f64)| (units / output.amplitude + output.constant.get(i)) as f32;
            units.into_iter().enumerate().map(value).collect()
        });
        Ok(outputs.collect())
    }

    fn trace(&mut self, batch: &Batch<'_>) -> Result<Trace, EngineError> {
        let state = self.run(batch, &super::Unwatched)?;
        let whole = |values: Vec<Vec<D::Number>>| {
            let whole = |&value: &D::Number| D::units(value).round() as i64;
            values.iter().map(|values| values.iter().map(whole).collect()).collect()
        };
        Ok(Trace { operands: whole(state.operands), products: whole(state.products) })
    }

    fn step(&mut self, batch: &Batch<'_>, watch: &dyn Watch) -> Result<(), EngineError> {
        let state = self.run(batch, watch)?;
        let domain = &self.domain;
        for (index, master) in self.schedule.masters.iter().enumerate() {
            for &(source, factor) in &master.gradient {
                for (own, &g) in self.masters[index].iter_mut().zip(state.made(source)) {
                    *own = domain.centred(D::add(*own, D::times(g, -factor * self.multiple)));
                }
            }
            if master.route_noise > 0.0 {
                let deviation = master.route_noise * self.multiple as f64;
                self.noise.pieces(Place::Master(index), &mut self.masters[index], |_, values, noise| {
                    for value in values {
                        *value = domain.with_noise(*value, deviation, noise);
                    }
                    0
                });
            }
        }
        Ok(())
    }

    fn parameters(&self) -> Vec<Vec<f32>> {
        let masters = self.schedule.masters.iter().zip(&self.masters).zip(&self.initial);
        masters
            .map(|((plan, master), initial)| {
                let weight = |(&m, &w): (&D::Number, &f32)| (D::units(m) / plan.amplitude) as f32 + w;
                master.iter().zip(initial).map(weight).collect()
            })
            .collect()
    }
}

/// In units squared.
fn mean_square<D: Domain>(values: &[D::Number]) -> f64 {
    let piece = |values: &[D::Number]| values.iter().map(|&v| D::units(v).powi(2)).sum::<f64>();
    // Collected, so that the sum has one order.
    let sums: Vec<f64> = values.par_chunks(PIECE).map(piece).collect();
    sums.into_iter().sum::<f64>() / values.len().max(1) as f64
}

enum Scheme<'a> {
    Tfhe(Simulation<'a, Integers<'a>>),
    Ckks(Simulation<'a, Reals>),
}

/// The numbers of an encrypted run, plus the plan's noise.
pub struct SimulateEngine<'a> {
    scheme: Scheme<'a>,
}

/// Does the same with the simulation of either scheme.
macro_rules! of_scheme {
    ($scheme:expr, $simulation:ident => $body:expr) => {
        match $scheme {
            Scheme::Tfhe($simulation) => $body,
            Scheme::Ckks($simulation) => $body,
        }
    };
}

impl<'a> SimulateEngine<'a> {
    /// `initial` holds the public initial weights in the order of the schedule's masters; `seed` rules the noise.
    pub fn new(schedule: &'a Schedule, initial: Vec<Vec<f32>>, seed: u64) -> Self {
        let scheme = match schedule.parameters {
            Parameters::Tfhe(profile) => {
                Scheme::Tfhe(Simulation::new(schedule, initial, seed, Integers::new(schedule, profile)))
            }
            Parameters::Ckks(profile) => {
                Scheme::Ckks(Simulation::new(schedule, initial, seed, Reals::new(schedule, profile)))
            }
        };
        Self { scheme }
    }

    /// Values of the schedule's outputs.
    pub fn evaluate(&mut self, batch: &Batch<'_>, watch: &dyn Watch) -> Result<Vec<Vec<f32>>, EngineError> {
        of_scheme!(&mut self.scheme, simulation => simulation.evaluate(batch, watch))
    }

    /// Runs the stages of one step and hands out every value, in units: for tests against the encrypted engine.
    pub fn trace(&mut self, batch: &Batch<'_>) -> Result<Trace, EngineError> {
        of_scheme!(&mut self.scheme, simulation => simulation.trace(batch))
    }
}

impl Engine for SimulateEngine<'_> {
    fn name(&self) -> &'static str {
        "simulate"
    }

    fn begin_epoch(&mut self, _: usize, multiple: u32) -> Result<(), EngineError> {
        of_scheme!(&mut self.scheme, simulation => simulation.multiple = i64::from(multiple));
        Ok(())
    }

    fn step(&mut self, batch: &Batch<'_>, watch: &dyn Watch) -> Result<(), EngineError> {
        of_scheme!(&mut self.scheme, simulation => simulation.step(batch, watch))
    }

    fn parameters(&mut self) -> Result<Vec<Vec<f32>>, EngineError> {
        Ok(of_scheme!(&self.scheme, simulation => simulation.parameters()))
    }

    fn excesses(&self) -> &[Excess] {
        of_scheme!(&self.scheme, simulation => &simulation.excesses)
    }
}
