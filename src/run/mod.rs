//! The two roles of a run: the client (keys, encryption, decryption, evaluation) and the server (training).
//!
//! In: a plan, the client's data. Out: trained weights, and [`events`] while it works. Knows no terminal.

pub mod events;
