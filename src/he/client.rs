//! The client's side: secret keys, key generation, encryption and decryption.
//!
//! Keys, masks and noise come from the operating system's generator only, directly or through generators that it seeds
//! (ChaCha for BFV, AES-CTR for TFHE). No function takes a seed.

use super::{
    bfv_ring::{Representation, Ring},
    blind_rotation::BootstrapKey,
    ciphertext::Ciphertext,
    error::{HeError, library},
    key_switch::KeySwitchKey,
    keys::ServerKeys,
    lwe::{LabelCiphertext, LweBig, LweSmall},
    packing::{PackingKey, digit_bits},
    params::Profile,
    switch::RingSwitchKey,
};
use fhe::bfv::{Encoding, SecretKey};
use fhe_math::rq::{Poly, traits::TryConvertFrom};
use fhe_traits::{DeserializeParametrized, FheDecoder, FheDecrypter, FheEncrypter};
use num_bigint::BigUint;
use rand::{SeedableRng, TryRngCore, rngs::OsRng, rngs::StdRng};
use rayon::prelude::*;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tfhe::core_crypto::{
    commons::{generators::DeterministicSeeder, math::random::Seed},
    prelude::*,
};
use zeroize::{Zeroize, Zeroizing};

type Generator = EncryptionRandomGenerator<DefaultRandomGenerator>;

/// Encryptions per task of key generation.
const KEY_CHUNK: usize = 32;

/// The client's secret: the ring's ternary key and the two binary keys of TFHE.
///
/// Wiped from memory when dropped; neither shown nor cloned.
pub struct ClientKey {
    ring: Arc<Ring>,
    /// The ring's key as the library takes it (it wipes its own copy).
    ring_key: SecretKey,
    ring_secret: Zeroizing<Vec<i64>>,
    small_secret: Zeroizing<Vec<u64>>,
    big_secret: Zeroizing<Vec<u64>>,
}

/// The noise of a ciphertext, measured with the secret key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeasuredNoise {
    /// log2 of the root mean square of e/Q over all coefficients.
    pub log2_rms: f64,
    /// log2 of the largest |e/Q|.
    pub log2_max: f64,
    /// Bits between the largest |e| and the bound Q/(2t).
    pub margin_bits: f64,
}

impl ClientKey {
    /// Draws new keys for a profile that passes the gate.
    ///
    /// # Errors
    /// The gate refuses the profile, or the operating system gives no randomness.
    pub fn generate(profile: &'static Profile) -> Result<Self, HeError> {
        let ring = Ring::of(profile)?;
        let ring_secret = ternary(profile.ring.degree)?;
        let bytes = secret_key_bytes(&ring_secret);
        let ring_key = SecretKey::from_bytes(&bytes, &ring.parameters).map_err(library("key import"))?;
        Ok(ClientKey {
            ring_key,
            ring_secret,
            small_secret: binary(profile.n_lwe)?,
            big_secret: binary(profile.lut_output_dimension())?,
            ring,
        })
    }

