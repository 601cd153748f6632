//! Into the large ring and out of it: Σ X^i·ct_i(X^8) interleaves eight small rings, the secret becoming s(X^8).

use super::{
    super::ciphertext::Ciphertext,
    super::params::RINGS,
    ciphertext::{SmallCiphertext, limb_mut},
    ring::{DEGREE, LIMBS, SmallRing, Width},
};
use crate::he::{
    error::HeError,
    ring::{
        arith::{invmod, mulmod},
        buffer::Buffer,
        context::RnsContext,
        key_switch::lb,
        parallel, simd,
    },
};
use std::sync::Arc;

/// The large ring interleaves eight small ones over the same first primes.
fn check(operation: &'static str, ring: &SmallRing, large: &RnsContext, limbs: usize) -> Result<(), HeError> {
    if large.n != RINGS * DEGREE {
        let (what, got) = ("coefficients of the large ring", large.n);
        return Err(HeError::Count { operation, what, got, expected: RINGS * DEGREE });
    }
    let is_same = large.m.iter().zip(&ring.context.m).take(limbs).all(|(a, b)| a.p == b.p);
    if !is_same {
        let (left, right) = ("another large ring", ring.profile.name);
        return Err(HeError::ProfileMismatch { operation, left, right });
    }
    Ok(())
}

/// A polynomial divided by q1 and rounded: coefficients modulo q0. A narrow one is multiplied by q0 before, so that its phase
/// becomes the same fraction of q0 that it was of q1.
fn rescaled(x: &SmallCiphertext, which: usize, out: &mut [u64]) {
    let context = &x.ring.context;
    let conversion = &context.resc[LIMBS];
    let (m0, m1) = (&context.m[0], &context.m[1]);
    let [mut digit, mut multiple, mut rest, mut low] = std::array::from_fn(|_| Buffer::new(DEGREE));
    context.inv_to(1, x.limbs(1)[which], &mut digit);
    let factor = if x.width == Width::Full { 1 } else { m0.p % m1.p };
    simd::mulc_in(&mut digit, mulmod(conversion.y[0], factor, m1.p), m1.md);
    simd::round(&[&digit], &conversion.inv, &mut multiple);
    simd::bconv(&[&digit], &multiple, &conversion.c[0], m0.md, &mut rest);
    if x.width == Width::Full {
        context.inv_to(0, x.limbs(0)[which], &mut low);
        simd::mulc_in(&mut low, m0.mont(invmod(DEGREE as u64, m0.p)), m0.md);
    } else {
        low.fill(0);
    }
    simd::subc(&low, &rest, conversion.sinv[0], m0.md, out);
}

/// Divides up to eight ciphertexts, of any width, down to q0 and interleaves them into one of the large ring, modulo q0: what a bootstrap reads.
/// Coefficient j of ring i becomes coefficient 8·j + i. Adds [`super::noise::rescale_error`].
///
/// # Errors
/// The rings differ, or there is none.
pub fn embed(large: &RnsContext, rings: [Option<&SmallCiphertext>; RINGS]) -> Result<Ciphertext, HeError> {
    const DOING: &str = "embedding";
    let missing = HeError::Count { operation: DOING, what: "ciphertexts", got: 0, expected: 1 };
    let ring = &rings.iter().flatten().next().ok_or(missing)?.ring;
    check(DOING, ring, large, 1)?;
    for x in rings.iter().flatten() {
        x.check_ring(DOING, ring)?;
    }
    let interleaved = |which: usize| {
        let mut small = Buffer::new(large.n);
        let jobs: Vec<_> = small.chunks_exact_mut(DEGREE).zip(rings).collect();
        parallel::run(jobs, |(out, x)| match x {
            Some(x) => rescaled(x, which, out),
            None => out.fill(0),
        });
        let mut all = Buffer::new(large.n);
        for (j, lane) in all.chunks_exact_mut(RINGS).enumerate() {
            for (i, x) in lane.iter_mut().enumerate() {
                *x = small[i * DEGREE + j];
            }
        }
        large.fwd(0, &mut all);
        all
    };
    let (body, mask) = parallel::join(|| interleaved(0), || interleaved(1));
    Ok(Ciphertext { c: [body, mask], l: 1, scale: large.m[0].p as f64 })
}

/// The eight ciphertexts of the small ring in one of the large ring, modulo q0·q1 and under the embedded small secret:
/// what a bootstrap puts out. Exact.
///
/// # Errors
/// The rings differ, or the ciphertext has another number of limbs.
pub fn extract(
    ring: &Arc<SmallRing>,
    large: &RnsContext,
    x: &Ciphertext,
) -> Result<Vec<SmallCiphertext>, HeError> {
    const DOING: &str = "extraction";
    check(DOING, ring, large, LIMBS)?;
    if x.l != LIMBS {
        let (what, got) = ("limbs of the ciphertext", x.l);
        return Err(HeError::Count { operation: DOING, what, got, expected: LIMBS });
    }
    let mut coefficients: [[Buffer; LIMBS]; 2] =
        std::array::from_fn(|_| std::array::from_fn(|_| Buffer::new(large.n)));
    let jobs: Vec<_> = coefficients
        .iter_mut()
        .zip(&x.c)
        .flat_map(|(limbs, from)| limbs.iter_mut().enumerate().map(move |(i, to)| (i, from, to)))
        .collect();
    parallel::run(jobs, |(i, from, to)| {
        let m = &large.m[i];
        large.inv_to(i, lb(from, i, large.n), to);
        simd::mulc_in(to, m.mont(invmod(large.n as u64, m.p)), m.md);
    });
    let mut rings: Vec<_> = (0..RINGS).map(|_| SmallCiphertext::unwritten(ring, Width::Full)).collect();
    parallel::run(rings.iter_mut().enumerate().collect(), |(r, small): (usize, &mut SmallCiphertext)| {
        for (to, limbs) in small.polynomials.iter_mut().zip(&coefficients) {
            for (i, from) in limbs.iter().enumerate() {
                let to = limb_mut(to, i);
                for (y, lane) in to.iter_mut().zip(from.chunks_exact(RINGS)) {
                    *y = lane[r];
                }
                ring.context.fwd(i, to);
            }
        }
    });
    Ok(rings)
}
