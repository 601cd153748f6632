//! Arithmetic modulo word-sized primes, one number at a time.

// ---- scalars --------------------------------------------------------------------------------------
pub fn mulmod(a: u64, b: u64, p: u64) -> u64 {
    (a as u128 * b as u128 % p as u128) as u64
}
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
pub fn invmod(a: u64, p: u64) -> u64 {
    powmod(a % p, p - 2, p)
}
pub fn imod(x: i128, p: u64) -> u64 {
    x.rem_euclid(p as i128) as u64
}

pub fn is_prime(n: u64) -> bool {
    if n % 2 == 0 {
        return n == 2;
    }
    let (mut d, mut s) = (n - 1, 0);
    while d % 2 == 0 {
        d /= 2;
        s += 1;
    }
    'o: for a in [2u64, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37] {
        let mut x = powmod(a, d, n);
        if x == 1 || x == n - 1 {
            continue;
        }
        for _ in 1..s {
            x = mulmod(x, x, n);
            if x == n - 1 {
                continue 'o;
            }
        }
        return false;
    }
    true
}
