//! TFHE → BFV: packing in the plaintext space.
//!
//! Each LWE is switched from 2^64 to t; then b − ⟨a, key⟩ is computed *inside* the BFV plaintext space with BFV
//! encryptions of the key's bits: a dot product of public polynomials (the j-th one holds the j-th mask word of every
//! LWE at its coefficient) with ciphertexts. The LWE's noise becomes the low bits of an exact integer; the ring's
//! noise stays fresh.

use super::{
    bfv_ring::{Representation, Ring},
    ciphertext::Ciphertext,
    error::{HeError, library},
    keys::ServerKeys,
    lwe::LweBig,
    params::Profile,
};
use fhe_math::rq::{Poly, traits::TryConvertFrom};
use pulp::Arch;
use rayon::prelude::*;
use std::sync::Arc;
use tfhe_ntt::prime64::Plan;

/// Mask words that are gathered at once: 2 KB of every LWE, which a processor reads ahead.
const BLOCK: usize = 256;
/// Rounded words of a cache line.
const LANES: usize = 16;
/// Packs that share a pass over the key; their accumulators stay in the second-level cache.
const PACKS_PER_PASS: usize = 4;

/// An LWE and where it goes: at `coefficient`, negated or not (X^N = −1 turns exponents into signs).
#[derive(Debug, Clone, Copy)]
pub struct PackEntry<'a> {
    /// The value.
    pub lwe: &'a LweBig,
    /// Index of the coefficient.
    pub coefficient: usize,
    /// Whether its negative is placed.
    pub negate: bool,
}

impl<'a> PackEntry<'a> {
    /// Places the value at X^exponent in a ring of this degree, for any exponent of either sign.
    pub fn at_exponent(lwe: &'a LweBig, exponent: i64, degree: usize) -> Self {
        let turn = exponent.rem_euclid(2 * degree as i64) as usize;
        PackEntry { lwe, coefficient: turn % degree, negate: turn >= degree }
    }
}

/// BFV encryptions of the bits of the key under which tables put out, in the transform domain of `tfhe-ntt`.
pub(crate) struct PackingKey {
    ring: Arc<Ring>,
    level: usize,
    /// Per key bit and digit: c0, then c1, prime after prime.
    words: Vec<u64>,
}

/// A pack being made: its LWEs' bodies modulo t, centred, at their coefficients.
struct Job<'a> {
    entries: &'a [PackEntry<'a>],
    coefficients: Vec<usize>,
    body: Vec<i64>,
}

impl PackingKey {
    /// From words made by [`Ring::transform`].
    pub fn new(ring: Arc<Ring>, level: usize, words: Vec<u64>) -> Self {
        PackingKey { ring, level, words }
    }

    /// The transforms of the key's primes.
    fn plans(&self) -> &[Plan] {
        &self.ring.plans[..self.ring.profile.primes(self.level)]
    }

    pub fn level(&self) -> usize {
        self.level
    }

    pub fn bytes(&self) -> usize {
        self.words.len() * 8
    }

