//! Routes: which automorphism key switches bring single coefficients of source polynomials to wanted places. Pure.
//!
//! In: for each target polynomial the coefficients that it takes over, and where sources are not zero. Out: a
//! [`Program`] over all targets in which equal parts are computed once.
//!
//! A target is built over the cosets of its positions modulo growing powers of two: what the positions c + 2^k·Z want is
//! one shifted source where that brings nothing unwanted, otherwise the merge of the two cosets of 2^(k+1) in it. At 2^k = N
//! every coset is a single position, so any permutation can be routed; what counts is how early the cosets are uniform.
//!
//! Or sources are taken apart first, and targets are sums of the parts ([`apart`]): whichever costs less.

mod apart;

use crate::he::ckks::small::program::{Merge, Program, Shifted, Step, Value};
use std::collections::HashMap;
use thiserror::Error;

/// One coefficient on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Index of the source polynomial.
    pub source: usize,
    /// Its coefficient there.
    pub from: u32,
    /// Its coefficient in the target.
    pub to: u32,
    /// Whether it changes its sign on the way.
    pub negate: bool,
}

/// A polynomial to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Target {
    /// Its coefficients, in any order. In a clean target what goes to the same place is added up; otherwise each is wanted at
    /// most once.
    pub wanted: Vec<Wanted>,
    /// Whether all other coefficients must be zero (an operand of a product), or may hold anything (a bootstrap's input).
    pub clean: bool,
}

/// A request that no route can meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RouteError {
    /// A coefficient beyond the ring.
    #[error("route: coefficient {coefficient} of target {target} is out of bounds: valid is 0 to {max}")]
    OutOfBounds {
        /// The target.
        target: usize,
        /// The coefficient asked for, or that it should come from.
        coefficient: u32,
        /// The largest valid one.
        max: u32,
    },
    /// Two values at one place.
    #[error("route: coefficient {coefficient} of target {target} is wanted twice; add the two values first")]
    Twice {
        /// The target.
        target: usize,
        /// The coefficient.
        coefficient: u32,
    },
}

impl RouteError {
    /// The same of another target.
    pub fn of_target(self, other: impl FnOnce(usize) -> usize) -> Self {
        match self {
            Self::OutOfBounds { target, coefficient, max } => {
                Self::OutOfBounds { target: other(target), coefficient, max }
            }
            Self::Twice { target, coefficient } => Self::Twice { target: other(target), coefficient },
        }
    }
}

/// The cheapest program found that makes all targets in rings of degree N (a power of two).
///
/// `dirty(source, coefficient)` says where a source may differ from zero. Takes time in proportion to the wanted values,
/// times log N at most, and to N for each target whose sources are dirty.
///
/// # Errors
/// A coefficient is not below N, or wanted twice in one target that need not be clean.
pub fn route(
    degree: usize,
    targets: &[Target],
    dirty: &dyn Fn(usize, u32) -> bool,
) -> Result<Program, RouteError> {
    let mut builder = Builder::new(degree, dirty);
    let all = builder.all_layers(targets)?;
    for (layers, target) in all.iter().zip(targets) {
        let parts = layers.iter().filter_map(|wanted| builder.build(&Coset::whole(wanted, target.clean)));
        let parts = parts.collect();
        let output = builder.total(parts);
        builder.program.outputs.push(output);
    }
    let merged = builder.program;
    // Where anything may stand beside the values, gathering them costs one switch each, whatever their sources hold.
    if merged.switches() == 0 || targets.iter().any(|target| !target.clean) {
        return Ok(merged);
    }
    let mut best = merged;
    for other in apart::programs(degree, &all, dirty) {
        if other.cost() < best.cost() {
            best = other;
        }
    }
    Ok(best)
}

/// The programs that take the sources of clean targets apart; [`route`] chooses one of them where it is cheaper than merges.
///
/// # Errors
/// As [`route`].
#[cfg(test)]
pub(crate) fn apart(
    degree: usize,
    targets: &[Target],
    dirty: &dyn Fn(usize, u32) -> bool,
) -> Result<[Program; 2], RouteError> {
    let all = Builder::new(degree, dirty).all_layers(targets)?;
    Ok(apart::programs(degree, &all, dirty))
}

/// What a target wants at the positions offset + 2^level·Z. Polynomials of a coset are in its own frame, in which these
/// positions are the multiples of 2^level.
struct Coset<'a> {
    /// In bit-reversed order of their positions, so that every coset is a contiguous part.
    wanted: &'a [Wanted],
    offset: u32,
    level: u32,
    /// Merges above.
    halvings: u32,
    clean: bool,
}

