//! Where a step's look-ups stand in the bootstraps of the ring engine: a lane for every value, and the routes in and out.
//!
//! A bootstrap takes eight small rings, interleaved. Lanes are chosen so that few rings and few key switches are needed on all
//! ways in and out ([`lanes`]); the rings of all sites of a stage share bootstraps. What comes out stands where it went in,
//! clean everywhere else, and is routed into the layouts of the operands ([`routes`]), as is what the client sends ([`wire`]).
//! An operand that is another one, turned, is made from that ([`images`]).

mod images;
mod lanes;
mod masters;
mod noise;
mod routes;
mod wire;

use crate::graph::elements;
use crate::he::ckks::params::RINGS;

use super::form::Term;
use super::route::{RouteError, Target};
use super::schedule::{Operand, Schedule, Stage};

pub use self::images::Image;
pub use self::lanes::Lanes;
pub use self::masters::MergedMaster;
pub use self::routes::{Dirt, Ends, Part, Routes};
pub use self::wire::Wire;

/// One automorphism key switch of a full ciphertext against one bootstrap: what merging may cost to save rings.
const SWITCHES_PER_BOOTSTRAP: f64 = 8000.0;
/// A bootstrap of which only the low half is evaluated, against a whole one.
const HALF: f64 = 0.7;

/// The lanes of one site.
#[derive(Clone, Debug, Default)]
pub struct SiteLanes {
    pub lanes: Lanes,
    /// By read: from its polynomials to the rings.
    pub reads: Vec<Routes>,
}

/// One of the eight small rings of a bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub site: usize,
    pub ring: usize,
    /// The ring's upper coefficients, shifted down: see [`Bootstrap::low`].
    pub upper: bool,
}

/// One bootstrap: what stands in its rings.
#[derive(Clone, Debug, Default)]
pub struct Bootstrap {
    /// Every ring stands in two slots, with its lower and its upper coefficients; only the low half of the slots' coefficients is
    /// evaluated, which costs little more than half.
    pub low: bool,
    pub slots: [Option<Slot>; RINGS],
    /// Values.
    pub used: usize,
}

/// All look-ups of a stage.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    pub bootstraps: Vec<Bootstrap>,
}

/// Rings that values are routed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RingSource {
    /// Outputs of a table.
    Table { site: usize, table: usize },
    /// What the client sends: an index into [`GatherPlan::wires`].
    Wire(usize),
}

/// Terms of an operand's form whose values stand in the same lanes: they go to the same places, or are the same values and go to
/// several.
#[derive(Clone, Debug)]
pub struct TermRoute {
    /// Added up in the lanes, each times an integer.
    pub sources: Vec<(RingSource, i64)>,
    /// From there to the operand's polynomials.
    pub routes: Routes,
}

/// How an operand gets its values.
#[derive(Clone, Debug, Default)]
pub struct OperandRoute {
    /// It is another one, turned; then nothing else is needed.
    pub image: Option<Image>,
    pub terms: Vec<TermRoute>,
}

#[derive(Clone, Debug, Default)]
pub struct GatherPlan {
    /// By site.
    pub sites: Vec<SiteLanes>,
    /// By stage of the schedule; empty for stages without look-ups.
    pub stages: Vec<Gathered>,
    pub wires: Vec<Wire>,
    /// By operand.
    pub operands: Vec<OperandRoute>,
    /// By master: none where it stands as its gradient does.
    pub masters: Vec<Option<MergedMaster>>,
}

/// Automorphism key switches of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// Into look-ups, on narrow ciphertexts.
    pub look_ups: usize,
    /// From gradients into the lanes of masters.
    pub masters: usize,
    pub operands: usize,
}

impl Switches {
    pub fn total(self) -> usize {
        self.look_ups + self.masters + self.operands
    }
}

/// Lanes, the first of the terms whose values stand there, and what is added up in them.
type Group<'a> = (&'a Lanes, &'a Term, Vec<(RingSource, i64)>);

/// Lanes, what is added up in them, and where the sums go.
type Way<'a> = (&'a Lanes, Vec<(RingSource, i64)>, Vec<Target>);

