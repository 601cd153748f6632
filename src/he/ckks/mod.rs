//! CKKS in a ring of degree 2^15: a function of 32,768 encrypted values at once.
//!
//! [`params`], [`fit`] and [`noise`] are pure and always compiled. The kernels need the feature `server`; what holds a
//! secret exists under the feature `client` only.

pub mod complex;
pub mod fit;
pub mod noise;
pub mod params;
pub mod small;
mod stages;

#[cfg(feature = "server")]
mod bootstrap;
#[cfg(feature = "server")]
mod ciphertext;
#[cfg(feature = "server")]
mod circuit;
#[cfg(feature = "server")]
mod close;
#[cfg(feature = "server")]
mod dft;
#[cfg(feature = "server")]
mod keys;
#[cfg(feature = "server")]
mod linear;
#[cfg(feature = "server")]
mod mask;
#[cfg(feature = "server")]
mod polynomial;
#[cfg(feature = "server")]
mod raise;
#[cfg(feature = "server")]
mod server_keys;

#[cfg(feature = "client")]
pub(crate) mod client;
#[cfg(feature = "client")]
mod client_key;
#[cfg(feature = "client")]
pub(crate) mod keygen;
#[cfg(feature = "client")]
pub mod measure;
#[cfg(feature = "client")]
pub(crate) mod random;
#[cfg(feature = "client")]
pub mod secret;

#[cfg(feature = "server")]
pub use self::{
    bootstrap::{Bootstrapper, Half, Powers, Slots},
    ciphertext::Ciphertext,
    keys::BootstrapKeys,
    mask::Mask,
    server_keys::ServerKeys,
    stages::Role,
};
#[cfg(feature = "client")]
pub use self::{client_key::ClientKey, secret::RingSecret};

#[cfg(all(test, feature = "client"))]
mod tests;
