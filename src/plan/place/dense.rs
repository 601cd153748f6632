//! Layouts of a product whose matrix is cut into several polynomials, or whose second axis stands in the low bits.
//!
//! One axis of the matrix, the low one, takes exponents 0..r, the other one multiples of r; the matrix is cut along both so
//! that each part fits a ring. What lacks the low axis then stands at multiples of r, where automorphisms take polynomials
//! apart and merge them; what lacks the high one stands close together and is routed value by value. So the shorter axis
//! is the low one. Every other index of a product counts polynomials.
//!
//! Exponents along the matrix's first axis are negative (with an offset), so that a side stands as its source was read, or
//! mirrored (X → X^(−1)) as a whole.

use std::collections::BTreeMap;

use super::super::layout::{Layout, Place};
use super::super::lower::{Contraction, Product};
use super::super::schedule::PieceProduct;
use super::{NoLayout, Placed, Strides, contraction, matrix, pairs_samples};

/// Which axis of a matrix has its elements next to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Low {
    First,
    Second,
}

impl Low {
    /// The shorter axis.
    pub fn shorter(first: usize, second: usize) -> Self {
        if first < second { Self::First } else { Self::Second }
    }
}

/// Where the elements of a matrix's first axis stand, as the product that they come from has them: piece and slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AxisMap {
    pub pieces: usize,
    /// Slots of a piece, a power of two; degree / slots apart.
    pub slots: usize,
    pub places: Vec<(usize, usize)>,
}

/// How the axes of a matrix stand in its polynomials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Cut where that costs least, with this axis next to each other.
    Low(Low),
    /// The first axis as it comes; the second one is cut to fit between its slots.
    Along(AxisMap),
}

/// Products of polynomials that one product may have within a group of samples.
const MOST_PRODUCTS: usize = 1 << 16;

/// One ring more for a bootstrap, in key switches.
const RING_COST: f64 = 500.0;
/// A product of two polynomials, accumulated, in key switches.
const PRODUCT_COST: f64 = 0.25;

/// Where an index puts its elements.
#[derive(Clone, Debug)]
struct Axis {
    pieces: usize,
    /// Piece and slot of each element.
    places: Vec<(usize, usize)>,
    stride: i64,
    mirrored: bool,
}

impl Axis {
    /// Elements in their order, as many to a piece as it has room for.
    fn contiguous(size: usize, room: usize, stride: usize, mirrored: bool) -> Self {
        let places = (0..size).map(|i| (i / room, i % room)).collect();
        Self { pieces: size.div_ceil(room).max(1), places, stride: stride as i64, mirrored }
    }

    fn natural(&self) -> i64 {
        if self.mirrored { -1 } else { 1 }
    }
}

/// The axes of a product, by label, and the coefficients that the matrix takes of each polynomial.
struct Axes {
    by_label: BTreeMap<u8, Axis>,
    block: usize,
    /// What keeps the exponents of the mirrored axis from becoming negative.
    offset: i64,
}

/// Layouts of a product whose sides are leaves.
pub fn place(
    product: &Product,
    degree: usize,
    batch: usize,
    strides: Strides,
    cut: &Cut,
) -> Result<Placed, NoLayout> {
    let own = contraction(product);
    let axes = axes(product, degree, batch, strides, cut).ok_or(NoLayout::NotClean)?;
    let sampled = (product.batch_sum || product.per_sample())
        && !pairs_samples(std::slice::from_ref(product), 0)
        && axes.block * 2 <= degree;
    let samples = if sampled { (degree / axes.block).clamp(1, batch.max(1)) } else { 1 };
    let placer = Placer { product, own, axes, degree, samples };
    placer.place()
}

