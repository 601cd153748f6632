//! The kernels with AVX-512: IFMA for products of 52 bits, VBMI for packed residues.
//!
//! The low and the high halves of products are added in two accumulators of 64 bits; see the module above for the bounds.

use std::arch::x86_64::*;

use super::{Dot, GROUP, Modulus, Pair, Sum};

/// How far ahead packed keys and diagonals are asked for, in bytes: they are read once, from memory.
const AHEAD: usize = 8192;

type V = __m512i;

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn ld(x: &[u64; GROUP]) -> V {
    // SAFETY: the reference is to 64 readable bytes, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
}
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn st(x: &mut [u64; GROUP], v: V) {
    // SAFETY: the reference is to 64 writable bytes, and the store needs no alignment.
    unsafe { _mm512_storeu_si512(x.as_mut_ptr().cast(), v) }
}
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn splat(x: u64) -> V {
    _mm512_set1_epi64(x.cast_signed())
}
/// Eight residues at a time.
#[inline]
fn groups(x: &[u64]) -> &[[u64; GROUP]] {
    x.as_chunks().0
}
#[inline]
fn groups_mut(x: &mut [u64]) -> &mut [[u64; GROUP]] {
    x.as_chunks_mut().0
}

/// (lo + hi·2^52)/R mod p in [0, p); lo may exceed 52 bits, hi < p.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn reduce(lo: V, hi: V, p: V, pinv: V) -> V {
    let z = _mm512_setzero_si512();
    let m = _mm512_madd52lo_epu64(z, lo, pinv);
    let h = _mm512_add_epi64(hi, _mm512_srli_epi64::<52>(lo));
    let t = _mm512_sub_epi64(h, _mm512_madd52hi_epu64(z, m, p));
    _mm512_min_epu64(t, _mm512_add_epi64(t, p))
}
#[inline]
#[target_feature(enable = "avx512f")]
fn add(a: V, b: V, p: V) -> V {
    let s = _mm512_add_epi64(a, b);
    _mm512_min_epu64(s, _mm512_sub_epi64(s, p))
}
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn mac(acc: &mut (V, V), a: V, b: V) {
    acc.0 = _mm512_madd52lo_epu64(acc.0, a, b);
    acc.1 = _mm512_madd52hi_epu64(acc.1, a, b);
}

