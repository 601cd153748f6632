//! Labels: from the cells of a column to numbered classes or scaled targets.

use std::collections::{BTreeSet, HashMap};

use super::problem::{At, Problem, quote};
use super::scale::TargetScale;
use crate::diagnostics::{Diagnostic, suggest};
use crate::typeck::data_spec::{DataSpec, Outcome};

/// Different labels of one column.
const MAX_CLASSES: usize = 10_000;

/// Labels of one split.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// Index of each sample's class.
    Classes(Vec<u32>),
    /// Scaled targets of a regression; [`TargetScale`] leads back.
    Numbers(Vec<f32>),
}

impl Labels {
    /// Appends the label of a sample as `outputs` numbers.
    pub(super) fn push(&self, row: usize, outputs: usize, to: &mut Vec<f32>) {
        match self {
            Labels::Numbers(numbers) => to.push(numbers[row]),
            Labels::Classes(classes) if outputs == 1 => to.push(classes[row] as f32),
            Labels::Classes(classes) => {
                to.extend((0..outputs).map(|class| if class == classes[row] as usize { 1.0 } else { 0.0 }));
            }
        }
    }
}

/// A column of labels as it is read.
pub enum Column {
    /// Nothing is read yet: the first label tells whether the classes are words or integers.
    Open,
    Integers(Vec<i64>),
    Words {
        known: HashMap<String, u32>,
        cells: Vec<u32>,
    },
    Numbers(Vec<f32>),
}

impl Column {
    pub fn new(spec: &DataSpec) -> Self {
        match spec.outcome {
            Outcome::Number(_) => Column::Numbers(Vec::new()),
            Outcome::Class(_) | Outcome::Implied => Column::Open,
        }
    }

    /// Takes a cell of a column of classes.
    pub fn push(
        &mut self,
        cell: &str,
        spec: &DataSpec,
        at: At<'_>,
        problem: &Problem<'_>,
    ) -> Result<(), Diagnostic> {
        if cell.is_empty() {
            return Err(problem.cell("E0606", at, "the label is missing", "fill it in, or remove the row"));
        }
        let number = cell.parse::<f64>().ok();
        let integer = number.filter(|x| x.fract() == 0.0 && x.abs() < 1e15).map(|x| x as i64);
        if matches!(self, Column::Open) {
            *self = match number {
                Some(_) => Column::Integers(Vec::new()),
                None => Column::Words { known: HashMap::new(), cells: Vec::new() },
            };
        }
        match self {
            Column::Integers(cells) => {
                let Some(integer) = integer else {
                    let message =
                        format!("the label {} is not an integer, but those before are", quote(cell));
                    let help = "classes are all integers or all words; for a number to predict, write `target: …` \
                                instead of `label: …`";
                    return Err(problem.cell("E0606", at, &message, help));
                };
                if let Some(classes) = &spec.classes
                    && !(0..classes.value as i64).contains(&integer)
                {
                    let message = format!("the label {integer} is out of range");
                    let help = format!(
                        "`classes: {}` allows labels from 0 to {}",
                        classes.value,
                        classes.value.saturating_sub(1)
                    );
                    let error = problem.cell("E0606", at, &message, &help);
                    return Err(error.label(classes.span, "the classes are declared here"));
                }
                cells.push(integer);
            }
            Column::Words { known, cells } => {
                let next = known.len() as u32;
                let code = match known.get(cell) {
                    Some(&code) => code,
                    None if known.len() == MAX_CLASSES => {
                        let message = format!("more than {MAX_CLASSES} different labels");
                        return Err(problem.cell("E0606", at, &message, "choose the column of the classes"));
                    }
                    None => *known.entry(cell.to_owned()).or_insert(next),
                };
                cells.push(code);
            }
            Column::Numbers(_) | Column::Open => {}
        }
        Ok(())
    }
}

impl Column {
    /// The labels of the rows of `order`.
    pub fn pick(self, order: &[u32]) -> Self {
        fn rows<T: Copy>(cells: &[T], order: &[u32]) -> Vec<T> {
            order.iter().map(|&row| cells[row as usize]).collect()
        }
        match self {
            Column::Open => Column::Open,
            Column::Integers(cells) => Column::Integers(rows(&cells, order)),
            Column::Words { known, cells } => Column::Words { known, cells: rows(&cells, order) },
            Column::Numbers(numbers) => Column::Numbers(rows(&numbers, order)),
        }
    }
}

/// Labels of both splits.
pub struct Finished {
    pub train: Labels,
    pub test: Labels,
    pub classes: Vec<String>,
    pub count: Option<usize>,
    pub target: Option<TargetScale>,
    pub warnings: Vec<Diagnostic>,
}

