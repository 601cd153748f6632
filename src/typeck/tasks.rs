//! What a program does: each `train` and `eval`, and each function that stands alone, becomes a graph.

use std::collections::HashSet;
use std::sync::Arc;

use super::MAX_DIAGNOSTICS;
use super::call::Given;
use super::data_spec::{DataCatalog, DataSpec, Outcome, Schema, Spanned};
use super::elaborate::{Elaborator, Frame, Reported};
use super::frozen::{self, GivenWeights};
use super::names::unknown_name;
use super::optimizer::optimizer;
use super::options::{self, Options};
use super::program::*;
use super::scope::{Definition, Scope};
use super::task_graphs::{as_node, eval_graph, mentions_unknown, model_shapes, train_graph};
use super::value::Value;
use crate::diagnostics::{Diagnostic, Span, suggest};
use crate::graph::{Graph, NodeId, Op, ShapeError, elements, show_shape};
use crate::parser::ast::*;

/// Elaborates everything that the program does. Errors go to `errors`; what has none is in the program.
///
/// A function that a task has called is not checked once more by itself: only its callers know the ranges of its
/// arguments. `called` holds the names that declarations use: functions that nobody calls come first.
pub fn program(
    module: &Module,
    scope: &Scope<'_>,
    called: &HashSet<&str>,
    catalog: &dyn DataCatalog,
    errors: &mut Vec<Diagnostic>,
) -> Program {
    let mut tasks =
        Tasks { module, scope, catalog, errors, program: Program::default(), applied: HashSet::new() };
    let mut schemas = Vec::new();
    for item in &module.items {
        if let Item::Data(data) = item
            && let Some(spec) = options::data_spec(data, tasks.errors)
        {
            schemas.push(tasks.schema(&spec));
            tasks.program.data.push(spec);
        }
    }
    for item in &module.items {
        if tasks.errors.len() >= MAX_DIAGNOSTICS {
            break;
        }
        match item {
            Item::Train(train) => {
                if let Ok(task) = tasks.train(train, &schemas) {
                    tasks.program.tasks.push(Task::Train(Box::new(task)));
                }
            }
            Item::Eval(eval) => {
                if let Ok(task) = tasks.eval(eval) {
                    tasks.program.tasks.push(Task::Eval(Box::new(task)));
                }
            }
            _ => {}
        }
    }
    let (helpers, roots): (Vec<&Callable>, Vec<&Callable>) = module
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Callable(callable) => Some(callable),
            _ => None,
        })
        .partition(|callable| called.contains(callable.name.value.as_str()));
    for callable in roots.into_iter().chain(helpers) {
        if tasks.errors.len() < MAX_DIAGNOSTICS
            && !tasks.applied.contains(&callable.name.span)
            && let Some(Ok(task)) = tasks.function(callable)
        {
            tasks.program.tasks.push(Task::Function(Box::new(task)));
        }
    }
    for item in &module.items {
        match item {
            Item::Let(item) => tasks.constant(item),
            Item::Lut(lut) => tasks.lut(lut),
            _ => {}
        }
    }
    tasks.program
}

/// What is known about the data of a declaration.
enum Known {
    Schema(Schema),
    /// The files cannot be seen.
    Nothing,
    /// They are wrong, which is reported.
    Wrong,
}

struct Tasks<'a, 's> {
    module: &'a Module,
    scope: &'s Scope<'a>,
    catalog: &'s dyn DataCatalog,
    errors: &'s mut Vec<Diagnostic>,
    program: Program,
    /// Callables that a task has elaborated, by where their names are declared.
    applied: HashSet<Span>,
}

impl<'a, 's> Tasks<'a, 's> {
    fn schema(&mut self, spec: &DataSpec) -> Known {
        let schema = match self.catalog.schema(spec) {
            None => return Known::Nothing,
            Some(Err(diagnostics)) => {
                self.errors.extend(diagnostics);
                return Known::Wrong;
            }
            Some(Ok(schema)) => schema,
        };
        let outcome = match &spec.outcome {
            Outcome::Class(column) | Outcome::Number(column) => Some(column),
            Outcome::Implied => None,
        };
        let mut wrong = false;
        for column in outcome.into_iter().chain(&spec.features) {
            if !schema.columns.is_empty() && !schema.columns.contains(&column.value) {
                let message = format!("\"{}\" has no column `{}`", spec.path.value, column.value);
                let mut error = Diagnostic::error("E0217", message).label(column.span, "not in the header");
                error = error.help(match suggest(&column.value, schema.columns.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its columns are {}", abridged(&schema.columns)),
                });
                self.errors.push(error);
                wrong = true;
            }
        }
        if wrong { Known::Wrong } else { Known::Schema(schema) }
    }

