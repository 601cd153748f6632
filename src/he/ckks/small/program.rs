//! A routing program: which automorphism key switches bring coefficients of source polynomials to their places. Pure.
//!
//! One step is the merge of Chen, Dai, Kim, Song 2020 ("Efficient homomorphic conversion between (ring) LWE ciphertexts",
//! PackLWEs), with one addition. For σ = X → X^(N/2^k + 1), which fixes exponents that are multiples of 2^(k+1) and negates odd
//! multiples of 2^k, the sum E + X^(2^k)·O + σ(E − X^(2^k)·O) holds twice E's coefficients at even, twice O's at odd multiples
//! of 2^k, and nothing of what either had at the others. If both operands are shifted by X^a, σ's share only turns by
//! X^(a·N/2^k): all such merges share one key switch. [`Merge::turns`] lists them; with O = 0 this takes interleaved values apart.
//!
//! A [`Fold`] is the last trace of many values at once, which are on their way to one target: σ of the sum of all instead of a sum of
//! σ of each. What the values need before it, other targets share.
//!
//! Doublings are paid in advance: sources enter divided by 2^halvings modulo the ciphertext's modulus, which is exact.

use super::noise::RouteNoise;

/// A polynomial that a step reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Value {
    /// A source, divided by 2^halvings.
    Source {
        /// Which one.
        index: usize,
        /// How often it will be doubled.
        halvings: u32,
    },
    /// What an earlier step made.
    Step {
        /// Which step.
        step: usize,
        /// Which of its results.
        result: usize,
    },
}

/// X^shift times a value; shifts are exponents modulo 2N, so that N is a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shifted {
    /// The polynomial.
    pub value: Value,
    /// The exponent, 0 to 2N − 1.
    pub shift: u32,
}

/// σ_level applied once to even − odd, and one result for each turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// k of σ = X → X^(N/2^k + 1).
    pub level: u32,
    /// E.
    pub even: Value,
    /// X^(2^k)·O, shifted; none for a trace.
    pub odd: Option<Shifted>,
    /// Result i is even + odd + X^(turns[i]·N/2^level)·σ(even − odd).
    pub turns: Vec<u32>,
}

/// kept + σ_level(moved): a trace of the values that both hold, each where σ brings it to the same place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    /// k of σ = X → X^(N/2^k + 1).
    pub level: u32,
    /// What stays.
    pub kept: Value,
    /// What goes through σ.
    pub moved: Value,
}

/// A step of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A sum of shifted values that do not disturb each other: no key switch.
    Sum(Vec<Shifted>),
    /// One key switch.
    Merge(Merge),
    /// One key switch.
    Fold(Fold),
}

/// Adding a shifted polynomial against a key switch: three passes over each limb against twelve transforms, an estimate
/// (`cargo bench --bench ckks_small -- add_shifted split_128` measures both).
pub const TERM_COST: f64 = 0.1;

impl Step {
    /// The values that the step reads.
    pub fn operands(&self) -> impl Iterator<Item = Value> + '_ {
        let (terms, pair): (&[Shifted], _) = match self {
            Step::Sum(terms) => (terms, [None, None]),
            Step::Merge(merge) => (&[], [Some(merge.even), merge.odd.map(|odd| odd.value)]),
            Step::Fold(fold) => (&[], [Some(fold.kept), Some(fold.moved)]),
        };
        terms.iter().map(|t| t.value).chain(pair.into_iter().flatten())
    }

    /// How many polynomials it makes.
    pub fn results(&self) -> usize {
        match self {
            Step::Sum(_) | Step::Fold(_) => 1,
            Step::Merge(merge) => merge.turns.len(),
        }
    }

    /// The level of its key switch, if it has one.
    pub fn level(&self) -> Option<u32> {
        match self {
            Step::Sum(_) => None,
            Step::Merge(merge) => Some(merge.level),
            Step::Fold(fold) => Some(fold.level),
        }
    }
}

/// Steps in an order in which each comes after those that it reads, and one polynomial for each target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// The steps.
    pub steps: Vec<Step>,
    /// The targets; none is the zero polynomial.
    pub outputs: Vec<Option<Shifted>>,
}

impl Program {
    /// Key switches.
    pub fn switches(&self) -> usize {
        self.steps.iter().filter(|step| step.level().is_some()).count()
    }

    /// Terms of sums: shifts and additions beside the key switches.
    pub fn terms(&self) -> usize {
        let terms = |step: &Step| if let Step::Sum(terms) = step { terms.len() } else { 0 };
        self.steps.iter().map(terms).sum()
    }

    /// What the program costs, in key switches.
    pub fn cost(&self) -> f64 {
        self.switches() as f64 + TERM_COST * self.terms() as f64
    }

    /// For each target, what it has of the noise of its sources and of the key switches.
    pub fn noises(&self) -> Vec<RouteNoise> {
        let mut of = Vec::<RouteNoise>::with_capacity(self.steps.len());
        let read = |value: Value, of: &[RouteNoise]| match value {
            Value::Source { halvings, .. } => RouteNoise::of_source(halvings),
            Value::Step { step, .. } => of[step],
        };
        for step in &self.steps {
            let noise = match step {
                Step::Sum(terms) => RouteNoise::sum(terms.iter().map(|term| read(term.value, &of))),
                Step::Merge(Merge { level, even, odd: None, .. }) => read(*even, &of).traced(*level),
                Step::Merge(Merge { level, even, odd: Some(odd), .. }) => {
                    read(*even, &of).merged(read(odd.value, &of), *level)
                }
                Step::Fold(fold) => read(fold.kept, &of).folded(read(fold.moved, &of)),
            };
            of.push(noise);
        }
        self.outputs.iter().map(|o| o.map_or(RouteNoise::default(), |o| read(o.value, &of))).collect()
    }

    /// The sources that the program reads, sorted.
    pub fn sources(&self) -> Vec<usize> {
        let read = self.steps.iter().flat_map(Step::operands);
        let direct = self.outputs.iter().flatten().map(|o| o.value);
        let mut sources: Vec<usize> = read
            .chain(direct)
            .filter_map(|v| match v {
                Value::Source { index, .. } => Some(index),
                Value::Step { .. } => None,
            })
            .collect();
        sources.sort_unstable();
        sources.dedup();
        sources
    }
}
