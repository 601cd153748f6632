//! Convolutions of images and their two gradients, as matrix products with unfolded images ("im2col").

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use rayon::prelude::*;

use super::{Number, matrix, matrix_mut};
use crate::graph::ConvGeometry;

/// Products of numbers that one task is worth.
const TASK: usize = 1 << 19;
/// Sums over the samples are cut into so many parts at most, whatever the machine.
const PARTS: usize = 16;

/// A tensor of each sample, or one that the batch shares.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, T> {
    data: &'a [T],
    /// Numbers of one.
    width: usize,
    shared: bool,
}

impl<'a, T> Rows<'a, T> {
    /// `[samples, width]`.
    pub fn each(data: &'a [T], width: usize) -> Self {
        Self { data, width, shared: false }
    }

    /// `[width]`.
    pub fn shared(data: &'a [T]) -> Self {
        Self { data, width: data.len(), shared: true }
    }

    pub fn row(&self, sample: usize) -> &'a [T] {
        if self.shared { self.data } else { &self.data[sample * self.width..][..self.width] }
    }
}

/// What of a geometry the loops need.
struct Unfolding<'a> {
    geometry: &'a ConvGeometry,
    /// Numbers of an image that one output reads.
    taps: usize,
    /// Positions of the result.
    outputs: usize,
    filters: usize,
}

impl<'a> Unfolding<'a> {
    fn new(geometry: &'a ConvGeometry) -> Self {
        let outputs = geometry.output().iter().product();
        Self { geometry, taps: geometry.kernel[1..].iter().product(), outputs, filters: geometry.kernel[0] }
    }

    fn image(&self) -> usize {
        self.geometry.image.iter().product()
    }

    /// Samples for one task.
    fn samples(&self) -> usize {
        (TASK / (self.taps * self.outputs * self.filters).max(1)).max(1)
    }

    fn columns<T: Number>(&self) -> Vec<T> {
        vec![T::zero(); self.taps * self.outputs]
    }

    /// Calls `f(positions in columns, first position in the image)` for each line of outputs whose taps lie inside; along
    /// it the image's positions grow by the stride.
    fn for_each_line(&self, mut f: impl FnMut(Range<usize>, usize)) {
        let geometry = self.geometry;
        let [channels, height, width] = geometry.image;
        let [_, _, rows, columns] = geometry.kernel;
        let [out_height, out_width] = geometry.output();
        let inside = |tap: usize, pad: usize, size: usize, outputs: usize| {
            let first = pad.saturating_sub(tap).div_ceil(geometry.stride);
            let end = (size + pad).saturating_sub(tap).div_ceil(geometry.stride).min(outputs);
            first..end.max(first)
        };
        for c in 0..channels {
            for u in 0..rows {
                for v in 0..columns {
                    let tap = (c * rows + u) * columns + v;
                    let along = inside(v, geometry.pad[2], width, out_width);
                    if along.is_empty() {
                        continue;
                    }
                    let x = along.start * geometry.stride + v - geometry.pad[2];
                    for r in inside(u, geometry.pad[0], height, out_height) {
                        let y = r * geometry.stride + u - geometry.pad[0];
                        let at = tap * self.outputs + r * out_width;
                        f(at + along.start..at + along.end, (c * height + y) * width + x);
                    }
                }
            }
        }
    }

    /// `[taps, outputs]`: a convolution is the kernel times this. What lies outside the image is left as it is: zero.
    fn unfold<T: Number>(&self, image: &[T], columns: &mut [T]) {
        let stride = self.geometry.stride;
        self.for_each_line(|to, from| {
            let to = &mut columns[to];
            if stride == 1 {
                to.copy_from_slice(&image[from..][..to.len()]);
            } else {
                to.iter_mut().zip(image[from..].iter().step_by(stride)).for_each(|(to, &v)| *to = v);
            }
        });
    }

