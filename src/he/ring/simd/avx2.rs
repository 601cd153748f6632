//! The kernels with AVX2 and FMA: products of 48-bit residues in floating point, exact.
//!
//! A sum of products is held as H + L in two `f64`: H starts at 2^100, so that a fused multiplication adds to it in units of 2^48; what that
//! rounds away, at most 2^47, is found exactly by a second one and added to L. Sixteen products below 2^96 keep H below 2^101 and |L| below
//! 2^51, so nothing is ever rounded. See `transform/avx2.rs` for the reduction of such numbers.

use std::arch::x86_64::*;

use super::{Dot, GROUP, Modulus, Pair, Sum};
use crate::he::ring::arith::{mulmod, powmod};

type V = __m256d;
/// 2^52: integers below it are the low bits of 2^52 + x.
const MAGIC: f64 = (1u64 << 52) as f64;
/// 2^100, where a unit in the last place is 2^48.
const BASE: f64 = (1u128 << 100) as f64;

#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn ld(x: &[u64; 4]) -> __m256i {
    // SAFETY: the reference is to 32 readable bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn st(x: &mut [u64; 4], v: __m256i) {
    // SAFETY: the reference is to 32 writable bytes, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(x.as_mut_ptr().cast(), v) }
}
/// Integers below 2^52.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn to_float(x: __m256i) -> V {
    let magic = _mm256_set1_pd(MAGIC);
    _mm256_sub_pd(_mm256_or_pd(_mm256_castsi256_pd(x), magic), magic)
}
/// Non-negative integers below 2^52, others rounded to the nearest, ties to even.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn to_int(x: V) -> __m256i {
    let magic = _mm256_set1_pd(MAGIC);
    _mm256_castpd_si256(_mm256_xor_pd(_mm256_add_pd(x, magic), magic))
}
#[inline]
#[target_feature(enable = "avx2,fma")]
fn nearest(x: V) -> V {
    _mm256_round_pd::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x)
}
#[inline]
#[target_feature(enable = "avx2,fma")]
fn load(x: &[[u64; 4]], i: usize) -> V {
    to_float(ld(&x[i]))
}
/// Four residues at a time.
#[inline]
fn quads(x: &[u64]) -> &[[u64; 4]] {
    x.as_chunks().0
}
#[inline]
fn quads_mut(x: &mut [u64]) -> &mut [[u64; 4]] {
    x.as_chunks_mut().0
}

/// A prime, and constants modulo it.
#[derive(Clone, Copy)]
struct Prime {
    p: V,
    inv: V,
    /// R^-1 and R^-1/p.
    unr: (V, V),
}
impl Prime {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn new(m: Modulus) -> Prime {
        Prime {
            p: _mm256_set1_pd(m.p as f64),
            inv: _mm256_set1_pd(1.0 / m.p as f64),
            unr: constant(unscaled(1, m), m.p),
        }
    }
    /// y·w mod p in (−p, p), for |y| < 2^52.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn product(&self, y: V, w: (V, V)) -> V {
        let h = _mm256_mul_pd(y, w.0);
        let q = nearest(_mm256_mul_pd(y, w.1));
        let l = _mm256_fmsub_pd(y, w.0, h);
        _mm256_add_pd(_mm256_fnmadd_pd(q, self.p, h), l)
    }
    /// From (−p, p) to integers in [0, p).
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn lift(&self, r: V) -> __m256i {
        let negative = _mm256_cmp_pd::<_CMP_LT_OQ>(r, _mm256_setzero_pd());
        to_int(_mm256_add_pd(r, _mm256_and_pd(negative, self.p)))
    }
    /// A small representative of the sum, below 1.5p + 2^51.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn fold(&self, s: Acc) -> V {
        let h = _mm256_sub_pd(s.h, _mm256_set1_pd(BASE));
        let q = nearest(_mm256_mul_pd(h, self.inv));
        _mm256_add_pd(_mm256_fnmadd_pd(q, self.p, h), s.l)
    }
    /// sum/R mod p in [0, p).
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn reduce(&self, s: Acc) -> __m256i {
        self.lift(self.product(self.fold(s), self.unr))
    }
    /// sum mod p in [0, p).
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn reduce_plain(&self, s: Acc) -> __m256i {
        let x = self.fold(s);
        self.lift(_mm256_fnmadd_pd(nearest(_mm256_mul_pd(x, self.inv)), self.p, x))
    }
}
/// a + b mod p.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add(a: __m256i, b: __m256i, p: __m256i) -> __m256i {
    let s = _mm256_add_epi64(a, b);
    let t = _mm256_sub_epi64(s, p);
    let negative = _mm256_cmpgt_epi64(_mm256_setzero_si256(), t);
    _mm256_add_epi64(t, _mm256_and_si256(negative, p))
}
/// c/R mod p.
fn unscaled(c: u64, m: Modulus) -> u64 {
    // 2 is invertible: 2^-52 = 2^(p - 1 - 52) for p > 53
    mulmod(c % m.p, powmod(2, m.p - 53, m.p), m.p)
}
/// A constant and its quotient by p, balanced.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn constant(c: u64, p: u64) -> (V, V) {
    let c = if c > p / 2 { -((p - c) as f64) } else { c as f64 };
    (_mm256_set1_pd(c), _mm256_set1_pd(c / p as f64))
}

