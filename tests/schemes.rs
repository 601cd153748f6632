//! One program on both schemes: what `clear` computes, the simulations of both show within the noise that their plans predict.
#![cfg(feature = "client")]

use std::collections::HashMap;

use hesn::diagnostics::Sources;
use hesn::graph::NodeId;
use hesn::interp::simulate::SimulateEngine;
use hesn::interp::{Batch, Unwatched, clear};
use hesn::plan::choice::Choice;
use hesn::plan::compile::{Evaluation, Settings, Training};
use hesn::plan::estimate::{Alignments, Costs, Extent, report};
use hesn::plan::functions::ring_functions;
use hesn::plan::lower::AtomKind;
use hesn::plan::parameters::SchemeChoice;
use hesn::plan::schedule::{Schedule, Table};
use hesn::run::evaluate::draw;
use hesn::typeck::{NoData, Task, check};
use proptest::prelude::*;

fn compiled(source: &str, scheme: SchemeChoice) -> Evaluation {
    let mut sources = Sources::default();
    let file = sources.add("test.hes", source);
    let checked = check(&mut sources, file, &NoData);
    assert!(!checked.has_errors(), "{source}: {:?}", checked.diagnostics);
    let task = checked.program.unwrap().tasks.into_iter().find_map(|task| match task {
        Task::Eval(task) => Some(*task),
        _ => None,
    });
    Evaluation::compile(&task.unwrap(), Settings { scheme, parameters: None }).unwrap()
}

/// Six standard deviations of everything that the plan predicts for one element of the result, and how far a fit is off
/// at most. `slope` bounds how much the result changes with what a table reads or gives.
fn predicted(schedule: &Schedule, slope: f64) -> f64 {
    let functions = schedule.parameters.ckks().map(|_| ring_functions(schedule).unwrap());
    let mut error = 0.0;
    for (index, site) in schedule.sites.iter().enumerate() {
        error += 6.0 * site.input_error * 2.0 * site.range;
        for (table, own) in site.tables.iter().enumerate() {
            match &functions {
                // A fit's largest error lies at a kink.
                Some(functions) => {
                    let function = &functions[index][table];
                    let noise = if own.amplitude > 0.0 { function.output_noise / own.amplitude } else { 0.0 };
                    error += 16.0 * function.fit_error * own.largest(site.range) + 6.0 * noise;
                }
                // Half an entry of the table.
                None => error += site.range / 512.0,
            }
        }
    }
    let amplitude = schedule.outputs[0].amplitude;
    let operands = schedule.operands.iter().filter(|operand| operand.level == 0);
    slope * error + operands.map(|operand| 6.0 * operand.noise / amplitude).sum::<f64>() + 1e-3
}

/// The largest difference between a simulation and the clear engine, and how large the plan lets it be.
fn difference(evaluation: &Evaluation, arguments: &HashMap<NodeId, Vec<f32>>, slope: f64) -> (f64, f64) {
    let batch = Batch { index: 0, size: 1, features: &[], labels: &[], arguments: Some(arguments) };
    let clear = clear::evaluate(&evaluation.graph, &[evaluation.result], &[], &batch).unwrap();
    let schedule = evaluation.schedule.as_ref().unwrap_or_else(|d| panic!("{d:?}"));
    let mut engine = SimulateEngine::new(schedule, Vec::new(), 1);
    let simulated = engine.evaluate(&batch, &Unwatched).unwrap();
    let pairs = simulated[0].iter().zip(&clear[0]);
    (pairs.map(|(s, c)| f64::from((s - c).abs())).fold(0.0, f64::max), predicted(schedule, slope))
}

