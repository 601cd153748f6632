//! Multiplication of slots by a sparse matrix: baby-step giant-step with both hoistings.
//!
//! Baby steps stay in the basis that the special primes extend; there is one division per giant step, of the second
//! polynomial only, and one at the end, fused with the rescaling.

use super::{
    ciphertext::Ciphertext,
    complex::Complex,
    dft::{Diagonals, Embedding},
    keys::{BootstrapKeys, KeyId, PADDING},
    stages::{Class, Factor, steps},
};
use crate::he::ring::{
    buffer::Buffer,
    context::RnsContext,
    key_switch::{SwitchKey, dot, lb, to_ntt},
    parallel,
    simd::{self, Perm},
};

/// Residues per chunk: rotated baby steps of a chunk stay in the first two cache levels.
const CHUNK: usize = 2048;
/// Chunks that one thread takes of a limb: fewer than all, so that others help with the last limbs.
const PART: usize = 4;
/// The first chunk, and that part of each sum.
type Part<'a> = (usize, Vec<&'a mut [u64]>);

/// A sparse matrix, encoded for one level.
pub(crate) struct LinearTransform {
    level: usize,
    drops: bool,
    scale: f64,
    class: Class,
    babies: Vec<i64>,
    giants: Vec<i64>,
    /// Per giant and baby step the diagonal's place among its giant step's.
    places: Vec<Vec<Option<usize>>>,
    /// Packed residues: per limb, per giant step, groups of eight of its diagonals.
    data: Vec<u8>,
    /// Where a giant step's diagonals begin, per limb.
    offsets: Vec<Vec<usize>>,
    /// Diagonals per giant step.
    counts: Vec<usize>,
}

impl LinearTransform {
    /// Encodes a factor's matrix, times the diagonal matrix of `mask` (one factor per slot) if there is one.
    pub(crate) fn new(
        context: &RnsContext,
        embedding: &Embedding,
        factor: &Factor,
        matrix: &Diagonals,
        mask: Option<&[f64]>,
    ) -> Self {
        let n = context.n;
        let rotations: Vec<i64> = matrix.keys().copied().collect();
        let steps = steps(n / 2, &rotations, factor.babies);
        let limbs = context.limbs(factor.level);
        let mut places = vec![vec![None; steps.babies.len()]; steps.giants.len()];
        let mut counts = vec![0; steps.giants.len()];
        for &(_, giant, baby) in &steps.diagonals {
            places[giant][baby] = Some(counts[giant]);
            counts[giant] += 1;
        }
        let mut size = 0;
        let offsets = limbs
            .iter()
            .map(|&i| {
                let offset = |count: &usize| {
                    let start = size;
                    size += count * n * context.m[i].w;
                    start
                };
                counts.iter().map(offset).collect::<Vec<_>>()
            })
            .collect::<Vec<_>>();
        let mut data = simd::zeroed_bytes(size + PADDING);
        for (&(_, giant, baby), (&rotation, entries)) in steps.diagonals.iter().zip(matrix) {
            let half = n as i64 / 2;
            let shift = steps.giants[giant];
            let mut values: Vec<Complex> = (0..half)
                .map(|k| {
                    let row = (k - shift).rem_euclid(half);
                    let factor = mask.map_or(1.0, |m| m[(row + rotation).rem_euclid(half) as usize]);
                    entries[row as usize].scale(factor)
                })
                .collect();
            embedding.encode(&mut values);
            let mut coefficients = vec![0i64; n];
            for (j, x) in values.iter().enumerate() {
                coefficients[j] = (x.re * factor.scale).round() as i64;
                coefficients[j + n / 2] = (x.im * factor.scale).round() as i64;
            }
            let mut residues = to_ntt(context, &coefficients, &limbs);
            let Some(place) = places[giant][baby] else { continue };
            for (t, &i) in limbs.iter().enumerate() {
                let m = &context.m[i];
                let limb = &mut residues[t * n..(t + 1) * n];
                simd::mulc_in(limb, m.r2, m.md);
                let of = offsets[t][giant];
                simd::pack(limb, m.w, place, counts[giant], &mut data[of..of + counts[giant] * n * m.w]);
            }
        }
        LinearTransform {
            level: factor.level,
            drops: factor.drops,
            scale: factor.scale,
            class: factor.class,
            babies: steps.babies,
            giants: steps.giants,
            places,
            data,
            offsets,
            counts,
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len()
    }

    fn key<'a>(&self, context: &RnsContext, keys: &'a BootstrapKeys, rotation: i64) -> (u64, &'a SwitchKey) {
        let g = context.galois(rotation);
        (g, keys.key(KeyId::Galois(g, self.class)))
    }

