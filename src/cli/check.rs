//! `hesn check`: everything that is wrong with programs.

use std::process::ExitCode;

use super::args::CheckArgs;
use super::shell::Shell;
use super::source;
use crate::diagnostics::Severity;

pub fn run(args: &CheckArgs, shell: &Shell) -> ExitCode {
    let mut failed = false;
    for path in &args.files {
        let checked = source::check(path);
        failed |= checked.has_errors();
        if args.json {
            shell.diagnostics_json(&checked.diagnostics, &checked.sources);
            continue;
        }
        shell.diagnostics(&checked.diagnostics, &checked.sources);
        let count = |severity| checked.diagnostics.iter().filter(|d| d.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let mut verdict = match errors {
            0 => "no errors".to_owned(),
            1 => "1 error".to_owned(),
            n => format!("{n} errors"),
        };
        if warnings > 0 {
            verdict += &format!(", {warnings} warning{}", if warnings == 1 { "" } else { "s" });
        }
        shell.print(&format!("{}: {verdict}\n", path.display()));
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
