//! A function evaluated once: the client draws and encrypts its arguments, the server computes, the client decrypts.

use std::collections::HashMap;
use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution as _, StandardNormal};

use crate::graph::NodeId;
use crate::interp::simulate::SimulateEngine;
use crate::interp::{Batch, clear};
use crate::plan::compile::Evaluation;
use crate::plan::estimate::ParametersReport;
use crate::plan::parameters::Parameters;
use crate::plan::schedule::Schedule;
use crate::typeck::Distribution;

use super::client::Client;
use super::events::{Event, Observer, Phase, ResultRecord};
use super::options::{EngineKind, RunError, RunOptions, Watched};
use super::ring_client::RingClient;
use super::roles::Roles;

/// Public values of the arguments, drawn by the client.
pub fn draw(evaluation: &Evaluation, seed: u64) -> HashMap<NodeId, Vec<f32>> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    evaluation
        .arguments
        .iter()
        .map(|argument| {
            let count = evaluation.graph.node(argument.node).elements();
            let values = (0..count).map(|_| sample(argument.distribution, &mut rng)).collect();
            (argument.node, values)
        })
        .collect()
}

fn sample(distribution: Option<Distribution>, rng: &mut ChaCha20Rng) -> f32 {
    let value = match distribution {
        None => 0.0,
        Some(Distribution::Constant(c)) => c,
        Some(Distribution::Normal { mean, deviation }) => {
            let z: f64 = StandardNormal.sample(rng);
            // As far as the checker counted on.
            mean + deviation * z.clamp(-5.0, 5.0)
        }
        Some(Distribution::Uniform { low, high }) => low + (high - low) * rng.random::<f64>(),
    };
    value as f32
}

/// Evaluates a function and compares it with the clear engine.
pub fn evaluate(
    evaluation: &Evaluation,
    options: &RunOptions,
    observer: &dyn Observer,
) -> Result<ResultRecord, RunError> {
    let arguments = draw(evaluation, options.seed);
    let batch = Batch { index: 0, size: 1, features: &[], labels: &[], arguments: Some(&arguments) };
    let mut clear = clear::evaluate(&evaluation.graph, &[evaluation.result], &[], &batch)?;
    let clear = clear.pop().unwrap_or_default();
    let mut setup_seconds = 0.0;
    let began = Instant::now();
    let schedule = || {
        let missing = || RunError::Data("the function has no encrypted schedule".into());
        evaluation.schedule.as_ref().map_err(|_| missing())
    };
    let (values, luts, parameters) = match options.engine {
        EngineKind::Clear => (clear.clone(), 0, None),
        EngineKind::Simulate => {
            let schedule = schedule()?;
            let mut engine = SimulateEngine::new(schedule, Vec::new(), options.seed);
            let mut values = engine.evaluate(&batch, &crate::interp::Unwatched)?;
            (values.pop().unwrap_or_default(), schedule.luts() as u64, None)
        }
        EngineKind::Encrypted => {
            let schedule = schedule()?;
            let luts = schedule.luts() as u64;
            let (values, setup) = match schedule.parameters {
                Parameters::Tfhe(_) => encrypted::<Client>(schedule, &batch, options, observer)?,
                Parameters::Ckks(_) => encrypted::<RingClient>(schedule, &batch, options, observer)?,
            };
            setup_seconds = setup;
            (values, luts, Some(ParametersReport::of(schedule.parameters)))
        }
    };
    let errors: Vec<f64> = values.iter().zip(&clear).map(|(v, c)| f64::from((v - c).abs())).collect();
    let square: f64 = errors.iter().map(|e| e * e).sum();
    let record = ResultRecord {
        engine: options.engine.name().into(),
        name: evaluation.function.clone(),
        shape: evaluation.graph.node(evaluation.result).shape.clone(),
        values,
        max_error: errors.iter().copied().fold(0.0, f64::max),
        rms_error: (square / errors.len().max(1) as f64).sqrt(),
        luts,
        setup_seconds,
        seconds: began.elapsed().as_secs_f64() - setup_seconds,
        parameters,
    };
    observer.event(Event::Result(record.clone()));
    Ok(record)
}

/// Both roles, one after another: the values of the first output, and the seconds before the server began.
fn encrypted<R: Roles>(
    schedule: &Schedule,
    batch: &Batch<'_>,
    options: &RunOptions,
    observer: &dyn Observer,
) -> Result<(Vec<f32>, f64), RunError> {
    let began = Instant::now();
    let (client, keys) = R::with_keys(schedule, observer)?;
    observer.phase(Phase::Encrypt);
    let encrypted = client.encrypt(schedule, batch)?;
    let mut server = R::server(keys, schedule, Vec::new())?;
    if let Some(most) = options.at_once {
        R::set_at_once(&mut server, most);
    }
    let setup_seconds = began.elapsed().as_secs_f64();
    observer.phase(Phase::Train);
    let watch = Watched::new(observer, schedule.luts() as u64);
    let values = client.evaluate(schedule, &server, &encrypted, &watch)?;
    observer.phase(Phase::Decrypt);
    Ok((values, setup_seconds))
}
