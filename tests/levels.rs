//! What a user sees of schemes and levels: diagnostics and types of small programs.

use hesn::diagnostics::{Diagnostic, FileId, Sources, Span, render};
use hesn::graph::{Graph, Op, Origin};
use hesn::typeck::levels::{Family, LevelOptions, SwitchKind, Typing, solve};
use hesn::typeck::{NoData, Task, check};

/// The graph and the typing of the last task of a program, or what the user sees instead.
fn typed(text: &str, profile: Option<&str>) -> Result<(Graph, Typing), String> {
    typed_on(text, |training| LevelOptions::from_table(training, profile))
}

/// The same on the ring engine.
fn typed_on_ring(text: &str) -> Result<(Graph, Typing), String> {
    typed_on(text, LevelOptions::ring)
}

fn typed_on(text: &str, options: impl Fn(bool) -> LevelOptions) -> Result<(Graph, Typing), String> {
    let mut sources = Sources::default();
    let file = sources.add("program.hes", text);
    let checked = check(&mut sources, file, &NoData);
    let shown = |diagnostics: &[Diagnostic]| {
        diagnostics.iter().map(|d| render(d, &sources, false)).collect::<Vec<_>>().join("\n")
    };
    let Some(task) = checked.program.and_then(|program| program.tasks.into_iter().last()) else {
        return Err(shown(&checked.diagnostics));
    };
    let (graph, outputs, training) = match task {
        Task::Function(task) => (task.graph, vec![task.result], false),
        Task::Eval(task) => (task.graph, vec![task.result], false),
        Task::Train(task) => {
            let mut graph = task.graph;
            let derivative = graph.differentiate(task.loss).unwrap();
            let gradients: Vec<_> = derivative.gradients.into_iter().map(|(_, node)| node).collect();
            let (graph, gradients) = graph.fused(&gradients).unwrap();
            (graph, gradients, true)
        }
    };
    let typing = solve(&graph, &outputs, &options(training));
    typing.map(|typing| (graph, typing)).map_err(|diagnostics| shown(&diagnostics))
}

fn refused(text: &str) -> String {
    match typed(text, None) {
        Ok((_, typing)) => panic!("accepted with depth {}:\n{text}", typing.depth),
        Err(shown) => shown,
    }
}

fn accepted(text: &str) -> Typing {
    typed(text, None).unwrap_or_else(|shown| panic!("{shown}")).1
}

const LINEAR_LAYERS: &str = r#"
data cancer = csv("cancer.csv") { label: diagnosis, scale: standard, split: 0.8 }
model Three(x: [30]) -> [1] {
    x |> dense(8) |> dense(4) |> dense(1)
}
train Three on cancer { loss: binary_cross_entropy, sgd: rate 0.5, batch: all, epochs: 15 }
"#;

const LOGISTIC: &str = r#"
data cancer = csv("cancer.csv") { label: diagnosis, scale: standard, split: 0.8 }
model Logistic(x: [30]) -> [1] { x |> dense(1) }
train Logistic on cancer { loss: binary_cross_entropy, sgd: rate 0.5, batch: all, epochs: 15 }
"#;

#[test]
fn level_exhausted() {
    insta::assert_snapshot!(refused("fn f(x: [8], a: [8, 8]) -> [8] {\n    x @ a @ a @ a @ a @ a\n}"));
}

#[test]
fn level_exhausted_below_a_written_level() {
    insta::assert_snapshot!(refused(
        "fn f(x: bfv<1>[8], u: bfv<1>[8, 8], v: [8, 8]) -> [8] {\n    let h = x @ u\n    h @ v\n}"
    ));
}

#[test]
fn level_exhausted_in_a_derivative() {
    let shown = typed(LINEAR_LAYERS, Some("standard")).map(|(_, typing)| typing.depth).unwrap_err();
    insta::assert_snapshot!(shown);
}

#[test]
fn level_mismatch_of_operands() {
    insta::assert_snapshot!(refused(
        "fn f(x: bfv<2>[8], u: bfv<2>[8, 8], v: bfv<2>[8, 8]) -> [8] {\n    let h = x @ u\n    h @ v\n}"
    ));
}

#[test]
fn level_mismatch_of_a_result() {
    insta::assert_snapshot!(refused(
        "fn f(x: bfv<2>[8], u: bfv<2>[8, 8], v: bfv<1>[8, 8]) -> bfv<1>[8] {\n    x @ u @ v\n}"
    ));
}

