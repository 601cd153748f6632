//! The state of an elaboration: the graph that grows, where in the program it is, and what was wrong.

use std::collections::{HashMap, HashSet};

use super::data_spec::WeightTensor;
use super::frozen::GivenWeights;
use super::scope::Scope;
use super::value::Value;
use crate::diagnostics::{Diagnostic, Span};
use crate::graph::{Graph, LevelExpr, NodeId, Op, Origin, ShapeError};

/// Calls and expressions that may be nested while elaborating.
const MAX_DEPTH: usize = 220;
/// Rounds of all loops together.
const MAX_ROUNDS: usize = 1 << 14;
/// Steps of the elaboration, so that nested calls cannot run for ever.
const MAX_STEPS: usize = 1 << 19;
/// Nodes that an expression of a table may have.
pub const MAX_TABLE: usize = 1024;
/// Elements that all rearrangements (reshape, slice, pad …) together may move: their index maps take memory.
const MAX_MOVED: usize = 1 << 27;

/// An error that is already among the diagnostics.
#[derive(Clone, Copy, Debug)]
pub struct Reported;

pub type Evaluated<'a> = Result<Value<'a>, Reported>;

/// A local variable.
#[derive(Clone, Debug)]
pub struct Variable<'a> {
    pub name: &'a str,
    pub value: Value<'a>,
    pub mutable: bool,
    pub span: Span,
}

/// What a body being elaborated can see of its own.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    pub variables: Vec<Variable<'a>>,
    /// Level variables of the written types, fresh for every call.
    pub levels: HashMap<&'a str, LevelExpr>,
    /// Whether `param` may be declared.
    pub has_params: bool,
    /// The file of the body: what its names can mean.
    pub file: crate::diagnostics::FileId,
}

impl<'a> Frame<'a> {
    pub fn new(file: crate::diagnostics::FileId, has_params: bool) -> Self {
        Self { variables: Vec::new(), levels: HashMap::new(), has_params, file }
    }

    pub fn find(&self, name: &str) -> Option<&Variable<'a>> {
        self.variables.iter().rev().find(|v| v.name == name)
    }

    pub fn find_mut(&mut self, name: &str) -> Option<&mut Variable<'a>> {
        self.variables.iter_mut().rev().find(|v| v.name == name)
    }

    pub fn bind(&mut self, name: &'a str, value: Value<'a>, span: Span) {
        self.variables.push(Variable { name, value, mutable: false, span });
    }
}

/// Elaborates bodies into a graph.
pub struct Elaborator<'a, 's> {
    pub scope: &'s Scope<'a>,
    pub graph: Graph,
    pub diagnostics: Vec<Diagnostic>,
    /// Where the calls are written that led here, outermost first.
    pub calls: Vec<Span>,
    /// Layers being elaborated, for the names of parameters: `block1`, `dense2`.
    pub path: Vec<String>,
    /// How often a layer appeared at a path.
    pub instances: HashMap<String, usize>,
    /// Callables that were elaborated, by where their names are declared.
    pub applied: HashSet<Span>,
    /// Whether the parameters being declared are public constants.
    pub frozen: bool,
    /// What `init:` gives.
    pub given: GivenWeights,
    /// Values of the frozen parameters, in their order.
    pub frozen_weights: Vec<WeightTensor>,
    /// Constants of the file that have their value, by where they are declared.
    pub constants: HashMap<Span, Value<'a>>,
    depth: usize,
    rounds: usize,
    steps: usize,
    /// Nodes whose index maps are counted in `moved`.
    counted: usize,
    moved: usize,
}

impl<'a, 's> Elaborator<'a, 's> {
    pub fn new(scope: &'s Scope<'a>) -> Self {
        Self {
            scope,
            graph: Graph::default(),
            diagnostics: Vec::new(),
            calls: Vec::new(),
            path: Vec::new(),
            instances: HashMap::new(),
            applied: HashSet::new(),
            frozen: false,
            given: GivenWeights::Unseen,
            frozen_weights: Vec::new(),
            constants: HashMap::new(),
            depth: 0,
            rounds: 0,
            steps: 0,
            counted: 0,
            moved: 0,
        }
    }

    /// Where a node comes from that the code at `span` makes.
    pub fn origin(&self, span: Span) -> Origin {
        Origin::new(std::iter::once(span).chain(self.calls.iter().rev().copied()).collect::<Vec<_>>())
    }

