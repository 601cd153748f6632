//! An RNS basis: primes, transforms, base conversions, automorphisms.

use std::collections::HashMap;

use super::{
    RingError,
    arith::{is_prime, mulmod, powmod, root_of_unity},
    simd::{Isa, Modulus, Perm, TERMS, transform::Transform},
};

pub use super::conversion::BaseConversion;

/// One prime of a basis.
pub struct Limb {
    /// The prime.
    pub p: u64,
    /// What the kernels need of it.
    pub md: Modulus,
    /// R mod p, R = 2^52.
    pub r: u64,
    /// R² mod p.
    pub r2: u64,
    /// ψ^(N/2): the value of X^(N/2) on the first half of the positions; minus that on the second.
    pub ipow: u64,
    /// Bytes of a packed residue: 5 or 6.
    pub w: usize,
    pub(super) transform: Transform,
}

impl Limb {
    fn new(n: usize, p: u64, isa: Isa) -> Limb {
        let md = Modulus::new(p, isa);
        let psi = root_of_unity(n, p);
        let r = ((1u128 << 52) % u128::from(p)) as u64;
        Limb {
            p,
            md,
            r,
            r2: mulmod(r, r, p),
            ipow: powmod(psi, n as u64 / 2, p),
            w: if p < 1 << 40 { 5 } else { 6 },
            transform: Transform::new(n, md, psi),
        }
    }

    /// Montgomery form of a constant: c·R mod p.
    pub fn mont(&self, c: u64) -> u64 {
        mulmod(c, self.r, self.p)
    }
}

/// The ring Z_Q\[X\]/(X^N + 1) with special primes for key switching.
///
/// A polynomial of level l is l limbs, one after the other: its values modulo q_0 … q_{l−1} in the transform domain. The *extended* basis of a
/// level adds the special primes behind them.
pub struct RnsContext {
    /// The degree N.
    pub n: usize,
    /// Number of ciphertext primes q_i; the special primes follow them in `m`.
    pub l: usize,
    /// Number of special primes.
    pub k: usize,
    /// All primes.
    pub m: Vec<Limb>,
    /// Ranges of ciphertext primes that form a digit of a key switch each.
    pub digits: Vec<std::ops::Range<usize>>,
    /// `[level][digit]`: a digit to any prime.
    pub modup: Vec<Vec<BaseConversion>>,
    /// `[level]`: from P, and from P·q_{level−1}.
    pub moddown: Vec<[BaseConversion; 2]>,
    /// `[level]`: from q_{level−1}.
    pub resc: Vec<BaseConversion>,
    /// From q_0 to any prime: the raise of the modulus.
    pub raise: BaseConversion,
    /// From the first special prime, which small key switches use alone.
    pub d2s_down: BaseConversion,
    /// From q_0 alone and from q_1 alone: the digits of small key switches.
    pub single: [BaseConversion; 2],
    /// Permutations of the automorphisms that were asked for, by Galois element.
    pub perms: HashMap<u64, Perm>,
    pub(super) isa: Isa,
}

/// Smallest and largest log2 of a degree.
const LOG_DEGREES: (usize, usize) = (4, 17);
/// Residues are below 2^48: see [`super::simd`].
const MAX_BITS: u32 = 48;
/// Digits that a key switch can have.
const MAX_DIGITS: usize = 8;

/// Splits limbs of so many bits into consecutive digits such that the largest digit has as few bits as possible.
fn split(bits: &[f64], digits: usize) -> Vec<std::ops::Range<usize>> {
    let l = bits.len();
    // best[i][d]: size of the largest of d digits that cover the first i limbs, and where the last of them begins
    let mut best = vec![vec![(f64::INFINITY, 0usize); digits + 1]; l + 1];
    best[0][0] = (0.0, 0);
    for i in 1..=l {
        for d in 1..=digits {
            for j in 0..i {
                let last: f64 = bits[j..i].iter().sum();
                let size = best[j][d - 1].0.max(last);
                if size < best[i][d].0 {
                    best[i][d] = (size, j);
                }
            }
        }
    }
    let mut end = l;
    let mut out: Vec<_> = (1..=digits)
        .rev()
        .map(|d| {
            let begin = best[end][d].1;
            begin..std::mem::replace(&mut end, begin)
        })
        .collect();
    out.reverse();
    out
}

