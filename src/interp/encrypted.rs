//! The server's side of an encrypted run: a schedule over ciphertexts and evaluation keys. No secret key exists here.

use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;

use crate::he::params::Profile;
use crate::he::{
    self, Ciphertext, Control, HeError, LabelCiphertext, LutTable, LweBig, LweSmall, PackEntry, ServerKeys,
};
use crate::plan::estimate::StageSeconds;
use crate::plan::lower::AtomKind;
use crate::plan::schedule::{Operand, ProductStep, Read, Schedule, SiteStep, Source, Stage};

use super::{EngineError, Watch, encode, mapped};

/// What the client sends for one batch.
#[derive(Clone)]
pub struct EncryptedBatch {
    pub size: usize,
    /// By operand: the ciphertexts of the part that the client encrypts.
    pub fresh: Vec<Vec<Ciphertext>>,
    pub labels: Option<LabelCiphertext>,
}

impl EncryptedBatch {
    pub fn bytes(&self) -> usize {
        let fresh: usize = self.fresh.iter().flatten().map(Ciphertext::bytes).sum();
        fresh + self.labels.as_ref().map_or(0, LabelCiphertext::bytes)
    }

    /// Bytes as sent.
    pub fn wire_bytes(&self) -> usize {
        let fresh: usize = self.fresh.iter().flatten().map(|own| own.to_bytes().len()).sum();
        fresh + self.labels.as_ref().map_or(0, LabelCiphertext::bytes)
    }
}

impl From<HeError> for EngineError {
    fn from(error: HeError) -> Self {
        match error {
            HeError::Cancelled => EngineError::Cancelled,
            other => EngineError::Failed(other.to_string()),
        }
    }
}

/// Trains on ciphertexts.
pub struct Server<'a> {
    keys: Arc<ServerKeys>,
    profile: &'static Profile,
    schedule: &'a Schedule,
    /// Public initial weights, by master.
    initial: Vec<Vec<f32>>,
    /// Of the least learning rate.
    multiple: i64,
    /// By master: its pieces.
    masters: Vec<Vec<Ciphertext>>,
    /// By site.
    tables: Vec<LutTable>,
    /// By operand: what the server adds in the clear.
    public: Vec<Vec<i64>>,
}

/// Ciphertexts of one step.
pub struct State {
    pub operands: Vec<Vec<Ciphertext>>,
    pub products: Vec<Vec<Ciphertext>>,
    extended: Vec<Vec<he::Operand>>,
    /// By site and table.
    looked_up: Vec<Vec<Vec<LweBig>>>,
    labels: Vec<LweBig>,
    pub seconds: StageSeconds,
}

impl State {
    /// What the step has made: nothing of a master.
    fn made(&self, source: Source) -> &[Ciphertext] {
        match source {
            Source::Operand(i) => &self.operands[i],
            Source::Product(i) => &self.products[i],
            Source::Master(_) => &[],
        }
    }
}

type Done<T> = Result<T, EngineError>;

impl<'a> Server<'a> {
    /// A server at the first step: masters are zero, the working weights are the public initial ones.
    pub fn new(
        keys: impl Into<Arc<ServerKeys>>,
        schedule: &'a Schedule,
        initial: Vec<Vec<f32>>,
    ) -> Done<Self> {
        let keys = keys.into();
        let profile = schedule.parameters.tfhe().ok_or_else(|| {
            EngineError::Failed(format!(
                "the schedule has parameters `{}` of another scheme",
                schedule.parameters.name()
            ))
        })?;
        let masters = schedule
            .masters
            .iter()
            .map(|master| (0..master.layout.pieces).map(|_| Ciphertext::zero(keys.ring(), 0)).collect())
            .collect::<Result<Vec<_>, _>>()?;
        let tables =
            schedule.sites.iter().map(|site| table(schedule, profile, site)).collect::<Done<Vec<_>>>()?;
        let public = schedule
            .operands
            .iter()
            .map(|operand| {
                (0..operand.form.elements())
                    .map(|element| encode::public_part(schedule, operand, &initial, element))
                    .collect()
            })
            .collect();
        Ok(Self { keys, profile, schedule, initial, multiple: 1, masters, tables, public })
    }

