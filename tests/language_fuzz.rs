//! Whatever a file holds, checking it ends with a program or with diagnostics whose places can be shown.

use hesn::diagnostics::{Sources, json, render};
use hesn::plan::check::diagnose;
use hesn::plan::compile::Settings;
use hesn::typeck::{self, NoData};
use proptest::prelude::*;

const PROGRAMS: [&str; 3] = [
    r#"
use std::{conv2d, dense, relu, max_pool, flatten, cross_entropy}
data mnist = idx("data/mnist") { scale: unit, train: 6000, test: 1000 }
model Cnn(x: [1, 8, 8]) -> [10] {
    x |> conv2d(2, kernel: 3, stride: 2, pad: same) |> max_pool(2) |> relu |> flatten |> dense(10)
}
train Cnn on mnist { loss: cross_entropy(decay: 1/32), sgd: rate 0.125, batch: 128, epochs: 3 }
"#,
    r#"
lut leaky(z, slope: real = 0.125) = max(z, slope * z) grad slope + (1 - slope) * step(z)
layer block(x: [n], units: int, mode: plain | residual = plain) -> [units] {
    param w: [n, units] in -2..2 ~ normal(0, 0.1)
    let y = leaky(x @ w, slope: 1/4)
    if mode == residual and n == units { x + y } else { y }
}
model M(x: [16]) -> [2] {
    let mut y = x
    for i in 0..3 { y = block(y, 16, mode: residual) }
    unroll for i in 0..2 { y = slice(y, 0, (size(y) // 2)) }
    y |> block(2)
}
"#,
    r#"
fn project(x: bfv<L+1>[n], u: bfv<L+1>[n, m]) -> bfv<L>[m] { x @ u }
fn logits(h: tfhe[100], w: bfv<1>[100, 10]) -> tfhe[10] in -8..8 { h @ w }
fn mix(x: [4, 6]) -> [6, 5] {
    let a = transpose(x) |> pad(0, 1, axis: 1)
    let b = concat([a, a], axis: 0) |> reshape([2, 6, 5]) |> sum(axis: 0)
    b * 0.5 - mean(x, axis: -1) @ [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]] ^ 2
}
eval project(normal(0, 0.5), u: uniform(-1, 1), n: 64, m: 10)
"#,
];

/// Pieces that make trouble.
const PIECES: [&str; 40] = [
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "\n",
    "//",
    ",",
    ":",
    "=",
    "|>",
    "@",
    "-",
    "..",
    "1",
    "0",
    "2.5",
    "x",
    "n",
    "dense",
    "max",
    "size",
    "fn f(",
    "let ",
    "train ",
    "if ",
    "else ",
    "for i in ",
    "grad ",
    "\"",
    "é",
    "\u{0}",
    "1e9",
    "99999999999999999999",
    " ~ ",
    "param w: ",
    "unroll ",
    "bfv<",
    "eval ",
];

fn check(text: &str) {
    let mut sources = Sources::default();
    let file = sources.add("fuzz.hes", text);
    let checked = typeck::check(&mut sources, file, &NoData);
    assert_eq!(checked.program.is_none(), checked.has_errors());
    let later: Vec<_> =
        checked.program.iter().flat_map(|program| diagnose(program, Settings::default())).collect();
    for diagnostic in checked.diagnostics.iter().chain(&later) {
        assert!(!diagnostic.labels.is_empty(), "{diagnostic:?}");
        assert!(render(diagnostic, &sources, false).contains(diagnostic.code));
        assert!(json(diagnostic, &sources)["labels"][0]["line"].as_u64() >= Some(1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        check(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn random_pieces(pieces in proptest::collection::vec(0..PIECES.len(), 0..120)) {
        check(&pieces.into_iter().map(|i| PIECES[i]).collect::<Vec<_>>().join(" "));
    }

    #[test]
    fn mutated_programs(
        which in 0..PROGRAMS.len(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..4usize, 0..PIECES.len()), 1..6),
    ) {
        let mut text: Vec<char> = PROGRAMS[which].chars().collect();
        for (place, length, piece) in edits {
            let at = place.index(text.len());
            let end = (at + length * length).min(text.len());
            text.splice(at..end, PIECES[piece].chars());
        }
        check(&text.into_iter().collect::<String>());
    }
}

#[test]
fn the_programs_are_right_before_they_are_mutated() {
    for (index, program) in PROGRAMS.iter().enumerate() {
        let mut sources = Sources::default();
        let file = sources.add("program.hes", *program);
        let checked = typeck::check(&mut sources, file, &NoData);
        let shown: String = checked.diagnostics.iter().map(|d| render(d, &sources, false)).collect();
        // The last one has a power of a tensor in it, on purpose.
        assert_eq!(shown.is_empty(), index != 2, "{shown}");
    }
}
