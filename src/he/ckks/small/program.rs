//! A routing program: which automorphism key switches bring coefficients of source polynomials to their places. Pure.
//!
//! One step is the merge of Chen, Dai, Kim, Song 2020 ("Efficient homomorphic conversion between (ring) LWE ciphertexts",
//! PackLWEs), with one addition. For σ = X → X^(N/2^k + 1), which fixes exponents that are multiples of 2^(k+1) and negates odd
//! multiples of 2^k, the sum E + X^(2^k)·O + σ(E − X^(2^k)·O) holds twice E's coefficients at even, twice O's at odd multiples
//! of 2^k, and nothing of what either had at the others. If both operands are shifted by X^a, σ's share only turns by
//! X^(a·N/2^k): all such merges share one key switch. [`Merge::turns`] lists them; with O = 0 this takes interleaved values apart.
//!
//! Doublings are paid in advance: sources enter divided by 2^halvings modulo the ciphertext's modulus, which is exact.

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

/// A step of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A sum of shifted values that do not disturb each other: no key switch.
    Sum(Vec<Shifted>),
    /// One key switch.
    Merge(Merge),
}

impl Step {
    /// The values that the step reads.
    pub fn operands(&self) -> impl Iterator<Item = Value> + '_ {
        let (terms, merge): (&[Shifted], _) = match self {
            Step::Sum(terms) => (terms, None),
            Step::Merge(merge) => (&[], Some(merge)),
        };
        let pair = merge.into_iter().flat_map(|m| [Some(m.even), m.odd.map(|o| o.value)]);
        terms.iter().map(|t| t.value).chain(pair.flatten())
    }

    /// How many polynomials it makes.
    pub fn results(&self) -> usize {
        match self {
            Step::Sum(_) => 1,
            Step::Merge(merge) => merge.turns.len(),
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
    /// Key switches: what the program costs.
    pub fn switches(&self) -> usize {
        self.steps.iter().filter(|s| matches!(s, Step::Merge(_))).count()
    }

    /// Multiplications by monomials and additions of polynomials beside the key switches.
    pub fn shifts(&self) -> usize {
        self.steps.iter().map(|s| s.operands().count() + s.results() - 1).sum()
    }

    /// For each target, the levels that its noise went through (see [`super::noise::route_units`]).
    pub fn depths(&self) -> Vec<u32> {
        let mut of = Vec::<u32>::with_capacity(self.steps.len());
        let depth = |value: Value, of: &[u32]| match value {
            Value::Source { .. } => 0,
            Value::Step { step, .. } => of[step],
        };
        for step in &self.steps {
            let below = step.operands().map(|v| depth(v, &of)).max().unwrap_or(0);
            of.push(below + u32::from(matches!(step, Step::Merge(_))));
        }
        self.outputs.iter().map(|o| o.map_or(0, |o| depth(o.value, &of))).collect()
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
