//! AVX-512 IFMA kernels on limbs (slices of N residues).
//!
//! Every prime is < 2^48, so a product a*b of residues is < 2^44 * 2^52 and its high 52-bit half is < p/16:
//! up to 16 products may be summed lazily (low and high halves in two 64-bit accumulators) before ONE
//! Montgomery reduction with R = 2^52.  `mred` returns (sum)/R mod p, reduced to [0, p).
//! Constants, keys and plaintexts are stored multiplied by R, so x (*) cR = x*c.  Only ciphertext*ciphertext
//! products keep a factor 1/R ("tainted"); it is removed for free in the constants of the relinearisation.
use std::arch::x86_64::*;

#[derive(Clone, Copy, Debug)]
pub struct Modulus {
    pub p: u64,
    pub pinv: u64, // p^-1 mod 2^52
}

pub fn check_cpu() {
    assert!(
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512ifma")
            && is_x86_feature_detected!("avx512vbmi"),
        "this prototype has only its AVX-512 IFMA/VBMI path"
    );
}

/// A Galois automorphism in the bit-reversed NTT domain: aligned groups of 8 map to aligned groups of 8,
/// so it is one in-register permutation and one scattered 64-byte store per group.
pub struct Perm {
    pub dst: Vec<u32>, // source group -> destination group
    pub src: Vec<u32>, // its inverse
    pub pi: Vec<u8>,
    pub tabs: Vec<[u64; 8]>,
}

impl Perm {
    /// First source group of the chunk (of `g` groups) that lands in destination chunk `c`.
    pub fn src_chunk(&self, c: usize, g: usize) -> usize {
        self.src[c * g] as usize / g * g
    }
}
#[inline]
#[target_feature(enable = "avx512f")]
fn ld(s: &[u64], i: usize) -> __m512i {
    debug_assert!(i + 8 <= s.len());
    unsafe { _mm512_loadu_si512(s.as_ptr().add(i) as *const __m512i) }
}
#[inline]
#[target_feature(enable = "avx512f")]
fn st(s: &mut [u64], i: usize, v: __m512i) {
    debug_assert!(i + 8 <= s.len());
    unsafe { _mm512_storeu_si512(s.as_mut_ptr().add(i) as *mut __m512i, v) }
}
#[inline]
#[target_feature(enable = "avx512f")]
fn sp(x: u64) -> __m512i {
    _mm512_set1_epi64(x as i64)
}
/// Montgomery reduction of lo + hi*2^52 (lo may exceed 52 bits), hi < p.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn mred(lo: __m512i, hi: __m512i, p: __m512i, pinv: __m512i) -> __m512i {
    let z = _mm512_setzero_si512();
    let m = _mm512_madd52lo_epu64(z, lo, pinv);
    let h = _mm512_add_epi64(hi, _mm512_srli_epi64::<52>(lo));
    let t = _mm512_sub_epi64(h, _mm512_madd52hi_epu64(z, m, p));
    _mm512_min_epu64(t, _mm512_add_epi64(t, p))
}
#[inline]
#[target_feature(enable = "avx512f")]
fn addm(a: __m512i, b: __m512i, p: __m512i) -> __m512i {
    let s = _mm512_add_epi64(a, b);
    _mm512_min_epu64(s, _mm512_sub_epi64(s, p))
}
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn mac(lo: &mut __m512i, hi: &mut __m512i, a: __m512i, b: __m512i) {
    *lo = _mm512_madd52lo_epu64(*lo, a, b);
    *hi = _mm512_madd52hi_epu64(*hi, a, b);
}