    /// The matrix times each input's slots. Keys and diagonals, which come from memory, are read once for all inputs.
    pub(crate) fn apply(
        &self,
        context: &RnsContext,
        keys: &BootstrapKeys,
        inputs: &[Ciphertext],
    ) -> Vec<Ciphertext> {
        let mut sums = self.baby_steps(context, keys, inputs);
        self.giant_steps(context, keys, &mut sums);
        let level = self.level;
        inputs
            .iter()
            .zip(&sums)
            .map(|(input, sum)| {
                let divisor = if self.drops { context.m[level - 1].p as f64 } else { 1.0 };
                let (c0, c1) = parallel::join(
                    || context.mod_down(&sum[0], level, self.drops),
                    || context.mod_down(&sum[1], level, self.drops),
                );
                Ciphertext {
                    c: [c0, c1],
                    l: level - usize::from(self.drops),
                    scale: input.scale * self.scale / divisor,
                }
            })
            .collect()
    }

    /// For each input, for each giant step, both polynomials of Σ diagonal·(rotated input), in the extended basis.
    fn baby_steps(
        &self,
        context: &RnsContext,
        keys: &BootstrapKeys,
        inputs: &[Ciphertext],
    ) -> Vec<Vec<Buffer>> {
        let (n, l) = (context.n, self.level);
        let limbs = context.limbs(l);
        let prepared: Vec<_> = inputs.iter().map(|x| context.prep(&x.c[1], l, false)).collect();
        let giants = self.giants.len();
        let mut sums: Vec<Vec<Buffer>> =
            inputs.iter().map(|_| (0..2 * giants).map(|_| Buffer::new(n * limbs.len())).collect()).collect();
        let mut jobs: Vec<(usize, Vec<&mut [u64]>)> = (0..limbs.len()).map(|t| (t, vec![])).collect();
        for sum in sums.iter_mut().flatten() {
            for (job, limb) in jobs.iter_mut().zip(sum.chunks_exact_mut(n)) {
                job.1.push(limb);
            }
        }
        let steps: Vec<Option<(&Perm, &SwitchKey)>> = self
            .babies
            .iter()
            .map(|&rotation| {
                (rotation != 0).then(|| {
                    let (g, key) = self.key(context, keys, rotation);
                    (&context.perms[&g], key)
                })
            })
            .collect();
        parallel::run(jobs, |(t, out)| {
            let i = limbs[t];
            let m = &context.m[i];
            let mut converted: Vec<Vec<Buffer>> = prepared.iter().map(|p| context.tmp(p.len())).collect();
            let digits: Vec<Vec<&[u64]>> = inputs
                .iter()
                .zip(&prepared)
                .zip(converted.iter_mut())
                .map(|((x, p), t)| context.digits(&x.c[1], l, false, p, i, t))
                .collect();
            let special = m.mont(context.pmod(i));
            // In the bit-reversed order an automorphism maps aligned chunks to aligned chunks.
            let chunk = CHUNK.min(n);
            let mut parts: Vec<Part> = (0..n / chunk).step_by(PART).map(|first| (first, vec![])).collect();
            for sum in out {
                for (part, sum) in parts.iter_mut().zip(sum.chunks_mut(PART * chunk)) {
                    part.1.push(sum);
                }
            }
            parallel::run(parts, |(first_chunk, mut out)| {
                let mut rotated: Vec<Vec<[Buffer; 2]>> = inputs
                    .iter()
                    .map(|_| steps.iter().map(|_| [Buffer::new(chunk), Buffer::new(chunk)]).collect())
                    .collect();
                for at in 0..out.first().map_or(0, |sum| sum.len() / chunk) {
                    let c = first_chunk + at;
                    let range = c * chunk..(c + 1) * chunk;
                    for (baby, step) in steps.iter().enumerate() {
                        for ((x, digits), rotated) in inputs.iter().zip(&digits).zip(rotated.iter_mut()) {
                            let [r0, r1] = &mut rotated[baby];
                            let Some((perm, key)) = step else {
                                if i < l {
                                    let [c0, c1] = x.limb(i, n);
                                    simd::mulc(&c0[range.clone()], special, m.md, r0);
                                    simd::mulc(&c1[range.clone()], special, m.md, r1);
                                }
                                continue;
                            };
                            let first = perm.src_chunk(c, chunk / 8);
                            let dot = simd::Dot {
                                digs: digits,
                                key: key.limb(context, i),
                                kd: key.nd,
                                add0: (i < l).then(|| (lb(&x.c[0], i, n), special)),
                                add1: None,
                                perm: Some(perm),
                                acc: false,
                                range: (first, first + chunk / 8),
                                base: c * chunk / 8,
                            };
                            simd::dot(&dot, m.w, m.md, r0, r1);
                        }
                    }
                    for (x, rotated) in rotated.iter().enumerate() {
                        for (giant, places) in self.places.iter().enumerate() {
                            // The unrotated input has no part modulo the special primes.
                            let terms: Vec<(usize, &[u64], &[u64])> = places
                                .iter()
                                .zip(rotated)
                                .zip(&steps)
                                .filter(|(_, step)| step.is_some() || i < l)
                                .filter_map(|((place, [r0, r1]), _)| place.map(|p| (p, &**r0, &**r1)))
                                .collect();
                            let count = self.counts[giant];
                            let of = self.offsets[t][giant] + count * c * chunk * m.w;
                            let diagonals = &self.data[of..of + count * chunk * m.w + 64 - 8 * m.w];
                            let [sum0, sum1] = &mut out[2 * (x * giants + giant)..][..2] else { continue };
                            let own = at * chunk..(at + 1) * chunk;
                            let (sum0, sum1) = (&mut sum0[own.clone()], &mut sum1[own]);
                            simd::diag(diagonals, count, &terms, m.w, m.md, sum0, sum1);
                        }
                    }
                }
            });
        });
        sums
    }

