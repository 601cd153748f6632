//! The bootstrap with its secret at hand.

use super::{
    bootstrap::{Bootstrapper, Half, Role},
    ciphertext::Ciphertext,
    circuit::Circuit,
    fit::{TrigPolynomial, fit_degree},
    mask::Mask,
    params::{LOG_DEGREE, RING_PROFILES, RINGS, RingProfile},
    secret::RingSecret,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::sync::{Arc, OnceLock};

/// A key set, and the secret that made it.
pub(super) struct Setup {
    pub secret: RingSecret,
    pub bootstrapper: Bootstrapper,
}

impl Setup {
    fn new(profile: &'static RingProfile, log_degree: usize) -> Self {
        let n = 1 << log_degree;
        let secret = RingSecret::of_degrees(n, n / RINGS).unwrap();
        let circuit = Arc::new(Circuit::of_degree(profile, log_degree).unwrap());
        let keys = secret.keys_of(circuit, &|_, _| {}).unwrap();
        Setup { bootstrapper: Bootstrapper::new(keys), secret }
    }

    /// Values t, uniform in (−1/4, 1/4), and their encryption in one limb under the embedded small secret.
    pub(super) fn input(&self) -> (Vec<f64>, Ciphertext) {
        let context = self.bootstrapper.context();
        let n = context.n;
        let mut generator = StdRng::seed_from_u64(1);
        let t: Vec<f64> = (0..n).map(|_| generator.random_range(-0.25..0.25)).collect();
        let input = self.secret.encrypt_input(context, &t).unwrap();
        (t, input)
    }

    /// A closed output's values.
    fn output(&self, x: &Ciphertext) -> Vec<f64> {
        self.secret.decrypt(self.bootstrapper.context(), x).unwrap()
    }
}

/// Root mean square.
fn rms(errors: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = errors.fold((0.0, 0usize), |(s, k), e| (s + e * e, k + 1));
    (sum / count as f64).sqrt()
}

/// The rows' smaller siblings, made once.
fn small(profile: usize) -> &'static Setup {
    static SETUPS: [OnceLock<Setup>; 3] = [const { OnceLock::new() }; 3];
    SETUPS[profile].get_or_init(|| Setup::new(&RING_PROFILES[profile], 12))
}

fn relu(degree: usize) -> TrigPolynomial {
    fit_degree(&|t: f64| t.max(0.0), degree, 1.0).unwrap().polynomial
}

/// Error of a function's outputs against its polynomial.
fn error_of(setup: &Setup, function: &TrigPolynomial, half: Half) -> f64 {
    let (t, input) = setup.input();
    let b = &setup.bootstrapper;
    let powers = b.open(&input, function.degree(), half).unwrap();
    let slots = b.polynomial(&powers, function, Role::Output).unwrap();
    let all = Mask::all(t.len());
    let out = b.close(&[vec![(&slots, &all)]]).unwrap();
    assert_eq!((out.len(), out[0].level()), (1, 2));
    assert_eq!(out[0].scale(), b.profile().output_scale());
    let used = if half == Half::Low { t.len() / 2 } else { t.len() };
    let values = setup.output(&out[0]);
    rms(values[..used].iter().zip(&t).map(|(v, &t)| v - function.eval(t)))
}

#[test]
fn functions_of_every_degree_on_every_row() {
    for (row, profile) in RING_PROFILES.iter().enumerate() {
        for degree in [7, 15, 31, 63] {
            if degree <= profile.function_degree {
                for half in [Half::Both, Half::Low] {
                    let error = error_of(small(row), &relu(degree), half);
                    println!("{} degree {degree} {half:?}: 2^{:.2}", profile.name, error.log2());
                    assert!(
                        error < (-12.5f64).exp2(),
                        "{} degree {degree}: 2^{:.2}",
                        profile.name,
                        error.log2()
                    );
                }
            }
        }
    }
}

#[test]
fn relu_at_the_real_parameters() {
    let setup = Setup::new(&RING_PROFILES[2], LOG_DEGREE);
    let error = error_of(&setup, &relu(63), Half::Both);
    assert!(error < (-13.5f64).exp2(), "2^{:.2}", error.log2());
}

/// Weights that follow no period, with both signs and zeros, different in both halves.
fn uneven(n: usize) -> Vec<f64> {
    (0..n).map(|j| [0.0, 1.0, -1.0, 0.0, 1.0][(j * j + j / 7) % 5]).collect()
}

