//! Which lane a value gets: candidates, and what each of them costs on the way in and on the way out.

use crate::graph::{NONE, elements};

use super::super::form::Term;
use super::super::route::{RouteError, Target, Wanted};
use super::super::schedule::{Operand, Read, Schedule, SiteStep};
use super::images::Image;
use super::routes::{Dirt, Estimate, Routes};
use super::{HALF, SWITCHES_PER_BOOTSTRAP, masters};
use crate::he::ckks::params::RINGS;
use crate::he::ckks::small::noise::RouteNoise;

/// Places in small rings for values `[samples, elements]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    /// Small rings.
    pub rings: usize,
    /// Ring · degree + coefficient of each value.
    pub at: Vec<u32>,
}

/// Polynomial, coefficient, and whether the value stands there with a minus.
type Stand = (usize, u32, bool);

impl Lanes {
    /// One value after another.
    pub(super) fn dense(degree: usize, values: usize) -> Self {
        Self { rings: values.div_ceil(degree).max(1), at: (0..values as u32).collect() }
    }

    /// Polynomials whose values stand at multiples of a power of two, interleaved in their order; shifted first so that no
    /// value has a minus, where that can be.
    fn merged(degree: usize, stands: &[Option<Stand>]) -> Option<Self> {
        let mut all: Vec<Stand> = stands.iter().copied().collect::<Option<_>>()?;
        // Only the polynomials that are read.
        let mut used: Vec<usize> = all.iter().map(|(polynomial, ..)| *polynomial).collect();
        used.sort_unstable();
        used.dedup();
        for stand in &mut all {
            stand.0 = used.binary_search(&stand.0).ok()?;
        }
        let polynomials = used.len();
        let exponent = |&(_, place, negate): &Stand| place as usize + usize::from(negate) * degree;
        let base = start(degree, all.iter().map(exponent));
        let place = |stand: &Stand| (exponent(stand) + 2 * degree - base) % degree;
        let first = all.first().map(place)?;
        let differing = all.iter().fold(degree, |bits, stand| bits | (place(stand) ^ first));
        let spacing = 1usize << differing.trailing_zeros();
        let offset = first % spacing;
        let group = spacing.min(polynomials.next_power_of_two());
        let lane = |stand: &Stand| {
            let polynomial = stand.0;
            (polynomial / group * degree + place(stand) - offset + polynomial % group) as u32
        };
        let at: Vec<u32> = all.iter().map(lane).collect();
        let rings = polynomials.div_ceil(group);
        let mut taken = vec![false; rings * degree];
        let distinct = at.iter().all(|&lane| !std::mem::replace(&mut taken[lane as usize], true));
        distinct.then_some(Self { rings, at })
    }

    /// Where its rings may differ from zero, `[ring, coefficient]`.
    pub(super) fn dirt(&self, degree: usize) -> Vec<bool> {
        let mut dirt = vec![false; self.rings * degree];
        self.at.iter().for_each(|&lane| dirt[lane as usize] = true);
        dirt
    }

    /// Lanes for the values of an atom as the polynomials of an operand that uses them, interleaved.
    pub(super) fn of_use(schedule: &Schedule, operand: &Operand, term: &Term) -> Option<Self> {
        let atom = &schedule.atoms[term.atom.0 as usize];
        let size = elements(&atom.shape);
        if atom.per_sample != operand.per_sample {
            return None;
        }
        let samples = operand.rows(schedule.batch);
        let mut stands = vec![None; samples * size];
        for sample in 0..samples {
            for (element, &index) in term.map.iter().enumerate().filter(|(_, index)| **index != NONE) {
                let at = operand.layout.position(schedule.degree(), sample, element);
                let slot: &mut Option<Stand> = &mut stands[sample * size + index as usize];
                slot.get_or_insert((at.polynomial, at.coefficient as u32, at.sign < 0));
            }
        }
        Self::merged(schedule.degree(), &stands)
    }
}

