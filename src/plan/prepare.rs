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
    /// The model and its loss, with biases joined to their weights. Masks zero nothing here: it is what is evaluated.
    pub forward: Graph,
    pub logits: NodeId,
    /// In `forward`.
    pub loss: NodeId,
    pub architecture: Architecture,
    /// The gradients of one step, with fused tables; where the model has masks, those of the first epoch.
    pub step: Graph,
    pub params: Vec<ParamId>,
    pub gradients: Vec<NodeId>,
}

pub fn prepare_training(task: &TrainTask) -> Result<Prepared, Vec<Diagnostic>> {
    let shape = |error: ShapeError| too_large(&task.model, &error);
    let (evaluated, masked) = (task.masked(None).map_err(shape)?, task.masked(Some(0)).map_err(shape)?);
    let (forward, loss, logits) = joined(evaluated.as_ref().unwrap_or(task)).map_err(shape)?;
    let architecture = Architecture::of(&forward, logits);
    let (step, gradients) = step(masked.as_ref().unwrap_or(task)).map_err(shape)?;
    let (params, gradients) = gradients.into_iter().unzip();
    Ok(Prepared { forward, logits, loss, architecture, step, params, gradients })
}

/// The gradients of a step in an epoch (from 0), where masks make it another than in the first; parameters are numbered as
/// in [`Prepared`].
pub fn prepare_epoch(task: &TrainTask, epoch: usize) -> Result<Option<Step>, ShapeError> {
    task.masked(Some(epoch))?.map(|masked| step(&masked)).transpose()
}

/// A graph with fused tables, and in it the gradient of each parameter.
pub type Step = (Graph, Vec<(ParamId, NodeId)>);

/// The model and its loss, with biases joined to their weights.
fn joined(task: &TrainTask) -> Result<(Graph, NodeId, NodeId), ShapeError> {
    let (graph, nodes) = task.graph.with_joined_biases(&[task.loss, task.logits])?;
    Ok((graph, nodes[0], nodes[1]))
}

fn step(task: &TrainTask) -> Result<Step, ShapeError> {
    let (mut graph, loss, logits) = joined(task)?;
    let clip = task.optimizer.clip.map(|bound| (bound, logits));
    let derivative = graph.differentiate_clipped(loss, clip)?;
    let (params, gradients): (Vec<ParamId>, Vec<NodeId>) = derivative.gradients.into_iter().unzip();
    let (graph, gradients) = graph.fused(&gradients)?;
    Ok((graph, params.into_iter().zip(gradients).collect()))
}

/// The graph of a function that is run, with fused tables, and its result in it.
pub fn prepare_evaluation(task: &EvalTask) -> Result<(Graph, Vec<NodeId>), Vec<Diagnostic>> {
    task.graph.fused(&[task.result]).map_err(|error| too_large(&task.function, &error))
}

/// The graph of a function that nothing runs, with fused tables, and its result in it.
pub fn prepare_function(task: &FunctionTask) -> Result<(Graph, Vec<NodeId>), Vec<Diagnostic>> {
    task.graph.fused(&[task.result]).map_err(|error| too_large(&task.name, &error))
}
