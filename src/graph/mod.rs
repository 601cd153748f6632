//! The program as a graph of operations: comes from `typeck` (elaboration), goes to `plan` and `interp`.
//!
//! A graph describes ONE sample: no node has a batch dimension. A node knows whether its value depends on the
//! sample (`per_sample`) or is shared by the batch; [`Op::BatchSum`] leads from the first kind to the second.
//! Knows no syntax, no scheme and no engine.

#[cfg(test)]
mod backward_tests;
mod bias;
mod build;
mod constants;
mod derivative;
mod fuse;
mod mask;
mod scalar;
mod split;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

pub use bias::unstack;
pub use build::ShapeError;
pub use derivative::{CLIP, Derivative};
pub use scalar::{Binary, Function, ScalarExpr, ScalarFn};
pub use split::Split;

use crate::diagnostics::Span;

pub type NodeId = NodeIndex<u32>;
pub type Shape = Vec<usize>;

/// In an index map: no element, the value is zero.
pub const NONE: u32 = u32::MAX;
/// Elements that one tensor may have.
pub const MAX_ELEMENTS: usize = 1 << 26;
/// Nodes that one program may have.
pub const MAX_NODES: usize = 1 << 20;

/// Number of elements of a tensor of this shape; a scalar has the shape `[]`.
pub fn elements(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// `[28, 28]` as a user writes it.
pub fn show_shape(shape: &[usize]) -> String {
    format!("[{}]", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
}

/// Where a node comes from: the call stack of spans, innermost first. Every node of a derivative keeps the
/// origin of the node whose derivative it belongs to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    pub spans: Arc<[Span]>,
    pub derivative: bool,
}

impl Origin {
    pub fn new(spans: impl Into<Arc<[Span]>>) -> Self {
        Self { spans: spans.into(), derivative: false }
    }

    /// The user's own line: the innermost one in the file of the outermost.
    pub fn user(&self) -> Option<Span> {
        let outermost = self.spans.last()?;
        self.spans.iter().find(|span| span.file == outermost.file).copied()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    Uniform(f64),
    /// Row-major.
    Tensor(Arc<[f64]>),
}

impl Constant {
    /// Whether all its numbers are integers.
    pub fn is_whole(&self) -> bool {
        match self {
            Constant::Uniform(value) => value.fract() == 0.0,
            Constant::Tensor(values) => values.iter().all(|value| value.fract() == 0.0),
        }
    }

    pub fn get(&self, index: usize) -> f64 {
        match self {
            Constant::Uniform(value) => *value,
            Constant::Tensor(values) => values[index],
        }
    }
}

/// Geometry of a two-dimensional convolution: `[c, h, w]` with `[o, c, kh, kw]` gives `[o, h', w']`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvGeometry {
    pub image: [usize; 3],
    pub kernel: [usize; 4],
    pub stride: usize,
    /// top, bottom, left, right
    pub pad: [usize; 4],
}

impl ConvGeometry {
    /// Height and width of the result.
    pub fn output(&self) -> [usize; 2] {
        let size = |axis: usize, before: usize, after: usize| {
            (self.image[1 + axis] + before + after - self.kernel[2 + axis]) / self.stride + 1
        };
        [size(0, self.pad[0], self.pad[1]), size(1, self.pad[2], self.pad[3])]
    }
}

/// Level of a written type: `variable + offset`, or `offset` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelExpr {
    /// Index of a level variable; a polymorphic function gets fresh ones at every call.
    pub variable: Option<u32>,
    pub offset: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    Clear,
    Bfv,
    Tfhe,
    Ckks,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scheme::Clear => "clear",
            Scheme::Bfv => "bfv",
            Scheme::Tfhe => "tfhe",
            Scheme::Ckks => "ckks",
        })
    }
}

/// A type that the user wrote for a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    pub scheme: Option<Scheme>,
    pub level: Option<LevelExpr>,
    /// `in -8..8`
    pub range: Option<(f64, f64)>,
    pub span: Span,
    /// True for `let`: the type is checked. False for arguments and results of functions: these are uses, where
    /// a switch of schemes may be inserted.
    pub exact: bool,
}

/// Index into [`Graph::params`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(pub u32);

