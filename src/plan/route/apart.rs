//! Sources taken apart, and targets as sums of what they consist of.
//!
//! A value that was traced over all levels at which its source holds something else is alone in its polynomial: shifted to its
//! place it can be added to a target that has others already. The traces are a tree for each source, the lowest level first,
//! which all targets share: n values cost n − 1 switches, where merging them costs one each *beside* the traces of the upper
//! levels.
//!
//! The last level is half of that tree. Its traces are linear, so a target can add up what they would read instead of what they
//! make, once as it is and once for σ, and take the latter through σ in one switch ([`Fold`]): n/2 switches for the sources and
//! one for each target, but two additions for each value.

use super::{Builder, Coset, Wanted};
use crate::he::ckks::small::program::{Fold, Program, Shifted, Step, Value};
use std::collections::{BTreeMap, HashMap};

/// What one shifted source brings to a target, once everything else was taken from it: its coset of 2^level.
struct Piece {
    source: usize,
    level: u32,
    /// The exponent that takes the target's place into the source: minus where the piece lies there.
    turn: u32,
    /// Where its first position lies in the target.
    offset: u32,
}

/// By source and level of its pieces: how many levels must be traced, from 0 on.
type Levels = HashMap<(usize, u32), u32>;

/// What was traced for a source and the level of its pieces, up to a level: the part with this residue.
type Traces = HashMap<(usize, u32, u32, u32), Value>;

/// The programs that take sources apart: to the last level, or with that level folded. All targets are clean; each is the sum
/// of its layers.
pub(super) fn programs(
    degree: usize,
    targets: &[Vec<Vec<Wanted>>],
    dirty: &dyn Fn(usize, u32) -> bool,
) -> [Program; 2] {
    let builder = Builder::new(degree, dirty);
    let pieces: Vec<Vec<Piece>> = targets
        .iter()
        .map(|layers| {
            let mut pieces = Vec::new();
            layers.iter().for_each(|wanted| builder.pieces(&Coset::whole(wanted, true), &mut pieces));
            pieces
        })
        .collect();
    let levels = levels(degree as u32, &pieces, dirty);
    [false, true].map(|fold| {
        let (mut builder, mut traces) = (Builder::new(degree, dirty), Traces::new());
        for pieces in &pieces {
            let output = builder.added(pieces, &levels, fold, &mut traces);
            builder.program.outputs.push(output);
        }
        builder.program
    })
}

/// Level k has to be traced if at an odd distance, times 2^k, from any of the pieces its source may hold something. So have all
/// levels below it, even where the source holds nothing but noise: that was divided too, and must be doubled as often, or vanish.
fn levels(degree: u32, pieces: &[Vec<Piece>], dirty: &dyn Fn(usize, u32) -> bool) -> Levels {
    let mut by_source: BTreeMap<usize, Vec<&Piece>> = BTreeMap::new();
    for piece in pieces.iter().flatten() {
        by_source.entry(piece.source).or_default().push(piece);
    }
    let mut levels = Levels::new();
    for (source, own) in by_source {
        let places: Vec<u32> = (0..degree).filter(|&c| dirty(source, c)).collect();
        for k in 0..degree.trailing_zeros() {
            let modulus = 2 << k;
            let mut holds = vec![false; modulus as usize];
            places.iter().for_each(|c| holds[(c % modulus) as usize] = true);
            for piece in own.iter().filter(|piece| k < piece.level) {
                let beside = (2 * degree - piece.turn + (1 << k)) % modulus;
                if holds[beside as usize] {
                    levels.insert((source, piece.level), k + 1);
                }
            }
        }
    }
    levels
}

/// x with σ(X^x) = X^shift for σ of a level.
fn before(degree: u32, level: u32, shift: u32) -> u32 {
    let g = (degree >> level) + 1;
    // Newton's iteration modulo 2^32: each step doubles the bits that are right.
    let inverse = (0..5).fold(1u32, |x, _| x.wrapping_mul(2u32.wrapping_sub(g.wrapping_mul(x))));
    shift.wrapping_mul(inverse) % (2 * degree)
}

impl Builder<'_> {
    /// The largest cosets that sources fill undisturbed.
    fn pieces(&self, coset: &Coset<'_>, out: &mut Vec<Piece>) {
        if coset.wanted.is_empty() {
            return;
        }
        if let Some(origins) = self.undisturbed(coset) {
            let piece = |(source, turn)| Piece { source, level: coset.level, turn, offset: coset.offset };
            out.extend(origins.into_iter().map(piece));
            return;
        }
        let (even, odd) = self.halves(coset);
        self.pieces(&even, out);
        self.pieces(&odd, out);
    }

    /// A source that will be doubled `halvings` times, traced over the levels below `count`, with the piece at position 0 once it
    /// is shifted.
    fn traced(&mut self, piece: &Piece, halvings: u32, count: u32, traces: &mut Traces) -> Shifted {
        let shift = piece.turn;
        if count == 0 {
            return Shifted { value: Value::Source { index: piece.source, halvings }, shift };
        }
        let level = count - 1;
        let key = (piece.source, piece.level, level, shift % (2 << level));
        if let Some(&value) = traces.get(&key) {
            return Shifted { value, shift };
        }
        let below = self.traced(piece, halvings, level, traces);
        let made = self.merge(level, below, None);
        traces.insert(key, made.value);
        made
    }

    /// A target as the sum of its pieces.
    fn added(
        &mut self,
        pieces: &[Piece],
        levels: &Levels,
        fold: bool,
        traces: &mut Traces,
    ) -> Option<Shifted> {
        let mut folds: BTreeMap<u32, Vec<&Piece>> = BTreeMap::new();
        let mut kept = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match levels.get(&(piece.source, piece.level)).copied().unwrap_or(0) {
                count if fold && count > 0 => folds.entry(count).or_default().push(piece),
                count => {
                    let alone = self.traced(piece, count, count, traces);
                    kept.push(self.shifted(alone, piece.offset));
                }
            }
        }
        let mut moved = Vec::with_capacity(folds.len());
        for (count, pieces) in folds {
            let level = count - 1;
            let mut terms = Vec::with_capacity(pieces.len());
            for piece in pieces {
                let half = self.traced(piece, count, level, traces);
                kept.push(self.shifted(half, piece.offset));
                terms.push(self.shifted(half, before(self.degree, level, piece.offset)));
            }
            moved.push((level, terms));
        }
        let mut sum = self.total(kept)?;
        for (level, terms) in moved {
            // Both in their own frames.
            let kept = self.placed(sum);
            let moved = self.total(terms).map(|terms| self.placed(terms))?;
            self.program.steps.push(Step::Fold(Fold { level, kept, moved }));
            sum = Shifted { value: Value::Step { step: self.program.steps.len() - 1, result: 0 }, shift: 0 };
        }
        Some(sum)
    }

    /// The sum of these terms, which no other target has.
    pub(super) fn total(&mut self, terms: Vec<Shifted>) -> Option<Shifted> {
        if terms.len() <= 1 {
            return terms.first().copied();
        }
        self.program.steps.push(Step::Sum(terms));
        Some(Shifted { value: Value::Step { step: self.program.steps.len() - 1, result: 0 }, shift: 0 })
    }

    /// A polynomial that needs no shift any more.
    fn placed(&mut self, own: Shifted) -> Value {
        if own.shift == 0 && matches!(own.value, Value::Step { .. }) {
            return own.value;
        }
        self.program.steps.push(Step::Sum(vec![own]));
        Value::Step { step: self.program.steps.len() - 1, result: 0 }
    }
}
