//! The sums of products that a product step stands for, over plain numbers.

use std::borrow::Cow;

use crate::plan::lower::{ConvPart, ProductKind};
use crate::plan::schedule::ProductStep;

use super::super::numeric::Number;
use super::super::numeric::conv::{self, Rows};
use super::super::numeric::gemm::{Labelled, contract};

/// The axis of the samples among the labels of a contraction: no letter.
const SAMPLE: u8 = 0;

/// `sides` hold `[batch, elements]` where the side depends on the sample, else `[elements]`; so does the result.
pub fn sums<T: Number>(step: &ProductStep, sides: [&[T]; 2], batch: usize) -> Vec<T> {
    let samples = if step.side_per_sample.contains(&true) { batch } else { 1 };
    match &step.kind {
        ProductKind::Contract(own) => {
            let axes = |labels: &[u8], per_sample: bool| -> Vec<(u8, usize)> {
                let sample = per_sample.then_some((SAMPLE, samples));
                sample.into_iter().chain(labels.iter().map(|&label| (label, own.size(label)))).collect()
            };
            let [left, right] = [0, 1].map(|k| Labelled {
                data: Cow::Borrowed(sides[k]),
                axes: axes(&own.labels[k], step.side_per_sample[k]),
            });
            let out: Vec<u8> =
                axes(&own.labels[2], step.per_sample()).into_iter().map(|(label, _)| label).collect();
            contract(left, right, &out)
        }
        ProductKind::Conv { part, geometry, .. } => {
            let [left, right] = [0, 1].map(|k| match step.side_per_sample[k] {
                true => Rows::each(sides[k], sides[k].len() / samples.max(1)),
                false => Rows::shared(sides[k]),
            });
            let each = match part {
                ConvPart::Result => conv::forward(geometry, samples, left, right),
                ConvPart::Image => conv::image_gradient(geometry, samples, left, right),
                ConvPart::Kernel => {
                    let summed = step.batch_sum;
                    return conv::kernel_gradient(geometry, samples, left, right, summed);
                }
            };
            if !step.batch_sum {
                return each;
            }
            let mut sum = vec![T::zero(); step.elements];
            for row in each.chunks(step.elements.max(1)) {
                sum.iter_mut().zip(row).for_each(|(sum, &v)| *sum = *sum + v);
            }
            sum
        }
    }
}
