//! Encryption and decryption in the large ring: the client's side of inputs and outputs of a bootstrap.

use super::{
    ciphertext::Ciphertext,
    keygen::{SecretPolynomial, montgomery_product, reduce_once},
    keys::expand_half,
    random,
    secret::RingSecret,
};
use crate::he::{
    error::HeError,
    ring::{
        arith::{imod, invmod, mulmod},
        buffer::Buffer,
        context::RnsContext,
        simd,
    },
};
use zeroize::Zeroizing;

impl RingSecret {
    /// Encrypts fractions t of the torus, one per coefficient of the large ring, as the input of a bootstrap: one limb
    /// under the embedded small secret, which is eight independent ciphertexts of the small ring.
    ///
    /// # Errors
    /// More values than coefficients, or the operating system gives no randomness.
    pub fn encrypt_input(&self, context: &RnsContext, values: &[f64]) -> Result<Ciphertext, HeError> {
        let n = context.n;
        if values.len() > n {
            return Err(HeError::TooManyCoefficients {
                operation: "encryption",
                got: values.len(),
                degree: n,
            });
        }
        let m = &context.m[0];
        let p = m.p as f64;
        let mut message = random::noise(n)?;
        for (e, t) in message.iter_mut().zip(values) {
            *e += ((t - t.round()) * p).round() as i64;
        }
        let secret = SecretPolynomial::new(context, &self.embedded(), &[0]);
        let message = SecretPolynomial::new(context, &message, &[0]);
        let mut c = [Buffer::new(n), Buffer::new(n)];
        let [c0, c1] = &mut c;
        expand_half(&random::seed()?, 0, 0, 0, m.p, c1);
        // Montgomery products with 1 bring what is in Montgomery form back.
        for ((b, &a), (&s, &e)) in
            c0.iter_mut().zip(c1.iter()).zip(secret.values().iter().zip(message.values()))
        {
            let masked =
                montgomery_product(e, 1, m.p, m.md.pinv) + m.p - montgomery_product(a, s, m.p, m.md.pinv);
            *b = reduce_once(masked, m.p);
        }
        Ok(Ciphertext { c, l: 1, scale: p })
    }

    /// Decrypts what a bootstrap closed (or an input): the value of each coefficient.
    ///
    /// # Errors
    /// The ciphertext has more than two limbs.
    pub fn decrypt(&self, context: &RnsContext, x: &Ciphertext) -> Result<Vec<f64>, HeError> {
        if x.l > 2 {
            return Err(HeError::LevelOutOfBounds { operation: "decryption", level: x.l, max: 2 });
        }
        Ok(phase(context, &self.embedded(), x))
    }
}

/// The coefficients of the phase under a secret over the scale, exact from the lowest three limbs at most.
pub(crate) fn phase(context: &RnsContext, secret: &[i64], x: &Ciphertext) -> Vec<f64> {
    let n = context.n;
    let l = x.l.min(3);
    let limbs: Vec<usize> = (0..l).collect();
    let secret = SecretPolynomial::new(context, secret, &limbs);
    let mut residues = Zeroizing::new(vec![0u64; n * l]);
    let each = residues.chunks_exact_mut(n).zip(secret.values().chunks_exact(n)).enumerate();
    for (i, (out, s)) in each {
        let m = &context.m[i];
        let [c0, c1] = x.limb(i, n);
        for (((y, &c0), &c1), &s) in out.iter_mut().zip(c0).zip(c1).zip(s) {
            *y = reduce_once(c0 + montgomery_product(c1, s, m.p, m.md.pinv), m.p);
        }
        context.inv(i, out);
        simd::mulc_in(out, m.mont(invmod(n as u64, m.p)), m.md);
    }
    // Mixed radix: digits below each prime.
    let primes: Vec<u64> = context.m[..l].iter().map(|m| m.p).collect();
    let inverses: Vec<u64> = (0..l)
        .map(|i| {
            let below = primes[..i].iter().fold(1, |a, &p| mulmod(a, p % primes[i], primes[i]));
            invmod(below, primes[i])
        })
        .collect();
    (0..n)
        .map(|j| {
            let (mut value, mut modulus) = (i128::from(residues[j]), i128::from(primes[0]));
            for i in 1..l {
                let digit =
                    mulmod(imod(i128::from(residues[i * n + j]) - value, primes[i]), inverses[i], primes[i]);
                value += modulus * i128::from(digit);
                modulus *= i128::from(primes[i]);
            }
            value -= modulus * i128::from(value > modulus / 2);
            value as f64 / x.scale
        })
        .collect()
}
