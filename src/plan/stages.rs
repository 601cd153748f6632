//! The order of a step: everything that is ready is done before the next batch of look-ups.

use std::ops::Range;

use super::schedule::{Schedule, Source, Stage};

/// What is read by a stage for the last time: a step can drop it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LastReads {
    /// Operands and products; not those that are outputs.
    pub sources: Vec<Source>,
    /// Sites whose outputs no later stage uses.
    pub sites: Vec<usize>,
    /// Saved factors, by site and table.
    pub saved: Vec<(usize, usize)>,
    /// Masters whose gradients are complete: what changes them is read here.
    pub masters: Vec<usize>,
}

/// The bootstraps of a stage that are made at the same time, group by group.
pub fn groups(count: usize, at_once: usize) -> impl Iterator<Item = Range<usize>> {
    let size = at_once.max(1);
    (0..count).step_by(size).map(move |first| first..count.min(first.saturating_add(size)))
}

/// What is there while stages are put in order.
struct Progress<'a> {
    schedule: &'a Schedule,
    sites: Vec<bool>,
    operands: Vec<bool>,
    products: Vec<bool>,
    stages: Vec<Stage>,
}

impl Progress<'_> {
    /// Whether the values of an operand are known.
    fn can_be_made(&self, operand: usize) -> bool {
        self.schedule.operands[operand].form.terms.iter().all(|term| {
            let table = self.schedule.atoms[term.atom.0 as usize].kind.table();
            table.is_none_or(|(site, _)| self.sites[site])
        })
    }

    /// Whether a source is there, or is an operand that can be made.
    fn is_ready(&self, source: Source) -> bool {
        match source {
            Source::Operand(i) => self.can_be_made(i),
            Source::Product(i) => self.products[i],
            Source::Master(_) => true,
        }
    }

    /// Makes those of the sources that are operands, if they are not there and can be.
    fn make(&mut self, sources: impl Iterator<Item = Source>) {
        let mut own: Vec<usize> = sources
            .filter_map(|source| match source {
                Source::Operand(i) if !self.operands[i] && self.can_be_made(i) => Some(i),
                _ => None,
            })
            .collect();
        own.sort_unstable();
        own.dedup();
        if !own.is_empty() {
            own.iter().for_each(|&i| self.operands[i] = true);
            self.stages.push(Stage::Operands(own));
        }
    }

    /// All products that are ready; whether there are any.
    fn multiply(&mut self) -> bool {
        let schedule = self.schedule;
        let ready: Vec<usize> = (0..schedule.products.len())
            .filter(|&i| !self.products[i])
            .filter(|&i| schedule.products[i].sides.iter().all(|&side| self.is_ready(side)))
            .collect();
        if ready.is_empty() {
            return false;
        }
        // With a part of a gradient the operands that it is added to.
        let parts = |gradient: &[(Source, i64)]| {
            gradient.iter().any(|(source, _)| matches!(source, Source::Product(i) if ready.contains(i)))
        };
        let gradients = schedule.masters.iter().map(|master| &master.gradient[..]);
        let beside = gradients.filter(|own| parts(own)).flatten().map(|(source, _)| *source);
        self.make(ready.iter().flat_map(|&i| schedule.products[i].sides).chain(beside));
        ready.iter().for_each(|&i| self.products[i] = true);
        self.stages.push(Stage::Products(ready));
        true
    }

    /// All look-ups that are ready; whether there are any.
    fn look_up(&mut self) -> bool {
        let schedule = self.schedule;
        let sources = |site: usize| {
            schedule.sites[site].reads.iter().flat_map(|read| &read.sources).map(|(source, _)| *source)
        };
        let ready: Vec<usize> = (0..schedule.sites.len())
            .filter(|&i| !self.sites[i])
            .filter(|&i| {
                let multiplier = schedule.sites[i].multiplier.is_none_or(|(site, _)| self.sites[site]);
                multiplier && sources(i).all(|source| self.is_ready(source))
            })
            .collect();
        if ready.is_empty() {
            return false;
        }
        self.make(ready.iter().flat_map(|&i| sources(i)));
        ready.iter().for_each(|&i| self.sites[i] = true);
        self.stages.push(Stage::Tables(ready));
        true
    }
}

