//! Operands that are another one, turned: X^shift times its polynomials, taken through X → X^(−1) or not, times an integer.

use super::super::form::Term;
use super::super::schedule::{Operand, Schedule};

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

fn image(schedule: &Schedule, of: usize, to: &Operand) -> Option<Image> {
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
    if shares_output && from.noise > LARGEST_ERROR * from.amplitude * from.rms {
        return None;
    }
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