impl<'a> Coset<'a> {
    /// All positions of a target.
    fn whole(wanted: &'a [Wanted], clean: bool) -> Self {
        Coset { wanted, offset: 0, level: 0, halvings: 0, clean }
    }
}

/// The shifted source that would bring some of the wanted values.
type Origin = (usize, u32);

/// More sources than this are not tried as a plain sum.
const MOST_TERMS: usize = 32;

struct Builder<'a> {
    degree: u32,
    log_degree: u32,
    dirty: &'a dyn Fn(usize, u32) -> bool,
    program: Program,
    /// Steps by what their key switch sees.
    merges: HashMap<(u32, Value, Option<Shifted>), usize>,
    sums: HashMap<Vec<Shifted>, usize>,
}

impl<'d> Builder<'d> {
    fn new(degree: usize, dirty: &'d dyn Fn(usize, u32) -> bool) -> Self {
        Builder {
            degree: degree as u32,
            log_degree: degree.trailing_zeros(),
            dirty,
            program: Program::default(),
            merges: HashMap::new(),
            sums: HashMap::new(),
        }
    }

    /// For each target what it wants, in bit-reversed order of the places, in layers that want each place once.
    fn all_layers(&self, targets: &[Target]) -> Result<Vec<Vec<Vec<Wanted>>>, RouteError> {
        targets.iter().enumerate().map(|(index, target)| self.layers(index, target)).collect()
    }

    fn layers(&self, index: usize, target: &Target) -> Result<Vec<Vec<Wanted>>, RouteError> {
        let max = self.degree - 1;
        for w in &target.wanted {
            let coefficient = w.from.max(w.to);
            if coefficient > max {
                return Err(RouteError::OutOfBounds { target: index, coefficient, max });
            }
        }
        let mut sorted = target.wanted.clone();
        sorted.sort_by_key(|w| w.to.reverse_bits());
        let mut layers = vec![Vec::with_capacity(sorted.len())];
        for same in sorted.chunk_by(|a, b| a.to == b.to) {
            if same.len() > 1 && !target.clean {
                return Err(RouteError::Twice { target: index, coefficient: same[0].to });
            }
            layers.resize_with(layers.len().max(same.len()), Vec::new);
            layers.iter_mut().zip(same).for_each(|(layer, w)| layer.push(*w));
        }
        Ok(layers)
    }

    /// Exponents modulo 2N.
    fn exponent(&self, x: i64) -> u32 {
        x.rem_euclid(2 * i64::from(self.degree)) as u32
    }

    fn origin(&self, w: &Wanted, offset: u32) -> Origin {
        let sign = if w.negate { self.degree } else { 0 };
        (w.source, self.exponent(i64::from(w.to) - i64::from(offset) - i64::from(w.from) + i64::from(sign)))
    }

    fn build(&mut self, coset: &Coset<'_>) -> Option<Shifted> {
        if coset.wanted.is_empty() {
            return None;
        }
        if let Some(origins) = self.undisturbed(coset) {
            return Some(self.sum(&origins, coset.halvings));
        }
        let (even, odd) = self.halves(coset);
        match (even.wanted.is_empty(), odd.wanted.is_empty()) {
            (false, false) => {
                let (even, odd) = (self.build(&even)?, self.build(&odd)?);
                Some(self.merge(coset.level, even, Some(odd)))
            }
            _ if coset.clean => self.traces(coset),
            (is_odd, _) => {
                // Whatever the empty half holds does no harm: no trace, hence no doubling either.
                let half = if is_odd { odd } else { even };
                let half = Coset { halvings: coset.halvings, ..half };
                let distance = half.offset - coset.offset;
                self.build(&half).map(|s| self.shifted(s, distance))
            }
        }
    }

