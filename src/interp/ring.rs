//! The server's side of an encrypted run on the ring engine: products in the small ring, functions by bootstraps of the large
//! one. No secret key exists here.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;

use crate::he::ckks::params::{RINGS, RingProfile};
use crate::he::ckks::small::SmallCiphertext;
use crate::he::ckks::{Half, Mask, Role, ServerKeys, Slots};
use crate::plan::functions::RingFunction;
use crate::plan::gather::{Bootstrap, GatherPlan, Mirrored};
use crate::plan::schedule::{Pair, ProductStep, Read, RingPlan, Schedule, Source, Stage};

use super::{EngineError, Watch, encode};

/// What the client sends for one batch: by operand, the ciphertexts of the part that the client encrypts.
#[derive(Clone)]
pub struct RingBatch {
    pub size: usize,
    pub fresh: Vec<Vec<SmallCiphertext>>,
}

impl RingBatch {
    pub fn bytes(&self) -> usize {
        self.fresh.iter().flatten().map(SmallCiphertext::bytes).sum()
    }
}

/// One output ciphertext of a bootstrap: which tables it holds, each on the lanes of its site.
struct Output {
    parts: Vec<(usize, usize, Mask)>,
}

/// Trains on ciphertexts.
pub struct RingServer<'a> {
    keys: Arc<ServerKeys>,
    schedule: &'a Schedule,
    plan: &'a GatherPlan,
    /// Public initial weights, by master.
    initial: Vec<Vec<f32>>,
    /// By master: its pieces.
    masters: Vec<Vec<SmallCiphertext>>,
    /// By site and table.
    functions: &'a [Vec<RingFunction>],
    /// By stage and bootstrap.
    outputs: Vec<Vec<Vec<Output>>>,
    /// By operand: what the server adds in the clear.
    public: Vec<Vec<i64>>,
}

/// Ciphertexts of one step.
pub struct RingState {
    pub operands: Vec<Vec<SmallCiphertext>>,
    pub products: Vec<Vec<SmallCiphertext>>,
    /// By site and table: the rings of the site.
    looked_up: Vec<Vec<Vec<SmallCiphertext>>>,
    /// What later bootstraps multiply with: by site and table, and by its bootstraps in their order.
    saved: HashMap<(usize, usize), Vec<Slots>>,
}

type Done<T> = Result<T, EngineError>;

impl<'a> RingServer<'a> {
    /// A server at the first step: masters are zero, the working weights are the public initial ones.
    pub fn new(keys: Arc<ServerKeys>, schedule: &'a Schedule, initial: Vec<Vec<f32>>) -> Done<Self> {
        let Some(RingPlan { functions, gather: plan }) = &schedule.ring else {
            let name = schedule.parameters.name();
            return Err(EngineError::Failed(format!(
                "the schedule has parameters `{name}` of another scheme"
            )));
        };
        let masters = schedule.masters.iter().map(|master| vec![keys.zero(); master.layout.pieces]).collect();
        let outputs = plan
            .stages
            .iter()
            .map(|stage| stage.bootstraps.iter().map(|own| outputs(schedule, plan, functions, own)).collect())
            .collect::<Done<_>>()?;
        let public = schedule
            .operands
            .iter()
            .map(|operand| {
                (0..operand.form.elements())
                    .map(|element| encode::public_part(schedule, operand, &initial, element))
                    .collect()
            })
            .collect();
        Ok(Self { keys, schedule, plan, initial, masters, functions, outputs, public })
    }

    pub fn initial(&self) -> &[Vec<f32>] {
        &self.initial
    }

    /// The masters: what the weights have changed since the start, encrypted.
    pub fn masters(&self) -> &[Vec<SmallCiphertext>] {
        &self.masters
    }

    /// One step of gradient descent.
    pub fn step(&mut self, batch: &RingBatch, watch: &dyn Watch) -> Done<RingState> {
        let state = self.run(batch, watch)?;
        for (index, master) in self.schedule.masters.iter().enumerate() {
            for &(source, factor) in &master.gradient {
                let gradient = match source {
                    Source::Operand(i) => &state.operands[i],
                    Source::Product(i) => &state.products[i],
                    Source::Master(_) => continue,
                };
                for (own, gradient) in self.masters[index].iter_mut().zip(gradient) {
                    match factor {
                        1 => own.sub_assign(gradient)?,
                        factor => own.add_assign(&scaled(gradient, -factor))?,
                    }
                }
            }
        }
        Ok(state)
    }