/// Expressions of z and y, which are products of encrypted values, and a bound of their slopes. z and y lie in ±RANGE; where two
/// of them are multiplied, ranges are written, since products of two often leave six times their size.
const FUNCTIONS: [(&str, f64); 8] = [
    ("refresh(z)", 1.0),
    ("relu(z) + y", 1.0),
    ("tanh(z) - 2 * y", 1.0),
    ("abs(z) + sigmoid(y)", 1.0),
    // Products element by element: of slots on one scheme, of quarter squares on the other.
    ("let w: [m] in -SQUARE..SQUARE = z * y\n w", 8.0),
    ("let w: [m] in -RANGE..RANGE = tanh(z) * y\n w", 8.0),
    ("let w: [m] in -1..1 = sigmoid(z) * tanh(y)\n w", 4.0),
    ("let w: [m] in -RANGE..RANGE = tanh(z) * y\n let r: [m] in -RANGE..RANGE = relu(w)\n r", 8.0),
];

/// The same with public factors, of at most 2.
const FACTORED: [(&str, f64); 3] = [
    ("let w: [m] in -DOUBLE..DOUBLE = z * FACTORS\n let r: [m] in -1..1 = tanh(w)\n r", 4.0),
    (
        "let w: [m] in -DOUBLE..DOUBLE = relu(z) * FACTORS\n let r: [m] in -DOUBLE..DOUBLE = refresh(w)\n r",
        4.0,
    ),
    ("let w: [m] in -DOUBLE..DOUBLE = (x * MORE) @ u\n sigmoid(w)", 4.0),
];

fn two_products(body: &str, range: f64, [n, m]: [usize; 2]) -> String {
    // Inputs whose sums stay within the range.
    let size = range / 2.0 / (n as f64).sqrt();
    let body = body
        .replace("RANGE", &range.to_string())
        .replace("DOUBLE", &(2.0 * range).to_string())
        .replace("SQUARE", &(range * range).to_string());
    format!(
        "use std::{{relu, sigmoid}}
         fn f(x: [n], u: [n, m], v: [n, m]) -> [m] {{
             let z: [m] in -{range}..{range} = x @ u
             let y: [m] in -{range}..{range} = x @ v
             {body}
         }}
         eval f(x: uniform(-1, 1), u: uniform(-{size}, {size}), v: uniform(-{size}, {size}), n: {n}, m: {m})"
    )
}

