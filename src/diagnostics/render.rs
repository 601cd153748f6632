//! The two forms of a diagnostic: for a person at a terminal, and for a script.

use ariadne::{Color, Config, IndexType, Label, Report, ReportKind};
use serde_json::{Value, json};

use super::{Diagnostic, Severity, Sources, Span};

/// The diagnostic with the lines of the source that it is about.
pub fn render(diagnostic: &Diagnostic, sources: &Sources, color: bool) -> String {
    let (kind, main) = match diagnostic.severity {
        Severity::Error => (ReportKind::Error, Color::Red),
        Severity::Warning => (ReportKind::Warning, Color::Yellow),
        Severity::Note => (ReportKind::Advice, Color::Cyan),
    };
    let Some(primary) = diagnostic.labels.first() else { return plain(diagnostic) };
    let place = |span: Span| (sources.name(span.file).to_owned(), sources.range(span));
    let mut report = Report::build(kind, place(primary.span))
        .with_config(Config::new().with_index_type(IndexType::Byte).with_color(color))
        .with_code(diagnostic.code)
        .with_message(&diagnostic.message);
    // In the order of the source, the primary file first: ariadne then draws each file once.
    let mut labels: Vec<_> = diagnostic.labels.iter().enumerate().collect();
    labels.sort_by_key(|(_, l)| (l.span.file != primary.span.file, l.span));
    for (index, label) in labels {
        report = report.with_label(
            Label::new(place(label.span)).with_message(&label.text).with_color(if index == 0 {
                main
            } else {
                Color::Blue
            }),
        );
    }
    if let Some(help) = &diagnostic.help {
        report = report.with_help(help);
    }
    let texts: Vec<_> =
        sources.ids().map(|file| (sources.name(file).to_owned(), sources.text(file).to_owned())).collect();
    let mut out = Vec::new();
    match report.finish().write(ariadne::sources(texts), &mut out) {
        Ok(()) => {
            let text = String::from_utf8_lossy(&out);
            text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
        }
        Err(_) => plain(diagnostic),
    }
}

/// What is left to say without a source.
fn plain(diagnostic: &Diagnostic) -> String {
    let severity = match diagnostic.severity {
        Severity::Error => "Error",
        Severity::Warning => "Warning",
        Severity::Note => "Advice",
    };
    let mut out = format!("[{}] {severity}: {}\n", diagnostic.code, diagnostic.message);
    if let Some(help) = &diagnostic.help {
        out += &format!("  Help: {help}\n");
    }
    out
}

/// `code`, `severity`, `message`, `labels` (file, byte range, line, column, text) and `help`.
pub fn json(diagnostic: &Diagnostic, sources: &Sources) -> Value {
    let labels: Vec<Value> = diagnostic
        .labels
        .iter()
        .map(|label| {
            let (line, column) = sources.line_column(label.span.file, label.span.start as usize);
            json!({
                "file": sources.name(label.span.file),
                "start": label.span.start,
                "end": label.span.end,
                "line": line,
                "column": column,
                "text": label.text,
            })
        })
        .collect();
    json!({
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        "labels": labels,
        "help": diagnostic.help,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(sources: &mut Sources) -> Diagnostic {
        let file = sources.add("a.hes", "let ü = 1\nlet b = ü @ c\n");
        Diagnostic::error("E0201", "unknown name `c`")
            .label(Span::new(file, 24, 25), "not known")
            .label(Span::new(file, 5, 6), "in the middle of a character")
            .help("declare it")
    }

    #[test]
    fn a_terminal_gets_lines_and_colours_only_where_wanted() {
        let mut sources = Sources::default();
        let diagnostic = example(&mut sources);
        insta::assert_snapshot!(render(&diagnostic, &sources, false));
        assert!(render(&diagnostic, &sources, true).contains("\u{1b}["));
    }

    #[test]
    fn a_script_gets_lines_and_columns() {
        let mut sources = Sources::default();
        let diagnostic = example(&mut sources);
        let value = json(&diagnostic, &sources);
        assert_eq!(value["labels"][0]["line"], 2);
        assert_eq!(value["labels"][0]["column"], 13);
        assert_eq!(value["severity"], "error");
        assert_eq!(value["help"], "declare it");
    }

    #[test]
    fn spans_beyond_the_end_do_not_panic() {
        let mut sources = Sources::default();
        let file = sources.add("a.hes", "x");
        let diagnostic = Diagnostic::error("E0101", "m").label(Span::new(file, 7, 9), "l");
        assert!(render(&diagnostic, &sources, false).contains("E0101"));
    }
}
