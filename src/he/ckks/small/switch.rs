//! The key switch of the small ring: one digit for each prime, one division by the special prime. Twelve transforms for a
//! full ciphertext, six for a narrow one, which uses the second digit of the same keys.

use super::{
    ciphertext::{SmallCiphertext, limb},
    keys::SwitchingKey,
    ring::{DEGREE, KEY_LIMBS, LIMBS, SmallRing, Width},
};
use crate::he::ring::{
    arith::{imod, mulmod},
    buffer::Buffer,
    simd::{self, Perm},
};

/// Limb of the special prime.
pub(crate) const SPECIAL: usize = LIMBS;

/// What is switched: the mask under the old secret, with the body.
pub(crate) struct Switched<'a> {
    pub(crate) ciphertext: &'a SmallCiphertext,
    /// The automorphism that follows.
    pub(crate) automorphism: Option<&'a Perm>,
}

/// A product before its relinearisation, limb after limb, with the factor 1/R.
pub(crate) struct Tensor {
    pub(crate) parts: [Buffer; 3],
}

/// One result of a switch: the switched pair times X^shift, plus ciphertexts times integers, halved so often.
pub(crate) struct Turned<'a> {
    pub(crate) shift: u32,
    pub(crate) terms: &'a [(&'a SmallCiphertext, i64, u32)],
}

/// Working memory of a key switch.
pub(crate) struct Switcher<'a> {
    pub(crate) ring: &'a SmallRing,
    pub(crate) width: Width,
    /// Digits in coefficients, and their multiples of the prime.
    pub(crate) digits: [(Buffer, Buffer); LIMBS],
    pub(crate) lifted: [Buffer; LIMBS],
    /// Digits times key, before the division: by limb, body and mask.
    pub(crate) raised: [[Buffer; 2]; KEY_LIMBS],
    /// What the division takes off.
    pub(crate) remainder: [[Buffer; 2]; LIMBS],
    monomial: Buffer,
    turned: [Buffer; 2],
    pub(crate) junk: Buffer,
}

fn buffers<T, const K: usize>(f: impl Fn() -> T) -> [T; K] {
    std::array::from_fn(|_| f())
}

impl<'a> Switcher<'a> {
    pub(crate) fn new(ring: &'a SmallRing, width: Width) -> Self {
        let buffer = || Buffer::new(DEGREE);
        Switcher {
            ring,
            width,
            digits: buffers(|| (buffer(), buffer())),
            lifted: buffers(buffer),
            raised: buffers(|| buffers(buffer)),
            remainder: buffers(|| buffers(buffer)),
            monomial: buffer(),
            turned: buffers(buffer),
            junk: buffer(),
        }
    }

    /// A limb's digit d, a polynomial of the transform domain, in coefficients.
    fn digit(&mut self, d: usize, source: &[u64], is_product: bool) {
        let context = &self.ring.context;
        let conversion = &context.modup[LIMBS][d];
        let (digit, multiple) = &mut self.digits[d];
        context.inv_to(d, source, digit);
        let constants = if is_product { &conversion.y_t } else { &conversion.y };
        simd::mulc_in(digit, constants[0], context.m[d].md);
        simd::round(&[digit], &conversion.inv, multiple);
    }

    /// Digit d in another limb, transformed.
    pub(crate) fn lift(&mut self, d: usize, i: usize) {
        let context = &self.ring.context;
        let (digit, multiple) = &self.digits[d];
        simd::bconv(&[digit], multiple, &context.modup[LIMBS][d].c[i], context.m[i].md, &mut self.lifted[d]);
        context.fwd(i, &mut self.lifted[d]);
    }

    /// Digits times key in limb i, plus constants times `add`. The digit of limb i itself is `own`, or was lifted.
    pub(crate) fn multiply(
        &mut self,
        key: &SwitchingKey,
        i: usize,
        own: Option<&[u64]>,
        add: [Option<(&[u64], u64)>; 2],
        perm: Option<&Perm>,
    ) {
        let m = &self.ring.context.m[i];
        let limbs = self.width.limbs();
        let digs: [&[u64]; LIMBS] = std::array::from_fn(|d| match own {
            Some(own) if d == i => own,
            _ => &self.lifted[d][..],
        });
        let [body, mask] = &mut self.raised[i];
        // A narrow ciphertext has the last digit only: it comes second in the key's stream.
        let from = key.key.off[i] + limbs.start * 2 * 8 * m.w;
        let dot = simd::Dot {
            digs: &digs[limbs],
            key: &key.key.data[from..],
            kd: key.key.nd,
            add0: add[0],
            add1: add[1],
            perm,
            acc: false,
            range: (0, DEGREE / 8),
            base: 0,
        };
        simd::dot(&dot, m.w, m.md, body, mask);
    }

