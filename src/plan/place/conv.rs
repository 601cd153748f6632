//! Layouts of convolutions: images on a grid that is common to a network, cut into phases.
//!
//! A tensor [C, H, W] with P phases has a polynomial for each channel and each residue of row and column modulo P; it
//! holds the rows and columns of that residue at consecutive grid positions, the samples interleaved below. A result with P
//! phases reads an image with stride·P: then each tap of the kernel is a shift of whole polynomials, and taps that are
//! congruent modulo stride·P share a polynomial of the kernel. Beside its values a polynomial is zero, and the grid is wide
//! enough that shifts meet values or zeros only.

use super::super::layout::{Layout, Place};
use super::super::lower::{ConvPart, Product, ProductKind};
use super::super::schedule::PieceProduct;
use super::{NoLayout, Placed};
use crate::graph::ConvGeometry;

/// Rows or columns of a convolution.
#[derive(Clone, Copy, Debug)]
struct Axis {
    image: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    pad: usize,
    /// Phases of the result.
    phases: usize,
}

impl Axis {
    /// Rows, then columns.
    fn both(geometry: &ConvGeometry, phases: usize) -> [Self; 2] {
        [0, 1].map(|k| Self {
            image: geometry.image[1 + k],
            output: geometry.output()[k],
            kernel: geometry.kernel[2 + k],
            stride: geometry.stride,
            pad: geometry.pad[2 * k],
            phases,
        })
    }

    fn image_phases(&self) -> usize {
        self.stride * self.phases
    }

    /// Phases of the image and of the result that have elements, and classes of taps.
    fn counts(&self) -> [usize; 3] {
        let period = self.image_phases();
        [period.min(self.image), self.phases.min(self.output), period.min(self.kernel)]
    }

    /// What the first tap of a class reads for a phase of the result: a phase of the image, and how many grid positions
    /// further on.
    fn source(&self, phase: usize, class: usize) -> (usize, i64) {
        let at = (self.stride * phase + class) as i64 - self.pad as i64;
        let period = self.image_phases() as i64;
        (at.rem_euclid(period) as usize, at.div_euclid(period))
    }

    /// Grid positions that keep values and their shifts apart.
    fn room(&self) -> usize {
        let period = self.image_phases() as i64;
        let farthest = self.stride * (self.phases.min(self.output).max(1) - 1) + self.kernel - 1;
        let before = (-(self.pad as i64)).div_euclid(period);
        let behind = (farthest as i64 - self.pad as i64).div_euclid(period);
        let image = self.image.div_ceil(self.image_phases()) + (-before).max(0) as usize;
        let output = self.output.div_ceil(self.phases) + behind.max(0) as usize;
        image.max(output)
    }
}

/// Rows and columns of the grid that a convolution needs whose result has so many phases.
pub fn room(geometry: &ConvGeometry, phases: usize) -> [usize; 2] {
    Axis::both(geometry, phases).map(|axis| axis.room())
}

/// Where the images of a network stand.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    degree: usize,
    columns: usize,
    /// From one column to the next: a power of two, so that trees of automorphisms take polynomials apart.
    spacing: usize,
    /// Samples between two columns.
    samples: usize,
}

impl Grid {
    /// The grid that all convolutions among these products need; None where there are none.
    ///
    /// # Errors
    /// The ring has too few coefficients.
    pub fn of(products: &[Product], degree: usize, batch: usize) -> Result<Option<Self>, NoLayout> {
        let rooms = products.iter().filter_map(|product| match &product.kind {
            ProductKind::Conv { geometry, phases, .. } => Some(room(geometry, *phases)),
            ProductKind::Contract(_) => None,
        });
        let Some([rows, columns]) = rooms.reduce(|a, b| [a[0].max(b[0]), a[1].max(b[1])]) else {
            return Ok(None);
        };
        let needed = rows.saturating_mul(columns);
        if needed > degree {
            return Err(NoLayout::TooLarge { needed, degree });
        }
        let spacing = 1 << (degree / needed).ilog2();
        let samples = spacing.min(batch.max(1).next_power_of_two());
        Ok(Some(Self { degree, columns, spacing, samples }))
    }

    /// The exponent of a displacement.
    fn exponent(&self, row: i64, column: i64) -> u32 {
        let at = (row * self.columns as i64 + column) * self.spacing as i64;
        at.rem_euclid(2 * self.degree as i64) as u32
    }

    /// A layout with `samples` samples in each polynomial; with `sign` −1 mirrored (X → X^(−1)).
    fn layout(&self, pieces: usize, places: Vec<Place>, sign: i64, samples: usize) -> Layout {
        let stride = if samples > 1 { sign * (self.spacing / samples) as i64 } else { 0 };
        Layout { pieces, places, sample_stride: stride.rem_euclid(2 * self.degree as i64) as u32, samples }
    }

