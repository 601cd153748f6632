//! Frozen layers at the beginning of a model: the client's side computes them in the clear, before it encrypts.

use crate::data::{Dataset, Samples};
use crate::interp::clear::predict;
use crate::interp::{Batch, EngineError};
use crate::typeck::Prefix;

/// Samples that go through a prefix at a time.
const ROWS: usize = 1024;

/// The data as the rest of the model sees it: every sample's features are what the prefix makes of them, clamped to the
/// interval that the schedule counts on.
pub fn apply(prefix: &Prefix, data: &Dataset) -> Result<Dataset, EngineError> {
    let samples = |samples: &Samples| -> Result<Samples, EngineError> {
        let (low, high) = (prefix.range.0 as f32, prefix.range.1 as f32);
        let mut all = Vec::new();
        for first in (0..samples.len).step_by(ROWS) {
            let rows = first..samples.len.min(first + ROWS);
            let size = rows.len();
            let features = samples.features(rows);
            let batch = Batch { index: 0, size, features: &features, labels: &[], arguments: None };
            let features = predict(&prefix.graph, &[prefix.output], &[], &batch)?.pop().unwrap_or_default();
            all.extend(features.into_iter().map(|value| value.clamp(low, high)));
        }
        Ok(samples.with_features(all, prefix.graph.node(prefix.output).elements()))
    };
    Ok(Dataset {
        name: data.name.clone(),
        train: samples(&data.train)?,
        test: samples(&data.test)?,
        shape: prefix.graph.node(prefix.output).shape.clone(),
        classes: data.classes.clone(),
        class_count: data.class_count,
        columns: data.columns.clone(),
        scaler: data.scaler.clone(),
        warnings: Vec::new(),
    })
}
