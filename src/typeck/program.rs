//! What the checker hands on: the data that a program names, and one graph for each thing that it does.

use super::data_spec::{DataSpec, Spanned, WeightTensor};
use crate::diagnostics::{Diagnostic, Severity, Span};
use crate::graph::{Graph, NodeId, ShapeError};

/// The outcome of a check. `program` is there if no diagnostic is an error.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    pub program: Option<Program>,
    pub diagnostics: Vec<Diagnostic>,
}

impl Checked {
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Program {
    pub data: Vec<DataSpec>,
    /// Trainings and evaluations in the order of the source, then functions.
    pub tasks: Vec<Task>,
}

#[derive(Clone, Debug)]
pub enum Task {
    Train(Box<TrainTask>),
    Eval(Box<EvalTask>),
    /// A function or a model that no other task calls: checked, but not run.
    Function(Box<FunctionTask>),
}

/// How the label of a sample reaches the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelKind {
    /// `[classes]`: 1 at the class, 0 elsewhere.
    OneHot(usize),
    /// `[1]`: 1 for the positive class, else 0.
    Binary,
    /// `[n]`: the numbers themselves, a regression.
    Number,
}

/// Samples of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    All,
    Size(usize),
}

/// `train MODEL on DATA { … }`
#[derive(Clone, Debug)]
pub struct TrainTask {
    pub model: String,
    /// Index into [`Program::data`].
    pub data: usize,
    /// The model and its loss for one sample, not yet differentiated.
    pub graph: Graph,
    pub input: NodeId,
    pub label: NodeId,
    /// The model's result, of any shape.
    pub logits: NodeId,
    /// A scalar.
    pub loss: NodeId,
    pub label_kind: LabelKind,
    /// What the client computes before it encrypts: the features of `graph` are its output.
    pub prefix: Option<Prefix>,
    /// Public weights of frozen layers, in the order of the model.
    pub frozen: Vec<WeightTensor>,
    /// Interval of the scaled features, where it is known.
    pub input_range: Option<(f64, f64)>,
    /// Nominal root mean square of the features, where more is known than their interval.
    pub input_rms: Option<f64>,
    /// Least learning rate of the gradient descent; a step subtracts the rate times the batch's mean gradient.
    pub rate: Spanned<f64>,
    pub optimizer: Optimizer,
    pub batch: Spanned<Batch>,
    pub epochs: Spanned<usize>,
    /// Whether an alignment of levels is an error.
    pub strict: bool,
    pub span: Span,
}

impl TrainTask {
    /// The task as it trains in an epoch (from 0), or as it is evaluated; `None` if it has no masks.
    ///
    /// # Errors
    /// The masked graph is too large.
    pub fn masked(&self, epoch: Option<usize>) -> Result<Option<TrainTask>, ShapeError> {
        if self.graph.masks.is_empty() {
            return Ok(None);
        }
        // The features come first: every sample has them, needed or not.
        let wanted = [self.input, self.label, self.logits, self.loss];
        let (graph, moved) = self.graph.masked(epoch, &wanted)?;
        let task = match moved.as_slice() {
            &[input, label, logits, loss] => Self { graph, input, label, logits, loss, ..self.clone() },
            _ => return Ok(None),
        };
        Ok(Some(task))
    }
}

/// How gradients change weights, beside the least rate.
///
/// With the mean gradient g of a batch and the rate r of the epoch: v ← momentum·v + g + weight_decay·w, w ← w − r·v.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    /// By epoch, the rate as a multiple of the least one; at least one entry, of which the last holds for all later epochs.
    pub multiples: Vec<u32>,
    /// From 0 on, below 1.
    pub momentum: f64,
    /// From 0 on, below 1.
    pub weight_decay: f64,
    /// Bound of the elements of a sample's gradient, at the model's result and before each table.
    pub clip: Option<f64>,
}

impl Default for Optimizer {
    fn default() -> Self {
        Self { multiples: vec![1], momentum: 0.0, weight_decay: 0.0, clip: None }
    }
}

impl Optimizer {
    /// The rate of an epoch (from 0) as a multiple of the least one.
    pub fn multiple(&self, epoch: usize) -> u32 {
        self.multiples.get(epoch).or(self.multiples.last()).copied().unwrap_or(1)
    }
}

/// Frozen layers at the beginning of a model: they need no secret weights, so the client computes them in the clear.
#[derive(Clone, Debug)]
pub struct Prefix {
    /// For one sample; no parameters, no labels.
    pub graph: Graph,
    pub input: NodeId,
    pub output: NodeId,
    /// The client clamps its features to this interval, which is what the schedule counts on.
    pub range: (f64, f64),
}

/// From what the client draws an argument before it encrypts it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    Constant(f64),
    Normal {
        mean: f64,
        deviation: f64,
    },
    /// On `[low, high)`.
    Uniform {
        low: f64,
        high: f64,
    },
}

impl Distribution {
    /// An interval that the values do not leave; five standard deviations of a normal distribution.
    pub fn range(self) -> (f64, f64) {
        match self {
            Distribution::Constant(c) => (c, c),
            Distribution::Normal { mean, deviation } => (mean - 5.0 * deviation, mean + 5.0 * deviation),
            Distribution::Uniform { low, high } => (low, high),
        }
    }
}

/// An argument of a function that is run or checked on its own.
#[derive(Clone, Debug)]
pub struct TaskArgument {
    pub name: String,
    pub node: NodeId,
    /// `None` where the function is only checked.
    pub distribution: Option<Distribution>,
}

/// `eval FUNCTION(…)`
#[derive(Clone, Debug)]
pub struct EvalTask {
    pub function: String,
    pub graph: Graph,
    pub arguments: Vec<TaskArgument>,
    pub result: NodeId,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct FunctionTask {
    pub name: String,
    pub graph: Graph,
    pub arguments: Vec<TaskArgument>,
    pub result: NodeId,
    pub span: Span,
}
