//! What the checker hands on: the data that a program names, and one graph for each thing that it does.

use super::data_spec::{DataSpec, Spanned};
use crate::diagnostics::{Diagnostic, Severity, Span};
use crate::graph::{Graph, NodeId};

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
    /// Interval of the scaled features, where it is known.
    pub input_range: Option<(f64, f64)>,
    /// Learning rate of the gradient descent; a step subtracts `rate` times the batch's mean gradient.
    pub rate: Spanned<f64>,
    pub batch: Spanned<Batch>,
    pub epochs: Spanned<usize>,
    /// Whether an alignment of levels is an error.
    pub strict: bool,
    pub span: Span,
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
