//! Outputs of tables at the scale of their uses.
//!
//! A table gives the least amplitude that a use asks for, and the others are integer multiples of it, noise included. A use
//! far above the least one gets an output of its own where that saves notable noise, and so does one that is no multiple, as
//! after a mean over nine values, while there are outputs left: with the ring engine it costs another
//! polynomial and another way out of the slots, about a tenth of a bootstrap. Where it also costs a long
//! way to the same places, it is given up again if the products become little noisier.

use super::super::form::AtomId;
use super::super::functions::{RingFunction, output_noise_at};
use super::super::gather::GatherPlan;
use super::super::lower::{Atom, AtomKind};
use super::super::schedule::{Operand, Schedule};
use super::Builder;

/// Noise of an operand, as a share of its values, from which on it is worth an output of its own.
const NOTABLE_NOISE: f64 = 1.0 / 256.0;
/// With TFHE a second output costs precision of the input, and there are two at most.
const TFHE_RATIO: f64 = 64.0;
const TFHE_OUTPUTS: usize = 2;

/// How much less noise a use must have of an output of its own.
const GAIN: f64 = 2.0;
/// How far the amplitudes of two outputs of a table lie apart at least.
const RATIO: f64 = 4.0;

/// How much noisier any product may become for a shorter way, and which noise, as a share of its values, is no matter.
const GROWTH: f64 = 2.0;
const HARMLESS: f64 = 1.0 / 32.0;

/// Whether a use can take so many times what a table gives.
pub(super) fn is_multiple(ratio: f64) -> bool {
    (ratio - ratio.round()).abs() <= 1e-6 * ratio
}

impl Builder<'_> {
    /// Makes operands from others that have the same values, with more noise, where that saves many key switches.
    pub(super) fn share_outputs(
        &self,
        schedule: &mut Schedule,
        functions: &[Vec<RingFunction>],
        gather: &mut GatherPlan,
    ) {
        let noises = |schedule: &mut Schedule, gather: &GatherPlan| -> Vec<f64> {
            self.ring_noise(schedule, functions, gather);
            self.predict_noise(schedule);
            schedule.products.iter().map(|product| product.noise).collect()
        };
        let before = noises(schedule, gather);
        loop {
            let found = gather.shareable(schedule).into_iter().find_map(|(index, image)| {
                let shared = gather.with_image(index, image);
                let after = noises(schedule, &shared);
                let products = schedule.products.iter().zip(after.iter().zip(&before));
                let harmless = products.into_iter().all(|(product, (&after, &before))| {
                    after <= (GROWTH * before).max(HARMLESS * product.amplitude * product.rms)
                });
                harmless.then_some(shared)
            });
            match found {
                Some(shared) => *gather = shared,
                None => return,
            }
        }
    }

    /// Gives uses of tables outputs at their own scale; on the ring engine by the noise of their `functions`. Whether there
    /// are any.
    pub(super) fn own_scales(
        &mut self,
        schedule: &mut Schedule,
        functions: Option<&[Vec<RingFunction>]>,
    ) -> bool {
        let atoms = schedule.atoms.len();
        for atom in 0..atoms {
            let Some((site, table)) = schedule.atoms[atom].kind.table() else { continue };
            let Some(outputs) = schedule.sites.get(site).map(|site| site.tables.len()) else { continue };
            let function = functions.and_then(|functions| functions.get(site)?.get(table));
            let room = self.parameters.is_ckks() || outputs < TFHE_OUTPUTS;
            if function.is_some() || (functions.is_none() && room) {
                self.own_scale(schedule, AtomId(atom as u32), (site, table), function);
            }
        }
        schedule.atoms.len() > atoms
    }

    fn own_scale(
        &mut self,
        schedule: &mut Schedule,
        atom: AtomId,
        table: (usize, usize),
        function: Option<&RingFunction>,
    ) {
        let amplitude = |operand: &Operand| {
            let own = operand.form.terms.iter().filter(|term| term.atom == atom);
            own.map(|term| self.given(table, (operand.amplitude * term.coefficient).abs()))
                .min_by(f64::total_cmp)
        };
        let Some(least) = schedule.operands.iter().filter_map(amplitude).min_by(f64::total_cmp) else {
            return;
        };
        // The noise that a use has of the shared output, and of its own; before the functions are fitted it is not known.
        let noises = |own: f64| match (function, self.parameters.ckks()) {
            (None, Some(_)) => (0.0, 0.0),
            (Some(function), Some(profile)) => {
                (own / least * function.output_noise, output_noise_at(profile, function, own / least))
            }
            _ => {
                let noise = self.parameters.table_variance_units().sqrt();
                (own / least * noise, noise)
            }
        };
        let ratio = if function.is_some() { RATIO } else { TFHE_RATIO };
        let moves = |operand: &Operand| {
            amplitude(operand).is_some_and(|own| {
                let (shared, alone) = noises(own);
                let notable = shared > NOTABLE_NOISE * own * operand.rms;
                let gains = own >= ratio * least && notable && shared >= GAIN * alone;
                gains || !is_multiple(own / least)
            })
        };
        let moved: Vec<usize> =
            (0..schedule.operands.len()).filter(|&index| moves(&schedule.operands[index])).collect();
        if moved.is_empty() {
            return;
        }
        let (site, shared) = table;
        let tables = &mut schedule.sites[site].tables;
        tables.push(tables[shared].clone());
        let function = tables.len() - 1;
        let kind = match schedule.atoms[atom.0 as usize].kind {
            AtomKind::Weight { site, param, .. } => AtomKind::Weight { site, function, param },
            _ => AtomKind::Lut { site, function },
        };
        let own = Atom { kind, ..schedule.atoms[atom.0 as usize].clone() };
        self.lowered.atoms.push(own.clone());
        schedule.atoms.push(own);
        let new = AtomId(schedule.atoms.len() as u32 - 1);
        if let Some(&largest) = self.largest.get(&table) {
            self.largest.insert((site, function), largest);
        }
        for index in moved {
            let terms = schedule.operands[index].form.terms.iter_mut();
            terms.filter(|term| term.atom == atom).for_each(|term| term.atom = new);
        }
    }
}