/// Where an operand needs values of an atom at this amplitude: the integer that they are multiplied by, if it is one.
fn multiple_of(operand: &Operand, term: &Term, amplitude: f64) -> Option<i64> {
    let ratio = operand.amplitude * term.coefficient / amplitude;
    ((ratio - ratio.round()).abs() <= 1e-6 * ratio.abs()).then_some(ratio.round() as i64)
}

impl GatherPlan {
    /// Lanes, bootstraps and routes of a schedule for the ring engine.
    ///
    /// # Errors
    /// Two values at one place: a schedule that no layout allows.
    pub fn of(schedule: &Schedule) -> Result<Self, RouteError> {
        let images = images::images(schedule);
        let mut plan = Self { sites: Vec::new(), ..Self::default() };
        plan.sites = Self::sites(schedule, &images)?;
        for stage in &schedule.stages {
            let gathered = match stage {
                Stage::Tables(own) => plan.gather(schedule, own),
                _ => Gathered::default(),
            };
            plan.stages.push(gathered);
        }
        if let Some(profile) = schedule.parameters.ckks() {
            plan.masters = masters::merged(schedule, profile, &mut plan.sites);
            for (index, atom) in schedule.atoms.iter().enumerate() {
                if schedule.parameters.is_fresh(atom.kind) {
                    plan.wires.extend(wire::wire(schedule, profile, index, &plan.sites, &images)?);
                }
            }
        }
        for (operand, image) in schedule.operands.iter().zip(&images) {
            let route = plan.operand(schedule, operand, image.as_ref())?;
            plan.operands.push(route);
        }
        Ok(plan)
    }

    /// The lanes of all sites. A value meets its saved factor in the slot where that was looked up.
    fn sites(schedule: &Schedule, images: &[Option<Image>]) -> Result<Vec<SiteLanes>, RouteError> {
        let first = |mut site: usize| {
            // A factor is looked up before what it multiplies: the chain ends.
            while let Some((saved, _)) = schedule.sites[site].multiplier {
                site = saved;
            }
            site
        };
        let firsts: Vec<usize> = (0..schedule.sites.len()).map(first).collect();
        let mut lanes: Vec<Option<Lanes>> = vec![None; schedule.sites.len()];
        let mut out = Vec::new();
        for (index, &first) in firsts.iter().enumerate() {
            if lanes[first].is_none() {
                let family: Vec<usize> = (0..firsts.len()).filter(|&i| firsts[i] == first).collect();
                // What the lanes are for comes first.
                lanes[first] = Some(lanes::choose(schedule, &family, images)?);
            }
            let lanes = lanes[first].clone().unwrap_or_default();
            let reads = lanes::reads(schedule, &schedule.sites[index], &lanes)?;
            out.push(SiteLanes { lanes, reads });
        }
        Ok(out)
    }

    /// The sites of a stage, ring by ring, in as few bootstraps as they need.
    fn gather(&self, schedule: &Schedule, own: &[usize]) -> Gathered {
        let mut bootstraps = Vec::new();
        let (mirrored, free): (Vec<usize>, Vec<usize>) =
            own.iter().copied().partition(|&site| schedule.sites[site].multiplier.is_some());
        let rings: Vec<(usize, usize)> = free
            .iter()
            .flat_map(|&site| (0..self.sites[site].lanes.rings).map(move |ring| (site, ring)))
            .collect();
        for chunk in rings.chunks(RINGS) {
            bootstraps.push(Bootstrap::of(chunk));
        }
        // A value meets its saved factor in the slot where that was looked up; sites whose factors stood side by side share
        // bootstraps again.
        let saved = |site: usize| schedule.sites[site].multiplier.map(|(saved, _)| saved);
        for bootstrap in self.stages.iter().flat_map(|stage| &stage.bootstraps) {
            let mut left = mirrored.clone();
            loop {
                let of = |slot: Slot| {
                    let site = left.iter().copied().find(|&site| saved(site) == Some(slot.site))?;
                    Some(Slot { site, ..slot })
                };
                let slots = bootstrap.slots.map(|slot| slot.and_then(of));
                if slots.iter().all(Option::is_none) {
                    break;
                }
                left.retain(|&site| slots.iter().flatten().all(|slot| slot.site != site));
                bootstraps.push(Bootstrap { low: bootstrap.low, slots, used: 0 });
            }
        }
        let degree = schedule.degree();
        for bootstrap in &mut bootstraps {
            bootstrap.used =
                own.iter().map(|&site| self.bootstrap_lanes(degree, bootstrap, site).len()).sum();
        }
        Gathered { bootstraps }
    }

