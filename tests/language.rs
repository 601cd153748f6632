//! The documentation is true: every example of the language reference and of the error pages is checked.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hesn::diagnostics::{self, Severity, Sources, render};
use hesn::plan::check::diagnose;
use hesn::plan::compile::Settings;
use hesn::typeck::{self, NoData};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The `hes` blocks of a page, each with the code that it must give.
fn examples(page: &str) -> Vec<(Option<String>, String)> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```hes") else { continue };
        let code = info.trim().strip_prefix("error=").map(str::to_owned);
        let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        found.push((code, text.join("\n") + "\n"));
    }
    found
}

/// Checks one example; what is wrong with it, if anything.
fn problem(expected: Option<&str>, text: &str) -> Option<String> {
    let mut sources = Sources::default();
    let file = sources.add("example.hes", text);
    let mut checked = typeck::check(&mut sources, file, &NoData);
    if let Some(program) = &checked.program {
        checked.diagnostics.extend(diagnose(program, Settings::default()));
    }
    let shown: String = checked.diagnostics.iter().map(|d| render(d, &sources, false)).collect();
    match expected {
        None if checked.diagnostics.is_empty() => None,
        None => Some(format!("{text}\n{shown}")),
        Some(code) if checked.diagnostics.iter().any(|d| d.code == code) => {
            let others: Vec<_> = checked
                .diagnostics
                .iter()
                .filter(|d| d.code != code && d.severity == Severity::Error)
                .map(|d| d.code)
                .collect();
            (!others.is_empty()).then(|| format!("{text}\nalso gives {others:?}\n{shown}"))
        }
        Some(code) => Some(format!("{text}\ndoes not give {code}\n{shown}")),
    }
}

#[test]
fn the_examples_of_the_reference_are_right() {
    let page = fs::read_to_string(root("docs/language.md")).unwrap();
    let examples = examples(&page);
    assert!(examples.len() > 15, "the reference has lost its examples");
    let problems: Vec<String> =
        examples.iter().filter_map(|(code, text)| problem(code.as_deref(), text)).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_example_programs_are_right() {
    let mut count = 0;
    for entry in fs::read_dir(root("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "hes") {
            assert_eq!(problem(None, &fs::read_to_string(&path).unwrap()), None, "{}", path.display());
            count += 1;
        }
    }
    assert!(count > 0);
}

#[test]
fn the_examples_of_the_error_pages_give_their_error() {
    let mut problems = Vec::new();
    for (code, _) in diagnostics::codes() {
        let page = diagnostics::explain(code).unwrap();
        assert!(page.starts_with(&format!("# {code}: ")), "the page of {code} has another title");
        for (expected, text) in examples(page) {
            assert!(expected.as_deref().is_none_or(|e| e == code), "the page of {code} shows {expected:?}");
            problems.extend(problem(expected.as_deref(), &text));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// Texts of the form `"E0123"` in the sources of the program.
fn codes_in_use() -> BTreeSet<String> {
    let mut files = Vec::new();
    rust_files(&root("src"), &mut files);
    let mut codes = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        for part in text.split('"') {
            let is_code = part.len() == 5
                && (part.starts_with('E') || part.starts_with('W'))
                && part[1..].chars().all(|c| c.is_ascii_digit());
            if is_code {
                codes.insert(part.to_owned());
            }
        }
    }
    codes
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let pages: BTreeSet<String> = diagnostics::codes().map(|(code, _)| code.to_owned()).collect();
    let files: BTreeSet<String> = fs::read_dir(root("docs/errors"))
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().path().file_stem()?.to_str()?.to_owned()))
        .collect();
    assert_eq!(pages, files, "the pages in docs/errors and those that the program embeds differ");
    let used = codes_in_use();
    let missing: Vec<_> = used.difference(&pages).collect();
    assert!(missing.is_empty(), "codes without a page: {missing:?}");
}

#[test]
fn pages_are_found_by_code_in_any_case() {
    assert!(diagnostics::explain("e0203").is_some_and(|page| page.starts_with("# E0203")));
    assert_eq!(diagnostics::explain("E9999"), None);
    assert!(diagnostics::codes().any(|(code, title)| code == "E0206" && title == "recursion"));
}
