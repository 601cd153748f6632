//! The engines against each other on small programs, on the ring engine: what `simulate` predicts, `encrypted` shows.
#![cfg(feature = "client")]

mod engine_common;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use engine_common::*;
use hesn::graph::{Binary, Function, ScalarExpr};
use hesn::he::ckks::ServerKeys;
use hesn::he::ckks::params::RING_PROFILES;
use hesn::interp::ring::RingServer;
use hesn::interp::simulate::SimulateEngine;
use hesn::interp::{Batch, Engine, Unwatched};
use hesn::plan::estimate::{Extent, Room, memory_bytes, most_at_once, spilled_memory_bytes};
use hesn::plan::layout::{Layout, support};
use hesn::plan::parameters::Parameters;
use hesn::plan::schedule::{Schedule, Source};
use hesn::run::ring_client::RingClient;
use hesn::run::roles::Roles;

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

/// Runs one step on both engines and compares every operand and every product.
fn encrypted_computes_what_simulate_predicts(schedule: &Schedule, batch: &Batch<'_>, initial: Vec<Vec<f32>>) {
    let (client, keys) = keys();
    let encrypted = client.encrypt(schedule, batch).unwrap();
    let server = RingServer::new(Arc::clone(keys), schedule, initial.clone()).unwrap();
    let state = server.run(&encrypted, &Unwatched).unwrap();
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
    let schedule = schedule_on(PARAMETERS, &g, l, 6, 0.5);
    assert!(schedule.sites.iter().any(|site| site.multiplier.is_some()), "the mask is a product of slots");
    let sample = samples(6, 6, 2);
    let batch =
        Batch { index: 0, size: 6, features: &sample.features, labels: &sample.labels, arguments: None };
    encrypted_computes_what_simulate_predicts(&schedule, &batch, initial(&schedule));
}

