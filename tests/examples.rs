//! The example programs on their real data.
#![cfg(feature = "client")]

use std::path::Path;

use hesn::data::{Dataset, Loader};
use hesn::diagnostics::{Diagnostic, Sources};
use hesn::plan::compile::{Evaluation, Settings, Training};
use hesn::run::events::{ResultRecord, Unobserved};
use hesn::run::options::{EngineKind, RunOptions};
use hesn::run::train::{Outcome, train};
use hesn::typeck::{DataCatalog, DataSpec, NoData, Schema, Task, TrainTask, check};

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

/// Test accuracy of an example on the clear engine.
fn clear(program: &str, steps: usize, seed: u64) -> f64 {
    let (task, data) = load(program);
    let training = Training::compile(&task, data.train.len, Settings::default()).unwrap();
    let options = RunOptions {
        engine: EngineKind::Clear,
        seed,
        steps: Some(steps),
        epochs: None,
        ..RunOptions::default()
    };
    let done = train(&training, task.batch.value, &data, &options, &Unobserved).unwrap().done;
    assert_eq!(done.steps, steps);
    done.scores.test_accuracy.unwrap()
}

/// Knows what CIFAR-10 is, since it does not come with hesn.
struct Fetched(Loader);

impl DataCatalog for Fetched {
    fn schema(&self, spec: &DataSpec) -> Option<Result<Schema, Vec<Diagnostic>>> {
        match spec.path.value.as_str() {
            "data/cifar10" => Some(Ok(Schema {
                columns: Vec::new(),
                features: vec![3, 32, 32],
                classes: Some(10),
                train: 50_000,
                test: 10_000,
                range: spec.scale.value.range(),
            })),
            _ => self.0.schema(spec),
        }
    }
}

#[test]
fn every_example_is_accepted() {
    let mut programs = 0;
    for entry in std::fs::read_dir("examples").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "hes") {
            continue;
        }
        let mut sources = Sources::default();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let file = sources.add(&name, std::fs::read_to_string(&path).unwrap());
        let checked = check(&mut sources, file, &Fetched(Loader::beside(&path)));
        assert!(!checked.has_errors(), "{name}: {:?}", checked.diagnostics);
        assert!(!checked.program.unwrap().tasks.is_empty(), "{name} has something to run");
        let readme = std::fs::read_to_string("README.md").unwrap();
        assert!(readme.contains(&format!("(examples/{name})")), "{name} stands in the README's list");
        programs += 1;
    }
    assert!(programs >= 7);
}

#[test]
fn a_data_set_that_is_not_there_names_the_script_that_fetches_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    for file in ["cifar10.hes", "data/fetch.sh"] {
        std::fs::copy(Path::new("examples").join(file), folder.path().join(file)).unwrap();
    }
    let mut sources = Sources::default();
    let path = folder.path().join("cifar10.hes");
    let file = sources.add("cifar10.hes", std::fs::read_to_string(&path).unwrap());
    let checked = check(&mut sources, file, &Loader::beside(&path));
    let error = checked.diagnostics.iter().find(|diagnostic| diagnostic.code == "E0601").unwrap();
    assert!(error.help.as_ref().unwrap().ends_with("fetch.sh cifar10` puts it there"), "{error:?}");
}

#[test]
fn the_mnist_examples_learn_from_the_images_that_come_with_hesn() {
    let cnn = clear("cnn.hes", 100, 0);
    assert!(cnn >= 0.88, "{cnn}");
    let mlp = clear("mlp.hes", 100, 0);
    assert!(mlp >= 0.84, "{mlp}");
    let lenet5 = clear("lenet5.hes", 15, 0);
    assert!(lenet5 >= 0.4, "{lenet5}");
}

#[test]
fn digits_cnn_learns_within_few_steps() {
    let accuracies = [0, 1, 2].map(|seed| clear("digits_cnn.hes", 44, seed));
    assert!(accuracies.iter().all(|&accuracy| accuracy >= 0.92), "{accuracies:?}");
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
#[ignore = "a quarter of a minute of bootstraps; encrypted steps of small programs run always"]
fn breast_cancer_encrypted_reaches_its_accuracy() {
    let done = run("breast_cancer.hes", RunOptions { compare: true, ..RunOptions::default() }).done;
    assert!(done.scores.test_accuracy.unwrap() >= 0.95);
}

fn evaluate(source: &str, engine: EngineKind) -> ResultRecord {
    let mut sources = Sources::default();
    let file = sources.add("test.hes", source);
    let checked = check(&mut sources, file, &NoData);
    assert!(!checked.has_errors(), "{:?}", checked.diagnostics);
    let task = checked.program.unwrap().tasks.into_iter().find_map(|task| match task {
        Task::Eval(task) => Some(*task),
        _ => None,
    });
    let evaluation = Evaluation::compile(&task.unwrap(), Settings::default()).unwrap();
    if let Err(diagnostics) = &evaluation.schedule {
        panic!("{diagnostics:?}");
    }
    let options = RunOptions { engine, ..RunOptions::default() };
    let record = hesn::run::evaluate::evaluate(&evaluation, &options, &Unobserved).unwrap();
    println!("{record:?} alignments {:?}", evaluation.typing.alignments);
    record
}

const TWO_PRODUCTS: &str = "
fn two_products(x: bfv<2>[64], u: bfv<2>[64, 32], v: bfv<1>[32, 10]) -> bfv<0>[10] {
    x @ u @ v
}
eval two_products(x: uniform(-1, 1), u: uniform(-0.5, 0.5), v: uniform(-0.5, 0.5))
";

#[test]
fn two_products_in_a_row_evaluate_on_all_engines() {
    for engine in [EngineKind::Clear, EngineKind::Simulate, EngineKind::Encrypted] {
        let record = evaluate(TWO_PRODUCTS, engine);
        assert_eq!(record.values.len(), 10);
        assert!(record.max_error < 0.05, "{record:?}");
    }
}

const ALIGNED: &str = "
fn aligned(x: bfv<2>[4], u: bfv<2>[4, 4], v: bfv<1>[4, 4]) -> bfv<0>[4] {
    let h = x @ u
    h @ v + h
}
eval aligned(x: uniform(-1, 1), u: uniform(-1, 1), v: uniform(-1, 1))
";

#[test]
fn an_alignment_is_counted_and_carried_out() {
    for engine in [EngineKind::Simulate, EngineKind::Encrypted] {
        let record = evaluate(ALIGNED, engine);
        assert!(record.max_error < 0.01, "{record:?}");
    }
}
