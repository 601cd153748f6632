//! An RNS basis: primes, transforms, exact centred base conversions, Galois permutations.
use std::collections::HashMap;

use tfhe_ntt::prime64::Plan;

use super::arith::*;
use super::buffer::Buffer;
use super::ntt::Ntt;
use super::simd::{self, Modulus, Perm};

pub struct Limb {
    pub p: u64,
    pub md: Modulus,
    pub r: u64,  // 2^52 mod p
    pub r2: u64, // 2^104 mod p
    pub plan: Plan,
    pub ntt: Option<Ntt>, // own transform; None: use the plan
    pub ipow: u64,        // psi^(N/2): value of X^(N/2) on the first half of the positions
    pub w: usize,         // packed bytes per residue
}
impl Limb {
    /// Montgomery form of a constant.
    pub fn mont(&self, c: u64) -> u64 {
        mulmod(c, self.r, self.p)
    }
}

/// Exact centred base conversion from the product of some limbs to any limb, and division by that product.
pub struct BaseConversion {
    pub from: Vec<usize>,
    pub y: Vec<u64>,      // (S/s_j)^-1 * N^-1, Montgomery
    pub y_t: Vec<u64>,    // same for a tainted (1/R) input
    pub inv: Vec<f64>,    // 1/s_j
    pub c: Vec<Vec<u64>>, // per target limb: S/s_j for each j, then -S; Montgomery
    pub sinv: Vec<u64>,   // per target limb: S^-1, Montgomery
}

pub struct RnsContext {
    pub n: usize,
    pub l: usize, // number of q limbs; the special primes follow
    pub k: usize,
    pub m: Vec<Limb>,
    pub digits: Vec<std::ops::Range<usize>>,
    pub modup: Vec<Vec<BaseConversion>>,   // [level][digit]
    pub moddown: Vec<[BaseConversion; 2]>, // [level][0: by P, 1: by P*q_{level-1}]
    pub resc: Vec<BaseConversion>,         // [level]: by q_{level-1}
    pub raise: BaseConversion,             // q0 to anything
    pub d2s_down: BaseConversion,          // by the first special prime only
    pub single: [BaseConversion; 2],       // q0 alone, q1 alone: digits of the small key switches
    pub perms: HashMap<u64, Perm>,         // by Galois element
}

/// Split limbs into `dnum` consecutive digits, minimising the largest digit in bits.
fn split(bits: &[f64], dnum: usize) -> Vec<std::ops::Range<usize>> {
    let l = bits.len();
    let mut best = vec![vec![(f64::INFINITY, 0usize); dnum + 1]; l + 1];
    best[0][0] = (0.0, 0);
    for i in 1..=l {
        for d in 1..=dnum {
            for j in 0..i {
                let s: f64 = bits[j..i].iter().sum();
                let c = best[j][d - 1].0.max(s);
                if c < best[i][d].0 {
                    best[i][d] = (c, j);
                }
            }
        }
    }
    let (mut i, mut d, mut out) = (l, dnum, vec![]);
    while d > 0 {
        let j = best[i][d].1;
        out.push(j..i);
        i = j;
        d -= 1;
    }
    out.reverse();
    out
}