    /// The profile of the keys.
    pub fn profile(&self) -> &'static Profile {
        self.ring.profile
    }

    /// The ring of the keys.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Makes the evaluation keys, with a packing key of the top level.
    ///
    /// `progress` gets (steps done, steps in all). Runs on the current rayon pool.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn server_keys(&self, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<ServerKeys, HeError> {
        self.server_keys_at(self.profile().depth(), progress)
    }

    /// Makes the evaluation keys with a packing key of a lower level: smaller and faster, where a program packs no higher.
    ///
    /// # Errors
    /// The level is beyond the depth, or the operating system gives no randomness.
    pub fn server_keys_at(
        &self,
        pack_level: usize,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<ServerKeys, HeError> {
        let profile = self.profile();
        let encryptions = profile.lut_output_dimension() * profile.packing_digits;
        // The bootstrap key takes about as long as this many packing encryptions.
        let bootstrap_steps = profile.n_lwe;
        let total = bootstrap_steps + encryptions;
        progress(0, total);
        let mut generator = tfhe_generator()?;
        let ring_switch = self.ring_switch_key(&mut generator);
        let bootstrap = self.bootstrap_key(&mut generator);
        progress(bootstrap_steps, total);
        let relinearisation = self.relinearisation_keys()?;
        let done = AtomicUsize::new(bootstrap_steps);
        let packing = self.packing_key(pack_level, &|count| {
            progress(done.fetch_add(count, Ordering::Relaxed) + count, total);
        })?;
        Ok(ServerKeys { ring: self.ring.clone(), bootstrap, ring_switch, packing, relinearisation })
    }

    fn ring_switch_key(&self, generator: &mut Generator) -> RingSwitchKey {
        let profile = self.profile();
        let degree = profile.ring.degree;
        let mut partial = Zeroizing::new(self.small_secret.to_vec());
        partial.resize(degree, 0);
        let target = GlweSecretKey::from_container(partial.as_slice(), PolynomialSize(degree));
        let gadget = profile.ring_key_switch;
        let encryptions: Vec<_> = (1..=gadget.levels)
            .map(|digit| {
                let shift = 64 - digit * gadget.base_log;
                let message =
                    Zeroizing::new(self.ring_secret.iter().map(|&s| (s as u64) << shift).collect::<Vec<_>>());
                let mut glwe = GlweCiphertext::new(
                    0,
                    GlweSize(2),
                    PolynomialSize(degree),
                    CiphertextModulus::new_native(),
                );
                let message = PlaintextList::from_container(message.as_slice());
                encrypt_glwe_ciphertext(
                    &target,
                    &mut glwe,
                    &message,
                    gaussian(profile.lwe_noise_log2),
                    generator,
                );
                glwe
            })
            .collect();
        RingSwitchKey::new(profile, &encryptions)
    }

    fn bootstrap_key(&self, generator: &mut Generator) -> BootstrapKey {
        let profile = self.profile();
        let pbs = profile.pbs;
        let (base_log, levels) = (
            DecompositionBaseLog(pbs.decomposition.base_log),
            DecompositionLevelCount(pbs.decomposition.levels),
        );
        let standard = par_allocate_and_generate_new_lwe_bootstrap_key(
            &LweSecretKey::from_container(self.small_secret.as_slice()),
            &GlweSecretKey::from_container(self.big_secret.as_slice(), PolynomialSize(pbs.polynomial_size)),
            base_log,
            levels,
            gaussian(pbs.noise_log2),
            CiphertextModulus::new_native(),
            generator,
        );
        BootstrapKey::new(profile, standard.as_ref())
    }

    /// Keys from s² to s, one for each level that a product can end at.
    fn relinearisation_keys(&self) -> Result<Vec<KeySwitchKey>, HeError> {
        const DOING: &str = "relinearisation key";
        let depth = self.profile().depth();
        let mut square = self.secret_polynomial(DOING, depth)?;
        let s = Zeroizing::new(square.clone());
        square *= &*s;
        square.change_representation(Representation::PowerBasis);
        let square = Zeroizing::new(square);
        let coefficients = square.coefficients();
        let from =
            coefficients.as_slice().ok_or_else(|| library(DOING)("coefficients are not contiguous"))?;
        let mut rng = chacha()?;
        let zero = self.ring.plaintext(DOING, &[], depth)?;
        (0..depth)
            .map(|level| {
                let encrypt = || self.ring_key.try_encrypt(&zero, &mut rng).map_err(library(DOING));
                KeySwitchKey::new(&self.ring, level, from, encrypt)
            })
            .collect()
    }

    /// The ring's key as a polynomial of a level in NTT representation.
    fn secret_polynomial(&self, operation: &'static str, level: usize) -> Result<Poly, HeError> {
        let context = &self.ring.level(operation, level)?.context;
        let mut s =
            Poly::try_convert_from(self.ring_secret.as_slice(), context, false, Representation::PowerBasis)
                .map_err(library(operation))?;
        s.change_representation(Representation::Ntt);
        Ok(s)
    }

    fn packing_key(&self, level: usize, progress: &(dyn Fn(usize) + Sync)) -> Result<PackingKey, HeError> {
        let profile = self.profile();
        let digits = profile.packing_digits;
        let stride = 2 * profile.primes(level) * profile.ring.degree;
        let mut words = vec![0u64; self.big_secret.len() * digits * stride];
        words
            .par_chunks_mut(KEY_CHUNK * digits * stride)
            .zip(self.big_secret.par_chunks(KEY_CHUNK))
            .try_for_each(|(words, bits)| {
                let mut rng = chacha()?;
                let messages = bits.iter().flat_map(|&bit| {
                    (0..digits as u32).map(move |digit| (bit as i64) << (digit * digit_bits(profile)))
                });
                for (message, words) in messages.zip(words.chunks_exact_mut(stride)) {
                    let plain = self.ring.plaintext("packing key", &[message], level)?;
                    let encryption =
                        self.ring_key.try_encrypt(&plain, &mut rng).map_err(library("packing key"))?;
                    self.ring.transform(&encryption, words)?;
                }
                progress(bits.len() * digits);
                Ok::<_, HeError>(())
            })?;
        Ok(PackingKey::new(self.ring.clone(), level, words))
    }

    /// Encrypts centred integers modulo t, one per coefficient (fewer are followed by zeros).
    ///
    /// # Errors
    /// Too many coefficients, a level beyond the depth, or no randomness.
    pub fn encrypt(&self, coefficients: &[i64], level: usize) -> Result<Ciphertext, HeError> {
        let plain = self.ring.plaintext("encryption", coefficients, level)?;
        let inner = self.ring_key.try_encrypt(&plain, &mut chacha()?).map_err(library("encryption"))?;
        Ok(Ciphertext { ring: self.ring.clone(), inner, level })
    }

    /// Decrypts to N integers in [-t/2, t/2).
    ///
    /// # Errors
    /// The ciphertext has another profile.
    pub fn decrypt(&self, ciphertext: &Ciphertext) -> Result<Vec<i64>, HeError> {
        self.check(ciphertext)?;
        let plain = self.ring_key.try_decrypt(&ciphertext.inner).map_err(library("decryption"))?;
        let encoding = Encoding::poly_at_level(self.ring.level("decryption", ciphertext.level)?.dropped);
        let values = Zeroizing::new(Vec::<u64>::try_decode(&plain, encoding).map_err(library("decryption"))?);
        let t = self.profile().t() as i64;
        Ok(values.iter().map(|&v| if v as i64 >= t / 2 { v as i64 - t } else { v as i64 }).collect())
    }

    /// Encrypts torus values under the key that tables put out, many to a ciphertext: labels.
    ///
    /// # Errors
    /// No randomness.
    pub fn encrypt_lwe_values(&self, torus: &[u64]) -> Result<LabelCiphertext, HeError> {
        let pbs = self.profile().pbs;
        let size = PolynomialSize(pbs.polynomial_size);
        let key = GlweSecretKey::from_container(self.big_secret.as_slice(), size);
        let glwes = torus
            .chunks(pbs.polynomial_size)
            .map(|chunk| {
                let mut message = chunk.to_vec();
                message.resize(pbs.polynomial_size, 0);
                let mut glwe = SeededGlweCiphertext::new(
                    0,
                    GlweSize(pbs.glwe_dimension + 1),
                    size,
                    os_seed()?.into(),
                    CiphertextModulus::new_native(),
                );
                encrypt_seeded_glwe_ciphertext(
                    &key,
                    &mut glwe,
                    &PlaintextList::from_container(message.as_slice()),
                    gaussian(pbs.noise_log2),
                    &mut DeterministicSeeder::<DefaultRandomGenerator>::new(os_seed()?),
                );
                message.zeroize();
                Ok(glwe)
            })
            .collect::<Result<Vec<_>, HeError>>()?;
        Ok(LabelCiphertext {
            glwes,
            glwe_dimension: pbs.glwe_dimension,
            polynomial_size: pbs.polynomial_size,
            count: torus.len(),
        })
    }

    /// The phase of an LWE under the small key: its value and noise on the 2^64 torus.
    pub fn decrypt_small(&self, lwe: &LweSmall) -> u64 {
        phase(&self.small_secret, &lwe.words)
    }

    /// The phase of an LWE under the key that tables put out.
    pub fn decrypt_big(&self, lwe: &LweBig) -> u64 {
        phase(&self.big_secret, &lwe.words)
    }

    /// Encrypts a torus value under the small key.
    ///
    /// # Errors
    /// No randomness.
    pub fn encrypt_small(&self, torus: u64) -> Result<LweSmall, HeError> {
        let profile = self.profile();
        let lwe = allocate_and_encrypt_new_lwe_ciphertext(
            &LweSecretKey::from_container(self.small_secret.as_slice()),
            Plaintext(torus),
            gaussian(profile.lwe_noise_log2),
            CiphertextModulus::new_native(),
            &mut tfhe_generator()?,
        );
        Ok(LweSmall::from_words(lwe.into_container()))
    }

    /// Measures the noise of a ciphertext. For diagnostics on the client: its time depends on the noise.
    ///
    /// # Errors
    /// The ciphertext has another profile.
    pub fn noise(&self, ciphertext: &Ciphertext) -> Result<MeasuredNoise, HeError> {
        const DOING: &str = "noise measurement";
        self.check(ciphertext)?;
        let context = &self.ring.level(DOING, ciphertext.level)?.context;
        let mut s = self.secret_polynomial(DOING, ciphertext.level)?;
        let mut phase = ciphertext.inner[1].clone();
        phase.disallow_variable_time_computations();
        phase *= &s;
        s.zeroize();
        phase += &ciphertext.inner[0];
        // t·(c0 + c1·s) = t·e modulo Q.
        phase *= &BigUint::from(self.profile().t());
        phase.change_representation(Representation::PowerBasis);
        let q = context.modulus();
        let log2_tq = log2(q) + f64::from(self.profile().ring.plaintext_bits);
        let coefficients = Vec::<BigUint>::from(&phase);
        let relative = coefficients.iter().map(|c| {
            let centred = if c > &(q >> 1) { q - c } else { c.clone() };
            (log2(&centred) - log2_tq).exp2()
        });
        let (mut squares, mut max) = (0.0, 0.0f64);
        for e in relative {
            squares += e * e;
            max = max.max(e);
        }
        let log2_max = max.log2();
        Ok(MeasuredNoise {
            log2_rms: 0.5 * (squares / coefficients.len() as f64).log2(),
            log2_max,
            margin_bits: -f64::from(self.profile().ring.plaintext_bits) - 1.0 - log2_max,
        })
    }

    fn check(&self, ciphertext: &Ciphertext) -> Result<(), HeError> {
        if Arc::ptr_eq(&self.ring, &ciphertext.ring) {
            return Ok(());
        }
        let (left, right) = (self.ring.profile.name, ciphertext.ring.profile.name);
        Err(HeError::ProfileMismatch { operation: "decryption", left, right })
    }
}

