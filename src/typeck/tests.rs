use super::*;
use crate::diagnostics::render;
use crate::graph::{Op, elements};

fn checked(text: &str) -> (Checked, Sources) {
    let mut sources = Sources::default();
    let file = sources.add("program.hes", text);
    let checked = check(&mut sources, file, &NoData);
    (checked, sources)
}

fn program(text: &str) -> Program {
    let (checked, sources) = checked(text);
    let shown: String = checked.diagnostics.iter().map(|d| render(d, &sources, false)).collect();
    assert_eq!(shown, "", "in {text}");
    checked.program.unwrap_or_default()
}

fn training(text: &str) -> TrainTask {
    match program(text).tasks.into_iter().next() {
        Some(Task::Train(task)) => *task,
        other => panic!("no training in {text}: {other:?}"),
    }
}

fn codes(text: &str) -> Vec<&'static str> {
    checked(text).0.diagnostics.iter().map(|d| d.code).collect()
}

const LOGISTIC: &str = r#"
data cancer = csv("data/breast_cancer.csv") { label: diagnosis, scale: standard, split: 0.8 }
model Logistic(x: [30]) -> [1] { x |> dense(1) }
train Logistic on cancer { loss: binary_cross_entropy, sgd: rate 0.5, batch: all, epochs: 15 }
"#;

const CNN: &str = r#"
use std::{conv2d, dense, relu, max_pool, flatten, cross_entropy}

data mnist = idx("data/mnist") { scale: unit, train: 6000, test: 1000 }

model Cnn(x: [1, 28, 28]) -> [10] {
    x |> conv2d(5, kernel: 5, stride: 2, pad: same) |> max_pool(2) |> relu
      |> flatten
      |> dense(100) |> relu
      |> dense(10)
}

train Cnn on mnist {
    loss: cross_entropy          // takes the logits
    sgd: rate 0.125
    batch: 128
    epochs: 3
}
"#;

#[test]
fn logistic_regression_is_elaborated() {
    let task = training(LOGISTIC);
    assert_eq!(task.label_kind, LabelKind::Binary);
    assert_eq!((task.rate.value, task.batch.value, task.epochs.value), (0.5, Batch::All, 15));
    assert_eq!(task.input_range, Some((-4.0, 4.0)));
    let names: Vec<_> = task.graph.params().iter().map(|p| (p.name.as_str(), p.shape.clone())).collect();
    assert_eq!(names, [("dense1.w", vec![30, 1]), ("dense1.b", vec![1])]);
    assert_eq!(task.graph.params()[0].fan_in, 30);
    assert_eq!(task.graph.node(task.logits).shape, [1]);
    assert_eq!(task.graph.node(task.loss).shape, [0usize; 0]);
}

#[test]
fn a_convolutional_network_is_elaborated() {
    let task = training(CNN);
    let params: Vec<_> = task.graph.params().iter().map(|p| format!("{} {:?}", p.name, p.shape)).collect();
    assert_eq!(
        params,
        [
            "conv2d1.k [5, 1, 5, 5]",
            "conv2d1.b [5, 1, 1]",
            "dense1.w [245, 100]",
            "dense1.b [100]",
            "dense2.w [100, 10]",
            "dense2.b [10]",
        ]
    );
    assert_eq!(task.label_kind, LabelKind::OneHot(10));
    // Nodes point to the user's file, also those that the library makes.
    for id in task.graph.ids() {
        let span = task.graph.node(id).origin.user();
        assert_eq!(span.map(|s| s.file), Some(FileId(0)), "{:?}", task.graph.node(id));
    }
}