#[test]
fn matrices_of_several_polynomials_compute_what_simulate_predicts() {
    let relu = ScalarExpr::bin(Binary::Max, ScalarExpr::Z, ScalarExpr::Const(0.0));
    let (g, l) = layers(&[300, 24, 10], lut("relu", relu, ScalarExpr::call(Function::Step, ScalarExpr::Z)));
    let schedule = schedule_on(PARAMETERS, &g, l, 4, 0.5);
    assert!(schedule.masters.iter().any(|master| master.layout.pieces > 1), "cut");
    let sample = samples(4, 300, 10);
    let batch =
        Batch { index: 0, size: 4, features: &sample.features, labels: &sample.labels, arguments: None };
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

/// A program whose look-ups of a stage take more than one bootstrap.
fn wide() -> Schedule {
    let relu = ScalarExpr::bin(Binary::Max, ScalarExpr::Z, ScalarExpr::Const(0.0));
    let relu = lut("relu", relu, ScalarExpr::call(Function::Step, ScalarExpr::Z));
    let (g, l) = layers(&[4, 40, 1], relu);
    schedule_on(PARAMETERS, &g, l, 1024, 0.5)
}

#[test]
fn bootstraps_at_once_make_what_one_after_another_makes() {
    let schedule = wide();
    let stages = &schedule.ring.as_ref().unwrap().gather.stages;
    assert!(stages.iter().any(|stage| stage.bootstraps.len() > 1), "some share a stage");
    assert!(
        schedule.sites.iter().any(|site| site.multiplier.is_some()),
        "later ones use what they have saved"
    );
    let sample = samples(1024, 4, 1);
    let batch =
        Batch { index: 0, size: 1024, features: &sample.features, labels: &sample.labels, arguments: None };
    let (client, keys) = keys();
    let encrypted = client.encrypt(&schedule, &batch).unwrap();
    let mut server = RingServer::new(Arc::clone(keys), &schedule, initial(&schedule)).unwrap();
    let all = Layout::single(0..schedule.degree() as u32, 0, 1);
    let mut run = |at_once: usize| {
        server.set_at_once(at_once);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let began = Instant::now();
        let state = pool.install(|| server.run(&encrypted, &Unwatched)).unwrap();
        assert!(state.seconds.total() <= began.elapsed().as_secs_f64(), "stages share the time that passes");
        let ciphertexts = state.products.iter().flatten();
        let one = |c| client.integers(&schedule, &all, std::slice::from_ref(c), 1).unwrap();
        ciphertexts.map(one).collect::<Vec<_>>()
    };
    // To the last bit of the noise.
    assert_eq!(run(1), run(2));
}

#[test]
fn a_memory_limit_costs_bootstraps_at_once_before_a_file() {
    let schedule = wide();
    let extent = Extent { steps: 8, samples: 8 * 1024 };
    let room = |limit: usize| Room::within(&schedule, extent, 16, limit as u64);
    let most = most_at_once(&schedule, 16);
    assert!((2..16).contains(&most), "no more than a stage has");
    let [all, one] = [most, 1].map(|at_once| memory_bytes(&schedule, extent, at_once));
    assert_eq!(room(all), Some(Room { spill: false, at_once: most }));
    assert_eq!(room(all - 1), Some(Room { spill: false, at_once: most - 1 }));
    assert_eq!(room(one), Some(Room { spill: false, at_once: 1 }));
    let spilled = spilled_memory_bytes(&schedule, 1).unwrap();
    assert_eq!(room(spilled), Some(Room { spill: true, at_once: 1 }));
    assert_eq!(room(spilled - 1), None);
}

#[test]
fn twenty_steps_do_not_drift() {
    let mut model = Logistic::new(24);
    let schedule = schedule_on(PARAMETERS, &model.graph, model.loss, 24, 0.5);
    let initial = vec![vec![0.0; 6]];
    let mut simulate = SimulateEngine::new(&schedule, initial.clone(), 1);
    let (client, keys) = keys();
    let encrypted = client.encrypt(&schedule, &model.batch()).unwrap();
    let mut server = RingServer::new(Arc::clone(keys), &schedule, initial).unwrap();
    for _ in 0..20 {
        simulate.step(&model.batch(), &Unwatched).unwrap();
        server.step(&encrypted, &Unwatched).unwrap();
        model.step();
    }
    let decrypted = client.weights(&schedule, &server).unwrap();
    model.assert_near(&simulate.parameters().unwrap()[0], &decrypted[0], 0.005);
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
    let all = Layout::single(0..degree as u32, 0, 1);
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

#[test]
fn convolutions_compute_what_simulate_predicts() {
    let relu = ScalarExpr::bin(Binary::Max, ScalarExpr::Z, ScalarExpr::Const(0.0));
    let (g, l) = cnn(&lut("relu", relu, ScalarExpr::call(Function::Step, ScalarExpr::Z)));
    let schedule = schedule_on(PARAMETERS, &g, l, 3, 0.5);
    let sample = samples(3, 36, 2);
    let batch =
        Batch { index: 0, size: 3, features: &sample.features, labels: &sample.labels, arguments: None };
    encrypted_computes_what_simulate_predicts(&schedule, &batch, initial(&schedule));
}

#[test]
fn pools_compute_what_simulate_predicts() {
    let relu = ScalarExpr::bin(Binary::Max, ScalarExpr::Z, ScalarExpr::Const(0.0));
    let (g, l) = pooled(&lut("relu", relu, ScalarExpr::call(Function::Step, ScalarExpr::Z)));
    let schedule = schedule_on(PARAMETERS, &g, l, 2, 0.5);
    let sample = samples(2, 64, 2);
    let batch =
        Batch { index: 0, size: 2, features: &sample.features, labels: &sample.labels, arguments: None };
    encrypted_computes_what_simulate_predicts(&schedule, &batch, initial(&schedule));
}

#[test]
fn pools_read_whole_polynomials_and_move_nothing() {
    let relu = ScalarExpr::bin(Binary::Max, ScalarExpr::Z, ScalarExpr::Const(0.0));
    let (g, l) = pooled(&lut("relu", relu, ScalarExpr::call(Function::Step, ScalarExpr::Z)));
    // As many samples as stand between two positions.
    let schedule = schedule_on(PARAMETERS, &g, l, 256, 0.5);
    let gather = &schedule.ring.as_ref().unwrap().gather;
    let sites = || schedule.sites.iter().zip(&gather.sites).filter(|(site, _)| site.tables[0].name == "max");
    assert_eq!(sites().map(|(site, _)| site.elements).collect::<Vec<_>>(), [64, 32], "two rounds");
    for (site, own) in sites() {
        assert!(own.reads.len() > 1 && own.reads.iter().all(|read| read.switches() == 0));
        // Two rows and columns of results to a polynomial.
        assert_eq!(own.lanes.rings, site.elements / 4);
    }
}