/// Where the axes of a product's matrix stand; every other index counts polynomials.
fn axes(product: &Product, degree: usize, batch: usize, strides: Strides, cut: &Cut) -> Option<Axes> {
    let own = contraction(product);
    let labels = match matrix(product) {
        [] => own.labels[1].as_slice(),
        labels => labels,
    };
    let (&first, second) = (labels.first()?, labels.get(1).copied());
    let mut by_label = BTreeMap::new();
    let block = match cut {
        Cut::Along(map) => {
            let room = degree / map.slots.max(1);
            let (pieces, places) = (map.pieces, map.places.clone());
            by_label.insert(first, Axis { pieces, places, stride: room as i64, mirrored: true });
            if let Some(second) = second {
                by_label.insert(second, Axis::contiguous(own.size(second), room, 1, false));
            }
            map.slots * room
        }
        Cut::Low(low) => {
            let (high, low) = match (second, low) {
                (None, _) => (first, None),
                (Some(second), Low::First) => (second, Some(first)),
                (Some(second), Low::Second) => (first, Some(second)),
            };
            let columns = low.map_or(1, |label| own.size(label));
            let rooms = rooms([own.size(high), columns], degree, batch, strides)?;
            by_label.insert(high, Axis::contiguous(own.size(high), rooms[0], rooms[1], high == first));
            if let Some(low) = low {
                by_label.insert(low, Axis::contiguous(columns, rooms[1], 1, low == first));
            }
            rooms[0] * rooms[1]
        }
    };
    for &label in own.labels.iter().flatten() {
        by_label.entry(label).or_insert_with(|| Axis::contiguous(own.size(label), 1, 0, false));
    }
    let mirrored = by_label.get(&first)?;
    // Slots of the first axis in one polynomial.
    let slots = match cut {
        Cut::Along(map) => map.slots,
        Cut::Low(_) => mirrored.places.iter().map(|&(_, slot)| slot + 1).max()?,
    };
    let offset = (slots as i64 - 1) * mirrored.stride;
    Some(Axes { by_label, block, offset })
}

/// How many elements of the high and the low axis one polynomial takes, so that the matrix's three products cost least.
fn rooms(sizes: [usize; 2], degree: usize, batch: usize, strides: Strides) -> Option<[usize; 2]> {
    let [rows, columns] = sizes;
    let rooms: Vec<[usize; 2]> = match strides {
        Strides::PowersOfTwo => (0..=columns.next_power_of_two().min(degree).ilog2())
            .map(|log| [(degree >> log).min(rows.next_power_of_two()), 1 << log])
            .collect(),
        Strides::Dense => (1..=columns)
            .map(|pieces| columns.div_ceil(pieces))
            .filter(|&room| room <= degree)
            .map(|room| [(degree / room).min(rows), room])
            .collect(),
    };
    let cost = |&[high, low]: &[usize; 2]| {
        let (high, low) = (rows.div_ceil(high) as f64, columns.div_ceil(low) as f64);
        // A relinearisation and an operand of each side, of both signs.
        RING_COST * high * low + batch as f64 * (3.0 * (high + low) + 3.0 * PRODUCT_COST * high * low)
    };
    rooms.into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b)))
}

struct Placer<'a> {
    product: &'a Product,
    own: &'a Contraction,
    axes: Axes,
    degree: usize,
    /// In one group of polynomials.
    samples: usize,
}

