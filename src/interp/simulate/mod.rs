//! The encrypted run without encryption: the same sums and products at the same amplitudes, with noise of the size that
//! the schedule predicts for each place. Needs no key.
//!
//! The walk through a schedule is one; what numbers are, and how a table reads and gives them, is the [`Domain`] of a
//! scheme: integers modulo t for BFV and TFHE, reals modulo q0·q1 for CKKS.

mod integers;
mod reals;

use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::graph::elements;
use crate::plan::lower::AtomKind;
use crate::plan::parameters::Parameters;
use crate::plan::schedule::{ProductStep, Read, Schedule, SiteStep, Source, Stage};

use super::{Batch, Engine, EngineError, Excess, Trace, Watch, contract, encode};
use integers::Integers;
use reals::Reals;

fn gauss(rng: &mut ChaCha20Rng, deviation: f64) -> f64 {
    let sample: f64 = StandardNormal.sample(rng);
    deviation * sample
}

/// What tables give for the values of a site.
struct LookedUp {
    /// By table, in units.
    units: Vec<Vec<f64>>,
    /// By table: what later sites multiply with.
    values: Vec<Vec<f64>>,
    /// Inputs beyond the site's range.
    beyond: u64,
}

/// The numbers of a scheme, and its noise.
trait Domain: Send {
    type Number: Copy + Default + Send + Sync;

    fn add(&self, a: Self::Number, b: Self::Number) -> Self::Number;
    fn multiply(&self, a: Self::Number, b: Self::Number) -> Self::Number;
    /// By a public integer.
    fn times(&self, a: Self::Number, factor: i64) -> Self::Number;
    /// The representative of a number modulo the modulus that is next to zero.
    fn centred(&self, a: Self::Number) -> Self::Number;
    /// In units.
    fn units(&self, a: Self::Number) -> f64;

    /// The tables of a site for inputs in units; its outputs are multiplied by `multiplier`.
    fn look_up(
        &mut self,
        site: usize,
        step: &SiteStep,
        inputs: &[f64],
        multiplier: Option<&[f64]>,
    ) -> LookedUp;
    /// A sum of products with the noise that comes from beside the places of values, in units.
    fn with_noise(&mut self, a: Self::Number, deviation: f64) -> Self::Number;
    /// The noise of a label that comes as an LWE, in units.
    fn label_noise(&mut self) -> f64;
    /// An element of an operand: what the client encrypts, if it does, what is public, and what tables gave, if they did.
    fn element(&mut self, fresh: Option<f64>, public: i64, packed: Option<f64>) -> Self::Number;
}

/// A schedule over the numbers of a scheme.
struct Simulation<'a, D: Domain> {
    domain: D,
    schedule: &'a Schedule,
    /// Public initial weights, by master.
    initial: Vec<Vec<f32>>,
    masters: Vec<Vec<D::Number>>,
    excesses: Vec<Excess>,
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

