//! The tasks of a checked program, compiled: what `check`, `plan` and `run` share.

use std::sync::Arc;

use super::source::Checked;
use crate::data::Dataset;
use crate::diagnostics::{Diagnostic, Severity};
use crate::graph::Graph;
use crate::plan::choice::Choice;
use crate::plan::compile::{Evaluation, Settings, Training};
use crate::plan::schedule::Schedule;
use crate::typeck::levels::Typing;
use crate::typeck::ranges::Ranges;
use crate::typeck::{EvalTask, Program, Task, TrainTask};

/// A task, ready to be planned or run.
pub enum Compiled<'a> {
    Train {
        task: &'a TrainTask,
        training: Box<Training>,
        data: Arc<Dataset>,
    },
    Eval {
        task: &'a EvalTask,
        evaluation: Box<Evaluation>,
    },
    /// A function that nothing runs.
    Checked,
}

impl Compiled<'_> {
    pub fn name(&self) -> &str {
        match self {
            Compiled::Train { training, .. } => &training.model,
            Compiled::Eval { evaluation, .. } => &evaluation.function,
            Compiled::Checked => "",
        }
    }

    /// What one step computes, and its types.
    pub fn graph(&self) -> Option<(&Graph, &Typing)> {
        match self {
            Compiled::Train { training, .. } => Some((&training.step, &training.typing)),
            Compiled::Eval { evaluation, .. } => Some((&evaluation.graph, &evaluation.typing)),
            Compiled::Checked => None,
        }
    }

    /// The ranges of what one step computes.
    pub fn ranges(&self) -> Option<&Ranges> {
        match self {
            Compiled::Train { training, .. } => Some(&training.ranges),
            Compiled::Eval { evaluation, .. } => Some(&evaluation.ranges),
            Compiled::Checked => None,
        }
    }

    /// Why it runs on its schemes.
    pub fn choice(&self) -> Option<&Choice> {
        match self {
            Compiled::Train { training, .. } => Some(&training.choice),
            Compiled::Eval { evaluation, .. } => Some(&evaluation.choice),
            Compiled::Checked => None,
        }
    }

    pub fn schedule(&self) -> Option<&Result<Schedule, Vec<Diagnostic>>> {
        match self {
            Compiled::Train { training, .. } => Some(&training.schedule),
            Compiled::Eval { evaluation, .. } => Some(&evaluation.schedule),
            Compiled::Checked => None,
        }
    }
}

/// Compiles a task of `program`, which belongs to `checked`.
pub fn compile<'a>(
    task: &'a Task,
    program: &Program,
    checked: &Checked,
    settings: Settings,
) -> Result<Compiled<'a>, Vec<Diagnostic>> {
    Ok(match task {
        Task::Train(task) => {
            let data =
                checked.loader.dataset(&program.data[task.data]).map_err(|diagnostic| vec![diagnostic])?;
            let training = Box::new(Training::compile(task, data.train.len, settings)?);
            Compiled::Train { task, training, data }
        }
        Task::Eval(task) => {
            let evaluation = Box::new(Evaluation::compile(task, settings)?);
            Compiled::Eval { task, evaluation }
        }
        Task::Function(_) => Compiled::Checked,
    })
}

/// What only the encrypted engine cannot do is a warning for a program that another engine may run.
pub fn as_warnings(diagnostics: &[Diagnostic]) -> Vec<Diagnostic> {
    let only_encrypted = |d: &Diagnostic| d.code.starts_with("E05");
    diagnostics
        .iter()
        .cloned()
        .map(|d| if only_encrypted(&d) { Diagnostic { severity: Severity::Warning, ..d } } else { d })
        .collect()
}
