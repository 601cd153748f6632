//! The engines against each other on small programs, on the ring engine: what `simulate` predicts, `encrypted` shows.
#![cfg(feature = "client")]

mod engine_common;

use std::sync::{Arc, OnceLock};

use engine_common::*;
use hesn::graph::{Binary, Function, Graph, Init, Origin, ScalarExpr};
use hesn::he::ckks::ServerKeys;
use hesn::he::ckks::params::RING_PROFILES;
use hesn::interp::ring::{RingBatch, RingServer};
use hesn::interp::simulate::SimulateEngine;
use hesn::interp::{Batch, Engine, Trace, Unwatched};
use hesn::plan::layout::{Layout, support};
use hesn::plan::parameters::Parameters;
use hesn::plan::schedule::Schedule;
use hesn::run::ring_client::RingClient;
use hesn::run::roles::Roles;
use rand::{Rng, SeedableRng};

const PARAMETERS: Parameters = Parameters::Ckks(&RING_PROFILES[2]);

/// One key set for all tests.
fn keys() -> &'static (RingClient, Arc<ServerKeys>) {
    static KEYS: OnceLock<(RingClient, Arc<ServerKeys>)> = OnceLock::new();
    KEYS.get_or_init(|| {
        let client = RingClient::new(&RING_PROFILES[2]).unwrap();
        let keys = client.server_keys(&|_, _| ()).unwrap();
        (client, Arc::new(keys))
    })
}

fn trace(schedule: &Schedule, batch: &Batch<'_>, server: &RingServer<'_>, encrypted: &RingBatch) -> Trace {
    let client = &keys().0;
    let state = server.run(encrypted, &Unwatched).unwrap();
    let mut trace = Trace { operands: Vec::new(), products: Vec::new() };
    for (operand, ciphertexts) in schedule.operands.iter().zip(&state.operands) {
        let samples = if operand.per_sample { batch.size } else { 1 };
        trace.operands.push(client.integers(schedule, &operand.layout, ciphertexts, samples).unwrap());
    }
    for (product, ciphertexts) in schedule.products.iter().zip(&state.products) {
        let samples = if product.per_sample() { batch.size } else { 1 };
        trace.products.push(client.integers(schedule, &product.layout, ciphertexts, samples).unwrap());
    }
    trace
}

/// Runs one step on both engines and compares every operand and every product.
fn encrypted_computes_what_simulate_predicts(schedule: &Schedule, batch: &Batch<'_>, initial: Vec<Vec<f32>>) {
    let (client, keys) = keys();
    let encrypted = client.encrypt(schedule, batch).unwrap();
    let server = RingServer::new(Arc::clone(keys), schedule, initial.clone()).unwrap();
    encrypted_is_as_simulated(schedule, batch, &initial, &trace(schedule, batch, &server, &encrypted));
}

#[test]
fn hidden_layers_with_masks_compute_what_simulate_predicts() {
    let relu = ScalarExpr::bin(Binary::Max, ScalarExpr::Z, ScalarExpr::Const(0.0));
    let (g, l) = mlp(lut("relu", relu, ScalarExpr::call(Function::Step, ScalarExpr::Z)));
    let schedule = schedule_on(PARAMETERS, &g, l, 6, 0.5);
    assert!(schedule.sites.iter().any(|site| site.multiplier.is_some()), "the mask is a product of slots");
    let sample = samples(6, 6, 2);
    let batch =
        Batch { index: 0, size: 6, features: &sample.features, labels: &sample.labels, arguments: None };
    encrypted_computes_what_simulate_predicts(&schedule, &batch, initial(&schedule));
}

#[test]
fn products_of_two_encrypted_values_compute_what_simulate_predicts() {
    let slope = sigmoid().mul(ScalarExpr::Const(1.0).sub(sigmoid()));
    let (g, l) = mlp(lut("sigmoid", sigmoid(), slope));
    let schedule = schedule_on(PARAMETERS, &g, l, 3, 0.5);
    let sample = samples(3, 6, 2);
    let batch =
        Batch { index: 0, size: 3, features: &sample.features, labels: &sample.labels, arguments: None };
    encrypted_computes_what_simulate_predicts(&schedule, &batch, initial(&schedule));
}

