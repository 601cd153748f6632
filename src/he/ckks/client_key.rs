//! The client's key of the ring engine: what encrypts, decrypts and makes evaluation keys.

use super::params::{RingProfile, gate};
use super::secret::RingSecret;
use super::server_keys::ServerKeys;
use super::small::{SeededCiphertext, SmallCiphertext, SmallRing, SmallSecret};
use crate::he::error::HeError;
use zeroize::Zeroizing;

/// The secrets of one client, wiped from memory when dropped; neither shown nor cloned.
pub struct ClientKey {
    profile: &'static RingProfile,
    secret: RingSecret,
    small: SmallSecret,
}

impl ClientKey {
    /// Draws new keys for a profile that passes the gate.
    ///
    /// # Errors
    /// The gate refuses the profile, or the operating system gives no randomness.
    pub fn generate(profile: &'static RingProfile) -> Result<Self, HeError> {
        gate(profile)?;
        let secret = RingSecret::generate()?;
        let small = SmallSecret::new(&SmallRing::of(profile)?, &secret)?;
        Ok(Self { profile, secret, small })
    }

    /// The profile of the keys.
    pub fn profile(&self) -> &'static RingProfile {
        self.profile
    }

    /// Makes the evaluation keys, on the current rayon pool. `progress` gets (steps done, steps in all).
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn server_keys(&self, progress: &dyn Fn(usize, usize)) -> Result<ServerKeys, HeError> {
        let small = self.small.server_keys()?;
        ServerKeys::new(self.secret.bootstrap_keys(self.profile, progress)?, small)
    }

    /// Encrypts integers, one per coefficient of the small ring; see [`SmallSecret::encrypt`].
    ///
    /// # Errors
    /// More coefficients than the ring has, one that is too large, or no randomness.
    pub fn encrypt(&self, values: &[i64]) -> Result<SeededCiphertext, HeError> {
        self.small.encrypt(values)
    }

    /// Values and noise of a ciphertext of the small ring, centred modulo q0·q1.
    ///
    /// # Errors
    /// The ciphertext has another ring.
    pub fn decrypt(&self, ciphertext: &SmallCiphertext) -> Result<Zeroizing<Vec<i64>>, HeError> {
        self.small.decrypt(ciphertext)
    }
}
