//! Frozen layers and `init:`: constants of the graph, cut off where the client can compute them.

use hesn::diagnostics::{Diagnostic, Sources, render};
use hesn::graph::{Graph, NodeId, Op, elements};
use hesn::interp::Batch;
use hesn::interp::clear::predict;
use hesn::plan::initial::Architecture;
use hesn::typeck::{self, DataCatalog, DataSpec, Schema, Spanned, Task, TrainTask, WeightTensor, Weights};

/// A file of weights beside data that nobody sees.
struct File(Weights);

impl DataCatalog for File {
    fn schema(&self, _: &DataSpec) -> Option<Result<Schema, Vec<Diagnostic>>> {
        None
    }

    fn weights(&self, _: &Spanned<String>) -> Option<Result<Weights, Vec<Diagnostic>>> {
        Some(Ok(self.0.clone()))
    }
}

fn file(tensors: &[(&str, &[usize])]) -> File {
    let tensor = |&(name, shape): &(&str, &[usize])| {
        let values = numbers(elements(shape), name.len() as u32 + shape[0] as u32);
        WeightTensor { name: name.into(), shape: shape.to_vec(), values: values.into() }
    };
    File(Weights { tensors: tensors.iter().map(tensor).collect() })
}

/// Numbers in (−1, 1) that look random.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn checked(model: &str, options: &str, file: &dyn DataCatalog) -> (Option<TrainTask>, String) {
    let text = format!(
        "data d = csv(\"d.csv\") {{ label: y, scale: unit, split: 0.8, classes: 3 }}\n{model}\n\
         train M on d {{ loss: cross_entropy, sgd: rate 1/4, batch: 8, epochs: 2{options} }}\n"
    );
    let mut sources = Sources::default();
    let id = sources.add("program.hes", text);
    let checked = typeck::check(&mut sources, id, file);
    let shown = checked.diagnostics.iter().map(|d| render(d, &sources, false)).collect();
    let task = checked.program.and_then(|program| {
        program.tasks.into_iter().find_map(|task| match task {
            Task::Train(task) => Some(*task),
            _ => None,
        })
    });
    (task, shown)
}

fn task(model: &str, options: &str, file: &dyn DataCatalog) -> TrainTask {
    let (task, shown) = checked(model, options, file);
    assert_eq!(shown, "");
    task.unwrap()
}

const INIT: &str = ", init: \"weights.json\"";
const SAMPLES: usize = 5;

fn per_sample(graph: &Graph, node: NodeId, params: &[Vec<f32>], features: &[f32]) -> Vec<f32> {
    let batch = Batch { index: 0, size: SAMPLES, features, labels: &[], arguments: None };
    predict(graph, &[node], params, &batch).unwrap().remove(0)
}

/// A model gives the same whether the client computes its frozen layers or not.
#[test]
fn a_frozen_prefix_is_cut_off_and_gives_the_same() {
    let weights = file(&[
        ("conv2d1.k", &[4, 1, 3, 3]),
        ("conv2d1.b", &[4, 1, 1]),
        ("dense1.w", &[36, 6]),
        ("dense1.b", &[6]),
    ]);
    let models = [
        "model M(x: [1, 5, 5]) -> [3] { x |> frozen conv2d(4) |> relu |> flatten |> frozen dense(6) |> tanh |> dense(3) }",
        // Two values cross the border.
        "layer cross(x: [n], y: [m]) -> [3] { dense(x, 3) + dense(y, 3) }\n\
         model M(x: [1, 5, 5]) -> [3] {\n let h = x |> frozen conv2d(4) |> relu |> flatten\n\
         let g = frozen dense(h, 6)\n cross(g |> tanh, h) }",
    ];
    for model in models {
        let cut = task(model, INIT, &weights);
        let whole = task(model, &format!("{INIT}, prefix: encrypted"), &weights);
        assert!(whole.prefix.is_none());
        assert_eq!(cut.graph.params(), whole.graph.params());
        let is_conv = |graph: &Graph| graph.ids().any(|id| matches!(graph.node(id).op, Op::Conv(_)));
        assert!(is_conv(&whole.graph) && !is_conv(&cut.graph));
        let prefix = cut.prefix.as_ref().unwrap();
        assert_eq!(prefix.graph.node(prefix.output).shape, cut.graph.node(cut.input).shape);
        let names: Vec<&str> = cut.frozen.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["conv2d1.k", "conv2d1.b", "dense1.w", "dense1.b"]);

        let features: Vec<f32> = numbers(SAMPLES * 25, 3).iter().map(|v| v.abs()).collect();
        let params = Architecture::of(&whole.graph, whole.logits).initial(&whole.graph, 1);
        let made = per_sample(&prefix.graph, prefix.output, &[], &features);
        let (low, high) = prefix.range;
        assert!(
            made.iter().all(|&v| low <= f64::from(v) && f64::from(v) <= high),
            "beyond {:?}",
            prefix.range
        );
        let found = per_sample(&cut.graph, cut.logits, &params, &made);
        let expected = per_sample(&whole.graph, whole.logits, &params, &features);
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() < 1e-4, "{a} and {b}");
        }
        let rms = (made.iter().map(|v| f64::from(v * v)).sum::<f64>() / made.len() as f64).sqrt();
        let nominal = cut.input_rms.unwrap();
        assert!((0.25..4.0).contains(&(nominal / rms)), "the nominal size is {nominal}, the real one {rms}");
    }
}