    /// All stages of a step, without changing the masters.
    pub fn run(&self, batch: &RingBatch, watch: &dyn Watch) -> Done<RingState> {
        let schedule = self.schedule;
        if batch.size != schedule.batch {
            let message = format!("a batch of {} samples for a plan of {}", batch.size, schedule.batch);
            return Err(EngineError::Failed(message));
        }
        let empty = |_| Vec::new();
        let mut state = RingState {
            operands: schedule.operands.iter().map(empty).collect(),
            products: schedule.products.iter().map(|_| Vec::new()).collect(),
            looked_up: schedule.sites.iter().map(|_| Vec::new()).collect(),
            saved: HashMap::new(),
        };
        for (index, stage) in schedule.stages.iter().enumerate() {
            if watch.cancelled() {
                return Err(EngineError::Cancelled);
            }
            match stage {
                Stage::Tables(sites) => self.look_up(index, sites, &mut state, watch)?,
                Stage::Operands(operands) => {
                    for &operand in operands {
                        state.operands[operand] = self.operand(operand, &state, batch)?;
                    }
                }
                Stage::Products(products) => {
                    for &product in products {
                        state.products[product] = self.product(&schedule.products[product], &state)?;
                    }
                }
            }
        }
        Ok(state)
    }

    fn source<'s>(&'s self, source: Source, state: &'s RingState) -> &'s [SmallCiphertext] {
        match source {
            Source::Operand(i) => &state.operands[i],
            Source::Product(i) => &state.products[i],
            Source::Master(i) => &self.masters[i],
        }
    }

    /// Adds up what a read takes from one layout, as ciphertexts, polynomial by polynomial.
    pub fn gathered(&self, read: &Read, state: &RingState) -> Done<Vec<SmallCiphertext>> {
        let sources: Vec<_> =
            read.sources.iter().map(|&(source, factor)| (self.source(source, state), factor)).collect();
        let count = sources.iter().map(|(ciphertexts, _)| ciphertexts.len()).max().unwrap_or(0);
        (0..count)
            .map(|polynomial| {
                let mut sum: Option<SmallCiphertext> = None;
                for (ciphertexts, factor) in &sources {
                    // What the batch shares is there once, as one group.
                    let own = if ciphertexts.is_empty() {
                        None
                    } else {
                        ciphertexts.get(polynomial % ciphertexts.len())
                    };
                    let own = own.ok_or_else(|| EngineError::Failed("a batch lacks a ciphertext".into()))?;
                    add(&mut sum, scaled(own, *factor))?;
                }
                sum.ok_or_else(|| EngineError::Failed("a look-up reads nothing".into()))
            })
            .collect()
    }

    /// What a site looks up, in its rings.
    fn inputs(&self, site: usize, state: &RingState) -> Done<Vec<SmallCiphertext>> {
        let schedule = self.schedule;
        let step = &schedule.sites[site];
        let lanes = &self.plan.sites[site];
        // What is only routed to a bootstrap is so at half the cost.
        let narrow = lanes.reads.iter().any(|read| read.switches > 0);
        let mut rings: Vec<Option<SmallCiphertext>> = vec![None; lanes.rings];
        for (read, program) in step.reads.iter().zip(&lanes.reads) {
            let mut sources = self.gathered(read, state)?;
            if narrow {
                sources = sources.par_iter().map(SmallCiphertext::narrow).collect();
            }
            for (ring, routed) in rings.iter_mut().zip(self.routed(program, &sources)?) {
                add(ring, routed)?;
            }
        }
        let degree = schedule.degree();
        let mut rings: Vec<SmallCiphertext> =
            rings.into_iter().map(|ring| ring.unwrap_or_else(|| self.keys.zero())).collect();
        let mut constants: Vec<Vec<i64>> = vec![Vec::new(); lanes.rings];
        for (at, &lane) in lanes.lanes.iter().enumerate() {
            let constant = step.constant.get(at % step.elements);
            if constant != 0.0 {
                let ring = &mut constants[lane as usize / degree];
                ring.resize(degree, 0);
                ring[lane as usize % degree] = (constant * step.amplitude).round() as i64;
            }
        }
        for (ring, constants) in rings.iter_mut().zip(&constants) {
            if !constants.is_empty() {
                ring.add_plain(constants)?;
            }
        }
        Ok(rings)
    }

