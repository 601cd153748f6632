//! From the syntax tree to a typed graph: names and shapes on the source, then elaboration into [`crate::graph`];
//! schemes, levels and ranges are solved on that graph. Knows no file: data is seen through [`DataCatalog`].

mod call;
pub mod data_spec;
mod elaborate;
mod expr;
mod frozen;
pub mod levels;
mod names;
mod operations;
mod optimizer;
mod options;
mod primitives;
mod program;
pub mod ranges;
mod scope;
mod statements;
mod stdlib;
mod task_graphs;
mod tasks;
mod types;
mod value;

use crate::diagnostics::{Diagnostic, FileId, Severity, Sources};
use crate::parser;

pub use data_spec::{
    DataCatalog, DataFormat, DataSpec, NoData, Outcome, Scale, Schema, Spanned, Subset, WeightTensor, Weights,
};
pub use primitives::{INITS, Primitive};
pub use program::*;

/// Diagnostics after which the others are only counted.
const MAX_DIAGNOSTICS: usize = 100;

/// Reads and elaborates the program in `file`. The texts of the standard library are added to `sources`, since
/// diagnostics point into them.
pub fn check(sources: &mut Sources, file: FileId, catalog: &dyn DataCatalog) -> Checked {
    let mut checked = check_all(sources, file, catalog);
    if checked.diagnostics.len() > MAX_DIAGNOSTICS {
        // Errors come first: a program with errors must say so.
        checked.diagnostics.sort_by_key(|d| d.severity != Severity::Error);
        let rest = checked.diagnostics.split_off(MAX_DIAGNOSTICS);
        if let Some(label) = rest.iter().find_map(|d| d.labels.first()) {
            let message = format!("{} more mistakes are not shown", rest.len());
            let mut note = Diagnostic::warning("E0107", message)
                .label(label.span, "the next one")
                .help("mend the first ones: others often come from them");
            note.severity = Severity::Note;
            checked.diagnostics.push(note);
        }
    }
    checked
}

fn check_all(sources: &mut Sources, file: FileId, catalog: &dyn DataCatalog) -> Checked {
    let library = stdlib::modules(sources);
    let parser::Parsed { module, mut diagnostics } = parser::parse(sources.text(file), file);
    let syntax_errors = diagnostics.iter().any(|d| d.severity == Severity::Error);
    let scope = scope::Scope::new(&module, &library, file, &mut diagnostics);
    if syntax_errors {
        // Names that a broken line would have declared must not be reported as unknown.
        return Checked { program: None, diagnostics };
    }
    let called = names::check(&module, &scope, file, &mut diagnostics);
    let mut checked = Checked { program: None, diagnostics };
    if checked.has_errors() {
        return checked;
    }
    let program = tasks::program(&module, &scope, &called, catalog, &mut checked.diagnostics);
    checked.program = Some(program).filter(|_| !checked.has_errors());
    checked
}

#[cfg(test)]
mod tests;
