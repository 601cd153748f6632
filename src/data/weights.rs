//! Weights from a file: JSON as `--out` writes it, or a NumPy archive with an array for each parameter.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use serde::Deserialize;
use zip::ZipArchive;

use super::npy;
use super::problem::nearest_file;
use super::source::Fault;
use crate::diagnostics::Diagnostic;
use crate::graph::{MAX_ELEMENTS, show_shape};
use crate::typeck::data_spec::{Spanned, WeightTensor, Weights};

/// Bytes of a JSON file: every value takes a dozen.
const MAX_BYTES: u64 = 4 << 30;
/// Arrays that an archive may have.
const MAX_ARRAYS: usize = 10_000;
/// The newest version of the JSON format that is understood.
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

/// Makes the diagnostics about one file of weights.
struct Problem<'a> {
    path: &'a Path,
    written: &'a Spanned<String>,
}

impl Problem<'_> {
    fn say(&self, message: impl std::fmt::Display, help: impl Into<String>) -> Diagnostic {
        Diagnostic::error("E0223", format!("\"{}\": {message}", self.written.value))
            .label(self.written.span, format!("looked for {}", self.path.display()))
            .help(help)
    }

    fn unusual(&self, message: impl std::fmt::Display) -> Diagnostic {
        self.say(
            message,
            "give a file that `hesn run --out FILE` has written, or an archive of `numpy.savez`",
        )
    }

    fn unreadable(&self, error: &io::Error) -> Diagnostic {
        if error.kind() != io::ErrorKind::NotFound {
            return self.say(format!("it cannot be read: {error}"), "check the file and its permissions");
        }
        let help = match nearest_file(self.path) {
            Some(near) => {
                format!("did you mean \"{}\"?", Path::new(&self.written.value).with_file_name(near).display())
            }
            None => {
                "paths start at the folder of the program; `hesn run --out FILE` writes such a file".into()
            }
        };
        self.say("there is no such file", help)
    }
}

/// Reads weights; `written` is their path as the program has it.
///
/// # Errors
/// E0223, with the file, what is wrong in it, and how to mend it.
pub fn read(path: &Path, written: &Spanned<String>) -> Result<Weights, Diagnostic> {
    let problem = Problem { path, written };
    let mut file = BufReader::new(File::open(path).map_err(|error| problem.unreadable(&error))?);
    let mut start = Vec::new();
    file.by_ref().take(2).read_to_end(&mut start).map_err(|error| problem.unreadable(&error))?;
    file.rewind().map_err(|error| problem.unreadable(&error))?;
    let tensors = if start == *b"PK" { archive(file, &problem)? } else { json(file, &problem)? };
    for WeightTensor { name, shape, values } in &tensors {
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MAX_ELEMENTS);
        if count != Some(values.len()) {
            let (count, shape) = (values.len(), show_shape(shape));
            return Err(
                problem.unusual(format!("`{name}` has {count} values, which do not fill its shape {shape}"))
            );
        }
        if values.iter().any(|value| !value.is_finite()) {
            let help = "train again with a smaller rate: the weights have left the numbers that f32 holds";
            return Err(problem.say(format!("`{name}` has values that are no finite numbers"), help));
        }
    }
    Ok(Weights { tensors })
}

fn json(file: impl Read, problem: &Problem<'_>) -> Result<Vec<WeightTensor>, Diagnostic> {
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(|error| problem.unreadable(&error))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(problem.unusual(format!("it has more than {} GiB", MAX_BYTES >> 30)));
    }
    let model: ModelFile = serde_json::from_slice(&text)
        .map_err(|error| problem.unusual(format!("it is no file of weights: {error}")))?;
    if model.version > VERSION {
        let message = format!("its format has version {}, this program reads {VERSION}", model.version);
        return Err(problem.say(message, "use the version of hesn that wrote it, or a newer one"));
    }
    let tensor = |Parameter { name, shape, values }| WeightTensor { name, shape, values: values.into() };
    Ok(model.parameters.into_iter().map(tensor).collect())
}

