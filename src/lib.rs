//! hesn trains neural networks on data that stays encrypted.
//!
//! `parser` → `typeck` (elaborates into `graph`) → `plan` → `interp` → `run` → shells. Everything up to
//! `plan` is pure: text and values in, values out. See `ARCHITECTURE.md`.
#![deny(unsafe_code)]

pub mod diagnostics;
pub mod graph;
pub mod he;
pub mod interp;
pub mod parser;
pub mod plan;
pub mod typeck;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "client")]
pub mod data;
#[cfg(feature = "server")]
pub mod run;