/// log2 of a positive integer; −∞ for 0.
fn log2(x: &BigUint) -> f64 {
    let bits = x.bits();
    let shift = bits.saturating_sub(60);
    let head = (x >> shift).iter_u64_digits().next().unwrap_or(0);
    (head as f64).log2() + shift as f64
}

/// body − ⟨mask, key⟩.
fn phase(key: &[u64], words: &[u64]) -> u64 {
    let (mask, body) = words.split_at(key.len().min(words.len()));
    let product = key.iter().zip(mask).fold(0u64, |sum, (&s, &a)| sum.wrapping_add(a.wrapping_mul(s)));
    body.first().copied().unwrap_or(0).wrapping_sub(product)
}

fn gaussian(noise_log2: f64) -> Gaussian<f64> {
    Gaussian::from_dispersion_parameter(StandardDev(noise_log2.exp2()), 0.0)
}

fn fill(bytes: &mut [u8]) -> Result<(), HeError> {
    OsRng.try_fill_bytes(bytes).map_err(|e| HeError::Randomness(e.to_string()))
}

fn os_seed() -> Result<Seed, HeError> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok(Seed(u128::from_le_bytes(bytes)))
}

fn tfhe_generator() -> Result<Generator, HeError> {
    Ok(Generator::new(os_seed()?, &mut DeterministicSeeder::<DefaultRandomGenerator>::new(os_seed()?)))
}

