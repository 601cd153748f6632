//! RNS polynomials modulo X^N + 1: transforms, exact base conversion, key switching fused with rescaling.
//!
//! In: residues. Out: residues. Knows no scheme, no secret key, no language and no file.

#![allow(dead_code, unsafe_code, clippy::all)]

pub mod arith;
pub mod buffer;
pub mod context;
pub mod key_switch;
mod ntt;
pub mod parallel;
pub mod simd;
