//! Programs from text to trained weights on the clear engine: what the standard library and a user's own
//! layers say is what is computed.

use std::fs;
use std::path::Path;

use hesn::diagnostics::{Sources, render};
use hesn::graph::{Graph, NodeId};
use hesn::interp::clear::{ClearEngine, evaluate, predict};
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

/// What a model with masks learns, and how many look-ups its step has beside those of the same model without.
#[test]
fn a_network_with_dropout_learns_digits_with_fewer_look_ups() {
    let model = |rate: &str| {
        format!("model M(x: [64]) -> [10] {{ x |> dense(48) |> relu |> dropout(rate: {rate}) |> dense(10) }}")
    };
    let (task, whole) = (
        program(&model("0.25"), "cross_entropy", "1/4", 16),
        program(&model("0"), "cross_entropy", "1/4", 16),
    );
    let digits = Digits::load();
    let training = Training::compile(&task, digits.train.1.len(), Settings::default()).unwrap();
    let mut engine = ClearEngine::new(
        training.step.clone(),
        training.gradients.clone(),
        training.rate,
        training.architecture.initial(&training.forward, 1),
    )
    .with_masks(training.masked.clone());
    for epoch in 0..training.epochs {
        engine.begin_epoch(epoch, 1).unwrap();
        learn(&mut engine, &digits, 1);
    }
    let right = recognised(&training.forward, training.logits, &engine.parameters().unwrap(), &digits);
    assert!(right > 0.9, "{right}");
    // One epoch runs encrypted; its masked units are looked up neither forward nor backward.
    let once = |task: &TrainTask| {
        let mut task = task.clone();
        task.epochs.value = 1;
        let training = Training::compile(&task, digits.train.1.len(), Settings::default()).unwrap();
        training.schedule.unwrap().luts()
    };
    let (masked, whole) = (once(&task), once(&whole));
    assert!(masked + 12 * 40 <= whole, "{masked} look-ups with a mask, {whole} without");
    assert!(training.schedule.is_err_and(|why| why[0].code == "E0504"));
}

/// A regression: the mean squared error of a small net on a function of two variables.
#[test]
fn a_regression_learns_a_function() {
    let task = task(
        "data d = csv(\"d.csv\") { target: y, scale: none, split: 0.8 }\n\
         model M(x: [2]) -> [1] { x |> dense(24) |> tanh |> dense(1) }\n\
         train M on d { loss: mean_squared_error(decay: 1/1024), sgd: rate 1/4, batch: 32, epochs: 1 }",
    );
    let at =
        |i: usize| ((i as f32 * 0.618_034).fract() * 2.0 - 1.0, (i as f32 * 0.754_878).fract() * 2.0 - 1.0);
    let truth = |(a, b): (f32, f32)| (2.0 * a).sin() * 0.5 + a * b;
    let features: Vec<f32> = (0..512).flat_map(|i| [at(i).0, at(i).1]).collect();
    let labels: Vec<f32> = (0..512).map(|i| truth(at(i))).collect();
    let params = Architecture::of(&task.graph, task.logits).initial(&task.graph, 3);
    let mut engine = ClearEngine::for_loss(&task.graph, task.loss, task.rate.value, params).unwrap();
    for _ in 0..300 {
        for (index, (features, labels)) in features.chunks(64).zip(labels.chunks(32)).enumerate() {
            let batch = Batch { index, size: 32, features, labels, arguments: None };
            engine.step(&batch, &Unwatched).unwrap();
        }
    }
    let new: Vec<(f32, f32)> = (1000..1100).map(at).collect();
    let features: Vec<f32> = new.iter().flat_map(|&(a, b)| [a, b]).collect();
    let batch = Batch { index: 0, size: new.len(), features: &features, labels: &[], arguments: None };
    let params = engine.parameters().unwrap();
    let found = predict(&task.graph, &[task.logits], &params, &batch).unwrap().remove(0);
    let square: f32 = found.iter().zip(&new).map(|(z, &x)| (z - truth(x)).powi(2)).sum();
    let rmse = (square / new.len() as f32).sqrt();
    assert!(rmse < 0.1, "the root mean square error is {rmse}");
}

/// `decay` of every loss pulls a logit back to where the loss is least without labels.
#[test]
fn every_loss_differentiates_to_prediction_less_label_plus_decay() {
    type Predict = fn(&[f32]) -> Vec<f32>;
    let softmax: Predict = |z| {
        let most = z.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = z.iter().map(|v| (v - most).exp()).sum();
        z.iter().map(|v| (v - most).exp() / sum).collect()
    };
    let sigmoid: Predict = |z| z.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect();
    let cases: [(&str, usize, Predict); 4] = [
        ("cross_entropy", 3, softmax),
        ("one_vs_all", 3, sigmoid),
        ("binary_cross_entropy", 1, sigmoid),
        ("mean_squared_error", 1, |z| z.to_vec()),
    ];
    for (loss, outputs, predict) in cases {
        let outcome = if loss == "mean_squared_error" { "target" } else { "label" };
        let classes = if outputs == 1 { "" } else { ", classes: 3" };
        // The bias is the logit: the features are zero.
        let task = task(&format!(
            "data d = csv(\"d.csv\") {{ {outcome}: y, scale: none, split: 0.8{classes} }}\n\
             model M(x: [1]) -> [{outputs}] {{ x |> dense({outputs}) }}\n\
             train M on d {{ loss: {loss}(decay: 1/8), sgd: rate 1, batch: all, epochs: 1 }}"
        ));
        let mut graph = task.graph.clone();
        let gradient = graph.differentiate(task.loss).unwrap().gradients[1].1;
        for logits in [[0.5f32, -1.25, 2.0], [-3.0, -3.5, 1.0]] {
            let (z, y) = (&logits[..outputs], &[0.0, 1.0, 0.0][..outputs]);
            let batch = Batch { index: 0, size: 1, features: &[0.0], labels: y, arguments: None };
            let found = evaluate(&graph, &[gradient], &[vec![0.0; outputs], z.to_vec()], &batch).unwrap();
            for (k, p) in predict(z).into_iter().enumerate() {
                let expected = p - y[k] + z[k] / 8.0;
                assert!(
                    (found[0][k] - expected).abs() < 1e-4,
                    "{loss}: {:?}, not {expected} at {k}",
                    found[0]
                );
            }
        }
    }
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