/// The derivative of a loss for its logits, computed in the clear from the graph that `differentiate` gives.
fn gradient(loss: &str, logits: &[f64], label: &[f64]) -> Vec<f64> {
    let n = logits.len();
    let text = format!(
        "data d = csv(\"x.csv\") {{ label: y, classes: {} }}\n\
         model M(x: [{n}]) -> [{n}] {{ param w: [{n}] ~ ones\n x * w }}\n\
         train M on d {{ loss: {loss}, sgd: rate 1, batch: 1, epochs: 1 }}",
        if n == 1 { 2 } else { n }
    );
    let mut task = training(&text);
    let derivative = task.graph.differentiate(task.loss).unwrap();
    let mut values: Vec<Vec<f64>> = Vec::new();
    for id in task.graph.ids() {
        let operands: Vec<Vec<f64>> =
            task.graph.operands(id).iter().map(|o| values[o.index()].clone()).collect();
        let node = task.graph.node(id);
        let zip = |f: fn(f64, f64) -> f64| {
            operands[0].iter().zip(&operands[1]).map(|(a, b)| f(*a, *b)).collect::<Vec<_>>()
        };
        values.push(match &node.op {
            Op::Input => logits.to_vec(),
            Op::Label => label.to_vec(),
            Op::Param(_) => vec![1.0; node.elements()],
            Op::Const(c) => (0..node.elements()).map(|i| c.get(i)).collect(),
            Op::Add => zip(|a, b| a + b),
            Op::Sub => zip(|a, b| a - b),
            Op::Mul => zip(|a, b| a * b),
            Op::Scale(c) => operands[0].iter().map(|a| a * c).collect(),
            Op::Offset(c) => operands[0].iter().map(|a| a + c).collect(),
            Op::Lut(f) => operands[0].iter().map(|a| f.expr.eval(*a)).collect(),
            Op::Gather { map, .. } => {
                let all: Vec<f64> = operands.concat();
                map.iter().map(|&i| all.get(i as usize).copied().unwrap_or(0.0)).collect()
            }
            Op::ScatterAdd { map, .. } => {
                let mut out = vec![0.0; elements(&node.shape)];
                for (i, x) in operands[0].iter().enumerate().filter(|(i, _)| map[*i] != crate::graph::NONE) {
                    out[map[i] as usize] += x;
                }
                out
            }
            Op::Ascribe(_) | Op::Refresh | Op::BatchSum => operands[0].clone(),
            other => panic!("{other:?}"),
        });
    }
    // d loss / d w = δ·x, and x is the logits.
    let (_, node) = derivative.gradients[0];
    values[node.index()].iter().zip(logits).map(|(g, x)| g / x).collect()
}

fn assert_close(a: &[f64], b: &[f64]) {
    assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9), "{a:?} against {b:?}");
}

#[test]
fn every_loss_has_the_derivative_p_minus_y_plus_decay_z() {
    let z = [0.5, -1.25, 2.0];
    let y = [0.0, 0.0, 1.0];
    let total: f64 = z.iter().map(|z: &f64| z.exp()).sum();
    let softmax: Vec<f64> = (0..3).map(|i| z[i].exp() / total - y[i] + z[i] / 64.0).collect();
    assert_close(&gradient("cross_entropy", &z, &y), &softmax);
    let sigmoid: Vec<f64> = (0..3).map(|i| 1.0 / (1.0 + (-z[i]).exp()) - y[i] + z[i] / 128.0).collect();
    assert_close(&gradient("one_vs_all", &z, &y), &sigmoid);
    assert_close(&gradient("binary_cross_entropy(decay: 0)", &[0.5], &[1.0]), &[-1.0 / (1.0 + 0.5f64.exp())]);
    let number = gradient("mean_squared_error", &[0.5], &[2.0]);
    assert_close(&number, &[-1.5]);
}

#[test]
fn the_softmax_takes_three_tables_a_class() {
    let mut task = training(&CNN.replace("cross_entropy  ", "cross_entropy(decay: 0) "));
    let derivative = task.graph.differentiate(task.loss).unwrap();
    let roots: Vec<_> = derivative.gradients.iter().map(|(_, node)| *node).collect();
    let used = task.graph.reachable(&roots);
    let mut tables: Vec<(String, usize)> = Vec::new();
    for id in task.graph.ids().filter(|id| used[id.index()]) {
        if let Op::Lut(f) = &task.graph.node(id).op {
            tables.push((f.name.clone(), task.graph.node(id).elements()));
        }
    }
    let count = |name: &str| tables.iter().filter(|(n, _)| n == name).map(|(_, k)| k).sum::<usize>();
    // A tournament of 9 for the maximum, then exp, log, exp; the maxima of the pooling come on top.
    assert_eq!((count("held_exp"), count("held_log")), (20, 1));
    assert_eq!(count("max"), 5 * 49 * 3 + 9);
}

