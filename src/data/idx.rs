//! IDX, the format of MNIST: a folder with images and labels for training and for testing, each optionally gzipped.
//!
//! Format: LeCun, Cortes and Burges, "The MNIST database", <http://yann.lecun.com/exdb/mnist/>.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::labels::Column;
use super::parts::{self, Part};
use super::problem::{At, Problem, thousands};
use super::source::{self, Fault};
use super::values::Values;
use super::{MAX_NUMBERS, MAX_SAMPLE, Raw};
use crate::diagnostics::Diagnostic;
use crate::typeck::data_spec::DataSpec;

/// Type 8 (unsigned bytes) and the number of dimensions.
const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;

pub fn read(spec: &DataSpec, path: &Path, problem: &Problem<'_>) -> Result<Raw, Diagnostic> {
    parts::only_counts(spec, problem)?;
    if path.is_file() {
        let help = "name the folder with train-images-idx3-ubyte and its three companions";
        return Err(problem.whole("E0601", "`idx` wants a folder", "a file", help));
    }
    if !path.is_dir() {
        return Err(problem.unreadable(path, &io::ErrorKind::NotFound.into()));
    }
    let mut labels = Column::new(spec);
    let train = part(path, ["train", "train"], &mut labels, spec, problem)?;
    let test = part(path, ["test", "t10k"], &mut labels, spec, problem)?;
    parts::join(train, Some(test), labels, problem)
}

/// Reads images and labels of one part, the first ones that are wanted.
fn part(
    folder: &Path,
    [name, stem]: [&str; 2],
    labels: &mut Column,
    spec: &DataSpec,
    problem: &Problem<'_>,
) -> Result<Part, Diagnostic> {
    let wanted = parts::wanted(spec, name);
    let images = find(folder, &format!("{stem}-images"), "idx3-ubyte");
    let classes = find(folder, &format!("{stem}-labels"), "idx1-ubyte");
    let ([rows, height, width], pixels) = decode_file(&images, IMAGES, wanted, problem)?;
    let ([count], cells) = decode_file(&classes, LABELS, wanted, problem)?;
    let rows = parts::count(name, rows, count, spec, problem)?;
    for (row, &label) in cells.iter().enumerate() {
        labels.push(&label.to_string(), spec, At::Sample { number: row as u64 + 1, part: name }, problem)?;
    }
    Ok(Part { rows, shape: vec![1, height, width], values: Values::Bytes(pixels) })
}

/// `train-images-idx3-ubyte`, or with a point, or gzipped; the first name if none is there.
fn find(folder: &Path, stem: &str, kind: &str) -> PathBuf {
    let names = [format!("{stem}-{kind}"), format!("{stem}.{kind}")];
    let mut candidates = names.iter().flat_map(|name| [name.clone(), format!("{name}.gz")]);
    let found = candidates.find(|name| folder.join(name).is_file());
    folder.join(found.unwrap_or_else(|| names[0].clone()))
}

fn decode_file<const D: usize>(
    path: &Path,
    magic: u32,
    wanted: Option<usize>,
    problem: &Problem<'_>,
) -> Result<([usize; D], Vec<u8>), Diagnostic> {
    source::open(path).map_err(Fault::Io).and_then(|file| decode(file, magic, wanted)).map_err(|fault| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        source::wrong(&name, path, "IDX file", fault, problem)
    })
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
    let data = source::bytes(&mut source, bytes)?;
    if rows == dimensions[0] {
        source::end(&mut source)?;
    }
    Ok((dimensions, data))
}
