//! Base conversions and divisions against big integers.

use num_bigint::BigInt;

use super::{Numbers, large_chain, small_ring};
use crate::he::ring::{
    arith::imod,
    buffer::Buffer,
    context::{BaseConversion, RnsContext},
    simd::Isa,
};

/// The limbs (transform domain) of integers, in these primes.
fn limbs_of(ring: &RnsContext, x: &[BigInt], limbs: &[usize]) -> Buffer {
    let mut b = Buffer::new(ring.n * limbs.len());
    for (c, &i) in b.chunks_exact_mut(ring.n).zip(limbs) {
        for (c, x) in c.iter_mut().zip(x) {
            *c = residue(x, ring.m[i].p);
        }
        ring.fwd(i, c);
    }
    b
}
fn residue(x: &BigInt, p: u64) -> u64 {
    let r: BigInt = ((x % p) + p) % p;
    r.iter_u64_digits().next().unwrap_or(0)
}
fn product(ring: &RnsContext, from: &[usize]) -> BigInt {
    from.iter().map(|&j| BigInt::from(ring.m[j].p)).product()
}

/// Integers in [−S/2, S/2]: extremes, next to ties, multiples of single primes, uniform.
fn inputs(ring: &RnsContext, from: &[usize], seed: u64) -> Vec<BigInt> {
    let s = product(ring, from);
    let half: BigInt = &s / 2;
    let mut numbers = Numbers(seed);
    let mut x: Vec<BigInt> = (0..ring.n)
        .map(|_| from.iter().fold(BigInt::ZERO, |x, _| (x << 64) + numbers.next()) % &s - &half)
        .collect();
    for (i, v) in [0i64, 1, -1, 2, -2].into_iter().enumerate() {
        x[i] = BigInt::from(v);
    }
    // where the floating-point sum can tell which side a tie is on, the result is the centred one
    let away: BigInt = &s >> 40;
    x[5] = &half - &away;
    x[6] = -(&half - &away);
    for (i, &j) in from.iter().enumerate() {
        x[7 + i] = &half / ring.m[j].p * ring.m[j].p - &away;
    }
    x
}

fn check_conversion(ring: &RnsContext, cv: &BaseConversion) {
    let n = ring.n;
    let x = inputs(ring, &cv.from, 1);
    let src = limbs_of(ring, &x, &cv.from);
    let position = |j: usize| cv.from.iter().position(|&f| f == j).unwrap();
    let (y, v) = ring.conv_prep(cv, false, |j| &src[position(j) * n..][..n]);
    let mut out = Buffer::new(n);
    for i in (0..ring.m.len()).filter(|i| !cv.from.contains(i)) {
        ring.conv_limb(cv, &y, &v, i, &mut out);
        ring.inv(i, &mut out);
        let p = ring.m[i].p;
        let wrong = x.iter().zip(out.iter()).position(|(x, &o)| residue(&(x * n), p) != o);
        assert_eq!(wrong, None, "from {:?} to {p}", cv.from);
    }
}

#[test]
fn conversions_are_exact_and_centred() {
    for isa in Isa::available() {
        let ring = small_ring(isa);
        check_conversion(&ring, &ring.raise);
        check_conversion(&ring, &ring.d2s_down);
        check_conversion(&ring, &ring.single[1]);
        for row in 0..3 {
            let ring = large_chain(row, 6, isa);
            for level in [1, 2, ring.l / 2, ring.l] {
                ring.modup[level]
                    .iter()
                    .chain(&ring.moddown[level])
                    .for_each(|cv| check_conversion(&ring, cv));
                check_conversion(&ring, &ring.resc[level]);
            }
        }
    }
}

