//! Every kernel on every path against sums of big integers.

use num_bigint::BigUint;
use proptest::prelude::*;

use super::{Numbers, primes, vector_paths};
use crate::he::ring::{
    arith::invmod,
    context::RnsContext,
    simd::{self, Dot, Isa, Modulus, Sum},
};

/// Long enough for two chunks of every vector, short enough for big integers.
const N: usize = 64;

/// Σ a·b / R mod p.
fn expected(terms: &[(u64, u64)], p: u64) -> u64 {
    let sum: BigUint = terms.iter().map(|&(a, b)| BigUint::from(a) * b).sum();
    let r_inverse = invmod(((1u128 << 52) % u128::from(p)) as u64, p);
    let x = sum * r_inverse % p;
    x.to_u64_digits().first().copied().unwrap_or(0)
}

fn all_paths() -> Vec<Isa> {
    let mut v = vector_paths();
    v.push(Isa::PORTABLE);
    v
}

/// Packed vectors of residues with their padding.
fn packed(vectors: &[Vec<u64>], w: usize) -> Vec<u8> {
    let n = vectors[0].len();
    let mut out = vec![0; vectors.len() * n * w + 64];
    for (k, x) in vectors.iter().enumerate() {
        simd::pack(x, w, k, vectors.len(), &mut out);
    }
    out
}
fn width(p: u64) -> usize {
    if p < 1 << 40 { 5 } else { 6 }
}
/// All residues p − 1, or random ones.
fn limbs(numbers: &mut Numbers, count: usize, p: u64, extreme: bool) -> Vec<Vec<u64>> {
    (0..count).map(|_| if extreme { vec![p - 1; N] } else { numbers.residues(N, p) }).collect()
}

fn check_dot(p: u64, digits: usize, seed: u64, extreme: bool, permute: bool, accumulate: bool) {
    let mut numbers = Numbers(seed);
    let w = width(p);
    let dig = limbs(&mut numbers, digits, p, extreme);
    let key = limbs(&mut numbers, 2 * (digits + 1), p, extreme);
    let add = limbs(&mut numbers, 2, p, extreme);
    let old = limbs(&mut numbers, 2, p, extreme);
    let c = p - 1;
    let data = packed(&key, w);
    let digs: Vec<&[u64]> = dig.iter().map(|x| &x[..]).collect();
    let mut ring = RnsContext::with_isa(6, &[p], &[other_prime(p)], 1, Isa::PORTABLE).unwrap();
    ring.add_perm(5);
    let perm = &ring.perms[&5];
    let terms = |k: usize, i: usize| -> Vec<(u64, u64)> {
        let products = (0..digits).map(|d| (dig[d][i], key[2 * d + k][i]));
        products.chain([(add[k][i], c)]).collect()
    };
    for isa in all_paths() {
        let m = Modulus::new(p, isa);
        let (mut o0, mut o1) = (old[0].clone(), old[1].clone());
        // two chunks, so that ranges and bases are used
        for half in 0..2 {
            let to = half * N / 2..(half + 1) * N / 2;
            let first = if permute { perm.src_chunk(half, N / 16) } else { half * N / 16 };
            let dot = Dot {
                digs: &digs,
                key: &data,
                kd: digits + 1,
                add0: Some((&add[0], c)),
                add1: Some((&add[1], c)),
                perm: permute.then_some(perm),
                acc: accumulate,
                range: (first, first + N / 16),
                base: half * N / 16,
            };
            simd::dot(&dot, w, m, &mut o0[to.clone()], &mut o1[to]);
        }
        for j in 0..N {
            let i = if permute {
                let s = perm.src[j / 8] as usize;
                8 * s + perm.tabs[perm.pi[s] as usize][j % 8] as usize
            } else {
                j
            };
            for (k, o) in [&o0, &o1].into_iter().enumerate() {
                let mut x = expected(&terms(k, i), p);
                if accumulate {
                    x = (x + old[k][j]) % p;
                }
                assert_eq!(o[j], x, "{}: p {p}, {digits} digits, component {k}, position {j}", isa.name());
            }
        }
    }
}
fn other_prime(p: u64) -> u64 {
    primes().into_iter().find(|&x| x != p).unwrap()
}