/// An exponent from which on all exponents modulo 2N lie within N, so that none wraps; 0 if there is none.
fn start(degree: usize, exponents: impl Iterator<Item = usize>) -> usize {
    let mut used = vec![false; 2 * degree];
    exponents.for_each(|exponent| used[exponent % (2 * degree)] = true);
    let taken: Vec<usize> = (0..2 * degree).filter(|&exponent| used[exponent]).collect();
    let gap = |at: usize| {
        let before = taken[(at + taken.len() - 1) % taken.len()];
        (taken[at] + 2 * degree - before - 1) % (2 * degree) + 1
    };
    if taken.first() == Some(&0) && taken.last().is_some_and(|&last| last < degree) {
        return 0;
    }
    (0..taken.len()).find(|&at| gap(at) > degree).map_or(0, |at| taken[at])
}

/// Where each value that a read takes stands; `[samples, elements]`.
fn stands(schedule: &Schedule, site: &SiteStep, read: &Read) -> Vec<Option<Stand>> {
    let degree = schedule.degree();
    let samples = if site.per_sample { schedule.batch } else { 1 };
    let mut out = Vec::with_capacity(samples * site.elements);
    for sample in 0..samples {
        let sample = if read.per_sample { sample } else { 0 };
        for &index in read.map.iter() {
            out.push((index != NONE).then(|| {
                let at = read.layout.position(degree, sample, index as usize);
                (at.polynomial, at.coefficient as u32, at.sign < 0)
            }));
        }
    }
    out
}

/// The first place of each value in any of the reads, whose polynomials are numbered one after another.
fn first_of(reads: &[(&Read, Vec<Option<Stand>>)]) -> Vec<Option<Stand>> {
    let mut out: Vec<Option<Stand>> = Vec::new();
    let mut base = 0;
    for (_, stands) in reads {
        out.resize(stands.len(), None);
        for (slot, stand) in out.iter_mut().zip(stands).filter(|(slot, _)| slot.is_none()) {
            *slot = stand.map(|(polynomial, place, negate)| (base + polynomial, place, negate));
        }
        base += stands.iter().flatten().map(|(polynomial, ..)| polynomial + 1).max().unwrap_or(0);
    }
    out
}

/// From the polynomials of a read to lanes, where several reads are added up. A ring must be zero where another read brings
/// the value, or none does; if there is no such lane, anything may stand beside the values.
fn read_targets(degree: usize, stands: &[Option<Stand>], lanes: &Lanes) -> Vec<Target> {
    let mut targets = vec![Target::default(); lanes.rings];
    for (stand, &lane) in stands.iter().zip(&lanes.at) {
        let target = &mut targets[lane as usize / degree];
        match *stand {
            Some((source, from, negate)) => {
                target.wanted.push(Wanted { source, from, to: (lane as usize % degree) as u32, negate });
            }
            None => target.clean = true,
        }
    }
    targets
}

/// From lanes to the polynomials of an operand.
pub(super) fn use_targets(schedule: &Schedule, operand: &Operand, term: &Term, lanes: &Lanes) -> Vec<Target> {
    let degree = schedule.degree();
    let samples = operand.rows(schedule.batch);
    let atom = &schedule.atoms[term.atom.0 as usize];
    let size = elements(&atom.shape);
    let polynomials = operand.layout.polynomials(samples);
    let mut targets = vec![Target { clean: true, ..Target::default() }; polynomials];
    for sample in 0..samples {
        for (element, &index) in term.map.iter().enumerate().filter(|(_, index)| **index != NONE) {
            let at = if atom.per_sample { sample * size + index as usize } else { index as usize };
            let lane = lanes.at[at] as usize;
            let to = operand.layout.position(degree, sample, element);
            targets[to.polynomial].wanted.push(Wanted {
                source: lane / degree,
                from: (lane % degree) as u32,
                to: to.coefficient as u32,
                negate: to.sign < 0,
            });
        }
    }
    targets
}

