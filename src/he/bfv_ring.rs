//! The BFV ring of a profile: contexts, scalers and constants, made once per profile and shared.

use super::{
    error::{HeError, library},
    params::{Profile, gate},
};
use fhe::bfv::{BfvParameters, BfvParametersBuilder, Encoding, Plaintext};
use fhe_math::{
    rns::ScalingFactor,
    rq::{Context, Poly, scaler::Scaler, traits::TryConvertFrom},
    zq::{Modulus, primes::generate_prime},
};
use fhe_traits::FheEncoder;
use num_bigint::BigUint;
use std::sync::{Arc, Mutex, PoisonError};
use tfhe_ntt::prime64::Plan;

pub(crate) use fhe_math::rq::Representation;

/// Bits of the primes that extend a product's basis: below 2^50 the transforms use IFMA where the CPU has it.
const EXTENSION_BITS: usize = 50;
/// Terms that a product's basis is made to hold at least: log2.
const TERM_BITS: usize = 6;

/// The ring of a profile with everything that depends on parameters only.
pub struct Ring {
    pub(crate) profile: &'static Profile,
    pub(crate) parameters: Arc<BfvParameters>,
    pub(crate) levels: Vec<Level>,
    /// Transforms of `tfhe-ntt` for all primes: they use IFMA where the CPU has it.
    pub(crate) plans: Vec<Plan>,
}

/// What belongs to one level.
pub(crate) struct Level {
    /// The level in the counting of `fhe`: primes dropped.
    pub dropped: usize,
    pub context: Arc<Context>,
    pub to_torus: TorusMap,
    /// Absent at level 0.
    pub product: Option<ProductBasis>,
}

/// A larger RNS basis in which tensor products are exact.
pub(crate) struct ProductBasis {
    pub context: Arc<Context>,
    /// From the level's basis into the larger one.
    pub extend: Scaler,
    /// Times t·Q'/Q², into the basis of the next lower level, whose modulus is Q'.
    pub reduce: Scaler,
    /// Products that can be accumulated before the sum overflows the basis or 128 bits.
    pub max_terms: usize,
}

static RINGS: Mutex<Vec<Arc<Ring>>> = Mutex::new(Vec::new());

impl Ring {
    /// The ring of a profile, made on first use.
    ///
    /// # Errors
    /// The profile does not pass the gate.
    pub fn of(profile: &'static Profile) -> Result<Arc<Ring>, HeError> {
        gate(profile)?;
        let mut rings = RINGS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ring) = rings.iter().find(|r| r.profile.name == profile.name) {
            return Ok(ring.clone());
        }
        let ring = Arc::new(Ring::build(profile)?);
        rings.push(ring.clone());
        Ok(ring)
    }

    fn build(profile: &'static Profile) -> Result<Ring, HeError> {
        const DOING: &str = "ring parameters";
        let parameters = BfvParametersBuilder::new()
            .set_degree(profile.ring.degree)
            .set_plaintext_modulus(profile.t())
            .set_moduli_sizes(profile.ring.prime_bits)
            .build_arc()
            .map_err(library(DOING))?;
        let mut levels: Vec<Level> = Vec::with_capacity(profile.primes_at_level.len());
        for (level, &primes) in profile.primes_at_level.iter().enumerate() {
            let dropped = profile.ring.prime_bits.len().saturating_sub(primes);
            let context = parameters.context_at_level(dropped).map_err(library(DOING))?.clone();
            let product = match levels.last() {
                None => None,
                Some(lower) => Some(ProductBasis::new(profile, level, &context, &lower.context)?),
            };
            levels.push(Level { dropped, to_torus: TorusMap::new(&context)?, context, product });
        }
        let plan = |&q: &u64| {
            Plan::try_new(profile.ring.degree, q)
                .ok_or_else(|| library(DOING)(format!("no transform modulo {q}")))
        };
        let plans = parameters.moduli().iter().map(plan).collect::<Result<_, HeError>>()?;
        Ok(Ring { profile, parameters, levels, plans })
    }

    /// The profile.
    pub fn profile(&self) -> &'static Profile {
        self.profile
    }

    /// The level of that number.
    pub(crate) fn level(&self, operation: &'static str, level: usize) -> Result<&Level, HeError> {
        let max = self.profile.depth();
        self.levels.get(level).ok_or(HeError::LevelOutOfBounds { operation, level, max })
    }

    pub(crate) fn degree(&self) -> usize {
        self.profile.ring.degree
    }

    /// A polynomial from public signed integers, one per coefficient.
    pub(crate) fn public_polynomial(
        &self,
        operation: &'static str,
        coefficients: &[i64],
        level: &Level,
    ) -> Result<Poly, HeError> {
        let degree = self.degree();
        if coefficients.len() > degree {
            return Err(HeError::TooManyCoefficients { operation, got: coefficients.len(), degree });
        }
        Poly::try_convert_from(coefficients, &level.context, true, Representation::PowerBasis)
            .map_err(library(operation))
    }
}

