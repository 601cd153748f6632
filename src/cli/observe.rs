//! What a person sees of a run on standard error, and what a script reads on standard output.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::format;
use super::shell::Shell;
use crate::diagnostics::Diagnostic;
use crate::run::events::{EpochRecord, Event, Observer, Phase, Progress, Scores};

/// Shows a run: a progress bar on a terminal, a line per epoch elsewhere, records as JSON if a script asks for them.
pub struct Observation<'a> {
    shell: &'a Shell,
    json: bool,
    terminal: bool,
    interrupted: Arc<AtomicBool>,
    shown: Mutex<Shown>,
}

/// What is on the screen.
struct Shown {
    bar: ProgressBar,
    phase: Option<Phase>,
    /// Whether the running bar counts.
    counting: bool,
    /// When the phase began.
    began: Instant,
    /// When a line last said how far it is.
    noted: Instant,
    /// Engine whose table has a head.
    headed: Option<String>,
    warnings: Vec<Diagnostic>,
}

impl<'a> Observation<'a> {
    pub fn new(shell: &'a Shell, json: bool, interrupted: Arc<AtomicBool>) -> Self {
        let shown = Shown {
            bar: ProgressBar::hidden(),
            phase: None,
            counting: false,
            began: Instant::now(),
            noted: Instant::now(),
            headed: None,
            warnings: Vec::new(),
        };
        let terminal = io::stderr().is_terminal();
        Self { shell, json, terminal, interrupted, shown: Mutex::new(shown) }
    }

    /// Ends the display. Gives back the warnings that came meanwhile.
    pub fn finish(self) -> Vec<Diagnostic> {
        let shown = self.shown.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        shown.bar.finish_and_clear();
        shown.warnings
    }

    /// A panic elsewhere does not matter to what is shown.
    fn shown(&self) -> std::sync::MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A line above the bar.
    fn line(&self, shown: &Shown, text: &str) {
        if self.terminal {
            shown.bar.suspend(|| self.shell.note(text));
        } else {
            self.shell.note(text);
        }
    }

    fn epoch(&self, shown: &mut Shown, record: &EpochRecord) {
        if shown.headed.as_ref() != Some(&record.engine) {
            let measure = match record.scores {
                Scores { test_rmse: Some(_), .. } => "test error",
                _ => "test accuracy",
            };
            let source = if record.engine == "encrypted" { " (client's decryption)" } else { "" };
            self.line(
                shown,
                &format!(
                    "{:>9} {:>7} {:>10} {:>10}  {measure}{source}",
                    "epoch", "steps", "look-ups", "time"
                ),
            );
            shown.headed = Some(record.engine.clone());
        }
        let score = match record.scores {
            Scores { test_accuracy: Some(accuracy), .. } => format::percent(accuracy),
            Scores { test_rmse: Some(rmse), .. } => format!("{rmse:.4}"),
            _ => "–".to_owned(),
        };
        let text = format!(
            "{:>9} {:>7} {:>10} {:>10}  {score}",
            format!("{}/{}", record.epoch, record.epochs),
            record.steps,
            format::count(record.luts),
            format::seconds(record.seconds),
        );
        self.line(shown, &text);
    }
}

/// Where no bar moves, a line says how far a phase is, so often.
const NOTED: Duration = Duration::from_secs(15);

/// How far a phase is after so many seconds, and how many it will still take at this pace.
fn so_far(phase: Option<Phase>, progress: Progress, seconds: f64) -> String {
    let done = match phase {
        Some(Phase::Train) => {
            format!("{} of {} look-ups", format::count(progress.done), format::count(progress.total))
        }
        _ => format::percent(progress.done as f64 / progress.total.max(1) as f64),
    };
    let left = seconds * progress.total.saturating_sub(progress.done) as f64 / progress.done.max(1) as f64;
    format!("  {done} after {}, about {} left", format::seconds(seconds), format::seconds(left))
}

/// Look-ups per second.
fn rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    let _ = write!(out, "{:.0}/s", state.per_sec());
}

impl Observer for Observation<'_> {
    fn phase(&self, phase: Phase) {
        let mut shown = self.shown();
        shown.bar.finish_and_clear();
        shown.phase = Some(phase);
        shown.counting = false;
        (shown.began, shown.noted) = (Instant::now(), Instant::now());
        if self.terminal {
            let mut bar = ProgressBar::new_spinner().with_message(phase.describe());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
                bar = bar.with_style(style);
            }
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(120));
            shown.bar = bar;
        } else if matches!(phase, Phase::Keys | Phase::Encrypt | Phase::Train | Phase::Compare) {
            self.shell.note(phase.describe());
        }
    }

    fn progress(&self, progress: Progress) {
        let mut shown = self.shown();
        if !self.terminal {
            if (1..progress.total).contains(&progress.done) && shown.noted.elapsed() >= NOTED {
                shown.noted = Instant::now();
                self.shell.note(&so_far(shown.phase, progress, shown.began.elapsed().as_secs_f64()));
            }
            return;
        }
        if !shown.counting && progress.total > 0 {
            shown.counting = true;
            let template = match shown.phase {
                Some(Phase::Train) => "{msg} {wide_bar} {human_pos}/{human_len} look-ups  {rate}  {eta} left",
                _ => "{msg} {wide_bar} {percent} %  {eta} left",
            };
            // A template that indicatif does not understand leaves the spinner, which is enough.
            if let Ok(style) = ProgressStyle::with_template(template) {
                shown.bar.set_style(style.with_key("rate", rate));
            }
        }
        if shown.counting {
            shown.bar.set_length(progress.total);
            shown.bar.set_position(progress.done);
        }
    }

    fn event(&self, event: Event) {
        if self.json {
            self.shell.json(&event);
        }
        if let Event::Epoch(record) = event {
            self.epoch(&mut self.shown(), &record);
        }
    }

    fn warn(&self, diagnostic: Diagnostic) {
        self.shown().warnings.push(diagnostic);
    }

    fn cancelled(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_a_phase_is() {
        let progress = Progress { done: 100, total: 400 };
        let text = so_far(Some(Phase::Train), progress, 20.0);
        assert_eq!(text, "  100 of 400 look-ups after 20.0 s, about 60.0 s left");
        let text = so_far(Some(Phase::Encrypt), progress, 1.0);
        assert_eq!(text, "  25.0 % after 1.0 s, about 3.0 s left");
    }
}
