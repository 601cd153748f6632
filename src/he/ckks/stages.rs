//! The shape of a functional bootstrap: which stage works at which level, with which plaintext scales. Pure: numbers only.

use super::params::{RAISE_BOUND, RingProfile};

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

/// Bits of the constants of the exponential's upper leaves, whose errors the squarings multiply by 16.
pub(crate) const EXPONENTIAL_BITS: f64 = 19.0;
/// Bits of the constants of a function's upper leaves.
pub(crate) const FUNCTION_BITS: f64 = 17.0;

/// What becomes of a function's values, which decides their scale in the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// They go back to coefficients. |f| ≤ 1/4.
    Output,
    /// They are a factor of a slot product, as a mask is. |f| ≤ 1.
    FirstFactor,
    /// They are the other factor. |f| ≤ 1/4.
    SecondFactor,
}

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

/// Whether a transform goes from coefficients to slots or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Homomorphic encoding's inverse: what sits in coefficients comes into slots.
    ToSlots,
    /// What sits in slots comes into coefficients.
    ToCoefficients,
}

/// Where a rotation key is used: rotations that both transforms need have a key for each, since the later one has far
/// fewer limbs and digits to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Class {
    /// At the top: coefficients to slots.
    High,
    /// At the bottom: slots to coefficients.
    Low,
}

/// Which rotations a matrix is made of.
pub(crate) struct Steps {
    /// Rotations of the input; the first is 0.
    pub babies: Vec<i64>,
    /// Rotations of sums of baby steps; the first is 0.
    pub giants: Vec<i64>,
    /// For each diagonal its rotation, giant step and baby step, as indices of the lists.
    pub diagonals: Vec<(i64, usize, usize)>,
}

/// Splits rotations, multiples of the smallest one, into about `babies` baby steps and as many giant steps as it takes.
pub(crate) fn steps(slots: usize, rotations: &[i64], babies: usize) -> Steps {
    let stride = rotations.iter().filter(|&&r| r != 0).map(|r| r.unsigned_abs()).min().unwrap_or(1) as i64;
    let period = slots as i64 / stride;
    let wraps = rotations.len() as i64 == period;
    let (count, half) = (babies as i64, (babies as i64 - 1) / 2);
    let mut steps = Steps { babies: vec![0], giants: vec![0], diagonals: vec![] };
    let index = |list: &mut Vec<i64>, x: i64| {
        list.iter().position(|&y| y == x).unwrap_or_else(|| {
            list.push(x);
            list.len() - 1
        })
    };
    for &rotation in rotations {
        let mut j = rotation / stride;
        if wraps && j < -half {
            j += period;
        }
        let g = (j + half).div_euclid(count) * count;
        let giant = index(&mut steps.giants, g * stride);
        let baby = index(&mut steps.babies, (j - g) * stride);
        steps.diagonals.push((rotation, giant, baby));
    }
    steps
}

/// A rotation modulo n, in (−n/2, n/2].
pub(crate) fn centred(n: usize, rotation: i64) -> i64 {
    let r = rotation.rem_euclid(n as i64);
    if r > n as i64 / 2 { r - n as i64 } else { r }
}

/// The rotations of [`Embedding::factor`]'s diagonals, without their entries.
pub(crate) fn rotations(slots: usize, lengths: &[usize]) -> Vec<i64> {
    let mut set = std::collections::BTreeSet::from([0]);
    for &length in lengths {
        let half = length as i64 / 2;
        set = set.iter().flat_map(|r| [r - half, *r, r + half]).map(|r| centred(slots, r)).collect();
    }
    set.into_iter().collect()
}

/// How the layers of the transform of 2^`layers` slots go into factors of the given sizes: the lengths of each.
pub(crate) fn partition(layers: usize, sizes: &[usize], direction: Direction) -> Vec<Vec<usize>> {
    let mut lengths: Vec<usize> = (1..=layers).map(|i| 1 << i).collect();
    if direction == Direction::ToSlots {
        lengths.reverse();
    }
    let mut rest = &lengths[..];
    sizes
        .iter()
        .map(|&size| {
            let (factor, tail) = rest.split_at(size.min(rest.len()));
            rest = tail;
            factor.to_vec()
        })
        .collect()
}

/// The transforms' factors.
pub(crate) struct Stages {
    /// Coefficients to slots.
    pub to_slots: Vec<Factor>,
    /// Slots to coefficients.
    pub to_coefficients: Vec<Factor>,
    /// Slots to coefficients where a mask is folded into the first factor, whose diagonals then fill the ring and need
    /// as many bits as the last one.
    pub masked_to_coefficients: Vec<Factor>,
}

impl Stages {
    /// The stages of a row at a degree.
    pub(crate) fn new(profile: &RingProfile, log_degree: usize) -> Self {
        let layers = log_degree - 1;
        let top = profile.primes.len();
        let bits = |i: usize| (profile.primes[i] as f64).log2();
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
        Stages { to_slots, to_coefficients, masked_to_coefficients }
    }

    /// The scale of values in slots at the bottom level, from which outputs come at the output scale: the recombination
    /// of the halves doubles it.
    pub(crate) fn slot_scale(&self, profile: &RingProfile) -> f64 {
        let gain: f64 = self.to_coefficients.iter().map(|f| f.scale).product();
        profile.output_scale() / 2.0 * profile.primes[BOTTOM - 1] as f64 / gain
    }

    /// The scales of both factors of a slot product multiply to this: the spare prime brings it to the slot scale.
    fn product_bits(&self, profile: &RingProfile) -> f64 {
        (self.slot_scale(profile) * profile.primes[BOTTOM] as f64).log2()
    }

    /// log2 of the scale that a polynomial of [`RingProfile::factor_degree`] has one level above the bottom, if its
    /// constants have full precision.
    fn full_factor_bits(profile: &RingProfile) -> f64 {
        let leaves = profile.primes.len()
            - TO_SLOTS_PRIMES
            - EXPONENTIAL_LEVELS
            - profile.block.trailing_zeros() as usize;
        let divisions =
            profile.primes[BOTTOM + 1..leaves].iter().map(|&p| profile.working_bits - (p as f64).log2());
        profile.working_bits + FUNCTION_BITS + divisions.sum::<f64>()
    }

    /// Bits that the constants of a factor of a slot product lose if no level but the product's is left. The loss of both
    /// is shared so that their errors weigh alike in the product where |first| ≤ 1 and |second| ≤ 1/4.
    pub(crate) fn factor_loss(&self, profile: &RingProfile, role: Role) -> f64 {
        // The first factor's scale is doubled as its real part is taken.
        let loss = 2.0 * Self::full_factor_bits(profile) + 1.0 - self.product_bits(profile);
        match role {
            Role::Output => 0.0,
            Role::FirstFactor => loss / 2.0 + 1.0,
            Role::SecondFactor => loss / 2.0 - 1.0,
        }
    }

    /// The scale at which a polynomial that is a factor of a slot product is evaluated.
    pub(crate) fn factor_scale(&self, profile: &RingProfile, role: Role) -> f64 {
        (Self::full_factor_bits(profile) - self.factor_loss(profile, role)).exp2()
    }
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
