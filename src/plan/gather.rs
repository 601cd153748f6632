//! Where a step's look-ups stand in the bootstraps of the ring engine: a lane for every value, and the routes in and out.
//!
//! A bootstrap takes eight small rings, interleaved. What a site reads is merged into as few rings as its layout allows;
//! the rings of all sites of a stage share bootstraps. What comes out stands where it went in, clean everywhere else,
//! and is routed into the layouts of the operands.

use crate::graph::{NONE, elements};
use crate::he::ckks::params::RINGS;

use super::route::{RouteError, Target, Wanted, route};
use super::schedule::{Operand, Read, Schedule, SiteStep, Stage};
use crate::he::ckks::small::program::Program;

/// One automorphism key switch against one bootstrap: what merging may cost to save rings.
const SWITCHES_PER_BOOTSTRAP: f64 = 4000.0;
/// A bootstrap of which only the low half is evaluated, against a whole one.
const HALF: f64 = 0.6;

/// The lanes of one site.
#[derive(Clone, Debug, Default)]
pub struct SiteLanes {
    /// Small rings.
    pub rings: usize,
    /// Ring · degree + coefficient of each value, `[samples, elements]`.
    pub lanes: Vec<u32>,
    /// By read: from its polynomials to the rings.
    pub reads: Vec<Mirrored>,
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

/// A routing program whose sources are first taken through X → X^(−1), or not.
#[derive(Clone, Debug, Default)]
pub struct Mirrored {
    pub mirrored: bool,
    pub program: Program,
    /// Key switches, those of the mirrored sources included.
    pub switches: usize,
}

impl Mirrored {
    /// Whichever needs fewer key switches.
    fn route(
        degree: usize,
        targets: &[Target],
        dirty: &dyn Fn(usize, u32) -> bool,
    ) -> Result<Self, RouteError> {
        let program = route(degree, targets, dirty)?;
        let plain = Self { mirrored: false, switches: program.switches(), program };
        let sources = plain.program.sources().len();
        if plain.switches <= sources {
            return Ok(plain);
        }
        let turned = |c: u32| (degree as u32 - c) % degree as u32;
        let turn = |w: &Wanted| Wanted { from: turned(w.from), negate: w.negate ^ (w.from != 0), ..*w };
        let mirrored: Vec<Target> = targets
            .iter()
            .map(|own| Target { wanted: own.wanted.iter().map(turn).collect(), clean: own.clean })
            .collect();
        let program = route(degree, &mirrored, &|source, c| dirty(source, turned(c)))?;
        let other = Self { mirrored: true, switches: program.switches() + sources, program };
        Ok(if other.switches < plain.switches { other } else { plain })
    }
}

/// What one term of an operand's form needs.
#[derive(Clone, Debug)]
pub struct TermRoute {
    pub site: usize,
    pub table: usize,
    /// The looked-up values are multiplied by this integer.
    pub multiple: i64,
    /// From the rings of the site to the operand's polynomials.
    pub route: Mirrored,
}

#[derive(Clone, Debug, Default)]
pub struct GatherPlan {
    /// By site.
    pub sites: Vec<SiteLanes>,
    /// By stage of the schedule; empty for stages without look-ups.
    pub stages: Vec<Gathered>,
    /// By operand.
    pub operands: Vec<Vec<TermRoute>>,
}

impl GatherPlan {
    /// Lanes, bootstraps and routes of a schedule for the ring engine.
    ///
    /// # Errors
    /// Two values at one place: a schedule that no layout allows.
    pub fn of(schedule: &Schedule) -> Result<Self, RouteError> {
        let mut done: Vec<Option<SiteLanes>> = vec![None; schedule.sites.len()];
        // Stages come in an order in which a saved factor is looked up before the values that it multiplies.
        for stage in &schedule.stages {
            let Stage::Tables(own) = stage else { continue };
            for &index in own {
                let site = &schedule.sites[index];
                let saved = site.multiplier.and_then(|(saved, _)| done[saved].as_ref());
                done[index] = Some(lanes(schedule, site, saved)?);
            }
        }
        let sites = done.into_iter().map(Option::unwrap_or_default).collect();
        let mut plan = Self { sites, stages: Vec::new(), operands: Vec::new() };
        for stage in &schedule.stages {
            let gathered = match stage {
                Stage::Tables(own) => plan.gather(schedule, own),
                _ => Gathered::default(),
            };
            plan.stages.push(gathered);
        }
        plan.operands = schedule
            .operands
            .iter()
            .map(|operand| plan.operand(schedule, operand))
            .collect::<Result<_, _>>()?;
        Ok(plan)
    }

