//! What the server holds: evaluation keys, and nothing that decrypts.

use super::{
    bfv_ring::Ring, blind_rotation::BootstrapKey, error::HeError, key_switch::KeySwitchKey,
    packing::PackingKey, params::Profile, switch::RingSwitchKey,
};
use std::sync::Arc;

/// The evaluation keys of one client, and the evaluator: its methods are the kernels.
pub struct ServerKeys {
    pub(crate) ring: Arc<Ring>,
    pub(crate) bootstrap: BootstrapKey,
    pub(crate) ring_switch: RingSwitchKey,
    pub(crate) packing: PackingKey,
    /// Indexed by the level of the product's result.
    pub(crate) relinearisation: Vec<KeySwitchKey>,
}

/// Bytes of the evaluation keys in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyBytes {
    /// Bootstrap key, Fourier domain.
    pub bootstrap: usize,
    /// Packing key, transform domain.
    pub packing: usize,
    /// Ring switch key, Fourier domain.
    pub ring_switch: usize,
    /// Relinearisation keys of all levels.
    pub relinearisation: usize,
}

impl KeyBytes {
    /// All keys together.
    pub fn total(self) -> usize {
        self.bootstrap + self.packing + self.ring_switch + self.relinearisation
    }
}

impl ServerKeys {
    /// The profile of the keys.
    pub fn profile(&self) -> &'static Profile {
        self.ring.profile
    }

    /// The ring of the keys.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// The highest level at which packing can put values.
    pub fn pack_level(&self) -> usize {
        self.packing.level()
    }

    /// Sizes of the keys in memory.
    pub fn bytes(&self) -> KeyBytes {
        KeyBytes {
            bootstrap: self.bootstrap.bytes(),
            packing: self.packing.bytes(),
            ring_switch: self.ring_switch.bytes(),
            relinearisation: self.relinearisation.iter().map(KeySwitchKey::bytes).sum(),
        }
    }

    pub(crate) fn check_ring(&self, operation: &'static str, ring: &Arc<Ring>) -> Result<(), HeError> {
        if Arc::ptr_eq(&self.ring, ring) {
            return Ok(());
        }
        let (left, right) = (self.ring.profile.name, ring.profile.name);
        Err(HeError::ProfileMismatch { operation, left, right })
    }
}
