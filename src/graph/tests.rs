//! Derivatives against finite differences, for every operation and for random graphs; fusion keeps values.

use proptest::prelude::*;

use super::*;
use crate::interp::Batch;
use crate::interp::clear::evaluate;

const BATCH: usize = 3;
/// Of the finite differences: small beside the bends, large beside the rounding of f32.
const STEP: f32 = 1e-2;

/// A graph under construction, with the values of its parameters.
#[derive(Clone, Default)]
pub(super) struct Model {
    pub graph: Graph,
    pub params: Vec<Vec<f32>>,
    pub inputs: usize,
    pub labels: usize,
    /// Samples, if not [`BATCH`].
    pub batch: Option<usize>,
}

/// Numbers in (−1, 1) that look random and stay away from zero.
pub(super) fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let unit = (state >> 8) as f32 / (1 << 24) as f32;
            (0.1 + 0.9 * unit) * if state & 0x80 == 0 { 1.0 } else { -1.0 }
        })
        .collect()
}

pub(super) fn origin() -> Origin {
    Origin::default()
}

impl Model {
    pub fn input(&mut self, shape: &[usize]) -> NodeId {
        self.inputs = elements(shape);
        self.graph.input(shape, &origin()).unwrap()
    }

    fn label(&mut self, shape: &[usize]) -> NodeId {
        self.labels = elements(shape);
        self.graph.label(shape, &origin()).unwrap()
    }

    pub fn param(&mut self, shape: &[usize]) -> NodeId {
        let seed = self.params.len() as u32 + 77;
        self.params.push(numbers(elements(shape), seed).iter().map(|v| 0.7 * v).collect());
        let info = ParamInfo {
            name: format!("p{seed}"),
            shape: shape.to_vec(),
            init: Init::Constant(0.0),
            fan_in: 1,
            range: None,
            span: crate::diagnostics::Span::new(crate::diagnostics::FileId(0), 0, 0),
        };
        self.graph.param(info, &origin()).unwrap()
    }

    fn values(&self, graph: &Graph, outputs: &[NodeId], params: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let size = self.batch.unwrap_or(BATCH);
        let (features, labels) = (numbers(size * self.inputs, 1), numbers(size * self.labels, 2));
        let batch = Batch { index: 0, size, features: &features, labels: &labels, arguments: None };
        evaluate(graph, outputs, params, &batch).unwrap()
    }

    fn loss(&self, loss: NodeId, params: &[Vec<f32>]) -> f64 {
        self.values(&self.graph, &[loss], params)[0].iter().map(|&v| f64::from(v)).sum()
    }

    /// The sum of a smooth function of every element, so that the gradients at `node` differ.
    pub fn finish(&mut self, node: NodeId) -> NodeId {
        let weights = numbers(self.graph.node(node).elements(), 5).iter().map(|&v| f64::from(v)).collect();
        let shape = self.graph.node(node).shape.clone();
        let weights = self.graph.constant_tensor(weights, &shape, &origin()).unwrap();
        let squares = self.graph.mul(node, node, &origin()).unwrap();
        let sum = self.graph.add(squares, node, &origin()).unwrap();
        let weighted = self.graph.mul(sum, weights, &origin()).unwrap();
        self.graph.sum_all(weighted, &origin()).unwrap()
    }

    /// Compares the derivative of `loss` with finite differences; returns how many components could be compared.
    pub fn check(&self, loss: NodeId) -> usize {
        let mut graph = self.graph.clone();
        let derivative = graph.differentiate(loss).unwrap();
        let (ids, nodes): (Vec<ParamId>, Vec<NodeId>) = derivative.gradients.into_iter().unzip();
        let gradients = self.values(&graph, &nodes, &self.params);
        let (fused, moved) = graph.fused(&nodes).unwrap();
        let fused = self.values(&fused, &moved, &self.params);
        let mut compared = 0;
        for (k, param) in ids.iter().enumerate() {
            let param = param.0 as usize;
            for i in 0..self.params[param].len() {
                let got = f64::from(gradients[k][i]);
                let scale = 1.0 + got.abs();
                let from_fused = f64::from(fused[k][i]);
                assert!((got - from_fused).abs() < 1e-3 * scale, "fusion changes {got} to {from_fused}");
                let at = |h: f32| {
                    let mut params = self.params.clone();
                    params[param][i] += h;
                    self.loss(loss, &params)
                };
                let here = at(0.0);
                let slopes = |h: f32| ((at(h) - here) / f64::from(h), (here - at(-h)) / f64::from(h));
                let (right, left) = slopes(STEP / 4.0);
                let (further_right, further_left) = slopes(STEP);
                let near = (right + left) / 2.0;
                let all = [right, left, further_right, further_left];
                let spread =
                    all.into_iter().fold(f64::MIN, f64::max) - all.into_iter().fold(f64::MAX, f64::min);
                // Where they disagree there is a kink, or the function bends too much for f32.
                if spread < 5e-2 * scale {
                    assert!(
                        (got - near).abs() < 3e-2 * scale,
                        "parameter {param}[{i}]: {got}, by differences {near}"
                    );
                    compared += 1;
                }
            }
        }
        compared
    }
}

