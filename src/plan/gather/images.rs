//! Operands that are another one, turned: X^shift times its polynomials, taken through X → X^(−1) or not, times an integer.

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
}

impl Image {
    /// Key switches.
    pub fn switches(&self, schedule: &Schedule) -> usize {
        let own = &schedule.operands[self.of];
        if self.mirrored { schedule.polynomials(&own.layout, own.per_sample) } else { 0 }
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
        let mut found = originals.filter_map(|&of| image(schedule, of, &operands[index]));
        out[index] = found.next();
    }
    out
}

fn same_form(a: &Operand, b: &Operand) -> bool {
    let (a, b) = (&a.form, &b.form);
    a.constant == b.constant
        && a.terms.len() == b.terms.len()
        && a.terms
            .iter()
            .zip(&b.terms)
            .all(|(a, b)| a.atom == b.atom && a.coefficient == b.coefficient && a.map == b.map)
}

fn image(schedule: &Schedule, of: usize, to: &Operand) -> Option<Image> {
    let from = &schedule.operands[of];
    let multiple = (to.amplitude / from.amplitude).round();
    let (a, b) = (&from.layout, &to.layout);
    let is_alike = from.per_sample == to.per_sample
        && (to.amplitude / from.amplitude - multiple).abs() <= 1e-9 * multiple
        && (a.pieces, a.samples, a.elements()) == (b.pieces, b.samples, b.elements())
        && same_form(from, to);
    if !is_alike {
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
        fits.then_some(Image { of, mirrored, shift, multiple: multiple as i64 })
    })
}
