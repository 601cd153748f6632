//! Standard output and standard error: colours, pipes that close early, diagnostics.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use super::args::Color;
use crate::diagnostics::{Diagnostic, Sources, json, render};

/// Where a command writes.
#[derive(Debug)]
pub struct Shell {
    color: Color,
    /// Whether a result could not be written.
    failed: AtomicBool,
}

impl Shell {
    pub fn new(color: Color) -> Self {
        Self { color, failed: AtomicBool::new(false) }
    }

    /// A result, for standard output. A reader that closes the pipe early has seen enough: that is no error.
    pub fn print(&self, text: &str) {
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if let Err(error) = written
            && error.kind() != io::ErrorKind::BrokenPipe
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            self.note(&format!("error: the results cannot be written: {error}"));
        }
    }

    /// A result, as a line of JSON.
    pub fn json(&self, value: &impl serde::Serialize) {
        match serde_json::to_string(value) {
            Ok(line) => self.print(&format!("{line}\n")),
            Err(error) => {
                self.failed.store(true, Ordering::Relaxed);
                self.note(&format!("error: a record cannot be written as JSON: {error}"));
            }
        }
    }

    /// A line for standard error; nobody may be there to read it.
    pub fn note(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Diagnostics for a person, on standard error.
    pub fn diagnostics(&self, diagnostics: &[Diagnostic], sources: &Sources) {
        for diagnostic in diagnostics {
            let text = render(diagnostic, sources, self.colored(io::stderr().is_terminal()));
            let _ = write!(io::stderr(), "{text}");
        }
    }

    /// Diagnostics for a script, on standard output.
    pub fn diagnostics_json(&self, diagnostics: &[Diagnostic], sources: &Sources) {
        for diagnostic in diagnostics {
            self.json(&json(diagnostic, sources));
        }
    }

    /// Whether what is printed has arrived.
    pub fn intact(&self) -> bool {
        !self.failed.load(Ordering::Relaxed)
    }

    fn colored(&self, terminal: bool) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}