#[test]
fn level_mismatch_of_a_name() {
    insta::assert_snapshot!(refused(
        "fn f(x: [8], u: [8, 8], v: [8, 8]) -> [8] {\n    let h: bfv<2>[8] = x @ u\n    let g: bfv<0>[8] = h @ v\n    g\n}"
    ));
}

#[test]
fn level_mismatch_of_a_sum() {
    insta::assert_snapshot!(refused(
        "fn f(x: [8], u: [8, 8]) -> [8] {\n    let h = x @ u\n    let g = x @ u\n    let s: bfv<0>[8] = h + g\n    (h @ u) + (g @ u) + s\n}"
    ));
}

#[test]
fn loop_that_loses_levels() {
    insta::assert_snapshot!(refused(
        "fn steps(x: bfv<1>[16], w: [16, 16]) -> [16] {\n    let mut y = x\n    for i in 0..4 { y = y @ w }\n    y\n}"
    ));
}

#[test]
fn loop_from_a_fresh_value_that_loses_levels() {
    insta::assert_snapshot!(refused(
        "fn steps(x: [16], w: [16, 16]) -> [16] {\n    let mut y = x\n    for i in 0..2 {\n        let h = y @ w\n        y = h @ w\n    }\n    y\n}"
    ));
}

#[test]
fn scheme_mismatch_of_a_name() {
    insta::assert_snapshot!(refused(
        "use std::{relu}\nfn f(x: [8], w: [8, 8]) -> [8] {\n    let h: bfv<1>[8] = relu(x @ w)\n    h\n}"
    ));
}

#[test]
fn scheme_mismatch_clear_wanted() {
    insta::assert_snapshot!(refused("fn f(x: [8], w: [8, 8]) -> clear[8] {\n    x @ w\n}"));
}

#[test]
fn schemes_of_two_engines() {
    insta::assert_snapshot!(refused("fn f(x: ckks<1>[8], w: bfv<1>[8, 8]) -> [8] {\n    x @ w\n}"));
}

#[test]
fn scheme_of_the_other_engine() {
    insta::assert_snapshot!(refused("fn f(x: ckks<1>[8], w: [8, 8]) -> [8] {\n    x @ w\n}"));
    let shown = typed_on_ring("fn f(x: [8], w: [8, 8]) -> tfhe[8] {\n    abs(x @ w)\n}");
    insta::assert_snapshot!("scheme_of_the_other_engine_on_ckks", shown.map(|(_, t)| t.depth).unwrap_err());
}

#[test]
fn level_exhausted_on_ckks() {
    let text = "fn f(x: [8], u: [8, 8], v: [8, 8]) -> [8] {\n    let h = x @ u\n    h @ v\n}";
    insta::assert_snapshot!(typed_on_ring(text).map(|(_, typing)| typing.depth).unwrap_err());
    let text = "fn f(x: ckks<1>[8], u: ckks<1>[8, 8]) -> ckks<1>[8] {\n    x @ u\n}";
    insta::assert_snapshot!(
        "level_exhausted_by_a_written_ckks",
        typed_on_ring(text).map(|(_, t)| t.depth).unwrap_err()
    );
}

#[test]
fn loop_that_loses_levels_on_ckks() {
    let text = "fn steps(x: ckks<1>[16], w: [16, 16]) -> [16] {\n    let mut y = x\n    for i in 0..4 { y = y @ w }\n    y\n}";
    insta::assert_snapshot!(typed_on_ring(text).map(|(_, typing)| typing.depth).unwrap_err());
    let text = text.replace("y @ w", "refresh(y @ w)");
    let (_, typing) = typed_on_ring(&text).unwrap();
    let refreshes = typing.switches.iter().filter(|s| s.kind == SwitchKind::Refresh).count();
    assert_eq!((typing.depth, refreshes), (1, 4));
}

#[test]
fn written_types_say_which_engine() {
    let families = |text| Family::written(&typed_on_ring(text).or_else(|_| typed(text, None)).unwrap().0);
    assert_eq!(families("fn f(x: [8], w: [8, 8]) -> [8] { x @ w }"), []);
    assert_eq!(families("fn f(x: ckks<1>[8], w: [8, 8]) -> ckks<0>[8] { x @ w }"), [Family::Ckks]);
    assert_eq!(families("fn f(x: bfv<1>[8], w: [8, 8]) -> tfhe[8] { abs(x @ w) }"), [Family::Tfhe]);
}

