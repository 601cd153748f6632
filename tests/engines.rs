//! The engines against each other on small programs: what `simulate` predicts, `encrypted` shows.
#![cfg(feature = "client")]

use hesn::diagnostics::{FileId, Span};
use hesn::graph::{Binary, Function, Graph, Init, NodeId, Origin, ParamId, ParamInfo, ScalarExpr, ScalarFn};
use hesn::he::params;
use hesn::interp::encrypted::Server;
use hesn::interp::simulate::SimulateEngine;
use hesn::interp::{Batch, Engine, Unwatched};
use hesn::plan::lower::{Lowering, RangeOf};
use hesn::plan::schedule::Schedule;
use hesn::plan::{Nominal, Purpose, build};
use hesn::run::client::Client;
use rand::{Rng, SeedableRng};

struct Ranges<'a>(&'a Graph);

impl RangeOf for Ranges<'_> {
    fn site(&self, node: NodeId) -> f64 {
        if self.0.node(node).origin.derivative { 1.0 } else { 8.0 }
    }
    fn param(&self, _: ParamId) -> f64 {
        2.0
    }
}

fn sigmoid() -> ScalarExpr {
    let one = || ScalarExpr::Const(1.0);
    one().div(one().add(ScalarExpr::call(Function::Exp, ScalarExpr::Z.neg())))
}

fn lut(name: &str, expr: ScalarExpr, grad: ScalarExpr) -> ScalarFn {
    ScalarFn { name: name.into(), expr, grad: Some(grad) }
}

