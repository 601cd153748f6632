//! Which rows train and which test: the first ones train, in the order of the file.

use super::problem::{Problem, thousands};
use crate::diagnostics::Diagnostic;
use crate::typeck::data_spec::DataSpec;

/// What trains where a declaration says nothing.
const DEFAULT_SPLIT: f64 = 0.8;

/// How many of `rows` train and how many test, both at least one.
pub fn split(spec: &DataSpec, rows: usize, problem: &Problem<'_>) -> Result<(usize, usize), Diagnostic> {
    if let (Some(split), Some(other)) = (&spec.split, spec.train.as_ref().or(spec.test.as_ref())) {
        return Err(problem
            .option(
                "E0610",
                split.span,
                "`split` and numbers of samples exclude each other",
                "either this",
                "write `split: 0.8`, or `train: …, test: …`",
            )
            .label(other.span, "or this"));
    }
    let span = match (&spec.split, &spec.train, &spec.test) {
        (Some(split), ..) => split.span,
        (None, Some(count), _) | (None, None, Some(count)) => count.span,
        (None, None, None) => spec.span,
    };
    let fraction = spec.split.as_ref().map_or(DEFAULT_SPLIT, |split| split.value);
    if !(fraction > 0.0 && fraction < 1.0) {
        let message = format!("the split {fraction} is not between 0 and 1");
        return Err(problem.option(
            "E0610",
            span,
            &message,
            "the fraction that trains",
            "write `split: 0.8`",
        ));
    }
    let (train, test) = match (spec.train.as_ref().map(|c| c.value), spec.test.as_ref().map(|c| c.value)) {
        (Some(train), Some(test)) => (train, test),
        (Some(train), None) => (train, rows.saturating_sub(train)),
        (None, Some(test)) => (rows.saturating_sub(test), test),
        (None, None) => {
            // 0.8 · 455 is 363.99… in binary.
            let train = (rows as f64 * fraction + 1e-9).floor() as usize;
            (train, rows.saturating_sub(train))
        }
    };
    let has = thousands(rows as u64);
    if train.saturating_add(test) > rows {
        let message = format!(
            "it has {has} rows, fewer than the {} + {} asked for",
            thousands(train as u64),
            thousands(test as u64)
        );
        return Err(problem.option("E0610", span, &message, "too many", "ask for fewer samples"));
    }
    let (name, what) = match (train, test) {
        (0, _) => ("train", "no row to train on"),
        (_, 0) => ("test", "no row to test on"),
        _ => return Ok((train, test)),
    };
    let noun = if rows == 1 { "row" } else { "rows" };
    let message = format!("of its {has} {noun}, the split leaves {what}");
    let help = "each side needs at least one row: change the split, or add rows";
    Err(problem.option("E0610", span, &message, &format!("no row is left to {name}"), help))
}
