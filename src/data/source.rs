//! Opening files, gzipped or not, and what a reader may find wrong with one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::MAX_NUMBERS;
use super::problem::{Problem, thousands};
use crate::diagnostics::Diagnostic;

/// What a reader may find wrong with a file.
#[derive(Debug)]
pub enum Fault {
    Io(io::Error),
    /// It is not what its name says.
    Format(String),
    /// It is whole, but of a kind that is not read: what it is, and how to convert it.
    Kind(String, &'static str),
    /// How much of what.
    TooLarge(String),
    /// A number that cannot be used, with its place.
    Number(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Io(error)
    }
}

/// Opens a file; one that ends in `.gz`, or begins as gzip files do, is unzipped while it is read.
pub fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    let mut file = BufReader::new(File::open(path)?);
    let zipped = path.extension().is_some_and(|extension| extension == "gz")
        || file.fill_buf()?.starts_with(b"\x1f\x8b");
    Ok(if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

/// What is wrong with the file or array called `name`, which should be a valid `kind` ("IDX file").
pub fn wrong(name: &str, path: &Path, kind: &str, fault: Fault, problem: &Problem<'_>) -> Diagnostic {
    let help = "get the file again, or write it anew: it is damaged, or of another kind than its name says";
    let label = format!("not a valid {kind}");
    let invalid = |message: String| problem.whole("E0611", &format!("{name}: {message}"), &label, help);
    match fault {
        Fault::Format(message) => invalid(message),
        Fault::Kind(message, help) => problem.whole(
            "E0611",
            &format!("{name}: {message}"),
            &format!("not a {kind} that hesn reads"),
            help,
        ),
        Fault::TooLarge(what) => too_large(problem, &format!("{what} in {name}")),
        Fault::Number(message) => problem.whole(
            "E0605",
            &format!("{name}: {message}"),
            "not all of its numbers can be used",
            "put a finite number there, or remove the sample",
        ),
        Fault::Io(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof => invalid("it is cut off".to_owned()),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                invalid(format!("it cannot be unzipped: {error}"))
            }
            _ => problem.unreadable(path, &error),
        },
    }
}

pub fn too_large(problem: &Problem<'_>, what: &str) -> Diagnostic {
    let help =
        format!("at most {} numbers fit: take fewer with `train: N, test: N`", thousands(MAX_NUMBERS as u64));
    problem.whole("E0612", &format!("it has {what}"), "too large", &help)
}

/// Reads `bytes` bytes, or says by how much the file is too short. Not allocated at once: a header may promise more
/// than there is.
pub fn bytes(source: &mut impl Read, bytes: usize) -> Result<Vec<u8>, Fault> {
    let mut data = Vec::new();
    source.by_ref().take(bytes as u64).read_to_end(&mut data)?;
    if data.len() < bytes {
        return Err(Fault::Format(format!(
            "it is cut off: its header promises {} bytes, there are {}",
            thousands(bytes as u64),
            thousands(data.len() as u64)
        )));
    }
    Ok(data)
}

/// Fails unless the file ends here.
pub fn end(source: &mut impl Read) -> Result<(), Fault> {
    match source.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(Fault::Format("it is longer than its header says".to_owned())),
    }
}