    fn halves<'w>(&self, coset: &Coset<'w>) -> (Coset<'w>, Coset<'w>) {
        let bit = 1 << coset.level;
        let middle = coset.wanted.partition_point(|w| w.to & bit == 0);
        let (even, odd) = coset.wanted.split_at(middle);
        let half = |wanted, offset| Coset {
            wanted,
            offset,
            level: coset.level + 1,
            halvings: coset.halvings + 1,
            clean: coset.clean,
        };
        (half(even, coset.offset), half(odd, coset.offset + bit))
    }

    /// The shifted sources whose sum is what the coset wants, if they do not disturb each other or a clean target.
    fn undisturbed(&self, coset: &Coset<'_>) -> Option<Vec<Origin>> {
        let mut origins: Vec<Origin> = Vec::new();
        for w in coset.wanted {
            let origin = self.origin(w, coset.offset);
            if !origins.contains(&origin) {
                if origins.len() == MOST_TERMS {
                    return None;
                }
                origins.push(origin);
            }
        }
        let positions = (self.degree >> coset.level) as usize;
        if origins.len() == 1 && (!coset.clean || coset.wanted.len() == positions) {
            return Some(origins);
        }
        // Where the coset's positions are wanted, and from where, by position / 2^level.
        let mut owner = vec![None; positions];
        for w in coset.wanted {
            owner[((w.to - coset.offset) >> coset.level) as usize] = Some(self.origin(w, coset.offset));
        }
        let disturbs = |&origin: &Origin| {
            let (source, shift) = origin;
            owner.iter().enumerate().any(|(i, owner)| {
                let is_harmless = match owner {
                    Some(owner) => *owner == origin,
                    None => !coset.clean,
                };
                let from = self.exponent(((i as i64) << coset.level) - i64::from(shift)) % self.degree;
                !is_harmless && (self.dirty)(source, from)
            })
        };
        if origins.iter().any(disturbs) { None } else { Some(origins) }
    }

    /// A chain of merges with nothing: traces. They commute, so that the lowest level comes first: then it sees the source
    /// as it is, and all targets that take something from the source share it.
    fn traces(&mut self, coset: &Coset<'_>) -> Option<Shifted> {
        let (mut inner, mut end) = (Coset { ..*coset }, None);
        while end.is_none() {
            let (even, odd) = self.halves(&inner);
            inner = match (even.wanted.is_empty(), odd.wanted.is_empty()) {
                (false, true) => even,
                (true, false) => odd,
                _ => {
                    // Both halves are wanted: this merge was counted when the coset above was halved.
                    end = self.build(&inner);
                    continue;
                }
            };
            if let Some(origins) = self.undisturbed(&inner) {
                end = Some(self.sum(&origins, inner.halvings));
            }
        }
        let mut value = end?;
        for level in coset.level..inner.level {
            value = self.merge(level, value, None);
        }
        Some(self.shifted(value, inner.offset - coset.offset))
    }

    fn shifted(&self, s: Shifted, by: u32) -> Shifted {
        Shifted { shift: (s.shift + by) % (2 * self.degree), ..s }
    }

    fn sum(&mut self, origins: &[Origin], halvings: u32) -> Shifted {
        let term = |&(index, shift): &Origin| Shifted { value: Value::Source { index, halvings }, shift };
        if let [origin] = origins {
            return term(origin);
        }
        // In the frame of the first term.
        let base = origins[0].1;
        let turn = 2 * self.degree - base;
        let terms: Vec<Shifted> = origins.iter().map(|o| self.shifted(term(o), turn)).collect();
        let next = self.program.steps.len();
        let step = *self.sums.entry(terms).or_insert_with_key(|terms| {
            self.program.steps.push(Step::Sum(terms.clone()));
            next
        });
        Shifted { value: Value::Step { step, result: 0 }, shift: base }
    }

    /// even at even, odd at odd multiples of 2^level.
    fn merge(&mut self, level: u32, even: Shifted, odd: Option<Shifted>) -> Shifted {
        // In the frame of `even`; its own shift only turns what the key switch brings.
        let odd = odd.map(|o| self.shifted(o, (1 << level) + 2 * self.degree - even.shift));
        let next = self.program.steps.len();
        let step = *self.merges.entry((level, even.value, odd)).or_insert_with(|| {
            let merge = Merge { level, even: even.value, odd, turns: Vec::new() };
            self.program.steps.push(Step::Merge(merge));
            next
        });
        let turn = even.shift % (2 << level);
        debug_assert!(level < self.log_degree);
        let result = match &mut self.program.steps[step] {
            Step::Merge(merge) => merge.turns.iter().position(|&t| t == turn).unwrap_or_else(|| {
                merge.turns.push(turn);
                merge.turns.len() - 1
            }),
            Step::Sum(_) | Step::Fold(_) => 0,
        };
        Shifted { value: Value::Step { step, result }, shift: even.shift }
    }
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
