//! `hesn bench`: unit costs of this machine.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::args::BenchArgs;
use super::format;
use super::shell::Shell;
use crate::he::ckks::measure::RingUnitCosts;
use crate::he::ckks::params::{RING_PROFILES, RingProfile};
use crate::he::params::PROFILES;
use crate::he::{HeError, UnitCosts};
use crate::plan::parameters::Parameters;

/// Unit costs of the ring engine as one flat object of scripts, beside those of TFHE.
#[derive(serde::Serialize)]
struct RingJson {
    ckks_profile: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ckks_relu_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ckks_relu_all_cores_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ckks_relu_step_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ckks_sigmoid_seconds: Option<f64>,
    ckks_open_seconds: f64,
    ckks_open_low_seconds: f64,
    ckks_function_seconds: f64,
    ckks_close_seconds: f64,
    ckks_product_seconds: f64,
    ckks_accumulate_seconds: f64,
    ckks_switch_seconds: f64,
    ckks_key_seconds: f64,
    ckks_key_bytes: usize,
    ckks_key_wire_bytes: usize,
}

impl RingJson {
    /// `relu` is of a profile of degree 31 or 63; `sigmoid` of one of degree 15.
    fn of(costs: &[RingUnitCosts]) -> Option<Self> {
        let first = costs.first()?;
        let is_relu = |own: &&RingUnitCosts| own.profile != RING_PROFILES[0].name;
        let relu = costs.iter().find(is_relu);
        let sigmoid = costs.iter().find(|own| !is_relu(own));
        Some(Self {
            ckks_profile: first.profile,
            ckks_relu_seconds: relu.map(|own| own.value_seconds),
            ckks_relu_all_cores_seconds: relu.map(|own| own.value_all_cores_seconds),
            ckks_relu_step_seconds: relu.map(|own| own.pair_seconds),
            ckks_sigmoid_seconds: sigmoid.map(|own| own.value_seconds),
            ckks_open_seconds: first.open_seconds,
            ckks_open_low_seconds: first.open_low_seconds,
            ckks_function_seconds: first.function_seconds,
            ckks_close_seconds: first.close_seconds,
            ckks_product_seconds: first.product_seconds,
            ckks_accumulate_seconds: first.accumulate_seconds,
            ckks_switch_seconds: first.switch_seconds,
            ckks_key_seconds: first.key_seconds,
            ckks_key_bytes: first.key_bytes,
            ckks_key_wire_bytes: first.key_wire_bytes,
        })
    }
}

#[derive(serde::Serialize)]
struct Json {
    /// Those of `tfhe`, where it was not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    cores: Option<usize>,
    #[serde(flatten)]
    tfhe: Option<UnitCosts>,
    #[serde(flatten)]
    ckks: Option<RingJson>,
}

pub fn run(args: &BenchArgs, shell: &Shell) -> ExitCode {
    match measured(args, shell) {
        Err(error) => {
            shell.note(&format!("error: {error}"));
            ExitCode::FAILURE
        }
        Ok((tfhe, rings)) if args.json => {
            let cores = tfhe.is_none().then(rayon::current_num_threads);
            shell.json(&Json { cores, tfhe, ckks: RingJson::of(&rings) });
            ExitCode::SUCCESS
        }
        Ok((tfhe, rings)) => {
            tfhe.iter().for_each(|costs| shell.print(&table(costs)));
            rings.iter().for_each(|costs| shell.print(&ring_table(costs)));
            ExitCode::SUCCESS
        }
    }
}

/// What was asked for: one row, or the default of TFHE and the rows for ReLU and for sigmoids.
fn measured(args: &BenchArgs, shell: &Shell) -> Result<(Option<UnitCosts>, Vec<RingUnitCosts>), String> {
    let text = |error: HeError| error.to_string();
    let note = |name: &str| shell.note(&format!("making keys and measuring profile {name} …"));
    let ring = |profile: &'static RingProfile| {
        note(profile.name);
        RingUnitCosts::measure(profile).map_err(text)
    };
    let tfhe = |profile: &'static crate::he::params::Profile| {
        note(profile.name);
        UnitCosts::measure_profile(profile).map_err(text)
    };
    match &args.profile {
        None => Ok((Some(tfhe(&PROFILES[0])?), vec![ring(&RING_PROFILES[2])?, ring(&RING_PROFILES[0])?])),
        Some(name) => Ok(match Parameters::named(name)? {
            Parameters::Tfhe(profile) => (Some(tfhe(profile)?), Vec::new()),
            Parameters::Ckks(profile) => (None, vec![ring(profile)?]),
        }),
    }
}

fn row(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, "    {name:<44}{value:>10}");
}

fn table(costs: &UnitCosts) -> String {
    let mut out = format!("profile {}\n\n  on one core\n", costs.profile);
    let mut line = |name: &str, seconds: f64| row(&mut out, name, &format::seconds(seconds));
    line("bootstrap (one look-up)", costs.pbs_seconds);
    line("product of two ciphertexts", costs.product_seconds);
    line("  extending an operand, once for all products", costs.operand_seconds);
    line("  accumulating one term", costs.accumulate_seconds);
    line("  scaling down and relinearising a sum", costs.finish_seconds);
    line("switch to TFHE, all coefficients", costs.switch_seconds);
    line("packing, a full polynomial", costs.pack_seconds);
    line("encryption", costs.encrypt_seconds);
    line("decryption", costs.decrypt_seconds);
    let _ = writeln!(out, "\n  on all {} cores", costs.cores);
    let mut line = |name: &str, seconds: f64| row(&mut out, name, &format::seconds(seconds));
    line("bootstrap (one look-up)", costs.pbs_all_cores_seconds);
    line("packing, a full polynomial", costs.pack_all_cores_seconds);
    line("making the keys", costs.key_seconds);
    let _ = writeln!(out, "\n  {:.0} look-ups per second\n", costs.pbs_all_cores_seconds.recip());
    out
}

fn ring_table(costs: &RingUnitCosts) -> String {
    let name = if costs.profile == RING_PROFILES[0].name { "sigmoid" } else { "ReLU" };
    let mut out = format!("profile {}\n\n  on one core\n", costs.profile);
    let mut line = |name: &str, seconds: f64| row(&mut out, name, &format::seconds(seconds));
    line(&format!("bootstrap ({name}) of 32,768 values"), costs.value_seconds * 32768.0);
    line("  for each value", costs.value_seconds);
    line("  with its smoothed step, for each value", costs.pair_seconds);
    line("product of two ciphertexts", costs.product_seconds);
    line("  accumulating one term", costs.accumulate_seconds);
    line("automorphism (merging, splitting)", costs.switch_seconds);
    let _ = writeln!(out, "\n  on all {} cores", rayon::current_num_threads());
    let mut line = |name: &str, seconds: f64| row(&mut out, name, &format::seconds(seconds));
    line(&format!("bootstrap ({name}), for each value"), costs.value_all_cores_seconds);
    line("making the keys", costs.key_seconds);
    row(&mut out, "keys in memory", &format::bytes(costs.key_bytes as f64));
    row(&mut out, "keys as sent", &format::bytes(costs.key_wire_bytes as f64));
    let _ = writeln!(out, "\n  {:.0} look-ups per second\n", costs.value_all_cores_seconds.recip());
    out
}