    /// The adjoint of [`Self::unfold`].
    fn fold_onto<T: Number>(&self, image: &mut [T], columns: &[T]) {
        let stride = self.geometry.stride;
        self.for_each_line(|from, to| {
            let own = image[to..].iter_mut().step_by(stride);
            own.zip(&columns[from]).for_each(|(own, &v)| *own = *own + v);
        });
    }
}

/// `[samples, o, h', w']` of images `[c, h, w]` and kernels `[o, c, kh, kw]`.
pub(crate) fn forward<T: Number>(
    geometry: &ConvGeometry,
    samples: usize,
    images: Rows<'_, T>,
    kernels: Rows<'_, T>,
) -> Vec<T> {
    let own = Unfolding::new(geometry);
    let width = own.filters * own.outputs;
    let mut result = vec![T::zero(); samples * width];
    each_task(&mut result, width, own.samples(), |first, out| {
        let mut columns = own.columns();
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            own.unfold(images.row(first + i), &mut columns);
            let kernel = matrix(kernels.row(first + i), own.filters, own.taps);
            let columns = matrix(&columns, own.taps, own.outputs);
            let mut out = matrix_mut(out, own.filters, own.outputs);
            general_mat_mul(T::one(), &kernel, &columns, T::zero(), &mut out);
        }
    });
    result
}

/// `[samples, c, h, w]`: the gradient for the images, of the results' gradients and the kernels.
pub(crate) fn image_gradient<T: Number>(
    geometry: &ConvGeometry,
    samples: usize,
    gradients: Rows<'_, T>,
    kernels: Rows<'_, T>,
) -> Vec<T> {
    let own = Unfolding::new(geometry);
    let width = own.image();
    let mut result = vec![T::zero(); samples * width];
    each_task(&mut result, width, own.samples(), |first, out| {
        let mut columns = own.columns();
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            let kernel = matrix(kernels.row(first + i), own.filters, own.taps);
            let gradient = matrix(gradients.row(first + i), own.filters, own.outputs);
            let mut product = matrix_mut(&mut columns, own.taps, own.outputs);
            general_mat_mul(T::one(), &kernel.t(), &gradient, T::zero(), &mut product);
            own.fold_onto(out, &columns);
        }
    });
    result
}

/// The gradients for the kernels, of the images and the results' gradients: `[samples, o, c, kh, kw]`, or where `summed` the
/// sum over the samples.
pub(crate) fn kernel_gradient<T: Number>(
    geometry: &ConvGeometry,
    samples: usize,
    images: Rows<'_, T>,
    gradients: Rows<'_, T>,
    summed: bool,
) -> Vec<T> {
    let own = Unfolding::new(geometry);
    let width = own.filters * own.taps;
    let add = |sample: usize, columns: &mut [T], out: &mut [T]| {
        own.unfold(images.row(sample), columns);
        let columns = matrix(columns, own.taps, own.outputs);
        let gradient = matrix(gradients.row(sample), own.filters, own.outputs);
        let mut out = matrix_mut(out, own.filters, own.taps);
        general_mat_mul(T::one(), &gradient, &columns.t(), T::one(), &mut out);
    };
    if !summed {
        let mut result = vec![T::zero(); samples * width];
        each_task(&mut result, width, own.samples(), |first, out| {
            let mut columns = own.columns();
            out.chunks_exact_mut(width).enumerate().for_each(|(i, out)| add(first + i, &mut columns, out));
        });
        return result;
    }
    let each = own.samples().max(samples.div_ceil(PARTS));
    let parts: Vec<Vec<T>> = (0..samples.div_ceil(each))
        .into_par_iter()
        .map(|part| {
            let (mut columns, mut sum) = (own.columns(), vec![T::zero(); width]);
            let end = samples.min((part + 1) * each);
            (part * each..end).for_each(|sample| add(sample, &mut columns, &mut sum));
            sum
        })
        .collect();
    let mut sum = vec![T::zero(); width];
    for part in parts {
        sum.iter_mut().zip(part).for_each(|(sum, v)| *sum = *sum + v);
    }
    sum
}

