//! Functions of one value for many values at once: an expression becomes a list of operations on blocks of numbers.

use crate::graph::{Binary, Function, ScalarExpr};

/// Values that go through all operations together.
const BLOCK: usize = 128;

/// An operation on the results of earlier ones.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    /// The values themselves.
    Values,
    Const(f64),
    Neg(usize),
    Bin(Binary, usize, usize),
    Call(Function, usize),
}

/// An expression, each distinct part of it once.
pub(crate) struct Compiled {
    steps: Vec<Step>,
}

impl Compiled {
    pub fn new(expr: &ScalarExpr) -> Self {
        let mut steps = Vec::new();
        push(expr, &mut steps);
        Self { steps }
    }

    /// Replaces each value by that of the expression, which [`ScalarExpr::eval`] gives too.
    pub fn apply<T: Copy>(&self, values: &mut [T], from: impl Fn(T) -> f64, to: impl Fn(f64) -> T) {
        let mut results = vec![[0.0; BLOCK]; self.steps.len()];
        for (step, result) in self.steps.iter().zip(&mut results) {
            if let Step::Const(c) = step {
                *result = [*c; BLOCK];
            }
        }
        for block in values.chunks_mut(BLOCK) {
            for (at, step) in self.steps.iter().enumerate() {
                let (earlier, own) = results.split_at_mut(at);
                let own = &mut own[0][..block.len()];
                match *step {
                    Step::Const(_) => {}
                    Step::Values => own.iter_mut().zip(&*block).for_each(|(own, &v)| *own = from(v)),
                    Step::Neg(a) => own.iter_mut().zip(&earlier[a]).for_each(|(own, a)| *own = -a),
                    Step::Call(f, a) => call(f, own, &earlier[a]),
                    Step::Bin(op, a, b) => combine(op, own, &earlier[a], &earlier[b]),
                }
            }
            if let Some(last) = results.last() {
                block.iter_mut().zip(last).for_each(|(value, &result)| *value = to(result));
            }
        }
    }
}

/// The place of an expression's result; appends what is not there yet.
fn push(expr: &ScalarExpr, steps: &mut Vec<Step>) -> usize {
    let step = match expr {
        ScalarExpr::Z => Step::Values,
        ScalarExpr::Const(c) => Step::Const(*c),
        ScalarExpr::Neg(a) => Step::Neg(push(a, steps)),
        ScalarExpr::Bin(op, a, b) => {
            let a = push(a, steps);
            Step::Bin(*op, a, push(b, steps))
        }
        ScalarExpr::Call(function, a) => Step::Call(*function, push(a, steps)),
    };
    let same = |own: &Step| match (own, &step) {
        // Zeros of either sign are equal, but not what is divided by them.
        (Step::Const(a), Step::Const(b)) => a.to_bits() == b.to_bits(),
        (own, step) => own == step,
    };
    steps.iter().position(same).unwrap_or_else(|| {
        steps.push(step);
        steps.len() - 1
    })
}

/// One loop for each operation, so that the compiler makes vectors of it.
fn combine(op: Binary, out: &mut [f64], a: &[f64], b: &[f64]) {
    fn each(out: &mut [f64], a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) {
        out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (&a, &b))| *out = f(a, b));
    }
    match op {
        Binary::Add => each(out, a, b, |a, b| Binary::Add.eval(a, b)),
        Binary::Sub => each(out, a, b, |a, b| Binary::Sub.eval(a, b)),
        Binary::Mul => each(out, a, b, |a, b| Binary::Mul.eval(a, b)),
        Binary::Div => each(out, a, b, |a, b| Binary::Div.eval(a, b)),
        Binary::Min => each(out, a, b, |a, b| Binary::Min.eval(a, b)),
        Binary::Max => each(out, a, b, |a, b| Binary::Max.eval(a, b)),
        Binary::Pow => each(out, a, b, |a, b| Binary::Pow.eval(a, b)),
    }
}

fn call(function: Function, out: &mut [f64], a: &[f64]) {
    fn each(out: &mut [f64], a: &[f64], f: impl Fn(f64) -> f64) {
        out.iter_mut().zip(a).for_each(|(out, &a)| *out = f(a));
    }
    match function {
        Function::Abs => each(out, a, |a| Function::Abs.eval(a)),
        Function::Sqrt => each(out, a, |a| Function::Sqrt.eval(a)),
        Function::Step => each(out, a, |a| Function::Step.eval(a)),
        Function::Sign => each(out, a, |a| Function::Sign.eval(a)),
        // Calls of a library: nothing to make vectors of.
        other => each(out, a, |a| other.eval(a)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn expression() -> impl Strategy<Value = ScalarExpr> {
        let leaf = prop_oneof![
            Just(ScalarExpr::Z),
            prop_oneof![Just(0.0), Just(-0.0), -3.0..3.0].prop_map(ScalarExpr::Const)
        ];
        leaf.prop_recursive(5, 40, 2, |inner| {
            let binary = prop::sample::select(vec![
                Binary::Add,
                Binary::Sub,
                Binary::Mul,
                Binary::Div,
                Binary::Min,
                Binary::Max,
                Binary::Pow,
            ]);
            let function = prop::sample::select(Function::ALL.map(|(function, _)| function).to_vec());
            prop_oneof![
                inner.clone().prop_map(|a| ScalarExpr::Neg(Arc::new(a))),
                (binary, inner.clone(), inner.clone()).prop_map(|(op, a, b)| ScalarExpr::Bin(
                    op,
                    Arc::new(a),
                    Arc::new(b)
                )),
                (function, inner).prop_map(|(f, a)| ScalarExpr::Call(f, Arc::new(a))),
            ]
        })
    }

    proptest! {
        #[test]
        fn blocks_have_the_values_of_the_expression(expr in expression(), count in 0usize..2 * BLOCK + 9) {
            let inputs: Vec<f64> = (0..count).map(|i| (i as f64 * 0.37).sin() * 4.0).collect();
            let mut values = inputs.clone();
            Compiled::new(&expr).apply(&mut values, |v| v, |v| v);
            for (input, value) in inputs.iter().zip(&values) {
                let expected = expr.eval(*input);
                prop_assert!(*value == expected || value.is_nan() && expected.is_nan(), "{} at {}: {}", expr, input, value);
            }
        }
    }

    #[test]
    fn what_occurs_twice_is_computed_once() {
        let sigmoid = || {
            let power = ScalarExpr::call(Function::Exp, ScalarExpr::Z.neg());
            ScalarExpr::Const(1.0).div(ScalarExpr::Const(1.0).add(power))
        };
        let slope = sigmoid().mul(ScalarExpr::Const(1.0).sub(sigmoid()));
        // z, −z, exp, 1, 1 + exp, the sigmoid; 1 − sigmoid, the product.
        assert_eq!(Compiled::new(&slope).steps.len(), 8);
    }
}