/// Packed limbs: 8 residues in 8*W bytes (W = 5, 6), unpacked by one VBMI byte permutation.  Keys are read
/// once per use from memory, so 5 or 6 bytes instead of 8 is worth more than the one extra instruction.
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi,avx512bw")]
fn ldp<const W: usize>(s: &[u8], i: usize, idx: __m512i, mask: __mmask64) -> __m512i {
    debug_assert!(i * 8 * W + 64 <= s.len());
    unsafe {
        let v = _mm512_loadu_si512(s.as_ptr().add(i * 8 * W) as *const __m512i);
        _mm512_maskz_permutexvar_epi8(mask, idx, v)
    }
}
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi,avx512bw")]
fn pidx<const W: usize>() -> (__m512i, __mmask64) {
    let mut b = [0u8; 64];
    let mut m = 0u64;
    for t in 0..8 {
        for k in 0..W {
            b[8 * t + k] = (t * W + k) as u8;
            m |= 1 << (8 * t + k);
        }
    }
    // opaque to the optimiser, which would otherwise replace the byte permutation by a slower two-source one
    let (b, m) = std::hint::black_box((b, m));
    (unsafe { _mm512_loadu_si512(b.as_ptr() as *const __m512i) }, m)
}
/// Write vector `k` of `of` interleaved ones (8 residues each at a time).
pub fn pack(src: &[u64], w: usize, k: usize, of: usize, dst: &mut [u8]) {
    for (g, x) in src.chunks_exact(8).enumerate() {
        for (t, x) in x.iter().enumerate() {
            let o = ((g * of + k) * 8 + t) * w;
            dst[o..o + w].copy_from_slice(&x.to_le_bytes()[..w]);
        }
    }
}

