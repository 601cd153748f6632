//! NumPy arrays: a folder of `.npy` files or an `.npz` archive, with the features in one array and the labels in
//! another. Where names end in `_train` and `_test` (or begin with `train_` and `test_`), they say what trains.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

use super::labels::Column;
use super::npy::{self, Header};
use super::parts::{self, Part};
use super::problem::{At, Problem, counted, quote, thousands};
use super::source::{self, Fault};
use super::{Raw, split};
use crate::diagnostics::{Diagnostic, Span, suggest};
use crate::typeck::data_spec::{DataFormat, DataSpec, Outcome, Subset};

/// Names of arrays where a declaration gives none.
const FEATURES: &str = "x";
const LABELS: &str = "y";
/// Arrays that a folder or an archive may have.
const MAX_ARRAYS: usize = 10_000;

/// Where the arrays are.
enum Store {
    Folder(PathBuf),
    Archive(Box<ZipArchive<BufReader<File>>>, PathBuf),
}

impl Store {
    fn open(spec: &DataSpec, path: &Path, problem: &Problem<'_>) -> Result<Self, Diagnostic> {
        if spec.format == DataFormat::Npy {
            if path.is_file() {
                let help =
                    "`npy` reads a folder with x.npy and y.npy; an archive of arrays is read by `npz(\"…\")`";
                return Err(problem.whole("E0601", "`npy` wants a folder", "a file", help));
            }
            if !path.is_dir() {
                return Err(problem.unreadable(path, &io::ErrorKind::NotFound.into()));
            }
            return Ok(Store::Folder(path.to_owned()));
        }
        if path.is_dir() {
            let help = "`npz` reads one archive; a folder of arrays is read by `npy(\"…\")`";
            return Err(problem.whole("E0601", "it is not a file", "a folder", help));
        }
        let file = File::open(path).map_err(|error| problem.unreadable(path, &error))?;
        let archive = ZipArchive::new(BufReader::new(file)).map_err(|error| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            source::wrong(&name, path, "NumPy archive", unzip(error), problem)
        })?;
        Ok(Store::Archive(Box::new(archive), path.to_owned()))
    }

    /// Names of the arrays, sorted.
    fn names(&self) -> Vec<String> {
        let files: Vec<String> = match self {
            Store::Folder(folder) => std::fs::read_dir(folder)
                .into_iter()
                .flatten()
                .take(MAX_ARRAYS)
                .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
                .collect(),
            Store::Archive(archive, _) => archive
                .file_names()
                .take(MAX_ARRAYS)
                .filter_map(|name| Some(name.ok()?.into_owned()))
                .collect(),
        };
        let mut names: Vec<String> =
            files.iter().filter_map(|name| Some(name.strip_suffix(".npy")?.to_owned())).collect();
        names.sort_unstable();
        names
    }

    /// Reads an array with `read`, which gets its header and what follows it.
    fn array<T>(
        &mut self,
        name: &str,
        problem: &Problem<'_>,
        read: impl FnOnce(&Header, &mut dyn Read) -> Result<T, Stop>,
    ) -> Result<T, Diagnostic> {
        let file = format!("{name}.npy");
        let (opened, path): (Result<Box<dyn Read + '_>, Fault>, _) = match self {
            Store::Folder(folder) => {
                let path = folder.join(&file);
                (source::open(&path).map_err(Fault::Io), path)
            }
            Store::Archive(archive, path) => (
                archive.by_name(&file).map(|entry| Box::new(entry) as Box<dyn Read>).map_err(unzip),
                path.clone(),
            ),
        };
        let result = opened.map_err(Stop::Fault).and_then(|mut source| {
            let header = npy::header(&mut source)?;
            read(&header, &mut source)
        });
        result.map_err(|stop| match stop {
            Stop::Fault(fault) => source::wrong(&file, &path, "NumPy array", fault, problem),
            Stop::Said(diagnostic) => *diagnostic,
        })
    }
}

fn unzip(error: ZipError) -> Fault {
    match error {
        ZipError::Io(error) => Fault::Io(error),
        error => Fault::Format(error.to_string()),
    }
}

