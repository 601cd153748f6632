//! Gradient descent as `train` describes it, on the clear engine: against the same steps by hand.

use hesn::diagnostics::{Sources, render};
use hesn::interp::clear::ClearEngine;
use hesn::interp::{Batch, Engine, Unwatched};
use hesn::plan::compile::{Settings, Training};
use hesn::typeck::{self, NoData, Task, TrainTask};

const BATCH: usize = 4;

fn checked(options: &str) -> (Option<TrainTask>, String) {
    let text = format!(
        "data d = csv(\"d.csv\") {{ target: y, scale: none, split: 0.8 }}\n\
         model M(x: [2]) -> [1] {{ x |> dense(1, init: zeros) }}\n\
         fn squared(z: [1], y: [1]) -> [] {{ sum((z - y) * (z - y)) / 2 }}\n\
         train M on d {{ loss: squared, batch: {BATCH}, {options} }}\n"
    );
    let mut sources = Sources::default();
    let file = sources.add("program.hes", text);
    let checked = typeck::check(&mut sources, file, &NoData);
    let shown = checked.diagnostics.iter().map(|d| render(d, &sources, false)).collect();
    let task = checked.program.and_then(|program| match program.tasks.into_iter().next() {
        Some(Task::Train(task)) => Some(*task),
        _ => None,
    });
    (task, shown)
}

fn task(options: &str) -> TrainTask {
    let (task, shown) = checked(options);
    assert_eq!(shown, "");
    task.unwrap()
}

const X: [f32; 2 * BATCH] = [1.0, -0.5, 0.25, 2.0, -1.5, 0.75, 0.5, 1.0];
const Y: [f32; BATCH] = [3.0, -2.0, 0.5, 1.0];

/// The weights and the bias after each of some epochs of one step.
fn trained(options: &str, epochs: usize) -> Vec<[f32; 3]> {
    let training = Training::compile(&task(options), BATCH, Settings::default()).unwrap();
    let mut engine = ClearEngine::new(
        training.step.clone(),
        training.gradients.clone(),
        training.rate,
        vec![vec![0.0; 3]],
    )
    .with_optimizer(training.optimizer.clone());
    let batch = Batch { index: 0, size: BATCH, features: &X, labels: &Y, arguments: None };
    (0..epochs)
        .map(|epoch| {
            engine.begin_epoch(epoch, training.optimizer.multiple(epoch)).unwrap();
            engine.step(&batch, &Unwatched).unwrap();
            <[f32; 3]>::try_from(engine.parameters().unwrap().remove(0)).unwrap()
        })
        .collect()
}

/// What a step does: the update from weights, velocity and mean gradient, for the rate of the epoch.
fn by_hand(
    rates: &[f32],
    clip: f32,
    mut update: impl FnMut(&mut [f32; 3], &mut [f32; 3], [f32; 3], f32),
) -> Vec<[f32; 3]> {
    let (mut w, mut v) = ([0.0; 3], [0.0; 3]);
    rates
        .iter()
        .map(|&rate| {
            let mut gradient = [0.0f32; 3];
            for (x, y) in X.chunks(2).zip(Y) {
                let error = (x[0] * w[0] + x[1] * w[1] + w[2] - y).clamp(-clip, clip);
                for (g, x) in gradient.iter_mut().zip([x[0], x[1], 1.0]) {
                    *g += error * x / BATCH as f32;
                }
            }
            update(&mut w, &mut v, gradient, rate);
            w
        })
        .collect()
}

fn plain(w: &mut [f32; 3], _: &mut [f32; 3], gradient: [f32; 3], rate: f32) {
    w.iter_mut().zip(gradient).for_each(|(w, g)| *w -= rate * g);
}

fn assert_same(found: &[[f32; 3]], expected: &[[f32; 3]]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((a - b).abs() < 1e-5, "{found:?}\nby hand {expected:?}");
    }
}

const FREE: f32 = f32::INFINITY;

#[test]
fn rates_change_from_epoch_to_epoch() {
    let found = trained("sgd: rate 1/2 halved every 2 epochs, epochs: 5", 6);
    assert_same(&found, &by_hand(&[0.5, 0.5, 0.25, 0.25, 0.125, 0.125], FREE, plain));
    let task = task("sgd: rate 1/2 halved every 2 epochs, epochs: 5");
    assert_eq!((task.rate.value, task.optimizer.multiples), (0.125, vec![4, 4, 2, 2, 1]));
    let found = trained("sgd: rate [1/8, 1/2, 3/8], epochs: 9", 4);
    assert_same(&found, &by_hand(&[0.125, 0.5, 0.375, 0.375], FREE, plain));
}

#[test]
fn momentum_and_weight_decay_follow_their_formulas() {
    let found = trained("sgd: rate 1/4, momentum: 0.75, weight_decay: 1/16, epochs: 5", 5);
    let expected = by_hand(&[0.25; 5], FREE, |w, v, gradient, rate| {
        for k in 0..3 {
            v[k] = 0.75 * v[k] + gradient[k] + w[k] / 16.0;
            w[k] -= rate * v[k];
        }
    });
    assert_same(&found, &expected);
}

#[test]
fn gradients_are_clipped_at_the_result() {
    let found = trained("sgd: rate 1/4, clip: 0.75, epochs: 5", 5);
    assert_same(&found, &by_hand(&[0.25; 5], 0.75, plain));
    let free = by_hand(&[0.25; 5], FREE, plain);
    assert!((found[0][2] - free[0][2]).abs() > 0.05, "nothing was clipped");
}

/// What the encrypted engines cannot do, they say; the program itself is right.
#[test]
fn encrypted_engines_refuse_what_runs_in_the_clear_only() {
    let code = |options: &str| {
        let training = Training::compile(&task(options), BATCH, Settings::default()).unwrap();
        training.schedule.err().map(|diagnostics| diagnostics[0].code)
    };
    assert_eq!(code("sgd: rate 1/4, epochs: 2"), None);
    assert_eq!(code("sgd: rate 1/4, momentum: 0.5, epochs: 2"), Some("E0504"));
}

macro_rules! snapshots {
    ($($name:ident: $options:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(checked($options).1);
        }
    )*};
}

snapshots! {
    a_course_that_is_not_known: "sgd: rate 1/4 doubled every 2 weeks, epochs: 4";
    rates_that_are_no_multiples: "sgd: rate [1/2, 1/3], epochs: 2";
    numbers_out_of_bounds: "sgd: rate 0, momentum: 1, weight_decay: 2, clip: 0, epochs: 2";
    a_course_of_something_else: "sgd: rate 1/2, momentum: rate 0.5 halved every 2 epochs, epochs: 2";
}