#[test]
fn layers_start_from_a_file_as_far_as_it_has_them() {
    let weights = file(&[("dense1.w", &[4, 6]), ("dense1.b", &[6])]);
    let task =
        task("model M(x: [4]) -> [3] { x |> dense(6) |> relu |> dense(3, bias: 0.5) }", INIT, &weights);
    assert!(task.prefix.is_none() && task.frozen.is_empty());
    let (joined, nodes) = task.graph.with_joined_biases(&[task.logits]).unwrap();
    let initial = Architecture::of(&joined, nodes[0]).initial(&joined, 7);
    let given: Vec<f32> = weights.0.tensors.iter().flat_map(|tensor| tensor.values.to_vec()).collect();
    assert_eq!(initial[0], given);
    assert_eq!(initial[1][18..], [0.5; 3]);
}

/// A frozen layer between trained ones stays in the graph, as a product with a constant.
#[test]
fn a_frozen_layer_in_the_middle_has_no_gradient() {
    let weights = file(&[("dense2.w", &[6, 6]), ("dense2.b", &[6])]);
    let model = "model M(x: [4]) -> [3] { x |> dense(6) |> relu |> frozen dense(6) |> relu |> dense(3) }";
    let task = task(model, INIT, &weights);
    assert!(task.prefix.is_none());
    let names: Vec<&str> = task.graph.params().iter().map(|info| info.name.as_str()).collect();
    assert_eq!(names, ["dense1.w", "dense1.b", "dense3.w", "dense3.b"]);
    let mut graph = task.graph.clone();
    assert_eq!(graph.differentiate(task.loss).unwrap().gradients.len(), 4);
}

#[test]
fn batch_normalisation_is_a_multiple_and_an_offset() {
    let mut weights = file(&[
        ("batch_norm1.scale", &[2]),
        ("batch_norm1.shift", &[2]),
        ("batch_norm1.mean", &[2]),
        ("batch_norm1.variance", &[2]),
    ]);
    weights.0.tensors[3].values = vec![0.25, 4.0].into();
    let task = task(
        "model M(x: [2, 2, 2]) -> [3] { x |> batch_norm |> flatten |> dense(3) }",
        &format!("{INIT}, prefix: clear"),
        &weights,
    );
    let [scale, shift, mean, _] = [0, 1, 2, 3].map(|k| weights.0.tensors[k].values.clone());
    let prefix = task.prefix.unwrap();
    let features = numbers(SAMPLES * 8, 9);
    let found = per_sample(&prefix.graph, prefix.output, &[], &features);
    for (i, (x, y)) in features.iter().zip(found).enumerate() {
        let c = i / 4 % 2;
        let deviation = [0.5, 2.0][c];
        let expected = (x - mean[c]) / deviation * scale[c] + shift[c];
        assert!((y - expected).abs() < 1e-3, "{i}: {y}, not {expected}");
    }
}

macro_rules! snapshots {
    ($($name:ident: $tensors:expr, $model:expr, $options:expr;)*) => {$(
        #[test]
        fn $name() {
            let (_, shown) = checked($model, $options, &file($tensors));
            insta::assert_snapshot!(shown);
        }
    )*};
}

snapshots! {
    frozen_without_a_file: &[], "model M(x: [4]) -> [3] { x |> frozen dense(6) |> relu |> dense(3) }", "";
    frozen_weights_that_the_file_lacks: &[("dense1.weight", &[4, 6])],
        "model M(x: [4]) -> [3] { x |> frozen dense(6) |> relu |> dense(3) }", INIT;
    frozen_weights_of_another_shape: &[("dense1.w", &[4, 8])],
        "model M(x: [4]) -> [3] { x |> frozen dense(6) |> relu |> dense(3) }", INIT;
    weights_of_another_shape: &[("dense1.w", &[4, 6]), ("dense2.w", &[6, 10])],
        "model M(x: [4]) -> [3] { x |> dense(6) |> relu |> dense(3) }", INIT;
    a_model_that_is_all_frozen: &[("dense1.w", &[4, 3]), ("dense1.b", &[3])],
        "model M(x: [4]) -> [3] { x |> frozen dense(3) }", INIT;
}