#[derive(Clone, Debug, PartialEq)]
pub enum Init {
    /// Normal with variance 2 / fan_in.
    HeNormal,
    Constant(f64),
    Normal(f64),
    /// Uniform on `[a, b)`.
    Uniform(f64, f64),
    /// These values, row-major: of a file.
    Given(Arc<[f32]>),
    /// Several parameters as one, along their first axis: weights and their bias.
    Stacked(Arc<[ParamInfo]>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct ParamInfo {
    /// Unique in its model: `dense1.w`.
    pub name: String,
    pub shape: Shape,
    pub init: Init,
    /// Inputs that one output sums over.
    pub fan_in: usize,
    /// A range that the user wrote.
    pub range: Option<(f64, f64)>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The features of a sample.
    Input,
    /// The label of a sample: one-hot, or a number.
    Label,
    /// An argument of a function that is run on its own: an encrypted value of its name.
    Argument(String),
    Param(ParamId),
    Const(Constant),
    /// A sum over the labels that the result lacks: `[n]@[n,m]` is `left "j", right "jl", out "l"`.
    Contract {
        left: Vec<u8>,
        right: Vec<u8>,
        out: Vec<u8>,
    },
    Conv(ConvGeometry),
    /// Gradient of a convolution for its image: operands are the result's gradient and the kernel.
    ConvImageGrad(ConvGeometry),
    /// Gradient of a convolution for its kernel: operands are the image and the result's gradient.
    ConvKernelGrad(ConvGeometry),
    Add,
    Sub,
    /// By elements.
    Mul,
    Scale(f64),
    Offset(f64),
    /// `out[i] = operands[map[i]]`, the operands' elements one after another: reshape, slice, pad, broadcast …
    Gather {
        what: &'static str,
        map: Arc<[u32]>,
    },
    /// `out[map[i]] += operand[i]`: sums, and the adjoint of a gather that repeats elements.
    ScatterAdd {
        what: &'static str,
        map: Arc<[u32]>,
    },
    /// A function of one value, applied to each element.
    Lut(Arc<ScalarFn>),
    /// An identity table that gives back levels.
    Refresh,
    /// The identity, with a type that the user wrote.
    Ascribe(Written),
    /// The sum over the samples of a batch.
    BatchSum,
}

impl Op {
    /// Whether element i of the result depends on elements i of the operands alone.
    pub fn is_element_wise(&self) -> bool {
        matches!(
            self,
            Op::Add
                | Op::Sub
                | Op::Mul
                | Op::Scale(_)
                | Op::Offset(_)
                | Op::Lut(_)
                | Op::Refresh
                | Op::Ascribe(_)
        )
    }

    /// What a user calls this operation.
    pub fn name(&self) -> &str {
        match self {
            Op::Input => "input",
            Op::Label => "label",
            Op::Argument(_) => "argument",
            Op::Param(_) => "param",
            Op::Const(_) => "constant",
            Op::Contract { .. } => "@",
            Op::Conv(_) => "conv",
            Op::ConvImageGrad(_) | Op::ConvKernelGrad(_) => "gradient of conv",
            Op::Add => "+",
            Op::Sub => "-",
            Op::Mul => "*",
            Op::Scale(_) => "scale",
            Op::Offset(_) => "offset",
            Op::Gather { what, .. } | Op::ScatterAdd { what, .. } => what,
            Op::Lut(function) => &function.name,
            Op::Refresh => "refresh",
            Op::Ascribe(_) => "type",
            Op::BatchSum => "sum over the batch",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Node {
    pub op: Op,
    pub shape: Shape,
    /// Whether the value depends on the sample.
    pub per_sample: bool,
    pub origin: Origin,
}

impl Node {
    pub fn elements(&self) -> usize {
        elements(&self.shape)
    }

    pub fn uniform(&self) -> Option<f64> {
        match self.op {
            Op::Const(Constant::Uniform(value)) => Some(value),
            _ => None,
        }
    }
}

/// A `for` loop whose body was elaborated once: the state must leave with the type with which it entered.
#[derive(Clone, Debug)]
pub struct LoopState {
    pub name: String,
    pub before: NodeId,
    pub after: NodeId,
    pub span: Span,
}

/// A value of which a share is zero while training.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    pub node: NodeId,
    /// The share of the elements that are kept, above 0 and below 1.
    pub keep: f64,
}

/// Operations and their operands. An edge leads from an operand to its user and carries the operand's position.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    dag: DiGraph<Node, u32, u32>,
    params: Vec<ParamInfo>,
    pub loops: Vec<LoopState>,
    /// What is masked while training. Of the graph that elaboration makes only: masks are applied before anything else.
    pub masks: Vec<Mask>,
    /// Level variables handed out so far.
    pub level_variables: u32,
}

impl Graph {
    pub fn node(&self, id: NodeId) -> &Node {
        &self.dag[id]
    }

    pub fn params(&self) -> &[ParamInfo] {
        &self.params
    }

    pub fn param_info(&self, id: ParamId) -> &ParamInfo {
        &self.params[id.0 as usize]
    }

    pub fn len(&self) -> usize {
        self.dag.node_count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nodes in an order in which operands come before their users: nodes are only ever appended.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + ExactSizeIterator + use<> {
        (0..self.dag.node_count()).map(NodeId::new)
    }

    /// The operands in their order.
    pub fn operands(&self, id: NodeId) -> Vec<NodeId> {
        let mut edges: Vec<(u32, NodeId)> =
            self.dag.edges_directed(id, Direction::Incoming).map(|e| (*e.weight(), e.source())).collect();
        edges.sort_unstable();
        edges.into_iter().map(|(_, source)| source).collect()
    }

    /// The nodes that use a value, each as often as it uses it.
    pub fn users(&self, id: NodeId) -> Vec<NodeId> {
        let mut users: Vec<NodeId> = self.dag.neighbors_directed(id, Direction::Outgoing).collect();
        users.sort_unstable();
        users
    }

    /// For each node, whether one of `roots` depends on it.
    pub fn reachable(&self, roots: &[NodeId]) -> Vec<bool> {
        let mut seen = vec![false; self.len()];
        let mut stack = roots.to_vec();
        while let Some(id) = stack.pop() {
            if !std::mem::replace(&mut seen[id.index()], true) {
                stack.extend(self.operands(id));
            }
        }
        seen
    }

    /// Graphviz source of the graph.
    pub fn dot(&self, label: impl Fn(NodeId) -> String) -> String {
        let quote = |text: String| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let mut out = String::from("digraph hesn {\n  node [shape=box, fontname=\"monospace\"];\n");
        for id in self.ids() {
            out += &format!("  n{} [label=\"{}\"];\n", id.index(), quote(label(id)));
        }
        for edge in self.dag.edge_references() {
            out += &format!("  n{} -> n{};\n", edge.source().index(), edge.target().index());
        }
        out + "}\n"
    }
}
