//! Transforms against evaluation and against products by hand.

use super::{Numbers, primes, transform, vector_paths};
use crate::he::{
    ckks::params::{LOG_DEGREE, SMALL_LOG_DEGREE},
    ring::{
        arith::{mulmod, powmod, root_of_unity},
        simd::{self, Isa, Modulus},
    },
};

/// Position j of a limb holds the value at ψ^(2·rev(j)+1).
fn value_at(x: &[u64], j: usize, p: u64) -> u64 {
    let n = x.len();
    let e = 2 * (j.reverse_bits() >> (usize::BITS - n.trailing_zeros())) + 1;
    let point = powmod(root_of_unity(n, p), e as u64, p);
    x.iter().rev().fold(0, |s, &c| (mulmod(s, point, p) + c) % p)
}

#[test]
fn values_are_where_automorphisms_look_for_them() {
    let p = primes()[0];
    for log in [4, 5, 6, 8, 9] {
        let n = 1 << log;
        let x = Numbers(1).residues(n, p);
        for isa in Isa::available() {
            let mut y = x.clone();
            transform(n, p, isa).forward(&mut y);
            for (j, &y) in y.iter().enumerate() {
                assert_eq!(y, value_at(&x, j, p), "{}: degree {n}, position {j}", isa.name());
            }
        }
    }
}

#[test]
fn all_paths_agree_in_both_degrees_for_all_primes() {
    for p in primes() {
        for log in [SMALL_LOG_DEGREE, LOG_DEGREE] {
            let n = 1 << log;
            let reference = transform(n, p, Isa::PORTABLE);
            let random = Numbers(p).residues(n, p);
            let mut alternating = vec![0; n];
            alternating.iter_mut().step_by(2).for_each(|x| *x = p - 1);
            for x in [random, vec![p - 1; n], alternating] {
                let (mut forward, mut inverse) = (x.clone(), x.clone());
                reference.forward(&mut forward);
                reference.inverse(&mut inverse);
                assert_eq!(forward[n / 3], value_at(&x, n / 3, p));
                for isa in vector_paths() {
                    let t = transform(n, p, isa);
                    let mut y = x.clone();
                    t.forward(&mut y);
                    assert!(y == forward, "{} forward, p {p}, degree {n}", isa.name());
                    let (m, c) = (Modulus::new(p, isa), p / 3);
                    let (mut y, mut fused, mut apart) = (x.clone(), vec![0; n], vec![0; n]);
                    t.forward_subtracted(&mut y, &inverse, c, m, &mut fused);
                    simd::subc(&inverse, &forward, c, m, &mut apart);
                    assert!(fused == apart, "{} subtraction, p {p}, degree {n}", isa.name());
                    let mut y = x.clone();
                    t.inverse(&mut y);
                    assert!(y == inverse, "{} inverse, p {p}, degree {n}", isa.name());
                    for c in [1, 2, p - 1, p / 2, p / 2 + 1] {
                        let mut y = vec![0; n];
                        t.inverse_scaled(&x, c, &mut y);
                        let right = y.iter().zip(&inverse).all(|(&y, &x)| y == mulmod(x, c, p));
                        assert!(right, "{} inverse times {c}, p {p}, degree {n}", isa.name());
                    }
                }
                // and back: N times the input
                reference.inverse(&mut forward);
                assert!(forward.iter().zip(&x).all(|(&y, &x)| y == mulmod(x, n as u64, p)));
            }
        }
    }
}

#[test]
fn products_of_values_are_negacyclic_products() {
    let n = 512;
    for p in primes() {
        let mut numbers = Numbers(p);
        let (a, b) = (numbers.residues(n, p), numbers.residues(n, p));
        let mut by_hand = vec![0; n];
        for (i, &a) in a.iter().enumerate() {
            for (j, &b) in b.iter().enumerate() {
                let x = mulmod(a, b, p);
                let o = &mut by_hand[(i + j) % n];
                *o = if i + j < n { (*o + x) % p } else { (*o + p - x) % p };
            }
        }
        for isa in Isa::available() {
            let t = transform(n, p, isa);
            let (mut x, mut y) = (a.clone(), b.clone());
            t.forward(&mut x);
            t.forward(&mut y);
            for (x, y) in x.iter_mut().zip(y) {
                *x = mulmod(*x, y, p);
            }
            t.inverse(&mut x);
            let scaled: Vec<u64> = by_hand.iter().map(|&c| mulmod(c, n as u64, p)).collect();
            assert_eq!(x, scaled, "{}, p {p}", isa.name());
        }
    }
}
