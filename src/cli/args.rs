//! The command line, as clap sees it.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::plan::parameters::Parameters;

/// Train neural networks on data that stays encrypted.
#[derive(Debug, Parser)]
#[command(
    name = "hesn",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "Example:\n  hesn run examples/breast_cancer.hes --compare\n\n\
        Results go to standard output, progress and diagnostics to standard error.\n\
        Exit status: 0 done, 1 the program, its data or a key is at fault, 2 wrong usage, 130 interrupted."
)]
pub struct Cli {
    /// Whether to use colours: `auto` does on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train what a program describes, on encrypted data
    Run(RunArgs),
    /// Report everything that is wrong with programs
    Check(CheckArgs),
    /// Say what a run will cost and how surely it will work, before anything runs
    Plan(PlanArgs),
    /// Explain a diagnostic code, or list all of them
    Explain(ExplainArgs),
    /// Measure this machine: seconds per bootstrap, product, switch and packing, or of a step of programs
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hesn run examples/breast_cancer.hes --compare\n  \
    hesn run examples/digits.hes --steps 20 --out weights.json\n  \
    hesn run examples/digits.hes --engine simulate --json")]
pub struct RunArgs {
    /// The program
    pub file: PathBuf,
    /// What computes: ciphertexts, the same integers with predicted noise, or plain numbers
    #[arg(long, value_enum, default_value_t = EngineName::Encrypted)]
    pub engine: EngineName,
    /// Train the clear engine beside it, on the client, and show both accuracies
    #[arg(long)]
    pub compare: bool,
    /// Take N steps, whatever the program's epochs; with `--epochs`, whichever ends first
    #[arg(long, value_name = "N")]
    pub steps: Option<NonZeroUsize>,
    /// Train for N epochs instead of what the program says
    #[arg(long, value_name = "N")]
    pub epochs: Option<NonZeroUsize>,
    /// Rules initial weights, shuffling and simulated noise; nothing secret
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub scheme: SchemeArgs,
    /// Threads to use; all cores by default
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Keep within so much memory, as 8GiB: encrypted data waits in a file, or the run is refused; what is free by default
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub memory: Option<u64>,
    /// Write the weights and the scaling of the data to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print one JSON object per step and epoch, and one at the end (`done`, or `interrupted`)
    #[arg(long)]
    pub json: bool,
}

/// Which cryptography.
#[derive(Debug, Args)]
pub struct SchemeArgs {
    /// Parameters; the smallest that fit the program by default
    #[arg(long, value_name = "NAME", value_parser = profiles())]
    pub profile: Option<String>,
    /// Ciphertexts that functions are looked up on
    #[arg(long, value_enum, default_value_t = SchemeName::Auto)]
    pub scheme: SchemeName,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hesn check examples/breast_cancer.hes examples/digits.hes")]
pub struct CheckArgs {
    /// Programs
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Show the type of every value: scheme, level and shape
    #[arg(long, conflicts_with = "json")]
    pub types: bool,
    /// Print one JSON object per diagnostic
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hesn plan examples/digits.hes\n  \
    hesn plan examples/digits.hes --dot | dot -Tsvg > digits.svg")]
pub struct PlanArgs {
    /// The program
    pub file: PathBuf,
    #[command(flatten)]
    pub scheme: SchemeArgs,
    /// Print one JSON object
    #[arg(long, conflicts_with = "dot")]
    pub json: bool,
    /// Print the graph with its derivative, for Graphviz
    #[arg(long)]
    pub dot: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hesn explain E0301")]
pub struct ExplainArgs {
    /// A code such as E0301; without it, all codes are listed
    pub code: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hesn bench --profile fast --json\n  \
    hesn bench examples/mlp.hes examples/cnn.hes --scheme ckks --steps 2")]
pub struct BenchArgs {
    /// Programs: a table of what an encrypted step of each takes, in Markdown; without any, unit costs are measured
    #[arg(value_name = "FILE", conflicts_with = "profile")]
    pub files: Vec<PathBuf>,
    /// Encrypted steps of each program
    #[arg(long, value_name = "N", default_value = "1", requires = "files")]
    pub steps: NonZeroUsize,
    /// Ciphertexts that functions of the programs are looked up on
    #[arg(long, value_enum, default_value_t = SchemeName::Auto, requires = "files")]
    pub scheme: SchemeName,
    /// Parameters to measure; otherwise the default of both schemes
    #[arg(long, value_name = "NAME", value_parser = profiles())]
    pub profile: Option<String>,
    /// Print JSON: one object for the unit costs, or for each program
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineName {
    /// Ciphertexts of the scheme
    Encrypted,
    /// The integers of the encrypted run, and its noise as the plan predicts it
    Simulate,
    /// 32-bit floating point, no cryptography
    Clear,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemeName {
    /// What costs least
    Auto,
    /// One bootstrap per value
    Tfhe,
    /// One bootstrap for 32,768 values
    Ckks,
}

fn profiles() -> PossibleValuesParser {
    PossibleValuesParser::new(
        Parameters::all().map(|row| clap::builder::PossibleValue::new(row.name()).help(row.purpose())),
    )
}

/// `8GiB`, `500MB`, `1.5G`, or a number of bytes.
fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 12] = [
        ("", 1.0),
        ("B", 1.0),
        ("K", 1024.0),
        ("KiB", 1024.0),
        ("KB", 1e3),
        ("M", 1048576.0),
        ("MiB", 1048576.0),
        ("MB", 1e6),
        ("G", 1073741824.0),
        ("GiB", 1073741824.0),
        ("GB", 1e9),
        ("TiB", 1099511627776.0),
    ];
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (text[..end].parse::<f64>(), text[end..].trim());
    let unit = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
    match (number, unit) {
        (Ok(number), Some((_, factor))) if number > 0.0 && number * factor < 9e18 => {
            Ok((number * factor) as u64)
        }
        _ => Err("write a size such as 8GiB or 500MB".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        assert_eq!(bytes("8GiB"), Ok(8 << 30));
        assert_eq!(bytes("500 MB"), Ok(500_000_000));
        assert_eq!(bytes("1.5k"), Ok(1536));
        assert_eq!(bytes("77"), Ok(77));
        for wrong in ["", "GiB", "-1", "8XB", "0", "1e3", "9999999999999GiB", "é"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
