//! Homomorphic operations of the large ring.
use super::embedding::*;
use super::keys::*;
use crate::he::ring::{
    arith::*,
    buffer::Buffer,
    context::*,
    key_switch::*,
    parallel as par,
    simd::{self, Perm},
};

#[derive(Clone)]
pub struct Ciphertext {
    pub c: [Buffer; 2],
    pub l: usize,
    pub scale: f64,
}
/// Unrelinearised sum of products; residues carry the Montgomery factor 1/R.
pub struct Tensor {
    d: [Buffer; 3],
    l: usize,
    pub scale: f64,
}
fn two(x: &Ciphertext, i: usize, n: usize) -> [&[u64]; 2] {
    [lb(&x.c[0], i, n), lb(&x.c[1], i, n)]
}
/// Words per chunk of the hoisted products.
pub const CHUNK: usize = 2048;
/// Complex integer constant as its two residues (first / second half of the positions).
fn cres(p: &Limb, re: i128, im: i128) -> [u64; 2] {
    let (r, i) = (imod(re, p.p), mulmod(imod(im, p.p), p.ipow, p.p));
    [(r + i) % p.p, (r + p.p - i) % p.p]
}
fn cint(x: C, scale: f64) -> (i128, i128) {
    ((x.re * scale).round() as i128, (x.im * scale).round() as i128)
}

impl RnsContext {
    /// Divide by the last prime.
    pub fn rescale(&self, x: &Ciphertext) -> Ciphertext {
        let (n, l) = (self.n, x.l);
        let cv = &self.resc[l];
        let c = [0, 1].map(|k| {
            let (ys, v) = self.conv_prep(cv, false, |j| lb(&x.c[k], j, n));
            let mut out = Buffer::new(n * (l - 1));
            let jobs: Vec<_> = out.chunks_exact_mut(n).enumerate().collect();
            par::run(jobs, |(i, o)| {
                let mut t = Buffer::new(n);
                self.conv_limb(cv, &ys, &v, i, &mut t);
                simd::subc(lb(&x.c[k], i, n), &t, cv.sinv[i], self.m[i].md, o);
            });
            out
        });
        Ciphertext { c, l: l - 1, scale: x.scale / self.m[l - 1].p as f64 }
    }
    pub fn galois_ct(&self, keys: &Keys, ct: &Ciphertext, g: u64, class: u8) -> Ciphertext {
        let c = self.ks(
            &ct.c[1],
            ct.l,
            false,
            &keys.gal[&(g, class)],
            [Some(&ct.c[0]), None],
            Some(&self.perms[&g]),
            false,
        );
        Ciphertext { c, l: ct.l, scale: ct.scale }
    }

