//! Transforms with AVX2 and FMA, in floating point.
//!
//! Residues are held as balanced integers in `f64`. A product is y·w − round(y·w/p)·p, exact by two fused multiplications (as in FLINT's
//! `fft_small`): h = y·w rounded, l = y·w − h exactly, and h − q·p is an integer below 2^50, so it is exact too. For p < 2^48 and |w| ≤ p/2 the
//! result is below (1/2 + |y|/p·0.047)·p. So fifteen forward layers without any reduction stay below 13p < 2^52; the inverse brings its two
//! largest sums down after each pass of three layers, and stays below 13p as well.

use std::arch::x86_64::*;

use super::{Modulus, Powers};
use crate::he::ring::{
    arith::mulmod,
    simd::avx2::{ld, st, to_float, to_int},
};

type V = __m256d;
/// The memory of one register.
type Group = [u64; 4];

pub struct Tables {
    p: f64,
    n: usize,
    /// The factor of the last inverse layer.
    first_inverse: u64,
    /// (w, w/p) in bit-reversed order, the first N/8; w balanced.
    forward: Vec<[f64; 2]>,
    inverse: Vec<[f64; 2]>,
    /// w of the last three layers, lane by lane: seven vectors per 32 residues.
    forward_lanes: Vec<[f64; 4]>,
    inverse_lanes: Vec<[f64; 4]>,
}

/// Factors (w, w/p) of three layers: one of the first, two of the second, four of the third.
type Factors = [(V, V); 7];

#[inline]
#[target_feature(enable = "avx2,fma")]
fn nearest(x: V) -> V {
    _mm256_round_pd::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x)
}
#[inline]
#[target_feature(enable = "avx2,fma")]
fn product(y: V, w: (V, V), p: V) -> V {
    let h = _mm256_mul_pd(y, w.0);
    let q = nearest(_mm256_mul_pd(y, w.1));
    let l = _mm256_fmsub_pd(y, w.0, h);
    _mm256_add_pd(_mm256_fnmadd_pd(q, p, h), l)
}
/// x mod p, balanced.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn balanced(x: V, p: V, inv: V) -> V {
    _mm256_fnmadd_pd(nearest(_mm256_mul_pd(x, inv)), p, x)
}
/// From (−p, p) to integers in [0, p).
#[inline]
#[target_feature(enable = "avx2,fma")]
fn lifted(r: V, p: V) -> __m256i {
    let negative = _mm256_cmp_pd::<_CMP_LT_OQ>(r, _mm256_setzero_pd());
    to_int(_mm256_add_pd(r, _mm256_and_pd(negative, p)))
}
/// x mod p in [0, p), as integers.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn canonical(x: V, p: V, inv: V) -> __m256i {
    lifted(balanced(x, p, inv), p)
}
/// w mod p in (−p/2, p/2].
fn balanced_float(w: u64, p: u64) -> f64 {
    if w > p / 2 { -((p - w) as f64) } else { w as f64 }
}
#[inline]
#[target_feature(enable = "avx2,fma")]
fn butterfly(a: &mut V, b: &mut V, w: (V, V), p: V) {
    let y = product(*b, w, p);
    *b = _mm256_sub_pd(*a, y);
    *a = _mm256_add_pd(*a, y);
}
#[inline]
#[target_feature(enable = "avx2,fma")]
fn inverse_butterfly(a: &mut V, b: &mut V, w: (V, V), p: V) {
    let d = _mm256_sub_pd(*a, *b);
    *a = _mm256_add_pd(*a, *b);
    *b = product(d, w, p);
}
/// Transposes four vectors of four.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn transpose(v: &mut [V]) {
    let a = _mm256_unpacklo_pd(v[0], v[1]);
    let b = _mm256_unpackhi_pd(v[0], v[1]);
    let c = _mm256_unpacklo_pd(v[2], v[3]);
    let d = _mm256_unpackhi_pd(v[2], v[3]);
    v[0] = _mm256_permute2f128_pd::<0x20>(a, c);
    v[1] = _mm256_permute2f128_pd::<0x20>(b, d);
    v[2] = _mm256_permute2f128_pd::<0x31>(a, c);
    v[3] = _mm256_permute2f128_pd::<0x31>(b, d);
}
/// Three layers on eight registers.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn layers(v: &mut [V; 8], w: &Factors, p: V) {
    let (x, y) = v.split_at_mut(4);
    for k in 0..4 {
        butterfly(&mut x[k], &mut y[k], w[0], p);
    }
    for (h, q) in v.chunks_exact_mut(4).enumerate() {
        let (x, y) = q.split_at_mut(2);
        for k in 0..2 {
            butterfly(&mut x[k], &mut y[k], w[1 + h], p);
        }
    }
    for (h, q) in v.chunks_exact_mut(2).enumerate() {
        let (x, y) = q.split_at_mut(1);
        butterfly(&mut x[0], &mut y[0], w[3 + h], p);
    }
}
/// The inverse of the last two of the three layers.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn inverse_two_layers(v: &mut [V; 8], w: &Factors, p: V) {
    for (h, q) in v.chunks_exact_mut(2).enumerate() {
        let (x, y) = q.split_at_mut(1);
        inverse_butterfly(&mut x[0], &mut y[0], w[3 + h], p);
    }
    for (h, q) in v.chunks_exact_mut(4).enumerate() {
        let (x, y) = q.split_at_mut(2);
        for k in 0..2 {
            inverse_butterfly(&mut x[k], &mut y[k], w[1 + h], p);
        }
    }
}
/// The inverse of three layers.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn inverse_layers(v: &mut [V; 8], w: &Factors, p: V, inv: V) {
    inverse_two_layers(v, w, p);
    let (x, y) = v.split_at_mut(4);
    for k in 0..4 {
        inverse_butterfly(&mut x[k], &mut y[k], w[0], p);
    }
    x[0] = balanced(x[0], p, inv);
    x[1] = balanced(x[1], p, inv);
}

