//! Random functions, ranges and shapes: both schemes, encrypted and simulated, give what the clear computation gives, within
//! the noise that the schedule predicts.
#![cfg(feature = "client")]

mod engine_common;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use engine_common::*;
use hesn::graph::{Binary, Function, Graph, NodeId, Origin, ParamId, ScalarExpr};
use hesn::he::ServerKeys as TfheKeys;
use hesn::he::ckks::ServerKeys;
use hesn::he::ckks::params::RING_PROFILES;
use hesn::he::params;
use hesn::interp::encrypted::Server;
use hesn::interp::simulate::SimulateEngine;
use hesn::interp::{Batch, Unwatched};
use hesn::plan::functions::ring_functions;
use hesn::plan::lower::{Lowering, RangeOf, Target};
use hesn::plan::parameters::Parameters;
use hesn::plan::schedule::Schedule;
use hesn::plan::{Nominal, Purpose, build};
use hesn::run::client::Client;
use hesn::run::ring_client::RingClient;
use hesn::run::roles::Roles;
use proptest::prelude::*;

/// The key sets of both schemes, made once.
fn ring_keys() -> &'static (RingClient, Arc<ServerKeys>) {
    static KEYS: OnceLock<(RingClient, Arc<ServerKeys>)> = OnceLock::new();
    KEYS.get_or_init(|| {
        let client = RingClient::new(&RING_PROFILES[2]).unwrap();
        let keys = client.server_keys(&|_, _| ()).unwrap();
        (client, Arc::new(keys))
    })
}

/// Keys of TFHE that pack at the level of an operand.
fn tfhe_keys(schedule: &Schedule) -> &'static (Client, Arc<TfheKeys>) {
    static KEYS: OnceLock<(Client, Arc<TfheKeys>)> = OnceLock::new();
    KEYS.get_or_init(|| {
        let client = Client::new(schedule.parameters.tfhe().unwrap()).unwrap();
        let keys = client.server_keys(schedule, &|_, _| ()).unwrap();
        (client, Arc::new(keys))
    })
}

/// A table with its name.
fn functions() -> Vec<(&'static str, ScalarExpr)> {
    let z = || ScalarExpr::Z;
    let c = ScalarExpr::Const;
    vec![
        ("sigmoid", sigmoid()),
        ("tanh", ScalarExpr::call(Function::Tanh, z())),
        ("relu", ScalarExpr::bin(Binary::Max, z(), c(0.0))),
        ("half", z().mul(c(0.5))),
        ("square", z().mul(z()).mul(c(0.125))),
        ("decay", ScalarExpr::call(Function::Exp, ScalarExpr::call(Function::Abs, z()).neg())),
    ]
}

struct Fixed(f64);

impl RangeOf for Fixed {
    fn site(&self, _: NodeId) -> f64 {
        self.0
    }
    fn param(&self, _: ParamId) -> f64 {
        1.0
    }
}

/// f(x @ w) of two encrypted arguments.
fn program(
    parameters: Parameters,
    f: &ScalarExpr,
    range: f64,
    n: usize,
    m: usize,
) -> (Schedule, [NodeId; 2]) {
    let o = Origin::default();
    let mut g = Graph::default();
    let x = g.argument("x", &[n], &o).unwrap();
    let w = g.argument("w", &[n, m], &o).unwrap();
    let z = g.matmul(x, w, &o).unwrap();
    let y = g.lut(z, lut("f", f.clone(), ScalarExpr::Const(0.0)), &o).unwrap();
    let lowered = Lowering::run(&g, &[y], &Fixed(range), Target::of(parameters)).unwrap();
    let nominal = Nominal { input_rms: 0.5, argument_rms: HashMap::new() };
    let largest = (-64..=64).map(|i| f.eval(range * f64::from(i) / 64.0).abs()).fold(0.0, f64::max);
    let purpose = Purpose::Evaluate { ranges: &[2.0 * largest] };
    (build(&g, &lowered, &Fixed(range), (parameters, &[parameters]), 1, &nominal, &purpose).unwrap(), [x, w])
}

/// Standard deviation of the result's error: what the table reads wrong, and what it puts out.
fn predicted(schedule: &Schedule, f: &ScalarExpr) -> f64 {
    let site = &schedule.sites[0];
    let slope = |i: i32| {
        let at = |i: i32| f.eval(site.range * f64::from(i) / 256.0);
        ((at(i + 1) - at(i - 1)) * 128.0 / site.range).abs()
    };
    let slope = (-255..255).map(slope).fold(0.0, f64::max);
    let read = site.input_error * 2.0 * site.range * slope;
    let fit = match schedule.parameters {
        Parameters::Ckks(_) => 0.0,
        // A table has an entry for every so many inputs.
        Parameters::Tfhe(profile) => slope * site.range / profile.pbs.polynomial_size as f64,
    };
    let output =
        schedule.operands.iter().map(|o| o.noise).fold(0.0, f64::max) / schedule.outputs[0].amplitude;
    (read * read + fit * fit + output * output).sqrt()
}

