//! Transforms in plain Rust: Harvey's lazy butterflies ("Faster arithmetic for number-theoretic transforms", 2014) with Shoup's
//! precomputed quotients.

use super::{Modulus, Powers};

pub struct Tables {
    p: u64,
    /// (w, ⌊w·2^64/p⌋) in bit-reversed order.
    forward: Vec<[u64; 2]>,
    inverse: Vec<[u64; 2]>,
}

/// (w, ⌊w·2^64/p⌋).
fn factor(w: u64, p: u64) -> [u64; 2] {
    [w, ((u128::from(w) << 64) / u128::from(p)) as u64]
}

impl Tables {
    pub fn new(m: Modulus, powers: &Powers) -> Tables {
        let table = |t: &[u64]| -> Vec<[u64; 2]> { t.iter().map(|&w| factor(w, m.p)).collect() };
        Tables { p: m.p, forward: table(&powers.forward), inverse: table(&powers.inverse) }
    }

    /// y·w mod p in [0, 2p), for any y.
    #[inline(always)]
    fn product(&self, y: u64, [w, quotient]: [u64; 2]) -> u64 {
        let q = ((u128::from(y) * u128::from(quotient)) >> 64) as u64;
        y.wrapping_mul(w).wrapping_sub(q.wrapping_mul(self.p))
    }

    pub fn forward(&self, x: &mut [u64]) {
        let n = x.len();
        let p2 = 2 * self.p;
        let mut m = 1;
        while m < n {
            for (block, &w) in x.chunks_exact_mut(n / m).zip(&self.forward[m..2 * m]) {
                let (a, b) = block.split_at_mut(n / m / 2);
                // values are below 4p between the layers
                for (a, b) in a.iter_mut().zip(b) {
                    let u = (*a).min(a.wrapping_sub(p2));
                    let v = self.product(*b, w);
                    *a = u + v;
                    *b = u + p2 - v;
                }
            }
            m *= 2;
        }
        for x in x {
            let y = (*x).min(x.wrapping_sub(p2));
            *x = y.min(y.wrapping_sub(self.p));
        }
    }

    /// The inverse times c.
    pub fn inverse(&self, c: u64, x: &mut [u64]) {
        let n = x.len();
        let p2 = 2 * self.p;
        let mut m = n / 2;
        while m >= 1 {
            for (block, &w) in x.chunks_exact_mut(n / m).zip(&self.inverse[m..2 * m]) {
                let (a, b) = block.split_at_mut(n / m / 2);
                // values are below 2p between the layers
                for (a, b) in a.iter_mut().zip(b) {
                    let (u, v) = (*a, *b);
                    let s = u + v;
                    *a = s.min(s.wrapping_sub(p2));
                    *b = self.product(u + p2 - v, w);
                }
            }
            m /= 2;
        }
        let c = factor(c, self.p);
        for x in x {
            let y = self.product(*x, c);
            *x = y.min(y.wrapping_sub(self.p));
        }
    }
}