fn check_diag(p: u64, terms: usize, seed: u64, extreme: bool) {
    let mut numbers = Numbers(seed);
    let w = width(p);
    let diagonals = limbs(&mut numbers, 16, p, extreme);
    let pairs = limbs(&mut numbers, 2 * terms, p, extreme);
    let data = packed(&diagonals, w);
    // not in order, some of the diagonals only
    let r: Vec<(usize, &[u64], &[u64])> =
        (0..terms).map(|t| ((5 * t + 3) % 16, &pairs[2 * t][..], &pairs[2 * t + 1][..])).collect();
    for isa in all_paths() {
        let (mut o0, mut o1) = (vec![0; N], vec![0; N]);
        simd::diag(&data, 16, &r, w, Modulus::new(p, isa), &mut o0, &mut o1);
        for i in 0..N {
            let a: Vec<_> = r.iter().map(|(k, a, _)| (diagonals[*k][i], a[i])).collect();
            let b: Vec<_> = r.iter().map(|(k, _, b)| (diagonals[*k][i], b[i])).collect();
            assert_eq!([o0[i], o1[i]], [expected(&a, p), expected(&b, p)], "{}: p {p}, {i}", isa.name());
        }
    }
}

fn check_sum(p: u64, products: usize, multiples: usize, double: bool, seed: u64, extreme: bool) {
    let mut numbers = Numbers(seed);
    let x = limbs(&mut numbers, 4 * products + 2 * multiples, p, extreme);
    let (a, b) = x.split_at(4 * products);
    let prods: Vec<_> = a.chunks(4).map(|v| ([&v[0][..], &v[1][..]], [&v[2][..], &v[3][..]])).collect();
    let cs = [p - 1, p / 3];
    let lins: Vec<_> = b.chunks(2).map(|v| ([&v[0][..], &v[1][..]], cs)).collect();
    let cst = [p - 1, 7];
    let factor = if double { 2 } else { 1 };
    for isa in all_paths() {
        let mut d = [vec![0; N], vec![0; N], vec![0; N]];
        let [d0, d1, d2] = &mut d;
        let sum = Sum { prods: &prods, lins: &lins, cst, dbl: double };
        simd::sum(&sum, Modulus::new(p, isa), d0, d1, d2);
        for i in 0..N {
            let h = 2 * i / N;
            let mut t = [vec![], vec![], vec![]];
            for v in a.chunks(4) {
                t[0].push((factor * v[0][i], v[2][i]));
                t[1].extend([(factor * v[0][i], v[3][i]), (factor * v[1][i], v[2][i])]);
                t[2].push((factor * v[1][i], v[3][i]));
            }
            for v in b.chunks(2) {
                t[0].push((v[0][i], cs[h]));
                t[1].push((v[1][i], cs[h]));
            }
            let mut e = t.each_ref().map(|t| expected(t, p));
            e[0] = (e[0] + cst[h]) % p;
            assert_eq!(d.each_ref().map(|d| d[i]), e, "{}: p {p}, {i}", isa.name());
        }
    }
}

fn check_scalings(p: u64, seed: u64) {
    let mut numbers = Numbers(seed);
    let (a, t) = (numbers.residues(N, p), numbers.residues(N, p));
    for c in [0, 1, p - 1, numbers.below(p)] {
        for isa in all_paths() {
            let m = Modulus::new(p, isa);
            let (mut scaled, mut difference) = (vec![0; N], vec![0; N]);
            simd::mulc(&a, c, m, &mut scaled);
            simd::subc(&a, &t, c, m, &mut difference);
            let mut in_place = a.clone();
            simd::mulc_in(&mut in_place, c, m);
            for i in 0..N {
                assert_eq!(scaled[i], expected(&[(a[i], c)], p), "{}: {} · {c} mod {p}", isa.name(), a[i]);
                assert_eq!(difference[i], expected(&[(a[i] + p - t[i], c)], p), "{}", isa.name());
            }
            assert_eq!(in_place, scaled);
        }
    }
    // In place, of two limbs at once.
    let (f, before) = (Numbers(seed ^ 1).residues(N, p), Numbers(seed ^ 2).residues(N, p));
    for isa in all_paths() {
        let m = Modulus::new(p, isa);
        let (mut o0, mut o1) = (before.clone(), a.clone());
        simd::add_product([&a, &f], &f, m, &mut o0, &mut o1);
        for i in 0..N {
            let product = |x: u64| expected(&[(x, f[i])], p);
            assert_eq!(o0[i], (product(a[i]) + before[i]) % p, "{}", isa.name());
            assert_eq!(o1[i], (product(f[i]) + a[i]) % p, "{}", isa.name());
        }
    }
}

