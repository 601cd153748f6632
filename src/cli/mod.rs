//! The command `hesn`: a thin shell over the library.
//!
//! In: arguments, files, Ctrl-C. Out: results on standard output, progress and diagnostics on standard error, an exit
//! status (0 done, 1 the program, its data or a key is at fault, 2 wrong usage, 130 interrupted). It holds no logic
//! that another shell would need too.

mod args;
mod bench;
mod bench_programs;
mod check;
mod explain;
mod format;
mod interrupt;
mod model_file;
mod observe;
mod plan;
mod run;
mod shell;
mod source;
mod summary;
mod tasks;

use std::process::ExitCode;

use clap::Parser as _;

use crate::he::ring::simd::Isa;
use args::{Cli, Command};
use shell::Shell;

/// Exit status of wrong usage.
const USAGE: u8 = 2;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let shell = Shell::new(cli.color);
    if let Err(error) = Isa::from_env() {
        shell.note(&format!("error: {error}"));
        return ExitCode::from(USAGE);
    }
    let status = match &cli.command {
        Command::Check(args) => check::run(args, &shell),
        Command::Explain(args) => explain::run(args, &shell),
        Command::Bench(args) if args.files.is_empty() => bench::run(args, &shell),
        Command::Bench(args) => bench_programs::run(args, &shell),
        Command::Run(args) => run::run(args, &shell),
        Command::Plan(args) => plan::run(args, &shell),
    };
    if shell.intact() { status } else { ExitCode::FAILURE }
}