    /// Adds the rotated sums of the other giant steps to that of the first.
    fn giant_steps(&self, context: &RnsContext, keys: &BootstrapKeys, sums: &mut [Vec<Buffer>]) {
        let (n, l) = (context.n, self.level);
        let limbs = context.limbs(l);
        let giants = self.giants.len() - 1;
        if giants == 0 {
            return;
        }
        let seconds: Vec<&[u64]> =
            sums.iter().flat_map(|sum| sum[2..].iter().skip(1).step_by(2)).map(|c1| &**c1).collect();
        let seconds = context.mod_down_prep(&seconds, l);
        let steps: Vec<(&Perm, &SwitchKey)> = self.giants[1..]
            .iter()
            .map(|&rotation| {
                let (g, key) = self.key(context, keys, rotation);
                (&context.perms[&g], key)
            })
            .collect();
        type Job<'a> = ([&'a mut [u64]; 2], Vec<&'a [u64]>);
        let mut jobs: Vec<(usize, Vec<Job>)> = (0..limbs.len()).map(|t| (t, vec![])).collect();
        for sum in sums.iter_mut() {
            let (first, rest) = sum.split_at_mut(2);
            let [sum0, sum1] = first else { continue };
            let pairs = sum0.chunks_exact_mut(n).zip(sum1.chunks_exact_mut(n)).enumerate();
            for (job, (t, (sum0, sum1))) in jobs.iter_mut().zip(pairs) {
                let firsts = rest.iter().step_by(2).map(|c0| lb(c0, t, n)).collect();
                job.1.push(([sum0, sum1], firsts));
            }
        }
        parallel::run(jobs, |(t, sums)| {
            let i = limbs[t];
            let m = &context.m[i];
            let mut converted = context.tmp(context.modup[l].len());
            for (([sum0, sum1], firsts), seconds) in sums.into_iter().zip(seconds.chunks_exact(giants)) {
                for ((first, (c1, prepared)), (perm, key)) in firsts.into_iter().zip(seconds).zip(&steps) {
                    let product = simd::Dot {
                        digs: &context.digits(c1, l, false, prepared, i, &mut converted),
                        key: key.limb(context, i),
                        kd: key.nd,
                        add0: Some((first, m.r)),
                        add1: None,
                        perm: Some(perm),
                        acc: true,
                        range: (0, n / 8),
                        base: 0,
                    };
                    dot(&product, m, sum0, sum1);
                }
            }
        });
    }
}