    pub fn initial(&self) -> &[Vec<f32>] {
        &self.initial
    }

    /// The masters: what the weights have changed since the start, encrypted.
    pub fn masters(&self) -> &[Vec<Ciphertext>] {
        &self.masters
    }

    /// Takes this multiple of the least learning rate, which the plan is made for, from now on.
    pub fn set_rate(&mut self, multiple: u32) {
        self.multiple = i64::from(multiple);
    }

    /// One step of gradient descent.
    pub fn step(&mut self, batch: &EncryptedBatch, watch: &dyn Watch) -> Done<State> {
        let state = self.run(batch, watch)?;
        for (index, master) in self.schedule.masters.iter().enumerate() {
            for &(source, factor) in &master.gradient {
                for (own, gradient) in self.masters[index].iter_mut().zip(state.made(source)) {
                    match factor * self.multiple {
                        1 => own.sub_assign(gradient)?,
                        -1 => own.add_assign(gradient)?,
                        factor => own.sub_assign(&gradient.mul_integer(factor)?)?,
                    }
                }
            }
        }
        Ok(state)
    }

    /// All stages of a step, without changing the masters.
    pub fn run(&self, batch: &EncryptedBatch, watch: &dyn Watch) -> Done<State> {
        let schedule = self.schedule;
        let mut state = State {
            operands: vec![Vec::new(); schedule.operands.len()],
            products: vec![Vec::new(); schedule.products.len()],
            extended: (0..schedule.operands.len()).map(|_| Vec::new()).collect(),
            looked_up: vec![Vec::new(); schedule.sites.len()],
            labels: batch.labels.as_ref().map_or_else(Vec::new, LabelCiphertext::expand),
            seconds: StageSeconds::default(),
        };
        for stage in &schedule.stages {
            if watch.cancelled() {
                return Err(EngineError::Cancelled);
            }
            let began = Instant::now();
            match stage {
                Stage::Tables(sites) => self.look_up(sites, &mut state, batch.size, watch)?,
                Stage::Operands(operands) => self.pack(operands, &mut state, batch)?,
                Stage::Products(products) => {
                    for &product in products {
                        state.products[product] = self.product(&schedule.products[product], &state)?;
                    }
                }
            }
            let seconds = match stage {
                Stage::Tables(_) => &mut state.seconds.functions,
                Stage::Operands(_) => &mut state.seconds.routes_out,
                Stage::Products(_) => &mut state.seconds.products,
            };
            *seconds += began.elapsed().as_secs_f64();
        }
        Ok(state)
    }

    fn source<'s>(&'s self, source: Source, state: &'s State) -> &'s [Ciphertext] {
        match source {
            Source::Master(i) => &self.masters[i],
            source => state.made(source),
        }
    }

    /// Adds up what a read takes from one layout, as ciphertexts, for one polynomial.
    pub fn gathered(&self, read: &Read, state: &State, polynomial: usize) -> Done<Ciphertext> {
        let mut sum: Option<Ciphertext> = None;
        for &(source, factor) in &read.sources {
            let ciphertexts = self.source(source, state);
            // What the batch shares is there once, as one group.
            let own =
                if ciphertexts.is_empty() { None } else { ciphertexts.get(polynomial % ciphertexts.len()) };
            let own = own.ok_or_else(|| EngineError::Failed("a batch lacks a ciphertext".into()))?;
            let own = match factor {
                1 => own.clone(),
                factor => own.mul_integer(factor)?,
            };
            sum = Some(match sum {
                None => own,
                Some(mut sum) => {
                    // The one with more levels left is switched down: an alignment, which the plan counts.
                    let level = sum.level().min(own.level());
                    sum = sum.switch_down(level)?;
                    sum.add_assign(&own.switch_down(level)?)?;
                    sum
                }
            });
        }
        sum.ok_or_else(|| EngineError::Failed("a look-up reads nothing".into()))
    }

