//! From the path of a program to what the checker says about it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::args::{SchemeArgs, SchemeName};
use crate::data::{Loader, nearest_file};
use crate::diagnostics::{Diagnostic, FileId, Severity, Sources, Span};
use crate::plan::check::diagnose;
use crate::plan::compile::Settings;
use crate::plan::parameters::{Parameters, SchemeChoice};
use crate::typeck::{self, Program};

/// Bytes of a program: a person writes kilobytes.
const MAX_BYTES: u64 = 16 << 20;

/// A program that was read and checked.
pub struct Checked {
    pub sources: Sources,
    pub diagnostics: Vec<Diagnostic>,
    /// There if no diagnostic is an error.
    pub program: Option<Program>,
    /// Its data, as far as it was read.
    pub loader: Loader,
}

impl Checked {
    /// Where the files and folders of the program's data lie.
    pub fn data_paths(&self) -> Vec<PathBuf> {
        let data = self.program.iter().flat_map(|program| &program.data);
        data.map(|spec| self.loader.path(&spec.path.value)).collect()
    }

    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }
}

/// Reads and checks a program, and the data that it names.
pub fn check(path: &Path, settings: Settings) -> Checked {
    let mut sources = Sources::default();
    let loader = Loader::beside(path);
    let mut checked = match read(path, &mut sources) {
        Err(diagnostic) => typeck::Checked { program: None, diagnostics: vec![diagnostic] },
        Ok(file) => typeck::check(&mut sources, file, &loader),
    };
    if let Some(program) = &checked.program {
        checked.diagnostics.extend(diagnose(program, settings));
    }
    checked.diagnostics.extend(loader.warnings());
    let program = if checked.has_errors() { None } else { checked.program };
    Checked { sources, diagnostics: checked.diagnostics, program, loader }
}

/// What the options about the cryptography mean.
pub fn settings(args: &SchemeArgs) -> Result<Settings, Diagnostic> {
    let parameters = args.profile.as_deref().map(Parameters::named).transpose();
    let parameters =
        parameters.map_err(|error| Diagnostic::error("E0618", error).help("leave out `--profile`"))?;
    let scheme = match args.scheme {
        SchemeName::Auto => SchemeChoice::Auto,
        SchemeName::Tfhe => SchemeChoice::Tfhe,
        SchemeName::Ckks => SchemeChoice::Ckks,
    };
    let contradicts = match (scheme, parameters) {
        (SchemeChoice::Tfhe, Some(Parameters::Ckks(row))) => Some((row.name, "tfhe", "ckks")),
        (SchemeChoice::Ckks, Some(Parameters::Tfhe(row))) => Some((row.name, "ckks", "tfhe")),
        _ => None,
    };
    if let Some((row, wanted, has)) = contradicts {
        let message = format!("the profile `{row}` is one of `{has}`, but `--scheme {wanted}` is chosen");
        return Err(Diagnostic::error("E0618", message).help("leave out `--profile` or `--scheme`"));
    }
    Ok(Settings { scheme, parameters })
}

/// A program that only declares things.
pub fn nothing_to_run(path: &Path) -> Diagnostic {
    Diagnostic::error("E0614", format!("{} runs nothing", path.display()))
        .help("add `train MODEL on DATA { … }`, or `eval FUNCTION(…)`")
}

fn read(path: &Path, sources: &mut Sources) -> Result<FileId, Diagnostic> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!("{name} is larger than a program may be ({} MiB)", MAX_BYTES >> 20);
        return Err(Diagnostic::error("E0612", message).help("is this the data file instead of the program?"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(sources.add(name, text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let file = sources.add(name.clone(), String::from_utf8_lossy(error.as_bytes()));
            let (line, column) = sources.line_column(file, at);
            // The replacement character takes three bytes.
            let span = Span::new(file, at, at + 3);
            Err(Diagnostic::error(
                "E0607",
                format!("{name}, line {line}, column {column}: the text is not UTF-8"),
            )
            .label(span, "this byte means nothing in UTF-8")
            .help("save the program as UTF-8"))
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Diagnostic {
    let name = path.display();
    let (message, help) = match error.kind() {
        io::ErrorKind::NotFound => (
            format!("there is no file {name}"),
            match nearest_file(path) {
                Some(near) => format!("did you mean {}?", path.with_file_name(near).display()),
                None => {
                    match path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
                        Some(folder) => format!("there is no folder {}", folder.display()),
                        None => "give the path of a program, as examples/breast_cancer.hes".to_owned(),
                    }
                }
            },
        ),
        io::ErrorKind::IsADirectory => {
            (format!("{name} is a folder"), format!("give the path of a program in it: {}/….hes", name))
        }
        io::ErrorKind::PermissionDenied => {
            (format!("reading {name} is not permitted"), "give yourself the right to read it".to_owned())
        }
        _ => (format!("{name} cannot be read: {error}"), "check the file and its disk".to_owned()),
    };
    Diagnostic::error("E0601", message).help(help)
}
