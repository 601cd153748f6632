//! What of a schedule is the same in every step: index maps, public parts, factors.

use crate::graph::{NONE, NodeId, elements};
use crate::plan::lower::AtomKind;
use crate::plan::schedule::{Operand, Read, Schedule, Source};

use super::super::encode;
use super::maps::Map;

/// [`Read`], prepared.
pub struct Gather {
    /// With a factor and the elements of a sample.
    pub sources: Vec<(Source, i64, usize)>,
    pub map: Map,
    pub per_sample: bool,
}

impl Gather {
    fn new(schedule: &Schedule, read: &Read) -> Self {
        let sources = read.sources.iter();
        let sources = sources.map(|&(source, factor)| (source, factor, schedule.layout(source).elements()));
        Self { sources: sources.collect(), map: Map::new(&read.map), per_sample: read.per_sample }
    }
}

/// Where the elements of an operand come from.
#[derive(Clone, Copy)]
pub enum Origin {
    /// The client encrypts them.
    Fresh(NodeId),
    FreshLabel,
    /// A label that comes as an LWE.
    Label,
    Table(usize, usize),
}

/// One term of an operand's form.
pub struct Term {
    pub origin: Origin,
    pub map: Map,
    /// Units of the operand per unit of what the origin gives.
    pub units: f64,
    pub per_sample: bool,
    /// Elements of a sample of the origin.
    pub width: usize,
}

pub struct Packing {
    pub terms: Vec<Term>,
    /// By element, in units.
    pub public: Vec<i64>,
    /// By element, what the standard deviation of a label's noise is multiplied by; empty where there is no such label.
    pub label_factors: Vec<f64>,
    pub fresh: bool,
    pub packed: bool,
    pub per_sample: bool,
}

impl Packing {
    fn new(schedule: &Schedule, own: &Operand, initial: &[Vec<f32>]) -> Self {
        let mut variances = Vec::new();
        let mut terms = Vec::new();
        for term in &own.form.terms {
            let atom = &schedule.atoms[term.atom.0 as usize];
            let units = own.amplitude * term.coefficient;
            let (origin, units) = match atom.kind {
                AtomKind::Fresh(node) => (Origin::Fresh(node), units),
                kind @ AtomKind::Label(_) if schedule.parameters.is_fresh(kind) => {
                    (Origin::FreshLabel, units)
                }
                AtomKind::Label(_) => {
                    let factor = units / schedule.label_amplitude;
                    variances.resize(own.form.elements(), 0.0);
                    let used = term.map.iter().zip(&mut variances).filter(|(from, _)| **from != NONE);
                    used.for_each(|(_, variance)| *variance += factor * factor);
                    (Origin::Label, units)
                }
                kind => {
                    let Some((site, table)) = kind.table() else { continue };
                    (Origin::Table(site, table), units / schedule.sites[site].tables[table].amplitude)
                }
            };
            let width = elements(&atom.shape);
            terms.push(Term { origin, map: Map::new(&term.map), units, per_sample: atom.per_sample, width });
        }
        let public = (0..own.form.elements())
            .map(|element| encode::public_part(schedule, own, initial, element))
            .collect();
        Self {
            terms,
            public,
            label_factors: variances.into_iter().map(f64::sqrt).collect(),
            fresh: own.fresh,
            packed: own.packed,
            per_sample: own.per_sample,
        }
    }
}

pub struct Prepared {
    /// By site.
    pub sites: Vec<Vec<Gather>>,
    pub operands: Vec<Packing>,
    pub outputs: Vec<Vec<Gather>>,
}

impl Prepared {
    pub fn new(schedule: &Schedule, initial: &[Vec<f32>]) -> Self {
        let gathers = |reads: &[Read]| reads.iter().map(|read| Gather::new(schedule, read)).collect();
        Self {
            sites: schedule.sites.iter().map(|site| gathers(&site.reads)).collect(),
            operands: schedule.operands.iter().map(|own| Packing::new(schedule, own, initial)).collect(),
            outputs: schedule.outputs.iter().map(|output| gathers(&output.reads)).collect(),
        }
    }
}