/// Numbers the classes of the first `train + test` labels, or scales the targets.
pub fn finish(
    column: Column,
    spec: &DataSpec,
    train: usize,
    test: usize,
    problem: &Problem<'_>,
) -> Result<Finished, Diagnostic> {
    let used = train + test;
    let (names, mut indices): (Vec<String>, Vec<u32>) = match column {
        Column::Numbers(numbers) => {
            let target = TargetScale::fit(&numbers[..train]);
            let scaled = |part: &[f32]| Labels::Numbers(part.iter().map(|&y| target.apply(y)).collect());
            return Ok(Finished {
                train: scaled(&numbers[..train]),
                test: scaled(&numbers[train..used]),
                classes: Vec::new(),
                count: None,
                target: Some(target),
                warnings: Vec::new(),
            });
        }
        Column::Open => (Vec::new(), Vec::new()),
        Column::Integers(cells) => {
            let cells = &cells[..used];
            let values: Vec<i64> = match &spec.classes {
                Some(classes) => (0..classes.value.min(MAX_CLASSES) as i64).collect(),
                None => cells.iter().copied().collect::<BTreeSet<_>>().into_iter().collect(),
            };
            let indices = cells.iter().map(|cell| values.binary_search(cell).unwrap_or(0) as u32).collect();
            (values.iter().map(i64::to_string).collect(), indices)
        }
        Column::Words { known, cells } => {
            let cells = &cells[..used];
            let occurring: BTreeSet<u32> = cells.iter().copied().collect();
            let mut order: Vec<(String, u32)> =
                known.into_iter().filter(|(_, code)| occurring.contains(code)).collect();
            order.sort_unstable();
            let index: HashMap<u32, u32> =
                order.iter().enumerate().map(|(index, (_, code))| (*code, index as u32)).collect();
            let indices = cells.iter().map(|code| index.get(code).copied().unwrap_or(0)).collect();
            (order.into_iter().map(|(name, _)| name).collect(), indices)
        }
    };
    let mut names = names;
    check_count(&names, spec, problem)?;
    if let Some(positive) = &spec.positive {
        let Some(position) =
            names.iter().position(|name| *name == positive.value).filter(|_| names.len() == 2)
        else {
            return Err(wrong_positive(&names, &positive.value, positive.span, problem));
        };
        if position == 0 {
            names.swap(0, 1);
            indices.iter_mut().for_each(|index| *index = 1 - *index);
        }
    }
    let trained: BTreeSet<u32> = indices[..train].iter().copied().collect();
    let tested: BTreeSet<u32> = indices[train..].iter().copied().collect();
    let unseen: Vec<&str> =
        tested.difference(&trained).filter_map(|&i| names.get(i as usize)).map(String::as_str).collect();
    let warnings = if unseen.is_empty() { Vec::new() } else { vec![problem.unseen_classes(&unseen)] };
    let count = spec.classes.as_ref().map_or(names.len(), |classes| classes.value);
    let rest = indices.split_off(train);
    Ok(Finished {
        train: Labels::Classes(indices),
        test: Labels::Classes(rest),
        classes: names,
        count: Some(count),
        target: None,
        warnings,
    })
}

fn check_count(names: &[String], spec: &DataSpec, problem: &Problem<'_>) -> Result<(), Diagnostic> {
    if names.len() > MAX_CLASSES {
        let message = format!("{} different labels", names.len());
        let help = "for a number to predict, write `target: …` instead of `label: …`";
        return Err(problem.whole("E0606", &message, "too many classes", help));
    }
    match &spec.classes {
        Some(classes) if names.len() > classes.value => {
            let message =
                format!("it has {} different labels, but {} are declared", names.len(), classes.value);
            let help = format!("write `classes: {}`, or leave it out", names.len());
            Err(problem.option("E0606", classes.span, &message, "fewer than there are", &help))
        }
        None if names.len() < 2 => {
            let message = match names {
                [name] => format!("all labels are {}", quote(name)),
                _ => "it has no labels".to_owned(),
            };
            let help = "there must be two classes at least: is this the right column?";
            Err(problem.whole("E0606", &message, "nothing can be learned from it", help))
        }
        _ => Ok(()),
    }
}

fn wrong_positive(
    names: &[String],
    positive: &str,
    span: crate::diagnostics::Span,
    problem: &Problem<'_>,
) -> Diagnostic {
    if names.len() != 2 {
        let message = format!("`positive` needs two classes, and there are {}", names.len());
        return problem.option("E0613", span, &message, "only for two classes", "leave it out");
    }
    let help = match suggest(positive, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the labels are {} and {}", quote(&names[0]), quote(&names[1])),
    };
    problem.option("E0613", span, &format!("no row has the label {}", quote(positive)), "not a label", &help)
}
