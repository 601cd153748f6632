//! `hesn bench FILE…`: encrypted steps of programs as a table, each in a process of its own, so that its peak is its own.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use serde::Serialize;
use serde_json::Value;

use super::args::{BenchArgs, SchemeName};
use super::format;
use super::shell::Shell;
use crate::plan::estimate::StageSeconds;

/// What a step of a program takes, measured; means over the steps.
#[derive(Serialize)]
struct Measured {
    program: String,
    scheme: String,
    batch: u64,
    steps: u64,
    luts_per_step: u64,
    /// Of TFHE as many as look-ups.
    bootstraps_per_step: u64,
    /// Values in bootstraps, of those that they have room for.
    fill: Option<f64>,
    products_per_step: u64,
    switches_per_step: u64,
    packs_per_step: u64,
    setup_seconds: f64,
    step_seconds: f64,
    predicted_step_seconds: f64,
    stage_seconds: StageSeconds,
    peak_memory_bytes: u64,
    predicted_memory_bytes: u64,
    ciphertext_bytes_per_sample: f64,
    weight_bytes: u64,
}

pub fn run(args: &BenchArgs, shell: &Shell) -> ExitCode {
    let mut head = true;
    for file in &args.files {
        match measure(file, args, shell) {
            Err(error) => {
                shell.note(&format!("error: {}: {error}", file.display()));
                return ExitCode::FAILURE;
            }
            Ok(measured) if args.json => shell.json(&measured),
            Ok(measured) => {
                if std::mem::take(&mut head) {
                    shell.print(HEAD);
                }
                shell.print(&row(&measured));
            }
        }
    }
    ExitCode::SUCCESS
}

const HEAD: &str = "\
| program | look-ups | bootstraps (full) | products | moves or packs | step | of it: routes in, opening, functions, closing, routes out, products, other | peak memory (plan) | sent per sample | sent back |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
";

fn row(own: &Measured) -> String {
    let fill = own.fill.map_or_else(String::new, |fill| format!(" ({})", format::percent(fill)));
    let stages: Vec<String> = own.stage_seconds.parts().iter().map(|(_, s)| format!("{s:.1}")).collect();
    format!(
        "| `{}`, {}, batch {} | {} | {}{} | {} | {} | {} ({} planned) | {} s | {} ({}) | {} | {} |\n",
        own.program,
        own.scheme,
        own.batch,
        format::count(own.luts_per_step),
        format::count(own.bootstraps_per_step),
        fill,
        format::count(own.products_per_step),
        format::count(own.switches_per_step.max(own.packs_per_step)),
        format::seconds(own.step_seconds),
        format::seconds(own.predicted_step_seconds),
        stages.join(", "),
        format::bytes(own.peak_memory_bytes as f64),
        format::bytes(own.predicted_memory_bytes as f64),
        format::bytes(own.ciphertext_bytes_per_sample),
        format::bytes(own.weight_bytes as f64),
    )
}

fn measure(file: &Path, args: &BenchArgs, shell: &Shell) -> Result<Measured, String> {
    let scheme = match args.scheme {
        SchemeName::Auto => "auto",
        SchemeName::Tfhe => "tfhe",
        SchemeName::Ckks => "ckks",
    };
    shell.note(&format!("planning {} …", file.display()));
    let plan = records(&[
        OsStr::new("plan"),
        file.as_os_str(),
        "--json".as_ref(),
        "--scheme".as_ref(),
        scheme.as_ref(),
    ])?;
    let plan = plan.first().ok_or("nothing was planned")?;
    shell.note(&format!("training {} for {} encrypted steps …", file.display(), args.steps));
    let steps = args.steps.to_string();
    let run = records(&[
        OsStr::new("run"),
        file.as_os_str(),
        "--json".as_ref(),
        "--scheme".as_ref(),
        scheme.as_ref(),
        "--steps".as_ref(),
        steps.as_ref(),
    ])?;
    let done = run.iter().find(|record| record["event"] == "done").ok_or("no training ran to its end")?;
    let count = |record: &Value, name: &str| record[name].as_u64().unwrap_or(0);
    let number = |record: &Value, name: &str| record[name].as_f64().unwrap_or(0.0);
    let taken = count(done, "steps").max(1);
    let stages: StageSeconds = serde_json::from_value(done["stage_seconds"].clone()).unwrap_or_default();
    let fill = plan["bootstraps"]
        .as_array()
        .filter(|own| !own.is_empty())
        .map(|own| own.iter().map(|bootstrap| number(bootstrap, "fill")).sum::<f64>() / own.len() as f64);
    Ok(Measured {
        program: file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned(),
        scheme: done["parameters"]["scheme"].as_str().unwrap_or_default().to_owned(),
        batch: count(plan, "batch"),
        steps: taken,
        luts_per_step: count(plan, "luts_per_step"),
        bootstraps_per_step: count(plan, "bootstraps_per_step"),
        fill,
        products_per_step: count(plan, "products_per_step"),
        switches_per_step: count(plan, "switches_per_step"),
        packs_per_step: count(plan, "packs_per_step"),
        setup_seconds: number(done, "setup_seconds"),
        step_seconds: number(done, "train_seconds") / taken as f64,
        predicted_step_seconds: number(plan, "step_seconds"),
        stage_seconds: stages.scaled(1.0 / taken as f64),
        peak_memory_bytes: count(done, "peak_memory_bytes"),
        predicted_memory_bytes: predicted_memory(plan, taken),
        ciphertext_bytes_per_sample: number(done, "ciphertext_bytes_per_sample"),
        weight_bytes: count(done, "weight_bytes"),
    })
}

/// The plan's memory for a run of so many steps, which encrypts no more batches.
fn predicted_memory(plan: &Value, steps: u64) -> u64 {
    let count = |name: &str| plan[name].as_u64().unwrap_or(0);
    let [all, data, batches] = ["memory_bytes", "data_memory_bytes", "batches"].map(count);
    let kept = data / batches.max(1) * steps.min(batches);
    all.saturating_sub(data) + kept
}

/// The JSON lines of this program, run with these arguments. What it says on standard error passes through.
fn records(args: &[&OsStr]) -> Result<Vec<Value>, String> {
    let own = std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
    let child = Command::new(own).args(args).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = child.map_err(|error| format!("a process cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("`hesn {}` ended with {}", args[0].to_string_lossy(), output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(|error| format!("a record cannot be read: {error}")))
        .collect()
}
