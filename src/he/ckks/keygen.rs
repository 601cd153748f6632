//! Making evaluation keys: the client's side.
//!
//! Secret polynomials live in wiped vectors, never in the pooled buffers; products with them are Montgomery products
//! without branches.

use super::{
    circuit::Circuit,
    keys::{BootstrapKeys, KeyId, KeyShape, expand_half, header, write_half},
    params::RingProfile,
    random,
    secret::RingSecret,
};
use crate::he::{
    error::HeError,
    ring::{context::RnsContext, key_switch::SwitchKey, parallel, simd},
};
use std::{collections::HashMap, io::Write, sync::Arc};
use zeroize::{Zeroize, Zeroizing};

/// a·b/2^52 modulo p for a, b < p, p^-1 modulo 2^52 known: no branch, no division.
pub(crate) fn montgomery_product(a: u64, b: u64, p: u64, p_inverse: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    let m = (product as u64).wrapping_mul(p_inverse) & ((1 << 52) - 1);
    let difference = ((product >> 52) as u64).wrapping_sub(((u128::from(m) * u128::from(p)) >> 52) as u64);
    difference.wrapping_add(p & (difference >> 63).wrapping_neg())
}

/// x modulo p for x < 2p.
pub(crate) fn reduce_once(x: u64, p: u64) -> u64 {
    let difference = x.wrapping_sub(p);
    difference.wrapping_add(p & (difference >> 63).wrapping_neg())
}

/// A small secret polynomial in the transform domain, one limb after the other, in Montgomery form.
pub(crate) struct SecretPolynomial(Zeroizing<Vec<u64>>);

impl SecretPolynomial {
    /// The transform of coefficients of magnitude below every prime.
    pub(crate) fn new(context: &RnsContext, coefficients: &[i64], limbs: &[usize]) -> Self {
        let n = context.n;
        let mut values = Zeroizing::new(vec![0u64; n * limbs.len()]);
        let jobs: Vec<_> = values.chunks_exact_mut(n).zip(limbs).collect();
        parallel::run(jobs, |(out, &i)| {
            let m = &context.m[i];
            for (y, &x) in out.iter_mut().zip(coefficients) {
                // Below every prime in magnitude: noise, secrets, and an input's message at its own prime.
                *y = (x as u64).wrapping_add(m.p & ((x >> 63) as u64));
            }
            context.fwd(i, out);
            simd::mulc_in(out, m.r2, m.md);
        });
        SecretPolynomial(values)
    }

    /// The residues, limb after limb.
    pub(crate) fn values(&self) -> &[u64] {
        &self.0
    }

    /// The element-wise square.
    fn squared(&self, context: &RnsContext, limbs: &[usize]) -> Self {
        let mut values = self.0.clone();
        for (out, &i) in values.chunks_exact_mut(context.n).zip(limbs) {
            let m = &context.m[i];
            for x in out {
                *x = montgomery_product(*x, *x, m.p, m.md.pinv);
            }
        }
        SecretPolynomial(values)
    }
}

/// x(X^g) of coefficients.
fn automorphism(x: &[i64], g: u64) -> Zeroizing<Vec<i64>> {
    let n = x.len();
    let mut out = Zeroizing::new(vec![0; n]);
    for (i, &v) in x.iter().enumerate() {
        let e = (i as u64 * g) as usize % (2 * n);
        if e < n {
            out[e] = v;
        } else {
            out[e - n] = -v;
        }
    }
    out
}

/// Encrypts P·`source`, digit by digit, under `target` (both of the shape's limbs): b = −a·t + e + P·u on the limbs of the
/// digit and −a·t + e elsewhere. `number` names the key's stream of `seed`.
///
/// # Errors
/// The operating system gives no randomness.
pub(crate) fn generate_switch_key(
    context: &RnsContext,
    shape: &KeyShape,
    seed: &[u8; 32],
    number: usize,
    target: &SecretPolynomial,
    source: &SecretPolynomial,
) -> Result<SwitchKey, HeError> {
    let (n, digits) = (context.n, shape.digits.len());
    let errors = shape.digits.iter().map(|_| random::noise(n)).collect::<Result<Vec<_>, _>>()?;
    let mut key = shape.empty(context);
    let jobs: Vec<_> = shape.split(context, &mut key).into_iter().enumerate().collect();
    parallel::run(jobs, |(k, (i, part))| {
        let m = &context.m[i];
        let (p, inverse) = (m.p, m.md.pinv);
        let (t, u) = (&target.0[k * n..(k + 1) * n], &source.0[k * n..(k + 1) * n]);
        let special = m.mont(shape.special_product(context, i));
        let mut a = vec![0u64; n];
        for (d, own) in shape.digits.iter().enumerate() {
            // The noise, in the transform domain and Montgomery form like everything here.
            let mut b = SecretPolynomial::of_limb(context, &errors[d], i);
            expand_half(seed, number, d, i, p, &mut a);
            let factor = if own.contains(&i) { special } else { 0 };
            for (((b, &a), &t), &u) in b.iter_mut().zip(&a).zip(t).zip(u) {
                let masked = reduce_once(*b + p - montgomery_product(a, t, p, inverse), p);
                *b = reduce_once(masked + montgomery_product(u, factor, p, inverse), p);
            }
            simd::pack(&b, m.w, 2 * d, 2 * digits, part);
            simd::pack(&a, m.w, 2 * d + 1, 2 * digits, part);
            b.zeroize();
        }
    });
    Ok(key)
}

