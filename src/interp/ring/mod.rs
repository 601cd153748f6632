//! The server's side of an encrypted run on the ring engine: products in the small ring, functions by bootstraps of the large
//! one. No secret key exists here.

mod batch;
mod look_up;
mod masks;
mod masters;
mod operands;
mod products;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::he::ckks::small::SmallCiphertext;
use crate::he::ckks::{ServerKeys, Slots};
use crate::plan::estimate::StageSeconds;
use crate::plan::functions::RingFunction;
use crate::plan::gather::GatherPlan;
use crate::plan::schedule::{Read, RingPlan, Schedule, Source, Stage};
use crate::plan::stages::{LastReads, last_reads, streamed};

use super::{EngineError, Watch, encode};
pub use batch::RingBatch;
use masks::{Output, outputs};

/// Trains on ciphertexts.
pub struct RingServer<'a> {
    keys: Arc<ServerKeys>,
    schedule: &'a Schedule,
    plan: &'a GatherPlan,
    /// Public initial weights, by master.
    initial: Vec<Vec<f32>>,
    /// Of the least learning rate.
    multiple: i64,
    /// By master: the polynomials in which it stands.
    masters: Vec<Vec<SmallCiphertext>>,
    /// By site and table.
    functions: &'a [Vec<RingFunction>],
    /// By stage and bootstrap.
    outputs: Vec<Vec<Vec<Output>>>,
    /// By operand: what the server adds in the clear.
    public: Vec<Vec<i64>>,
    /// By stage: what is not needed after it.
    ends: Vec<LastReads>,
    /// By product: whether it is only made while it changes a master.
    streamed: Vec<bool>,
    /// Bootstraps that are made at the same time, at most.
    at_once: usize,
}

/// Ciphertexts of one step.
pub struct RingState {
    pub operands: Vec<Vec<SmallCiphertext>>,
    pub products: Vec<Vec<SmallCiphertext>>,
    /// By site and table: the rings of the site.
    looked_up: Vec<Vec<Vec<SmallCiphertext>>>,
    /// What later bootstraps multiply with: by site and table, and by its bootstraps in their order.
    saved: HashMap<(usize, usize), Vec<Slots>>,
    /// By master: what the step subtracts from it at the least rate.
    changes: Vec<Vec<SmallCiphertext>>,
    pub seconds: StageSeconds,
}

impl RingState {
    /// Drops what no later stage reads.
    fn drop_after(&mut self, ends: &LastReads) {
        for source in &ends.sources {
            match *source {
                Source::Operand(i) => self.operands[i] = Vec::new(),
                Source::Product(i) => self.products[i] = Vec::new(),
                Source::Master(_) => {}
            }
        }
        ends.sites.iter().for_each(|&site| self.looked_up[site] = Vec::new());
        ends.saved.iter().for_each(|saved| drop(self.saved.remove(saved)));
    }
}

impl RingState {
    /// What the step has made: nothing of a master.
    fn made(&self, source: Source) -> &[SmallCiphertext] {
        match source {
            Source::Operand(i) => &self.operands[i],
            Source::Product(i) => &self.products[i],
            Source::Master(_) => &[],
        }
    }
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
        let zero = |master: usize| vec![keys.zero(); schedule.layout(Source::Master(master)).pieces];
        let masters = (0..schedule.masters.len()).map(zero).collect();
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
        let (ends, streamed) = (last_reads(schedule), streamed(schedule));
        Ok(Self {
            keys,
            schedule,
            plan,
            initial,
            multiple: 1,
            masters,
            functions,
            outputs,
            public,
            ends,
            streamed,
            at_once: usize::MAX,
        })
    }

    /// Makes so many bootstraps at the same time from now on, at most; without this, as many as the thread pool has threads.
    /// Each takes [`BOOTSTRAP_BYTES`](crate::he::ckks::params::BOOTSTRAP_BYTES) of memory.
    pub fn set_at_once(&mut self, most: usize) {
        self.at_once = most;
    }

    pub fn keys(&self) -> &ServerKeys {
        &self.keys
    }

    pub fn initial(&self) -> &[Vec<f32>] {
        &self.initial
    }

    /// The masters: what the weights have changed since the start, encrypted.
    pub fn masters(&self) -> &[Vec<SmallCiphertext>] {
        &self.masters
    }

    /// Bytes of the masters as sent to the client.
    pub fn weight_bytes(&self) -> usize {
        self.masters.iter().flatten().map(SmallCiphertext::wire_bytes).sum()
    }

    /// Takes this multiple of the least learning rate, which the plan is made for, from now on.
    pub fn set_rate(&mut self, multiple: u32) {
        self.multiple = i64::from(multiple);
    }

    /// One step of gradient descent. Ciphertexts are dropped after their last use.
    pub fn step(&mut self, batch: &RingBatch, watch: &dyn Watch) -> Done<StageSeconds> {
        let began = Instant::now();
        let state = self.stages(batch, watch, true)?;
        for (master, changes) in self.masters.iter_mut().zip(&state.changes) {
            for (own, change) in master.iter_mut().zip(changes) {
                match self.multiple {
                    1 => own.sub_assign(change)?,
                    multiple => own.add_assign(&scaled(change, -multiple))?,
                }
            }
        }
        Ok(state.seconds.with_rest_of(began.elapsed().as_secs_f64()))
    }

    /// All stages of a step, which no master is changed by. Everything that they make is kept.
    pub fn run(&self, batch: &RingBatch, watch: &dyn Watch) -> Done<RingState> {
        self.stages(batch, watch, false)
    }

    fn stages(&self, batch: &RingBatch, watch: &dyn Watch, drops: bool) -> Done<RingState> {
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
            changes: schedule.masters.iter().map(|_| Vec::new()).collect(),
            seconds: StageSeconds::default(),
        };
        for (index, stage) in schedule.stages.iter().enumerate() {
            if watch.cancelled() {
                return Err(EngineError::Cancelled);
            }
            match stage {
                Stage::Tables(sites) => self.look_up(index, sites, &mut state, watch)?,
                Stage::Operands(operands) => {
                    let began = Instant::now();
                    self.operands(operands, &mut state, batch)?;
                    state.seconds.routes_out += began.elapsed().as_secs_f64();
                }
                Stage::Products(products) => {
                    let began = Instant::now();
                    for &product in products.iter().filter(|&&product| !(drops && self.streamed[product])) {
                        state.products[product] = self.product(&schedule.products[product], &state)?;
                    }
                    state.seconds.products += began.elapsed().as_secs_f64();
                }
            }
            if drops {
                for &master in &self.ends[index].masters {
                    state.changes[master] = self.change(master, &mut state)?;
                }
                state.drop_after(&self.ends[index]);
            }
        }
        Ok(state)
    }

    fn source<'s>(&'s self, source: Source, state: &'s RingState) -> &'s [SmallCiphertext] {
        match source {
            Source::Master(i) => &self.masters[i],
            source => state.made(source),
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
}

fn missing() -> EngineError {
    EngineError::Failed("a ciphertext is missing that a step reads".into())
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