/// A sum of products.
#[derive(Clone, Copy)]
struct Acc {
    h: V,
    l: V,
}
impl Acc {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn zero() -> Acc {
        Acc { h: _mm256_set1_pd(BASE), l: _mm256_setzero_pd() }
    }
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn mac(&mut self, a: V, b: V) {
        let h = _mm256_fmadd_pd(a, b, self.h);
        let l = _mm256_fmadd_pd(a, b, _mm256_sub_pd(self.h, h));
        self.h = h;
        self.l = _mm256_add_pd(self.l, l);
    }
}

/// Unpacks four residues of W bytes.
struct Unpack<const W: usize>(__m256i);
impl<const W: usize> Unpack<W> {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn new() -> Self {
        let mut index = [0x80u8; 32];
        for (k, x) in index.iter_mut().enumerate() {
            let (t, byte) = (k / 8 % 2, k % 8);
            if byte < W {
                *x = (t * W + byte) as u8;
            }
        }
        // SAFETY: the array has 32 bytes.
        Self(unsafe { _mm256_loadu_si256(index.as_ptr().cast()) })
    }
    /// Residues 4i to 4i + 3 of the stream.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn get(&self, s: &[u8], i: usize) -> V {
        let bytes = &s[4 * i * W..][..2 * W + 16];
        // SAFETY: the slice has 2W + 16 bytes, so both loads of 16 bytes lie inside it.
        let v = unsafe {
            _mm256_set_m128i(
                _mm_loadu_si128(bytes[2 * W..].as_ptr().cast()),
                _mm_loadu_si128(bytes.as_ptr().cast()),
            )
        };
        to_float(_mm256_shuffle_epi8(v, self.0))
    }
}

