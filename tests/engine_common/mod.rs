//! Small programs as graphs, and the comparison of a run on ciphertexts with what `simulate` predicts.
#![allow(dead_code)]

use hesn::diagnostics::{FileId, Span};
use hesn::graph::{Function, Graph, Init, NodeId, Origin, ParamId, ParamInfo, ScalarExpr, ScalarFn};
use hesn::interp::simulate::SimulateEngine;
use hesn::interp::{Batch, Trace};
use hesn::plan::layout::Layout;
use hesn::plan::lower::{Lowering, RangeOf, Target};
use hesn::plan::parameters::Parameters;
use hesn::plan::schedule::{Schedule, Source};
use hesn::plan::{Nominal, Purpose, build};
use rand::{Rng, SeedableRng};

pub struct Ranges<'a>(pub &'a Graph);

impl RangeOf for Ranges<'_> {
    fn site(&self, node: NodeId) -> f64 {
        if self.0.node(node).origin.derivative { 1.0 } else { 8.0 }
    }
    fn param(&self, _: ParamId) -> f64 {
        2.0
    }
}

pub fn sigmoid() -> ScalarExpr {
    let one = || ScalarExpr::Const(1.0);
    one().div(one().add(ScalarExpr::call(Function::Exp, ScalarExpr::Z.neg())))
}

pub fn lut(name: &str, expr: ScalarExpr, grad: ScalarExpr) -> ScalarFn {
    ScalarFn { name: name.into(), expr, grad: Some(grad) }
}

pub fn dense(g: &mut Graph, x: NodeId, n: usize, m: usize, init: Init) -> NodeId {
    let o = Origin::default();
    let info = |name: &str, shape: Vec<usize>, init: Init| ParamInfo {
        name: name.into(),
        shape,
        init,
        fan_in: n,
        range: None,
        span: Span::new(FileId(0), 0, 0),
    };
    let w = g.param(info("w", vec![n, m], init), &o).unwrap();
    let b = g.param(info("b", vec![m], Init::Constant(0.0)), &o).unwrap();
    let z = g.matmul(x, w, &o).unwrap();
    g.add(z, b, &o).unwrap()
}

/// Sum of softplus(z) − y·z + λ/2·z².
pub fn loss(g: &mut Graph, z: NodeId, y: NodeId) -> NodeId {
    let o = Origin::default();
    let softplus = ScalarExpr::call(
        Function::Log,
        ScalarExpr::Const(1.0).add(ScalarExpr::call(Function::Exp, ScalarExpr::Z)),
    );
    let a = g.lut(z, lut("softplus", softplus, sigmoid()), &o).unwrap();
    let b = g.mul(y, z, &o).unwrap();
    let square = g.mul(z, z, &o).unwrap();
    let decay = g.scale(square, 1.0 / 256.0, &o).unwrap();
    let l = g.sub(a, b, &o).unwrap();
    let l = g.add(l, decay, &o).unwrap();
    g.sum_all(l, &o).unwrap()
}

/// The gradients of a loss, and their schedule.
pub fn schedule_on(parameters: Parameters, g: &Graph, loss: NodeId, batch: usize, rate: f64) -> Schedule {
    let (mut g, outputs) = g.with_joined_biases(&[loss]).unwrap();
    let derivative = g.differentiate(outputs[0]).unwrap();
    let (params, gradients): (Vec<ParamId>, Vec<NodeId>) = derivative.gradients.iter().copied().unzip();
    let (g, gradients) = g.fused(&gradients).unwrap();
    let lowered = Lowering::run(&g, &gradients, &Ranges(&g), Target::of(parameters)).unwrap();
    let nominal = Nominal { input_rms: 1.0, argument_rms: Default::default() };
    let purpose = Purpose::Train { params: &params, rate };
    build(&g, &lowered, &Ranges(&g), (parameters, &[parameters]), batch, &nominal, &purpose).unwrap()
}

/// A model with a hidden layer: 6 inputs, 4 hidden units, 2 outputs.
pub fn mlp(activation: ScalarFn) -> (Graph, NodeId) {
    layers(&[6, 4, 2], activation)
}

