//! Look-ups: from sums of products to rings of looked-up values, by bootstraps.

use std::time::Instant;

use rayon::prelude::*;

use crate::he::ckks::params::{BOOTSTRAP_BYTES, RINGS};
use crate::he::ckks::small::SmallCiphertext;
use crate::he::ckks::{Half, Mask, Role, Slots};
use crate::he::ring::buffer::keep_at_least;
use crate::interp::{EngineError, Watch};
use crate::plan::estimate::StageSeconds;
use crate::plan::functions::RingFunction;
use crate::plan::gather::Lanes;
use crate::plan::stages::groups;

use super::{Done, RingServer, RingState, add};

impl RingServer<'_> {
    /// What a site looks up, in its rings.
    fn inputs(&self, site: usize, state: &RingState) -> Done<Vec<SmallCiphertext>> {
        let schedule = self.schedule;
        let step = &schedule.sites[site];
        let lanes = &self.plan.sites[site];
        // What is only routed to a bootstrap is so at half the cost.
        let narrow = lanes.reads.iter().any(|read| read.switches() > 0);
        let Lanes { rings, at } = &lanes.lanes;
        let mut sums: Vec<Option<SmallCiphertext>> = vec![None; *rings];
        for (read, program) in step.reads.iter().zip(&lanes.reads) {
            let mut sources = self.gathered(read, state)?;
            if narrow {
                sources = sources.par_iter().map(SmallCiphertext::narrow).collect();
            }
            for (sum, routed) in sums.iter_mut().zip(self.routed(program, &sources)?) {
                if let Some(routed) = routed {
                    add(sum, routed)?;
                }
            }
        }
        let degree = schedule.degree();
        let mut constants: Vec<Vec<i64>> = vec![Vec::new(); *rings];
        let mut rings: Vec<SmallCiphertext> =
            sums.into_iter().map(|ring| ring.unwrap_or_else(|| self.keys.zero())).collect();
        for (at, &lane) in at.iter().enumerate() {
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

    /// All bootstraps of a stage: a few at a time, each of which one thread can make by itself. What is left over at the end
    /// of a group is shared out among the threads.
    pub(super) fn look_up(
        &self,
        stage: usize,
        sites: &[usize],
        state: &mut RingState,
        watch: &dyn Watch,
    ) -> Done<()> {
        let schedule = self.schedule;
        let mut inputs: Vec<Vec<SmallCiphertext>> = schedule.sites.iter().map(|_| Vec::new()).collect();
        let began = Instant::now();
        for &site in sites {
            inputs[site] = self.inputs(site, state)?;
            let empty = || vec![self.keys.zero(); self.plan.sites[site].lanes.rings];
            state.looked_up[site] = schedule.sites[site].tables.iter().map(|_| empty()).collect();
        }
        state.seconds.routes_in += began.elapsed().as_secs_f64();
        let all = &self.plan.stages[stage].bootstraps;
        let at_once = self.at_once.clamp(1, rayon::current_num_threads());
        keep_at_least(at_once.min(all.len()) * BOOTSTRAP_BYTES);
        for group in groups(all.len(), at_once) {
            if watch.cancelled() {
                return Err(EngineError::Cancelled);
            }
            let began = Instant::now();
            let made: Vec<Made> = group
                .clone()
                .into_par_iter()
                .with_max_len(1)
                .map(|index| self.bootstrap(stage, index, &inputs, state))
                .collect::<Done<_>>()?;
            let together = began.elapsed().as_secs_f64();
            let each: f64 = made.iter().map(|made| made.seconds.total()).sum();
            for (index, made) in group.zip(made) {
                // Each has its share of the time that passed.
                state.seconds += made.seconds.scaled(together / each.max(f64::MIN_POSITIVE));
                self.apply(stage, index, made, state)?;
                watch.luts(all[index].used as u64);
            }
        }
        Ok(())
    }

    /// Adds what a bootstrap has made to what its stage has looked up.
    fn apply(&self, stage: usize, index: usize, made: Made, state: &mut RingState) -> Done<()> {
        let half = self.schedule.degree() as u32 / 2;
        let bootstrap = &self.plan.stages[stage].bootstraps[index];
        for (output, rings) in self.outputs[stage][index].iter().zip(made.outputs) {
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
        for (key, factor) in made.factors {
            state.saved.entry(key).or_default().push(factor);
        }
        Ok(())
    }

    /// One bootstrap of a stage, on what its sites look up.
    fn bootstrap(
        &self,
        stage: usize,
        index: usize,
        inputs: &[Vec<SmallCiphertext>],
        state: &RingState,
    ) -> Done<Made> {
        let (large, schedule) = (self.keys.bootstrapper(), self.schedule);
        let all = &self.plan.stages[stage].bootstraps;
        let (bootstrap, outputs) = (&all[index], &self.outputs[stage][index]);
        let degree = schedule.degree() as u32;
        let inputs = bootstrap.slots.map(|slot| {
            slot.map(|slot| {
                let ring = &inputs[slot.site][slot.ring];
                if slot.upper { ring.shift(2 * degree - degree / 2) } else { ring.clone() }
            })
        });
        // Which of a site's bootstraps this is.
        let turn = |site: usize| all[..index].iter().filter(|own| own.sites().contains(&site)).count();
        let rings: [Option<&SmallCiphertext>; RINGS] = std::array::from_fn(|slot| inputs[slot].as_ref());
        let functions = bootstrap.sites().into_iter().flat_map(|site| &self.functions[site]);
        let degree = functions.map(RingFunction::degree).max().unwrap_or(1);
        let half = if bootstrap.low { Half::Low } else { Half::Both };
        let mut seconds = StageSeconds::default();
        let began = Instant::now();
        let powers = large.open(&self.keys.embed(rings)?, degree, half)?;
        seconds.open = began.elapsed().as_secs_f64();
        let began = Instant::now();
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
        let mut factors = Vec::new();
        for site in bootstrap.sites() {
            for (table, function) in self.functions[site].iter().enumerate() {
                if let Some(factor) = &function.factor {
                    factors.push(((site, table), large.polynomial(&powers, factor, Role::FirstFactor)?));
                }
            }
        }
        drop(powers);
        seconds.functions = began.elapsed().as_secs_f64();
        let began = Instant::now();
        let requests: Vec<Vec<(&Slots, &Mask)>> = values
            .iter()
            .zip(outputs)
            .map(|(parts, output)| parts.iter().zip(output.parts.iter().map(|(_, _, mask)| mask)).collect())
            .collect();
        let closed = large.close(&requests)?;
        let outputs =
            closed.iter().map(|ciphertext| Ok(self.keys.extract(ciphertext)?)).collect::<Done<_>>()?;
        seconds.close = began.elapsed().as_secs_f64();
        Ok(Made { outputs, factors, seconds })
    }
}

/// What one bootstrap makes.
struct Made {
    /// For each output, its eight rings.
    outputs: Vec<Vec<SmallCiphertext>>,
    /// What later bootstraps multiply with, by site and table.
    factors: Vec<((usize, usize), Slots)>,
    seconds: StageSeconds,
}