/// What an operand costs that gets its values from lanes.
pub(super) fn use_estimate(
    schedule: &Schedule,
    (operand, term): (&Operand, &Term),
    image: Option<&Image>,
    lanes: &Lanes,
) -> Result<Estimate, RouteError> {
    let turned = |image: &Image| Estimate {
        cost: image.switches(schedule) as f64,
        noise: RouteNoise::default().mirrored(),
    };
    if let Some(image) = image.filter(|image| image.pays(schedule, 0)) {
        return Ok(turned(image));
    }
    let degree = schedule.degree();
    let targets = use_targets(schedule, operand, term, lanes);
    let own = Estimate::of(degree, &targets, Dirt::At(&lanes.dirt(degree)))?;
    Ok(image.filter(|image| image.pays(schedule, own.cost as usize)).map_or(own, turned))
}

/// What so many rings cost, in bootstraps.
fn bootstrap_cost(rings: usize) -> f64 {
    let rest = match rings % RINGS {
        0 => 0.0,
        few if few <= RINGS / 2 => HALF,
        _ => 1.0,
    };
    (rings / RINGS) as f64 + rest
}

/// Lanes for a site and those that take their factor from it, which stand where it does: the fewest bootstraps and key
/// switches on all ways in and out. A switch on the way in works on narrow ciphertexts, at half the cost, unless it is a
/// gradient that is routed into its master.
pub(super) fn choose(
    schedule: &Schedule,
    family: &[usize],
    images: &[Option<Image>],
) -> Result<Lanes, RouteError> {
    let degree = schedule.degree();
    let Some(&first) = family.first() else { return Ok(Lanes::default()) };
    let site = &schedule.sites[first];
    let samples = if site.per_sample { schedule.batch } else { 1 };
    let mut reads: Vec<(&Read, Vec<Option<Stand>>)> = Vec::new();
    for &member in family {
        let site = &schedule.sites[member];
        reads.extend(site.reads.iter().map(|read| (read, stands(schedule, site, read))));
    }
    let of_family = |term: &&Term| {
        let table = schedule.atoms[term.atom.0 as usize].kind.table();
        table.is_some_and(|(site, _)| family.contains(&site))
    };
    let uses: Vec<(&Operand, &Term, Option<&Image>)> = schedule
        .operands
        .iter()
        .zip(images)
        .flat_map(|(operand, image)| {
            operand.form.terms.iter().filter(of_family).map(move |term| (operand, term, image.as_ref()))
        })
        .collect();
    let mut candidates: Vec<Lanes> = Vec::new();
    let of_reads = reads.iter().filter_map(|(_, stands)| Lanes::merged(degree, stands));
    let together = Lanes::merged(degree, &first_of(&reads));
    let of_uses = uses.iter().filter_map(|(operand, term, _)| Lanes::of_use(schedule, operand, term));
    for lanes in
        of_reads.chain(together).chain(of_uses).chain([Lanes::dense(degree, samples * site.elements)])
    {
        if !candidates.contains(&lanes) {
            candidates.push(lanes);
        }
    }
    let cost = |lanes: &Lanes| -> Result<f64, RouteError> {
        let mut switches = 0.0;
        for (read, stands) in &reads {
            let targets = read_targets(degree, stands, lanes);
            let share = if masters::is_merged(read, lanes.rings) { 1.0 } else { 0.5 };
            switches += share * Estimate::of(degree, &targets, Dirt::Everywhere)?.cost;
        }
        for &(operand, term, image) in &uses {
            switches += use_estimate(schedule, (operand, term), image, lanes)?.cost;
        }
        Ok(family.len() as f64 * bootstrap_cost(lanes.rings) * SWITCHES_PER_BOOTSTRAP + switches)
    };
    if candidates.len() == 1 {
        return Ok(candidates.swap_remove(0));
    }
    let costs = candidates.iter().map(cost).collect::<Result<Vec<f64>, _>>()?;
    let best = (0..costs.len()).min_by(|&a, &b| costs[a].total_cmp(&costs[b])).unwrap_or(0);
    Ok(candidates.swap_remove(best))
}

/// The ways of all reads of a site to its lanes.
pub(super) fn reads(schedule: &Schedule, site: &SiteStep, lanes: &Lanes) -> Result<Vec<Routes>, RouteError> {
    let degree = schedule.degree();
    let route = |read: &Read| {
        let targets = read_targets(degree, &stands(schedule, site, read), lanes);
        Routes::find(degree, &targets, Dirt::Everywhere)
    };
    site.reads.iter().map(route).collect()
}
