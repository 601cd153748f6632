//! What a run says at its end.

use std::fmt::Write as _;

use super::format;
use crate::plan::estimate::StageSeconds;
use crate::run::events::{DoneRecord, ResultRecord, Scores};

/// The scores of a training run, its time and its memory.
pub fn training(record: &DoneRecord, data: &str) -> String {
    let how = match record.engine.as_str() {
        "encrypted" => "trained on encrypted data",
        "simulate" => "trained in simulation (integers and noise of the encrypted run)",
        _ => "trained in the clear",
    };
    let source = if record.engine == "encrypted" { "client's decryption" } else { "" };
    let mut out = format!("{} on {data}: {how}\n\n", record.model);
    let mut row = |name: &str, value: String, note: &str| {
        let note = if note.is_empty() { String::new() } else { format!("   ({note})") };
        let _ = writeln!(out, "  {name:<18}{value:>10}{note}");
    };
    let Scores { test_accuracy, train_accuracy, test_rmse, train_rmse } = record.scores;
    if let Some(accuracy) = test_accuracy {
        row("test accuracy", format::percent(accuracy), source);
    }
    if let Some(accuracy) = record.clear_accuracy {
        row("in the clear", format::percent(accuracy), "test accuracy of the same model, clear engine");
    }
    if let Some(accuracy) = train_accuracy {
        row("train accuracy", format::percent(accuracy), source);
    }
    if let Some(error) = test_rmse {
        row("test error", format!("{error:.4}"), "root mean square, in the unit of the target");
    }
    if let Some(error) = record.clear_rmse {
        row("in the clear", format!("{error:.4}"), "test error of the same model, clear engine");
    }
    if let Some(error) = train_rmse {
        row("train error", format!("{error:.4}"), source);
    }
    row("steps", format::count(record.steps as u64), "");
    if record.luts > 0 {
        row("look-ups", format::count(record.luts), "");
    }
    if record.parameters.is_some() {
        row("setup", format::seconds(record.setup_seconds), "keys and encryption");
    }
    row("training", format::seconds(record.train_seconds), "");
    if let Some(parts) = &record.stage_seconds {
        row("  of which", stages(parts), "");
    }
    if let Some(bytes) = record.ciphertext_bytes_per_sample {
        row("sent per sample", format::bytes(bytes), "ciphertexts, the label included");
    }
    if let Some(bytes) = record.weight_bytes {
        row("weights", format::bytes(bytes as f64), "as the client gets them back");
    }
    if record.peak_memory_bytes > 0 {
        row("peak memory", format::bytes(record.peak_memory_bytes as f64), "");
    }
    if let Some(parameters) = &record.parameters {
        let note = format!("{} bits of security", parameters.security_bits.floor());
        row("profile", parameters.profile.to_owned(), &note);
    }
    out
}

/// What a time is made of; parts below a hundredth are left out.
pub fn stages(seconds: &StageSeconds) -> String {
    let total = seconds.total();
    let notable = seconds.parts().into_iter().filter(|(_, part)| *part >= 0.01 * total && *part > 0.0);
    let shown: Vec<String> =
        notable.map(|(name, part)| format!("{name} {}", format::seconds(part))).collect();
    shown.join(", ")
}

/// Values of a result that are shown.
const SHOWN: usize = 16;

/// The result of a function, and how far it is from the clear engine's.
pub fn evaluation(record: &ResultRecord) -> String {
    let values: Vec<String> = record.values.iter().take(SHOWN).map(|v| format!("{v:.4}")).collect();
    let more = if record.values.len() > SHOWN { ", …" } else { "" };
    let mut out = format!("{} = [{}{more}]\n\n", record.name, values.join(", "));
    let mut row = |name: &str, value: String, note: &str| {
        let note = if note.is_empty() { String::new() } else { format!("   ({note})") };
        let _ = writeln!(out, "  {name:<18}{value:>14}{note}");
    };
    row("shape", crate::graph::show_shape(&record.shape), "");
    if record.engine != "clear" {
        row("largest error", format!("{:.5}", record.max_error), "against the clear engine");
        row("mean error", format!("{:.5}", record.rms_error), "root mean square");
        row("look-ups", format::count(record.luts), "");
    }
    if record.parameters.is_some() {
        row("setup", format::seconds(record.setup_seconds), "keys and encryption");
    }
    row("time", format::seconds(record.seconds), "");
    if let Some(parameters) = &record.parameters {
        let note = format!("{} bits of security", parameters.security_bits.floor());
        row("profile", parameters.profile.to_owned(), &note);
    }
    out
}
