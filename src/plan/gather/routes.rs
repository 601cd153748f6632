//! Routes to many targets. Groups of samples look alike: what one of them needs is found once and repeated with other sources.

use std::collections::HashMap;

use super::super::route::{RouteError, Target, Wanted, route};
use crate::he::ckks::params::RingProfile;
use crate::he::ckks::small::noise::{RouteNoise, variance_units};
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
    /// The most values that are added up in one place.
    pub layers: usize,
}

impl Part {
    /// Key switches of one copy.
    fn switches(&self) -> usize {
        let mirrored = if self.mirrored { self.program.sources().len() } else { 0 };
        self.program.switches() + mirrored
    }

    /// What one copy costs, in key switches.
    fn cost(&self) -> f64 {
        self.program.cost() + (self.switches() - self.program.switches()) as f64
    }

    /// The largest noise of its targets, in whose places so many values are added up.
    fn noise(&self, layers: usize) -> RouteNoise {
        let noises = self.program.noises().into_iter();
        let mirrored = |noise: RouteNoise| if self.mirrored { noise.mirrored() } else { noise };
        largest(noises.map(|noise| mirrored(noise).layered(layers)))
    }

    /// With or without a mirror, whichever costs less.
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
        Ok(if other.cost() < plain.cost() { other } else { plain })
    }
}

fn largest(noises: impl IntoIterator<Item = RouteNoise>) -> RouteNoise {
    noises.into_iter().reduce(RouteNoise::max).unwrap_or_default()
}

/// The most values that a target wants in one place.
fn layers(target: &Target) -> usize {
    let mut places: Vec<u32> = target.wanted.iter().map(|w| w.to).collect();
    places.sort_unstable();
    places.chunk_by(|a, b| a == b).map(<[u32]>::len).max().unwrap_or(0)
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
    /// A coefficient is not below the degree, or wanted twice in one target that need not be clean.
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
        let layers = targets.iter().map(layers).max().unwrap_or(0);
        Ok(Self { parts, targets: targets.len(), layers })
    }

    /// Key switches, those of mirrored sources included.
    pub fn switches(&self) -> usize {
        self.parts.iter().map(|part| part.switches() * part.copies.len()).sum()
    }

    /// What they cost, in key switches: those, and the additions beside them.
    pub fn cost(&self) -> f64 {
        self.parts.iter().map(|part| part.cost() * part.copies.len() as f64).sum()
    }

    /// The largest noise of a target.
    pub fn noise(&self) -> RouteNoise {
        largest(self.parts.iter().map(|part| part.noise(self.layers)))
    }
}

impl Routes {
    /// Standard deviation of what its key switches add to a value, in units.
    pub fn units(&self, profile: &RingProfile) -> f64 {
        variance_units(profile, self.noise().values(), 0.0).sqrt()
    }
}

/// Values after which an estimate extrapolates.
const SAMPLED: usize = 6000;

/// What routes are about to cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// In key switches.
    pub cost: f64,
    /// The largest noise of a target.
    pub noise: RouteNoise,
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
        let cost = routes.cost() * all as f64 / sampled.max(1) as f64;
        Ok(Self { cost, noise: routes.noise() })
    }
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
