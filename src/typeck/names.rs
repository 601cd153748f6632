//! Names, before anything is elaborated: every name in every body must be known, and no declaration may need
//! itself. So code that nothing uses yet is checked too, and one pass reports all unknown names.

use std::collections::{HashMap, HashSet};

use super::MAX_DIAGNOSTICS;
use super::primitives::INITS;
use super::scope::{Definition, Scope};
use crate::diagnostics::{Diagnostic, FileId, Span, suggest};
use crate::parser::ast::*;

/// Gives the names that callables, tables and constants use.
pub fn check<'a>(
    module: &'a Module,
    scope: &Scope<'a>,
    file: FileId,
    errors: &mut Vec<Diagnostic>,
) -> HashSet<&'a str> {
    let mut names =
        Names { scope, file, locals: Vec::new(), words: HashSet::new(), calls: Vec::new(), errors };
    let mut edges: Edges<'_> = HashMap::new();
    for item in &module.items {
        names.locals.clear();
        names.words.clear();
        names.calls.clear();
        let name = match item {
            Item::Let(item) => {
                names.expr(&item.value);
                &item.name
            }
            Item::Callable(callable) => {
                names.parameters(&callable.parameters);
                if let Some(ty) = &callable.result {
                    names.bind_type(ty);
                }
                names.block(&callable.body);
                &callable.name
            }
            Item::Lut(lut) => {
                names.parameters(&lut.parameters);
                names.expr(&lut.body);
                // The derivative of a table may use the table itself: only bodies are put into one another.
                let calls = names.calls.len();
                if let Some(grad) = &lut.grad {
                    names.expr(grad);
                }
                names.calls.truncate(calls);
                &lut.name
            }
            Item::Use(_) | Item::Data(_) | Item::Train(_) | Item::Eval(_) | Item::Error(_) => continue,
        };
        edges.entry(&name.value).or_insert_with(|| std::mem::take(&mut names.calls));
    }
    recursion(&edges, errors);
    edges.values().flatten().map(|(name, _)| *name).collect()
}

type Edges<'a> = HashMap<&'a str, Vec<(&'a str, Span)>>;

struct Names<'a, 'e> {
    scope: &'e Scope<'a>,
    file: FileId,
    locals: Vec<&'a str>,
    /// Words of the enumerations that are in sight.
    words: HashSet<&'a str>,
    /// What the body calls.
    calls: Vec<(&'a str, Span)>,
    errors: &'e mut Vec<Diagnostic>,
}

impl<'a> Names<'a, '_> {
    fn parameters(&mut self, parameters: &'a [Parameter]) {
        for parameter in parameters {
            if self.locals.contains(&parameter.name.value.as_str()) {
                let name = &parameter.name;
                self.errors.push(
                    Diagnostic::error("E0202", format!("`{}` is declared twice", name.value))
                        .label(name.span, "declared again")
                        .help("give one of them another name"),
                );
            }
            if let Some(ty) = &parameter.ty {
                self.bind_type(ty);
            }
            if let Some(default) = &parameter.default {
                let word = default.as_name().is_some_and(|name| self.words.contains(name));
                if !word {
                    self.expr(default);
                }
            }
            self.locals.push(&parameter.name.value);
        }
    }

    /// The names in a parameter's type are bound by its argument.
    fn bind_type(&mut self, ty: &'a Type) {
        match &ty.kind {
            TypeKind::Enumeration(words) => self.words.extend(words.iter().map(|w| w.value.as_str())),
            TypeKind::Tensor(tensor) => {
                for size in &tensor.shape {
                    match size.as_name() {
                        Some(name) => self.locals.push(name),
                        None => self.expr(size),
                    }
                }
                if let Some(range) = &tensor.range {
                    self.expr(&range.0);
                    self.expr(&range.1);
                }
            }
            TypeKind::Int | TypeKind::Real | TypeKind::Error => {}
        }
    }

    fn block(&mut self, block: &'a Block) {
        let outer = self.locals.len();
        for statement in &block.statements {
            match statement {
                Statement::Let(item) => {
                    if let Some(ty) = &item.ty {
                        self.bind_type(ty);
                    }
                    let word = item
                        .value
                        .as_name()
                        .is_some_and(|name| self.words.contains(name) && !self.locals.contains(&name));
                    if !word {
                        self.expr(&item.value);
                    }
                    self.locals.push(&item.name.value);
                }
                Statement::Param(param) => {
                    self.bind_type(&param.ty);
                    if let Some(init) = &param.init {
                        self.init(init);
                    }
                    self.locals.push(&param.name.value);
                }
                Statement::Assign { name, value } => {
                    self.expr(value);
                    if !self.locals.contains(&name.value.as_str()) {
                        self.unknown(&name.value, name.span);
                    }
                }
                Statement::For(item) => {
                    self.expr(&item.from);
                    self.expr(&item.to);
                    self.locals.push(&item.variable.value);
                    self.block(&item.body);
                    self.locals.pop();
                }
                Statement::Expr(e) => self.expr(e),
                Statement::Error(_) => {}
            }
        }
        self.locals.truncate(outer);
    }

    fn init(&mut self, init: &'a Expr) {
        match init.kind.as_ref() {
            ExprKind::Name(name) if INITS.contains(&name.as_str()) => {}
            ExprKind::Call(call) if INITS.contains(&call.callee.value.as_str()) => {
                for argument in &call.arguments {
                    self.expr(&argument.value);
                }
            }
            ExprKind::Name(name) if !self.locals.contains(&name.as_str()) => {
                let known = INITS.into_iter().chain(self.locals.iter().copied());
                let mut error = Diagnostic::error("E0216", format!("there is no initialisation `{name}`"))
                    .label(init.span, "not known");
                error = error.help(match suggest(name, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known are {}", INITS.join(", ")),
                });
                self.errors.push(error);
            }
            _ => self.expr(init),
        }
    }

    fn expr(&mut self, e: &'a Expr) {
        match e.kind.as_ref() {
            ExprKind::Int(_) | ExprKind::Real(_) | ExprKind::Str(_) | ExprKind::Error => {}
            ExprKind::Name(name) => self.name(name, e.span),
            ExprKind::List(items) => items.iter().for_each(|item| self.expr(item)),
            ExprKind::Unary(_, inner) => self.expr(inner),
            ExprKind::Binary { op, left, right, .. } => {
                for side in [left, right] {
                    let word = matches!(op, BinaryOp::Eq | BinaryOp::Ne)
                        && side.as_name().is_some_and(|name| self.words.contains(name));
                    if !word {
                        self.expr(side);
                    }
                }
            }
            ExprKind::Call(call) => self.call(call),
            ExprKind::Pipe { first, stages } => {
                self.expr(first);
                stages.iter().for_each(|stage| self.call(stage));
            }
            ExprKind::If { condition, then, otherwise } => {
                self.expr(condition);
                self.block(then);
                if let Some(block) = otherwise {
                    self.block(block);
                }
            }
        }
    }

    fn call(&mut self, call: &'a Call) {
        let callee = &call.callee;
        match self.scope.find(&callee.value, self.file) {
            Some(Definition::Primitive(_)) => {}
            Some(_) => self.calls.push((&callee.value, callee.span)),
            None => self.name(&callee.value, callee.span),
        }
        let words = self.words_of(&call.callee.value);
        for argument in &call.arguments {
            let word = argument.value.as_name().filter(|name| !self.locals.contains(name));
            if !word.is_some_and(|word| words.contains(word)) {
                // An unknown word is reported where the argument is matched, with the words that there are.
                let meant_as_word = word.is_some() && !words.is_empty() && self.is_unknown(word);
                if !meant_as_word {
                    self.expr(&argument.value);
                }
            }
        }
    }

    fn is_unknown(&self, name: Option<&str>) -> bool {
        name.is_some_and(|name| self.scope.find(name, self.file).is_none())
    }

    /// The words that a callable takes in any of its parameters.
    fn words_of(&self, callee: &str) -> HashSet<&'a str> {
        let parameters = match self.scope.find(callee, self.file) {
            Some(Definition::Callable(callable)) => &callable.parameters,
            Some(Definition::Lut(lut)) => &lut.parameters,
            _ => return HashSet::new(),
        };
        let types = parameters.iter().filter_map(|p| p.ty.as_ref());
        types
            .filter_map(|ty| match &ty.kind {
                TypeKind::Enumeration(words) => Some(words),
                _ => None,
            })
            .flatten()
            .map(|word| word.value.as_str())
            .collect()
    }

    fn name(&mut self, name: &'a str, span: Span) {
        if self.locals.contains(&name) {
            return;
        }
        match self.scope.find(name, self.file) {
            Some(Definition::Primitive(_)) => {}
            Some(_) => self.calls.push((name, span)),
            None => self.unknown(name, span),
        }
    }

    fn unknown(&mut self, name: &str, span: Span) {
        // Looking for what was meant takes time for each.
        if self.errors.len() > MAX_DIAGNOSTICS {
            return;
        }
        self.errors.push(unknown_name(
            name,
            span,
            self.locals.iter().copied().chain(self.words.iter().copied()).chain(self.scope.names()),
        ));
    }
}

