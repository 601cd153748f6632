//! The client's data: files become scaled arrays, split into training and test samples.
//!
//! In: the declarations of a program ([`DataSpec`]) and the folder that their paths start from. Out: a [`Dataset`],
//! or diagnostics that name file, line, column and remedy. Everything here stays on the client's side: it knows no
//! model, no ciphertext and no network, and the server's build does not contain it.
//!
//! Classes are numbered in numeric order if all labels are integers, else alphabetically (by code points); of two
//! classes the second one is the positive one, or the one that `positive:` names.

mod arrays;
pub mod batches;
mod csv;
#[cfg(test)]
mod format_tests;
mod idx;
pub mod labels;
mod npy;
mod parts;
mod png;
mod problem;
mod samples;
mod scale;
mod source;
mod split;
#[cfg(test)]
mod tests;
mod values;
mod weights;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use batches::{Batches, permutation};
pub use labels::Labels;
pub use problem::{nearest_file, thousands};
pub use samples::Samples;
pub use scale::{Scaler, TargetScale};

use crate::diagnostics::Diagnostic;
use crate::typeck::data_spec::{DataCatalog, DataFormat, DataSpec, Scale, Schema, Spanned, Subset, Weights};
use problem::Problem;
use values::Values;

/// Numbers that a data set may have in memory: 2 GiB of f32, 512 MiB of bytes.
const MAX_NUMBERS: usize = 1 << 29;
/// Numbers that one sample may have: a tensor's limit in the language.
const MAX_SAMPLE: usize = crate::graph::MAX_ELEMENTS;

/// A data declaration, read.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub name: String,
    pub train: Samples,
    pub test: Samples,
    /// Shape of one sample's features.
    pub shape: Vec<usize>,
    /// Names of the classes by their index; empty for a regression.
    pub classes: Vec<String>,
    /// How many classes there are: as declared, or as many as the labels have; `None` for a regression.
    pub class_count: Option<usize>,
    /// Names of all columns of the file; empty where the format has none.
    pub columns: Vec<String>,
    /// What was fitted on the training split: kept with the model, as new samples need the same scaling.
    pub scaler: Arc<Scaler>,
    /// What is odd but not wrong.
    pub warnings: Vec<Diagnostic>,
}

impl Dataset {
    fn schema(&self, spec: &DataSpec) -> Schema {
        Schema {
            columns: self.columns.clone(),
            features: self.shape.clone(),
            classes: self.class_count,
            train: self.train.len,
            test: self.test.len,
            range: spec.scale.value.range().or_else(|| {
                let (train, test) = (self.train.range(), self.test.range());
                Some((train.0.min(test.0), train.1.max(test.1)))
            }),
        }
    }
}

/// What a file holds before it is split and scaled.
struct Raw {
    columns: Vec<String>,
    /// Names of the features, for messages; empty where the format has none.
    names: Vec<String>,
    shape: Vec<usize>,
    rows: usize,
    /// `[rows, elements of shape]`, not scaled.
    values: Values,
    labels: labels::Column,
    /// The interval onto which `scale: unit` looks, where the format fixes it.
    bounds: Option<(f32, f32)>,
    /// How many rows train, where the format says so.
    train: Option<usize>,
}

/// Shuffles which samples are taken: part of what a seed does not change, so that runs can be compared.
const SUBSET_SEED: u64 = 0x6865_736e;

impl Raw {
    /// The same rows in a random order, those that train and those that test each for themselves where the format
    /// keeps them apart; of these, as many as are asked for.
    fn shuffled(self, spec: &DataSpec) -> Self {
        let (order, train) = match self.train {
            None => (permutation(self.rows, SUBSET_SEED), None),
            Some(train) => {
                let take = |rows: usize, count: &Option<Spanned<usize>>| {
                    let mut order = permutation(rows, SUBSET_SEED);
                    order.truncate(count.as_ref().map_or(rows, |count| count.value));
                    order
                };
                let (mut order, test) = (take(train, &spec.train), take(self.rows - train, &spec.test));
                let kept = order.len();
                order.extend(test.into_iter().map(|row| train as u32 + row));
                (order, Some(kept))
            }
        };
        let values = self.values.pick(crate::graph::elements(&self.shape), &order);
        Raw { rows: order.len(), values, labels: self.labels.pick(&order), train, ..self }
    }
}

