//! Automorphisms, and key switches with a secret of the test's own.

use num_bigint::BigInt;

use super::{Numbers, large_chain, small_ring};
use crate::he::ring::{
    arith::{imod, invmod, mulmod},
    buffer::Buffer,
    context::RnsContext,
    key_switch::{SwitchKey, automorph, lb, to_ntt},
    simd::{self, Isa},
};

/// Standard deviation of the noise in the test's keys: uniform in −5 ..= 5.
const KEY_NOISE: f64 = 3.162;

/// P·`from` under `to`, digit by digit: (b, a) with b = −a·to + e + \[limb in digit\] P·from, all times R.
fn switch_key(ring: &RnsContext, level: usize, from: &[i64], to: &[i64], numbers: &mut Numbers) -> SwitchKey {
    let n = ring.n;
    let limbs = ring.limbs(level);
    let digits: Vec<_> = ring.digits.iter().filter(|d| d.start < level).collect();
    let mut key = SwitchKey::zeroed(ring, &limbs, digits.len());
    let (u, s) = (to_ntt(ring, from, &limbs), to_ntt(ring, to, &limbs));
    for (d, own) in digits.iter().enumerate() {
        let e = to_ntt(ring, &numbers.small(n, 5), &limbs);
        for (k, &i) in limbs.iter().enumerate() {
            let m = &ring.m[i];
            let a: Vec<u64> = (0..n).map(|_| numbers.below(m.p)).collect();
            let factor = if own.contains(&i) { ring.pmod(i) } else { 0 };
            let b: Vec<u64> = (0..n)
                .map(|j| {
                    let mask = mulmod(a[j], lb(&s, k, n)[j], m.p);
                    let x = lb(&e, k, n)[j] + mulmod(lb(&u, k, n)[j], factor, m.p) + m.p - mask;
                    m.mont(x % m.p)
                })
                .collect();
            let a: Vec<u64> = a.iter().map(|&a| m.mont(a)).collect();
            simd::pack(&b, m.w, 2 * d, 2 * digits.len(), key.limb_mut(ring, i));
            simd::pack(&a, m.w, 2 * d + 1, 2 * digits.len(), key.limb_mut(ring, i));
        }
    }
    key
}

/// Centred coefficients of c0 + c1·s − m over the first `level` primes, m an integer polynomial; they must be small.
fn error(ring: &RnsContext, c: &[Buffer; 2], s: &[i64], message: &[BigInt], level: usize) -> Vec<f64> {
    let n = ring.n;
    let limbs: Vec<usize> = (0..level).collect();
    let s = to_ntt(ring, s, &limbs);
    let q: BigInt = limbs.iter().map(|&i| BigInt::from(ring.m[i].p)).product();
    let mut sum = vec![BigInt::ZERO; n];
    for i in limbs {
        let p = ring.m[i].p;
        let mut x: Vec<u64> = (0..n)
            .map(|j| (lb(&c[0], i, n)[j] + mulmod(lb(&c[1], i, n)[j], lb(&s, i, n)[j], p)) % p)
            .collect();
        ring.inv(i, &mut x);
        let rest: BigInt = &q / p;
        let rest_mod_p = (&rest % p).iter_u64_digits().next().unwrap_or(0);
        let scale = mulmod(invmod(n as u64, p), invmod(rest_mod_p, p), p);
        for (sum, &x) in sum.iter_mut().zip(&x) {
            *sum += &rest * mulmod(x, scale, p);
        }
    }
    let half: BigInt = &q / 2;
    sum.iter()
        .zip(message)
        .map(|(x, m)| {
            let d: BigInt = ((x - m + &half) % &q + &q) % &q - &half;
            d.to_string().parse::<f64>().unwrap()
        })
        .collect()
}
fn deviation(x: &[f64]) -> f64 {
    (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64).sqrt()
}

/// The predicted noise of a switch: the digits, uniform up to D_d/2, times the key's noise, divided by P; the two roundings.
fn predicted(ring: &RnsContext, level: usize, divided_by: f64, secret: &[i64]) -> f64 {
    let n = ring.n as f64;
    let weight = secret.iter().filter(|&&x| x != 0).count() as f64;
    let p = ring.logp().exp2();
    let from_key: f64 = ring
        .digits
        .iter()
        .filter(|d| d.start < level)
        .map(|d| {
            let size: f64 = d.clone().take_while(|&i| i < level).map(|i| ring.m[i].p as f64).product();
            (size / p / divided_by).powi(2) / 12.0 * n * KEY_NOISE * KEY_NOISE
        })
        .sum();
    (from_key + (1.0 + weight) / 12.0).sqrt()
}

