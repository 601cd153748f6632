//! What changes weights on ciphertexts: gradients that are sums, of several products or of a product and a part of the weights, and
//! rates that change: as in the clear.

use hesn::diagnostics::{Sources, render};
use hesn::interp::clear::ClearEngine;
use hesn::interp::simulate::SimulateEngine;
use hesn::interp::{Batch, Engine, Unwatched};
use hesn::plan::compile::{Settings, Training};
use hesn::plan::parameters::SchemeChoice;
use hesn::typeck::{self, NoData, Task};

const BATCH: usize = 16;
const STEPS: usize = 12;

/// A training of `body` on four inputs, with one output.
fn training(body: &str, options: &str, scheme: SchemeChoice) -> Training {
    let text = format!(
        "use std::{{dense, relu, square, mean_squared_error}}\n\
         data d = csv(\"d.csv\") {{ target: y, scale: none, split: 0.8 }}\n\
         model M(x: [4]) -> [1] {{ {body} }}\n\
         train M on d {{ loss: mean_squared_error, batch: {BATCH}, {options}, epochs: {STEPS} }}\n"
    );
    let mut sources = Sources::default();
    let file = sources.add("program.hes", text);
    let checked = typeck::check(&mut sources, file, &NoData);
    let shown: String = checked.diagnostics.iter().map(|d| render(d, &sources, false)).collect();
    assert_eq!(shown, "");
    let Some(Task::Train(task)) = checked.program.and_then(|program| program.tasks.into_iter().next()) else {
        panic!("no training");
    };
    Training::compile(&task, BATCH, Settings { scheme, ..Settings::default() }).unwrap()
}

/// How far training may end from the clear engine's, as a share of its way.
const LIMITS: [(SchemeChoice, f32); 2] = [(SchemeChoice::Ckks, 0.2), (SchemeChoice::Tfhe, 0.2)];

/// That training of `body` on the simulated engines follows the clear one.
fn follows_the_clear_engine(body: &str, options: &str, limits: &[(SchemeChoice, f32)]) {
    let features: Vec<f32> = (0..BATCH * 4).map(|i| ((i * 29 + i / 4) % 31) as f32 / 15.0 - 1.0).collect();
    let labels: Vec<f32> = features.chunks(4).map(|x| x[0] - 0.5 * x[1] + 0.25 * x[3]).collect();
    let batch = Batch { index: 0, size: BATCH, features: &features, labels: &labels, arguments: None };
    for &(scheme, near) in limits {
        let own = training(body, options, scheme);
        let schedule = own.schedule.unwrap_or_else(|why| panic!("{scheme:?}: {why:?}"));
        let initial = own.architecture.initial(&own.forward, 3);
        let rates: Vec<u32> = (0..STEPS).map(|step| own.optimizer.multiple(step)).collect();
        let mut clear = ClearEngine::new(own.step, own.gradients, own.rate, initial.clone())
            .with_optimizer(own.optimizer);
        let mut simulated = SimulateEngine::new(&schedule, initial.clone(), 1);
        for (step, &rate) in rates.iter().enumerate() {
            clear.begin_epoch(step, rate).unwrap();
            simulated.begin_epoch(step, rate).unwrap();
            clear.step(&batch, &Unwatched).unwrap();
            simulated.step(&batch, &Unwatched).unwrap();
        }
        let [clear, simulated] = [clear.parameters().unwrap(), simulated.parameters().unwrap()]
            .map(|parameters| parameters.concat());
        let initial = initial.concat();
        let distance =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
        let (moved, apart) = (distance(&clear, &initial), distance(&clear, &simulated));
        println!("{scheme:?}: moved {moved}, apart {apart}");
        assert!(moved > 0.2 && apart < near * moved, "{scheme:?}: moved {moved}, apart {apart}");
    }
}

#[test]
fn a_matrix_used_twice_learns_from_both_uses() {
    let body = "param w: [4, 4] ~ he_normal\n    let h = relu(x @ w)\n    relu(h @ w) |> dense(1)";
    let own = training(body, "sgd: rate 1/4", SchemeChoice::Ckks);
    let schedule = own.schedule.unwrap();
    assert!(schedule.masters.iter().any(|master| master.gradient.len() == 2));
    follows_the_clear_engine(body, "sgd: rate 1/4", &LIMITS);
}

#[test]
fn residual_connections_hand_gradients_past_a_layer() {
    // Two masks in a row, read to seven bits by TFHE, take their own ways within a few steps.
    follows_the_clear_engine(
        "let h = x |> dense(6) |> relu\n    (h + (h |> dense(6) |> relu)) |> dense(1)",
        "sgd: rate 1/4",
        &LIMITS[..1],
    );
}

#[test]
fn weight_decay_takes_a_part_of_the_weights() {
    // Without it they go a third farther.
    follows_the_clear_engine("x |> dense(1, init: zeros)", "sgd: rate 1/4, weight_decay: 1/2", &LIMITS);
}

#[test]
fn rates_that_change_are_multiples_of_the_least() {
    // At the least rate alone they go a small part of the way.
    follows_the_clear_engine("x |> dense(1, init: zeros)", "sgd: rate 1/2 halved every 3 epochs", &LIMITS);
}

#[test]
fn public_matrices_keep_their_fractions() {
    let matrix = "[[0.3, 0, 0.1, 0], [0, 0.3, 0, 0.1], [0.2, 0, 0.3, 0], [0, 0.2, 0, 0.3]]";
    let body = format!("relu(relu(x |> dense(4)) @ {matrix}) |> dense(1)");
    follows_the_clear_engine(&body, "sgd: rate 1/4", &LIMITS[..1]);
}

#[test]
fn public_factors_are_multiplied_forwards_and_backwards() {
    for factors in ["[1, 0.5, -2, 1]", "[0.7, 1.3, -0.9, 0.45]"] {
        let body = format!("relu(x |> dense(4)) * {factors} |> dense(1)");
        follows_the_clear_engine(&body, "sgd: rate 1/4", &LIMITS[..1]);
    }
}

#[test]
fn a_mean_over_three_values_stands_beside_its_values() {
    let body =
        "let h = x |> dense(6) |> relu\n    concat([mean(reshape(h, [2, 3]), axis: 1), h]) |> dense(1)";
    follows_the_clear_engine(body, "sgd: rate 1/4", &LIMITS[..1]);
}

#[test]
fn linear_slopes_are_read_in_the_range_of_the_forward_pass() {
    // 2z reaches far beyond the range of gradients.
    follows_the_clear_engine("x |> dense(4) |> square |> dense(1)", "sgd: rate 1/8", &LIMITS[..1]);
}
