//! What `hesn check` tells a user, mistake by mistake: snapshots of the rendered diagnostics.

use hesn::diagnostics::{Diagnostic, Sources, render};
use hesn::typeck::{self, DataCatalog, DataSpec, Schema};

/// A table with 30 features and two classes, whatever its name.
struct Table {
    features: Vec<usize>,
    classes: Option<usize>,
}

impl DataCatalog for Table {
    fn schema(&self, _: &DataSpec) -> Option<Result<Schema, Vec<Diagnostic>>> {
        let columns =
            ["mean_radius", "mean_texture", "mean_perimeter", "diagnosis"].map(str::to_owned).to_vec();
        let (features, classes) = (self.features.clone(), self.classes);
        Some(Ok(Schema { columns, features, classes, train: 80, test: 20, range: None }))
    }
}

fn shown(text: &str, catalog: &dyn DataCatalog) -> String {
    let mut sources = Sources::default();
    let file = sources.add("program.hes", text);
    let checked = typeck::check(&mut sources, file, catalog);
    assert_eq!(checked.program.is_none(), checked.has_errors());
    checked.diagnostics.iter().map(|d| render(d, &sources, false)).collect()
}

macro_rules! snapshots {
    ($($name:ident: $text:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(shown($text, &Table { features: vec![30], classes: Some(2) }));
        }
    )*};
}

const TRAIN: &str = r#"
data cancer = csv("cancer.csv") { label: diagnosis, scale: standard, split: 0.8 }
train M on cancer { loss: binary_cross_entropy, sgd: rate 0.5, batch: all, epochs: 15 }
"#;

