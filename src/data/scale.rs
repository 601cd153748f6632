//! Scaling of features and targets, fitted on the training samples alone.

use serde::{Deserialize, Serialize};

use super::values::Values;
use crate::typeck::data_spec::Scale;

/// `scaled = clamp((x − offset)·factor, low, high)` for each feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaler {
    /// As the program calls it: `standard`, `unit`, `centred`, `none`.
    pub scale: String,
    pub offset: Vec<f64>,
    /// 1 for a feature that is constant in the training samples.
    pub factor: Vec<f64>,
    /// Low and high end of every scaled feature.
    pub clip: Option<(f64, f64)>,
    /// Of a regression.
    pub target: Option<TargetScale>,
}

/// `scaled = (y − mean) / deviation`, fitted on the training samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetScale {
    pub mean: f64,
    pub deviation: f64,
}

impl Scaler {
    /// Leaves numbers as they are.
    pub(super) fn identity(width: usize) -> Self {
        Self {
            scale: "none".into(),
            offset: vec![0.0; width],
            factor: vec![1.0; width],
            clip: None,
            target: None,
        }
    }

    /// Fits `[samples, width]` numbers; `bounds` are the minimum and maximum where the format fixes them. Also gives
    /// the features that have one value in all samples.
    pub(super) fn fit(
        scale: Scale,
        values: &Values,
        width: usize,
        bounds: Option<(f32, f32)>,
    ) -> (Self, Vec<usize>) {
        match values {
            Values::Bytes(values) => Self::fit_rows(scale, values, width, bounds),
            Values::Numbers(values) => Self::fit_rows(scale, values, width, bounds),
        }
    }

    fn fit_rows<T: Copy + Into<f64>>(
        scale: Scale,
        values: &[T],
        width: usize,
        bounds: Option<(f32, f32)>,
    ) -> (Self, Vec<usize>) {
        let rows = || values.chunks_exact(width.max(1));
        let samples = rows().len().max(1) as f64;
        let mut low = vec![f64::INFINITY; width];
        let mut high = vec![f64::NEG_INFINITY; width];
        let mut mean = vec![0.0; width];
        for row in rows() {
            for (j, x) in row.iter().map(|&x| x.into()).enumerate() {
                (low[j], high[j]) = (low[j].min(x), high[j].max(x));
                mean[j] += x / samples;
            }
        }
        let mut variance = vec![0.0; width];
        for row in rows() {
            for (j, &x) in row.iter().enumerate() {
                variance[j] += (x.into() - mean[j]).powi(2) / samples;
            }
        }
        let constant: Vec<usize> = (0..width).filter(|&j| low[j] >= high[j]).collect();
        let fitted = |j: usize| {
            let (low, high) = bounds.map_or((low[j], high[j]), |(a, b)| (f64::from(a), f64::from(b)));
            let span = if high > low { high - low } else { 1.0 };
            match scale {
                Scale::None => (0.0, 1.0),
                Scale::Standard => {
                    let deviation = if constant.binary_search(&j).is_ok() { 0.0 } else { variance[j].sqrt() };
                    (mean[j], if deviation > 0.0 { deviation.recip() } else { 1.0 })
                }
                Scale::Unit => (low, span.recip()),
                Scale::Centred => (mean[j], 2.0 / span),
            }
        };
        let (offset, factor) = (0..width).map(fitted).unzip();
        let name = Scale::ALL.iter().find(|(own, _)| *own == scale).map_or("none", |(_, name)| name);
        (Self { scale: name.to_owned(), offset, factor, clip: scale.range(), target: None }, constant)
    }

    /// Scales one sample, and appends it.
    pub fn extend<T: Copy + Into<f64>>(&self, sample: &[T], to: &mut Vec<f32>) {
        let (low, high) = self.clip.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        let fitted = self.offset.iter().zip(&self.factor);
        to.extend(
            sample
                .iter()
                .zip(fitted)
                .map(|(&x, (offset, factor))| ((x.into() - offset) * factor).clamp(low, high) as f32),
        );
    }
}

impl TargetScale {
    pub(super) fn fit(targets: &[f32]) -> Self {
        let count = targets.len().max(1) as f64;
        let mean = targets.iter().map(|&y| f64::from(y)).sum::<f64>() / count;
        let variance = targets.iter().map(|&y| (f64::from(y) - mean).powi(2)).sum::<f64>() / count;
        Self { mean, deviation: if variance > 0.0 { variance.sqrt() } else { 1.0 } }
    }

    pub(super) fn apply(&self, target: f32) -> f32 {
        ((f64::from(target) - self.mean) / self.deviation) as f32
    }
}
