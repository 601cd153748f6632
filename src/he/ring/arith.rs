//! Arithmetic modulo word-sized numbers, one at a time. Not for secrets: times depend on the operands.

/// a·b mod p.
pub fn mulmod(a: u64, b: u64, p: u64) -> u64 {
    (a as u128 * b as u128 % p as u128) as u64
}

/// b^e mod p.
pub fn powmod(mut b: u64, mut e: u64, p: u64) -> u64 {
    let mut r = 1;
    while e > 0 {
        if e & 1 == 1 {
            r = mulmod(r, b, p);
        }
        b = mulmod(b, b, p);
        e >>= 1;
    }
    r
}

/// a^-1 mod p for a prime p; 0 if p divides a.
pub fn invmod(a: u64, p: u64) -> u64 {
    powmod(a % p, p - 2, p)
}

/// x mod p in [0, p).
pub fn imod(x: i128, p: u64) -> u64 {
    x.rem_euclid(i128::from(p)) as u64
}

/// p^-1 mod 2^52 for an odd p, by Newton's iteration.
pub fn inverse_mod_2_52(p: u64) -> u64 {
    // each round doubles the number of correct bits, from one
    let inv = (0..6).fold(1u64, |x, _| x.wrapping_mul(2u64.wrapping_sub(p.wrapping_mul(x))));
    inv & ((1 << 52) - 1)
}

/// Whether n is prime, for all 64-bit n (Miller–Rabin with the first twelve primes as bases: Sorenson and Webster, 2015).
pub fn is_prime(n: u64) -> bool {
    const BASES: [u64; 12] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37];
    if n < 2 {
        return false;
    }
    if let Some(&b) = BASES.iter().find(|&&b| n.is_multiple_of(b)) {
        return n == b;
    }
    let s = (n - 1).trailing_zeros();
    let d = (n - 1) >> s;
    BASES.iter().all(|&a| {
        let mut x = powmod(a, d, n);
        if x == 1 || x == n - 1 {
            return true;
        }
        (1..s).any(|_| {
            x = mulmod(x, x, n);
            x == n - 1
        })
    })
}

/// A primitive 2n-th root of unity modulo a prime p ≡ 1 (mod 2n), n a power of two: a power of the smallest number that is no square. So
/// the roots of two degrees belong together: that of degree n/8 is the eighth power of that of degree n.
pub fn root_of_unity(n: usize, p: u64) -> u64 {
    let mut g = 2;
    while powmod(g, (p - 1) / 2, p) != p - 1 {
        g += 1;
    }
    powmod(g, (p - 1) / (2 * n as u64), p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_told_from_the_rest() {
        let sieve: Vec<u64> = (0..2000u64).filter(|&n| n > 1 && (2..n).all(|d| n % d != 0)).collect();
        let found: Vec<u64> = (0..2000).filter(|&n| is_prime(n)).collect();
        assert_eq!(found, sieve);
        // strong pseudoprimes to few bases, a Carmichael number, a large prime
        for n in [3_215_031_751, 3_474_749_660_383, 341_550_071_728_321, 561, 262_625_440_104_449 * 3] {
            assert!(!is_prime(n), "{n}");
        }
        assert!(is_prime(262_625_440_104_449) && is_prime((1 << 61) - 1));
    }

    #[test]
    fn inverses_and_roots() {
        for p in [67_043_329u64, 262_625_440_104_449] {
            assert_eq!(p.wrapping_mul(inverse_mod_2_52(p)) & ((1 << 52) - 1), 1);
            assert_eq!(mulmod(invmod(12345, p), 12345, p), 1);
            let psi = root_of_unity(1 << 15, p);
            assert_eq!(powmod(psi, 1 << 15, p), p - 1);
            assert_eq!(powmod(psi, 8, p), root_of_unity(1 << 12, p));
        }
    }
}
