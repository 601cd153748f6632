//! The graph of a task: a model with its loss, or a function with its arguments.

use super::call::Given;
use super::elaborate::{Elaborator, Frame, Reported};
use super::names::unknown_name;
use super::program::TaskArgument;
use super::scope::{Definition, Scope};
use super::value::Value;
use crate::diagnostics::Span;
use crate::graph::{NodeId, show_shape};
use crate::parser::ast::*;

pub struct TrainNodes {
    pub input: NodeId,
    pub label: NodeId,
    pub logits: NodeId,
    /// A scalar.
    pub loss: NodeId,
}

pub fn as_node(
    elaborator: &mut Elaborator<'_, '_>,
    value: Value<'_>,
    span: Span,
) -> Result<NodeId, Reported> {
    match value {
        Value::Tensor(id) => Ok(id),
        value => {
            let what = value.what(&elaborator.graph);
            Err(elaborator.error(
                span,
                "E0209",
                format!("the result should be a tensor, this is {what}"),
                "here",
                "let it depend on an argument",
            ))
        }
    }
}

/// The shapes of a model's input and result. Names in the input's shape take the sizes of the data.
pub fn model_shapes<'a>(
    elaborator: &mut Elaborator<'a, '_>,
    model: &'a Callable,
    first: &'a Parameter,
    features: Option<&[usize]>,
) -> Result<(Vec<usize>, Vec<usize>), Reported> {
    let input = model_input(elaborator, model, first, features)?;
    let origin = elaborator.origin(first.name.span);
    let node = elaborator.graph.input(&input, &origin);
    let node = elaborator.built(node, first.name.span)?;
    let given = vec![Given::positional(Value::Tensor(node), first.name.span)];
    let result = elaborator.apply_root(model, given, model.name.span)?;
    let result = as_node(elaborator, result, model.name.span)?;
    Ok((input, elaborator.shape(result).to_vec()))
}

fn model_input<'a>(
    elaborator: &mut Elaborator<'a, '_>,
    model: &'a Callable,
    first: &'a Parameter,
    features: Option<&[usize]>,
) -> Result<Vec<usize>, Reported> {
    let tensor = match first.ty.as_ref().map(|ty| &ty.kind) {
        Some(TypeKind::Tensor(tensor)) => tensor,
        Some(TypeKind::Error) => return Err(Reported),
        _ => {
            return Err(elaborator.error(
                first.name.span,
                "E0205",
                format!("the input of the model `{}` has no shape", model.name.value),
                "here",
                "declare it: `x: [30]`",
            ));
        }
    };
    let open = tensor.shape.iter().any(|size| mentions_unknown(size, elaborator.scope));
    if let (true, Some(features)) = (open, features) {
        return Ok(features.to_vec());
    }
    let mut frame = Frame::new(model.span.file, false);
    tensor.shape.iter().map(|size| elaborator.size_of(size, &mut frame)).collect()
}

/// The model and its loss, for one sample.
pub fn train_graph<'a>(
    elaborator: &mut Elaborator<'a, '_>,
    model: &'a Callable,
    input: &[usize],
    loss: &'a Setting,
    train: &'a Train,
) -> Result<TrainNodes, Reported> {
    let at = train.model.span;
    let origin = elaborator.origin(at);
    let input = elaborator.graph.input(input, &origin);
    let input = elaborator.built(input, at)?;
    // The layers of the one model need no prefix: `dense1.w`, not `Logistic1.dense1.w`.
    let given = vec![Given::positional(Value::Tensor(input), at)];
    let result = elaborator.apply_root(model, given, model.name.span)?;
    let logits = as_node(elaborator, result, model.name.span)?;
    let shape = elaborator.shape(logits).to_vec();
    let origin = elaborator.origin(loss.value.span);
    let label = elaborator.graph.label(&shape, &origin);
    let label = elaborator.built(label, loss.value.span)?;
    let span = loss.value.span;
    let mut frame = Frame::new(span.file, false);
    let (callee, extra): (&'a Expr, &'a [Argument]) = match loss.value.kind.as_ref() {
        ExprKind::Call(call) => (&loss.value, &call.arguments),
        _ => (&loss.value, &[]),
    };
    let definition = match callee.kind.as_ref() {
        ExprKind::Name(name) => elaborator.scope.find(name, span.file),
        ExprKind::Call(call) => elaborator.scope.find(&call.callee.value, span.file),
        _ => None,
    };
    let Some(definition @ Definition::Callable(Callable { kind: CallableKind::Fn, .. })) = definition else {
        return Err(unknown_loss(elaborator, callee, definition.is_some()));
    };
    let mut given =
        vec![Given::positional(Value::Tensor(logits), span), Given::positional(Value::Tensor(label), span)];
    for argument in extra {
        let value = elaborator.expr(&argument.value, &mut frame)?;
        given.push(Given { name: argument.name.clone(), value, span: argument.value.span });
    }
    let result = elaborator.apply(definition, given, span)?;
    let loss = as_node(elaborator, result, span)?;
    if !elaborator.shape(loss).is_empty() {
        let found = show_shape(elaborator.shape(loss));
        return Err(elaborator.error(
            span,
            "E0209",
            format!("a loss is one number, this gives {found}"),
            "here",
            "add its elements: `sum(…)`",
        ));
    }
    Ok(TrainNodes { input, label, logits, loss })
}

