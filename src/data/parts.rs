//! Formats that keep training and test samples apart: what a declaration may say about them, and how both are joined.

use super::labels::Column;
use super::problem::{Problem, counted, quote, thousands};
use super::source::too_large;
use super::values::Values;
use super::{MAX_NUMBERS, Raw};
use crate::diagnostics::{Diagnostic, Span};
use crate::typeck::data_spec::{DataSpec, Outcome, Subset};

/// Samples of one part, or of the whole.
pub struct Part {
    /// How many were read.
    pub rows: usize,
    /// Shape of one sample's features.
    pub shape: Vec<usize>,
    pub values: Values,
}

/// How many samples of a part a reader needs to read: all of them if they are shuffled.
pub fn wanted(spec: &DataSpec, part: &str) -> Option<usize> {
    let count = if part == "train" { &spec.train } else { &spec.test };
    count.as_ref().filter(|_| spec.subset == Subset::First).map(|count| count.value)
}

/// Fails if an option is written that has no meaning where the files say what trains and what the labels are.
pub fn only_counts(spec: &DataSpec, problem: &Problem<'_>) -> Result<(), Diagnostic> {
    let label = match &spec.outcome {
        Outcome::Class(column) | Outcome::Number(column) => Some(column.span),
        Outcome::Implied => None,
    };
    no_meaning("label", label, spec, problem)?;
    no_meaning("split", spec.split.as_ref().map(|split| split.span), spec, problem)?;
    no_meaning("features", spec.features.first().map(|feature| feature.span), spec, problem)
}

/// Fails if an option is written.
pub fn no_meaning(
    option: &str,
    written: Option<Span>,
    spec: &DataSpec,
    problem: &Problem<'_>,
) -> Result<(), Diagnostic> {
    let Some(span) = written else { return Ok(()) };
    let format = spec.format.name();
    let message = format!("`{option}` has no meaning for this `{format}`");
    let help = "its files say what are labels and what is for testing: leave it out; `train: N` and `test: N` take \
                fewer samples";
    Err(problem.option("E0611", span, &message, &format!("not for this `{format}`"), help))
}

/// Checks the number of a part's labels and how many of its samples are asked for; gives how many are to be taken.
pub fn count(
    part: &str,
    rows: usize,
    labels: usize,
    spec: &DataSpec,
    problem: &Problem<'_>,
) -> Result<usize, Diagnostic> {
    let has = format!("{} has {}", quote(part), counted(rows, "sample"));
    if rows != labels {
        let message = format!("{has}, but {}", counted(labels, "label"));
        return Err(problem.whole("E0611", &message, "they must be as many", "use files of one data set"));
    }
    let asked = if part == "train" { &spec.train } else { &spec.test };
    let taken = asked.as_ref().map_or(rows, |count| count.value);
    if taken > rows || taken == 0 {
        let message = format!("{has}, {} are asked for", thousands(taken as u64));
        let help = "ask for one at least, and for no more than there are";
        return Err(problem.whole("E0610", &message, "these files", help));
    }
    Ok(if spec.subset == Subset::First { taken } else { rows })
}

/// What there is before splitting and scaling. With `test`, `part` is what trains.
pub fn join(
    part: Part,
    test: Option<Part>,
    labels: Column,
    problem: &Problem<'_>,
) -> Result<Raw, Diagnostic> {
    let Part { mut rows, shape, mut values } = part;
    let train = test.is_some().then_some(rows);
    if let Some(test) = test {
        if test.shape != shape {
            let message =
                format!("samples for training are {}, for testing {}", times(&shape), times(&test.shape));
            return Err(problem.whole("E0611", &message, "they differ", "use files of one data set"));
        }
        rows += test.rows;
        if values.len() + test.values.len() > MAX_NUMBERS {
            let numbers = thousands((values.len() + test.values.len()) as u64);
            return Err(too_large(problem, &format!("{numbers} numbers")));
        }
        values.append(test.values);
    }
    let bounds = matches!(values, Values::Bytes(_)).then_some((0.0, 255.0));
    Ok(Raw { columns: Vec::new(), names: Vec::new(), shape, rows, values, labels, bounds, train })
}

/// 1×28×28
fn times(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}
