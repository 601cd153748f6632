//! Diagnostics about data: each names the file, the place in it and the remedy, and points to the declaration.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::diagnostics::{Diagnostic, Span, suggest};
use crate::typeck::data_spec::DataSpec;

/// Entries of a folder that are looked through for a suggestion.
const MAX_ENTRIES: usize = 10_000;
/// Bytes of a script that are looked through for a data set's name.
const MAX_SCRIPT: u64 = 1 << 16;

/// A place in a data file.
#[derive(Clone, Copy, Debug)]
pub enum At<'a> {
    /// Line from 1, column from 0, name of the column.
    Cell { line: u64, column: usize, name: &'a str },
    /// Number of a sample from 1, in `train` or `test`; no name if they are not apart.
    Sample { number: u64, part: &'a str },
}

impl At<'_> {
    /// What `label: …` would be for this place.
    pub fn column_name(&self) -> &str {
        match self {
            At::Cell { name, .. } => name,
            At::Sample { .. } => "y",
        }
    }

    fn show(&self) -> String {
        match self {
            At::Cell { line, column, name } => {
                format!("line {line}, column {} ({})", column + 1, quote(name))
            }
            At::Sample { number, part: "" } => format!("sample {}", thousands(*number)),
            At::Sample { number, part } => format!("sample {} of {}", thousands(*number), quote(part)),
        }
    }
}

/// Makes the diagnostics of one declaration.
pub struct Problem<'a> {
    spec: &'a DataSpec,
    path: &'a Path,
}

impl<'a> Problem<'a> {
    pub fn new(spec: &'a DataSpec, path: &'a Path) -> Self {
        Self { spec, path }
    }

    fn file(&self) -> String {
        format!("\"{}\"", self.spec.path.value)
    }

    /// About the file as a whole.
    pub fn whole(&self, code: &'static str, message: &str, label: &str, help: &str) -> Diagnostic {
        Diagnostic::error(code, format!("{}: {message}", self.file()))
            .label(self.spec.path.span, label)
            .help(help)
    }

    /// About something that the declaration says.
    pub fn option(
        &self,
        code: &'static str,
        span: Span,
        message: &str,
        label: &str,
        help: &str,
    ) -> Diagnostic {
        Diagnostic::error(code, format!("{}: {message}", self.file())).label(span, label).help(help)
    }

    /// About a line.
    pub fn line(&self, code: &'static str, line: u64, message: &str, help: &str) -> Diagnostic {
        let message = format!("{}, line {line}: {message}", self.file());
        Diagnostic::error(code, message)
            .label(self.spec.path.span, format!("line {line} of this file"))
            .help(help)
    }

    /// About a cell.
    pub fn cell(&self, code: &'static str, at: At<'_>, message: &str, help: &str) -> Diagnostic {
        let message = format!("{}, {}: {message}", self.file(), at.show());
        let label = match at {
            At::Cell { line, .. } => format!("line {line} of this file"),
            At::Sample { .. } => "in this data".to_owned(),
        };
        Diagnostic::error(code, message).label(self.spec.path.span, label).help(help)
    }

    /// The file (or one of a folder's files) cannot be opened.
    pub fn unreadable(&self, path: &Path, error: &io::Error) -> Diagnostic {
        let (message, help) = match error.kind() {
            io::ErrorKind::NotFound => ("there is no such file".to_owned(), self.neighbour(path)),
            io::ErrorKind::PermissionDenied => (
                "reading is not permitted".to_owned(),
                "give yourself the right to read it, or run as a user who may".to_owned(),
            ),
            _ => (
                format!("it cannot be read: {error}"),
                "check that the file is complete and its disk is there".to_owned(),
            ),
        };
        let mut diagnostic = self.whole("E0601", &message, &format!("looked for {}", path.display()), &help);
        if path != self.path {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            diagnostic.message = format!("{}: {}: {message}", self.file(), quote(&name));
        }
        diagnostic
    }

    /// What the user may have meant instead of a file that is not there.
    fn neighbour(&self, path: &Path) -> String {
        let general = "paths start at the folder of the program that declares the data";
        if let Some(command) = fetch_command(self.path) {
            return format!("`{command}` puts it there");
        }
        match nearest_file(path) {
            Some(near) => {
                let written = Path::new(&self.spec.path.value).with_file_name(near);
                format!("did you mean \"{}\"?", written.display())
            }
            None => match path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
                Some(folder) => format!("there is no folder {}; {general}", folder.display()),
                None => general.to_owned(),
            },
        }
    }

    /// Features that no training row tells apart.
    pub fn constant_columns(&self, columns: &[usize], names: &[String]) -> Diagnostic {
        let mut list = String::new();
        for &column in columns.iter().take(5) {
            let comma = if list.is_empty() { "" } else { ", " };
            let _ = match names.get(column) {
                Some(name) => write!(list, "{comma}{}", quote(name)),
                None => write!(list, "{comma}{}", column + 1),
            };
        }
        if columns.len() > 5 {
            let _ = write!(list, " and {} more", columns.len() - 5);
        }
        let noun = if columns.len() == 1 { "column is" } else { "columns are" };
        let message =
            format!("{}: {} {noun} constant in the training rows: {list}", self.file(), columns.len());
        Diagnostic::warning("W0601", message)
            .label(self.spec.path.span, "their deviation is 0, so they are only centred")
            .help("nothing can be learned from a constant: leave it out of `features: […]`")
    }

    /// Classes that occur in the test rows only.
    pub fn unseen_classes(&self, classes: &[&str]) -> Diagnostic {
        let list = classes.iter().take(5).map(|name| quote(name)).collect::<Vec<_>>().join(", ");
        let message = format!("{}: no training row has the label {list}", self.file());
        Diagnostic::warning("W0602", message)
            .label(self.spec.span, "the model cannot learn it")
            .help("rows are split in the order of the file: shuffle them if they are sorted")
    }
}

/// The command that brings a missing data set, if a script beside it offers one of that name.
fn fetch_command(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let script = path.parent()?.join("fetch.sh");
    let mut text = String::new();
    File::open(&script).ok()?.take(MAX_SCRIPT).read_to_string(&mut text).ok()?;
    // A line of its usage: "#   mnist   what it is".
    let offered = text.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("#") && words.next() == Some(name)
    });
    (offered && !path.exists()).then(|| format!("sh {} {name}", script.display()))
}

/// The file beside a missing one whose name is nearest.
pub fn nearest_file(path: &Path) -> Option<String> {
    let (folder, name) = path.parent().zip(path.file_name())?;
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .take(MAX_ENTRIES)
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort_unstable();
    suggest(&name.to_string_lossy(), names.iter().map(String::as_str)).map(str::to_owned)
}

/// Text of a file, safe to show: shortened, without control characters.
pub fn quote(text: &str) -> String {
    const LONGEST: usize = 40;
    let mut short = String::new();
    for letter in text.chars().take(LONGEST) {
        match letter {
            '"' | '\'' => short.push(letter),
            _ => short.extend(letter.escape_debug()),
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}

/// 1 label, 2,000 labels
pub fn counted(number: usize, noun: &str) -> String {
    format!("{} {noun}{}", thousands(number as u64), if number == 1 { "" } else { "s" })
}

/// 12,345,678
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
