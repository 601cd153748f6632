//! The syntax tree. Every node keeps the bytes that it was read from.

use crate::diagnostics::Span;
use crate::graph::Scheme;
pub use crate::typeck::data_spec::Spanned;

/// A name where it is written.
pub type Ident = Spanned<String>;

/// One file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module {
    pub items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Use(Use),
    Data(Data),
    Let(Let),
    Callable(Callable),
    Lut(Lut),
    Train(Train),
    Eval(Eval),
    /// Something that could not be read; an error says so.
    Error(Span),
}

/// `use std::{dense, relu as r}`
#[derive(Clone, Debug, PartialEq)]
pub struct Use {
    pub module: Ident,
    /// Names with what they are called here.
    pub names: Vec<(Ident, Ident)>,
    pub span: Span,
}

/// `data NAME = FORMAT("path") { options }`
#[derive(Clone, Debug, PartialEq)]
pub struct Data {
    pub name: Ident,
    pub format: Ident,
    pub path: Spanned<String>,
    pub options: Vec<Setting>,
    pub span: Span,
}

/// `key: value` in a block of options.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    pub key: Ident,
    /// `rate` in `sgd: rate 0.5`.
    pub qualifier: Option<Ident>,
    /// A number, or a list of them where a qualifier stands.
    pub value: Expr,
    /// How the value changes: `halved every 2 epochs`.
    pub course: Option<Course>,
    pub span: Span,
}

/// `halved every 2 epochs`
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    pub how: Ident,
    pub every: Ident,
    pub count: i64,
    pub unit: Ident,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallableKind {
    Fn,
    Layer,
    Model,
}

impl CallableKind {
    pub fn word(self) -> &'static str {
        match self {
            CallableKind::Fn => "fn",
            CallableKind::Layer => "layer",
            CallableKind::Model => "model",
        }
    }
}

/// `fn`, `layer` or `model`.
#[derive(Clone, Debug, PartialEq)]
pub struct Callable {
    pub kind: CallableKind,
    pub public: bool,
    pub name: Ident,
    pub parameters: Vec<Parameter>,
    pub result: Option<Type>,
    pub body: Block,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    pub name: Ident,
    pub ty: Option<Type>,
    pub default: Option<Expr>,
}

/// `lut NAME(z) = BODY grad DERIVATIVE`: a function of one value.
#[derive(Clone, Debug, PartialEq)]
pub struct Lut {
    pub public: bool,
    pub name: Ident,
    pub parameters: Vec<Parameter>,
    pub body: Expr,
    pub grad: Option<Expr>,
    pub span: Span,
}

/// `train MODEL on DATA { options }`
#[derive(Clone, Debug, PartialEq)]
pub struct Train {
    pub model: Ident,
    pub data: Ident,
    pub options: Vec<Setting>,
    pub span: Span,
}

/// `eval NAME(x: normal(0, 1))`
#[derive(Clone, Debug, PartialEq)]
pub struct Eval {
    pub function: Ident,
    pub arguments: Vec<Argument>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Type {
    pub kind: TypeKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum TypeKind {
    /// A compile-time integer.
    Int,
    /// A compile-time number.
    Real,
    /// `same | valid`: one of these words, at compile time.
    Enumeration(Vec<Ident>),
    Tensor(TensorType),
    /// A type that could not be read; an error says so.
    Error,
}

/// `scheme<level>[shape] in low..high`
#[derive(Clone, Debug, PartialEq)]
pub struct TensorType {
    pub scheme: Option<Spanned<Scheme>>,
    pub level: Option<Level>,
    /// Sizes: integer expressions, or names that are bound by the argument.
    pub shape: Vec<Expr>,
    pub range: Option<Box<(Expr, Expr)>>,
}

/// `2`, `L` or `L + 1`.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    pub variable: Option<Ident>,
    pub offset: i32,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub statements: Vec<Statement>,
    pub span: Span,
    depth: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Let {
    pub name: Ident,
    pub mutable: bool,
    pub ty: Option<Type>,
    pub value: Expr,
    pub span: Span,
}

/// `param NAME: [shape] ~ initialisation`
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// A public constant: never trained.
    pub frozen: bool,
    pub name: Ident,
    pub ty: Type,
    pub init: Option<Expr>,
    pub span: Span,
}

/// `for` or `unroll for`
#[derive(Clone, Debug, PartialEq)]
pub struct For {
    pub unroll: bool,
    pub variable: Ident,
    pub from: Expr,
    pub to: Expr,
    pub body: Block,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    Let(Let),
    Param(Param),
    Assign { name: Ident, value: Expr },
    For(For),
    Expr(Expr),
    Error(Span),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub kind: Box<ExprKind>,
    pub span: Span,
    depth: u32,
}

/// `value`, or `name: value`.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    pub name: Option<Ident>,
    pub value: Expr,
}