    /// The sites of a stage, ring by ring, in as few bootstraps as they need.
    fn gather(&self, schedule: &Schedule, own: &[usize]) -> Gathered {
        let mut bootstraps = Vec::new();
        let (mirrored, free): (Vec<usize>, Vec<usize>) =
            own.iter().copied().partition(|&site| schedule.sites[site].multiplier.is_some());
        let rings: Vec<(usize, usize)> =
            free.iter().flat_map(|&site| (0..self.sites[site].rings).map(move |ring| (site, ring))).collect();
        for chunk in rings.chunks(RINGS) {
            bootstraps.push(Bootstrap::of(chunk));
        }
        // A value meets its saved factor in the slot where that was looked up.
        for site in mirrored {
            let Some((saved, _)) = schedule.sites[site].multiplier else { continue };
            for bootstrap in self.stages.iter().flat_map(|stage| &stage.bootstraps) {
                let slots =
                    bootstrap.slots.map(|slot| slot.filter(|s| s.site == saved).map(|s| Slot { site, ..s }));
                if slots.iter().any(Option::is_some) {
                    bootstraps.push(Bootstrap { low: bootstrap.low, slots, used: 0 });
                }
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
        for &lane in &self.sites[site].lanes {
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

    /// The terms of an operand that are looked up.
    fn operand(&self, schedule: &Schedule, operand: &Operand) -> Result<Vec<TermRoute>, RouteError> {
        let degree = schedule.degree();
        let samples = operand.rows(schedule.batch);
        let polynomials = operand.layout.polynomials(samples);
        let mut out = Vec::new();
        for term in &operand.form.terms {
            let atom = &schedule.atoms[term.atom.0 as usize];
            let Some((site, table)) = atom.kind.table() else { continue };
            let base = schedule.sites[site].tables[table].amplitude;
            let lanes = &self.sites[site];
            let size = elements(&atom.shape);
            let mut wanted = vec![Target { clean: true, ..Target::default() }; polynomials];
            for sample in 0..samples {
                for element in 0..operand.form.elements() {
                    let index = term.map[element];
                    if index == NONE {
                        continue;
                    }
                    let at = if atom.per_sample { sample * size + index as usize } else { index as usize };
                    let lane = lanes.lanes[at] as usize;
                    let to = operand.layout.position(degree, sample, element);
                    wanted[to.polynomial].wanted.push(Wanted {
                        source: lane / degree,
                        from: (lane % degree) as u32,
                        to: to.coefficient as u32,
                        negate: to.sign < 0,
                    });
                }
            }
            let mut dirt = vec![false; lanes.rings * degree];
            lanes.lanes.iter().for_each(|&lane| dirt[lane as usize] = true);
            out.push(TermRoute {
                site,
                table,
                multiple: (operand.amplitude * term.coefficient / base).round() as i64,
                route: Mirrored::route(degree, &wanted, &|source, c| dirt[source * degree + c as usize])?,
            });
        }
        Ok(out)
    }

    /// Automorphism key switches of one step.
    pub fn switches(&self) -> usize {
        let into = self.sites.iter().flat_map(|site| &site.reads);
        let out = self.operands.iter().flatten().map(|term| &term.route);
        into.chain(out).map(|route| route.switches).sum()
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

/// What so many rings cost, in bootstraps.
fn bootstrap_cost(rings: usize) -> f64 {
    let rest = match rings % RINGS {
        0 => 0.0,
        few if few <= RINGS / 2 => HALF,
        _ => 1.0,
    };
    (rings / RINGS) as f64 + rest
}

/// Where each value that a read takes stands: polynomial, coefficient, sign; `[samples, elements]`.
fn places(schedule: &Schedule, site: &SiteStep, read: &Read) -> Vec<Option<(usize, u32, bool)>> {
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

/// Merges the polynomials of a read whose values stand at multiples of a power of two.
fn merged(degree: usize, places: &[Option<(usize, u32, bool)>]) -> Option<(usize, Vec<u32>, usize)> {
    let all: Vec<(usize, u32)> =
        places.iter().map(|p| p.map(|(polynomial, place, _)| (polynomial, place))).collect::<Option<_>>()?;
    let first = all.first()?.1;
    let polynomials = all.iter().map(|(polynomial, _)| polynomial + 1).max()?;
    let differing = all.iter().fold(degree as u32, |bits, (_, place)| bits | (place ^ first));
    let spacing = 1usize << differing.trailing_zeros();
    let offset = first as usize % spacing;
    let group = spacing.min(polynomials.next_power_of_two());
    let lane = |&(polynomial, place): &(usize, u32)| {
        (polynomial / group * degree + place as usize - offset + polynomial % group) as u32
    };
    let lanes: Vec<u32> = all.iter().map(lane).collect();
    let rings = polynomials.div_ceil(group);
    let mut taken = vec![false; rings * degree];
    let distinct = lanes.iter().all(|&lane| !std::mem::replace(&mut taken[lane as usize], true));
    distinct.then_some((rings, lanes, polynomials - rings))
}

/// Lanes of a site and the routes to them.
fn lanes(schedule: &Schedule, site: &SiteStep, saved: Option<&SiteLanes>) -> Result<SiteLanes, RouteError> {
    let degree = schedule.degree();
    let samples = if site.per_sample { schedule.batch } else { 1 };
    let values = samples * site.elements;
    let sources: Vec<Vec<Option<(usize, u32, bool)>>> =
        site.reads.iter().map(|read| places(schedule, site, read)).collect();
    let dense = || (values.div_ceil(degree).max(1), (0..values as u32).collect::<Vec<u32>>());
    let (rings, lanes) = match saved {
        Some(saved) => (saved.rings, saved.lanes.clone()),
        None => {
            let best = sources.iter().filter_map(|places| merged(degree, places)).min_by(|a, b| {
                let cost =
                    |c: &(usize, Vec<u32>, usize)| bootstrap_cost(c.0) + c.2 as f64 / SWITCHES_PER_BOOTSTRAP;
                cost(a).total_cmp(&cost(b))
            });
            let (few, packed) = dense();
            let packing = bootstrap_cost(few) + (values * site.reads.len()) as f64 / SWITCHES_PER_BOOTSTRAP;
            match best {
                Some((rings, lanes, switches))
                    if bootstrap_cost(rings) + switches as f64 / SWITCHES_PER_BOOTSTRAP <= packing =>
                {
                    (rings, lanes)
                }
                _ => (few, packed),
            }
        }
    };
    let reads = sources
        .iter()
        .map(|places| {
            // Several reads are added up in the lanes; elsewhere anything may stand.
            let mut wanted = vec![Target::default(); rings];
            for (place, &lane) in places.iter().zip(&lanes) {
                if let Some((source, from, negate)) = *place {
                    let to = (lane as usize % degree) as u32;
                    wanted[lane as usize / degree].wanted.push(Wanted { source, from, to, negate });
                }
            }
            Mirrored::route(degree, &wanted, &|_, _| true)
        })
        .collect::<Result<_, _>>()?;
    Ok(SiteLanes { rings, lanes, reads })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::{FileId, Span};
    use crate::graph::{
        Binary, Function, Graph, Init, NodeId, Origin, ParamId, ParamInfo, ScalarExpr, ScalarFn,
    };
    use crate::he::ckks::params::RING_PROFILES;
    use crate::plan::lower::{Lowering, RangeOf};
    use crate::plan::parameters::Parameters;
    use crate::plan::{Nominal, Purpose, build};

    struct Ranges;

    impl RangeOf for Ranges {
        fn site(&self, _: NodeId) -> f64 {
            16.0
        }
        fn param(&self, _: ParamId) -> f64 {
            2.0
        }
    }

    fn weights(g: &mut Graph, x: NodeId, n: usize, m: usize) -> NodeId {
        let o = Origin::default();
        let w = ParamInfo {
            name: "w".into(),
            shape: vec![n, m],
            init: Init::Constant(0.0),
            fan_in: n,
            range: None,
            span: Span::new(FileId(0), 0, 0),
        };
        let w = g.param(w, &o).unwrap();
        g.matmul(x, w, &o).unwrap()
    }

    /// One step of m sigmoids of n inputs, which go through `hidden` rectified units if there are any.
    fn step(n: usize, hidden: Option<usize>, m: usize, batch: usize) -> Schedule {
        let o = Origin::default();
        let mut g = Graph::default();
        let x = g.input(&[n], &o).unwrap();
        let y = g.label(&[m], &o).unwrap();
        let one = || ScalarExpr::Const(1.0);
        let z = match hidden {
            None => weights(&mut g, x, n, m),
            Some(units) => {
                let h = weights(&mut g, x, n, units);
                let expr = ScalarExpr::bin(Binary::Max, ScalarExpr::Z, ScalarExpr::Const(0.0));
                let grad = Some(ScalarExpr::call(Function::Step, ScalarExpr::Z));
                let h = g.lut(h, ScalarFn { name: "relu".into(), expr, grad }, &o).unwrap();
                weights(&mut g, h, units, m)
            }
        };
        let sigmoid = one().div(one().add(ScalarExpr::call(Function::Exp, ScalarExpr::Z.neg())));
        let softplus =
            ScalarExpr::call(Function::Log, one().add(ScalarExpr::call(Function::Exp, ScalarExpr::Z)));
        let loss = ScalarFn { name: "softplus".into(), expr: softplus, grad: Some(sigmoid) };
        let a = g.lut(z, loss, &o).unwrap();
        let b = g.mul(y, z, &o).unwrap();
        let loss = g.sub(a, b, &o).unwrap();
        let loss = g.sum_all(loss, &o).unwrap();
        let derivative = g.differentiate(loss).unwrap();
        let (params, gradients): (Vec<ParamId>, Vec<NodeId>) = derivative.gradients.iter().copied().unzip();
        let (g, gradients) = g.fused(&gradients).unwrap();
        let parameters = Parameters::Ckks(&RING_PROFILES[2]);
        let target = crate::plan::lower::Target::of(parameters);
        let lowered = Lowering::run(&g, &gradients, &Ranges, target).unwrap();
        let nominal = Nominal { input_rms: 1.0, argument_rms: Default::default() };
        let purpose = Purpose::Train { params: &params, rate: 0.5 };
        build(&g, &lowered, &Ranges, (parameters, &[parameters]), batch, &nominal, &purpose).unwrap()
    }

    fn linear(n: usize, m: usize, batch: usize) -> Schedule {
        step(n, None, m, batch)
    }

    #[test]
    fn what_is_multiplied_in_slots_stands_where_its_factor_stood() {
        let schedule = step(4, Some(64), 1, 640);
        let plan = GatherPlan::of(&schedule).unwrap();
        let (site, saved) = schedule
            .sites
            .iter()
            .enumerate()
            .find_map(|(index, site)| Some((index, site.multiplier?.0)))
            .expect("a masked gradient");
        assert_eq!(plan.sites[site].lanes, plan.sites[saved].lanes);
        let of = |site: usize| -> Vec<[Option<Slot>; RINGS]> {
            let own = plan.bootstraps().filter(|own| own.sites().contains(&site));
            let slot = |slot: Option<Slot>| slot.filter(|s| s.site == site).map(|s| Slot { site: 0, ..s });
            own.map(|own| own.slots.map(slot)).collect()
        };
        assert!(of(saved).len() > 1, "more than one bootstrap");
        assert_eq!(of(site), of(saved));
    }

    #[test]
    fn a_linear_step_takes_two_low_bootstraps_and_two_switches_a_polynomial() {
        for (n, m, batch, polynomials) in [(31, 1, 455, 4), (64, 10, 64, 16), (65, 10, 64, 32)] {
            let schedule = linear(n, m, batch);
            let plan = GatherPlan::of(&schedule).unwrap();
            let used: Vec<usize> = plan.bootstraps().map(|own| own.used).collect();
            assert_eq!(used, [n * m, m * batch], "{n}×{m}: weights, then outputs");
            assert!(plan.bootstraps().all(|own| own.low));
            // Outputs are merged and taken apart again; weights stay where they are.
            assert_eq!(plan.switches(), 2 * (polynomials - 1), "{n}×{m}");
            for site in &plan.sites {
                let mut lanes = site.lanes.clone();
                lanes.sort_unstable();
                lanes.dedup();
                assert_eq!(lanes.len(), site.lanes.len(), "a lane for every value");
            }
        }
    }

    #[test]
    fn lanes_of_a_low_bootstrap_lie_in_the_low_half() {
        let schedule = linear(65, 10, 64);
        let plan = GatherPlan::of(&schedule).unwrap();
        for stage in &plan.stages {
            for own in &stage.bootstraps {
                for site in own.sites() {
                    let lanes = plan.bootstrap_lanes(schedule.degree(), own, site);
                    assert_eq!(lanes.len(), plan.sites[site].lanes.len());
                    assert!(lanes.iter().all(|&lane| (lane as usize) < RINGS * schedule.degree() / 2));
                }
            }
        }
    }

    #[test]
    fn many_rings_share_bootstraps() {
        // A wide batch: more than one bootstrap's lanes.
        let schedule = linear(4, 64, 1024);
        let plan = GatherPlan::of(&schedule).unwrap();
        let outputs: usize = plan.bootstraps().map(|own| own.used).sum::<usize>() - 4 * 64;
        assert_eq!(outputs, 64 * 1024);
        assert_eq!(plan.stages.iter().map(|stage| stage.bootstraps.len()).max(), Some(2));
        assert!(plan.bootstraps().any(|own| own.fill(schedule.degree()) > 0.99), "full");
    }
}
