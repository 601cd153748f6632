//! The parameter profiles: one table, its security estimates, and the gate that refuses everything else.
//!
//! Pure: numbers only. The ring side follows the tables of the HomomorphicEncryption.org standard (Albrecht et
//! al. 2018, table 1, uniform ternary secret, classical attacks, 128 bits); the LWE and GLWE side follows the
//! 132-bit curve for Gaussian noise that tfhe-rs publishes with its lattice-estimator runs.

use thiserror::Error;

/// Variance of the centred binomial noise of a fresh BFV encryption, in steps of the modulus: its standard deviation of
/// 3.16 is that of the standard's tables (3.19) to a hundredth of a bit.
pub const RING_NOISE_VARIANCE: f64 = 10.0;

/// The least security, in bits, that the [`gate`] lets through.
pub const REQUIRED_SECURITY_BITS: f64 = 128.0;

/// A signed gadget decomposition: `levels` digits of `base_log` bits, most significant first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decomposition {
    /// Bits per digit.
    pub base_log: usize,
    /// Number of digits.
    pub levels: usize,
}

/// The BFV ring: Z_Q\[X\]/(X^N + 1) with plaintext modulus t, a power of two, and a uniform ternary secret.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RingParams {
    /// The ring degree N.
    pub degree: usize,
    /// Sizes of the RNS primes of Q in bits; every prime lies just under its power of two.
    pub prime_bits: &'static [usize],
    /// log2 of the plaintext modulus t.
    pub plaintext_bits: u32,
}

/// Programmable bootstrapping: a GLWE of dimension k over polynomials of size N_T, binary secret.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PbsParams {
    /// The GLWE dimension k.
    pub glwe_dimension: usize,
    /// The polynomial size N_T.
    pub polynomial_size: usize,
    /// Decomposition of the external products.
    pub decomposition: Decomposition,
    /// log2 of the standard deviation of the bootstrap key's noise, as a fraction of the torus.
    pub noise_log2: f64,
}

/// One row of the table: everything that the two engines have to agree on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// Name, as in `--profile NAME`.
    pub name: &'static str,
    /// What it is for, in a line.
    pub purpose: &'static str,
    /// The BFV ring.
    pub ring: RingParams,
    /// RNS primes that a ciphertext keeps, indexed by its level (the number of products still possible).
    pub primes_at_level: &'static [usize],
    /// Dimension of the LWEs that enter a bootstrap.
    pub n_lwe: usize,
    /// log2 of the standard deviation of the noise under that key, as a fraction of the torus.
    pub lwe_noise_log2: f64,
    /// Decomposition of the ring key switch from the ring's key to the LWE key.
    pub ring_key_switch: Decomposition,
    /// The bootstrap.
    pub pbs: PbsParams,
    /// Digits into which packing splits the mask of an LWE.
    pub packing_digits: usize,
}

const N4096: &[usize] = &[36, 36, 36];
const N8192: &[usize] = &[43, 43, 43, 43, 43];

/// Noise on the 132-bit curve at dimension 850: log2 σ = −18.5004, rounded up.
const LWE_850: f64 = -18.50;
/// Noise on the 132-bit curve at dimension 2048: log2 σ = −48.3204, rounded up.
const GLWE_2048: f64 = -48.32;

const TWO_LEVELS: Decomposition = Decomposition { base_log: 15, levels: 2 };
const THREE_LEVELS: Decomposition = Decomposition { base_log: 12, levels: 3 };
const RING_SWITCH: Decomposition = Decomposition { base_log: 2, levels: 8 };

