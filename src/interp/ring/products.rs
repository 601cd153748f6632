//! Sums of products of polynomials.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::he::HeError;
use crate::he::ckks::small::SmallCiphertext;
use crate::plan::schedule::{Pair, ProductStep, shifted};

use super::{Done, RingServer, RingState};

/// A product, each polynomial of which can be made by itself.
pub(super) struct Sums<'a> {
    server: &'a RingServer<'a>,
    sides: [&'a [SmallCiphertext]; 2],
    /// By polynomial of the result.
    sums: Vec<Vec<Pair>>,
    /// The side of which shifted polynomials are needed, each made once.
    side: usize,
    turned: HashMap<(usize, u32), SmallCiphertext>,
}

/// A side of a product has no such polynomial.
fn lacking(got: usize, index: usize) -> HeError {
    HeError::Count { operation: "product", what: "ciphertexts", got, expected: index + 1 }
}

impl<'a> Sums<'a> {
    pub(super) fn of(server: &'a RingServer<'a>, step: &ProductStep, state: &'a RingState) -> Done<Self> {
        let sides = step.sides.map(|side| server.source(side, state));
        let layouts = step.sides.map(|side| server.schedule.layout(side));
        let sums = step.pairs(layouts, server.schedule.batch);
        let (side, wanted) = shifted(&sums);
        let turn = |(at, shift): (usize, u32)| {
            let own = sides[side].get(at).ok_or_else(|| lacking(sides[side].len(), at))?;
            Ok(((at, shift), own.shift(shift)))
        };
        let turned = wanted.into_par_iter().map(turn).collect::<Result<_, HeError>>()?;
        Ok(Self { server, sides, sums, side, turned })
    }

    fn factor(&self, pair: &Pair, side: usize) -> Result<&SmallCiphertext, HeError> {
        let at = pair.side(side);
        let found = match pair.shift {
            shift if shift != 0 && side == self.side => self.turned.get(&(at, shift)),
            _ => self.sides[side].get(at),
        };
        found.ok_or_else(|| lacking(self.sides[side].len(), at))
    }

    /// A polynomial of the result.
    pub(super) fn polynomial(&self, at: usize) -> Result<SmallCiphertext, HeError> {
        let pairs = self.sums.get(at).ok_or_else(|| lacking(self.sums.len(), at))?;
        if pairs.is_empty() {
            return Ok(self.server.keys.zero());
        }
        let factors = |pair| Ok((self.factor(pair, 0)?, self.factor(pair, 1)?));
        let pairs = pairs.iter().map(factors).collect::<Result<Vec<_>, HeError>>()?;
        self.server.keys.small().product_sum(&pairs)
    }
}

impl RingServer<'_> {
    pub(super) fn product(&self, step: &ProductStep, state: &RingState) -> Done<Vec<SmallCiphertext>> {
        let sums = Sums::of(self, step, state)?;
        Ok((0..sums.sums.len()).into_par_iter().map(|at| sums.polynomial(at)).collect::<Result<_, _>>()?)
    }
}
