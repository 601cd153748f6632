//! What a user sees of ranges: diagnostics, and the range that each table gets.

use hesn::diagnostics::{Diagnostic, Sources, render};
use hesn::graph::{Graph, Op};
use hesn::plan::initial::Architecture;
use hesn::typeck::ranges::{ArgumentSize, RangeOptions, Ranges, Reason, solve};
use hesn::typeck::{NoData, Task, check};

/// The graph and the ranges of the last task of a program, or the errors that the user sees instead.
fn ranged(text: &str) -> Result<(Graph, Ranges, Sources), String> {
    let mut sources = Sources::default();
    let file = sources.add("program.hes", text);
    let checked = check(&mut sources, file, &NoData);
    let Some(task) = checked.program.and_then(|program| program.tasks.into_iter().last()) else {
        return Err(shown(&checked.diagnostics, &sources));
    };
    let (graph, outputs, options) = match task {
        Task::Function(task) => (task.graph, vec![task.result], RangeOptions::default()),
        Task::Eval(task) => {
            let size =
                |range: (f64, f64)| ArgumentSize { range, rms: range.0.abs().max(range.1.abs()) / 2.0 };
            let arguments = task
                .arguments
                .iter()
                .filter_map(|argument| Some((argument.name.clone(), size(argument.distribution?.range()))));
            let options = RangeOptions { arguments: arguments.collect(), ..RangeOptions::default() };
            (task.graph, vec![task.result], options)
        }
        Task::Train(task) => {
            let (mut graph, nodes) = task.graph.with_joined_biases(&[task.loss, task.logits]).unwrap();
            let architecture = Architecture::of(&graph, nodes[1]);
            let clip = task.optimizer.clip.map(|bound| (bound, nodes[1]));
            let derivative = graph.differentiate_clipped(nodes[0], clip).unwrap();
            let gradients: Vec<_> = derivative.gradients.into_iter().map(|(_, node)| node).collect();
            let (graph, gradients) = graph.fused(&gradients).unwrap();
            let options = RangeOptions {
                input: task.input_range,
                label: Some((0.0, 1.0)),
                last: architecture.last,
                linear: architecture.linear,
                ..RangeOptions::default()
            };
            (graph, gradients, options)
        }
    };
    match solve(&graph, &outputs, &options) {
        Ok(ranges) => Ok((graph, ranges, sources)),
        Err(diagnostics) => Err(shown(&diagnostics, &sources)),
    }
}

fn shown(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    diagnostics.iter().map(|d| render(d, sources, false)).collect::<Vec<_>>().join("\n")
}

fn refused(text: &str) -> String {
    match ranged(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(shown) => shown,
    }
}

/// The tables by name, with their ranges.
fn tables(text: &str) -> Vec<(String, f64, Reason)> {
    let (graph, ranges, _) = ranged(text).unwrap_or_else(|shown| panic!("{shown}"));
    let mut tables: Vec<_> = ranges
        .tables(&graph)
        .map(|(id, range)| (graph.node(id).op.name().to_owned(), range.range, range.why))
        .collect();
    tables.dedup();
    tables
}

fn training(layers: &str, loss: &str) -> String {
    format!(
        "use std::{{dense, relu, binary_cross_entropy, cross_entropy}}\n\
         data d = csv(\"d.csv\") {{ label: y, scale: standard, split: 0.8 }}\n\
         model M(x: [30]) -> [1] {{ x |> {layers} }}\n\
         train M on d {{ loss: {loss}, sgd: rate 0.5, batch: all, epochs: 15 }}\n"
    )
}

#[test]
fn a_logarithm_of_zero() {
    insta::assert_snapshot!(refused("fn f(x: [8], w: [8, 8]) -> [8] {\n    log(x @ w)\n}"));
}

#[test]
fn a_table_of_a_reciprocal() {
    insta::assert_snapshot!(refused(
        "lut inverse(z) = 1 / z\nfn f(x: [8]) -> [8] {\n    let y: [8] in -4..4 = x\n    inverse(y)\n}"
    ));
}

