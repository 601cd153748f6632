//! Text to syntax tree. Parsing never fails: what comes out is a tree, with holes where something could not be
//! read, and a diagnostic for each hole. Knows no names, no types and no files.

pub mod ast;
mod build;
mod lexer;
mod token;

use crate::diagnostics::{Diagnostic, FileId, Span};

#[allow(clippy::all, clippy::pedantic, unused, missing_docs)]
mod grammar {
    include!(concat!(env!("OUT_DIR"), "/hesn.rs"));
}

pub use token::Token;

/// Bytes that a program may have.
pub const MAX_SOURCE: usize = 1 << 20;

/// A syntax tree, and what was wrong with the text.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    pub module: ast::Module,
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads one file. Its text must be that of `file` for the spans to be right.
pub fn parse(text: &str, file: FileId) -> Parsed {
    let mut errors = Vec::new();
    if text.len() > MAX_SOURCE {
        errors.push(
            Diagnostic::error("E0104", format!("this program has {} bytes", text.len()))
                .label(Span::new(file, 0, 0), format!("more than {MAX_SOURCE}; nothing is read"))
                .help("a program describes a model; data belongs into files that `data` names"),
        );
        return Parsed { diagnostics: errors, ..Parsed::default() };
    }
    let Some(tokens) = lexer::tokenize(text, file, &mut errors) else {
        return Parsed { diagnostics: errors, ..Parsed::default() };
    };
    let mut context = build::Context::new(text, &tokens, file, errors);
    let result = grammar::ModuleParser::new().parse(&mut context, tokens.into_iter().map(Ok));
    let module = result.unwrap_or_else(|error| {
        context.syntax_error(error);
        ast::Module::default()
    });
    let mut diagnostics = context.errors;
    diagnostics.sort_by_key(|d| d.labels.first().map_or(0, |label| label.span.start));
    Parsed { module, diagnostics }
}

#[cfg(test)]
mod tests;
