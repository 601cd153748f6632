//! Given weights: parameters that start from a file, and those that are frozen, public constants of the graph.

use std::sync::Arc;

use super::data_spec::{WeightTensor, Weights};
use super::elaborate::{Elaborator, Evaluated, Reported};
use super::program::Prefix;
use super::ranges::{self, RangeOptions};
use super::value::Value;
use crate::diagnostics::{Diagnostic, Span, suggest};
use crate::graph::{Init, NodeId, ParamInfo, Split, elements, show_shape};

/// Where the values of parameters come from.
#[derive(Clone, Debug)]
pub enum GivenWeights {
    /// From nowhere: `train` has no `init:`.
    None,
    /// A file, at this place of the program, with these weights.
    File { path: String, span: Span, weights: Arc<Weights> },
    /// Nothing is known of them, and nothing is run: any values will do.
    Unseen,
}

impl<'a> Elaborator<'a, '_> {
    /// A parameter as a public constant: with the values of the file, or those that it declares if they are all the same.
    pub fn frozen_param(&mut self, info: ParamInfo, span: Span) -> Evaluated<'a> {
        let count = elements(&info.shape);
        let values: Arc<[f32]> = match (self.find_given(&info, span, true)?, &info.init) {
            (Some(values), _) => values,
            (None, Init::Constant(value)) => vec![*value as f32; count].into(),
            (None, _) if matches!(self.given, GivenWeights::Unseen) => stand_in(count, info.fan_in),
            (None, _) => return Err(self.lacks_values(&info, span)),
        };
        let origin = self.origin(span);
        let numbers = values.iter().map(|&v| f64::from(v)).collect();
        let node = match values.first() {
            Some(&first) if values.iter().all(|&v| v == first) => {
                self.graph.constant(f64::from(first), &info.shape, &origin)
            }
            _ => self.graph.constant_tensor(numbers, &info.shape, &origin),
        };
        self.frozen_weights.push(WeightTensor { name: info.name, shape: info.shape, values });
        self.built(node, span).map(Value::Tensor)
    }

    /// A parameter that starts from the file, if the file has it.
    pub fn with_given(&mut self, info: ParamInfo, span: Span) -> ParamInfo {
        match self.find_given(&info, span, false) {
            Ok(Some(values)) => ParamInfo { init: Init::Given(values), ..info },
            _ => info,
        }
    }

    /// The values that the file has for a parameter. One of another shape is an error if it is frozen; else it starts as
    /// it declares, with a warning.
    fn find_given(
        &mut self,
        info: &ParamInfo,
        span: Span,
        frozen: bool,
    ) -> Result<Option<Arc<[f32]>>, Reported> {
        let GivenWeights::File { path, span: file, weights } = self.given.clone() else { return Ok(None) };
        let Some(found) = weights.tensors.iter().find(|tensor| tensor.name == info.name) else {
            return Ok(None);
        };
        if found.shape == info.shape {
            return Ok(Some(Arc::clone(&found.values)));
        }
        let (own, other) = (show_shape(&info.shape), show_shape(&found.shape));
        let message = format!("`{}` has the shape {own}, but {other} in \"{path}\"", info.name);
        let mut diagnostic = self
            .diagnostic(span, "E0222", message, format!("declared with {own} here"))
            .label(file, "starts from these weights");
        if frozen {
            let help = "give the layer the sizes of the model that made the file";
            return Err(self.report(diagnostic.help(help)));
        }
        diagnostic.code = "W0201";
        diagnostic.severity = crate::diagnostics::Severity::Warning;
        self.report(diagnostic.help(
            "it starts as its layer says; if that is meant, a layer of another name around it keeps the names apart",
        ));
        Ok(None)
    }

    fn lacks_values(&mut self, info: &ParamInfo, span: Span) -> Reported {
        let name = &info.name;
        let (message, file, help) = match self.given.clone() {
            GivenWeights::File { path, span: file, weights } => {
                let names = || weights.tensors.iter().map(|tensor| tensor.name.as_str());
                let help = match suggest(name, names()) {
                    Some(near) => format!("did you mean the layer of `{near}`?"),
                    None => format!("the file has {}", names().take(12).collect::<Vec<_>>().join(", ")),
                };
                (format!("\"{path}\" has no weights for the frozen `{name}`"), Some(file), help)
            }
            _ => {
                let help =
                    "add `init: \"weights.json\"` to `train`: a file that `hesn run --out` has written";
                (format!("the frozen `{name}` has no weights"), None, help.to_owned())
            }
        };
        let mut error =
            self.diagnostic(span, "E0222", message, "frozen: never trained, so its values must be given");
        if let Some(file) = file {
            error = error.label(file, "not in this file");
        }
        self.report(error.help(help))
    }
}

/// Values of the size that trained weights have, for a program whose files cannot be seen.
fn stand_in(count: usize, fan_in: usize) -> Arc<[f32]> {
    let deviation = (2.0 / fan_in.max(1) as f32).sqrt();
    // Golden-ratio steps spread evenly over an interval of that deviation.
    let at = |i: usize| ((i as f32 + 0.5) * 0.618_034).fract() * 2.0 - 1.0;
    (0..count).map(|i| at(i) * 3f32.sqrt() * deviation).collect()
}

/// A frozen prefix with the range and the nominal size of what it gives.
///
/// # Errors
/// What the ranges of its tables say.
pub fn prefix(split: &Split, input: Option<(f64, f64)>) -> Result<(Prefix, f64), Vec<Diagnostic>> {
    let output = split.prefix_output;
    let options = RangeOptions {
        input,
        input_rms: ranges::nominal_rms(input),
        sized_input: true,
        ..RangeOptions::default()
    };
    let ranges = ranges::solve(&split.prefix, &[output], &options)?;
    let (range, rms) = ranges.expected(output);
    let prefix = Prefix { graph: split.prefix.clone(), input: split.prefix_input, output, range };
    Ok((prefix, rms))
}

/// What a task keeps of a graph that was cut: input, label, result and loss.
pub fn moved(split: &Split) -> Option<[NodeId; 3]> {
    <[NodeId; 3]>::try_from(split.outputs.clone()).ok()
}
