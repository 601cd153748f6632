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

use crate::graph::{ConvGeometry, NONE, NodeId};
use crate::plan::estimate::StageSeconds;
use crate::plan::lower::{Contraction, ConvPart, ProductKind};
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

/// Bytes between client and server, as sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traffic {
    pub ciphertext_bytes_per_sample: f64,
    /// The masters, on their way back.
    pub weight_bytes: usize,
}

pub trait Engine {
    fn name(&self) -> &'static str;

    /// Called before the first step of each epoch (from 0): the rate may change.
    fn begin_epoch(&mut self, epoch: usize) -> Result<(), EngineError> {
        let _ = epoch;
        Ok(())
    }

    /// One step of gradient descent on a batch.
    fn step(&mut self, batch: &Batch<'_>, watch: &dyn Watch) -> Result<(), EngineError>;

    /// The parameters, by the client's decryption where they are encrypted.
    fn parameters(&mut self) -> Result<Vec<Vec<f32>>, EngineError>;

    /// Where the time of the last step went, where there are stages.
    fn stage_seconds(&self) -> Option<StageSeconds> {
        None
    }

    /// What client and server exchange, where they do.
    fn traffic(&self) -> Option<Traffic> {
        None
    }

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
    let sampled = step.side_per_sample[0] || step.side_per_sample[1];
    let samples = if sampled { batch } else { 1 };
    let rows = if step.per_sample() { batch } else { 1 };
    let counts = [0, 1].map(|k| sides[k].len() / if step.side_per_sample[k] { batch.max(1) } else { 1 });
    let mut out = vec![T::default(); rows * step.elements];
    for sample in 0..samples {
        let base = [0, 1].map(|k| if step.side_per_sample[k] { sample * counts[k] } else { 0 });
        let out_base = if step.per_sample() { sample * step.elements } else { 0 };
        let meet = |left: usize, right: usize, result: usize| {
            let at = out_base + result;
            out[at] = add(out[at], mul(sides[0][base[0] + left], sides[1][base[1] + right]));
        };
        match &step.kind {
            ProductKind::Contract(own) => contracted(own, meet),
            ProductKind::Conv { part, geometry, .. } => convolved(*part, geometry, meet),
        }
    }
    out
}

/// Calls `meet` with the elements of left, right and result for each product of a contraction.
fn contracted(own: &Contraction, mut meet: impl FnMut(usize, usize, usize)) {
    let stride = |labels: &[u8], label: u8| {
        labels
            .iter()
            .position(|&l| l == label)
            .map_or(0, |i| labels[i + 1..].iter().map(|&l| own.size(l)).product())
    };
    let mut loops: Vec<u8> = own.labels[2].clone();
    for label in own.labels.iter().flatten() {
        if !loops.contains(label) {
            loops.push(*label);
        }
    }
    let sizes: Vec<usize> = loops.iter().map(|&l| own.size(l)).collect();
    let strides: [Vec<usize>; 3] =
        [0, 1, 2].map(|k| loops.iter().map(|&l| stride(&own.labels[k], l)).collect());
    let mut index = vec![0usize; loops.len()];
    let mut at = [0; 3];
    for _ in 0..sizes.iter().product() {
        meet(at[0], at[1], at[2]);
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

/// Calls `meet` with the elements of left, right and result for each product of a convolution or of one of its gradients.
fn convolved(part: ConvPart, geometry: &ConvGeometry, mut meet: impl FnMut(usize, usize, usize)) {
    let [channels, height, width] = geometry.image;
    let [outputs, _, rows, columns] = geometry.kernel;
    let [out_height, out_width] = geometry.output();
    for o in 0..outputs {
        for c in 0..channels {
            for (u, v) in (0..rows).flat_map(|u| (0..columns).map(move |v| (u, v))) {
                let kernel = ((o * channels + c) * rows + u) * columns + v;
                for (y, x) in (0..out_height).flat_map(|y| (0..out_width).map(move |x| (y, x))) {
                    let row = (y * geometry.stride + u).wrapping_sub(geometry.pad[0]);
                    let column = (x * geometry.stride + v).wrapping_sub(geometry.pad[2]);
                    if row >= height || column >= width {
                        continue;
                    }
                    let image = (c * height + row) * width + column;
                    let result = (o * out_height + y) * out_width + x;
                    match part {
                        ConvPart::Result => meet(image, kernel, result),
                        ConvPart::Image => meet(result, kernel, image),
                        ConvPart::Kernel => meet(image, result, kernel),
                    }
                }
            }
        }
    }
}
