//! The primitives, applied.

use super::call::Given;
use super::elaborate::{Elaborator, Evaluated, Reported};
use super::expr::as_scalar;
use super::primitives::Primitive;
use super::scope::Definition;
use super::value::Value;
use crate::diagnostics::Span;
use crate::graph::{Binary, NodeId, ScalarExpr, ScalarFn, elements};

type Places<'a> = Vec<Option<Given<'a>>>;

impl<'a> Elaborator<'a, '_> {
    /// Applies a primitive to arguments in the order of its parameters.
    pub fn primitive(&mut self, primitive: Primitive, places: Places<'a>, span: Span) -> Evaluated<'a> {
        let origin = self.origin(span);
        let mut places = places.into_iter();
        let mut next = || places.next().flatten();
        let (first, second, third, fourth, fifth) = (next(), next(), next(), next(), next());
        let Some(first) = first else { return Err(Reported) };
        match primitive {
            Primitive::Scalar(function) => {
                let expr = ScalarExpr::call(function, ScalarExpr::Z);
                let function = ScalarFn { name: function.name().to_owned(), expr, grad: None };
                self.table(first.value, function, span)
            }
            Primitive::Max | Primitive::Min => {
                let Some(second) = second else { return Err(Reported) };
                self.extremum(primitive, first.value, second.value, span)
            }
            Primitive::Require => {
                let Some(second) = second else { return Err(Reported) };
                self.require(&first, &second, span)
            }
            Primitive::Size => {
                let shape = self.shape_of(&first)?;
                let size = match second {
                    None => elements(&shape),
                    Some(axis) => shape[self.axis(Some(axis), shape.len(), 0, span)?],
                };
                Ok(Value::Int(size as i64))
            }
            Primitive::Shape => {
                let shape = self.shape_of(&first)?;
                Ok(Value::List(shape.into_iter().map(|size| Value::Int(size as i64)).collect()))
            }
            Primitive::Concat => {
                let Value::List(items) = first.value else {
                    return Err(self.wants("concat", "a list of tensors: `concat([a, b])`", &first));
                };
                let mut parts = Vec::new();
                for value in items {
                    parts.push(self.operand("concat", &Given::positional(value, first.span))?);
                }
                let rank = parts.first().map_or(0, |&id| self.shape(id).len());
                let axis = self.axis(second, rank, 0, span)?;
                let node = self.graph.concat(&parts, axis, &origin);
                self.tensor(node, span)
            }
            _ => {
                let x = self.operand(primitive.name(), &first)?;
                let rank = self.shape(x).len();
                let node = match primitive {
                    Primitive::Conv => {
                        let Some(kernel) = second else { return Err(Reported) };
                        let kernel = self.operand("conv", &kernel)?;
                        let stride = self.optional_size(third, 1)?;
                        let pad = self.padding(fourth)?;
                        self.graph.conv(x, kernel, stride, pad, &origin)
                    }
                    Primitive::Window => {
                        let height = self.optional_size(second, 1)?;
                        let width = self.optional_size(third, 1)?;
                        let stride = self.optional_size(fourth, 1)?;
                        self.graph.window(x, [height, width], stride, &origin)
                    }
                    Primitive::Reshape => {
                        let shape = self.sizes(second)?;
                        self.graph.reshape(x, &shape, &origin)
                    }
                    Primitive::Transpose => {
                        let axes = match second {
                            Some(axes) => self.sizes(Some(axes))?,
                            None => (0..rank).rev().collect(),
                        };
                        self.graph.transpose(x, &axes, &origin)
                    }
                    Primitive::Slice => {
                        let from = self.optional_size(second, 0)?;
                        let to = self.optional_size(third, 0)?;
                        let axis = self.axis(fourth, rank, 0, span)?;
                        let step = self.optional_size(fifth, 1)?;
                        if step == 0 || to < from {
                            let message = format!("this slice goes from {from} to {to} in steps of {step}");
                            let help = "`slice(x, from, to)` takes the elements from `from` to before `to`";
                            return Err(self.error(span, "E0205", message, "here", help));
                        }
                        self.graph.slice(x, axis, from, (to - from).div_ceil(step), step, &origin)
                    }
                    Primitive::Pad => {
                        let before = self.optional_size(second, 0)?;
                        let after = self.optional_size(third, 0)?;
                        let axis = self.axis(fourth, rank, 0, span)?;
                        self.graph.pad(x, axis, before, after, &origin)
                    }
                    Primitive::Sum if second.is_none() => self.graph.sum_all(x, &origin),
                    Primitive::Sum => {
                        let axis = self.axis(second, rank, 0, span)?;
                        self.graph.sum(x, axis, &origin)
                    }
                    Primitive::Mean if second.is_none() => {
                        let count = elements(self.shape(x)).max(1);
                        let sum = self.graph.sum_all(x, &origin);
                        let sum = self.built(sum, span)?;
                        self.graph.scale(sum, 1.0 / count as f64, &origin)
                    }
                    Primitive::Mean => {
                        let axis = self.axis(second, rank, 0, span)?;
                        self.graph.mean(x, axis, &origin)
                    }
                    Primitive::Fold => {
                        let Some(with) = second else { return Err(Reported) };
                        let Value::Function(function) = with.value else {
                            return Err(self.wants("fold", "a function of two values, such as `max`", &with));
                        };
                        let axis = self.axis(third, rank, rank.saturating_sub(1), span)?;
                        return self.fold(x, function, axis, span);
                    }
                    Primitive::Refresh => self.graph.refresh(x, &origin),
                    Primitive::Mask => {
                        let Some(keep) = second else { return Err(Reported) };
                        match keep.value.number().filter(|keep| *keep > 0.0 && *keep <= 1.0) {
                            Some(share) => self.graph.mask(x, share, &origin),
                            None => return Err(self.wants("mask", "a share above 0, at most 1", &keep)),
                        }
                    }
                    _ => return Err(Reported),
                };
                self.tensor(node, span)
            }
        }
    }

    fn wants(&mut self, primitive: &str, wanted: &str, given: &Given<'a>) -> Reported {
        if matches!(given.value, Value::Poison) {
            return Reported;
        }
        let what = given.value.what(&self.graph);
        let message = format!("`{primitive}` takes {wanted}, not {what}");
        self.error(given.span, "E0205", message, format!("this is {what}"), "give it such a value")
    }

    /// Stops with a text of the program's own where a condition does not hold: its caller is at fault.
    fn require(&mut self, holds: &Given<'a>, otherwise: &Given<'a>, span: Span) -> Evaluated<'a> {
        let Value::Text(text) = otherwise.value else {
            return Err(self.wants("require", "a text that says what must hold", otherwise));
        };
        match holds.value {
            Value::Bool(true) => Ok(Value::Nothing),
            Value::Bool(false) => {
                let help = "change the arguments of the call so that it holds";
                Err(self.error(span, "E0221", text, "required here", help))
            }
            Value::Tensor(_) | Value::Scalar(_) => Err(self.branch_error(holds.span, &holds.value)),
            _ => Err(self.wants("require", "a condition", holds)),
        }
    }

    /// A tensor; numbers and lists become public ones.
    fn operand(&mut self, primitive: &str, given: &Given<'a>) -> Result<NodeId, Reported> {
        match &given.value {
            Value::Tensor(id) => Ok(*id),
            value @ Value::List(_) => match self.constant_tensor(value.clone(), given.span)? {
                Value::Tensor(id) => Ok(id),
                _ => Err(Reported),
            },
            value => match value.number() {
                Some(x) => {
                    let origin = self.origin(given.span);
                    let node = self.graph.constant(x, &[], &origin);
                    self.built(node, given.span)
                }
                None => Err(self.wants(primitive, "a tensor", given)),
            },
        }
    }

    fn shape_of(&mut self, given: &Given<'a>) -> Result<Vec<usize>, Reported> {
        match &given.value {
            Value::Tensor(id) => Ok(self.shape(*id).to_vec()),
            Value::List(items) => Ok(vec![items.len()]),
            Value::Int(_) | Value::Real(_) | Value::Scalar(_) => Ok(vec![]),
            _ => Err(self.wants("size", "a tensor", given)),
        }
    }

    fn optional_size(&mut self, given: Option<Given<'a>>, default: usize) -> Result<usize, Reported> {
        given.map_or(Ok(default), |given| self.as_size(&given.value, given.span))
    }

    fn sizes(&mut self, given: Option<Given<'a>>) -> Result<Vec<usize>, Reported> {
        match given {
            Some(Given { value: Value::List(items), span, .. }) => {
                items.iter().map(|item| self.as_size(item, span)).collect()
            }
            Some(given) => Err(self.wants("reshape", "a list of sizes such as [2, 3]", &given)),
            None => Err(Reported),
        }
    }

    /// An axis from 0 on; negative ones count from the last.
    fn axis(
        &mut self,
        given: Option<Given<'a>>,
        rank: usize,
        default: usize,
        span: Span,
    ) -> Result<usize, Reported> {
        let (axis, span) = match given {
            Some(Given { value: Value::Int(axis), span, .. }) => (axis, span),
            Some(given) => return Err(self.wants("axis", "an integer", &given)),
            None => (default as i64, span),
        };
        let own = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        match usize::try_from(own) {
            Ok(own) if own < rank => Ok(own),
            _ => Err(self.error(
                span,
                "E0203",
                format!("there is no axis {axis} in a tensor with {rank} axes"),
                "here",
                "axes count from 0; -1 is the last",
            )),
        }
    }

    /// One number for all sides, or `[top, bottom, left, right]`.
    fn padding(&mut self, given: Option<Given<'a>>) -> Result<[usize; 4], Reported> {
        let Some(given) = given else { return Ok([0; 4]) };
        if let Value::List(items) = &given.value {
            let sides: Vec<usize> =
                items.iter().map(|item| self.as_size(item, given.span)).collect::<Result<_, _>>()?;
            return match <[usize; 4]>::try_from(sides) {
                Ok(sides) => Ok(sides),
                Err(_) => Err(self.wants("conv", "a padding [top, bottom, left, right]", &given)),
            };
        }
        Ok([self.as_size(&given.value, given.span)?; 4])
    }

    fn extremum(&mut self, primitive: Primitive, a: Value<'a>, b: Value<'a>, span: Span) -> Evaluated<'a> {
        let is_max = primitive == Primitive::Max;
        let (op, name) = if is_max { (Binary::Max, "max") } else { (Binary::Min, "min") };
        match (a, b) {
            (Value::Int(a), Value::Int(b)) => Ok(Value::Int(if is_max { a.max(b) } else { a.min(b) })),
            (Value::Tensor(a), Value::Tensor(b)) => {
                let origin = self.origin(span);
                if is_max {
                    let node = self.graph.max(a, b, &origin);
                    return self.tensor(node, span);
                }
                // min(a, b) = −max(−a, −b)
                let a = self.graph.scale(a, -1.0, &origin);
                let a = self.built(a, span)?;
                let b = self.graph.scale(b, -1.0, &origin);
                let b = self.built(b, span)?;
                let node = self.graph.max(a, b, &origin);
                let node = self.built(node, span)?;
                let node = self.graph.scale(node, -1.0, &origin);
                self.tensor(node, span)
            }
            (tensor @ Value::Tensor(_), number) | (number, tensor @ Value::Tensor(_)) => {
                if matches!(number, Value::List(_)) {
                    let list = self.constant_tensor(number, span)?;
                    return self.extremum(primitive, tensor, list, span);
                }
                let Some(c) = number.number() else {
                    return Err(self.wants(name, "tensors or numbers", &Given::positional(number, span)));
                };
                let expr = ScalarExpr::bin(op, ScalarExpr::Z, ScalarExpr::Const(c));
                self.table(tensor, ScalarFn { name: name.to_owned(), expr, grad: None }, span)
            }
            (a, b) => {
                if let (Some(x), Some(y)) = (a.number(), b.number()) {
                    return Ok(Value::Real(if is_max { x.max(y) } else { x.min(y) }));
                }
                match (as_scalar(a.clone()), as_scalar(b.clone())) {
                    (Some(a), Some(b)) => self.table_size(ScalarExpr::bin(op, a, b), span),
                    (None, _) => Err(self.wants(name, "tensors or numbers", &Given::positional(a, span))),
                    (_, None) => Err(self.wants(name, "tensors or numbers", &Given::positional(b, span))),
                }
            }
        }
    }

    /// Combines the slices along an axis in pairs, the results in pairs again: a tree, as flat as can be.
    fn fold(&mut self, x: NodeId, with: Definition<'a>, axis: usize, span: Span) -> Evaluated<'a> {
        let mut shape = self.shape(x).to_vec();
        let mut size = shape[axis];
        if size == 0 {
            let message = "`fold` needs at least one element";
            return Err(self.error(span, "E0203", message, "this axis is empty", "use a longer axis"));
        }
        let mut value = x;
        // Whole halves at a time: one operation for each layer of the tree.
        while size > 1 {
            let origin = self.origin(span);
            let half = size / 2;
            let low = self.graph.slice(value, axis, 0, half, 1, &origin);
            let low = self.built(low, span)?;
            let high = self.graph.slice(value, axis, half, half, 1, &origin);
            let high = self.built(high, span)?;
            let given = vec![
                Given::positional(Value::Tensor(low), span),
                Given::positional(Value::Tensor(high), span),
            ];
            let merged = match self.apply(with, given, span)? {
                Value::Tensor(id) if self.shape(id) == self.shape(low) => id,
                other => {
                    let what = other.what(&self.graph);
                    let message = format!("`fold` combines two equal tensors into one, this gives {what}");
                    let help = "its function must work element by element, as `max`";
                    return Err(self.error(span, "E0203", message, "here", help));
                }
            };
            value = if size.is_multiple_of(2) {
                merged
            } else {
                let rest = self.graph.slice(value, axis, size - 1, 1, 1, &origin);
                let rest = self.built(rest, span)?;
                let node = self.graph.concat(&[merged, rest], axis, &origin);
                self.built(node, span)?
            };
            size = half + size % 2;
        }
        shape.remove(axis);
        let origin = self.origin(span);
        let node = self.graph.reshape(value, &shape, &origin);
        self.tensor(node, span)
    }
}
