//! The engines against each other on small programs, with TFHE: what `simulate` predicts, `encrypted` shows.
#![cfg(feature = "client")]

mod engine_common;

use engine_common::*;
use hesn::diagnostics::{FileId, Span};
use hesn::graph::{Binary, Function, Graph, Init, Origin, ParamInfo, ScalarExpr};
use hesn::he::params;
use hesn::interp::encrypted::Server;
use hesn::interp::simulate::SimulateEngine;
use hesn::interp::{Batch, Engine, Unwatched};
use hesn::plan::parameters::Parameters;
use hesn::plan::schedule::{Schedule, Source};
use hesn::run::client::Client;

fn profile(name: &str) -> Parameters {
    Parameters::Tfhe(params::profile(name).unwrap())
}

#[test]
fn logistic_regression_learns_encrypted_as_simulated() {
    let mut model = Logistic::new(24);
    let schedule = schedule_on(profile("standard"), &model.graph, model.loss, 24, 0.5);
    assert_eq!(schedule.luts(), 24 + 6);
    let initial = vec![vec![0.0; 6]];
    let mut simulate = SimulateEngine::new(&schedule, initial.clone(), 1);
    let client = Client::new(schedule.parameters.tfhe().unwrap()).unwrap();
    let keys = client.server_keys(&schedule, &|_, _| ()).unwrap();
    let encrypted = client.encrypt(&schedule, &model.batch()).unwrap();
    let mut server = Server::new(keys, &schedule, initial).unwrap();
    for _ in 0..6 {
        simulate.step(&model.batch(), &Unwatched).unwrap();
        server.step(&encrypted, &Unwatched).unwrap();
        model.step();
    }
    let decrypted = client.weights(&schedule, server.masters(), server.initial()).unwrap();
    model.assert_near(&simulate.parameters().unwrap()[0], &decrypted[0], 0.03);
}

/// Runs one step on both engines and compares every operand and every product, integer by integer.
fn encrypted_computes_what_simulate_predicts(schedule: &Schedule, batch: &Batch<'_>, initial: Vec<Vec<f32>>) {
    let client = Client::new(schedule.parameters.tfhe().unwrap()).unwrap();
    let keys = client.server_keys(schedule, &|_, _| ()).unwrap();
    let encrypted = client.encrypt(schedule, batch).unwrap();
    let server = Server::new(keys, schedule, initial.clone()).unwrap();
    let state = server.run(&encrypted, &Unwatched).unwrap();
    for (product, ciphertexts) in schedule.products.iter().zip(&state.products) {
        assert!(ciphertexts.iter().all(|c| c.level() == product.level), "switched down");
    }
    let trace = traced(schedule, batch, |source, layout, samples| {
        let ciphertexts = match source {
            Source::Operand(i) => &state.operands[i],
            Source::Product(i) => &state.products[i],
            Source::Master(_) => unreachable!("no part of a trace"),
        };
        client.integers(schedule, layout, ciphertexts, samples).unwrap()
    });
    encrypted_is_as_simulated(schedule, batch, &initial, &trace);
}

#[test]
fn hidden_layers_with_masks_compute_what_simulate_predicts() {
    let relu = ScalarExpr::bin(Binary::Max, ScalarExpr::Z, ScalarExpr::Const(0.0));
    let (g, l) = mlp(lut("relu", relu, ScalarExpr::call(Function::Step, ScalarExpr::Z)));
    let schedule = schedule_on(profile("standard"), &g, l, 6, 0.5);
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
    let schedule = schedule_on(profile("standard"), &g, l, 3, 0.5);
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
    let schedule = schedule_on(profile("deep"), &g, l, 4, 0.5);
    assert_eq!(schedule.products.iter().map(|p| p.level).max(), Some(1));
    let sample = samples(4, 6, 2);
    let batch =
        Batch { index: 0, size: 4, features: &sample.features, labels: &sample.labels, arguments: None };
    encrypted_computes_what_simulate_predicts(&schedule, &batch, initial(&schedule));
}

#[test]
fn convolutions_compute_what_simulate_predicts() {
    let relu = ScalarExpr::bin(Binary::Max, ScalarExpr::Z, ScalarExpr::Const(0.0));
    let (g, l) = cnn(&lut("relu", relu, ScalarExpr::call(Function::Step, ScalarExpr::Z)));
    let schedule = schedule_on(profile("standard"), &g, l, 3, 0.5);
    let sample = samples(3, 36, 2);
    let batch =
        Batch { index: 0, size: 3, features: &sample.features, labels: &sample.labels, arguments: None };
    encrypted_computes_what_simulate_predicts(&schedule, &batch, initial(&schedule));
}

#[test]
fn pools_compute_what_simulate_predicts() {
    let relu = ScalarExpr::bin(Binary::Max, ScalarExpr::Z, ScalarExpr::Const(0.0));
    let (g, l) = pooled(&lut("relu", relu, ScalarExpr::call(Function::Step, ScalarExpr::Z)));
    let schedule = schedule_on(profile("standard"), &g, l, 2, 0.5);
    let sample = samples(2, 64, 2);
    let batch =
        Batch { index: 0, size: 2, features: &sample.features, labels: &sample.labels, arguments: None };
    encrypted_computes_what_simulate_predicts(&schedule, &batch, initial(&schedule));
}
