//! Ranges: for every value that a table may read, a power of two R such that the value lies in −R..R.
//!
//! In: a graph, its derivative included, and what the architecture and the data declaration say; never data. Out: a
//! range for each value and each parameter, intervals that are certain, warnings; or diagnostics E0401 and E0402.
//! What the user wrote wins; what is certain narrows; everything else follows rules that training is stable with.

mod explain;
mod interval;

use std::collections::HashMap;
use std::fmt;

use crate::diagnostics::Diagnostic;
use crate::graph::{Constant, Function, Graph, NodeId, Op, ParamId, ParamInfo, ScalarExpr};
pub use interval::Interval;
use interval::{interval_of, tabulated};

/// What is known of a function's argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArgumentSize {
    pub range: (f64, f64),
    /// Root mean square.
    pub rms: f64,
}

/// What the data declaration and the architecture say.
#[derive(Clone, Debug)]
pub struct RangeOptions {
    /// Root mean square of the features.
    pub input_rms: f64,
    /// Whether ranges follow from `input_rms`, as in a function that is run on its own: in a graph without parameters.
    pub sized_input: bool,
    /// Interval of the features.
    pub input: Option<(f64, f64)>,
    /// Interval of the labels.
    pub label: Option<(f64, f64)>,
    /// Arguments of a function that is run on its own, by name.
    pub arguments: HashMap<String, ArgumentSize>,
    /// Whether a parameter reaches the model's result without a function in between; by parameter.
    pub last: Vec<bool>,
    /// No function lies between the features and the model's result.
    pub linear: bool,
    /// log2 of the largest plaintext modulus that a profile offers.
    pub plaintext_bits: u32,
}

impl Default for RangeOptions {
    fn default() -> Self {
        let bits = crate::he::params::PROFILES.iter().map(|profile| profile.ring.plaintext_bits);
        Self {
            input_rms: 1.0,
            sized_input: false,
            input: None,
            label: None,
            arguments: HashMap::new(),
            last: Vec::new(),
            linear: false,
            plaintext_bits: bits.max().unwrap_or(25),
        }
    }
}

/// Where a range comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Written,
    Certain,
    Gradient,
    HiddenLayer,
    Convolution,
    Difference,
    Logits,
    LinearModel,
    Exponent,
    /// Six times the nominal root mean square.
    Size,
    /// Nothing is known.
    Usual,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Written => "as written",
            Reason::Certain => "certain",
            Reason::Gradient => "usual for gradients",
            Reason::HiddenLayer => "usual for hidden layers",
            Reason::Convolution => "usual for convolutions",
            Reason::Difference => "usual for differences",
            Reason::Logits => "usual for logits",
            Reason::LinearModel => "from the number of features",
            Reason::Exponent => "usual for exponents",
            Reason::Size => "from the sizes of the arguments",
            Reason::Usual => "usual",
        })
    }
}

/// The value lies in −range..range.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Range {
    /// A power of two.
    pub range: f64,
    pub why: Reason,
}

/// The solution.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    /// By node; None where no output needs the value.
    pub nodes: Vec<Option<Range>>,
    /// By parameter.
    pub params: Vec<f64>,
    /// What is certain of each node's value, as far as anything is; what the user wrote counts as certain.
    pub certain: Vec<Interval>,
    pub warnings: Vec<Diagnostic>,
    /// Nominal root mean square of each node's value, where the sizes of the arguments give it.
    rms: Vec<Option<f64>>,
}

/// A range where nothing else is known.
const USUAL: f64 = 16.0;

impl Ranges {
    pub fn site(&self, id: NodeId) -> f64 {
        self.nodes.get(id.index()).copied().flatten().map_or(USUAL, |range| range.range)
    }

    pub fn param(&self, id: ParamId) -> f64 {
        self.params.get(id.index()).copied().unwrap_or(2.0)
    }

    /// An interval in which a value is expected, and its nominal root mean square.
    pub fn expected(&self, id: NodeId) -> ((f64, f64), f64) {
        let range = self.site(id);
        let certain = self.certain.get(id.index()).copied().unwrap_or(Interval::ANY);
        let expected = Interval::symmetric(range).within(certain);
        let rms = self.rms.get(id.index()).copied().flatten();
        ((expected.low, expected.high), rms.unwrap_or(range / 4.0))
    }