fn chacha() -> Result<StdRng, HeError> {
    StdRng::try_from_os_rng().map_err(|e| HeError::Randomness(e.to_string()))
}

/// Uniform bits.
fn binary(count: usize) -> Result<Zeroizing<Vec<u64>>, HeError> {
    let mut bytes = Zeroizing::new(vec![0u8; count.div_ceil(8)]);
    fill(&mut bytes)?;
    Ok(Zeroizing::new((0..count).map(|i| u64::from(bytes[i / 8] >> (i % 8) & 1)).collect()))
}

/// Uniform values in {−1, 0, 1}: bytes below 255 = 85·3, others are drawn again.
fn ternary(count: usize) -> Result<Zeroizing<Vec<i64>>, HeError> {
    let mut values = Zeroizing::new(Vec::with_capacity(count));
    let mut bytes = Zeroizing::new(vec![0u8; count]);
    while values.len() < count {
        fill(&mut bytes)?;
        let missing = count - values.len();
        values.extend(bytes.iter().filter(|&&b| b < 255).take(missing).map(|&b| i64::from(b % 3) - 1));
    }
    Ok(values)
}

/// The ring's key in the library's wire format, the only way in: protobuf field 1, a packed list of zigzag varints
/// (values in −1..=1 take one byte each).
fn secret_key_bytes(secret: &[i64]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(secret.len() + 8));
    bytes.push(0x0A);
    let mut length = secret.len();
    while length >= 0x80 {
        bytes.push((length & 0x7F) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(secret.iter().map(|&s| ((s << 1) ^ (s >> 63)) as u8));
    bytes
}