/// How far the polynomial that stands for the function is from it at these inputs: at a kink farther than elsewhere.
fn misfit(schedule: &Schedule, f: &ScalarExpr, inputs: &[f64]) -> f64 {
    let Parameters::Ckks(profile) = schedule.parameters else { return 0.0 };
    let (site, function) = (&schedule.sites[0], &ring_functions(schedule).unwrap()[0][0]);
    let polynomial = function.output.as_ref().unwrap();
    let unit = profile.output_scale() / site.tables[0].amplitude;
    let error = |z: &f64| (polynomial.eval(z / (4.0 * site.range)) * unit - f.eval(*z)).powi(2);
    (inputs.iter().map(error).sum::<f64>() / inputs.len() as f64).sqrt()
}

fn check(schedule: &Schedule, f: &ScalarExpr, what: &str, got: &[f32], inputs: &[f64]) {
    let exact: Vec<f64> = inputs.iter().map(|z| f.eval(*z)).collect();
    let error = got.iter().zip(&exact).map(|(g, e)| (f64::from(*g) - e).powi(2)).sum::<f64>();
    let error = (error / exact.len() as f64).sqrt();
    let (predicted, misfit) = (predicted(schedule, f), misfit(schedule, f, inputs));
    assert!(
        error <= misfit + 5.0 * predicted,
        "{what}: error {error}, predicted {predicted}, misfit {misfit}"
    );
}

/// That f(x @ w) of an n×m matrix is the same on both schemes, encrypted and simulated, as in the clear.
fn agree((name, f): &(&str, ScalarExpr), range: f64, n: usize, m: usize, values: &[f32]) {
    // Sums stay within nine tenths of the range.
    let scale = (0.9 * range / n as f64).sqrt() as f32;
    let x: Vec<f32> = values[..n].iter().map(|v| v * scale).collect();
    let w: Vec<f32> = values[n..n + n * m].iter().map(|v| v * scale).collect();
    let inputs: Vec<f64> =
        (0..m).map(|l| (0..n).map(|j| f64::from(x[j]) * f64::from(w[j * m + l])).sum()).collect();
    let rings = Parameters::Ckks(&RING_PROFILES[2]);
    let tfhe = Parameters::Tfhe(params::profile("standard").unwrap());
    for parameters in [rings, tfhe] {
        let (schedule, [at_x, at_w]) = program(parameters, f, range, n, m);
        let arguments = HashMap::from([(at_x, x.clone()), (at_w, w.clone())]);
        let batch = Batch { index: 0, size: 1, features: &[], labels: &[], arguments: Some(&arguments) };
        let mut engine = SimulateEngine::new(&schedule, Vec::new(), 1);
        let simulated = engine.evaluate(&batch, &Unwatched).unwrap();
        let what = format!("{name} on ±{range}, {n}×{m}, {}", parameters.scheme());
        check(&schedule, f, &format!("{what}, simulated"), &simulated[0], &inputs);
        let encrypted = if parameters.is_ckks() {
            let (client, keys) = ring_keys();
            let batch = client.encrypt(&schedule, &batch).unwrap();
            let server = RingClient::server(Arc::clone(keys), &schedule, Vec::new()).unwrap();
            client.evaluate(&schedule, &server, &batch, &Unwatched).unwrap()
        } else {
            let (client, keys) = tfhe_keys(&schedule);
            let batch = Roles::encrypt(client, &schedule, &batch).unwrap();
            let server = Server::new(Arc::clone(keys), &schedule, Vec::new()).unwrap();
            client.evaluate(&schedule, &server, &batch, &Unwatched).unwrap()
        };
        check(&schedule, f, &format!("{what}, encrypted"), &encrypted, &inputs);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]
    #[test]
    fn both_schemes_simulate_and_clear_agree(
        which in 0usize..6,
        log_range in 0i32..4,
        n in 1usize..40,
        m in 1usize..8,
        values in proptest::collection::vec(-1.0f32..1.0, 40 + 40 * 8),
    ) {
        agree(&functions()[which], f64::from(1 << log_range), n, m, &values);
    }
}

#[test]
fn matrices_of_several_polynomials_give_the_same() {
    let value = |i: usize| ((i * 37 + i / 11) % 64) as f32 / 32.0 - 1.0;
    let values: Vec<f32> = (0..260 + 260 * 20).map(value).collect();
    let sigmoid = &functions()[0];
    agree(sigmoid, 4.0, 260, 20, &values);
}