    // ---- sums -----------------------------------------------------------------------------------------
    /// sum of products and scaled terms at level l; constants are integers (complex).
    pub fn tens(
        &self,
        l: usize,
        prods: &[(&Ciphertext, &Ciphertext)],
        lins: &[(&Ciphertext, (i128, i128))],
        cst: (i128, i128),
        dbl: bool,
    ) -> Tensor {
        let n = self.n;
        let mut d = [Buffer::new(n * l), Buffer::new(n * l), Buffer::new(n * l)];
        let [d0, d1, d2] = &mut d;
        let jobs: Vec<_> = d0
            .chunks_exact_mut(n)
            .zip(d1.chunks_exact_mut(n))
            .zip(d2.chunks_exact_mut(n))
            .enumerate()
            .collect();
        par::run(jobs, |(i, ((a, b), c))| {
            let m = &self.m[i];
            let pr: Vec<_> = prods.iter().map(|(x, y)| (two(x, i, n), two(y, i, n))).collect();
            let li: Vec<_> = lins.iter().map(|(x, k)| (two(x, i, n), cres(m, k.0, k.1))).collect();
            let ri = invmod(m.r, m.p);
            let cs = cres(m, cst.0, cst.1).map(|x| mulmod(x, ri, m.p));
            simd::sum(&simd::Sum { prods: &pr, lins: &li, cst: cs, dbl }, m.md, a, b, c);
        });
        let scale = prods[0].0.scale * prods[0].1.scale;
        Tensor { d, l, scale }
    }
    /// relinearise and rescale by q_{l-1} in one division
    pub fn relin(&self, keys: &Keys, t: &Tensor) -> Ciphertext {
        let c = self.ks(&t.d[2], t.l, true, &keys.relin, [Some(&t.d[0]), Some(&t.d[1])], None, true);
        Ciphertext { c, l: t.l - 1, scale: t.scale / self.m[t.l - 1].p as f64 }
    }
    pub fn mul(&self, keys: &Keys, a: &Ciphertext, b: &Ciphertext) -> Ciphertext {
        self.relin(keys, &self.tens(a.l.min(b.l), &[(a, b)], &[], (0, 0), false))
    }
    /// 2*a*b - c  (c a ciphertext, or 1)
    pub fn cheb(&self, keys: &Keys, a: &Ciphertext, b: &Ciphertext, sub: Option<&Ciphertext>) -> Ciphertext {
        let s = a.scale * b.scale;
        let l = a.l.min(b.l);
        let t = match sub {
            Some(x) => self.tens(l, &[(a, b)], &[(x, (-(s / x.scale).round() as i128, 0))], (0, 0), true),
            None => self.tens(l, &[(a, b)], &[], (-s.round() as i128, 0), true),
        };
        self.relin(keys, &t)
    }
    /// integer combination without rescaling
    pub fn lin(
        &self,
        l: usize,
        lins: &[(&Ciphertext, (i128, i128))],
        cst: (i128, i128),
        scale: f64,
    ) -> Ciphertext {
        let n = self.n;
        let mut d = [Buffer::new(n * l), Buffer::new(n * l)];
        let [d0, d1] = &mut d;
        let jobs: Vec<_> = d0.chunks_exact_mut(n).zip(d1.chunks_exact_mut(n)).enumerate().collect();
        par::run(jobs, |(i, (a, b))| {
            let m = &self.m[i];
            let li: Vec<_> =
                lins.iter().map(|(x, k)| (two(x, i, n), cres(m, k.0, k.1).map(|x| m.mont(x)))).collect();
            simd::sum(
                &simd::Sum { prods: &[], lins: &li, cst: cres(m, cst.0, cst.1), dbl: false },
                m.md,
                a,
                b,
                &mut [],
            );
        });
        Ciphertext { c: d, l, scale }
    }
    /// For each block (c0, c1): leaf0 + leaf1*g, relinearised and rescaled, where leaf = sum_k c_k x_k + c_0.
    /// leaf1 is built at scale `s1`; each integer coefficient absorbs the exact scale of its power.  Works chunk by
    /// chunk so that the powers are read from memory once for all blocks and leaf1 never leaves the cache.
    pub fn leaves(
        &self,
        keys: &Keys,
        l: usize,
        blocks: &[(&[C], &[C])],
        x: &[&Ciphertext],
        g: &Ciphertext,
        s1: f64,
    ) -> Vec<Ciphertext> {
        let n = self.n;
        let s = s1 * g.scale;
        let mut out: Vec<Tensor> = blocks
            .iter()
            .map(|_| Tensor { d: [Buffer::new(n * l), Buffer::new(n * l), Buffer::new(n * l)], l, scale: s })
            .collect();
        let mut jobs: Vec<(usize, Vec<&mut [u64]>)> = (0..l).map(|i| (i, vec![])).collect();
        for d in out.iter_mut().flat_map(|t| t.d.iter_mut()) {
            for (j, c) in jobs.iter_mut().zip(d.chunks_exact_mut(n)) {
                j.1.push(c);
            }
        }
        par::run(jobs, |(i, mut o)| {
            let m = &self.m[i];
            let ri = invmod(m.r, m.p);
            let res = |k: (i128, i128)| cres(m, k.0, k.1);
            // residues of all constants, both halves: leaf1 in Montgomery form (untainted), leaf0 plain (tainted)
            let cs: Vec<_> = blocks
                .iter()
                .map(|(c0, c1)| {
                    let k1: Vec<[u64; 2]> = x
                        .iter()
                        .zip(&c1[1..])
                        .map(|(x, &k)| res(cint(k, s1 / x.scale)).map(|v| m.mont(v)))
                        .collect();
                    let k0: Vec<[u64; 2]> =
                        x.iter().zip(&c0[1..]).map(|(x, &k)| res(cint(k, s / x.scale))).collect();
                    (k0, res(cint(c0[0], s)).map(|v| mulmod(v, ri, m.p)), k1, res(cint(c1[0], s1)))
                })
                .collect();
            let ch = 512.min(n / 2);
            let (mut y0, mut y1) = (Buffer::new(ch), Buffer::new(ch));
            for c in 0..n / ch {
                let h = c * ch / (n / 2);
                let sl = c * ch..(c + 1) * ch;
                let xs: Vec<[&[u64]; 2]> = x.iter().map(|x| two(x, i, n).map(|v| &v[sl.clone()])).collect();
                let gs = two(g, i, n).map(|v| &v[sl.clone()]);
                for ((k0, z0, k1, z1), o) in cs.iter().zip(o.chunks_exact_mut(3)) {
                    let li: Vec<_> = xs.iter().zip(k1).map(|(x, k)| (*x, [k[h]; 2])).collect();
                    simd::sum(
                        &simd::Sum { prods: &[], lins: &li, cst: [z1[h]; 2], dbl: false },
                        m.md,
                        &mut y0,
                        &mut y1,
                        &mut [],
                    );
                    let li: Vec<_> = xs.iter().zip(k0).map(|(x, k)| (*x, [k[h]; 2])).collect();
                    let [d0, d1, d2] = o else { unreachable!() };
                    simd::sum(
                        &simd::Sum {
                            prods: &[([&y0[..], &y1[..]], gs)],
                            lins: &li,
                            cst: [z0[h]; 2],
                            dbl: false,
                        },
                        m.md,
                        &mut d0[sl.clone()],
                        &mut d1[sl.clone()],
                        &mut d2[sl.clone()],
                    );
                }
            }
        });
        out.iter().map(|t| self.relin(keys, t)).collect()
    }
    /// lo + hi*g
    pub fn node(&self, keys: &Keys, lo: &Ciphertext, hi: &Ciphertext, g: &Ciphertext) -> Ciphertext {
        let l = lo.l.min(hi.l).min(g.l);
        let s = hi.scale * g.scale;
        self.relin(
            keys,
            &self.tens(l, &[(hi, g)], &[(lo, ((s / lo.scale).round() as i128, 0))], (0, 0), false),
        )
    }

