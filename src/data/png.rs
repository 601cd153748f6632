//! PNG rows: a folder of PNG files in which every row of pixels is an image, and JSON lists of labels.
//!
//! `train*.png`, in the order of the numbers in their names, and `train*.json` for training; `test*.png` and
//! `test*.json` for testing.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use png::{BitDepth, ColorType, Decoder, DecodingError, Limits, Reader, Transformations};
use serde::Deserialize;

use super::labels::Column;
use super::parts::{self, Part};
use super::problem::{At, Problem, quote, thousands};
use super::source::{self, Fault, too_large};
use super::values::Values;
use super::{MAX_NUMBERS, MAX_SAMPLE, Raw};
use crate::diagnostics::Diagnostic;
use crate::typeck::data_spec::DataSpec;

/// Entries of a folder that are looked at.
const MAX_ENTRIES: usize = 10_000;
/// Bytes that the decoder may allocate, beside a row of pixels.
const MAX_DECODER: usize = 64 << 20;
/// Bytes of a list of labels.
const MAX_LABELS: u64 = 16 << 20;

/// A label in a list.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a label is neither an integer nor a word")]
enum Label {
    Integer(i64),
    Word(String),
}

pub fn read(spec: &DataSpec, path: &Path, problem: &Problem<'_>) -> Result<Raw, Diagnostic> {
    parts::only_counts(spec, problem)?;
    if path.is_file() {
        let help = "`png` reads a folder with train.png and train.json, test.png and test.json; each row of pixels is \
                    an image";
        return Err(problem.whole("E0601", "`png` wants a folder", "a file", help));
    }
    let entries = std::fs::read_dir(path).map_err(|error| problem.unreadable(path, &error))?;
    let mut names: Vec<String> = entries
        .take(MAX_ENTRIES)
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort_by_cached_key(|name| natural(name));
    let mut labels = Column::new(spec);
    let train = part(path, &names, "train", &mut labels, spec, problem)?;
    let test = part(path, &names, "test", &mut labels, spec, problem)?;
    parts::join(train, Some(test), labels, problem)
}

/// A key that sorts `train-10` after `train-9`.
fn natural(name: &str) -> Vec<(u64, String)> {
    let mut key = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let word = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let digits = rest[word..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |end| word + end);
        // Texts before numbers, so that `train.png` comes before `train-1.png`.
        key.push((0, rest[..word].to_owned()));
        key.push((rest[word..digits].parse().unwrap_or(u64::MAX), String::new()));
        rest = &rest[digits..];
    }
    key
}

fn part(
    folder: &Path,
    names: &[String],
    name: &str,
    labels: &mut Column,
    spec: &DataSpec,
    problem: &Problem<'_>,
) -> Result<Part, Diagnostic> {
    let of_kind = |kind: &str| -> Vec<PathBuf> {
        let fits = |own: &&String| own.starts_with(name) && own.ends_with(kind);
        names.iter().filter(fits).map(|own| folder.join(own)).collect()
    };
    let (images, lists) = (of_kind(".png"), of_kind(".json"));
    let [list] = &lists[..] else {
        let help = format!("`png` reads one list of labels in {name}.json: [6, 9, 9, 4]");
        let message = format!("it has {} lists of labels for {}", lists.len(), quote(name));
        return Err(problem.whole("E0611", &message, "there must be one", &help));
    };
    if images.is_empty() {
        let help = format!("`png` reads images from {name}.png, or from {name}-1.png and so on");
        return Err(problem.whole(
            "E0611",
            &format!("it has no images for {}", quote(name)),
            "none here",
            &help,
        ));
    }
    let classes = read_labels(list)
        .map_err(|fault| source::wrong(&file_name(list), list, "list of labels", fault, problem))?;
    let said =
        |path: &Path, fault| source::wrong(&file_name(path), path, "PNG file of images", fault, problem);
    // Headers first: they say how many images there are, and whether they are of one kind.
    let mut kind: Option<Kind> = None;
    let mut rows = 0usize;
    for path in &images {
        let (own, height, _) = open(path).map_err(|fault| said(path, fault))?;
        if kind.is_some_and(|kind| kind != own) {
            let message = format!("{}: its images are of another kind than those before", file_name(path));
            return Err(problem.whole("E0611", &message, "they differ", "use files of one data set"));
        }
        kind = Some(own);
        rows += height;
    }
    let kind = kind.unwrap_or(Kind { channels: 1, pixels: 1 });
    let taken = parts::count(name, rows, classes.len(), spec, problem)?;
    if taken.checked_mul(kind.numbers()).is_none_or(|numbers| numbers > MAX_NUMBERS) {
        let (taken, numbers) = (thousands(taken as u64), thousands(kind.numbers() as u64));
        return Err(too_large(problem, &format!("{taken} images of {numbers} numbers")));
    }
    let mut values = Vec::new();
    for path in &images {
        let missing = taken - values.len() / kind.numbers();
        decode(path, missing, &mut values).map_err(|fault| said(path, fault))?;
    }
    for (row, class) in classes.iter().take(taken).enumerate() {
        let at = At::Sample { number: row as u64 + 1, part: name };
        match class {
            Label::Integer(class) => labels.push(&class.to_string(), spec, at, problem)?,
            Label::Word(class) => labels.push(class, spec, at, problem)?,
        }
    }
    Ok(Part { rows: taken, shape: kind.shape(), values: Values::Bytes(values) })
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read_labels(path: &Path) -> Result<Vec<Label>, Fault> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_LABELS + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_LABELS {
        return Err(Fault::TooLarge(format!("more than {} bytes", thousands(MAX_LABELS))));
    }
    serde_json::from_slice(&text)
        .map_err(|error| Fault::Format(format!("it is not a list of integers or words: {error}")))
}

