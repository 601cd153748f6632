//! What a caller sets for a run, and what the parts of a run share.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::data::{Batches, Samples};
use crate::he::HeError;
use crate::interp::{Batch, EngineError, Watch};

use super::events::{Observer, Progress};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    #[default]
    Encrypted,
    Simulate,
    Clear,
}

impl EngineKind {
    pub const ALL: [(EngineKind, &'static str); 3] = [
        (EngineKind::Encrypted, "encrypted"),
        (EngineKind::Simulate, "simulate"),
        (EngineKind::Clear, "clear"),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    pub engine: EngineKind,
    /// Ends after so many steps.
    pub steps: Option<usize>,
    /// In the place of the program's number of epochs.
    pub epochs: Option<usize>,
    /// Rules initial weights, shuffling and simulated noise; nothing secret.
    pub seed: u64,
    /// Trains the clear engine beside it, on the client.
    pub compare: bool,
    /// Encrypted batches wait in a temporary file instead of in memory.
    pub spill: bool,
    /// Bootstraps at the same time, at most (ring engine): as many as there are threads where this is none.
    pub at_once: Option<usize>,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Keys(#[from] HeError),
    #[error("{0}")]
    Engine(#[from] EngineError),
    #[error("{0}")]
    Data(String),
}

/// Tells an observer how far an engine is.
pub struct Watched<'a> {
    observer: &'a dyn Observer,
    done: AtomicU64,
    total: u64,
}

impl<'a> Watched<'a> {
    pub fn new(observer: &'a dyn Observer, total: u64) -> Self {
        Self { observer, done: AtomicU64::new(0), total }
    }
}

impl Watch for Watched<'_> {
    fn luts(&self, done: u64) {
        let done = self.done.fetch_add(done, Ordering::Relaxed) + done;
        self.observer.progress(Progress { done, total: self.total });
    }

    fn cancelled(&self) -> bool {
        self.observer.cancelled()
    }
}

/// The batches of a run. Each is gathered and scaled when it is drawn, so that a data set is never held as f32.
pub struct Draws<'a> {
    samples: &'a Samples,
    batches: &'a Batches,
    /// Numbers of a sample's label.
    outputs: usize,
    count: usize,
}

impl<'a> Draws<'a> {
    /// The first `limit` batches; `outputs` are the numbers of a sample's label.
    pub fn new(samples: &'a Samples, batches: &'a Batches, outputs: usize, limit: usize) -> Self {
        Self { samples, batches, outputs, count: batches.count().min(limit) }
    }

    /// Different batches.
    pub fn count(&self) -> usize {
        self.count
    }

    /// A batch, below [`Draws::count`].
    pub fn rows(&self, index: usize) -> Rows {
        let rows = self.batches.rows(index);
        let (features, labels) = self.samples.gather(rows, self.outputs);
        Rows { index, size: rows.len(), features, labels }
    }
}

/// One batch's rows, gathered.
pub struct Rows {
    pub index: usize,
    pub size: usize,
    pub features: Vec<f32>,
    pub labels: Vec<f32>,
}

impl Rows {
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            index: self.index,
            size: self.size,
            features: &self.features,
            labels: &self.labels,
            arguments: None,
        }
    }
}