    /// The look-up tables of a graph, with the range that each reads.
    pub fn tables<'a>(&'a self, graph: &'a Graph) -> impl Iterator<Item = (NodeId, Range)> + 'a {
        graph.ids().filter_map(|id| {
            matches!(graph.node(id).op, Op::Lut(_) | Op::Refresh).then_some(())?;
            let operand = graph.operands(id).first().copied()?;
            Some((id, self.nodes.get(operand.index()).copied().flatten()?))
        })
    }
}

/// Nominal root mean square of values in an interval.
pub fn nominal_rms(range: Option<(f64, f64)>) -> f64 {
    match range {
        // Standardised features lie within ±4 of one standard deviation each.
        Some((low, high)) if low <= -3.9 && high >= 3.9 => 1.0,
        Some((low, high)) if low >= 0.0 => high / 2.0,
        Some((low, high)) => low.abs().max(high.abs()) / 2.0,
        None => 1.0,
    }
}

/// The next power of two that is not smaller.
fn power_above(bound: f64) -> f64 {
    // Rounding must not double a power of two; nothing is ever exactly zero.
    (bound.max(2f64.powi(-10)).log2() - 1e-9).ceil().exp2()
}

/// The range that a user wrote, as a power of two.
fn written_range((low, high): (f64, f64)) -> f64 {
    power_above(low.abs().max(high.abs()))
}

/// What a value is a linear combination of.
#[derive(Clone, Copy, Debug, Default)]
struct Made {
    dense: bool,
    convolution: bool,
    table: bool,
    /// Of parameters of the last layer.
    last: bool,
    fan_in: usize,
}

impl Made {
    fn or(self, other: Made) -> Made {
        Made {
            dense: self.dense || other.dense,
            convolution: self.convolution || other.convolution,
            table: self.table || other.table,
            last: self.last || other.last,
            fan_in: self.fan_in.max(other.fan_in),
        }
    }
}

/// Ranges of everything that `outputs` need.
pub fn solve(graph: &Graph, outputs: &[NodeId], options: &RangeOptions) -> Result<Ranges, Vec<Diagnostic>> {
    let needed = graph.reachable(outputs);
    let mut solver = Solver {
        graph,
        options,
        ranges: Ranges {
            nodes: vec![None; graph.len()],
            certain: vec![Interval::ANY; graph.len()],
            ..Ranges::default()
        },
        made: vec![Made::default(); graph.len()],
        rms: vec![None; graph.len()],
        errors: Vec::new(),
    };
    solver.ranges.params =
        graph.params().iter().enumerate().map(|(index, info)| solver.param_range(index, info)).collect();
    for id in graph.ids().filter(|id| needed[id.index()]) {
        solver.visit(id);
    }
    solver.ranges.rms = solver.rms;
    if solver.errors.is_empty() { Ok(solver.ranges) } else { Err(solver.errors) }
}

struct Solver<'a> {
    graph: &'a Graph,
    options: &'a RangeOptions,
    ranges: Ranges,
    made: Vec<Made>,
    /// Nominal root mean squares, where the sizes of the arguments give them.
    rms: Vec<Option<f64>>,
    errors: Vec<Diagnostic>,
}

