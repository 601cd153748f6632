//! The example programs on their real data.
#![cfg(feature = "client")]

use std::path::Path;

use hesn::data::{Dataset, Loader};
use hesn::diagnostics::Sources;
use hesn::plan::compile::{Settings, Training};
use hesn::run::events::Unobserved;
use hesn::run::train::{EngineKind, Outcome, RunOptions, train};
use hesn::typeck::{Task, TrainTask, check};

fn load(program: &str) -> (TrainTask, std::sync::Arc<Dataset>) {
    let path = Path::new("examples").join(program);
    let mut sources = Sources::default();
    let file = sources.add(program, std::fs::read_to_string(&path).unwrap());
    let loader = Loader::beside(&path);
    let checked = check(&mut sources, file, &loader);
    assert!(!checked.has_errors(), "{:?}", checked.diagnostics);
    let program = checked.program.unwrap();
    let task = program.tasks.into_iter().find_map(|task| match task {
        Task::Train(task) => Some(*task),
        _ => None,
    });
    let task = task.unwrap();
    let data = loader.dataset(&program.data[task.data]).unwrap();
    (task, data)
}

fn run(program: &str, options: RunOptions) -> Outcome {
    let (task, data) = load(program);
    let training = Training::compile(&task, data.train.len, Settings::default()).unwrap();
    if let Err(diagnostics) = &training.schedule {
        panic!("{diagnostics:?}");
    }
    let outcome = train(&training, task.batch.value, &data, &options, &Unobserved).unwrap();
    println!("{:?}", outcome.done);
    outcome
}

#[test]
fn breast_cancer_simulated_comes_close_to_clear() {
    let accuracies: Vec<(f64, f64)> = (0..5)
        .map(|seed| {
            let options =
                RunOptions { engine: EngineKind::Simulate, seed, compare: true, ..RunOptions::default() };
            let done = run("breast_cancer.hes", options).done;
            (done.scores.test_accuracy.unwrap(), done.clear_accuracy.unwrap())
        })
        .collect();
    let mean = |f: fn(&(f64, f64)) -> f64| accuracies.iter().map(f).sum::<f64>() / accuracies.len() as f64;
    let (simulated, clear) = (mean(|a| a.0), mean(|a| a.1));
    assert!(clear >= 0.95 && (simulated - clear).abs() <= 0.01, "simulate {simulated}, clear {clear}");
}

#[test]
fn digits_simulated_learn() {
    let options = RunOptions { engine: EngineKind::Simulate, compare: true, ..RunOptions::default() };
    let twenty =
        run("digits.hes", RunOptions { steps: Some(20), ..options }).done.scores.test_accuracy.unwrap();
    let sixty =
        run("digits.hes", RunOptions { steps: Some(60), ..options }).done.scores.test_accuracy.unwrap();
    assert!(twenty >= 0.90 && sixty >= 0.93, "20 steps {twenty}, 60 steps {sixty}");
}

#[test]
#[ignore = "a minute of bootstraps; one encrypted step runs always"]
fn breast_cancer_encrypted_reaches_its_accuracy() {
    let done = run("breast_cancer.hes", RunOptions { compare: true, ..RunOptions::default() }).done;
    assert!(done.scores.test_accuracy.unwrap() >= 0.95);
}