fn dense(g: &mut Graph, x: NodeId, n: usize, m: usize, init: Init) -> NodeId {
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
fn loss(g: &mut Graph, z: NodeId, y: NodeId) -> NodeId {
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

fn schedule(g: &Graph, loss: NodeId, batch: usize, rate: f64) -> (Graph, Schedule) {
    schedule_on("standard", 1, g, loss, batch, rate)
}

fn schedule_on(
    profile: &str,
    depth: usize,
    g: &Graph,
    loss: NodeId,
    batch: usize,
    rate: f64,
) -> (Graph, Schedule) {
    let (mut g, outputs) = g.with_joined_biases(&[loss]).unwrap();
    let derivative = g.differentiate(outputs[0]).unwrap();
    let (params, gradients): (Vec<ParamId>, Vec<NodeId>) = derivative.gradients.iter().copied().unzip();
    let (g, gradients) = g.fused(&gradients).unwrap();
    let lowered = Lowering::run(&g, &gradients, &Ranges(&g), depth, 4096).unwrap();
    let nominal = Nominal { input_rms: 1.0, argument_rms: Default::default() };
    let profile = params::profile(profile).unwrap();
    let purpose = Purpose::Train { params: &params, rate };
    let schedule = build(&g, lowered, &Ranges(&g), profile, batch, &nominal, &purpose).unwrap();
    (g, schedule)
}

#[test]
fn logistic_regression_learns_encrypted_as_simulated() {
    let o = Origin::default();
    let mut g = Graph::default();
    let x = g.input(&[5], &o).unwrap();
    let z = dense(&mut g, x, 5, 1, Init::Constant(0.0));
    let y = g.label(&[1], &o).unwrap();
    let l = loss(&mut g, z, y);
    let batch = 24;
    let (_, schedule) = schedule(&g, l, batch, 0.5);
    assert_eq!(schedule.luts(), 24 + 6);

    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(3);
    let features: Vec<f32> = (0..batch * 5).map(|_| rng.random_range(-1.5..1.5)).collect();
    let labels: Vec<f32> =
        features.chunks(5).map(|r| f32::from(r[0] - 0.5 * r[1] + 0.2 * r[4] > 0.1)).collect();
    let batch = Batch { index: 0, size: batch, features: &features, labels: &labels, arguments: None };

    let initial = vec![vec![0.0; 6]];
    let mut simulate = SimulateEngine::new(&schedule, initial.clone(), 1).unwrap();
    let client = Client::new(schedule.parameters.tfhe().unwrap()).unwrap();
    let keys = client.server_keys(&schedule, &|_, _| ()).unwrap();
    let encrypted = client.encrypt(&schedule, &batch).unwrap();
    let mut server = Server::new(keys, &schedule, initial.clone()).unwrap();

    let mut reference = vec![0f64; 6];
    for _ in 0..6 {
        simulate.step(&batch, &Unwatched).unwrap();
        server.step(&encrypted, &Unwatched).unwrap();
        let mut gradient = vec![0f64; 6];
        for (row, y) in features.chunks(5).zip(&labels) {
            let z: f64 = row.iter().zip(&reference).map(|(x, w)| *x as f64 * w).sum::<f64>() + reference[5];
            let delta = 1.0 / (1.0 + (-z).exp()) - *y as f64 + z / 128.0;
            row.iter().chain(&[1.0]).zip(&mut gradient).for_each(|(x, g)| *g += *x as f64 * delta);
        }
        reference.iter_mut().zip(&gradient).for_each(|(w, g)| *w -= 0.5 / 24.0 * g);
    }
    let simulated = simulate.parameters().unwrap();
    let decrypted = client.weights(&schedule, server.masters(), server.initial()).unwrap();
    println!("float {reference:.3?}\nsimulate {simulated:.3?}\nencrypted {decrypted:.3?}");
    for ((s, e), w) in simulated[0].iter().zip(&decrypted[0]).zip(&reference) {
        assert!((f64::from(*s) - w).abs() < 0.03, "simulate {s} against float {w}");
        assert!((f64::from(*e) - w).abs() < 0.03, "encrypted {e} against float {w}");
    }
}

/// Runs one step on both engines and compares every operand and every product, integer by integer.
fn encrypted_computes_what_simulate_predicts(schedule: &Schedule, batch: &Batch<'_>, initial: Vec<Vec<f32>>) {
    let client = Client::new(schedule.parameters.tfhe().unwrap()).unwrap();
    let keys = client.server_keys(schedule, &|_, _| ()).unwrap();
    let encrypted = client.encrypt(schedule, batch).unwrap();
    let server = Server::new(keys, schedule, initial.clone()).unwrap();
    let state = server.run(&encrypted, &Unwatched).unwrap();
    // Two runs of the simulator differ as much as a run of it and the encrypted one may.
    let traces: Vec<_> = (0..9)
        .map(|seed| SimulateEngine::new(schedule, initial.clone(), seed).unwrap().trace(batch).unwrap())
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
        let samples = if operand.per_sample { batch.size } else { 1 };
        let own = client.integers(schedule, &operand.layout, &state.operands[i], samples).unwrap();
        let runs = traces.iter().map(|trace| &*trace.operands[i]).collect();
        check(format!("operand {i}"), &own, runs, operand.noise.max(1.0));
    }
    for (i, product) in schedule.products.iter().enumerate() {
        assert!(state.products[i].iter().all(|c| c.level() == product.level), "switched down");
        let samples = if product.per_sample() { batch.size } else { 1 };
        let own = client.integers(schedule, &product.layout, &state.products[i], samples).unwrap();
        let runs = traces.iter().map(|trace| &*trace.products[i]).collect();
        check(format!("product {i}"), &own, runs, product.noise.max(1.0));
    }
}

struct Sample {
    features: Vec<f32>,
    labels: Vec<f32>,
}

fn samples(count: usize, inputs: usize, outputs: usize) -> Sample {
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(11);
    Sample {
        features: (0..count * inputs).map(|_| rng.random_range(-1.0..1.0)).collect(),
        labels: (0..count * outputs).map(|_| f32::from(rng.random_bool(0.5))).collect(),
    }
}

fn initial(schedule: &Schedule) -> Vec<Vec<f32>> {
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(5);
    schedule.masters.iter().map(|m| (0..m.elements).map(|_| rng.random_range(-0.8..0.8)).collect()).collect()
}

fn mlp(activation: ScalarFn) -> (Graph, NodeId) {
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

#[test]
fn hidden_layers_with_masks_compute_what_simulate_predicts() {
    let relu = ScalarExpr::bin(Binary::Max, ScalarExpr::Z, ScalarExpr::Const(0.0));
    let (g, l) = mlp(lut("relu", relu, ScalarExpr::call(Function::Step, ScalarExpr::Z)));
    let (_, schedule) = schedule(&g, l, 6, 0.5);
    // Two refreshes (28 + 10), relu with its mask (24), the loss (12), the masked gradient (24).
    assert_eq!(schedule.luts(), 28 + 10 + 24 + 12 + 24);
    let sample = samples(6, 6, 2);
    let batch =
        Batch { index: 0, size: 6, features: &sample.features, labels: &sample.labels, arguments: None };
    encrypted_computes_what_simulate_predicts(&schedule, &batch, initial(&schedule));
}

#[test]
fn products_of_two_encrypted_values_are_quarter_squares() {
    let slope = sigmoid().mul(ScalarExpr::Const(1.0).sub(sigmoid()));
    let (g, l) = mlp(lut("sigmoid", sigmoid(), slope));
    let (_, schedule) = schedule(&g, l, 3, 0.5);
    let sample = samples(3, 6, 2);
    let batch =
        Batch { index: 0, size: 3, features: &sample.features, labels: &sample.labels, arguments: None };
    encrypted_computes_what_simulate_predicts(&schedule, &batch, initial(&schedule));
}

#[test]
fn two_products_in_a_row_use_the_deep_ring() {
    let o = Origin::default();
    let mut g = Graph::default();
    let x = g.input(&[6], &o).unwrap();
    let h = dense(&mut g, x, 6, 3, Init::HeNormal);
    let info = ParamInfo {
        name: "v".into(),
        shape: vec![3, 2],
        init: Init::HeNormal,
        fan_in: 3,
        range: None,
        span: Span::new(FileId(0), 0, 0),
    };
    let v = g.param(info, &o).unwrap();
    let z = g.matmul(h, v, &o).unwrap();
    let y = g.label(&[2], &o).unwrap();
    let l = loss(&mut g, z, y);
    let (_, schedule) = schedule_on("deep", 2, &g, l, 4, 0.5);
    assert_eq!(schedule.products.iter().map(|p| p.level).max(), Some(1));
    let sample = samples(4, 6, 2);
    let batch =
        Batch { index: 0, size: 4, features: &sample.features, labels: &sample.labels, arguments: None };
    encrypted_computes_what_simulate_predicts(&schedule, &batch, initial(&schedule));
}
