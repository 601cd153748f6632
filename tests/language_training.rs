//! Programs from text to trained weights on the clear engine: what the standard library and a user's own
//! layers say is what is computed.

use std::fs;
use std::path::Path;

use hesn::diagnostics::{Sources, render};
use hesn::graph::{Graph, NodeId};
use hesn::interp::clear::{ClearEngine, predict};
use hesn::interp::simulate::SimulateEngine;
use hesn::interp::{Batch, Engine, Unwatched};
use hesn::plan::compile::{Settings, Training};
use hesn::plan::initial::Architecture;
use hesn::typeck::{self, NoData, Task, TrainTask};

/// Handwritten digits, 8×8 pixels from 0 to 1: 1437 to train, 360 to test.
struct Digits {
    train: (Vec<f32>, Vec<usize>),
    test: (Vec<f32>, Vec<usize>),
}

impl Digits {
    fn load() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/digits.csv");
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for line in fs::read_to_string(path).unwrap().lines().skip(1) {
            let mut row: Vec<f32> = line.split(',').map(|cell| cell.parse().unwrap()).collect();
            labels.push(row.pop().unwrap() as usize);
            pixels.extend(row.iter().map(|x| x / 16.0));
        }
        let cut = labels.len() * 4 / 5;
        let (test_pixels, test_labels) = (pixels.split_off(cut * 64), labels.split_off(cut));
        Self { train: (pixels, labels), test: (test_pixels, test_labels) }
    }
}

fn task(text: &str) -> TrainTask {
    let mut sources = Sources::default();
    let file = sources.add("program.hes", text);
    let checked = typeck::check(&mut sources, file, &NoData);
    let shown: String = checked.diagnostics.iter().map(|d| render(d, &sources, false)).collect();
    assert_eq!(shown, "");
    let mut tasks = checked.program.unwrap().tasks.into_iter();
    match tasks.find(|task| matches!(task, Task::Train(_))) {
        Some(Task::Train(task)) => *task,
        _ => panic!("no training in {text}"),
    }
}

fn one_hot(labels: &[usize]) -> Vec<f32> {
    labels.iter().flat_map(|&label| (0..10).map(move |k| f32::from(u8::from(k == label)))).collect()
}

fn program(model: &str, loss: &str, rate: &str, epochs: usize) -> TrainTask {
    task(&format!(
        "data digits = csv(\"digits.csv\") {{ label: digit, scale: unit, split: 0.8, classes: 10 }}\n{model}\n\
         train M on digits {{ loss: {loss}, sgd: rate {rate}, batch: 40, epochs: {epochs} }}"
    ))
}

fn learn(engine: &mut dyn Engine, digits: &Digits, epochs: usize) {
    let (pixels, labels) = &digits.train;
    for _ in 0..epochs {
        for (index, (features, labels)) in
            pixels.chunks_exact(40 * 64).zip(labels.chunks_exact(40)).enumerate()
        {
            let hot = one_hot(labels);
            let batch = Batch { index, size: labels.len(), features, labels: &hot, arguments: None };
            engine.step(&batch, &Unwatched).unwrap();
        }
    }
}

/// Share of the test digits that are recognised.
fn recognised(graph: &Graph, logits: NodeId, params: &[Vec<f32>], digits: &Digits) -> f64 {
    let (pixels, labels) = &digits.test;
    let hot = one_hot(labels);
    let batch = Batch { index: 0, size: labels.len(), features: pixels, labels: &hot, arguments: None };
    let logits = predict(graph, &[logits], params, &batch).unwrap().remove(0);
    let best = |row: &[f32]| (0..10).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
    let right = logits.chunks(10).zip(labels).filter(|(row, label)| best(row) == **label).count();
    right as f64 / labels.len() as f64
}

/// What is recognised after training on the clear engine.
fn accuracy(model: &str, loss: &str, rate: &str, epochs: usize) -> f64 {
    let task = program(model, loss, rate, epochs);
    let digits = Digits::load();
    let params = Architecture::of(&task.graph, task.logits).initial(&task.graph, 1);
    let mut engine = ClearEngine::for_loss(&task.graph, task.loss, task.rate.value, params).unwrap();
    learn(&mut engine, &digits, task.epochs.value);
    recognised(&task.graph, task.logits, &engine.parameters().unwrap(), &digits)
}