#[test]
fn written_types_are_noted_with_their_levels() {
    let program = program(
        "fn project(x: bfv<L+1>[n], u: bfv<L+1>[n, m]) -> bfv<L>[m] { x @ u }\n\
         fn twice(x: bfv<2>[4], u: bfv<2>[4, 4], v: bfv<1>[4, 4]) -> bfv<0>[4] in -8..8 { project(project(x, u), v) }\n\
         fn steps(x: bfv<1>[4], w: bfv<1>[4, 4]) -> bfv<1>[4] {\n let mut y = x\n for i in 0..3 { y = refresh(y @ w) }\n y\n}",
    );
    let [Task::Function(twice), Task::Function(steps)] = program.tasks.as_slice() else {
        panic!("{program:?}")
    };
    let written: Vec<_> = twice
        .graph
        .ids()
        .filter_map(|id| match &twice.graph.node(id).op {
            Op::Ascribe(w) => w.level.map(|l| (l.variable, l.offset)),
            _ => None,
        })
        .collect();
    assert_eq!(
        written,
        [
            (None, 2),
            (None, 2),
            (None, 1),
            (Some(0), 1),
            (Some(0), 1),
            (Some(0), 0),
            (Some(1), 1),
            (Some(1), 1),
            (Some(1), 0),
            (None, 0)
        ]
    );
    assert_eq!(steps.graph.loops.len(), 3);
    assert_eq!(steps.graph.loops[0].name, "y");
}

#[test]
fn a_layer_that_nobody_foresaw_trains() {
    let task = training(
        "data d = csv(\"x.csv\") { label: y, classes: 3 }\n\
         lut swish(z, beta: real) = z / (1 + exp(-beta * z))\n\
         layer gated(x: [n], units: int, mode: plain | residual = plain) -> [units] {\n\
             param a: [n, units] ~ he_normal\n\
             param g: [n, units] in -2..2 ~ normal(0, 0.1)\n\
             let y = swish(x @ a, beta: 1.5) * (x @ g)\n\
             if mode == residual { y + slice(x, 0, units) } else { y }\n\
         }\n\
         layer stack(x: [n], depth: int) -> [n] {\n\
             let mut y = x\n\
             for i in 0..depth { y = gated(y, n, mode: residual) }\n\
             y\n\
         }\n\
         model M(x: [8]) -> [3] { x |> stack(2) |> gated(3) }\n\
         train M on d { loss: one_vs_all, sgd: rate 1/4, batch: 16, epochs: 2 }",
    );
    let names: Vec<_> = task.graph.params().iter().map(|p| p.name.as_str()).collect();
    assert_eq!(
        names,
        ["stack1.gated1.a", "stack1.gated1.g", "stack1.gated2.a", "stack1.gated2.g", "gated1.a", "gated1.g"]
    );
    let mut graph = task.graph;
    assert_eq!(graph.differentiate(task.loss).unwrap().gradients.len(), 6);
}

#[test]
fn the_library_knows_its_own_names() {
    let mut sources = Sources::default();
    let library = stdlib::modules(&mut sources);
    let user = parser::ast::Module::default();
    let file = sources.add("program.hes", "");
    let mut errors = Vec::new();
    let scope = scope::Scope::new(&user, &library, file, &mut errors);
    for (module, file) in library.iter().zip(sources.ids()) {
        names::check(module, &scope, file, &mut errors);
    }
    assert_eq!(errors, vec![]);
}