/// Refuses what the kernels cannot use.
fn check(log_degree: usize, q: &[u64], special: &[u64], digits: usize) -> Result<(), RingError> {
    let (min, max) = LOG_DEGREES;
    if !(min..=max).contains(&log_degree) {
        return Err(RingError::Degree { log_degree, min, max });
    }
    if q.is_empty() || special.is_empty() {
        return Err(RingError::Chain(format!(
            "{} ciphertext primes and {} special primes; at least one of each is needed",
            q.len(),
            special.len()
        )));
    }
    if digits == 0 || digits > q.len().min(MAX_DIGITS) {
        return Err(RingError::Chain(format!(
            "{digits} digits for {} ciphertext primes; valid is 1 to {}",
            q.len(),
            q.len().min(MAX_DIGITS)
        )));
    }
    let all: Vec<u64> = q.iter().chain(special).copied().collect();
    for (i, &p) in all.iter().enumerate() {
        let refuse = |reason: String| Err(RingError::Modulus { modulus: p, reason });
        if p >= 1 << MAX_BITS {
            return refuse(format!("it has more than {MAX_BITS} bits"));
        }
        if p % (2 << log_degree) != 1 {
            return refuse(format!("it is not 1 modulo 2^{}, twice the degree", log_degree + 1));
        }
        if !is_prime(p) {
            return refuse("it is no prime".to_owned());
        }
        if all[..i].contains(&p) {
            return refuse("it appears twice in the chain".to_owned());
        }
    }
    Ok(())
}

impl RnsContext {
    /// As [`RnsContext::with_isa`], with the instructions that `HESN_ISA` names or the fastest.
    ///
    /// # Errors
    /// As there, and where `HESN_ISA` names none that this processor has.
    pub fn new(
        log_degree: usize,
        q: &[u64],
        special: &[u64],
        digits: usize,
    ) -> Result<RnsContext, RingError> {
        RnsContext::with_isa(log_degree, q, special, digits, Isa::from_env()?)
    }

    /// The ring of degree 2^`log_degree` with ciphertext primes `q` (lowest level first), special primes, and a number of digits
    /// into which key switches split the ciphertext primes.
    ///
    /// # Errors
    /// For degrees out of range; for moduli that are no primes below 2^48, are not 1 modulo 2N, or appear twice; for chains without primes, with
    /// too many digits, or with digits of more primes than a sum can hold.
    pub fn with_isa(
        log_degree: usize,
        q: &[u64],
        special: &[u64],
        digits: usize,
        isa: Isa,
    ) -> Result<RnsContext, RingError> {
        check(log_degree, q, special, digits)?;
        let n = 1usize << log_degree;
        let m: Vec<Limb> = q.iter().chain(special).map(|&p| Limb::new(n, p, isa)).collect();
        let (l, k) = (q.len(), special.len());
        let bits: Vec<f64> = q.iter().map(|&p| (p as f64).log2()).collect();
        let digits = split(&bits, digits);
        let longest = digits.iter().map(ExactSizeIterator::len).max().unwrap_or(0).max(k + 1);
        if longest >= TERMS {
            return Err(RingError::Chain(format!(
                "a conversion from {longest} primes, where {} are possible: use more digits or fewer special primes",
                TERMS - 1
            )));
        }
        let convert = |from: Vec<usize>| BaseConversion::new(n, &m, from);
        let modup = (0..=l)
            .map(|level| {
                let used = digits.iter().filter(|d| d.start < level);
                used.map(|d| convert((d.start..d.end.min(level)).collect())).collect()
            })
            .collect();
        let moddown = (0..=l)
            .map(|level| {
                let last = level.checked_sub(1);
                [convert((l..l + k).collect()), convert(last.into_iter().chain(l..l + k).collect())]
            })
            .collect();
        Ok(RnsContext {
            n,
            l,
            k,
            modup,
            moddown,
            resc: (0..=l).map(|level| convert(vec![level.saturating_sub(1)])).collect(),
            raise: convert(vec![0]),
            d2s_down: convert(vec![l]),
            single: [convert(vec![0]), convert(vec![1.min(l - 1)])],
            digits,
            perms: HashMap::new(),
            isa,
            m,
        })
    }

