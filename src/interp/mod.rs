//! Engines that run a schedule: `clear` (f32), `simulate` (integers and predicted noise), `encrypted`.
//!
//! In: the typed graph or its schedule, batches of samples. Out: trained parameters. Knows no file and no terminal;
//! only `encrypted` needs the kernels of `he`.

pub mod clear;
pub mod encode;
#[cfg(feature = "server")]
pub mod encrypted;
mod numeric;
#[cfg(feature = "server")]
pub mod ring;
pub mod simulate;

use std::collections::HashMap;

use crate::graph::{NONE, NodeId};
use crate::plan::schedule::ProductStep;

/// The samples of one step, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Which batch of the data this is: the same in every epoch.
    pub index: usize,
    pub size: usize,
    /// `[size, elements of a sample]`
    pub features: &'a [f32],
    /// `[size, elements of a label]`
    pub labels: &'a [f32],
    /// Arguments of a function that runs on its own, by node; they take the place of the features.
    pub arguments: Option<&'a HashMap<NodeId, Vec<f32>>>,
}

impl Batch<'_> {
    /// Element of a value that the client encrypts.
    pub fn fresh(&self, node: NodeId, sample: usize, index: usize) -> f64 {
        if let Some(values) = self.arguments.and_then(|arguments| arguments.get(&node)) {
            return f64::from(values[index]);
        }
        f64::from(self.features[sample * (self.features.len() / self.size) + index])
    }

    pub fn label(&self, sample: usize, index: usize) -> f32 {
        self.labels[sample * (self.labels.len() / self.size) + index]
    }
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("interrupted")]
    Cancelled,
    #[error("{0}")]
    Failed(String),
}

/// What watches an engine at work: progress, and whether it should stop.
pub trait Watch: Sync {
    /// So many look-ups more are done. Called from worker threads.
    fn luts(&self, done: u64);
    fn cancelled(&self) -> bool;
}

/// Nobody watches.
pub struct Unwatched;

impl Watch for Unwatched {
    fn luts(&self, _: u64) {}
    fn cancelled(&self) -> bool {
        false
    }
}

/// Look-ups of one site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Excess {
    pub lookups: u64,
    /// Of these, how many had an input beyond the site's range.
    pub beyond: u64,
}

pub trait Engine {
    fn name(&self) -> &'static str;

    /// One step of gradient descent on a batch.
    fn step(&mut self, batch: &Batch<'_>, watch: &dyn Watch) -> Result<(), EngineError>;

    /// The parameters, by the client's decryption where they are encrypted.
    fn parameters(&mut self) -> Result<Vec<Vec<f32>>, EngineError>;

    /// Look-ups that left their range so far, by site of the schedule, where the engine can see them.
    fn excesses(&self) -> &[Excess] {
        &[]
    }
}

/// Integers modulo t of every operand and product of one step.
#[derive(Debug)]
pub struct Trace {
    pub operands: Vec<Vec<i64>>,
    pub products: Vec<Vec<i64>>,
}

fn mapped(map: &[u32], element: usize) -> Option<usize> {
    match map[element] {
        NONE => None,
        index => Some(index as usize),
    }
}

/// The sums of products that a product step stands for, over plain numbers.
///
/// `sides` hold `[batch, elements]` where the side depends on the sample, else `[elements]`.
fn contract<T: Copy + Default>(
    step: &ProductStep,
    sides: [&[T]; 2],
    batch: usize,
    mul: impl Fn(T, T) -> T,
    add: impl Fn(T, T) -> T,
) -> Vec<T> {
    let size = |label: u8| step.sizes.iter().find(|(l, _)| *l == label).map_or(1, |(_, s)| *s);
    let stride = |labels: &[u8], label: u8| {
        labels
            .iter()
            .position(|&l| l == label)
            .map_or(0, |i| labels[i + 1..].iter().map(|&l| size(l)).product())
    };
    let mut loops: Vec<u8> = step.labels[2].clone();
    for label in step.labels.iter().flatten() {
        if !loops.contains(label) {
            loops.push(*label);
        }
    }
    let sizes: Vec<usize> = loops.iter().map(|&l| size(l)).collect();
    let strides: [Vec<usize>; 3] =
        [0, 1, 2].map(|k| loops.iter().map(|&l| stride(&step.labels[k], l)).collect());
    let elements = |labels: &[u8]| labels.iter().map(|&l| size(l)).product::<usize>();
    let counts = [0, 1, 2].map(|k| elements(&step.labels[k]));
    let sampled = step.side_per_sample[0] || step.side_per_sample[1];
    let samples = if sampled { batch } else { 1 };
    let rows = if step.per_sample() { batch } else { 1 };
    let mut out = vec![T::default(); rows * counts[2]];
    let total: usize = sizes.iter().product();
    for sample in 0..samples {
        let base = [0, 1].map(|k| if step.side_per_sample[k] { sample * counts[k] } else { 0 });
        let out_base = if step.per_sample() { sample * counts[2] } else { 0 };
        let mut index = vec![0usize; loops.len()];
        let mut at = [base[0], base[1], out_base];
        for _ in 0..total {
            out[at[2]] = add(out[at[2]], mul(sides[0][at[0]], sides[1][at[1]]));
            for axis in (0..loops.len()).rev() {
                index[axis] += 1;
                (0..3).for_each(|k| at[k] += strides[k][axis]);
                if index[axis] < sizes[axis] {
                    break;
                }
                index[axis] = 0;
                (0..3).for_each(|k| at[k] -= strides[k][axis] * sizes[axis]);
            }
        }
    }
    out
}
