//! The server's keys of the small ring, and what it computes with them: products, automorphisms, routes.

use super::{
    ciphertext::{SmallCiphertext, limb_mut},
    ring::{DEGREE, KEY_LIMBS, LIMBS, REVERSE, SmallRing, add_in, merge_element},
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

/// Words of a limb that are worked on at a time: three polynomials of them stay in the first-level cache.
const CHUNK: usize = 512;
/// Products before one Montgomery reduction.
const LAZY: usize = 4;

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

    /// The sum of products of ciphertexts, relinearised once and not rescaled: noise as [`super::noise::product_units`].
    ///
    /// # Errors
    /// No product, or a ciphertext of another ring.
    pub fn product_sum(
        &self,
        products: &[(&SmallCiphertext, &SmallCiphertext)],
    ) -> Result<SmallCiphertext, HeError> {
        const DOING: &str = "product";
        if products.is_empty() {
            return Err(HeError::Count { operation: DOING, what: "products", got: 0, expected: 1 });
        }
        for (a, b) in products {
            a.check_ring(DOING, &self.ring)?;
            b.check_ring(DOING, &self.ring)?;
        }
        let [d0, d1, d2] = self.tensor(products);
        let mut sum = SmallCiphertext::unwritten(&self.ring);
        let switched =
            Switched { mask: &d2, add: [Some(&d0), Some(&d1)], is_product: true, automorphism: None };
        Switcher::new(&self.ring).switch(&self.relinearisation, &switched, &mut sum);
        Ok(sum)
    }

    /// Σ (a0·b0, a0·b1 + a1·b0, a1·b1), with the factor 1/R.
    fn tensor(&self, products: &[(&SmallCiphertext, &SmallCiphertext)]) -> [Buffer; 3] {
        let mut sums: [Buffer; 3] = std::array::from_fn(|_| Buffer::new(LIMBS * DEGREE));
        let mut parts: [Buffer; 3] = std::array::from_fn(|_| Buffer::new(CHUNK));
        let empty: [&[u64]; 2] = [&[], &[]];
        for i in 0..LIMBS {
            let m = &self.ring.context.m[i];
            for c in (0..DEGREE).step_by(CHUNK) {
                for (g, group) in products.chunks(LAZY).enumerate() {
                    let mut lazy = [(empty, empty); LAZY];
                    for (pair, (a, b)) in lazy.iter_mut().zip(group) {
                        *pair = (a.limbs(i).map(|x| &x[c..c + CHUNK]), b.limbs(i).map(|x| &x[c..c + CHUNK]));
                    }
                    let sum = simd::Sum { prods: &lazy[..group.len()], lins: &[], cst: [0; 2], dbl: false };
                    let [s0, s1, s2] = sums.each_mut().map(|s| &mut limb_mut(s, i)[c..c + CHUNK]);
                    if g == 0 {
                        simd::sum(&sum, m.md, s0, s1, s2);
                        continue;
                    }
                    let [p0, p1, p2] = &mut parts;
                    simd::sum(&sum, m.md, p0, p1, p2);
                    for (s, p) in [(s0, p0), (s1, p1), (s2, p2)] {
                        add_in(s, p, m.p);
                    }
                }
            }
        }
        sums
    }

    /// X → X^(−1): coefficient j goes to −j, that is with a minus to N − j. One key switch.
    ///
    /// # Errors
    /// The ciphertext has another ring.
    pub fn reverse(&self, x: &SmallCiphertext) -> Result<SmallCiphertext, HeError> {
        x.check_ring("reversal", &self.ring)?;
        let mut reversed = SmallCiphertext::unwritten(&self.ring);
        let switched = Switched {
            mask: &x.polynomials[1],
            add: [Some(&x.polynomials[0]), None],
            is_product: false,
            automorphism: self.ring.context.perms.get(&REVERSE),
        };
        Switcher::new(&self.ring).switch(&self.reverse, &switched, &mut reversed);
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
        let mut data = vec![0u8; size + 64];
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
