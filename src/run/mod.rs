//! The two roles of a run: the client (keys, encryption, decryption, evaluation) and the server (training).
//!
//! In: a compiled program and data. Out: trained weights and records of what happened. Knows no terminal: whoever
//! watches implements a trait.

#[cfg(feature = "client")]
pub mod client;
pub mod events;
