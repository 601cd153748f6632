//! The order of a step: everything that is ready is done before the next batch of look-ups.

use std::ops::Range;

use super::schedule::{Schedule, Source, Stage};

/// What is read by a stage for the last time: a step can drop it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LastReads {
    /// Operands and products; not those that change masters or are outputs.
    pub sources: Vec<Source>,
    /// Sites whose outputs no later stage uses.
    pub sites: Vec<usize>,
    /// Saved factors, by site and table.
    pub saved: Vec<(usize, usize)>,
}

/// The bootstraps of a stage that are made at the same time, group by group.
pub fn groups(count: usize, at_once: usize) -> impl Iterator<Item = Range<usize>> {
    let size = at_once.max(1);
    (0..count).step_by(size).map(move |first| first..count.min(first.saturating_add(size)))
}

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

/// By stage: what it is the last to read.
pub fn last_reads(schedule: &Schedule) -> Vec<LastReads> {
    let mut of_operand = vec![None; schedule.operands.len()];
    let mut of_product = vec![None; schedule.products.len()];
    let mut of_site = vec![None; schedule.sites.len()];
    let mut of_saved: Vec<((usize, usize), usize)> = Vec::new();
    for (index, stage) in schedule.stages.iter().enumerate() {
        let mut read = |source: &Source| match *source {
            Source::Operand(i) => of_operand[i] = Some(index),
            Source::Product(i) => of_product[i] = Some(index),
            Source::Master(_) => {}
        };
        match stage {
            Stage::Products(own) => {
                own.iter().flat_map(|&product| &schedule.products[product].sides).for_each(&mut read);
            }
            Stage::Tables(own) => {
                for site in own.iter().map(|&site| &schedule.sites[site]) {
                    site.reads.iter().flat_map(|read| &read.sources).for_each(|(source, _)| read(source));
                    if let Some(saved) = site.multiplier {
                        of_saved.retain(|(known, _)| *known != saved);
                        of_saved.push((saved, index));
                    }
                }
            }
            Stage::Operands(own) => {
                let terms = own.iter().flat_map(|&operand| &schedule.operands[operand].form.terms);
                for term in terms {
                    if let Some((site, _)) = schedule.atoms[term.atom.0 as usize].kind.table() {
                        of_site[site] = Some(index);
                    }
                }
            }
        }
    }
    let gradients = schedule.masters.iter().flat_map(|master| &master.gradient);
    let outputs = schedule.outputs.iter().flat_map(|output| &output.reads).flat_map(|read| &read.sources);
    for (source, _) in gradients.chain(outputs) {
        match *source {
            Source::Operand(i) => of_operand[i] = None,
            Source::Product(i) => of_product[i] = None,
            Source::Master(_) => {}
        }
    }
    let mut out = vec![LastReads::default(); schedule.stages.len()];
    let known = |of: Vec<Option<usize>>| {
        of.into_iter().enumerate().filter_map(|(index, stage)| Some((index, stage?))).collect::<Vec<_>>()
    };
    for (index, stage) in known(of_operand) {
        out[stage].sources.push(Source::Operand(index));
    }
    for (index, stage) in known(of_product) {
        out[stage].sources.push(Source::Product(index));
    }
    for (index, stage) in known(of_site) {
        out[stage].sites.push(index);
    }
    for (saved, stage) in of_saved {
        out[stage].saved.push(saved);
    }
    out
}
