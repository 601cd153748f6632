//! `hesn plan`: what a run will cost, and how surely it will work.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use super::args::PlanArgs;
use super::format;
use super::shell::Shell;
use super::source;
use super::summary;
use super::tasks::{self, Compiled};
use crate::diagnostics::{Diagnostic, Sources};
use crate::graph::{Graph, show_shape};
use crate::plan::estimate::{self, Alignments, Costs, Extent, Report};
use crate::plan::parameters::Parameters;
use crate::run::calibrate;
use crate::run::options::RunOptions;
use crate::run::train::Length;

pub fn run(args: &PlanArgs, shell: &Shell) -> ExitCode {
    match plan(args, shell) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Reported) => ExitCode::FAILURE,
    }
}

/// What is wrong was shown.
struct Reported;

fn plan(args: &PlanArgs, shell: &Shell) -> Result<(), Reported> {
    let settings = source::settings(&args.scheme).map_err(|diagnostic| {
        shell.diagnostics(&[diagnostic], &Sources::default());
        Reported
    })?;
    let checked = source::check(&args.file, settings);
    let report = |diagnostics: &[Diagnostic]| {
        shell.diagnostics(diagnostics, &checked.sources);
        Reported
    };
    shell.diagnostics(&checked.diagnostics, &checked.sources);
    let program = checked.program.as_ref().ok_or(Reported)?;
    let mut planned = 0;
    let mut costs: HashMap<&'static str, Costs> = HashMap::new();
    for task in &program.tasks {
        let compiled = tasks::compile(task, program, &checked, settings).map_err(|d| report(&d))?;
        let (Some((graph, typing)), Some(choice)) = (compiled.graph(), compiled.choice()) else { continue };
        planned += 1;
        if args.dot {
            shell.print(&dot(graph));
            continue;
        }
        let Some(schedule) = compiled.schedule() else { continue };
        let schedule = schedule.as_ref().map_err(|diagnostics| report(diagnostics))?;
        if let Compiled::Train { task, .. } = &compiled
            && let Some(prefix) = &task.prefix
        {
            let shape = show_shape(&prefix.graph.node(prefix.output).shape);
            shell.note(&format!(
                "the client computes the frozen layers in the clear and encrypts {shape} for each sample"
            ));
        }
        let extent = match &compiled {
            Compiled::Train { training, data, .. } => {
                let length = Length::of(training, data.train.len, &RunOptions::default());
                Extent { steps: length.steps, samples: data.train.len }
            }
            _ => Extent { steps: 1, samples: 1 },
        };
        let parameters = schedule.parameters;
        let costs = *costs.entry(parameters.name()).or_insert_with(|| measure(parameters, shell));
        let alignments = Alignments { solved: typing.alignments.len(), naive: typing.naive_alignments };
        let planned = estimate::report(compiled.name(), schedule, &costs, extent, alignments, choice);
        if args.json {
            shell.json(&planned);
        } else {
            shell.print(&show(&planned, &costs));
        }
    }
    if planned == 0 {
        return Err(report(&[source::nothing_to_run(&args.file)]));
    }
    Ok(())
}

/// This machine's unit costs, or typical ones if it cannot measure itself.
fn measure(parameters: Parameters, shell: &Shell) -> Costs {
    shell.note("measuring this machine …");
    calibrate::costs(parameters).unwrap_or_else(|error| {
        shell.note(&format!("warning: it cannot be measured, typical costs are taken instead: {error}"));
        Costs::typical(parameters, rayon::current_num_threads())
    })
}

fn dot(graph: &Graph) -> String {
    graph.dot(|id| {
        let node = graph.node(id);
        let derivative = if node.origin.derivative { "\nderivative" } else { "" };
        format!("{}\n{}{derivative}", node.op.name(), show_shape(&node.shape))
    })
}