fn check_switch(ring: &RnsContext, level: usize, drop: bool, g: Option<u64>) {
    let n = ring.n;
    let numbers = &mut Numbers(level as u64);
    let from = numbers.small(n, 1);
    let to = numbers.small(n, 1);
    // keys of an automorphism are stored under its inverse's secret: the result is permuted, the digits never are
    let order = 2 * n as u64;
    let inverse =
        g.map(|g| (0..5).fold(1u64, |x, _| x.wrapping_mul(2u64.wrapping_sub(g.wrapping_mul(x)))) % order);
    let target = inverse.map_or_else(|| to.clone(), |g| automorph(&to, g));
    let key = switch_key(ring, level, &from, &target, numbers);
    // c1 uniform; what decrypts under `from` is known, since c0 = m − c1·from
    let limbs: Vec<usize> = (0..level).collect();
    let message = numbers.small(n, 1 << 40);
    let (m, s) = (to_ntt(ring, &message, &limbs), to_ntt(ring, &from, &limbs));
    let (mut c0, mut c1) = (Buffer::new(n * level), Buffer::new(n * level));
    for i in 0..level {
        let p = ring.m[i].p;
        for j in i * n..(i + 1) * n {
            c1[j] = numbers.below(p);
            c0[j] = (m[j] + p - mulmod(c1[j], s[j], p)) % p;
        }
    }
    let perm = g.map(|g| &ring.perms[&g]);
    let out = ring.ks(&c1, level, false, &key, [Some(&c0), None], perm, drop);
    let divisor = if drop { ring.m[level - 1].p as f64 } else { 1.0 };
    let message = g.map_or_else(|| message.clone(), |g| automorph(&message, g));
    let wanted: Vec<BigInt> =
        message.iter().map(|&m| BigInt::from((m as f64 / divisor).round() as i64)).collect();
    let measured = deviation(&error(ring, &out, &to, &wanted, level - usize::from(drop)));
    let predicted = predicted(ring, level, divisor, &to);
    assert!(
        measured <= 1.1 * predicted && predicted < 2.0 * measured,
        "{measured} where {predicted} is predicted"
    );
}

#[test]
fn switches_add_the_predicted_noise() {
    for isa in Isa::available() {
        let mut ring = small_ring(isa);
        let reverse = 2 * ring.n as u64 - 1;
        ring.add_perm(reverse);
        check_switch(&ring, 2, false, None);
        check_switch(&ring, 1, false, None);
        check_switch(&ring, 2, true, None);
        check_switch(&ring, 2, false, Some(reverse));
    }
    for row in 0..3 {
        let mut ring = large_chain(row, 9, Isa::best());
        let g = ring.galois(3);
        ring.add_perm(g);
        check_switch(&ring, ring.l, false, Some(g));
        check_switch(&ring, ring.l / 2, true, None);
    }
}

#[test]
fn threads_do_not_change_results() {
    let ring = small_ring(Isa::best());
    let x = Numbers(3).small(ring.n, 1 << 50);
    let level = ring.limbs(2);
    let b = to_ntt(&ring, &x, &level);
    let one = ring.mod_down(&b, 2, false);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let many = pool.install(|| ring.mod_down(&to_ntt(&ring, &x, &level), 2, false));
    assert!(one[..] == many[..]);
}

#[test]
fn automorphisms_permute_values() {
    for (mut ring, log) in [(small_ring(Isa::PORTABLE), 12), (large_chain(0, 6, Isa::PORTABLE), 6)] {
        let n = 1u64 << log;
        let x = Numbers(5).small(ring.n, 1000);
        let before = to_ntt(&ring, &x, &[0]);
        for g in [5, 2 * n - 1, n + 1, n / 4 + 1, ring.galois(7), ring.galois(-1)] {
            ring.add_perm(g);
            let expected = to_ntt(&ring, &automorph(&x, g), &[0]);
            let perm = &ring.perms[&g];
            for (s, group) in before.chunks_exact(8).enumerate() {
                let tab = &perm.tabs[perm.pi[s] as usize];
                let to = &expected[8 * perm.dst[s] as usize..][..8];
                assert!(tab.iter().zip(to).all(|(&t, &e)| group[t as usize] == e), "g = {g}");
            }
        }
    }
}

#[test]
fn an_automorphism_of_coefficients_is_a_substitution() {
    // (1 + 2X + 3X²)(X³) = 1 + 2X³ + 3X⁶ = 1 − 3X² + 2X³ modulo X⁴ + 1
    assert_eq!(automorph(&[1, 2, 3, 0], 3), [1, 0, -3, 2]);
    assert_eq!(imod(-1, 17), 16);
}
