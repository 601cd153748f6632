//! Uniform polynomials from a public seed: the halves of keys and fresh ciphertexts that are sent as 32 bytes.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// Residues drawn from ChaCha20 with the seed as its key: little-endian words of 64 bits, of which the low bits that the
/// prime has count, and those at or above the prime are skipped.
pub(crate) struct Expander {
    generator: ChaCha20Rng,
    bytes: Vec<u8>,
}

impl Expander {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Expander { generator: ChaCha20Rng::from_seed(seed), bytes: Vec::new() }
    }

    /// The next residues modulo a prime.
    pub(crate) fn fill(&mut self, p: u64, out: &mut [u64]) {
        let mask = u64::MAX >> p.leading_zeros();
        let mut filled = 0;
        while filled < out.len() {
            self.bytes.resize(8 * (out.len() - filled), 0);
            self.generator.fill_bytes(&mut self.bytes);
            for word in self.bytes.chunks_exact(8) {
                let residue = word.iter().rev().fold(0, |w, &b| w << 8 | u64::from(b)) & mask;
                if residue < p {
                    out[filled] = residue;
                    filled += 1;
                }
            }
        }
    }
}
