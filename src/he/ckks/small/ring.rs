//! The small ring itself: its residues, its monomials, and a few kernels over limbs.

use super::super::params::{RingProfile, SMALL_LOG_DEGREE};
use crate::he::ring::{RingError, buffer::Buffer, context::RnsContext, simd};
use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

/// Coefficients of a polynomial of the small ring.
pub const DEGREE: usize = 1 << SMALL_LOG_DEGREE;
/// Primes of a ciphertext: q0, then q1.
pub(crate) const LIMBS: usize = 2;
/// Primes of a key: those of a ciphertext, then the special one.
pub(crate) const KEY_LIMBS: usize = LIMBS + 1;

/// The modulus of a ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// q0·q1, about 2^62: operands, sums of products, masters.
    Full,
    /// q1 alone, about 2^36: what is only routed to a bootstrap, at half the cost.
    Narrow,
}

impl Width {
    /// The limbs that a ciphertext has.
    pub(crate) fn limbs(self) -> Range<usize> {
        match self {
            Width::Full => 0..LIMBS,
            Width::Narrow => LIMBS - 1..LIMBS,
        }
    }

    /// Primes that can still be divided away.
    pub(crate) fn level(self) -> usize {
        self.limbs().len() - 1
    }
}

/// Rings that were made: one for each row.
static RINGS: Mutex<Vec<Arc<SmallRing>>> = Mutex::new(Vec::new());

/// Z_Q[X]/(X^4096 + 1), Q = q0·q1, and the special prime of its key switches.
pub struct SmallRing {
    pub(crate) profile: &'static RingProfile,
    /// Limbs q0, q1 and the special prime; two digits of one prime.
    pub(crate) context: RnsContext,
    /// For each limb, ψ^e for e below 2N, where ψ = X at the transform's first position.
    powers: Vec<Vec<u64>>,
    zero: Buffer,
}

impl std::fmt::Debug for SmallRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmallRing").field("primes", &self.primes()).finish()
    }
}

/// X → X^(N/2^level + 1), by the levels of a [`Merge`](super::program::Merge).
pub(crate) fn merge_element(level: u32) -> u64 {
    (DEGREE as u64 >> level) + 1
}

/// X → X^(−1).
pub(crate) const REVERSE: u64 = 2 * DEGREE as u64 - 1;

impl SmallRing {
    /// The small ring of a row, the same for all who ask.
    ///
    /// # Errors
    /// The row's primes or the instructions that `HESN_ISA` names are refused.
    pub fn of(profile: &'static RingProfile) -> Result<Arc<Self>, RingError> {
        let mut rings = RINGS.lock().unwrap_or_else(PoisonError::into_inner);
        let (q, p) = (&profile.primes[..LIMBS], profile.special_primes[0]);
        if let Some(ring) = rings.iter().find(|r| r.profile == profile) {
            return Ok(ring.clone());
        }
        let mut context = RnsContext::new(SMALL_LOG_DEGREE, q, &[p], LIMBS)?;
        for level in 0..SMALL_LOG_DEGREE as u32 {
            context.add_perm(merge_element(level));
        }
        context.add_perm(REVERSE);
        let powers = (0..LIMBS)
            .map(|i| {
                let mut x = vec![0; DEGREE];
                x[1] = 1;
                context.fwd(i, &mut x);
                let p = u128::from(context.m[i].p);
                let next = |e: &u64| Some((u128::from(*e) * u128::from(x[0]) % p) as u64);
                std::iter::successors(Some(1), next).take(2 * DEGREE).collect()
            })
            .collect();
        let mut zero = Buffer::new(DEGREE);
        zero.fill(0);
        let ring = Arc::new(SmallRing { profile, context, powers, zero });
        rings.push(ring.clone());
        Ok(ring)
    }

    /// q0, q1 and the special prime.
    pub fn primes(&self) -> [u64; KEY_LIMBS] {
        std::array::from_fn(|i| self.context.m[i].p)
    }

    /// Q = q0·q1.
    pub fn modulus(&self) -> u64 {
        self.context.m[0].p * self.context.m[1].p
    }

    /// A limb of zeros.
    pub(crate) fn zero(&self) -> &[u64] {
        &self.zero
    }

    /// 2^−halvings modulo a limb's prime.
    pub(crate) fn halved(&self, limb: usize, halvings: u32) -> u64 {
        let p = self.context.m[limb].p;
        // Half of an odd residue x is (x + p)/2.
        (0..halvings).fold(1, |x: u64, _| (x + (x & 1) * p) / 2)
    }