/// Every profile that exists. Nothing else passes the [`gate`].
pub static PROFILES: [Profile; 4] = [
    Profile {
        name: "standard",
        purpose: "one product between tables; the default",
        ring: RingParams { degree: 4096, prime_bits: N4096, plaintext_bits: 25 },
        primes_at_level: &[2, 3],
        n_lwe: 850,
        lwe_noise_log2: LWE_850,
        ring_key_switch: RING_SWITCH,
        pbs: PbsParams {
            glwe_dimension: 1,
            polynomial_size: 2048,
            decomposition: TWO_LEVELS,
            noise_log2: GLWE_2048,
        },
        packing_digits: 1,
    },
    Profile {
        name: "fast",
        purpose: "cheaper tables that read one bit less of their input",
        ring: RingParams { degree: 4096, prime_bits: N4096, plaintext_bits: 25 },
        primes_at_level: &[2, 3],
        n_lwe: 850,
        lwe_noise_log2: LWE_850,
        ring_key_switch: RING_SWITCH,
        pbs: PbsParams {
            glwe_dimension: 2,
            polynomial_size: 1024,
            decomposition: TWO_LEVELS,
            noise_log2: GLWE_2048,
        },
        packing_digits: 1,
    },
    Profile {
        name: "precise",
        purpose: "table outputs with three more bits, at a third more time",
        ring: RingParams { degree: 4096, prime_bits: N4096, plaintext_bits: 28 },
        primes_at_level: &[2, 3],
        n_lwe: 850,
        lwe_noise_log2: LWE_850,
        ring_key_switch: RING_SWITCH,
        pbs: PbsParams {
            glwe_dimension: 1,
            polynomial_size: 2048,
            decomposition: THREE_LEVELS,
            noise_log2: GLWE_2048,
        },
        packing_digits: 2,
    },
    Profile {
        name: "deep",
        purpose: "three products between tables, each ten times as dear",
        ring: RingParams { degree: 8192, prime_bits: N8192, plaintext_bits: 30 },
        primes_at_level: &[2, 3, 4, 5],
        n_lwe: 850,
        lwe_noise_log2: LWE_850,
        ring_key_switch: RING_SWITCH,
        pbs: PbsParams {
            glwe_dimension: 1,
            polynomial_size: 2048,
            decomposition: THREE_LEVELS,
            noise_log2: GLWE_2048,
        },
        packing_digits: 1,
    },
];

/// log2 of the largest Q with 128 bits of security, by ring degree (HomomorphicEncryption.org standard, ternary
/// secret, classical). Keys count: a key switch with a special modulus counts its whole modulus.
const RING_LIMITS: &[(usize, f64)] =
    &[(1024, 27.0), (2048, 54.0), (4096, 109.0), (8192, 218.0), (16384, 438.0), (32768, 881.0)];

/// Why a set of parameters is refused.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum GateError {
    /// No row of the table has this name.
    #[error("unknown profile '{name}': the profiles are {known}")]
    UnknownProfile {
        /// The name that was asked for.
        name: String,
        /// The names that exist, separated by commas.
        known: String,
    },
    /// The values differ from every row of the table.
    #[error(
        "the parameters called '{name}' are not a row of the parameter table: only its rows ({known}) carry a \
         security estimate; choose one of them"
    )]
    NotInTable {
        /// The name that the parameters carry.
        name: String,
        /// The names that exist, separated by commas.
        known: String,
    },
    /// The ciphertext modulus is too large for its ring degree.
    #[error(
        "profile '{name}': a ring of degree {degree} with log2 Q = {log2_q:.1} has less than 128 bits of security; \
         the limit is log2 Q <= {limit}: take fewer primes or a larger degree"
    )]
    RingTooWeak {
        /// Name of the profile.
        name: String,
        /// Ring degree.
        degree: usize,
        /// log2 of the largest modulus under the ring's key.
        log2_q: f64,
        /// The largest log2 Q allowed at this degree (0 where the degree is not in the standard).
        limit: f64,
    },
    /// The noise of an LWE or GLWE key is below the security curve.
    #[error(
        "profile '{name}': the {what} of dimension {dimension} needs noise of at least 2^{needed:.2} of the torus \
         for 132 bits of security, but has 2^{noise:.2}: raise the noise or the dimension"
    )]
    NoiseTooSmall {
        /// Name of the profile.
        name: String,
        /// Which key.
        what: &'static str,
        /// Dimension of the key.
        dimension: usize,
        /// log2 σ in the profile.
        noise: f64,
        /// log2 σ on the curve.
        needed: f64,
    },
}

/// Variance, as a fraction of the torus squared, of the least Gaussian noise with 132 bits of security for a binary
/// secret of this dimension and the modulus 2^64: the curve of tfhe-rs (`noise_formulas::secure_noise`), which
/// ends at a noise of 2^-62.
pub fn secure_lwe_variance(dimension: usize) -> f64 {
    const LOG2_MODULUS: f64 = 64.0;
    (4.0 - 2.0 * LOG2_MODULUS).exp2()
        + (5.314_691_876_750_68 - 0.049_782_913_165_266_1 * dimension as f64).exp2()
}

/// Looks a profile up by name and passes it through the [`gate`].
///
/// # Errors
/// [`GateError::UnknownProfile`], naming the profiles that exist.
pub fn profile(name: &str) -> Result<&'static Profile, GateError> {
    let found = PROFILES
        .iter()
        .find(|p| p.name == name)
        .ok_or_else(|| GateError::UnknownProfile { name: name.to_owned(), known: known_names() })?;
    gate(found)?;
    Ok(found)
}

fn known_names() -> String {
    PROFILES.iter().map(|p| p.name).collect::<Vec<_>>().join(", ")
}