    /// Coefficients of the large ring at which a bootstrap holds values of a site.
    pub fn bootstrap_lanes(&self, degree: usize, bootstrap: &Bootstrap, site: usize) -> Vec<u32> {
        let half = degree / 2;
        let mut out = Vec::new();
        for &lane in &self.sites[site].lanes.at {
            let (ring, coefficient) = (lane as usize / degree, lane as usize % degree);
            let upper = bootstrap.low && coefficient >= half;
            let wanted = Slot { site, ring, upper };
            if let Some(at) = bootstrap.slots.iter().position(|slot| *slot == Some(wanted)) {
                let coefficient = if upper { coefficient - half } else { coefficient };
                out.push((coefficient * RINGS + at) as u32);
            }
        }
        out
    }

    /// The wire of an atom.
    pub fn wire(&self, atom: usize) -> Option<usize> {
        self.wires.iter().position(|wire| wire.atom == atom)
    }

    /// Whether the client encrypts a part of an operand in the operand's own layout.
    pub fn is_direct(&self, schedule: &Schedule, operand: usize) -> bool {
        let own = &schedule.operands[operand];
        let direct = |term: &Term| {
            let atom = term.atom.0 as usize;
            schedule.parameters.is_fresh(schedule.atoms[atom].kind) && self.wire(atom).is_none()
        };
        self.operands[operand].image.is_none() && own.form.terms.iter().any(direct)
    }

