//! Statements: what a block does, line by line.

use super::elaborate::{Elaborator, Evaluated, Frame, Reported, Variable};
use super::types::{Expected, Role};
use super::value::Value;
use crate::diagnostics::{Diagnostic, Span, suggest};
use crate::graph::{LoopState, show_shape};
use crate::parser::ast::*;

impl<'a> Elaborator<'a, '_> {
    /// The value of a block: that of its last expression.
    pub fn block(&mut self, block: &'a Block, frame: &mut Frame<'a>) -> Evaluated<'a> {
        self.nested(block.span, |this| {
            let outer = frame.variables.len();
            let mut result = Ok(Value::Nothing);
            let last = block.statements.len().saturating_sub(1);
            let mut failed = false;
            for (index, statement) in block.statements.iter().enumerate() {
                result = this.statement(statement, index == last, frame);
                failed |= result.is_err();
                // What follows a `require` relies on it.
                let required = matches!(statement, Statement::Expr(_))
                    && this.diagnostics.last().is_some_and(|last| last.code == "E0221");
                if result.is_err() && required {
                    break;
                }
            }
            frame.variables.truncate(outer);
            if failed { Err(Reported) } else { result }
        })
    }

    fn statement(&mut self, statement: &'a Statement, last: bool, frame: &mut Frame<'a>) -> Evaluated<'a> {
        match statement {
            Statement::Let(item) => {
                let value = match declared_word(item).filter(|word| frame.find(word).is_none()) {
                    Some(word) => Ok(Value::Word(word.to_owned())),
                    None => self.expr(&item.value, frame),
                };
                let value = match (value, &item.ty) {
                    (Ok(value), Some(ty)) => {
                        self.check_type(value, Expected { ty, span: item.value.span, role: Role::Let }, frame)
                    }
                    (value, _) => value,
                };
                let value = value.and_then(|value| self.something(value, item.value.span));
                let failed = value.is_err();
                // The name is known even so: its uses are no errors of their own.
                frame.variables.push(Variable {
                    name: &item.name.value,
                    value: value.unwrap_or(Value::Poison),
                    mutable: item.mutable,
                    span: item.name.span,
                });
                if failed { Err(Reported) } else { Ok(Value::Nothing) }
            }
            Statement::Param(param) => {
                let value = self.param(param, frame);
                let failed = value.is_err();
                frame.bind(&param.name.value, value.unwrap_or(Value::Poison), param.name.span);
                if failed { Err(Reported) } else { Ok(Value::Nothing) }
            }
            Statement::Assign { name, value } => {
                let result = self.expr(value, frame).and_then(|v| self.something(v, value.span));
                self.assign(name, result, frame)
            }
            Statement::For(item) => self.for_loop(item, frame).map(|()| Value::Nothing),
            Statement::Expr(e) => {
                let value = self.expr(e, frame)?;
                if last || matches!(value, Value::Nothing) {
                    return Ok(value);
                }
                Err(self.error(
                    e.span,
                    "E0218",
                    "this value is not used",
                    "nothing happens to it",
                    "the last line of a block is its value; give others a name with `let`",
                ))
            }
            Statement::Error(_) => Err(Reported),
        }
    }

    pub fn something(&mut self, value: Value<'a>, span: Span) -> Evaluated<'a> {
        match value {
            Value::Nothing => Err(self.error(
                span,
                "E0218",
                "there is no value here",
                "ends without a value",
                "end the block with an expression; an `if` without `else` has a value only if it holds",
            )),
            value => Ok(value),
        }
    }

    fn assign(&mut self, name: &'a Ident, value: Evaluated<'a>, frame: &mut Frame<'a>) -> Evaluated<'a> {
        let known: Vec<&str> = frame.variables.iter().map(|v| v.name).collect();
        let Some(variable) = frame.find_mut(&name.value) else {
            let mut error = Diagnostic::error("E0201", format!("there is no variable `{}`", name.value))
                .label(name.span, "not known here");
            error = error.help(match suggest(&name.value, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("declare it: `let mut {} = …`", name.value),
            });
            return Err(self.report(error));
        };
        if !variable.mutable {
            let declared = variable.span;
            let error = self
                .diagnostic(
                    name.span,
                    "E0214",
                    format!("`{}` cannot be assigned", name.value),
                    "assigned here",
                )
                .label(declared, "declared without `mut`")
                .help(format!("declare it as `let mut {}`", name.value));
            return Err(self.report(error));
        }
        let failed = value.is_err();
        variable.value = value.unwrap_or(Value::Poison);
        if failed { Err(Reported) } else { Ok(Value::Nothing) }
    }

    fn bound(&mut self, e: &'a Expr, frame: &mut Frame<'a>) -> Result<i64, Reported> {
        match self.expr(e, frame)? {
            Value::Int(n) => Ok(n),
            value => {
                let what = value.what(&self.graph);
                Err(self.error(
                    e.span,
                    "E0205",
                    format!("a loop counts with integers, this is {what}"),
                    "not an integer",
                    "the number of rounds must be known when the program is compiled",
                ))
            }
        }
    }

    fn for_loop(&mut self, item: &'a For, frame: &mut Frame<'a>) -> Result<(), Reported> {
        let from = self.bound(&item.from, frame)?;
        let to = self.bound(&item.to, frame)?;
        let outer = frame.variables.len();
        for i in from..to {
            self.round(item.span)?;
            let before: Vec<Value<'a>> = frame.variables.iter().map(|v| v.value.clone()).collect();
            frame.bind(&item.variable.value, Value::Int(i), item.variable.span);
            let result = self.block(&item.body, frame);
            frame.variables.truncate(outer);
            result?;
            if !item.unroll {
                for (index, before) in before.into_iter().enumerate() {
                    let variable = frame.variables[index].clone();
                    self.loop_state(&variable, before, item)?;
                }
            }
        }
        Ok(())
    }

    /// A `for` loop gives its state back with the shape with which it entered; the levels are compared later.
    fn loop_state(
        &mut self,
        variable: &Variable<'a>,
        before: Value<'a>,
        item: &'a For,
    ) -> Result<(), Reported> {
        let (name, after) = (variable.name, &variable.value);
        let changed = match (&before, after) {
            (Value::Tensor(a), Value::Tensor(b)) if a == b => return Ok(()),
            (Value::Tensor(a), Value::Tensor(b)) => self.shape(*a) != self.shape(*b),
            (Value::Tensor(_), _) | (_, Value::Tensor(_)) => true,
            _ => return Ok(()),
        };
        if changed {
            let show = |value: &Value<'a>| match value {
                Value::Tensor(id) => show_shape(self.shape(*id)),
                value => value.what(&self.graph),
            };
            let message =
                format!("`{name}` enters this loop as {} and leaves it as {}", show(&before), show(after));
            let span = Span { end: item.body.span.start, ..item.span };
            let error = self
                .diagnostic(span, "E0212", message, "a `for` keeps the type of its state")
                .label(variable.span, format!("`{name}` is declared here"))
                .help("write `unroll for` if it is to change, or make the body give back the same shape");
            return Err(self.report(error));
        }
        if let (Value::Tensor(before), Value::Tensor(after)) = (before, after) {
            let state = LoopState { name: name.to_owned(), before, after: *after, span: item.span };
            self.graph.loops.push(state);
        }
        Ok(())
    }
}

/// The word in `let mode: plain | residual = plain`.
fn declared_word(item: &Let) -> Option<&str> {
    let TypeKind::Enumeration(words) = &item.ty.as_ref()?.kind else { return None };
    item.value.as_name().filter(|name| words.iter().any(|word| word.value == *name))
}
