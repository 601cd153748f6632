//! Frozen layers at the beginning of a model: the client's side computes them in the clear, before it encrypts.

use crate::data::{Dataset, Samples};
use crate::interp::clear::predict;
use crate::interp::{Batch, EngineError};
use crate::typeck::Prefix;

/// The data as the rest of the model sees it: every sample's features are what the prefix makes of them, clamped to the
/// interval that the schedule counts on.
pub fn apply(prefix: &Prefix, data: &Dataset) -> Result<Dataset, EngineError> {
    let samples = |samples: &Samples| -> Result<Samples, EngineError> {
        let batch =
            Batch { index: 0, size: samples.len, features: &samples.features, labels: &[], arguments: None };
        let mut features = match samples.is_empty() {
            true => Vec::new(),
            false => predict(&prefix.graph, &[prefix.output], &[], &batch)?.pop().unwrap_or_default(),
        };
        let (low, high) = (prefix.range.0 as f32, prefix.range.1 as f32);
        features.iter_mut().for_each(|value| *value = value.clamp(low, high));
        Ok(Samples { len: samples.len, features, labels: samples.labels.clone() })
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