    /// The innermost place in the user's own file.
    pub fn user_span(&self, span: Span) -> Span {
        let own = |s: &Span| !self.scope.is_library(s.file);
        if own(&span) { span } else { self.calls.iter().rev().copied().find(own).unwrap_or(span) }
    }

    /// A diagnostic about the code at `span`: it points to the user's own line, and beside it to the line of
    /// the library if the mistake shows there.
    pub fn diagnostic(
        &self,
        span: Span,
        code: &'static str,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Diagnostic {
        let user = self.user_span(span);
        let error = Diagnostic::error(code, message);
        if user != span {
            return error
                .label(user, "in this call")
                .label(span, format!("{} (in the standard library)", label.into()));
        }
        let error = error.label(span, label);
        match self.calls.last() {
            Some(call) if *call != span => error.label(self.user_span(*call), "in this call"),
            _ => error,
        }
    }

    pub fn report(&mut self, diagnostic: Diagnostic) -> Reported {
        let known = self.diagnostics.iter().any(|d| {
            d.code == diagnostic.code
                && d.message == diagnostic.message
                && d.labels.first().map(|l| l.span) == diagnostic.labels.first().map(|l| l.span)
        });
        if !known {
            self.diagnostics.push(diagnostic);
        }
        Reported
    }

    pub fn error(
        &mut self,
        span: Span,
        code: &'static str,
        message: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) -> Reported {
        let diagnostic = self.diagnostic(span, code, message, label).help(help);
        self.report(diagnostic)
    }

    /// The node, or the error that the graph had with it.
    pub fn built(&mut self, result: Result<NodeId, ShapeError>, span: Span) -> Result<NodeId, Reported> {
        for id in (self.counted..self.graph.len()).map(NodeId::new) {
            if let Op::Gather { map, .. } | Op::ScatterAdd { map, .. } = &self.graph.node(id).op {
                self.moved = self.moved.saturating_add(map.len());
            }
        }
        self.counted = self.graph.len();
        if self.moved > MAX_MOVED {
            return Err(self.error(
                span,
                "E0213",
                format!("this program moves more than {MAX_MOVED} elements around"),
                "here",
                "use smaller tensors, or fewer rounds of loops",
            ));
        }
        result.map_err(|error| {
            let (code, help) = match &error {
                ShapeError::Mismatch { .. } => {
                    ("E0203", "make the shapes agree; `hesn check --types` shows them")
                }
                ShapeError::Invalid { .. } => ("E0203", "see the primitive in the language reference"),
                ShapeError::TooLarge { .. } => ("E0213", "use a smaller tensor"),
                ShapeError::TooManyNodes => ("E0213", "use fewer rounds of unrolled loops, or fewer layers"),
            };
            self.error(span, code, error.to_string(), "here", help)
        })
    }

    pub fn tensor(&mut self, result: Result<NodeId, ShapeError>, span: Span) -> Evaluated<'a> {
        self.built(result, span).map(Value::Tensor)
    }

    /// Goes one level deeper, if there is one.
    pub fn nested<T>(
        &mut self,
        span: Span,
        body: impl FnOnce(&mut Self) -> Result<T, Reported>,
    ) -> Result<T, Reported> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(self.error(
                span,
                "E0213",
                format!("this program takes more than {MAX_STEPS} steps to compile"),
                "here",
                "use fewer rounds of loops, or fewer calls in one another",
            ));
        }
        if self.depth >= MAX_DEPTH {
            return Err(self.error(
                span,
                "E0213",
                format!("more than {MAX_DEPTH} calls and expressions are nested in one another"),
                "too deep",
                "use fewer layers of calls",
            ));
        }
        self.depth += 1;
        let result = body(self);
        self.depth -= 1;
        result
    }

    /// Counts a round of a loop.
    pub fn round(&mut self, span: Span) -> Result<(), Reported> {
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            return Err(self.error(
                span,
                "E0213",
                format!("the loops of this program have more than {MAX_ROUNDS} rounds together"),
                "this loop",
                "use fewer rounds, or operate on whole tensors",
            ));
        }
        Ok(())
    }

    pub fn shape(&self, id: NodeId) -> &[usize] {
        &self.graph.node(id).shape
    }
}
