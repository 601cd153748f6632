//! `hesn check`: everything that is wrong with programs, and the types of what is right.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use super::args::CheckArgs;
use super::shell::Shell;
use super::source::{self, Checked};
use super::tasks::{self, Compiled};
use crate::diagnostics::{Severity, Sources};
use crate::graph::{NodeId, Op, show_shape};
use crate::plan::compile::Settings;
use crate::run::train::shown_range;

/// Characters of a source line that `--types` shows.
const SNIPPET: usize = 40;

pub fn run(args: &CheckArgs, shell: &Shell) -> ExitCode {
    let mut failed = false;
    for path in &args.files {
        failed |= !file(path, args, shell);
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Whether a program has no errors.
fn file(path: &Path, args: &CheckArgs, shell: &Shell) -> bool {
    let mut checked = source::check(path, Settings::default());
    let mut shown = String::new();
    if let Some(program) = checked.program.take() {
        for task in &program.tasks {
            match tasks::compile(task, &program, &checked, Settings::default()) {
                Err(diagnostics) => checked.diagnostics.extend(diagnostics),
                Ok(compiled) => {
                    if let Some(Err(diagnostics)) = compiled.schedule() {
                        checked.diagnostics.extend(tasks::as_warnings(diagnostics));
                    }
                    shown += &types(&compiled, &checked.sources);
                }
            }
        }
    }
    if args.json {
        shell.diagnostics_json(&checked.diagnostics, &checked.sources);
    } else {
        shell.diagnostics(&checked.diagnostics, &checked.sources);
        if args.types {
            shell.print(&shown);
        }
        shell.print(&verdict(path, &checked));
    }
    !checked.has_errors()
}

fn verdict(path: &Path, checked: &Checked) -> String {
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
    format!("{}: {verdict}\n", path.display())
}

/// The type of every value that one step computes, with the user's line that it comes from; where a table reads it, its
/// range and why it is that one.
fn types(compiled: &Compiled<'_>, sources: &Sources) -> String {
    let (Some((graph, typing)), Some(ranges)) = (compiled.graph(), compiled.ranges()) else {
        return String::new();
    };
    let schedule = compiled.schedule().and_then(|schedule| schedule.as_ref().ok());
    let mut out = format!("{}\n", compiled.name());
    for id in graph.ids() {
        let node = graph.node(id);
        let Some(ty) = typing.types.get(id.index()).copied().flatten() else { continue };
        if matches!(node.op, Op::Const(_)) {
            continue;
        }
        let place = node.origin.user().map_or_else(String::new, |span| {
            let (line, _) = sources.line_column(span.file, span.start as usize);
            let text = sources.text(span.file)[sources.range(span)].lines().next().unwrap_or_default();
            let text: String = text.chars().take(SNIPPET).collect();
            let derivative = if node.origin.derivative { "derivative of " } else { "" };
            format!("line {line}: {derivative}{text}")
        });
        let is_table = |user: &NodeId| matches!(graph.node(*user).op, Op::Lut(_) | Op::Refresh);
        let range = match (&node.op, ranges.nodes.get(id.index()).copied().flatten()) {
            (Op::Param(param), _) => {
                // The schedule's is what holds: at least the rule's, and whole multiples of a step fit it.
                let master = schedule.and_then(|own| own.masters.iter().find(|own| own.param == *param));
                let range = master.map_or(ranges.param(*param), |master| master.range);
                format!("±{} (weights)", shown_range(range))
            }
            (_, Some(range)) if graph.users(id).iter().any(is_table) => {
                format!("±{} ({})", range.range, range.why)
            }
            _ => String::new(),
        };
        let _ = writeln!(
            out,
            "  {:<20}{:<20}{range:<32}{place}",
            node.op.name(),
            format!("{ty}{}", show_shape(&node.shape))
        );
    }
    out
}
