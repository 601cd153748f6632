//! The client's side of the small ring: its keys, encryption, decryption. Noise and secrets come from the operating system's
//! generator; nothing branches on secrets or indexes memory by them, and what held them is wiped.

use super::{
    ciphertext::{MAX_COEFFICIENT, SmallCiphertext},
    keys::{KeyKind, SmallKeys, SwitchingKey},
    ring::{DEGREE, KEY_LIMBS, LIMBS, SmallRing, Spare, Width},
    seeded::SeededCiphertext,
    uniform::Expander,
};
use crate::he::{
    ckks::{random, secret::RingSecret},
    error::HeError,
    ring::{
        arith::{invmod, mulmod},
        buffer::Buffer,
        simd,
    },
};
use std::sync::Arc;
use zeroize::Zeroizing;

type Polynomial = Zeroizing<Vec<u64>>;

fn polynomial() -> Polynomial {
    Zeroizing::new(vec![0; DEGREE])
}

/// The secret of the small ring, ready for use.
pub struct SmallSecret {
    ring: Arc<SmallRing>,
    /// Ternary coefficients.
    coefficients: Zeroizing<Vec<i64>>,
    /// For each limb, −s·R in the transform domain.
    negated: [Polynomial; KEY_LIMBS],
}

/// x(X^g) of small coefficients.
fn automorphism(x: &[i64], g: u64) -> Zeroizing<Vec<i64>> {
    let mut out = Zeroizing::new(vec![0; DEGREE]);
    for (i, &c) in x.iter().enumerate() {
        let e = i * g as usize % (2 * DEGREE);
        let sign = 1 - 2 * (e / DEGREE) as i64;
        out[e % DEGREE] = sign * c;
    }
    out
}

/// The inverse of an odd number modulo 2N.
fn inverse(g: u64) -> u64 {
    (0..6).fold(1u64, |x, _| x.wrapping_mul(2u64.wrapping_sub(g.wrapping_mul(x)))) % (2 * DEGREE as u64)
}

impl SmallSecret {
    /// The small part of a secret.
    ///
    /// # Errors
    /// The secret belongs to a ring of another degree.
    pub fn new(ring: &Arc<SmallRing>, secret: &RingSecret) -> Result<Self, HeError> {
        let coefficients = Zeroizing::new(secret.small.to_vec());
        if coefficients.len() != DEGREE {
            let (what, got) = ("coefficients of the secret", coefficients.len());
            return Err(HeError::Count { operation: "small ring", what, got, expected: DEGREE });
        }
        let mut secret =
            SmallSecret { ring: ring.clone(), coefficients, negated: std::array::from_fn(|_| polynomial()) };
        secret.negated = secret.multiplier(&secret.coefficients);
        Ok(secret)
    }

    /// −x·R in the transform domain, for each limb.
    fn multiplier(&self, x: &[i64]) -> [Polynomial; KEY_LIMBS] {
        let mut spare = Spare::new();
        std::array::from_fn(|i| {
            let m = &self.ring.context.m[i];
            let mut out = polynomial();
            self.ring.transform(i, x, &mut out, &mut spare);
            simd::mulc_in(&mut out, mulmod(m.p - 1, m.r2, m.p), m.md);
            out
        })
    }

    /// Encrypts integers below 2^60 in magnitude, one per coefficient (fewer are followed by zeros).
    ///
    /// # Errors
    /// More coefficients than the ring has, one that is too large, or no randomness.
    pub fn encrypt(&self, values: &[i64]) -> Result<SeededCiphertext, HeError> {
        const DOING: &str = "encryption";
        if values.len() > DEGREE {
            return Err(HeError::TooManyCoefficients { operation: DOING, got: values.len(), degree: DEGREE });
        }
        // Looks at all of them before it decides.
        let largest = values.iter().fold(0, |max, v| v.unsigned_abs().max(max));
        if largest > MAX_COEFFICIENT as u64 {
            return Err(HeError::MultiplierTooLarge {
                operation: DOING,
                value: largest.try_into().unwrap_or(i64::MAX),
                max: MAX_COEFFICIENT,
            });
        }
        let seed = random::seed()?;
        let mut noisy = random::noise(DEGREE)?;
        for (n, v) in noisy.iter_mut().zip(values) {
            *n += v;
        }
        let mut body = Buffer::new(LIMBS * DEGREE);
        let (mut message, mut spare) = (polynomial(), Spare::new());
        let (mut mask, mut junk) = (Buffer::new(DEGREE), Buffer::new(DEGREE));
        let mut second = Buffer::new(DEGREE);
        let mut masks = Expander::new(seed);
        for (i, body) in body.chunks_exact_mut(DEGREE).enumerate() {
            let one = self.ring.context.m[i].r;
            masks.fill(self.ring.context.m[i].p, &mut mask);
            self.ring.transform(i, &noisy, &mut message, &mut spare);
            let zero = self.ring.zero();
            let product = [(&self.negated[i][..], [&mask[..], zero])];
            let message = [([&message[..], zero], one)];
            self.ring.combine(i, &product, &message, [body, &mut second], &mut junk);
        }
        Ok(SeededCiphertext { ring: self.ring.clone(), seed, body })
    }

