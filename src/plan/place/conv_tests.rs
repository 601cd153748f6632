use super::*;
use crate::graph::{Constant, NodeId};
use crate::plan::form::Form;
use crate::plan::lower::Side;
use crate::plan::schedule::{ProductStep, Source};

const DEGREE: usize = 1024;

fn product(part: ConvPart, geometry: &ConvGeometry, phases: usize) -> Product {
    let leaf = || Side::Leaf(Form::constant(Constant::Uniform(0.0), &[]));
    Product {
        node: NodeId::default(),
        sides: [leaf(), leaf()],
        kind: ProductKind::Conv { part, geometry: geometry.clone(), phases },
        batch_sum: part == ConvPart::Kernel,
        side_per_sample: match part {
            ConvPart::Kernel => [true, true],
            _ => [true, false],
        },
    }
}

fn values(rows: usize, elements: usize, seed: i64) -> Vec<Vec<i64>> {
    let value =
        |r: usize, e: usize| (seed * 31 + (r * 17) as i64 + (e * 7) as i64 + (e / 5) as i64) % 23 - 11;
    (0..rows).map(|r| (0..elements).map(|e| value(r, e)).collect()).collect()
}

/// The polynomials of a batch.
fn polynomials(layout: &Layout, values: &[Vec<i64>]) -> Vec<Vec<i64>> {
    let mut out = vec![vec![0; DEGREE]; layout.polynomials(values.len())];
    for (sample, row) in values.iter().enumerate() {
        for (element, &value) in row.iter().enumerate() {
            let at = layout.position(DEGREE, sample, element);
            out[at.polynomial][at.coefficient] += at.sign * value;
        }
    }
    out
}

/// The result's polynomials, as the sums of a placement say.
fn multiplied(own: &Product, placed: &Placed, sides: [&[Vec<i64>]; 2], batch: usize) -> Vec<Vec<i64>> {
    let polynomials = [0, 1].map(|k| polynomials(&placed.sides[k], sides[k]));
    let step = ProductStep {
        node: own.node,
        sides: [Source::Operand(0), Source::Operand(1)],
        kind: own.kind.clone(),
        batch_sum: own.batch_sum,
        side_per_sample: own.side_per_sample,
        layout: placed.result.clone(),
        sums: placed.sums.clone(),
        level: 0,
        amplitude: 1.0,
        elements: placed.result.elements(),
        rms: 1.0,
        noise: 0.0,
        cross_variance: [0.0; 3],
    };
    let add = |out: &mut Vec<i64>, a: &[i64], b: &[i64], shift: usize| {
        for (i, &x) in a.iter().enumerate().filter(|(_, x)| **x != 0) {
            for (j, &y) in b.iter().enumerate().filter(|(_, y)| **y != 0) {
                let at = (i + j + shift) % (2 * DEGREE);
                if at < DEGREE { out[at] += x * y } else { out[at - DEGREE] -= x * y }
            }
        }
    };
    let sum = |pairs: &Vec<crate::plan::schedule::Pair>| {
        let mut out = vec![0; DEGREE];
        for pair in pairs {
            add(&mut out, &polynomials[0][pair.left], &polynomials[1][pair.right], pair.shift as usize);
        }
        out
    };
    step.pairs([&placed.sides[0], &placed.sides[1]], batch).iter().map(sum).collect()
}

fn read(layout: &Layout, polynomials: &[Vec<i64>], samples: usize) -> Vec<Vec<i64>> {
    let value = |sample: usize, element: usize| {
        let at = layout.position(DEGREE, sample, element);
        at.sign * polynomials[at.polynomial][at.coefficient]
    };
    (0..samples).map(|s| (0..layout.elements()).map(|e| value(s, e)).collect()).collect()
}

/// Calls `f` with the elements of image, kernel and result that meet in a convolution.
fn each(geometry: &ConvGeometry, mut f: impl FnMut(usize, usize, usize)) {
    let [_, height, width] = geometry.image;
    let [outputs, channels, rows, columns] = geometry.kernel;
    let [oh, ow] = geometry.output();
    for o in 0..outputs {
        for c in 0..channels {
            for (u, v) in (0..rows).flat_map(|u| (0..columns).map(move |v| (u, v))) {
                for (y, x) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
                    let (r, s) = (y * geometry.stride + u, x * geometry.stride + v);
                    let Some(r) = r.checked_sub(geometry.pad[0]).filter(|&r| r < height) else { continue };
                    let Some(s) = s.checked_sub(geometry.pad[2]).filter(|&s| s < width) else { continue };
                    f(
                        (c * height + r) * width + s,
                        ((o * channels + c) * rows + u) * columns + v,
                        (o * oh + y) * ow + x,
                    );
                }
            }
        }
    }
}

