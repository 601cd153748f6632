//! What can go wrong where a ring is set up.

use thiserror::Error;

/// A basis or an instruction set that is refused.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum RingError {
    /// An instruction set that does not exist.
    #[error(
        "HESN_ISA: there is no instruction set '{name}'; valid are {valid}, on this processor {available}; unset it for the fastest"
    )]
    IsaUnknown {
        /// The name given.
        name: String,
        /// All names.
        valid: &'static str,
        /// Those that can be used here.
        available: String,
    },
    /// An instruction set that this processor lacks.
    #[error(
        "HESN_ISA: this processor has no '{name}' as the ring's kernels need it; use one of {available}, or unset it for the fastest"
    )]
    IsaMissing {
        /// The name given.
        name: String,
        /// Those that can be used here.
        available: String,
    },
    /// A degree that is out of range.
    #[error("ring: a degree of 2^{log_degree} is not supported; valid is 2^{min} to 2^{max}")]
    Degree {
        /// log2 of the degree given.
        log_degree: usize,
        /// Smallest valid log2.
        min: usize,
        /// Largest valid log2.
        max: usize,
    },
    /// A modulus that the kernels cannot use.
    #[error("ring: {modulus} cannot be a modulus: {reason}")]
    Modulus {
        /// The number given.
        modulus: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A modulus chain of a wrong shape.
    #[error("ring: {0}")]
    Chain(String),
}
