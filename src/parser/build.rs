//! What the grammar's actions need: spans, bounded depth, and a diagnostic for each error that was recovered.

use std::collections::HashSet;
use std::convert::Infallible;

use lalrpop_util::{ErrorRecovery, ParseError};

use super::ast::*;
use super::token::Token;
use crate::diagnostics::{Diagnostic, FileId, Span};
use crate::graph::Scheme;

/// Expressions and blocks that may be nested in one another. A chain `a + b + c` nests once per operator.
pub const MAX_DEPTH: u32 = 120;

/// Syntax errors after which the others are no longer reported.
const MAX_ERRORS: usize = 20;

/// Where an action is in its file, and what it has found wrong.
pub struct Context {
    file: FileId,
    /// Lines with a syntax error: one report for each is enough.
    bad_lines: HashSet<usize>,
    line_starts: Vec<usize>,
    /// Where the text of each line begins.
    indents: Vec<usize>,
    /// Where `//` divides.
    divisions: Vec<usize>,
    too_deep: bool,
    syntax_errors: usize,
    pub errors: Vec<Diagnostic>,
}

type Range = (usize, usize);

impl Context {
    pub fn new(
        text: &str,
        tokens: &[super::lexer::Spanned<'_>],
        file: FileId,
        errors: Vec<Diagnostic>,
    ) -> Self {
        let line_starts: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        let starts = errors.iter().filter_map(|e| e.labels.first()).map(|label| label.span.start as usize);
        let bad_lines = starts.map(|start| line_starts.partition_point(|&at| at <= start)).collect();
        let is_division = |&&(_, token, _): &&super::lexer::Spanned<'_>| token == Token::SlashSlash;
        let divisions = tokens.iter().filter(is_division).map(|&(start, ..)| start).collect();
        let indents = std::iter::once(0)
            .chain(line_starts.iter().copied())
            .map(|start| start + text[start..].len() - text[start..].trim_start_matches([' ', '\t']).len())
            .collect();
        Self { file, bad_lines, line_starts, indents, divisions, too_deep: false, syntax_errors: 0, errors }
    }

    pub fn span(&self, start: usize, end: usize) -> Span {
        // Between a recovered error and what follows it, the end can come before the start.
        Span::new(self.file, start, end.max(start))
    }

    pub fn spanned<T>(&self, value: T, start: usize, end: usize) -> Spanned<T> {
        Spanned::new(value, self.span(start, end))
    }

    pub fn ident(&self, name: &str, start: usize, end: usize) -> Ident {
        self.spanned(name.to_owned(), start, end)
    }

    pub fn name(&mut self, name: Ident) -> Expr {
        Expr::new(ExprKind::Name(name.value), name.span)
    }

    pub fn expr(&mut self, kind: ExprKind, (start, end): Range) -> Expr {
        let span = self.span(start, end);
        let expr = Expr::new(kind, span);
        if expr.depth() <= MAX_DEPTH {
            return expr;
        }
        self.report_depth(span);
        Expr::new(ExprKind::Error, span)
    }

    pub fn block(&mut self, statements: Vec<Statement>, (start, end): Range) -> Block {
        let span = self.span(start, end);
        let block = Block::new(statements, span);
        if block.depth() <= MAX_DEPTH {
            return block;
        }
        self.report_depth(span);
        Block::new(vec![Statement::Error(span)], span)
    }

    fn report_depth(&mut self, span: Span) {
        if !std::mem::replace(&mut self.too_deep, true) {
            self.errors.push(
                Diagnostic::error(
                    "E0103",
                    format!("this expression nests more than {MAX_DEPTH} others in one another"),
                )
                .label(span, "too deep")
                .help("give its parts names with `let`"),
            );
        }
    }

    pub fn binary(&mut self, op: BinaryOp, left: Expr, right: Expr, at: Range, range: Range) -> Expr {
        let at = self.span(at.0, at.1);
        self.expr(ExprKind::Binary { op, at, left, right }, range)
    }

    pub fn level(&mut self, variable: Option<Ident>, offset: i64, (start, end): Range) -> Level {
        let span = self.span(start, end);
        let offset = match i32::try_from(offset) {
            Ok(offset) if offset.abs() <= 1000 => offset,
            _ => {
                self.errors.push(
                    Diagnostic::error("E0106", "no ciphertext has this many levels")
                        .label(span, "more than 1000")
                        .help("a level is the number of products that are left: 0 to about 6"),
                );
                0
            }
        };
        Level { variable, offset, span }
    }

    pub fn tensor_type(
        &mut self,
        scheme: Option<Spanned<Scheme>>,
        level: Option<Level>,
        shape: Option<Vec<Expr>>,
        range: Option<(Expr, Expr)>,
        (start, end): Range,
    ) -> Type {
        let shape = shape.unwrap_or_default();
        let range = range.map(Box::new);
        Type {
            kind: TypeKind::Tensor(TensorType { scheme, level, shape, range }),
            span: self.span(start, end),
        }
    }

    /// `int`, `real`, or a scheme with what may follow it.
    pub fn named_type(
        &mut self,
        name: Ident,
        level: Option<Level>,
        shape: Option<Vec<Expr>>,
        range: Option<(Expr, Expr)>,
        (start, end): Range,
    ) -> Type {
        let span = self.span(start, end);
        let scheme = match name.value.as_str() {
            "clear" => Scheme::Clear,
            "bfv" => Scheme::Bfv,
            "tfhe" => Scheme::Tfhe,
            "ckks" => Scheme::Ckks,
            word @ ("int" | "real") => {
                if level.is_some() || shape.is_some() || range.is_some() {
                    self.errors.push(
                        Diagnostic::error("E0106", format!("`{word}` is a single number without a level"))
                            .label(span, "it takes neither level nor shape nor range")
                            .help(format!("write `{word}` alone, or a tensor's type: `[n]`")),
                    );
                }
                let kind = if word == "int" { TypeKind::Int } else { TypeKind::Real };
                return Type { kind, span };
            }
            other => {
                let known = ["clear", "bfv", "tfhe", "ckks", "int", "real"];
                let mut error = Diagnostic::error("E0106", format!("there is no type `{other}`"))
                    .label(name.span, "not a type");
                error = match crate::diagnostics::suggest(other, known) {
                    Some(near) => error.help(format!("did you mean `{near}`?")),
                    None => error.help(
                        "types are [shape], clear[shape], bfv<level>[shape], ckks<level>[shape], \
                         tfhe[shape], int, real, and lists of words such as same | valid",
                    ),
                };
                self.errors.push(error);
                return Type { kind: TypeKind::Error, span };
            }
        };
        let has_levels = matches!(scheme, Scheme::Bfv | Scheme::Ckks);
        if let (Some(level), false) = (&level, has_levels) {
            self.errors.push(
                Diagnostic::error("E0106", format!("`{scheme}` has no levels"))
                    .label(level.span, "only bfv and ckks count their products")
                    .help(format!("write `{scheme}` without `<…>`")),
            );
        }
        let level = level.filter(|_| has_levels);
        let scheme = Some(Spanned::new(scheme, name.span));
        self.tensor_type(scheme, level, shape, range, (start, end))
    }

    pub fn enumeration(&mut self, first: Ident, rest: Vec<Ident>, (start, end): Range) -> Type {
        let mut words = vec![first];
        words.extend(rest);
        Type { kind: TypeKind::Enumeration(words), span: self.span(start, end) }
    }

    pub fn recovered(&mut self, recovery: ErrorRecovery<usize, Token<'_>, Infallible>) {
        self.syntax_error(recovery.error);
    }

    fn line(&self, byte: usize) -> usize {
        self.line_starts.partition_point(|&at| at <= byte)
    }

    /// Whether only blanks come before this byte in its line.
    fn begins_line(&self, byte: usize) -> bool {
        self.indents.get(self.line(byte)).is_some_and(|&indent| indent == byte)
    }

    pub fn syntax_error(&mut self, error: ParseError<usize, Token<'_>, Infallible>) {
        let (start, end, found, expected) = match error {
            ParseError::UnrecognizedToken { token: (start, token, end), expected } => {
                (start, end, Some(token), expected)
            }
            ParseError::ExtraToken { token: (start, token, end) } => (start, end, Some(token), vec![]),
            ParseError::UnrecognizedEof { location, expected } => (location, location, None, expected),
            ParseError::InvalidToken { location } => (location, location, None, vec![]),
            ParseError::User { error } => match error {},
        };
        let line = self.line(start);
        if !self.bad_lines.insert(line) || self.syntax_errors >= MAX_ERRORS {
            return;
        }
        self.syntax_errors += 1;
        let span = self.span(start, end);
        let message = match found {
            Some(token) => format!("unexpected {token}"),
            None => "the file ends too early".to_owned(),
        };
        let wants_name = expected.iter().any(|e| e == "ident");
        let mut diagnostic = Diagnostic::error("E0101", message).label(span, describe(&expected));
        let keyword = found.map(|token| token.to_string());
        let keyword = keyword.as_deref().map(|text| text.trim_matches('`'));
        if let Some(word) = keyword.filter(|word| wants_name && Token::KEYWORDS.contains(word)) {
            diagnostic = diagnostic.help(format!("`{word}` is a reserved word: choose another name"));
        } else if self.divisions.iter().any(|&at| at < start && self.line(at) == line) {
            diagnostic = diagnostic.help(
                "inside ( ) and [ ], `//` after a value divides: a comment goes after the comma, or on a line of its own",
            );
        } else if found.is_some_and(Token::continues) && self.begins_line(start) {
            diagnostic = diagnostic.help("a line cannot begin with an operator: end the line before with it");
        } else if matches!(found, Some(Token::Newline)) {
            diagnostic = diagnostic
                .help("a statement goes on in the next line after an operator or a comma, and before `|>`");
        }
        self.errors.push(diagnostic);
    }
}

/// What the grammar would have taken, in words.
fn describe(expected: &[String]) -> String {
    let has = |terminal: &str| expected.iter().any(|e| e == terminal);
    let mut words: Vec<String> = Vec::new();
    let value = has("int") && has("ident") && (has("\"(\"") || has("string"));
    if value {
        words.push("a value".into());
    } else {
        for (terminal, word) in [("ident", "a name"), ("int", "a number"), ("string", "a text")] {
            if has(terminal) {
                words.push(word.into());
            }
        }
    }
    let operators = ["\"+\"", "\"-\"", "\"*\"", "\"@\"", "\"|>\""];
    let operator = !value && has("\"*\"");
    if operator {
        words.push("an operator".into());
    }
    if has("\"model\"") && has("\"use\"") {
        words.push("a declaration (data, model, layer, lut, fn, train, eval)".into());
    }
    let quiet = |e: &str| {
        let in_group =
            ["\"==\"", "\"!=\"", "\"<\"", "\"<=\"", "\">\"", "\">=\"", "\"/\"", "\"//\"", "\"%\"", "\"^\""]
                .contains(&e)
                || operators.contains(&e)
                || ["\"and\"", "\"or\""].contains(&e);
        (operator && in_group)
            || (value && ["\"(\"", "\"[\"", "\"-\"", "\"if\"", "\"not\"", "real"].contains(&e))
            || (has("\"model\"") && e != "\"}\"" && e.chars().nth(1).is_some_and(char::is_alphabetic))
            || ["ident", "int", "real", "string", "\"frozen\"", "\"mut\""].contains(&e)
    };
    for terminal in expected.iter().filter(|e| !quiet(e)) {
        words.push(match terminal.as_str() {
            "newline" => "a new line".into(),
            other => format!("`{}`", other.trim_matches('"')),
        });
    }
    match words.len() {
        0 => "not expected here".into(),
        1 => format!("expected {}", words[0]),
        n if n > 8 => format!("expected {} …", words[..6].join(", ")),
        n => format!("expected {} or {}", words[..n - 1].join(", "), words[n - 1]),
    }
}
