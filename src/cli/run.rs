//! `hesn run`: every `train` of a program, from data to scores.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::args::{EngineName, RunArgs};
use super::observe::Observation;
use super::shell::Shell;
use super::source::{self, Checked};
use super::{interrupt, model_file, summary};
use crate::diagnostics::{Diagnostic, Severity, Sources};
use crate::interp::EngineError;
use crate::plan::compile::{Settings, Training};
use crate::plan::estimate::{self, Costs, Extent};
use crate::run::available_memory_bytes;
use crate::run::events::Event;
use crate::run::train::{EngineKind, Length, Outcome, RunError, RunOptions, train};
use crate::typeck::{Task, TrainTask};

/// Why a run ends early.
enum Stop {
    /// Already reported.
    Reported,
    Interrupted,
}

pub fn run(args: &RunArgs, shell: &Shell) -> ExitCode {
    if let Some(threads) = args.threads
        && let Err(error) = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global()
    {
        shell.note(&format!("error: {threads} threads cannot be started: {error}"));
        return ExitCode::FAILURE;
    }
    let interrupted = match interrupt::watch() {
        Ok(flag) => flag,
        Err(error) => {
            shell.note(&format!("warning: Ctrl-C will end the run at once: {error}"));
            Arc::default()
        }
    };
    let checked = source::check(&args.file);
    shell.diagnostics(&checked.diagnostics, &checked.sources);
    let Some(program) = &checked.program else { return ExitCode::FAILURE };
    let settings = match source::settings(&args.scheme) {
        Ok(settings) => settings,
        Err(diagnostic) => return fail(shell, &[diagnostic], &checked.sources),
    };
    let trainings: Vec<&TrainTask> = program
        .tasks
        .iter()
        .filter_map(|task| match task {
            Task::Train(task) => Some(&**task),
            _ => None,
        })
        .collect();
    if trainings.is_empty() {
        let message = format!("{} trains nothing", args.file.display());
        let nothing = Diagnostic::error("E0614", message).help("add `train MODEL on DATA { … }`");
        return fail(shell, &[nothing], &checked.sources);
    }
    let job = Job { args, shell, checked: &checked, settings, interrupted };
    for task in trainings {
        match job.train(task) {
            Ok(()) => {}
            Err(Stop::Reported) => return ExitCode::FAILURE,
            Err(Stop::Interrupted) => return ExitCode::from(interrupt::STATUS),
        }
    }
    ExitCode::SUCCESS
}

fn fail(shell: &Shell, diagnostics: &[Diagnostic], sources: &Sources) -> ExitCode {
    shell.diagnostics(diagnostics, sources);
    ExitCode::FAILURE
}

/// What all trainings of a program share.
struct Job<'a> {
    args: &'a RunArgs,
    shell: &'a Shell,
    checked: &'a Checked,
    settings: Settings,
    interrupted: Arc<AtomicBool>,
}

impl Job<'_> {
    fn train(&self, task: &TrainTask) -> Result<(), Stop> {
        let Self { args, shell, checked, .. } = self;
        let report = |diagnostics: &[Diagnostic]| {
            shell.diagnostics(diagnostics, &checked.sources);
            Stop::Reported
        };
        let spec =
            checked.program.as_ref().and_then(|program| program.data.get(task.data)).ok_or(Stop::Reported)?;
        let data = checked.loader.dataset(spec).map_err(|diagnostic| report(&[diagnostic]))?;
        let training = Training::compile(task, data.train.len, self.settings)
            .map_err(|diagnostics| report(&diagnostics))?;
        let options = RunOptions {
            engine: match args.engine {
                EngineName::Encrypted => EngineKind::Encrypted,
                EngineName::Simulate => EngineKind::Simulate,
                EngineName::Clear => EngineKind::Clear,
            },
            steps: args.steps.map(usize::from),
            epochs: args.epochs.map(usize::from),
            seed: args.seed,
            compare: args.compare,
        };
        if options.engine != EngineKind::Clear {
            self.check_schedule(task, &training, &options, data.train.len).map_err(|d| report(&d))?;
        }
        let observation = Observation::new(shell, args.json, self.interrupted.clone());
        let result = train(&training, task.batch.value, &data, &options, &observation);
        let (events, warnings) = observation.finish();
        shell.diagnostics(&warnings, &checked.sources);
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(RunError::Engine(EngineError::Cancelled)) => {
                shell.note("interrupted before the first step");
                return Err(Stop::Interrupted);
            }
            Err(error) => {
                let diagnostic =
                    Diagnostic::error("E0615", format!("the run of `{}` failed: {error}", task.model))
                        .label(task.span, "while running this")
                        .help("`hesn plan` shows what the run needs");
                return Err(report(&[diagnostic]));
            }
        };
        if !args.json {
            for event in &events {
                if let Event::Done(record) = event {
                    shell.print(&summary::done(record, &spec.name));
                }
            }
        }
        if let Some(path) = &args.out {
            self.write(path, &training, &outcome, &data).map_err(|diagnostic| report(&[diagnostic]))?;
        }
        if outcome.interrupted {
            shell.note(&format!("interrupted after {} steps", outcome.done.steps));
            return Err(Stop::Interrupted);
        }
        Ok(())
    }

    /// Whether the program has a schedule, and the memory for it.
    fn check_schedule(
        &self,
        task: &TrainTask,
        training: &Training,
        options: &RunOptions,
        samples: usize,
    ) -> Result<(), Vec<Diagnostic>> {
        let schedule = training.schedule.as_ref().map_err(|diagnostics| {
            let mut diagnostics = diagnostics.clone();
            for diagnostic in
                diagnostics.iter_mut().filter(|d| d.severity == Severity::Error && d.help.is_none())
            {
                diagnostic.help = Some("`--engine clear` runs it in the clear".to_owned());
            }
            diagnostics
        })?;
        if options.engine != EngineKind::Encrypted {
            return Ok(());
        }
        let steps = Length::of(training, samples, options).steps;
        let costs = Costs::typical(schedule.profile, rayon::current_num_threads());
        let encrypted = samples.min(steps.saturating_mul(training.batch));
        let extent = Extent { steps, samples: encrypted };
        let report =
            estimate::report(&task.model, schedule, &costs, extent, training.typing.alignments.len());
        let (needed, source) = (
            report.memory_bytes as u64,
            match self.args.memory {
                Some(_) => "`--memory` allows",
                None => "this machine has free",
            },
        );
        let Some(limit) = self.args.memory.or_else(available_memory_bytes).filter(|&limit| needed > limit)
        else {
            return Ok(());
        };
        let message = format!(
            "training `{}` needs about {}, but {source} {}",
            task.model,
            super::format::bytes(needed as f64),
            super::format::bytes(limit as f64)
        );
        Err(vec![Diagnostic::error("E0616", message).label(task.span, "too large for this memory").help(
            "take a smaller batch or fewer samples (`train: N` in the data), a smaller model, or a machine with more memory",
        )])
    }

    fn write(
        &self,
        path: &Path,
        training: &Training,
        outcome: &Outcome,
        data: &crate::data::Dataset,
    ) -> Result<(), Diagnostic> {
        model_file::write(path, training, outcome, data).map_err(|error| {
            Diagnostic::error(
                "E0617",
                format!("the weights cannot be written to {}: {error}", path.display()),
            )
            .help("give `--out` a path in a folder that exists and that you may write to")
        })
    }
}