fn unknown_loss(elaborator: &mut Elaborator<'_, '_>, callee: &Expr, is_other: bool) -> Reported {
    let name = match callee.kind.as_ref() {
        ExprKind::Name(name) => name.as_str(),
        ExprKind::Call(call) => call.callee.value.as_str(),
        _ => "",
    };
    if name.is_empty() || is_other {
        return elaborator.error(
            callee.span,
            "E0205",
            "a loss is an `fn` of the logits and the label",
            "this is none",
            "name one: `loss: cross_entropy`, or with its options: `loss: cross_entropy(decay: 1/32)`",
        );
    }
    let losses = elaborator.scope.names().filter(|name| {
        matches!(elaborator.scope.find(name, callee.span.file), Some(Definition::Callable(c))
            if c.kind == CallableKind::Fn && c.parameters.len() >= 2)
    });
    let mut error = unknown_name(name, callee.span, losses);
    if !error.help.as_ref().is_some_and(|help| help.starts_with("did you")) {
        error = error.help(
            "losses of the standard library are cross_entropy, one_vs_all, binary_cross_entropy and \
             mean_squared_error",
        );
    }
    elaborator.report(error)
}

type EvalNodes = (Vec<TaskArgument>, NodeId);

/// A function with arguments that the client draws. Sizes that the types leave open are given by name.
pub fn eval_graph<'a>(
    elaborator: &mut Elaborator<'a, '_>,
    function: &'a Callable,
    eval: &'a Eval,
) -> Result<EvalNodes, Reported> {
    let file = eval.span.file;
    let mut frame = Frame::new(file, false);
    // First the sizes and the other values that are known now.
    let is_tensor = |parameter: &Parameter| {
        matches!(parameter.ty.as_ref().map(|ty| &ty.kind), None | Some(TypeKind::Tensor(_)))
    };
    let mut sizes = Frame::new(file, false);
    let mut given = Vec::new();
    let mut tensors: Vec<(&'a Parameter, &'a Argument)> = Vec::new();
    let mut position = 0;
    for argument in &eval.arguments {
        let parameter = match &argument.name {
            Some(name) => function.parameters.iter().find(|p| p.name.value == name.value),
            None => {
                position += 1;
                function.parameters.get(position - 1)
            }
        };
        match (parameter, &argument.name) {
            (Some(parameter), _) if is_tensor(parameter) => tensors.push((parameter, argument)),
            (None, Some(name)) if binds_size(function, &name.value) => {
                let size = elaborator.size_of(&argument.value, &mut frame)?;
                sizes.bind(&name.value, Value::Int(size as i64), name.span);
            }
            (parameter, _) => {
                let words = parameter.and_then(|p| p.ty.as_ref()).map(|ty| &ty.kind);
                let value = match (words, argument.value.as_name()) {
                    (Some(TypeKind::Enumeration(_)), Some(word)) => Value::Word(word.to_owned()),
                    _ => elaborator.expr(&argument.value, &mut frame)?,
                };
                if let Some(parameter) = parameter {
                    sizes.bind(&parameter.name.value, value.clone(), parameter.name.span);
                }
                given.push(Given { name: argument.name.clone(), value, span: argument.value.span });
            }
        }
    }
    let mut arguments = Vec::new();
    for (parameter, argument) in tensors {
        let name = &parameter.name;
        let Some(TypeKind::Tensor(tensor)) = parameter.ty.as_ref().map(|ty| &ty.kind) else {
            return Err(elaborator.error(
                argument.value.span,
                "E0205",
                format!("the shape of `{}` is not known", name.value),
                "its parameter has no type",
                format!("declare it: `{}: [64]`", name.value),
            ));
        };
        let mut shape = Vec::new();
        for size in &tensor.shape {
            if let Some(open) = size
                .as_name()
                .filter(|n| sizes.find(n).is_none() && !elaborator.scope.is_constant(n, function.span.file))
            {
                return Err(elaborator.error(
                    argument.value.span,
                    "E0205",
                    format!("the size `{open}` of `{}` is not known", name.value),
                    "its shape is open",
                    format!("give it by name: `eval {}(…, {open}: 64)`", function.name.value),
                ));
            }
            shape.push(elaborator.size_of(size, &mut sizes)?);
        }
        let distribution = elaborator.distribution(&argument.value, &mut frame)?;
        let origin = elaborator.origin(argument.value.span);
        let node = elaborator.graph.argument(&name.value, &shape, &origin);
        let node = elaborator.built(node, argument.value.span)?;
        arguments.push(TaskArgument { name: name.value.clone(), node, distribution: Some(distribution) });
        given.push(Given { name: Some(name.clone()), value: Value::Tensor(node), span: argument.value.span });
    }
    let result = elaborator.apply_root(function, given, eval.span)?;
    let result = as_node(elaborator, result, eval.span)?;
    Ok((arguments, result))
}

/// Whether `name` is a size in the type of one of the parameters.
fn binds_size(function: &Callable, name: &str) -> bool {
    function.parameters.iter().any(|p| match p.ty.as_ref().map(|ty| &ty.kind) {
        Some(TypeKind::Tensor(tensor)) => tensor.shape.iter().any(|size| size.as_name() == Some(name)),
        _ => false,
    })
}

/// Whether a size needs a name that no declaration has: one that an argument would bind.
pub fn mentions_unknown(e: &Expr, scope: &Scope<'_>) -> bool {
    let unknown = |e: &Expr| mentions_unknown(e, scope);
    match e.kind.as_ref() {
        ExprKind::Name(name) => !scope.is_constant(name, e.span.file),
        ExprKind::Unary(_, inner) => unknown(inner),
        ExprKind::Binary { left, right, .. } => unknown(left) || unknown(right),
        ExprKind::Call(call) => call.arguments.iter().any(|a| unknown(&a.value)),
        ExprKind::List(items) => items.iter().any(unknown),
        _ => false,
    }
}