#[test]
fn masks_hide_and_negate_at_every_degree() {
    let setup = small(2);
    let b = &setup.bootstrapper;
    let (t, input) = setup.input();
    let weights = uneven(t.len());
    let mask = Mask::new(weights.clone()).unwrap();
    let all = Mask::all(t.len());
    let (deep, shallow) = (relu(63), relu(15));
    let powers = b.open(&input, 63, Half::Both).unwrap();
    let [deep_slots, shallow_slots] =
        [&deep, &shallow].map(|f| b.polynomial(&powers, f, Role::Output).unwrap());
    let outputs = b
        .close(&[
            vec![(&deep_slots, &mask)],
            vec![(&shallow_slots, &mask)],
            vec![(&shallow_slots, &mask), (&deep_slots, &mask), (&deep_slots, &all)],
        ])
        .unwrap();
    let expected: [&dyn Fn(f64, f64) -> f64; 3] =
        [&|t, w| w * deep.eval(t), &|t, w| w * shallow.eval(t), &|t, w| {
            w * shallow.eval(t) + (1.0 + w) * deep.eval(t)
        }];
    for ((out, expected), bound) in outputs.iter().zip(expected).zip([-12.5f64, -12.5, -12.0]) {
        let values = setup.output(out);
        let error = rms(values.iter().zip(&t).zip(&weights).map(|((v, &t), &w)| v - expected(t, w)));
        println!("2^{:.2}", error.log2());
        assert!(error < bound.exp2(), "2^{:.2}", error.log2());
    }
    assert!(mask.bytes() > 0 && all.bytes() == 0);
}

#[test]
fn slot_products_multiply_element_by_element() {
    let step = fit_degree(&|t: f64| 1.0 / (1.0 + (-48.0 * t).exp()), 31, 1.0).unwrap().polynomial;
    let identity = |degree| fit_degree(&|t: f64| t, degree, 1.0).unwrap().polynomial;
    for (row, degrees) in [(2, [31, 31]), (2, [31, 15]), (1, [15, 15])] {
        let setup = small(row);
        let b = &setup.bootstrapper;
        let (t, input) = setup.input();
        let first = fit_degree(&|t: f64| step.eval(t), degrees[0], 1.0).unwrap().polynomial;
        let second = identity(degrees[1]);
        for half in [Half::Both, Half::Low] {
            let powers = b.open(&input, degrees[0].max(degrees[1]), half).unwrap();
            let saved = b.polynomial(&powers, &first, Role::FirstFactor).unwrap();
            let value = b.polynomial(&powers, &second, Role::SecondFactor).unwrap();
            let product = b.slot_product(&saved, &value).unwrap();
            let out = b.close(&[vec![(&product, &Mask::all(t.len()))]]).unwrap();
            let used = if half == Half::Low { t.len() / 2 } else { t.len() };
            let values = setup.output(&out[0]);
            let error = rms(values[..used].iter().zip(&t).map(|(v, &t)| v - first.eval(t) * second.eval(t)));
            println!("row {row} degrees {degrees:?} {half:?}: 2^{:.2}", error.log2());
            assert!(error < (-12.5f64).exp2(), "degrees {degrees:?} {half:?}: 2^{:.2}", error.log2());
            assert!(b.slot_product(&value, &saved).is_err());
            assert!(b.close(&[vec![(&value, &Mask::all(t.len()))]]).is_err());
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let setup = small(1);
    let b = &setup.bootstrapper;
    let (t, input) = setup.input();
    let message = |e: crate::he::HeError| e.to_string();
    assert!(message(b.open(&input, 63, Half::Low).err().unwrap()).contains("ring-31"));
    let powers = b.open(&input, 15, Half::Low).unwrap();
    assert!(message(b.polynomial(&powers, &relu(31), Role::Output).err().unwrap()).contains("31"));
    let powers = b.open(&input, 31, Half::Low).unwrap();
    let refused = b.polynomial(&powers, &relu(31), Role::FirstFactor).err().unwrap();
    assert!(message(refused).contains("degree 15"));
    let slots = b.polynomial(&powers, &relu(15), Role::Output).unwrap();
    assert!(b.close(&[vec![]]).is_err());
    assert!(b.close(&[vec![(&slots, &Mask::all(t.len() / 2))]]).is_err());
    let closed = b.close(&[vec![(&slots, &Mask::all(t.len()))]]).unwrap();
    assert!(message(b.open(&closed[0], 15, Half::Low).err().unwrap()).contains("2 limbs"));
    assert!(Mask::new(vec![1.0, 2.0]).is_err());
}