#[target_feature(enable = "avx2,fma")]
pub fn dot(a: &Dot, w: usize, m: Modulus, o0: &mut [u64], o1: &mut [u64]) {
    match w {
        5 => dot_w::<5>(a, m, o0, o1),
        _ => dot_w::<6>(a, m, o0, o1),
    }
}
#[inline]
#[target_feature(enable = "avx2,fma")]
fn dot_w<const W: usize>(a: &Dot, m: Modulus, o0: &mut [u64], o1: &mut [u64]) {
    let pr = Prime::new(m);
    let p = _mm256_set1_epi64x(m.p.cast_signed());
    let unpack = Unpack::<W>::new();
    let (o0, o1) = (quads_mut(o0), quads_mut(o1));
    let c0 = _mm256_set1_pd(a.add0.map_or(0.0, |x| x.1 as f64));
    let c1 = _mm256_set1_pd(a.add1.map_or(0.0, |x| x.1 as f64));
    for i in a.range.0..a.range.1 {
        let mut r = [[_mm256_setzero_si256(); 2]; 2];
        for (half, r) in r.iter_mut().enumerate() {
            let (mut s0, mut s1) = (Acc::zero(), Acc::zero());
            if let Some((s, _)) = a.add0 {
                s0.mac(load(quads(s), 2 * i + half), c0);
            }
            if let Some((s, _)) = a.add1 {
                s1.mac(load(quads(s), 2 * i + half), c1);
            }
            for (d, dig) in a.digs.iter().enumerate() {
                let x = load(quads(dig), 2 * i + half);
                let k = 4 * (i * a.kd + d) + half;
                s0.mac(x, unpack.get(a.key, k));
                s1.mac(x, unpack.get(a.key, k + 2));
            }
            *r = [pr.reduce(s0), pr.reduce(s1)];
        }
        let mut r = [[r[0][0], r[1][0]], [r[0][1], r[1][1]]];
        let mut j = 2 * (i.wrapping_sub(a.base));
        if let Some(pm) = a.perm {
            j = 2 * (pm.dst[i] as usize - a.base);
            let tab = &pm.tabs[pm.pi[i] as usize];
            for r in &mut r {
                let mut x = [[0; 4]; 2];
                st(&mut x[0], r[0]);
                st(&mut x[1], r[1]);
                let x = x.as_flattened();
                let y: [u64; GROUP] = std::array::from_fn(|t| x[tab[t] as usize % GROUP]);
                let (y, _) = y.as_chunks();
                *r = [ld(&y[0]), ld(&y[1])];
            }
        }
        for (o, r) in [(&mut *o0, r[0]), (&mut *o1, r[1])] {
            for (o, mut r) in o[j..j + 2].iter_mut().zip(r) {
                if a.acc {
                    r = add(r, ld(o), p);
                }
                st(o, r);
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
pub fn diag(
    dg: &[u8],
    nd: usize,
    r: &[(usize, &[u64], &[u64])],
    w: usize,
    m: Modulus,
    o0: &mut [u64],
    o1: &mut [u64],
) {
    match w {
        5 => diag_w::<5>(dg, nd, r, m, o0, o1),
        _ => diag_w::<6>(dg, nd, r, m, o0, o1),
    }
}
#[inline]
#[target_feature(enable = "avx2,fma")]
fn diag_w<const W: usize>(
    dg: &[u8],
    nd: usize,
    r: &[(usize, &[u64], &[u64])],
    m: Modulus,
    o0: &mut [u64],
    o1: &mut [u64],
) {
    let pr = Prime::new(m);
    let unpack = Unpack::<W>::new();
    for (i, (o0, o1)) in quads_mut(o0).iter_mut().zip(quads_mut(o1)).enumerate() {
        let (mut s0, mut s1) = (Acc::zero(), Acc::zero());
        for (k, a, b) in r {
            let x = unpack.get(dg, 2 * (i / 2 * nd + k) + i % 2);
            s0.mac(x, load(quads(a), i));
            s1.mac(x, load(quads(b), i));
        }
        st(o0, pr.reduce(s0));
        st(o1, pr.reduce(s1));
    }
}

#[target_feature(enable = "avx2,fma")]
pub fn sum(a: &Sum, m: Modulus, d0: &mut [u64], d1: &mut [u64], d2: &mut [u64]) {
    let pr = Prime::new(m);
    let p = _mm256_set1_epi64x(m.p.cast_signed());
    let (d0, d1, d2) = (quads_mut(d0), quads_mut(d1), quads_mut(d2));
    let n = d0.len();
    let factor = _mm256_set1_pd(if a.dbl { 2.0 } else { 1.0 });
    for half in 0..2 {
        let k = _mm256_set1_epi64x(a.cst[half].cast_signed());
        for i in half * n / 2..(half + 1) * n / 2 {
            let (mut s0, mut s1, mut s2) = (Acc::zero(), Acc::zero(), Acc::zero());
            for (x, y) in a.prods {
                let x0 = _mm256_mul_pd(load(quads(x[0]), i), factor);
                let x1 = _mm256_mul_pd(load(quads(x[1]), i), factor);
                let (y0, y1) = (load(quads(y[0]), i), load(quads(y[1]), i));
                s0.mac(x0, y0);
                s1.mac(x0, y1);
                s1.mac(x1, y0);
                s2.mac(x1, y1);
            }
            for (x, c) in a.lins {
                let c = _mm256_set1_pd(c[half] as f64);
                s0.mac(load(quads(x[0]), i), c);
                s1.mac(load(quads(x[1]), i), c);
            }
            st(&mut d0[i], add(pr.reduce(s0), k, p));
            st(&mut d1[i], pr.reduce(s1));
            if !a.prods.is_empty() {
                st(&mut d2[i], pr.reduce(s2));
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
pub fn add_product(x: Pair<'_>, f: &[u64], m: Modulus, o0: &mut [u64], o1: &mut [u64]) {
    let pr = Prime::new(m);
    let p = _mm256_set1_epi64x(m.p.cast_signed());
    for (x, o) in x.into_iter().zip([o0, o1]) {
        for ((o, x), f) in quads_mut(o).iter_mut().zip(quads(x)).zip(quads(f)) {
            let mut s = Acc::zero();
            s.mac(to_float(ld(x)), to_float(ld(f)));
            st(o, add(pr.reduce(s), ld(o), p));
        }
    }
}

#[target_feature(enable = "avx2,fma")]
pub fn mulc(x: &[u64], c: u64, m: Modulus, o: &mut [u64]) {
    let pr = Prime::new(m);
    let c = constant(unscaled(c, m), m.p);
    for (o, x) in quads_mut(o).iter_mut().zip(quads(x)) {
        st(o, pr.lift(pr.product(to_float(ld(x)), c)));
    }
}
#[target_feature(enable = "avx2,fma")]
pub fn mulc_in(o: &mut [u64], c: u64, m: Modulus) {
    let pr = Prime::new(m);
    let c = constant(unscaled(c, m), m.p);
    for o in quads_mut(o) {
        st(o, pr.lift(pr.product(to_float(ld(o)), c)));
    }
}

#[target_feature(enable = "avx2,fma")]
pub fn round(ys: &[&[u64]], inv: &[f64], v: &mut [u64]) {
    for (i, v) in quads_mut(v).iter_mut().enumerate() {
        let mut s = _mm256_setzero_pd();
        for (y, f) in ys.iter().zip(inv) {
            s = _mm256_add_pd(s, _mm256_mul_pd(load(quads(y), i), _mm256_set1_pd(*f)));
        }
        st(v, to_int(s));
    }
}

#[target_feature(enable = "avx2,fma")]
pub fn bconv(ys: &[&[u64]], v: &[u64], c: &[u64], m: Modulus, o: &mut [u64]) {
    let pr = Prime::new(m);
    let a = ys.len();
    let mut cs = [_mm256_setzero_pd(); super::TERMS];
    for (x, &c) in cs.iter_mut().zip(c) {
        *x = _mm256_set1_pd(unscaled(c, m) as f64);
    }
    for (i, o) in quads_mut(o).iter_mut().enumerate() {
        let mut s = Acc::zero();
        s.mac(load(quads(v), i), cs[a]);
        for (y, c) in ys.iter().zip(cs) {
            s.mac(load(quads(y), i), c);
        }
        st(o, pr.reduce_plain(s));
    }
}

#[target_feature(enable = "avx2,fma")]
pub fn subc(a: &[u64], t: &[u64], c: u64, m: Modulus, o: &mut [u64]) {
    let pr = Prime::new(m);
    let c = constant(unscaled(c, m), m.p);
    for ((o, a), t) in quads_mut(o).iter_mut().zip(quads(a)).zip(quads(t)) {
        let d = _mm256_sub_pd(to_float(ld(a)), to_float(ld(t)));
        st(o, pr.lift(pr.product(d, c)));
    }
}
