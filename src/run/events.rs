//! What a run reports while it works, and the records that scripts read.
//!
//! In: nothing. Out: [`Event`]s to an [`Observer`]. The JSON names of all fields are stable: other people's
//! scripts read them, so a field may be added but never renamed. Times are wall-clock seconds, accuracies
//! fractions of 1.

use serde::Serialize;

use crate::diagnostics::Diagnostic;
use crate::plan::estimate::{ParametersReport, StageSeconds};

/// A part of a run that takes a noticeable time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The client reads and scales its data.
    Load,
    /// Schedule, parameters and estimates.
    Plan,
    /// The client makes its keys, and the server's.
    Keys,
    /// The client encrypts its samples.
    Encrypt,
    /// The server works on ciphertexts, or the engine that stands in for it.
    Train,
    /// The client decrypts.
    Decrypt,
    /// The client measures the model on its test split.
    Evaluate,
    /// The client trains the clear engine for comparison.
    Compare,
}

impl Phase {
    /// In words, with who does it: `client: making keys`.
    pub fn describe(self) -> &'static str {
        match self {
            Phase::Load => "client: reading and scaling the data",
            Phase::Plan => "planning",
            Phase::Keys => "client: making keys",
            Phase::Encrypt => "client: encrypting",
            Phase::Train => "training",
            Phase::Decrypt => "client: decrypting",
            Phase::Evaluate => "client: testing",
            Phase::Compare => "client: training in the clear, for comparison",
        }
    }
}

/// How far a phase is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Look-ups (bootstraps) done in this phase.
    pub done: u64,
    /// Look-ups of the whole phase.
    pub total: u64,
}

/// One step of gradient descent is done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepRecord {
    pub engine: String,
    /// From 1, over all epochs.
    pub step: usize,
    pub steps: usize,
    /// From 1.
    pub epoch: usize,
    /// Look-ups of this step.
    pub luts: u64,
    pub seconds: f64,
    /// What the seconds are made of, on an engine that works on ciphertexts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage_seconds: Option<StageSeconds>,
}

/// One epoch is done. What is measured is measured by the client, on the weights that it decrypted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EpochRecord {
    pub engine: String,
    /// From 1.
    pub epoch: usize,
    pub epochs: usize,
    /// Steps so far.
    pub steps: usize,
    /// Look-ups so far.
    pub luts: u64,
    /// Of this epoch.
    pub seconds: f64,
    #[serde(flatten)]
    pub scores: Scores,
}

/// Measures of a model: accuracies for classes, root mean square errors for a regression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Scores {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_accuracy: Option<f64>,
    /// In the unit of the target column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_rmse: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_rmse: Option<f64>,
}

/// The last record of a training run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DoneRecord {
    pub engine: String,
    pub model: String,
    #[serde(flatten)]
    pub scores: Scores,
    /// With `--compare`: of the clear engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear_accuracy: Option<f64>,
    /// With `--compare`: of the clear engine, for a regression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear_rmse: Option<f64>,
    pub steps: usize,
    pub epochs: usize,
    pub luts: u64,
    /// Keys and encryption.
    pub setup_seconds: f64,
    pub train_seconds: f64,
    /// What the seconds of all steps are made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage_seconds: Option<StageSeconds>,
    /// What the client sent for each sample, its label included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ciphertext_bytes_per_sample: Option<f64>,
    /// What the client got back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_bytes: Option<u64>,
    /// Of this process; 0 where the system does not tell.
    pub peak_memory_bytes: u64,
    /// `null` on the clear engine.
    pub parameters: Option<ParametersReport>,
}

/// The result of a function that an `eval` declaration runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ResultRecord {
    pub engine: String,
    pub name: String,
    pub shape: Vec<usize>,
    /// Row-major, by the client's decryption.
    pub values: Vec<f32>,
    /// The largest difference from the clear engine's values.
    pub max_error: f64,
    /// The root mean square of the differences.
    pub rms_error: f64,
    pub luts: u64,
    pub setup_seconds: f64,
    pub seconds: f64,
    pub parameters: Option<ParametersReport>,
}

/// One line of `--json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Step(StepRecord),
    Epoch(EpochRecord),
    Done(DoneRecord),
    Result(ResultRecord),
    /// The user stopped the run.
    Interrupted {
        /// Whole steps that were taken.
        steps: usize,
    },
}

/// Watches a run. Its methods may be called from several threads, and are called often: they must be quick.
pub trait Observer: Sync {
    /// A phase begins.
    fn phase(&self, phase: Phase);
    /// The running phase is so far.
    fn progress(&self, progress: Progress);
    fn event(&self, event: Event);
    fn warn(&self, diagnostic: Diagnostic);
    /// Whether the user wants the run to stop. Asked at least between batches of look-ups.
    fn cancelled(&self) -> bool;
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn phase(&self, _: Phase) {}
    fn progress(&self, _: Progress) {}
    fn event(&self, _: Event) {}
    fn warn(&self, _: Diagnostic) {}
    fn cancelled(&self) -> bool {
        false
    }
}