    /// The phase of a ciphertext, values and noise, centred modulo q0·q1; that of a narrow one is multiplied by q0.
    ///
    /// # Errors
    /// The ciphertext has another ring.
    pub fn decrypt(&self, x: &SmallCiphertext) -> Result<Zeroizing<Vec<i64>>, HeError> {
        x.check_ring("decryption", &self.ring)?;
        let context = &self.ring.context;
        let mut phases: [Polynomial; LIMBS] = std::array::from_fn(|_| polynomial());
        let (mut second, mut spare) = (polynomial(), polynomial());
        for i in x.width.limbs() {
            let (m, phase) = (&context.m[i], &mut phases[i]);
            let [body, mask] = x.limbs(i);
            let zero = self.ring.zero();
            // −s·mask, and the body with the other sign.
            let product = [(&self.negated[i][..], [mask, zero])];
            let body = [([body, zero], m.mont(m.p - 1))];
            self.ring.combine(i, &product, &body, [phase, &mut second], &mut spare);
            context.inv(i, phase);
            let scale = invmod(DEGREE as u64, m.p);
            simd::mulc_in(phase, m.mont(m.p - scale), m.md);
        }
        let [low, high] = &phases;
        let (m, q0) = (&context.m[1], context.m[0].p);
        // x = x0 + q0·((x1 − x0)/q0 mod q1).
        let inverse = m.mont(invmod(q0, m.p));
        match x.width {
            Width::Full => simd::subc(high, low, inverse, m.md, &mut second),
            // What is not there of the lower prime stays zero.
            Width::Narrow => second.copy_from_slice(high),
        }
        let modulus = self.ring.modulus();
        let centred = |(&x0, &k): (&u64, &u64)| {
            let x = x0 + q0 * k;
            let is_negative = (modulus / 2).wrapping_sub(x) >> 63;
            x.wrapping_sub(modulus & is_negative.wrapping_neg()) as i64
        };
        Ok(Zeroizing::new(low.iter().zip(second.iter()).map(centred).collect()))
    }

    /// Makes the server's keys of the small ring.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn server_keys(&self) -> Result<SmallKeys, HeError> {
        let mut keys: Vec<SwitchingKey> =
            KeyKind::all().map(|kind| self.switching_key(kind)).collect::<Result<_, HeError>>()?;
        let reverse = keys.pop();
        let mut keys = keys.into_iter();
        let (relinearisation, merges) = (keys.next(), keys.collect());
        match (relinearisation, reverse) {
            (Some(relinearisation), Some(reverse)) => {
                Ok(SmallKeys { ring: self.ring.clone(), relinearisation, merges, reverse })
            }
            _ => Err(HeError::Count { operation: "key generation", what: "keys", got: 0, expected: 2 }),
        }
    }

    /// p·(old secret) under the new one, where the automorphism follows the switch: so the key is under its inverse of s.
    fn switching_key(&self, kind: KeyKind) -> Result<SwitchingKey, HeError> {
        let context = &self.ring.context;
        let turned;
        let under = match kind.element() {
            None => &self.negated,
            Some(g) => {
                turned = self.multiplier(&automorphism(&self.coefficients, inverse(g)));
                &turned
            }
        };
        let seed = random::seed()?;
        let mut masks = Expander::new(seed);
        let zero = self.ring.zero();
        let special = context.m[LIMBS].p;
        let (mut mask, mut spare) = (Buffer::new(DEGREE), Spare::new());
        let (mut second, mut junk) = (polynomial(), polynomial());
        let (mut error, mut old) = (polynomial(), polynomial());
        let mut bodies = Vec::with_capacity(LIMBS);
        for digit in 0..LIMBS {
            let noise = random::noise(DEGREE)?;
            let mut body: [Buffer; KEY_LIMBS] = std::array::from_fn(|_| Buffer::new(DEGREE));
            for (i, body) in body.iter_mut().enumerate() {
                let m = &context.m[i];
                masks.fill(m.p, &mut mask);
                self.ring.transform(i, &noise, &mut error, &mut spare);
                // −R·s is at hand; s² is its square over R².
                let s = &self.negated[i];
                match kind {
                    KeyKind::Relinearisation => {
                        let square = [(&s[..], [&s[..], zero])];
                        self.ring.combine(i, &square, &[], [&mut old, &mut second], &mut junk);
                    }
                    _ => old.copy_from_slice(s),
                }
                // `old` holds R·s² or −R·s; the key wants R·p·(s² or s) in the limb of its digit.
                let sign = if kind == KeyKind::Relinearisation { 1 } else { m.p - 1 };
                let factor = if i == digit { m.mont(mulmod(special % m.p, sign, m.p)) } else { 0 };
                let product = [(&under[i][..], [&mask[..], zero])];
                let terms = [([&error[..], zero], m.r2), ([&old[..], zero], factor)];
                self.ring.combine(i, &product, &terms, [body, &mut second], &mut junk);
            }
            bodies.push(body);
        }
        Ok(SmallKeys::assemble(&self.ring, seed, &bodies))
    }

    /// Root mean square of the difference between a ciphertext's phase and what it should be, in steps of q0·q1. For
    /// diagnostics: takes a time that depends on the noise.
    ///
    /// # Errors
    /// The ciphertext has another ring.
    pub fn noise(&self, x: &SmallCiphertext, expected: &[i64]) -> Result<f64, HeError> {
        let phase = self.decrypt(x)?;
        let modulus = i128::from(self.ring.modulus());
        let square = |(&a, &b): (&i64, &i64)| {
            let d = (i128::from(a) - i128::from(b)).rem_euclid(modulus);
            let d = if d > modulus / 2 { d - modulus } else { d };
            (d as f64).powi(2)
        };
        Ok((phase.iter().zip(expected).map(square).sum::<f64>() / expected.len() as f64).sqrt())
    }
}