#[test]
fn an_evaluation_draws_its_arguments() {
    let program = program(
        "fn project(x: [n], u: [n, m]) -> [m] { x @ u }\n\
         eval project(normal(0, 0.5), u: uniform(-1, 1), n: 64, m: 10)",
    );
    let [Task::Eval(task)] = program.tasks.as_slice() else { panic!("{program:?}") };
    assert_eq!(task.arguments[0].distribution, Some(Distribution::Normal { mean: 0.0, deviation: 0.5 }));
    assert_eq!(task.graph.node(task.arguments[1].node).shape, [64, 10]);
    assert_eq!(task.graph.node(task.result).shape, [10]);
}

#[test]
fn elaboration_is_bounded() {
    let huge = "fn f(x: [4]) -> [4] { reshape(x, [1000000000000, 1000000000000]) }";
    assert_eq!(codes(huge), ["E0213"]);
    assert_eq!(codes("fn f(x: [1000000, 1000000]) { x }"), ["E0213"]);
    assert_eq!(
        codes("fn f(x: [4]) -> [4] { let mut y = x\n unroll for i in 0..1000000000 { y = y + x }\n y }"),
        ["E0213"]
    );
    let moved = "fn f(x: [8192, 4096]) { let mut y = x\n\
        unroll for i in 0..9 { y = reshape(y, [1024 * 2^(i % 4), 32768 // 2^(i % 4)]) }\n y }";
    assert_eq!(codes(moved), ["E0213"]);
    let nested: String = (1..200).map(|i| format!("fn f{i}(x: [4]) -> [4] {{ f{}(x) }}\n", i - 1)).collect();
    assert_eq!(codes(&format!("fn f0(x: [4]) -> [4] {{ x }}\n{nested}")).first(), Some(&"E0213"));
    let wide: String =
        (1..40).map(|i| format!("fn f{i}(x: [4]) -> [4] {{ f{0}(f{0}(f{0}(x))) }}\n", i - 1)).collect();
    assert_eq!(codes(&format!("fn f0(x: [4]) -> [4] {{ x * 1.5 }}\n{wide}")).first(), Some(&"E0213"));
    let table: String = (1..40).map(|i| format!("lut f{i}(z) = f{0}(z) * f{0}(z + 1)\n", i - 1)).collect();
    assert_eq!(codes(&format!("lut f0(z) = z + z\n{table}")).first(), Some(&"E0213"));
}

#[test]
fn a_flood_of_mistakes_is_cut_off() {
    let text: String = (0..5000).map(|i| format!("let x{i} = y{i}\n")).collect();
    let codes = codes(&text);
    assert_eq!(codes.len(), 101);
    assert_eq!((codes[0], codes[100]), ("E0201", "E0107"));
}

#[test]
fn functions_of_scalars_work_in_tables() {
    let text = "fn cube(x: []) -> [] { x * x * x }\n\
                lut f(z, k: int = 2) = cube(z) / k + (if k > 1 { sigmoid(z) } else { 0 })\n\
                let half = sigmoid(0)\n\
                fn g(x: [3]) -> [3] { f(x) * half }";
    let program = program(text);
    let Some(Task::Function(task)) =
        program.tasks.iter().find(|t| matches!(t, Task::Function(t) if t.name == "g"))
    else {
        panic!("{program:?}")
    };
    let table = task.graph.ids().find_map(|id| match &task.graph.node(id).op {
        Op::Lut(f) => Some(std::sync::Arc::clone(f)),
        _ => None,
    });
    let value = table.unwrap().expr.eval(2.0);
    assert!((value - (4.0 + 1.0 / (1.0 + (-2f64).exp()))).abs() < 1e-12, "{value}");
}

#[test]
fn functions_are_checked_once_where_they_are_called() {
    let program = program(
        "fn helper(x: [4] in 0..1) -> [4] { x + 1 }\n\
         fn outer(x: [4]) -> [4] { helper(x * 0.5) }\n\
         fn alone(x: [4]) -> [4] { x }\n\
         fn open(x: [n]) -> [n] { only_here(x) }\n\
         fn only_here(x: [4]) -> [4] { x }\n",
    );
    let names: Vec<_> = program
        .tasks
        .iter()
        .map(|task| match task {
            Task::Function(task) => task.name.as_str(),
            _ => "",
        })
        .collect();
    assert_eq!(names, ["outer", "alone", "only_here"]);
}
