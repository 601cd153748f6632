//! From a checked task to what engines run: the derivative, fused tables, levels, ranges, and the schedule.

use std::collections::HashMap;

use crate::diagnostics::Diagnostic;
use crate::graph::{Graph, NodeId, Op, ParamId, ShapeError};
use crate::he::ckks::params::RING_PROFILES;
use crate::he::params::PROFILES;
use crate::typeck::levels::{Family, Typing};
use crate::typeck::ranges::Ranges;
use crate::typeck::{Batch, EvalTask, Optimizer, TaskArgument, TrainTask};

use super::build::{Purpose, build};
use super::check::{check_function, check_training, input_rms};
use super::choice::{Candidate, Choice, choose};
use super::initial::Architecture;
use super::lower::{Lowered, Lowering, Side, Target};
use super::nominal::Nominal;
use super::parameters::{Parameters, SchemeChoice};
use super::prepare::{Prepared, prepare_training, too_large};
use super::schedule::Schedule;

/// What a user may set from outside the program.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// `--scheme`
    pub scheme: SchemeChoice,
    /// `--profile`; otherwise the first that carries the program.
    pub parameters: Option<Parameters>,
}

/// A training task, ready for every engine.
pub struct Training {
    pub model: String,
    /// The model, with biases joined to their weights.
    pub forward: Graph,
    pub logits: NodeId,
    /// In `forward`, for one sample.
    pub loss: NodeId,
    pub architecture: Architecture,
    /// The gradients of one step.
    pub step: Graph,
    pub gradients: Vec<(ParamId, NodeId)>,
    /// The least rate; `optimizer` has the multiples of it.
    pub rate: f64,
    pub optimizer: Optimizer,
    /// The task, where its masks make each epoch's step another.
    pub masked: Option<Box<TrainTask>>,
    /// Samples of a step.
    pub batch: usize,
    pub epochs: usize,
    /// `Err` says why the program runs on the clear engine only.
    pub schedule: Result<Schedule, Vec<Diagnostic>>,
    /// Schemes and levels of the values that the schedule computes.
    pub typing: Typing,
    /// Ranges of the same values.
    pub ranges: Ranges,
    /// Why the schedule is on its schemes.
    pub choice: Choice,
}

/// A function's evaluation, ready for every engine.
pub struct Evaluation {
    pub function: String,
    pub graph: Graph,
    /// With the nodes of `graph`.
    pub arguments: Vec<TaskArgument>,
    pub result: NodeId,
    pub schedule: Result<Schedule, Vec<Diagnostic>>,
    /// Schemes and levels of the values that the schedule computes.
    pub typing: Typing,
    /// Ranges of the same values.
    pub ranges: Ranges,
    /// Why the schedule is on its schemes.
    pub choice: Choice,
}

impl Training {
    /// Compiles a task for `samples` training samples.
    ///
    /// # Errors
    /// What the checker finds in the derivative. A program that only the encrypted engine cannot run is no error.
    pub fn compile(task: &TrainTask, samples: usize, settings: Settings) -> Result<Self, Vec<Diagnostic>> {
        let prepared = prepare_training(task)?;
        let batch = match task.batch.value {
            Batch::All => samples,
            Batch::Size(size) => size,
        };
        if batch > samples {
            let message = format!("{samples} training samples do not fill a batch of {batch}");
            return Err(vec![
                Diagnostic::error("E0215", message)
                    .label(task.batch.span, "the batch")
                    .help(format!("write `batch: all`, or at most `batch: {samples}`")),
            ]);
        }
        let rate = task.rate.value;
        let nominal = Nominal { input_rms: input_rms(task), argument_rms: HashMap::new() };
        let purpose = Purpose::Train { params: &prepared.params, rate };
        let steps = task.epochs.value.saturating_mul((samples / batch.max(1)).max(1));
        let (graph, outputs) = decayed(&prepared, task.optimizer.weight_decay * batch as f64)
            .map_err(|error| too_large(&task.model, &error))?;
        let (candidate, choice) = choose(&prepared.step, settings, steps, |family| {
            let checked = check_training(&prepared, task, family, settings)?;
            let parameters = rows(family, settings);
            let schedule =
                schedule(&graph, &outputs, &checked.ranges, batch, &nominal, &purpose, &parameters);
            Ok(Candidate { checked, schedule })
        })?;
        let Prepared { forward, logits, loss, architecture, step, params, gradients } = prepared;
        Ok(Self {
            model: task.model.clone(),
            forward,
            logits,
            loss,
            architecture,
            gradients: params.into_iter().zip(gradients).collect(),
            step,
            rate,
            optimizer: task.optimizer.clone(),
            masked: (!task.graph.masks.is_empty()).then(|| Box::new(task.clone())),
            batch,
            epochs: task.epochs.value,
            schedule: unencrypted(task).map_or(candidate.schedule, Err).map_err(|d| vec![d]),
            typing: candidate.checked.typing,
            ranges: candidate.checked.ranges,
            choice,
        })
    }
}

