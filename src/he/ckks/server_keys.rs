//! All that a server holds of one client's ring engine: evaluation keys and transforms, nothing that decrypts.

use super::bootstrap::Bootstrapper;
use super::ciphertext::Ciphertext;
use super::keys::BootstrapKeys;
use super::params::{RINGS, RingProfile};
use super::small::{SmallCiphertext, SmallKeys, SmallRing, embed, extract};
use crate::he::error::HeError;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// The evaluation keys of both rings, ready for use.
pub struct ServerKeys {
    bootstrapper: Bootstrapper,
    small: SmallKeys,
}

impl ServerKeys {
    /// Encodes the transforms of the large ring: 450 MB, two seconds on one core.
    ///
    /// # Errors
    /// The keys belong to different profiles.
    pub fn new(large: BootstrapKeys, small: SmallKeys) -> Result<Self, HeError> {
        let (left, right) = (large.profile().name, small.ring().profile.name);
        if left != right {
            return Err(HeError::ProfileMismatch { operation: "evaluation keys", left, right });
        }
        Ok(Self { bootstrapper: Bootstrapper::new(large), small })
    }

    /// The profile of the keys.
    pub fn profile(&self) -> &'static RingProfile {
        self.bootstrapper.profile()
    }

    /// The small ring, in which products are made.
    pub fn ring(&self) -> &Arc<SmallRing> {
        self.small.ring()
    }

    /// Products and automorphisms of the small ring.
    pub fn small(&self) -> &SmallKeys {
        &self.small
    }

    /// Functions of many values.
    pub fn bootstrapper(&self) -> &Bootstrapper {
        &self.bootstrapper
    }

    /// A ciphertext of the small ring that holds zeros, without noise.
    pub fn zero(&self) -> SmallCiphertext {
        SmallCiphertext::zero(self.ring())
    }

    /// Interleaves up to eight ciphertexts into what a bootstrap reads.
    ///
    /// # Errors
    /// The rings differ, or there is none.
    pub fn embed(&self, rings: [Option<&SmallCiphertext>; RINGS]) -> Result<Ciphertext, HeError> {
        embed(self.bootstrapper.context(), rings)
    }

    /// The eight ciphertexts in what a bootstrap puts out.
    ///
    /// # Errors
    /// The ciphertext is no output of a bootstrap.
    pub fn extract(&self, ciphertext: &Ciphertext) -> Result<Vec<SmallCiphertext>, HeError> {
        extract(self.ring(), self.bootstrapper.context(), ciphertext)
    }

    /// Bytes of the keys in memory.
    pub fn bytes(&self) -> usize {
        self.bootstrapper.keys().bytes() + self.small.bytes()
    }

    /// Bytes of the encoded transforms, masks aside.
    pub fn transform_bytes(&self) -> usize {
        self.bootstrapper.transform_bytes()
    }

    /// Writes the keys, masks as seeds.
    ///
    /// # Errors
    /// The writer fails.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        self.small.write_to(out)?;
        self.bootstrapper.keys().write_to(out)
    }

    /// Reads keys that [`ServerKeys::write_to`] wrote.
    ///
    /// # Errors
    /// The bytes are no keys of this profile, or end too early.
    pub fn read_from(profile: &'static RingProfile, input: &mut impl Read) -> Result<Self, HeError> {
        let small = SmallKeys::read_from(&SmallRing::of(profile)?, input)?;
        Self::new(BootstrapKeys::read_from(input)?, small)
    }
}
