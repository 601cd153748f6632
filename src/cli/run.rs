//! `hesn run`: every `train` of a program, from data to scores, and every `eval`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::args::{EngineName, RunArgs};
use super::observe::Observation;
use super::shell::Shell;
use super::source::{self, Checked};
use super::tasks::{self, Compiled};
use super::{format, interrupt, model_file, summary};
use crate::data::Dataset;
use crate::diagnostics::{Diagnostic, Sources, Span};
use crate::interp::EngineError;
use crate::plan::compile::{Evaluation, Training};
use crate::plan::estimate::{self, Extent, Room};
use crate::plan::schedule::Schedule;

use crate::run::available_memory_bytes;
use crate::run::evaluate::evaluate;
use crate::run::events::Event;
use crate::run::options::{EngineKind, RunError, RunOptions};
use crate::run::prefix;
use crate::run::train::{Length, train};
use crate::typeck::{EvalTask, Task, TrainTask};

/// Threads beyond which a machine only stalls.
const MAX_THREADS: usize = 512;

/// Why a run ends early.
enum Stop {
    /// Already reported.
    Reported,
    Interrupted,
}

pub fn run(args: &RunArgs, shell: &Shell) -> ExitCode {
    if let Some(threads) = args.threads
        && let Err(error) =
            rayon::ThreadPoolBuilder::new().num_threads(threads.get().min(MAX_THREADS)).build_global()
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
    let settings = match source::settings(&args.scheme) {
        Ok(settings) => settings,
        Err(diagnostic) => return fail(shell, &[diagnostic], &Sources::default()),
    };
    let checked = source::check(&args.file, settings);
    shell.diagnostics(&checked.diagnostics, &checked.sources);
    let Some(program) = &checked.program else { return ExitCode::FAILURE };
    let trained = program.tasks.iter().filter(|task| matches!(task, Task::Train(_))).count();
    if let Some(path) = args.out.as_ref().filter(|_| trained != 1) {
        return fail(shell, &[one_training(path, trained)], &checked.sources);
    }
    let job = Job { args, shell, checked: &checked, interrupted };
    let mut ran = 0;
    for task in &program.tasks {
        let result = match tasks::compile(task, program, &checked, settings) {
            Err(diagnostics) => Err(job.report(&diagnostics)),
            Ok(Compiled::Checked) => continue,
            Ok(Compiled::Train { task, training, data }) => job.train(task, &training, &data),
            Ok(Compiled::Eval { task, evaluation }) => job.eval(task, &evaluation),
        };
        ran += 1;
        match result {
            Ok(()) => {}
            Err(Stop::Reported) => return ExitCode::FAILURE,
            Err(Stop::Interrupted) => return ExitCode::from(interrupt::STATUS),
        }
    }
    if ran == 0 {
        return fail(shell, &[source::nothing_to_run(&args.file)], &checked.sources);
    }
    ExitCode::SUCCESS
}

/// `--out` holds the weights of one training.
fn one_training(path: &Path, trained: usize) -> Diagnostic {
    let file = path.display();
    if trained == 0 {
        let message = format!("there are no weights to write to {file}: this program trains nothing");
        return Diagnostic::error("E0617", message)
            .help("leave out `--out`; `--json` prints the values of an `eval`");
    }
    let message = format!("{trained} trainings would write their weights to {file}, one over the other");
    Diagnostic::error("E0617", message).help("keep one `train` in a program that is run with `--out`")
}

fn fail(shell: &Shell, diagnostics: &[Diagnostic], sources: &Sources) -> ExitCode {
    shell.diagnostics(diagnostics, sources);
    ExitCode::FAILURE
}

/// What all tasks of a program share.
struct Job<'a> {
    args: &'a RunArgs,
    shell: &'a Shell,
    checked: &'a Checked,
    interrupted: Arc<AtomicBool>,
}

