//! The ring against plain arithmetic, and every path of the kernels against the portable one.

mod conversion;
mod kernels;
mod key_switch;
mod transforms;

use super::{
    arith::root_of_unity,
    context::RnsContext,
    simd::{Isa, Modulus, transform::Transform},
};
use crate::he::ckks::params::{LOG_DEGREE, RING_PROFILES, SMALL_LOG_DEGREE};

/// Numbers that look random: a fixed sequence (Steele, Lea, Flood, "SplitMix", 2014), so a failure can be repeated.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
    /// Residues: mostly uniform, some 0, 1, p − 1 or about p/2.
    fn residues(&mut self, n: usize, p: u64) -> Vec<u64> {
        (0..n)
            .map(|_| match self.next() % 16 {
                0 => 0,
                1 => 1,
                2 | 3 => p - 1,
                4 => p / 2,
                _ => self.below(p),
            })
            .collect()
    }
    /// Coefficients in −b ..= b.
    fn small(&mut self, n: usize, b: i64) -> Vec<i64> {
        (0..n).map(|_| self.below(2 * b as u64 + 1) as i64 - b).collect()
    }
}

/// One prime of each size in bits that the parameter rows have, and the largest of all.
fn primes() -> Vec<u64> {
    let mut all: Vec<u64> =
        RING_PROFILES.iter().flat_map(|p| p.primes.iter().chain(p.special_primes)).copied().collect();
    all.sort_unstable();
    all.dedup_by_key(|p| p.ilog2());
    // the largest prime below 2^48 that is 1 modulo 2^16
    let largest = (0..).map(|k| (1u64 << 48) + 1 - (k << 16)).skip(1).find(|&p| super::arith::is_prime(p));
    all.extend(largest);
    all
}

/// Everything but the portable path.
fn vector_paths() -> Vec<Isa> {
    Isa::available().into_iter().filter(|&isa| isa != Isa::PORTABLE).collect()
}

fn transform(n: usize, p: u64, isa: Isa) -> Transform {
    Transform::new(n, Modulus::new(p, isa), root_of_unity(n, p))
}

/// A chain of the small ring, as products use it.
fn small_ring(isa: Isa) -> RnsContext {
    let p = &RING_PROFILES[0];
    RnsContext::with_isa(SMALL_LOG_DEGREE, &p.primes[..2], &p.special_primes[..1], 2, isa).unwrap()
}

/// The chain of row `row` in this degree.
fn large_chain(row: usize, log_degree: usize, isa: Isa) -> RnsContext {
    let p = &RING_PROFILES[row];
    RnsContext::with_isa(log_degree, p.primes, p.special_primes, p.digits, isa).unwrap()
}

mod setup {
    use super::*;
    use crate::he::ring::RingError;

    #[test]
    fn chains_that_cannot_work_are_refused() {
        let q = RING_PROFILES[0].primes;
        let p = RING_PROFILES[0].special_primes;
        let new = |log, q: &[u64], p: &[u64], d| RnsContext::with_isa(log, q, p, d, Isa::PORTABLE).err();
        assert!(matches!(new(3, q, p, 3), Some(RingError::Degree { log_degree: 3, .. })));
        assert!(matches!(new(12, &[], p, 1), Some(RingError::Chain(_))));
        assert!(matches!(new(12, q, &[], 1), Some(RingError::Chain(_))));
        assert!(matches!(new(12, q, p, 0), Some(RingError::Chain(_))));
        assert!(matches!(new(12, &q[..2], p, 3), Some(RingError::Chain(_))));
        assert!(matches!(new(12, q, p, 1), Some(RingError::Chain(_))), "a digit of 17 primes");
        let modulus =
            |q: u64| matches!(new(12, &[q], p, 1), Some(RingError::Modulus { modulus, .. }) if modulus == q);
        assert!(modulus((1 << 50) + 1) && modulus(97) && modulus((1 << 13) + 1) && modulus(p[0]));
    }

    #[test]
    fn digits_are_balanced_and_cover_the_chain() {
        for (row, profile) in RING_PROFILES.iter().enumerate() {
            let c = large_chain(row, 6, Isa::PORTABLE);
            assert_eq!(c.digits.len(), profile.digits);
            assert_eq!(
                c.digits.iter().flat_map(Clone::clone).collect::<Vec<_>>(),
                (0..c.l).collect::<Vec<_>>()
            );
            let bits = c.digits.iter().map(|d| d.clone().map(|i| (c.m[i].p as f64).log2()).sum::<f64>());
            assert!(bits.fold(0.0, f64::max) < c.logq(c.l) / c.digits.len() as f64 + 30.0);
        }
    }

    #[test]
    fn degrees_of_the_rows_are_supported() {
        assert!(LOG_DEGREE.is_multiple_of(3) && SMALL_LOG_DEGREE.is_multiple_of(3));
    }
}