/// Why the reading of an array ends early.
enum Stop {
    Fault(Fault),
    Said(Box<Diagnostic>),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

impl From<Diagnostic> for Stop {
    fn from(diagnostic: Diagnostic) -> Self {
        Stop::Said(Box::new(diagnostic))
    }
}

pub fn read(spec: &DataSpec, path: &Path, problem: &Problem<'_>) -> Result<Raw, Diagnostic> {
    if let Some(second) = spec.features.get(1) {
        let help = "name the one array of the features: `features: [images]`";
        return Err(problem.option("E0611", second.span, "the features are one array", "a second one", help));
    }
    let mut store = Store::open(spec, path, problem)?;
    let names = store.names();
    let features = match spec.features.first() {
        Some(name) => (name.value.as_str(), name.span),
        None => (FEATURES, spec.path.span),
    };
    let labels = match &spec.outcome {
        Outcome::Class(name) | Outcome::Number(name) => (name.value.as_str(), name.span),
        Outcome::Implied => (LABELS, spec.path.span),
    };
    let features = find(features, "features", "features: [NAME]", &names, problem)?;
    let labels = find(labels, "labels", "label: NAME", &names, problem)?;
    let mut column = Column::new(spec);
    match (features, labels) {
        (Found::Whole(x), Found::Whole(y)) => {
            let part = part(&mut store, "", [&x, &y], &mut column, spec, problem)?;
            parts::join(part, None, column, problem)
        }
        (Found::Parts(x), Found::Parts(y)) => {
            parts::no_meaning("split", spec.split.as_ref().map(|split| split.span), spec, problem)?;
            let train = part(&mut store, "train", [&x[0], &y[0]], &mut column, spec, problem)?;
            let test = part(&mut store, "test", [&x[1], &y[1]], &mut column, spec, problem)?;
            parts::join(train, Some(test), column, problem)
        }
        (Found::Parts(parts), Found::Whole(whole)) | (Found::Whole(whole), Found::Parts(parts)) => {
            let message = format!(
                "it has {} and {} for training and testing, but one {}",
                quote(&parts[0]),
                quote(&parts[1]),
                quote(&whole)
            );
            let help = "features and labels need one array each, or two: x and y, or x_train, x_test, y_train, y_test";
            Err(problem.whole("E0611", &message, "they do not fit together", help))
        }
    }
}

/// The arrays that a name stands for.
enum Found {
    Whole(String),
    /// For training and for testing.
    Parts([String; 2]),
}

fn find(
    (name, span): (&str, Span),
    what: &str,
    option: &str,
    names: &[String],
    problem: &Problem<'_>,
) -> Result<Found, Diagnostic> {
    let has = |wanted: &str| names.iter().any(|own| own == wanted);
    if has(name) {
        return Ok(Found::Whole(name.to_owned()));
    }
    let after = ["train", "test"].map(|part| format!("{name}_{part}"));
    let before = ["train", "test"].map(|part| format!("{part}_{name}"));
    for pair in [after, before] {
        if pair.iter().all(|name| has(name)) {
            return Ok(Found::Parts(pair));
        }
    }
    let message = format!("it has no array {} of the {what}", quote(name));
    let shown: Vec<String> = names.iter().take(8).map(|name| quote(name)).collect();
    // Of single letters, each is near to each.
    let near = suggest(name, names.iter().map(String::as_str)).filter(|_| name.len() > 2);
    let help = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => {
            "it has no arrays: save them with `np.savez(\"file.npz\", x=x, y=y)`".to_owned()
        }
        None => format!(
            "its arrays are {}{}: choose with `{option}`",
            shown.join(", "),
            if names.len() > shown.len() { ", …" } else { "" }
        ),
    };
    Err(problem.option("E0217", span, &message, "not among its arrays", &help))
}

/// Reads features and labels of a part.
fn part(
    store: &mut Store,
    name: &str,
    [features, labels]: [&str; 2],
    column: &mut Column,
    spec: &DataSpec,
    problem: &Problem<'_>,
) -> Result<Part, Diagnostic> {
    let rows = store.array(features, problem, |header, _| Ok(header.rows()?.0))?;
    let count = store.array(labels, problem, |header, _| match header.rows()? {
        (count, 1) => Ok(count),
        (_, width) => Err(Fault::Kind(
            format!("it has {} numbers for each sample", thousands(width as u64)),
            "a label is one number: the index of the class, as `y.argmax(axis=1)` gives it, or the target",
        )
        .into()),
    })?;
    let taken = if name.is_empty() {
        whole(rows, count, spec, problem)?
    } else {
        parts::count(name, rows, count, spec, problem)?
    };
    let (shape, values) = store.array(features, problem, |header, source| {
        let shape = header.shape.get(1..).filter(|shape| !shape.is_empty()).unwrap_or(&[1]).to_vec();
        let mut source = source;
        Ok((shape, header.values(&mut source, taken)?))
    })?;
    store.array(labels, problem, |header, source| {
        let mut source = source;
        header.each(&mut source, taken, |index, number| -> Result<(), Stop> {
            let at = At::Sample { number: index as u64 + 1, part: name };
            if !(number as f32).is_finite() {
                let help = "put a finite number there, or remove the sample";
                return Err(problem.cell("E0605", at, &format!("the label is {number}"), help).into());
            }
            match &mut *column {
                Column::Numbers(targets) => targets.push(number as f32),
                classes => classes.push(&number.to_string(), spec, at, problem)?,
            }
            Ok(())
        })
    })?;
    Ok(Part { rows: taken, shape, values })
}

/// How many samples need to be read of arrays that a split divides.
fn whole(rows: usize, labels: usize, spec: &DataSpec, problem: &Problem<'_>) -> Result<usize, Diagnostic> {
    if rows != labels {
        let message = format!("it has {}, but {}", counted(rows, "sample"), counted(labels, "label"));
        return Err(problem.whole("E0611", &message, "they must be as many", "use arrays of one data set"));
    }
    let (train, test) = split::split(spec, rows, problem)?;
    Ok(if spec.subset == Subset::First { train + test } else { rows })
}
