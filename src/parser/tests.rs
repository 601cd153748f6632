use super::ast::*;
use super::*;

fn read(text: &str) -> Parsed {
    parse(text, FileId(0))
}

fn clean(text: &str) -> Module {
    let parsed = read(text);
    assert_eq!(parsed.diagnostics, vec![], "in {text}");
    parsed.module
}

fn codes(text: &str) -> Vec<(&'static str, u32)> {
    let line = |at: u32| text[..at as usize].matches('\n').count() as u32 + 1;
    read(text).diagnostics.iter().map(|d| (d.code, line(d.labels[0].span.start))).collect()
}

/// An expression with all its parentheses.
fn show(e: &Expr) -> String {
    let call = |call: &Call, first: Option<String>| {
        let arguments = call.arguments.iter().map(|a| match &a.name {
            Some(name) => format!("{}: {}", name.value, show(&a.value)),
            None => show(&a.value),
        });
        format!(
            "{}({})",
            call.callee.value,
            first.into_iter().chain(arguments).collect::<Vec<_>>().join(", ")
        )
    };
    match e.kind.as_ref() {
        ExprKind::Int(n) => n.to_string(),
        ExprKind::Real(x) => x.to_string(),
        ExprKind::Str(s) => format!("{s:?}"),
        ExprKind::Name(name) => name.clone(),
        ExprKind::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        ExprKind::Unary(UnaryOp::Neg, e) => format!("(-{})", show(e)),
        ExprKind::Unary(UnaryOp::Not, e) => format!("(not {})", show(e)),
        ExprKind::Binary { op, left, right, .. } => {
            format!("({} {} {})", show(left), op.symbol(), show(right))
        }
        ExprKind::Call(c) => call(c, None),
        ExprKind::Pipe { first, stages } => {
            stages.iter().fold(show(first), |before, stage| call(stage, Some(before)))
        }
        ExprKind::If { .. } => "if".into(),
        ExprKind::Error => "error".into(),
    }
}

fn expression(text: &str) -> String {
    let module = clean(&format!("let it = {text}"));
    match module.items.as_slice() {
        [Item::Let(item)] => show(&item.value),
        other => format!("{other:?}"),
    }
}

#[test]
fn operators_bind_as_in_arithmetic() {
    assert_eq!(expression("x @ w + b"), "((x @ w) + b)");
    assert_eq!(expression("-z^2 * 3 - 1"), "(((-(z ^ 2)) * 3) - 1)");
    assert_eq!(expression("2^-3^2"), "(2 ^ (-(3 ^ 2)))");
    assert_eq!(expression("a - b - c"), "((a - b) - c)");
    assert_eq!(
        expression("(h + 2*p - k) / 2 % 3"),
        "(((((h + (2 * p)) - k) / 2)) % 3)".replace("((((", "(((").replace(")) %", ") %")
    );
    assert_eq!(expression("not a == b and c < 1 or d"), "(((not (a == b)) and (c < 1)) or d)");
    assert_eq!(expression("x |> f |> g(1, k: 2) |> std::h"), "std::h(g(f(x), 1, k: 2))");
    assert_eq!(expression("[(h - k) // s + 1]"), "[(((h - k) // s) + 1)]");
}

#[test]
fn a_newline_ends_a_statement_unless_something_must_follow() {
    let module = clean(
        "\n\nmodel M(\n  x: [4],   // the input\n) -> [2]\n{\n  let y = x +\n    1\n\n  y\n    |> dense(2)\n    |> relu\n  // end\n}\n",
    );
    let [Item::Callable(model)] = module.items.as_slice() else { panic!("{module:?}") };
    let kinds: Vec<_> = model.body.statements.iter().map(std::mem::discriminant).collect();
    assert_eq!(kinds.len(), 2);
    let Statement::Expr(result) = &model.body.statements[1] else { panic!("{model:?}") };
    assert_eq!(show(result), "relu(dense(y, 2))");
    // Without the newline rule, the second line would be an argument list or a subtraction.
    let module = clean("fn f(x: [n]) -> [n] {\n let a = x\n -a\n}\nfn g(x: [n]) { let a = x\n (a)\n}");
    assert_eq!(module.items.len(), 2);
    for item in &module.items {
        let Item::Callable(f) = item else { panic!("{item:?}") };
        assert_eq!(f.body.statements.len(), 2);
    }
}

#[test]
fn two_slashes_divide_only_after_a_value_in_brackets() {
    assert_eq!(expression("(7 // 2)"), "(7 // 2)");
    assert_eq!(expression("7 // two words are a comment"), "7");
    assert_eq!(expression("[1, // one\n 2]"), "[1, 2]");
    assert_eq!(codes("let a = 7 // 2"), [("W0101", 1)]);
    assert_eq!(codes("let a = 7 // the seventh"), []);
}

