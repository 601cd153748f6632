//! The declarations of a program and of the standard library by their names.

use std::collections::HashMap;

use super::primitives::Primitive;
use crate::diagnostics::{Diagnostic, FileId, Span, suggest};
use crate::parser::ast::*;

/// What a name can stand for beside a local variable.
#[derive(Clone, Copy, Debug)]
pub enum Definition<'a> {
    Callable(&'a Callable),
    Lut(&'a Lut),
    Let(&'a Let),
    Data(&'a Data),
    Primitive(Primitive),
}

impl Definition<'_> {
    pub fn span(&self) -> Option<Span> {
        match self {
            Definition::Callable(c) => Some(c.name.span),
            Definition::Lut(l) => Some(l.name.span),
            Definition::Let(l) => Some(l.name.span),
            Definition::Data(d) => Some(d.name.span),
            Definition::Primitive(_) => None,
        }
    }

    /// What it is, with its article.
    pub fn what(&self) -> &'static str {
        match self {
            Definition::Callable(c) => match c.kind {
                CallableKind::Fn => "a function",
                CallableKind::Layer => "a layer",
                CallableKind::Model => "a model",
            },
            Definition::Lut(_) => "a table",
            Definition::Let(_) => "a constant",
            Definition::Data(_) => "data",
            Definition::Primitive(_) => "a primitive",
        }
    }

    fn is_public(&self) -> bool {
        match self {
            Definition::Callable(c) => c.public,
            Definition::Lut(l) => l.public,
            _ => false,
        }
    }
}

type Names<'a> = HashMap<&'a str, Definition<'a>>;

/// All names of the user's file and of the standard library.
pub struct Scope<'a> {
    user: Names<'a>,
    library: Names<'a>,
    /// Files of the standard library come before this one.
    user_file: FileId,
}

impl<'a> Scope<'a> {
    /// Collects the declarations; reports names that are declared twice and `use` of what is not there.
    pub fn new(
        user: &'a Module,
        library: &'a [Module],
        user_file: FileId,
        errors: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut scope = Self { user: Names::new(), library: Names::new(), user_file };
        for module in library {
            collect(&mut scope.library, module, errors);
        }
        collect(&mut scope.user, user, errors);
        for item in &user.items {
            if let Item::Use(import) = item {
                scope.import(import, errors);
            }
        }
        scope
    }

    fn import(&mut self, import: &'a Use, errors: &mut Vec<Diagnostic>) {
        if import.module.value != "std" {
            errors.push(
                Diagnostic::error("E0201", format!("there is no module `{}`", import.module.value))
                    .label(import.module.span, "not known")
                    .help("the standard library is the only module: `use std::{dense, relu}`"),
            );
            return;
        }
        for (name, own) in &import.names {
            let found = self.library.get(name.value.as_str()).filter(|d| d.is_public()).copied();
            let found = found.or_else(|| Primitive::by_name(&name.value).map(Definition::Primitive));
            let Some(found) = found else {
                let mut error =
                    Diagnostic::error("E0201", format!("the standard library has no `{}`", name.value))
                        .label(name.span, "not known");
                if let Some(near) = suggest(&name.value, self.public_names()) {
                    error = error.help(format!("did you mean `{near}`?"));
                }
                errors.push(error);
                continue;
            };
            if let Some(other) = self.user.get(own.value.as_str()).and_then(Definition::span) {
                errors.push(twice(&own.value, own.span, other));
                continue;
            }
            self.user.insert(&own.value, found);
        }
    }

    fn public_names(&self) -> impl Iterator<Item = &'a str> + use<'_, 'a> {
        let own = self.library.iter().filter(|(_, d)| d.is_public()).map(|(name, _)| *name);
        own.chain(Primitive::names().map(|name| -> &'a str { name }))
    }

    pub fn is_library(&self, file: FileId) -> bool {
        file != self.user_file
    }

    /// What `name` stands for in a file.
    pub fn find(&self, name: &str, file: FileId) -> Option<Definition<'a>> {
        let library = |name: &str| self.library.get(name).filter(|d| d.is_public()).copied();
        let primitive = |name: &str| Primitive::by_name(name).map(Definition::Primitive);
        if let Some(name) = name.strip_prefix("std::") {
            return library(name).or_else(|| primitive(name));
        }
        if self.is_library(file) {
            return self.library.get(name).copied().or_else(|| primitive(name));
        }
        self.user.get(name).copied().or_else(|| library(name)).or_else(|| primitive(name))
    }

    /// Whether a name in a shape stands for a constant of the file; otherwise an argument binds it.
    pub fn is_constant(&self, name: &str, file: FileId) -> bool {
        matches!(self.find(name, file), Some(Definition::Let(_)))
    }

    /// All names that can be written in the user's file.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'_, 'a> {
        self.user.keys().copied().chain(self.public_names())
    }
}

fn twice(name: &str, here: Span, there: Span) -> Diagnostic {
    Diagnostic::error("E0202", format!("`{name}` is declared twice"))
        .label(here, "declared again")
        .label(there, "first declared here")
        .help("give one of them another name")
}

fn collect<'a>(names: &mut Names<'a>, module: &'a Module, errors: &mut Vec<Diagnostic>) {
    for item in &module.items {
        let (name, definition) = match item {
            Item::Callable(c) => (&c.name, Definition::Callable(c)),
            Item::Lut(l) => (&l.name, Definition::Lut(l)),
            Item::Let(l) => (&l.name, Definition::Let(l)),
            Item::Data(d) => (&d.name, Definition::Data(d)),
            Item::Use(_) | Item::Train(_) | Item::Eval(_) | Item::Error(_) => continue,
        };
        if Primitive::by_name(&name.value).is_some() {
            errors.push(
                Diagnostic::error("E0202", format!("`{}` is a primitive of the language", name.value))
                    .label(name.span, "cannot be declared again")
                    .help("give it another name"),
            );
            continue;
        }
        if let Some(there) = names.get(name.value.as_str()).and_then(Definition::span) {
            errors.push(twice(&name.value, name.span, there));
            continue;
        }
        names.insert(&name.value, definition);
    }
}
