//! Written types: shapes are matched here, schemes, levels and ranges are noted in the graph for the level
//! solver. Parameters of layers, too, since they are nothing but a type with an initialisation.

use super::elaborate::{Elaborator, Evaluated, Frame, Reported};
use super::program::Distribution;
use super::value::Value;
use crate::diagnostics::{Span, suggest};
use crate::graph::{Init, LevelExpr, NodeId, ParamInfo, Scheme, Shape, Written, show_shape};
use crate::parser::ast::*;
use crate::typeck::primitives::INITS;

/// Whose type is checked: decides code and words of the error.
#[derive(Clone, Copy)]
pub enum Role<'n> {
    /// `let name: type`
    Let,
    /// Argument `.1` of the callable `.0`.
    Argument(&'n str, &'n str),
    /// What the callable of this name gives back.
    Result(&'n str),
}

/// What a value should be.
#[derive(Clone, Copy)]
pub struct Expected<'a, 'n> {
    pub ty: &'a Type,
    /// Where the value is written.
    pub span: Span,
    pub role: Role<'n>,
}

impl Expected<'_, '_> {
    /// Whether a written scheme is checked. At arguments and results, a switch may be inserted.
    fn is_exact(self) -> bool {
        matches!(self.role, Role::Let)
    }
}

impl<'a> Elaborator<'a, '_> {
    /// The value as its type has it: an integer where a real is wanted becomes one, names in shapes are bound.
    pub fn check_type(
        &mut self,
        value: Value<'a>,
        expected: Expected<'a, '_>,
        frame: &mut Frame<'a>,
    ) -> Evaluated<'a> {
        match (&expected.ty.kind, value) {
            (TypeKind::Error, _) | (_, Value::Poison) => Err(Reported),
            (TypeKind::Int, value @ Value::Int(_)) => Ok(value),
            (TypeKind::Real, value @ (Value::Int(_) | Value::Real(_))) => {
                Ok(Value::Real(value.number().unwrap_or_default()))
            }
            (TypeKind::Enumeration(words), Value::Word(word)) if words.iter().any(|w| w.value == word) => {
                Ok(Value::Word(word))
            }
            (TypeKind::Tensor(tensor), value) => self.check_tensor(value, tensor, expected, frame),
            (kind, value) => {
                let wanted = match kind {
                    TypeKind::Int => "an integer".to_owned(),
                    TypeKind::Real => "a number".to_owned(),
                    TypeKind::Enumeration(words) => show_words(words),
                    _ => "a tensor".to_owned(),
                };
                Err(self.kind_error(&wanted, value, expected))
            }
        }
    }

    fn kind_error(&mut self, wanted: &str, value: Value<'a>, expected: Expected<'_, '_>) -> Reported {
        let Expected { ty, span, role } = expected;
        let what = value.what(&self.graph);
        let message = match role {
            Role::Let => format!("expected {wanted}, found {what}"),
            Role::Argument(callee, name) => {
                format!("`{name}` of `{callee}` is {wanted}, but is given {what}")
            }
            Role::Result(callee) => format!("`{callee}` should give {wanted}, but gives {what}"),
        };
        let code = if matches!(role, Role::Result(_)) { "E0209" } else { "E0205" };
        let mut error = self.diagnostic(span, code, message, format!("this is {what}"));
        if ty.span != span {
            error = error.label(ty.span, format!("declared here as {wanted}"));
        }
        let encrypted = matches!(value, Value::Tensor(_)) && !matches!(ty.kind, TypeKind::Tensor(_));
        self.report(error.help(if encrypted {
            "integers, numbers and words must be known when the program is compiled".to_owned()
        } else {
            format!("give it {wanted}")
        }))
    }

    fn check_tensor(
        &mut self,
        value: Value<'a>,
        tensor: &'a TensorType,
        expected: Expected<'a, '_>,
        frame: &mut Frame<'a>,
    ) -> Evaluated<'a> {
        let span = expected.span;
        let value = match value {
            // Inside a table, its one value is a number.
            Value::Scalar(e) if tensor.shape.is_empty() => return Ok(Value::Scalar(e)),
            value @ Value::List(_) => self.constant_tensor(value, span)?,
            value => match value.number() {
                Some(x) => {
                    let origin = self.origin(span);
                    let node = self.graph.constant(x, &[], &origin);
                    self.tensor(node, span)?
                }
                None => value,
            },
        };
        let Value::Tensor(id) = value else {
            return Err(self.kind_error("a tensor", value, expected));
        };
        let shape = self.shape(id).to_vec();
        self.unify(&shape, tensor, expected, frame)?;
        self.note(id, tensor, expected, frame).map(Value::Tensor)
    }

    /// Matches a shape with a written one: names that are not bound yet take the sizes.
    fn unify(
        &mut self,
        shape: &[usize],
        tensor: &'a TensorType,
        expected: Expected<'a, '_>,
        frame: &mut Frame<'a>,
    ) -> Result<(), Reported> {
        let Expected { ty, span, role } = expected;
        let mut fits = shape.len() == tensor.shape.len();
        let mut written: Vec<String> = Vec::new();
        for (axis, wanted) in tensor.shape.iter().enumerate() {
            let size = shape.get(axis).copied();
            match wanted.as_name().filter(|name| frame.find(name).is_none()) {
                Some(name) if !self.scope.is_constant(name, frame.file) => {
                    match size.filter(|_| fits) {
                        Some(size) => frame.bind(name, Value::Int(size as i64), wanted.span),
                        None => {
                            written.push(name.to_owned());
                            continue;
                        }
                    }
                    written.push(format!("{}", size.unwrap_or_default()));
                }
                _ => {
                    let value = self.size_of(wanted, frame)?;
                    fits &= size == Some(value);
                    written.push(value.to_string());
                }
            }
        }
        if fits {
            return Ok(());
        }
        let found = show_shape(shape);
        let wanted = format!("[{}]", written.join(", "));
        let (code, message) = match role {
            Role::Let => ("E0203", format!("the declared shape is {wanted}, the value has {found}")),
            Role::Argument(callee, name) => {
                ("E0203", format!("`{name}` of `{callee}` has the shape {wanted}, but is given {found}"))
            }
            Role::Result(callee) => {
                ("E0209", format!("`{callee}` is declared to give {wanted}, but gives {found}"))
            }
        };
        let mut error = self.diagnostic(span, code, message, format!("this is {found}"));
        if ty.span != span {
            error = error.label(ty.span, format!("declared here: {wanted}"));
        }
        let help = if matches!(role, Role::Argument(..)) && tensor.shape.len() == 1 && shape.len() > 1 {
            "make it a vector first: `|> flatten`"
        } else if matches!(role, Role::Result(_)) {
            "change the declared shape, or the sizes in the body"
        } else {
            "make the shapes agree, or change one with `reshape`"
        };
        Err(self.report(error.help(help)))
    }

    /// A size: an integer that is not negative.
    pub fn size_of(&mut self, e: &'a Expr, frame: &mut Frame<'a>) -> Result<usize, Reported> {
        let value = self.expr(e, frame)?;
        self.as_size(&value, e.span)
    }

    pub fn as_size(&mut self, value: &Value<'a>, span: Span) -> Result<usize, Reported> {
        match value {
            Value::Int(n) if *n >= 0 => Ok(*n as usize),
            Value::Poison => Err(Reported),
            value => {
                let what = value.what(&self.graph);
                Err(self.error(
                    span,
                    "E0205",
                    format!("a size is an integer from 0 on, this is {what}"),
                    "not a size",
                    "`//` divides integers and rounds down",
                ))
            }
        }
    }

    /// Notes what is written about scheme, level and range.
    fn note(
        &mut self,
        id: NodeId,
        tensor: &'a TensorType,
        expected: Expected<'a, '_>,
        frame: &mut Frame<'a>,
    ) -> Result<NodeId, Reported> {
        let range = self.range(tensor, frame)?;
        if tensor.scheme.is_none() && range.is_none() {
            return Ok(id);
        }
        let level = tensor.level.as_ref().map(|level| self.level(level, frame));
        let scheme: Option<Scheme> = tensor.scheme.as_ref().map(|s| s.value);
        let written = Written { scheme, level, range, span: expected.ty.span, exact: expected.is_exact() };
        let origin = self.origin(expected.span);
        let node = self.graph.ascribe(id, written, &origin);
        self.built(node, expected.span)
    }

    fn level(&mut self, level: &'a Level, frame: &mut Frame<'a>) -> LevelExpr {
        let Some(variable) = &level.variable else {
            return LevelExpr { variable: None, offset: level.offset };
        };
        let graph = &mut self.graph;
        let own = frame.levels.entry(&variable.value).or_insert_with(|| graph.fresh_level());
        LevelExpr { variable: own.variable, offset: own.offset + level.offset }
    }

    fn range(
        &mut self,
        tensor: &'a TensorType,
        frame: &mut Frame<'a>,
    ) -> Result<Option<(f64, f64)>, Reported> {
        let Some(range) = &tensor.range else { return Ok(None) };
        let low = self.number_of(&range.0, frame)?;
        let high = self.number_of(&range.1, frame)?;
        if low < high {
            return Ok(Some((low, high)));
        }
        let span = Span { end: range.1.span.end, ..range.0.span };
        Err(self.error(
            span,
            "E0205",
            format!("the range {low}..{high} is empty"),
            "the left must be below the right",
            "write the lower bound first: `in -8..8`",
        ))
    }

    pub fn number_of(&mut self, e: &'a Expr, frame: &mut Frame<'a>) -> Result<f64, Reported> {
        let value = self.expr(e, frame)?;
        match value.number() {
            Some(x) => Ok(x),
            None => {
                let what = value.what(&self.graph);
                Err(self.error(
                    e.span,
                    "E0205",
                    format!("expected a number, found {what}"),
                    "not a number",
                    "it must be known when the program is compiled",
                ))
            }
        }
    }

    /// A public tensor of nested lists of numbers.
    pub fn constant_tensor(&mut self, value: Value<'a>, span: Span) -> Evaluated<'a> {
        let mut numbers = Vec::new();
        let mut shape = Vec::new();
        if !flatten(&value, 0, &mut shape, &mut numbers) {
            return Err(self.error(
                span,
                "E0205",
                "this list is no tensor",
                "its parts must be numbers, or lists of equal length",
                "write it as [1, 2, 3] or [[1, 2], [3, 4]]",
            ));
        }
        let origin = self.origin(span);
        let node = self.graph.constant_tensor(numbers, &shape, &origin);
        self.tensor(node, span)
    }

    // ---- parameters ----

    /// `param name: [shape] ~ init`
    pub fn param(&mut self, param: &'a Param, frame: &mut Frame<'a>) -> Evaluated<'a> {
        if !frame.has_params {
            return Err(self.error(
                param.span,
                "E0216",
                "parameters belong to a `layer` or a `model`",
                "not inside a `fn`",
                "declare it as a `layer` instead of an `fn`, or pass the value as an argument",
            ));
        }
        let TypeKind::Tensor(tensor) = &param.ty.kind else {
            if matches!(param.ty.kind, TypeKind::Error) {
                return Err(Reported);
            }
            return Err(self.error(
                param.ty.span,
                "E0216",
                "a parameter is a tensor",
                "this is no shape",
                "write its shape: `param b: [units] ~ zeros`",
            ));
        };
        let mut shape: Shape = Vec::new();
        for size in &tensor.shape {
            shape.push(self.size_of(size, frame)?);
        }
        let fan_in = fan_in(&shape);
        let init = match &param.init {
            Some(init) => self.init(init, fan_in, frame)?,
            None => Init::Constant(0.0),
        };
        let range = self.range(tensor, frame)?;
        let name = self.path.iter().cloned().chain([param.name.value.clone()]).collect::<Vec<_>>().join(".");
        let count = self.instances.entry(format!("{name}#")).or_default();
        *count += 1;
        // In a loop, each round declares one.
        let name = if *count == 1 { name } else { format!("{name}[{}]", *count - 1) };
        let origin = self.origin(param.span);
        let info = ParamInfo { name, shape, init, fan_in, range, span: self.user_span(param.span) };
        if self.frozen || param.frozen {
            return self.frozen_param(info, param.span);
        }
        let info = self.with_given(info, param.span);
        let node = self.graph.param(info, &origin);
        let node = self.built(node, param.span)?;
        if tensor.scheme.is_none() {
            return Ok(Value::Tensor(node));
        }
        let expected = Expected { ty: &param.ty, span: param.span, role: Role::Let };
        self.note(node, tensor, expected, frame).map(Value::Tensor)
    }

    fn init(&mut self, e: &'a Expr, fan_in: usize, frame: &mut Frame<'a>) -> Result<Init, Reported> {
        let value = match e.kind.as_ref() {
            ExprKind::Name(name) => match frame.find(name).map(|v| v.value.clone()) {
                Some(Value::Word(word)) => return self.init_word(&word, e.span),
                Some(value) => value,
                None => match self.scope.find(name, frame.file) {
                    None => return self.init_word(name, e.span),
                    Some(_) => self.expr(e, frame)?,
                },
            },
            ExprKind::Call(call) if INITS.contains(&call.callee.value.as_str()) => {
                if call.callee.value == "he_normal" {
                    let gain = match call.arguments.as_slice() {
                        [gain] => self.number_of(&gain.value, frame)?,
                        _ => return Err(self.init_arguments("he_normal(gain)", call.span)),
                    };
                    return Ok(Init::Normal(gain.abs() * (2.0 / fan_in.max(1) as f64).sqrt()));
                }
                return match self.distribution(e, frame)? {
                    Distribution::Constant(c) => Ok(Init::Constant(c)),
                    Distribution::Normal { mean: 0.0, deviation } => Ok(Init::Normal(deviation)),
                    Distribution::Normal { .. } => Err(self.error(
                        e.span,
                        "E0216",
                        "initial weights have mean 0",
                        "another mean is not supported",
                        "write `normal(0, deviation)`",
                    )),
                    Distribution::Uniform { low, high } => Ok(Init::Uniform(low, high)),
                };
            }
            _ => self.expr(e, frame)?,
        };
        match value.number() {
            Some(x) => Ok(Init::Constant(x)),
            None => {
                let what = value.what(&self.graph);
                Err(self.error(
                    e.span,
                    "E0216",
                    format!("an initialisation is a number or a distribution, not {what}"),
                    "here",
                    format!("known are {}", INITS.join(", ")),
                ))
            }
        }
    }

    fn init_word(&mut self, word: &str, span: Span) -> Result<Init, Reported> {
        match word {
            "zeros" => Ok(Init::Constant(0.0)),
            "ones" => Ok(Init::Constant(1.0)),
            "he_normal" => Ok(Init::HeNormal),
            _ => {
                let help = match suggest(word, INITS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if INITS.contains(&word) => format!("it takes two numbers: `{word}(0, 0.1)`"),
                    None => format!("known are {}", INITS.join(", ")),
                };
                Err(self.error(span, "E0216", format!("there is no initialisation `{word}`"), "here", help))
            }
        }
    }

    fn init_arguments(&mut self, usage: &str, span: Span) -> Reported {
        self.error(span, "E0216", format!("this is written `{usage}`"), "here", "give it these numbers")
    }

    /// `normal(mean, deviation)`, `uniform(low, high)`, or a number.
    pub fn distribution(&mut self, e: &'a Expr, frame: &mut Frame<'a>) -> Result<Distribution, Reported> {
        let call = match e.kind.as_ref() {
            ExprKind::Call(call) => call,
            ExprKind::Name(name) if name == "zeros" => return Ok(Distribution::Constant(0.0)),
            ExprKind::Name(name) if name == "ones" => return Ok(Distribution::Constant(1.0)),
            _ => return Ok(Distribution::Constant(self.number_of(e, frame)?)),
        };
        let (usage, normal) = match call.callee.value.as_str() {
            "normal" => ("normal(mean, deviation)", true),
            "uniform" => ("uniform(low, high)", false),
            _ => return Ok(Distribution::Constant(self.number_of(e, frame)?)),
        };
        let [first, second] = call.arguments.as_slice() else {
            return Err(self.init_arguments(usage, call.span));
        };
        let (a, b) = (self.number_of(&first.value, frame)?, self.number_of(&second.value, frame)?);
        if normal && b >= 0.0 {
            Ok(Distribution::Normal { mean: a, deviation: b })
        } else if !normal && a < b {
            Ok(Distribution::Uniform { low: a, high: b })
        } else {
            Err(self.init_arguments(usage, call.span))
        }
    }
}

/// Inputs that one output sums over: rows of a matrix `[n, m]`, channels times window of a kernel
/// `[o, c, h, w]`; 1 for a vector, which is added and not multiplied.
fn fan_in(shape: &[usize]) -> usize {
    match shape {
        [] | [_] => 1,
        [n, _] => *n,
        [_, rest @ ..] => rest.iter().fold(1usize, |n, &d| n.saturating_mul(d)),
    }
    .max(1)
}

fn flatten(value: &Value<'_>, depth: usize, shape: &mut Vec<usize>, out: &mut Vec<f64>) -> bool {
    if let Value::List(items) = value {
        match shape.get(depth) {
            None if out.is_empty() => shape.push(items.len()),
            Some(&size) if size == items.len() => {}
            _ => return false,
        }
        return !items.is_empty() && items.iter().all(|item| flatten(item, depth + 1, shape, out));
    }
    match value.number() {
        Some(x) if depth == shape.len() => {
            out.push(x);
            true
        }
        _ => false,
    }
}

pub fn show_words(words: &[Ident]) -> String {
    words.iter().map(|w| format!("`{}`", w.value)).collect::<Vec<_>>().join(" or ")
}
