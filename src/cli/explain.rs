//! `hesn explain`: the pages behind the codes.

use std::process::ExitCode;

use super::args::ExplainArgs;
use super::shell::Shell;
use crate::diagnostics::{codes, explain, suggest};

pub fn run(args: &ExplainArgs, shell: &Shell) -> ExitCode {
    let Some(code) = &args.code else {
        for (code, title) in codes() {
            shell.print(&format!("{code}  {title}\n"));
        }
        return ExitCode::SUCCESS;
    };
    if let Some(page) = explain(code) {
        shell.print(&format!("{}\n", page.trim_end()));
        return ExitCode::SUCCESS;
    }
    let near = suggest(code, codes().map(|(code, _)| code));
    let help = near.map_or_else(String::new, |near| format!(" Did you mean {near}?"));
    shell.note(&format!(
        "error: there is no diagnostic code {code:?}.{help}\n\n`hesn explain` lists all codes."
    ));
    ExitCode::FAILURE
}
