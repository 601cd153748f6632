//! Complex arithmetic, the canonical embedding, the factors of the homomorphic DFT, and polynomial fits.
use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::ops::{Add, Mul, Sub};

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct C {
    pub re: f64,
    pub im: f64,
}
pub fn c(re: f64, im: f64) -> C {
    C { re, im }
}
impl Add for C {
    type Output = C;
    fn add(self, o: C) -> C {
        c(self.re + o.re, self.im + o.im)
    }
}
impl Sub for C {
    type Output = C;
    fn sub(self, o: C) -> C {
        c(self.re - o.re, self.im - o.im)
    }
}
impl Mul for C {
    type Output = C;
    fn mul(self, o: C) -> C {
        c(self.re * o.re - self.im * o.im, self.re * o.im + self.im * o.re)
    }
}
impl C {
    pub fn conj(self) -> C {
        c(self.re, -self.im)
    }
    pub fn scale(self, x: f64) -> C {
        c(self.re * x, self.im * x)
    }
    pub fn abs(self) -> f64 {
        self.re.hypot(self.im)
    }
}

/// Slot k of a polynomial is its value at zeta^(5^k), zeta = exp(i*pi/N); n = N/2 slots.
pub struct Embedding {
    pub n: usize,
    root: Vec<C>,
    pow5: Vec<usize>,
}
impl Embedding {
    pub fn new(n: usize) -> Embedding {
        let m = 4 * n;
        let root = (0..m)
            .map(|i| {
                let (s, co) = (TAU * i as f64 / m as f64).sin_cos();
                c(co, s)
            })
            .collect();
        let mut pow5 = vec![1; n];
        for i in 1..n {
            pow5[i] = pow5[i - 1] * 5 % m;
        }
        Embedding { n, root, pow5 }
    }
    fn omega(&self, len: usize, j: usize) -> C {
        let q = 4 * len;
        self.root[(self.pow5[j] % q) * (4 * self.n / q)]
    }
    fn bitrev(&self, v: &mut [C]) {
        let lg = self.n.trailing_zeros();
        for i in 0..self.n {
            let j = i.reverse_bits() >> (usize::BITS - lg);
            if i < j {
                v.swap(i, j);
            }
        }
    }
    /// slots -> coefficients (re: coefficient j, im: coefficient j + N/2)
    pub fn encode(&self, v: &mut [C]) {
        let mut len = self.n;
        while len >= 2 {
            let h = len / 2;
            let om: Vec<C> = (0..h).map(|j| self.omega(len, j).conj()).collect();
            for b in v.chunks_exact_mut(len) {
                for j in 0..h {
                    let (x, y) = (b[j], b[j + h]);
                    b[j] = (x + y).scale(0.5);
                    b[j + h] = ((x - y) * om[j]).scale(0.5);
                }
            }
            len = h;
        }
        self.bitrev(v);
    }
    /// coefficients -> slots
    pub fn decode(&self, v: &mut [C]) {
        self.bitrev(v);
        let mut len = 2;
        while len <= self.n {
            let h = len / 2;
            let om: Vec<C> = (0..h).map(|j| self.omega(len, j)).collect();
            for b in v.chunks_exact_mut(len) {
                for j in 0..h {
                    let (x, y) = (b[j], b[j + h] * om[j]);
                    b[j] = x + y;
                    b[j + h] = x - y;
                }
            }
            len *= 2;
        }
    }
    /// One butterfly layer as a map rotation -> diagonal; unit-modulus entries (the inverse lacks its 1/2).
    fn layer(&self, len: usize, inverse: bool) -> Diags {
        let (n, h) = (self.n, len / 2);
        let mut d0 = vec![C::default(); n];
        let mut dp = vec![C::default(); n];
        let mut dm = vec![C::default(); n];
        for i in (0..n).step_by(len) {
            for j in 0..h {
                let w = self.omega(len, j);
                if inverse {
                    d0[i + j] = c(1.0, 0.0);
                    dp[i + j] = c(1.0, 0.0);
                    d0[i + j + h] = c(0.0, 0.0) - w.conj();
                    dm[i + j + h] = w.conj();
                } else {
                    d0[i + j] = c(1.0, 0.0);
                    dp[i + j] = w;
                    d0[i + j + h] = c(0.0, 0.0) - w;
                    dm[i + j + h] = c(1.0, 0.0);
                }
            }
        }
        let mut m: Diags = BTreeMap::new();
        for (r, d) in [(0, d0), (h as i64, dp), (-(h as i64), dm)] {
            acc(&mut m, n, r, d);
        }
        m
    }
    /// Factors of the DFT, in order of application; `sizes` layers each. Works on bit-reversed coefficients.
    pub fn factors(&self, sizes: &[usize], inverse: bool) -> Vec<Diags> {
        assert_eq!(sizes.iter().sum::<usize>(), self.n.trailing_zeros() as usize);
        let mut lens: Vec<usize> = (1..=self.n.trailing_zeros()).map(|i| 1usize << i).collect();
        if inverse {
            lens.reverse();
        }
        let mut it = lens.into_iter();
        sizes
            .iter()
            .map(|&s| {
                let mut m = self.layer(it.next().unwrap(), inverse);
                for _ in 1..s {
                    let a = self.layer(it.next().unwrap(), inverse);
                    let mut r: Diags = BTreeMap::new();
                    for (&ra, da) in &a {
                        for (&rb, db) in &m {
                            let n = self.n;
                            let d = (0..n)
                                .map(|k| da[k] * db[(k as i64 + ra).rem_euclid(n as i64) as usize])
                                .collect();
                            acc(&mut r, n, ra + rb, d);
                        }
                    }
                    m = r;
                }
                m
            })
            .collect()
    }
}
pub type Diags = BTreeMap<i64, Vec<C>>;
fn acc(m: &mut Diags, n: usize, r: i64, d: Vec<C>) {
    let mut r = r.rem_euclid(n as i64);
    if r > n as i64 / 2 {
        r -= n as i64;
    }
    match m.get_mut(&r) {
        Some(x) => x.iter_mut().zip(d).for_each(|(a, b)| *a = *a + b),
        None => {
            m.insert(r, d);
        }
    }
}

