//! Interval arithmetic over the operations of a graph: bounds that are certain, as far as any are.

use crate::graph::{Constant, Graph, NONE, NodeId, Op, ScalarExpr};

/// A closed interval; infinite where nothing is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// Points at which a table holds its function.
pub(super) const GRID: i32 = 1 << 11;

impl Interval {
    pub const ANY: Interval = Interval { low: f64::NEG_INFINITY, high: f64::INFINITY };

    pub fn new(low: f64, high: f64) -> Self {
        Self { low: low.min(high), high: low.max(high) }
    }

    pub fn symmetric(bound: f64) -> Self {
        Self::new(-bound, bound)
    }

    /// The largest absolute value.
    pub fn bound(self) -> f64 {
        self.low.abs().max(self.high.abs())
    }

    /// The smallest absolute value.
    pub fn least(self) -> f64 {
        if self.low <= 0.0 && self.high >= 0.0 { 0.0 } else { self.low.abs().min(self.high.abs()) }
    }

    pub fn contains(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// What both allow; `self` if they exclude each other.
    pub fn within(self, other: Interval) -> Interval {
        let (low, high) = (self.low.max(other.low), self.high.min(other.high));
        if low <= high { Interval { low, high } } else { self }
    }

    fn or(self, other: Interval) -> Interval {
        Interval { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    fn plus(self, other: Interval) -> Interval {
        Interval { low: self.low + other.low, high: self.high + other.high }
    }

    fn times(self, factor: f64) -> Interval {
        self.by(Interval { low: factor, high: factor })
    }

    fn by(self, other: Interval) -> Interval {
        // Nothing times anything is nothing, however large.
        let mul = |a: f64, b: f64| if a == 0.0 || b == 0.0 { 0.0 } else { a * b };
        let all = [
            mul(self.low, other.low),
            mul(self.low, other.high),
            mul(self.high, other.low),
            mul(self.high, other.high),
        ];
        Interval {
            low: all.iter().copied().fold(f64::INFINITY, f64::min),
            high: all.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// The sum of between `least` and `most` values.
    fn repeated(self, least: usize, most: usize) -> Interval {
        let (a, b) = (self.times(least as f64), self.times(most as f64));
        a.or(b)
    }
}

/// Points of a table for −range..range at which its input can lie, or the ends of the interval if none does.
pub(super) fn grid(range: f64, input: Interval) -> impl Iterator<Item = f64> {
    let input = input.within(Interval::symmetric(range));
    let step = 2.0 * range / f64::from(GRID);
    let points = (-GRID / 2..=GRID / 2).map(move |i| f64::from(i) * step);
    let mut inside = points.filter(move |z| input.contains(*z)).peekable();
    let ends = inside.peek().is_none().then_some([input.low, input.high]);
    inside.chain(ends.into_iter().flatten())
}

/// Where a function is defined, the values that a table of it holds for this input; and a point where it is not.
pub(super) fn tabulated(expr: &ScalarExpr, range: f64, input: Interval) -> (Option<Interval>, Option<f64>) {
    let (mut values, mut undefined): (Option<Interval>, Option<f64>) = (None, None);
    for z in grid(range, input) {
        let value = expr.eval(z);
        if value.is_finite() {
            let point = Interval::new(value, value);
            values = Some(values.map_or(point, |own| own.or(point)));
        } else if undefined.is_none_or(|known| z.abs() < f64::abs(known)) {
            undefined = Some(z);
        }
    }
    (values, undefined)
}

/// The interval of a node's value, from those of its operands. `leaf` gives that of what has none, `table` that of
/// a look-up.
pub(super) fn interval_of(graph: &Graph, id: NodeId, operands: &[Interval]) -> Interval {
    let ids = graph.operands(id);
    let at = |k: usize| operands.get(k).copied().unwrap_or(Interval::ANY);
    match &graph.node(id).op {
        Op::Const(Constant::Uniform(value)) => Interval::new(*value, *value),
        Op::Const(Constant::Tensor(values)) => values
            .iter()
            .map(|&v| Interval::new(v, v))
            .reduce(Interval::or)
            .unwrap_or(Interval { low: 0.0, high: 0.0 }),
        Op::Contract { left, out, .. } => {
            let shape = &graph.node(ids[0]).shape;
            let summed: usize = left
                .iter()
                .zip(shape)
                .filter(|(label, _)| !out.contains(label))
                .map(|(_, size)| size)
                .product();
            at(0).by(at(1)).times(summed as f64)
        }
        Op::Conv(geometry) => {
            let taps: usize = geometry.kernel[1..].iter().product();
            at(0).by(at(1)).repeated(if geometry.pad == [0; 4] { taps } else { 0 }, taps)
        }
        Op::ConvImageGrad(geometry) => {
            let [filters, _, kh, kw] = geometry.kernel;
            at(0).by(at(1)).repeated(0, filters * kh * kw)
        }
        Op::ConvKernelGrad(geometry) => at(0).by(at(1)).repeated(0, geometry.output().iter().product()),
        Op::Add => at(0).plus(at(1)),
        Op::Sub => at(0).plus(at(1).times(-1.0)),
        Op::Mul if ids[0] == ids[1] => {
            let (least, most) = (at(0).least(), at(0).bound());
            Interval { low: least * least, high: most * most }
        }
        Op::Mul => at(0).by(at(1)),
        Op::Scale(c) => at(0).times(*c),
        Op::Offset(c) => at(0).plus(Interval::new(*c, *c)),
        Op::Gather { map, .. } => {
            let all = operands.iter().copied().reduce(Interval::or).unwrap_or(Interval::ANY);
            if map.contains(&NONE) { all.or(Interval::new(0.0, 0.0)) } else { all }
        }
        Op::ScatterAdd { map, .. } => {
            let mut counts = vec![0usize; graph.node(id).elements()];
            for &i in map.iter().filter(|&&i| i != NONE) {
                counts[i as usize] += 1;
            }
            let least = counts.iter().copied().min().unwrap_or(0);
            at(0).repeated(least, counts.iter().copied().max().unwrap_or(0))
        }
        Op::Refresh | Op::Ascribe(_) => at(0),
        // Known by the caller, or unbounded: the size of a batch is not known here.
        Op::Input | Op::Label | Op::Argument(_) | Op::Param(_) | Op::Lut(_) | Op::BatchSum => Interval::ANY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Function;

    #[test]
    fn infinite_intervals_do_not_become_undefined() {
        let zero = Interval::new(0.0, 0.0);
        assert_eq!(Interval::ANY.by(zero), zero);
        assert_eq!(Interval::ANY.plus(Interval::ANY), Interval::ANY);
        assert_eq!(Interval::new(-1.0, 2.0).repeated(0, 3), Interval::new(-3.0, 6.0));
        assert_eq!(Interval::new(1.0, 2.0).repeated(2, 3), Interval::new(2.0, 6.0));
    }

    #[test]
    fn a_table_is_undefined_where_its_input_can_lie() {
        let log = ScalarExpr::call(Function::Log, ScalarExpr::Z);
        let (values, undefined) = tabulated(&log, 16.0, Interval::new(0.0, 100.0));
        assert_eq!(undefined, Some(0.0));
        assert_eq!(values.map(|v| v.high), Some(16f64.ln()));
        assert_eq!(tabulated(&log, 16.0, Interval::new(0.5, 16.0)).1, None);
        // Between two points of the grid.
        assert_eq!(tabulated(&log, 16.0, Interval::new(0.001, 0.002)).1, None);
        let one_over = ScalarExpr::Const(1.0).div(ScalarExpr::Z);
        assert_eq!(tabulated(&one_over, 8.0, Interval::symmetric(1.0)).1, Some(0.0));
    }
}
