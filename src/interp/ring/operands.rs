//! Operands: what was looked up and what the client sent, brought to the places where products want it.

use std::borrow::Cow;

use rayon::prelude::*;

use crate::he::HeError;
use crate::he::ckks::small::{SmallCiphertext, Width};
use crate::interp::{EngineError, encode};
use crate::plan::gather::{Image, Part, RingSource, Routes, TermRoute};

use super::{Done, RingBatch, RingServer, RingState, add, missing, scaled};

impl RingServer<'_> {
    /// Runs routes: the targets, none where one is zero.
    pub(super) fn routed(
        &self,
        routes: &Routes,
        sources: &[SmallCiphertext],
    ) -> Done<Vec<Option<SmallCiphertext>>> {
        let width = sources.first().map_or(Width::Full, SmallCiphertext::width);
        let lacking = |at: usize| HeError::Count {
            operation: "route",
            what: "sources",
            got: sources.len(),
            expected: at + 1,
        };
        self.route(routes, width, &|at| sources.get(at).map(Cow::Borrowed).ok_or_else(|| lacking(at)))
    }

    /// The same from sources of one width that are made when they are needed, each once.
    pub(super) fn route<'s>(
        &self,
        routes: &Routes,
        width: Width,
        source: &(dyn Fn(usize) -> Result<Cow<'s, SmallCiphertext>, HeError> + Sync),
    ) -> Done<Vec<Option<SmallCiphertext>>> {
        let mut targets: Vec<Option<SmallCiphertext>> = Vec::new();
        targets.resize_with(routes.targets, || None);
        let small = self.keys.small();
        for Part { mirrored, program, copies } in &routes.parts {
            for ends in copies {
                let own = |index: usize| {
                    let own = source(ends.sources[index] as usize)?;
                    Ok(if *mirrored { Cow::Owned(small.reverse(&own)?) } else { own })
                };
                let made = small.execute_with(program, width, &own)?;
                for (&target, made) in ends.targets.iter().zip(made) {
                    targets[target as usize] = Some(made);
                }
            }
        }
        Ok(targets)
    }

    /// The rings of a route's sources, added up.
    fn combined(
        &self,
        term: &TermRoute,
        state: &RingState,
        wires: &[Vec<SmallCiphertext>],
    ) -> Done<Vec<SmallCiphertext>> {
        let mut sums: Vec<Option<SmallCiphertext>> = Vec::new();
        for &(origin, multiple) in &term.sources {
            let rings = match origin {
                RingSource::Table { site, table } => state.looked_up[site].get(table).ok_or_else(missing)?,
                RingSource::Wire(index) => wires.get(index).ok_or_else(missing)?,
            };
            sums.resize_with(rings.len(), || None);
            for (sum, ring) in sums.iter_mut().zip(rings) {
                add(sum, scaled(ring, multiple))?;
            }
        }
        sums.into_iter().map(|sum| sum.ok_or_else(missing)).collect()
    }

    /// The operands of a stage, those that others are turned from first.
    pub(super) fn operands(&self, own: &[usize], state: &mut RingState, batch: &RingBatch) -> Done<()> {
        let image = |&&operand: &&usize| self.plan.operands[operand].image.is_some();
        let wires = self.wires(own, batch)?;
        for &operand in own.iter().filter(|operand| !image(operand)) {
            state.operands[operand] = self.operand(operand, state, batch, &wires)?;
        }
        for &operand in own.iter().filter(image) {
            if let Some(image) = &self.plan.operands[operand].image {
                state.operands[operand] = self.turned(image, &state.operands[image.of])?;
            }
        }
        Ok(())
    }

    /// What the client sent of the wires that operands read; the others are left empty.
    fn wires(&self, operands: &[usize], batch: &RingBatch) -> Done<Vec<Vec<SmallCiphertext>>> {
        let read = |index: usize| {
            let terms = operands.iter().flat_map(|&operand| &self.plan.operands[operand].terms);
            terms.flat_map(|term| &term.sources).any(|(origin, _)| *origin == RingSource::Wire(index))
        };
        (0..self.plan.wires.len())
            .map(|index| {
                if !read(index) {
                    return Ok(Vec::new());
                }
                let own = batch.wires.get(index).ok_or_else(missing)?;
                Ok(own.par_iter().map(|ring| ring.expand()).collect())
            })
            .collect()
    }

    fn turned(&self, image: &Image, from: &[SmallCiphertext]) -> Done<Vec<SmallCiphertext>> {
        if from.is_empty() {
            return Err(EngineError::Failed("an operand is turned before it is made".into()));
        }
        let small = self.keys.small();
        from.par_iter()
            .map(|own| {
                let own = if image.mirrored { Cow::Owned(small.reverse(own)?) } else { Cow::Borrowed(own) };
                let mut own = if image.shift == 0 { own.into_owned() } else { own.shift(image.shift) };
                if image.multiple != 1 {
                    own.mul_integer(image.multiple);
                }
                Ok(own)
            })
            .collect()
    }

    /// The polynomials of an operand: what was looked up, what the client sent, and what is public.
    fn operand(
        &self,
        index: usize,
        state: &RingState,
        batch: &RingBatch,
        wires: &[Vec<SmallCiphertext>],
    ) -> Done<Vec<SmallCiphertext>> {
        let schedule = self.schedule;
        let operand = &schedule.operands[index];
        let samples = operand.rows(batch.size);
        let mut sums: Vec<Option<SmallCiphertext>> = Vec::new();
        sums.resize_with(operand.layout.polynomials(samples), || None);
        for term in &self.plan.operands[index].terms {
            let sources = self.combined(term, state, wires)?;
            for (sum, routed) in sums.iter_mut().zip(self.routed(&term.routes, &sources)?) {
                if let Some(routed) = routed {
                    add(sum, routed)?;
                }
            }
        }
        if self.plan.is_direct(schedule, index) {
            let fresh = batch.fresh.get(index).filter(|own| own.len() == sums.len()).ok_or_else(missing)?;
            for (sum, own) in sums.iter_mut().zip(fresh) {
                add(sum, own.expand())?;
            }
        }
        let public = encode::public_polynomials(schedule, operand, &self.public[index], samples);
        sums.into_iter()
            .enumerate()
            .map(|(polynomial, sum)| {
                let mut sum = sum.unwrap_or_else(|| self.keys.zero());
                if let Some(public) = public.get(polynomial) {
                    sum.add_plain(public)?;
                }
                Ok(sum)
            })
            .collect()
    }
}
