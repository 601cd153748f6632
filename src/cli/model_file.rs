//! `--out`: the trained weights, and what new samples need before the model can be asked about them.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::data::{Dataset, Scaler};
use crate::graph::unstack;
use crate::plan::compile::Training;
use crate::run::train::Outcome;
use crate::typeck::TrainTask;

#[derive(Serialize)]
struct ModelFile<'a> {
    /// Of this format.
    version: u32,
    model: &'a str,
    /// Steps that made these weights.
    steps: usize,
    classes: &'a [String],
    scaler: &'a Scaler,
    parameters: Vec<Parameter<'a>>,
}

#[derive(Serialize)]
struct Parameter<'a> {
    name: &'a str,
    shape: Vec<usize>,
    /// Row-major.
    values: &'a [f32],
}

/// Whether a file can be written there: asked before hours of training, not after.
///
/// # Errors
/// What the operating system says against it; or it is the program itself, or one of the files or folders of its `data`.
pub fn check(path: &Path, program: &Path, data: &[PathBuf]) -> io::Result<()> {
    let refused = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    if let Ok(own) = path.canonicalize() {
        if program.canonicalize().is_ok_and(|program| own == program) {
            return refused("this is the program itself");
        }
        // What is there already; a new file beside the data is nobody's loss.
        if data.iter().filter_map(|data| data.canonicalize().ok()).any(|data| own.starts_with(data)) {
            return refused("this is data of the program");
        }
    }
    match std::fs::metadata(path) {
        Ok(own) if own.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(own) if !own.is_file() => return Ok(()),
        _ => {}
    }
    let temporary = hidden(path)?;
    std::fs::File::create(&temporary)?;
    std::fs::remove_file(&temporary)
}

/// A file beside it that listings do not show.
fn hidden(path: &Path) -> io::Result<std::path::PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    name.push(format!(".{}", std::process::id()));
    Ok(path.with_file_name(name))
}

/// Writes a new file first, so that an old one is whole until the new one is. Frozen weights stand in it too: a model is
/// whole with them only.
pub fn write(
    path: &Path,
    task: &TrainTask,
    training: &Training,
    outcome: &Outcome,
    data: &Dataset,
) -> io::Result<()> {
    let frozen = task.frozen.iter().map(|tensor| Parameter {
        name: &tensor.name,
        shape: tensor.shape.clone(),
        values: &tensor.values,
    });
    let trained = training
        .forward
        .params()
        .iter()
        .zip(&outcome.params)
        .flat_map(|(info, values)| unstack(info, values))
        .map(|(name, shape, values)| Parameter { name, shape, values });
    let parameters = frozen.chain(trained).collect();
    let file = ModelFile {
        version: 1,
        model: &training.model,
        steps: outcome.done.steps,
        classes: &data.classes,
        scaler: &data.scaler,
        parameters,
    };
    let mut text = serde_json::to_vec_pretty(&file)?;
    text.push(b'\n');
    if std::fs::metadata(path).is_ok_and(|own| !own.is_file()) {
        // A pipe or a device is written to, never replaced.
        return std::fs::OpenOptions::new().write(true).open(path)?.write_all(&text);
    }
    let temporary = hidden(path)?;
    let written = std::fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
