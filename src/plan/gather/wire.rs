//! What the client sends: the values of an atom once, in few polynomials that the server takes apart, or in the layout of
//! each operand that uses them; whichever costs less.

use crate::graph::elements;
use crate::he::ckks::params::RingProfile;
use crate::he::ckks::small::noise::{fresh_units, variance_units};

use super::super::form::Term;
use super::super::route::RouteError;
use super::super::schedule::{Operand, Schedule};
use super::images::Image;
use super::lanes::{Lanes, use_estimate};
use super::{SiteLanes, multiple_of};

/// One polynomial on the wire against one automorphism on the server: 32 KB, 0.1 ms.
const SWITCHES_PER_UPLOAD: f64 = 25.0;
/// The largest error of a fresh value on its way to an operand, as a fraction of the operand's root mean square.
const LARGEST_ERROR: f64 = 1.0 / 256.0;

/// An atom's values as the client sends them.
#[derive(Clone, Debug)]
pub struct Wire {
    /// Index of the atom.
    pub atom: usize,
    /// Units per unit of value; each use multiplies them by an integer.
    pub amplitude: f64,
    pub lanes: Lanes,
}

/// An operand that uses an atom, with its term.
type Use<'a> = (usize, &'a Operand, &'a Term);

/// One wire for an atom, if that costs less than sending its operands as they are.
pub(super) fn wire(
    schedule: &Schedule,
    profile: &RingProfile,
    atom: usize,
    sites: &[SiteLanes],
    images: &[Option<Image>],
) -> Result<Option<Wire>, RouteError> {
    let degree = schedule.degree();
    let uses: Vec<Use<'_>> = schedule
        .operands
        .iter()
        .enumerate()
        .flat_map(|(index, operand)| {
            let own = operand.form.terms.iter().filter(|term| term.atom.0 as usize == atom);
            own.map(move |term| (index, operand, term))
        })
        .collect();
    let units = |operand: &Operand, term: &Term| (operand.amplitude * term.coefficient).abs();
    let amplitude = uses.iter().map(|(_, operand, term)| units(operand, term)).fold(f64::INFINITY, f64::min);
    if !amplitude.is_finite() {
        return Ok(None);
    }
    if uses.iter().any(|(_, operand, term)| multiple_of(operand, term, amplitude).is_none()) {
        return Ok(None);
    }
    let mut direct = 0.0;
    for &(index, operand, _) in &uses {
        direct += match &images[index] {
            Some(image) => image.switches(schedule) as f64,
            None => schedule.polynomials(&operand.layout, operand.per_sample) as f64 * SWITCHES_PER_UPLOAD,
        };
    }
    let own = &schedule.atoms[atom];
    let samples = if own.per_sample { schedule.batch } else { 1 };
    let mut candidates: Vec<Lanes> = Vec::new();
    let of_partners = uses.iter().flat_map(|&(_, operand, term)| {
        partners(schedule, operand, term).map(|site| sites[site].lanes.clone())
    });
    let of_uses = uses.iter().filter_map(|&(_, operand, term)| Lanes::of_use(schedule, operand, term));
    let dense = Lanes::dense(degree, samples * elements(&own.shape));
    for lanes in of_partners.chain(of_uses).chain([dense]) {
        if !candidates.contains(&lanes) {
            candidates.push(lanes);
        }
    }
    // None where values would arrive too noisy.
    let cost = |lanes: &Lanes| -> Result<Option<f64>, RouteError> {
        let mut switches = 0.0;
        for &(index, operand, term) in &uses {
            // A partner's route carries it for nothing.
            if partners(schedule, operand, term).any(|site| sites[site].lanes == *lanes) {
                continue;
            }
            let own = use_estimate(schedule, (operand, term), images[index].as_ref(), lanes)?;
            let fresh = fresh_units() * units(operand, term) / amplitude;
            let noise = fresh.hypot(variance_units(profile, own.noise.values(), fresh).sqrt());
            if noise > LARGEST_ERROR * operand.amplitude * operand.rms {
                return Ok(None);
            }
            switches += own.cost;
        }
        Ok(Some(lanes.rings as f64 * SWITCHES_PER_UPLOAD + switches))
    };
    let mut best: Option<(f64, Lanes)> = None;
    for lanes in candidates {
        let least = best.as_ref().map_or(direct, |(least, _)| *least);
        if let Some(cost) = cost(&lanes)?.filter(|&cost| cost < least) {
            best = Some((cost, lanes));
        }
    }
    Ok(best.map(|(_, lanes)| Wire { atom, amplitude, lanes }))
}

/// Sites whose looked-up values stand beside an atom's in an operand, element by element.
fn partners<'a>(
    schedule: &'a Schedule,
    operand: &'a Operand,
    term: &'a Term,
) -> impl Iterator<Item = usize> + 'a {
    let own = &schedule.atoms[term.atom.0 as usize];
    operand.form.terms.iter().filter_map(move |other| {
        let atom = &schedule.atoms[other.atom.0 as usize];
        let is_beside = other.map == term.map
            && atom.per_sample == own.per_sample
            && elements(&atom.shape) == elements(&own.shape);
        if is_beside { atom.kind.table().map(|(site, _)| site) } else { None }
    })
}
