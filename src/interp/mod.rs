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
use crate::plan::estimate::StageSeconds;

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
        f64::from(self.fresh_values(node, sample)[index])
    }

    /// What the client encrypts of a value for a sample.
    fn fresh_values(&self, node: NodeId, sample: usize) -> &[f32] {
        match self.arguments.and_then(|arguments| arguments.get(&node)) {
            Some(values) => values,
            None => row(self.features, self.size, sample),
        }
    }

    fn label_values(&self, sample: usize) -> &[f32] {
        row(self.labels, self.size, sample)
    }

    pub fn label(&self, sample: usize, index: usize) -> f32 {
        self.label_values(sample)[index]
    }
}

fn row(values: &[f32], rows: usize, row: usize) -> &[f32] {
    let width = values.len() / rows;
    &values[row * width..][..width]
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