    /// All bootstraps of a stage.
    fn look_up(&self, stage: usize, sites: &[usize], state: &mut RingState, watch: &dyn Watch) -> Done<()> {
        let schedule = self.schedule;
        let degree = schedule.degree() as u32;
        let half = degree / 2;
        let mut inputs: Vec<Vec<SmallCiphertext>> = schedule.sites.iter().map(|_| Vec::new()).collect();
        for &site in sites {
            inputs[site] = self.inputs(site, state)?;
            let empty = || vec![self.keys.zero(); self.plan.sites[site].rings];
            state.looked_up[site] = schedule.sites[site].tables.iter().map(|_| empty()).collect();
        }
        let all = &self.plan.stages[stage].bootstraps;
        for (index, (bootstrap, outputs)) in all.iter().zip(&self.outputs[stage]).enumerate() {
            if watch.cancelled() {
                return Err(EngineError::Cancelled);
            }
            let shifted: Vec<Option<SmallCiphertext>> = bootstrap
                .slots
                .iter()
                .map(|slot| {
                    slot.map(|slot| {
                        let ring = &inputs[slot.site][slot.ring];
                        if slot.upper { ring.shift(2 * degree - half) } else { ring.clone() }
                    })
                })
                .collect();
            let results = self.bootstrap(all, index, &shifted, outputs, state)?;
            for (output, rings) in outputs.iter().zip(results) {
                for (slot, ring) in bootstrap.slots.iter().zip(rings) {
                    let Some(slot) = slot else { continue };
                    let Some(&(site, table, _)) = output.parts.iter().find(|(site, _, _)| *site == slot.site)
                    else {
                        continue;
                    };
                    let ring = if slot.upper { ring.shift(half) } else { ring };
                    state.looked_up[site][table][slot.ring].add_assign(&ring)?;
                }
            }
            watch.luts(bootstrap.used as u64);
        }
        Ok(())
    }

    /// One bootstrap of a stage: for each output, its eight rings.
    fn bootstrap(
        &self,
        all: &[Bootstrap],
        index: usize,
        inputs: &[Option<SmallCiphertext>],
        outputs: &[Output],
        state: &mut RingState,
    ) -> Done<Vec<Vec<SmallCiphertext>>> {
        let (large, bootstrap, schedule) = (self.keys.bootstrapper(), &all[index], self.schedule);
        // Which of a site's bootstraps this is.
        let turn = |site: usize| all[..index].iter().filter(|own| own.sites().contains(&site)).count();
        let rings: [Option<&SmallCiphertext>; RINGS] = std::array::from_fn(|slot| inputs[slot].as_ref());
        let functions = bootstrap.sites().into_iter().flat_map(|site| &self.functions[site]);
        let degree = functions.map(RingFunction::degree).max().unwrap_or(1);
        let half = if bootstrap.low { Half::Low } else { Half::Both };
        let powers = large.open(&self.keys.embed(rings)?, degree, half)?;
        let mut values = Vec::new();
        for output in outputs {
            let mut parts = Vec::new();
            for (site, table, _) in &output.parts {
                let function = self.functions[*site][*table].output.as_ref();
                let function =
                    function.ok_or_else(|| EngineError::Failed("a table has no outputs".into()))?;
                parts.push(match schedule.sites[*site].multiplier {
                    None => large.polynomial(&powers, function, Role::Output)?,
                    Some(saved) => {
                        // The saved values stand in the same slots of the bootstraps of their site, in the same order.
                        let factor = state.saved.get(&saved).and_then(|factors| factors.get(turn(*site)));
                        let factor =
                            factor.ok_or_else(|| EngineError::Failed("a factor was not saved".into()))?;
                        large
                            .slot_product(factor, &large.polynomial(&powers, function, Role::SecondFactor)?)?
                    }
                });
            }
            values.push(parts);
        }
        for site in bootstrap.sites() {
            for (table, function) in self.functions[site].iter().enumerate() {
                if let Some(factor) = &function.factor {
                    let factor = large.polynomial(&powers, factor, Role::FirstFactor)?;
                    state.saved.entry((site, table)).or_default().push(factor);
                }
            }
        }
        let requests: Vec<Vec<(&Slots, &Mask)>> = values
            .iter()
            .zip(outputs)
            .map(|(parts, output)| parts.iter().zip(output.parts.iter().map(|(_, _, mask)| mask)).collect())
            .collect();
        let closed = large.close(&requests)?;
        closed.iter().map(|ciphertext| Ok(self.keys.extract(ciphertext)?)).collect()
    }

    /// Runs a route.
    fn routed(&self, route: &Mirrored, sources: &[SmallCiphertext]) -> Done<Vec<SmallCiphertext>> {
        let small = self.keys.small();
        if !route.mirrored {
            return Ok(small.execute(&route.program, sources)?);
        }
        let turned: Vec<SmallCiphertext> =
            sources.par_iter().map(|source| small.reverse(source)).collect::<Result<_, _>>()?;
        Ok(small.execute(&route.program, &turned)?)
    }

