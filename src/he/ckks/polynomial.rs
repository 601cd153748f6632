//! Functions of slots: the exponential that brings the torus to the unit circle, powers of it, and polynomials in it.

use super::{
    ciphertext::{Ciphertext, Integer, Tensor, residues, rounded},
    complex::Complex,
    params::{RAISE_BOUND, RingProfile},
    stages::{EXPONENTIAL_BITS, FUNCTION_BITS, SQUARINGS},
};
use crate::he::ring::{
    arith::{invmod, mulmod},
    buffer::Buffer,
    context::{Limb, RnsContext},
    key_switch::SwitchKey,
    parallel, simd,
};
use std::f64::consts::{PI, TAU};

/// Degree of the exponential's Chebyshev series.
const EXPONENTIAL_DEGREE: usize = 15;
/// Residues per chunk of the leaves: all powers' chunks stay in the cache.
const LEAF_CHUNK: usize = 512;

/// Chebyshev coefficients of exp(i·θ·u) on \[−1, 1\].
fn chebyshev_exponential(theta: f64) -> Vec<Complex> {
    const POINTS: usize = 256;
    let angle = |j: usize| PI * (j as f64 + 0.5) / POINTS as f64;
    (0..=EXPONENTIAL_DEGREE)
        .map(|k| {
            let sum = (0..POINTS)
                .map(|j| Complex::unit(theta * angle(j).cos()).scale((k as f64 * angle(j)).cos()))
                .fold(Complex::default(), |s, x| s + x);
            sum.scale(if k == 0 { 1.0 } else { 2.0 } / POINTS as f64)
        })
        .collect()
}

/// Powers of one ciphertext of unit complex numbers E.
pub(crate) struct HalfPowers {
    /// E^1, E^2, … up to the block length.
    low: Vec<Ciphertext>,
    /// E^(2·block), E^(4·block), …
    high: Vec<Ciphertext>,
}

/// Evaluates with a relinearisation key.
pub(crate) struct Evaluator<'a> {
    pub context: &'a RnsContext,
    pub relinearisation: &'a SwitchKey,
    pub profile: &'a RingProfile,
}

/// Two blocks of coefficients: the second times a power is added to the first.
type Block<'a> = (&'a [Complex], &'a [Complex]);

