//! Negacyclic NTT on AVX-512 IFMA for primes < 2^48; same order and root as tfhe-ntt's plan (natural in,
//! bit-reversed out, inverse not normalised), which stays the reference and the fallback.
//!
//! Why it is faster: three layers per pass over memory (radix 8 in registers), the first pass over the whole
//! limb and the others inside 32 KiB blocks; and butterflies of 3 IFMA + 3 additions.  The product is a
//! Montgomery one with a precomputed w' = w*p^-1 mod 2^52:  y*w/R = hi(y*w) - hi(lo(y*w')*p), in (-p, p), no mask,
//! no correction; y may be anything below 2^52 >= 16p.  Forward: 3p is added once per pass to keep values
//! non-negative, so a pass turns a bound B into B + 6p; the first operands are brought down when needed.
use super::arith::{invmod, mulmod};
use std::arch::x86_64::*;

pub struct Ntt {
    p: u64,
    n: usize,
    w: Vec<[u64; 2]>, // (w*R, w*R*p^-1 mod 2^52), bit-reversed order, first N/8 entries
    iw: Vec<[u64; 2]>,
    last: Vec<[u64; 8]>, // last three layers, lane by lane: 7 vectors per 64 elements, w*R only
    ilast: Vec<[u64; 8]>,
    pinv: u64,
}
type V = __m512i;

#[inline]
#[target_feature(enable = "avx512f")]
fn sp(x: u64) -> V {
    _mm512_set1_epi64(x as i64)
}
/// forward butterfly, signed lazy: (x + y*w, x - y*w)
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn fb(a: &mut V, b: &mut V, w: V, wp: V, p: V) {
    let z = _mm512_setzero_si512();
    let m = _mm512_madd52lo_epu64(z, *b, wp);
    let h = _mm512_madd52hi_epu64(*a, *b, w);
    let x = _mm512_sub_epi64(h, _mm512_madd52hi_epu64(z, m, p));
    *b = _mm512_sub_epi64(_mm512_add_epi64(*a, *a), x);
    *a = x;
}
/// inverse butterfly: (x + y, (x - y + off)*w in (0, 2p))
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn ib(a: &mut V, b: &mut V, w: V, wp: V, p: V, off: V) {
    let z = _mm512_setzero_si512();
    let d = _mm512_sub_epi64(_mm512_add_epi64(*a, off), *b);
    *a = _mm512_add_epi64(*a, *b);
    let m = _mm512_madd52lo_epu64(z, d, wp);
    *b = _mm512_sub_epi64(_mm512_madd52hi_epu64(p, d, w), _mm512_madd52hi_epu64(z, m, p));
}
#[inline]
#[target_feature(enable = "avx512f")]
fn red(x: V, k: V) -> V {
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
    // 128-bit blocks: a[2k+par] holds, per block b, rows 2k,2k+1 of column 2b+par
    for par in 0..2 {
        let (x0, x1, x2, x3) = (a[par], a[2 + par], a[4 + par], a[6 + par]);
        let s0 = _mm512_shuffle_i64x2::<0x88>(x0, x1); // blocks 0,2 of x0 and x1
        let s1 = _mm512_shuffle_i64x2::<0xdd>(x0, x1); // blocks 1,3
        let s2 = _mm512_shuffle_i64x2::<0x88>(x2, x3);
        let s3 = _mm512_shuffle_i64x2::<0xdd>(x2, x3);
        v[par] = _mm512_shuffle_i64x2::<0x88>(s0, s2); // block 0 of all
        v[4 + par] = _mm512_shuffle_i64x2::<0xdd>(s0, s2); // block 2
        v[2 + par] = _mm512_shuffle_i64x2::<0x88>(s1, s3); // block 1
        v[6 + par] = _mm512_shuffle_i64x2::<0xdd>(s1, s3); // block 3
    }
}
/// Layers with m, 2m, 4m blocks on 8 registers.  `tw(k)`: k=0: layer 1; 1,2: layer 2; 3..6: layer 3.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn fwd8(v: &mut [V; 8], tw: [(V, V); 7], p: V) {
    let (x, y) = v.split_at_mut(4);
    for k in 0..4 {
        fb(&mut x[k], &mut y[k], tw[0].0, tw[0].1, p);
    }
    for (h, q) in v.chunks_exact_mut(4).enumerate() {
        let (x, y) = q.split_at_mut(2);
        for k in 0..2 {
            fb(&mut x[k], &mut y[k], tw[1 + h].0, tw[1 + h].1, p);
        }
    }
    for (h, q) in v.chunks_exact_mut(2).enumerate() {
        let (x, y) = q.split_at_mut(1);
        fb(&mut x[0], &mut y[0], tw[3 + h].0, tw[3 + h].1, p);
    }
}
/// inverse of the same three layers; inputs < 2p, outputs < 2p
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn inv8(v: &mut [V; 8], tw: [(V, V); 7], p: V, p2: V, p4: V, p8: V) {
    for (h, q) in v.chunks_exact_mut(2).enumerate() {
        let (x, y) = q.split_at_mut(1);
        ib(&mut x[0], &mut y[0], tw[3 + h].0, tw[3 + h].1, p, p2);
    }
    for (h, q) in v.chunks_exact_mut(4).enumerate() {
        let (x, y) = q.split_at_mut(2);
        ib(&mut x[0], &mut y[0], tw[1 + h].0, tw[1 + h].1, p, p4);
        ib(&mut x[1], &mut y[1], tw[1 + h].0, tw[1 + h].1, p, p2);
    }
    let (x, y) = v.split_at_mut(4);
    // bounds here: element 0 < 8p, 1 < 4p, 2 and 3 < 2p (x side) and the same on the y side
    for (k, off) in [p8, p4, p2, p2].into_iter().enumerate() {
        ib(&mut x[k], &mut y[k], tw[0].0, tw[0].1, p, off);
    }
    x[0] = red(red(red(x[0], p8), p4), p2);
    x[1] = red(red(x[1], p4), p2);
    x[2] = red(x[2], p2);
    x[3] = red(x[3], p2);
}

