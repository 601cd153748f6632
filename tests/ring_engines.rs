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
use hesn::interp::{Batch, Engine, Unwatched, encode};
use hesn::plan::estimate::{Extent, Room, memory_bytes, most_at_once, spilled_memory_bytes, weight_bytes};
use hesn::plan::layout::{Layout, support};
use hesn::plan::parameters::Parameters;
use hesn::plan::schedule::{Read, Schedule, Source, Stage};
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

/// A step of a network whose kernels have a polynomial for each pair of channels and each phase: their masters are merged.
fn merging(batch: usize) -> (Schedule, Sample) {
    let relu = ScalarExpr::bin(Binary::Max, ScalarExpr::Z, ScalarExpr::Const(0.0));
    let (g, l) = cnn_of([4, 8], &lut("relu", relu, ScalarExpr::call(Function::Step, ScalarExpr::Z)));
    (schedule_on(PARAMETERS, &g, l, batch, 0.5), samples(batch, 36, 2))
}

/// How many masters stand in the lanes of their look-ups.
fn merged_masters(schedule: &Schedule) -> usize {
    let gather = &schedule.ring.as_ref().unwrap().gather;
    let mut merged = 0;
    for (index, master) in schedule.masters.iter().enumerate() {
        let of_master = |read: &Read| read.sources == [(Source::Master(index), 1)];
        let (site, own) = schedule
            .sites
            .iter()
            .zip(&gather.sites)
            .find(|(site, _)| site.reads.iter().any(of_master))
            .expect("a look-up of the weights");
        let stands = schedule.layout(Source::Master(index));
        assert_eq!(stands.elements(), site.elements);
        if schedule.merged_master(index).is_some() {
            merged += 1;
            assert!(master.layout.pieces >= 4 * own.lanes.rings);
            assert_eq!(stands.pieces, own.lanes.rings);
            assert!(own.reads.iter().all(|read| read.switches() == 0), "read where it stands");
            assert!(master.route_noise > 0.0);
        } else {
            assert!(master.layout.pieces < 4 * own.lanes.rings);
            assert_eq!((stands, master.route_noise), (&master.layout, 0.0));
        }
    }
    merged
}

#[test]
fn masters_of_many_polynomials_stand_in_the_lanes_of_their_look_ups() {
    let (schedule, _) = merging(3);
    assert!(merged_masters(&schedule) > 1, "those of kernels");
    let pieces: usize = schedule.masters.iter().map(|master| master.layout.pieces).sum();
    assert!(4 * weight_bytes(&schedule) < pieces * PARAMETERS.wire_ciphertext_bytes(), "sent back");
    let model = Logistic::new(24);
    let schedule = schedule_on(PARAMETERS, &model.graph, model.loss, 24, 0.5);
    assert_eq!(merged_masters(&schedule), 0, "one polynomial is as small as its lanes");
}

