//! Transforms with AVX-512 IFMA.
//!
//! Three layers per pass over memory (radix 8 in registers), the first pass over the whole limb and the others inside blocks of an eighth of
//! it, which stay in the first cache; butterflies of 3 IFMA and 3 additions. The product is a Montgomery one with a precomputed
//! w' = w·p^-1 mod 2^52: y·w/R = hi(y·w) − hi(lo(y·w')·p), in (−p, p), no mask, no correction; y may be anything below 2^52, and 2^52 ≥ 16p.
//! Forward: 3p is added once per pass to keep values non-negative, so a pass turns a bound B into B + 6p; the first operands are
//! brought down where needed.

use std::arch::x86_64::*;

use super::{Modulus, Powers};
use crate::he::ring::{
    arith::mulmod,
    simd::avx512::{ld, splat, st},
};

type V = __m512i;
/// The memory of one register.
type Group = [u64; 8];

pub struct Tables {
    p: u64,
    pinv: u64,
    /// R mod p.
    r: u64,
    n: usize,
    /// (w·R, w·R·p^-1 mod 2^52) in bit-reversed order, the first N/8.
    forward: Vec<[u64; 2]>,
    inverse: Vec<[u64; 2]>,
    /// w·R of the last three layers, lane by lane: seven vectors per 64 residues.
    forward_lanes: Vec<Group>,
    inverse_lanes: Vec<Group>,
}

/// Factors (w, w') of three layers: one of the first, two of the second, four of the third.
type Factors = [(V, V); 7];

/// Forward butterfly, signed and lazy: (x + y·w, x − y·w).
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn butterfly(a: &mut V, b: &mut V, w: (V, V), p: V) {
    let z = _mm512_setzero_si512();
    let m = _mm512_madd52lo_epu64(z, *b, w.1);
    let h = _mm512_madd52hi_epu64(*a, *b, w.0);
    let x = _mm512_sub_epi64(h, _mm512_madd52hi_epu64(z, m, p));
    *b = _mm512_sub_epi64(_mm512_add_epi64(*a, *a), x);
    *a = x;
}
/// Inverse butterfly: (x + y, (x − y + off)·w in (0, 2p)).
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn inverse_butterfly(a: &mut V, b: &mut V, w: (V, V), p: V, off: V) {
    let z = _mm512_setzero_si512();
    let d = _mm512_sub_epi64(_mm512_add_epi64(*a, off), *b);
    *a = _mm512_add_epi64(*a, *b);
    let m = _mm512_madd52lo_epu64(z, d, w.1);
    *b = _mm512_sub_epi64(_mm512_madd52hi_epu64(p, d, w.0), _mm512_madd52hi_epu64(z, m, p));
}
/// x − k where x ≥ k, else x.
#[inline]
#[target_feature(enable = "avx512f")]
fn bring_down(x: V, k: V) -> V {
    _mm512_min_epu64(x, _mm512_sub_epi64(x, k))
}
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(v: &mut [V; 8]) {
    let a: [V; 8] = [
        _mm512_unpacklo_epi64(v[0], v[1]),
        _mm512_unpackhi_epi64(v[0], v[1]),
        _mm512_unpacklo_epi64(v[2], v[3]),
        _mm512_unpackhi_epi64(v[2], v[3]),
        _mm512_unpacklo_epi64(v[4], v[5]),
        _mm512_unpackhi_epi64(v[4], v[5]),
        _mm512_unpacklo_epi64(v[6], v[7]),
        _mm512_unpackhi_epi64(v[6], v[7]),
    ];
    // blocks of 128 bits: a[2k + par] holds, per block b, rows 2k and 2k + 1 of column 2b + par
    for par in 0..2 {
        let (x0, x1, x2, x3) = (a[par], a[2 + par], a[4 + par], a[6 + par]);
        let s0 = _mm512_shuffle_i64x2::<0x88>(x0, x1); // blocks 0, 2 of x0 and x1
        let s1 = _mm512_shuffle_i64x2::<0xdd>(x0, x1); // blocks 1, 3
        let s2 = _mm512_shuffle_i64x2::<0x88>(x2, x3);
        let s3 = _mm512_shuffle_i64x2::<0xdd>(x2, x3);
        v[par] = _mm512_shuffle_i64x2::<0x88>(s0, s2); // block 0 of all
        v[4 + par] = _mm512_shuffle_i64x2::<0xdd>(s0, s2); // block 2
        v[2 + par] = _mm512_shuffle_i64x2::<0x88>(s1, s3); // block 1
        v[6 + par] = _mm512_shuffle_i64x2::<0xdd>(s1, s3); // block 3
    }
}
/// Three layers on eight registers.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn layers(v: &mut [V; 8], w: Factors, p: V) {
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
/// The inverse of the last two of the three layers; inputs below 2p. `k`: p, 2p, 4p, 8p. Leaves, in both halves, element 0 below 8p, 1 below 4p, 2
/// and 3 below 2p.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn inverse_two_layers(v: &mut [V; 8], w: Factors, [p, p2, p4, _]: [V; 4]) {
    for (h, q) in v.chunks_exact_mut(2).enumerate() {
        let (x, y) = q.split_at_mut(1);
        inverse_butterfly(&mut x[0], &mut y[0], w[3 + h], p, p2);
    }
    for (h, q) in v.chunks_exact_mut(4).enumerate() {
        let (x, y) = q.split_at_mut(2);
        inverse_butterfly(&mut x[0], &mut y[0], w[1 + h], p, p4);
        inverse_butterfly(&mut x[1], &mut y[1], w[1 + h], p, p2);
    }
}
/// The inverse of the first of the three layers.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn inverse_first_layer(v: &mut [V; 8], w: (V, V), [p, p2, p4, p8]: [V; 4]) {
    let (x, y) = v.split_at_mut(4);
    for (k, off) in [p8, p4, p2, p2].into_iter().enumerate() {
        inverse_butterfly(&mut x[k], &mut y[k], w, p, off);
    }
}
/// The inverse of three layers; inputs and outputs below 2p.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn inverse_layers(v: &mut [V; 8], w: Factors, k: [V; 4]) {
    inverse_two_layers(v, w, k);
    inverse_first_layer(v, w[0], k);
    let [_, p2, p4, p8] = k;
    v[0] = bring_down(bring_down(bring_down(v[0], p8), p4), p2);
    v[1] = bring_down(bring_down(v[1], p4), p2);
    v[2] = bring_down(v[2], p2);
    v[3] = bring_down(v[3], p2);
}

