//! Small programs as graphs, and the comparison of a run on ciphertexts with what `simulate` predicts.
#![allow(dead_code)]

use hesn::diagnostics::{FileId, Span};
use hesn::graph::{Function, Graph, Init, NodeId, Origin, ParamId, ParamInfo, ScalarExpr, ScalarFn};
use hesn::interp::simulate::SimulateEngine;
use hesn::interp::{Batch, Trace};
use hesn::plan::lower::{Lowering, RangeOf, Target};
use hesn::plan::parameters::Parameters;
use hesn::plan::schedule::Schedule;
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
    build(&g, lowered, &Ranges(&g), parameters, batch, &nominal, &purpose).unwrap()
}

/// A model with a hidden layer: 6 inputs, 4 hidden units, 2 outputs.
pub fn mlp(activation: ScalarFn) -> (Graph, NodeId) {
    let o = Origin::default();
    let mut g = Graph::default();
    let x = g.input(&[6], &o).unwrap();
    let h = dense(&mut g, x, 6, 4, Init::HeNormal);
    let h = g.lut(h, activation, &o).unwrap();
    let z = dense(&mut g, h, 4, 2, Init::HeNormal);
    let y = g.label(&[2], &o).unwrap();
    let l = loss(&mut g, z, y);
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

/// A run on ciphertexts against simulations of it, value by value: they differ no more than simulations among themselves.
pub fn encrypted_is_as_simulated(
    schedule: &Schedule,
    batch: &Batch<'_>,
    initial: &[Vec<f32>],
    encrypted: &Trace,
) {
    let traces: Vec<_> = (0..9)
        .map(|seed| SimulateEngine::new(schedule, initial.to_vec(), seed).unwrap().trace(batch).unwrap())
        .collect();
    let rms = |a: &[i64], b: &[i64]| {
        let t = schedule.modulus() as i64;
        let square = |(x, y): (&i64, &i64)| (((x - y + t / 2).rem_euclid(t) - t / 2) as f64).powi(2);
        (a.iter().zip(b).map(square).sum::<f64>() / a.len().max(1) as f64).sqrt()
    };
    let check = |what: String, encrypted: &[i64], runs: Vec<&[i64]>, floor: f64| {
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
        // Noise must not be all there is to see.
        let size = rms(runs[0], &vec![0; runs[0].len()]);
        assert!(size >= found, "{what}: values of {size} units, error {found}");
    };
    for (i, operand) in schedule.operands.iter().enumerate() {
        let runs = traces.iter().map(|trace| &*trace.operands[i]).collect();
        check(format!("operand {i}"), &encrypted.operands[i], runs, operand.noise.max(1.0));
    }
    for (i, product) in schedule.products.iter().enumerate() {
        let runs = traces.iter().map(|trace| &*trace.products[i]).collect();
        check(format!("product {i}"), &encrypted.products[i], runs, product.noise.max(1.0));
    }
}
