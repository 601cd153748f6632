//! Which engine's schemes a program runs on, and why.

use std::fmt;

use crate::diagnostics::Diagnostic;
use crate::graph::Graph;
use crate::typeck::levels::Family;

use super::check::Checked;
use super::compile::Settings;
use super::estimate::{Costs, step_seconds};
use super::parameters::{Parameters, SchemeChoice};
use super::schedule::Schedule;

/// Why a scheme was chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// `--scheme` or `--profile` say so.
    Wanted,
    /// The program's types say so.
    Written,
    /// The other one cannot run it.
    Only { other: Family, why: String },
    /// It takes less time: seconds of a step and of all steps with the keys, of this and of the other.
    Cheaper { chosen: Family, seconds: [f64; 2], other: [f64; 2] },
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted => f.write_str("as the command line says"),
            Self::Written => f.write_str("as the program's types say"),
            Self::Only { other, why } => write!(f, "{other} cannot run this program: {why}"),
            Self::Cheaper { chosen, seconds, other } => write!(
                f,
                "{chosen}: {} a step, {} in all with keys; {}: {} and {}",
                short(seconds[0]),
                short(seconds[1]),
                chosen.other(),
                short(other[0]),
                short(other[1]),
            ),
        }
    }
}

/// Seconds with two figures.
fn short(seconds: f64) -> String {
    match seconds {
        s if s >= 9.5 => format!("{s:.0} s"),
        s if s >= 0.095 => format!("{s:.1} s"),
        s => format!("{:.0} ms", 1000.0 * s),
    }
}

/// A program on the schemes of one engine.
pub struct Candidate {
    pub checked: Checked,
    pub schedule: Result<Schedule, Diagnostic>,
}

/// The engines that settings and written types leave open, and why it is one, if it is.
pub fn families(graph: &Graph, settings: Settings) -> (Vec<Family>, Choice) {
    let one = |family| (vec![family], Choice::Wanted);
    match (settings.parameters, settings.scheme) {
        (Some(Parameters::Tfhe(_)), _) | (None, SchemeChoice::Tfhe) => one(Family::Tfhe),
        (Some(Parameters::Ckks(_)), _) | (None, SchemeChoice::Ckks) => one(Family::Ckks),
        (None, SchemeChoice::Auto) => match Family::written(graph).as_slice() {
            [] => (OPEN.to_vec(), Choice::Wanted),
            // Of two, whichever is first complains of the other.
            [family, ..] => (vec![*family], Choice::Written),
        },
    }
}

/// The engines that a program may run on where nothing is said; what fails on both is explained for the first.
const OPEN: &[Family] = &[Family::Tfhe, Family::Ckks];

/// The cheaper of the schemes that can run a program for so many steps.
pub fn choose(
    graph: &Graph,
    settings: Settings,
    steps: usize,
    attempt: impl Fn(Family) -> Result<Candidate, Vec<Diagnostic>>,
) -> Result<(Candidate, Choice), Vec<Diagnostic>> {
    let (families, choice) = families(graph, settings);
    let mut best: Option<(Candidate, Choice)> = None;
    let mut failed: Option<(Family, Vec<Diagnostic>)> = None;
    for family in families {
        match (attempt(family), best.take()) {
            (Err(errors), None) => failed = failed.or(Some((family, errors))),
            (Err(errors), Some((known, _))) => best = Some((known, only(family, errors.first()))),
            (Ok(candidate), None) => {
                let choice = match &failed {
                    Some((other, errors)) => only(*other, errors.first()),
                    None => choice.clone(),
                };
                best = Some((candidate, choice));
            }
            (Ok(candidate), Some((known, _))) => best = Some(cheaper(known, candidate, family, steps)),
        }
    }
    match (best, failed) {
        (Some(best), _) => Ok(best),
        (None, failed) => Err(failed.map(|(_, errors)| errors).unwrap_or_default()),
    }
}

fn only(other: Family, error: Option<&Diagnostic>) -> Choice {
    Choice::Only { other, why: error.map_or_else(String::new, |error| error.message.clone()) }
}

/// Of two candidates, of which `family` is the second's.
fn cheaper(first: Candidate, second: Candidate, family: Family, steps: usize) -> (Candidate, Choice) {
    let seconds = |candidate: &Candidate| {
        let schedule = candidate.schedule.as_ref().map_err(Clone::clone)?;
        let costs = Costs::typical(schedule.parameters, 1);
        let step = step_seconds(schedule, &costs);
        Ok::<_, Diagnostic>([step, step * steps as f64 + costs.key_seconds])
    };
    match (seconds(&first), seconds(&second)) {
        (Ok(a), Ok(b)) => {
            if b[1] < a[1] {
                (second, Choice::Cheaper { chosen: family, seconds: b, other: a })
            } else {
                (first, Choice::Cheaper { chosen: family.other(), seconds: a, other: b })
            }
        }
        (Err(error), Ok(_)) => {
            let choice = only(family.other(), Some(&error));
            (second, choice)
        }
        (_, Err(error)) => {
            let choice = only(family, Some(&error));
            (first, choice)
        }
    }
}
