//! RNS polynomials modulo X^N + 1: transforms, exact base conversion, key switching fused with rescaling.
//!
//! In: residues, packed keys. Out: residues. Knows no scheme, no secret key, no language and no file.

pub mod arith;
pub mod buffer;
pub mod context;
pub mod conversion;
mod error;
pub mod key_switch;
pub mod parallel;
pub mod simd;

pub use self::error::RingError;

#[cfg(test)]
mod tests;
