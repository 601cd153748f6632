//! From a checked task to the graphs that levels, ranges and schedules are solved on: the derivative, fused tables.

use crate::diagnostics::Diagnostic;
use crate::graph::{Graph, NodeId, ParamId, ShapeError};
use crate::typeck::{EvalTask, FunctionTask, TrainTask};

use super::initial::Architecture;

/// Turns a shape error of a generated graph into a diagnostic: the derivative grew too large.
pub fn too_large(task: &str, error: &ShapeError) -> Vec<Diagnostic> {
    vec![
        Diagnostic::error("E0503", format!("the derivative of `{task}` is too large: {error}"))
            .help("use smaller layers or a smaller batch"),
    ]
}

/// A training as graphs, before its schedule.
pub struct Prepared {
    /// The model and its loss, with biases joined to their weights, and the derivative.
    pub forward: Graph,
    pub logits: NodeId,
    /// In `forward`.
    pub loss: NodeId,
    pub architecture: Architecture,
    /// The gradients of one step, with fused tables.
    pub step: Graph,
    pub params: Vec<ParamId>,
    pub gradients: Vec<NodeId>,
}

pub fn prepare_training(task: &TrainTask) -> Result<Prepared, Vec<Diagnostic>> {
    let shape = |error: ShapeError| too_large(&task.model, &error);
    let (mut forward, nodes) = task.graph.with_joined_biases(&[task.loss, task.logits]).map_err(shape)?;
    let (loss, logits) = (nodes[0], nodes[1]);
    let architecture = Architecture::of(&forward, logits);
    let clip = task.optimizer.clip.map(|bound| (bound, logits));
    let derivative = forward.differentiate_clipped(loss, clip).map_err(shape)?;
    let (params, gradients): (Vec<ParamId>, Vec<NodeId>) = derivative.gradients.into_iter().unzip();
    let (step, gradients) = forward.fused(&gradients).map_err(shape)?;
    Ok(Prepared { forward, logits, loss, architecture, step, params, gradients })
}

/// The graph of a function that is run, with fused tables, and its result in it.
pub fn prepare_evaluation(task: &EvalTask) -> Result<(Graph, Vec<NodeId>), Vec<Diagnostic>> {
    task.graph.fused(&[task.result]).map_err(|error| too_large(&task.function, &error))
}

/// The graph of a function that nothing runs, with fused tables, and its result in it.
pub fn prepare_function(task: &FunctionTask) -> Result<(Graph, Vec<NodeId>), Vec<Diagnostic>> {
    task.graph.fused(&[task.result]).map_err(|error| too_large(&task.name, &error))
}