#[test]
fn every_declaration_is_read() {
    let module = clean(
        r#"
use std::{dense, relu as r}
use std::conv2d
data d = csv("a b.csv") { label: y, scale: standard, split: 0.8 }
data m = idx("folder") {
    scale: unit
    train: 6000
    test: 1000
}
pub layer l(x: [n], units: int, pad: same | valid = valid, rate: real = 0.5) -> [units] {
    param w: [n, units] in -2..2 ~ he_normal
    param b: [units] ~ zeros
    x @ w + b
}
pub lut leaky(z, slope: real = 0.01) = max(z, slope * z)
    grad step(z) + slope * (1 - step(z))
fn project(x: bfv<L+1>[n], u: bfv<L + 1>[n, m]) -> bfv<L>[m] in -8..8 { x @ u }
fn steps(x: bfv<1>[16], w: bfv<1>[16, 16]) -> bfv<1>[16] {
    let mut y: tfhe[16] = x
    for i in 0..4 { y = refresh(y @ w) }
    unroll for i in 0..size(x) - 1 {
        y = if i == 0 { y } else if i == 1 { y + 1 } else { y }
    }
    y
}
train M on d { loss: cross_entropy(decay: 1/64), sgd: rate 1/8, batch: all, epochs: 15 }
eval project(x: normal(0, 0.5), u: uniform(-1, 1))
"#,
    );
    assert_eq!(module.items.len(), 10);
    let Item::Callable(f) = &module.items[6] else { panic!() };
    let Some(Type { kind: TypeKind::Tensor(result), .. }) = &f.result else { panic!() };
    assert_eq!(result.level.as_ref().map(|l| l.offset), Some(0));
    assert!(result.range.is_some());
}

#[test]
fn spans_are_the_bytes_of_the_node() {
    let text = "let ü = f(a) + g(b)";
    let module = clean(text);
    let [Item::Let(item)] = module.items.as_slice() else { panic!() };
    let at = |span: Span| &text[span.start as usize..span.end as usize];
    assert_eq!(at(item.name.span), "ü");
    assert_eq!(at(item.value.span), "f(a) + g(b)");
    let ExprKind::Binary { at: op, left, right, .. } = item.value.kind.as_ref() else { panic!() };
    assert_eq!((at(*op), at(left.span), at(right.span)), ("+", "f(a)", "g(b)"));
}

#[test]
fn one_pass_reports_all_errors() {
    let text = "model M(x: [4]) -> [2] {\n  let y = x @\n  y |> dense(2\n}\n\nfn 3f(x) { x }\n\ntrain M on d { batch 5 }\nlet ok = 1\n";
    assert_eq!(codes(text), [("E0101", 3), ("E0101", 6), ("E0101", 8)]);
    assert!(read(text).module.items.iter().any(|item| matches!(item, Item::Let(_))));
}

#[test]
fn brackets_that_are_not_closed_are_named() {
    assert_eq!(codes("fn f(x: [4] {\n x\n}\nlet a = 1"), [("E0101", 1)]);
    assert_eq!(codes("fn f(x: [4]) {\n x\n\nfn g(x: [4]) { x }"), [("E0101", 1)]);
    assert_eq!(codes("let a = (1 + 2\nlet b = 1"), [("E0101", 1)]);
    assert_eq!(codes("let a = 1)"), [("E0101", 1)]);
    assert_eq!(codes("let a = ("), [("E0101", 1)]);
}

#[test]
fn depth_is_bounded_before_it_can_hurt() {
    for (open, close) in [("(", ")"), ("[", "]"), ("f(", ")"), ("if x {", "}")] {
        let text = format!("let a = {}1{}", open.repeat(100_000), close.repeat(100_000));
        let codes: Vec<_> = codes(&text).into_iter().map(|(code, _)| code).collect();
        assert_eq!(codes, ["E0103"], "{open}");
    }
    for chain in ["- ", "not ", "1 + ", "2 ^ "] {
        let text = format!("let a = {}1", chain.repeat(100_000));
        assert!(codes(&text).iter().any(|(code, _)| *code == "E0103"), "{chain}");
    }
    let elses = format!("let a = {} {{ 1 }}", "if x { 1 } else ".repeat(50_000));
    assert!(codes(&elses).iter().any(|(code, _)| *code == "E0103"));
    // A pipe may be long.
    clean(&format!("let a = x{}", " |> relu".repeat(10_000)));
}

#[test]
fn numbers_and_texts_have_limits() {
    assert_eq!(codes("let a = 99999999999999999999"), [("E0102", 1)]);
    assert_eq!(codes("let a = 1e999 + 1"), [("E0102", 1)]);
    assert_eq!(codes("data d = csv(\"x)\n"), [("E0102", 1)]);
    assert_eq!(codes("let a = 1;\nlet b = 2"), [("E0102", 1)]);
    assert_eq!(codes(&" ".repeat(MAX_SOURCE + 1)), [("E0104", 1)]);
}