impl Placer<'_> {
    fn place(&self) -> Result<Placed, NoLayout> {
        let contracted = self.own.contracted();
        let pieces: usize =
            self.axes.by_label.values().map(|axis| axis.pieces).fold(1, usize::saturating_mul);
        if pieces > MOST_PRODUCTS {
            let needed = self.own.sizes.values().fold(1, |all: usize, &size| all.saturating_mul(size));
            return Err(NoLayout::TooLarge { needed, degree: self.degree });
        }
        // The side that the batch does not share takes the negative exponents of a contraction.
        let minus = usize::from(!self.product.side_per_sample[0] && self.product.side_per_sample[1]);
        let sides = [0, 1].map(|k| {
            let sign = |label: u8| {
                let natural = self.axes.by_label[&label].natural();
                if k == minus && contracted.contains(&label) { -natural } else { natural }
            };
            let offset = self.own.labels[k].iter().any(|&label| sign(label) < 0 && self.is_mirrored(label));
            let sample = match (self.product.side_per_sample[k], self.product.batch_sum) {
                (false, _) => 0,
                (true, true) if offset => -1,
                (true, true) => 1,
                (true, false) => self.sample_sign(),
            };
            self.layout(&self.own.labels[k], sign, offset, sample)
        });
        let natural = |label: u8| self.axes.by_label[&label].natural();
        let sample = if self.product.per_sample() { self.sample_sign() } else { 0 };
        let result = self.layout(&self.own.labels[2], natural, true, sample);
        Ok(Placed { sides, result, sums: self.sums(&contracted), inner: [None, None] })
    }

    fn is_mirrored(&self, label: u8) -> bool {
        self.axes.by_label[&label].mirrored
    }

    /// What carries the mirrored axis has mirrored samples too.
    fn sample_sign(&self) -> i64 {
        if self.own.labels[2].iter().any(|&label| self.is_mirrored(label)) { -1 } else { 1 }
    }

    /// The piece of a tensor in which the pieces of its indices meet.
    fn piece(&self, labels: &[u8], at: impl Fn(u8) -> usize) -> usize {
        labels.iter().fold(0, |piece, label| piece * self.axes.by_label[label].pieces + at(*label))
    }

    fn pieces(&self, labels: &[u8]) -> usize {
        labels.iter().map(|label| self.axes.by_label[label].pieces).product()
    }

    fn layout(&self, labels: &[u8], sign: impl Fn(u8) -> i64, offset: bool, sample_sign: i64) -> Layout {
        let modulus = 2 * self.degree as i64;
        let mut places = vec![(0usize, if offset { self.axes.offset } else { 0 })];
        for &label in labels {
            let axis = &self.axes.by_label[&label];
            let step = sign(label) * axis.stride;
            places = places
                .iter()
                .flat_map(|&(piece, exponent)| {
                    let along = axis.places.iter();
                    along.map(move |&(own, slot)| (piece * axis.pieces + own, exponent + slot as i64 * step))
                })
                .collect();
        }
        let step = if self.samples > 1 { sample_sign * self.axes.block as i64 } else { 0 };
        let place = |&(piece, exponent): &(usize, i64)| Place {
            piece: piece as u32,
            exponent: exponent.rem_euclid(modulus) as u32,
        };
        Layout {
            pieces: self.pieces(labels),
            places: places.iter().map(place).collect(),
            sample_stride: step.rem_euclid(modulus) as u32,
            samples: if sample_sign == 0 { 1 } else { self.samples },
        }
    }

    /// For each polynomial of the result, those of the sides that it is the sum of.
    fn sums(&self, contracted: &[u8]) -> Vec<Vec<PieceProduct>> {
        let result = &self.own.labels[2];
        let all = |labels: &[u8]| {
            let mut combinations: Vec<Vec<(u8, usize)>> = vec![Vec::new()];
            for &label in labels {
                let pieces = self.axes.by_label[&label].pieces;
                combinations = combinations
                    .iter()
                    .flat_map(|own| (0..pieces).map(move |i| [own.as_slice(), &[(label, i)]].concat()))
                    .collect();
            }
            combinations
        };
        let summed = all(contracted);
        all(result)
            .iter()
            .map(|own| {
                summed
                    .iter()
                    .map(|inner| {
                        let at = |label: u8| {
                            own.iter().chain(inner).find(|(l, _)| *l == label).map_or(0, |(_, i)| *i)
                        };
                        PieceProduct {
                            left: self.piece(&self.own.labels[0], at) as u32,
                            right: self.piece(&self.own.labels[1], at) as u32,
                            shift: 0,
                        }
                    })
                    .collect()
            })
            .collect()
    }
}

#[cfg(test)]
#[path = "dense_tests.rs"]
mod tests;