    /// The LWEs of a read: `[samples, elements]`.
    fn extract(&self, read: &Read, state: &State, samples: usize) -> Done<Vec<Option<LweSmall>>> {
        let degree = self.schedule.degree();
        let rows = if read.per_sample { samples } else { 1 };
        let switched = (0..read.layout.polynomials(rows))
            .into_par_iter()
            .map(|polynomial| Ok(self.keys.switch_out(&self.gathered(read, state, polynomial)?)?))
            .collect::<Done<Vec<_>>>()?;
        (0..rows * read.map.len())
            .into_par_iter()
            .map(|at| {
                let Some(index) = mapped(&read.map, at % read.map.len()) else { return Ok(None) };
                let at = read.layout.position(degree, at / read.map.len(), index);
                let mut lwe = switched[at.polynomial].extract(at.coefficient)?;
                if at.sign < 0 {
                    lwe.negate();
                }
                Ok(Some(lwe))
            })
            .collect()
    }

    fn inputs(&self, site: &SiteStep, state: &State, batch: usize) -> Done<Vec<LweSmall>> {
        let profile = self.profile;
        let samples = if site.per_sample { batch } else { 1 };
        let mut sums: Vec<Option<LweSmall>> = vec![None; samples * site.elements];
        for read in &site.reads {
            let own = self.extract(read, state, samples)?;
            for (at, sum) in sums.iter_mut().enumerate() {
                let at = if read.per_sample { at } else { at % site.elements };
                match (sum.as_mut(), &own[at]) {
                    (_, None) => {}
                    (None, Some(lwe)) => *sum = Some(lwe.clone()),
                    (Some(sum), Some(lwe)) => sum.add_scaled(lwe, 1)?,
                }
            }
        }
        let unit = site.amplitude / self.schedule.modulus();
        Ok(sums
            .into_iter()
            .enumerate()
            .map(|(at, lwe)| {
                let mut lwe = lwe.unwrap_or_else(|| LweSmall::trivial(profile, 0));
                let constant = site.constant.get(at % site.elements);
                if constant != 0.0 {
                    lwe.add_constant(torus(constant * unit));
                }
                lwe
            })
            .collect())
    }

    /// One batch of look-ups over several sites.
    fn look_up(&self, sites: &[usize], state: &mut State, batch: usize, watch: &dyn Watch) -> Done<()> {
        let schedule = self.schedule;
        let mut inputs = Vec::new();
        let mut table_of = Vec::new();
        let mut counts = Vec::new();
        let mut tables = Vec::new();
        for &site in sites {
            let own = self.inputs(&schedule.sites[site], state, batch)?;
            counts.push(own.len());
            table_of.extend(std::iter::repeat_n(tables.len(), own.len()));
            tables.push(self.tables[site].clone());
            inputs.extend(own);
        }
        let last = std::sync::atomic::AtomicUsize::new(0);
        let progress = |done: usize, _: usize| {
            let before = last.fetch_max(done, std::sync::atomic::Ordering::Relaxed);
            watch.luts(done.saturating_sub(before) as u64);
        };
        let cancelled = || watch.cancelled();
        let control = Control { progress: &progress, cancelled: &cancelled };
        let mut outputs = self.keys.bootstrap(&inputs, &table_of, &tables, &control)?.into_iter();
        for (&site, count) in sites.iter().zip(counts) {
            let step = &schedule.sites[site];
            let mut by_table: Vec<Vec<LweBig>> =
                step.tables.iter().map(|_| Vec::with_capacity(count)).collect();
            for looked_up in outputs.by_ref().take(count) {
                for ((mut lwe, table), out) in looked_up.into_iter().zip(&step.tables).zip(&mut by_table) {
                    lwe.add_constant(torus(table.centre * table.amplitude / schedule.modulus()));
                    out.push(lwe);
                }
            }
            state.looked_up[site] = by_table;
        }
        Ok(())
    }

