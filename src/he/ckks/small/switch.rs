//! The key switch of the small ring: two digits of one prime each, one division by the special prime. Twelve transforms.

use super::{
    ciphertext::{SmallCiphertext, limb},
    keys::SwitchingKey,
    ring::{DEGREE, KEY_LIMBS, LIMBS, SmallRing},
};
use crate::he::ring::{
    arith::{imod, mulmod},
    buffer::Buffer,
    simd::{self, Perm},
};

/// Limb of the special prime.
const SPECIAL: usize = LIMBS;

/// Which polynomial is switched, and what goes with it through the division.
pub(crate) struct Switched<'a> {
    /// The polynomial under the old secret, limb after limb.
    pub(crate) mask: &'a [u64],
    /// What is added to body and mask, limb after limb.
    pub(crate) add: [Option<&'a [u64]>; 2],
    /// Whether all residues carry the factor 1/R of products.
    pub(crate) is_product: bool,
    /// The automorphism that follows.
    pub(crate) automorphism: Option<&'a Perm>,
}

/// One result of a switch: constants times body and mask of ciphertexts, and the switched pair turned by X^shift.
pub(crate) struct Turned<'a> {
    pub(crate) shift: u32,
    /// Ciphertexts and public integers.
    pub(crate) terms: &'a [(&'a SmallCiphertext, i64, u32)],
}

/// Working memory of a key switch; one for each thread.
pub(crate) struct Switcher<'a> {
    ring: &'a SmallRing,
    /// Digits in coefficients, and their multiples of the prime.
    digits: [(Buffer, Buffer); LIMBS],
    lifted: [Buffer; LIMBS],
    /// Digits times key, before the division: by limb, body and mask.
    raised: [[Buffer; 2]; KEY_LIMBS],
    /// What the division takes off.
    remainder: [[Buffer; 2]; LIMBS],
    monomial: Buffer,
    turned: [Buffer; 2],
    junk: Buffer,
}

fn buffers<T, const K: usize>(f: impl Fn() -> T) -> [T; K] {
    std::array::from_fn(|_| f())
}

impl<'a> Switcher<'a> {
    pub(crate) fn new(ring: &'a SmallRing) -> Self {
        let buffer = || Buffer::new(DEGREE);
        Switcher {
            ring,
            digits: buffers(|| (buffer(), buffer())),
            lifted: buffers(buffer),
            raised: buffers(|| buffers(buffer)),
            remainder: buffers(|| buffers(buffer)),
            monomial: buffer(),
            turned: buffers(buffer),
            junk: buffer(),
        }
    }

    /// Digits times key, and the remainders modulo the special prime.
    fn prepare(&mut self, key: &SwitchingKey, x: &Switched<'_>) {
        let context = &self.ring.context;
        for (d, (digit, multiple)) in self.digits.iter_mut().enumerate() {
            let conversion = &context.modup[LIMBS][d];
            let constants = if x.is_product { &conversion.y_t } else { &conversion.y };
            context.inv_to(d, limb(x.mask, d), digit);
            simd::mulc_in(digit, constants[0], context.m[d].md);
            simd::round(&[digit], &conversion.inv, multiple);
        }
        let special = context.m[SPECIAL].p;
        for (i, [body, mask]) in self.raised.iter_mut().enumerate() {
            let m = &context.m[i];
            for (d, (lifted, (digit, multiple))) in self.lifted.iter_mut().zip(&self.digits).enumerate() {
                if d != i {
                    simd::bconv(&[digit], multiple, &context.modup[LIMBS][d].c[i], m.md, lifted);
                    context.fwd(i, lifted);
                } else if x.is_product {
                    simd::mulc(limb(x.mask, i), m.r2, m.md, lifted);
                }
            }
            let digs: [&[u64]; LIMBS] = std::array::from_fn(|d| {
                if d == i && !x.is_product { limb(x.mask, i) } else { &self.lifted[d][..] }
            });
            let raise = mulmod(special % m.p, if x.is_product { m.r2 } else { m.r }, m.p);
            let add = |k: usize| x.add[k].filter(|_| i < LIMBS).map(|a| (limb(a, i), raise));
            let dot = simd::Dot {
                digs: &digs,
                key: key.key.limb(context, i),
                kd: key.key.nd,
                add0: add(0),
                add1: add(1),
                perm: x.automorphism,
                acc: false,
                range: (0, DEGREE / 8),
                base: 0,
            };
            simd::dot(&dot, m.w, m.md, body, mask);
        }
        let conversion = &context.moddown[LIMBS][0];
        for k in 0..2 {
            let (digit, multiple) = &mut self.digits[0];
            context.inv_to(SPECIAL, &self.raised[SPECIAL][k], digit);
            simd::mulc_in(digit, conversion.y[0], context.m[SPECIAL].md);
            simd::round(&[digit], &conversion.inv, multiple);
            for (i, remainder) in self.remainder.iter_mut().enumerate() {
                simd::bconv(&[digit], multiple, &conversion.c[i], context.m[i].md, &mut remainder[k]);
                context.fwd(i, &mut remainder[k]);
            }
        }
    }

    /// Switches and writes the result.
    pub(crate) fn switch(&mut self, key: &SwitchingKey, x: &Switched<'_>, out: &mut SmallCiphertext) {
        self.prepare(key, x);
        let context = &self.ring.context;
        for i in 0..LIMBS {
            let inverse = context.moddown[LIMBS][0].sinv[i];
            for (k, out) in out.limbs_mut(i).into_iter().enumerate() {
                simd::subc(&self.raised[i][k], &self.remainder[i][k], inverse, context.m[i].md, out);
            }
        }
    }

    /// Switches once and writes several results: each the switched pair, turned, and a combination of ciphertexts.
    pub(crate) fn switch_turned(
        &mut self,
        key: &SwitchingKey,
        x: &Switched<'_>,
        results: &mut [(Turned<'_>, &mut SmallCiphertext)],
    ) {
        self.prepare(key, x);
        let Switcher { ring, raised, remainder, monomial, turned, junk, .. } = self;
        for i in 0..LIMBS {
            let m = &ring.context.m[i];
            let inverse = ring.context.moddown[LIMBS][0].sinv[i];
            let negated = |c: u64| (m.p - c) % m.p;
            let mut is_divided = false;
            for (result, out) in results.iter_mut() {
                let mut constants: [([&[u64]; 2], u64); 4] = [([ring.zero(); 2], 0); 4];
                let mut count = 0;
                for &(term, factor, halvings) in result.terms {
                    let factor = imod(factor.into(), m.p);
                    constants[count] = (term.limbs(i), m.mont(mulmod(factor, ring.halved(i, halvings), m.p)));
                    count += 1;
                }
                let sign = result.shift % (2 * DEGREE as u32);
                if sign % DEGREE as u32 == 0 {
                    let factor = if sign == 0 { inverse } else { negated(inverse) };
                    constants[count] = ([&raised[i][0], &raised[i][1]], factor);
                    constants[count + 1] = ([&remainder[i][0], &remainder[i][1]], negated(factor));
                    ring.combine(i, &[], &constants[..count + 2], out.limbs_mut(i), junk);
                    continue;
                }
                if !std::mem::replace(&mut is_divided, true) {
                    for (k, turned) in turned.iter_mut().enumerate() {
                        simd::subc(&raised[i][k], &remainder[i][k], inverse, m.md, turned);
                    }
                }
                ring.monomial(i, result.shift, 1, monomial);
                let product = [(&monomial[..], [&turned[0][..], &turned[1][..]])];
                ring.combine(i, &product, &constants[..count], out.limbs_mut(i), junk);
            }
        }
    }
}
