//! Comma-separated values with a header line. A file is read once, row by row; what is kept are the numbers.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

use csv::{ByteRecord, ReaderBuilder};

use super::labels::Column;
use super::problem::{At, Problem, quote, thousands};
use super::values::Values;
use super::{MAX_NUMBERS, Raw, source};
use crate::diagnostics::{Diagnostic, suggest};
use crate::typeck::data_spec::{DataSpec, Outcome, Spanned, Subset};

/// Bytes of one row: a forgotten quotation mark would otherwise swallow the file.
const MAX_ROW: u64 = 64 << 20;

/// Fails when one row takes more bytes than it may.
struct Bounded<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let left = self.left.get().checked_sub(read as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a row of more than {} bytes", thousands(MAX_ROW)),
            )
        })?;
        self.left.set(left);
        Ok(read)
    }
}

/// Which column is what.
struct Columns {
    names: Vec<String>,
    features: Vec<usize>,
    label: usize,
}

pub fn read(spec: &DataSpec, path: &Path, problem: &Problem<'_>) -> Result<Raw, Diagnostic> {
    if path.exists() && !path.is_file() {
        let help = "`csv` reads one file; folders are read by `idx(\"…\")`, `npy(\"…\")` and `png(\"…\")`";
        return Err(problem.whole("E0601", "it is not a file", "not a file", help));
    }
    let file = source::open(path).map_err(|error| problem.unreadable(path, &error))?;
    parse(file, spec, problem)
}

/// Reads rows until the end, or until there are as many as the declaration wants.
fn parse(source: impl Read, spec: &DataSpec, problem: &Problem<'_>) -> Result<Raw, Diagnostic> {
    let left = Rc::new(Cell::new(MAX_ROW));
    let bounded = Bounded { inner: source, left: left.clone() };
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bounded);
    let mut record = ByteRecord::new();
    if !next(&mut reader, &mut record, problem)? {
        let help = "the first line names the columns, each further line is a sample";
        return Err(problem.whole("E0602", "it is empty", "an empty file", help));
    }
    let columns = header(&record, spec, problem)?;
    let wanted = match (&spec.train, &spec.test) {
        (Some(train), Some(test)) if spec.subset == Subset::First => train.value.saturating_add(test.value),
        _ => usize::MAX,
    };
    let mut labels = Column::new(spec);
    let mut features: Vec<f32> = Vec::new();
    let mut rows = 0;
    left.set(MAX_ROW);
    while rows < wanted && next(&mut reader, &mut record, problem)? {
        left.set(MAX_ROW);
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != columns.names.len() {
            return Err(ragged(&record, columns.names.len(), line, problem));
        }
        let at = |column: usize| At::Cell { line, column, name: &columns.names[column] };
        if features.len() + columns.features.len() > MAX_NUMBERS || rows == u32::MAX as usize {
            let message = format!("it has more than {} numbers", thousands(MAX_NUMBERS as u64));
            let help = "take part of it: `train: 100000, test: 10000`, or fewer columns with `features: […]`";
            return Err(problem.line("E0612", line, &message, help));
        }
        for &column in &columns.features {
            features.push(number(&record[column], at(column), problem)?);
        }
        let cell = text(&record[columns.label], at(columns.label), problem)?;
        match &mut labels {
            Column::Numbers(targets) => targets.push(number(cell.as_bytes(), at(columns.label), problem)?),
            classes => classes.push(cell, spec, at(columns.label), problem)?,
        }
        rows += 1;
    }
    if rows == 0 {
        let help = "add a line for each sample under the line that names the columns";
        return Err(problem.whole("E0602", "it has a header, but no rows", "no samples", help));
    }
    let names: Vec<String> = columns.features.iter().map(|&c| columns.names[c].clone()).collect();
    Ok(Raw {
        shape: vec![names.len()],
        names,
        columns: columns.names,
        rows,
        values: Values::Numbers(features),
        labels,
        bounds: None,
        train: None,
    })
}

fn next(
    reader: &mut csv::Reader<impl Read>,
    record: &mut ByteRecord,
    problem: &Problem<'_>,
) -> Result<bool, Diagnostic> {
    let line = reader.position().line();
    reader.read_byte_record(record).map_err(|error| {
        let unzips = matches!(error.kind(), csv::ErrorKind::Io(error) if damaged(error));
        let help = match unzips {
            true => "get the file again: it ends in `.gz`, or begins as gzip files do, and is damaged",
            false => "check that every quotation mark is closed, and that the file is complete",
        };
        problem.line("E0603", line, &format!("the row cannot be read: {error}"), help)
    })
}

/// What the unzipping of a file complains about, unlike an overlong row.
fn damaged(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof)
        || (error.kind() == io::ErrorKind::InvalidData && !error.to_string().starts_with("a row"))
}

