//! The two roles of a run: the client (keys, encryption, decryption, evaluation) and the server (training).
//!
//! In: a compiled program and data. Out: trained weights and records of what happened. Knows no terminal: whoever
//! watches implements a trait.

#[cfg(feature = "client")]
pub mod client;
pub mod events;

#[cfg(feature = "client")]
pub mod engine;
#[cfg(feature = "client")]
pub mod evaluate;
#[cfg(feature = "client")]
pub mod train;

/// Peak resident memory of this process; 0 where the system does not tell.
pub fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// This machine's unit costs for a plan: about two seconds of measuring, keys included.
#[cfg(feature = "client")]
pub fn calibrate(
    profile: &'static crate::he::params::Profile,
) -> Result<crate::plan::estimate::Costs, crate::he::HeError> {
    let unit = crate::he::UnitCosts::measure_profile(profile)?;
    Ok(crate::plan::estimate::Costs {
        cores: unit.cores,
        pbs_seconds: unit.pbs_seconds,
        operand_seconds: unit.operand_seconds,
        accumulate_seconds: unit.accumulate_seconds,
        finish_seconds: unit.finish_seconds,
        switch_seconds: unit.switch_seconds,
        pack_seconds: unit.pack_seconds,
        parallel: unit.pbs_seconds / unit.pbs_all_cores_seconds.max(1e-9),
        measured: true,
    })
}
