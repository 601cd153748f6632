//! The parameter rows of the ring engine: prime chains of the large ring, of which the small ring takes part.
//!
//! Pure: numbers only, so that a plan can be made where no cryptography runs.

use crate::he::params::REQUIRED_SECURITY_BITS;
use thiserror::Error;

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
    /// log2 of the scale that slots have between products.
    pub working_bits: f64,
    /// Powers up to this one are made of products of powers; it is the length of a polynomial's blocks.
    pub block: usize,
    /// Bytes of the evaluation keys of the bootstrap in memory.
    pub key_bytes: usize,
    /// Bytes of what is sent of them: the other halves are expanded from a seed.
    pub key_wire_bytes: usize,
    /// Bytes of the matrices of both transforms, which the server makes.
    pub transform_bytes: usize,
}

/// log2 of the degree of the large ring, in which functions are evaluated.
pub const LOG_DEGREE: usize = 15;
/// log2 of the degree of the small ring, in which products are made: eight of them interleave into the large one.
pub const SMALL_LOG_DEGREE: usize = 12;
/// Small rings in a large one.
pub const RINGS: usize = 1 << (LOG_DEGREE - SMALL_LOG_DEGREE);

/// What a bootstrap holds while it is made, in bytes: digits, powers and slots. Measured with functions of degree 63, as the peak
/// beyond keys and transforms.
pub const BOOTSTRAP_BYTES: usize = 460 << 20;

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
        working_bits: 33.0,
        block: 4,
        key_bytes: 910103104,
        key_wire_bytes: 455049216,
        transform_bytes: 488702400,
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
        working_bits: 33.0,
        block: 8,
        key_bytes: 1150554688,
        key_wire_bytes: 575275008,
        transform_bytes: 461406656,
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
        working_bits: 32.3,
        block: 8,
        key_bytes: 1186468416,
        key_wire_bytes: 593231872,
        transform_bytes: 471499200,
    },
];

/// The modulus raise fails where |t + I| > K. K ≥ 14 lets a run of 10^4 ciphertexts fail with less than 2^-40.
pub const RAISE_BOUND: f64 = 14.0;

/// Largest log2 of a modulus, with its special primes, at which a ring has 128 bits of security.
///
/// Uniform ternary secrets: the tables of the HomomorphicEncryption.org standard (Albrecht et al. 2018, classical attacks).
/// The sparse secret: Bossuat, Troncoso-Pastoriza, Hubaux, "Bootstrapping for approximate homomorphic encryption with
/// negligible failure-probability by using sparse-secret encapsulation", ACNS 2022: weight 32 at degree 2^15 is secure for
/// 128 bits modulo 2^162 at most.
const DENSE_LIMIT: f64 = 881.0;
const SMALL_LIMIT: f64 = 109.0;
const SPARSE_LIMIT: f64 = 162.0;

/// Primes are below 2^48, so that sixteen products add up before they are reduced.
const PRIME_BITS: u32 = 48;

/// Why a row is refused.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum RingGateError {
    /// A modulus is too large for its ring.
    #[error(
        "profile '{profile}': {what} has {bits:.1} bits, more than the {limit} at which 128 bits of security end"
    )]
    TooWeak {
        /// The profile.
        profile: &'static str,
        /// Which modulus.
        what: &'static str,
        /// Its bits.
        bits: f64,
        /// The largest number allowed.
        limit: f64,
    },
    /// A prime that is none, or has no roots of unity, or stands twice, or is too large.
    #[error(
        "profile '{profile}': {prime} is no prime below 2^48 that is 1 modulo 2^16 and stands there once"
    )]
    BadPrime {
        /// The profile.
        profile: &'static str,
        /// The number.
        prime: u64,
    },
    /// Not a row of the table.
    #[error(
        "profile '{profile}' is no row of the table of the ring engine: nobody has measured it; use one of {known}"
    )]
    NotInTable {
        /// The name.
        profile: String,
        /// The names of the rows.
        known: String,
    },
}

/// The row of a name.
///
/// # Errors
/// There is none; the message lists those that there are.
pub fn ring_profile(name: &str) -> Result<&'static RingProfile, RingGateError> {
    RING_PROFILES.iter().find(|row| row.name == name).ok_or_else(|| not_in_table(name))
}

fn not_in_table(name: &str) -> RingGateError {
    let names: Vec<&str> = RING_PROFILES.iter().map(|row| row.name).collect();
    RingGateError::NotInTable { profile: name.to_owned(), known: names.join(", ") }
}

/// Lets through what is a row of the table and has 128 bits of security under all of its three secrets. Returns the least
/// estimate, in bits: 128·limit/modulus, to first order.
///
/// # Errors
/// It is none, or too weak, or its primes cannot be used.
pub fn gate(profile: &RingProfile) -> Result<f64, RingGateError> {
    let name = profile.name;
    let all = || profile.primes.iter().chain(profile.special_primes);
    for (i, &prime) in all().enumerate() {
        let usable = prime >> PRIME_BITS == 0 && prime % (2 << LOG_DEGREE) == 1 && is_prime(prime);
        if !usable || all().take(i).any(|&p| p == prime) {
            return Err(RingGateError::BadPrime { profile: name, prime });
        }
    }
    if profile.primes.len() < 2 || profile.special_primes.is_empty() {
        return Err(not_in_table(name));
    }
    let mut security = f64::INFINITY;
    for (what, bits, limit) in profile.moduli() {
        if bits > limit {
            return Err(RingGateError::TooWeak { profile: name, what, bits, limit });
        }
        security = security.min(REQUIRED_SECURITY_BITS * limit / bits);
    }
    if !RING_PROFILES.contains(profile) {
        return Err(not_in_table(name));
    }
    Ok(security)
}