/// o0 = sum_d dig_d*k0_d + c0*a0, o1 = sum_d dig_d*k1_d + c1*a1, then permuted, then stored or accumulated.
pub struct Dot<'a> {
    pub digs: &'a [&'a [u64]],
    /// this limb of the key: per group of 8 residues, per digit, (b, a): one sequential stream
    pub key: &'a [u8],
    pub kd: usize, // digits in the key (>= digits used)
    pub add0: Option<(&'a [u64], u64)>,
    pub add1: Option<(&'a [u64], u64)>,
    pub perm: Option<&'a Perm>,
    pub acc: bool,
    /// Source groups of 8 to process and the destination group that o[0] stands for.
    pub range: (usize, usize),
    pub base: usize,
}
const AHEAD: usize = 12288;
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi,avx512bw")]
fn dot_k<const W: usize, const ND: usize>(a: &Dot, m: Modulus, o0: &mut [u64], o1: &mut [u64]) {
    let (p, pinv) = (sp(m.p), sp(m.pinv));
    let (idx, mask) = pidx::<W>();
    let z = _mm512_setzero_si512();
    let digs: [&[u64]; ND] = std::array::from_fn(|d| a.digs[d]);
    let kd = a.kd;
    let c0 = sp(a.add0.map_or(0, |x| x.1));
    let c1 = sp(a.add1.map_or(0, |x| x.1));
    let step = 16 * kd * W; // key bytes per group
    for i in a.range.0..a.range.1 {
        // the key is read once, from memory: ask for it early (prefetching past the end is harmless)
        for q in 0..(step / 64 + 1) {
            _mm_prefetch::<_MM_HINT_T0>(a.key.as_ptr().wrapping_add(i * step + AHEAD + 64 * q) as *const i8);
        }
        let (mut l0, mut h0, mut l1, mut h1) = (z, z, z, z);
        if let Some((s, _)) = a.add0 {
            mac(&mut l0, &mut h0, ld(s, 8 * i), c0);
        }
        if let Some((s, _)) = a.add1 {
            mac(&mut l1, &mut h1, ld(s, 8 * i), c1);
        }
        for d in 0..ND {
            let x = ld(digs[d], 8 * i);
            mac(&mut l0, &mut h0, x, ldp::<W>(a.key, 2 * (i * kd + d), idx, mask));
            mac(&mut l1, &mut h1, x, ldp::<W>(a.key, 2 * (i * kd + d) + 1, idx, mask));
        }
        let mut r0 = mred(l0, h0, p, pinv);
        let mut r1 = mred(l1, h1, p, pinv);
        let mut j = i - if a.perm.is_none() { a.base } else { 0 };
        if let Some(pm) = a.perm {
            j = pm.dst[i] as usize - a.base;
            let t = ld(&pm.tabs[pm.pi[i] as usize], 0);
            r0 = _mm512_permutexvar_epi64(t, r0);
            r1 = _mm512_permutexvar_epi64(t, r1);
        }
        if a.acc {
            r0 = addm(r0, ld(o0, 8 * j), p);
            r1 = addm(r1, ld(o1, 8 * j), p);
        }
        st(o0, 8 * j, r0);
        st(o1, 8 * j, r1);
    }
}
pub fn dot(a: &Dot, w: usize, m: Modulus, o0: &mut [u64], o1: &mut [u64]) {
    let n = a.digs[0].len();
    // a permutation maps aligned power-of-two chunks to aligned chunks, checked here for this chunk
    assert!(
        o1.len() == o0.len()
            && a.range.1 <= n / 8
            && o0.len() == 8 * (a.range.1 - a.range.0)
            && o0.len().is_power_of_two()
    );
    assert!(a.perm.is_none_or(|p| p.dst[a.range.0] as usize / (o0.len() / 8) * (o0.len() / 8) == a.base));
    assert!(a.digs.iter().all(|x| x.len() == n) && a.kd >= a.digs.len());
    assert!(a.key.len() >= 2 * a.kd * n * w + 64 - 8 * w);
    assert!(a.add0.is_none_or(|x| x.0.len() == n) && a.add1.is_none_or(|x| x.0.len() == n));
    assert!(a.perm.is_none_or(|x| x.dst.len() == n / 8 && x.pi.len() == n / 8));
    macro_rules! go { ($($nd:literal),*) => { match (w, a.digs.len()) {
        $((5, $nd) => unsafe { dot_k::<5, $nd>(a, m, o0, o1) }, (6, $nd) => unsafe { dot_k::<6, $nd>(a, m, o0, o1) },)*
        _ => panic!("dot: width or digits"),
    } } }
    go!(0, 1, 2, 3, 4, 5, 6, 7, 8);
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
    let (p, pinv) = (sp(m.p), sp(m.pinv));
    let (idx, mask) = pidx::<W>();
    let z = _mm512_setzero_si512();
    let step = 8 * nd * W;
    for i in 0..o0.len() / 8 {
        for q in 0..(step / 64 + 1) {
            _mm_prefetch::<_MM_HINT_T0>(dg.as_ptr().wrapping_add(i * step + AHEAD + 64 * q) as *const i8);
        }
        let (mut l0, mut h0, mut l1, mut h1) = (z, z, z, z);
        for (k, a, b) in r {
            let x = ldp::<W>(dg, i * nd + k, idx, mask);
            mac(&mut l0, &mut h0, x, ld(a, 8 * i));
            mac(&mut l1, &mut h1, x, ld(b, 8 * i));
        }
        st(o0, 8 * i, mred(l0, h0, p, pinv));
        st(o1, 8 * i, mred(l1, h1, p, pinv));
    }
}
/// o = sum_b diag_b * r_b (at most 16 terms); `dg` interleaves `nd` diagonals per group of 8, r names its own.
pub fn diag(
    dg: &[u8],
    nd: usize,
    r: &[(usize, &[u64], &[u64])],
    w: usize,
    m: Modulus,
    o0: &mut [u64],
    o1: &mut [u64],
) {
    let n = o0.len();
    assert!(nd <= 16 && o1.len() == n && dg.len() >= n * nd * w + 64 - 8 * w);
    assert!(r.iter().all(|x| x.0 < nd && x.1.len() == n && x.2.len() == n));
    unsafe {
        match w {
            5 => diag_k::<5>(dg, nd, r, m, o0, o1),
            _ => diag_k::<6>(dg, nd, r, m, o0, o1),
        }
    }
}

/// One product-sum: d = sum prods a*b (tensor) + sum lins x*c (c depends on the half of the limb: the two
/// values of the monomial X^(N/2), which is i in every slot) + constant on d0.
pub struct Sum<'a> {
    pub prods: &'a [([&'a [u64]; 2], [&'a [u64]; 2])],
    pub lins: &'a [([&'a [u64]; 2], [u64; 2])],
    pub cst: [u64; 2],
    pub dbl: bool,
}
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi,avx512bw")]
fn sum_k(a: &Sum, m: Modulus, d0: &mut [u64], d1: &mut [u64], d2: &mut [u64]) {
    let (p, pinv) = (sp(m.p), sp(m.pinv));
    let z = _mm512_setzero_si512();
    let n = d0.len();
    for half in 0..2 {
        let k = sp(a.cst[half]);
        for i in half * n / 16..(half + 1) * n / 16 {
            let (mut l0, mut h0, mut l1, mut h1, mut l2, mut h2) = (z, z, z, z, z, z);
            for (x, y) in a.prods {
                let (mut x0, mut x1) = (ld(x[0], 8 * i), ld(x[1], 8 * i));
                if a.dbl {
                    x0 = _mm512_slli_epi64::<1>(x0);
                    x1 = _mm512_slli_epi64::<1>(x1);
                }
                let (y0, y1) = (ld(y[0], 8 * i), ld(y[1], 8 * i));
                mac(&mut l0, &mut h0, x0, y0);
                mac(&mut l1, &mut h1, x0, y1);
                mac(&mut l1, &mut h1, x1, y0);
                mac(&mut l2, &mut h2, x1, y1);
            }
            for (x, c) in a.lins {
                let c = sp(c[half]);
                mac(&mut l0, &mut h0, ld(x[0], 8 * i), c);
                mac(&mut l1, &mut h1, ld(x[1], 8 * i), c);
            }
            st(d0, 8 * i, addm(mred(l0, h0, p, pinv), k, p));
            st(d1, 8 * i, mred(l1, h1, p, pinv));
            if !a.prods.is_empty() {
                st(d2, 8 * i, mred(l2, h2, p, pinv));
            }
        }
    }
}
pub fn sum(a: &Sum, m: Modulus, d0: &mut [u64], d1: &mut [u64], d2: &mut [u64]) {
    let n = d0.len();
    assert!(d1.len() == n && (a.prods.is_empty() || d2.len() == n) && n % 16 == 0);
    assert!(a.prods.len() * 4 + a.lins.len() <= 16);
    assert!(a.prods.iter().all(|(x, y)| x.iter().chain(y).all(|s| s.len() == n)));
    assert!(a.lins.iter().all(|(x, _)| x.iter().all(|s| s.len() == n)));
    unsafe { sum_k(a, m, d0, d1, d2) }
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn mulc_k(x: &[u64], c: u64, m: Modulus, o: &mut [u64]) {
    let (p, pinv, c) = (sp(m.p), sp(m.pinv), sp(c));
    let z = _mm512_setzero_si512();
    for i in 0..o.len() / 8 {
        let (mut l, mut h) = (z, z);
        mac(&mut l, &mut h, ld(x, 8 * i), c);
        st(o, 8 * i, mred(l, h, p, pinv));
    }
}
pub fn mulc(x: &[u64], c: u64, m: Modulus, o: &mut [u64]) {
    assert!(x.len() == o.len());
    unsafe { mulc_k(x, c, m, o) }
}
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn mulc_in_k(o: &mut [u64], c: u64, m: Modulus) {
    let (p, pinv, c) = (sp(m.p), sp(m.pinv), sp(c));
    let z = _mm512_setzero_si512();
    for i in 0..o.len() / 8 {
        let (mut l, mut h) = (z, z);
        mac(&mut l, &mut h, ld(o, 8 * i), c);
        st(o, 8 * i, mred(l, h, p, pinv));
    }
}
pub fn mulc_in(o: &mut [u64], c: u64, m: Modulus) {
    unsafe { mulc_in_k(o, c, m) }
}

/// v = round(sum_j y_j / q_j): the multiple of the source modulus to subtract, which makes the fast base
/// conversion exact and centred (float error only matters within 2^-45 of a tie, where either side is fine).
#[target_feature(enable = "avx512f,avx512dq")]
fn round_k(ys: &[&[u64]], inv: &[f64], v: &mut [u64]) {
    for i in 0..v.len() / 8 {
        let mut s = _mm512_setzero_pd();
        for (y, f) in ys.iter().zip(inv) {
            s = _mm512_fmadd_pd(_mm512_cvtepu64_pd(ld(y, 8 * i)), _mm512_set1_pd(*f), s);
        }
        st(v, 8 * i, _mm512_cvtpd_epu64(s));
    }
}
pub fn round(ys: &[&[u64]], inv: &[f64], v: &mut [u64]) {
    assert!(ys.iter().all(|y| y.len() == v.len()));
    unsafe { round_k(ys, inv, v) }
}
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn bconv_k<const A: usize>(ys: &[&[u64]], v: &[u64], c: &[u64], m: Modulus, o: &mut [u64]) {
    let (p, pinv) = (sp(m.p), sp(m.pinv));
    let z = _mm512_setzero_si512();
    let ys: [&[u64]; A] = std::array::from_fn(|j| ys[j]);
    let cs: [__m512i; A] = std::array::from_fn(|j| _mm512_set1_epi64(c[j] as i64));
    let cv = sp(c[A]);
    for i in 0..o.len() / 8 {
        let (mut l, mut h) = (z, z);
        mac(&mut l, &mut h, ld(v, 8 * i), cv);
        for j in 0..A {
            mac(&mut l, &mut h, ld(ys[j], 8 * i), cs[j]);
        }
        st(o, 8 * i, mred(l, h, p, pinv));
    }
}
/// o = sum_j y_j*c_j + v*c_A mod p (constants times R).
pub fn bconv(ys: &[&[u64]], v: &[u64], c: &[u64], m: Modulus, o: &mut [u64]) {
    assert!(ys.iter().all(|y| y.len() == o.len()) && v.len() == o.len() && c.len() == ys.len() + 1);
    unsafe {
        match ys.len() {
            1 => bconv_k::<1>(ys, v, c, m, o),
            2 => bconv_k::<2>(ys, v, c, m, o),
            3 => bconv_k::<3>(ys, v, c, m, o),
            4 => bconv_k::<4>(ys, v, c, m, o),
            5 => bconv_k::<5>(ys, v, c, m, o),
            6 => bconv_k::<6>(ys, v, c, m, o),
            7 => bconv_k::<7>(ys, v, c, m, o),
            8 => bconv_k::<8>(ys, v, c, m, o),
            9 => bconv_k::<9>(ys, v, c, m, o),
            _ => panic!("bconv"),
        }
    }
}
/// o = (a - t) * c
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn subc_k(a: &[u64], t: &[u64], c: u64, m: Modulus, o: &mut [u64]) {
    let (p, pinv, c) = (sp(m.p), sp(m.pinv), sp(c));
    let z = _mm512_setzero_si512();
    for i in 0..o.len() / 8 {
        let (mut l, mut h) = (z, z);
        let x = _mm512_sub_epi64(_mm512_add_epi64(ld(a, 8 * i), p), ld(t, 8 * i));
        mac(&mut l, &mut h, x, c);
        st(o, 8 * i, mred(l, h, p, pinv));
    }
}
pub fn subc(a: &[u64], t: &[u64], c: u64, m: Modulus, o: &mut [u64]) {
    assert!(a.len() == o.len() && t.len() == o.len());
    unsafe { subc_k(a, t, c, m, o) }
}
