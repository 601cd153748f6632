//! Keys.
use super::evaluator::*;
use crate::he::ring::{
    arith::*,
    buffer::Buffer,
    context::*,
    key_switch::*,
    parallel as par,
    simd::{self, Perm},
};
use rand::RngCore;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use std::collections::HashMap;

pub struct Rng(pub ChaCha12Rng, Vec<u8>);
impl Rng {
    pub fn new() -> Rng {
        Rng(ChaCha12Rng::from_os_rng(), vec![])
    }
    pub fn f(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
    /// rounded Gaussian, sigma 3.2 (Box-Muller, two at a time)
    pub fn errors(&mut self, n: usize) -> Vec<i64> {
        let mut v = Vec::with_capacity(n);
        while v.len() < n {
            let r = 3.2 * (-2.0 * (1.0 - self.f()).ln()).sqrt();
            let (s, c) = (std::f64::consts::TAU * self.f()).sin_cos();
            v.push((r * c).round() as i64);
            v.push((r * s).round() as i64);
        }
        v
    }
    /// uniform residues by masking and rejection
    pub fn uniform(&mut self, p: u64, out: &mut [u64]) {
        let mask = u64::MAX >> p.leading_zeros();
        let n = out.len();
        let mut i = 0;
        self.1.resize(n * 8, 0);
        while i < n {
            let need = (n - i) * 8;
            self.0.fill_bytes(&mut self.1[..need]);
            for ch in self.1[..need].chunks_exact(8) {
                let x = u64::from_le_bytes(ch.try_into().unwrap()) & mask;
                if x < p {
                    out[i] = x;
                    i += 1;
                }
            }
        }
    }
    pub fn ternary(&mut self, n: usize) -> Vec<i64> {
        (0..n).map(|_| (self.f() * 3.0) as i64 - 1).collect()
    }
    pub fn sparse(&mut self, n: usize, h: usize) -> Vec<i64> {
        let mut v = vec![0; n];
        let mut k = 0;
        while k < h {
            let i = (self.f() * n as f64) as usize;
            if v[i] == 0 {
                v[i] = if self.f() < 0.5 { 1 } else { -1 };
                k += 1;
            }
        }
        v
    }
}

/// Encrypts factor*u (in the limbs of each digit) under t: b = -a*t + e + [limb in digit] factor*u.
/// u and t hold one chunk per entry of `limbs`.
pub fn generate_switch_key(
    ctx: &RnsContext,
    rng: &mut Rng,
    limbs: &[usize],
    digits: &[Vec<usize>],
    factor: &dyn Fn(usize) -> u64,
    t: &[u64],
    u: &[u64],
) -> SwitchKey {
    let n = ctx.n;
    let nd = digits.len();
    let mut off = vec![usize::MAX; ctx.m.len()];
    let mut size = 0;
    for &i in limbs {
        off[i] = size;
        size += 2 * nd * n * ctx.m[i].w;
    }
    let mut data = vec![0u8; size + 64];
    let (mut a, mut b) = (Buffer::new(n), Buffer::new(n));
    for (d, own) in digits.iter().enumerate() {
        let e = to_ntt(ctx, &rng.errors(n), limbs);
        for (k, &i) in limbs.iter().enumerate() {
            let pr = &ctx.m[i];
            let s = k * n..(k + 1) * n;
            // `a` holds a in Montgomery form already (uniform either way): a*t needs no conversion
            rng.uniform(pr.p, &mut a);
            simd::mulc(&e[s.clone()], pr.r2, pr.md, &mut b); // e*R
            let (us, ts) = (&u[s.clone()], &t[s]);
            let f = if own.contains(&i) { pr.mont(factor(i)) } else { 0 }; // factor*R
            for j in 0..n {
                let x =
                    pr.p - mulmod(a[j], ts[j], pr.p) + b[j] + if f != 0 { mulmod(us[j], f, pr.p) } else { 0 };
                b[j] = x % pr.p;
            }
            let w = pr.w;
            let dst = &mut data[off[i]..off[i] + 2 * nd * n * w];
            simd::pack(&b, w, 2 * d, 2 * nd, dst);
            simd::pack(&a, w, 2 * d + 1, 2 * nd, dst);
        }
    }
    SwitchKey { data, off, nd }
}

pub struct Keys {
    /// (Galois element, class): class 0 = used at high levels, 1 = used at the last levels only (fewer limbs and digits)
    pub gal: HashMap<(u64, u8), SwitchKey>,
    pub relin: SwitchKey,
    pub d2s: SwitchKey,
    pub s2d: SwitchKey,
    pub emb_in: SwitchKey,  // small secret embedded by X -> X^8, to sparse
    pub emb_out: SwitchKey, // dense to the embedded small secret
}
pub struct Secret {
    pub dense: Vec<i64>,
    pub sparse: Vec<i64>,
    pub small: Vec<i64>, // degree N/8
}
impl Secret {
    pub fn embedded(&self) -> Vec<i64> {
        let mut v = vec![0; self.dense.len()];
        for (i, x) in self.small.iter().enumerate() {
            v[8 * i] = *x;
        }
        v
    }
}
impl Keys {
    /// `rots`: Galois element -> level at which it is used; `relin_l`: highest level of a product.
    pub fn new(
        ctx: &RnsContext,
        rng: &mut Rng,
        sk: &Secret,
        rots: &HashMap<(u64, u8), usize>,
        relin_l: usize,
        top: usize,
    ) -> Keys {
        let n2 = 2 * ctx.n as u64;
        let pfac = |i: usize| ctx.m[ctx.l..].iter().fold(1, |a, p| mulmod(a, p.p % ctx.m[i].p, ctx.m[i].p));
        let digs = |lv: usize| -> Vec<Vec<usize>> {
            ctx.digits.iter().filter(|d| d.start < lv).map(|d| (d.start..d.end.min(lv)).collect()).collect()
        };
        let mut gal = HashMap::new();
        let mut order: Vec<_> = rots.iter().collect();
        order.sort();
        for (&(g, class), &lv) in order {
            let limbs = ctx.limbs(lv);
            // g^-1 mod 2N
            let gi = (1..n2.trailing_zeros())
                .fold(1u64, |x, _| x.wrapping_mul(2u64.wrapping_sub(g.wrapping_mul(x))))
                % n2;
            // Stored under g^-1(s): the product digits*key is permuted afterwards, so the digits never are.
            let t = to_ntt(ctx, &automorph(&sk.dense, gi), &limbs);
            let u = to_ntt(ctx, &sk.dense, &limbs);
            gal.insert((g, class), generate_switch_key(ctx, rng, &limbs, &digs(lv), &pfac, &t, &u));
        }
        let limbs = ctx.limbs(relin_l);
        let s = to_ntt(ctx, &sk.dense, &limbs);
        let mut s2 = s.clone();
        for (k, &i) in limbs.iter().enumerate() {
            for x in &mut s2[k * ctx.n..(k + 1) * ctx.n] {
                *x = mulmod(*x, *x, ctx.m[i].p);
            }
        }
        let relin = generate_switch_key(ctx, rng, &limbs, &digs(relin_l), &pfac, &s, &s2);
        let limbs = ctx.limbs(top);
        let s = to_ntt(ctx, &sk.dense, &limbs);
        let sp = to_ntt(ctx, &sk.sparse, &limbs);
        // sparse -> dense: the raised c1 is a small polynomial (< q0), so ONE digit suffices at any level
        let s2d = generate_switch_key(ctx, rng, &limbs, &[(0..top).collect()], &pfac, &s, &sp);
        let limbs = vec![0, ctx.l];
        let s = to_ntt(ctx, &sk.dense, &limbs);
        let sp = to_ntt(ctx, &sk.sparse, &limbs);
        let d2s =
            generate_switch_key(ctx, rng, &limbs, &[vec![0]], &|i| ctx.m[ctx.l].p % ctx.m[i].p, &sp, &s);
        let em = to_ntt(ctx, &sk.embedded(), &limbs);
        let emb_in =
            generate_switch_key(ctx, rng, &limbs, &[vec![0]], &|i| ctx.m[ctx.l].p % ctx.m[i].p, &sp, &em);
        // The key lives under the embedded secret: seen as eight degree-N/8 RLWE samples, so its modulus
        // q0*q1*p0 must respect the degree-N/8 limit.
        let limbs = vec![0, 1, ctx.l];
        let s = to_ntt(ctx, &sk.dense, &limbs);
        let em = to_ntt(ctx, &sk.embedded(), &limbs);
        let emb_out = generate_switch_key(
            ctx,
            rng,
            &limbs,
            &[vec![0], vec![1]],
            &|i| ctx.m[ctx.l].p % ctx.m[i].p,
            &em,
            &s,
        );
        Keys { gal, relin, d2s, s2d, emb_in, emb_out }
    }
    pub fn bytes(&self) -> usize {
        self.gal.values().map(|k| k.bytes()).sum::<usize>()
            + self.relin.bytes()
            + [&self.d2s, &self.s2d, &self.emb_in, &self.emb_out].iter().map(|k| k.bytes()).sum::<usize>()
    }
}