    /// The value that an operand packs for one element: a sum of look-ups and labels.
    fn packed_value(
        &self,
        operand: &Operand,
        state: &State,
        sample: usize,
        element: usize,
    ) -> Done<Option<LweBig>> {
        let schedule = self.schedule;
        let mut sum: Option<LweBig> = None;
        for term in &operand.form.terms {
            let Some(index) = mapped(&term.map, element) else { continue };
            let atom = &schedule.atoms[term.atom.0 as usize];
            let size = crate::graph::elements(&atom.shape);
            let at = if atom.per_sample { sample * size + index } else { index };
            let units = operand.amplitude * term.coefficient;
            let (lwe, base) = match atom.kind {
                AtomKind::Label(_) => (state.labels.get(at), schedule.label_amplitude),
                kind => {
                    let Some((site, function)) = kind.table() else { continue };
                    (state.looked_up[site][function].get(at), schedule.sites[site].tables[function].amplitude)
                }
            };
            let lwe = lwe.ok_or_else(|| EngineError::Failed("a batch lacks labels or look-ups".into()))?;
            let factor = (units / base).round() as i64;
            sum = Some(match (sum, factor) {
                (None, 1) => lwe.clone(),
                (None, factor) => {
                    let mut zero = LweBig::trivial(self.profile, 0);
                    zero.add_scaled(lwe, factor)?;
                    zero
                }
                (Some(mut sum), factor) => {
                    sum.add_scaled(lwe, factor)?;
                    sum
                }
            });
        }
        Ok(sum)
    }