impl Solver<'_> {
    /// `R_w = 2^⌈log2(6·√(2/fan_in))⌉`, twice that in the last layer; 2 where weights start at zero in a linear model.
    fn param_range(&mut self, index: usize, info: &ParamInfo) -> f64 {
        if let Some(written) = info.range {
            if written_range(written) > self.widest() {
                self.errors.push(explain::too_wide(info.span, written_range(written), self.options));
            }
            return written_range(written);
        }
        if self.options.linear {
            return 2.0;
        }
        let range = power_above(6.0 * (2.0 / info.fan_in.max(1) as f64).sqrt());
        if self.is_last(index) { 2.0 * range } else { range }
    }

    fn is_last(&self, param: usize) -> bool {
        self.options.last.get(param).copied().unwrap_or(false)
    }

    /// The largest range at which one unit of a value is one unit of the plaintext modulus.
    fn widest(&self) -> f64 {
        f64::from(self.options.plaintext_bits).exp2() / 4.0
    }

    fn visit(&mut self, id: NodeId) {
        let operands = self.graph.operands(id);
        self.made[id.index()] = self.made_of(id, &operands);
        self.rms[id.index()] = self.rms_of(id, &operands);
        let intervals: Vec<Interval> = operands.iter().map(|o| self.ranges.certain[o.index()]).collect();
        let certain = self.certain(id, &operands, &intervals);
        self.ranges.certain[id.index()] = certain;
        if certain.least() > self.widest() || self.is_huge_constant(id, certain) {
            // Said once, where it begins.
            if intervals.iter().all(|operand| operand.least() <= self.widest()) {
                self.errors.push(explain::overflows(self.graph, id, certain, self.options));
            }
        }
        let usual = self.usual(id);
        let range = match &self.graph.node(id).op {
            Op::Ascribe(written) if written.range.is_some() => {
                let bounds = written.range.unwrap_or_default();
                let operand = intervals.first().copied().unwrap_or(Interval::ANY);
                self.check_written(written.span, bounds, operand, usual);
                Range { range: written_range(bounds), why: Reason::Written }
            }
            _ => narrowed(usual, certain),
        };
        self.ranges.nodes[id.index()] = Some(range);
    }

    fn is_huge_constant(&self, id: NodeId, certain: Interval) -> bool {
        matches!(self.graph.node(id).op, Op::Const(_)) && certain.bound() > self.widest()
    }

    fn check_written(
        &mut self,
        span: crate::diagnostics::Span,
        bounds: (f64, f64),
        operand: Interval,
        usual: Range,
    ) {
        let range = written_range(bounds);
        if range > self.widest() {
            self.errors.push(explain::too_wide(span, range, self.options));
        } else if operand.least() > range {
            self.errors.push(explain::always_outside(span, range, operand));
        } else {
            let likely = narrowed(usual, operand);
            if 2.0 * range < likely.range {
                self.ranges.warnings.push(explain::likely_excess(span, range, likely));
            }
        }
    }

    /// What is certain of a node's value.
    fn certain(&mut self, id: NodeId, operands: &[NodeId], intervals: &[Interval]) -> Interval {
        let known =
            |bounds: Option<(f64, f64)>| bounds.map_or(Interval::ANY, |(low, high)| Interval::new(low, high));
        match &self.graph.node(id).op {
            Op::Input => known(self.options.input),
            Op::Label => known(self.options.label),
            Op::Argument(name) => known(self.options.arguments.get(name).map(|argument| argument.range)),
            // Initial weights are added outside the table: twice its range.
            Op::Param(param) => Interval::symmetric(2.0 * self.ranges.param(*param)),
            Op::Ascribe(written) => match written.range {
                Some((low, high)) => intervals[0].within(Interval::new(low, high)),
                None => intervals[0],
            },
            Op::Lut(function) => {
                let range = self.ranges.site(operands[0]);
                let (values, undefined) = tabulated(&function.expr, range, intervals[0]);
                if let Some(z) = undefined {
                    self.errors.push(explain::undefined(self.graph, id, &function.name, z, range));
                }
                values.unwrap_or(Interval::ANY)
            }
            _ => interval_of(self.graph, id, intervals),
        }
    }

    fn made_of(&self, id: NodeId, operands: &[NodeId]) -> Made {
        let all = || operands.iter().map(|o| self.made[o.index()]).fold(Made::default(), Made::or);
        match &self.graph.node(id).op {
            Op::Param(param) => Made {
                last: self.is_last(param.index()),
                fan_in: self.graph.param_info(*param).fan_in,
                ..Made::default()
            },
            Op::Contract { .. } => Made { dense: true, convolution: false, table: false, ..all() },
            Op::Conv(_) | Op::ConvImageGrad(_) | Op::ConvKernelGrad(_) => {
                Made { dense: false, convolution: true, table: false, ..all() }
            }
            Op::Mul if operands.iter().any(|o| matches!(self.graph.node(*o).op, Op::Const(_))) => all(),
            Op::Lut(_) | Op::Refresh | Op::Mul => Made { table: true, ..Made::default() },
            _ => all(),
        }
    }

    /// Nominal root mean square, from those of the arguments of a function; None in a training.
    fn rms_of(&self, id: NodeId, operands: &[NodeId]) -> Option<f64> {
        let at = |k: usize| operands.get(k).and_then(|o| self.rms[o.index()]);
        let ids = || operands.iter().map(|o| self.rms[o.index()]);
        Some(match &self.graph.node(id).op {
            Op::Input if self.options.sized_input => self.options.input_rms,
            Op::Argument(name) => self.options.arguments.get(name)?.rms,
            Op::Const(_) => self.rms_of_constant(id),
            Op::Contract { left, out, .. } => {
                let shape = &self.graph.node(operands[0]).shape;
                let summed: usize =
                    left.iter().zip(shape).filter(|(l, _)| !out.contains(l)).map(|(_, size)| size).product();
                (summed as f64).sqrt() * at(0)? * at(1)?
            }
            Op::Conv(geometry) => {
                (geometry.kernel[1..].iter().product::<usize>() as f64).sqrt() * at(0)? * at(1)?
            }
            Op::Add | Op::Sub => at(0)?.hypot(at(1)?),
            Op::Mul => at(0)? * at(1)?,
            Op::Scale(c) => c.abs() * at(0)?,
            Op::Offset(c) => at(0)?.hypot(*c),
            Op::Gather { .. } => ids().try_fold(0.0, |most: f64, rms| Some(most.max(rms?)))?,
            Op::ScatterAdd { map, .. } => {
                let rows = self.graph.node(id).elements().max(1);
                (map.len() as f64 / rows as f64).max(1.0).sqrt() * at(0)?
            }
            Op::Refresh | Op::Ascribe(_) => at(0)?,
            Op::Lut(function) => {
                let (rms, points) = (at(0)?, [-1.5, -1.0, -0.5, -0.1, 0.1, 0.5, 1.0, 1.5]);
                let squares = points.map(|z| function.expr.eval(z * rms).powi(2));
                (squares.iter().filter(|s| s.is_finite()).sum::<f64>() / points.len() as f64).sqrt()
            }
            _ => return None,
        })
    }

    fn rms_of_constant(&self, id: NodeId) -> f64 {
        match &self.graph.node(id).op {
            Op::Const(Constant::Uniform(value)) => value.abs(),
            Op::Const(Constant::Tensor(values)) => {
                let square: f64 = values.iter().map(|v| v * v).sum();
                (square / values.len().max(1) as f64).sqrt()
            }
            _ => 0.0,
        }
    }

    /// The range by rule.
    fn usual(&self, id: NodeId) -> Range {
        let made = self.made[id.index()];
        let preactivation = (made.dense || made.convolution) && !made.table;
        let node = self.graph.node(id);
        let bound = self.ranges.certain[id.index()].bound();
        let (range, why) = if node.origin.derivative && matches!(node.op, Op::Lut(_)) && bound.is_finite() {
            // A slope is no gradient: it multiplies one.
            (power_above(bound), Reason::Certain)
        } else if node.origin.derivative {
            (self.clip_of(id).map_or(1.0, |bound| power_above(bound).max(1.0)), Reason::Gradient)
        } else if let Some(rms) = self.rms[id.index()] {
            (power_above(6.0 * rms), Reason::Size)
        } else if made.convolution && preactivation {
            (16.0, Reason::Convolution)
        } else if self.read_by(id, |function| function.name == "max") {
            (16.0, Reason::Difference)
        } else if preactivation && self.options.linear {
            let bound = 3.0 * (made.fan_in.max(1) as f64).sqrt() * self.options.input_rms;
            (bound.log2().round().exp2().max(16.0), Reason::LinearModel)
        } else if preactivation && (made.last || self.graph.params().is_empty()) {
            (16.0, Reason::Logits)
        } else if preactivation {
            (8.0, Reason::HiddenLayer)
        } else if self.read_by(id, |function| has_exp(&function.expr)) {
            (8.0, Reason::Exponent)
        } else {
            (USUAL, Reason::Usual)
        };
        Range { range, why }
    }

    /// The bound at which a gradient is clipped.
    fn clip_of(&self, id: NodeId) -> Option<f64> {
        self.graph.users(id).iter().find_map(|user| match &self.graph.node(*user).op {
            Op::Lut(function) if function.name == crate::graph::CLIP => {
                Some(function.expr.eval(f64::MAX)).filter(|bound| bound.is_finite())
            }
            _ => None,
        })
    }

    fn read_by(&self, id: NodeId, reads: impl Fn(&crate::graph::ScalarFn) -> bool) -> bool {
        self.graph
            .users(id)
            .iter()
            .any(|user| matches!(&self.graph.node(*user).op, Op::Lut(function) if reads(function)))
    }
}

/// The usual range, unless it is certain that a narrower one holds.
fn narrowed(usual: Range, certain: Interval) -> Range {
    let bound = certain.bound();
    if bound.is_finite() && power_above(bound) < usual.range && usual.why != Reason::Gradient {
        Range { range: power_above(bound), why: Reason::Certain }
    } else {
        usual
    }
}

/// Whether a function contains an exponential or something of its kind.
fn has_exp(expr: &ScalarExpr) -> bool {
    match expr {
        ScalarExpr::Z | ScalarExpr::Const(_) => false,
        ScalarExpr::Neg(a) => has_exp(a),
        ScalarExpr::Bin(_, a, b) => has_exp(a) || has_exp(b),
        ScalarExpr::Call(function, a) => matches!(function, Function::Exp | Function::Tanh) || has_exp(a),
    }
}