    /// Add a constant to every coefficient.
    pub fn add_all(&self, x: &mut Ciphertext, c: f64) {
        let n = self.n;
        let v = vec![(c * x.scale).round() as i64; n];
        let limbs: Vec<usize> = (0..x.l).collect();
        let b = to_ntt(self, &v, &limbs);
        for i in 0..x.l {
            let p = self.m[i].p;
            for (y, z) in x.c[0][i * n..(i + 1) * n].iter_mut().zip(lb(&b, i, n)) {
                let s = *y + z;
                *y = s.min(s.wrapping_sub(p));
            }
        }
    }

    // ---- small key switches: one special prime, one digit per limb -----------------------------------------
    /// Used where the key's modulus must stay small: sparse secret, or a secret that lives in a subring.
    pub fn ks_small(&self, key: &SwitchKey, ct: &Ciphertext) -> Ciphertext {
        let (n, l, lp) = (self.n, ct.l, self.l);
        assert!(l <= 2);
        let pr: Vec<(Buffer, Buffer)> =
            (0..l).map(|d| self.conv_prep(&self.single[d], false, |j| lb(&ct.c[1], j, n))).collect();
        let mut o: Vec<[Buffer; 2]> = (0..=l).map(|_| [Buffer::new(n), Buffer::new(n)]).collect();
        let mut tmp = self.tmp(l);
        for (h, i) in (0..l).chain([lp]).enumerate() {
            let dg: Vec<&[u64]> = tmp
                .iter_mut()
                .enumerate()
                .map(|(d, t)| {
                    if i == d {
                        return lb(&ct.c[1], d, n);
                    }
                    self.conv_limb(&self.single[d], &pr[d].0, &pr[d].1, i, t);
                    &**t
                })
                .collect();
            let pc = self.m[i].mont(self.m[lp].p % self.m[i].p);
            let add0 = if i < l { Some((lb(&ct.c[0], i, n), pc)) } else { None };
            let [x, y] = &mut o[h];
            simd::dot(
                &simd::Dot {
                    digs: &dg,
                    key: key.limb(self, i),
                    kd: key.nd,
                    add0,
                    add1: None,
                    perm: None,
                    acc: false,
                    range: (0, n / 8),
                    base: 0,
                },
                self.m[i].w,
                self.m[i].md,
                x,
                y,
            );
        }
        let cv = &self.d2s_down;
        let c = [0, 1].map(|k| {
            let (ys, v) = self.conv_prep(cv, false, |_| &o[l][k]);
            let mut r = Buffer::new(n * l);
            for (i, r) in r.chunks_exact_mut(n).enumerate() {
                self.conv_limb(cv, &ys, &v, i, &mut tmp[0]);
                simd::subc(&o[i][k], &tmp[0], cv.sinv[i], self.m[i].md, r);
            }
            r
        });
        Ciphertext { c, l, scale: ct.scale }
    }

