//! LWE ciphertexts on the 2^64 torus under the two keys that occur, and the client's labels.

use super::{error::HeError, params::Profile};
use std::marker::PhantomData;
use tfhe::core_crypto::prelude::*;

/// Marks LWEs under the small key: what enters a bootstrap.
#[derive(Debug, Clone, Copy)]
pub enum Small {}
/// Marks LWEs under the key that bootstraps put out: what packing takes.
#[derive(Debug, Clone, Copy)]
pub enum Big {}

/// An LWE ciphertext, mask then body; its phase is body − ⟨mask, key⟩.
#[derive(Debug, Clone)]
pub struct Lwe<Key> {
    pub(crate) words: Vec<u64>,
    key: PhantomData<Key>,
}

/// An LWE of dimension n_lwe: what enters a bootstrap.
pub type LweSmall = Lwe<Small>;
/// An LWE of dimension k·N_T: what a bootstrap puts out and packing takes.
pub type LweBig = Lwe<Big>;

impl<Key> Lwe<Key> {
    /// Wraps mask ‖ body.
    pub(crate) fn from_words(words: Vec<u64>) -> Self {
        Lwe { words, key: PhantomData }
    }

    /// A public value: zero mask, the value as body.
    fn constant(dimension: usize, value: u64) -> Self {
        let mut words = vec![0; dimension + 1];
        words[dimension] = value;
        Self::from_words(words)
    }

    /// Length of the mask.
    pub fn dimension(&self) -> usize {
        self.words.len().saturating_sub(1)
    }

    /// Adds `factor` times another LWE of the same key.
    ///
    /// # Errors
    /// The dimensions differ.
    pub fn add_scaled(&mut self, other: &Self, factor: i64) -> Result<(), HeError> {
        let (expected, got) = (self.dimension(), other.dimension());
        if got != expected {
            return Err(HeError::LweDimension { operation: "linear combination", got, expected });
        }
        let factor = factor as u64;
        for (a, &b) in self.words.iter_mut().zip(&other.words) {
            *a = a.wrapping_add(b.wrapping_mul(factor));
        }
        Ok(())
    }

    /// Adds a public torus value (2^64 is one turn).
    pub fn add_constant(&mut self, value: u64) {
        if let Some(body) = self.words.last_mut() {
            *body = body.wrapping_add(value);
        }
    }

    /// Negates the value.
    pub fn negate(&mut self) {
        for word in &mut self.words {
            *word = word.wrapping_neg();
        }
    }
}

impl LweSmall {
    /// A public torus value as an LWE.
    pub fn trivial(profile: &Profile, value: u64) -> Self {
        Self::constant(profile.n_lwe, value)
    }
}

impl LweBig {
    /// A public torus value as an LWE.
    pub fn trivial(profile: &Profile, value: u64) -> Self {
        Self::constant(profile.lut_output_dimension(), value)
    }
}

/// Sample extraction of coefficient `index` from a mask polynomial of degree N under a key that is zero beyond
/// `dimension`: word i is the factor of key bit i in that coefficient of mask·key (X^N = −1).
pub(crate) fn extract_mask(mask: &[u64], index: usize, dimension: usize, words: &mut Vec<u64>) {
    let n = mask.len();
    words.extend(
        (0..dimension).map(|i| if i <= index { mask[index - i] } else { mask[n + index - i].wrapping_neg() }),
    );
}

/// Sample extraction from a GLWE ciphertext, k mask polynomials and then the body.
pub(crate) fn extract_glwe(glwe: &[u64], glwe_dimension: usize, size: usize, index: usize) -> LweBig {
    let mut words = Vec::with_capacity(glwe_dimension * size + 1);
    let (mask, body) = glwe.split_at(glwe_dimension * size);
    for polynomial in mask.chunks_exact(size) {
        extract_mask(polynomial, index, size, &mut words);
    }
    words.push(body[index]);
    LweBig::from_words(words)
}

/// Values that the client encrypted under the key that bootstraps put out, many to a seeded GLWE.
#[derive(Clone)]
pub struct LabelCiphertext {
    pub(crate) glwes: Vec<SeededGlweCiphertext<Vec<u64>>>,
    pub(crate) glwe_dimension: usize,
    pub(crate) polynomial_size: usize,
    pub(crate) count: usize,
}

impl std::fmt::Debug for LabelCiphertext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LabelCiphertext").field("values", &self.count).field("bytes", &self.bytes()).finish()
    }
}

impl LabelCiphertext {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes on the wire: bodies and seeds.
    pub fn bytes(&self) -> usize {
        self.glwes.len() * (self.polynomial_size * 8 + 16)
    }

    /// All values as LWEs, in their order.
    pub fn expand(&self) -> Vec<LweBig> {
        let mut lwes = Vec::with_capacity(self.count);
        for (block, seeded) in self.glwes.iter().enumerate() {
            let glwe = seeded.clone().decompress_into_glwe_ciphertext();
            let here = (self.count - block * self.polynomial_size).min(self.polynomial_size);
            lwes.extend(
                (0..here).map(|i| extract_glwe(glwe.as_ref(), self.glwe_dimension, self.polynomial_size, i)),
            );
        }
        lwes
    }
}
