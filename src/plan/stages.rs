//! The order of a step: everything that is ready is done before the next batch of look-ups.

use super::schedule::{Schedule, Source, Stage};

/// Everything that is ready is done before the next batch of look-ups, so that batches are as large as can be.
pub fn stages(schedule: &Schedule) -> Vec<Stage> {
    let mut stages = Vec::new();
    let mut done_sites = vec![false; schedule.sites.len()];
    let mut done_operands = vec![false; schedule.operands.len()];
    let mut done_products = vec![false; schedule.products.len()];
    loop {
        let ready: Vec<usize> = (0..schedule.operands.len())
            .filter(|&i| !done_operands[i])
            .filter(|&i| {
                schedule.operands[i].form.terms.iter().all(|term| {
                    let table = schedule.atoms[term.atom.0 as usize].kind.table();
                    table.is_none_or(|(site, _)| done_sites[site])
                })
            })
            .collect();
        if !ready.is_empty() {
            ready.iter().for_each(|&i| done_operands[i] = true);
            stages.push(Stage::Operands(ready));
            continue;
        }
        let is_done = |source: &Source, operands: &[bool], products: &[bool]| match *source {
            Source::Operand(i) => operands[i],
            Source::Product(i) => products[i],
            Source::Master(_) => true,
        };
        let ready: Vec<usize> = (0..schedule.products.len())
            .filter(|&i| !done_products[i])
            .filter(|&i| {
                schedule.products[i].sides.iter().all(|s| is_done(s, &done_operands, &done_products))
            })
            .collect();
        if !ready.is_empty() {
            ready.iter().for_each(|&i| done_products[i] = true);
            stages.push(Stage::Products(ready));
            continue;
        }
        let ready: Vec<usize> = (0..schedule.sites.len())
            .filter(|&i| !done_sites[i])
            .filter(|&i| {
                let multiplier = schedule.sites[i].multiplier.is_none_or(|(site, _)| done_sites[site]);
                let mut sources = schedule.sites[i].reads.iter().flat_map(|read| &read.sources);
                multiplier && sources.all(|(source, _)| is_done(source, &done_operands, &done_products))
            })
            .collect();
        if ready.is_empty() {
            return stages;
        }
        ready.iter().for_each(|&i| done_sites[i] = true);
        stages.push(Stage::Tables(ready));
    }
}
