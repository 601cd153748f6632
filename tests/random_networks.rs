//! Small networks of all kinds of layers, drawn at random, on the ring engine: a step on ciphertexts is what `simulate` predicts, value
//! by value, and what the clear engine computes, within its noise.
#![cfg(feature = "client")]

mod engine_common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use engine_common::{hidden_by_noise, samples, traced};
use hesn::diagnostics::{Sources, render};
use hesn::he::ckks::ServerKeys;
use hesn::he::ckks::params::RingProfile;
use hesn::interp::clear::ClearEngine;
use hesn::interp::ring::RingServer;
use hesn::interp::simulate::SimulateEngine;
use hesn::interp::{Batch, Engine, Unwatched};
use hesn::plan::compile::{Settings, Training};
use hesn::plan::parameters::SchemeChoice;
use hesn::plan::schedule::Source;
use hesn::run::ring_client::RingClient;
use hesn::run::roles::Roles;
use hesn::typeck::{self, NoData, Task};
use proptest::prelude::*;

/// One key set for each profile.
fn keys(profile: &'static RingProfile) -> Arc<(RingClient, Arc<ServerKeys>)> {
    type Known = Mutex<HashMap<&'static str, Arc<(RingClient, Arc<ServerKeys>)>>>;
    static KEYS: OnceLock<Known> = OnceLock::new();
    let mut known = KEYS.get_or_init(Mutex::default).lock().unwrap();
    let made = known.entry(profile.name).or_insert_with(|| {
        let client = RingClient::new(profile).unwrap();
        let keys = client.server_keys(&|_, _| ()).unwrap();
        Arc::new((client, Arc::new(keys)))
    });
    Arc::clone(made)
}

/// An image and the layers that it goes through.
#[derive(Debug, Clone)]
struct Network {
    image: [usize; 3],
    layers: Vec<String>,
    batch: usize,
}

impl Network {
    fn training(&self) -> Training {
        let [channels, height, width] = self.image;
        let layers: String = self.layers.iter().map(|layer| format!(" |> {layer}")).collect();
        let text = format!(
            "use std::{{conv2d, max_pool, avg_pool, global_avg_pool, dropout, flatten, dense, tanh, binary_cross_entropy}}\n\
             fn doubled(x: [c, h, w]) -> [c, h, w] {{ x + tanh(x) }}\n\
             fn weighted(x: [2, h, w]) -> [2, h, w] {{ x * reshape([0.3, 0.7], [2, 1, 1]) }}\n\
             data d = csv(\"d.csv\") {{ label: y, positive: yes, scale: none, split: 0.8 }}\n\
             model M(x: [{channels}, {height}, {width}]) -> [1] {{ x{layers} |> flatten |> dense(1) }}\n\
             train M on d {{ loss: binary_cross_entropy, batch: {}, sgd: rate 1, epochs: 1 }}\n",
            self.batch
        );
        let mut sources = Sources::default();
        let file = sources.add("program.hes", text);
        let checked = typeck::check(&mut sources, file, &NoData);
        let shown: String = checked.diagnostics.iter().map(|d| render(d, &sources, false)).collect();
        assert_eq!(shown, "");
        let Some(Task::Train(task)) = checked.program.and_then(|program| program.tasks.into_iter().next())
        else {
            panic!("no training");
        };
        let settings = Settings { scheme: SchemeChoice::Ckks, ..Settings::default() };
        Training::compile(&task, self.batch, settings).unwrap()
    }
}

fn network() -> impl Strategy<Value = Network> {
    let conv = (1usize..=2, 1usize..=3, 1usize..=3, 1usize..=2, any::<bool>());
    let between =
        prop::sample::select(vec!["tanh", "max_pool(2) |> tanh", "tanh |> avg_pool(2)", "tanh |> doubled"]);
    let end = prop::sample::select(vec![
        "conv2d(2, kernel: 2, pad: same) |> tanh",
        "global_avg_pool",
        "flatten |> dense(5) |> tanh",
        "conv2d(2, kernel: 1) |> tanh |> weighted |> tanh",
        "dropout(1/4)",
    ]);
    (conv, 1usize..=2, [5usize..=8, 5usize..=8], between, end, 1usize..=4).prop_map(
        |((groups, filters, kernel, stride, is_same), share, [height, width], between, end, batch)| {
            let pad = if is_same { "same" } else { "valid" };
            let first = format!(
                "conv2d({}, kernel: {kernel}, stride: {stride}, pad: {pad}, groups: {groups})",
                filters * groups
            );
            let layers = vec![first, between.to_owned(), end.to_owned()];
            Network { image: [share * groups, height, width], layers, batch }
        },
    )
}

