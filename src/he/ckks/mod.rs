//! CKKS in a ring of degree 2^15: a function of 32,768 encrypted values at once.

#![allow(dead_code, unsafe_code, clippy::all)]

pub mod noise;
pub mod params;
pub mod small;

#[cfg(feature = "server")]
mod embedding;
#[cfg(feature = "server")]
mod evaluator;
#[cfg(feature = "server")]
mod keys;
#[cfg(feature = "client")]
pub(crate) mod random;
#[cfg(feature = "client")]
pub mod secret;
