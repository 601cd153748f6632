//! Text to the tokens that the grammar reads: comments are gone, newlines are left only where they end
//! something, and every bracket has its partner (missing ones are reported and put in).

use logos::Logos;

use super::token::{LexError, Token};
use crate::diagnostics::{Diagnostic, FileId, Span};

/// Brackets that may be nested.
pub const MAX_NESTING: usize = 100;

pub type Spanned<'s> = (usize, Token<'s>, usize);

/// The tokens of `text`; `None` if its brackets are nested too deeply to go on.
pub fn tokenize<'s>(text: &'s str, file: FileId, errors: &mut Vec<Diagnostic>) -> Option<Vec<Spanned<'s>>> {
    let mut filter =
        Filter { text, file, errors, tokens: Vec::new(), open: Vec::new(), newline: None, cut: 0 };
    let mut lexer = Token::lexer(text);
    while let Some(next) = lexer.next() {
        let span = lexer.span();
        match next {
            Ok(Token::Newline) => filter.newline = filter.newline.or(Some(span.start)),
            Ok(Token::SlashSlash) if !filter.divides() => {
                let rest = lexer.remainder();
                let comment = rest.split('\n').next().unwrap_or(rest);
                filter.check_comment(comment, span.start);
                lexer.bump(comment.len());
            }
            Ok(token) => {
                let key = lexer.remainder().trim_start_matches([' ', '\t']);
                let key = key.starts_with(':') && !key.starts_with("::");
                filter.token(span.start, token, span.end, key);
                if filter.open.len() > MAX_NESTING {
                    filter.too_deep(span.start);
                    return None;
                }
            }
            Err(error) => {
                // A stand-in keeps the grammar from complaining about the same place again.
                let stand_in = match error {
                    LexError::UnknownCharacter => None,
                    LexError::UnterminatedString => Some(Token::Str("")),
                    LexError::IntegerTooLarge | LexError::MalformedNumber => Some(Token::Int(1)),
                };
                if let Some(token) = stand_in {
                    filter.token(span.start, token, span.end, false);
                }
                filter.lex_error(error, span);
            }
        }
    }
    filter.report_unclosed(None);
    filter.close_all(text.len());
    Some(filter.tokens)
}

struct Filter<'s, 'e> {
    text: &'s str,
    file: FileId,
    errors: &'e mut Vec<Diagnostic>,
    tokens: Vec<Spanned<'s>>,
    /// Brackets that wait for their partner, with their positions.
    open: Vec<(usize, Token<'s>)>,
    /// Where the last line ended, if no token came since.
    newline: Option<usize>,
    /// Where a text that is never closed has swallowed the rest of a line, and the brackets in it.
    cut: usize,
}

fn partner(open: Token<'_>) -> Token<'_> {
    match open {
        Token::LParen => Token::RParen,
        Token::LBracket => Token::RBracket,
        _ => Token::RBrace,
    }
}

impl<'s> Filter<'s, '_> {
    fn last(&self) -> Option<Token<'s>> {
        self.tokens.last().map(|&(_, token, _)| token)
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span::new(self.file, start, end)
    }

    /// Newlines mean nothing inside `( )` and `[ ]`.
    fn in_brackets(&self) -> bool {
        self.open.last().is_some_and(|&(_, token)| token != Token::LBrace)
    }

    /// Whether `//` at this place is a floor division.
    fn divides(&self) -> bool {
        self.in_brackets() && self.newline.is_none() && self.last().is_some_and(Token::ends_value)
    }

