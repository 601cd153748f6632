//! Expressions and statements.

use super::elaborate::{Elaborator, Evaluated, Frame, MAX_TABLE, Reported};
use super::names::unknown_name;
use super::scope::Definition;
use super::types::{Expected, Role};
use super::value::Value;
use crate::diagnostics::Span;
use crate::graph::{Binary, ScalarExpr, ScalarFn};
use crate::parser::ast::*;

impl<'a> Elaborator<'a, '_> {
    pub fn expr(&mut self, e: &'a Expr, frame: &mut Frame<'a>) -> Evaluated<'a> {
        self.nested(e.span, |this| match e.kind.as_ref() {
            ExprKind::Int(n) => Ok(Value::Int(*n)),
            ExprKind::Real(x) => Ok(Value::Real(*x)),
            ExprKind::Str(text) => Ok(Value::Text(text)),
            ExprKind::Name(name) => this.name(name, e.span, frame),
            ExprKind::List(items) => {
                items.iter().map(|item| this.expr(item, frame)).collect::<Result<_, _>>().map(Value::List)
            }
            ExprKind::Unary(op, inner) => {
                let value = this.expr(inner, frame)?;
                this.unary(*op, value, inner.span)
            }
            ExprKind::Binary { op, at, left, right } => {
                this.binary_expr(*op, *at, left, right, e.span, frame)
            }
            ExprKind::Call(call) => this.call(call, None, frame),
            ExprKind::Pipe { first, stages } => {
                let mut value = this.expr(first, frame)?;
                let mut span = first.span;
                for stage in stages {
                    value = this.call(stage, Some((value, span)), frame)?;
                    span = Span { end: stage.span.end, ..span };
                }
                Ok(value)
            }
            ExprKind::If { condition, then, otherwise } => {
                let branch = if this.condition(condition, frame)? { Some(then) } else { otherwise.as_ref() };
                branch.map_or(Ok(Value::Nothing), |block| this.block(block, frame))
            }
            ExprKind::Error => Err(Reported),
        })
    }

    fn name(&mut self, name: &'a str, span: Span, frame: &Frame<'a>) -> Evaluated<'a> {
        if let Some(variable) = frame.find(name) {
            return match &variable.value {
                Value::Poison => Err(Reported),
                value => Ok(value.clone()),
            };
        }
        match self.scope.find(name, frame.file) {
            Some(Definition::Let(item)) => self.constant(item),
            Some(definition) => Ok(Value::Function(definition)),
            None => {
                let names = frame.variables.iter().map(|v| v.name).chain(self.scope.names());
                let error = unknown_name(name, span, names);
                Err(self.report(error))
            }
        }
    }

    /// The value of a constant of the file.
    pub fn constant(&mut self, item: &'a Let) -> Evaluated<'a> {
        if let Some(value) = self.constants.get(&item.span) {
            return Ok(value.clone());
        }
        let mut frame = Frame::new(item.span.file, false);
        let value = self.nested(item.span, |this| this.expr(&item.value, &mut frame))?;
        let value = match &item.ty {
            Some(ty) => {
                self.check_type(value, Expected { ty, span: item.value.span, role: Role::Let }, &mut frame)?
            }
            None => value,
        };
        self.constants.insert(item.span, value.clone());
        Ok(value)
    }

    /// Whether a condition holds; it must be known now.
    fn condition(&mut self, e: &'a Expr, frame: &mut Frame<'a>) -> Result<bool, Reported> {
        match self.expr(e, frame)? {
            Value::Bool(holds) => Ok(holds),
            value @ (Value::Tensor(_) | Value::Scalar(_)) => Err(self.branch_error(e.span, &value)),
            value => {
                let what = value.what(&self.graph);
                Err(self.error(
                    e.span,
                    "E0205",
                    format!("a condition is true or false, this is {what}"),
                    "not a condition",
                    "compare it: `== 0`, `> 1`",
                ))
            }
        }
    }

    pub fn branch_error(&mut self, span: Span, value: &Value<'a>) -> Reported {
        let (message, help) = if value.is_encrypted() {
            (
                "a program cannot branch on an encrypted value: the server does not see it",
                "compute both sides and choose by arithmetic: `max(a, b)`, or a table of one value such as \
                 `step(x)`, which is 1 above zero and 0 elsewhere",
            )
        } else {
            (
                "a table cannot branch on its value",
                "use `max`, `min`, `abs` or `step(z)`, which is 1 above zero and 0 elsewhere",
            )
        };
        self.error(span, "E0208", message, "not known when the program is compiled", help)
    }

    pub fn unary(&mut self, op: UnaryOp, value: Value<'a>, span: Span) -> Evaluated<'a> {
        match (op, value) {
            (UnaryOp::Neg, Value::Int(n)) => {
                n.checked_neg().map(Value::Int).ok_or(()).map_err(|()| self.overflow(span))
            }
            (UnaryOp::Neg, Value::Real(x)) => Ok(Value::Real(-x)),
            (UnaryOp::Neg, Value::Scalar(z)) => Ok(Value::Scalar(z.neg())),
            (UnaryOp::Neg, Value::Tensor(id)) => {
                let origin = self.origin(span);
                let result = self.graph.scale(id, -1.0, &origin);
                self.tensor(result, span)
            }
            (UnaryOp::Not, Value::Bool(b)) => Ok(Value::Bool(!b)),
            (UnaryOp::Not, value @ (Value::Tensor(_) | Value::Scalar(_))) => {
                Err(self.branch_error(span, &value))
            }
            (op, value) => {
                let what = value.what(&self.graph);
                let sign = if op == UnaryOp::Neg { "-" } else { "not" };
                Err(self.error(
                    span,
                    "E0205",
                    format!("`{sign}` does not apply to {what}"),
                    "here",
                    "it takes a number or a tensor, `not` a condition",
                ))
            }
        }
    }

    fn overflow(&mut self, span: Span) -> Reported {
        self.error(
            span,
            "E0220",
            "this integer arithmetic leaves 64 bits",
            "too large",
            "use smaller integers, or reals: 1e20",
        )
    }

    fn binary_expr(
        &mut self,
        op: BinaryOp,
        at: Span,
        left: &'a Expr,
        right: &'a Expr,
        span: Span,
        frame: &mut Frame<'a>,
    ) -> Evaluated<'a> {
        if matches!(op, BinaryOp::And | BinaryOp::Or) {
            let first = self.condition(left, frame)?;
            // The second side is not looked at if the first decides: `n > 0 and 8 // n > 1`.
            let decided = if op == BinaryOp::And { !first } else { first };
            return Ok(Value::Bool(if decided { first } else { self.condition(right, frame)? }));
        }
        if matches!(op, BinaryOp::Eq | BinaryOp::Ne) {
            // One side may be a bare word: `pad == same`.
            let unknown = |e: &Expr, this: &Self| {
                e.as_name()
                    .filter(|name| frame.find(name).is_none() && this.scope.find(name, frame.file).is_none())
                    .map(str::to_owned)
            };
            let (word, other) = match (unknown(left, self), unknown(right, self)) {
                (None, Some(word)) => (Some((word, right.span)), left),
                (Some(word), None) => (Some((word, left.span)), right),
                _ => (None, left),
            };
            if let Some((word, word_span)) = word {
                return match self.expr(other, frame)? {
                    Value::Word(own) => Ok(Value::Bool((own == word) == (op == BinaryOp::Eq))),
                    _ => {
                        let names = frame.variables.iter().map(|v| v.name).chain(self.scope.names());
                        let error = unknown_name(&word, word_span, names);
                        Err(self.report(error))
                    }
                };
            }
        }
        let a = self.expr(left, frame)?;
        let b = self.expr(right, frame)?;
        self.binary(op, a, b, at, span)
    }

    /// `a op b`; `at` is where the operator stands, `span` the whole expression.
    pub fn binary(
        &mut self,
        op: BinaryOp,
        a: Value<'a>,
        b: Value<'a>,
        at: Span,
        span: Span,
    ) -> Evaluated<'a> {
        use Value::{Int, List, Real, Scalar, Tensor};
        if op.is_condition() {
            return self.compare(op, a, b, span);
        }
        match (a, b) {
            (Int(a), Int(b)) => self.integers(op, a, b, span),
            (a @ (Int(_) | Real(_)), b @ (Int(_) | Real(_))) => {
                let (x, y) = (a.number().unwrap_or_default(), b.number().unwrap_or_default());
                self.reals(op, x, y, span)
            }
            (a @ (Scalar(_) | Int(_) | Real(_)), b @ (Scalar(_) | Int(_) | Real(_))) => {
                self.scalars(op, a, b, span)
            }
            (a @ List(_), Tensor(b)) => {
                let a = self.constant_tensor(a, span)?;
                self.binary(op, a, Tensor(b), at, span)
            }
            (Tensor(a), b @ List(_)) => {
                let b = self.constant_tensor(b, span)?;
                self.binary(op, Tensor(a), b, at, span)
            }
            (Tensor(a), Tensor(b)) => {
                let origin = self.origin(span);
                let result = match op {
                    BinaryOp::Add => self.graph.add(a, b, &origin),
                    BinaryOp::Sub => self.graph.sub(a, b, &origin),
                    BinaryOp::Mul => self.graph.mul(a, b, &origin),
                    BinaryOp::MatMul => self.graph.matmul(a, b, &origin),
                    BinaryOp::Div => return Err(self.division_error(at)),
                    _ => return Err(self.operator_error(op, Tensor(a), Tensor(b), span)),
                };
                self.tensor(result, span)
            }
            (Tensor(a), b @ (Int(_) | Real(_))) => {
                let c = b.number().unwrap_or_default();
                let origin = self.origin(span);
                let result = match op {
                    BinaryOp::Add => self.graph.offset(a, c, &origin),
                    BinaryOp::Sub => self.graph.offset(a, -c, &origin),
                    BinaryOp::Mul => self.graph.scale(a, c, &origin),
                    BinaryOp::Div if c == 0.0 => return Err(self.zero_division(span)),
                    BinaryOp::Div => self.graph.scale(a, 1.0 / c, &origin),
                    _ => return Err(self.operator_error(op, Tensor(a), b, span)),
                };
                self.tensor(result, span)
            }
            (a @ (Int(_) | Real(_)), Tensor(b)) => {
                let c = a.number().unwrap_or_default();
                let origin = self.origin(span);
                let result = match op {
                    BinaryOp::Add => self.graph.offset(b, c, &origin),
                    BinaryOp::Sub => {
                        let minus = self.graph.scale(b, -1.0, &origin);
                        let minus = self.built(minus, span)?;
                        self.graph.offset(minus, c, &origin)
                    }
                    BinaryOp::Mul => self.graph.scale(b, c, &origin),
                    BinaryOp::Div => return Err(self.division_error(at)),
                    _ => return Err(self.operator_error(op, a, Tensor(b), span)),
                };
                self.tensor(result, span)
            }
            (Value::Poison, _) | (_, Value::Poison) => Err(Reported),
            (a, b) => Err(self.operator_error(op, a, b, span)),
        }
    }

    fn division_error(&mut self, at: Span) -> Reported {
        self.error(
            at,
            "E0207",
            "division by an encrypted value",
            "there is no such operation on ciphertexts",
            "a function of one value can be a table: `lut inverse(z) = 1 / z`, then multiply; or divide by a \
             public number",
        )
    }

    fn zero_division(&mut self, span: Span) -> Reported {
        self.error(span, "E0220", "division by zero", "the divisor is 0", "check the sizes that lead here")
    }

    fn operator_error(&mut self, op: BinaryOp, a: Value<'a>, b: Value<'a>, span: Span) -> Reported {
        let help = match op {
            BinaryOp::Pow => "write `x * x`, or a table: `lut cube(z) = z^3`",
            BinaryOp::MatMul => "`@` multiplies vectors and matrices; use `*` for numbers",
            BinaryOp::FloorDiv | BinaryOp::Rem => "`//` and `%` take integers that are known when compiling",
            _ => "arithmetic takes numbers and tensors",
        };
        let (a, b) = (a.what(&self.graph), b.what(&self.graph));
        self.error(span, "E0205", format!("`{}` does not apply to {a} and {b}", op.symbol()), "here", help)
    }

    fn compare(&mut self, op: BinaryOp, a: Value<'a>, b: Value<'a>, span: Span) -> Evaluated<'a> {
        for value in [&a, &b] {
            if matches!(value, Value::Tensor(_) | Value::Scalar(_)) {
                return Err(self.branch_error(span, value));
            }
        }
        let order = match (&a, &b) {
            (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
            (Value::Word(a), Value::Word(b)) if matches!(op, BinaryOp::Eq | BinaryOp::Ne) => Some(a.cmp(b)),
            (Value::Bool(a), Value::Bool(b)) if matches!(op, BinaryOp::Eq | BinaryOp::Ne) => Some(a.cmp(b)),
            _ => a.number().zip(b.number()).and_then(|(a, b)| a.partial_cmp(&b)),
        };
        let Some(order) = order else { return Err(self.operator_error(op, a, b, span)) };
        Ok(Value::Bool(match op {
            BinaryOp::Eq => order.is_eq(),
            BinaryOp::Ne => order.is_ne(),
            BinaryOp::Lt => order.is_lt(),
            BinaryOp::Le => order.is_le(),
            BinaryOp::Gt => order.is_gt(),
            _ => order.is_ge(),
        }))
    }

    fn integers(&mut self, op: BinaryOp, a: i64, b: i64, span: Span) -> Evaluated<'a> {
        let result = match op {
            BinaryOp::Add => a.checked_add(b),
            BinaryOp::Sub => a.checked_sub(b),
            BinaryOp::Mul => a.checked_mul(b),
            BinaryOp::Div | BinaryOp::FloorDiv | BinaryOp::Rem if b == 0 => {
                return Err(self.zero_division(span));
            }
            BinaryOp::Div => return Ok(Value::Real(a as f64 / b as f64)),
            // Both round towards minus infinity.
            BinaryOp::FloorDiv => {
                a.checked_div(b).map(|q| if (a % b != 0) && ((a < 0) != (b < 0)) { q - 1 } else { q })
            }
            BinaryOp::Rem => a.checked_rem(b).map(|r| if r != 0 && ((r < 0) != (b < 0)) { r + b } else { r }),
            BinaryOp::Pow => match u32::try_from(b) {
                Ok(b) => a.checked_pow(b),
                Err(_) => return self.reals(op, a as f64, b as f64, span),
            },
            _ => return Err(self.operator_error(op, Value::Int(a), Value::Int(b), span)),
        };
        result.map(Value::Int).ok_or(()).map_err(|()| self.overflow(span))
    }

    fn reals(&mut self, op: BinaryOp, a: f64, b: f64, span: Span) -> Evaluated<'a> {
        let result = match op {
            BinaryOp::Add => a + b,
            BinaryOp::Sub => a - b,
            BinaryOp::Mul => a * b,
            BinaryOp::Div if b == 0.0 => return Err(self.zero_division(span)),
            BinaryOp::Div => a / b,
            BinaryOp::Pow => a.powf(b),
            _ => return Err(self.operator_error(op, Value::Real(a), Value::Real(b), span)),
        };
        if result.is_finite() {
            return Ok(Value::Real(result));
        }
        Err(self.error(
            span,
            "E0220",
            format!("{a} {} {b} is not a finite number", op.symbol()),
            "here",
            "use smaller numbers",
        ))
    }

    /// Arithmetic inside a table.
    fn scalars(&mut self, op: BinaryOp, a: Value<'a>, b: Value<'a>, span: Span) -> Evaluated<'a> {
        let binary = match op {
            BinaryOp::Add => Binary::Add,
            BinaryOp::Sub => Binary::Sub,
            BinaryOp::Mul => Binary::Mul,
            BinaryOp::Div => Binary::Div,
            BinaryOp::Pow => Binary::Pow,
            _ => return Err(self.operator_error(op, a, b, span)),
        };
        let (Some(a), Some(b)) = (as_scalar(a), as_scalar(b)) else { return Err(Reported) };
        self.table_size(ScalarExpr::bin(binary, a, b), span)
    }

    pub fn table_size(&mut self, e: ScalarExpr, span: Span) -> Evaluated<'a> {
        if e.size() <= MAX_TABLE { Ok(Value::Scalar(e)) } else { Err(self.table_too_large(span)) }
    }

    fn table_too_large(&mut self, span: Span) -> Reported {
        self.error(
            span,
            "E0213",
            format!("the expression of this table has more than {MAX_TABLE} operations"),
            "here",
            "write it with fewer operations",
        )
    }

    /// Applies a function of one value to each element.
    pub fn table(&mut self, value: Value<'a>, function: ScalarFn, span: Span) -> Evaluated<'a> {
        match value {
            Value::Tensor(id) => {
                let origin = self.origin(span);
                let result = self.graph.lut(id, function, &origin);
                self.tensor(result, span)
            }
            Value::List(items) => {
                let items = items.into_iter().map(|item| self.table(item, function.clone(), span));
                items.collect::<Result<_, _>>().map(Value::List)
            }
            Value::Scalar(inner) => {
                // Before composing: the result can have as many nodes as their product.
                if function.expr.size().saturating_mul(inner.size()) > MAX_TABLE * 64 {
                    return Err(self.table_too_large(span));
                }
                self.table_size(function.expr.compose(&inner), span)
            }
            value => {
                let Some(x) = value.number() else {
                    let what = value.what(&self.graph);
                    return Err(self.error(
                        span,
                        "E0205",
                        format!("`{}` takes a tensor or a number, not {what}", function.name),
                        "here",
                        "give it a value",
                    ));
                };
                let y = function.expr.eval(x);
                if y.is_finite() {
                    return Ok(Value::Real(y));
                }
                Err(self.error(
                    span,
                    "E0220",
                    format!("`{}` is not defined at {x}", function.name),
                    "here",
                    "use a number at which it is",
                ))
            }
        }
    }
}

pub fn as_scalar(value: Value<'_>) -> Option<ScalarExpr> {
    match value {
        Value::Scalar(e) => Some(e),
        value => value.number().map(ScalarExpr::Const),
    }
}