#[test]
fn a_derivative_that_is_undefined() {
    insta::assert_snapshot!(refused(
        &training("dense(4) |> abs |> root |> dense(1)", "binary_cross_entropy")
            .replace("model", "lut root(z) = sqrt(max(z, 0))\nmodel")
    ));
}

#[test]
fn a_range_that_every_value_leaves() {
    insta::assert_snapshot!(refused(
        "use std::{sigmoid}\nfn f(x: [8]) -> [8] {\n    let y: [8] in -4..4 = sigmoid(x) + 10\n    sigmoid(y)\n}"
    ));
}

#[test]
fn a_range_wider_than_the_plaintext_modulus() {
    insta::assert_snapshot!(refused(
        "use std::{sigmoid}\nfn f(x: [8] in -1000000000..1000000000) -> [8] {\n    sigmoid(x)\n}"
    ));
}

#[test]
fn a_constant_beyond_the_plaintext_modulus() {
    insta::assert_snapshot!(refused(
        "use std::{sigmoid}\nfn f(x: [8]) -> [8] {\n    sigmoid(sigmoid(x) + 100000000000)\n}"
    ));
}

#[test]
fn a_range_that_values_are_likely_to_leave() {
    let text = training("dense(4) |> relu |> dense(1) |> narrow", "binary_cross_entropy")
        .replace("model", "fn narrow(z: [n] in -1..1) -> [n] { z }\nmodel");
    let (_, ranges, sources) = ranged(&text).unwrap_or_else(|shown| panic!("{shown}"));
    insta::assert_snapshot!(shown(&ranges.warnings, &sources));
}

#[test]
fn a_range_away_from_the_pole_is_accepted() {
    let tables = tables("fn f(x: [8] in 0.5..8) -> [8] {\n    log(x)\n}");
    assert_eq!(tables, [("log".to_owned(), 8.0, Reason::Written)]);
}

#[test]
fn a_linear_model_reads_a_range_that_grows_with_its_features() {
    // 3·√30 = 16.4
    let logistic = training("dense(1)", "binary_cross_entropy");
    assert_eq!(tables(&logistic), [("softplus'".to_owned(), 16.0, Reason::LinearModel)]);
    let wide = logistic.replace("[30]", "[300]");
    assert_eq!(tables(&wide)[0].1, 64.0);
}

#[test]
fn layers_have_the_ranges_that_training_is_stable_with() {
    let tables = tables(&training("dense(16) |> relu |> dense(1)", "binary_cross_entropy"));
    let of = |name: &str| tables.iter().find(|table| table.0 == name).map(|table| (table.1, table.2));
    assert_eq!(of("relu"), Some((8.0, Reason::HiddenLayer)));
    assert_eq!(of("softplus'"), Some((16.0, Reason::Logits)));
}

/// A training of a net for images of 8×8 pixels.
fn of_images(layers: &str) -> String {
    format!(
        "data d = csv(\"d.csv\") {{ label: y, scale: unit, split: 0.8, classes: 10 }}\n\
         model M(x: [64]) -> [10] {{ x |> reshape([1, 8, 8]) |> {layers} |> flatten |> dense(10) }}\n\
         train M on d {{ loss: one_vs_all, sgd: rate 0.5, batch: all, epochs: 15 }}\n"
    )
}

