//! Sums of products against their definition, and runs on any number of threads.

use std::num::Wrapping;

use proptest::prelude::*;

use super::super::Unwatched;
use super::*;
use crate::diagnostics::Sources;
use crate::graph::{ConvGeometry, NodeId};
use crate::plan::compile::{Settings, Training};
use crate::plan::lower::{Contraction, ConvPart, ProductKind};
use crate::plan::parameters::SchemeChoice;
use crate::typeck::{self, NoData, Task};

/// Calls `meet` with the elements of left, right and result for each product of a contraction.
fn contracted(own: &Contraction, mut meet: impl FnMut(usize, usize, usize)) {
    let mut loops: Vec<u8> = own.labels.concat();
    loops.sort_unstable();
    loops.dedup();
    let total: usize = loops.iter().map(|&label| own.size(label)).product();
    for flat in 0..total {
        let mut rest = flat;
        let mut index = vec![0; 256];
        for &label in &loops {
            index[usize::from(label)] = rest % own.size(label);
            rest /= own.size(label);
        }
        let at = |labels: &[u8]| labels.iter().fold(0, |at, &l| at * own.size(l) + index[usize::from(l)]);
        meet(at(&own.labels[0]), at(&own.labels[1]), at(&own.labels[2]));
    }
}

/// The same of a convolution or of one of its gradients.
fn convolved(part: ConvPart, geometry: &ConvGeometry, mut meet: impl FnMut(usize, usize, usize)) {
    let [channels, height, width] = geometry.image;
    let [outputs, _, rows, columns] = geometry.kernel;
    let [out_height, out_width] = geometry.output();
    let grid = |rows: usize, columns: usize| (0..rows).flat_map(move |r| (0..columns).map(move |c| (r, c)));
    for (o, c) in grid(outputs, channels) {
        for (u, v) in grid(rows, columns) {
            let kernel = ((o * channels + c) * rows + u) * columns + v;
            for (y, x) in grid(out_height, out_width) {
                let row = (y * geometry.stride + u).wrapping_sub(geometry.pad[0]);
                let column = (x * geometry.stride + v).wrapping_sub(geometry.pad[2]);
                if row < height && column < width {
                    let image = (c * height + row) * width + column;
                    let result = (o * out_height + y) * out_width + x;
                    match part {
                        ConvPart::Result => meet(image, kernel, result),
                        ConvPart::Image => meet(result, kernel, image),
                        ConvPart::Kernel => meet(image, result, kernel),
                    }
                }
            }
        }
    }
}

/// The definition, modulo 2^64.
fn definition(step: &ProductStep, sides: [&[i64]; 2], batch: usize) -> Vec<i64> {
    let samples = if step.side_per_sample.contains(&true) { batch } else { 1 };
    let counts = [0, 1].map(|k| if step.side_per_sample[k] { sides[k].len() / batch } else { 0 });
    let mut out = vec![0i64; step.elements * if step.per_sample() { batch } else { 1 }];
    for sample in 0..samples {
        let base = if step.per_sample() { sample * step.elements } else { 0 };
        let meet = |left: usize, right: usize, result: usize| {
            let [l, r] = [sides[0][sample * counts[0] + left], sides[1][sample * counts[1] + right]];
            out[base + result] = out[base + result].wrapping_add(l.wrapping_mul(r));
        };
        match &step.kind {
            ProductKind::Contract(own) => contracted(own, meet),
            ProductKind::Conv { part, geometry, .. } => convolved(*part, geometry, meet),
        }
    }
    out
}

/// A step, and the elements of its sides.
fn step(
    kind: ProductKind,
    counts: [usize; 3],
    side_per_sample: [bool; 2],
    batch_sum: bool,
) -> (ProductStep, [usize; 2]) {
    let step = ProductStep {
        node: NodeId::new(0),
        sides: [Source::Operand(0), Source::Operand(1)],
        kind,
        batch_sum,
        side_per_sample,
        layout: Default::default(),
        sums: Vec::new(),
        level: 0,
        amplitude: 1.0,
        elements: counts[2],
        rms: 0.0,
        noise: 0.0,
        cross_variance: [0.0; 3],
    };
    (step, [counts[0], counts[1]])
}

fn contraction() -> impl Strategy<Value = (ProductKind, [usize; 3])> {
    let labels: [[&[u8]; 3]; 6] = [
        [b"j", b"jl", b"l"],
        [b"l", b"jl", b"j"],
        [b"j", b"l", b"jl"],
        [b"kj", b"jl", b"kl"],
        [b"kj", b"kj", b"k"],
        [b"", b"j", b"j"],
    ];
    (prop::sample::select(labels.to_vec()), prop::collection::vec(1usize..20, 3)).prop_map(
        |(labels, sizes)| {
            let sizes = b"jkl".iter().copied().zip(sizes).collect();
            let own = Contraction { labels: labels.map(<[u8]>::to_vec), sizes };
            let counts = [0, 1, 2].map(|k| own.labels[k].iter().map(|&label| own.size(label)).product());
            (ProductKind::Contract(own), counts)
        },
    )
}