    /// Where an operand's values come from.
    fn operand(
        &self,
        schedule: &Schedule,
        operand: &Operand,
        image: Option<&Image>,
    ) -> Result<OperandRoute, RouteError> {
        let degree = schedule.degree();
        let mut groups: Vec<Group<'_>> = Vec::new();
        let mut is_direct = false;
        for term in &operand.form.terms {
            let index = term.atom.0 as usize;
            let atom = &schedule.atoms[index];
            let (origin, lanes, amplitude) = match (atom.kind.table(), self.wire(index)) {
                (Some((site, table)), _) => {
                    let amplitude = schedule.sites[site].tables[table].amplitude;
                    (RingSource::Table { site, table }, &self.sites[site].lanes, amplitude)
                }
                (None, Some(wire)) => {
                    (RingSource::Wire(wire), &self.wires[wire].lanes, self.wires[wire].amplitude)
                }
                (None, None) => {
                    is_direct |= schedule.parameters.is_fresh(atom.kind);
                    continue;
                }
            };
            let multiple = (operand.amplitude * term.coefficient / amplitude).round() as i64;
            let same = |(other, first, _): &&mut Group<'_>| {
                let beside = &schedule.atoms[first.atom.0 as usize];
                *other == lanes
                    && first.map == term.map
                    && beside.per_sample == atom.per_sample
                    && elements(&beside.shape) == elements(&atom.shape)
            };
            match groups.iter_mut().find(same) {
                Some((_, _, sources)) => sources.push((origin, multiple)),
                None => groups.push((lanes, term, vec![(origin, multiple)])),
            }
        }
        // The same values for several terms, a sum over one of their axes for example, share one way.
        let mut ways: Vec<Way<'_>> = Vec::new();
        for (lanes, term, sources) in groups {
            let targets = lanes::use_targets(schedule, operand, term, lanes);
            match ways.iter_mut().find(|(other, own, _)| *other == lanes && *own == sources) {
                Some((_, _, all)) => {
                    let pairs = all.iter_mut().zip(targets);
                    pairs.for_each(|(all, target)| all.wanted.extend(target.wanted));
                }
                None => ways.push((lanes, sources, targets)),
            }
        }
        let mut terms = Vec::new();
        for (lanes, sources, targets) in ways {
            let routes = Routes::find(degree, &targets, Dirt::At(&lanes.dirt(degree)))?;
            terms.push(TermRoute { sources, routes });
        }
        let own: f64 = terms.iter().map(|term| term.routes.cost()).sum();
        // What the client would have to send is never cheaper than a turn.
        let pays = |image: &&Image| image.pays(schedule, own.ceil() as usize);
        let image = image.filter(|image| is_direct || (!terms.is_empty() && pays(image)));
        Ok(match image {
            Some(image) => OperandRoute { image: Some(*image), terms: Vec::new() },
            None => OperandRoute { image: None, terms },
        })
    }

    /// Whether anything uses the outputs of a table.
    pub fn uses(&self, site: usize, table: usize) -> bool {
        let mut sources = self.operands.iter().flat_map(|own| &own.terms).flat_map(|term| &term.sources);
        sources.any(|(source, _)| *source == RingSource::Table { site, table })
    }

    /// Automorphism key switches of one step.
    pub fn switches(&self, schedule: &Schedule) -> Switches {
        Switches {
            look_ups: (0..self.sites.len()).map(|site| self.site_switches(site)).sum(),
            masters: self.masters.iter().flatten().map(|own| own.routes.switches()).sum(),
            operands: (0..self.operands.len()).map(|own| self.operand_switches(schedule, own)).sum(),
        }
    }

    /// Those on the ways of all values that a site looks up.
    pub fn site_switches(&self, site: usize) -> usize {
        self.sites[site].reads.iter().map(Routes::switches).sum()
    }

    /// Those that an operand is made with.
    pub fn operand_switches(&self, schedule: &Schedule, operand: usize) -> usize {
        let own = &self.operands[operand];
        let terms: usize = own.terms.iter().map(|term| term.routes.switches()).sum();
        terms + own.image.map_or(0, |image| image.switches(schedule))
    }

    /// What the ways of look-ups, masters and operands cost, in key switches: those, and the additions beside them.
    pub fn move_costs(&self, schedule: &Schedule) -> [f64; 3] {
        let look_ups = self.sites.iter().flat_map(|site| &site.reads).map(Routes::cost).sum();
        let masters = self.masters.iter().flatten().map(|own| own.routes.cost()).sum();
        let out: f64 = self.operands.iter().flat_map(|own| &own.terms).map(|term| term.routes.cost()).sum();
        let images = self.operands.iter().filter_map(|own| own.image);
        [look_ups, masters, out + images.map(|image| image.switches(schedule) as f64).sum::<f64>()]
    }

    /// All bootstraps of one step.
    pub fn bootstraps(&self) -> impl Iterator<Item = &Bootstrap> {
        self.stages.iter().flat_map(|stage| &stage.bootstraps)
    }
}

impl Bootstrap {
    fn of(rings: &[(usize, usize)]) -> Self {
        let low = rings.len() <= RINGS / 2;
        let mut slots = [None; RINGS];
        for (at, &(site, ring)) in rings.iter().enumerate() {
            let slot = Slot { site, ring, upper: false };
            if low {
                slots[2 * at] = Some(slot);
                slots[2 * at + 1] = Some(Slot { upper: true, ..slot });
            } else {
                slots[at] = Some(slot);
            }
        }
        Self { low, slots, used: 0 }
    }

    /// Sites with values here.
    pub fn sites(&self) -> Vec<usize> {
        let mut sites: Vec<usize> = self.slots.iter().flatten().map(|slot| slot.site).collect();
        sites.sort_unstable();
        sites.dedup();
        sites
    }

    /// The share of its 32,768 lanes that hold values.
    pub fn fill(&self, degree: usize) -> f64 {
        self.used as f64 / (RINGS * degree) as f64
    }
}

#[cfg(test)]
mod tests;