/// Checks the header and finds the columns.
fn header(record: &ByteRecord, spec: &DataSpec, problem: &Problem<'_>) -> Result<Columns, Diagnostic> {
    let mut names: Vec<String> = Vec::with_capacity(record.len());
    for (column, cell) in record.iter().enumerate() {
        // Spreadsheets like to begin a file with a byte order mark.
        let cell = if column == 0 { cell.strip_prefix(b"\xef\xbb\xbf").unwrap_or(cell) } else { cell };
        if column == 0 && (cell.starts_with(b"\xff\xfe") || cell.starts_with(b"\xfe\xff")) {
            let help = "save it as UTF-8 (\"CSV UTF-8\" in a spreadsheet)";
            return Err(problem.line("E0607", 1, "the text is UTF-16", help));
        }
        names.push(text(cell, At::Cell { line: 1, column, name: "header" }, problem)?.to_owned());
    }
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (column, name) in names.iter().enumerate() {
        if name.is_empty() && spec.features.is_empty() {
            let message = format!("column {} has no name", column + 1);
            let help =
                "name it; if it only numbers the rows, remove it, or choose columns with `features: […]`";
            return Err(problem.line("E0608", 1, &message, help));
        }
        if let Some(earlier) = first.insert(name, column).filter(|_| !name.is_empty()) {
            let message =
                format!("columns {} and {} are both named {}", earlier + 1, column + 1, quote(name));
            return Err(problem.line("E0608", 1, &message, "give each column its own name"));
        }
    }
    let find = |wanted: &Spanned<String>| match first.get(wanted.value.as_str()) {
        Some(&column) => Ok(column),
        None => Err(unknown(wanted, &names, spec)),
    };
    let label = match &spec.outcome {
        Outcome::Class(column) | Outcome::Number(column) => find(column)?,
        Outcome::Implied => {
            let help = "write `label: COLUMN` for classes, `target: COLUMN` for a number";
            return Err(problem.option(
                "E0608",
                spec.span,
                "which column is the label?",
                "says no `label`",
                help,
            ));
        }
    };
    let mut features = Vec::new();
    for wanted in &spec.features {
        let column = find(wanted)?;
        if column == label || features.contains(&column) {
            let message = if column == label {
                "the label cannot be a feature too"
            } else {
                "a feature is chosen twice"
            };
            return Err(problem.option("E0608", wanted.span, message, "again", "leave it out"));
        }
        features.push(column);
    }
    if spec.features.is_empty() {
        features = (0..names.len()).filter(|&column| column != label).collect();
    }
    if features.is_empty() {
        let help = "a sample needs one number at least beside its label";
        return Err(problem.line("E0608", 1, "there is no column of features", help));
    }
    drop(first);
    Ok(Columns { names, features, label })
}

fn unknown(wanted: &Spanned<String>, names: &[String], spec: &DataSpec) -> Diagnostic {
    let message = format!("\"{}\" has no column {}", spec.path.value, quote(&wanted.value));
    let headless = names.iter().all(|name| name.parse::<f64>().is_ok());
    let help = match suggest(&wanted.value, names.iter().map(String::as_str)) {
        _ if headless => "its first line seems to be a sample: add a line that names the columns".to_owned(),
        Some(near) => format!("did you mean `{near}`?"),
        None => match names {
            [only] if only.contains([';', '\t', '|']) => {
                "its columns are not separated by commas: convert it".to_owned()
            }
            _ => {
                let shown: Vec<String> = names.iter().take(8).map(|name| quote(name)).collect();
                let more = if names.len() > shown.len() { ", …" } else { "" };
                format!("its columns are {}{more}", shown.join(", "))
            }
        },
    };
    Diagnostic::error("E0217", message).label(wanted.span, "not in the header").help(help)
}

fn ragged(record: &ByteRecord, wanted: usize, line: u64, problem: &Problem<'_>) -> Diagnostic {
    let message = format!("the row has {} cells, but the header names {wanted} columns", record.len());
    let help = match record.len() > wanted {
        true => "a comma inside a cell needs quotation marks: \"1,5\"; a decimal point is a point",
        false => "complete the row, or remove it; an empty cell still needs its comma",
    };
    problem.line("E0603", line, &message, help)
}

fn text<'a>(cell: &'a [u8], at: At<'_>, problem: &Problem<'_>) -> Result<&'a str, Diagnostic> {
    std::str::from_utf8(cell).map(str::trim).map_err(|error| {
        let byte = cell.get(error.valid_up_to()).copied().unwrap_or_default();
        let message = format!("the text is not UTF-8: byte 0x{byte:02x} means nothing there");
        problem.cell("E0607", at, &message, "save the file as UTF-8, without binary content")
    })
}

fn number(cell: &[u8], at: At<'_>, problem: &Problem<'_>) -> Result<f32, Diagnostic> {
    let cell = text(cell, at, problem)?;
    if cell.is_empty() {
        let help = "fill it in, or remove the row: hesn does not guess missing values";
        return Err(problem.cell("E0604", at, "the cell is empty", help));
    }
    let Ok(value) = cell.parse::<f64>() else {
        let help = match cell.replace(',', ".").parse::<f64>() {
            Ok(_) => "write a decimal point instead of the comma".to_owned(),
            Err(_) => format!(
                "correct it, or leave the column out with `features: […]`; words can only be labels (`label: {}`)",
                at.column_name()
            ),
        };
        return Err(problem.cell("E0604", at, &format!("{} is not a number", quote(cell)), &help));
    };
    if !(value as f32).is_finite() {
        let message = if value.is_finite() {
            format!("{} is too large for a 32-bit number", quote(cell))
        } else {
            format!("{} is not a finite number", quote(cell))
        };
        return Err(problem.cell("E0605", at, &message, "put a finite number there, or remove the row"));
    }
    Ok(value as f32)
}