impl Evaluator<'_> {
    fn product(&self, x: &Ciphertext, y: &Ciphertext) -> Ciphertext {
        self.context.product(self.relinearisation, x, y)
    }

    /// 2xy − z, or 2xy − 1.
    fn chebyshev(&self, x: &Ciphertext, y: &Ciphertext, z: Option<&Ciphertext>) -> Ciphertext {
        let (scale, l) = (x.scale * y.scale, x.l.min(y.l));
        let tensor = match z {
            Some(z) => {
                let term: Integer = (-(scale / z.scale).round() as i128, 0);
                self.context.tensor(l, (x, y), &[(z, term)], (0, 0), true)
            }
            None => self.context.tensor(l, (x, y), &[], (-scale.round() as i128, 0), true),
        };
        self.context.relinearise(self.relinearisation, &tensor)
    }

    /// x times the integer that brings the product with itself to the working scale where the level's prime is larger.
    fn lifted(&self, x: &Ciphertext) -> Option<Ciphertext> {
        let prime = self.context.m[x.l - 1].p as f64;
        let factor = (self.profile.working_bits.exp2() * prime / (x.scale * x.scale)).round();
        (factor > 1.0).then(|| self.context.combination(x.l, &[(x, (factor as i128, 0))], x.scale * factor))
    }

    /// lo + hi·power.
    fn node(&self, lo: &Ciphertext, hi: &Ciphertext, power: &Ciphertext) -> Ciphertext {
        let l = lo.l.min(hi.l).min(power.l);
        let term = ((hi.scale * power.scale / lo.scale).round() as i128, 0);
        let tensor = self.context.tensor(l, (hi, power), &[(lo, term)], (0, 0), false);
        self.context.relinearise(self.relinearisation, &tensor)
    }

    /// exp(2πi·K·u) of slots u in \[−1, 1\]: the series at a sixteenth of the angle, then squarings.
    pub(crate) fn exponential(&self, u: &Ciphertext) -> Ciphertext {
        let theta = TAU * RAISE_BOUND / f64::from(1 << SQUARINGS);
        let t2 = self.chebyshev(u, u, None);
        let t3 = self.chebyshev(&t2, u, Some(u));
        let t4 = self.chebyshev(&t2, &t2, None);
        let t8 = self.chebyshev(&t4, self.lifted(&t4).as_ref().unwrap_or(&t4), None);
        // p = low + T_h·high, where T_(h+j) = 2·T_h·T_j − T_(h−j).
        let split = |mut low: Vec<Complex>| {
            let h = low.len() / 2;
            let mut high = low.split_off(h);
            for j in 1..h {
                low[h - j] = low[h - j] - high[j];
                high[j] = high[j].scale(2.0);
            }
            (low, high)
        };
        let (low, high) = split(chebyshev_exponential(theta));
        let (low, high) = (split(low), split(high));
        let scale = EXPONENTIAL_BITS.exp2() * t4.scale;
        let blocks = [(&low.0[..], &low.1[..]), (&high.0[..], &high.1[..])];
        let leaves = self.leaves(&blocks, &[u, &t2, &t3], &t4, scale);
        let mut e = self.node(&leaves[0], &leaves[1], &t8);
        for _ in 0..SQUARINGS {
            e = self.product(&e, &e);
        }
        e
    }

    /// The powers of E that polynomials up to a degree take.
    pub(crate) fn powers(&self, e: Ciphertext, degree: usize) -> HalfPowers {
        let mut low = vec![e];
        while low.len() < self.profile.block {
            let k = low.len() + 1;
            low.push(self.product(&low[k.div_ceil(2) - 1], &low[k / 2 - 1]));
        }
        let mut high: Vec<Ciphertext> = vec![];
        let mut k = 2 * self.profile.block;
        while k <= degree {
            let x = high.last().unwrap_or(&low[self.profile.block - 1]);
            let square = self.product(x, self.lifted(x).as_ref().unwrap_or(x));
            high.push(square);
            k *= 2;
        }
        HalfPowers { low, high }
    }

    /// Level and scale at which [`Evaluator::polynomial`] leaves a polynomial of a degree, if its leaves have
    /// constants of full precision.
    pub(crate) fn natural(&self, powers: &HalfPowers, degree: usize) -> (usize, f64) {
        let nodes = self.profile.block_pairs(degree).trailing_zeros() as usize;
        let first = &powers.low[self.profile.block - 1];
        let scale = (self.profile.working_bits + FUNCTION_BITS).exp2() * first.scale / self.prime(first.l);
        let high = powers.high[..nodes].iter();
        (first.l - 1 - nodes, high.fold(scale, |s, power| s * power.scale / self.prime(power.l)))
    }

    fn prime(&self, level: usize) -> f64 {
        self.context.m[level - 1].p as f64
    }

    /// Σ c_k·E^k by Paterson and Stockmeyer over monomials. `scale` is that of the result; without one the constants have
    /// full precision, and the result whatever scale that gives.
    pub(crate) fn polynomial(
        &self,
        powers: &HalfPowers,
        coefficients: &[Complex],
        scale: Option<f64>,
    ) -> Ciphertext {
        let pairs = self.profile.block_pairs(coefficients.len().saturating_sub(1));
        let nodes = pairs.trailing_zeros() as usize;
        let mut padded = coefficients.to_vec();
        padded.resize(2 * self.profile.block * pairs, Complex::default());
        let blocks: Vec<Block> = padded
            .chunks_exact(2 * self.profile.block)
            .map(|pair| pair.split_at(self.profile.block))
            .collect();
        let natural = self.natural(powers, coefficients.len().saturating_sub(1)).1;
        let leaf = (self.profile.working_bits + FUNCTION_BITS).exp2() * scale.map_or(1.0, |s| s / natural);
        let x: Vec<&Ciphertext> = powers.low[..self.profile.block - 1].iter().collect();
        let mut v = self.leaves(&blocks, &x, &powers.low[self.profile.block - 1], leaf);
        for power in &powers.high[..nodes] {
            v = v.chunks_exact(2).map(|pair| self.node(&pair[0], &pair[1], power)).collect();
        }
        v.swap_remove(0)
    }

    /// For each pair of blocks: first + second·power, relinearised and rescaled, where a block is Σ c_k·x_k + c_0.
    ///
    /// The second block is built at `scale` without a level of its own; each integer constant absorbs the exact scale of
    /// its power. Chunk by chunk, so that powers are read once for all blocks and the second block never leaves the cache.
    fn leaves(&self, blocks: &[Block], x: &[&Ciphertext], power: &Ciphertext, scale: f64) -> Vec<Ciphertext> {
        let (n, l) = (self.context.n, power.l);
        let full = scale * power.scale;
        let mut out: Vec<Tensor> = blocks.iter().map(|_| Tensor::new(n, l, full)).collect();
        // Both halves of each limb's positions.
        let mut jobs: Vec<(usize, Vec<&mut [u64]>)> = (0..2 * l).map(|job| (job, vec![])).collect();
        for d in out.iter_mut().flat_map(|t| t.d.iter_mut()) {
            for (job, part) in jobs.iter_mut().zip(d.chunks_exact_mut(n / 2)) {
                job.1.push(part);
            }
        }
        parallel::run(jobs, |(job, mut out)| {
            let (i, half) = (job / 2, job % 2);
            let m = &self.context.m[i];
            let constants: Vec<_> =
                blocks.iter().map(|b| BlockConstants::new(m, *b, x, scale, full)).collect();
            let chunk = LEAF_CHUNK.min(n / 2);
            let (mut y0, mut y1) = (Buffer::new(chunk), Buffer::new(chunk));
            for c in 0..n / 2 / chunk {
                let own = c * chunk..(c + 1) * chunk;
                let range = half * n / 2 + own.start..half * n / 2 + own.end;
                let xs: Vec<[&[u64]; 2]> =
                    x.iter().map(|x| x.limb(i, n).map(|v| &v[range.clone()])).collect();
                let power = power.limb(i, n).map(|v| &v[range.clone()]);
                for (k, out) in constants.iter().zip(out.chunks_exact_mut(3)) {
                    let terms = |factors: &[[u64; 2]]| -> Vec<_> {
                        xs.iter().zip(factors).map(|(x, k)| (*x, [k[half]; 2])).collect()
                    };
                    let second = simd::Sum {
                        prods: &[],
                        lins: &terms(&k.second),
                        cst: [k.second_constant[half]; 2],
                        dbl: false,
                    };
                    simd::sum(&second, m.md, &mut y0, &mut y1, &mut []);
                    let sum = simd::Sum {
                        prods: &[([&y0[..], &y1[..]], power)],
                        lins: &terms(&k.first),
                        cst: [k.first_constant[half]; 2],
                        dbl: false,
                    };
                    let [d0, d1, d2] = out else { continue };
                    let (d0, d1, d2) = (&mut d0[own.clone()], &mut d1[own.clone()], &mut d2[own.clone()]);
                    simd::sum(&sum, m.md, d0, d1, d2);
                }
            }
        });
        out.iter().map(|t| self.context.relinearise(self.relinearisation, t)).collect()
    }
}

/// The residues of a pair of blocks' constants in a limb, for both halves of the positions. Products of ciphertexts carry
/// 1/R; the second block's constants are in Montgomery form, the first's are plain.
struct BlockConstants {
    first: Vec<[u64; 2]>,
    first_constant: [u64; 2],
    second: Vec<[u64; 2]>,
    second_constant: [u64; 2],
}

impl BlockConstants {
    fn new(m: &Limb, (first, second): Block, x: &[&Ciphertext], scale: f64, full: f64) -> Self {
        let r_inverse = invmod(m.r, m.p);
        let at = |c: &[Complex], scale: f64| -> Vec<[u64; 2]> {
            x.iter().zip(&c[1..]).map(|(x, &k)| residues(m, rounded(k, scale / x.scale))).collect()
        };
        BlockConstants {
            first: at(first, full),
            first_constant: residues(m, rounded(first[0], full)).map(|v| mulmod(v, r_inverse, m.p)),
            second: at(second, scale).into_iter().map(|k| k.map(|v| m.mont(v))).collect(),
            second_constant: residues(m, rounded(second[0], scale)),
        }
    }
}
