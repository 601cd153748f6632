//! Fresh ciphertexts, whose mask is a seed.

use super::{
    ciphertext::{SmallCiphertext, limb_mut},
    ring::{DEGREE, LIMBS, SmallRing, Width},
    uniform::Expander,
};
use crate::he::ring::buffer::Buffer;
use std::sync::Arc;

/// A fresh ciphertext: its body, and the seed that its mask is drawn from.
#[derive(Clone)]
pub struct SeededCiphertext {
    pub(crate) ring: Arc<SmallRing>,
    pub(crate) seed: [u8; 32],
    /// Transform domain, limb after limb.
    pub(crate) body: Buffer,
}

impl std::fmt::Debug for SeededCiphertext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeededCiphertext").field("ring", &self.ring).finish_non_exhaustive()
    }
}

impl SeededCiphertext {
    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.seed.len() + LIMBS * DEGREE * size_of::<u64>()
    }

    /// The ciphertext with its mask.
    pub fn expand(&self) -> SmallCiphertext {
        let mut mask = Buffer::new(LIMBS * DEGREE);
        let mut masks = Expander::new(self.seed);
        for i in 0..LIMBS {
            masks.fill(self.ring.context.m[i].p, limb_mut(&mut mask, i));
        }
        SmallCiphertext {
            ring: self.ring.clone(),
            width: Width::Full,
            polynomials: [self.body.clone(), mask],
        }
    }
}