pub(super) fn lut(name: &str, expr: ScalarExpr) -> ScalarFn {
    ScalarFn { name: name.into(), expr, grad: None }
}

pub(super) fn sigmoid() -> ScalarFn {
    let one = || ScalarExpr::Const(1.0);
    lut("sigmoid", one().div(one().add(ScalarExpr::call(Function::Exp, ScalarExpr::Z.neg()))))
}

pub(super) fn tanh() -> ScalarFn {
    lut("tanh", ScalarExpr::call(Function::Tanh, ScalarExpr::Z))
}

/// Checks `f(x, w)` for an input and a parameter of these shapes; few components may lie at a kink or a sharp bend.
fn check_op(x: &[usize], w: &[usize], f: impl Fn(&mut Graph, NodeId, NodeId) -> NodeId) {
    let mut model = Model::default();
    let (input, param) = (model.input(x), model.param(w));
    let result = f(&mut model.graph, input, param);
    let loss = model.finish(result);
    let compared = model.check(loss);
    assert!(4 * compared >= 3 * elements(w), "only {compared} of {} could be compared", elements(w));
}

#[test]
fn products_differentiate() {
    let o = origin();
    check_op(&[4], &[4, 3], |g, x, w| g.matmul(x, w, &o).unwrap());
    check_op(&[2, 4], &[4, 3], |g, x, w| g.matmul(x, w, &o).unwrap());
    check_op(&[2, 4], &[4], |g, x, w| g.matmul(x, w, &o).unwrap());
    check_op(&[4], &[4], |g, x, w| g.matmul(x, w, &o).unwrap());
    check_op(&[4], &[2, 4], |g, x, w| {
        let turned = g.transpose(w, &[1, 0], &o).unwrap();
        g.matmul(x, turned, &o).unwrap()
    });
}

#[test]
fn convolutions_differentiate() {
    let o = origin();
    for (stride, pad) in [(1, [0; 4]), (1, [1, 1, 2, 0]), (2, [1, 0, 0, 1]), (3, [2; 4])] {
        check_op(&[2, 5, 4], &[3, 2, 3, 2], |g, x, k| g.conv(x, k, stride, pad, &o).unwrap());
        // The gradient for the image: the parameter is the image.
        check_op(&[3, 2, 3, 2], &[2, 5, 4], |g, k, x| g.conv(x, k, stride, pad, &o).unwrap());
    }
}

#[test]
fn operations_by_elements_differentiate() {
    let o = origin();
    check_op(&[3], &[2, 3], |g, x, w| g.add(x, w, &o).unwrap());
    check_op(&[2, 3], &[3], |g, x, w| g.sub(x, w, &o).unwrap());
    check_op(&[2, 3], &[2, 1], |g, x, w| g.mul(x, w, &o).unwrap());
    check_op(&[2, 3], &[3], |g, x, w| {
        let scaled = g.scale(w, -1.5, &o).unwrap();
        let moved = g.offset(scaled, 0.25, &o).unwrap();
        g.mul(moved, x, &o).unwrap()
    });
    check_op(&[3], &[3], |g, x, w| {
        let sum = g.add(x, w, &o).unwrap();
        g.lut(sum, sigmoid(), &o).unwrap()
    });
    check_op(&[3], &[3], |g, x, w| {
        let refreshed = g.refresh(w, &o).unwrap();
        g.mul(refreshed, x, &o).unwrap()
    });
}

#[test]
fn a_written_gradient_replaces_the_symbolic_one() {
    let mut model = Model::default();
    let w = model.param(&[2]);
    let odd = ScalarFn { grad: Some(ScalarExpr::Const(7.0)), ..tanh() };
    let value = model.graph.lut(w, odd, &origin()).unwrap();
    let loss = model.graph.sum_all(value, &origin()).unwrap();
    let mut graph = model.graph.clone();
    let gradient = graph.differentiate(loss).unwrap().gradients[0].1;
    assert_eq!(model.values(&graph, &[gradient], &model.params), vec![vec![7.0, 7.0]]);
}