/// Security estimate of a profile in bits; refuses whatever is below 128 bits or not a row of [`PROFILES`].
///
/// # Errors
/// The first reason for refusal.
pub fn gate(profile: &Profile) -> Result<f64, GateError> {
    let bits = estimate(profile)?;
    if !PROFILES.contains(profile) {
        return Err(GateError::NotInTable { name: profile.name.to_owned(), known: known_names() });
    }
    Ok(bits)
}

/// The estimate alone: the weaker of ring and LWE side.
fn estimate(profile: &Profile) -> Result<f64, GateError> {
    let name = || profile.name.to_owned();
    let log2_q: f64 = profile.ring.prime_bits.iter().map(|&b| b as f64).sum();
    let degree = profile.ring.degree;
    let limit = RING_LIMITS.iter().find(|&&(n, _)| n == degree).map_or(0.0, |&(_, limit)| limit);
    if log2_q > limit {
        return Err(GateError::RingTooWeak { name: name(), degree, log2_q, limit });
    }
    let keys = [
        ("LWE key", profile.n_lwe, profile.lwe_noise_log2),
        ("bootstrap key", profile.pbs.output_dimension(), profile.pbs.noise_log2),
    ];
    for (what, dimension, noise) in keys {
        let needed = 0.5 * secure_lwe_variance(dimension).log2();
        if noise < needed {
            return Err(GateError::NoiseTooSmall { name: name(), what, dimension, noise, needed });
        }
    }
    // To first order the bits of a ring are proportional to N / log2 Q; the table fixes the constant.
    Ok((REQUIRED_SECURITY_BITS * limit / log2_q).min(132.0))
}

impl PbsParams {
    /// Dimension k·N_T of the LWEs that a bootstrap puts out.
    pub fn output_dimension(&self) -> usize {
        self.glwe_dimension * self.polynomial_size
    }
}

impl Profile {
    /// The largest level: the number of products that fresh and packed operands allow.
    pub fn depth(&self) -> usize {
        self.primes_at_level.len().saturating_sub(1)
    }

    /// The plaintext modulus t.
    pub fn t(&self) -> u64 {
        1 << self.ring.plaintext_bits
    }

    /// RNS primes at a level; levels beyond the depth have those of the depth.
    pub fn primes(&self, level: usize) -> usize {
        self.primes_at_level.get(level).or(self.primes_at_level.last()).copied().unwrap_or(0)
    }

    /// log2 of the modulus at a level.
    pub fn log2_q(&self, level: usize) -> f64 {
        self.ring.prime_bits.iter().take(self.primes(level)).map(|&b| b as f64).sum()
    }

    /// Dimension of the LWEs that come out of a table and that packing takes.
    pub fn lut_output_dimension(&self) -> usize {
        self.pbs.output_dimension()
    }

