//! The samples of one split, scaled when a batch is drawn.

use std::ops::Range;
use std::sync::Arc;

use super::labels::Labels;
use super::scale::Scaler;
use super::values::Values;

/// Samples of one split.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// How many.
    pub len: usize,
    pub labels: Labels,
    values: Values,
    scaler: Arc<Scaler>,
}

impl Samples {
    /// `values` are `[len, features of the scaler]`, not scaled yet.
    pub(super) fn new(len: usize, values: Values, labels: Labels, scaler: Arc<Scaler>) -> Self {
        Self { len, labels, values, scaler }
    }

    /// The same labels with other features, `[len, width]`, that need no scaling.
    pub fn with_features(&self, features: Vec<f32>, width: usize) -> Self {
        let scaler = Arc::new(Scaler::identity(width));
        Self { len: self.len, labels: self.labels.clone(), values: Values::Numbers(features), scaler }
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Numbers of one sample.
    pub fn width(&self) -> usize {
        self.scaler.offset.len()
    }

    /// Scaled features `[rows.len(), width]` of samples that follow each other, below [`Samples::len`].
    pub fn features(&self, rows: Range<usize>) -> Vec<f32> {
        let mut features = Vec::with_capacity(rows.len() * self.width());
        rows.for_each(|row| self.values.scale_row(row, &self.scaler, &mut features));
        features
    }

    /// Scaled features `[rows.len(), width]` and labels `[rows.len(), outputs]` of some samples, in the order of `rows`.
    ///
    /// Labels are one-hot; with one output, the index of the class (1 is the positive one), or the scaled target.
    pub fn gather(&self, rows: &[u32], outputs: usize) -> (Vec<f32>, Vec<f32>) {
        let mut features = Vec::with_capacity(rows.len() * self.width());
        let mut labels = Vec::with_capacity(rows.len() * outputs);
        for &row in rows {
            self.values.scale_row(row as usize, &self.scaler, &mut features);
            self.labels.push(row as usize, outputs, &mut labels);
        }
        (features, labels)
    }

    /// Least and greatest scaled feature; the empty interval if there are no samples.
    pub(super) fn range(&self) -> (f64, f64) {
        let mut row = Vec::with_capacity(self.width());
        let mut range = (f64::INFINITY, f64::NEG_INFINITY);
        for index in 0..self.len {
            row.clear();
            self.values.scale_row(index, &self.scaler, &mut row);
            for &x in &row {
                range = (range.0.min(f64::from(x)), range.1.max(f64::from(x)));
            }
        }
        range
    }
}