/// Factors of the three layers that begin with m blocks, for block i of the first of them.
#[inline(always)]
fn factors(t: &[[f64; 2]], m: usize, i: usize) -> [[f64; 2]; 7] {
    let [a, b, c] = [&t[m + i..][..1], &t[2 * (m + i)..][..2], &t[4 * (m + i)..][..4]];
    [a[0], b[0], b[1], c[0], c[1], c[2], c[3]]
}
/// One factor for all lanes. A macro, since a function of so many registers is not always inlined.
macro_rules! splat_factors {
    ($factors:expr) => {{
        let mut w = [(_mm256_setzero_pd(), _mm256_setzero_pd()); 7];
        for (w, f) in w.iter_mut().zip($factors) {
            *w = (_mm256_set1_pd(f[0]), _mm256_set1_pd(f[1]));
        }
        w
    }};
}
/// Factors of the last three layers; w/p is computed.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn lane_factors(t: &[[f64; 4]; 7], inv: V) -> Factors {
    let mut v = [(_mm256_setzero_pd(), _mm256_setzero_pd()); 7];
    for (v, w) in v.iter_mut().zip(t) {
        let w = _mm256_setr_pd(w[0], w[1], w[2], w[3]);
        *v = (w, _mm256_mul_pd(w, inv));
    }
    v
}
/// The eight parts of a block, of equal lengths.
#[inline(always)]
fn eighths(block: &mut [Group]) -> [&mut [Group]; 8] {
    let len = block.len() / 8;
    let (a, rest) = block.split_at_mut(len);
    let (b, rest) = rest.split_at_mut(len);
    let (c, rest) = rest.split_at_mut(len);
    let (d, rest) = rest.split_at_mut(len);
    let (e, rest) = rest.split_at_mut(len);
    let (f, rest) = rest.split_at_mut(len);
    let (g, rest) = rest.split_at_mut(len);
    [a, b, c, d, e, f, g, &mut rest[..len]]
}
#[inline]
#[target_feature(enable = "avx2,fma")]
fn get(x: &Group) -> V {
    _mm256_castsi256_pd(ld(x))
}
#[inline]
#[target_feature(enable = "avx2,fma")]
fn put(x: &mut Group, v: V) {
    st(x, _mm256_castpd_si256(v));
}

// No closures here: one that is passed to a function of the standard library is not inlined, because that lacks the instructions.
/// Group j of each part; integers if `INTEGERS`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn load<const INTEGERS: bool>(part: &[&mut [Group]; 8], j: usize) -> [V; 8] {
    let mut v = [_mm256_setzero_pd(); 8];
    for (v, x) in v.iter_mut().zip(part) {
        *v = if INTEGERS { to_float(ld(&x[j])) } else { get(&x[j]) };
    }
    v
}
/// Four neighbouring blocks of eight residues, lane by lane: vector k holds residue k of all four.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn gather<const INTEGERS: bool>(part: &[Group; 8]) -> [V; 8] {
    let mut v = [_mm256_setzero_pd(); 8];
    for (v, k) in v.iter_mut().zip([0, 2, 4, 6, 1, 3, 5, 7]) {
        *v = if INTEGERS { to_float(ld(&part[k])) } else { get(&part[k]) };
    }
    let (lo, hi) = v.split_at_mut(4);
    transpose(lo);
    transpose(hi);
    v
}

impl Tables {
    pub fn new(m: Modulus, powers: &Powers) -> Tables {
        let n = powers.forward.len();
        let p = m.p as f64;
        let float = |w: u64| balanced_float(w, m.p);
        let table =
            |t: &[u64]| -> Vec<[f64; 2]> { t[..n / 8].iter().map(|&w| [float(w), float(w) / p]).collect() };
        Tables {
            p,
            n,
            first_inverse: powers.inverse[1],
            forward: table(&powers.forward),
            inverse: table(&powers.inverse),
            forward_lanes: Powers::lanes(&powers.forward, float),
            inverse_lanes: Powers::lanes(&powers.inverse, float),
        }
    }