/// Dense layers of these sizes with an activation between them.
pub fn layers(sizes: &[usize], activation: ScalarFn) -> (Graph, NodeId) {
    let o = Origin::default();
    let mut g = Graph::default();
    let mut x = g.input(&sizes[..1], &o).unwrap();
    for (layer, pair) in sizes.windows(2).enumerate() {
        if layer > 0 {
            x = g.lut(x, activation.clone(), &o).unwrap();
        }
        x = dense(&mut g, x, pair[0], pair[1], Init::HeNormal);
    }
    let y = g.label(&sizes[sizes.len() - 1..], &o).unwrap();
    let l = loss(&mut g, x, y);
    (g, l)
}

/// A convolution with a bias: square kernels of a size, with a stride and padding on all sides.
pub fn conv(g: &mut Graph, x: NodeId, filters: usize, size: usize, stride: usize, pad: usize) -> NodeId {
    let o = Origin::default();
    let channels = g.node(x).shape[0];
    let info = |name: &str, shape: Vec<usize>, init: Init| ParamInfo {
        name: name.into(),
        shape,
        init,
        fan_in: channels * size * size,
        range: None,
        span: Span::new(FileId(0), 0, 0),
    };
    let k = g.param(info("k", vec![filters, channels, size, size], Init::HeNormal), &o).unwrap();
    let b = g.param(info("b", vec![filters, 1, 1], Init::Constant(0.0)), &o).unwrap();
    let z = g.conv(x, k, stride, [pad; 4], &o).unwrap();
    g.add(z, b, &o).unwrap()
}

/// Two convolutions of 6×6 images with two filters each, the first one strided, and 2 outputs.
pub fn cnn(activation: &ScalarFn) -> (Graph, NodeId) {
    cnn_of([2, 2], activation)
}

/// The same with so many filters.
pub fn cnn_of(filters: [usize; 2], activation: &ScalarFn) -> (Graph, NodeId) {
    let o = Origin::default();
    let mut g = Graph::default();
    let x = g.input(&[1, 6, 6], &o).unwrap();
    let h = conv(&mut g, x, filters[0], 3, 2, 1);
    let h = g.lut(h, activation.clone(), &o).unwrap();
    let h = conv(&mut g, h, filters[1], 2, 1, 0);
    let h = g.lut(h, activation.clone(), &o).unwrap();
    let values = 4 * filters[1];
    let h = g.reshape(h, &[values], &o).unwrap();
    let z = dense(&mut g, h, values, 2, Init::HeNormal);
    let y = g.label(&[2], &o).unwrap();
    let l = loss(&mut g, z, y);
    // So that the gradients of the first layer fill their range, as they must with TFHE.
    let l = g.scale(l, 2.0, &o).unwrap();
    (g, l)
}

/// The largest value of each 2×2 window, as a tournament.
pub fn max_pool(g: &mut Graph, x: NodeId) -> NodeId {
    let o = Origin::default();
    let windows = g.window(x, [2, 2], 2, &o).unwrap();
    let shape = g.node(windows).shape[..3].to_vec();
    let mut rest = g.reshape(windows, &[shape.as_slice(), &[4]].concat(), &o).unwrap();
    for half in [2, 1] {
        let low = g.slice(rest, 3, 0, half, 1, &o).unwrap();
        let high = g.slice(rest, 3, half, half, 1, &o).unwrap();
        rest = g.max(low, high, &o).unwrap();
    }
    g.reshape(rest, &shape, &o).unwrap()
}

/// The mean of each 2×2 window.
pub fn avg_pool(g: &mut Graph, x: NodeId) -> NodeId {
    let o = Origin::default();
    let windows = g.window(x, [2, 2], 2, &o).unwrap();
    let rows = g.sum(windows, 4, &o).unwrap();
    let sum = g.sum(rows, 3, &o).unwrap();
    g.scale(sum, 0.25, &o).unwrap()
}

