//! The small ring: ciphertexts of degree 4096 and 62 bits, in which operands meet and masters accumulate.
//!
//! In: the client's encryptions, and what a bootstrap puts out (eight of them interleave into a ciphertext of the large ring).
//! Out: sums of products, routed to the coefficients where the next stage reads them. Knows no function, no language and no file.
//!
//! Values are integers at a scale; a product is relinearised but never rescaled, so that its sum keeps all 62 bits until it is
//! embedded into the large ring. [`noise`] and [`program`] are pure; the kernels need the feature `server`.

pub mod noise;
pub mod program;