    /// Σ over the key bits in `range` of digit polynomial times key, for each job: c0 then c1, prime after prime, in
    /// the transform domain.
    fn dot(&self, jobs: &[Job<'_>], range: std::ops::Range<usize>) -> Vec<Vec<u64>> {
        Arch::new().dispatch(|| self.dot_vectorised(jobs, range))
    }

    /// Inlined, so that it is compiled for the vector unit of the CPU at hand.
    #[inline(always)]
    fn dot_vectorised(&self, jobs: &[Job<'_>], range: std::ops::Range<usize>) -> Vec<Vec<u64>> {
        let profile = self.ring.profile;
        let (degree, primes, digits) = (self.ring.degree(), self.plans().len(), profile.packing_digits);
        let stride = 2 * primes * degree;
        let mut sums = vec![vec![0u64; stride]; jobs.len()];
        let mut transform = vec![0u64; degree];
        // A job's coefficients stay the same, so that its column is zeroed once.
        let mut columns = vec![vec![0i32; degree]; jobs.len()];
        let mut blocks: Vec<Vec<i32>> =
            jobs.iter().map(|job| vec![0; BLOCK * row_length(job.entries)]).collect();
        for start in range.clone().step_by(BLOCK) {
            let here = BLOCK.min(range.end - start);
            for (job, block) in jobs.iter().zip(&mut blocks) {
                gather(job.entries, start, here, profile, block);
            }
            for offset in 0..here {
                let members = jobs.iter().zip(&mut blocks).zip(&mut columns).zip(&mut sums);
                for (((job, block), column), sum) in members {
                    let row = row_length(job.entries);
                    let values = &mut block[offset * row..][..job.entries.len()];
                    for digit in 0..digits {
                        for (&coefficient, value) in job.coefficients.iter().zip(values.iter_mut()) {
                            column[coefficient] = take_digit(value, digit, profile);
                        }
                        let key = &self.words[((start + offset) * digits + digit) * stride..][..stride];
                        self.accumulate(column, key, &mut transform, sum);
                    }
                }
            }
        }
        sums
    }

    /// sum += column·key in both components and all primes.
    #[inline(always)]
    fn accumulate(&self, column: &[i32], key: &[u64], transform: &mut [u64], sum: &mut [u64]) {
        let degree = column.len();
        let (key0, key1) = key.split_at(key.len() / 2);
        let (sum0, sum1) = sum.split_at_mut(key0.len());
        for (prime, plan) in self.plans().iter().enumerate() {
            let q = plan.modulus() as i64;
            // Digits are smaller than every prime, so that adding q once lifts the negative ones.
            for (word, &x) in transform.iter_mut().zip(column) {
                let x = i64::from(x);
                *word = (x + ((x >> 63) & q)) as u64;
            }
            plan.fwd(transform);
            let row = prime * degree..(prime + 1) * degree;
            plan.mul_accumulate(&mut sum0[row.clone()], transform, &key0[row.clone()]);
            plan.mul_accumulate(&mut sum1[row.clone()], transform, &key1[row]);
        }
    }

    /// body − sum as a ciphertext at the key's level.
    fn finish(&self, job: &Job<'_>, mut sum: Vec<u64>) -> Result<Ciphertext, HeError> {
        const DOING: &str = "packing";
        let degree = self.ring.degree();
        let context = &self.ring.level(DOING, self.level)?.context;
        for (row, plan) in sum.chunks_exact_mut(degree).zip(self.plans().iter().cycle()) {
            plan.inv(row);
            plan.normalize(row);
        }
        let half = sum.len() / 2;
        let second = sum.split_off(half);
        let mut polynomials = Vec::with_capacity(2);
        for words in [sum, second] {
            let mut p = Poly::try_convert_from(words, context, true, Representation::PowerBasis)
                .map_err(library(DOING))?;
            p.change_representation(Representation::Ntt);
            polynomials.push(-p);
        }
        Ciphertext::from_polynomials(&self.ring, DOING, polynomials, self.level)?.add_plain(&job.body)
    }
}

/// Words of a block's row: a cache line more than the entries need, so that rows of a full pack do not all fall into one set
/// of the cache.
fn row_length(entries: &[PackEntry<'_>]) -> usize {
    entries.len().next_multiple_of(LANES) + LANES
}

/// Rounds mask words `start..start + here` of every LWE to t, centred and signed, one row per word. Goes by tiles, so
/// that whole cache lines are read and written.
#[inline(always)]
fn gather(entries: &[PackEntry<'_>], start: usize, here: usize, profile: &Profile, block: &mut [i32]) {
    let row = row_length(entries);
    for (tile, entries) in entries.chunks(LANES).enumerate() {
        let mut rounded = [[0i32; LANES]; BLOCK];
        for (lane, entry) in entries.iter().enumerate() {
            let sign = if entry.negate { -1 } else { 1 };
            for (rounded, &word) in rounded.iter_mut().zip(&entry.lwe.words[start..start + here]) {
                rounded[lane] = sign * round_to_t(word, profile) as i32;
            }
        }
        for (offset, rounded) in rounded[..here].iter().enumerate() {
            block[offset * row + tile * LANES..][..LANES].copy_from_slice(rounded);
        }
    }
}

/// A torus word to the nearest multiple of 1/t, as a centred integer.
#[inline(always)]
fn round_to_t(word: u64, profile: &Profile) -> i64 {
    let shift = 64 - profile.ring.plaintext_bits;
    word.wrapping_add(1 << (shift - 1)) as i64 >> shift
}

/// The next signed digit of a value, lowest first; the last digit takes what is left.
#[inline(always)]
fn take_digit(value: &mut i32, digit: usize, profile: &Profile) -> i32 {
    if digit + 1 == profile.packing_digits {
        return *value;
    }
    let bits = digit_bits(profile);
    let low = *value << (32 - bits) >> (32 - bits);
    *value = (*value - low) >> bits;
    low
}

/// Bits of a packing digit.
pub(crate) fn digit_bits(profile: &Profile) -> u32 {
    profile.ring.plaintext_bits.div_ceil(profile.packing_digits as u32)
}

impl ServerKeys {
    /// Packs LWEs into one ciphertext; coefficients without an entry are zero.
    ///
    /// # Errors
    /// As [`ServerKeys::pack_many`].
    pub fn pack(&self, entries: &[PackEntry<'_>], level: usize) -> Result<Ciphertext, HeError> {
        let mut packs = self.pack_many(&[entries], level)?;
        packs.pop().ok_or(HeError::Count { operation: "packing", what: "packs", got: 0, expected: 1 })
    }

    /// Makes several packs; they share passes over the packing key and all threads of the current rayon pool.
    ///
    /// # Errors
    /// A level above that of the packing key, a coefficient beyond the degree or used twice, an LWE of another dimension.
    pub fn pack_many(&self, packs: &[&[PackEntry<'_>]], level: usize) -> Result<Vec<Ciphertext>, HeError> {
        let max = self.packing.level();
        if level > max {
            return Err(HeError::LevelOutOfBounds { operation: "packing", level, max });
        }
        let jobs = packs.iter().map(|entries| self.job(entries)).collect::<Result<Vec<_>, _>>()?;
        let mut ciphertexts = Vec::with_capacity(packs.len());
        for group in jobs.chunks(PACKS_PER_PASS) {
            for (job, sum) in group.iter().zip(self.dot_parallel(group)) {
                ciphertexts.push(self.packing.finish(job, sum)?.switch_down(level)?);
            }
        }
        Ok(ciphertexts)
    }

    /// Splits the key's bits over the threads and adds the parts.
    fn dot_parallel(&self, jobs: &[Job<'_>]) -> Vec<Vec<u64>> {
        let bits = self.profile().lut_output_dimension();
        let chunk = bits.div_ceil(rayon::current_num_threads()).next_multiple_of(BLOCK);
        let ranges: Vec<_> = (0..bits).step_by(chunk).map(|start| start..(start + chunk).min(bits)).collect();
        let parts: Vec<Vec<Vec<u64>>> =
            ranges.into_par_iter().map(|range| self.packing.dot(jobs, range)).collect();
        parts.into_iter().reduce(|sums, part| self.add_parts(sums, &part)).unwrap_or_default()
    }

    fn add_parts(&self, mut sums: Vec<Vec<u64>>, part: &[Vec<u64>]) -> Vec<Vec<u64>> {
        let degree = self.ring.degree();
        for (sum, part) in sums.iter_mut().zip(part) {
            let rows = sum.chunks_exact_mut(degree).zip(part.chunks_exact(degree));
            for ((sum, part), plan) in rows.zip(self.packing.plans().iter().cycle()) {
                let q = plan.modulus();
                for (a, &b) in sum.iter_mut().zip(part) {
                    let total = *a + b;
                    *a = if total >= q { total - q } else { total };
                }
            }
        }
        sums
    }

    /// Checks the entries of a pack and rounds their bodies, each with the mean Σeᵢ/2 of what the rounding errors of its
    /// mask add under a binary key.
    fn job<'a>(&self, entries: &'a [PackEntry<'a>]) -> Result<Job<'a>, HeError> {
        let profile = self.profile();
        let (degree, expected) = (self.ring.degree(), profile.lut_output_dimension());
        let shift = 64 - profile.ring.plaintext_bits;
        let arch = Arch::new();
        let mut taken = vec![false; degree];
        let mut body = vec![0; degree];
        for entry in entries {
            let got = entry.lwe.dimension();
            if got != expected {
                return Err(HeError::LweDimension { operation: "packing", got, expected });
            }
            let index = entry.coefficient;
            match taken.get_mut(index) {
                None => {
                    return Err(HeError::CoefficientOutOfBounds {
                        operation: "packing",
                        index,
                        max: degree - 1,
                    });
                }
                Some(true) => return Err(HeError::PackCollision(index)),
                Some(free) => *free = true,
            }
            let (mask, own) = entry.lwe.words.split_at(expected);
            // Errors are below 2^39 each for every profile, so that their sum fits.
            let error = |&word: &u64| ((round_to_t(word, profile) as u64) << shift).wrapping_sub(word) as i64;
            let error_sum: i64 = arch.dispatch(|| mask.iter().map(error).sum());
            let value = round_to_t(own[0].wrapping_add((error_sum / 2) as u64), profile);
            body[index] = if entry.negate { -value } else { value };
        }
        Ok(Job { entries, coefficients: entries.iter().map(|e| e.coefficient).collect(), body })
    }
}