impl Ring {
    /// Centred integers as a BFV plaintext at a level.
    pub(crate) fn plaintext(
        &self,
        operation: &'static str,
        coefficients: &[i64],
        level: usize,
    ) -> Result<Plaintext, HeError> {
        let degree = self.degree();
        if coefficients.len() > degree {
            return Err(HeError::TooManyCoefficients { operation, got: coefficients.len(), degree });
        }
        let encoding = Encoding::poly_at_level(self.level(operation, level)?.dropped);
        Plaintext::try_encode(coefficients, encoding, &self.parameters).map_err(library(operation))
    }
}

impl Ring {
    /// Writes a ciphertext in the transform domain of `tfhe-ntt`: c0, then c1, prime after prime.
    pub(crate) fn transform(
        &self,
        ciphertext: &fhe::bfv::Ciphertext,
        words: &mut [u64],
    ) -> Result<(), HeError> {
        let half = words.len() / 2;
        for (polynomial, words) in ciphertext.iter().zip(words.chunks_exact_mut(half)) {
            let mut p = polynomial.clone();
            p.change_representation(Representation::PowerBasis);
            let coefficients = p.coefficients();
            let residues = coefficients
                .as_slice()
                .filter(|r| r.len() == half)
                .ok_or_else(|| library("key generation")("a ciphertext of another shape"))?;
            words.copy_from_slice(residues);
            for (plan, row) in self.plans.iter().zip(words.chunks_exact_mut(self.degree())) {
                plan.fwd(row);
            }
        }
        Ok(())
    }
}

impl ProductBasis {
    fn new(
        profile: &Profile,
        level: usize,
        base: &Arc<Context>,
        lower: &Arc<Context>,
    ) -> Result<Self, HeError> {
        const DOING: &str = "product basis";
        let degree_bits = profile.ring.degree.ilog2() as usize;
        let q_bits = profile.log2_q(level) as usize;
        // A sum of `terms` tensor products stays below N·Q²·terms/2 in magnitude, so that the extension needs
        // log2(Q·N·terms) bits.
        let count = (q_bits + degree_bits + TERM_BITS).div_ceil(EXTENSION_BITS);
        let mut moduli = base.moduli().to_vec();
        let mut bound = 1u64 << EXTENSION_BITS;
        for _ in 0..count {
            bound = generate_prime(EXTENSION_BITS, 2 * profile.ring.degree as u64, bound)
                .ok_or_else(|| library(DOING)("too few primes"))?;
            moduli.push(bound);
        }
        let context = Context::new_arc(&moduli, profile.ring.degree).map_err(library(DOING))?;
        let extend = Scaler::new(base, &context, ScalingFactor::one()).map_err(library(DOING))?;
        let numerator = BigUint::from(profile.t()) * lower.modulus();
        let denominator = base.modulus() * base.modulus();
        let reduce = Scaler::new(&context, lower, ScalingFactor::new(&numerator, &denominator))
            .map_err(library(DOING))?;
        // 128-bit accumulators hold two products of residues per term; the primes fall short of their bits by
        // less than one bit in all.
        let spare_basis = (count * EXTENSION_BITS).saturating_sub(q_bits + degree_bits + 1);
        let spare_word = 128 - 2 * EXTENSION_BITS - 1;
        Ok(ProductBasis { context, extend, reduce, max_terms: 1 << spare_basis.min(spare_word) })
    }
}

/// x mod Q in RNS → round(x·2^64/Q) mod 2^64, without big integers: Σ yᵢ·2^64/qᵢ with yᵢ = xᵢ·(Q/qᵢ)^-1 mod qᵢ.
pub(crate) struct TorusMap {
    primes: Vec<TorusPrime>,
}

struct TorusPrime {
    modulus: Modulus,
    inverse: u64,
    inverse_shoup: u64,
    /// ⌊2^128/q⌋ in two words.
    ratio: (u64, u64),
}

impl TorusMap {
    fn new(context: &Context) -> Result<Self, HeError> {
        const DOING: &str = "torus map";
        let moduli = context.moduli_operators();
        let primes = moduli
            .iter()
            .enumerate()
            .map(|(i, modulus)| {
                let others = context.moduli().iter().enumerate().filter(|&(j, _)| j != i);
                let product = others.fold(1, |p, (_, &q)| modulus.mul(p, modulus.reduce(q)));
                let inverse =
                    modulus.inv(product).ok_or_else(|| library(DOING)("the primes are not distinct"))?;
                let ratio = u128::MAX / u128::from(context.moduli()[i]);
                Ok(TorusPrime {
                    inverse_shoup: modulus.shoup(inverse),
                    modulus: modulus.clone(),
                    inverse,
                    ratio: ((ratio >> 64) as u64, ratio as u64),
                })
            })
            .collect::<Result<_, HeError>>()?;
        Ok(TorusMap { primes })
    }

    /// Maps the residues of a polynomial in power basis, all coefficients of the first prime first.
    pub fn map(&self, residues: &[u64], degree: usize) -> Vec<u64> {
        let mut torus = vec![0u64; degree];
        for (prime, row) in self.primes.iter().zip(residues.chunks_exact(degree)) {
            let (high, low) = prime.ratio;
            for (out, &x) in torus.iter_mut().zip(row) {
                let y = prime.modulus.mul_shoup(x, prime.inverse, prime.inverse_shoup);
                let below = ((u128::from(y) * u128::from(low)) >> 64) as u64;
                *out = out.wrapping_add(y.wrapping_mul(high).wrapping_add(below));
            }
        }
        torus
    }
}