    // ---- modulus raise --------------------------------------------------------------------------------
    /// One-limb ciphertext -> level `top`, through the sparse secret; `d2s` says which secret it comes under.
    pub fn raise(&self, keys: &Keys, d2s: &SwitchKey, ct: &Ciphertext, top: usize) -> Ciphertext {
        let n = self.n;
        let c = self.ks_small(d2s, ct).c;
        // lift both (centred) to all limbs; sparse -> dense with c1 as the only digit
        let y: Vec<(Buffer, Buffer)> = c.iter().map(|x| self.conv_prep(&self.raise, false, |_| x)).collect();
        let limbs = self.limbs(top);
        let mut e = [Buffer::new(n * limbs.len()), Buffer::new(n * limbs.len())];
        let [e0, e1] = &mut e;
        let jobs: Vec<_> = e0.chunks_exact_mut(n).zip(e1.chunks_exact_mut(n)).zip(&limbs).collect();
        par::run(jobs, |((a, b), &i)| {
            let (mut x0, mut x1) = (Buffer::new(n), Buffer::new(n));
            for (x, k) in [(&mut x0, 0), (&mut x1, 1)] {
                if i == 0 {
                    x.copy_from_slice(&c[k])
                } else {
                    self.conv_limb(&self.raise, &y[k].0, &y[k].1, i, x)
                }
            }
            let pc = self.m[i].mont(self.pmod(i));
            simd::dot(
                &simd::Dot {
                    digs: &[&x1],
                    key: keys.s2d.limb(self, i),
                    kd: keys.s2d.nd,
                    add0: if i < self.l { Some((&x0, pc)) } else { None },
                    add1: None,
                    perm: None,
                    acc: false,
                    range: (0, n / 8),
                    base: 0,
                },
                self.m[i].w,
                self.m[i].md,
                a,
                b,
            );
        });
        let [e0, e1] = e;
        Ciphertext {
            c: [self.mod_down(&e0, top, false), self.mod_down(&e1, top, false)],
            l: top,
            scale: ct.scale,
        }
    }
}

