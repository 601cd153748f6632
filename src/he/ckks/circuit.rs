//! A profile's stages with their RNS basis, and which keys they take: the client makes keys from it, the server transforms.

use super::{
    keys::{KeyId, KeyShape, PADDING},
    params::{self, LOG_DEGREE, RingProfile},
    stages::{BOTTOM, Class, Stages, TO_SLOTS_PRIMES, rotations, steps},
};
use crate::he::{error::HeError, ring::context::RnsContext};
use std::collections::BTreeMap;

/// The stages of a profile at a ring degree.
pub(crate) struct Circuit {
    pub profile: &'static RingProfile,
    pub context: RnsContext,
    pub stages: Stages,
}

impl Circuit {
    /// The circuit of a row of the table.
    pub(crate) fn new(profile: &'static RingProfile) -> Result<Self, HeError> {
        params::gate(profile)?;
        Self::of_degree(profile, LOG_DEGREE)
    }

    /// The same primes at another degree: for tests of the stages.
    pub(crate) fn of_degree(profile: &'static RingProfile, log_degree: usize) -> Result<Self, HeError> {
        let mut context =
            RnsContext::new(log_degree, profile.primes, profile.special_primes, profile.digits)?;
        let stages = Stages::new(profile, log_degree);
        for &(g, _) in rotation_levels(&context, &stages).keys() {
            context.add_perm(g);
        }
        Ok(Circuit { profile, context, stages })
    }

    /// Level of the slots after the transform.
    pub(crate) fn slots_level(&self) -> usize {
        self.context.l - TO_SLOTS_PRIMES
    }

    /// X → X^(−1), which conjugates slots.
    pub(crate) fn conjugation(&self) -> u64 {
        2 * self.context.n as u64 - 1
    }

    /// The inverse of an odd Galois element modulo 2N.
    pub(crate) fn inverse_element(&self, g: u64) -> u64 {
        // Newton's iteration doubles the correct bits.
        let inverse = (0..6).fold(1u64, |x, _| x.wrapping_mul(2u64.wrapping_sub(g.wrapping_mul(x))));
        inverse % (2 * self.context.n as u64)
    }

    /// Bytes of all keys in memory, and of those halves that go over the wire.
    pub(crate) fn key_bytes(&self) -> (usize, usize) {
        let keys = self.keys();
        let wire: usize = keys.iter().map(|(_, shape)| shape.wire_bytes(&self.context)).sum();
        (2 * wire + PADDING * keys.len(), wire)
    }

    /// Bytes of the matrices of both transforms: what [`RingProfile::transform_bytes`] says.
    #[cfg(test)]
    pub(crate) fn transform_bytes(&self) -> usize {
        let context = &self.context;
        let bytes = |factor: &super::stages::Factor| {
            let residues: usize = context.limbs(factor.level).iter().map(|&i| context.m[i].w).sum();
            rotations(context.n / 2, &factor.lengths).len() * residues * context.n + PADDING
        };
        self.stages.to_slots.iter().chain(&self.stages.to_coefficients).map(bytes).sum()
    }

    /// Every key of the bootstrap, in the order in which they are written.
    pub(crate) fn keys(&self) -> Vec<(KeyId, KeyShape)> {
        let context = &self.context;
        let top = context.l;
        let levels = rotation_levels(context, &self.stages);
        let rotations = levels
            .iter()
            .map(|(&(g, class), &level)| (KeyId::Galois(g, class), KeyShape::hybrid(context, level)));
        rotations
            .chain([
                (KeyId::Relinearisation, KeyShape::hybrid(context, self.slots_level())),
                // The raised polynomial is small (below q0), so that one digit suffices at any level.
                (KeyId::SparseToDense, KeyShape::one_digit(context, top)),
                (KeyId::EmbeddedToSparse, KeyShape::small(context, 1)),
                // Under the embedded secret this is eight samples of the small ring, whose limit its modulus must respect.
                (KeyId::DenseToEmbedded, KeyShape::small(context, 2)),
            ])
            .collect()
    }
}

/// The Galois elements that are used, with the highest level of each.
fn rotation_levels(context: &RnsContext, stages: &Stages) -> BTreeMap<(u64, Class), usize> {
    let mut levels = BTreeMap::new();
    let conjugation = 2 * context.n as u64 - 1;
    levels.insert((conjugation, Class::High), context.l - TO_SLOTS_PRIMES + 1);
    levels.insert((conjugation, Class::Low), BOTTOM);
    for factor in stages.to_slots.iter().chain(&stages.to_coefficients) {
        let slots = context.n / 2;
        let steps = steps(slots, &rotations(slots, &factor.lengths), factor.babies);
        for &r in steps.babies.iter().chain(&steps.giants).filter(|&&r| r != 0) {
            let level = levels.entry((context.galois(r), factor.class)).or_insert(0);
            *level = factor.level.max(*level);
        }
    }
    levels
}