/// The arrays of `numpy.savez(path, **{"dense1.w": w, …})`, in the order of their names.
fn archive(file: impl Read + Seek, problem: &Problem<'_>) -> Result<Vec<WeightTensor>, Diagnostic> {
    let damaged = |error: &dyn std::fmt::Display| problem.unusual(format!("it is no NumPy archive: {error}"));
    let mut archive = ZipArchive::new(file).map_err(|error| damaged(&error))?;
    if archive.len() > MAX_ARRAYS {
        return Err(problem.unusual(format!("it has more than {MAX_ARRAYS} arrays")));
    }
    let mut tensors = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| damaged(&error))?;
        let name = entry.name().map_err(|error| damaged(&error))?.into_owned();
        let Some(name) = name.strip_suffix(".npy").map(str::to_owned) else { continue };
        let (shape, values) = array(&mut entry).map_err(|fault| {
            let (Fault::Format(why) | Fault::Kind(why, _) | Fault::TooLarge(why) | Fault::Number(why)) =
                fault
            else {
                return problem.unusual(format!("the array `{name}` ends too early"));
            };
            problem.unusual(format!("the array `{name}`: {why}"))
        })?;
        tensors.push(WeightTensor { name, shape, values: values.into() });
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tensors)
}

fn array(mut source: &mut impl Read) -> Result<(Vec<usize>, Vec<f32>), Fault> {
    let header = npy::header(&mut source)?;
    let count = header.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MAX_ELEMENTS);
    let Some(count) = count else {
        return Err(Fault::TooLarge(format!(
            "its shape {} is larger than a tensor may be",
            show_shape(&header.shape)
        )));
    };
    let mut values = Vec::new();
    header.each(&mut source, count, |_, value| {
        values.push(value as f32);
        Ok::<(), Fault>(())
    })?;
    Ok((header.shape, values))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::diagnostics::{FileId, Span};

    fn written(bytes: &[u8]) -> Result<Weights, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let name = Spanned::new("weights".to_owned(), Span::new(FileId(0), 0, 0));
        read(file.path(), &name).map_err(|diagnostic| diagnostic.message)
    }

    fn npy(shape: &str, values: &[f32]) -> Vec<u8> {
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        bytes
    }

    fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, bytes) in arrays {
            let stored =
                zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
            zip.start_file(format!("{name}.npy"), stored).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn json_and_archives_give_the_same() {
        let json = r#"{"version": 1, "model": "M", "parameters": [
            {"name": "dense1.b", "shape": [2], "values": [0.5, -1]},
            {"name": "dense1.w", "shape": [1, 2], "values": [2, 3.25]}]}"#;
        let arrays =
            npz(&[("dense1.w", npy("(1, 2)", &[2.0, 3.25])), ("dense1.b", npy("(2,)", &[0.5, -1.0]))]);
        let weights = written(json.as_bytes()).unwrap();
        assert_eq!(weights, written(&arrays).unwrap());
        assert_eq!(
            (weights.tensors[1].shape.as_slice(), &weights.tensors[1].values[..]),
            (&[1, 2][..], &[2.0, 3.25][..])
        );
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let cases: [(Vec<u8>, &str); 6] = [
            (b"weights".to_vec(), "it is no file of weights"),
            (br#"{"version": 2, "parameters": []}"#.to_vec(), "version 2"),
            (
                br#"{"version": 1, "parameters": [{"name": "w", "shape": [3], "values": [1]}]}"#.to_vec(),
                "`w` has 1 values, which do not fill its shape [3]",
            ),
            (b"PK is no archive".to_vec(), "it is no NumPy archive"),
            (npz(&[("w", npy("(3,)", &[1.0]))]), "the array `w` ends too early"),
            (npz(&[("w", npy("(1,)", &[f32::NAN]))]), "`w` has values that are no finite numbers"),
        ];
        for (bytes, wanted) in cases {
            let message = written(&bytes).unwrap_err();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
