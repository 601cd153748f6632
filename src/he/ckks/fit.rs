//! Functions as trigonometric polynomials of the torus. Pure: numbers only, deterministic.
//!
//! A bootstrap evaluates Re Σ c_k·exp(2πi·k·t). Its values are wanted on |t| ≤ 1/4; beyond, a small weight pulls it towards
//! the reflected function f(±1/2 − t), so that what overshoots its range saturates or reflects, and coefficients stay small.

use super::complex::Complex;
use std::f64::consts::TAU;
use thiserror::Error;

/// Degrees for which there are rows of parameters.
pub const DEGREES: [usize; 3] = [15, 31, 63];
/// Points of the least squares on the torus.
const POINTS: usize = 2048;
/// Weights of the outer half of the torus, in the order in which they are tried.
const OUTER_WEIGHTS: [f64; 5] = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1];
/// What |p| may reach anywhere, as a multiple of the largest |f| on the range.
pub const OVERSHOOT: f64 = 1.2;

/// p(t) = Re Σ_k c_k·exp(2πi·k·t).
#[derive(Debug, Clone, PartialEq)]
pub struct TrigPolynomial {
    /// c_0, c_1, …; c_0 is real: the mean over the torus.
    pub coefficients: Vec<Complex>,
}

impl TrigPolynomial {
    /// The degree.
    pub fn degree(&self) -> usize {
        self.coefficients.len().saturating_sub(1)
    }

    /// The mean over the torus.
    pub fn mean(&self) -> f64 {
        self.coefficients.first().map_or(0.0, |c| c.re)
    }

    /// The value at t, with period 1.
    pub fn eval(&self, t: f64) -> f64 {
        let step = Complex::unit(TAU * t);
        self.coefficients.iter().rev().fold(Complex::default(), |s, &c| s * step + c).re
    }

    /// The standard deviation of its values about the mean, over the torus.
    pub fn spread(&self) -> f64 {
        (self.coefficients.iter().skip(1).map(|c| c.re * c.re + c.im * c.im).sum::<f64>() / 2.0).sqrt()
    }

    /// The function times a factor.
    pub fn scale(&self, factor: f64) -> Self {
        TrigPolynomial { coefficients: self.coefficients.iter().map(|c| c.scale(factor)).collect() }
    }
}

/// A fit, and how good it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// The polynomial.
    pub polynomial: TrigPolynomial,
    /// Standard deviation of p − f for uniform |t| ≤ 1/4.
    pub error: f64,
    /// Largest |p − f| on |t| ≤ 1/4.
    pub largest_error: f64,
    /// Whether the error is not above the wanted one, with |p| ≤ 1.2·max |f| everywhere.
    pub sufficient: bool,
}

/// A function that has no fit.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum FitError {
    /// It is not finite somewhere on its range.
    #[error("the function is {value} at {t} of the torus; change it where it is undefined on its range")]
    NotFinite {
        /// Where, in −1/4..1/4.
        t: f64,
        /// What it returned.
        value: f64,
    },
    /// There is no such degree.
    #[error("degree {0} is beyond the largest one, 63")]
    Degree(usize),
}

/// Fits f on |t| ≤ 1/4 with the least degree of [`DEGREES`] whose error has at most the wanted standard deviation. Where
/// none does, the result is that of the largest degree, not `sufficient`.
///
/// # Errors
/// The function is not finite on its range.
pub fn fit(f: &dyn Fn(f64) -> f64, wanted: f64) -> Result<Fit, FitError> {
    let mut last = fit_degree(f, DEGREES[0], wanted)?;
    for &degree in &DEGREES[1..] {
        if last.sufficient {
            break;
        }
        last = fit_degree(f, degree, wanted)?;
    }
    Ok(last)
}

/// Fits f on |t| ≤ 1/4 with a fixed degree. Takes the smallest weight of the outer half with which |p| stays within 1.2 of
/// the function's range.
///
/// # Errors
/// The function is not finite on its range, or the degree is above 63.
pub fn fit_degree(f: &dyn Fn(f64) -> f64, degree: usize, wanted: f64) -> Result<Fit, FitError> {
    if degree > 63 {
        return Err(FitError::Degree(degree));
    }
    let samples = samples(f)?;
    let largest = samples.iter().fold(0.0f64, |m, y| m.max(y.abs()));
    let mut best: Option<(f64, TrigPolynomial)> = None;
    for weight in OUTER_WEIGHTS {
        let polynomial = least_squares(&samples, degree, weight);
        let peak = (0..POINTS).map(|i| polynomial.eval(point(i)).abs()).fold(0.0, f64::max);
        let better = best.as_ref().is_none_or(|(p, _)| peak < *p);
        if better {
            best = Some((peak, polynomial));
        }
        if peak <= OVERSHOOT * largest {
            break;
        }
    }
    let (peak, polynomial) = best.unwrap_or((0.0, TrigPolynomial { coefficients: vec![Complex::default()] }));
    let inner: Vec<f64> = (0..POINTS)
        .filter(|&i| point(i).abs() <= 0.25)
        .map(|i| polynomial.eval(point(i)) - samples[i])
        .collect();
    let error = (inner.iter().map(|e| e * e).sum::<f64>() / inner.len() as f64).sqrt();
    let largest_error = inner.iter().fold(0.0f64, |m, e| m.max(e.abs()));
    let sufficient = error <= wanted && peak <= OVERSHOOT * largest;
    Ok(Fit { polynomial, error, largest_error, sufficient })
}

fn point(i: usize) -> f64 {
    -0.5 + (i as f64 + 0.5) / POINTS as f64
}

