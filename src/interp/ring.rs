//! The server's side of an encrypted run on the ring engine: products in the small ring, functions by bootstraps of the large
//! one. No secret key exists here.

use rayon::prelude::*;

use crate::he::HeError;
use crate::he::ckks::fit::TrigPolynomial;
use crate::he::ckks::{Mask, ServerKeys, SmallCiphertext, Slots};
use crate::plan::gather::{Bootstrap, GatherPlan};
use crate::plan::lower::AtomKind;
use crate::plan::schedule::{Operand, ProductStep, Read, Schedule, Source, Stage};

use super::{EngineError, Watch, encode};

/// What the client sends for one batch: by operand, the ciphertexts of the part that the client encrypts.
#[derive(Clone)]
pub struct RingBatch {
    pub size: usize,
    pub fresh: Vec<Vec<SmallCiphertext>>,
}

impl RingBatch {
    pub fn bytes(&self) -> usize {
        self.fresh.iter().flatten().map(SmallCiphertext::bytes).sum()
    }
}

/// One output ciphertext of a bootstrap: which tables it holds, each on the lanes of its site.
struct Output {
    parts: Vec<(usize, usize, Mask)>,
}

/// Trains on ciphertexts.
pub struct RingServer<'a> {
    keys: ServerKeys,
    schedule: &'a Schedule,
    plan: GatherPlan,
    /// Public initial weights, by master.
    initial: Vec<Vec<f32>>,
    masters: Vec<SmallCiphertext>,
    /// By site and table.
    functions: Vec<Vec<TrigPolynomial>>,
    /// By stage and bootstrap.
    outputs: Vec<Vec<Vec<Output>>>,
    /// By operand: what the server adds in the clear.
    public: Vec<Vec<i64>>,
}

/// Ciphertexts of one step.
pub struct RingState {
    pub operands: Vec<Vec<SmallCiphertext>>,
    pub products: Vec<Vec<SmallCiphertext>>,
    /// By site and table: the rings of the site.
    looked_up: Vec<Vec<Vec<SmallCiphertext>>>,
    /// By site and table, what later bootstraps multiply with: by bootstrap of its stage.
    saved: Vec<Vec<Vec<Slots>>>,
}

type Done<T> = Result<T, EngineError>;