/// The step's graph and its gradients, to which the decay of a batch adds so many times the weights.
fn decayed(prepared: &Prepared, decay: f64) -> Result<(Graph, Vec<NodeId>), ShapeError> {
    let mut graph = prepared.step.clone();
    let mut gradients = prepared.gradients.clone();
    if decay > 0.0 {
        let nodes: HashMap<ParamId, NodeId> = graph
            .ids()
            .filter_map(|id| match graph.node(id).op {
                Op::Param(param) => Some((param, id)),
                _ => None,
            })
            .collect();
        for (gradient, param) in gradients.iter_mut().zip(&prepared.params) {
            let Some(&weights) = nodes.get(param) else { continue };
            let origin = graph.node(*gradient).origin.clone();
            let decay = graph.scale(weights, decay, &origin)?;
            *gradient = graph.add(*gradient, decay, &origin)?;
        }
    }
    Ok((graph, gradients))
}

/// What of a training's gradient descent no encrypted engine can do.
fn unencrypted(task: &TrainTask) -> Option<Diagnostic> {
    let Optimizer { momentum, .. } = &task.optimizer;
    let what = if *momentum > 0.0 {
        "`momentum`"
    } else if !task.graph.masks.is_empty() && task.epochs.value > 1 {
        "a mask that changes from epoch to epoch"
    } else if !task.optimizer.is_constant() {
        "a rate that changes"
    } else {
        return None;
    };
    Some(
        Diagnostic::error("E0504", format!("{what} runs in the clear only"))
            .label(task.rate.span, "this gradient descent")
            .help("leave it out, or take `--engine clear`; `hesn explain E0504` says why"),
    )
}

impl Evaluation {
    pub fn compile(task: &EvalTask, settings: Settings) -> Result<Self, Vec<Diagnostic>> {
        let mut roots = vec![task.result];
        roots.extend(task.arguments.iter().map(|argument| argument.node));
        let (graph, mut outputs) =
            task.graph.fused(&roots).map_err(|error| too_large(&task.function, &error))?;
        let nodes = outputs.split_off(1);
        let arguments = task.arguments.iter().cloned().zip(nodes);
        let arguments = arguments.map(|(argument, node)| TaskArgument { node, ..argument }).collect();
        let argument_rms = task
            .arguments
            .iter()
            .map(|argument| {
                let range = argument.distribution.map(|d| d.range());
                (argument.name.clone(), range.map_or(0.5, |(low, high)| low.abs().max(high.abs()) / 2.0))
            })
            .collect();
        let nominal = Nominal { input_rms: 0.5, argument_rms };
        let (candidate, choice) = choose(&graph, settings, 1, |family| {
            let checked = check_function(&graph, &outputs, &task.arguments, family, settings)?;
            let range = super::lower::RangeOf::site(&checked.ranges, outputs[0]);
            let purpose = Purpose::Evaluate { ranges: &[range] };
            let parameters = rows(family, settings);
            let schedule = schedule(&graph, &outputs, &checked.ranges, 1, &nominal, &purpose, &parameters);
            Ok(Candidate { checked, schedule })
        })?;
        Ok(Self {
            function: task.function.clone(),
            result: outputs[0],
            arguments,
            graph,
            schedule: candidate.schedule.map_err(|d| vec![d]),
            typing: candidate.checked.typing,
            ranges: candidate.checked.ranges,
            choice,
        })
    }
}

/// Products in a row that a lowered program needs.
fn depth(lowered: &Lowered) -> usize {
    let mut depth: Vec<usize> = Vec::new();
    for product in &lowered.products {
        let inner = product.sides.iter().map(|side| match side {
            Side::Product(inner) => depth[*inner],
            Side::Leaf(_) => 0,
        });
        depth.push(1 + inner.max().unwrap_or(0));
    }
    depth.into_iter().max().unwrap_or(0)
}

/// The rows that settings leave to choose from, the one to be preferred first.
fn rows(family: Family, settings: Settings) -> Vec<Parameters> {
    match (settings.parameters, family) {
        (Some(row), _) => vec![row],
        (None, Family::Tfhe) => PROFILES.iter().map(Parameters::Tfhe).collect(),
        // The last carries every function.
        (None, Family::Ckks) => RING_PROFILES.iter().rev().map(Parameters::Ckks).collect(),
    }
}

fn schedule(
    graph: &Graph,
    outputs: &[NodeId],
    ranges: &dyn super::lower::RangeOf,
    batch: usize,
    nominal: &Nominal,
    purpose: &Purpose<'_>,
    rows: &[Parameters],
) -> Result<Schedule, Diagnostic> {
    let deepest = rows.iter().copied().max_by_key(|row| row.depth());
    let Some(deepest) = deepest.map(Target::of) else {
        return Err(Diagnostic::error("E0502", "no parameters are left to choose from"));
    };
    // The depth picks the ring; images are cut for the smallest one.
    let degree = rows.iter().map(|row| row.degree()).min().unwrap_or(deepest.degree);
    let deepest = Target { degree, ..deepest };
    let lowered = Lowering::run(graph, outputs, ranges, deepest)?;
    let needed = depth(&lowered);
    let chosen = rows.iter().copied().find(|row| row.depth() >= needed);
    let Some(parameters) = chosen else {
        return Err(Diagnostic::error("E0301", format!("no profile carries {needed} products in a row"))
            .help("put `refresh(…)` or a function between them"));
    };
    build(graph, &lowered, ranges, (parameters, rows), batch, nominal, purpose)
}
