//! Operands that are another one, turned: X^shift times its polynomials, taken through X → X^(−1) or not, times an integer.

use super::super::form::Term;
use super::super::schedule::{Operand, Schedule};
use super::{GatherPlan, OperandRoute};

/// How an operand is made from another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    pub of: usize,
    /// Whether it is taken through X → X^(−1), one key switch for each polynomial, before it is shifted.
    pub mirrored: bool,
    /// An exponent modulo 2N.
    pub shift: u32,
    pub multiple: i64,
    /// Whether the operand could have its values from an output of the table at a scale of its own, with less noise.
    pub shares_output: bool,
}

/// The largest error of an operand, as a fraction of its root mean square, with which another one is made from it that has an
/// output of the table of its own.
const LARGEST_ERROR: f64 = 1.0 / 16.0;
/// Key switches that this must save.
const LEAST_SAVING: usize = 500;
/// Key switches from which on more noise is put up with.
const LEAST_SHARED: usize = 1000;

impl Image {
    /// Key switches.
    pub fn switches(&self, schedule: &Schedule) -> usize {
        let own = &schedule.operands[self.of];
        if self.mirrored { schedule.polynomials(&own.layout, own.per_sample) } else { 0 }
    }

    /// Whether it is better than routes with so many key switches.
    pub(super) fn pays(&self, schedule: &Schedule, switches: usize) -> bool {
        let turned = self.switches(schedule);
        if self.shares_output {
            return turned + LEAST_SAVING <= switches;
        }
        turned < switches || turned == 0
    }
}

impl GatherPlan {
    /// Operands on long ways of their own that could be made from others, which have their values from other outputs of the same
    /// tables: how, and the most key switches saved first.
    pub fn shareable(&self, schedule: &Schedule) -> Vec<(usize, Image)> {
        let cost =
            |index: usize| self.operands[index].terms.iter().map(|term| term.routes.cost()).sum::<f64>();
        let alone = |index: &usize| {
            let own = &self.operands[*index];
            own.image.is_none() && !own.terms.is_empty() && !self.is_direct(schedule, *index)
        };
        let is_source = |index: usize| self.operands.iter().flat_map(|own| own.image).any(|i| i.of == index);
        let mut found: Vec<(f64, usize, Image)> = Vec::new();
        for index in (0..schedule.operands.len()).filter(alone).filter(|&index| !is_source(index)) {
            let originals = (0..schedule.operands.len()).filter(alone).filter(|&of| of != index);
            let images = originals.filter_map(|of| turned(schedule, of, &schedule.operands[index]));
            let least = images.min_by_key(|image| (image.switches(schedule), image.multiple));
            let saved = least.map_or(0.0, |image| cost(index) - image.switches(schedule) as f64);
            if let Some(image) = least.filter(|_| saved >= LEAST_SHARED as f64) {
                found.push((saved, index, image));
            }
        }
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        found.into_iter().map(|(_, index, image)| (index, image)).collect()
    }

    /// The same with an operand as an image.
    pub fn with_image(&self, index: usize, image: Image) -> Self {
        let mut plan = self.clone();
        plan.operands[index] = OperandRoute { image: Some(image), terms: Vec::new() };
        plan
    }
}

/// By operand: how it could be made from one that is made by itself.
pub(super) fn images(schedule: &Schedule) -> Vec<Option<Image>> {
    let operands = &schedule.operands;
    let mut order: Vec<usize> = (0..operands.len()).collect();
    // The others are integer multiples of the smallest.
    order.sort_by(|&a, &b| operands[a].amplitude.total_cmp(&operands[b].amplitude));
    let mut out: Vec<Option<Image>> = vec![None; operands.len()];
    for (done, &index) in order.iter().enumerate() {
        let originals = order[..done].iter().filter(|&&of| out[of].is_none());
        let found = originals.filter_map(|&of| image(schedule, of, &operands[index]));
        out[index] = found.min_by_key(|image| image.shares_output);
    }
    out
}

/// Whether two forms are the same: the values of `b` may come from other outputs of the same tables. None if they are not,
/// otherwise whether any does.
fn same_form(schedule: &Schedule, a: &Operand, b: &Operand) -> Option<bool> {
    let (a, b) = (&a.form, &b.form);
    if a.constant != b.constant || a.terms.len() != b.terms.len() {
        return None;
    }
    let mut shares_output = false;
    for (a, b) in a.terms.iter().zip(&b.terms) {
        if a.coefficient != b.coefficient || a.map != b.map {
            return None;
        }
        if a.atom != b.atom {
            let table = |term: &Term| schedule.atoms[term.atom.0 as usize].kind.table();
            let ((site, left), (other, right)) = (table(a)?, table(b)?);
            let tables = &schedule.sites[site].tables;
            let is_same = site == other
                && tables[left].expr == tables[right].expr
                && tables[left].centre == tables[right].centre;
            if !is_same {
                return None;
            }
            shares_output = true;
        }
    }
    Some(shares_output)
}

/// How an operand is made from another one, if the noise is certain to be small.
fn image(schedule: &Schedule, of: usize, to: &Operand) -> Option<Image> {
    let from = &schedule.operands[of];
    let is_small = from.noise <= LARGEST_ERROR * from.amplitude * from.rms;
    turned(schedule, of, to).filter(|image| is_small || !image.shares_output)
}

/// How an operand is made from another one, whatever its noise is.
fn turned(schedule: &Schedule, of: usize, to: &Operand) -> Option<Image> {
    let from = &schedule.operands[of];
    let multiple = (to.amplitude / from.amplitude).round();
    let (a, b) = (&from.layout, &to.layout);
    let is_alike = from.per_sample == to.per_sample
        && (to.amplitude / from.amplitude - multiple).abs() <= 1e-9 * multiple
        && (a.pieces, a.samples, a.elements()) == (b.pieces, b.samples, b.elements());
    if !is_alike {
        return None;
    }
    let shares_output = same_form(schedule, from, to)?;
    let modulus = 2 * schedule.degree() as u32;
    let pairs = || a.places.iter().zip(&b.places);
    let (first, other) = pairs().next()?;
    [true, false].into_iter().find_map(|mirrored| {
        let turned = |x: u32| if mirrored { (modulus - x % modulus) % modulus } else { x % modulus };
        let moved = |x: u32, by: u32| (turned(x) + by) % modulus;
        let shift = (other.exponent % modulus + modulus - turned(first.exponent)) % modulus;
        let strides = a.samples == 1 || turned(a.sample_stride) == b.sample_stride % modulus;
        let fits = strides
            && pairs().all(|(a, b)| a.piece == b.piece && moved(a.exponent, shift) == b.exponent % modulus);
        fits.then_some(Image { of, mirrored, shift, multiple: multiple as i64, shares_output })
    })
}
