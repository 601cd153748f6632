//! Into and out of the large ring: switches with a small modulus, and the modulus raise.

use super::{
    ciphertext::Ciphertext,
    keys::{BootstrapKeys, KeyId},
};
use crate::he::ring::{
    buffer::Buffer,
    context::RnsContext,
    key_switch::{SwitchKey, dot, lb},
    parallel, simd,
};

impl RnsContext {
    /// A key switch with the first special prime alone and one digit per limb (at most two), for secrets under which the
    /// modulus has to stay small: the sparse one, and one that lives in a subring.
    pub(crate) fn small_switch(&self, key: &SwitchKey, x: &Ciphertext) -> Ciphertext {
        let (n, l, special) = (self.n, x.l.min(self.single.len()), self.l);
        let digits: Vec<(Buffer, Buffer)> = self.single[..l]
            .iter()
            .enumerate()
            .map(|(d, conversion)| self.conv_prep(conversion, false, |_| lb(&x.c[1], d, n)))
            .collect();
        let mut sums: Vec<[Buffer; 2]> = (0..=l).map(|_| [Buffer::new(n), Buffer::new(n)]).collect();
        let jobs: Vec<_> = sums.iter_mut().zip((0..l).chain([special])).collect();
        parallel::run(jobs, |([sum0, sum1], i)| {
            let mut converted = self.tmp(l);
            let digits: Vec<&[u64]> = converted
                .iter_mut()
                .enumerate()
                .map(|(d, t)| {
                    if i == d {
                        return lb(&x.c[1], d, n);
                    }
                    self.conv_limb(&self.single[d], &digits[d].0, &digits[d].1, i, t);
                    &**t
                })
                .collect();
            let m = &self.m[i];
            let factor = m.mont(self.m[special].p % m.p);
            let product = simd::Dot {
                digs: &digits,
                key: key.limb(self, i),
                kd: key.nd,
                add0: (i < l).then(|| (lb(&x.c[0], i, n), factor)),
                add1: None,
                perm: None,
                acc: false,
                range: (0, n / 8),
                base: 0,
            };
            dot(&product, m, sum0, sum1);
        });
        let conversion = &self.d2s_down;
        let half = |k: usize| {
            let (ys, v) = self.conv_prep(conversion, false, |_| &sums[l][k]);
            let mut out = Buffer::new(n * l);
            parallel::run(out.chunks_exact_mut(n).enumerate().collect(), |(i, o)| {
                self.conv_divided(conversion, &ys, &v, i, &sums[i][k], &mut Buffer::new(n), o);
            });
            out
        };
        let (c0, c1) = parallel::join(|| half(0), || half(1));
        Ciphertext { c: [c0, c1], l, scale: x.scale }
    }

    /// Raises a ciphertext of one limb under the embedded small secret to all limbs under the dense one: its value then is
    /// t + I with a small integer I, since the raise happens under the sparse secret (Bossuat, Troncoso-Pastoriza, Hubaux,
    /// ACNS 2022).
    pub(crate) fn raise(&self, keys: &BootstrapKeys, x: &Ciphertext) -> Ciphertext {
        let (n, top) = (self.n, self.l);
        let c = self.small_switch(keys.key(KeyId::EmbeddedToSparse), x).c;
        let lift = |x: &Buffer| self.conv_prep(&self.raise, false, |_| &**x);
        let lifted = <[(Buffer, Buffer); 2]>::from(parallel::join(|| lift(&c[0]), || lift(&c[1])));
        let limbs = self.limbs(top);
        let key = keys.key(KeyId::SparseToDense);
        let mut sums = [Buffer::new(n * limbs.len()), Buffer::new(n * limbs.len())];
        let [sum0, sum1] = &mut sums;
        let jobs: Vec<_> = sum0.chunks_exact_mut(n).zip(sum1.chunks_exact_mut(n)).zip(&limbs).collect();
        parallel::run(jobs, |((sum0, sum1), &i)| {
            let mut x = [Buffer::new(n), Buffer::new(n)];
            for ((x, c), (ys, v)) in x.iter_mut().zip(&c).zip(&lifted) {
                if i == 0 {
                    x.copy_from_slice(c);
                } else {
                    self.conv_limb(&self.raise, ys, v, i, x);
                }
            }
            let m = &self.m[i];
            let factor = m.mont(self.pmod(i));
            let product = simd::Dot {
                digs: &[&x[1]],
                key: key.limb(self, i),
                kd: key.nd,
                add0: (i < top).then_some((&x[0], factor)),
                add1: None,
                perm: None,
                acc: false,
                range: (0, n / 8),
                base: 0,
            };
            dot(&product, m, sum0, sum1);
        });
        let [sum0, sum1] = &sums;
        let (c0, c1) = parallel::join(|| self.mod_down(sum0, top, false), || self.mod_down(sum1, top, false));
        Ciphertext { c: [c0, c1], l: top, scale: x.scale }
    }
}