    fn token(&mut self, start: usize, token: Token<'s>, end: usize, is_key: bool) {
        let line_start = self.newline.is_some() || self.tokens.is_empty();
        if line_start && !is_key && !self.open.is_empty() {
            let here = Some((start, end));
            if token.begins_item() {
                self.report_unclosed(here);
                self.close_all(self.newline.unwrap_or(start));
            } else if token.begins_statement() && self.in_brackets() {
                self.report_unclosed(here);
                while self.in_brackets() {
                    self.close_one(self.newline.unwrap_or(start));
                }
            }
        }
        if let Some(at) = self.newline.take() {
            let means = !self.in_brackets()
                && !token.continued()
                && self.last().is_some_and(|last| !last.continues());
            if means {
                self.tokens.push((at, Token::Newline, at + 1));
            }
        }
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => self.open.push((start, token)),
            Token::RParen | Token::RBracket | Token::RBrace => {
                let Some(depth) = self.open.iter().rposition(|&(_, open)| partner(open) == token) else {
                    self.errors.push(
                        Diagnostic::error("E0101", format!("this {token} closes nothing"))
                            .label(self.span(start, end), "no bracket is open here")
                            .help("remove it, or open it before"),
                    );
                    return;
                };
                if depth + 1 < self.open.len() {
                    self.report_unclosed(Some((start, end)));
                    while self.open.len() > depth + 1 {
                        self.close_one(start);
                    }
                }
                self.open.pop();
            }
            _ => {}
        }
        self.tokens.push((start, token, end));
    }

    fn close_one(&mut self, at: usize) {
        if let Some((_, open)) = self.open.pop() {
            self.tokens.push((at, partner(open), at));
        }
    }

    fn close_all(&mut self, at: usize) {
        while !self.open.is_empty() {
            self.close_one(at);
        }
    }

    fn report_unclosed(&mut self, before: Option<(usize, usize)>) {
        let Some(&(start, open)) = self.open.last() else { return };
        if start < self.cut && !self.text[start..self.cut].contains('\n') {
            return;
        }
        let close = partner(open);
        let mut error = Diagnostic::error("E0101", format!("this {open} is never closed"))
            .label(self.span(start, start + 1), format!("{close} is missing"))
            .help(format!("add {close}"));
        if let Some((start, end)) = before {
            error = error.label(self.span(start, end), "it should come before this");
        }
        self.errors.push(error);
    }

    fn too_deep(&mut self, at: usize) {
        self.errors.push(
            Diagnostic::error("E0103", format!("more than {MAX_NESTING} brackets are nested here"))
                .label(self.span(at, at + 1), "this one is too deep; nothing after it is read")
                .help("give the inner parts names with `let`"),
        );
    }

    fn lex_error(&mut self, error: LexError, span: std::ops::Range<usize>) {
        let text = &self.text[span.clone()];
        if error == LexError::UnterminatedString {
            self.cut = span.start;
        }
        let (message, label, help) = match error {
            LexError::UnknownCharacter => {
                let help = match text {
                    ";" => "a newline ends a statement: remove the `;`",
                    "&" => "write `and`",
                    "!" => "write `not`",
                    "'" => "texts stand in double quotes: \"data/file.csv\"",
                    "#" => "a comment begins with `//`",
                    _ => "remove it",
                };
                (format!("`{}` is not part of the language", text.escape_debug()), "not known", help)
            }
            LexError::UnterminatedString => (
                "this text is never closed".to_owned(),
                "it must end on the same line",
                "add a `\"` at its end",
            ),
            LexError::IntegerTooLarge => {
                ("this integer is too large".to_owned(), "more than 2^63 - 1", "write it as a real: 1e20")
            }
            LexError::MalformedNumber => {
                ("this number is too large".to_owned(), "more than 1.8e308", "use a smaller one")
            }
        };
        let span = self.span(span.start, span.end);
        self.errors.push(Diagnostic::error("E0102", message).label(span, label).help(help));
    }

    /// Warns of a comment that its author may have meant as a floor division.
    fn check_comment(&mut self, comment: &str, start: usize) {
        if self.newline.is_some() || !self.last().is_some_and(Token::ends_value) {
            return;
        }
        let mut operand = true;
        let mut arithmetic = false;
        for token in Token::lexer(comment) {
            let fits = match token {
                Ok(Token::Int(_)) if operand => {
                    arithmetic = true;
                    true
                }
                Ok(Token::Ident(_)) => operand,
                Ok(Token::Plus | Token::Minus | Token::Star) if !operand => {
                    arithmetic = true;
                    true
                }
                _ => false,
            };
            if !fits {
                return;
            }
            operand = !operand;
        }
        let statement = self
            .tokens
            .iter()
            .rev()
            .take_while(|(_, token, _)| !matches!(token, Token::Newline | Token::LBrace))
            .last();
        let is_let = statement.is_some_and(|(_, token, _)| *token == Token::Let);
        if !operand && (arithmetic || is_let) {
            self.errors.push(
                Diagnostic::warning("W0101", "this comment reads like a floor division")
                    .label(self.span(start, start + 2 + comment.len()), "a comment: nothing is divided")
                    .help(
                        "to divide, put the whole expression in parentheses: `//` divides only inside ( ) \
                         and [ ]; to comment, use a line of its own",
                    ),
            );
        }
    }
}