#[test]
fn a_perceptron_with_a_softmax_learns_digits() {
    let model = "model M(x: [64]) -> [10] { x |> dense(32) |> relu |> dense(10) }";
    let right = accuracy(model, "cross_entropy", "1/4", 12);
    assert!(right > 0.9, "{right}");
}

/// The tables of the softmax keep their meaning under the noise and the ranges of the encrypted run.
#[test]
fn a_softmax_learns_digits_in_simulation() {
    let model = "model M(x: [64]) -> [10] { x |> dense(16) |> relu |> dense(10) }";
    let task = program(model, "cross_entropy", "1/4", 10);
    let digits = Digits::load();
    let training = Training::compile(&task, digits.train.1.len(), Settings::default()).unwrap();
    let schedule = training.schedule.as_ref().unwrap();
    let mut params = training.architecture.initial(&training.forward, 1);
    let initial = schedule.masters.iter().map(|master| params[master.param.index()].clone()).collect();
    let mut engine = SimulateEngine::new(schedule, initial, 1);
    learn(&mut engine, &digits, training.epochs);
    for (master, values) in schedule.masters.iter().zip(engine.parameters().unwrap()) {
        params[master.param.index()] = values;
    }
    let right = recognised(&training.forward, training.logits, &params, &digits);
    assert!(right > 0.88, "{right}");
}

#[test]
fn a_convolutional_network_learns_digits() {
    let model = "model M(x: [64]) -> [10] {\n\
        x |> reshape([1, 8, 8]) |> conv2d(6, kernel: 3, pad: same) |> max_pool(2) |> relu |> flatten |> dense(10)\n}";
    let right = accuracy(model, "cross_entropy", "1/4", 8);
    assert!(right > 0.88, "{right}");
}

#[test]
fn layers_and_losses_of_the_user_learn_digits() {
    let model = "
lut swish(z, beta: real = 1) = z / (1 + exp(-beta * z))

// A product of two branches, one of which opens and closes the other.
layer gated(x: [n], units: int) -> [units] {
    param value: [n, units] ~ he_normal
    param gate: [n, units] ~ he_normal(0.5)
    swish(x @ value, beta: 1.5) * sigmoid(x @ gate)
}

layer residual(x: [n]) -> [n] { x + gated(x, n) }

fn squared_error(z: [n], y: [n], weight: real = 1) -> [] {
    weight / 2 * sum((z - y) * (z - y))
}

model M(x: [64]) -> [10] {
    let mut y = x |> dense(24)
    for i in 0..2 { y = y |> residual }
    y |> dense(10)
}";
    let right = accuracy(model, "squared_error(weight: 2)", "1/16", 10);
    assert!(right > 0.88, "{right}");
}

#[test]
fn pooling_and_padding_compute_what_they_say() {
    let mut sources = Sources::default();
    let text =
        "fn largest(x: [1, 5, 5]) -> [1, 3, 3] { x |> pad_same(3, stride: 2) |> max_pool(3, stride: 2) }";
    let file = sources.add("program.hes", text);
    let program = typeck::check(&mut sources, file, &NoData).program.unwrap();
    let Some(Task::Function(task)) = program.tasks.first() else { panic!("{program:?}") };
    let image: Vec<f32> = (0..25).map(|i| (i * 7 % 25) as f32).collect();
    let values = [(task.arguments[0].node, image.clone())].into_iter().collect();
    let batch = Batch { index: 0, size: 1, features: &[], labels: &[], arguments: Some(&values) };
    let found = predict(&task.graph, &[task.result], &[], &batch).unwrap().remove(0);
    let at = |r: i32, c: i32| {
        if (0..5).contains(&r) && (0..5).contains(&c) { image[(r * 5 + c) as usize] } else { 0.0 }
    };
    let mut expected = Vec::new();
    for r in [0, 2, 4] {
        for c in [0, 2, 4] {
            let window = (r - 1..=r + 1).flat_map(|r| (c - 1..=c + 1).map(move |c| at(r, c)));
            expected.push(window.fold(f32::MIN, f32::max));
        }
    }
    assert_eq!(found, expected);
}