    /// The polynomials of an operand: what was looked up, what the client sent, and what is public.
    fn operand(&self, index: usize, state: &RingState, batch: &RingBatch) -> Done<Vec<SmallCiphertext>> {
        let schedule = self.schedule;
        let operand = &schedule.operands[index];
        let samples = operand.rows(batch.size);
        let mut sums: Vec<Option<SmallCiphertext>> = vec![None; operand.layout.polynomials(samples)];
        for term in &self.plan.operands[index] {
            let sources = &state.looked_up[term.site][term.table];
            for (sum, routed) in sums.iter_mut().zip(self.routed(&term.route, sources)?) {
                add(sum, scaled(&routed, term.multiple))?;
            }
        }
        let public = encode::public_polynomials(schedule, operand, &self.public[index], samples);
        let mut out = Vec::with_capacity(sums.len());
        for (polynomial, mut sum) in sums.into_iter().enumerate() {
            if operand.fresh {
                let fresh = batch.fresh[index].get(polynomial).cloned();
                add(
                    &mut sum,
                    fresh.ok_or_else(|| EngineError::Failed("a batch lacks a ciphertext".into()))?,
                )?;
            }
            let mut sum = sum.unwrap_or_else(|| self.keys.zero());
            if let Some(public) = public.get(polynomial) {
                sum.add_plain(public)?;
            }
            out.push(sum);
        }
        Ok(out)
    }

    fn product(&self, step: &ProductStep, state: &RingState) -> Done<Vec<SmallCiphertext>> {
        let sides = step.sides.map(|side| self.source(side, state));
        let layouts = step.sides.map(|side| self.schedule.layout(side));
        let missing = || EngineError::Failed("a product has no operands".into());
        let small = self.keys.small();
        let sum = |pairs: &Vec<Pair>| {
            if pairs.is_empty() {
                return Ok(self.keys.zero());
            }
            // The right one is shifted: it is the shared one where there is one.
            let turned = pairs
                .iter()
                .map(|pair| {
                    let own = sides[1].get(pair.right).ok_or_else(missing)?;
                    Ok(if pair.shift == 0 { Cow::Borrowed(own) } else { Cow::Owned(own.shift(pair.shift)) })
                })
                .collect::<Done<Vec<_>>>()?;
            let pairs = pairs
                .iter()
                .zip(&turned)
                .map(|(pair, right)| Ok((sides[0].get(pair.left).ok_or_else(missing)?, &**right)))
                .collect::<Done<Vec<_>>>()?;
            Ok(small.product_sum(&pairs)?)
        };
        step.pairs(layouts, self.schedule.batch).par_iter().map(sum).collect()
    }
}

fn scaled(ciphertext: &SmallCiphertext, factor: i64) -> SmallCiphertext {
    let mut out = ciphertext.clone();
    if factor != 1 {
        out.mul_integer(factor);
    }
    out
}

fn add(sum: &mut Option<SmallCiphertext>, own: SmallCiphertext) -> Done<()> {
    match sum {
        Some(sum) => sum.add_assign(&own)?,
        None => *sum = Some(own),
    }
    Ok(())
}

/// A fixed half of all numbers, without a pattern (the finaliser of splitmix64).
fn scattered(x: usize) -> bool {
    let mut x = (x as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) & 1 == 1
}

/// Output ciphertexts of a bootstrap: the k-th tables of all its sites share one, each on the lanes of its site.
fn outputs(
    schedule: &Schedule,
    plan: &GatherPlan,
    functions: &[Vec<RingFunction>],
    bootstrap: &Bootstrap,
) -> Done<Vec<Output>> {
    let sites = bootstrap.sites();
    let degree = schedule.degree();
    let factor_degree = schedule.parameters.ckks().map_or(0, RingProfile::factor_degree);
    // Tables that only multiply others have no outputs.
    let own: Vec<Vec<usize>> = sites
        .iter()
        .map(|&site| (0..functions[site].len()).filter(|&k| functions[site][k].output.is_some()).collect())
        .collect();
    let count = own.iter().map(Vec::len).max().unwrap_or(0);
    let part = |site: usize, table: usize| {
        // A mask that is folded into a matrix: the rounding errors of few ones add up. Where nobody reads, anything may pass,
        // so that they are noise.
        let folded = functions[site][table].output.as_ref().is_some_and(|f| f.degree() > factor_degree);
        let passes = |lane: usize| folded && bootstrap.slots[lane % RINGS].is_none() && scattered(lane);
        let mut weights: Vec<f64> =
            (0..degree * RINGS).map(|lane| f64::from(u8::from(passes(lane)))).collect();
        for lane in plan.bootstrap_lanes(degree, bootstrap, site) {
            weights[lane as usize] = 1.0;
        }
        Ok((site, table, Mask::new(weights)?))
    };
    (0..count)
        .map(|k| {
            let parts = sites.iter().zip(&own).filter_map(|(&site, own)| Some((site, *own.get(k)?)));
            Ok(Output { parts: parts.map(|(site, table)| part(site, table)).collect::<Done<_>>()? })
        })
        .collect()
}
