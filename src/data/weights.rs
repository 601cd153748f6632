//! Weights from a file that `--out` has written: JSON with names, shapes and values.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;

use super::problem::nearest_file;
use crate::diagnostics::Diagnostic;
use crate::graph::{MAX_ELEMENTS, show_shape};
use crate::typeck::data_spec::{Spanned, WeightTensor, Weights};

/// Bytes of a file: every value takes a dozen.
const MAX_BYTES: u64 = 4 << 30;
/// The newest version of the format that is understood.
const VERSION: u32 = 1;

#[derive(Deserialize)]
struct ModelFile {
    version: u32,
    parameters: Vec<Parameter>,
}

#[derive(Deserialize)]
struct Parameter {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// Reads weights; `written` is their path as the program has it.
///
/// # Errors
/// E0223, with the file, what is wrong in it, and how to mend it.
pub fn read(path: &Path, written: &Spanned<String>) -> Result<Weights, Diagnostic> {
    let problem = |message: String, help: String| {
        Diagnostic::error("E0223", format!("\"{}\": {message}", written.value))
            .label(written.span, format!("looked for {}", path.display()))
            .help(help)
    };
    let usual = || "give a file that `hesn run --out FILE` has written".to_owned();
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => {
            let help = match nearest_file(path) {
                Some(near) => {
                    format!("did you mean \"{}\"?", Path::new(&written.value).with_file_name(near).display())
                }
                None => "paths start at the folder of the program; `hesn run --out FILE` writes such a file"
                    .into(),
            };
            problem("there is no such file".into(), help)
        }
        _ => problem(format!("it cannot be read: {error}"), "check the file and its permissions".into()),
    };
    let mut text = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(problem(format!("it has more than {} GiB", MAX_BYTES >> 30), usual()));
    }
    let model: ModelFile = serde_json::from_slice(&text)
        .map_err(|error| problem(format!("it is no file of weights: {error}"), usual()))?;
    if model.version > VERSION {
        let message = format!("its format has version {}, this program reads {VERSION}", model.version);
        return Err(problem(message, "use the version of hesn that wrote it, or a newer one".into()));
    }
    let tensors = model.parameters.into_iter().map(|Parameter { name, shape, values }| {
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MAX_ELEMENTS);
        if count != Some(values.len()) {
            let (count, shape) = (values.len(), show_shape(&shape));
            return Err(problem(
                format!("`{name}` has {count} values, which do not fill its shape {shape}"),
                usual(),
            ));
        }
        if values.iter().any(|value| !value.is_finite()) {
            let help = "train again with a smaller rate: the weights have left the numbers that f32 holds";
            return Err(problem(format!("`{name}` has values that are no finite numbers"), help.into()));
        }
        Ok(WeightTensor { name, shape, values: values.into() })
    });
    Ok(Weights { tensors: tensors.collect::<Result<_, _>>()? })
}
