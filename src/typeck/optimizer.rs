//! How gradients change weights: the options of `train` about gradient descent.

use super::data_spec::Spanned;
use super::options::{Options, literal};
use super::program::Optimizer;
use crate::diagnostics::Diagnostic;
use crate::parser::ast::*;

/// The largest ratio of two rates of a training: the product of a gradient's integers and this must not overflow.
const MAX_RATIO: f64 = 4096.0;

/// Rates and bounds of gradients stay below: values of programs are far smaller.
const LARGEST: f64 = 1e6;

/// The least learning rate, and the rest of the options about the descent. Errors go to the options' list.
pub fn optimizer(options: &mut Options<'_, '_>, epochs: usize) -> Option<(Spanned<f64>, Optimizer)> {
    let rate = rates(options, epochs);
    let below_one = |x: f64| (0.0..1.0).contains(&x);
    let momentum = options.number("momentum", "a number from 0 on and below 1, such as 0.9", below_one);
    let decay = options.number("weight_decay", "a number from 0 on and below 1, such as 1/1024", below_one);
    let bounded = |x: f64| x > 0.0 && x < LARGEST;
    let clip = options.number("clip", "a bound above 0 and below 1,000,000, such as 1/4", bounded);
    let (rate, multiples) = rate?;
    let optimizer = Optimizer {
        multiples,
        momentum: momentum.map_or(0.0, |m| m.value),
        weight_decay: decay.map_or(0.0, |d| d.value),
        clip: clip.map(|c| c.value),
    };
    Some((rate, optimizer))
}

/// The least rate, and by epoch what multiple of it is taken.
fn rates(options: &mut Options<'_, '_>, epochs: usize) -> Option<(Spanned<f64>, Vec<u32>)> {
    let setting = options.take("sgd")?;
    let span = setting.value.span;
    let fits = |rate: &f64| *rate > 0.0 && *rate < LARGEST;
    let rate = |e: &Expr| literal(e).filter(fits);
    let list: Option<Vec<f64>> = match setting.value.kind.as_ref() {
        ExprKind::List(items) if !items.is_empty() => items.iter().map(rate).collect(),
        _ => rate(&setting.value).map(|rate| vec![rate]),
    };
    let Some(list) = list else {
        options.invalid(setting, "a learning rate above 0 and below 1,000,000, as in `sgd: rate 0.5`");
        return None;
    };
    let rates = match &setting.course {
        None => list,
        Some(course) => match (list.as_slice(), halving(course)) {
            (&[first], Some(every)) => {
                (0..epochs.max(1)).map(|e| first / ((e / every) as f64).exp2()).collect()
            }
            _ => {
                options.errors.push(
                    Diagnostic::error(
                        "E0215",
                        "a rate that changes is written `rate 1/4 halved every 2 epochs`",
                    )
                    .label(course.span, "this is not")
                    .help("or give a list with a rate for each epoch: `sgd: rate [1/4, 1/4, 1/8]`"),
                );
                return None;
            }
        },
    };
    let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let multiples: Vec<f64> = rates.iter().map(|rate| (rate / least).round()).collect();
    let whole = |(rate, multiple): (&f64, &f64)| (rate / least - multiple).abs() < 1e-9 * multiple;
    if !rates.iter().zip(&multiples).all(whole) || multiples.iter().any(|&m| m > MAX_RATIO) {
        options.errors.push(
            Diagnostic::error("E0215", "these rates are no multiples of the least of them")
                .label(span, format!("each must be 1 to {MAX_RATIO} times {least}"))
                .help("ciphertexts are multiplied by whole numbers only: take powers of two, as [1/4, 1/8, 1/16]"),
        );
        return None;
    }
    Some((Spanned::new(least, span), multiples.into_iter().map(|m| m as u32).collect()))
}

/// Epochs between two halvings.
fn halving(course: &Course) -> Option<usize> {
    let words = [&course.how, &course.every, &course.unit].map(|word| word.value.as_str());
    let known = matches!(words, ["halved", "every", "epoch" | "epochs"]);
    usize::try_from(course.count).ok().filter(|&count| known && count > 0)
}
