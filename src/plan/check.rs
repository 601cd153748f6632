//! Levels and ranges of a program's graphs: what the checker finds beyond names and shapes.

use std::collections::HashMap;

use super::choice::families;
use super::compile::Settings;
use super::lower::RangeOf;
use super::parameters::Parameters;
use super::prepare::{Prepared, prepare_evaluation, prepare_function, prepare_training};
use crate::diagnostics::Diagnostic;
use crate::graph::{Graph, NodeId, ParamId};
use crate::he::ckks::params::RING_PROFILES;
use crate::typeck::levels::{self, Family, LevelOptions, Typing};
use crate::typeck::ranges::{self, ArgumentSize, RangeOptions, Ranges, nominal_rms};
use crate::typeck::{LabelKind, Program, Task, TaskArgument, TrainTask};

/// What the checker found.
pub struct Checked {
    pub ranges: Ranges,
    pub typing: Typing,
}

impl RangeOf for Ranges {
    fn site(&self, node: NodeId) -> f64 {
        self.site(node)
    }

    fn param(&self, param: ParamId) -> f64 {
        self.param(param)
    }
}

/// Every error and warning about schemes, levels and ranges of a program.
pub fn diagnose(program: &Program, settings: Settings) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for task in &program.tasks {
        let function = |(graph, outputs): (Graph, Vec<NodeId>), arguments| {
            any_family(&graph, settings, |family| {
                check_function(&graph, &outputs, arguments, family, settings)
            })
        };
        let checked = match task {
            Task::Train(task) => prepare_training(task).and_then(|prepared| {
                any_family(&prepared.step, settings, |family| {
                    check_training(&prepared, task, family, settings)
                })
            }),
            Task::Eval(task) => {
                prepare_evaluation(task).and_then(|prepared| function(prepared, &task.arguments))
            }
            Task::Function(task) => {
                prepare_function(task).and_then(|prepared| function(prepared, &task.arguments))
            }
        };
        let found = match checked {
            Ok(checked) => checked.ranges.warnings,
            Err(errors) => errors,
        };
        for diagnostic in found {
            // Functions that several tasks use are checked with each of them.
            if !diagnostics.contains(&diagnostic) {
                diagnostics.push(diagnostic);
            }
        }
    }
    diagnostics
}

/// What is found with the first engine that can run a graph; else what the first says.
fn any_family(
    graph: &Graph,
    settings: Settings,
    check: impl Fn(Family) -> Result<Checked, Vec<Diagnostic>>,
) -> Result<Checked, Vec<Diagnostic>> {
    let mut first = Ok(());
    for family in families(graph, settings).0 {
        match check(family) {
            Ok(checked) => return Ok(checked),
            Err(errors) => first = first.and(Err(errors)),
        }
    }
    Err(first.err().unwrap_or_default())
}

fn level_options(training: bool, family: Family, settings: Settings) -> LevelOptions {
    match family {
        Family::Tfhe => LevelOptions::from_table(training, settings.parameters.map(Parameters::name)),
        Family::Ckks => LevelOptions::ring(training),
    }
}

fn plaintext_bits(family: Family, settings: Settings) -> u32 {
    let usual = match family {
        Family::Tfhe => RangeOptions::default().plaintext_bits,
        Family::Ckks => {
            RING_PROFILES.iter().map(|row| Parameters::Ckks(row).modulus_bits()).max().unwrap_or(0)
        }
    };
    settings.parameters.map_or(usual, Parameters::modulus_bits)
}

/// Levels and ranges of the gradients of a training.
pub fn check_training(
    prepared: &Prepared,
    task: &TrainTask,
    family: Family,
    settings: Settings,
) -> Result<Checked, Vec<Diagnostic>> {
    let (graph, gradients) = (&prepared.step, &prepared.gradients);
    let options = level_options(true, family, settings);
    let typing = levels::solve(graph, gradients, &options)?;
    if task.strict && !typing.alignments.is_empty() {
        return Err(typing.alignment_errors(graph));
    }
    let options = RangeOptions {
        input_rms: input_rms(task),
        input: task.input_range,
        label: match task.label_kind {
            LabelKind::OneHot(_) | LabelKind::Binary => Some((0.0, 1.0)),
            LabelKind::Number => None,
        },
        last: prepared.architecture.last.clone(),
        linear: prepared.architecture.linear,
        plaintext_bits: plaintext_bits(family, settings),
        ..RangeOptions::default()
    };
    Ok(Checked { ranges: ranges::solve(graph, gradients, &options)?, typing })
}

/// Levels and ranges of a function; the sizes of its arguments are known where it is run.
pub fn check_function(
    graph: &Graph,
    outputs: &[NodeId],
    arguments: &[TaskArgument],
    family: Family,
    settings: Settings,
) -> Result<Checked, Vec<Diagnostic>> {
    let options = level_options(false, family, settings);
    let typing = levels::solve(graph, outputs, &options)?;
    let sizes: HashMap<String, ArgumentSize> = arguments
        .iter()
        .filter_map(|argument| {
            let range = argument.distribution?.range();
            Some((argument.name.clone(), ArgumentSize { range, rms: nominal_rms(Some(range)) }))
        })
        .collect();
    let options = RangeOptions {
        arguments: sizes,
        plaintext_bits: plaintext_bits(family, settings),
        ..RangeOptions::default()
    };
    Ok(Checked { ranges: ranges::solve(graph, outputs, &options)?, typing })
}

/// Nominal root mean square of the features of a training.
pub fn input_rms(task: &TrainTask) -> f64 {
    task.input_rms.unwrap_or_else(|| nominal_rms(task.input_range))
}