#[test]
fn twenty_steps_do_not_drift() {
    let o = Origin::default();
    let mut g = Graph::default();
    let x = g.input(&[5], &o).unwrap();
    let z = dense(&mut g, x, 5, 1, Init::Constant(0.0));
    let y = g.label(&[1], &o).unwrap();
    let l = loss(&mut g, z, y);
    let size = 24;
    let schedule = schedule_on(PARAMETERS, &g, l, size, 0.5);
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(3);
    let features: Vec<f32> = (0..size * 5).map(|_| rng.random_range(-1.5..1.5)).collect();
    let labels: Vec<f32> =
        features.chunks(5).map(|r| f32::from(r[0] - 0.5 * r[1] + 0.2 * r[4] > 0.1)).collect();
    let batch = Batch { index: 0, size, features: &features, labels: &labels, arguments: None };
    let initial = vec![vec![0.0; 6]];
    let mut simulate = SimulateEngine::new(&schedule, initial.clone(), 1).unwrap();
    let (client, keys) = keys();
    let encrypted = client.encrypt(&schedule, &batch).unwrap();
    let mut server = RingServer::new(Arc::clone(keys), &schedule, initial).unwrap();
    let mut reference = vec![0f64; 6];
    for _ in 0..20 {
        simulate.step(&batch, &Unwatched).unwrap();
        server.step(&encrypted, &Unwatched).unwrap();
        let mut gradient = vec![0f64; 6];
        for (row, y) in features.chunks(5).zip(&labels) {
            let z: f64 = row.iter().zip(&reference).map(|(x, w)| *x as f64 * w).sum::<f64>() + reference[5];
            let delta = 1.0 / (1.0 + (-z).exp()) - *y as f64 + z / 128.0;
            row.iter().chain(&[1.0]).zip(&mut gradient).for_each(|(x, g)| *g += *x as f64 * delta);
        }
        reference.iter_mut().zip(&gradient).for_each(|(w, g)| *w -= 0.5 / size as f64 * g);
    }
    let simulated = simulate.parameters().unwrap();
    let decrypted = client.weights(&schedule, &server).unwrap();
    println!("float {reference:.4?}\nsimulate {simulated:.4?}\nencrypted {decrypted:.4?}");
    for ((s, e), w) in simulated[0].iter().zip(&decrypted[0]).zip(&reference) {
        assert!((f64::from(*s) - w).abs() < 0.005, "simulate {s} against float {w}");
        assert!((f64::from(*e) - w).abs() < 0.005, "encrypted {e} against float {w}");
    }
}

#[test]
fn what_a_mask_hides_is_as_noisy_as_predicted() {
    let relu = ScalarExpr::bin(Binary::Max, ScalarExpr::Z, ScalarExpr::Const(0.0));
    let (g, l) = mlp(lut("relu", relu, ScalarExpr::call(Function::Step, ScalarExpr::Z)));
    let schedule = schedule_on(PARAMETERS, &g, l, 6, 0.5);
    let sample = samples(6, 6, 2);
    let batch =
        Batch { index: 0, size: 6, features: &sample.features, labels: &sample.labels, arguments: None };
    let (client, keys) = keys();
    let encrypted = client.encrypt(&schedule, &batch).unwrap();
    let mut server = RingServer::new(Arc::clone(keys), &schedule, initial(&schedule)).unwrap();
    // After the first step the masters are no longer trivial.
    server.step(&encrypted, &Unwatched).unwrap();
    let state = server.run(&encrypted, &Unwatched).unwrap();
    let degree = schedule.degree();
    let all = Layout { exponents: (0..degree as u32).collect(), sample_stride: 0, samples: 1 };
    for (i, operand) in schedule.operands.iter().enumerate().filter(|(_, operand)| operand.packed) {
        let own = client.integers(&schedule, &all, &state.operands[i][..1], 1).unwrap();
        let used = support(&operand.layout, degree);
        let rest: Vec<f64> =
            own.iter().zip(&used).filter(|(_, used)| !**used).map(|(v, _)| *v as f64).collect();
        let measured = (rest.iter().map(|v| v * v).sum::<f64>() / rest.len() as f64).sqrt();
        println!("operand {i}: 2^{:.2}, predicted 2^{:.2}", measured.log2(), operand.hidden_noise.log2());
        // The noise of thousands of coefficients: their mean square varies by a few percent.
        assert!(
            measured <= 1.05 * operand.hidden_noise,
            "operand {i}: {measured}, predicted {}",
            operand.hidden_noise
        );
    }
}