impl<'a, D: Domain> Simulation<'a, D> {
    fn new(schedule: &'a Schedule, initial: Vec<Vec<f32>>, domain: D) -> Self {
        let masters = schedule.masters.iter().map(|master| vec![D::Number::default(); master.elements]);
        Self {
            masters: masters.collect(),
            excesses: vec![Excess::default(); schedule.sites.len()],
            domain,
            schedule,
            initial,
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
                        let step = &schedule.sites[site];
                        let looked_up = self.look_up(site, step, &state, batch);
                        state.tables[site] = looked_up.units;
                        state.values[site] = looked_up.values;
                        watch.luts((step.elements * if step.per_sample { batch.size } else { 1 }) as u64);
                    }
                }
                Stage::Operands(operands) => {
                    for &operand in operands {
                        state.operands[operand] = self.pack(operand, &state, batch);
                    }
                }
                Stage::Products(products) => {
                    for &product in products {
                        state.products[product] =
                            self.product(&schedule.products[product], &state, batch.size);
                    }
                }
            }
        }
        Ok(state)
    }

    fn source<'s>(&'s self, source: Source, state: &'s State<D::Number>) -> &'s [D::Number] {
        match source {
            Source::Operand(i) => &state.operands[i],
            Source::Product(i) => &state.products[i],
            Source::Master(i) => &self.masters[i],
        }
    }

    /// The sum of reads at one element of a sample, in units.
    fn read(&self, reads: &[Read], state: &State<D::Number>, sample: usize, element: usize) -> f64 {
        let mut sum = D::Number::default();
        for read in reads {
            let Some(index) = super::mapped(&read.map, element) else { continue };
            for &(source, factor) in &read.sources {
                let size = self.schedule.layout(source).elements();
                let at = if read.per_sample { sample * size + index } else { index };
                sum = self.domain.add(sum, self.domain.times(self.source(source, state)[at], factor));
            }
        }
        self.domain.units(self.domain.centred(sum))
    }

    /// One batch of look-ups.
    fn look_up(
        &mut self,
        site: usize,
        step: &SiteStep,
        state: &State<D::Number>,
        batch: &Batch<'_>,
    ) -> LookedUp {
        let samples = if step.per_sample { batch.size } else { 1 };
        let mut inputs = Vec::with_capacity(samples * step.elements);
        for sample in 0..samples {
            for element in 0..step.elements {
                let public = step.constant.get(element) * step.amplitude;
                inputs.push(self.read(&step.reads, state, sample, element) + public);
            }
        }
        let multiplier = step.multiplier.map(|(site, table)| state.values[site][table].as_slice());
        let looked_up = self.domain.look_up(site, step, &inputs, multiplier);
        self.excesses[site].lookups += inputs.len() as u64;
        self.excesses[site].beyond += looked_up.beyond;
        looked_up
    }

    fn pack(&mut self, operand: usize, state: &State<D::Number>, batch: &Batch<'_>) -> Vec<D::Number> {
        let schedule = self.schedule;
        let own = &schedule.operands[operand];
        let samples = if own.per_sample { batch.size } else { 1 };
        let size = own.form.elements();
        let public: Vec<i64> =
            (0..size).map(|element| encode::public_part(schedule, own, &self.initial, element)).collect();
        let mut out = Vec::with_capacity(samples * size);
        for sample in 0..samples {
            for (element, &public) in public.iter().enumerate() {
                let (mut fresh, mut packed) = (0.0, 0.0);
                for term in &own.form.terms {
                    let Some(index) = super::mapped(&term.map, element) else { continue };
                    let atom = &schedule.atoms[term.atom.0 as usize];
                    let units = own.amplitude * term.coefficient;
                    let at = if atom.per_sample { sample * elements(&atom.shape) + index } else { index };
                    match atom.kind {
                        AtomKind::Fresh(node) => fresh += units * batch.fresh(node, sample, index),
                        kind @ AtomKind::Label(_) => {
                            let value = units * f64::from(batch.label(sample, index));
                            if schedule.parameters.is_fresh(kind) {
                                fresh += value;
                            } else {
                                let factor = units / schedule.label_amplitude;
                                packed += value + factor * self.domain.label_noise();
                            }
                        }
                        kind => {
                            if let Some((site, function)) = kind.table() {
                                let base = schedule.sites[site].tables[function].amplitude;
                                packed += units / base * state.tables[site][function][at];
                            }
                        }
                    }
                }
                let (fresh, packed) = (own.fresh.then_some(fresh), own.packed.then_some(packed));
                let number = self.domain.element(fresh, public, packed);
                out.push(self.domain.centred(number));
            }
        }
        out
    }

    fn product(&mut self, step: &ProductStep, state: &State<D::Number>, batch: usize) -> Vec<D::Number> {
        let domain = &self.domain;
        let sides = step.sides.map(|side| self.source(side, state));
        let mut out = contract(step, sides, batch, |a, b| domain.multiply(a, b), |a, b| domain.add(a, b));
        let squares = sides.map(|values| {
            values.iter().map(|&v| domain.units(v).powi(2)).sum::<f64>() / values.len().max(1) as f64
        });
        let [left, right, constant] = step.cross_variance;
        let cross = (left * squares[0] + right * squares[1] + constant).sqrt();
        for value in &mut out {
            *value = self.domain.with_noise(*value, cross);
            *value = self.domain.centred(*value);
        }
        out
    }

    fn evaluate(&mut self, batch: &Batch<'_>, watch: &dyn Watch) -> Result<Vec<Vec<f32>>, EngineError> {
        let state = self.run(batch, watch)?;
        let outputs = self.schedule.outputs.iter().map(|output| {
            let value = |i: usize| {
                let units = self.read(&output.reads, &state, 0, i);
                (units / output.amplitude + output.constant.get(i)) as f32
            };
            (0..elements(&output.shape)).map(value).collect()
        });
        Ok(outputs.collect())
    }

    fn trace(&mut self, batch: &Batch<'_>) -> Result<Trace, EngineError> {
        let state = self.run(batch, &super::Unwatched)?;
        let whole = |values: Vec<Vec<D::Number>>| {
            let whole = |&value: &D::Number| self.domain.units(value).round() as i64;
            values.iter().map(|values| values.iter().map(whole).collect()).collect()
        };
        Ok(Trace { operands: whole(state.operands), products: whole(state.products) })
    }

    fn step(&mut self, batch: &Batch<'_>, watch: &dyn Watch) -> Result<(), EngineError> {
        let state = self.run(batch, watch)?;
        let domain = &self.domain;
        for (index, master) in self.schedule.masters.iter().enumerate() {
            for &(source, factor) in &master.gradient {
                let gradient = match source {
                    Source::Operand(i) => &state.operands[i],
                    Source::Product(i) => &state.products[i],
                    Source::Master(_) => continue,
                };
                for (own, &g) in self.masters[index].iter_mut().zip(gradient) {
                    *own = domain.centred(domain.add(*own, domain.times(g, -factor)));
                }
            }
        }
        Ok(())
    }

    fn parameters(&self) -> Vec<Vec<f32>> {
        let masters = self.schedule.masters.iter().zip(&self.masters).zip(&self.initial);
        masters
            .map(|((plan, master), initial)| {
                let weight =
                    |(&m, &w): (&D::Number, &f32)| (self.domain.units(m) / plan.amplitude) as f32 + w;
                master.iter().zip(initial).map(weight).collect()
            })
            .collect()
    }
}

enum Scheme<'a> {
    Tfhe(Simulation<'a, Integers<'a>>),
    Ckks(Simulation<'a, Reals<'a>>),
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
                Scheme::Tfhe(Simulation::new(schedule, initial, Integers::new(schedule, profile, seed)))
            }
            Parameters::Ckks(profile) => {
                Scheme::Ckks(Simulation::new(schedule, initial, Reals::new(schedule, profile, seed)))
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