#[test]
fn a_forced_alignment_is_counted() {
    let typing = accepted(
        "fn f(x: bfv<2>[8], u: bfv<2>[8, 8], w: bfv<2>[8, 8], v: bfv<1>[8, 8]) -> bfv<0>[8] {
            let h = x @ u
            (h @ v) + (x @ w)
        }",
    );
    assert_eq!(typing.depth, 2);
    let levels: Vec<_> = typing.alignments.iter().map(|a| (a.from, a.to)).collect();
    assert_eq!(levels, [(1, 0)]);
}

#[test]
fn a_strict_program_refuses_alignments() {
    let text = "fn f(x: [8], u: [8, 8]) -> [8] {\n    let h = x @ u\n    h + h @ u\n}";
    let mut sources = Sources::default();
    sources.add("program.hes", text);
    let (graph, typing) = typed(text, None).unwrap();
    let errors = typing.alignment_errors(&graph);
    insta::assert_snapshot!(errors.iter().map(|d| render(d, &sources, false)).collect::<String>());
}

#[test]
fn a_value_that_meets_its_own_product_is_aligned() {
    let typing = accepted("fn f(x: [8], u: [8, 8]) -> [8] {\n    let h = x @ u\n    h + h @ u\n}");
    assert_eq!((typing.depth, typing.alignments.len()), (2, 1));
}

#[test]
fn values_that_can_be_packed_at_any_level_are_never_aligned() {
    let typing = accepted(
        "fn f(x: [8], u: [8, 8], v: [8, 8]) -> [8] {
            let h = x @ u
            (h @ v) + (x @ v) + x
        }",
    );
    assert_eq!((typing.depth, typing.alignments.len()), (2, 0));
}

#[test]
fn a_sum_stands_at_the_level_of_its_lowest_operand() {
    // Both operands stand at level 1 for the products below: the sum does too, and nothing is switched down.
    let typing = accepted(
        "fn f(x: [8], u: [8, 8], v: [8, 8]) -> [8] {
            let h = x @ u
            let g = x @ v
            abs(h + g) + abs(h @ u) + abs(g @ v)
        }",
    );
    assert_eq!((typing.depth, typing.alignments.len()), (2, 0));
}

#[test]
fn a_public_factor_costs_no_level() {
    let typing = accepted("fn f(x: bfv<1>[8], u: bfv<1>[8, 8]) -> bfv<0>[8] {\n    2 * (x @ u) - 1\n}");
    assert_eq!(typing.depth, 1);
}

#[test]
fn a_loop_that_refreshes_its_state_is_accepted() {
    let typing = accepted(
        "fn steps(x: bfv<1>[16], w: bfv<1>[16, 16]) -> bfv<1>[16] {
            let mut y = x
            for i in 0..4 { y = refresh(y @ w) }
            y
        }",
    );
    assert_eq!(typing.depth, 1);
    let refreshes = typing.switches.iter().filter(|s| s.kind == SwitchKind::Refresh).count();
    assert_eq!(refreshes, 4);
}

#[test]
fn an_unrolled_loop_may_change_its_state() {
    let text = |keyword| {
        format!(
            "fn f(x: [8], w: [8, 8]) -> [8] {{\n    let mut y = x\n    {keyword} i in 0..3 {{ y = y @ w }}\n    y\n}}"
        )
    };
    assert_eq!(accepted(&text("unroll for")).depth, 3);
    assert!(refused(&text("for")).contains("E0303"));
}

#[test]
fn a_polymorphic_function_has_its_own_levels_at_every_call() {
    let typing = accepted(
        "fn project(x: bfv<L+1>[n], u: bfv<L+1>[n, m]) -> bfv<L>[m] { x @ u }
         fn f(x: [8], u: [8, 6], v: [6, 4]) -> [4] { x |> project(u) |> project(v) }",
    );
    assert_eq!((typing.depth, typing.alignments.len()), (2, 0));
}

#[test]
fn a_function_gives_levels_back() {
    let typing = accepted(
        "use std::{relu}\nfn f(x: [8], u: [8, 8]) -> [8] { x @ u |> relu |> square }
         lut square(z) = z * z",
    );
    assert_eq!(typing.depth, 1);
    let typing = accepted("use std::{relu}\nfn f(x: [8], u: [8, 8]) -> [8] { relu(relu(x @ u) @ u) @ u }");
    assert_eq!(typing.depth, 1);
}