impl SecretPolynomial {
    /// One limb of the transform of small coefficients, in Montgomery form.
    fn of_limb(context: &RnsContext, coefficients: &[i64], limb: usize) -> Zeroizing<Vec<u64>> {
        SecretPolynomial::new(context, coefficients, &[limb]).0
    }
}

/// Makes the keys of a circuit one by one.
struct KeyMaker<'a> {
    circuit: &'a Circuit,
    secret: &'a RingSecret,
    embedded: Zeroizing<Vec<i64>>,
    seed: [u8; 32],
}

impl<'a> KeyMaker<'a> {
    fn new(circuit: &'a Circuit, secret: &'a RingSecret) -> Result<Self, HeError> {
        Ok(KeyMaker { circuit, secret, embedded: secret.embedded(), seed: random::seed()? })
    }

    fn make(&self, number: usize, id: KeyId, shape: &KeyShape) -> Result<SwitchKey, HeError> {
        let context = &self.circuit.context;
        let limbs = &shape.limbs;
        let transform = |x: &[i64]| SecretPolynomial::new(context, x, limbs);
        let dense = || transform(&self.secret.dense);
        let (target, source) = match id {
            KeyId::Galois(g, _) => {
                // Stored under g^-1(s): the product digits·key is permuted afterwards, so that the digits never are.
                let inverse = self.circuit.inverse_element(g);
                (transform(&automorphism(&self.secret.dense, inverse)), dense())
            }
            KeyId::Relinearisation => {
                let s = dense();
                let square = s.squared(context, limbs);
                (s, square)
            }
            KeyId::SparseToDense => (dense(), transform(&self.secret.sparse)),
            KeyId::EmbeddedToSparse => (transform(&self.secret.sparse), transform(&self.embedded)),
            KeyId::DenseToEmbedded => (transform(&self.embedded), dense()),
        };
        generate_switch_key(context, shape, &self.seed, number, &target, &source)
    }
}

impl RingSecret {
    /// Makes the evaluation keys of a profile in memory. `progress` gets (keys made, keys in all). Runs on the current
    /// rayon pool.
    ///
    /// # Errors
    /// The gate refuses the profile, or the operating system gives no randomness.
    pub fn bootstrap_keys(
        &self,
        profile: &'static RingProfile,
        progress: &dyn Fn(usize, usize),
    ) -> Result<BootstrapKeys, HeError> {
        self.keys_of(Arc::new(Circuit::new(profile)?), progress)
    }

    /// Makes the evaluation keys of a circuit.
    pub(crate) fn keys_of(
        &self,
        circuit: Arc<Circuit>,
        progress: &dyn Fn(usize, usize),
    ) -> Result<BootstrapKeys, HeError> {
        let maker = KeyMaker::new(&circuit, self)?;
        let list = circuit.keys();
        let total = list.len();
        let mut keys = HashMap::new();
        for (number, (id, shape)) in list.into_iter().enumerate() {
            progress(number, total);
            keys.insert(id, maker.make(number, id, &shape)?);
        }
        progress(total, total);
        let seed = maker.seed;
        Ok(BootstrapKeys { circuit, seed, keys })
    }

    /// Makes the evaluation keys one by one and writes each at once, so that no more than one is in memory. A server
    /// reads them with [`BootstrapKeys::read_from`].
    ///
    /// # Errors
    /// The gate refuses the profile, the operating system gives no randomness, or the writer fails.
    pub fn write_bootstrap_keys(
        &self,
        profile: &'static RingProfile,
        out: impl Write,
        progress: &dyn Fn(usize, usize),
    ) -> Result<(), HeError> {
        self.write_keys_of(&Circuit::new(profile)?, out, progress)
    }

    /// Makes and writes the evaluation keys of a circuit.
    pub(crate) fn write_keys_of(
        &self,
        circuit: &Circuit,
        mut out: impl Write,
        progress: &dyn Fn(usize, usize),
    ) -> Result<(), HeError> {
        let maker = KeyMaker::new(circuit, self)?;
        let failed = |e: std::io::Error| HeError::KeyOutput(e.to_string());
        out.write_all(&header(circuit, &maker.seed)).map_err(failed)?;
        let list = circuit.keys();
        let total = list.len();
        for (number, (id, shape)) in list.into_iter().enumerate() {
            progress(number, total);
            let key = maker.make(number, id, &shape)?;
            write_half(&circuit.context, &shape, &key, &mut out).map_err(failed)?;
        }
        progress(total, total);
        out.flush().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::he::{ckks::params::RING_PROFILES, ring::arith::mulmod};

    #[test]
    fn montgomery_products_are_products() {
        for &p in RING_PROFILES.iter().flat_map(|row| row.primes.iter().chain(row.special_primes)) {
            let inverse = (0..6).fold(1u64, |x, _| x.wrapping_mul(2u64.wrapping_sub(p.wrapping_mul(x))))
                & ((1 << 52) - 1);
            let r = ((1u128 << 52) % u128::from(p)) as u64;
            for (a, b) in [(0, 0), (1, 1), (p - 1, p - 1), (p - 1, 1), (p / 2, p / 3), (12345, p - 2)] {
                let product = montgomery_product(a, b, p, inverse);
                assert!(product < p);
                assert_eq!(mulmod(product, r, p), mulmod(a, b, p), "{a}·{b} mod {p}");
            }
        }
    }
}