/// Reads the data of a declaration. Relative paths start at `folder`: that of the program.
pub fn load(spec: &DataSpec, folder: &Path) -> Result<Dataset, Diagnostic> {
    let path = folder.join(&spec.path.value);
    let problem = Problem::new(spec, &path);
    let raw = match spec.format {
        DataFormat::Csv => csv::read(spec, &path, &problem)?,
        DataFormat::Idx => idx::read(spec, &path, &problem)?,
        DataFormat::Npy | DataFormat::Npz => arrays::read(spec, &path, &problem)?,
        DataFormat::Png => png::read(spec, &path, &problem)?,
    };
    let raw = if spec.subset == Subset::Shuffled { raw.shuffled(spec) } else { raw };
    let (train, test) = match raw.train {
        Some(train) => (train, raw.rows - train),
        None => split::split(spec, raw.rows, &problem)?,
    };
    let width = crate::graph::elements(&raw.shape);
    let mut warnings = Vec::new();
    let (trained, tested) = raw.values.split(train * width, test * width);
    let (mut scaler, constant) = Scaler::fit(spec.scale.value, &trained, width, raw.bounds);
    if !constant.is_empty() && spec.scale.value == Scale::Standard {
        warnings.push(problem.constant_columns(&constant, &raw.names));
    }
    let finished = labels::finish(raw.labels, spec, train, test, &problem)?;
    warnings.extend(finished.warnings);
    scaler.target = finished.target;
    let scaler = Arc::new(scaler);
    Ok(Dataset {
        name: spec.name.clone(),
        train: Samples::new(train, trained, finished.train, scaler.clone()),
        test: Samples::new(test, tested, finished.test, scaler.clone()),
        shape: raw.shape,
        classes: finished.classes,
        class_count: finished.count,
        columns: raw.columns,
        scaler,
        warnings,
    })
}

type Loaded = Result<Arc<Dataset>, Diagnostic>;

/// Reads each declaration once, for the checker and for the run.
#[derive(Debug)]
pub struct Loader {
    folder: PathBuf,
    loaded: RefCell<Vec<(DataSpec, Loaded)>>,
}

impl Loader {
    /// For a program whose file lies in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), loaded: RefCell::new(Vec::new()) }
    }

    /// For the program at `path`.
    pub fn beside(path: &Path) -> Self {
        Self::new(path.parent().unwrap_or(Path::new("")))
    }

    /// Where a path of the program leads.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    pub fn dataset(&self, spec: &DataSpec) -> Result<Arc<Dataset>, Diagnostic> {
        let known =
            self.loaded.borrow().iter().find(|(own, _)| own == spec).map(|(_, result)| result.clone());
        known.unwrap_or_else(|| {
            let result = load(spec, &self.folder).map(Arc::new);
            self.loaded.borrow_mut().push((spec.clone(), result.clone()));
            result
        })
    }

    /// Warnings about all data read so far.
    pub fn warnings(&self) -> Vec<Diagnostic> {
        let loaded = self.loaded.borrow();
        loaded
            .iter()
            .filter_map(|(_, result)| result.as_ref().ok())
            .flat_map(|d| d.warnings.clone())
            .collect()
    }
}

impl DataCatalog for Loader {
    fn schema(&self, spec: &DataSpec) -> Option<Result<Schema, Vec<Diagnostic>>> {
        Some(self.dataset(spec).map(|data| data.schema(spec)).map_err(|diagnostic| vec![diagnostic]))
    }

    fn weights(&self, path: &Spanned<String>) -> Option<Result<Weights, Vec<Diagnostic>>> {
        Some(weights::read(&self.path(&path.value), path).map_err(|diagnostic| vec![diagnostic]))
    }
}
