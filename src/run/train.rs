//! A training run from data to scores: the client's steps and the server's, in one process.

use std::time::Instant;

use crate::data::batches::Batches;
use crate::data::{Dataset, Labels, Samples};
use crate::diagnostics::Diagnostic;
use crate::graph::{Graph, NodeId, Op};
use crate::interp::clear::{self, ClearEngine};
use crate::interp::simulate::SimulateEngine;
use crate::interp::{Batch, Engine, EngineError, Excess};
use crate::plan::compile::Training;
use crate::plan::estimate::{ParametersReport, StageSeconds};
use crate::plan::lower::locate;
use crate::plan::schedule::Schedule;
use crate::typeck::Batch as BatchSize;

use super::engine;
use super::events::{DoneRecord, EpochRecord, Event, Observer, Phase, Scores, StepRecord};
use super::options::{Draws, EngineKind, RunError, RunOptions, Watched};

/// What a run leaves.
pub struct Outcome {
    /// By parameter of the compiled model, by the client's decryption.
    pub params: Vec<Vec<f32>>,
    pub done: DoneRecord,
    /// The user stopped the run; `params` are those of the last whole step.
    pub interrupted: bool,
}

/// How many steps a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    pub steps_per_epoch: usize,
    pub steps: usize,
    pub epochs: usize,
}

impl Length {
    pub fn of(training: &Training, samples: usize, options: &RunOptions) -> Self {
        let steps_per_epoch = (samples / training.batch.max(1)).max(1);
        let epochs = options.epochs.unwrap_or(training.epochs);
        let steps = match options.steps {
            Some(steps) if options.epochs.is_none() => steps,
            Some(steps) => steps.min(epochs * steps_per_epoch),
            None => epochs * steps_per_epoch,
        };
        Self { steps_per_epoch, steps, epochs: steps.div_ceil(steps_per_epoch) }
    }
}

