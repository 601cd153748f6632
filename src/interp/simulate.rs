//! The encrypted run without encryption: the same integers modulo t at the same amplitudes, with noise of the size
//! that the schedule predicts for each place. Needs no key.

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::plan::lower::AtomKind;
use crate::plan::schedule::{ProductStep, Read, Schedule, SiteStep, Source, Stage};

use super::{Batch, Engine, EngineError, Excess, Trace, Watch, contract, encode};

/// Exact integers plus the plan's noise.
pub struct SimulateEngine<'a> {
    schedule: &'a Schedule,
    /// Public initial weights, by master.
    initial: Vec<Vec<f32>>,
    masters: Vec<Vec<i64>>,
    rng: ChaCha20Rng,
    excesses: Vec<Excess>,
}

/// Values of one step.
#[derive(Default)]
struct State {
    operands: Vec<Vec<i64>>,
    products: Vec<Vec<i64>>,
    /// By site and table: units of t.
    tables: Vec<Vec<Vec<f64>>>,
}

impl<'a> SimulateEngine<'a> {
    /// `initial` holds the public initial weights in the order of the schedule's masters; `seed` rules the noise.
    pub fn new(schedule: &'a Schedule, initial: Vec<Vec<f32>>, seed: u64) -> Self {
        Self {
            masters: schedule.masters.iter().map(|master| vec![0; master.elements]).collect(),
            excesses: vec![Excess::default(); schedule.sites.len()],
            rng: ChaCha20Rng::seed_from_u64(seed),
            schedule,
            initial,
        }
    }

    fn gauss(&mut self, deviation: f64) -> f64 {
        let sample: f64 = StandardNormal.sample(&mut self.rng);
        deviation * sample
    }