    fn elaborator(&self) -> Elaborator<'a, 's> {
        Elaborator::new(self.scope)
    }

    /// Keeps the errors of an elaboration, and what it has called.
    fn finish<T>(
        &mut self,
        result: Result<T, Reported>,
        (diagnostics, applied): (Vec<Diagnostic>, HashSet<Span>),
    ) -> Result<T, Reported> {
        self.applied.extend(applied);
        for diagnostic in diagnostics {
            let known = self.errors.iter().any(|d| {
                d.code == diagnostic.code && d.message == diagnostic.message && d.labels == diagnostic.labels
            });
            if !known {
                self.errors.push(diagnostic);
            }
        }
        result
    }

    // ---- train ----

    fn callable(&mut self, name: &Ident, kind: CallableKind) -> Result<&'a Callable, Reported> {
        match self.scope.find(&name.value, name.span.file) {
            Some(Definition::Callable(callable)) if callable.kind == kind => Ok(callable),
            Some(other) => {
                let message = format!("`{}` is {}, not a {}", name.value, other.what(), kind.word());
                let mut error = Diagnostic::error("E0205", message).label(name.span, "here");
                if let Some(span) = other.span() {
                    error = error.label(span, "declared here");
                }
                self.errors.push(error.help(format!("name a {}", kind.word())));
                Err(Reported)
            }
            None => {
                let of_kind = self.module.items.iter().filter_map(|item| match item {
                    Item::Callable(c) if c.kind == kind => Some(c.name.value.as_str()),
                    _ => None,
                });
                let mut error = unknown_name(&name.value, name.span, of_kind);
                if !error.help.as_ref().is_some_and(|help| help.starts_with("did you")) {
                    error = error.help(format!("declare it: `{} {}(…) {{ … }}`", kind.word(), name.value));
                }
                self.errors.push(error);
                Err(Reported)
            }
        }
    }

    fn data(&mut self, name: &Ident) -> Result<usize, Reported> {
        if let Some(index) = self.program.data.iter().position(|d| d.name == name.value) {
            return Ok(index);
        }
        let declared =
            self.module.items.iter().any(|i| matches!(i, Item::Data(d) if d.name.value == name.value));
        if !declared {
            let names = self.module.items.iter().filter_map(|item| match item {
                Item::Data(data) => Some(data.name.value.as_str()),
                _ => None,
            });
            let mut error = unknown_name(&name.value, name.span, names);
            if !error.help.as_ref().is_some_and(|help| help.starts_with("did you")) {
                error = error.help(format!("declare it: `data {} = csv(\"…\") {{ label: … }}`", name.value));
            }
            self.errors.push(error);
        }
        Err(Reported)
    }

    fn train(&mut self, train: &'a Train, schemas: &[Known]) -> Result<TrainTask, Reported> {
        let before = self.errors.len();
        let head = Span { end: train.data.span.end, ..train.span };
        let mut options = Options::new("train", &train.options, self.errors);
        let loss = options.take("loss");
        let batch = match options.take("batch") {
            Some(setting) if setting.value.as_name() == Some("all") => {
                Some(Spanned::new(Batch::All, setting.value.span))
            }
            Some(setting) => match setting.value.kind.as_ref() {
                ExprKind::Int(n) if (1..=1 << 30).contains(n) => {
                    Some(Spanned::new(Batch::Size(*n as usize), setting.value.span))
                }
                _ => {
                    options.invalid(setting, "`all`, or an integer from 1 on");
                    None
                }
            },
            None => None,
        };
        let epochs = options.count("epochs");
        let descent = optimizer(&mut options, epochs.as_ref().map_or(1, |epochs| epochs.value));
        let init = options.text("init", "a file of weights: a text in quotes");
        let prefix = options.one_of("prefix", &[(true, "clear"), (false, "encrypted")]);
        let strict = options.flag("strict");
        options.finish();
        for (key, usage) in [
            ("loss", "loss: cross_entropy"),
            ("sgd", "sgd: rate 0.125"),
            ("batch", "batch: all"),
            ("epochs", "epochs: 3"),
        ] {
            if !train.options.iter().any(|s| s.key.value == key) {
                self.errors.push(options::missing("train", key, usage, head));
            }
        }
        let failed = self.errors.len() > before;
        let model = self.callable(&train.model, CallableKind::Model);
        let data = self.data(&train.data);
        let (model, data) = (model?, data?);
        let (input, output) = self.model_shape(model, &schemas[data], data, &train.data)?;
        let label_kind = self.label_kind(&output, &schemas[data], data, train, model)?;
        let (true, Some(loss), Some((rate, optimizer)), Some(batch), Some(epochs)) =
            (!failed, loss, descent, batch, epochs)
        else {
            return Err(Reported);
        };
        let given = self.given_weights(init)?;
        let mut elaborator = self.elaborator();
        elaborator.given = given;
        let nodes = train_graph(&mut elaborator, model, &input, loss, train);
        let (graph, frozen) = (elaborator.graph, elaborator.frozen_weights);
        let found = (elaborator.diagnostics, elaborator.applied);
        let nodes = self.finish(nodes, found)?;
        self.check_labels(&graph, nodes.label, label_kind, loss, data)?;
        let spec = &self.program.data[data];
        let input_range = match &schemas[data] {
            Known::Schema(schema) => schema.range.or(spec.scale.value.range()),
            _ => spec.scale.value.range(),
        };
        let mut task = TrainTask {
            model: model.name.value.clone(),
            data,
            graph,
            input: nodes.input,
            label: nodes.label,
            logits: nodes.logits,
            loss: nodes.loss,
            label_kind,
            prefix: None,
            frozen,
            input_range,
            input_rms: None,
            rate,
            optimizer,
            batch,
            epochs,
            strict,
            span: train.span,
        };
        if !task.frozen.is_empty() {
            self.freeze(&mut task, prefix.is_none_or(|prefix| prefix.value), train)?;
        }
        Ok(task)
    }

    /// Targets are scaled to mean 0: a loss whose label is written as 0 to 1 cannot take them.
    fn check_labels(
        &mut self,
        graph: &Graph,
        label: NodeId,
        kind: LabelKind,
        loss: &Setting,
        data: usize,
    ) -> Result<(), Reported> {
        let (LabelKind::Number, Outcome::Number(column)) = (kind, &self.program.data[data].outcome) else {
            return Ok(());
        };
        let written = graph.users(label).into_iter().find_map(|user| match &graph.node(user).op {
            Op::Ascribe(written) => written.range.filter(|(low, _)| *low >= 0.0),
            _ => None,
        });
        let Some((low, high)) = written else { return Ok(()) };
        let message = format!(
            "this loss takes labels of {low} to {high}, but the target `{}` is a number, scaled to mean 0 and deviation 1",
            column.value
        );
        self.errors.push(
            Diagnostic::error("E0211", message)
                .label(loss.value.span, "for classes")
                .label(column.span, "a number")
                .help(format!(
                    "take `loss: mean_squared_error` for a number, or `label: {}` in the data for classes",
                    column.value
                )),
        );
        Err(Reported)
    }

    /// The weights of the file that `init:` names.
    fn given_weights(&mut self, init: Option<Spanned<String>>) -> Result<GivenWeights, Reported> {
        let Some(path) = init else { return Ok(GivenWeights::None) };
        match self.catalog.weights(&path) {
            None => Ok(GivenWeights::Unseen),
            Some(Ok(weights)) => {
                Ok(GivenWeights::File { path: path.value, span: path.span, weights: Arc::new(weights) })
            }
            Some(Err(diagnostics)) => {
                self.errors.extend(diagnostics);
                Err(Reported)
            }
        }
    }

    /// Cuts frozen layers at the beginning off, for the client to compute, if `cut` says so.
    fn freeze(&mut self, task: &mut TrainTask, cut: bool, train: &Train) -> Result<(), Reported> {
        if task.graph.params().is_empty() {
            self.errors.push(
                Diagnostic::error("E0222", format!("all layers of `{}` are frozen", train.model.value))
                    .label(train.model.span, "there is nothing to train")
                    .help("leave out `frozen` at the layer that is to learn, usually the last"),
            );
            return Err(Reported);
        }
        let wanted = [task.label, task.logits, task.loss];
        let too_large = |error: ShapeError| {
            let message = format!("`{}` is too large: {error}", train.model.value);
            vec![
                Diagnostic::error("E0503", message)
                    .label(train.model.span, "this model")
                    .help("use smaller layers"),
            ]
        };
        let split = if cut { task.graph.split(&wanted).map_err(too_large) } else { Ok(None) };
        let cut = split.and_then(|split| {
            let Some(split) = split else { return Ok(None) };
            let (prefix, rms) = frozen::prefix(&split, task.input_range)?;
            Ok(Some((split, prefix, rms)))
        });
        match cut {
            Ok(None) => Ok(()),
            Ok(Some((split, prefix, rms))) => {
                let [label, logits, loss] = frozen::moved(&split).ok_or(Reported)?;
                task.input_range = Some(prefix.range);
                task.input_rms = Some(rms);
                task.prefix = Some(prefix);
                (task.graph, task.input) = (split.rest, split.rest_input);
                (task.label, task.logits, task.loss) = (label, logits, loss);
                Ok(())
            }
            Err(diagnostics) => {
                self.errors.extend(diagnostics);
                Err(Reported)
            }
        }
    }

    /// Shapes of a model's input and result; the input's is compared with the data.
    fn model_shape(
        &mut self,
        model: &'a Callable,
        known: &Known,
        data: usize,
        data_name: &Ident,
    ) -> Result<(Vec<usize>, Vec<usize>), Reported> {
        let Some(first) = model.parameters.first() else {
            self.errors.push(
                Diagnostic::error("E0204", format!("the model `{}` has no input", model.name.value))
                    .label(model.name.span, "its first parameter is the input")
                    .help("declare it: `model M(x: [30]) -> [1]`"),
            );
            return Err(Reported);
        };
        let features = match known {
            Known::Schema(schema) => Some(schema.features.clone()),
            _ => None,
        };
        let mut elaborator = self.elaborator();
        let shapes = model_shapes(&mut elaborator, model, first, features.as_deref());
        let found = (elaborator.diagnostics, elaborator.applied);
        let (input, output) = self.finish(shapes, found)?;
        if let Some(features) = features.filter(|features| *features != input) {
            let (count, wanted) = (elements(&features), elements(&input));
            let spec = &self.program.data[data];
            let help = if count == wanted {
                format!("declare the input as {} and `reshape` it in the model", show_shape(&features))
            } else {
                format!(
                    "declare the input as {}, or choose columns with `features: […]`",
                    show_shape(&features)
                )
            };
            let span = first.ty.as_ref().map_or(first.name.span, |ty| ty.span);
            self.errors.push(
                Diagnostic::error(
                    "E0210",
                    format!(
                        "a sample of `{}` is {}, but `{}` takes {}",
                        spec.name,
                        show_shape(&features),
                        model.name.value,
                        show_shape(&input)
                    ),
                )
                .label(span, format!("the model takes {wanted} numbers"))
                .label(data_name.span, format!("this data has {count} for each sample"))
                .help(help),
            );
            return Err(Reported);
        }
        Ok((input, output))
    }

    fn label_kind(
        &mut self,
        output: &[usize],
        known: &Known,
        data: usize,
        train: &Train,
        model: &Callable,
    ) -> Result<LabelKind, Reported> {
        let spec = &self.program.data[data];
        let outputs = elements(output);
        let span = model.result.as_ref().map_or(model.name.span, |ty| ty.span);
        let counted = match known {
            Known::Schema(schema) => schema.classes,
            _ => spec.classes.as_ref().map(|c| c.value),
        };
        let number = matches!(spec.outcome, Outcome::Number(_));
        let vector = matches!(output, [n] if *n > 0);
        let (fits, wanted) = match (number, counted) {
            (true, _) => (outputs == 1, "1 output, the number".to_owned()),
            (false, Some(2)) => (outputs <= 2, "1 output (or 2)".to_owned()),
            (false, Some(n)) => (outputs == n, format!("{n} outputs")),
            (false, None) => (true, String::new()),
        };
        if !vector || !fits {
            let message = if !vector {
                format!("`{}` gives {}, not a vector of outputs", model.name.value, show_shape(output))
            } else if number {
                format!("`{}` has {outputs} outputs, but the target is one number", model.name.value)
            } else {
                let classes = counted.unwrap_or_default();
                format!(
                    "`{}` has {classes} classes, but `{}` has {outputs} outputs",
                    spec.name, model.name.value
                )
            };
            let label =
                if wanted.is_empty() { "not a vector".to_owned() } else { format!("it needs {wanted}") };
            self.errors.push(
                Diagnostic::error("E0211", message)
                    .label(span, label)
                    .label(train.data.span, "trained on this data")
                    .help(
                        "the last layer has one output for each class: `dense(classes)`; one for two classes",
                    ),
            );
            return Err(Reported);
        }
        Ok(if number {
            LabelKind::Number
        } else if outputs == 1 {
            LabelKind::Binary
        } else {
            LabelKind::OneHot(outputs)
        })
    }

    // ---- functions on their own ----

    fn eval(&mut self, eval: &'a Eval) -> Result<EvalTask, Reported> {
        let function = self.callable(&eval.function, CallableKind::Fn)?;
        let mut elaborator = self.elaborator();
        let nodes = eval_graph(&mut elaborator, function, eval);
        let (graph, found) = (elaborator.graph, (elaborator.diagnostics, elaborator.applied));
        let (arguments, result) = self.finish(nodes, found)?;
        Ok(EvalTask { function: function.name.value.clone(), graph, arguments, result, span: eval.span })
    }

    /// `None` if its shapes are not known, or if something in it must be known that only a caller knows.
    fn function(&mut self, callable: &'a Callable) -> Option<Result<FunctionTask, Reported>> {
        if callable.kind == CallableKind::Layer {
            return None;
        }
        let mut elaborator = self.elaborator();
        let mut frame = Frame::new(callable.span.file, false);
        let mut arguments = Vec::new();
        let mut given = Vec::new();
        for parameter in &callable.parameters {
            let span = parameter.name.span;
            let (name, tensor) = match parameter.ty.as_ref().map(|ty| &ty.kind) {
                Some(TypeKind::Tensor(tensor)) => (&parameter.name.value, tensor),
                _ if parameter.default.is_some() => continue,
                _ => return None,
            };
            if tensor.shape.iter().any(|size| mentions_unknown(size, self.scope)) {
                return None;
            }
            let shape: Result<Vec<usize>, Reported> =
                tensor.shape.iter().map(|size| elaborator.size_of(size, &mut frame)).collect();
            let node = shape.and_then(|shape| {
                let origin = elaborator.origin(span);
                let node = elaborator.graph.argument(name, &shape, &origin);
                elaborator.built(node, span)
            });
            let Ok(node) = node else {
                let found = (elaborator.diagnostics, elaborator.applied);
                return Some(self.finish(Err(Reported), found));
            };
            arguments.push(TaskArgument { name: name.clone(), node, distribution: None });
            given.push(Given { name: Some(parameter.name.clone()), value: Value::Tensor(node), span });
        }
        let result = elaborator.apply_root(callable, given, callable.name.span);
        let result = result.and_then(|value| as_node(&mut elaborator, value, callable.name.span));
        let (graph, found) = (elaborator.graph, (elaborator.diagnostics, elaborator.applied));
        Some(self.finish(result, found).map(|result| FunctionTask {
            name: callable.name.value.clone(),
            graph,
            arguments,
            result,
            span: callable.span,
        }))
    }

    fn constant(&mut self, item: &'a Let) {
        let mut elaborator = self.elaborator();
        let result = elaborator.constant(item);
        let found = (elaborator.diagnostics, elaborator.applied);
        // Reported or fine: a constant has no task.
        let _: Result<_, Reported> = self.finish(result.map(|_| ()), found);
    }

    /// A table whose other parameters have defaults is complete by itself.
    fn lut(&mut self, lut: &'a Lut) {
        if lut.parameters.iter().skip(1).any(|p| p.default.is_none()) {
            return;
        }
        let mut elaborator = self.elaborator();
        let origin = elaborator.origin(lut.name.span);
        let value = elaborator.graph.argument("z", &[], &origin);
        let value = elaborator.tensor(value, lut.name.span);
        let result = value.and_then(|value| {
            let given = vec![Given::positional(value, lut.name.span)];
            elaborator.apply(Definition::Lut(lut), given, lut.name.span)
        });
        let found = (elaborator.diagnostics, elaborator.applied);
        let _: Result<_, Reported> = self.finish(result.map(|_| ()), found);
    }
}

fn abridged(columns: &[String]) -> String {
    match columns {
        [first @ .., last] if columns.len() > 8 => format!("{}, …, {last}", first[..6].join(", ")),
        columns => columns.join(", "),
    }
}