#[test]
fn movements_differentiate() {
    let o = origin();
    let image = [2, 4, 4];
    check_op(&image, &image, |g, x, w| {
        let windows = g.window(w, [2, 2], 2, &o).unwrap();
        let xs = g.window(x, [2, 2], 2, &o).unwrap();
        g.mul(windows, xs, &o).unwrap()
    });
    // Overlapping windows: an element is taken more than once.
    check_op(&image, &image, |g, x, w| {
        let sum = g.add(x, w, &o).unwrap();
        g.window(sum, [3, 2], 1, &o).unwrap()
    });
    check_op(&[2, 3], &[2, 3], |g, x, w| {
        let part = g.slice(w, 1, 0, 2, 2, &o).unwrap();
        let joined = g.concat(&[part, x, w], 1, &o).unwrap();
        let padded = g.pad(joined, 0, 1, 2, &o).unwrap();
        let shaped = g.reshape(padded, &[8, 5], &o).unwrap();
        g.transpose(shaped, &[1, 0], &o).unwrap()
    });
    check_op(&[2, 3], &[2, 3], |g, x, w| {
        let both = g.mul(x, w, &o).unwrap();
        let (sum, mean) = (g.sum(both, 0, &o).unwrap(), g.mean(w, 1, &o).unwrap());
        let all = g.sum_all(both, &o).unwrap();
        let mean = g.reshape(mean, &[2, 1], &o).unwrap();
        let table = g.add(sum, mean, &o).unwrap();
        g.add(table, all, &o).unwrap()
    });
}

#[test]
fn max_pooling_by_a_tournament_differentiates() {
    let o = origin();
    check_op(&[1, 4, 4], &[2, 1, 3, 3], |g, x, k| {
        let z = g.conv(x, k, 1, [1; 4], &o).unwrap();
        let windows = g.window(z, [2, 2], 2, &o).unwrap();
        let flat = g.reshape(windows, &[8, 4], &o).unwrap();
        let of = |g: &mut Graph, at| g.slice(flat, 1, at, 1, 1, &o).unwrap();
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| of(g, at));
        let (left, right) = (g.max(a, b, &o).unwrap(), g.max(c, d, &o).unwrap());
        g.max(left, right, &o).unwrap()
    });
}

#[test]
fn a_loss_that_is_linear_in_a_shared_value_counts_every_sample() {
    let mut model = Model::default();
    let (x, w, b) = (model.input(&[2]), model.param(&[2, 3]), model.param(&[3]));
    let z = model.graph.matmul(x, w, &origin()).unwrap();
    let z = model.graph.add(z, b, &origin()).unwrap();
    let loss = model.graph.sum_all(z, &origin()).unwrap();
    assert_eq!(model.check(loss), 9);
}

#[test]
fn a_bias_joined_to_its_weights_changes_no_value() {
    let o = origin();
    let mut model = Model::default();
    let (x, w, b) = (model.input(&[4]), model.param(&[4, 3]), model.param(&[3]));
    let product = model.graph.matmul(x, w, &o).unwrap();
    let z = model.graph.add(b, product, &o).unwrap();
    let h = model.graph.lut(z, tanh(), &o).unwrap();
    let (joined, outputs) = model.graph.with_joined_biases(&[h]).unwrap();
    assert_eq!(joined.params().len(), 1);
    // The bias is the last row.
    let stacked = vec![model.params.concat()];
    let (before, after) =
        (model.values(&model.graph, &[h], &model.params), model.values(&joined, &outputs, &stacked));
    for (x, y) in before[0].iter().zip(&after[0]) {
        assert!((x - y).abs() < 1e-5, "{x} became {y}");
    }
}