    /// The instructions that the kernels use.
    pub fn isa(&self) -> Isa {
        self.isa
    }
    /// log2 of the ciphertext modulus of a level.
    pub fn logq(&self, level: usize) -> f64 {
        self.m[..level].iter().map(|x| (x.p as f64).log2()).sum()
    }
    /// log2 of the special modulus P.
    pub fn logp(&self) -> f64 {
        self.m[self.l..].iter().map(|x| (x.p as f64).log2()).sum()
    }
    /// The Galois element 5^rot mod 2N of a rotation of the slots.
    pub fn galois(&self, rot: i64) -> u64 {
        let n = self.n as i64;
        powmod(5, rot.rem_euclid(n / 2).cast_unsigned(), 2 * self.n as u64)
    }
    /// Indices of the extended basis of a level: q_0 … q_{level−1}, then the special primes.
    pub fn limbs(&self, level: usize) -> Vec<usize> {
        (0..level).chain(self.l..self.l + self.k).collect()
    }
    /// Makes the permutation of X → X^g ready, for an odd g.
    ///
    /// # Panics
    /// If g is even: X → X^g is no automorphism then.
    pub fn add_perm(&mut self, g: u64) {
        assert!(g % 2 == 1, "the Galois element {g} is even");
        let n = self.n;
        self.perms.entry(g).or_insert_with(|| permutation(n, g));
    }

    /// Coefficients → values, in limb i.
    pub fn fwd(&self, i: usize, x: &mut [u64]) {
        self.m[i].transform.forward(x);
    }
    /// Values → coefficients times N, in limb i.
    pub fn inv(&self, i: usize, x: &mut [u64]) {
        self.m[i].transform.inverse(x);
    }
    /// As [`RnsContext::inv`], from `src` to `dst`.
    pub fn inv_to(&self, i: usize, src: &[u64], dst: &mut [u64]) {
        self.inv_scaled(i, src, 1, dst);
    }
    /// As [`RnsContext::inv_to`], times c < p (in plain form), which costs nothing.
    pub fn inv_scaled(&self, i: usize, src: &[u64], c: u64, dst: &mut [u64]) {
        self.m[i].transform.inverse_scaled(src, c, dst);
    }
}

/// X → X^g in the transform domain: the value at ψ^e comes from ψ^(e·g), and position j stands for e = 2·rev(j) + 1. Eight neighbouring
/// positions differ in the three highest bits of rev(j), hence e·g in a multiple of 2N/8, so they come from eight neighbouring ones.
fn permutation(n: usize, g: u64) -> Perm {
    let shift = usize::BITS - n.trailing_zeros();
    let rev = |j: usize| j.reverse_bits() >> shift;
    let mask = 2 * n as u64 - 1;
    let source = |j: usize| rev(((2 * rev(j) as u64 + 1).wrapping_mul(g) & mask) as usize / 2);
    let groups = n / 8;
    let mut p = Perm { src: vec![0; groups], dst: vec![0; groups], pi: vec![0; groups], tabs: vec![] };
    for d in 0..groups {
        let s = source(8 * d) / 8;
        let tab: [u64; 8] = std::array::from_fn(|t| source(8 * d + t) as u64 % 8);
        let known = p.tabs.iter().position(|x| *x == tab);
        let index = known.unwrap_or_else(|| {
            p.tabs.push(tab);
            p.tabs.len() - 1
        });
        p.dst[s] = d as u32;
        p.src[d] = s as u32;
        p.pi[s] = index as u8;
    }
    p
}
