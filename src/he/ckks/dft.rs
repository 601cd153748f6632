//! The canonical embedding and its factors: the discrete Fourier transform that a ciphertext goes through.

use super::{
    complex::Complex,
    stages::{Direction, centred},
};
use std::{collections::BTreeMap, f64::consts::TAU};

/// A sparse matrix of n × n as its diagonals: entry (k, k + rotation) of row k, by rotation in (−n/2, n/2].
pub(crate) type Diagonals = BTreeMap<i64, Vec<Complex>>;

/// The embedding of Z\[X\]/(X^N + 1) into n = N/2 complex slots: slot k of a polynomial is its value at ζ^(5^k),
/// ζ = exp(iπ/N). Coefficients j and j + n are held as the real and imaginary part of place j.
pub(crate) struct Embedding {
    slots: usize,
    roots: Vec<Complex>,
    powers_of_5: Vec<usize>,
}

impl Embedding {
    /// The embedding with `slots` slots, a power of two.
    pub(crate) fn new(slots: usize) -> Self {
        let m = 4 * slots;
        let mut powers_of_5 = vec![1; slots];
        for i in 1..slots {
            powers_of_5[i] = powers_of_5[i - 1] * 5 % m;
        }
        let roots = (0..m).map(|i| Complex::unit(TAU * i as f64 / m as f64)).collect();
        Embedding { slots, roots, powers_of_5 }
    }

    /// The place, in bit-reversed order, at which coefficient j sits in the slots between both transforms.
    pub(crate) fn place(&self, j: usize) -> usize {
        j.reverse_bits() >> (usize::BITS - self.slots.trailing_zeros())
    }

    fn twiddle(&self, length: usize, j: usize) -> Complex {
        let q = 4 * length;
        self.roots[(self.powers_of_5[j] % q) * (4 * self.slots / q)]
    }

    fn bit_reverse(&self, values: &mut [Complex]) {
        for i in 0..self.slots {
            let j = self.place(i);
            if i < j {
                values.swap(i, j);
            }
        }
    }

    /// Slots to coefficients, in place.
    pub(crate) fn encode(&self, values: &mut [Complex]) {
        let mut length = self.slots;
        while length >= 2 {
            let half = length / 2;
            let twiddles: Vec<_> = (0..half).map(|j| self.twiddle(length, j).conj()).collect();
            for block in values.chunks_exact_mut(length) {
                let (low, high) = block.split_at_mut(half);
                for ((x, y), &w) in low.iter_mut().zip(high).zip(&twiddles) {
                    (*x, *y) = ((*x + *y).scale(0.5), ((*x - *y) * w).scale(0.5));
                }
            }
            length = half;
        }
        self.bit_reverse(values);
    }

    /// Coefficients to slots, in place.
    #[cfg(test)]
    pub(crate) fn decode(&self, values: &mut [Complex]) {
        self.bit_reverse(values);
        let mut length = 2;
        while length <= self.slots {
            let half = length / 2;
            for block in values.chunks_exact_mut(length) {
                for j in 0..half {
                    let (x, y) = (block[j], block[j + half] * self.twiddle(length, j));
                    block[j] = x + y;
                    block[j + half] = x - y;
                }
            }
            length *= 2;
        }
    }

    /// One layer of butterflies over blocks of `length`, with entries of magnitude one (towards slots it lacks its 1/2).
    fn layer(&self, length: usize, direction: Direction) -> Diagonals {
        let (n, half) = (self.slots, length / 2);
        let (one, zero) = (Complex::new(1.0, 0.0), Complex::default());
        let [mut same, mut above, mut below] = [0; 3].map(|_| vec![zero; n]);
        for block in (0..n).step_by(length) {
            for j in 0..half {
                let w = self.twiddle(length, j);
                let (low, high) = (block + j, block + j + half);
                same[low] = one;
                match direction {
                    Direction::ToSlots => {
                        above[low] = one;
                        same[high] = zero - w.conj();
                        below[high] = w.conj();
                    }
                    Direction::ToCoefficients => {
                        above[low] = w;
                        same[high] = zero - w;
                        below[high] = one;
                    }
                }
            }
        }
        let mut diagonals = Diagonals::new();
        for (rotation, d) in [(0, same), (half as i64, above), (-(half as i64), below)] {
            accumulate(&mut diagonals, n, rotation, d);
        }
        diagonals
    }

    /// The product of the layers of the given lengths, in order of application.
    pub(crate) fn factor(&self, lengths: &[usize], direction: Direction) -> Diagonals {
        let n = self.slots as i64;
        let mut layers = lengths.iter().map(|&length| self.layer(length, direction));
        let first = layers.next().unwrap_or_default();
        layers.fold(first, |product, layer| {
            let mut next = Diagonals::new();
            for (&a, da) in &layer {
                for (&b, db) in &product {
                    let d = (0..n).map(|k| da[k as usize] * db[(k + a).rem_euclid(n) as usize]).collect();
                    accumulate(&mut next, self.slots, a + b, d);
                }
            }
            next
        })
    }
}

fn accumulate(diagonals: &mut Diagonals, n: usize, rotation: i64, d: Vec<Complex>) {
    match diagonals.get_mut(&centred(n, rotation)) {
        Some(sum) => sum.iter_mut().zip(d).for_each(|(a, b)| *a = *a + b),
        None => {
            diagonals.insert(centred(n, rotation), d);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::he::ckks::stages::{partition, rotations};

    fn apply(d: &Diagonals, x: &[Complex]) -> Vec<Complex> {
        let n = x.len() as i64;
        let at = |k: i64, r: i64| x[(k + r).rem_euclid(n) as usize];
        (0..n).map(|k| d.iter().fold(Complex::default(), |s, (&r, e)| s + e[k as usize] * at(k, r))).collect()
    }

    #[test]
    fn the_factors_are_the_embedding_on_reversed_coefficients() {
        let e = Embedding::new(64);
        let values: Vec<_> =
            (0..64).map(|i| Complex::new((i * i % 37) as f64, (i * 7 % 11) as f64)).collect();
        let mut slots = values.clone();
        e.decode(&mut slots);
        let mut reversed = values.clone();
        e.bit_reverse(&mut reversed);
        let mut forward = reversed.clone();
        for lengths in partition(6, &[2, 2, 2], Direction::ToCoefficients) {
            let factor = e.factor(&lengths, Direction::ToCoefficients);
            assert_eq!(factor.keys().copied().collect::<Vec<_>>(), rotations(64, &lengths));
            forward = apply(&factor, &forward);
        }
        let mut backward = slots.clone();
        for lengths in partition(6, &[3, 3], Direction::ToSlots) {
            let factor = e.factor(&lengths, Direction::ToSlots);
            assert_eq!(factor.keys().copied().collect::<Vec<_>>(), rotations(64, &lengths));
            backward = apply(&factor, &backward);
        }
        for i in 0..64 {
            assert!((forward[i] - slots[i]).abs() < 1e-9);
            assert!((backward[i].scale(1.0 / 64.0) - reversed[i]).abs() < 1e-9);
        }
        e.encode(&mut slots);
        assert!(slots.iter().zip(&values).all(|(a, b)| (*a - *b).abs() < 1e-9));
    }
}