/// Distance and length of the way that the weights go in one step.
fn apart(from: &[Vec<f32>], one: &[Vec<f32>], other: &[Vec<f32>]) -> (f32, f32) {
    let distance = |a: &[Vec<f32>], b: &[Vec<f32>]| {
        let squares = a.concat().iter().zip(b.concat()).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        squares.sqrt()
    };
    (distance(one, other), distance(from, other))
}

fn check(network: &Network, is_encrypted: bool) {
    let mut own = network.training();
    let schedule = std::mem::replace(&mut own.schedule, Err(Vec::new()));
    let schedule = schedule.unwrap_or_else(|why| panic!("{network:?}: {why:?}"));
    // Biases start from zero, which would hide in their noise.
    let mut initial = own.architecture.initial(&own.forward, 3);
    for (at, value) in initial.iter_mut().flatten().enumerate().filter(|(_, value)| **value == 0.0) {
        *value = [0.25, -0.25, 0.125][at % 3];
    }
    let sample = samples(network.batch, network.image.iter().product(), 1);
    let batch = Batch {
        index: 0,
        size: network.batch,
        features: &sample.features,
        labels: &sample.labels,
        arguments: None,
    };
    let mut clear = ClearEngine::new(own.step, own.gradients, own.rate, initial.clone());
    clear.step(&batch, &Unwatched).unwrap();
    let clear = clear.parameters().unwrap();
    let mut simulate = SimulateEngine::new(&schedule, initial.clone(), 1);
    simulate.step(&batch, &Unwatched).unwrap();
    let (simulated, moved) = apart(&initial, &simulate.parameters().unwrap(), &clear);
    println!("{network:?}: moved {moved}, simulated apart {simulated}");
    // Where two values are nearly equal, each gets a part of the larger one's gradient: the step of a table is no jump.
    let is_smooth = network.layers.iter().all(|layer| !layer.contains("max_pool"));
    assert!(!is_smooth || simulated <= 0.3 * moved + 0.02, "simulate: {simulated} of {moved}");
    if !is_encrypted {
        return;
    }
    let both = keys(schedule.parameters.ckks().unwrap());
    let (client, keys) = &*both;
    let encrypted = client.encrypt(&schedule, &batch).unwrap();
    let mut server = RingServer::new(Arc::clone(keys), &schedule, initial.clone()).unwrap();
    let state = server.run(&encrypted, &Unwatched).unwrap();
    let trace = traced(&schedule, &batch, |source, layout, samples| {
        let ciphertexts = match source {
            Source::Operand(i) => &state.operands[i],
            Source::Product(i) => &state.products[i],
            Source::Master(_) => unreachable!("no part of a trace"),
        };
        client.integers(&schedule, layout, ciphertexts, samples).unwrap()
    });
    let hidden = hidden_by_noise(&schedule, &batch, &initial, &trace);
    // A sample that is told right by chance has hardly a gradient.
    assert!(4 * hidden.len() < schedule.operands.len() + schedule.products.len(), "{hidden:?}");
    drop(state);
    server.step(&encrypted, &Unwatched).unwrap();
    let (distance, moved) = apart(&initial, &client.weights(&schedule, &server).unwrap(), &clear);
    assert!(!is_smooth || distance <= 0.3 * moved + 0.02, "encrypted: {distance} of {moved}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn encrypted_networks_do_what_simulate_predicts_and_clear_computes(network in network()) {
        check(&network, true);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn simulated_networks_come_close_to_clear(network in network()) {
        check(&network, false);
    }
}

/// Each group of a convolution is a product of its own: what one brings must not meet what stands beside the other's values.
#[test]
fn groups_of_channels_stay_apart() {
    let layers = ["conv2d(2, kernel: 2, stride: 2, pad: valid, groups: 2)", "max_pool(2) |> tanh"];
    check(&Network { image: [4, 6, 5], layers: layers.map(str::to_owned).to_vec(), batch: 3 }, true);
}

/// Factors that are no whole multiples of the least one are a product with a public diagonal.
#[test]
fn public_factors_by_elements_are_those_of_the_clear() {
    let layers = ["conv2d(2, kernel: 2) |> tanh |> weighted |> tanh"];
    check(&Network { image: [1, 5, 6], layers: layers.map(str::to_owned).to_vec(), batch: 2 }, true);
}