impl RnsContext {
    pub fn new(logn: usize, q: &[u64], special: &[u64], dnum: usize) -> RnsContext {
        let n = 1usize << logn;
        let own = true;
        let mut m = vec![];
        for &p in q.iter().chain(special) {
            let mut inv = 1u64;
            for _ in 0..6 {
                inv = inv.wrapping_mul(2u64.wrapping_sub(p.wrapping_mul(inv)));
            }
            let r = ((1u128 << 52) % p as u128) as u64;
            let plan = Plan::try_new(n, p).unwrap();
            assert!(plan.use_ifma());
            let mut x = vec![0; n];
            x[1] = 1;
            plan.fwd(&mut x);
            let psi = x[0];
            // the order the permutations rely on: position j holds the value at psi^(2*bitrev(j)+1)
            for j in [1usize, 5, n / 2, n - 3] {
                let e = 2 * (j.reverse_bits() >> (usize::BITS as usize - logn)) + 1;
                assert_eq!(x[j], powmod(psi, e as u64, p));
            }
            m.push(Limb {
                p,
                md: Modulus { p, pinv: inv & ((1 << 52) - 1) },
                r,
                r2: mulmod(r, r, p),
                ntt: if own { Ntt::new(n, p, psi) } else { None },
                plan,
                ipow: powmod(psi, n as u64 / 2, p),
                w: if p < (1 << 40) { 5 } else { 6 },
            });
        }
        let (l, k) = (q.len(), special.len());
        let qbits: Vec<f64> = q.iter().map(|&p| (p as f64).log2()).collect();
        let digits = split(&qbits, dnum);
        let conv = |from: Vec<usize>| -> BaseConversion {
            let pr = |j: usize, t: usize| -> u64 {
                let q = m[t].p;
                from.iter().filter(|&&x| x != j).fold(1, |a, &x| mulmod(a, m[x].p % q, q))
            };
            let all = usize::MAX;
            BaseConversion {
                y: from
                    .iter()
                    .map(|&j| m[j].mont(mulmod(invmod(pr(j, j), m[j].p), invmod(n as u64, m[j].p), m[j].p)))
                    .collect(),
                y_t: from
                    .iter()
                    .map(|&j| {
                        mulmod(
                            m[j].r2,
                            mulmod(invmod(pr(j, j), m[j].p), invmod(n as u64, m[j].p), m[j].p),
                            m[j].p,
                        )
                    })
                    .collect(),
                inv: from.iter().map(|&j| 1.0 / m[j].p as f64).collect(),
                c: (0..l + k)
                    .map(|t| {
                        let mut v: Vec<u64> = from.iter().map(|&j| m[t].mont(pr(j, t))).collect();
                        v.push(m[t].mont((m[t].p - pr(all, t)) % m[t].p));
                        v
                    })
                    .collect(),
                sinv: (0..l + k)
                    .map(|t| if from.contains(&t) { 0 } else { m[t].mont(invmod(pr(all, t), m[t].p)) })
                    .collect(),
                from,
            }
        };
        let ps: Vec<usize> = (l..l + k).collect();
        let modup = (0..=l)
            .map(|lv| {
                digits
                    .iter()
                    .filter(|d| d.start < lv)
                    .map(|d| conv((d.start..d.end.min(lv)).collect()))
                    .collect()
            })
            .collect();
        let moddown = (0..=l)
            .map(|lv| {
                let mut s = ps.clone();
                if lv > 0 {
                    s.insert(0, lv - 1);
                }
                [conv(ps.clone()), conv(s)]
            })
            .collect();
        let resc = (0..=l).map(|lv| conv(vec![if lv > 0 { lv - 1 } else { 0 }])).collect();
        let raise = conv(vec![0]);
        let d2s_down = conv(vec![l]);
        let single = [conv(vec![0]), conv(vec![1.min(l - 1)])];
        RnsContext {
            n,
            l,
            k,
            m,
            digits,
            modup,
            moddown,
            resc,
            raise,
            d2s_down,
            single,
            perms: HashMap::new(),
        }
    }
    pub fn logq(&self, lv: usize) -> f64 {
        self.m[..lv].iter().map(|x| (x.p as f64).log2()).sum()
    }
    pub fn logp(&self) -> f64 {
        self.m[self.l..].iter().map(|x| (x.p as f64).log2()).sum()
    }
    pub fn galois(&self, rot: i64) -> u64 {
        let m2 = 2 * self.n as u64;
        powmod(5, rot.rem_euclid(self.n as i64 / 2) as u64, m2)
    }
    /// Limb indices of the extended basis at a level: q_0..q_{lv-1}, then the special primes.
    pub fn limbs(&self, lv: usize) -> Vec<usize> {
        (0..lv).chain(self.l..self.l + self.k).collect()
    }
    /// Permutation of X -> X^g in the NTT domain.
    pub fn add_perm(&mut self, g: u64) {
        if self.perms.contains_key(&g) {
            return;
        }
        let n = self.n;
        let lg = n.trailing_zeros();
        let rev = |j: usize| j.reverse_bits() >> (usize::BITS - lg);
        let src = |j: usize| -> usize {
            let e = (2 * rev(j) as u64 + 1) * g % (2 * n as u64);
            rev((e as usize - 1) / 2)
        };
        let mut p = Perm { src: vec![0; n / 8], dst: vec![0; n / 8], pi: vec![0; n / 8], tabs: vec![] };
        for d in 0..n / 8 {
            let s = src(8 * d) / 8;
            let t: [u64; 8] = std::array::from_fn(|t| {
                let x = src(8 * d + t);
                assert_eq!(x / 8, s);
                (x % 8) as u64
            });
            let i = p.tabs.iter().position(|x| *x == t).unwrap_or_else(|| {
                p.tabs.push(t);
                p.tabs.len() - 1
            });
            p.dst[s] = d as u32;
            p.src[d] = s as u32;
            p.pi[s] = i as u8;
        }
        self.perms.insert(g, p);
    }
    pub fn fwd(&self, i: usize, x: &mut [u64]) {
        match &self.m[i].ntt {
            Some(t) => t.fwd(x),
            None => self.m[i].plan.fwd(x),
        }
    }
    pub fn inv(&self, i: usize, x: &mut [u64]) {
        match &self.m[i].ntt {
            Some(t) => t.inv(x),
            None => self.m[i].plan.inv(x),
        }
    }
    pub fn inv_to(&self, i: usize, src: &[u64], dst: &mut [u64]) {
        if let Some(t) = &self.m[i].ntt {
            t.inv_to(src, dst);
        } else {
            dst.copy_from_slice(src);
            self.inv(i, dst);
        }
    }
    /// y_j = (x_j * (S/s_j)^-1) in coefficients, for the limbs of `cv`; `get` gives the NTT limb.
    pub fn conv_prep<'a>(
        &self,
        cv: &BaseConversion,
        tainted: bool,
        get: impl Fn(usize) -> &'a [u64] + Sync,
    ) -> (Buffer, Buffer) {
        let n = self.n;
        let mut ys = Buffer::new(n * cv.from.len());
        let mut v = Buffer::new(n);
        let jobs: Vec<_> = ys.chunks_exact_mut(n).zip(&cv.from).enumerate().collect();
        super::parallel::run(jobs, |(t, (y, &j))| {
            self.inv_to(j, get(j), y);
            simd::mulc_in(y, if tainted { cv.y_t[t] } else { cv.y[t] }, self.m[j].md);
        });
        let yr: Vec<&[u64]> = ys.chunks_exact(n).collect();
        simd::round(&yr, &cv.inv, &mut v);
        (ys, v)
    }
    /// Limb `i` (NTT domain) of a prepared conversion.
    pub fn conv_limb(&self, cv: &BaseConversion, ys: &[u64], v: &[u64], i: usize, out: &mut [u64]) {
        let yr: Vec<&[u64]> = ys.chunks_exact(self.n).collect();
        simd::bconv(&yr, v, &cv.c[i], self.m[i].md, out);
        self.fwd(i, out);
    }
}