/// What the images of a file are.
#[derive(Clone, Copy, PartialEq)]
struct Kind {
    /// 1 for grey, 3 for colours.
    channels: usize,
    /// Of one image: of one row.
    pixels: usize,
}

impl Kind {
    fn numbers(self) -> usize {
        self.channels * self.pixels
    }

    /// `[channels, height, width]`: a square if the pixels make one, else a single row.
    fn shape(self) -> Vec<usize> {
        let side = self.pixels.isqrt();
        match side * side == self.pixels {
            true => vec![self.channels, side, side],
            false => vec![self.channels, 1, self.pixels],
        }
    }
}

/// Reads the header: kind and number of the images.
fn open(path: &Path) -> Result<(Kind, usize, Reader<BufReader<File>>), Fault> {
    let limits = Limits { bytes: MAX_DECODER };
    let mut decoder = Decoder::new_with_limits(BufReader::new(File::open(path)?), limits);
    // Palettes and fewer than 8 bits become plain bytes.
    decoder.set_transformations(Transformations::EXPAND);
    let reader = decoder.read_info().map_err(fault)?;
    let info = reader.info();
    if info.interlaced {
        return Err(Fault::Kind("it is interlaced".to_owned(), "save it without interlacing"));
    }
    let channels = match reader.output_color_type() {
        (ColorType::Grayscale, BitDepth::Eight) => 1,
        (ColorType::Rgb, BitDepth::Eight) => 3,
        (color, depth) => {
            return Err(Fault::Kind(
                format!("its pixels are {color:?} of {} bits", depth as u8),
                "save it as grey or RGB of 8 bits, without transparency",
            ));
        }
    };
    let (pixels, height) = (info.width as usize, info.height as usize);
    if pixels.saturating_mul(channels) > MAX_SAMPLE.min(MAX_DECODER) {
        return Err(Fault::TooLarge(format!("{} pixels in a row", thousands(pixels as u64))));
    }
    Ok((Kind { channels, pixels }, height, reader))
}

/// Appends at most `wanted` images, each channel after the other.
fn decode(path: &Path, wanted: usize, values: &mut Vec<u8>) -> Result<(), Fault> {
    if wanted == 0 {
        return Ok(());
    }
    let (kind, height, mut reader) = open(path)?;
    for _ in 0..wanted.min(height) {
        let row = reader.next_row().map_err(fault)?;
        let Some(row) = row.filter(|row| row.data().len() == kind.numbers()) else {
            return Err(Fault::Io(io::ErrorKind::UnexpectedEof.into()));
        };
        for channel in 0..kind.channels {
            values.extend(row.data().iter().skip(channel).step_by(kind.channels));
        }
    }
    Ok(())
}

fn fault(error: DecodingError) -> Fault {
    match error {
        DecodingError::IoError(error) => Fault::Io(error),
        DecodingError::LimitsExceeded => {
            Fault::TooLarge(format!("more than {} bytes beside its pixels", thousands(MAX_DECODER as u64)))
        }
        error => Fault::Format(error.to_string()),
    }
}
