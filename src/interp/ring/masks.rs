//! What the outputs of a bootstrap let through.

use crate::he::ckks::Mask;
use crate::he::ckks::params::{RINGS, RingProfile};
use crate::plan::functions::RingFunction;
use crate::plan::gather::{Bootstrap, GatherPlan};
use crate::plan::schedule::Schedule;

use super::Done;

/// One output ciphertext of a bootstrap: which tables it holds, each on the lanes of its site.
pub(super) struct Output {
    pub parts: Vec<(usize, usize, Mask)>,
}

/// A fixed half of all numbers, without a pattern (the finaliser of splitmix64).
fn scattered(x: usize) -> bool {
    let mut x = (x as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) & 1 == 1
}

/// Output ciphertexts of a bootstrap: the k-th tables of all its sites share one, each on the lanes of its site.
pub(super) fn outputs(
    schedule: &Schedule,
    plan: &GatherPlan,
    functions: &[Vec<RingFunction>],
    bootstrap: &Bootstrap,
) -> Done<Vec<Output>> {
    let sites = bootstrap.sites();
    let degree = schedule.degree();
    let factor_degree = schedule.parameters.ckks().map_or(0, RingProfile::factor_degree);
    // Tables that only multiply others have no outputs, nor have those that nothing uses.
    let own: Vec<Vec<usize>> = sites
        .iter()
        .map(|&site| {
            (0..functions[site].len())
                .filter(|&k| functions[site][k].output.is_some() && plan.uses(site, k))
                .collect()
        })
        .collect();
    let count = own.iter().map(Vec::len).max().unwrap_or(0);
    let part = |site: usize, table: usize| {
        // A mask that is folded into a matrix: the rounding errors of few ones add up. Where nobody reads, anything may pass,
        // so that they are noise.
        let folded = functions[site][table].output.as_ref().is_some_and(|f| f.degree() > factor_degree);
        let passes = |lane: usize| folded && bootstrap.slots[lane % RINGS].is_none() && scattered(lane);
        let mut weights: Vec<f64> =
            (0..degree * RINGS).map(|lane| f64::from(u8::from(passes(lane)))).collect();
        for lane in plan.bootstrap_lanes(degree, bootstrap, site) {
            weights[lane as usize] = 1.0;
        }
        Ok((site, table, Mask::new(weights)?))
    };
    (0..count)
        .map(|k| {
            let parts = sites.iter().zip(&own).filter_map(|(&site, own)| Some((site, *own.get(k)?)));
            Ok(Output { parts: parts.map(|(site, table)| part(site, table)).collect::<Done<_>>()? })
        })
        .collect()
}