/// Trains a compiled model on a data set.
pub fn train(
    training: &Training,
    size: BatchSize,
    data: &Dataset,
    options: &RunOptions,
    observer: &dyn Observer,
) -> Result<Outcome, RunError> {
    let outputs = training.forward.node(training.logits).elements();
    let length = Length::of(training, data.train.len, options);
    let batches = match size {
        BatchSize::All => Batches::all(data.train.len),
        BatchSize::Size(_) => {
            Batches::shuffled(data.train.len, training.batch, options.seed).ok_or_else(|| {
                RunError::Data(format!(
                    "{} training samples do not fill a batch of {}",
                    data.train.len, training.batch
                ))
            })?
        }
    };
    let draws = Draws::new(&data.train, &batches, outputs, length.steps);
    let initial = training.architecture.initial(&training.forward, options.seed);
    let schedule = training.schedule.as_ref().ok();
    let began = Instant::now();
    let mut engine: Box<dyn Engine + '_> = match (options.engine, schedule) {
        (EngineKind::Clear, _) => Box::new(clear_engine(training, initial.clone())),
        (_, None) => return Err(RunError::Data("the program has no encrypted schedule".into())),
        (EngineKind::Simulate, Some(schedule)) => {
            Box::new(SimulateEngine::new(schedule, of_masters(schedule, &initial), options.seed))
        }
        (EngineKind::Encrypted, Some(schedule)) => {
            engine::encrypted(schedule, of_masters(schedule, &initial), &draws, options, observer)?
        }
    };
    let setup_seconds = began.elapsed().as_secs_f64();
    let scheduled = options.engine != EngineKind::Clear;
    let luts_per_step = if scheduled { schedule.map_or(0, Schedule::luts) as u64 } else { 0 };
    let watch = Watched::new(observer, luts_per_step * length.steps as u64);

    observer.phase(Phase::Train);
    let began = Instant::now();
    let mut epoch_began = Instant::now();
    let mut interrupted = false;
    let mut order = batches.epoch(0);
    let mut steps = 0;
    let mut stage_seconds: Option<StageSeconds> = None;
    // After so many steps, the weights and what they are worth.
    let mut tested: Option<(usize, Vec<Vec<f32>>, Scores)> = None;
    while steps < length.steps {
        let (epoch, within) = (steps / length.steps_per_epoch, steps % length.steps_per_epoch);
        if within == 0 {
            order = batches.epoch(epoch);
            if epoch > 0 && training.masked.is_some() && options.engine != EngineKind::Clear {
                let why = "its masks change from epoch to epoch, which runs with `--engine clear` only";
                return Err(EngineError::Failed(why.into()).into());
            }
            engine.begin_epoch(epoch, training.optimizer.multiple(epoch))?;
            epoch_began = Instant::now();
        }
        let step_began = Instant::now();
        let index = order[within] as usize % draws.count();
        let stopped = observer.cancelled()
            || match engine.step(&draws.rows(index).batch(), &watch) {
                Ok(()) => false,
                Err(EngineError::Cancelled) => true,
                Err(error) => return Err(error.into()),
            };
        if stopped {
            interrupted = true;
            break;
        }
        steps += 1;
        let seconds = step_began.elapsed().as_secs_f64();
        let parts = engine.stage_seconds().map(|parts| parts.with_rest_of(seconds));
        if let Some(parts) = parts {
            *stage_seconds.get_or_insert_default() += parts;
        }
        observer.event(Event::Step(StepRecord {
            engine: engine.name().into(),
            step: steps,
            steps: length.steps,
            epoch: epoch + 1,
            luts: luts_per_step,
            seconds,
            stage_seconds: parts,
        }));
        if steps % length.steps_per_epoch == 0 || steps == length.steps {
            let seconds = epoch_began.elapsed().as_secs_f64();
            let params = params(training, &mut *engine, &initial)?;
            let scores = scores(training, data, &params)?;
            observer.event(Event::Epoch(EpochRecord {
                engine: engine.name().into(),
                epoch: epoch + 1,
                epochs: length.epochs,
                steps,
                luts: luts_per_step * steps as u64,
                seconds,
                scores,
            }));
            tested = Some((steps, params, scores));
        }
    }
    let train_seconds = began.elapsed().as_secs_f64();
    observer.phase(Phase::Decrypt);
    let (params, tested) = match tested {
        Some((after, params, scores)) if after == steps => (params, Some(scores)),
        _ => (params(training, &mut *engine, &initial)?, None),
    };
    let name = engine.name().to_owned();
    if let Some(schedule) = schedule {
        excess_warnings(training, schedule, engine.excesses()).into_iter().for_each(|w| observer.warn(w));
    }
    let traffic = engine.traffic();
    drop(engine);
    observer.phase(Phase::Evaluate);
    let scores = match tested {
        Some(scores) => scores,
        None => scores(training, data, &params)?,
    };
    let clear = if options.compare && !interrupted {
        observer.phase(Phase::Compare);
        // What was trained is not lost with the comparison.
        match compare(training, data, &batches, &draws, initial, &length) {
            Ok(scores) => Some(scores),
            Err(error) => {
                let message = format!("the clear engine could not be compared with: {error}");
                observer.warn(Diagnostic::warning("W0603", message).help(
                    "scale the features (`scale: standard`), lower the rate, or leave out `--compare`",
                ));
                None
            }
        }
    } else {
        None
    };
    let parameters = schedule.filter(|_| options.engine == EngineKind::Encrypted);
    let done = DoneRecord {
        engine: name,
        model: training.model.clone(),
        scores,
        clear_accuracy: clear.and_then(|s| s.test_accuracy),
        clear_rmse: clear.and_then(|s| s.test_rmse),
        steps,
        epochs: steps.div_ceil(length.steps_per_epoch),
        luts: luts_per_step * steps as u64,
        setup_seconds,
        train_seconds,
        stage_seconds,
        ciphertext_bytes_per_sample: traffic.map(|own| own.ciphertext_bytes_per_sample),
        weight_bytes: traffic.map(|own| own.weight_bytes as u64),
        peak_memory_bytes: super::peak_memory_bytes(),
        parameters: parameters.map(|s| ParametersReport::of(s.parameters)),
    };
    observer.event(if interrupted { Event::Interrupted { steps } } else { Event::Done(done.clone()) });
    Ok(Outcome { params, done, interrupted })
}

/// Fraction of the look-ups of a site beyond its range from which a user is told.
const NOTABLE_EXCESS: f64 = 1e-3;

/// Half of a range, to three decimals.
pub fn shown_range(range: f64) -> f64 {
    (range * 1000.0).round() / 1000.0
}

/// Where simulated values left the range of their table.
fn excess_warnings(training: &Training, schedule: &Schedule, excesses: &[Excess]) -> Vec<Diagnostic> {
    let notable = |e: &Excess| e.beyond as f64 > NOTABLE_EXCESS * e.lookups as f64;
    schedule
        .sites
        .iter()
        .zip(excesses)
        .filter(|(_, excess)| notable(excess))
        .map(|(site, excess)| {
            let node = training.step.node(site.node);
            let (what, help) = match &node.op {
                Op::Param(param) => {
                    let name = &training.step.param_info(*param).name;
                    (
                        format!("the weights `{name}`"),
                        "lower the rate, or start them nearer to where they end",
                    )
                }
                // Nobody writes the type of a gradient.
                op if reads_gradient(&training.step, site.node) => (
                    format!("the gradient that `{}` reads", op.name()),
                    "add `clip: 1` to the options of `train`, which holds gradients at that bound (the range follows a \
                     larger one), or lower the rate",
                ),
                op => {
                    (format!("the input of `{}`", op.name()), "widen it: write `in -32..32` after its type")
                }
            };
            let message = format!(
                "{what} left the range ±{} in {} of {} simulated look-ups",
                shown_range(site.range),
                excess.beyond,
                excess.lookups
            );
            locate(Diagnostic::warning("W0402", message), &node.origin.spans, "read by a table here")
                .help(help)
        })
        .collect()
}

