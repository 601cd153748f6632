//! Sums of products: tensor products accumulated lazily, one relinearisation.

use super::{
    ciphertext::{SmallCiphertext, limb},
    keys::SmallKeys,
    ring::{DEGREE, LIMBS, Width, add_in},
    switch::{SPECIAL, Switcher, Tensor},
};
use crate::he::{
    error::HeError,
    ring::{
        arith::{invmod, mulmod},
        buffer::Buffer,
        parallel, simd,
    },
};

const DOING: &str = "product";

/// Words of a limb that are worked on at a time: three polynomials of them stay in the first-level cache.
const CHUNK: usize = 512;
/// From so many products on, the chunks of a sum are shared among the threads.
const SEVERAL: usize = 8;
/// Products before one Montgomery reduction.
const LAZY: usize = 4;

impl SmallKeys {
    /// The sum of products of full ciphertexts, relinearised once and not rescaled: noise as
    /// [`product_units`](super::noise::product_units).
    ///
    /// # Errors
    /// No product, or a ciphertext of another ring or width.
    pub fn product_sum(
        &self,
        products: &[(&SmallCiphertext, &SmallCiphertext)],
    ) -> Result<SmallCiphertext, HeError> {
        let tensor = self.tensor(products)?;
        let mut sum = SmallCiphertext::unwritten(&self.ring, Width::Full);
        Switcher::new(&self.ring, Width::Full).relinearise(&self.relinearisation, &tensor, &mut sum);
        Ok(sum)
    }

    /// The same, divided by q0 in one go with the relinearisation: for what is only read by a bootstrap. Adds
    /// [`narrow_error`](super::noise::narrow_error).
    ///
    /// # Errors
    /// No product, or a ciphertext of another ring or width.
    pub fn product_sum_narrow(
        &self,
        products: &[(&SmallCiphertext, &SmallCiphertext)],
    ) -> Result<SmallCiphertext, HeError> {
        let tensor = self.tensor(products)?;
        let mut sum = SmallCiphertext::unwritten(&self.ring, Width::Narrow);
        Switcher::new(&self.ring, Width::Narrow).relinearise_narrow(&self.relinearisation, &tensor, &mut sum);
        Ok(sum)
    }

    /// Σ (a0·b0, a0·b1 + a1·b0, a1·b1), with the factor 1/R.
    fn tensor(&self, products: &[(&SmallCiphertext, &SmallCiphertext)]) -> Result<Tensor, HeError> {
        if products.is_empty() {
            return Err(HeError::Count { operation: DOING, what: "products", got: 0, expected: 1 });
        }
        for x in products.iter().flat_map(|(a, b)| [a, b]) {
            x.check_ring(DOING, &self.ring)?;
            x.check_width(DOING, Width::Full)?;
        }
        let mut sums: [Buffer; 3] = std::array::from_fn(|_| Buffer::new(LIMBS * DEGREE));
        let [s0, s1, s2] = &mut sums;
        let chunks =
            s0.chunks_exact_mut(CHUNK).zip(s1.chunks_exact_mut(CHUNK)).zip(s2.chunks_exact_mut(CHUNK));
        let jobs = chunks.enumerate().map(|(at, ((s0, s1), s2))| (at * CHUNK, [s0, s1, s2]));
        let work = |(at, sums)| self.tensor_chunk(products, at, sums);
        if products.len() < SEVERAL {
            jobs.for_each(work);
        } else {
            parallel::run(jobs.collect(), work);
        }
        Ok(Tensor { parts: sums })
    }

    /// The words of a tensor product from `at` on, counted over the limbs.
    fn tensor_chunk(
        &self,
        products: &[(&SmallCiphertext, &SmallCiphertext)],
        at: usize,
        [s0, s1, s2]: [&mut [u64]; 3],
    ) {
        let m = &self.ring.context.m[at / DEGREE];
        let mut parts: [Buffer; 3] = std::array::from_fn(|_| Buffer::new(CHUNK));
        let empty: [&[u64]; 2] = [&[], &[]];
        for (g, group) in products.chunks(LAZY).enumerate() {
            let mut lazy = [(empty, empty); LAZY];
            for (pair, (a, b)) in lazy.iter_mut().zip(group) {
                *pair = (words(a, at), words(b, at));
            }
            let sum = simd::Sum { prods: &lazy[..group.len()], lins: &[], cst: [0; 2], dbl: false };
            if g == 0 {
                simd::sum(&sum, m.md, s0, s1, s2);
                continue;
            }
            let [p0, p1, p2] = &mut parts;
            simd::sum(&sum, m.md, p0, p1, p2);
            for (s, p) in [(&mut *s0, p0), (&mut *s1, p1), (&mut *s2, p2)] {
                add_in(s, p, m.p);
            }
        }
    }
}

