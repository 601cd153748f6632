//! Unit costs: measured, or typical.

use serde::Serialize;

use crate::he::ckks::params::RingProfile;
use crate::he::params::Profile;

use super::super::parameters::Parameters;

/// Seconds per unit on one core, and how many cores there are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Costs {
    pub cores: usize,
    pub units: Units,
    /// Making all keys, on all cores.
    pub key_seconds: f64,
    /// How much faster all cores together are than one, at one piece of work that they share.
    pub parallel: f64,
    /// Whether these were measured on this machine.
    pub measured: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Units {
    Tfhe(TfheUnits),
    Ckks(RingUnits),
}

/// Of BFV and TFHE.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TfheUnits {
    pub pbs_seconds: f64,
    pub operand_seconds: f64,
    /// Accumulating one ring product.
    pub accumulate_seconds: f64,
    /// Scale-down and relinearisation of one sum of products.
    pub finish_seconds: f64,
    /// To the torus, and the ring key switch.
    pub switch_seconds: f64,
    pub pack_seconds: f64,
}

/// Of the ring engine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RingUnits {
    /// From the small rings to powers of the exponential, for both halves of the coefficients.
    pub open_seconds: f64,
    /// The same for the low half alone.
    pub open_low_seconds: f64,
    /// A function of opened values, both halves.
    pub function_seconds: f64,
    /// From slots to the small rings, for one output ciphertext.
    pub close_seconds: f64,
    /// Relinearising one sum of products.
    pub product_seconds: f64,
    /// Accumulating one product.
    pub accumulate_seconds: f64,
    /// An automorphism in a small ring.
    pub switch_seconds: f64,
}

impl Costs {
    /// How much faster all cores make a group of bootstraps than one core does. Where there are as many bootstraps as cores,
    /// each has its own; else some cores share one.
    pub fn bootstrap_speedup(&self, group: usize) -> f64 {
        let cores = self.cores.max(1) as f64;
        let bootstraps = (group.max(1) as f64).min(cores);
        // They share memory and caches: two at once on two cores took 0.51 to 0.53 of the time of one after another.
        bootstraps.powf(0.95) * self.parallel.clamp(1.0, cores).powf(1.0 - bootstraps.log(cores.max(2.0)))
    }

    /// Measured once: a stand-in where nothing can be measured.
    pub fn typical(parameters: Parameters, cores: usize) -> Self {
        match parameters {
            Parameters::Tfhe(profile) => Self::typical_tfhe(profile, cores),
            Parameters::Ckks(profile) => Self::typical_ring(profile, cores),
        }
    }

    /// On a machine that is slower by a factor, which was measured on it.
    pub fn slower(self, factor: f64) -> Self {
        let units = match self.units {
            Units::Tfhe(own) => Units::Tfhe(own),
            Units::Ckks(own) => Units::Ckks(RingUnits {
                open_seconds: own.open_seconds * factor,
                open_low_seconds: own.open_low_seconds * factor,
                function_seconds: own.function_seconds * factor,
                close_seconds: own.close_seconds * factor,
                product_seconds: own.product_seconds * factor,
                accumulate_seconds: own.accumulate_seconds * factor,
                switch_seconds: own.switch_seconds * factor,
            }),
        };
        Self { units, key_seconds: self.key_seconds * factor, measured: true, ..self }
    }

    /// On a Zen 4 core at 2.6 GHz, ring degree 4096.
    fn typical_tfhe(profile: &Profile, cores: usize) -> Self {
        let scale = profile.ring.degree as f64 / 4096.0 * profile.ring.prime_bits.len() as f64 / 3.0;
        let units = TfheUnits {
            pbs_seconds: 0.0144 * profile.pbs.decomposition.levels as f64 / 2.0,
            operand_seconds: 0.5e-3 * scale,
            accumulate_seconds: 0.06e-3 * scale,
            finish_seconds: 2.45e-3 * scale,
            switch_seconds: 0.23e-3 * scale,
            pack_seconds: 0.12 * scale * profile.packing_digits as f64,
        };
        let parallel = cores as f64 * 0.95;
        Self {
            cores,
            units: Units::Tfhe(units),
            key_seconds: 3.5 * scale / parallel,
            parallel,
            measured: false,
        }
    }

    /// On a Zen 4 core at 2.6 GHz with AVX-512.
    fn typical_ring(profile: &RingProfile, cores: usize) -> Self {
        let doublings = ((profile.function_degree + 1) as f64 / 16.0).log2();
        let units = RingUnits {
            open_seconds: 0.50 + 0.05 * doublings,
            open_low_seconds: 0.37 + 0.04 * doublings,
            function_seconds: 0.02 + 0.022 * doublings,
            close_seconds: 0.06,
            product_seconds: 0.106e-3,
            accumulate_seconds: 0.004e-3,
            switch_seconds: 0.095e-3,
        };
        // Two cores make a bootstrap 1.87 times faster, measured. More of them share its limbs less well.
        let parallel = if cores < 2 { 1.0 } else { 1.87 * (cores as f64 / 2.0).powf(0.75) };
        Self { cores, units: Units::Ckks(units), key_seconds: 6.0 / parallel, parallel, measured: false }
    }
}