/// Everything that is ready is done before the next batch of look-ups, so that batches are as large as can be. Operands are
/// made for what reads them first: they are larger than the looked-up values that they are made of.
pub fn stages(schedule: &Schedule) -> Vec<Stage> {
    let mut progress = Progress {
        schedule,
        sites: vec![false; schedule.sites.len()],
        operands: vec![false; schedule.operands.len()],
        products: vec![false; schedule.products.len()],
        stages: Vec::new(),
    };
    while progress.multiply() || progress.look_up() {}
    // Those that only outputs or masters read.
    progress.make((0..schedule.operands.len()).map(Source::Operand));
    progress.stages
}

/// Has every operand that others are turned from made no later than these.
pub fn make_originals_first(stages: &mut [Stage], images: &[(usize, usize)]) {
    let maker = |stages: &[Stage], operand: usize| {
        stages.iter().position(|stage| matches!(stage, Stage::Operands(own) if own.contains(&operand)))
    };
    for &(image, original) in images {
        let (Some(needed), Some(made)) = (maker(stages, image), maker(stages, original)) else { continue };
        if needed < made {
            if let Stage::Operands(own) = &mut stages[made] {
                own.retain(|&operand| operand != original);
            }
            if let Stage::Operands(own) = &mut stages[needed] {
                own.push(original);
            }
        }
    }
}

/// By stage: what it is the last to read.
pub fn last_reads(schedule: &Schedule) -> Vec<LastReads> {
    let mut of_operand = vec![None; schedule.operands.len()];
    let mut of_product = vec![None; schedule.products.len()];
    let mut of_site = vec![None; schedule.sites.len()];
    let mut of_saved: Vec<((usize, usize), usize)> = Vec::new();
    let mut out = vec![LastReads::default(); schedule.stages.len()];
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
                let images = own.iter().filter_map(|&operand| schedule.image(operand));
                images.for_each(|image| read(&Source::Operand(image.of)));
                let terms = own.iter().flat_map(|&operand| &schedule.operands[operand].form.terms);
                for term in terms {
                    if let Some((site, _)) = schedule.atoms[term.atom.0 as usize].kind.table() {
                        of_site[site] = Some(index);
                    }
                }
            }
        }
    }
    for (index, master) in schedule.masters.iter().enumerate() {
        let sources = || master.gradient.iter().map(|(source, _)| *source);
        let Some(complete) = sources().filter_map(|source| maker(schedule, source)).max() else { continue };
        out[complete].masters.push(index);
        for source in sources() {
            match source {
                Source::Operand(i) => of_operand[i] = of_operand[i].max(Some(complete)),
                Source::Product(i) => of_product[i] = of_product[i].max(Some(complete)),
                Source::Master(_) => {}
            }
        }
    }
    for (source, _) in schedule.outputs.iter().flat_map(|output| &output.reads).flat_map(|read| &read.sources)
    {
        match *source {
            Source::Operand(i) => of_operand[i] = None,
            Source::Product(i) => of_product[i] = None,
            Source::Master(_) => {}
        }
    }
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

/// The stage that makes a source; none of a master, which is there.
fn maker(schedule: &Schedule, source: Source) -> Option<usize> {
    schedule.stages.iter().position(|stage| match (stage, source) {
        (Stage::Operands(own), Source::Operand(i)) | (Stage::Products(own), Source::Product(i)) => {
            own.contains(&i)
        }
        _ => false,
    })
}

/// By product: whether nothing but the change of one master reads it, in the stage in which it is made. Then its polynomials
/// need not exist at the same time.
pub fn streamed(schedule: &Schedule) -> Vec<bool> {
    let mut reads = vec![0usize; schedule.products.len()];
    let sides = schedule.products.iter().flat_map(|product| product.sides);
    let site_reads = schedule.sites.iter().flat_map(|site| &site.reads);
    let others = site_reads.chain(schedule.outputs.iter().flat_map(|output| &output.reads));
    let gradients = schedule.masters.iter().flat_map(|master| &master.gradient);
    let read = others.flat_map(|read| &read.sources).chain(gradients).map(|(source, _)| *source);
    for source in sides.chain(read) {
        if let Source::Product(i) = source {
            reads[i] += 1;
        }
    }
    let mut out = vec![false; schedule.products.len()];
    for (stage, ends) in schedule.stages.iter().zip(last_reads(schedule)) {
        let Stage::Products(made) = stage else { continue };
        for (source, _) in ends.masters.iter().flat_map(|&master| &schedule.masters[master].gradient) {
            if let Source::Product(i) = *source {
                out[i] = reads[i] == 1 && made.contains(&i);
            }
        }
    }
    out
}