/// A chunk of body and mask.
fn words(x: &SmallCiphertext, at: usize) -> [&[u64]; 2] {
    x.polynomials.each_ref().map(|p| &p[at..at + CHUNK])
}

impl Switcher<'_> {
    /// Divides a product by q0 and relinearises it: the last part is divided first, in coefficients, the others together with
    /// what the key switch brings. Ten transforms.
    fn relinearise_narrow(&mut self, key: &super::keys::SwitchingKey, x: &Tensor, out: &mut SmallCiphertext) {
        let context = &self.ring.context;
        let (m0, m1) = (&context.m[0], &context.m[1]);
        let low = &context.modup[LIMBS][0];
        let by_low = invmod(m0.p, m1.p);
        // The last part modulo q1, in coefficients.
        let [(low_digit, low_multiple), (digit, multiple)] = &mut self.digits;
        context.inv_to(0, limb(&x.parts[2], 0), low_digit);
        simd::mulc_in(low_digit, low.y_t[0], m0.md);
        simd::round(&[low_digit], &low.inv, low_multiple);
        simd::bconv(&[low_digit], low_multiple, &low.c[1], m1.md, &mut self.junk);
        context.inv_to(1, limb(&x.parts[2], 1), &mut self.lifted[0]);
        simd::mulc_in(&mut self.lifted[0], context.modup[LIMBS][1].y_t[0], m1.md);
        simd::subc(&self.lifted[0], &self.junk, m1.mont(by_low), m1.md, digit);
        simd::round(&[digit], &context.modup[LIMBS][1].inv, multiple);
        // Its product with the key, modulo q1 and the special prime.
        self.lifted[0].copy_from_slice(&self.digits[1].0);
        context.fwd(1, &mut self.lifted[0]);
        let own = std::mem::replace(&mut self.lifted[0], Buffer::new(DEGREE));
        self.multiply(key, 1, Some(&own), [None; 2], None);
        self.lift(1, SPECIAL);
        self.multiply(key, SPECIAL, None, [None; 2], None);
        // The remainders of both divisions, in one transform.
        let by_special = context.moddown[LIMBS][0].sinv[1];
        let down = &context.moddown[LIMBS][0];
        let by_low = m1.mont(by_low);
        let over = |c: u64, by: u64| mulmod(mulmod(c, invmod(m1.r, m1.p), m1.p), by, m1.p);
        for k in 0..2 {
            let [(low_digit, low_multiple), (digit, multiple)] = &mut self.digits;
            context.inv_to(0, limb(&x.parts[k], 0), low_digit);
            simd::mulc_in(low_digit, low.y_t[0], m0.md);
            simd::round(&[low_digit], &low.inv, low_multiple);
            context.inv_to(SPECIAL, &self.raised[SPECIAL][k], digit);
            simd::mulc_in(digit, down.y[0], context.m[SPECIAL].md);
            simd::round(&[digit], &down.inv, multiple);
            let constants = [
                over(low.c[1][0], by_low),
                over(low.c[1][1], by_low),
                over(down.c[1][0], by_special),
                over(down.c[1][1], by_special),
            ];
            let remainder = &mut self.remainder[1][k];
            simd::bconv(&[low_digit, low_multiple, digit], multiple, &constants, m1.md, remainder);
            context.fwd(1, remainder);
        }
        let terms = [
            ([&self.raised[1][0][..], &self.raised[1][1][..]], by_special),
            ([limb(&x.parts[0], 1), limb(&x.parts[1], 1)], mulmod(by_low, m1.r, m1.p)),
            ([&self.remainder[1][0][..], &self.remainder[1][1][..]], m1.mont(m1.p - 1)),
        ];
        self.ring.combine(1, &[], &terms, out.limbs_mut(1), &mut self.junk);
    }
}
