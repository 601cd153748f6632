use super::*;
use crate::diagnostics::{FileId, Span};
use crate::graph::{Binary, Function, Graph, Init, NodeId, Origin, ParamId, ParamInfo, ScalarExpr, ScalarFn};
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
    let softplus = ScalarExpr::call(Function::Log, one().add(ScalarExpr::call(Function::Exp, ScalarExpr::Z)));
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
        assert_eq!(plan.switches(&schedule).look_ups, polynomials - 1, "{n}×{m}");
        let table = |(source, _): &(RingSource, i64)| matches!(source, RingSource::Table { .. });
        for (operand, routes) in schedule.operands.iter().zip(&plan.operands) {
            for term in routes.terms.iter().filter(|term| term.sources.iter().any(table)) {
                let expected = if operand.per_sample { polynomials - 1 } else { 0 };
                assert_eq!(term.routes.switches(), expected, "{n}×{m}");
            }
        }
        for site in &plan.sites {
            let mut lanes = site.lanes.at.clone();
            lanes.sort_unstable();
            lanes.dedup();
            assert_eq!(lanes.len(), site.lanes.at.len(), "a lane for every value");
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
                assert_eq!(lanes.len(), plan.sites[site].lanes.at.len());
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

#[test]
fn labels_are_sent_where_they_are_compared_and_features_once() {
    // Features lie in the low bits: nothing takes them apart cheaply.
    let schedule = linear(65, 10, 64);
    let plan = GatherPlan::of(&schedule).unwrap();
    let rings: Vec<usize> = plan.wires.iter().map(|wire| wire.lanes.rings).collect();
    assert_eq!(rings, [1], "labels");
    let direct = (0..schedule.operands.len()).filter(|&operand| plan.is_direct(&schedule, operand));
    assert_eq!(direct.count(), 1, "the other layout of the features is its mirror image");
    // Labels stand beside the outputs that they are compared with: one way for both.
    let shared = plan.operands.iter().flat_map(|own| &own.terms).filter(|term| term.sources.len() == 2);
    assert_eq!(shared.count(), 1);
}

#[test]
fn an_operand_is_turned_where_that_takes_fewer_switches() {
    let schedule = step(24, Some(16), 10, 64);
    let plan = GatherPlan::of(&schedule).unwrap();
    let images = plan.operands.iter().filter_map(|own| own.image).filter(|image| image.mirrored);
    assert!(images.count() > 0, "mirrored operands");
    for (operand, own) in schedule.operands.iter().zip(&plan.operands) {
        let Some(image) = own.image else { continue };
        let from = &schedule.operands[image.of];
        assert!(plan.operands[image.of].image.is_none(), "turned from what is made by itself");
        assert_eq!(operand.amplitude, from.amplitude * image.multiple as f64);
        for (sample, element) in (0..8).flat_map(|s| (0..operand.form.elements()).map(move |e| (s, e))) {
            let degree = schedule.degree() as i64;
            let exponent = |layout: &crate::plan::layout::Layout| {
                let at = layout.position(schedule.degree(), sample, element);
                (at.polynomial, at.coefficient as i64 + if at.sign < 0 { degree } else { 0 })
            };
            let ((from_polynomial, from), (polynomial, to)) =
                (exponent(&from.layout), exponent(&operand.layout));
            let turned = if image.mirrored { -from } else { from };
            assert_eq!(
                (polynomial, to),
                (from_polynomial, (turned + i64::from(image.shift)).rem_euclid(2 * degree))
            );
        }
    }
}

#[test]
fn what_is_dropped_is_not_read_again() {
    use crate::plan::schedule::Source;
    use crate::plan::stages::last_reads;
    let schedule = step(24, Some(16), 10, 64);
    let ends = last_reads(&schedule);
    let mut dropped: Vec<Source> = Vec::new();
    let (mut sites, mut saved): (Vec<usize>, Vec<(usize, usize)>) = (Vec::new(), Vec::new());
    for (stage, ends) in schedule.stages.iter().zip(&ends) {
        let mut read: Vec<Source> = Vec::new();
        match stage {
            Stage::Products(own) => read.extend(own.iter().flat_map(|&i| schedule.products[i].sides)),
            Stage::Tables(own) => {
                let reads = own.iter().flat_map(|&i| &schedule.sites[i].reads).flat_map(|read| &read.sources);
                read.extend(reads.map(|(source, _)| *source));
                let mut factors = own.iter().filter_map(|&i| schedule.sites[i].multiplier);
                assert!(factors.all(|factor| !saved.contains(&factor)));
            }
            Stage::Operands(own) => {
                let terms = own.iter().flat_map(|&i| &schedule.operands[i].form.terms);
                let mut tables = terms.filter_map(|t| schedule.atoms[t.atom.0 as usize].kind.table());
                assert!(tables.all(|(site, _)| !sites.contains(&site)));
            }
        }
        assert!(read.iter().all(|source| !dropped.contains(source)));
        dropped.extend(&ends.sources);
        sites.extend(&ends.sites);
        saved.extend(&ends.saved);
    }
    let gradients = schedule.masters.iter().flat_map(|master| &master.gradient);
    assert!(gradients.map(|(source, _)| source).all(|source| !dropped.contains(source)));
    assert!(!dropped.is_empty() && !sites.is_empty() && !saved.is_empty());
}
