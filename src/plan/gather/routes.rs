//! Routes to many targets. Groups of samples look alike: what one of them needs is found once and repeated with other sources.

use std::collections::HashMap;

use super::super::route::{RouteError, Target, Wanted, route};
use crate::he::ckks::small::program::Program;

/// Where sources may differ from zero.
#[derive(Clone, Copy, Debug)]
pub enum Dirt<'a> {
    Everywhere,
    /// `[source, coefficient]`
    At(&'a [bool]),
}

/// A program, and the sources and targets of each of its copies.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Whether the sources are taken through X → X^(−1) first.
    pub mirrored: bool,
    pub program: Program,
    pub copies: Vec<Ends>,
}

/// What the sources and the targets of a program are in one of its copies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    pub sources: Vec<u32>,
    pub targets: Vec<u32>,
}

/// Programs that make all targets from all sources. No two parts share a source or a target; a target of no part is zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routes {
    pub parts: Vec<Part>,
    pub targets: usize,
}

impl Part {
    /// Key switches of one copy.
    fn switches(&self) -> usize {
        let mirrored = if self.mirrored { self.program.sources().len() } else { 0 };
        self.program.switches() + mirrored
    }

    /// Levels that the noise of its targets goes through.
    fn depth(&self) -> u32 {
        self.program.depths().into_iter().max().unwrap_or(0) + u32::from(self.mirrored)
    }

    /// With or without a mirror, whichever needs fewer key switches.
    fn find(
        degree: usize,
        targets: &[Target],
        dirty: &dyn Fn(usize, u32) -> bool,
    ) -> Result<Self, RouteError> {
        let own = |mirrored, program| Self { mirrored, program, copies: Vec::new() };
        let plain = own(false, route(degree, targets, dirty)?);
        if plain.program.switches() <= plain.program.sources().len() {
            return Ok(plain);
        }
        let turned = |c: u32| (degree as u32 - c) % degree as u32;
        let turn = |w: &Wanted| Wanted { from: turned(w.from), negate: w.negate ^ (w.from != 0), ..*w };
        let mirrored: Vec<Target> = targets
            .iter()
            .map(|own| Target { wanted: own.wanted.iter().map(turn).collect(), clean: own.clean })
            .collect();
        let other = own(true, route(degree, &mirrored, &|source, c| dirty(source, turned(c)))?);
        Ok(if other.switches() < plain.switches() { other } else { plain })
    }
}

/// The representative of a set.
fn root(parents: &mut [u32], mut at: u32) -> u32 {
    while parents[at as usize] != at {
        parents[at as usize] = parents[parents[at as usize] as usize];
        at = parents[at as usize];
    }
    at
}

/// Targets that share sources, directly or through others, each with its sources numbered from 0 as they occur.
struct Component {
    targets: Vec<Target>,
    ends: Ends,
}

/// The targets in components; those that want nothing are in none.
fn components(targets: &[Target]) -> Vec<Component> {
    let sources = targets.iter().flat_map(|t| &t.wanted).map(|w| w.source + 1).max().unwrap_or(0);
    let mut parents: Vec<u32> = (0..sources as u32).collect();
    for target in targets {
        let Some(first) = target.wanted.first() else { continue };
        let first = root(&mut parents, first.source as u32);
        let mut last = first;
        for w in &target.wanted {
            let own = w.source as u32;
            if own != last {
                let own_root = root(&mut parents, own);
                parents[own_root as usize] = root(&mut parents, first);
                last = own;
            }
        }
    }
    let mut out: Vec<Component> = Vec::new();
    let mut of_root: HashMap<u32, usize> = HashMap::new();
    let mut local = vec![u32::MAX; sources];
    for (index, target) in targets.iter().enumerate() {
        let Some(first) = target.wanted.first() else { continue };
        let root = root(&mut parents, first.source as u32);
        let at = *of_root.entry(root).or_insert_with(|| {
            out.push(Component { targets: Vec::new(), ends: Ends::default() });
            out.len() - 1
        });
        let Component { targets, ends } = &mut out[at];
        let renumbered = |w: &Wanted| {
            let own = &mut local[w.source];
            if *own == u32::MAX {
                *own = ends.sources.len() as u32;
                ends.sources.push(w.source as u32);
            }
            Wanted { source: *own as usize, ..*w }
        };
        let wanted = target.wanted.iter().map(renumbered).collect();
        targets.push(Target { wanted, clean: target.clean });
        ends.targets.push(index as u32);
    }
    out
}

impl Routes {
    /// The programs for all targets.
    ///
    /// # Errors
    /// A coefficient is not below the degree, or wanted twice in one target.
    pub fn find(degree: usize, targets: &[Target], dirt: Dirt<'_>) -> Result<Self, RouteError> {
        let mut parts: Vec<Part> = Vec::new();
        let mut known: HashMap<(Vec<u32>, Vec<Target>), usize> = HashMap::new();
        let mut classes: HashMap<&[bool], u32> = HashMap::new();
        for Component { targets, ends } in components(targets) {
            // Copies need sources that are clean in the same places.
            let class = |&source: &u32| match dirt {
                Dirt::Everywhere => 0,
                Dirt::At(all) => {
                    let next = classes.len() as u32;
                    *classes.entry(&all[source as usize * degree..][..degree]).or_insert(next)
                }
            };
            let key = (ends.sources.iter().map(class).collect(), targets);
            if let Some(&part) = known.get(&key) {
                parts[part].copies.push(ends);
                continue;
            }
            let dirty = |source: usize, c: u32| match dirt {
                Dirt::Everywhere => true,
                Dirt::At(all) => all[ends.sources[source] as usize * degree + c as usize],
            };
            let mut part = Part::find(degree, &key.1, &dirty)
                .map_err(|error| error.of_target(|local| ends.targets[local] as usize))?;
            part.copies.push(ends);
            known.insert(key, parts.len());
            parts.push(part);
        }
        Ok(Self { parts, targets: targets.len() })
    }

    /// Key switches, those of mirrored sources included.
    pub fn switches(&self) -> usize {
        self.parts.iter().map(|part| part.switches() * part.copies.len()).sum()
    }

    /// The most levels that the noise of a target goes through.
    pub fn depth(&self) -> u32 {
        self.parts.iter().map(Part::depth).max().unwrap_or(0)
    }
}

/// Values after which an estimate extrapolates.
const SAMPLED: usize = 6000;

/// What routes are about to cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Key switches.
    pub switches: f64,
    /// The most levels that noise goes through.
    pub depth: u32,
}

impl Estimate {
    /// Of all targets, from the first of them.
    pub fn of(degree: usize, targets: &[Target], dirt: Dirt<'_>) -> Result<Self, RouteError> {
        let all: usize = targets.iter().map(|target| target.wanted.len()).sum();
        let mut sampled = 0;
        let mut count = 0;
        while count < targets.len() && sampled < SAMPLED {
            sampled += targets[count].wanted.len();
            count += 1;
        }
        let routes = Routes::find(degree, &targets[..count], dirt)?;
        let switches = routes.switches() as f64 * all as f64 / sampled.max(1) as f64;
        Ok(Self { switches, depth: routes.depth() })
    }
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