    /// Places of a tensor [channels, height, width].
    fn image(&self, shape: [usize; 3], phases: usize, sign: i64, samples: usize) -> Layout {
        let [channels, height, width] = shape;
        let [rows, columns] = [height, width].map(|size| phases.min(size));
        let place = |channel: usize, row: usize, column: usize| Place {
            piece: ((channel * rows + row % phases) * columns + column % phases) as u32,
            exponent: self.exponent(sign * (row / phases) as i64, sign * (column / phases) as i64),
        };
        let places = (0..channels)
            .flat_map(|c| (0..height).flat_map(move |y| (0..width).map(move |x| (c, y, x))))
            .map(|(c, y, x)| place(c, y, x))
            .collect();
        self.layout(channels * rows * columns, places, sign, samples)
    }

    /// Places of a kernel, whose taps are shared by `classes` of rows and columns.
    fn kernel(&self, shape: [usize; 4], classes: [usize; 2], sign: i64) -> Layout {
        let [outputs, channels, height, width] = shape;
        let [rows, columns] = classes;
        let place = |plane: usize, u: usize, v: usize| Place {
            piece: ((plane * rows + u % rows) * columns + v % columns) as u32,
            exponent: self.exponent(sign * (u / rows) as i64, sign * (v / columns) as i64),
        };
        let planes = outputs * channels;
        let places = (0..planes)
            .flat_map(|plane| (0..height).flat_map(move |u| (0..width).map(move |v| (plane, u, v))))
            .map(|(plane, u, v)| place(plane, u, v))
            .collect();
        self.layout(planes * rows * columns, places, sign, 1)
    }

    /// Layouts of a convolution or of one of its gradients, both sides of which are leaves.
    pub fn place(&self, product: &Product, part: ConvPart, geometry: &ConvGeometry, phases: usize) -> Placed {
        let axes = Axis::both(geometry, phases);
        let [rows, columns] = axes.map(|axis| axis.counts());
        // Samples meet each other unless one side is shared or the sum over them is wanted.
        let apart = match part {
            ConvPart::Result | ConvPart::Image => product.side_per_sample == [true, false],
            ConvPart::Kernel => product.batch_sum && product.side_per_sample == [true, true],
        };
        let samples = if apart { self.samples } else { 1 };
        let side = |k: usize| if product.side_per_sample[k] { samples } else { 1 };
        let own = if product.per_sample() { samples } else { 1 };
        let period = geometry.stride * phases;
        let [height, width] = geometry.output();
        let image = |samples| self.image(geometry.image, period, 1, samples);
        let output = |sign, samples| self.image([geometry.kernel[0], height, width], phases, sign, samples);
        let kernel = |sign| self.kernel(geometry.kernel, [rows[2], columns[2]], sign);
        let (sides, result) = match part {
            ConvPart::Result => ([image(side(0)), kernel(-1)], output(1, own)),
            ConvPart::Image => ([output(1, side(0)), kernel(1)], image(own)),
            ConvPart::Kernel => ([image(side(0)), output(-1, side(1))], kernel(1)),
        };
        let mut sums = vec![Vec::new(); result.pieces];
        let [outputs, channels, ..] = geometry.kernel;
        let pairs =
            |counts: [usize; 2]| (0..counts[0]).flat_map(move |a| (0..counts[1]).map(move |b| (a, b)));
        for (o, c) in pairs([outputs, channels]) {
            for (qr, qc) in pairs([rows[1], columns[1]]) {
                for (ur, uc) in pairs([rows[2], columns[2]]) {
                    let ((pr, dr), (pc, dc)) = (axes[0].source(qr, ur), axes[1].source(qc, uc));
                    if pr >= rows[0] || pc >= columns[0] {
                        continue;
                    }
                    let image = ((c * rows[0] + pr) * columns[0] + pc) as u32;
                    let output = ((o * rows[1] + qr) * columns[1] + qc) as u32;
                    let kernel = (((o * channels + c) * rows[2] + ur) * columns[2] + uc) as u32;
                    let (to, left, right, sign) = match part {
                        ConvPart::Result => (output, image, kernel, -1),
                        ConvPart::Image => (image, output, kernel, 1),
                        ConvPart::Kernel => (kernel, image, output, -1),
                    };
                    let shift = self.exponent(sign * dr, sign * dc);
                    sums[to as usize].push(PieceProduct { left, right, shift });
                }
            }
        }
        Placed { sides, result, sums, inner: [None, None] }
    }
}

#[cfg(test)]
#[path = "conv_tests.rs"]
mod tests;
