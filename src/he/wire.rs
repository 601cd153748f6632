//! Ciphertexts as bytes: a header with version, parameters and level around the library's own encoding, which has none.
//!
//! A fresh ciphertext is sent as one polynomial and a seed, any other one as two polynomials. What comes in is checked
//! before it is used: the library's decoding lets through what its operations panic on.

use super::{
    bfv_ring::{Representation, Ring},
    ciphertext::Ciphertext,
    error::{HeError, library},
    params::{PROFILES, Profile},
};
use fhe_traits::{DeserializeParametrized, Serialize};

const MAGIC: [u8; 4] = *b"hesn";
const VERSION: u16 = 1;
/// Magic, version, fingerprint, level.
const HEADER: usize = 4 + 2 + 8 + 1;

/// A number that changes with everything that two sides have to agree on for a ring ciphertext: FNV-1a over the ring's
/// parameters and the primes of each level.
fn fingerprint(profile: &Profile) -> u64 {
    let ring = &profile.ring;
    let numbers = [ring.degree, ring.plaintext_bits as usize]
        .into_iter()
        .chain(ring.prime_bits.iter().copied())
        .chain(profile.primes_at_level.iter().copied());
    numbers
        .flat_map(|n| (n as u64).to_le_bytes())
        .chain(profile.name.bytes())
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        })
}

impl Ciphertext {
    /// The ciphertext as bytes, with version, parameters and level.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.bytes());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(fingerprint(self.ring.profile).to_le_bytes());
        bytes.push(self.level as u8);
        bytes.extend(self.inner.to_bytes());
        bytes
    }

    /// Reads what [`Ciphertext::to_bytes`] wrote.
    ///
    /// # Errors
    /// Bytes of something else, of another version, of parameters that are not in the table, or damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HeError> {
        let malformed = |why: String| HeError::Malformed(why);
        let (header, body) = bytes.split_at_checked(HEADER).ok_or_else(|| {
            malformed(format!("{} bytes are fewer than its header has ({HEADER})", bytes.len()))
        })?;
        if header[..4] != MAGIC {
            return Err(malformed("it does not begin as one".to_owned()));
        }
        let version = u16::from_le_bytes([header[4], header[5]]);
        if version != VERSION {
            return Err(malformed(format!("it has version {version}, this program reads version {VERSION}")));
        }
        let known = |profile: &&Profile| fingerprint(profile).to_le_bytes() == header[6..14];
        let profile = PROFILES
            .iter()
            .find(known)
            .ok_or_else(|| malformed("its parameters are none of this program's profiles".to_owned()))?;
        let ring = Ring::of(profile)?;
        let level = usize::from(header[14]);
        let context = &ring.level("reading a ciphertext", level)?.context;
        let inner = fhe::bfv::Ciphertext::from_bytes(body, &ring.parameters)
            .map_err(|e| malformed(format!("the library reports: {e}")))?;
        if inner.len() != 2 {
            return Err(malformed(format!("it has {} polynomials where 2 are needed", inner.len())));
        }
        for polynomial in inner.iter() {
            if polynomial.ctx() != context || polynomial.representation() != &Representation::Ntt {
                return Err(malformed(format!("its polynomials are not those of level {level}")));
            }
            let coefficients = polynomial.coefficients();
            let residues = coefficients
                .as_slice()
                .ok_or_else(|| library("reading")("coefficients are not contiguous"))?;
            let rows = residues.chunks_exact(ring.degree()).zip(context.moduli());
            if rows.into_iter().any(|(row, &q)| row.iter().any(|&x| x >= q)) {
                return Err(malformed("a residue is not below its prime".to_owned()));
            }
        }
        Ok(Ciphertext { ring, inner, level })
    }
}
