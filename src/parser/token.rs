//! The words of the language.

use std::fmt;

use logos::Logos;

/// Why a piece of text is no token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LexError {
    #[default]
    UnknownCharacter,
    UnterminatedString,
    IntegerTooLarge,
    MalformedNumber,
}

fn integer<'s>(lex: &mut logos::Lexer<'s, Token<'s>>) -> Result<i64, LexError> {
    lex.slice().replace('_', "").parse().map_err(|_| LexError::IntegerTooLarge)
}

fn real<'s>(lex: &mut logos::Lexer<'s, Token<'s>>) -> Result<f64, LexError> {
    let value: f64 = lex.slice().replace('_', "").parse().map_err(|_| LexError::MalformedNumber)?;
    if value.is_finite() { Ok(value) } else { Err(LexError::MalformedNumber) }
}

fn string<'s>(lex: &mut logos::Lexer<'s, Token<'s>>) -> &'s str {
    let slice = lex.slice();
    &slice[1..slice.len() - 1]
}

#[derive(Logos, Clone, Copy, Debug, PartialEq)]
#[logos(error = LexError)]
#[logos(skip r"[ \t\r\f\u{feff}]+")]
pub enum Token<'s> {
    #[token("use")]
    Use,
    #[token("data")]
    Data,
    #[token("model")]
    Model,
    #[token("layer")]
    Layer,
    #[token("param")]
    Param,
    #[token("lut")]
    Lut,
    #[token("grad")]
    Grad,
    #[token("fn")]
    Fn,
    #[token("pub")]
    Pub,
    #[token("let")]
    Let,
    #[token("mut")]
    Mut,
    #[token("for")]
    For,
    #[token("unroll")]
    Unroll,
    #[token("in")]
    In,
    #[token("if")]
    If,
    #[token("else")]
    Else,
    #[token("train")]
    Train,
    #[token("eval")]
    Eval,
    #[token("on")]
    On,
    #[token("as")]
    As,
    #[token("and")]
    And,
    #[token("or")]
    Or,
    #[token("not")]
    Not,
    #[token("frozen")]
    Frozen,

    #[regex(r"[\p{Alphabetic}_][\p{Alphabetic}\p{Nd}_]*")]
    Ident(&'s str),
    #[regex(r"[0-9][0-9_]*", integer)]
    Int(i64),
    #[regex(r"[0-9][0-9_]*\.[0-9][0-9_]*([eE][+-]?[0-9]+)?", real)]
    #[regex(r"[0-9][0-9_]*[eE][+-]?[0-9]+", real)]
    Real(f64),
    #[regex(r#""[^"\n]*""#, string)]
    #[regex(r#""[^"\n]*"#, |_| Err(LexError::UnterminatedString))]
    Str(&'s str),

    #[token("|>")]
    Pipe,
    #[token("->")]
    Arrow,
    #[token("::")]
    DoubleColon,
    #[token("..")]
    DotDot,
    /// Also the start of a comment: the token filter decides which.
    #[token("//")]
    SlashSlash,
    #[token("==")]
    EqEq,
    #[token("!=")]
    NotEq,
    #[token("<=")]
    LessEq,
    #[token(">=")]
    GreaterEq,
    #[token("<")]
    Less,
    #[token(">")]
    Greater,
    #[token("=")]
    Eq,
    #[token("+")]
    Plus,
    #[token("-")]
    Minus,
    #[token("*")]
    Star,
    #[token("/")]
    Slash,
    #[token("%")]
    Percent,
    #[token("@")]
    At,
    #[token("^")]
    Caret,
    #[token("~")]
    Tilde,
    #[token("|")]
    Bar,
    #[token(":")]
    Colon,
    #[token(",")]
    Comma,
    #[token("(")]
    LParen,
    #[token(")")]
    RParen,
    #[token("[")]
    LBracket,
    #[token("]")]
    RBracket,
    #[token("{")]
    LBrace,
    #[token("}")]
    RBrace,
    #[token("\n")]
    Newline,
}

impl Token<'_> {
    /// The reserved words.
    pub const KEYWORDS: [&'static str; 24] = [
        "use", "data", "model", "layer", "param", "lut", "grad", "fn", "pub", "let", "mut", "for", "unroll",
        "in", "if", "else", "train", "eval", "on", "as", "and", "or", "not", "frozen",
    ];

    /// Whether a value can end with this token.
    pub fn ends_value(self) -> bool {
        use Token::*;
        matches!(self, Ident(_) | Int(_) | Real(_) | Str(_) | RParen | RBracket)
    }

    /// Whether what follows must belong to the same statement, so that a newline means nothing.
    pub fn continues(self) -> bool {
        use Token::*;
        matches!(
            self,
            Pipe | Arrow
                | DoubleColon
                | DotDot
                | SlashSlash
                | EqEq
                | NotEq
                | LessEq
                | GreaterEq
                | Less
                | Greater
                | Eq
                | Plus
                | Minus
                | Star
                | Slash
                | Percent
                | At
                | Caret
                | Tilde
                | Bar
                | Colon
                | Comma
                | LBrace
                | In
                | And
                | Or
                | Not
                | Else
                | Grad
                | On
                | Newline
        )
    }

    /// Whether this token must belong to the statement before it.
    pub fn continued(self) -> bool {
        matches!(self, Token::Pipe | Token::Grad | Token::Else | Token::RBrace | Token::LBrace)
    }

    /// Whether a declaration begins here, if it stands at the beginning of a line.
    pub fn begins_item(self) -> bool {
        use Token::*;
        matches!(self, Use | Data | Model | Layer | Lut | Fn | Pub | Train | Eval)
    }

    /// Whether a statement begins here, if it stands at the beginning of a line.
    pub fn begins_statement(self) -> bool {
        matches!(self, Token::Let | Token::Param | Token::For | Token::Unroll)
    }
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Token::*;
        let text = match self {
            Ident(name) => return write!(f, "`{name}`"),
            Int(value) => return write!(f, "`{value}`"),
            Real(value) => return write!(f, "`{value}`"),
            Str(text) => return write!(f, "\"{text}\""),
            Newline => return f.write_str("the end of the line"),
            Use => "use",
            Data => "data",
            Model => "model",
            Layer => "layer",
            Param => "param",
            Lut => "lut",
            Grad => "grad",
            Fn => "fn",
            Pub => "pub",
            Let => "let",
            Mut => "mut",
            For => "for",
            Unroll => "unroll",
            In => "in",
            If => "if",
            Else => "else",
            Train => "train",
            Eval => "eval",
            On => "on",
            As => "as",
            And => "and",
            Or => "or",
            Not => "not",
            Frozen => "frozen",
            Pipe => "|>",
            Arrow => "->",
            DoubleColon => "::",
            DotDot => "..",
            SlashSlash => "//",
            EqEq => "==",
            NotEq => "!=",
            LessEq => "<=",
            GreaterEq => ">=",
            Less => "<",
            Greater => ">",
            Eq => "=",
            Plus => "+",
            Minus => "-",
            Star => "*",
            Slash => "/",
            Percent => "%",
            At => "@",
            Caret => "^",
            Tilde => "~",
            Bar => "|",
            Colon => ":",
            Comma => ",",
            LParen => "(",
            RParen => ")",
            LBracket => "[",
            RBracket => "]",
            LBrace => "{",
            RBrace => "}",
        };
        write!(f, "`{text}`")
    }
}