/// A convolution of 8×8 images with a max-pool before the activation, another one with a mean pool behind it, 2 outputs.
pub fn pooled(activation: &ScalarFn) -> (Graph, NodeId) {
    let o = Origin::default();
    let mut g = Graph::default();
    let x = g.input(&[1, 8, 8], &o).unwrap();
    let h = conv(&mut g, x, 2, 3, 1, 1);
    let h = max_pool(&mut g, h);
    let h = g.lut(h, activation.clone(), &o).unwrap();
    let h = conv(&mut g, h, 2, 3, 1, 1);
    let h = g.lut(h, activation.clone(), &o).unwrap();
    let h = avg_pool(&mut g, h);
    let h = g.reshape(h, &[8], &o).unwrap();
    let z = dense(&mut g, h, 8, 2, Init::HeNormal);
    let y = g.label(&[2], &o).unwrap();
    let l = loss(&mut g, z, y);
    let l = g.scale(l, 2.0, &o).unwrap();
    (g, l)
}

pub struct Sample {
    pub features: Vec<f32>,
    pub labels: Vec<f32>,
}

pub fn samples(count: usize, inputs: usize, outputs: usize) -> Sample {
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(11);
    Sample {
        features: (0..count * inputs).map(|_| rng.random_range(-1.0..1.0)).collect(),
        labels: (0..count * outputs).map(|_| f32::from(rng.random_bool(0.5))).collect(),
    }
}

pub fn initial(schedule: &Schedule) -> Vec<Vec<f32>> {
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(5);
    schedule.masters.iter().map(|m| (0..m.elements).map(|_| rng.random_range(-0.8..0.8)).collect()).collect()
}

/// A run on ciphertexts against simulations of it, and that the noise is not all there is to see.
pub fn encrypted_is_as_simulated(
    schedule: &Schedule,
    batch: &Batch<'_>,
    initial: &[Vec<f32>],
    encrypted: &Trace,
) {
    let hidden = hidden_by_noise(schedule, batch, initial, encrypted);
    // Behind several tables of seven bits, gradients may drown in it.
    let most = (schedule.operands.len() + schedule.products.len()) / 8;
    let most = if schedule.parameters.is_ckks() { 0 } else { most };
    assert!(hidden.len() <= most, "{hidden:?}");
}

/// A run on ciphertexts against simulations of it, value by value: they differ no more than simulations among themselves. Returns
/// the tensors that are smaller than their noise.
pub fn hidden_by_noise(
    schedule: &Schedule,
    batch: &Batch<'_>,
    initial: &[Vec<f32>],
    encrypted: &Trace,
) -> Vec<String> {
    let traces: Vec<_> = (0..9)
        .map(|seed| SimulateEngine::new(schedule, initial.to_vec(), seed).trace(batch).unwrap())
        .collect();
    let rms = |a: &[i64], b: &[i64]| {
        let t = schedule.modulus() as i64;
        let square = |(x, y): (&i64, &i64)| (((x - y + t / 2).rem_euclid(t) - t / 2) as f64).powi(2);
        (a.iter().zip(b).map(square).sum::<f64>() / a.len().max(1) as f64).sqrt()
    };
    let mut hidden = Vec::new();
    let mut check = |what: String, encrypted: &[i64], runs: Vec<&[i64]>, floor: f64| {
        assert_eq!(encrypted.len(), runs[0].len(), "{what}");
        let pooled = |own: &[i64], others: &[&[i64]]| {
            (others.iter().map(|run| rms(own, run).powi(2)).sum::<f64>() / others.len() as f64).sqrt()
        };
        let found = pooled(encrypted, &runs);
        let spread: Vec<f64> = (0..runs.len() - 1).map(|i| pooled(runs[i], &runs[i + 1..])).collect();
        let expected = spread.iter().copied().fold(floor, f64::max);
        println!(
            "{what}: encrypted against simulate {found:.1} units, simulate against itself {expected:.1}"
        );
        assert!(found <= 2.0 * expected, "{what}: {found} against {expected}");
        let size = rms(runs[0], &vec![0; runs[0].len()]);
        if size < found {
            hidden.push(format!("{what}: values of {size} units, error {found}"));
        }
    };
    for (i, operand) in schedule.operands.iter().enumerate() {
        let runs = traces.iter().map(|trace| &*trace.operands[i]).collect();
        check(format!("operand {i}"), &encrypted.operands[i], runs, operand.noise.max(1.0));
    }
    for (i, product) in schedule.products.iter().enumerate() {
        let runs = traces.iter().map(|trace| &*trace.products[i]).collect();
        check(format!("product {i}"), &encrypted.products[i], runs, product.noise.max(1.0));
    }
    hidden
}