    fn run(&mut self, batch: &Batch<'_>, watch: &dyn Watch) -> Result<State, EngineError> {
        let schedule = self.schedule;
        let mut state = State {
            operands: vec![Vec::new(); schedule.operands.len()],
            products: vec![Vec::new(); schedule.products.len()],
            tables: vec![Vec::new(); schedule.sites.len()],
        };
        for stage in &schedule.stages {
            if watch.cancelled() {
                return Err(EngineError::Cancelled);
            }
            match stage {
                Stage::Tables(sites) => {
                    for &site in sites {
                        let step = &schedule.sites[site];
                        state.tables[site] = self.look_up(site, step, &state, batch);
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

    fn source<'s>(&'s self, source: Source, state: &'s State) -> &'s [i64] {
        match source {
            Source::Operand(i) => &state.operands[i],
            Source::Product(i) => &state.products[i],
            Source::Master(i) => &self.masters[i],
        }
    }

    /// The sum of reads at one element of a sample.
    fn read(&self, reads: &[Read], state: &State, sample: usize, element: usize) -> i64 {
        let mut sum = 0i64;
        for read in reads {
            let Some(index) = super::mapped(&read.map, element) else { continue };
            for &(source, factor) in &read.sources {
                let size = self.schedule.layout(source).exponents.len();
                let at = if read.per_sample { sample * size + index } else { index };
                sum = sum.wrapping_add(factor.wrapping_mul(self.source(source, state)[at]));
            }
        }
        sum
    }

    /// One batch of look-ups; for each table the outputs in units of t.
    fn look_up(&mut self, site: usize, step: &SiteStep, state: &State, batch: &Batch<'_>) -> Vec<Vec<f64>> {
        let schedule = self.schedule;
        let parameters = schedule.parameters;
        let Some(profile) = parameters.tfhe() else { return vec![Vec::new(); step.tables.len()] };
        let t = schedule.modulus();
        let switches = parameters.lut_input_error(step.tables.len(), step.reads.len());
        let output_noise = parameters.table_variance_units().sqrt();
        // Entries of the table between −1 and 1.
        let entries = (profile.pbs.polynomial_size / step.tables.len()) as f64;
        let samples = if step.per_sample { batch.size } else { 1 };
        let mut out = vec![Vec::with_capacity(samples * step.elements); step.tables.len()];
        for sample in 0..samples {
            for element in 0..step.elements {
                let integer = self.read(&step.reads, state, sample, element);
                let input =
                    encode::centred(schedule, integer) as f64 + step.constant.get(element) * step.amplitude;
                let torus = input / t + self.gauss(switches);
                let x = ((4.0 * torus) * entries / 2.0).round() * 2.0 / entries;
                // The torus in units of the range: −2..2, of which the outer half is the negated table.
                let x = x - 4.0 * (x / 4.0).round();
                let (x, sign) = match x {
                    x if x >= 1.0 => (x - 2.0, -1.0),
                    x if x < -1.0 => (x + 2.0, -1.0),
                    x => (x, 1.0),
                };
                self.excesses[site].lookups += 1;
                self.excesses[site].beyond += u64::from(sign < 0.0);
                for (table, out) in step.tables.iter().zip(&mut out) {
                    let value = sign * table.value(x * step.range) * table.amplitude;
                    out.push(value + self.gauss(output_noise) + table.centre * table.amplitude);
                }
            }
        }
        out
    }

    fn pack(&mut self, operand: usize, state: &State, batch: &Batch<'_>) -> Vec<i64> {
        let schedule = self.schedule;
        let own = &schedule.operands[operand];
        let samples = if own.per_sample { batch.size } else { 1 };
        let size = own.form.elements();
        let rounding = schedule.parameters.packed_noise_units(0.0);
        let label_noise = schedule.parameters.label_variance_units().sqrt();
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
                    let at = if atom.per_sample {
                        sample * crate::graph::elements(&atom.shape) + index
                    } else {
                        index
                    };
                    match atom.kind {
                        AtomKind::Fresh(node) => fresh += units * batch.fresh(node, sample, index),
                        AtomKind::Label(_) => {
                            let factor = units / schedule.label_amplitude;
                            let noise = self.gauss(label_noise);
                            packed += units * f64::from(batch.label(sample, index)) + factor * noise;
                        }
                        AtomKind::Lut { site, function } => {
                            let base = schedule.sites[site].tables[function].amplitude;
                            packed += units / base * state.tables[site][function][at];
                        }
                        AtomKind::Weight { site, .. } => {
                            let base = schedule.sites[site].tables[0].amplitude;
                            packed += units / base * state.tables[site][0][at];
                        }
                        AtomKind::Product(_) => {}
                    }
                }
                let mut integer = fresh.round() as i64 + public;
                if own.packed {
                    integer += (packed + self.gauss(rounding)).round() as i64;
                }
                out.push(encode::centred(schedule, integer));
            }
        }
        out
    }

    fn product(&self, step: &ProductStep, state: &State, batch: usize) -> Vec<i64> {
        let schedule = self.schedule;
        let sides = step.sides.map(|side| self.source(side, state));
        let mut out =
            contract(step, sides, batch, |a: i64, b| a.wrapping_mul(b), |a: i64, b| a.wrapping_add(b));
        out.iter_mut().for_each(|v| *v = encode::centred(schedule, *v));
        out
    }

    /// Values of the schedule's outputs.
    pub fn evaluate(&mut self, batch: &Batch<'_>, watch: &dyn Watch) -> Result<Vec<Vec<f32>>, EngineError> {
        let state = self.run(batch, watch)?;
        let schedule = self.schedule;
        Ok(schedule
            .outputs
            .iter()
            .map(|output| {
                (0..crate::graph::elements(&output.shape))
                    .map(|i| {
                        let integer = encode::centred(schedule, self.read(&output.reads, &state, 0, i));
                        (integer as f64 / output.amplitude + output.constant.get(i)) as f32
                    })
                    .collect()
            })
            .collect())
    }

    /// Runs the stages of one step and hands out every value: for tests against the encrypted engine.
    pub fn trace(&mut self, batch: &Batch<'_>) -> Result<Trace, EngineError> {
        let state = self.run(batch, &super::Unwatched)?;
        Ok(Trace { operands: state.operands, products: state.products })
    }
}

impl Engine for SimulateEngine<'_> {
    fn name(&self) -> &'static str {
        "simulate"
    }

    fn step(&mut self, batch: &Batch<'_>, watch: &dyn Watch) -> Result<(), EngineError> {
        let state = self.run(batch, watch)?;
        for (index, master) in self.schedule.masters.iter().enumerate() {
            let (product, factor) = master.gradient;
            for (own, g) in self.masters[index].iter_mut().zip(&state.products[product]) {
                *own = encode::centred(self.schedule, own.wrapping_sub(factor.wrapping_mul(*g)));
            }
        }
        Ok(())
    }

    fn parameters(&mut self) -> Result<Vec<Vec<f32>>, EngineError> {
        Ok(self
            .schedule
            .masters
            .iter()
            .zip(&self.masters)
            .zip(&self.initial)
            .map(|((plan, master), initial)| {
                master.iter().zip(initial).map(|(&m, &w)| (m as f64 / plan.amplitude) as f32 + w).collect()
            })
            .collect())
    }

    fn excesses(&self) -> &[Excess] {
        &self.excesses
    }
}