/// A call, or the part of a pipe after `|>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// `frozen dense(…)`: the parameters that it declares are public constants.
    pub frozen: bool,
    pub callee: Ident,
    pub arguments: Vec<Argument>,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Rem,
    MatMul,
    Pow,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
    Or,
}

impl BinaryOp {
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::FloorDiv => "//",
            BinaryOp::Rem => "%",
            BinaryOp::MatMul => "@",
            BinaryOp::Pow => "^",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Lt => "<",
            BinaryOp::Le => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::Ge => ">=",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
        }
    }

    /// Whether the result is a truth value, which exists at compile time only.
    pub fn is_condition(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eq | Ne | Lt | Le | Gt | Ge | And | Or)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOp {
    Neg,
    Not,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    Int(i64),
    Real(f64),
    Str(String),
    Name(String),
    List(Vec<Expr>),
    Unary(UnaryOp, Expr),
    Binary {
        op: BinaryOp,
        at: Span,
        left: Expr,
        right: Expr,
    },
    Call(Call),
    /// `first |> stage |> stage`: each stage takes what is before it as its first argument.
    Pipe {
        first: Expr,
        stages: Vec<Call>,
    },
    If {
        condition: Expr,
        then: Block,
        otherwise: Option<Block>,
    },
    /// Something that could not be read; an error says so.
    Error,
}

impl ExprKind {
    fn depth(&self) -> u32 {
        let arguments = |call: &Call| call.arguments.iter().map(|a| a.value.depth).max().unwrap_or(0);
        match self {
            ExprKind::Int(_) | ExprKind::Real(_) | ExprKind::Str(_) | ExprKind::Name(_) | ExprKind::Error => {
                0
            }
            ExprKind::List(items) => items.iter().map(|e| e.depth).max().unwrap_or(0),
            ExprKind::Unary(_, e) => e.depth,
            ExprKind::Binary { left, right, .. } => left.depth.max(right.depth),
            ExprKind::Call(call) => arguments(call),
            ExprKind::Pipe { first, stages } => {
                stages.iter().map(arguments).max().unwrap_or(0).max(first.depth)
            }
            ExprKind::If { condition, then, otherwise } => {
                condition.depth.max(then.depth).max(otherwise.as_ref().map_or(0, |b| b.depth))
            }
        }
    }
}

impl Expr {
    pub fn new(kind: ExprKind, span: Span) -> Self {
        let depth = kind.depth() + 1;
        Self { kind: Box::new(kind), span, depth }
    }

    /// How many expressions and blocks are nested in this one, at most.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// The name, if this is nothing but a name.
    pub fn as_name(&self) -> Option<&str> {
        match self.kind.as_ref() {
            ExprKind::Name(name) => Some(name),
            _ => None,
        }
    }
}

impl Block {
    pub fn new(statements: Vec<Statement>, span: Span) -> Self {
        let depth = statements
            .iter()
            .map(|s| match s {
                Statement::Let(l) => l.value.depth,
                Statement::Param(p) => p.init.as_ref().map_or(0, |e| e.depth),
                Statement::Assign { value, .. } => value.depth,
                Statement::For(f) => f.from.depth.max(f.to.depth).max(f.body.depth),
                Statement::Expr(e) => e.depth,
                Statement::Error(_) => 0,
            })
            .max()
            .unwrap_or(0);
        Self { statements, span, depth: depth + 1 }
    }

    pub fn depth(&self) -> u32 {
        self.depth
    }
}