fn geometry(
    channels: usize,
    outputs: usize,
    size: [usize; 2],
    kernel: [usize; 2],
    stride: usize,
    pad: [usize; 4],
) -> ConvGeometry {
    ConvGeometry {
        image: [channels, size[0], size[1]],
        kernel: [outputs, channels, kernel[0], kernel[1]],
        stride,
        pad,
    }
}

/// All three products of a convolution on a batch give what their definitions say.
fn check(geometry: &ConvGeometry, phases: usize, batch: usize) {
    let parts = [ConvPart::Result, ConvPart::Image, ConvPart::Kernel];
    let products = parts.map(|part| product(part, geometry, phases));
    let grid = Grid::of(&products, DEGREE, batch).unwrap().unwrap();
    let count = |shape: &[usize]| shape.iter().product::<usize>();
    let [oh, ow] = geometry.output();
    let x = values(batch, count(&geometry.image), 3);
    let k = values(1, count(&geometry.kernel), 5);
    let d = values(batch, geometry.kernel[0] * oh * ow, 7);
    let mut z = vec![vec![0; geometry.kernel[0] * oh * ow]; batch];
    let mut gx = vec![vec![0; x[0].len()]; batch];
    let mut gk = vec![vec![0; k[0].len()]];
    each(geometry, |i, t, r| {
        for s in 0..batch {
            z[s][r] += x[s][i] * k[0][t];
            gx[s][i] += d[s][r] * k[0][t];
            gk[0][t] += x[s][i] * d[s][r];
        }
    });
    let sides: [[&[Vec<i64>]; 2]; 3] = [[&x, &k], [&d, &k], [&x, &d]];
    for (index, (part, expected)) in parts.into_iter().zip([z, gx, gk]).enumerate() {
        let placed = grid.place(&products[index], part, geometry, phases);
        let out = multiplied(&products[index], &placed, sides[index], batch);
        assert_eq!(read(&placed.result, &out, expected.len()), expected, "{part:?} of {geometry:?}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn results_and_gradients_follow_their_definitions(
        channels in 1usize..3, outputs in 1usize..4, height in 4usize..10, width in 4usize..10,
        rows in 1usize..6, columns in 1usize..6, stride in 1usize..4,
        pad in proptest::array::uniform4(0usize..3), phases in 1usize..4, batch in 1usize..8,
    ) {
        let kernel = [rows.min(height), columns.min(width)];
        check(&geometry(channels, outputs, [height, width], kernel, stride, pad), phases, batch);
    }
}

#[test]
fn phases_make_room_for_samples() {
    // LeNet-5: the pools want phases, so that all of its images share a grid of 8×8 positions.
    let first = geometry(1, 6, [28, 28], [5, 5], 1, [2, 2, 2, 2]);
    let second = geometry(6, 16, [14, 14], [5, 5], 1, [0; 4]);
    assert_eq!([room(&first, 4), room(&second, 2)], [[8, 8], [7, 7]]);
    assert_eq!([room(&first, 1), room(&second, 1)], [[30, 30], [14, 14]]);
    let products = [product(ConvPart::Result, &first, 4), product(ConvPart::Kernel, &second, 2)];
    let grid = Grid::of(&products, 4096, 128).unwrap().unwrap();
    let placed = grid.place(&products[0], ConvPart::Result, &first, 4);
    assert_eq!([placed.sides[0].samples, placed.sides[0].pieces, placed.result.pieces], [64, 16, 96]);
    // Taps share polynomials as far as phases allow; values stand at multiples of the samples.
    let kernel = grid.place(&products[1], ConvPart::Kernel, &second, 2).result;
    assert_eq!(kernel.pieces, 16 * 6 * 4);
    assert!(kernel.places.iter().all(|place| place.exponent % 64 == 0));
}

#[test]
fn images_that_no_phases_make_small_enough_are_refused() {
    let wide = product(ConvPart::Result, &geometry(1, 1, [64, 64], [3, 3], 1, [0; 4]), 1);
    assert_eq!(
        Grid::of(&[wide], DEGREE, 4).unwrap_err(),
        NoLayout::TooLarge { needed: 4096, degree: DEGREE }
    );
}
