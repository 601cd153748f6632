//! The homomorphic kernels: parameters, keys, ring products, switches between schemes, look-up tables.
//!
//! In: integers and torus values, and where they sit in a polynomial. Out: ciphertexts, and the predicted
//! noise of every operation. It knows no language, no graph and no file.
//!
//! [`params`] and [`noise`] are pure and always compiled: a plan can be made where no cryptography runs. The
//! kernels need the feature `server`; the types that hold secret keys exist under the feature `client` only.
// What a key is made from is at hand only where secret keys are.
#![cfg_attr(not(feature = "client"), allow(dead_code))]

pub mod ckks;
pub mod noise;
pub mod params;

#[cfg(feature = "server")]
mod bfv_ring;
#[cfg(feature = "server")]
mod blind_rotation;
#[cfg(feature = "server")]
mod bootstrap;
#[cfg(feature = "server")]
mod ciphertext;

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
mod error;
#[cfg(feature = "server")]
mod fourier;
#[cfg(feature = "server")]
mod key_switch;
#[cfg(feature = "server")]
mod keys;
#[cfg(feature = "server")]
mod lwe;
#[cfg(feature = "client")]
mod measure;
#[cfg(feature = "server")]
mod packing;
#[cfg(feature = "server")]
mod product;

#[cfg(feature = "server")]
pub mod ring;
#[cfg(feature = "server")]
mod switch;
#[cfg(feature = "server")]
mod table;
#[cfg(feature = "server")]
mod wire;

#[cfg(feature = "server")]
pub use self::{
    bfv_ring::Ring,
    bootstrap::Control,
    ciphertext::Ciphertext,
    error::HeError,
    keys::{KeyBytes, ServerKeys},
    lwe::{LabelCiphertext, Lwe, LweBig, LweSmall},
    packing::PackEntry,
    product::Operand,
    switch::SwitchedRing,
    table::LutTable,
};
#[cfg(feature = "client")]
pub use self::{
    client::{ClientKey, MeasuredNoise},
    measure::UnitCosts,
};
