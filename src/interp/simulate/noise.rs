//! Streams of simulated noise: one for each place and piece of a step, so that a run is the same on any number of threads.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

/// Values that share a stream.
pub const PIECE: usize = 1 << 12;

/// Where noise is added, each with its index in the schedule.
#[derive(Clone, Copy)]
pub enum Place {
    Operand(usize),
    Product(usize),
    /// What a site reads.
    Input(usize),
    /// What a table of a site gives.
    Output(usize, usize),
    /// What a step changes a master by.
    Master(usize),
}

impl Place {
    /// Distinct for distinct places: a kind, then indices.
    fn number(self) -> u64 {
        let number = |kind: u64, index: usize, table: usize| kind << 60 | (table as u64) << 40 | index as u64;
        match self {
            Self::Operand(i) => number(0, i, 0),
            Self::Product(i) => number(1, i, 0),
            Self::Input(i) => number(2, i, 0),
            Self::Output(i, table) => number(3, i, table),
            Self::Master(i) => number(4, i, 0),
        }
    }
}

/// The noise of one step of a run.
#[derive(Clone, Copy)]
pub struct Noise {
    pub seed: u64,
    pub step: u64,
}

/// Normally distributed numbers.
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// With mean 0.
    #[inline]
    pub fn gauss(&mut self, deviation: f64) -> f64 {
        let sample: f64 = StandardNormal.sample(&mut self.0);
        deviation * sample
    }
}

impl Noise {
    pub fn stream(self, place: Place, piece: usize) -> Stream {
        let mut key = [0; 32];
        let words = [self.seed, self.step, place.number(), piece as u64];
        key.chunks_exact_mut(8)
            .zip(words)
            .for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_le_bytes()));
        Stream(ChaCha8Rng::from_seed(key))
    }

    /// Calls `f(first value, values, stream)` for every piece of `values`, and sums what it returns.
    pub fn pieces<T: Send>(
        self,
        place: Place,
        values: &mut [T],
        f: impl Fn(usize, &mut [T], &mut Stream) -> u64 + Sync,
    ) -> u64 {
        let piece =
            |(piece, values): (usize, &mut [T])| f(piece * PIECE, values, &mut self.stream(place, piece));
        values.par_chunks_mut(PIECE).enumerate().map(piece).sum()
    }
}