/// That both schemes simulate what is clear.
fn agree(source: &str, slope: f64, seed: u64) -> Result<(), TestCaseError> {
    let ring = compiled(source, SchemeChoice::Ckks);
    let tfhe = compiled(source, SchemeChoice::Tfhe);
    let arguments = draw(&ring, seed);
    for evaluation in [&ring, &tfhe] {
        // Quarter squares may leave the plaintext modulus; the ring engine has no such limit here.
        if evaluation.schedule.as_ref().is_err_and(|d| d[0].message.contains("quarter square")) {
            continue;
        }
        let (found, allowed) = difference(evaluation, &arguments, slope);
        prop_assert!(
            found <= allowed,
            "{source}\n{} off by {found}, predicted {allowed}",
            evaluation.schedule.as_ref().unwrap().parameters.name()
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn both_schemes_compute_what_is_clear(
        function in 0..FUNCTIONS.len(), n in 1usize..24, m in 1usize..12, range in 1u32..4, seed: u64,
    ) {
        let (body, slope) = FUNCTIONS[function];
        agree(&two_products(body, f64::from(1 << range), [n, m]), slope, seed)?;
    }

    /// Factors that are whole multiples of the least are free; others are a product.
    #[test]
    fn public_factors_are_those_of_the_clear(
        function in 0..FACTORED.len(), n in 1usize..24, m in 1usize..12, whole: bool, seed: u64,
    ) {
        let (body, slope) = FACTORED[function];
        let factor = |i: usize| if whole { [1.0, -0.5, 2.0, 0.0, 0.5][i % 5] } else { [0.7, -1.3, 2.0, 0.0, 0.11][i % 5] };
        let list = |count: usize| format!("{:?}", (0..count).map(factor).collect::<Vec<f64>>());
        let body = body.replace("FACTORS", &list(m)).replace("MORE", &list(n));
        agree(&two_products(&body, 4.0, [n, m]), slope, seed)?;
    }
}

#[test]
fn the_ring_engine_is_closer_to_the_clear_one() {
    let source = "
        fn f(x: [16], u: [16, 64]) -> [64] { tanh(x @ u) }
        eval f(x: uniform(-1, 1), u: uniform(-1, 1))";
    let (ring, tfhe) = (compiled(source, SchemeChoice::Ckks), compiled(source, SchemeChoice::Tfhe));
    let arguments = draw(&ring, 1);
    let difference = |evaluation| difference(evaluation, &arguments, 1.0).0;
    let (ring, tfhe) = (difference(&ring), difference(&tfhe));
    assert!(ring < tfhe / 4.0, "ckks {ring}, tfhe {tfhe}");
}

const SMALL: &str = "fn f(x: [4], u: [4, 4]) -> [4] { tanh(x @ u) }
    eval f(x: uniform(-1, 1), u: uniform(-1, 1))";

#[test]
fn a_few_values_take_tfhe_and_many_take_ckks() {
    let small = compiled(SMALL, SchemeChoice::Auto);
    assert_eq!(small.schedule.unwrap().parameters.scheme(), "tfhe");
    assert!(matches!(small.choice, Choice::Cheaper { .. }), "{}", small.choice);
    let large = SMALL.replace("x: [4], u: [4, 4]) -> [4]", "x: [3], u: [3, 2000]) -> [2000]");
    let large = compiled(&large, SchemeChoice::Auto);
    assert_eq!(large.schedule.unwrap().parameters.scheme(), "ckks");
    assert!(large.choice.to_string().contains("; tfhe: "), "{}", large.choice);
}

#[test]
fn what_one_scheme_cannot_run_the_other_does() {
    // Two products in a row without a function.
    let source = "fn f(x: [8], u: [8, 8], v: [8, 8]) -> [8] { x @ u @ v }
        eval f(x: uniform(-1, 1), u: uniform(-1, 1), v: uniform(-1, 1))";
    let chosen = compiled(source, SchemeChoice::Auto);
    assert_eq!(chosen.schedule.unwrap().parameters.name(), "deep");
    assert!(chosen.choice.to_string().starts_with("ckks cannot run"), "{}", chosen.choice);
}

#[test]
fn written_types_choose_the_scheme() {
    let source = SMALL.replace("x: [4]", "x: ckks<1>[4]");
    let chosen = compiled(&source, SchemeChoice::Auto);
    assert_eq!(chosen.schedule.unwrap().parameters.scheme(), "ckks");
    assert_eq!(chosen.choice, Choice::Written);
}

const NETWORK: &str = r#"
use std::{dense, relu, binary_cross_entropy}
data cancer = csv("cancer.csv") { label: diagnosis, scale: standard, split: 0.8 }
model Net(x: [30]) -> [1] { x |> dense(8) |> relu |> dense(1) }
train Net on cancer { loss: binary_cross_entropy, sgd: rate 0.5, batch: 64, epochs: 2 }
"#;

fn trained(scheme: SchemeChoice) -> Schedule {
    let mut sources = Sources::default();
    let file = sources.add("net.hes", NETWORK);
    let checked = check(&mut sources, file, &NoData);
    let task = checked.program.unwrap().tasks.into_iter().find_map(|task| match task {
        Task::Train(task) => Some(task),
        _ => None,
    });
    Training::compile(&task.unwrap(), 128, Settings { scheme, parameters: None }).unwrap().schedule.unwrap()
}

#[test]
fn a_mask_of_the_forward_pass_multiplies_the_gradient_in_its_slots() {
    let ring = trained(SchemeChoice::Ckks);
    let multiplied: Vec<_> = ring.sites.iter().filter_map(|s| s.multiplier).collect();
    let [(site, table)] = multiplied.as_slice() else { panic!("{multiplied:?}") };
    // The forward pass looks up the function and its derivative at once; only the function leaves the slots.
    let forward = &ring.sites[*site];
    assert_eq!(forward.tables.len(), 2);
    assert_eq!((forward.tables[*table].amplitude, forward.tables[1 - table].amplitude > 0.0), (0.0, true));
    assert!(ring_functions(&ring).unwrap()[*site][*table].factor.is_some());
    // On TFHE the same program shifts the gradient into one half of a table.
    let tfhe = trained(SchemeChoice::Tfhe);
    assert!(tfhe.sites.iter().all(|s| s.multiplier.is_none()));
    assert!(tfhe.sites.iter().any(|s| s.tables.iter().any(|t| t.name == "masked")));
}

#[test]
fn amplitudes_are_within_what_a_bootstrap_gives() {
    let schedule = trained(SchemeChoice::Ckks);
    let limit = schedule.parameters.table_limit_units();
    for site in &schedule.sites {
        let factor = site.multiplier.map_or(1.0, |(site, table)| {
            let own = &schedule.sites[site];
            Table { centre: 0.0, ..own.tables[table].clone() }.largest(own.range)
        });
        for table in &site.tables {
            assert!(table.largest(site.range) * factor * table.amplitude <= limit * 1.0001, "{}", table.name);
        }
    }
    // What is added up stands at one amplitude: every use of a table is an integer multiple of what it gives.
    for operand in &schedule.operands {
        for term in &operand.form.terms {
            let base = match schedule.atoms[term.atom.0 as usize].kind {
                AtomKind::Lut { site, function } => schedule.sites[site].tables[function].amplitude,
                AtomKind::Weight { site, .. } => schedule.sites[site].tables[0].amplitude,
                _ => continue,
            };
            let multiple = operand.amplitude * term.coefficient.abs() / base;
            assert!(multiple >= 1.0 && multiple.fract() == 0.0, "{multiple}");
        }
    }
    // Labels come with the client's part of the operands that use them.
    let labelled = schedule.operands.iter().filter(|operand| {
        let kind = |term: &hesn::plan::form::Term| schedule.atoms[term.atom.0 as usize].kind;
        operand.form.terms.iter().any(|term| matches!(kind(term), AtomKind::Label(_)))
    });
    let fresh: Vec<bool> = labelled.map(|operand| operand.fresh && operand.packed).collect();
    assert!(!fresh.is_empty() && fresh.iter().all(|&fresh| fresh));
}

#[test]
fn the_report_of_a_slot_product() {
    let source = "
        fn f(x: [16], u: [16, 40], v: [16, 40]) -> [40] { tanh(x @ u) * (x @ v) }
        eval f(x: uniform(-1, 1), u: uniform(-1, 1), v: uniform(-1, 1))";
    let evaluation = compiled(source, SchemeChoice::Ckks);
    let schedule = evaluation.schedule.as_ref().unwrap();
    let costs = Costs::typical(schedule.parameters, 1);
    let extent = Extent { steps: 1, samples: 1 };
    let report = report("f", schedule, &costs, extent, Alignments::default(), &evaluation.choice);
    // The tangent first: the values that it multiplies are looked up in a second bootstrap.
    assert_eq!((report.luts_per_step, report.bootstraps_per_step), (80, 2));
    let tables: Vec<_> = report.bootstraps.iter().map(|b| (b.tables.join(" "), b.values)).collect();
    assert_eq!(tables, [("tanh".to_owned(), 40), ("refresh".to_owned(), 40)]);
    assert!(report.bootstraps.iter().all(|b| b.half && (b.fill - 40.0 / 32768.0).abs() < 1e-9));
    assert!(report.failure_probability < 1e-12);
    assert!(report.parameters.security_bits >= 128.0);
    // What only multiplies leaves no bootstrap.
    let amplitudes: Vec<bool> = schedule.sites.iter().map(|s| s.tables[0].amplitude > 0.0).collect();
    assert_eq!(amplitudes, [false, true]);
}