    /// Digits times key of a ciphertext's mask (or of a product's last part), and the remainders modulo the special prime.
    fn prepare(&mut self, key: &SwitchingKey, x: &Switched<'_>) {
        let context = &self.ring.context;
        let special = context.m[SPECIAL].p;
        for d in self.width.limbs() {
            self.digit(d, x.ciphertext.limbs(d)[1], false);
        }
        for i in self.width.limbs().chain([SPECIAL]) {
            for d in self.width.limbs().filter(|&d| d != i) {
                self.lift(d, i);
            }
            if i == SPECIAL {
                self.multiply(key, i, None, [None; 2], x.automorphism);
                continue;
            }
            let [body, mask] = x.ciphertext.limbs(i);
            let m = &context.m[i];
            let add = [Some((body, m.mont(special % m.p))), None];
            self.multiply(key, i, Some(mask), add, x.automorphism);
        }
        self.divide();
    }

    /// The same for a full product.
    fn prepare_product(&mut self, key: &SwitchingKey, x: &Tensor) {
        let context = &self.ring.context;
        let special = context.m[SPECIAL].p;
        for d in 0..LIMBS {
            self.digit(d, limb(&x.parts[2], d), true);
        }
        for i in 0..KEY_LIMBS {
            for d in (0..LIMBS).filter(|&d| d != i) {
                self.lift(d, i);
            }
            if i == SPECIAL {
                self.multiply(key, i, None, [None; 2], None);
                continue;
            }
            let m = &context.m[i];
            // R² instead of R: takes the product's 1/R away.
            simd::mulc(limb(&x.parts[2], i), m.r2, m.md, &mut self.lifted[i]);
            let raise = mulmod(special % m.p, m.r2, m.p);
            let add = [0, 1].map(|k| Some((limb(&x.parts[k], i), raise)));
            self.multiply(key, i, None, add, None);
        }
        self.divide();
    }

    /// What has to be subtracted before the division by the special prime.
    fn divide(&mut self) {
        let context = &self.ring.context;
        let conversion = &context.moddown[LIMBS][0];
        for k in 0..2 {
            let (digit, multiple) = &mut self.digits[0];
            context.inv_to(SPECIAL, &self.raised[SPECIAL][k], digit);
            simd::mulc_in(digit, conversion.y[0], context.m[SPECIAL].md);
            simd::round(&[digit], &conversion.inv, multiple);
            for i in self.width.limbs() {
                let remainder = &mut self.remainder[i][k];
                simd::bconv(&[digit], multiple, &conversion.c[i], context.m[i].md, remainder);
                context.fwd(i, remainder);
            }
        }
    }

    fn write(&self, out: &mut SmallCiphertext) {
        let context = &self.ring.context;
        for i in self.width.limbs() {
            let inverse = context.moddown[LIMBS][0].sinv[i];
            for (k, out) in out.limbs_mut(i).into_iter().enumerate() {
                simd::subc(&self.raised[i][k], &self.remainder[i][k], inverse, context.m[i].md, out);
            }
        }
    }

    /// Switches a ciphertext.
    pub(crate) fn switch(&mut self, key: &SwitchingKey, x: &Switched<'_>, out: &mut SmallCiphertext) {
        self.prepare(key, x);
        self.write(out);
    }

    /// Relinearises a full product.
    pub(crate) fn relinearise(&mut self, key: &SwitchingKey, x: &Tensor, out: &mut SmallCiphertext) {
        self.prepare_product(key, x);
        self.write(out);
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
        for i in self.width.limbs() {
            let m = &ring.context.m[i];
            let inverse = ring.context.moddown[LIMBS][0].sinv[i];
            let negated = |c: u64| (m.p - c) % m.p;
            let mut is_divided = false;
            for (result, out) in results.iter_mut() {
                let mut constants: [([&[u64]; 2], u64); 4] = [([ring.zero(); 2], 0); 4];
                let count = result.terms.len();
                for (constant, &(term, factor, halvings)) in constants.iter_mut().zip(result.terms) {
                    let factor = imod(factor.into(), m.p);
                    *constant = (term.limbs(i), m.mont(mulmod(factor, ring.halved(i, halvings), m.p)));
                }
                if result.shift.is_multiple_of(DEGREE as u32) {
                    let is_negative = !result.shift.is_multiple_of(2 * DEGREE as u32);
                    let factor = if is_negative { negated(inverse) } else { inverse };
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
