//! The shape of a functional bootstrap: which stage works at which level, with which plaintext scales, and which keys
//! that takes. The client makes keys from it, the server its transforms.

use super::{
    dft::{Direction, partition, rotations},
    keys::{Class, KeyId, KeyShape},
    linear::steps,
    params::{self, LOG_DEGREE, RAISE_BOUND, RingProfile},
};
use crate::he::{error::HeError, ring::context::RnsContext};
use std::collections::BTreeMap;

/// Squarings after the exponential.
pub(crate) const SQUARINGS: usize = 4;
/// Levels from the slots to exp(2πi·t): four of the series, then the squarings.
pub(crate) const EXPONENTIAL_LEVELS: usize = 4 + SQUARINGS;
/// The level at which slots go to coefficients.
pub(crate) const BOTTOM: usize = 3;
/// Primes that the transform to slots drops.
pub(crate) const TO_SLOTS_PRIMES: usize = 2;
/// Bits by which a factor's plaintext scale falls with the next one: diagonals of small strides lie in a subring, have
/// fewer coefficients and so less rounding.
const TAPER: f64 = 2.0;
/// The same towards coefficients.
const TAPER_BACK: f64 = 2.5;

/// A factor of one of the transforms.
#[derive(Debug, Clone)]
pub(crate) struct Factor {
    /// The lengths of its layers.
    pub lengths: Vec<usize>,
    /// Level of its input.
    pub level: usize,
    /// Whether it divides by the last prime.
    pub drops: bool,
    /// The scale of its plaintexts.
    pub scale: f64,
    /// Baby steps.
    pub babies: usize,
    /// Which keys it uses.
    pub class: Class,
}

/// The stages of a profile at a ring degree.
pub(crate) struct Circuit {
    pub profile: &'static RingProfile,
    pub context: RnsContext,
    /// Coefficients to slots.
    pub to_slots: Vec<Factor>,
    /// Slots to coefficients.
    pub to_coefficients: Vec<Factor>,
    /// Slots to coefficients where a mask is folded into the first factor, whose diagonals then fill the ring and need
    /// as many bits as the last one.
    pub masked_to_coefficients: Vec<Factor>,
}

impl Circuit {
    /// The circuit of a row of the table.
    pub(crate) fn new(profile: &'static RingProfile) -> Result<Self, HeError> {
        params::gate(profile)?;
        Self::of_degree(profile, LOG_DEGREE)
    }

    /// The same primes at another degree: for tests of the stages.
    pub(crate) fn of_degree(profile: &'static RingProfile, log_degree: usize) -> Result<Self, HeError> {
        let mut context = RnsContext::new(log_degree, profile.primes, profile.special_primes, profile.digits);
        let layers = log_degree - 1;
        let top = context.l;
        let bits = |i: usize| (context.m[i].p as f64).log2();
        // Slots hold x = t + I at scale q0·2^layers·Π(plaintexts)/Π(primes), doubled by the conjugation, and are read
        // as u = x/K: the plaintexts' product brings u to the working scale.
        let high: f64 = (top - TO_SLOTS_PRIMES..top).map(bits).sum();
        let total = profile.working_bits - 1.0 - RAISE_BOUND.log2() - bits(0) - layers as f64 + high;
        let to_slots = factors(
            &Stage {
                layers,
                sizes: &split(layers, [4, 3, 4, 3]),
                babies: &[8, 5, 11, 5],
                drops: &[false, true, false, false],
                direction: Direction::ToSlots,
                class: Class::High,
                level: top,
            },
            &taper(total, -TAPER, 4),
        );
        let total = bits(BOTTOM - 1);
        let back = Stage {
            layers,
            sizes: &split(layers, [4, 5, 5]),
            babies: &[8, 13, 8],
            drops: &[false, false, true],
            direction: Direction::ToCoefficients,
            class: Class::Low,
            level: BOTTOM,
        };
        let to_coefficients = factors(&back, &taper(total, TAPER_BACK, 3));
        // The middle factor's diagonals have a period of 2^9 slots: 2^5 times fewer coefficients, 2.5 bits less rounding.
        let even = (total + TAPER_BACK) / 3.0;
        let masked_to_coefficients = factors(&back, &[even, even - TAPER_BACK, even]);
        for &(g, _) in rotation_levels(&context, &to_slots, &to_coefficients).keys() {
            context.add_perm(g);
        }
        Ok(Circuit { profile, context, to_slots, to_coefficients, masked_to_coefficients })
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

    /// Every key of the bootstrap, in the order in which they are written.
    pub(crate) fn keys(&self) -> Vec<(KeyId, KeyShape)> {
        let context = &self.context;
        let top = context.l;
        let levels = rotation_levels(context, &self.to_slots, &self.to_coefficients);
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
fn rotation_levels(
    context: &RnsContext,
    to_slots: &[Factor],
    to_coefficients: &[Factor],
) -> BTreeMap<(u64, Class), usize> {
    let mut levels = BTreeMap::new();
    let conjugation = 2 * context.n as u64 - 1;
    levels.insert((conjugation, Class::High), context.l - TO_SLOTS_PRIMES + 1);
    levels.insert((conjugation, Class::Low), BOTTOM);
    for factor in to_slots.iter().chain(to_coefficients) {
        let slots = context.n / 2;
        let steps = steps(slots, &rotations(slots, &factor.lengths), factor.babies);
        for &r in steps.babies.iter().chain(&steps.giants).filter(|&&r| r != 0) {
            let level = levels.entry((context.galois(r), factor.class)).or_insert(0);
            *level = factor.level.max(*level);
        }
    }
    levels
}

/// What the factors of a transform have in common.
struct Stage<'a> {
    layers: usize,
    sizes: &'a [usize],
    babies: &'a [usize],
    drops: &'a [bool],
    direction: Direction,
    class: Class,
    level: usize,
}

fn factors(stage: &Stage, bits: &[f64]) -> Vec<Factor> {
    let mut level = stage.level;
    let each = partition(stage.layers, stage.sizes, stage.direction).into_iter().zip(stage.babies);
    each.zip(stage.drops)
        .zip(bits)
        .map(|(((lengths, &babies), &drops), bits)| {
            let factor = Factor { lengths, level, drops, scale: bits.exp2(), babies, class: stage.class };
            level -= usize::from(drops);
            factor
        })
        .collect()
}

/// `count` plaintext scales of `total` bits together, each `step` bits above the one before.
fn taper(total: f64, step: f64, count: usize) -> Vec<f64> {
    let middle = (count as f64 - 1.0) / 2.0;
    (0..count).map(|i| total / count as f64 + step * (i as f64 - middle)).collect()
}

/// The layers of each factor: those of the real degree, or an even split of other degrees.
fn split<const K: usize>(layers: usize, sizes: [usize; K]) -> [usize; K] {
    if sizes.iter().sum::<usize>() == layers {
        return sizes;
    }
    std::array::from_fn(|i| layers / K + usize::from(i >= K - layers % K))
}