/// Chebyshev coefficients of exp(i*theta*u) on [-1,1].
pub fn cheb_exp(theta: f64, deg: usize) -> Vec<C> {
    let g = 256;
    (0..=deg)
        .map(|k| {
            let mut s = C::default();
            for j in 0..g {
                let a = std::f64::consts::PI * (j as f64 + 0.5) / g as f64;
                let (si, co) = (theta * a.cos()).sin_cos();
                s = s + c(co, si).scale((k as f64 * a).cos());
            }
            s.scale(if k == 0 { 1.0 } else { 2.0 } / g as f64)
        })
        .collect()
}

/// Weighted least-squares trigonometric polynomial: f(t) ~ Re sum_{k<=d} c_k exp(2 pi i k t).
/// Weight 1 on |t| <= w; a small weight `wo` beyond it pulls towards f_out, which keeps the coefficients and
/// the behaviour on the unused half of the torus under control.
pub fn fit(f: &dyn Fn(f64) -> f64, f_out: &dyn Fn(f64) -> f64, d: usize, w: f64, wo: f64) -> Vec<C> {
    let m = 2 * d + 1;
    let g = 8192;
    let mut a = vec![0.0; m * m];
    let mut b = vec![0.0; m];
    let mut row = vec![0.0; m];
    for i in 0..g {
        let t = -0.5 + (i as f64 + 0.5) / g as f64;
        let (wt, y) = if t.abs() <= w { (1.0, f(t)) } else { (wo, f_out(t)) };
        row[0] = 1.0;
        for k in 1..=d {
            let (s, co) = (TAU * k as f64 * t).sin_cos();
            row[2 * k - 1] = co;
            row[2 * k] = s;
        }
        for r in 0..m {
            b[r] += wt * row[r] * y;
            for q in 0..=r {
                a[r * m + q] += wt * row[r] * row[q];
            }
        }
    }
    let mut l = vec![0.0; m * m];
    for i in 0..m {
        a[i * m + i] += 1e-13 * g as f64;
        for j in 0..=i {
            let mut s = a[i * m + j];
            for k in 0..j {
                s -= l[i * m + k] * l[j * m + k];
            }
            l[i * m + j] = if i == j { s.max(1e-300).sqrt() } else { s / l[j * m + j] };
        }
    }
    for i in 0..m {
        let mut s = b[i];
        for k in 0..i {
            s -= l[i * m + k] * b[k];
        }
        b[i] = s / l[i * m + i];
    }
    for i in (0..m).rev() {
        let mut s = b[i];
        for k in i + 1..m {
            s -= l[k * m + i] * b[k];
        }
        b[i] = s / l[i * m + i];
    }
    (0..=d).map(|k| if k == 0 { c(b[0], 0.0) } else { c(b[2 * k - 1], -b[2 * k]) }).collect()
}
pub fn eval_trig(p: &[C], t: f64) -> f64 {
    p.iter()
        .enumerate()
        .map(|(k, x)| {
            let (s, co) = (TAU * k as f64 * t).sin_cos();
            x.re * co - x.im * s
        })
        .sum()
}