// ---- linear transforms ----------------------------------------------------------------------------------
/// One DFT factor, baby-step giant-step with both hoistings: babies stay in the extended basis, one division
/// per giant step (second component only) and one at the end, fused with the rescaling when `drop`.
pub struct LinearTransform {
    pub l: usize,
    pub drop: bool,
    pub scale: f64,
    class: u8,
    pub babies: Vec<i64>,
    pub giants: Vec<i64>, // giants[0] = 0
    idx: Vec<Vec<Option<usize>>>,
    data: Vec<u8>,
    off: Vec<Vec<usize>>, // per limb position, per giant step
    nds: Vec<usize>,      // diagonals per giant step
}
impl LinearTransform {
    /// Rotations only (keys are generated before the diagonals).
    pub fn plan(n: usize, m: &Diags, n1: usize) -> (Vec<i64>, Vec<i64>, Vec<(i64, i64, i64)>) {
        let rots: Vec<i64> = m.keys().copied().collect();
        let st = rots.iter().filter(|&&r| r != 0).map(|r| r.unsigned_abs()).min().unwrap() as i64;
        let period = n as i64 / st;
        let wrap = rots.len() as i64 == period;
        let h = (n1 as i64 - 1) / 2;
        let (mut bs, mut gs, mut all) = (vec![0i64], vec![0i64], vec![]);
        for &r in &rots {
            let mut j = r / st;
            if wrap && j < -h {
                j += period;
            }
            let g = (j + h).div_euclid(n1 as i64);
            let b = j - g * n1 as i64;
            let (g, b) = (g * n1 as i64 * st, b * st);
            if !bs.contains(&b) {
                bs.push(b)
            }
            if !gs.contains(&g) {
                gs.push(g)
            }
            all.push((r, g, b));
        }
        (bs, gs, all)
    }
    pub fn new(
        ctx: &RnsContext,
        fft: &Embedding,
        m: &Diags,
        n1: usize,
        l: usize,
        scale: f64,
        drop: bool,
        class: u8,
    ) -> LinearTransform {
        let n = ctx.n;
        let (babies, giants, all) = LinearTransform::plan(n / 2, m, n1);
        let limbs = ctx.limbs(l);
        let mut idx = vec![vec![None; babies.len()]; giants.len()];
        let mut nds = vec![0; giants.len()];
        let mut at = vec![];
        for (_, g, b) in &all {
            let gi = giants.iter().position(|x| x == g).unwrap();
            idx[gi][babies.iter().position(|x| x == b).unwrap()] = Some(nds[gi]);
            at.push((gi, nds[gi]));
            nds[gi] += 1;
        }
        let mut off = vec![];
        let mut size = 0;
        for &i in &limbs {
            off.push(
                nds.iter()
                    .map(|k| {
                        let o = size;
                        size += k * n * ctx.m[i].w;
                        o
                    })
                    .collect::<Vec<_>>(),
            );
        }
        let mut data = vec![0u8; size + 64];
        for (k, (r, g, _)) in all.iter().enumerate() {
            let d = &m[r];
            let h = n as i64 / 2;
            let mut v: Vec<C> = (0..h).map(|x| d[(x - g).rem_euclid(h) as usize]).collect();
            fft.encode(&mut v);
            let mut co = vec![0i64; n];
            for (j, x) in v.iter().enumerate() {
                co[j] = (x.re * scale).round() as i64;
                co[j + n / 2] = (x.im * scale).round() as i64;
            }
            let mut x = to_ntt(ctx, &co, &limbs);
            for (t, &i) in limbs.iter().enumerate() {
                let c = &mut x[t * n..(t + 1) * n];
                simd::mulc_in(c, ctx.m[i].r2, ctx.m[i].md);
                let w = ctx.m[i].w;
                let (gi, pos) = at[k];
                simd::pack(c, w, pos, nds[gi], &mut data[off[t][gi]..off[t][gi] + nds[gi] * n * w]);
            }
        }
        LinearTransform { l, drop, scale, class, babies, giants, idx, data, off, nds }
    }
    pub fn bytes(&self) -> usize {
        self.data.len()
    }
    /// Several ciphertexts at once: keys and diagonals, which come from memory, are read once for all of them.
    pub fn apply(&self, ctx: &RnsContext, keys: &Keys, cts: &[Ciphertext]) -> Vec<Ciphertext> {
        let n = ctx.n;
        let l = self.l;
        assert!(cts.iter().all(|c| c.l >= l));
        let limbs = ctx.limbs(l);
        let nl = limbs.len();
        let ng = self.giants.len();
        let prs: Vec<_> = cts.iter().map(|ct| ctx.prep(&ct.c[1], l, false)).collect();
        let nd = prs[0].len();
        // acc[h][2*g + poly]
        let mut acc: Vec<Vec<Buffer>> =
            cts.iter().map(|_| (0..2 * ng).map(|_| Buffer::new(n * nl)).collect()).collect();
        let mut jobs: Vec<(usize, Vec<&mut [u64]>)> = (0..nl).map(|t| (t, vec![])).collect();
        for a in acc.iter_mut().flatten() {
            for (j, c) in jobs.iter_mut().zip(a.chunks_exact_mut(n)) {
                j.1.push(c);
            }
        }
        par::run(jobs, |(t, mut o)| {
            let i = limbs[t];
            let m = &ctx.m[i];
            let mut tmps: Vec<Vec<Buffer>> = cts.iter().map(|_| ctx.tmp(nd)).collect();
            let dgs: Vec<Vec<&[u64]>> = cts
                .iter()
                .zip(&prs)
                .zip(tmps.iter_mut())
                .map(|((ct, pr), tmp)| ctx.digits(&ct.c[1], l, false, pr, i, tmp))
                .collect();
            let pc = m.mont(ctx.pmod(i));
            // Chunk by chunk of the destination, so that the rotated babies stay in the first two cache levels.
            // In the bit-reversed order an automorphism maps aligned chunks to aligned chunks.
            let ch = CHUNK.min(n);
            let mut r: Vec<Vec<(Buffer, Buffer)>> = cts
                .iter()
                .map(|_| self.babies.iter().map(|_| (Buffer::new(ch), Buffer::new(ch))).collect())
                .collect();
            let ks: Vec<_> = self
                .babies
                .iter()
                .map(|&b| {
                    if b == 0 {
                        None
                    } else {
                        let g = ctx.galois(b);
                        let key = &keys.gal[&(g, self.class)];
                        Some((&ctx.perms[&g], key))
                    }
                })
                .collect();
            for c in 0..n / ch {
                let sl = c * ch..(c + 1) * ch;
                for (bi, k) in ks.iter().enumerate() {
                    for ((ct, dg), r) in cts.iter().zip(&dgs).zip(r.iter_mut()) {
                        let (r0, r1) = &mut r[bi];
                        let Some((perm, key)) = k else {
                            if i < l {
                                simd::mulc(&lb(&ct.c[0], i, n)[sl.clone()], pc, m.md, r0);
                                simd::mulc(&lb(&ct.c[1], i, n)[sl.clone()], pc, m.md, r1);
                            }
                            continue;
                        };
                        let s0 = perm.src_chunk(c, ch / 8);
                        let add0 = if i < l { Some((lb(&ct.c[0], i, n), pc)) } else { None };
                        simd::dot(
                            &simd::Dot {
                                digs: dg,
                                key: key.limb(ctx, i),
                                kd: key.nd,
                                add0,
                                add1: None,
                                perm: Some(perm),
                                acc: false,
                                range: (s0, s0 + ch / 8),
                                base: c * ch / 8,
                            },
                            m.w,
                            m.md,
                            r0,
                            r1,
                        );
                    }
                }
                for (h, r) in r.iter().enumerate() {
                    for (gi, row) in self.idx.iter().enumerate() {
                        let mut rs: Vec<(usize, &[u64], &[u64])> = vec![];
                        for (bi, x) in row.iter().enumerate() {
                            if let Some(k) = x
                                && (self.babies[bi] != 0 || i < l)
                            {
                                rs.push((*k, &r[bi].0, &r[bi].1));
                            }
                        }
                        let nd = self.nds[gi];
                        let of = self.off[t][gi] + nd * c * ch * m.w;
                        let ds = &self.data[of..of + nd * ch * m.w + 64 - 8 * m.w];
                        let k = 2 * (h * ng + gi);
                        let (a, b) = o.split_at_mut(k + 1);
                        simd::diag(ds, nd, &rs, m.w, m.md, &mut a[k][sl.clone()], &mut b[0][sl.clone()]);
                    }
                }
            }
        });
        for (gi, &gr) in self.giants.iter().enumerate().skip(1) {
            let c1s: Vec<Buffer> = acc.iter().map(|a| ctx.mod_down(&a[2 * gi + 1], l, false)).collect();
            let prs: Vec<_> = c1s.iter().map(|c1| ctx.prep(c1, l, false)).collect();
            let g = ctx.galois(gr);
            let key = &keys.gal[&(g, self.class)];
            let mut jobs: Vec<(usize, Vec<(&mut [u64], &mut [u64], &[u64])>)> =
                (0..nl).map(|t| (t, vec![])).collect();
            for a in acc.iter_mut() {
                let (a01, rest) = a.split_at_mut(2);
                let [a0, a1] = a01 else { unreachable!() };
                let u0 = &rest[2 * gi - 2];
                for (j, ((x, y), u)) in jobs
                    .iter_mut()
                    .zip(a0.chunks_exact_mut(n).zip(a1.chunks_exact_mut(n)).zip(u0.chunks_exact(n)))
                {
                    j.1.push((x, y, u));
                }
            }
            par::run(jobs, |(t, o)| {
                let i = limbs[t];
                let m = &ctx.m[i];
                let mut tmp = ctx.tmp(nd);
                for ((x0, x1, u0), (c1, pr)) in o.into_iter().zip(c1s.iter().zip(&prs)) {
                    let dg = ctx.digits(c1, l, false, pr, i, &mut tmp);
                    simd::dot(
                        &simd::Dot {
                            digs: &dg,
                            key: key.limb(ctx, i),
                            kd: key.nd,
                            add0: Some((u0, m.r)),
                            add1: None,
                            perm: Some(&ctx.perms[&g]),
                            acc: true,
                            range: (0, n / 8),
                            base: 0,
                        },
                        m.w,
                        m.md,
                        x0,
                        x1,
                    );
                }
            });
        }
        cts.iter()
            .zip(&acc)
            .map(|(ct, a)| {
                let mut s = ct.scale * self.scale;
                if self.drop {
                    s /= ctx.m[l - 1].p as f64;
                }
                Ciphertext {
                    c: [ctx.mod_down(&a[0], l, self.drop), ctx.mod_down(&a[1], l, self.drop)],
                    l: l - self.drop as usize,
                    scale: s,
                }
            })
            .collect()
    }
}