/// Miller and Rabin's test with the bases that are exact below 2^64.
fn is_prime(n: u64) -> bool {
    if n < 2 || n.is_multiple_of(2) {
        return n == 2;
    }
    let product = |a: u64, b: u64| (u128::from(a) * u128::from(b) % u128::from(n)) as u64;
    let power = |base: u64, mut e: u64| {
        let (mut b, mut r) = (base % n, 1);
        while e > 0 {
            if e & 1 == 1 {
                r = product(r, b);
            }
            b = product(b, b);
            e >>= 1;
        }
        r
    };
    let twos = (n - 1).trailing_zeros();
    [2u64, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37].iter().all(|&base| {
        let mut x = power(base, (n - 1) >> twos);
        let mut probably = n == base || x == 1;
        for _ in 0..twos {
            probably |= x == n - 1;
            x = product(x, x);
        }
        probably
    })
}

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

    /// The largest degree of a factor of a slot product, and of a function whose mask costs nothing.
    pub fn factor_degree(&self) -> usize {
        self.function_degree / 2
    }

    /// Pairs of blocks into which a polynomial of a degree is cut: a power of two.
    pub(crate) fn block_pairs(&self, degree: usize) -> usize {
        (degree + 1).div_ceil(2 * self.block).next_power_of_two()
    }

    /// Levels that a polynomial of a degree leaves over, against one of the row's degree.
    pub(crate) fn spare_levels(&self, degree: usize) -> u32 {
        let nodes = |degree| self.block_pairs(degree).trailing_zeros();
        nodes(self.function_degree).saturating_sub(nodes(degree))
    }

    /// What each secret is used with: the modulus' bits, and those allowed.
    pub fn moduli(&self) -> [(&'static str, f64, f64); 3] {
        let bits = |primes: &[u64]| primes.iter().map(|&p| (p as f64).log2()).sum::<f64>();
        let special = bits(&self.special_primes[..1]);
        [
            ("the modulus of the large ring", bits(self.primes) + bits(self.special_primes), DENSE_LIMIT),
            ("the modulus of the small ring", bits(&self.primes[..2]) + special, SMALL_LIMIT),
            ("the modulus under the sparse secret", bits(&self.primes[..1]) + special, SPARSE_LIMIT),
        ]
    }

    /// A number that changes with everything that two sides have to agree on: FNV-1a over the numbers of the row.
    pub fn fingerprint(&self) -> u64 {
        let numbers = self.primes.iter().chain(self.special_primes).copied();
        numbers
            .chain([
                self.digits as u64,
                self.block as u64,
                self.working_bits.to_bits(),
                RAISE_BOUND.to_bits(),
            ])
            .flat_map(u64::to_le_bytes)
            .fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_passes_the_gate_and_shares_the_small_ring() {
        let first = &RING_PROFILES[0];
        for row in &RING_PROFILES {
            let bits = gate(row).unwrap();
            assert!((128.0..135.0).contains(&bits), "{}: {bits}", row.name);
            assert_eq!(ring_profile(row.name).unwrap(), row);
            // The small ring is built on these three primes.
            assert_eq!(
                (&row.primes[..2], row.special_primes[0]),
                (&first.primes[..2], first.special_primes[0])
            );
            assert_eq!(
                (row.spare_levels(row.function_degree), row.spare_levels(row.factor_degree())),
                (0, 1)
            );
        }
        let prints = RING_PROFILES.each_ref().map(RingProfile::fingerprint);
        assert!(prints[0] != prints[1] && prints[1] != prints[2] && prints[0] != prints[2]);
    }

    #[test]
    fn the_gate_refuses_what_is_weak_or_unknown() {
        let row = &RING_PROFILES[2];
        let special = |list: &'static [u64]| RingProfile { special_primes: list, ..*row };
        const WIDE: &[u64] = &[32828179611649, 122519099539457, 122519098949633, 262625438466049];
        let wide = special(WIDE);
        assert!(
            matches!(gate(&wide), Err(RingGateError::TooWeak { what: "the modulus of the large ring", .. })),
            "{:?}",
            gate(&wide)
        );
        const FIRST: &[u64] = &[262625438466049, 122519099539457];
        assert!(matches!(
            gate(&special(FIRST)),
            Err(RingGateError::TooWeak { what: "the modulus of the small ring", limit: 109.0, .. })
        ));
        // 2^16·5 + 1 = 327681 = 3·… is composite; 7 has no roots; twice the same.
        const COMPOSITE: &[u64] = &[327681];
        const ROOTLESS: &[u64] = &[7];
        const TWICE: &[u64] = &[32828179611649, 32828179611649];
        const LARGE: &[u64] = &[1 << 48 | 1];
        for list in [COMPOSITE, ROOTLESS, TWICE, LARGE] {
            assert!(matches!(gate(&special(list)), Err(RingGateError::BadPrime { .. })), "{list:?}");
        }
        // Secure, but nobody has measured it.
        let other = RingProfile { working_bits: 32.0, ..*row };
        assert!(matches!(gate(&other), Err(RingGateError::NotInTable { .. })));
        let message = ring_profile("ring-127").unwrap_err().to_string();
        assert!(message.contains("ring-127") && message.contains("ring-15, ring-31, ring-63"), "{message}");
    }
}