fn show(report: &Report, costs: &Costs) -> String {
    let mut out = format!("plan of {}\n\n", report.program);
    let mut row = |name: &str, value: String, note: &str| {
        let note = if note.is_empty() { String::new() } else { format!("   ({note})") };
        let _ = writeln!(out, "  {name:<26}{value:>14}{note}");
    };
    row("scheme", report.parameters.scheme.to_owned(), &report.scheme_reason);
    let measured = if report.calibrated { "measured on this machine" } else { "typical costs, not measured" };
    row(
        "steps",
        format::count(report.steps as u64),
        &format!("batches of {}", format::count(report.batch as u64)),
    );
    row("look-ups per step", format::count(report.luts_per_step as u64), "");
    row("products per step", format::count(report.products_per_step as u64), "");
    if report.bootstraps.is_empty() {
        row("packings per step", format::count(report.packs_per_step as u64), "");
    } else {
        let count = report.bootstraps.len();
        let fill = 100.0 * report.bootstraps.iter().map(|b| b.fill).sum::<f64>() / count as f64;
        row("bootstraps per step", format::count(count as u64), &format!("{fill:.1} % full"));
        row("moves per step", format::count(report.switches_per_step as u64), "automorphisms of small rings");
    }
    row("time per step", format::seconds(report.step_seconds), &format!("{} cores, {measured}", costs.cores));
    row("  of which", summary::stages(&report.stage_seconds), "");
    row("time in all", format::seconds(report.train_seconds), "keys and encryption not included");
    let data = format::bytes(report.data_memory_bytes as f64);
    let waits = if report.bootstraps.is_empty() { "" } else { ", which waits in a file beyond `--memory`" };
    row(
        "memory",
        format::bytes(report.memory_bytes as f64),
        &format!("of it {data} of encrypted data{waits}"),
    );
    let sent = format!("{} when sent", format::bytes(report.key_wire_bytes as f64));
    row("keys", format::bytes(report.key_bytes as f64), &sent);
    row("ciphertext per sample", format::bytes(report.ciphertext_bytes_per_sample), "when sent");
    row("weights", format::bytes(report.weight_bytes as f64), "when the client gets them back");
    let naive = format!(
        "an epoch; {} if every value entered at full depth",
        format::count(report.alignments_naive as u64)
    );
    row("alignments", report.alignments.to_string(), &naive);
    row(
        "largest input error",
        format!("{:.3} %", 100.0 * report.lut_input_error),
        "of a look-up's full range",
    );
    row("beyond a range", format::probability(report.range_excess_probability), "probability for one value");
    row(
        if report.bootstraps.is_empty() { "wrong decryption" } else { "a raise that fails" },
        format::probability(report.failure_probability),
        "probability, over the whole run",
    );
    let parameters = &report.parameters;
    row(
        "profile",
        parameters.profile.to_owned(),
        &format!(
            "N={}, log2 Q={:.0}, {}, {:.0} bits of security",
            parameters.ring_degree,
            parameters.ring_modulus_bits,
            parameters.tables.describe(),
            parameters.security_bits.floor()
        ),
    );
    if !report.sites.is_empty() {
        let _ = writeln!(
            out,
            "\n  {:<30}{:>10}{:>10}{:>14}{:>12}{:>16}",
            "look-up", "per step", "range", "input error", "fit error", "beyond range"
        );
    }
    for site in &report.sites {
        let _ = writeln!(
            out,
            "  {:<30}{:>10}{:>10}{:>13.3}%{:>11.3}%{:>16}",
            site.name,
            format::count(site.luts as u64),
            format!("±{}", (site.range * 100.0).round() / 100.0),
            100.0 * site.input_error,
            100.0 * site.fit_error,
            format::probability(site.range_excess_probability)
        );
    }
    if !report.bootstraps.is_empty() {
        let _ = writeln!(out, "\n  {:<46}{:>10}{:>10}{:>10}", "bootstrap", "values", "full", "lanes");
    }
    for bootstrap in &report.bootstraps {
        let _ = writeln!(
            out,
            "  {:<46}{:>10}{:>9.1}%{:>10}",
            bootstrap.tables.join(" + "),
            format::count(bootstrap.values as u64),
            100.0 * bootstrap.fill,
            if bootstrap.half { "half" } else { "all" }
        );
    }
    for warning in &report.warnings {
        let _ = writeln!(out, "\n  warning: {warning}");
    }
    out
}
