//! The parameter rows of the ring engine: prime chains of the large ring, of which the small ring takes part.
//!
//! Pure: numbers only, so that a plan can be made where no cryptography runs.

/// One row: a chain of primes for functions up to a degree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RingProfile {
    /// Name, as in `--profile NAME`.
    pub name: &'static str,
    /// What it is for, in a line.
    pub purpose: &'static str,
    /// The largest degree of a function, 2^k − 1.
    pub function_degree: usize,
    /// Primes of ciphertexts, from the one that a raise starts with to the top.
    pub primes: &'static [u64],
    /// Special primes of key switching. Switches of the small ring and those under the sparse secret use the first alone.
    pub special_primes: &'static [u64],
    /// Digits of the hybrid key switch.
    pub digits: usize,
}

/// log2 of the degree of the large ring, in which functions are evaluated.
pub const LOG_DEGREE: usize = 15;
/// log2 of the degree of the small ring, in which products are made: eight of them interleave into the large one.
pub const SMALL_LOG_DEGREE: usize = 12;
/// Small rings in a large one.
pub const RINGS: usize = 1 << (LOG_DEGREE - SMALL_LOG_DEGREE);

/// log2 of [`RingProfile::output_scale`].
const OUTPUT_SCALE_BITS: f64 = 30.6;
/// Non-zero coefficients of the sparse secret, under which a modulus is raised and nothing else is encrypted.
pub const SPARSE_WEIGHT: usize = 32;

/// Every row that exists.
pub static RING_PROFILES: [RingProfile; 3] = [
    RingProfile {
        name: "ring-15",
        purpose: "functions of degree 15: sigmoid, tanh, identity",
        function_degree: 15,
        primes: &[
            67043329,
            68720066561,
            140737488486401,
            24879109046273,
            3109888327681,
            8589475841,
            8590458881,
            8589279233,
            8588886017,
            8590983169,
            8588820481,
            6219776720897,
            6219778097153,
            8588230657,
            8591835137,
            262625439252481,
            262625440104449,
        ],
        special_primes: &[32828179611649, 262625438466049, 262625441218561, 262625442201601, 262625436762113],
        digits: 3,
    },
    RingProfile {
        name: "ring-31",
        purpose: "functions of degree 31",
        function_degree: 31,
        primes: &[
            67043329,
            68720066561,
            140737488486401,
            24879109046273,
            3109888327681,
            8589475841,
            8590458881,
            8589279233,
            8588886017,
            8590983169,
            8588820481,
            8588230657,
            6219776720897,
            6219778097153,
            8591835137,
            8592949249,
            262625439252481,
            262625440104449,
        ],
        special_primes: &[32828179611649, 262625438466049, 262625441218561, 262625442201601],
        digits: 4,
    },
    RingProfile {
        name: "ring-63",
        purpose: "functions of degree 63: ReLU and others with a kink",
        function_degree: 63,
        primes: &[
            67043329,
            68720066561,
            140737488486401,
            1322739695617,
            268600016897,
            268599164929,
            5287837697,
            5286985729,
            5286592513,
            5289934849,
            5290196993,
            5290590209,
            5290721281,
            3828722434049,
            3828722565121,
            5283905537,
            5291507713,
            262625439252481,
            262625440104449,
        ],
        special_primes: &[32828179611649, 122519099539457, 122519098949633, 122519101112321],
        digits: 4,
    },
];

impl RingProfile {
    /// Units of the output modulus q0·q1 per unit of a function's value, the same for all functions and rows: where
    /// |f| ≤ 1/4, the phase of an output is at most 2^28.6.
    pub fn output_scale(&self) -> f64 {
        OUTPUT_SCALE_BITS.exp2()
    }

    /// The modulus of operands and of products before they are rescaled, q0·q1: about 2^62.
    pub fn product_modulus(&self) -> f64 {
        self.primes[0] as f64 * self.primes[1] as f64
    }
}