/// Factors of the three layers that begin with m blocks, for block i of the first of them.
#[inline(always)]
fn factors(t: &[[u64; 2]], m: usize, i: usize) -> [[u64; 2]; 7] {
    let [a, b, c] = [&t[m + i..][..1], &t[2 * (m + i)..][..2], &t[4 * (m + i)..][..4]];
    [a[0], b[0], b[1], c[0], c[1], c[2], c[3]]
}
/// One factor for all lanes. A macro, since a function of so many registers is not always inlined.
macro_rules! splat_factors {
    ($factors:expr) => {{
        let mut w = [(_mm512_setzero_si512(), _mm512_setzero_si512()); 7];
        for (w, f) in w.iter_mut().zip($factors) {
            *w = (splat(f[0]), splat(f[1]));
        }
        w
    }};
}
/// Factors of the last three layers. w' is computed: one product more, but half the tables, which are what overflows the second cache.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn lane_factors(t: &[Group; 7], pinv: V) -> Factors {
    let z = _mm512_setzero_si512();
    let mut v = [(z, z); 7];
    for (v, w) in v.iter_mut().zip(t) {
        let w = ld(w);
        *v = (w, _mm512_madd52lo_epu64(z, w, pinv));
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

// No closures here: one that is passed to a function of the standard library is not inlined, because that lacks the instructions.
/// Group j of each part.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(part: &[&mut [Group]; 8], j: usize) -> [V; 8] {
    let mut v = [_mm512_setzero_si512(); 8];
    for (v, x) in v.iter_mut().zip(part) {
        *v = ld(&x[j]);
    }
    v
}
#[inline]
#[target_feature(enable = "avx512f")]
fn load_block(block: &[Group; 8]) -> [V; 8] {
    let mut v = [_mm512_setzero_si512(); 8];
    for (v, x) in v.iter_mut().zip(block) {
        *v = ld(x);
    }
    v
}

