//! Parameters of a schedule, of either scheme: what layouts, amplitudes and estimates depend on, and nothing else.
//!
//! Noise is in *units*: steps of the integers that products compute with (of t for BFV, of q0·q1 for CKKS).

use crate::he::ckks::params::{LOG_DEGREE, RING_PROFILES, RingProfile, SMALL_LOG_DEGREE, gate as ring_gate};
use crate::he::ckks::{noise as ring, small};
use crate::he::noise;
use crate::he::params::{self, PROFILES, Profile};

use super::lower::AtomKind;

/// Which cryptography a user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SchemeChoice {
    /// Whatever costs least.
    #[default]
    Auto,
    Tfhe,
    Ckks,
}

/// A row of one of the two parameter tables.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Parameters {
    /// BFV products, and a bootstrap for each value.
    Tfhe(&'static Profile),
    /// CKKS products, and a bootstrap for 32,768 values.
    Ckks(&'static RingProfile),
}

/// Standard deviation of the values of a ramp that uses the whole scale, |f| ≤ 1/4.
const NOMINAL_SPREAD: f64 = 0.144;

/// Noise of the longest way that an output takes to its place in an operand, through a tree over all coefficients of a
/// small ring; in units.
pub fn longest_route_units(profile: &RingProfile) -> f64 {
    small::noise::route_units(profile, SMALL_LOG_DEGREE as u32)
}

impl Parameters {
    /// Looks a row up by name, in both tables.
    ///
    /// # Errors
    /// A message that names the rows that exist.
    pub fn named(name: &str) -> Result<Self, String> {
        if let Some(profile) = RING_PROFILES.iter().find(|profile| profile.name == name) {
            return Ok(Self::Ckks(profile));
        }
        params::profile(name).map(Self::Tfhe).map_err(|error| {
            let rings: Vec<&str> = RING_PROFILES.iter().map(|profile| profile.name).collect();
            format!("{error}, {}", rings.join(", "))
        })
    }

    /// Every row: its name and what it is for.
    pub fn all() -> impl Iterator<Item = Self> {
        PROFILES.iter().map(Self::Tfhe).chain(RING_PROFILES.iter().map(Self::Ckks))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Tfhe(profile) => profile.name,
            Self::Ckks(profile) => profile.name,
        }
    }

    /// What the row is for, in a line.
    pub fn purpose(self) -> &'static str {
        match self {
            Self::Tfhe(profile) => profile.purpose,
            Self::Ckks(profile) => profile.purpose,
        }
    }

    /// `tfhe` or `ckks`, as `--scheme` has it.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Tfhe(_) => "tfhe",
            Self::Ckks(_) => "ckks",
        }
    }

    /// The row of the BFV and TFHE engine, if this is one.
    pub fn tfhe(self) -> Option<&'static Profile> {
        match self {
            Self::Tfhe(profile) => Some(profile),
            Self::Ckks(_) => None,
        }
    }

    /// The row of the ring engine, if this is one.
    pub fn ckks(self) -> Option<&'static RingProfile> {
        match self {
            Self::Tfhe(_) => None,
            Self::Ckks(profile) => Some(profile),
        }
    }

    pub fn is_ckks(self) -> bool {
        matches!(self, Self::Ckks(_))
    }

    /// Degree of the ring in which products are made.
    pub fn degree(self) -> usize {
        match self {
            Self::Tfhe(profile) => profile.ring.degree,
            Self::Ckks(_) => 1 << SMALL_LOG_DEGREE,
        }
    }

    /// What values are held modulo, in units: the plaintext modulus t, or q0·q1.
    pub fn modulus(self) -> f64 {
        match self {
            Self::Tfhe(profile) => f64::from(profile.ring.plaintext_bits).exp2(),
            Self::Ckks(profile) => profile.product_modulus(),
        }
    }

    /// Whole bits of the modulus: what ranges are checked against.
    pub fn modulus_bits(self) -> u32 {
        self.modulus().log2().floor() as u32
    }

    /// Products in a row.
    pub fn depth(self) -> usize {
        match self {
            Self::Tfhe(profile) => profile.depth(),
            Self::Ckks(_) => 1,
        }
    }

    /// Values that one bootstrap treats.
    pub fn lanes(self) -> usize {
        match self {
            Self::Tfhe(_) => 1,
            Self::Ckks(_) => 1 << LOG_DEGREE,
        }
    }

    /// Whether the client encrypts an atom's values in the layout and at the amplitude of the operand that uses them.
    /// Labels come so under the ring engine; with TFHE as LWEs under the key of what leaves a table, packed with it.
    pub fn is_fresh(self, kind: AtomKind) -> bool {
        match kind {
            AtomKind::Fresh(_) => true,
            AtomKind::Label(_) => self.is_ckks(),
            AtomKind::Lut { .. } | AtomKind::Weight { .. } | AtomKind::Product(_) => false,
        }
    }

    /// Standard deviation of a fresh value's error, in units: its rounding to an integer, or the encryption's noise.
    pub fn fresh_noise_units(self) -> f64 {
        match self {
            Self::Tfhe(_) => noise::fresh_rounding_units(),
            Self::Ckks(_) => small::noise::fresh_units(),
        }
    }

    /// Variance of a label's noise before it is packed, in units squared; 0 where labels are fresh values.
    pub fn label_variance_units(self) -> f64 {
        match self {
            Self::Tfhe(profile) => noise::label_variance(profile) * self.modulus() * self.modulus(),
            Self::Ckks(_) => 0.0,
        }
    }

    /// Variance of the noise of a table's output before it is packed, in units squared.
    pub fn table_variance_units(self) -> f64 {
        match self {
            Self::Tfhe(profile) => noise::pbs_output_variance(profile) * self.modulus() * self.modulus(),
            Self::Ckks(profile) => {
                let output = ring::output_error(profile, profile.function_degree, NOMINAL_SPREAD);
                output.powi(2) + longest_route_units(profile).powi(2)
            }
        }
    }

    /// Standard deviation of the error that packing adds to values with this variance, theirs included, in units.
    pub fn packed_noise_units(self, variance_units: f64) -> f64 {
        match self {
            Self::Tfhe(profile) => {
                noise::packed_error_units(profile, variance_units / (self.modulus() * self.modulus()))
            }
            Self::Ckks(_) => variance_units.sqrt(),
        }
    }

    /// The largest output of a table, value times amplitude, in units.
    pub fn table_limit_units(self) -> f64 {
        match self {
            Self::Tfhe(_) => self.modulus() / 2.0,
            Self::Ckks(profile) => profile.output_scale() / 4.0,
        }
    }

    /// Standard deviation of the error of a table's input, as a fraction of the torus: `outputs` functions of a sum of
    /// `reads` ciphertexts.
    pub fn lut_input_error(self, outputs: usize, reads: usize) -> f64 {
        match self {
            Self::Tfhe(profile) => noise::lut_input_error(profile, outputs, reads as f64),
            Self::Ckks(profile) => {
                let rescale = (reads as f64).sqrt() * small::noise::rescale_error(profile);
                ring::input_error(profile).hypot(rescale)
            }
        }
    }

    /// Bytes of a ciphertext of the product ring in memory.
    pub fn ciphertext_bytes(self, level: usize) -> usize {
        match self {
            Self::Tfhe(profile) => profile.ciphertext_bytes(level),
            // Two polynomials of two residues.
            Self::Ckks(_) => 2 * self.degree() * 2 * 8,
        }
    }

    /// Bytes of a fresh ciphertext in the server's memory, as it keeps those of later batches.
    pub fn fresh_ciphertext_bytes(self, level: usize) -> usize {
        match self {
            Self::Tfhe(_) => self.ciphertext_bytes(level),
            // One polynomial and a seed.
            Self::Ckks(_) => self.ciphertext_bytes(level) / 2 + 32,
        }
    }

    /// Bytes of a ciphertext without a level to spend on the wire, as the server sends it: both polynomials, behind a header.
    pub fn wire_ciphertext_bytes(self) -> usize {
        match self {
            Self::Tfhe(profile) => profile.ciphertext_bytes(0),
            Self::Ckks(_) => 2 * (self.seeded_ciphertext_bytes(0) - 32 - 15) + 15,
        }
    }

    /// Bytes of a fresh ciphertext on the wire: one polynomial and a seed, behind a header.
    pub fn seeded_ciphertext_bytes(self, level: usize) -> usize {
        match self {
            Self::Tfhe(profile) => profile.seeded_ciphertext_bytes(level),
            Self::Ckks(profile) => {
                let bits = |&p: &u64| (u64::BITS - p.leading_zeros()) as usize;
                self.degree() * profile.primes[..2].iter().map(bits).sum::<usize>() / 8 + 32 + 15
            }
        }
    }

    /// Bytes of the evaluation keys in the server's memory.
    pub fn key_bytes(self) -> usize {
        match self {
            Self::Tfhe(profile) => profile.server_key_bytes(),
            Self::Ckks(profile) => profile.key_bytes,
        }
    }

    /// Bytes of the evaluation keys as sent, masks as seeds.
    pub fn key_wire_bytes(self) -> usize {
        match self {
            Self::Tfhe(profile) => profile.seeded_server_key_bytes(),
            Self::Ckks(profile) => profile.key_wire_bytes,
        }
    }

    /// Security estimate in bits.
    pub fn security_bits(self) -> f64 {
        match self {
            // A profile that is not gated cannot be looked up.
            Self::Tfhe(profile) => params::gate(profile).unwrap_or(0.0),
            Self::Ckks(profile) => ring_gate(profile).unwrap_or(0.0),
        }
    }

    /// Where the security estimate comes from, in a sentence.
    pub fn security_source(self) -> &'static str {
        match self {
            Self::Tfhe(profile) => profile.security_source(),
            Self::Ckks(_) => {
                "rings: HomomorphicEncryption.org standard, ternary secret, classical; sparse secret of the raise: Bossuat et al., ACNS 2022"
            }
        }
    }
}