snapshots! {
    three_syntax_errors: "model M(x: [30]) -> [1] {\n    let y = x @\n    y |> dense(1\n}\n\ndata d csv(\"x.csv\")\n\ntrain M on d { loss: a b c }\n";
    comments_and_operators_in_wrong_places: "model A(x: [30]) -> [1] {\n    x |> dense(1 // one output\n    )\n}\n\nmodel B(x: [30], b: [1]) -> [1] {\n    dense(x, 1)\n        + b\n}\n\nlet layer = 3\n";
    an_unknown_name: "model M(x: [30]) -> [1] { x |> dnse(1) |> sigmod }\n";
    an_unknown_import: "use std::{dense, conv2}\nuse numpy::array\n";
    an_unknown_column: &format!("model M(x: [30]) -> [1] {{ x |> dense(1) }}{}", TRAIN.replace("diagnosis", "diagnose"));
    a_name_declared_twice: "fn f(x: [4]) -> [4] { x }\nlut f(z) = z\nfn max(x: [4], x: [4]) { x }\n";
    shapes_that_do_not_match: "fn f(x: [4], w: [5, 3]) -> [3] { x @ w }\n";
    shapes_that_do_not_match_in_the_library: "model M(x: [1, 8, 8]) -> [10] {\n    x |> conv2d(4, kernel: 3)\n      |> dense(10)\n}\n";
    a_kernel_larger_than_its_image: "model M(x: [1, 4, 4]) -> [9] {\n    x |> conv2d(9, kernel: 7) |> flatten\n}\n";
    a_result_of_another_shape: "layer twice(x: [n]) -> [n] { concat([x, x]) }\nmodel M(x: [4]) -> [4] { x |> twice }\n";
    features_against_the_input: &format!("model M(x: [64]) -> [1] {{ x |> dense(1) }}{TRAIN}");
    classes_against_the_outputs: &format!("model M(x: [30]) -> [10] {{ x |> dense(10) }}{TRAIN}");
    division_by_an_encrypted_value: "fn normalise(x: [4], s: []) -> [4] { x / s }\n";
    a_branch_on_an_encrypted_value: "fn f(x: []) -> [] { if x > 0 { x } else { 0 - x } }\n";
    recursion: "fn even(x: [4]) -> [4] { odd(x) }\nfn odd(x: [4]) -> [4] { even(x) }\n";
    a_loop_that_changes_its_state: "fn f(x: [8]) -> [8] {\n    let mut y = x\n    for i in 0..2 { y = concat([y, y]) }\n    y\n}\n";
    wrong_arguments: "model A(x: [4]) -> [2] { x |> dense }\nmodel B(x: [4]) -> [2] { x |> dense(2, biass: 1) }\nmodel C(x: [4]) -> [2] { dense(x, 2, zeros, 0, 1) }\n";
    wrong_kinds_of_values: "model A(x: [1, 4, 4]) -> [2, 4, 4] { x |> conv2d(2, pad: sane) }\nmodel B(x: [4]) -> [2] { x |> dense(2.5) }\nmodel C(x: [4]) -> [2] { x |> dense(x) }\n";
    assignments: "fn f(x: [4]) -> [4] {\n    let y = x\n    y = y + 1\n    y\n}\n";
    options: "data d = csv(\"d.csv\") { labl: a, split: 1.5, scale: standardise }\ndata e = cvs(\"e.csv\") { label: a }\nmodel M(x: [30]) -> [1] { x |> dense(1) }\ntrain M on d { loss: cross_entropi, sgd: 0.5, epoch: 3 }\n";
    an_unknown_loss: &format!("model M(x: [30]) -> [1] {{ x |> dense(1) }}{}", TRAIN.replace("binary_cross_entropy", "binary_crossentropy"));
    parameters_outside_a_layer: "fn g(x: [4]) -> [4] {\n    param w: [4] ~ ones\n    x * w\n}\n";
    an_unknown_initialisation: "layer scale(x: [n]) -> [n] {\n    param w: [n] ~ he_norml\n    x * w\n}\n";
    values_that_are_not_used: "fn f(x: [4]) -> [4] {\n    x + 1\n    let y = x\n}\n";
    a_table_of_several_values: "lut f(z, other) = z * other\nfn g(x: [4], y: [4]) -> [4] { f(x, y) }\n";
    compile_time_arithmetic: "let a = 1 // 0\nlet b = (7 // 0)\nlet c = 9000000000000000000 * 2\nlet d = log(0)\n";
    a_window_larger_than_its_image: "model M(x: [1, 4, 6]) -> [2] {\n    x |> max_pool(size: 5) |> flatten |> dense(2)\n}\n";
    one_error_for_what_a_layer_requires: "model M(x: [4, 8, 8]) -> [6, 6, 6] {\n    x |> conv2d(6, groups: 4)\n}\n";
    a_loss_of_classes_for_a_number: &format!("model M(x: [30]) -> [1] {{ x |> dense(1) }}{}", TRAIN.replace("label", "target"));
    a_softmax_of_one_output: &format!("model M(x: [30]) -> [1] {{ x |> dense(1) }}{}", TRAIN.replace("binary_cross_entropy", "cross_entropy"));
    a_tensor_that_is_too_large: "model M(x: [30]) -> [1] { x |> dense(100000000) |> dense(1) }\n";
}

#[test]
fn a_program_of_nested_parentheses_ends_in_an_error() {
    let text = format!("let a = {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let mut sources = Sources::default();
    let file = sources.add("program.hes", text);
    let checked = typeck::check(&mut sources, file, &typeck::NoData);
    let codes: Vec<_> = checked.diagnostics.iter().map(|d| d.code).collect();
    assert_eq!(codes, ["E0103"]);
    assert!(checked.program.is_none());
}

#[test]
fn data_decides_what_a_model_may_give() {
    let program = |outputs: usize, outcome: &str| {
        format!("model M(x: [n]) -> [{outputs}] {{ x |> dense({outputs}) }}{TRAIN}")
            .replace("binary_cross_entropy", "one_vs_all")
            .replace("label", outcome)
    };
    let errors = |text: &str, classes| shown(text, &Table { features: vec![3], classes });
    assert_eq!(errors(&program(3, "label"), Some(3)), "");
    assert_eq!(errors(&program(1, "label"), Some(2)), "");
    assert_eq!(errors(&program(2, "label"), Some(2)), "");
    assert_eq!(errors(&program(1, "target").replace("one_vs_all", "mean_squared_error"), None), "");
    assert!(errors(&program(1, "label"), Some(3)).contains("E0211"));
    assert!(errors(&program(3, "label"), Some(2)).contains("E0211"));
    assert!(errors(&program(2, "target"), None).contains("E0211"));
}