/// The function on the range, reflected beyond it.
fn samples(f: &dyn Fn(f64) -> f64) -> Result<Vec<f64>, FitError> {
    (0..POINTS)
        .map(|i| {
            let t = point(i);
            let inner = if t > 0.25 {
                0.5 - t
            } else if t < -0.25 {
                -0.5 - t
            } else {
                t
            };
            let value = f(inner);
            if value.is_finite() { Ok(value) } else { Err(FitError::NotFinite { t: inner, value }) }
        })
        .collect()
}

/// Weighted least squares by the normal equations. Weight and points are symmetric in t, so that cosines and sines are
/// orthogonal: two systems of half the size, whose matrices are sums and differences of the moments
/// M_k = Σ w(t)·cos(2πkt): ⟨cos j, cos k⟩ = (M_(j−k) + M_(j+k))/2, ⟨sin j, sin k⟩ = (M_(j−k) − M_(j+k))/2.
fn least_squares(samples: &[f64], degree: usize, outer: f64) -> TrigPolynomial {
    let weight = |t: f64| if t.abs() <= 0.25 { 1.0 } else { outer };
    let mut moments = vec![0.0; 2 * degree + 1];
    let mut cosines = vec![0.0; degree + 1];
    let mut sines = vec![0.0; degree + 1];
    for (i, &y) in samples.iter().enumerate() {
        let t = point(i);
        let (w, step) = (weight(t), Complex::unit(TAU * t));
        let mut power = Complex::new(1.0, 0.0);
        for (k, moment) in moments.iter_mut().enumerate() {
            *moment += w * power.re;
            if k <= degree {
                cosines[k] += w * y * power.re;
                sines[k] += w * y * power.im;
            }
            power = power * step;
        }
    }
    let ridge = 1e-13 * samples.len() as f64;
    let entry = |j: usize, k: usize, sign: f64| {
        (moments[j.abs_diff(k)] + sign * moments[j + k]) / 2.0 + if j == k { ridge } else { 0.0 }
    };
    let even = solve(degree + 1, |j, k| entry(j, k, 1.0), cosines);
    let odd = solve(degree, |j, k| entry(j + 1, k + 1, -1.0), sines.split_off(1));
    let coefficients = (0..=degree)
        .map(|k| if k == 0 { Complex::new(even[0], 0.0) } else { Complex::new(even[k], -odd[k - 1]) })
        .collect();
    TrigPolynomial { coefficients }
}

/// Solves a symmetric positive definite system by Cholesky's factorisation.
fn solve(n: usize, entry: impl Fn(usize, usize) -> f64, mut b: Vec<f64>) -> Vec<f64> {
    let mut l = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let s = entry(i, j) - (0..j).map(|k| l[i * n + k] * l[j * n + k]).sum::<f64>();
            l[i * n + j] = if i == j { s.max(1e-300).sqrt() } else { s / l[j * n + j] };
        }
    }
    for i in 0..n {
        let s = b[i] - (0..i).map(|k| l[i * n + k] * b[k]).sum::<f64>();
        b[i] = s / l[i * n + i];
    }
    for i in (0..n).rev() {
        let s = b[i] - (i + 1..n).map(|k| l[k * n + i] * b[k]).sum::<f64>();
        b[i] = s / l[i * n + i];
    }
    b
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relu(t: f64) -> f64 {
        t.max(0.0)
    }
    fn sigmoid(t: f64) -> f64 {
        0.25 / (1.0 + (-32.0 * t).exp())
    }

    #[test]
    fn a_smooth_function_takes_degree_15_and_a_kink_degree_63() {
        let smooth = fit(&sigmoid, 2f64.powi(-14)).unwrap();
        assert_eq!(smooth.polynomial.degree(), 15);
        assert!(smooth.sufficient);
        let kink = fit(&relu, 2f64.powi(-14)).unwrap();
        assert_eq!(kink.polynomial.degree(), 63);
        // The kink's error of the full width 1/2: 2^-13.1.
        assert!(kink.error / 0.5 < (-13.0f64).exp2(), "{}", kink.error.log2());
        assert!(!fit(&relu, 1e-9).unwrap().sufficient);
    }

    #[test]
    fn nothing_overshoots_the_range() {
        let identity = |t: f64| t;
        let step = |t: f64| if t > 0.0 { 0.25 } else { 0.0 };
        let sharp = |t: f64| 0.25 / (1.0 + (-400.0 * t).exp());
        let bump = |t: f64| (-(40.0 * t).powi(2)).exp();
        let edge = |t: f64| (t + 0.25).sqrt();
        let functions: [&dyn Fn(f64) -> f64; 7] = [&relu, &sigmoid, &identity, &step, &sharp, &bump, &edge];
        for (i, f) in functions.iter().enumerate() {
            let largest = (0..1000).map(|j| f(-0.25 + 0.0005 * j as f64).abs()).fold(0.0, f64::max);
            for degree in DEGREES {
                let p = fit_degree(f, degree, 1.0).unwrap().polynomial;
                let peak = (0..5000).map(|j| p.eval(j as f64 / 5000.0).abs()).fold(0.0, f64::max);
                assert!(peak <= 1.21 * largest, "function {i} of degree {degree}: {peak} of {largest}");
            }
        }
    }

    #[test]
    fn beyond_the_range_it_is_reflected() {
        let p = fit_degree(&|t| t, 31, 1.0).unwrap().polynomial;
        for t in [0.1, 0.2, 0.24] {
            assert!((p.eval(0.5 - t) - t).abs() < 0.02, "{}", p.eval(0.5 - t));
            assert!((p.eval(t + 1.0) - p.eval(t)).abs() < 1e-9);
        }
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        assert!(matches!(fit(&|t| 1.0 / (t - t), 1.0), Err(FitError::NotFinite { .. })));
        assert_eq!(fit_degree(&relu, 64, 1.0), Err(FitError::Degree(64)));
    }
}
