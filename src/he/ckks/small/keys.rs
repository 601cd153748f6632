//! The server's keys of the small ring, and what it computes with them: products, automorphisms, routes.

use super::{
    ciphertext::SmallCiphertext,
    ring::{DEGREE, KEY_LIMBS, LIMBS, REVERSE, SmallRing, merge_element},
    switch::{Switched, Switcher},
};
use crate::he::{
    ckks::params::SMALL_LOG_DEGREE,
    error::HeError,
    ring::{buffer::Buffer, key_switch::SwitchKey, simd},
};
use std::sync::Arc;

/// A key for one key switch, with the seed of its public halves.
pub(crate) struct SwitchingKey {
    pub(crate) seed: [u8; 32],
    pub(crate) key: SwitchKey,
}

/// Levels of merges: one for each bit of a position.
pub(crate) const LEVELS: usize = SMALL_LOG_DEGREE;

/// What a key switch of the small ring is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// From s² to s.
    Relinearisation,
    /// After X → X^(N/2^level + 1).
    Merge(u32),
    /// After X → X^(−1).
    Reverse,
}

impl KeyKind {
    /// Every key, in the order of the wire format.
    pub(crate) fn all() -> impl Iterator<Item = KeyKind> {
        [KeyKind::Relinearisation]
            .into_iter()
            .chain((0..LEVELS as u32).map(KeyKind::Merge))
            .chain([KeyKind::Reverse])
    }

    /// The automorphism that the key goes with.
    pub(crate) fn element(self) -> Option<u64> {
        match self {
            KeyKind::Relinearisation => None,
            KeyKind::Merge(level) => Some(merge_element(level)),
            KeyKind::Reverse => Some(REVERSE),
        }
    }
}

/// Relinearisation and automorphism keys of the small ring.
pub struct SmallKeys {
    pub(crate) ring: Arc<SmallRing>,
    pub(crate) relinearisation: SwitchingKey,
    pub(crate) merges: Vec<SwitchingKey>,
    pub(crate) reverse: SwitchingKey,
}

impl std::fmt::Debug for SmallKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmallKeys").field("ring", &self.ring).field("bytes", &self.bytes()).finish()
    }
}

impl SmallKeys {
    /// The ring.
    pub fn ring(&self) -> &Arc<SmallRing> {
        &self.ring
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.all().map(|k| k.key.bytes()).sum()
    }

    /// In the order of [`KeyKind::all`].
    pub(crate) fn all(&self) -> impl Iterator<Item = &SwitchingKey> {
        [&self.relinearisation].into_iter().chain(&self.merges).chain([&self.reverse])
    }

    /// X → X^(−1): coefficient j goes to −j, that is with a minus to N − j. One key switch.
    ///
    /// # Errors
    /// The ciphertext has another ring.
    pub fn reverse(&self, x: &SmallCiphertext) -> Result<SmallCiphertext, HeError> {
        x.check_ring("reversal", &self.ring)?;
        let mut reversed = SmallCiphertext::unwritten(&self.ring, x.width);
        let automorphism = self.ring.context.perms.get(&REVERSE);
        let switched = Switched { ciphertext: x, automorphism };
        Switcher::new(&self.ring, x.width).switch(&self.reverse, &switched, &mut reversed);
        Ok(reversed)
    }

    /// Assembles a key from its seed and its secret-dependent halves, `bodies[digit][limb]` (times R).
    pub(crate) fn assemble(ring: &SmallRing, seed: [u8; 32], bodies: &[[Buffer; KEY_LIMBS]]) -> SwitchingKey {
        let context = &ring.context;
        let mut off = Vec::with_capacity(KEY_LIMBS);
        let mut size = 0;
        for limb in &context.m {
            off.push(size);
            size += 2 * LIMBS * DEGREE * limb.w;
        }
        // One digit is also read alone, from an offset: kernels load whole registers beyond it.
        let mut data = vec![0u8; size + 256];
        let mut masks = super::uniform::Expander::new(seed);
        let mut mask = Buffer::new(DEGREE);
        for (d, body) in bodies.iter().enumerate() {
            for (i, body) in body.iter().enumerate() {
                let m = &context.m[i];
                masks.fill(m.p, &mut mask);
                let to = &mut data[off[i]..off[i] + 2 * LIMBS * DEGREE * m.w];
                simd::pack(body, m.w, 2 * d, 2 * LIMBS, to);
                simd::pack(&mask, m.w, 2 * d + 1, 2 * LIMBS, to);
            }
        }
        SwitchingKey { seed, key: SwitchKey { data, off, nd: LIMBS } }
    }

    /// The secret-dependent half of a digit in a limb: what [`SmallKeys::assemble`] packed.
    pub(crate) fn body(ring: &SmallRing, key: &SwitchingKey, digit: usize, i: usize, out: &mut [u64]) {
        let w = ring.context.m[i].w;
        let data = key.key.limb(&ring.context, i);
        for (g, group) in out.chunks_exact_mut(8).enumerate() {
            let start = ((g * 2 * LIMBS + 2 * digit) * 8) * w;
            for (x, bytes) in group.iter_mut().zip(data[start..].chunks_exact(w)) {
                *x = bytes.iter().rev().fold(0, |x, &b| x << 8 | u64::from(b));
            }
        }
    }
}