    /// Where the security estimate comes from, in a sentence.
    pub fn security_source(&self) -> &'static str {
        "ring: HomomorphicEncryption.org standard, ternary secret, classical; LWE and GLWE: tfhe-rs 132-bit curve"
    }

    /// Bytes of a ciphertext in memory: two polynomials of 64-bit residues.
    pub fn ciphertext_bytes(&self, level: usize) -> usize {
        2 * self.ring.degree * self.primes(level) * 8
    }

    /// Bytes of a fresh ciphertext on the wire: one polynomial of tightly packed residues and a seed.
    pub fn seeded_ciphertext_bytes(&self, level: usize) -> usize {
        self.packed_polynomial_bytes(self.primes(level)) + 32
    }

    /// Bytes of the bootstrap key in memory (Fourier domain).
    pub fn bootstrap_key_bytes(&self) -> usize {
        let k = self.pbs.glwe_dimension;
        self.n_lwe * (k + 1) * (k + 1) * self.pbs.decomposition.levels * self.pbs.polynomial_size * 8
    }

    /// Bytes of the bootstrap key on the wire: bodies and a seed.
    pub fn seeded_bootstrap_key_bytes(&self) -> usize {
        let k = self.pbs.glwe_dimension;
        self.n_lwe * (k + 1) * self.pbs.decomposition.levels * self.pbs.polynomial_size * 8 + 16
    }

    /// Bytes of the packing key in memory.
    pub fn packing_key_bytes(&self) -> usize {
        self.lut_output_dimension() * self.packing_digits * self.ciphertext_bytes(self.depth())
    }

    /// Bytes of the packing key on the wire.
    pub fn seeded_packing_key_bytes(&self) -> usize {
        self.lut_output_dimension() * self.packing_digits * self.seeded_ciphertext_bytes(self.depth())
    }

    /// Bytes of the ring switch key in memory (Fourier domain).
    pub fn ring_switch_key_bytes(&self) -> usize {
        2 * self.ring_key_switch.levels * self.ring.degree * 8
    }

    /// Bytes of the ring switch key on the wire: bodies and a seed.
    pub fn seeded_ring_switch_key_bytes(&self) -> usize {
        self.ring_key_switch.levels * self.ring.degree * 8 + 16
    }

    /// Bytes of all relinearisation keys in memory: for each level that allows a product, a pair per prime of the
    /// result, over all primes.
    pub fn relinearisation_key_bytes(&self) -> usize {
        let pairs: usize = (1..=self.depth()).map(|level| self.primes(level - 1)).sum();
        pairs * 2 * self.ring.prime_bits.len() * self.ring.degree * 8
    }

    /// Bytes of all relinearisation keys on the wire.
    pub fn seeded_relinearisation_key_bytes(&self) -> usize {
        let pairs: usize = (1..=self.depth()).map(|level| self.primes(level - 1)).sum();
        pairs * self.packed_polynomial_bytes(self.ring.prime_bits.len()) + 32 * self.depth()
    }

    /// Bytes of all that a server holds, in memory.
    pub fn server_key_bytes(&self) -> usize {
        self.bootstrap_key_bytes()
            + self.packing_key_bytes()
            + self.ring_switch_key_bytes()
            + self.relinearisation_key_bytes()
    }

    /// Bytes of all that a client sends once, with masks as seeds.
    pub fn seeded_server_key_bytes(&self) -> usize {
        self.seeded_bootstrap_key_bytes()
            + self.seeded_packing_key_bytes()
            + self.seeded_ring_switch_key_bytes()
            + self.seeded_relinearisation_key_bytes()
    }

    fn packed_polynomial_bytes(&self, primes: usize) -> usize {
        let bits: usize = self.ring.prime_bits.iter().take(primes).sum();
        self.ring.degree * bits / 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_passes_the_gate() {
        for p in &PROFILES {
            let bits = gate(p).unwrap();
            assert!((128.0..=132.0).contains(&bits), "{}: {bits}", p.name);
            assert_eq!(
                p.primes(p.depth()),
                p.ring.prime_bits.len(),
                "{}: the top level has all primes",
                p.name
            );
            assert!(p.primes_at_level.is_sorted());
            assert!(p.ring.plaintext_bits < 32, "packing holds a rounded word in 32 bits");
            assert_eq!(profile(p.name).unwrap(), p);
        }
    }

    #[test]
    fn the_gate_refuses_what_is_weak_or_unknown() {
        let standard = PROFILES[0];
        let wide = Profile { ring: RingParams { prime_bits: &[37, 37, 36], ..standard.ring }, ..standard };
        assert!(matches!(gate(&wide), Err(GateError::RingTooWeak { degree: 4096, .. })));
        let small = Profile { ring: RingParams { degree: 2048, ..standard.ring }, ..standard };
        assert!(matches!(gate(&small), Err(GateError::RingTooWeak { degree: 2048, .. })));
        let odd = Profile { ring: RingParams { degree: 5000, ..standard.ring }, ..standard };
        assert!(matches!(gate(&odd), Err(GateError::RingTooWeak { degree: 5000, .. })));
        let quiet = Profile { lwe_noise_log2: -18.6, ..standard };
        assert!(matches!(gate(&quiet), Err(GateError::NoiseTooSmall { what: "LWE key", .. })));
        let short = Profile { n_lwe: 849, ..standard };
        assert!(matches!(gate(&short), Err(GateError::NoiseTooSmall { dimension: 849, .. })));
        let glwe = Profile { pbs: PbsParams { polynomial_size: 1024, ..standard.pbs }, ..standard };
        assert!(matches!(gate(&glwe), Err(GateError::NoiseTooSmall { what: "bootstrap key", .. })));
        // Secure, but nobody has measured it: not a row.
        let other = Profile { n_lwe: 900, ..standard };
        assert!(matches!(gate(&other), Err(GateError::NotInTable { .. })));
        let message = profile("turbo").unwrap_err().to_string();
        assert!(message.contains("turbo") && message.contains("standard, fast, precise, deep"), "{message}");
    }

    #[cfg(feature = "server")]
    #[test]
    fn the_curve_is_that_of_tfhe() {
        use tfhe::core_crypto::commons::noise_formulas::secure_noise::minimal_lwe_variance_for_132_bits_security_gaussian_impl;
        for n in [600, 850, 900, 1024, 2048, 2400, 4096] {
            let theirs = minimal_lwe_variance_for_132_bits_security_gaussian_impl(n as f64, 64f64.exp2());
            assert!((secure_lwe_variance(n) / theirs - 1.0).abs() < 1e-9, "dimension {n}");
        }
    }
}