/// A layer that Rust has never heard of, `tanh(x@A) * (x@B) + sin(mean(x)) * c`, trained on a classification.
#[test]
fn a_layer_that_nobody_named_learns() {
    use crate::interp::clear::ClearEngine;
    use crate::interp::{Engine, Unwatched};
    let o = origin();
    let mut model = Model::default();
    let (x, y) = (model.input(&[4]), model.label(&[2]));
    let (a, b, c) = (model.param(&[4, 2]), model.param(&[4, 2]), model.param(&[2]));
    let g = &mut model.graph;
    let (gate, value) = (g.matmul(x, a, &o).unwrap(), g.matmul(x, b, &o).unwrap());
    let gate = g.lut(gate, tanh(), &o).unwrap();
    let mean = g.mean(x, 0, &o).unwrap();
    let wave = g.lut(mean, lut("wave", ScalarExpr::call(Function::Sin, ScalarExpr::Z)), &o).unwrap();
    let gated = g.mul(gate, value, &o).unwrap();
    let waved = g.mul(wave, c, &o).unwrap();
    let z = g.add(gated, waved, &o).unwrap();
    let error = g.sub(z, y, &o).unwrap();
    let squares = g.mul(error, error, &o).unwrap();
    let loss = g.sum_all(squares, &o).unwrap();
    assert_eq!(model.check(loss), 18);

    let before = model.loss(loss, &model.params);
    let mut engine = ClearEngine::for_loss(&model.graph, loss, 0.05, model.params.clone()).unwrap();
    let (features, labels) = (numbers(BATCH * 4, 1), numbers(BATCH * 2, 2));
    let batch = Batch { index: 0, size: BATCH, features: &features, labels: &labels, arguments: None };
    for _ in 0..400 {
        engine.step(&batch, &Unwatched).unwrap();
    }
    let after = model.loss(loss, &engine.parameters().unwrap());
    assert!(after < 0.05 * before, "the loss went from {before} to {after}");
}

/// One step in building a random graph: an operation, and two numbers that choose its operands and sizes.
fn grow(model: &mut Model, pool: &mut Vec<NodeId>, (op, i, j): (u8, usize, usize)) {
    let o = origin();
    let (a, b) = (pool[i % pool.len()], pool[j % pool.len()]);
    let shape = model.graph.node(a).shape.clone();
    let axis = j % shape.len().max(1);
    let g = &mut model.graph;
    let built = match op % 18 {
        0 | 1 => {
            let n = shape.last().copied().unwrap_or(1);
            let w = model.param(&[n, 1 + j % 3]);
            model.graph.matmul(a, w, &o)
        }
        2 => g.matmul(a, b, &o),
        3 => g.add(a, b, &o),
        4 => g.sub(a, b, &o),
        5 => g.mul(a, b, &o),
        6 => g.scale(a, 0.5 - j as f64 % 4.0, &o),
        7 => g.offset(a, j as f64 % 3.0 - 1.0, &o),
        8 => g.lut(a, if j % 2 == 0 { tanh() } else { sigmoid() }, &o),
        9 => g.sum(a, axis, &o),
        10 => g.mean(a, axis, &o),
        11 => g.max(a, b, &o),
        12 => g.concat(&[a, b, a], axis, &o),
        13 => g.pad(a, axis, j % 2, i % 2, &o),
        14 => g.slice(a, axis, j % 2, 1 + i % 2, 1 + j % 2, &o),
        15 => {
            let order: Vec<usize> = (0..shape.len()).rev().collect();
            g.transpose(a, &order, &o)
        }
        16 => g.window(a, [1 + i % 2, 1 + j % 2], 1 + j % 2, &o),
        _ => match shape.as_slice() {
            [channels, ..] if shape.len() == 3 => {
                let kernel = model.param(&[1 + i % 2, *channels, 2, 1 + j % 2]);
                model.graph.conv(a, kernel, 1 + i % 2, [i % 2, j % 2, 0, 1], &o)
            }
            _ => {
                let size = elements(&shape);
                g.reshape(a, &[1, size, 1], &o)
            }
        },
    };
    // What does not fit together is left out, and what grows too large.
    if let Ok(node) = built
        && model.graph.node(node).elements() <= 64
    {
        pool.push(node);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn random_graphs_differentiate_and_fuse(
        steps in prop::collection::vec((any::<u8>(), 0usize..64, 0usize..64), 1..14)
    ) {
        let mut model = Model::default();
        let (x, y) = (model.input(&[2, 3, 2]), model.label(&[2]));
        let mut pool = vec![x, y, model.param(&[2])];
        for step in steps {
            grow(&mut model, &mut pool, step);
        }
        // Bounded, so that f32 differences mean something; the mean keeps the sum small.
        let mut sum = model.graph.constant(0.0, &[], &origin()).unwrap();
        for &node in pool.iter().rev().take(3) {
            let bounded = model.graph.lut(node, tanh(), &origin()).unwrap();
            let weight = 1.0 / elements(&model.graph.node(node).shape) as f64;
            let total = model.graph.sum_all(bounded, &origin()).unwrap();
            let mean = model.graph.scale(total, weight, &origin()).unwrap();
            sum = model.graph.add(sum, mean, &origin()).unwrap();
        }
        model.check(sum);
    }
}
