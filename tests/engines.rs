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

struct Ranges;

impl RangeOf for Ranges {
    fn site(&self, _: NodeId) -> f64 {
        16.0
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
    let (mut g, outputs) = g.with_joined_biases(&[loss]).unwrap();
    let derivative = g.differentiate(outputs[0]).unwrap();
    let (params, gradients): (Vec<ParamId>, Vec<NodeId>) = derivative.gradients.iter().copied().unzip();
    let (g, gradients) = g.fused(&gradients).unwrap();
    let lowered = Lowering::run(&g, &gradients, &Ranges, 1).unwrap();
    let nominal = Nominal { input_rms: 1.0, argument_rms: Default::default() };
    let profile = params::profile("standard").unwrap();
    let purpose = Purpose::Train { params: &params, rate };
    let schedule = build(&g, lowered, &Ranges, profile, batch, &nominal, &purpose).unwrap();
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
    let batch = Batch { size: batch, features: &features, labels: &labels, arguments: None };

    let initial = vec![vec![0.0; 6]];
    let mut simulate = SimulateEngine::new(&schedule, initial.clone(), 1);
    let client = Client::new(schedule.profile).unwrap();
    let keys = client.server_keys(&schedule, &|_, _| ()).unwrap();
    let encrypted = client.encrypt(&schedule, &batch).unwrap();
    let mut server = Server::new(&keys, &schedule, initial.clone()).unwrap();

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
    let _ = Binary::Add;
}
