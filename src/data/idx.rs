//! IDX, the format of MNIST: a folder with images and labels for training and for testing, each optionally gzipped.
//!
//! Format: LeCun, Cortes and Burges, "The MNIST database", <http://yann.lecun.com/exdb/mnist/>.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::labels::Column;
use super::problem::{At, Problem, thousands};
use super::{MAX_NUMBERS, MAX_SAMPLE, Raw};
use crate::diagnostics::Diagnostic;
use crate::typeck::data_spec::{DataSpec, Outcome};

/// Type 8 (unsigned bytes) and the number of dimensions.
const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;

/// What a reader may find wrong with a file.
enum Fault {
    Io(io::Error),
    Format(String),
    TooLarge(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Io(error)
    }
}

/// One part of the data set: `train` or `t10k`.
struct Part {
    rows: usize,
    /// Height and width of an image.
    size: [usize; 2],
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

pub fn read(spec: &DataSpec, path: &Path, problem: &Problem<'_>) -> Result<Raw, Diagnostic> {
    for (what, span) in [
        (
            "label",
            match &spec.outcome {
                Outcome::Class(column) | Outcome::Number(column) => Some(column.span),
                Outcome::Implied => None,
            },
        ),
        ("split", spec.split.as_ref().map(|split| split.span)),
        ("features", spec.features.first().map(|feature| feature.span)),
    ] {
        if let Some(span) = span {
            let message = format!("`{what}` has no meaning for `idx`");
            let help = "its files say what are labels and what is for testing: leave it out; `train: N` and `test: N` \
                        take fewer samples";
            return Err(problem.option("E0611", span, &message, "not for `idx`", help));
        }
    }
    if path.is_file() {
        let help = "name the folder with train-images-idx3-ubyte and its three companions";
        return Err(problem.whole("E0601", "`idx` wants a folder", "a file", help));
    }
    if !path.is_dir() {
        return Err(problem.unreadable(path, &io::ErrorKind::NotFound.into()));
    }
    let train = part(path, "train", spec.train.as_ref().map(|c| c.value), problem)?;
    let test = part(path, "t10k", spec.test.as_ref().map(|c| c.value), problem)?;
    if train.size != test.size {
        let show = |size: [usize; 2]| format!("{}×{}", size[0], size[1]);
        let message =
            format!("images for training are {}, for testing {}", show(train.size), show(test.size));
        return Err(problem.whole("E0611", &message, "they differ", "use files of one data set"));
    }
    let rows = train.rows + test.rows;
    if (train.pixels.len() + test.pixels.len()) > MAX_NUMBERS {
        return Err(too_large(
            problem,
            &format!("{} pixels", thousands((rows * train.size[0] * train.size[1]) as u64)),
        ));
    }
    let mut labels = Column::new(spec);
    for (row, &label) in train.labels.iter().chain(&test.labels).enumerate() {
        let at = At { line: row as u64 + 1, column: 0, name: "label" };
        labels.push(&label.to_string(), spec, at, problem)?;
    }
    Ok(Raw {
        columns: Vec::new(),
        names: Vec::new(),
        shape: vec![1, train.size[0], train.size[1]],
        rows,
        features: train.pixels.iter().chain(&test.pixels).map(|&p| f32::from(p)).collect(),
        labels,
        bounds: Some((0.0, 255.0)),
        train: Some(train.rows),
    })
}

fn too_large(problem: &Problem<'_>, what: &str) -> Diagnostic {
    let help =
        format!("at most {} numbers fit: take fewer with `train: N, test: N`", thousands(MAX_NUMBERS as u64));
    problem.whole("E0612", &format!("it has {what}"), "too large", &help)
}

/// Reads images and labels of one part, the first `wanted` of them.
fn part(folder: &Path, name: &str, wanted: Option<usize>, problem: &Problem<'_>) -> Result<Part, Diagnostic> {
    let images = find(folder, &format!("{name}-images"), "idx3-ubyte");
    let labels = find(folder, &format!("{name}-labels"), "idx1-ubyte");
    let ([rows, height, width], pixels) = open(&images)
        .and_then(|file| decode(file, IMAGES, wanted))
        .map_err(|fault| wrong(&images, fault, problem))?;
    let ([count], labels_read) = open(&labels)
        .and_then(|file| decode(file, LABELS, wanted))
        .map_err(|fault| wrong(&labels, fault, problem))?;
    if rows != count {
        let message =
            format!("`{name}` has {} images, but {} labels", thousands(rows as u64), thousands(count as u64));
        return Err(problem.whole("E0611", &message, "they must be as many", "use files of one data set"));
    }
    let taken = wanted.unwrap_or(rows);
    if taken > rows || taken == 0 {
        let message = format!(
            "`{name}` has {} samples, {} are asked for",
            thousands(rows as u64),
            thousands(taken as u64)
        );
        return Err(problem.whole(
            "E0610",
            &message,
            "these files",
            "ask for one at least, and for no more than there are",
        ));
    }
    Ok(Part { rows: taken, size: [height, width], pixels, labels: labels_read })
}

/// `train-images-idx3-ubyte`, or with a point, or gzipped; the first name if none is there.
fn find(folder: &Path, stem: &str, kind: &str) -> PathBuf {
    let names = [format!("{stem}-{kind}"), format!("{stem}.{kind}")];
    let mut candidates = names.iter().flat_map(|name| [name.clone(), format!("{name}.gz")]);
    let found = candidates.find(|name| folder.join(name).is_file());
    folder.join(found.unwrap_or_else(|| names[0].clone()))
}

fn open(path: &Path) -> Result<Box<dyn Read>, Fault> {
    let file = BufReader::new(File::open(path)?);
    let zipped = path.extension().is_some_and(|extension| extension == "gz");
    Ok(if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

/// Header and data: dimensions as the header says, bytes of the first `wanted` samples.
fn decode<const D: usize>(
    mut source: impl Read,
    magic: u32,
    wanted: Option<usize>,
) -> Result<([usize; D], Vec<u8>), Fault> {
    let mut word = || -> Result<u32, Fault> {
        let mut bytes = [0; 4];
        source.read_exact(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    };
    let found = word()?;
    if found != magic {
        return Err(Fault::Format(format!("it begins with 0x{found:08x} instead of 0x{magic:08x}")));
    }
    let mut dimensions = [0usize; D];
    for dimension in &mut dimensions {
        *dimension = word()? as usize;
    }
    let sample = dimensions[1..].iter().try_fold(1usize, |a, &b| a.checked_mul(b)).unwrap_or(usize::MAX);
    if sample == 0 || sample > MAX_SAMPLE {
        return Err(Fault::Format(format!("its header says {dimensions:?}")));
    }
    let rows = wanted.unwrap_or(usize::MAX).min(dimensions[0]);
    let Some(bytes) = rows.checked_mul(sample).filter(|&bytes| bytes <= MAX_NUMBERS) else {
        return Err(Fault::TooLarge(format!(
            "{} samples of {} numbers",
            thousands(rows as u64),
            thousands(sample as u64)
        )));
    };
    // Not allocated at once: the header may promise more than there is.
    let mut data = Vec::new();
    source.by_ref().take(bytes as u64).read_to_end(&mut data)?;
    if data.len() < bytes {
        let message = format!(
            "it is cut off: its header promises {} samples of {} bytes, there are {} bytes",
            thousands(dimensions[0] as u64),
            thousands(sample as u64),
            thousands(data.len() as u64)
        );
        return Err(Fault::Format(message));
    }
    if rows == dimensions[0] && source.read(&mut [0])? != 0 {
        return Err(Fault::Format("it is longer than its header says".to_owned()));
    }
    Ok((dimensions, data))
}

fn wrong(path: &Path, fault: Fault, problem: &Problem<'_>) -> Diagnostic {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let help = "get the file again; IDX files begin with their type and dimensions";
    match fault {
        Fault::Format(message) => {
            problem.whole("E0611", &format!("{name}: {message}"), "not a valid IDX file", help)
        }
        Fault::TooLarge(what) => too_large(problem, &format!("{what} in {name}")),
        Fault::Io(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                problem.whole("E0611", &format!("{name}: it is cut off"), "not a valid IDX file", help)
            }
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => problem.whole(
                "E0611",
                &format!("{name}: it is not a gzip file: {error}"),
                "not a valid file",
                help,
            ),
            _ => problem.unreadable(path, &error),
        },
    }
}
