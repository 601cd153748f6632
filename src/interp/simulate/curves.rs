//! What the tables of a site give, over the whole torus, in a form that is fast for many values.

use std::f64::consts::TAU;

use crate::he::ckks::complex::Complex;
use crate::he::ckks::fit::TrigPolynomial;

/// Cubics for each period of a polynomial's highest frequency: with 64 the error is below 2^-21 of the largest value, at
/// h^4/384 times the fourth derivative, and noise is above 2^-14.
const CUBICS: usize = 64;

/// A function of the torus.
pub enum Curve {
    /// Equally many entries for each part of the torus, from zero on; inputs are rounded to the next.
    Entries(Vec<f64>),
    /// Cubics between equally distant points, from zero on, in the distance from the first: constant term first.
    Cubics(Vec<[f64; 4]>),
}

impl Curve {
    /// Cubics with the values and the slopes of a polynomial times `factor`.
    pub fn polynomial(polynomial: &TrigPolynomial, factor: f64) -> Self {
        let count = CUBICS * polynomial.degree().max(1);
        // The derivative of exp(2πi·k·t), where points have the distance 1.
        let slope = |(k, c): (usize, &Complex)| {
            let frequency = TAU * k as f64 / count as f64;
            Complex::new(-c.im * frequency, c.re * frequency)
        };
        let slope =
            TrigPolynomial { coefficients: polynomial.coefficients.iter().enumerate().map(slope).collect() };
        let at = |i: usize| {
            let t = i as f64 / count as f64;
            (polynomial.eval(t) * factor, slope.eval(t) * factor)
        };
        let cubic = |i: usize| {
            let ((a, from), (b, to)) = (at(i), at((i + 1) % count));
            [a, from, 3.0 * (b - a) - 2.0 * from - to, 2.0 * (a - b) + from + to]
        };
        Self::Cubics((0..count).map(cubic).collect())
    }

    /// The values at points of −1/2..1/2.
    pub fn apply(&self, torus: &[f64], out: &mut [f64]) {
        let pairs = torus.iter().zip(out);
        match self {
            Self::Entries(entries) => {
                for (&t, out) in pairs {
                    let (index, _) = position(t + 0.5 / entries.len() as f64, entries.len());
                    *out = entries[index];
                }
            }
            Self::Cubics(cubics) => {
                for (&t, out) in pairs {
                    let (index, x) = position(t, cubics.len());
                    let [a, b, c, d] = cubics[index];
                    *out = a + x * (b + x * (c + x * d));
                }
            }
        }
    }
}

/// The last of `count` points of the torus that is not above t in −1/2..1/2, and how far t is beyond it, in points.
#[inline]
fn position(t: f64, count: usize) -> (usize, f64) {
    // Above zero, where a cast rounds down.
    let position = (t + 1.0) * count as f64;
    let whole = position as usize;
    let index = if whole >= count { whole - count } else { whole };
    (index, position - whole as f64)
}

/// One table of a site.
pub struct TableCurves {
    /// In units, centre included. None where nothing but products of values use it.
    pub output: Option<Curve>,
    /// What it multiplies other sites' outputs by. None where it multiplies nothing.
    pub factor: Option<Curve>,
    /// Standard deviation of the outputs' noise, in units.
    pub noise: f64,
}

/// The tables of a site.
pub struct SiteCurves {
    pub tables: Vec<TableCurves>,
    /// Entries over the torus to which inputs are rounded, if they are.
    pub entries: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cubics_follow_their_polynomial() {
        for degree in [0, 1, 15, 63] {
            let coefficient = |k: usize| Complex::new((k as f64 + 0.3).sin(), (1.7 * k as f64).cos());
            let polynomial = TrigPolynomial { coefficients: (0..=degree).map(coefficient).collect() };
            let largest: f64 = polynomial.coefficients.iter().map(|c| c.re.hypot(c.im)).sum();
            let curve = Curve::polynomial(&polynomial, 3.0);
            let torus: Vec<f64> = (-500..500).map(|i| f64::from(i) / 1000.0).collect();
            let mut values = vec![0.0; torus.len()];
            curve.apply(&torus, &mut values);
            for (&t, value) in torus.iter().zip(values) {
                let error = (value - 3.0 * polynomial.eval(t)).abs() / (3.0 * largest);
                assert!(error < 2f64.powi(-21), "degree {degree} at {t}: {error}");
            }
        }
    }

    #[test]
    fn entries_are_rounded_to_and_wrap() {
        let curve = Curve::Entries(vec![0.0, 1.0, 2.0, 3.0]);
        let torus = [-0.5, -0.26, -0.12, 0.0, 0.12, 0.13, 0.37, 0.38, 0.5];
        let mut values = [0.0; 9];
        curve.apply(&torus, &mut values);
        assert_eq!(values, [2.0, 3.0, 0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0]);
    }
}