/// Unpacks eight residues of W bytes by one permutation of bytes.
struct Unpack<const W: usize> {
    index: V,
    mask: __mmask64,
}
impl<const W: usize> Unpack<W> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new() -> Self {
        let mut b = [0u8; 64];
        let mut mask = 0u64;
        for t in 0..GROUP {
            for k in 0..W {
                b[8 * t + k] = (t * W + k) as u8;
                mask |= 1 << (8 * t + k);
            }
        }
        // opaque to the optimiser, which would replace the permutation by a slower one of two sources
        let (b, mask) = std::hint::black_box((b, mask));
        // SAFETY: the array has 64 bytes.
        let index = unsafe { _mm512_loadu_si512(b.as_ptr().cast()) };
        Self { index, mask }
    }
    /// Vector `i` of the stream.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vbmi,avx512bw")]
    fn get(&self, s: &[u8], i: usize) -> V {
        let bytes = &s[i * GROUP * W..][..64];
        // SAFETY: the slice has 64 bytes.
        let v = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
        _mm512_maskz_permutexvar_epi8(self.mask, self.index, v)
    }
}
/// Asks for `bytes` bytes at `at`; the address may be beyond the end.
#[inline]
#[target_feature(enable = "avx512f")]
fn prefetch(s: &[u8], at: usize, bytes: usize) {
    for q in 0..bytes / 64 + 1 {
        _mm_prefetch::<_MM_HINT_T0>(s.as_ptr().wrapping_add(at + 64 * q).cast());
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi,avx512bw")]
fn dot_k<const W: usize, const ND: usize>(a: &Dot, m: Modulus, o0: &mut [u64], o1: &mut [u64]) {
    let (p, pinv) = (splat(m.p), splat(m.pinv));
    let unpack = Unpack::<W>::new();
    let z = _mm512_setzero_si512();
    let (first, end) = a.range;
    let part = |x| &groups(x)[first..end];
    let digs: [&[[u64; GROUP]]; ND] = std::array::from_fn(|d| part(a.digs[d]));
    let add0 = a.add0.map(|(s, c)| (part(s), c));
    let add1 = a.add1.map(|(s, c)| (part(s), c));
    let c0 = splat(add0.map_or(0, |x| x.1));
    let c1 = splat(add1.map_or(0, |x| x.1));
    let step = 16 * a.kd * W; // key bytes per group
    let key = &a.key[first * step..];
    let (o0, o1) = (groups_mut(o0), groups_mut(o1));
    for i in 0..end - first {
        prefetch(key, i * step + AHEAD, step);
        // one check for all loads of the group
        let group = &key[i * step..][..16 * ND * W + super::padding(W)];
        let (mut s0, mut s1) = ((z, z), (z, z));
        if let Some((s, _)) = add0 {
            mac(&mut s0, ld(&s[i]), c0);
        }
        if let Some((s, _)) = add1 {
            mac(&mut s1, ld(&s[i]), c1);
        }
        for (d, dig) in digs.iter().enumerate() {
            let x = ld(&dig[i]);
            mac(&mut s0, x, unpack.get(group, 2 * d));
            mac(&mut s1, x, unpack.get(group, 2 * d + 1));
        }
        let mut r0 = reduce(s0.0, s0.1, p, pinv);
        let mut r1 = reduce(s1.0, s1.1, p, pinv);
        let mut j = i;
        if let Some(pm) = a.perm {
            j = pm.dst[first + i] as usize - a.base;
            let t = ld(&pm.tabs[pm.pi[first + i] as usize]);
            r0 = _mm512_permutexvar_epi64(t, r0);
            r1 = _mm512_permutexvar_epi64(t, r1);
        }
        if a.acc {
            r0 = add(r0, ld(&o0[j]), p);
            r1 = add(r1, ld(&o1[j]), p);
        }
        st(&mut o0[j], r0);
        st(&mut o1[j], r1);
    }
}
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi,avx512bw")]
pub fn dot(a: &Dot, w: usize, m: Modulus, o0: &mut [u64], o1: &mut [u64]) {
    macro_rules! go {
        ($($nd:literal),*) => {
            match (w, a.digs.len()) {
                $((5, $nd) => dot_k::<5, $nd>(a, m, o0, o1), (6, $nd) => dot_k::<6, $nd>(a, m, o0, o1),)*
                _ => unreachable!("checked by the caller"),
            }
        };
    }
    go!(1, 2, 3, 4, 5, 6, 7, 8)
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi,avx512bw")]
fn diag_k<const W: usize>(
    dg: &[u8],
    nd: usize,
    r: &[(usize, &[u64], &[u64])],
    m: Modulus,
    o0: &mut [u64],
    o1: &mut [u64],
) {
    let (p, pinv) = (splat(m.p), splat(m.pinv));
    let unpack = Unpack::<W>::new();
    let z = _mm512_setzero_si512();
    let step = GROUP * nd * W;
    for (i, (o0, o1)) in groups_mut(o0).iter_mut().zip(groups_mut(o1)).enumerate() {
        prefetch(dg, i * step + AHEAD, step);
        let (mut s0, mut s1) = ((z, z), (z, z));
        for (k, a, b) in r {
            let x = unpack.get(dg, i * nd + k);
            mac(&mut s0, x, ld(&groups(a)[i]));
            mac(&mut s1, x, ld(&groups(b)[i]));
        }
        st(o0, reduce(s0.0, s0.1, p, pinv));
        st(o1, reduce(s1.0, s1.1, p, pinv));
    }
}
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi,avx512bw")]
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
        5 => diag_k::<5>(dg, nd, r, m, o0, o1),
        _ => diag_k::<6>(dg, nd, r, m, o0, o1),
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub fn sum(a: &Sum, m: Modulus, d0: &mut [u64], d1: &mut [u64], d2: &mut [u64]) {
    let (p, pinv) = (splat(m.p), splat(m.pinv));
    let z = _mm512_setzero_si512();
    let (d0, d1, d2) = (groups_mut(d0), groups_mut(d1), groups_mut(d2));
    let n = d0.len();
    for half in 0..2 {
        let k = splat(a.cst[half]);
        for i in half * n / 2..(half + 1) * n / 2 {
            let (mut s0, mut s1, mut s2) = ((z, z), (z, z), (z, z));
            for (x, y) in a.prods {
                let (mut x0, mut x1) = (ld(&groups(x[0])[i]), ld(&groups(x[1])[i]));
                if a.dbl {
                    x0 = _mm512_slli_epi64::<1>(x0);
                    x1 = _mm512_slli_epi64::<1>(x1);
                }
                let (y0, y1) = (ld(&groups(y[0])[i]), ld(&groups(y[1])[i]));
                mac(&mut s0, x0, y0);
                mac(&mut s1, x0, y1);
                mac(&mut s1, x1, y0);
                mac(&mut s2, x1, y1);
            }
            for (x, c) in a.lins {
                let c = splat(c[half]);
                mac(&mut s0, ld(&groups(x[0])[i]), c);
                mac(&mut s1, ld(&groups(x[1])[i]), c);
            }
            st(&mut d0[i], add(reduce(s0.0, s0.1, p, pinv), k, p));
            st(&mut d1[i], reduce(s1.0, s1.1, p, pinv));
            if !a.prods.is_empty() {
                st(&mut d2[i], reduce(s2.0, s2.1, p, pinv));
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub fn add_product(x: Pair<'_>, f: &[u64], m: Modulus, o0: &mut [u64], o1: &mut [u64]) {
    let (p, pinv) = (splat(m.p), splat(m.pinv));
    let z = _mm512_setzero_si512();
    let outputs = groups_mut(o0).iter_mut().zip(groups_mut(o1));
    for (((o0, o1), f), (x0, x1)) in outputs.zip(groups(f)).zip(groups(x[0]).iter().zip(groups(x[1]))) {
        let f = ld(f);
        let (mut s0, mut s1) = ((z, z), (z, z));
        mac(&mut s0, ld(x0), f);
        mac(&mut s1, ld(x1), f);
        st(o0, add(reduce(s0.0, s0.1, p, pinv), ld(o0), p));
        st(o1, add(reduce(s1.0, s1.1, p, pinv), ld(o1), p));
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub fn mulc(x: &[u64], c: u64, m: Modulus, o: &mut [u64]) {
    let (p, pinv, c) = (splat(m.p), splat(m.pinv), splat(c));
    let z = _mm512_setzero_si512();
    for (o, x) in groups_mut(o).iter_mut().zip(groups(x)) {
        let mut s = (z, z);
        mac(&mut s, ld(x), c);
        st(o, reduce(s.0, s.1, p, pinv));
    }
}
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub fn mulc_in(o: &mut [u64], c: u64, m: Modulus) {
    let (p, pinv, c) = (splat(m.p), splat(m.pinv), splat(c));
    let z = _mm512_setzero_si512();
    for o in groups_mut(o) {
        let mut s = (z, z);
        mac(&mut s, ld(o), c);
        st(o, reduce(s.0, s.1, p, pinv));
    }
}

#[target_feature(enable = "avx512f,avx512dq")]
pub fn round(ys: &[&[u64]], inv: &[f64], v: &mut [u64]) {
    for (i, v) in groups_mut(v).iter_mut().enumerate() {
        let mut s = _mm512_setzero_pd();
        for (y, f) in ys.iter().zip(inv) {
            let y = _mm512_cvtepu64_pd(ld(&groups(y)[i]));
            s = _mm512_add_pd(s, _mm512_mul_pd(y, _mm512_set1_pd(*f)));
        }
        st(v, _mm512_cvtpd_epu64(s));
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn bconv_k<const A: usize>(ys: &[&[u64]], v: &[u64], c: &[u64], m: Modulus, o: &mut [u64]) {
    let (p, pinv) = (splat(m.p), splat(m.pinv));
    let z = _mm512_setzero_si512();
    let n = o.len() / GROUP;
    let ys: [&[[u64; GROUP]]; A] = std::array::from_fn(|j| &groups(ys[j])[..n]);
    let mut cs = [z; A];
    for (c, &x) in cs.iter_mut().zip(c) {
        *c = splat(x);
    }
    let cv = splat(c[A]);
    for (i, (o, v)) in groups_mut(o)[..n].iter_mut().zip(groups(v)).enumerate() {
        let mut s = (z, z);
        mac(&mut s, ld(v), cv);
        for j in 0..A {
            mac(&mut s, ld(&ys[j][i]), cs[j]);
        }
        st(o, reduce(s.0, s.1, p, pinv));
    }
}
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub fn bconv(ys: &[&[u64]], v: &[u64], c: &[u64], m: Modulus, o: &mut [u64]) {
    macro_rules! go {
        ($($a:literal),*) => {
            match ys.len() {
                $($a => bconv_k::<$a>(ys, v, c, m, o),)*
                _ => unreachable!("checked by the caller"),
            }
        };
    }
    go!(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub fn subc(a: &[u64], t: &[u64], c: u64, m: Modulus, o: &mut [u64]) {
    let (p, pinv, c) = (splat(m.p), splat(m.pinv), splat(c));
    let z = _mm512_setzero_si512();
    for ((o, a), t) in groups_mut(o).iter_mut().zip(groups(a)).zip(groups(t)) {
        let mut s = (z, z);
        mac(&mut s, _mm512_sub_epi64(_mm512_add_epi64(ld(a), p), ld(t)), c);
        st(o, reduce(s.0, s.1, p, pinv));
    }
}
