//! Arithmetic on public tensors happens while the graph is built: no engine computes the same constant in every step.

use super::{Constant, Graph, NONE, NodeId, Op, elements};

impl Graph {
    /// The value of an operation on constants alone; `None` if it has others, or if the value is not finite: a table
    /// that is undefined there is reported with its range.
    pub(super) fn folded(&self, op: &Op, shape: &[usize], operands: &[NodeId]) -> Option<Constant> {
        let constant = |&id: &NodeId| match &self.node(id).op {
            Op::Const(value) => Some(value),
            _ => None,
        };
        let parts: Vec<&Constant> = operands.iter().map(constant).collect::<Option<_>>()?;
        let first = *parts.first()?;
        let map = |f: &dyn Fn(f64) -> f64| match first {
            Constant::Uniform(value) => Constant::Uniform(f(*value)),
            Constant::Tensor(values) => Constant::Tensor(values.iter().map(|&v| f(v)).collect()),
        };
        let zip = |f: &dyn Fn(f64, f64) -> f64| {
            let other = parts.get(1)?;
            let values = (0..elements(shape)).map(|i| f(first.get(i), other.get(i)));
            Some(Constant::Tensor(values.collect()))
        };
        let value = match op {
            Op::Add => zip(&|a, b| a + b)?,
            Op::Sub => zip(&|a, b| a - b)?,
            Op::Mul => zip(&|a, b| a * b)?,
            Op::Scale(c) => map(&|v| v * c),
            Op::Offset(c) => map(&|v| v + c),
            Op::Lut(function) => map(&|v| function.expr.eval(v)),
            Op::Gather { map, .. } => {
                let mut all = Vec::new();
                for (part, &id) in parts.iter().zip(operands) {
                    all.extend((0..self.node(id).elements()).map(|i| part.get(i)));
                }
                Constant::Tensor(map.iter().map(|&i| if i == NONE { 0.0 } else { all[i as usize] }).collect())
            }
            Op::ScatterAdd { map, .. } => {
                let mut sums = vec![0.0; elements(shape)];
                for (i, &to) in map.iter().enumerate().filter(|(_, to)| **to != NONE) {
                    sums[to as usize] += first.get(i);
                }
                Constant::Tensor(sums.into())
            }
            _ => return None,
        };
        let finite = match &value {
            Constant::Uniform(value) => value.is_finite(),
            Constant::Tensor(values) => values.iter().all(|value| value.is_finite()),
        };
        finite.then_some(value)
    }
}
