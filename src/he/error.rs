//! What can go wrong in the kernels.

use super::{ckks::params::RingGateError, params::GateError, ring::RingError};
use thiserror::Error;

/// An error of the homomorphic kernels. Messages state both values where two disagree.
#[derive(Debug, Error)]
pub enum HeError {
    /// The parameters are refused.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The parameters of the ring engine are refused.
    #[error(transparent)]
    RingGate(#[from] RingGateError),
    /// A ring or an instruction set is refused.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// Two ciphertexts of an addition have different levels.
    #[error(
        "{operation}: the operands have levels {left} and {right}; switch the higher one down to the lower level \
         first"
    )]
    LevelMismatch {
        /// The operation.
        operation: &'static str,
        /// Level of the left operand.
        left: usize,
        /// Level of the right operand.
        right: usize,
    },
    /// A product of ciphertexts of level 0.
    #[error(
        "product: the operands have level 0, so that no product is left; refresh them through a table, or choose a \
         profile that is deeper than '{profile}' (depth {depth})"
    )]
    LevelExhausted {
        /// Profile of the operands.
        profile: &'static str,
        /// Depth of the profile.
        depth: usize,
    },
    /// A level beyond the depth, or above that of the ciphertext.
    #[error("{operation}: level {level} is out of bounds: valid is 0 to {max}")]
    LevelOutOfBounds {
        /// The operation.
        operation: &'static str,
        /// The level that was asked for.
        level: usize,
        /// The largest level allowed here.
        max: usize,
    },
    /// Two values of different profiles meet.
    #[error(
        "{operation}: one operand has profile '{left}', the other '{right}'; use the keys of one profile"
    )]
    ProfileMismatch {
        /// The operation.
        operation: &'static str,
        /// Profile of the left operand.
        left: &'static str,
        /// Profile of the right operand.
        right: &'static str,
    },
    /// More coefficients than the ring has.
    #[error("{operation}: {got} coefficients do not fit into a polynomial of degree {degree}")]
    TooManyCoefficients {
        /// The operation.
        operation: &'static str,
        /// Number of coefficients given.
        got: usize,
        /// Ring degree.
        degree: usize,
    },
    /// A coefficient index beyond the ring degree.
    #[error("{operation}: coefficient {index} is out of bounds: valid is 0 to {max}")]
    CoefficientOutOfBounds {
        /// The operation.
        operation: &'static str,
        /// The index.
        index: usize,
        /// The largest valid index.
        max: usize,
    },
    /// Two values are to be packed at one coefficient.
    #[error("packing: two values are to be packed at coefficient {0}; add their LWEs first")]
    PackCollision(usize),
    /// An LWE of the wrong dimension.
    #[error("{operation}: an LWE of dimension {got} meets one of dimension {expected}")]
    LweDimension {
        /// The operation.
        operation: &'static str,
        /// Dimension given.
        got: usize,
        /// Dimension needed.
        expected: usize,
    },
    /// Lists that belong together have different lengths, or a needed list is empty.
    #[error("{operation}: {got} {what}, where {expected} are needed")]
    Count {
        /// The operation.
        operation: &'static str,
        /// What is counted.
        what: &'static str,
        /// Number given.
        got: usize,
        /// Number needed.
        expected: usize,
    },
    /// A table index beyond the list of tables.
    #[error("bootstrap: table {index} is out of bounds: there are {count} tables")]
    TableOutOfBounds {
        /// The index.
        index: usize,
        /// Number of tables.
        count: usize,
    },
    /// A table takes a value that is no torus element.
    #[error(
        "look-up table: output {output} is {value} at input {input}; outputs are fractions of the torus in \
         [-1/2, 1/2]: scale the function, or change it where it is undefined"
    )]
    TableValue {
        /// Which output of the table.
        output: usize,
        /// The input in [-1, 1).
        input: f64,
        /// What the function returned.
        value: f64,
    },
    /// A public multiplier that would spend the noise margin.
    #[error("{operation}: a multiplier of {value} is too large; at most {max} keeps the noise in bounds")]
    MultiplierTooLarge {
        /// The operation.
        operation: &'static str,
        /// The multiplier.
        value: i64,
        /// The largest magnitude allowed.
        max: i64,
    },
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
    /// The operating system gave no randomness.
    #[error("the operating system's random generator failed: {0}")]
    Randomness(String),
    /// Bytes that are no ciphertext of this version and these parameters.
    #[error("malformed ciphertext: {0}")]
    Malformed(String),
    /// Bytes that are no evaluation keys of this version and its profiles.
    #[error("malformed evaluation keys: {0}; make them again with this version")]
    MalformedKeys(String),
    /// Evaluation keys could not be written.
    #[error("writing the evaluation keys failed: {0}")]
    KeyOutput(String),
    /// A function's values in slots cannot be used so.
    #[error("{operation}: {reason}")]
    Slots {
        /// The operation.
        operation: &'static str,
        /// What does not fit, and how to mend it.
        reason: String,
    },
    /// A library refused an operation that was checked beforehand.
    #[error("{operation}: the library reports: {message}")]
    Library {
        /// The operation.
        operation: &'static str,
        /// Its message.
        message: String,
    },
}

/// Wraps a library's error with the operation in which it appeared.
pub(crate) fn library<E: std::fmt::Display>(operation: &'static str) -> impl Fn(E) -> HeError {
    move |e| HeError::Library { operation, message: e.to_string() }
}
