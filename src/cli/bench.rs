//! `hesn bench`: unit costs of this machine.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::args::BenchArgs;
use super::format;
use super::shell::Shell;
use crate::he::UnitCosts;
use crate::he::params;

pub fn run(args: &BenchArgs, shell: &Shell) -> ExitCode {
    let measured = params::profile(&args.profile).map_err(|error| error.to_string()).and_then(|profile| {
        shell.note(&format!("making keys and measuring profile {} …", profile.name));
        UnitCosts::measure_profile(profile).map_err(|error| error.to_string())
    });
    match measured {
        Err(error) => {
            shell.note(&format!("error: {error}"));
            ExitCode::FAILURE
        }
        Ok(costs) if args.json => {
            shell.json(&costs);
            ExitCode::SUCCESS
        }
        Ok(costs) => {
            shell.print(&table(&costs));
            ExitCode::SUCCESS
        }
    }
}

fn table(costs: &UnitCosts) -> String {
    let mut out = format!("profile {}\n\n  on one core\n", costs.profile);
    let mut row = |name: &str, seconds: f64| {
        let _ = writeln!(out, "    {name:<44}{:>10}", format::seconds(seconds));
    };
    row("bootstrap (one look-up)", costs.pbs_seconds);
    row("product of two ciphertexts", costs.product_seconds);
    row("  extending an operand, once for all products", costs.operand_seconds);
    row("  accumulating one term", costs.accumulate_seconds);
    row("  scaling down and relinearising a sum", costs.finish_seconds);
    row("switch to TFHE, all coefficients", costs.switch_seconds);
    row("packing, a full polynomial", costs.pack_seconds);
    row("encryption", costs.encrypt_seconds);
    row("decryption", costs.decrypt_seconds);
    let _ = writeln!(out, "\n  on all {} cores", costs.cores);
    let mut row = |name: &str, seconds: f64| {
        let _ = writeln!(out, "    {name:<44}{:>10}", format::seconds(seconds));
    };
    row("bootstrap (one look-up)", costs.pbs_all_cores_seconds);
    row("packing, a full polynomial", costs.pack_all_cores_seconds);
    row("making the keys", costs.key_seconds);
    let _ = writeln!(out, "\n  {:.0} look-ups per second", costs.pbs_all_cores_seconds.recip());
    out
}
