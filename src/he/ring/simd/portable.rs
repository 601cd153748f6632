//! The kernels in plain Rust: products of 128 bits.

use super::{Dot, GROUP, Modulus, Pair, Sum};

const LOW: u64 = (1 << 52) - 1;

/// acc/R mod p, in [0, p), for acc < p·R.
#[inline(always)]
fn reduce(acc: u128, m: Modulus) -> u64 {
    let q = (acc as u64).wrapping_mul(m.pinv) & LOW;
    // the low 52 bits of acc and q·p agree, so the difference of the high parts is exact
    let t = ((acc >> 52) as u64).wrapping_sub(((q as u128 * m.p as u128) >> 52) as u64);
    t.min(t.wrapping_add(m.p))
}
#[inline(always)]
fn mul(a: u64, b: u64) -> u128 {
    a as u128 * b as u128
}
#[inline(always)]
fn add(a: u64, b: u64, p: u64) -> u64 {
    let s = a + b;
    s.min(s.wrapping_sub(p))
}
/// Residue `i` of a packed stream, which is padded so that eight bytes can be read at any.
#[inline(always)]
fn unpacked<const W: usize>(s: &[u8], i: usize) -> u64 {
    let mut b = [0; 8];
    b.copy_from_slice(&s[i * W..i * W + 8]);
    u64::from_le_bytes(b) & ((1 << (8 * W)) - 1)
}

pub fn dot(a: &Dot, w: usize, m: Modulus, o0: &mut [u64], o1: &mut [u64]) {
    match w {
        5 => dot_w::<5>(a, m, o0, o1),
        _ => dot_w::<6>(a, m, o0, o1),
    }
}
fn dot_w<const W: usize>(a: &Dot, m: Modulus, o0: &mut [u64], o1: &mut [u64]) {
    let identity: [u64; GROUP] = std::array::from_fn(|t| t as u64);
    for i in a.range.0..a.range.1 {
        let (j, tab) = match a.perm {
            Some(pm) => (pm.dst[i] as usize - a.base, &pm.tabs[pm.pi[i] as usize]),
            None => (i - a.base, &identity),
        };
        let (mut r0, mut r1) = ([0; GROUP], [0; GROUP]);
        for t in 0..GROUP {
            let x = GROUP * i + t;
            let mut s0 = a.add0.map_or(0, |(s, c)| mul(s[x], c));
            let mut s1 = a.add1.map_or(0, |(s, c)| mul(s[x], c));
            for (d, dig) in a.digs.iter().enumerate() {
                let k = 2 * (i * a.kd + d) * GROUP + t;
                s0 += mul(dig[x], unpacked::<W>(a.key, k));
                s1 += mul(dig[x], unpacked::<W>(a.key, k + GROUP));
            }
            r0[t] = reduce(s0, m);
            r1[t] = reduce(s1, m);
        }
        let (y0, y1) = (&mut o0[GROUP * j..][..GROUP], &mut o1[GROUP * j..][..GROUP]);
        for (t, &s) in tab.iter().enumerate() {
            let s = s as usize % GROUP;
            if a.acc {
                y0[t] = add(r0[s], y0[t], m.p);
                y1[t] = add(r1[s], y1[t], m.p);
            } else {
                y0[t] = r0[s];
                y1[t] = r1[s];
            }
        }
    }
}

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
fn diag_w<const W: usize>(
    dg: &[u8],
    nd: usize,
    r: &[(usize, &[u64], &[u64])],
    m: Modulus,
    o0: &mut [u64],
    o1: &mut [u64],
) {
    for (x, (y0, y1)) in o0.iter_mut().zip(o1).enumerate() {
        let (mut s0, mut s1) = (0, 0);
        for (k, a, b) in r {
            let d = unpacked::<W>(dg, (x / GROUP * nd + k) * GROUP + x % GROUP);
            s0 += mul(d, a[x]);
            s1 += mul(d, b[x]);
        }
        *y0 = reduce(s0, m);
        *y1 = reduce(s1, m);
    }
}

pub fn sum(a: &Sum, m: Modulus, d0: &mut [u64], d1: &mut [u64], d2: &mut [u64]) {
    let n = d0.len();
    for i in 0..n {
        let half = 2 * i / n;
        let (mut s0, mut s1, mut s2) = (0, 0, 0);
        for (x, y) in a.prods {
            let (x0, x1) = (x[0][i] << a.dbl as u32, x[1][i] << a.dbl as u32);
            s0 += mul(x0, y[0][i]);
            s1 += mul(x0, y[1][i]) + mul(x1, y[0][i]);
            s2 += mul(x1, y[1][i]);
        }
        for (x, c) in a.lins {
            s0 += mul(x[0][i], c[half]);
            s1 += mul(x[1][i], c[half]);
        }
        d0[i] = add(reduce(s0, m), a.cst[half], m.p);
        d1[i] = reduce(s1, m);
        if !a.prods.is_empty() {
            d2[i] = reduce(s2, m);
        }
    }
}

pub fn add_product(x: Pair<'_>, f: &[u64], m: Modulus, o0: &mut [u64], o1: &mut [u64]) {
    for (x, o) in x.into_iter().zip([o0, o1]) {
        for ((o, &x), &f) in o.iter_mut().zip(x).zip(f) {
            *o = add(reduce(mul(x, f), m), *o, m.p);
        }
    }
}

pub fn mulc(x: &[u64], c: u64, m: Modulus, o: &mut [u64]) {
    for (o, &x) in o.iter_mut().zip(x) {
        *o = reduce(mul(x, c), m);
    }
}

pub fn mulc_in(o: &mut [u64], c: u64, m: Modulus) {
    for o in o {
        *o = reduce(mul(*o, c), m);
    }
}

pub fn round(ys: &[&[u64]], inv: &[f64], v: &mut [u64]) {
    /// 2^52: adding it rounds to the nearest integer, ties to even, and leaves it in the low bits.
    const MAGIC: f64 = (1u64 << 52) as f64;
    for (i, v) in v.iter_mut().enumerate() {
        let s: f64 = ys.iter().zip(inv).fold(0.0, |s, (y, f)| s + y[i] as f64 * f);
        *v = (s + MAGIC).to_bits() & LOW;
    }
}

pub fn bconv(ys: &[&[u64]], v: &[u64], c: &[u64], m: Modulus, o: &mut [u64]) {
    let a = ys.len();
    for (i, o) in o.iter_mut().enumerate() {
        let s = ys.iter().zip(c).fold(mul(v[i], c[a]), |s, (y, &c)| s + mul(y[i], c));
        *o = reduce(s, m);
    }
}

pub fn subc(a: &[u64], t: &[u64], c: u64, m: Modulus, o: &mut [u64]) {
    for ((o, &a), &t) in o.iter_mut().zip(a).zip(t) {
        *o = reduce(mul(a + m.p - t, c), m);
    }
}