#[test]
fn next_to_a_tie_the_result_is_one_of_the_two_neighbours() {
    let ring = large_chain(2, 6, Isa::best());
    for cv in &ring.modup[ring.l] {
        let n = ring.n;
        let s = product(&ring, &cv.from);
        let x: Vec<BigInt> = (0..n).map(|i| &s / 2u32 + BigInt::from(i) - n / 2).collect();
        let src = limbs_of(&ring, &x, &cv.from);
        let (y, v) = ring.conv_prep(cv, false, |j| &src[(j - cv.from[0]) * n..][..n]);
        let i = if cv.from.contains(&0) { ring.l } else { 0 };
        let p = ring.m[i].p;
        let mut out = Buffer::new(n);
        ring.conv_limb(cv, &y, &v, i, &mut out);
        ring.inv(i, &mut out);
        for (x, &o) in x.iter().zip(out.iter()) {
            let choices = [residue(&(x * n), p), residue(&((x - &s) * n), p)];
            assert!(choices.contains(&o));
        }
    }
}

#[test]
fn a_factor_of_montgomery_form_is_taken_out() {
    let ring = large_chain(0, 6, Isa::best());
    let n = ring.n;
    let cv = &ring.modup[ring.l][1];
    let src = limbs_of(&ring, &inputs(&ring, &cv.from, 3), &cv.from);
    // times 1/R, as products of ciphertexts have it
    let mut tainted = src.clone();
    for (c, &j) in tainted.chunks_exact_mut(n).zip(&cv.from) {
        crate::he::ring::simd::mulc_in(c, 1, ring.m[j].md);
    }
    let at = |b: &'_ Buffer, j: usize| -> Vec<u64> { b[(j - cv.from[0]) * n..][..n].to_vec() };
    let plain: Vec<_> = cv.from.iter().map(|&j| at(&src, j)).collect();
    let other: Vec<_> = cv.from.iter().map(|&j| at(&tainted, j)).collect();
    let (y, v) = ring.conv_prep(cv, false, |j| &plain[j - cv.from[0]]);
    let (yt, vt) = ring.conv_prep(cv, true, |j| &other[j - cv.from[0]]);
    assert!(y[..] == yt[..] && v[..] == vt[..]);
}

#[test]
fn division_by_the_special_modulus_rounds_to_nearest() {
    for isa in Isa::available() {
        for ring in [large_chain(1, 6, isa), small_ring(isa)] {
            for drop in [false, true] {
                let level = ring.l.min(7);
                let limbs = ring.limbs(level);
                let x = inputs(&ring, &limbs, 5);
                let out = ring.mod_down(&limbs_of(&ring, &x, &limbs), level, drop);
                let divisor = product(&ring, &ring.moddown[level][usize::from(drop)].from);
                assert_eq!(out.len(), ring.n * (level - usize::from(drop)));
                for (i, c) in out.chunks_exact(ring.n).enumerate() {
                    let p = ring.m[i].p;
                    let mut c = c.to_vec();
                    ring.inv(i, &mut c);
                    for (x, &c) in x.iter().zip(&c) {
                        // ⌊x/D + 1/2⌋
                        let shifted: BigInt = x * 2 + &divisor;
                        let twice: BigInt = &divisor * 2;
                        let remainder: BigInt = ((&shifted % &twice) + &twice) % &twice;
                        let rounded = (shifted - remainder) / twice;
                        assert_eq!(c, residue(&(rounded * ring.n), p));
                    }
                }
            }
        }
    }
}

#[test]
fn integers_become_limbs() {
    use crate::he::ring::key_switch::{small_to_ntt, to_ntt};
    let ring = small_ring(Isa::best());
    let (n, limbs) = (ring.n, [0, 2]);
    let back = |b: &[u64]| -> Vec<Vec<u64>> {
        b.chunks_exact(n)
            .zip(limbs)
            .map(|(c, i)| {
                let mut c = c.to_vec();
                ring.inv(i, &mut c);
                c
            })
            .collect()
    };
    for bound in [1, 1 << 20, 1 << 40] {
        let x = Numbers(9).small(n, bound);
        let expected: Vec<Vec<u64>> = limbs
            .iter()
            .map(|&i| x.iter().map(|&v| imod(i128::from(v) * n as i128, ring.m[i].p)).collect())
            .collect();
        assert!(back(&to_ntt(&ring, &x, &limbs)) == expected, "up to {bound}");
        if bound < 1 << 26 {
            let mut out = vec![0; n * limbs.len()];
            small_to_ntt(&ring, &x, &limbs, &mut out);
            assert!(back(&out) == expected, "up to {bound}");
        }
    }
}
