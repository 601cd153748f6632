//! Calls: arguments to parameters, and the body with them.

use super::elaborate::{Elaborator, Evaluated, Frame, Reported};
use super::names::unknown_name;
use super::primitives::Primitive;
use super::scope::Definition;
use super::types::{Expected, Role, show_words};
use super::value::Value;
use crate::diagnostics::{Span, suggest};
use crate::graph::{ScalarExpr, ScalarFn};
use crate::parser::ast::*;

/// An argument that has its value.
#[derive(Clone, Debug)]
pub struct Given<'a> {
    pub name: Option<Ident>,
    pub value: Value<'a>,
    pub span: Span,
}

impl<'a> Given<'a> {
    pub fn positional(value: Value<'a>, span: Span) -> Self {
        Self { name: None, value, span }
    }
}

impl<'a> Elaborator<'a, '_> {
    /// A call in the source; `piped` is what comes before `|>`.
    pub fn call(
        &mut self,
        call: &'a Call,
        piped: Option<(Value<'a>, Span)>,
        frame: &mut Frame<'a>,
    ) -> Evaluated<'a> {
        let callee = &call.callee;
        // A name before `(` means a function: a parameter `size` does not hide the primitive `size`.
        let local = frame.find(&callee.value).map(|v| v.value.clone());
        let definition = match (local, self.scope.find(&callee.value, frame.file)) {
            (Some(Value::Function(definition)), _) => definition,
            (Some(Value::Poison), None) => return Err(Reported),
            (_, Some(definition)) => definition,
            (Some(value), None) => {
                let what = value.what(&self.graph);
                return Err(self.not_callable(&callee.value, &what, callee.span));
            }
            (None, None) => {
                let names = frame.variables.iter().map(|v| v.name).chain(self.scope.names());
                let error = unknown_name(&callee.value, callee.span, names);
                return Err(self.report(error));
            }
        };
        let mut given: Vec<Given<'a>> = Vec::new();
        given.extend(piped.map(|(value, span)| Given::positional(value, span)));
        let mut failed = false;
        for argument in &call.arguments {
            match self.argument(argument, definition, given.len(), frame) {
                Ok(value) => {
                    given.push(Given { name: argument.name.clone(), value, span: argument.value.span });
                }
                Err(Reported) => failed = true,
            }
        }
        if failed {
            return Err(Reported);
        }
        let outer = self.frozen;
        self.frozen |= call.frozen;
        let result = self.apply(definition, given, call.span);
        self.frozen = outer;
        result
    }

    fn not_callable(&mut self, name: &str, what: &str, span: Span) -> Reported {
        self.error(
            span,
            "E0205",
            format!("`{name}` is {what} and cannot be called"),
            "not a function",
            "multiplication is written `*`",
        )
    }

    /// The value of an argument; a bare word where the parameter takes words.
    fn argument(
        &mut self,
        argument: &'a Argument,
        callee: Definition<'a>,
        position: usize,
        frame: &mut Frame<'a>,
    ) -> Evaluated<'a> {
        let parameters: &[Parameter] = match callee {
            Definition::Callable(callable) => &callable.parameters,
            Definition::Lut(lut) => &lut.parameters,
            _ => &[],
        };
        let parameter = match &argument.name {
            Some(name) => parameters.iter().find(|p| p.name.value == name.value),
            None => parameters.get(position),
        };
        if let Some(TypeKind::Enumeration(words)) = parameter.and_then(|p| p.ty.as_ref()).map(|ty| &ty.kind)
            && let Some(name) = argument.value.as_name().filter(|name| frame.find(name).is_none())
        {
            if words.iter().any(|word| word.value == name) {
                return Ok(Value::Word(name.to_owned()));
            }
            let help = match suggest(name, words.iter().map(|w| w.value.as_str())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write {}", show_words(words)),
            };
            let message = format!("`{name}` is not {}", show_words(words));
            return Err(self.error(argument.value.span, "E0205", message, "not one of these words", help));
        }
        let value = self.expr(&argument.value, frame)?;
        self.something(value, argument.value.span)
    }

    /// Applies a definition to values; `span` is the call.
    pub fn apply(&mut self, callee: Definition<'a>, given: Vec<Given<'a>>, span: Span) -> Evaluated<'a> {
        match callee {
            Definition::Callable(callable) => self.apply_callable(callable, given, span),
            Definition::Lut(lut) => self.apply_lut(lut, given, span),
            Definition::Primitive(primitive) => self.apply_primitive(primitive, given, span),
            Definition::Let(item) => Err(self.not_callable(&item.name.value, "a constant", span)),
            Definition::Data(item) => Err(self.not_callable(&item.name.value, "data", span)),
        }
    }

    /// Matches arguments to parameters by position and name: one place for each parameter.
    fn place(
        &mut self,
        callee: &str,
        names: &[(&str, bool)],
        given: Vec<Given<'a>>,
        span: Span,
    ) -> Result<Vec<Option<Given<'a>>>, Reported> {
        let mut places: Vec<Option<Given<'a>>> = vec![None; names.len()];
        let usage = || {
            let list =
                names.iter().map(|(n, optional)| if *optional { format!("{n}?") } else { (*n).into() });
            format!("it is `{callee}({})`", list.collect::<Vec<_>>().join(", "))
        };
        let mut next = 0;
        for argument in given {
            let index = match &argument.name {
                None => {
                    next += 1;
                    next - 1
                }
                Some(name) => match names.iter().position(|(own, _)| *own == name.value) {
                    Some(index) => index,
                    None => {
                        let help = match suggest(&name.value, names.iter().map(|(n, _)| *n)) {
                            Some(near) => format!("did you mean `{near}`? {}", usage()),
                            None => usage(),
                        };
                        let message = format!("`{callee}` has no parameter `{}`", name.value);
                        return Err(self.error(name.span, "E0204", message, "not known", help));
                    }
                },
            };
            if index >= places.len() {
                let message = format!("`{callee}` takes {} arguments", names.len());
                return Err(self.error(argument.span, "E0204", message, "one too many", usage()));
            }
            if places[index].is_some() {
                let message = format!("`{}` of `{callee}` is given twice", names[index].0);
                return Err(self.error(argument.span, "E0204", message, "given again", usage()));
            }
            places[index] = Some(argument);
        }
        let missing = names.iter().zip(&places).find(|((_, optional), place)| !optional && place.is_none());
        if let Some(((name, _), _)) = missing {
            let message = format!("`{callee}` lacks its argument `{name}`");
            return Err(self.error(span, "E0204", message, "in this call", usage()));
        }
        Ok(places)
    }

    fn place_parameters(
        &mut self,
        callee: &'a Ident,
        parameters: &'a [Parameter],
        given: Vec<Given<'a>>,
        span: Span,
    ) -> Result<Vec<Option<Given<'a>>>, Reported> {
        let names: Vec<(&str, bool)> =
            parameters.iter().map(|p| (p.name.value.as_str(), p.default.is_some())).collect();
        self.place(&callee.value, &names, given, span)
    }

    /// The value that a parameter has if it is not given.
    fn default(&mut self, parameter: &'a Parameter, frame: &mut Frame<'a>) -> Result<Given<'a>, Reported> {
        let Some(default) = &parameter.default else { return Err(Reported) };
        let words = match parameter.ty.as_ref().map(|ty| &ty.kind) {
            Some(TypeKind::Enumeration(words)) => words.as_slice(),
            _ => &[],
        };
        let value = match default.as_name().filter(|name| words.iter().any(|w| w.value == *name)) {
            Some(word) => Value::Word(word.to_owned()),
            None => self.expr(default, frame)?,
        };
        Ok(Given::positional(value, default.span))
    }

    fn apply_callable(&mut self, callee: &'a Callable, given: Vec<Given<'a>>, span: Span) -> Evaluated<'a> {
        let places = self.place_parameters(&callee.name, &callee.parameters, given, span)?;
        let is_fn = callee.kind == CallableKind::Fn;
        if !is_fn {
            let path = self.path.join(".");
            let count = self.instances.entry(format!("{path}.{}", callee.name.value)).or_default();
            *count += 1;
            // `dense1`; `block2_1`, since `block21` could be the 21st `block`.
            let gap = if callee.name.value.ends_with(|c: char| c.is_ascii_digit()) { "_" } else { "" };
            let name = format!("{}{gap}{count}", callee.name.value);
            self.path.push(name);
        }
        self.calls.push(span);
        let result = self.nested(span, |this| this.body(callee, places, span));
        self.calls.pop();
        if !is_fn {
            self.path.pop();
        }
        result
    }

    /// A model or a function that the program runs: nobody calls it, and its layers need no prefix.
    pub fn apply_root(&mut self, root: &'a Callable, given: Vec<Given<'a>>, span: Span) -> Evaluated<'a> {
        let places = self.place_parameters(&root.name, &root.parameters, given, span)?;
        self.nested(root.span, |this| this.body(root, places, span))
    }

    /// Binds the arguments and elaborates the body. Values that are known now come first, since shapes may need
    /// them: `units` of `[n, units]`.
    fn body(&mut self, callee: &'a Callable, places: Vec<Option<Given<'a>>>, call: Span) -> Evaluated<'a> {
        self.applied.insert(callee.name.span);
        let name = callee.name.value.as_str();
        let mut frame = Frame::new(callee.span.file, callee.kind != CallableKind::Fn);
        let mut later = Vec::new();
        for (parameter, place) in callee.parameters.iter().zip(places) {
            match &parameter.ty {
                Some(Type { kind: TypeKind::Tensor(_), .. }) => later.push((parameter, place)),
                _ => self.bind_argument(name, parameter, place, call, &mut frame)?,
            }
        }
        for (parameter, place) in later {
            self.bind_argument(name, parameter, place, call, &mut frame)?;
        }
        let value = self.block(&callee.body, &mut frame)?;
        let end = callee.body.statements.last().map_or(callee.body.span, |s| match s {
            Statement::Expr(e) => e.span,
            _ => callee.body.span,
        });
        let value = self.something(value, end)?;
        match &callee.result {
            Some(ty) => {
                let expected = Expected { ty, span: end, role: Role::Result(name) };
                self.check_type(value, expected, &mut frame)
            }
            None => Ok(value),
        }
    }

    fn bind_argument(
        &mut self,
        callee: &str,
        parameter: &'a Parameter,
        place: Option<Given<'a>>,
        call: Span,
        frame: &mut Frame<'a>,
    ) -> Result<(), Reported> {
        let name = &parameter.name;
        let given = match place {
            Some(given) => given,
            None => self.default(parameter, frame)?,
        };
        let value = match &parameter.ty {
            // The argument stands in the caller's line: errors about it have that line as their place.
            Some(ty) => {
                let piped = given.span.end <= call.start && given.span.file == call.file;
                let at = if piped { call } else { given.span };
                let inner = self.calls.pop();
                let role = Role::Argument(callee, &name.value);
                let value = self.check_type(given.value, Expected { ty, span: at, role }, frame);
                self.calls.extend(inner);
                value?
            }
            None => given.value,
        };
        frame.bind(&name.value, value, name.span);
        Ok(())
    }

    fn apply_lut(&mut self, lut: &'a Lut, given: Vec<Given<'a>>, span: Span) -> Evaluated<'a> {
        let places = self.place_parameters(&lut.name, &lut.parameters, given, span)?;
        let mut places = lut.parameters.iter().zip(places);
        let Some((z, Some(first))) = places.next() else {
            return Err(self.error(
                lut.name.span,
                "E0219",
                format!("the table `{}` has no value to look up", lut.name.value),
                "here",
                "its first parameter is the value: `lut square(z) = z * z`",
            ));
        };
        let mut frame = Frame::new(lut.span.file, false);
        frame.bind(&z.name.value, Value::Scalar(ScalarExpr::Z), z.name.span);
        for (parameter, place) in places {
            if let Some(Given { value: value @ (Value::Tensor(_) | Value::Scalar(_)), span, .. }) = &place {
                let what = value.what(&self.graph);
                let (name, parameter) = (&lut.name.value, &parameter.name.value);
                return Err(self.error(
                    *span,
                    "E0219",
                    format!("a table looks up one value, but `{parameter}` of `{name}` is {what} too"),
                    "a second value",
                    "parameters after the first are numbers; for several values write an `fn`",
                ));
            }
            self.bind_argument(&lut.name.value, parameter, place, span, &mut frame)?;
        }
        self.calls.push(span);
        // Inside another table only the value counts: the derivative is that of the whole expression.
        let with_grad = matches!(first.value, Value::Tensor(_) | Value::List(_));
        let function = self.nested(span, |this| this.function(lut, frame, with_grad));
        self.calls.pop();
        self.table(first.value, function?, span)
    }

    /// A table's function, with its parameters put in.
    fn function(
        &mut self,
        lut: &'a Lut,
        mut frame: Frame<'a>,
        with_grad: bool,
    ) -> Result<ScalarFn, Reported> {
        let expr = self.scalar(&lut.body, &mut frame)?;
        let grad = match lut.grad.as_ref().filter(|_| with_grad) {
            Some(grad) => Some(self.scalar(grad, &mut frame)?),
            None => None,
        };
        Ok(ScalarFn { name: lut.name.value.clone(), expr, grad })
    }

    fn scalar(&mut self, e: &'a Expr, frame: &mut Frame<'a>) -> Result<ScalarExpr, Reported> {
        let value = self.expr(e, frame)?;
        match super::expr::as_scalar(value.clone()) {
            Some(e) => Ok(e),
            None => {
                let what = value.what(&self.graph);
                Err(self.error(
                    e.span,
                    "E0219",
                    format!("a table is a function of one value, this is {what}"),
                    "here",
                    "use arithmetic, `max`, `min`, `exp`, `log` … of its first parameter; for several values \
                     write an `fn`",
                ))
            }
        }
    }

    fn apply_primitive(&mut self, primitive: Primitive, given: Vec<Given<'a>>, span: Span) -> Evaluated<'a> {
        let names = primitive.parameters();
        let places = self.place(primitive.name(), &names, given, span)?;
        self.primitive(primitive, places, span)
    }
}
