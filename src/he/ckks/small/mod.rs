//! The small ring: ciphertexts of degree 4096 and 62 bits, in which operands meet and masters accumulate.
//!
//! In: the client's encryptions, and what a bootstrap puts out (eight of them interleave into a ciphertext of the large ring).
//! Out: sums of products, routed to the coefficients where the next stage reads them. Knows no function, no language and no file.
//!
//! Values are integers at a scale; a product is relinearised but never rescaled, so that its sum keeps all 62 bits until it is
//! embedded into the large ring. [`noise`] and [`program`] are pure; the kernels need the feature `server`, secrets `client`.

pub mod noise;
pub mod program;

#[cfg(feature = "server")]
mod ciphertext;
#[cfg(feature = "client")]
mod client;
#[cfg(feature = "server")]
mod embed;
#[cfg(feature = "server")]
mod execute;
#[cfg(feature = "server")]
mod keys;
#[cfg(feature = "server")]
mod product;
#[cfg(feature = "server")]
mod ring;
#[cfg(feature = "server")]
mod seeded;
#[cfg(feature = "server")]
mod switch;
#[cfg(feature = "server")]
mod uniform;
#[cfg(feature = "server")]
mod wire;

#[cfg(feature = "client")]
pub use client::SmallSecret;
#[cfg(feature = "server")]
pub use {
    ciphertext::SmallCiphertext,
    embed::{embed, extract},
    keys::SmallKeys,
    ring::{DEGREE, SmallRing, Width},
    seeded::SeededCiphertext,
};

#[cfg(all(test, feature = "client"))]
mod tests;