/// E0201 with a suggestion.
pub fn unknown_name<'n>(name: &str, span: Span, known: impl Iterator<Item = &'n str>) -> Diagnostic {
    let error = Diagnostic::error("E0201", format!("unknown name `{name}`")).label(span, "not known here");
    match suggest(name, known) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error.help("declare it with `let`, as a parameter, or as an fn, layer, lut or model"),
    }
}

/// Reports each declaration that needs itself, once, with the calls of the cycle.
fn recursion(edges: &Edges<'_>, errors: &mut Vec<Diagnostic>) {
    let mut names: Vec<&str> = edges.keys().copied().collect();
    names.sort_unstable_by_key(|name| edges[name].first().map(|(_, span)| *span));
    let mut done: HashSet<&str> = HashSet::new();
    for start in names {
        // An explicit stack: a long chain of calls must not exhaust the real one.
        let mut path: Vec<(&str, usize)> = vec![(start, 0)];
        while let Some((name, next)) = path.last_mut() {
            let calls = edges.get(*name).map_or(&[][..], Vec::as_slice);
            let Some(&(callee, _)) = calls.get(*next) else {
                done.insert(*name);
                path.pop();
                continue;
            };
            *next += 1;
            if let Some(begin) = path.iter().position(|(name, _)| *name == callee) {
                report_cycle(&path[begin..], edges, errors);
            } else if !done.contains(callee) && edges.contains_key(callee) {
                path.push((callee, 0));
            }
        }
    }
}

fn report_cycle(cycle: &[(&str, usize)], edges: &Edges<'_>, errors: &mut Vec<Diagnostic>) {
    let first = cycle[0].0;
    let mut text = cycle.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(" calls ");
    text += &format!(" calls `{first}`");
    let mut error = Diagnostic::error("E0206", format!("recursion: {text}"));
    for (name, next) in cycle {
        if let Some((callee, span)) = edges[name].get(next - 1) {
            error = error.label(*span, format!("`{name}` needs `{callee}` here"));
        }
    }
    errors
        .push(error.help("repeat with a `for` loop; what a program does must be known when it is compiled"));
}