fn check_bconv(p: u64, sources: usize, seed: u64, extreme: bool) {
    const LARGEST: u64 = (1 << 48) - 1;
    let mut numbers = Numbers(seed);
    // y is not reduced modulo p
    let ys = limbs(&mut numbers, sources, LARGEST + 1, extreme);
    let v: Vec<u64> = (0..N).map(|_| numbers.below(sources as u64 + 1)).collect();
    let c = if extreme { vec![p - 1; sources + 1] } else { numbers.residues(sources + 1, p) };
    let refs: Vec<&[u64]> = ys.iter().map(|y| &y[..]).collect();
    for isa in all_paths() {
        let mut o = vec![0; N];
        simd::bconv(&refs, &v, &c, Modulus::new(p, isa), &mut o);
        for i in 0..N {
            let mut terms: Vec<_> = ys.iter().zip(&c).map(|(y, &c)| (y[i], c)).collect();
            terms.push((v[i], c[sources]));
            assert_eq!(o[i], expected(&terms, p), "{}: p {p}, {sources} sources, {i}", isa.name());
        }
    }
}

#[test]
fn extremes_are_exact_on_all_paths() {
    for p in primes() {
        for digits in 1..=8 {
            check_dot(p, digits, 1, true, digits % 2 == 0, digits % 3 == 0);
        }
        check_diag(p, 16, 2, true);
        check_sum(p, 8, 0, false, 3, true);
        check_sum(p, 4, 0, true, 4, true);
        check_sum(p, 0, 16, false, 5, true);
        for sources in 1..=15 {
            check_bconv(p, sources, 6, true);
        }
        check_scalings(p, 7);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn sums_of_products_are_exact_on_all_paths(
        prime in 0..primes().len(), seed: u64, digits in 1..=8usize, permute: bool, accumulate: bool,
        terms in 1..=16usize, products in 1..=3usize, multiples in 0..=4usize, double: bool, sources in 1..=15usize,
    ) {
        let p = primes()[prime];
        check_dot(p, digits, seed, false, permute, accumulate);
        check_diag(p, terms, seed, false);
        check_sum(p, products, multiples, double, seed, false);
        check_scalings(p, seed);
        check_bconv(p, sources, seed, false);
    }

    #[test]
    fn rounding_agrees_on_all_paths(seed: u64, sources in 1..=9usize) {
        let mut numbers = Numbers(seed);
        let moduli: Vec<u64> = primes().into_iter().cycle().take(sources).collect();
        let ys: Vec<Vec<u64>> = moduli.iter().map(|&q| numbers.residues(N, q)).collect();
        let inv: Vec<f64> = moduli.iter().map(|&q| 1.0 / q as f64).collect();
        let refs: Vec<&[u64]> = ys.iter().map(|y| &y[..]).collect();
        let mut reference = vec![0; N];
        simd::round_with(Isa::PORTABLE, &refs, &inv, &mut reference);
        for i in 0..N {
            let exact: f64 = ys.iter().zip(&moduli).map(|(y, &q)| y[i] as f64 / q as f64).sum();
            prop_assert!((reference[i] as f64 - exact).abs() <= 0.5 + 1e-12);
        }
        for isa in vector_paths() {
            let mut v = vec![0; N];
            simd::round_with(isa, &refs, &inv, &mut v);
            prop_assert_eq!(&v, &reference, "{}", isa.name());
        }
    }

    #[test]
    fn packed_residues_are_read_back(seed: u64, w in 5..=6usize, of in 1..=5usize) {
        let mut numbers = Numbers(seed);
        let x: Vec<Vec<u64>> = (0..of).map(|_| numbers.residues(N, 1 << (8 * w))).collect();
        let data = packed(&x, w);
        for (k, x) in x.iter().enumerate() {
            let mut y = vec![0; N];
            simd::unpack(&data, w, k, of, &mut y);
            prop_assert_eq!(&y, x);
        }
    }
}