fn convolution() -> impl Strategy<Value = (ProductKind, [usize; 3])> {
    let part = prop::sample::select(vec![ConvPart::Result, ConvPart::Image, ConvPart::Kernel]);
    let sizes = (1usize..3, 1usize..4, 1usize..4, 1usize..4, 0usize..6);
    (part, sizes, 1usize..4, prop::array::uniform4(0usize..3)).prop_map(
        |(part, (channels, filters, rows, columns, extra), stride, pad)| {
            let geometry = ConvGeometry {
                image: [channels, rows + extra, columns + extra / 2],
                kernel: [filters, channels, rows, columns],
                stride,
                pad,
            };
            let image = geometry.image.iter().product();
            let kernel = geometry.kernel.iter().product();
            let result = filters * geometry.output().iter().product::<usize>();
            let counts = match part {
                ConvPart::Result => [image, kernel, result],
                ConvPart::Image => [result, kernel, image],
                ConvPart::Kernel => [image, result, kernel],
            };
            (ProductKind::Conv { part, geometry, phases: 1 }, counts)
        },
    )
}

proptest! {
    #[test]
    fn sums_of_products_follow_their_definition(
        (kind, counts) in prop_oneof![contraction(), convolution()],
        per_sample in prop::array::uniform2(any::<bool>()),
        batch_sum in any::<bool>(),
        batch in 1usize..6,
        seed in any::<i64>(),
    ) {
        let (step, counts) = step(kind, counts, per_sample, batch_sum);
        let side = |k: usize, bits: u32| -> Vec<i64> {
            let count = counts[k] * if per_sample[k] { batch } else { 1 };
            let number = |i: usize| (seed ^ k as i64).wrapping_add(i as i64 * 2).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64);
            (0..count).map(|i| number(i) >> (64 - bits)).collect()
        };
        // Sums below 2^53 in f64, and any modulo 2^64.
        let [left, right] = [side(0, 20), side(1, 20)];
        let expected = definition(&step, [&left, &right], batch);
        let reals = [&left, &right].map(|side| side.iter().map(|&v| v as f64).collect::<Vec<_>>());
        let sums: Vec<i64> =
            products::sums(&step, [&reals[0], &reals[1]], batch).into_iter().map(|v| v as i64).collect();
        prop_assert_eq!(sums, expected);
        let [left, right] = [side(0, 45), side(1, 45)];
        let expected = definition(&step, [&left, &right], batch);
        let whole = [&left, &right].map(|side| side.iter().map(|&v| Wrapping(v)).collect::<Vec<_>>());
        let sums: Vec<i64> =
            products::sums(&step, [&whole[0], &whole[1]], batch).into_iter().map(|v| v.0).collect();
        prop_assert_eq!(sums, expected);
    }
}

fn training(scheme: SchemeChoice) -> (Training, Vec<Vec<f32>>) {
    let text = "use std::{dense, relu, cross_entropy}\n\
                data d = csv(\"d.csv\") { label: l, scale: unit, split: 0.8, classes: 3 }\n\
                model M(x: [40]) -> [3] { x |> dense(24) |> relu |> dense(3) }\n\
                train M on d { loss: cross_entropy, sgd: rate 0.125, batch: 64, epochs: 1 }";
    let mut sources = Sources::default();
    let file = sources.add("m.hes", text);
    let checked = typeck::check(&mut sources, file, &NoData);
    assert!(!checked.has_errors(), "{:?}", checked.diagnostics);
    let task = checked.program.unwrap().tasks.into_iter().find_map(|task| match task {
        Task::Train(task) => Some(*task),
        _ => None,
    });
    let training = Training::compile(&task.unwrap(), 512, Settings { scheme, parameters: None }).unwrap();
    let initial = training.architecture.initial(&training.forward, 1);
    let schedule = training.schedule.as_ref().unwrap();
    let initial = schedule.masters.iter().map(|m| initial[m.param.0 as usize].clone()).collect();
    (training, initial)
}

/// Two steps of 64 samples.
fn trained(schedule: &Schedule, initial: &[Vec<f32>], seed: u64) -> (Vec<Vec<f32>>, Vec<Excess>) {
    let features: Vec<f32> = (0..64 * 40).map(|i| (i as f32 * 0.7).sin().abs()).collect();
    let labels: Vec<f32> = (0..64 * 3).map(|i| f32::from(u8::from(i / 3 % 3 == i % 3))).collect();
    let batch = Batch { index: 0, size: 64, features: &features, labels: &labels, arguments: None };
    let mut engine = SimulateEngine::new(schedule, initial.to_vec(), seed);
    for _ in 0..2 {
        engine.step(&batch, &Unwatched).unwrap();
    }
    (engine.parameters().unwrap(), engine.excesses().to_vec())
}

#[test]
fn a_run_is_the_same_on_any_number_of_threads() {
    for scheme in [SchemeChoice::Tfhe, SchemeChoice::Ckks] {
        let (training, initial) = training(scheme);
        let schedule = training.schedule.as_ref().unwrap();
        let on = |threads: usize, seed: u64| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| trained(schedule, &initial, seed))
        };
        let alone = on(1, 7);
        assert_eq!(on(3, 7), alone);
        assert_ne!(on(1, 8).0, alone.0, "the seed rules the noise");
        let luts: u64 = alone.1.iter().map(|excess| excess.lookups).sum();
        assert_eq!(luts, 2 * schedule.luts() as u64);
    }
}