    fn pack(&self, operands: &[usize], state: &mut State, batch: &EncryptedBatch) -> Done<()> {
        let schedule = self.schedule;
        let degree = schedule.degree();
        // Packs of one level share passes over the packing key.
        let mut levels: Vec<usize> = operands.iter().map(|&i| schedule.operands[i].level).collect();
        levels.sort_unstable();
        levels.dedup();
        for level in levels {
            let own: Vec<usize> =
                operands.iter().copied().filter(|&i| schedule.operands[i].level == level).collect();
            let mut packs: Vec<Vec<(LweBig, usize, bool)>> = Vec::new();
            for &index in &own {
                let operand = &schedule.operands[index];
                if !operand.packed {
                    continue;
                }
                let samples = operand.rows(batch.size);
                let first = packs.len();
                packs.resize_with(first + operand.layout.polynomials(samples), Vec::new);
                for sample in 0..samples {
                    for element in 0..operand.form.elements() {
                        if let Some(lwe) = self.packed_value(operand, state, sample, element)? {
                            let at = operand.layout.position(degree, sample, element);
                            packs[first + at.polynomial].push((lwe, at.coefficient, at.sign < 0));
                        }
                    }
                }
            }
            let entries: Vec<Vec<PackEntry<'_>>> = packs
                .iter()
                .map(|pack| {
                    pack.iter()
                        .map(|(lwe, coefficient, negate)| PackEntry {
                            lwe,
                            coefficient: *coefficient,
                            negate: *negate,
                        })
                        .collect()
                })
                .collect();
            let slices: Vec<&[PackEntry<'_>]> = entries.iter().map(Vec::as_slice).collect();
            let mut packed =
                if slices.is_empty() { Vec::new() } else { self.keys.pack_many(&slices, level)? }.into_iter();
            for &index in &own {
                let operand = &schedule.operands[index];
                let samples = operand.rows(batch.size);
                let count = operand.layout.polynomials(samples);
                let public = self.public_polynomials(index, samples);
                let mut ciphertexts: Vec<Ciphertext> = Vec::with_capacity(count);
                for polynomial in 0..count {
                    let mut sum = if operand.packed { packed.next() } else { None };
                    if operand.fresh {
                        let fresh = batch.fresh[index].get(polynomial).cloned();
                        let fresh =
                            fresh.ok_or_else(|| EngineError::Failed("a batch lacks a ciphertext".into()))?;
                        sum = Some(match sum {
                            None => fresh,
                            Some(sum) => sum.add(&fresh)?,
                        });
                    }
                    let sum = match sum {
                        Some(sum) => sum,
                        None => Ciphertext::zero(self.keys.ring(), level)?,
                    };
                    ciphertexts.push(match public.get(polynomial) {
                        Some(public) => sum.add_plain(public)?,
                        None => sum,
                    });
                }
                if level > 0 {
                    state.extended[index] = ciphertexts
                        .par_iter()
                        .map(|ciphertext| self.keys.operand(ciphertext))
                        .collect::<Result<_, _>>()?;
                }
                state.operands[index] = ciphertexts;
            }
        }
        Ok(())
    }

    /// The polynomials of the public part of an operand; none if there is no such part.
    fn public_polynomials(&self, index: usize, samples: usize) -> Vec<Vec<i64>> {
        encode::public_polynomials(
            self.schedule,
            &self.schedule.operands[index],
            &self.public[index],
            samples,
        )
    }

    fn product(&self, step: &ProductStep, state: &State) -> Done<Vec<Ciphertext>> {
        // A product that feeds this one directly is extended here.
        let mut chained: [Vec<he::Operand>; 2] = [Vec::new(), Vec::new()];
        for (side, own) in step.sides.iter().zip(&mut chained) {
            if let Source::Product(inner) = side {
                *own = state.products[*inner]
                    .par_iter()
                    .map(|c| self.keys.operand(c))
                    .collect::<Result<_, _>>()?;
            }
        }
        let sides: [&[he::Operand]; 2] = [0, 1].map(|k| match step.sides[k] {
            Source::Operand(i) => state.extended[i].as_slice(),
            _ => chained[k].as_slice(),
        });
        let degree = self.schedule.degree() as u32;
        let layouts = step.sides.map(|side| self.schedule.layout(side));
        let missing = || EngineError::Failed("a product has no operands".into());
        step.pairs(layouts, self.schedule.batch)
            .par_iter()
            .map(|pairs| {
                if pairs.is_empty() {
                    return Ok(Ciphertext::zero(self.keys.ring(), step.level)?);
                }
                // The right one is shifted: it is the shared one where there is one.
                let shifted: Vec<Option<he::Operand>> = pairs
                    .iter()
                    .map(|pair| {
                        if pair.shift == 0 {
                            return Ok(None);
                        }
                        let own = self.source(step.sides[1], state).get(pair.right).ok_or_else(missing)?;
                        let mut power = vec![0i64; (pair.shift % degree) as usize + 1];
                        power[(pair.shift % degree) as usize] = 1;
                        let turned = own.mul_plain(&power)?;
                        let turned = if pair.shift < degree { turned } else { turned.negate()? };
                        Ok(Some(self.keys.operand(&turned)?))
                    })
                    .collect::<Done<_>>()?;
                let pairs = pairs
                    .iter()
                    .zip(&shifted)
                    .map(|(pair, shifted)| {
                        let right = shifted.as_ref().or_else(|| sides[1].get(pair.right));
                        sides[0].get(pair.left).zip(right).ok_or_else(missing)
                    })
                    .collect::<Done<Vec<_>>>()?;
                Ok(self.keys.product_sum(&pairs)?)
            })
            .collect()
    }
}

fn table(schedule: &Schedule, profile: &'static Profile, site: &SiteStep) -> Done<LutTable> {
    let t = schedule.modulus();
    let of = |index: usize| {
        let table = &site.tables[index];
        move |x: f64| table.value(x * site.range) * table.amplitude / t
    };
    Ok(match site.tables.len() {
        1 => LutTable::new(profile, of(0))?,
        _ => LutTable::pair(profile, of(0), of(1))?,
    })
}

/// The torus element next to a fraction.
pub fn torus(fraction: f64) -> u64 {
    let fraction = fraction - fraction.round();
    (fraction * 64f64.exp2()).round() as i128 as u64
}
