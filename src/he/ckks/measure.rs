//! This machine's unit costs of the ring engine.

use super::bootstrap::{Half, Slots};
use super::client_key::ClientKey;
use super::fit::{TrigPolynomial, fit_degree};
use super::mask::Mask;
use super::params::{LOG_DEGREE, RINGS, RingProfile};
use super::server_keys::ServerKeys;
use super::small::SmallCiphertext;
use super::stages::Role;
use crate::he::error::{HeError, library};
use crate::he::measure::least;
use crate::he::ring::{buffer::Buffer, context::RnsContext};
use serde::Serialize;
use std::time::Instant;

/// Seconds of a forward transform of degree 2^15 on the core on which the typical costs of a plan were measured.
const TYPICAL_TRANSFORM: f64 = 48e-6;
/// Repetitions of short operations.
const REPEATS: usize = 50;

/// Wall-clock seconds per unit, the least of a few runs; on one core unless the name says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RingUnitCosts {
    /// Name of the profile.
    pub profile: &'static str,
    /// ReLU, or a sigmoid where the profile's degree is 15: seconds for each of 32,768 values, everything between two products
    /// included but the products themselves.
    pub value_seconds: f64,
    /// The same where all cores work.
    pub value_all_cores_seconds: f64,
    /// The function and its smoothed step, per value.
    pub pair_seconds: f64,
    /// From eight small rings to powers of the exponential.
    pub open_seconds: f64,
    /// The same where only the low half of the coefficients is useful.
    pub open_low_seconds: f64,
    /// One function of opened values.
    pub function_seconds: f64,
    /// One output ciphertext back to small rings.
    pub close_seconds: f64,
    /// One product with its relinearisation.
    pub product_seconds: f64,
    /// Accumulating one further product.
    pub accumulate_seconds: f64,
    /// One automorphism in the small ring.
    pub switch_seconds: f64,
    /// Making the evaluation keys and encoding the transforms, on all cores.
    pub key_seconds: f64,
    /// Evaluation keys in memory.
    pub key_bytes: usize,
    /// Evaluation keys as sent.
    pub key_wire_bytes: usize,
}

fn function(f: &dyn Fn(f64) -> f64, degree: usize) -> Result<TrigPolynomial, HeError> {
    let fitted = fit_degree(f, degree, 1.0).map_err(library("fit"))?;
    Ok(fitted.polynomial)
}

/// How much slower this machine is than the one of a plan's typical costs, by its transforms: a tenth of a second, no keys.
///
/// # Errors
/// The instructions that `HESN_ISA` names are refused.
pub fn slowness(profile: &'static RingProfile) -> Result<f64, HeError> {
    let context = RnsContext::new(LOG_DEGREE, &profile.primes[..2], &profile.special_primes[..1], 2)?;
    let mut x = Buffer::new(1 << LOG_DEGREE);
    x.fill(1);
    let seconds = least(5, REPEATS, || {
        context.fwd(0, &mut x);
        Ok(())
    })?;
    Ok(seconds / TYPICAL_TRANSFORM)
}

impl RingUnitCosts {
    /// Makes keys for a profile, measures, and throws the keys away: about twenty seconds on two cores.
    ///
    /// # Errors
    /// The gate refuses the profile, or the operating system gives no randomness.
    pub fn measure(profile: &'static RingProfile) -> Result<Self, HeError> {
        let client = ClientKey::generate(profile)?;
        let start = Instant::now();
        let keys = client.server_keys(&|_, _| {})?;
        let key_seconds = start.elapsed().as_secs_f64();
        let rings: Vec<SmallCiphertext> =
            (0..RINGS).map(|_| Ok(client.encrypt(&[1 << 50])?.expand())).collect::<Result<_, HeError>>()?;
        let probe = Probe { keys: &keys, rings: &rings };
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(library("thread pool"))?;
        let costs = one.install(|| probe.one_core(key_seconds))?;
        Ok(Self { value_all_cores_seconds: probe.values(2, 1)?, ..costs })
    }
}

struct Probe<'a> {
    keys: &'a ServerKeys,
    rings: &'a [SmallCiphertext],
}

impl Probe<'_> {
    fn functions(&self) -> Result<[TrigPolynomial; 2], HeError> {
        let degree = self.keys.profile().function_degree;
        let first: &dyn Fn(f64) -> f64 =
            if degree > 15 { &|t| t.max(0.0) } else { &|t| 0.25 / (1.0 + (-32.0 * t).exp()) };
        Ok([function(first, degree)?, function(&|t| 0.25 / (1.0 + (-96.0 * t).exp()), degree.min(31))?])
    }

    fn input(&self) -> Result<super::Ciphertext, HeError> {
        self.keys.embed(std::array::from_fn(|i| self.rings.get(i)))
    }

    /// Seconds per value, from small rings to small rings, of the first so many functions.
    fn values(&self, runs: usize, functions: usize) -> Result<f64, HeError> {
        let large = self.keys.bootstrapper();
        let (polynomials, all) = (self.functions()?, Mask::all(1 << LOG_DEGREE));
        let degree = self.keys.profile().function_degree;
        let seconds = least(runs, 1, || {
            let powers = large.open(&self.input()?, degree, Half::Both)?;
            let slots: Vec<Slots> = polynomials[..functions]
                .iter()
                .map(|f| large.polynomial(&powers, f, Role::Output))
                .collect::<Result<_, _>>()?;
            let outputs: Vec<Vec<_>> = slots.iter().map(|own| vec![(own, &all)]).collect();
            large.close(&outputs)?.iter().map(|own| self.keys.extract(own)).collect::<Result<Vec<_>, _>>()
        })?;
        Ok(seconds / f64::from(1 << LOG_DEGREE))
    }

    fn one_core(&self, key_seconds: f64) -> Result<RingUnitCosts, HeError> {
        let (keys, large, small) = (self.keys, self.keys.bootstrapper(), self.keys.small());
        let [first, _] = self.functions()?;
        let all = Mask::all(1 << LOG_DEGREE);
        let degree = keys.profile().function_degree;
        let powers = large.open(&self.input()?, degree, Half::Both)?;
        let slots = large.polynomial(&powers, &first, Role::Output)?;
        let pair = (&self.rings[0], &self.rings[1]);
        let one = least(3, REPEATS, || small.product_sum(&[pair]))?;
        let many = least(3, REPEATS, || small.product_sum(&[pair; 17]))?;
        let mut wire = Counter(0);
        keys.write_to(&mut wire).map_err(library("key bytes"))?;
        Ok(RingUnitCosts {
            profile: keys.profile().name,
            value_seconds: self.values(3, 1)?,
            value_all_cores_seconds: 0.0,
            pair_seconds: self.values(2, 2)?,
            open_seconds: least(2, 1, || large.open(&self.input()?, degree, Half::Both))?,
            open_low_seconds: least(2, 1, || large.open(&self.input()?, degree, Half::Low))?,
            function_seconds: least(3, 1, || large.polynomial(&powers, &first, Role::Output))?,
            close_seconds: least(3, 1, || keys.extract(&large.close(&[vec![(&slots, &all)]])?[0]))?,
            product_seconds: one,
            accumulate_seconds: (many - one) / 16.0,
            switch_seconds: least(3, REPEATS, || small.reverse(pair.0))?,
            key_seconds,
            key_bytes: keys.bytes(),
            key_wire_bytes: wire.0,
        })
    }
}

/// Counts bytes.
struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