impl Tables {
    pub fn new(m: Modulus, powers: &Powers) -> Tables {
        let p = m.p;
        let n = powers.forward.len();
        let r = ((1u128 << 52) % u128::from(p)) as u64;
        let mont = |w: u64| mulmod(w, r, p);
        let table = |t: &[u64]| -> Vec<[u64; 2]> {
            let pair = |&w: &u64| [mont(w), mont(w).wrapping_mul(m.pinv) & ((1 << 52) - 1)];
            t[..n / 8].iter().map(pair).collect()
        };
        Tables {
            p,
            pinv: m.pinv,
            r,
            n,
            forward: table(&powers.forward),
            inverse: table(&powers.inverse),
            forward_lanes: Powers::lanes(&powers.forward, mont),
            inverse_lanes: Powers::lanes(&powers.inverse, mont),
        }
    }

    /// A forward pass over blocks of size N/m, the first of which is block i0 of the limb.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn pass(&self, x: &mut [Group], m: usize, i0: usize, reduce: bool) {
        let [p, p3, p4, p8] = [1, 3, 4, 8].map(|k| splat(self.p * k));
        for (b, block) in x.chunks_exact_mut(self.n / m / 8).enumerate() {
            let w = splat_factors!(factors(&self.forward, m, i0 + b));
            let mut part = eighths(block);
            for j in 0..part[0].len() {
                let mut v = load(&part, j);
                for y in &mut v[..4] {
                    if reduce {
                        *y = bring_down(bring_down(*y, p8), p4);
                    }
                    *y = _mm512_add_epi64(*y, p3);
                }
                layers(&mut v, w, p);
                for (x, v) in part.iter_mut().zip(v) {
                    st(&mut x[j], v);
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn inverse_pass(&self, x: &mut [Group], m: usize, i0: usize) {
        let k = [1, 2, 4, 8].map(|k| splat(self.p * k));
        for (b, block) in x.chunks_exact_mut(self.n / m / 8).enumerate() {
            let w = splat_factors!(factors(&self.inverse, m, i0 + b));
            let mut part = eighths(block);
            for j in 0..part[0].len() {
                let mut v = load(&part, j);
                inverse_layers(&mut v, w, k);
                for (x, v) in part.iter_mut().zip(v) {
                    st(&mut x[j], v);
                }
            }
        }
    }

    /// The last inverse pass, with everything times c: the products with c take the place of reductions.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn last_inverse_pass(&self, x: &mut [Group], c: u64) {
        let k = [1, 2, 4, 8].map(|k| splat(self.p * k));
        let (p, z) = (k[0], _mm512_setzero_si512());
        let pair = |w: u64| (splat(w), splat(w.wrapping_mul(self.pinv) & ((1 << 52) - 1)));
        let factors = factors(&self.inverse, 1, 0);
        let w = splat_factors!(factors);
        let first = pair(mulmod(factors[0][0], c, self.p));
        let c = pair(mulmod(self.r, c, self.p));
        let mut part = eighths(x);
        for j in 0..part[0].len() {
            let mut v = load(&part, j);
            inverse_two_layers(&mut v, w, k);
            inverse_first_layer(&mut v, first, k);
            for y in &mut v[..4] {
                let m = _mm512_madd52lo_epu64(z, *y, c.1);
                *y = _mm512_sub_epi64(_mm512_madd52hi_epu64(p, *y, c.0), _mm512_madd52hi_epu64(z, m, p));
            }
            for (x, v) in part.iter_mut().zip(v) {
                st(&mut x[j], bring_down(v, p));
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn forward(&self, x: &mut [u64]) {
        let n = self.n;
        let [p, p2, p4, p8] = [1, 2, 4, 8].map(|k| splat(self.p * k));
        let x: &mut [Group] = x.as_chunks_mut().0;
        self.pass(x, 1, 0, false); // below 7p
        let lanes = self.forward_lanes.as_chunks::<7>().0;
        for (b, (block, lanes)) in x.chunks_exact_mut(n / 64).zip(lanes.chunks_exact(n / 512)).enumerate() {
            self.inner_passes(block, b);
            for (part, lanes) in block.as_chunks_mut::<8>().0.iter_mut().zip(lanes) {
                let mut v = self.last_layers(part, lanes);
                for y in &mut v {
                    *y = bring_down(bring_down(bring_down(bring_down(*y, p8), p4), p2), p);
                }
                transpose(&mut v);
                for (x, v) in part.iter_mut().zip(v) {
                    st(x, v);
                }
            }
        }
    }

    /// out = (a − forward(x))·c/R; x is left as it is before the last layers.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn forward_subtracted(&self, x: &mut [u64], a: &[u64], c: u64, out: &mut [u64]) {
        let n = self.n;
        let [p, p8] = [1, 8].map(|k| splat(self.p * k));
        let z = _mm512_setzero_si512();
        let c = (splat(c), splat(c.wrapping_mul(self.pinv) & ((1 << 52) - 1)));
        let x: &mut [Group] = x.as_chunks_mut().0;
        let a: &[[Group; 8]] = a.as_chunks().0.as_chunks().0;
        let out: &mut [[Group; 8]] = out.as_chunks_mut().0.as_chunks_mut().0;
        self.pass(x, 1, 0, false); // below 7p
        let lanes = self.forward_lanes.as_chunks::<7>().0;
        let rows = a.chunks_exact(n / 512).zip(out.chunks_exact_mut(n / 512));
        let blocks = x.chunks_exact_mut(n / 64).zip(lanes.chunks_exact(n / 512));
        for (b, ((block, lanes), (a, out))) in blocks.zip(rows).enumerate() {
            self.inner_passes(block, b);
            let parts = block.as_chunks::<8>().0.iter().zip(lanes);
            for ((part, lanes), (a, out)) in parts.zip(a.iter().zip(out)) {
                let mut v = self.last_layers(part, lanes);
                transpose(&mut v);
                for ((out, a), v) in out.iter_mut().zip(a).zip(v) {
                    // below 9p
                    let d = _mm512_sub_epi64(_mm512_add_epi64(ld(a), p8), bring_down(v, p8));
                    let m = _mm512_madd52lo_epu64(z, d, c.1);
                    let y =
                        _mm512_sub_epi64(_mm512_madd52hi_epu64(p, d, c.0), _mm512_madd52hi_epu64(z, m, p));
                    st(out, bring_down(y, p));
                }
            }
        }
    }

    /// The forward passes between the first and the last on an eighth of the limb.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn inner_passes(&self, block: &mut [Group], b: usize) {
        let mut m = 8;
        let mut bound = 7;
        while m < self.n / 8 {
            // the first operands are below bound·p, 4p after a reduction; a pass adds 6p; everything stays below 16p
            let reduce = bound + 6 > 16;
            self.pass(block, m, b * m / 8, reduce);
            bound = if reduce { 10 } else { bound + 6 };
            m *= 8;
        }
    }

    /// The last three forward layers of 64 residues, below 16p and transposed.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn last_layers(&self, part: &[Group; 8], lanes: &[Group; 7]) -> [V; 8] {
        let [p, p3, p4, p8] = [1, 3, 4, 8].map(|k| splat(self.p * k));
        let mut v = load_block(part);
        transpose(&mut v);
        for y in &mut v[..4] {
            *y = _mm512_add_epi64(bring_down(bring_down(*y, p8), p4), p3);
        }
        layers(&mut v, lane_factors(lanes, splat(self.pinv)), p);
        v
    }

    /// The inverse times c, from `src` if given, else in place.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn inverse(&self, src: Option<&[u64]>, c: u64, x: &mut [u64]) {
        let n = self.n;
        let k = [1, 2, 4, 8].map(|k| splat(self.p * k));
        let pinv = splat(self.pinv);
        let src = src.map(|s| s.as_chunks::<8>().0);
        let x: &mut [Group] = x.as_chunks_mut().0;
        let lanes = self.inverse_lanes.as_chunks::<7>().0;
        for (b, (block, lanes)) in x.chunks_exact_mut(n / 64).zip(lanes.chunks_exact(n / 512)).enumerate() {
            let from = src.map(|s| s[b * n / 64..][..n / 64].as_chunks::<8>().0);
            for (c, (part, lanes)) in block.as_chunks_mut::<8>().0.iter_mut().zip(lanes).enumerate() {
                let from = from.map_or(&*part, |s| &s[c]);
                let mut v = load_block(from);
                transpose(&mut v);
                inverse_layers(&mut v, lane_factors(lanes, pinv), k);
                transpose(&mut v);
                for (x, v) in part.iter_mut().zip(v) {
                    st(x, v);
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