#[test]
fn merged_masters_learn_what_simulate_predicts() {
    let (schedule, sample) = merging(3);
    let batch =
        Batch { index: 0, size: 3, features: &sample.features, labels: &sample.labels, arguments: None };
    let (client, keys) = keys();
    let encrypted = client.encrypt(&schedule, &batch).unwrap();
    let start = initial(&schedule);
    let multiples = [1, 2, 2];
    let simulated = |seed| {
        let mut simulate = SimulateEngine::new(&schedule, start.clone(), seed);
        for multiple in multiples {
            simulate.begin_epoch(0, multiple).unwrap();
            simulate.step(&batch, &Unwatched).unwrap();
        }
        simulate.parameters().unwrap()
    };
    let mut server = RingServer::new(Arc::clone(keys), &schedule, start.clone()).unwrap();
    for &multiple in &multiples[..2] {
        server.set_rate(multiple);
        server.step(&encrypted, &Unwatched).unwrap();
    }
    // The last step once more, with all that it makes.
    let masters = |server: &RingServer<'_>, index: usize| {
        let layout = schedule.layout(Source::Master(index));
        client.integers(&schedule, layout, &server.masters()[index], 1).unwrap()
    };
    let before: Vec<Vec<i64>> = (0..schedule.masters.len()).map(|index| masters(&server, index)).collect();
    let state = server.run(&encrypted, &Unwatched).unwrap();
    server.step(&encrypted, &Unwatched).unwrap();
    let mut errors: Vec<f64> = Vec::new();
    for (index, master) in schedule.masters.iter().enumerate() {
        let mut expected = before[index].clone();
        for &(source, factor) in &master.gradient {
            let made = match source {
                Source::Product(i) => &state.products[i],
                Source::Operand(i) => &state.operands[i],
                Source::Master(_) => unreachable!("no part of a gradient"),
            };
            let gradient = client.integers(&schedule, &master.layout, made, 1).unwrap();
            expected.iter_mut().zip(gradient).for_each(|(own, g)| *own = own.wrapping_sub(2 * factor * g));
        }
        let after = masters(&server, index);
        let error =
            |(after, expected): (&i64, &i64)| encode::centred(&schedule, after.wrapping_sub(*expected));
        let own = after.iter().zip(&expected).map(error);
        if master.route_noise > 0.0 {
            errors.extend(own.map(|error| error as f64 / (2.0 * master.route_noise)));
        } else {
            assert!(own.into_iter().all(|error| error == 0), "nothing moves `{}`", master.name);
        }
    }
    let measured = (errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64).sqrt();
    println!("noise of {} ways to masters: {measured:.3} of what is predicted", errors.len());
    assert!(errors.len() > 100 && measured > 0.0);
    // The mean square of so many errors varies by a tenth.
    assert!(measured <= 1.2, "{measured} of the predicted noise");
    // As near to what is simulated as another seed of its noise is.
    let learned = client.weights(&schedule, &server).unwrap().concat();
    let runs: Vec<Vec<f32>> = (0..8).map(|seed| simulated(seed).concat()).collect();
    let (mut squares, mut spread, mut farthest) = (0.0, 0.0, 0.0f64);
    for (at, (&learned, &start)) in learned.iter().zip(start.iter().flatten()).enumerate() {
        let values: Vec<f64> = runs.iter().map(|run| f64::from(run[at])).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        squares += (f64::from(learned) - mean).powi(2);
        spread += values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64;
        farthest = farthest.max((mean - f64::from(start)).abs());
    }
    let [distance, spread] = [squares, spread].map(|sum: f64| (sum / learned.len() as f64).sqrt());
    println!("{distance} from what is simulated, whose runs differ by {spread}; learned up to {farthest}");
    assert!(farthest > 0.1, "the weights move");
    assert!(distance <= 2.5 * spread && distance < farthest / 10.0, "{distance}, runs differ by {spread}");
}

#[test]
fn simulate_adds_the_noise_of_ways_to_masters() {
    let (schedule, sample) = merging(3);
    let batch =
        Batch { index: 0, size: 3, features: &sample.features, labels: &sample.labels, arguments: None };
    let learned = |schedule: &Schedule| {
        let mut simulate = SimulateEngine::new(schedule, initial(schedule), 1);
        simulate.step(&batch, &Unwatched).unwrap();
        simulate.parameters().unwrap()
    };
    let mut noisy = schedule.clone();
    let merged: Vec<usize> =
        (0..schedule.masters.len()).filter(|&index| schedule.merged_master(index).is_some()).collect();
    for &index in &merged {
        // A hundredth of a unit of weight.
        noisy.masters[index].route_noise = 0.01 * schedule.masters[index].amplitude;
    }
    let (quiet, noisy) = (learned(&schedule), learned(&noisy));
    let differences: Vec<f64> = merged
        .iter()
        .flat_map(|&index| quiet[index].iter().zip(&noisy[index]))
        .map(|(a, b)| f64::from(a - b))
        .collect();
    let deviation = (differences.iter().map(|d| d * d).sum::<f64>() / differences.len() as f64).sqrt();
    assert!((0.008..0.012).contains(&deviation), "{deviation} over {} weights", differences.len());
}

#[test]
fn operands_are_made_for_what_reads_them_first() {
    let (schedule, _) = merging(3);
    let mut waiting: Vec<usize> = Vec::new();
    let mut made = 0;
    for stage in &schedule.stages {
        match stage {
            Stage::Operands(own) => {
                made += own.len();
                waiting.clone_from(own);
            }
            Stage::Products(own) => {
                let sides = || own.iter().flat_map(|&i| schedule.products[i].sides);
                let reads = |operand: usize| sides().any(|side| side == Source::Operand(operand));
                // Others may be turned from it.
                let images = |operand: usize| {
                    waiting.iter().any(|&other| schedule.image(other).is_some_and(|own| own.of == operand))
                };
                assert!(waiting.iter().all(|&operand| reads(operand) || images(operand)));
                waiting.clear();
            }
            Stage::Tables(own) => {
                let reads = own.iter().flat_map(|&i| &schedule.sites[i].reads).flat_map(|read| &read.sources);
                let read: Vec<Source> = reads.map(|(source, _)| *source).collect();
                assert!(waiting.iter().all(|&operand| read.contains(&Source::Operand(operand))));
                waiting.clear();
            }
        }
    }
    assert_eq!(made, schedule.operands.len(), "all of them");
}