/// Calls `f(first row, rows)` for every so many rows of `out`.
fn each_task<T: Number>(out: &mut [T], width: usize, rows: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    if width > 0 {
        out.par_chunks_mut(rows * width).enumerate().for_each(|(task, out)| f(task * rows, out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Calls `f(output, tap, position in the image)` by the definition.
    fn definition(geometry: &ConvGeometry, mut f: impl FnMut(usize, usize, usize)) {
        let [channels, height, width] = geometry.image;
        let [_, _, rows, columns] = geometry.kernel;
        let [out_height, out_width] = geometry.output();
        for (r, s) in (0..out_height).flat_map(|r| (0..out_width).map(move |s| (r, s))) {
            for c in 0..channels {
                for (u, v) in (0..rows).flat_map(|u| (0..columns).map(move |v| (u, v))) {
                    let y = (r * geometry.stride + u) as isize - geometry.pad[0] as isize;
                    let x = (s * geometry.stride + v) as isize - geometry.pad[2] as isize;
                    if (0..height as isize).contains(&y) && (0..width as isize).contains(&x) {
                        let at = (c * height + y as usize) * width + x as usize;
                        f(r * out_width + s, (c * rows + u) * columns + v, at);
                    }
                }
            }
        }
    }

    fn numbers(count: usize, seed: f64) -> Vec<f64> {
        (0..count).map(|i| ((i + 1) as f64 * seed).sin()).collect()
    }

    fn assert_close(got: &[f64], expected: &[f64]) -> Result<(), TestCaseError> {
        prop_assert_eq!(got.len(), expected.len());
        for (g, e) in got.iter().zip(expected) {
            prop_assert!((g - e).abs() < 1e-9, "{} against {}", g, e);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn convolutions_and_their_gradients_follow_their_definition(
            (channels, filters, kernel, stride) in (1usize..3, 1usize..4, [1usize..4, 1usize..4], 1usize..4),
            (extra, pad) in ([0usize..5, 0usize..5], [0usize..3, 0usize..3, 0usize..3, 0usize..3]),
            samples in 1usize..4,
        ) {
            let geometry = ConvGeometry {
                image: [channels, kernel[0] + extra[0], kernel[1] + extra[1]],
                kernel: [filters, channels, kernel[0], kernel[1]],
                stride,
                pad,
            };
            let own = Unfolding::new(&geometry);
            let (image, result, taps) = (own.image(), filters * own.outputs, own.taps);
            let images = numbers(samples * image, 1.7);
            let kernels = numbers(filters * taps, 0.9);
            let gradients = numbers(samples * result, 2.3);
            let mut expected = [vec![0.0; samples * result], vec![0.0; samples * image], vec![0.0; filters * taps]];
            for sample in 0..samples {
                for filter in 0..filters {
                    definition(&geometry, |output, tap, at| {
                        let at = sample * image + at;
                        let (out, k) = ((sample * filters + filter) * own.outputs + output, filter * taps + tap);
                        expected[0][out] += images[at] * kernels[k];
                        expected[1][at] += gradients[out] * kernels[k];
                        expected[2][k] += images[at] * gradients[out];
                    });
                }
            }
            let (x, g) = (Rows::each(&images, image), Rows::each(&gradients, result));
            assert_close(&forward(&geometry, samples, x, Rows::shared(&kernels)), &expected[0])?;
            assert_close(&image_gradient(&geometry, samples, g, Rows::shared(&kernels)), &expected[1])?;
            assert_close(&kernel_gradient(&geometry, samples, x, g, true), &expected[2])?;
            let each = kernel_gradient(&geometry, samples, x, g, false);
            let mut sum = vec![0.0; filters * taps];
            each.chunks(filters * taps).for_each(|k| sum.iter_mut().zip(k).for_each(|(s, v)| *s += v));
            assert_close(&sum, &expected[2])?;
        }
    }
}
