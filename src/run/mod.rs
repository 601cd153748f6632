//! The two roles of a run: the client (keys, encryption, decryption, evaluation) and the server (training).
//!
//! In: a compiled program and data. Out: trained weights and records of what happened. Knows no terminal: whoever
//! watches implements a trait.

#[cfg(feature = "client")]
pub mod client;
pub mod events;

#[cfg(feature = "client")]
pub mod calibrate;
#[cfg(feature = "client")]
pub mod engine;
#[cfg(feature = "client")]
pub mod evaluate;
#[cfg(feature = "client")]
pub mod options;
#[cfg(feature = "client")]
pub mod prefix;
#[cfg(feature = "client")]
pub mod ring_client;
#[cfg(feature = "client")]
pub mod roles;
#[cfg(feature = "client")]
mod spill;
#[cfg(feature = "client")]
pub mod train;

/// Peak resident memory of this process; 0 where the system does not tell.
pub fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Memory that this machine can still give; `None` where the system does not tell.
pub fn available_memory_bytes() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