impl Ntt {
    pub fn new(n: usize, p: u64, psi: u64) -> Option<Ntt> {
        let lg = n.trailing_zeros();
        if p >= 1 << 48 || lg % 3 != 0 || lg < 9 {
            return None;
        }
        let mut inv = 1u64;
        for _ in 0..6 {
            inv = inv.wrapping_mul(2u64.wrapping_sub(p.wrapping_mul(inv)));
        }
        let r = ((1u128 << 52) % p as u128) as u64;
        let table = |psi: u64| -> Vec<[u64; 2]> {
            let mut t = vec![[0; 2]; n];
            let mut x = r;
            for k in 0..n {
                let j = k.reverse_bits() >> (usize::BITS - lg);
                t[j] = [x, x.wrapping_mul(inv) & ((1 << 52) - 1)];
                x = mulmod(x, psi, p);
            }
            t
        };
        let last = |t: &[[u64; 2]]| -> Vec<[u64; 8]> {
            let mut o = vec![];
            for c in 0..n / 64 {
                for (m, per) in [(n / 8, 1), (n / 4, 2), (n / 2, 4)] {
                    for k in 0..per {
                        o.push(std::array::from_fn(|g| t[m + per * (8 * c + g) + k][0]));
                    }
                }
            }
            o
        };
        let (w, iw) = (table(psi), table(invmod(psi, p)));
        let (l, il) = (last(&w), last(&iw));
        Some(Ntt {
            p,
            n,
            pinv: inv & ((1 << 52) - 1),
            last: l,
            ilast: il,
            w: w[..n / 8].to_vec(),
            iw: iw[..n / 8].to_vec(),
        })
    }
    pub fn fwd(&self, x: &mut [u64]) {
        assert_eq!(x.len(), self.n);
        unsafe { self.fwd_k(x) }
    }
    pub fn inv(&self, x: &mut [u64]) {
        assert_eq!(x.len(), self.n);
        unsafe { self.inv_k(None, x) }
    }
    /// out of place: saves a copy
    pub fn inv_to(&self, src: &[u64], dst: &mut [u64]) {
        assert!(src.len() == self.n && dst.len() == self.n);
        unsafe { self.inv_k(Some(src), dst) }
    }
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn tw(t: &[[u64; 2]], m: usize, i: usize) -> [(V, V); 7] {
        let g = |k: usize| (sp(t[k][0]), sp(t[k][1]));
        [
            g(m + i),
            g(2 * m + 2 * i),
            g(2 * m + 2 * i + 1),
            g(4 * m + 4 * i),
            g(4 * m + 4 * i + 1),
            g(4 * m + 4 * i + 2),
            g(4 * m + 4 * i + 3),
        ]
    }
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn lane_tw(t: &[[u64; 8]], c: usize, pinv: V) -> [(V, V); 7] {
        // w' recomputed: one more product, half the table (these tables are what overflows the second-level cache)
        let s = &t[7 * c..7 * c + 7];
        std::array::from_fn(|k| {
            let w = unsafe { _mm512_loadu_si512(s[k].as_ptr() as *const V) };
            (w, _mm512_madd52lo_epu64(_mm512_setzero_si512(), w, pinv))
        })
    }
    /// 8 registers at x[j + k*s]
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn get(x: &[u64], j: usize, s: usize) -> [V; 8] {
        debug_assert!(j + 7 * s + 8 <= x.len());
        std::array::from_fn(|k| unsafe { _mm512_loadu_si512(x.as_ptr().add(j + k * s) as *const V) })
    }
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn put(x: &mut [u64], j: usize, s: usize, v: &[V; 8]) {
        debug_assert!(j + 7 * s + 8 <= x.len());
        for (k, v) in v.iter().enumerate() {
            unsafe { _mm512_storeu_si512(x.as_mut_ptr().add(j + k * s) as *mut V, *v) }
        }
    }
    /// One forward pass over blocks of size N/m, the first of which is block i0 of the limb.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn pass_f(&self, x: &mut [u64], m: usize, i0: usize, reduce: bool) {
        let [p, p3, p4, p8] = [1, 3, 4, 8].map(|k| sp(self.p * k));
        let t = self.n / m;
        for (b, blk) in x.chunks_exact_mut(t).enumerate() {
            let tw = Self::tw(&self.w, m, i0 + b);
            for j in (0..t / 8).step_by(8) {
                let mut v = Self::get(blk, j, t / 8);
                for y in &mut v[..4] {
                    if reduce {
                        *y = red(red(*y, p8), p4);
                    }
                    *y = _mm512_add_epi64(*y, p3);
                }
                fwd8(&mut v, tw, p);
                Self::put(blk, j, t / 8, &v);
            }
        }
    }
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn pass_i(&self, x: &mut [u64], m: usize, i0: usize, last: bool) {
        let [p, p2, p4, p8] = [1, 2, 4, 8].map(|k| sp(self.p * k));
        let t = self.n / m;
        for (b, blk) in x.chunks_exact_mut(t).enumerate() {
            let tw = Self::tw(&self.iw, m, i0 + b);
            for j in (0..t / 8).step_by(8) {
                let mut v = Self::get(blk, j, t / 8);
                inv8(&mut v, tw, p, p2, p4, p8);
                if last {
                    for y in &mut v {
                        *y = red(*y, p);
                    }
                }
                Self::put(blk, j, t / 8, &v);
            }
        }
    }
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn fwd_k(&self, x: &mut [u64]) {
        let n = self.n;
        let [p, p2, p3, p4, p8] = [1, 2, 3, 4, 8].map(|k| sp(self.p * k));
        // one pass: blocks of size t from block i0 (m blocks in the whole limb)
        self.pass_f(x, 1, 0, false); // < 7p
        for (b, blk) in x.chunks_exact_mut(n / 8).enumerate() {
            let mut m = 8;
            let mut bound = 7;
            while m < n / 8 {
                // the first operands are < bound*p; 4p after reduction; a pass adds 6p; everything stays < 16p
                let r = bound + 6 > 16;
                self.pass_f(blk, m, b * m / 8, r);
                bound = if r { 10 } else { bound + 6 };
                m *= 8;
            }
            for (c, ch) in blk.chunks_exact_mut(64).enumerate() {
                let mut v = Self::get(ch, 0, 8);
                transpose(&mut v);
                for y in &mut v[..4] {
                    *y = _mm512_add_epi64(red(red(*y, p8), p4), p3);
                }
                fwd8(&mut v, Self::lane_tw(&self.last, b * (n / 512) + c, sp(self.pinv)), p);
                for y in &mut v {
                    *y = red(red(red(red(*y, p8), p4), p2), p);
                }
                transpose(&mut v);
                Self::put(ch, 0, 8, &v);
            }
        }
    }
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn inv_k(&self, src: Option<&[u64]>, x: &mut [u64]) {
        let n = self.n;
        let [p, p2, p4, p8] = [1, 2, 4, 8].map(|k| sp(self.p * k));
        for (b, blk) in x.chunks_exact_mut(n / 8).enumerate() {
            for (c, ch) in blk.chunks_exact_mut(64).enumerate() {
                let mut v = match src {
                    Some(s) => Self::get(s, b * n / 8 + 64 * c, 8),
                    None => Self::get(ch, 0, 8),
                };
                transpose(&mut v);
                inv8(&mut v, Self::lane_tw(&self.ilast, b * (n / 512) + c, sp(self.pinv)), p, p2, p4, p8);
                transpose(&mut v);
                Self::put(ch, 0, 8, &v);
            }
            let mut m = n / 64;
            while m >= 8 {
                self.pass_i(blk, m, b * m / 8, false);
                m /= 8;
            }
        }
        self.pass_i(x, 1, 0, true);
    }
}