/// Whether a table reads what only the derivative has.
fn reads_gradient(graph: &Graph, table: NodeId) -> bool {
    graph.operands(table).iter().any(|operand| graph.node(*operand).origin.derivative)
}

fn clear_engine(training: &Training, params: Vec<Vec<f32>>) -> ClearEngine {
    ClearEngine::new(training.step.clone(), training.gradients.clone(), training.rate, params)
        .with_optimizer(training.optimizer.clone())
        .with_masks(training.masked.clone())
}

/// Initial weights in the order of the schedule's masters.
pub fn of_masters(schedule: &Schedule, params: &[Vec<f32>]) -> Vec<Vec<f32>> {
    schedule.masters.iter().map(|master| params[master.param.index()].clone()).collect()
}

/// All parameters, those that are not trained as they began.
fn params(
    training: &Training,
    engine: &mut dyn Engine,
    initial: &[Vec<f32>],
) -> Result<Vec<Vec<f32>>, EngineError> {
    let own = engine.parameters()?;
    if engine.name() == EngineKind::Clear.name() {
        return Ok(own);
    }
    let mut all = initial.to_vec();
    if let Ok(schedule) = &training.schedule {
        for (master, values) in schedule.masters.iter().zip(own) {
            all[master.param.index()] = values;
        }
    }
    Ok(all)
}

fn compare(
    training: &Training,
    data: &Dataset,
    batches: &Batches,
    draws: &Draws<'_>,
    initial: Vec<Vec<f32>>,
    length: &Length,
) -> Result<Scores, EngineError> {
    let mut engine = clear_engine(training, initial);
    for step in 0..length.steps {
        let epoch = step / length.steps_per_epoch;
        if step % length.steps_per_epoch == 0 {
            engine.begin_epoch(epoch, training.optimizer.multiple(epoch))?;
        }
        let order = batches.epoch(epoch);
        let index = order[step % length.steps_per_epoch] as usize % draws.count();
        engine.step(&draws.rows(index).batch(), &crate::interp::Unwatched)?;
    }
    let params = engine.parameters()?;
    scores(training, data, &params)
}

/// Accuracies of a model, or errors in the unit of the target.
pub fn scores(training: &Training, data: &Dataset, params: &[Vec<f32>]) -> Result<Scores, EngineError> {
    let test = score(training, data, &data.test, params)?;
    let train = score(training, data, &data.train, params)?;
    Ok(match data.train.labels {
        Labels::Classes(_) => Scores { test_accuracy: test, train_accuracy: train, ..Scores::default() },
        Labels::Numbers(_) => Scores { test_rmse: test, train_rmse: train, ..Scores::default() },
    })
}

/// Samples that are scaled and scored at a time.
const SCORED: usize = 1024;

fn score(
    training: &Training,
    data: &Dataset,
    samples: &Samples,
    params: &[Vec<f32>],
) -> Result<Option<f64>, EngineError> {
    if samples.is_empty() {
        return Ok(None);
    }
    let outputs = training.forward.node(training.logits).elements().max(1);
    let (mut right, mut square) = (0usize, 0.0f64);
    for start in (0..samples.len).step_by(SCORED) {
        let rows = start..(start + SCORED).min(samples.len);
        let features = samples.features(rows.clone());
        let batch = Batch { index: 0, size: rows.len(), features: &features, labels: &[], arguments: None };
        let predict = |node, labels: &[f32]| {
            clear::predict(&training.forward, &[node], params, &Batch { labels, ..batch })
        };
        match &samples.labels {
            Labels::Classes(classes) if outputs == 1 => {
                // The class of which the loss would think better: no loss has a name here.
                let loss = |label: f32| predict(training.loss, &vec![label; rows.len()]);
                let (zero, one) = (loss(0.0)?, loss(1.0)?);
                let predicted = zero[0].iter().zip(&one[0]).map(|(zero, one)| u32::from(one < zero));
                right += predicted.zip(&classes[rows]).filter(|(own, class)| own == *class).count();
            }
            Labels::Classes(classes) => {
                let logits = predict(training.logits, &[])?;
                let predicted = logits[0].chunks(outputs).map(largest);
                right += predicted.zip(&classes[rows]).filter(|(own, class)| own == *class).count();
            }
            Labels::Numbers(targets) => {
                let logits = predict(training.logits, &[])?;
                let errors = logits[0].chunks(outputs).zip(&targets[rows]);
                square += errors.map(|(row, target)| f64::from(row[0] - target).powi(2)).sum::<f64>();
            }
        }
    }
    Ok(Some(match samples.labels {
        Labels::Classes(_) => right as f64 / samples.len as f64,
        Labels::Numbers(_) => {
            let unit = data.scaler.target.map_or(1.0, |target| target.deviation);
            (square / samples.len as f64).sqrt() * unit
        }
    }))
}

/// The class with the largest logit.
fn largest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(class, _)| class as u32)
}