/// Every operand and product of a step on ciphertexts: `integers` decrypts the places of a layout for so many samples.
pub fn traced(
    schedule: &Schedule,
    batch: &Batch<'_>,
    integers: impl Fn(Source, &Layout, usize) -> Vec<i64>,
) -> Trace {
    let samples = |per_sample: bool| if per_sample { batch.size } else { 1 };
    let operands = schedule.operands.iter().enumerate();
    let products = schedule.products.iter().enumerate();
    Trace {
        operands: operands
            .map(|(i, own)| integers(Source::Operand(i), &own.layout, samples(own.per_sample)))
            .collect(),
        products: products
            .map(|(i, own)| integers(Source::Product(i), &own.layout, samples(own.per_sample())))
            .collect(),
    }
}

/// A linear model of five inputs: its loss, samples that it can tell apart, and its training in floating point.
pub struct Logistic {
    pub graph: Graph,
    pub loss: NodeId,
    pub sample: Sample,
    pub weights: Vec<f64>,
}

impl Logistic {
    pub fn new(size: usize) -> Self {
        let o = Origin::default();
        let mut graph = Graph::default();
        let x = graph.input(&[5], &o).unwrap();
        let z = dense(&mut graph, x, 5, 1, Init::Constant(0.0));
        let y = graph.label(&[1], &o).unwrap();
        let loss = loss(&mut graph, z, y);
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(3);
        let features: Vec<f32> = (0..size * 5).map(|_| rng.random_range(-1.5..1.5)).collect();
        let labels = features.chunks(5).map(|r| f32::from(r[0] - 0.5 * r[1] + 0.2 * r[4] > 0.1)).collect();
        Self { graph, loss, sample: Sample { features, labels }, weights: vec![0.0; 6] }
    }

    pub fn batch(&self) -> Batch<'_> {
        let Sample { features, labels } = &self.sample;
        Batch { index: 0, size: labels.len(), features, labels, arguments: None }
    }

    /// One step at rate 1/2.
    pub fn step(&mut self) {
        let Sample { features, labels } = &self.sample;
        let reference = &mut self.weights;
        let mut gradient = vec![0f64; 6];
        for (row, y) in features.chunks(5).zip(labels) {
            let z: f64 = row.iter().zip(&*reference).map(|(x, w)| *x as f64 * w).sum::<f64>() + reference[5];
            let delta = 1.0 / (1.0 + (-z).exp()) - *y as f64 + z / 128.0;
            row.iter().chain(&[1.0]).zip(&mut gradient).for_each(|(x, g)| *g += *x as f64 * delta);
        }
        reference.iter_mut().zip(&gradient).for_each(|(w, g)| *w -= 0.5 / labels.len() as f64 * g);
    }

    /// That simulated and decrypted weights are as near to those in floating point.
    pub fn assert_near(&self, simulated: &[f32], decrypted: &[f32], distance: f64) {
        let reference = &self.weights;
        println!("float {reference:.4?}\nsimulate {simulated:.4?}\nencrypted {decrypted:.4?}");
        for ((s, e), w) in simulated.iter().zip(decrypted).zip(reference) {
            assert!((f64::from(*s) - w).abs() < distance, "simulate {s} against float {w}");
            assert!((f64::from(*e) - w).abs() < distance, "encrypted {e} against float {w}");
        }
    }
}