    /// factor·X^shift in the transform domain, times R.
    ///
    /// Position j holds the value at ψ^(2·rev(j) + 1), rev reversing the bits of j; so position j + 2^i, j < 2^i, has the
    /// value of j times ψ^(shift·2N/2^(i+1)).
    pub(crate) fn monomial(&self, limb: usize, shift: u32, factor: u64, out: &mut [u64]) {
        let m = &self.context.m[limb];
        let power = |e: u32| self.powers[limb][e as usize % (2 * DEGREE)];
        let times = |a: u64, b: u64| (u128::from(a) * u128::from(b) % u128::from(m.p)) as u64;
        out[0] = m.mont(times(factor, power(shift)));
        for i in 0..SMALL_LOG_DEGREE {
            let turn = power(shift.wrapping_mul((DEGREE >> i) as u32));
            let (done, next) = out.split_at_mut(1 << i);
            let next = &mut next[..1 << i];
            if i < 3 {
                for (y, &x) in next.iter_mut().zip(done.iter()) {
                    *y = times(x, turn);
                }
            } else {
                simd::mulc(done, m.mont(turn), m.md, next);
            }
        }
    }

    /// Σ monomial·pair + Σ constant·pair, both halves of a ciphertext at once. At most three monomials (times R), constants
    /// times R. `spare` is overwritten.
    pub(crate) fn combine(
        &self,
        limb: usize,
        monomials: &[(&[u64], [&[u64]; 2])],
        constants: &[([&[u64]; 2], u64)],
        out: [&mut [u64]; 2],
        spare: &mut [u64],
    ) {
        let zero = &self.zero[..out[0].len()];
        let mut products = [([zero; 2], [zero; 2]); 3];
        for (product, (monomial, pair)) in products.iter_mut().zip(monomials) {
            *product = ([monomial, zero], *pair);
        }
        let mut terms = [([zero; 2], [0; 2]); 4];
        for (term, (pair, constant)) in terms.iter_mut().zip(constants) {
            *term = (*pair, [*constant; 2]);
        }
        let (prods, lins) = (&products[..monomials.len()], &terms[..constants.len()]);
        let [d0, d1] = out;
        simd::sum(
            &simd::Sum { prods, lins, cst: [0; 2], dbl: false },
            self.context.m[limb].md,
            d0,
            d1,
            spare,
        );
    }

    /// Residues of integers below 2^61 in magnitude, in coefficients. Takes the same time and memory accesses for all values.
    pub(crate) fn residues(&self, limb: usize, values: &[i64], out: &mut [u64], spare: &mut Spare) {
        let m = &self.context.m[limb];
        let modulo = |x: u64| m.mont(x % m.p);
        let [low, high, one] = spare.parts();
        for (((l, h), o), &v) in low.iter_mut().zip(high.iter_mut()).zip(one.iter_mut()).zip(values) {
            let shifted = v.wrapping_add(1 << 62) as u64;
            (*l, *h, *o) = (shifted & 0xFFFF_FFFF, shifted >> 32, 1);
        }
        let constants = [modulo(1), modulo(1 << 32), modulo(m.p - (1u64 << 62) % m.p)];
        simd::bconv(&[low, high], one, &constants, m.md, out);
    }

    /// Integers to the transform domain of one limb.
    pub(crate) fn transform(&self, limb: usize, values: &[i64], out: &mut [u64], spare: &mut Spare) {
        self.residues(limb, values, out, spare);
        self.context.fwd(limb, out);
    }
}

/// Working memory of a secret's size, wiped when dropped where secrets can be.
pub(crate) struct Spare {
    #[cfg(feature = "client")]
    words: zeroize::Zeroizing<Vec<u64>>,
    #[cfg(not(feature = "client"))]
    words: Vec<u64>,
}

impl Spare {
    pub(crate) fn new() -> Self {
        let words = vec![0; 3 * DEGREE];
        #[cfg(feature = "client")]
        let words = zeroize::Zeroizing::new(words);
        Spare { words }
    }

    fn parts(&mut self) -> [&mut [u64]; 3] {
        let (a, rest) = self.words.split_at_mut(DEGREE);
        let (b, c) = rest.split_at_mut(DEGREE);
        [a, b, c]
    }
}

/// a += b modulo p.
pub(crate) fn add_in(a: &mut [u64], b: &[u64], p: u64) {
    pulp::Arch::new().dispatch(|| {
        for (x, &y) in a.iter_mut().zip(b) {
            let sum = *x + y;
            *x = sum.min(sum.wrapping_sub(p));
        }
    });
}

/// a −= b modulo p.
pub(crate) fn sub_in(a: &mut [u64], b: &[u64], p: u64) {
    pulp::Arch::new().dispatch(|| {
        for (x, &y) in a.iter_mut().zip(b) {
            let difference = x.wrapping_sub(y);
            *x = difference.min(difference.wrapping_add(p));
        }
    });
}