#[test]
fn convolutions_and_pools_have_ranges_by_rule() {
    let of = |layers: &str, name: &str| -> Vec<(f64, Reason)> {
        tables(&of_images(layers)).into_iter().filter(|t| t.0 == name).map(|t| (t.1, t.2)).collect()
    };
    assert_eq!(of("conv2d(4, pad: same) |> relu", "relu"), [(16.0, Reason::Convolution)]);
    assert_eq!(
        of("conv2d(4, pad: same, stride: 2) |> batch_norm |> relu", "relu"),
        [(16.0, Reason::Convolution)]
    );
    assert_eq!(of("conv2d(4, pad: same) |> avg_pool |> tanh", "tanh"), [(16.0, Reason::Convolution)]);
    // The differences of two rounds of a tournament, then what has won.
    let pool = "conv2d(4, pad: same) |> max_pool |> relu";
    assert_eq!(of(pool, "max"), [(16.0, Reason::Convolution); 2]);
    assert_eq!(of(pool, "relu").len(), 1);
    // Of tables' outputs, differences have a range of their own.
    assert_eq!(of("conv2d(4, pad: same) |> sigmoid |> max_pool", "max"), [(1.0, Reason::Certain); 2]);
    // What is written wins.
    let written = of_images("conv2d(4, pad: same) |> narrow |> relu")
        .replace("model", "fn narrow(z: [c, h, w] in -8..8) -> [c, h, w] { z }\nmodel");
    let relu = tables(&written).into_iter().find(|table| table.0 == "relu");
    assert_eq!(relu.map(|table| (table.1, table.2)), Some((8.0, Reason::Written)));
}

/// A clipped gradient is read in a range that holds its bound; a bound below 1 is kept by the table itself.
#[test]
fn gradients_are_read_in_the_range_of_their_bound() {
    for (clip, range) in [("1/4", 1.0), ("3", 4.0)] {
        let text = training("dense(16) |> relu |> dense(1)", &format!("binary_cross_entropy, clip: {clip}"));
        let tables = tables(&text);
        let clips: Vec<_> = tables.iter().filter(|table| table.0 == "clip").map(|t| (t.1, t.2)).collect();
        assert!(
            !clips.is_empty() && clips.iter().all(|clip| *clip == (range, Reason::Gradient)),
            "{tables:?}"
        );
    }
}

#[test]
fn weights_have_the_range_of_their_fan_in() {
    let (graph, ranges, _) = ranged(&training("dense(16) |> relu |> dense(1)", "binary_cross_entropy"))
        .unwrap_or_else(|e| panic!("{e}"));
    let of = |fan_in: usize| {
        graph
            .params()
            .iter()
            .zip(&ranges.params)
            .find(|(info, _)| info.fan_in == fan_in)
            .map(|(_, range)| *range)
    };
    // 6·√(2/30) = 1.55; 6·√(2/16) = 2.1, twice for the last layer.
    assert_eq!((of(30), of(16)), (Some(2.0), Some(8.0)));
}

#[test]
fn a_softmax_is_defined_on_its_ranges() {
    let text = training("dense(16) |> relu |> dense(10)", "cross_entropy").replace("-> [1]", "-> [10]");
    let tables = tables(&text);
    let differences = tables.iter().find(|table| table.0 == "max");
    assert_eq!(differences.map(|table| table.1), Some(16.0));
    assert!(tables.iter().filter(|table| table.0.contains("exp")).all(|table| table.1 == 8.0), "{tables:?}");
}

#[test]
fn what_is_certain_narrows_a_range() {
    let tables = tables("use std::{sigmoid}\nfn f(x: [8]) -> [8] {\n    abs(sigmoid(x) - 0.5)\n}");
    assert!(tables.contains(&("abs".to_owned(), 0.5, Reason::Certain)), "{tables:?}");
}

#[test]
fn a_function_that_is_run_reads_ranges_of_its_arguments_sizes() {
    let text =
        "fn f(x: [64], u: [64, 32]) -> [32] { abs(x @ u) }\neval f(x: normal(0, 0.5), u: uniform(-1, 1))";
    let (graph, ranges, _) = ranged(text).unwrap_or_else(|shown| panic!("{shown}"));
    let (_, table) = ranges.tables(&graph).next().unwrap();
    // Six times √64 · 1.25 · 0.5 = 5.
    assert_eq!((table.range, table.why), (32.0, Reason::Size));
    assert!(graph.ids().any(|id| matches!(graph.node(id).op, Op::Contract { .. })));
}
