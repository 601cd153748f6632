//! BFV → TFHE: to the torus, then ONE ring key switch for all N coefficients.
//!
//! The target key has the ring's degree but is zero beyond its first n_lwe coefficients, so that sample extraction
//! of any coefficient is an LWE of dimension n_lwe at no cost. Its security is that of dimension n_lwe.

use super::{
    bfv_ring::Representation,
    ciphertext::Ciphertext,
    error::{HeError, library},
    keys::ServerKeys,
    lwe::{LweSmall, extract_mask},
    params::Profile,
};
use tfhe::core_crypto::{
    fft_impl::fft64::{c64, math::polynomial::FourierPolynomial},
    prelude::*,
};

/// The key of the ring key switch, in the Fourier domain.
pub(crate) struct RingSwitchKey {
    profile: &'static Profile,
    /// Per digit: transforms of mask and body.
    digits: Vec<[Vec<c64>; 2]>,
    fft: Fft,
}

/// A ring ciphertext under the partial key, on the 2^64 torus.
pub struct SwitchedRing {
    mask: Vec<u64>,
    body: Vec<u64>,
    n_lwe: usize,
}

impl RingSwitchKey {
    /// Transforms one GLWE encryption of s·2^(64 − j·base_log) per digit j.
    pub fn new(profile: &'static Profile, encryptions: &[GlweCiphertextOwned<u64>]) -> Self {
        let degree = profile.ring.degree;
        let fft = Fft::new(PolynomialSize(degree));
        let mut buffers = scratch(&fft);
        let digits = encryptions
            .iter()
            .map(|glwe| {
                let (mask, body) = glwe.as_ref().split_at(degree);
                [mask, body].map(|words| {
                    let mut transform = vec![c64::new(0.0, 0.0); degree / 2];
                    fft.as_view().forward_as_torus(
                        FourierPolynomial { data: transform.as_mut_slice() },
                        Polynomial::from_container(words),
                        buffers.stack(),
                    );
                    transform
                })
            })
            .collect();
        RingSwitchKey { profile, digits, fft }
    }
}

impl RingSwitchKey {
    pub fn bytes(&self) -> usize {
        self.digits.iter().flatten().map(|d| d.len() * size_of::<c64>()).sum()
    }

    /// Switches c0 + c1·s on the torus; the phase of the result is body − mask·key.
    fn switch(&self, c0: Vec<u64>, c1: &[u64]) -> SwitchedRing {
        let degree = self.profile.ring.degree;
        let gadget = self.profile.ring_key_switch;
        let decomposer = SignedDecomposer::new(
            DecompositionBaseLog(gadget.base_log),
            DecompositionLevelCount(gadget.levels),
        );
        let mut digits = vec![vec![0u64; degree]; gadget.levels];
        for (i, &word) in c1.iter().enumerate() {
            for term in decomposer.decompose(word) {
                digits[term.level().0 - 1][i] = term.value();
            }
        }
        let mut buffers = scratch(&self.fft);
        let zero = || vec![c64::new(0.0, 0.0); degree / 2];
        let (mut mask_sum, mut body_sum, mut transform) = (zero(), zero(), zero());
        for (digit, [mask_key, body_key]) in digits.iter().zip(&self.digits) {
            self.fft.as_view().forward_as_integer(
                FourierPolynomial { data: transform.as_mut_slice() },
                Polynomial::from_container(digit.as_slice()),
                buffers.stack(),
            );
            let keys = mask_key.iter().zip(body_key);
            let sums = mask_sum.iter_mut().zip(&mut body_sum);
            for ((x, (mask, body)), (to_mask, to_body)) in transform.iter().zip(keys).zip(sums) {
                *to_mask += x * mask;
                *to_body += x * body;
            }
        }
        let mut switched = SwitchedRing { mask: vec![0; degree], body: c0, n_lwe: self.profile.n_lwe };
        for (words, sum) in [(&mut switched.mask, &mask_sum), (&mut switched.body, &body_sum)] {
            self.fft.as_view().add_backward_as_torus(
                Polynomial::from_container(words.as_mut_slice()),
                FourierPolynomial { data: sum.as_slice() },
                buffers.stack(),
            );
        }
        switched
    }
}

fn scratch(fft: &Fft) -> ComputationBuffers {
    let mut buffers = ComputationBuffers::new();
    let need = fft.as_view().forward_scratch().or(fft.as_view().backward_scratch());
    buffers.resize(need.unaligned_bytes_required());
    buffers
}

impl SwitchedRing {
    /// The LWE of one coefficient: its phase is the plaintext integer over t, on the torus.
    ///
    /// # Errors
    /// The index is not below the ring degree.
    pub fn extract(&self, coefficient: usize) -> Result<LweSmall, HeError> {
        let max = self.body.len() - 1;
        if coefficient > max {
            return Err(HeError::CoefficientOutOfBounds {
                operation: "sample extraction",
                index: coefficient,
                max,
            });
        }
        let mut words = Vec::with_capacity(self.n_lwe + 1);
        extract_mask(&self.mask, coefficient, self.n_lwe, &mut words);
        words.push(self.body[coefficient]);
        Ok(LweSmall::from_words(words))
    }
}

impl ServerKeys {
    /// Maps a ciphertext of any level to the torus and switches it to the LWE key, all coefficients at once.
    ///
    /// # Errors
    /// The ciphertext has another profile than the keys.
    pub fn switch_out(&self, ciphertext: &Ciphertext) -> Result<SwitchedRing, HeError> {
        const DOING: &str = "switch to LWE";
        self.check_ring(DOING, &ciphertext.ring)?;
        let level = self.ring.level(DOING, ciphertext.level)?;
        let torus = |i: usize| {
            let mut p = ciphertext.inner[i].clone();
            p.change_representation(Representation::PowerBasis);
            let coefficients = p.coefficients();
            let residues =
                coefficients.as_slice().ok_or_else(|| library(DOING)("coefficients are not contiguous"))?;
            Ok::<_, HeError>(level.to_torus.map(residues, self.ring.degree()))
        };
        Ok(self.ring_switch.switch(torus(0)?, &torus(1)?))
    }
}