    /// A forward pass over blocks of size N/m, the first of which is block i0 of the limb.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn pass<const FIRST: bool>(&self, x: &mut [Group], m: usize, i0: usize) {
        let p = _mm256_set1_pd(self.p);
        for (b, block) in x.chunks_exact_mut(self.n / m / 4).enumerate() {
            let w = splat_factors!(factors(&self.forward, m, i0 + b));
            let mut part = eighths(block);
            for j in 0..part[0].len() {
                let mut v = load::<FIRST>(&part, j);
                layers(&mut v, &w, p);
                for (x, v) in part.iter_mut().zip(v) {
                    put(&mut x[j], v);
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn inverse_pass(&self, x: &mut [Group], m: usize, i0: usize) {
        let (p, inv) = (_mm256_set1_pd(self.p), _mm256_set1_pd(1.0 / self.p));
        for (b, block) in x.chunks_exact_mut(self.n / m / 4).enumerate() {
            let w = splat_factors!(factors(&self.inverse, m, i0 + b));
            let mut part = eighths(block);
            for j in 0..part[0].len() {
                let mut v = load::<false>(&part, j);
                inverse_layers(&mut v, &w, p, inv);
                for (x, v) in part.iter_mut().zip(v) {
                    put(&mut x[j], v);
                }
            }
        }
    }

    /// The last inverse pass, with everything times c. Sums and differences are below 12.8p here, so products are below 0.92p.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn last_inverse_pass(&self, x: &mut [Group], c: u64) {
        let p = _mm256_set1_pd(self.p);
        let modulus = self.p as u64;
        let pair = |w: u64| {
            let w = balanced_float(w, modulus);
            (_mm256_set1_pd(w), _mm256_set1_pd(w / self.p))
        };
        let w = splat_factors!(factors(&self.inverse, 1, 0));
        let first = pair(mulmod(self.first_inverse, c, modulus));
        let c = pair(c);
        let mut part = eighths(x);
        for j in 0..part[0].len() {
            let mut v = load::<false>(&part, j);
            inverse_two_layers(&mut v, &w, p);
            let (a, b) = v.split_at_mut(4);
            for k in 0..4 {
                let d = _mm256_sub_pd(a[k], b[k]);
                a[k] = product(_mm256_add_pd(a[k], b[k]), c, p);
                b[k] = product(d, first, p);
            }
            for (x, v) in part.iter_mut().zip(v) {
                st(&mut x[j], lifted(v, p));
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn forward(&self, x: &mut [u64]) {
        let n = self.n;
        let (p, inv) = (_mm256_set1_pd(self.p), _mm256_set1_pd(1.0 / self.p));
        let x: &mut [Group] = x.as_chunks_mut().0;
        self.pass::<true>(x, 1, 0);
        let lanes = self.forward_lanes.as_chunks::<7>().0;
        for (b, (block, lanes)) in x.chunks_exact_mut(n / 32).zip(lanes.chunks_exact(n / 256)).enumerate() {
            let mut m = 8;
            while m < n / 8 {
                self.pass::<false>(block, m, b * m / 8);
                m *= 8;
            }
            for (part, lanes) in block.as_chunks_mut::<8>().0.iter_mut().zip(lanes) {
                let mut v = gather::<false>(part);
                layers(&mut v, &lane_factors(lanes, inv), p);
                for (lo, hi) in [(0, 0), (4, 1)] {
                    transpose(&mut v[lo..lo + 4]);
                    for k in 0..4 {
                        st(&mut part[2 * k + hi], canonical(v[lo + k], p, inv));
                    }
                }
            }
        }
    }

    /// The inverse times c, from `src` if given, else in place.
    #[target_feature(enable = "avx2,fma")]
    pub fn inverse(&self, src: Option<&[u64]>, c: u64, x: &mut [u64]) {
        let n = self.n;
        let (p, inv) = (_mm256_set1_pd(self.p), _mm256_set1_pd(1.0 / self.p));
        let src = src.map(|s| s.as_chunks::<4>().0);
        let x: &mut [Group] = x.as_chunks_mut().0;
        let lanes = self.inverse_lanes.as_chunks::<7>().0;
        for (b, (block, lanes)) in x.chunks_exact_mut(n / 32).zip(lanes.chunks_exact(n / 256)).enumerate() {
            let from = src.map(|s| s[b * n / 32..][..n / 32].as_chunks::<8>().0);
            for (c, (part, lanes)) in block.as_chunks_mut::<8>().0.iter_mut().zip(lanes).enumerate() {
                let from = from.map_or(&*part, |s| &s[c]);
                let mut v = gather::<true>(from);
                inverse_layers(&mut v, &lane_factors(lanes, inv), p, inv);
                for (lo, hi) in [(0, 0), (4, 1)] {
                    transpose(&mut v[lo..lo + 4]);
                    for k in 0..4 {
                        put(&mut part[2 * k + hi], v[lo + k]);
                    }
                }
            }
            let mut m = n / 64;
            while m >= 8 {
                self.inverse_pass(block, m, b * m / 8);
                m /= 8;
            }
        }
        self.last_inverse_pass(x, c);
    }
}