#[test]
fn training_a_linear_model_needs_one_level_and_no_alignment() {
    let (graph, typing) = typed(LOGISTIC, None).unwrap();
    assert_eq!((typing.depth, typing.alignments.len()), (1, 0));
    let of = |wanted: &dyn Fn(&Op) -> bool| {
        let id = graph.ids().find(|&id| wanted(&graph.node(id).op)).unwrap();
        typing.types[id.index()].unwrap().to_string()
    };
    assert_eq!(of(&|op| matches!(op, Op::Input)), "bfv<1>");
    assert_eq!(of(&|op| matches!(op, Op::Label)), "tfhe");
    assert_eq!(of(&|op| matches!(op, Op::Param(_))), "tfhe");
    assert_eq!(of(&|op| matches!(op, Op::Contract { .. })), "bfv<0>");
    assert_eq!(of(&|op| matches!(op, Op::Lut(_))), "tfhe");
}

#[test]
fn on_ckks_everything_encrypted_has_a_level_and_nothing_is_switched() {
    let (graph, typing) = typed_on_ring(LOGISTIC).unwrap();
    assert_eq!((typing.depth, typing.alignments.len()), (1, 0));
    let of = |wanted: &dyn Fn(&Op) -> bool| {
        let id = graph.ids().find(|&id| wanted(&graph.node(id).op)).unwrap();
        typing.types[id.index()].unwrap().to_string()
    };
    // Products read one level and give none; what leaves a table enters at what its uses need.
    assert_eq!(of(&|op| matches!(op, Op::Input)), "ckks<1>");
    assert_eq!(of(&|op| matches!(op, Op::Label)), "ckks<1>");
    assert_eq!(of(&|op| matches!(op, Op::Param(_))), "ckks<1>");
    assert_eq!(of(&|op| matches!(op, Op::Contract { .. })), "ckks<0>");
    assert_eq!(of(&|op| matches!(op, Op::Lut(_))), "ckks<1>");
    assert!(typing.switches.iter().all(|switch| switch.kind == SwitchKind::Encrypt));
}

#[test]
fn training_a_network_needs_one_level_and_no_alignment() {
    for loss in ["cross_entropy", "one_vs_all", "mean_squared_error"] {
        let text = format!(
            "use std::{{conv2d, dense, relu, max_pool, flatten, {loss}}}
             data mnist = idx(\"mnist\") {{ scale: unit, train: 6000, test: 1000 }}
             model Cnn(x: [1, 28, 28]) -> [10] {{
                 x |> conv2d(5, kernel: 5, stride: 2, pad: same) |> max_pool(2) |> relu
                   |> flatten |> dense(100) |> relu |> dense(10)
             }}
             train Cnn on mnist {{ loss: {loss}, sgd: rate 0.125, batch: 128, epochs: 3 }}"
        );
        let typing = accepted(&text);
        assert_eq!((loss, typing.depth, typing.alignments.len()), (loss, 1, 0));
    }
}

#[test]
fn linear_layers_in_a_row_need_as_many_levels() {
    // Forward two products; backward the gradient of the first weights is a product of a product.
    let text = LINEAR_LAYERS.replace(" |> dense(4)", "");
    assert_eq!(accepted(&text).depth, 2);
}

/// A chain of products by the graph's own functions, longer than any program's.
#[test]
fn a_long_chain_is_refused_with_few_labels() {
    let (mut graph, span) = (Graph::default(), |at| Span::new(FileId(0), at, at + 1));
    let at = |i| Origin::new(vec![span(i)]);
    let mut value = graph.argument("x", &[1], &at(0)).unwrap();
    let weights = graph.argument("w", &[1, 1], &at(0)).unwrap();
    for i in 0..50_000 {
        value = graph.matmul(value, weights, &at(i)).unwrap();
    }
    let diagnostics = solve(&graph, &[value], &LevelOptions::from_table(false, None)).unwrap_err();
    assert_eq!(diagnostics.len(), 1);
    assert!(diagnostics[0].message.contains("50000 levels"), "{}", diagnostics[0].message);
    assert!(diagnostics[0].labels.len() < 20);
}
