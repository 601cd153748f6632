//! Masters that stand in the lanes of their look-ups.
//!
//! The gradient of a kernel has a polynomial for every pair of channels, each with a handful of values. A master of the same
//! polynomials would be as large and be routed to its look-up in every step. Merged, it has the few rings of the look-up, and
//! it is the gradient that is routed, at full width: as many key switches, each at twice the cost.

use crate::he::ckks::params::RingProfile;
use crate::he::ckks::small::program::{Program, Shifted, Value};

use super::super::layout::{Layout, Place};
use super::super::schedule::{Read, Schedule, Source};
use super::{Ends, Lanes, Part, Routes, SiteLanes};

/// A master in the lanes of its look-up.
#[derive(Clone, Debug)]
pub struct MergedMaster {
    /// The lanes.
    pub layout: Layout,
    /// From the polynomials of its gradient to the lanes.
    pub routes: Routes,
}

/// So many polynomials of a gradient for each ring of its look-up make a master stand in the rings.
const LEAST_PIECES: usize = 4;
/// Over so many steps the noise of the routes must stay below this fraction of a master's range.
const STEPS: f64 = (1 << 20) as f64;
const LARGEST_DRIFT: f64 = 1.0 / 4096.0;

/// The master that a read takes as it is, if it is one.
fn master_of(read: &Read) -> Option<usize> {
    match read.sources[..] {
        [(Source::Master(index), 1)] => Some(index),
        _ => None,
    }
}

/// Whether what a read takes is a master that stands in so many rings instead of its gradient's polynomials.
pub(super) fn is_merged(read: &Read, rings: usize) -> bool {
    master_of(read).is_some() && read.layout.pieces >= LEAST_PIECES * rings
}

impl Lanes {
    /// As the layout of a tensor that the batch shares.
    fn layout(&self, degree: usize) -> Layout {
        let place = |&lane: &u32| Place { piece: lane / degree as u32, exponent: lane % degree as u32 };
        Layout {
            pieces: self.rings,
            places: self.at.iter().map(place).collect(),
            sample_stride: 0,
            samples: 1,
        }
    }
}

/// Every polynomial as it is.
fn unmoved(count: usize) -> Routes {
    let same = Shifted { value: Value::Source { index: 0, halvings: 0 }, shift: 0 };
    let program = Program { steps: Vec::new(), outputs: vec![Some(same)] };
    let copy = |index: u32| Ends { sources: vec![index], targets: vec![index] };
    let part = Part { mirrored: false, program, copies: (0..count as u32).map(copy).collect() };
    Routes { parts: vec![part], targets: count, layers: 1 }
}

/// By master: how it stands in the lanes of its look-up, which then reads it without a move; none where it stands as its
/// gradient does.
pub(super) fn merged(
    schedule: &Schedule,
    profile: &RingProfile,
    sites: &mut [SiteLanes],
) -> Vec<Option<MergedMaster>> {
    let largest_units = LARGEST_DRIFT * schedule.modulus() / 4.0 / STEPS.sqrt();
    let outputs = schedule.outputs.iter().flat_map(|output| &output.reads);
    let readers = |master: usize| {
        let reads = schedule.sites.iter().flat_map(|site| &site.reads).chain(outputs.clone());
        let reads = reads.filter(|read| read.sources.iter().any(|own| own.0 == Source::Master(master)));
        reads.count()
    };
    let mut out = vec![None; schedule.masters.len()];
    for (step, own) in schedule.sites.iter().zip(sites) {
        let ([read], [routes]) = (&step.reads[..], &mut own.reads[..]) else { continue };
        let Some(master) = master_of(read) else { continue };
        let quiet = routes.units(profile) <= largest_units;
        if is_merged(read, own.lanes.rings) && readers(master) == 1 && quiet {
            let routes = std::mem::replace(routes, unmoved(own.lanes.rings));
            out[master] = Some(MergedMaster { layout: own.lanes.layout(schedule.degree()), routes });
        }
    }
    out
}