impl Job<'_> {
    fn report(&self, diagnostics: &[Diagnostic]) -> Stop {
        self.shell.diagnostics(diagnostics, &self.checked.sources);
        Stop::Reported
    }

    fn options(&self) -> RunOptions {
        RunOptions {
            engine: match self.args.engine {
                EngineName::Encrypted => EngineKind::Encrypted,
                EngineName::Simulate => EngineKind::Simulate,
                EngineName::Clear => EngineKind::Clear,
            },
            steps: self.args.steps.map(usize::from),
            epochs: self.args.epochs.map(usize::from),
            seed: self.args.seed,
            compare: self.args.compare,
            spill: false,
            at_once: None,
        }
    }

    /// Runs with a display, which it takes down.
    fn watched<T>(
        &self,
        name: &str,
        span: Span,
        run: impl FnOnce(&Observation<'_>) -> Result<T, RunError>,
    ) -> Result<T, Stop> {
        let observation = Observation::new(self.shell, self.args.json, self.interrupted.clone());
        let result = run(&observation);
        self.shell.diagnostics(&observation.finish(), &self.checked.sources);
        match result {
            Ok(done) => Ok(done),
            Err(RunError::Engine(EngineError::Cancelled)) => {
                if self.args.json {
                    self.shell.json(&Event::Interrupted { steps: 0 });
                }
                self.shell.note("interrupted");
                Err(Stop::Interrupted)
            }
            Err(error) => {
                let diagnostic = Diagnostic::error("E0615", format!("the run of `{name}` failed: {error}"))
                    .label(span, "while running this")
                    .help("`hesn plan` shows what the run needs");
                Err(self.report(&[diagnostic]))
            }
        }
    }

    /// What is wrong with `--out`.
    fn unwritable(&self, path: &Path, error: &std::io::Error) -> Stop {
        let message = format!("the weights cannot be written to {}: {error}", path.display());
        let help = "give `--out` a path in a folder that exists and that you may write to";
        self.report(&[Diagnostic::error("E0617", message).help(help)])
    }

    fn train(&self, task: &TrainTask, training: &Training, data: &Dataset) -> Result<(), Stop> {
        let mut options = self.options();
        if let Some(path) = &self.args.out {
            let data = self.checked.data_paths();
            model_file::check(path, &self.args.file, &data).map_err(|error| self.unwritable(path, &error))?;
        }
        if options.engine != EngineKind::Clear {
            let schedule = self.schedule(&training.schedule)?;
            let steps = Length::of(training, data.train.len, &options).steps;
            let samples = data.train.len.min(steps.saturating_mul(training.batch));
            if let Some(room) = self.room(&task.model, task.span, schedule, Extent { steps, samples })? {
                options = RunOptions { spill: room.spill, at_once: Some(room.at_once), ..options };
            }
            self.warn(schedule, steps);
        }
        let outcome = self.watched(&task.model, task.span, |observer| match &task.prefix {
            None => train(training, task.batch.value, data, &options, observer),
            Some(prefix) => {
                train(training, task.batch.value, &prefix::apply(prefix, data)?, &options, observer)
            }
        })?;
        if let Some(path) = &self.args.out {
            model_file::write(path, task, training, &outcome, data)
                .map_err(|error| self.unwritable(path, &error))?;
        }
        if outcome.interrupted {
            self.shell.note(&format!("interrupted after {} steps", outcome.done.steps));
            return Err(Stop::Interrupted);
        }
        if !self.args.json {
            self.shell.print(&summary::training(&outcome.done, &data.name));
        }
        Ok(())
    }

    fn eval(&self, task: &EvalTask, evaluation: &Evaluation) -> Result<(), Stop> {
        let mut options = self.options();
        let span = task.span;
        if options.engine != EngineKind::Clear {
            let schedule = self.schedule(&evaluation.schedule)?;
            let room = self.room(&evaluation.function, span, schedule, Extent { steps: 1, samples: 1 })?;
            options.at_once = room.map(|room| room.at_once);
            self.warn(schedule, 1);
        }
        let record =
            self.watched(&evaluation.function, span, |observer| evaluate(evaluation, &options, observer))?;
        if !self.args.json {
            self.shell.print(&summary::evaluation(&record));
        }
        Ok(())
    }

    /// The schedule, or why the encrypted engine cannot run the program.
    fn schedule<'s>(&self, schedule: &'s Result<Schedule, Vec<Diagnostic>>) -> Result<&'s Schedule, Stop> {
        schedule.as_ref().map_err(|diagnostics| self.report(diagnostics))
    }

    /// Says what the plan warns of.
    fn warn(&self, schedule: &Schedule, steps: usize) {
        estimate::warnings(schedule, steps)
            .iter()
            .for_each(|warning| self.shell.note(&format!("warning: {warning}")));
    }

    /// How the run keeps to the memory that there is; none where nothing limits it.
    ///
    /// # Errors
    /// What the memory will not hold whatever is done.
    fn room(
        &self,
        name: &str,
        span: Span,
        schedule: &Schedule,
        extent: Extent,
    ) -> Result<Option<Room>, Stop> {
        if self.args.engine != EngineName::Encrypted {
            return Ok(None);
        }
        let source = if self.args.memory.is_some() { "`--memory` allows" } else { "this machine has free" };
        let Some(limit) = self.args.memory.or_else(available_memory_bytes) else { return Ok(None) };
        let needed = estimate::memory_bytes(schedule, extent, 1) as u64;
        if let Some(room) = Room::within(schedule, extent, rayon::current_num_threads(), limit) {
            if room.spill {
                self.shell.note(&format!(
                    "the encrypted data waits in a temporary file: {} are needed, {source} {}",
                    format::bytes(needed as f64),
                    format::bytes(limit as f64)
                ));
            }
            return Ok(Some(room));
        }
        let least = estimate::spilled_memory_bytes(schedule, 1).map_or(needed, |least| least as u64);
        let needed = needed.min(least);
        let message = format!(
            "running `{name}` needs about {}, but {source} {}",
            format::bytes(needed as f64),
            format::bytes(limit as f64)
        );
        // What no smaller batch or model can save: the keys.
        let keys = schedule.parameters.key_bytes() as u64;
        let scheme = schedule.parameters.scheme();
        let other = if scheme == "ckks" { ", or try `--scheme tfhe`, whose keys are smaller" } else { "" };
        let help = if limit <= keys {
            format!(
                "the keys of `{scheme}` alone take {}, whatever the program: allow this one {}{other}",
                format::bytes(keys as f64),
                format::bytes(needed as f64)
            )
        } else {
            format!(
                "the keys are {} of it, and stay; for the rest take a smaller batch, fewer samples (`train: N` in the \
                 data) or a smaller model",
                format::bytes(keys as f64)
            )
        };
        Err(self.report(&[Diagnostic::error("E0616", message).label(span, "too large").help(help)]))
    }
}
