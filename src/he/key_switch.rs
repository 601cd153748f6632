//! Key switching of a ring polynomial: relinearisation's second half.
//!
//! One centred digit per prime of the result's level, a key over all primes of the profile, and a division by the
//! primes that only the key has (hybrid key switching, Gentry, Halevi and Smart 2012). Centred digits matter twice:
//! they have a quarter of the variance of digits in [0, q), and no mean, which would add the same error to every product
//! and so grow with the number of updates instead of its root.

use super::{
    bfv_ring::{Representation, Ring},
    error::{HeError, library},
};
use fhe_math::rq::{Poly, traits::TryConvertFrom};
use pulp::Arch;
use std::sync::Arc;

/// Encryptions under the ring's key of P·gᵢ·f, f the polynomial to switch from, gᵢ the i-th CRT base of the level, P the
/// product of the primes beyond it.
pub(crate) struct KeySwitchKey {
    ring: Arc<Ring>,
    level: usize,
    /// Per digit: c0, then c1, prime after prime, in the transform domain of `tfhe-ntt`.
    words: Vec<u64>,
}

#[cfg(feature = "client")]
impl KeySwitchKey {
    /// A key from f, given as residues modulo all primes in power basis, at a level; `encrypt_zero` encrypts zero at the top.
    pub fn new(
        ring: &Arc<Ring>,
        level: usize,
        from: &[u64],
        mut encrypt_zero: impl FnMut() -> Result<fhe::bfv::Ciphertext, HeError>,
    ) -> Result<Self, HeError> {
        let degree = ring.degree();
        let top = ring.level("key switch key", ring.profile.depth())?;
        let moduli = top.context.moduli_operators();
        let stride = 2 * moduli.len() * degree;
        let digits = ring.profile.primes(level);
        let mut words = vec![0u64; digits * stride];
        for (digit, words) in words.chunks_exact_mut(stride).enumerate() {
            ring.transform(&encrypt_zero()?, words)?;
            // P·gᵢ is P modulo the i-th prime and zero modulo all others.
            let modulus = &moduli[digit];
            let beyond = &top.context.moduli()[digits..];
            let factor = beyond.iter().fold(1, |p, &q| modulus.mul(p, modulus.reduce(q)));
            let rows = digit * degree..(digit + 1) * degree;
            let mut message = zeroize::Zeroizing::new(from[rows.clone()].to_vec());
            ring.plans[digit].fwd(&mut message);
            for (word, &f) in words[rows].iter_mut().zip(message.iter()) {
                *word = modulus.add(*word, modulus.mul(factor, f));
            }
        }
        Ok(KeySwitchKey { ring: ring.clone(), level, words })
    }
}

impl KeySwitchKey {
    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.words.len() * 8
    }

    /// Polynomials (k0, k1) of the key's level in NTT representation with k0 + k1·s = c·f + noise.
    ///
    /// `polynomial` is c at that level in power basis.
    pub fn switch(&self, polynomial: &Poly) -> Result<[Poly; 2], HeError> {
        const DOING: &str = "key switch";
        let degree = self.ring.degree();
        let plans = &self.ring.plans;
        let stride = 2 * plans.len() * degree;
        let coefficients = polynomial.coefficients();
        let residues =
            coefficients.as_slice().ok_or_else(|| library(DOING)("coefficients are not contiguous"))?;
        let arch = Arch::new();
        let mut sums = vec![0u64; stride];
        let mut transform = vec![0u64; degree];
        let digits = residues.chunks_exact(degree).zip(self.words.chunks_exact(stride));
        for (digit, (row, key)) in digits.enumerate() {
            let own = plans[digit].modulus();
            let (sum0, sum1) = sums.split_at_mut(stride / 2);
            let (key0, key1) = key.split_at(stride / 2);
            for (prime, plan) in plans.iter().enumerate() {
                let q = plan.modulus();
                // The primes have one size, so that a centred digit is smaller than each of them: x stays, and
                // x − own becomes x − own + q.
                arch.dispatch(|| {
                    for (word, &x) in transform.iter_mut().zip(row) {
                        let wrap = if x > own / 2 { q.wrapping_sub(own) } else { 0 };
                        *word = x.wrapping_add(wrap);
                    }
                });
                plan.fwd(&mut transform);
                let at = prime * degree..(prime + 1) * degree;
                plan.mul_accumulate(&mut sum0[at.clone()], &transform, &key0[at.clone()]);
                plan.mul_accumulate(&mut sum1[at.clone()], &transform, &key1[at]);
            }
        }
        for (row, plan) in sums.chunks_exact_mut(degree).zip(plans.iter().cycle()) {
            plan.inv(row);
            plan.normalize(row);
        }
        let second = sums.split_off(stride / 2);
        Ok([self.divide(sums)?, self.divide(second)?])
    }

    /// Divides by the primes beyond the level, rounding.
    fn divide(&self, residues: Vec<u64>) -> Result<Poly, HeError> {
        const DOING: &str = "key switch";
        let top = self.ring.level(DOING, self.ring.profile.depth())?;
        let target = self.ring.level(DOING, self.level)?;
        let mut p = Poly::try_convert_from(residues, &top.context, true, Representation::PowerBasis)
            .map_err(library(DOING))?;
        p.switch_down_to(&target.context).map_err(library(DOING))?;
        p.change_representation(Representation::Ntt);
        Ok(p)
    }
}
