//! Diagnostics about ranges: E0401, E0402, W0401.

use super::{Interval, Range, RangeOptions};
use crate::diagnostics::{Diagnostic, Span};
use crate::graph::{Graph, NodeId};
use crate::typeck::levels::label_node;

/// A number as a user would write it.
fn show(value: f64) -> String {
    if value == 0.0 || (1e-3..1e6).contains(&value.abs()) {
        let rounded = (value * 1e4).round() / 1e4;
        format!("{rounded}")
    } else {
        format!("{value:.2e}")
    }
}

/// E0401: a table has no value at a point that its input can reach.
pub(super) fn undefined(graph: &Graph, id: NodeId, name: &str, z: f64, range: f64) -> Diagnostic {
    let z = show(z);
    let what = match name.strip_suffix('\'') {
        Some(name) => format!("the derivative of `{name}`"),
        None => format!("`{name}`"),
    };
    let message =
        format!("{what} is undefined at {z}, which its range {}..{} holds", show(-range), show(range));
    let mut diagnostic = Diagnostic::error("E0401", message);
    label_node(&mut diagnostic, graph, id, &format!("this table has no value at {z}"));
    let derivative =
        if name.ends_with('\'') { " or give the function a `grad` that is defined there," } else { "" };
    diagnostic.help(format!(
        "give the input a range without {z}, such as `in 0.01..8`,{derivative} or keep the function away from it, as \
         in `log(max(z, 0.01))`"
    ))
}

/// E0402: a value that no plaintext modulus holds.
pub(super) fn overflows(graph: &Graph, id: NodeId, certain: Interval, options: &RangeOptions) -> Diagnostic {
    let bits = options.plaintext_bits;
    let message = format!(
        "this value is certain to overflow the plaintext modulus: it is {} or more, 2^{bits} holds {}",
        show(if certain.least() > 0.0 { certain.least() } else { certain.bound() }),
        show(f64::from(bits).exp2() / 4.0)
    );
    let mut diagnostic = Diagnostic::error("E0402", message);
    label_node(&mut diagnostic, graph, id, "overflows");
    diagnostic.help("scale the value down: features to ±4 with `scale: standard`, constants by hand")
}

/// E0402: a range so wide that a value of 1 is less than a unit.
pub(super) fn too_wide(span: Span, range: f64, options: &RangeOptions) -> Diagnostic {
    let bits = options.plaintext_bits;
    let message = format!(
        "the range ±{} is certain to overflow the plaintext modulus: 2^{bits} holds ±{} in units of 1",
        show(range),
        show(f64::from(bits).exp2() / 4.0)
    );
    Diagnostic::error("E0402", message).label(span, "too wide").help(
        "write the range that the values have, usually ±8 or ±16: a table reads about 7 bits of it, so a wide range \
         makes every value coarse",
    )
}

/// E0402: a range that every value lies beyond.
pub(super) fn always_outside(span: Span, range: f64, operand: Interval) -> Diagnostic {
    let message = format!(
        "this value is certain to overflow its range ±{}: it lies in {}..{}",
        show(range),
        show(operand.low),
        show(operand.high)
    );
    Diagnostic::error("E0402", message)
        .label(span, "no value of this range can occur")
        .help("write a range that holds the values, or subtract their mean before")
}

/// W0401: values are likely to leave a written range.
pub(super) fn likely_excess(span: Span, range: f64, likely: Range) -> Diagnostic {
    let message = format!(
        "values are likely to leave the range ±{}: ±{} is {}",
        show(range),
        show(likely.range),
        likely.why
    );
    Diagnostic::warning("W0401", message)
        .label(span, "too narrow")
        .help("what leaves its range comes back from the other side and is wrong; `hesn plan` says how often")
}
