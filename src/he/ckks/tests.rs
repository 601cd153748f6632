//! The bootstrap with its secret at hand.

use super::{
    bootstrap::{Bootstrapper, Half},
    ciphertext::Ciphertext,
    circuit::Circuit,
    client::phase,
    complex::Complex,
    fit::{TrigPolynomial, fit_degree},
    keys::BootstrapKeys,
    mask::Mask,
    noise::Model,
    params::{LOG_DEGREE, RAISE_BOUND, RING_PROFILES, RINGS, RingProfile},
    secret::RingSecret,
    stages::Role,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    f64::consts::TAU,
    sync::{Arc, OnceLock},
};

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

/// Holds a measured standard deviation against its prediction: not above it (but for 8% of chance), and not more than 1.5
/// bits below.
fn hold(what: &str, measured: f64, predicted: f64) {
    assert!(
        measured <= 1.08 * predicted && predicted <= measured * 1.5f64.exp2(),
        "{what}: measured 2^{:.2}, predicted 2^{:.2}",
        measured.log2(),
        predicted.log2()
    );
}

impl Setup {
    fn model(&self) -> Model<'static> {
        let context = self.bootstrapper.context();
        Model::new(self.bootstrapper.profile(), context.n.trailing_zeros() as usize)
    }

    /// The slots of a ciphertext under the dense secret.
    fn slots(&self, x: &Ciphertext) -> Vec<Complex> {
        let context = self.bootstrapper.context();
        let coefficients = phase(context, &self.secret.dense, x);
        let (re, im) = coefficients.split_at(context.n / 2);
        let mut slots: Vec<Complex> = re.iter().zip(im).map(|(&re, &im)| Complex::new(re, im)).collect();
        self.bootstrapper.embedding.decode(&mut slots);
        slots
    }

    /// The values of one half of the coefficients, in the order of the slots.
    fn in_slots(&self, values: &[f64], half: usize) -> Vec<f64> {
        let slots = values.len() / 2;
        (0..slots).map(|k| values[self.bootstrapper.embedding.place(k) + half * slots]).collect()
    }
}

/// Raise, slots and exponential against their predictions.
fn hold_input_stages(setup: &Setup) {
    let (b, model, name) = (&setup.bootstrapper, setup.model(), setup.bootstrapper.profile().name);
    let (t, input) = setup.input();
    let raised = b.raise(&input);
    let fractional = |d: f64| d - d.round();
    let x = phase(b.context(), &setup.secret.dense, &raised);
    assert!(x.iter().all(|x| x.abs() < RAISE_BOUND));
    // What came in is rounded and has fresh noise, which is small against the raise's.
    hold(&format!("{name} raise"), rms(x.iter().zip(&t).map(|(x, t)| fractional(x - t))), model.raise());
    let (low, high) = b.to_slots(&raised, Half::Both);
    for (half, u) in [Some(low), high].iter().flatten().enumerate() {
        let t = setup.in_slots(&t, half);
        let errors = setup.slots(u).into_iter().zip(&t).map(|(u, t)| fractional(u.re * RAISE_BOUND - t));
        hold(&format!("{name} slots"), rms(errors), model.slots());
        let e = b.evaluator().exponential(u);
        let errors = setup.slots(&e).into_iter().zip(&t).map(|(e, t)| (e - Complex::unit(TAU * t)).abs());
        hold(&format!("{name} exponential"), rms(errors), model.exponential());
    }
}

/// Outputs of functions against their predictions, which include what a function makes of its input's error.
fn hold_outputs(setup: &Setup) {
    let (b, model, name) = (&setup.bootstrapper, setup.model(), setup.bootstrapper.profile().name);
    let n = b.context().n;
    let (t, input) = setup.input();
    let weights = uneven(n);
    let masks = [Mask::all(n), Mask::new(weights.clone()).unwrap()];
    let profile = b.profile();
    for half in [Half::Both, Half::Low] {
        let used = if half == Half::Low { n / 2 } else { n };
        let powers = b.open(&input, profile.function_degree, half).unwrap();
        for degree in [profile.function_degree, profile.factor_degree()] {
            let function = relu(degree);
            let slots = b.polynomial(&powers, &function, Role::Output).unwrap();
            let outputs = b.close(&[vec![(&slots, &masks[0])], vec![(&slots, &masks[1])]]).unwrap();
            // A ramp's slope is 1 on half of the torus; a mask leaves three values of five.
            let input_error = model.exponential() / TAU / 2f64.sqrt();
            let scale = model.slot_scale();
            let polynomial = model.polynomial(degree, 0.0, scale);
            for (masked, out) in outputs.iter().enumerate() {
                assert_eq!((out.level(), out.scale()), (2, profile.output_scale()));
                let left = if masked == 1 { 0.6f64.sqrt() } else { 1.0 };
                let folded = masked == 1 && degree > profile.factor_degree();
                let own = model.output(polynomial * left, function.spread(), folded);
                let values = setup.output(out);
                let expected = |j: usize| function.eval(t[j]) * if masked == 1 { weights[j] } else { 1.0 };
                let measured = rms((0..used).map(|j| values[j] - expected(j)));
                let what = format!("{name} degree {degree} {half:?} masked {masked}");
                hold(&what, measured, own.hypot(input_error * left));
            }
        }
    }
}

/// Slot products against their predictions.
fn hold_products(setup: &Setup, degrees: [usize; 2]) {
    let (b, model, name) = (&setup.bootstrapper, setup.model(), setup.bootstrapper.profile().name);
    let (t, input) = setup.input();
    let fitted = |f: &dyn Fn(f64) -> f64, degree| fit_degree(f, degree, 1.0).unwrap().polynomial;
    let first = fitted(&|t| 1.0 / (1.0 + (-32.0 * t).exp()), degrees[0]);
    let second = fitted(&|t| t, degrees[1]);
    let size = |f: &TrigPolynomial| rms((0..1000).map(|i| f.eval(i as f64 / 1000.0)));
    let slope = |t: f64| {
        let f = |t: f64| first.eval(t) * second.eval(t);
        (f(t + 1e-6) - f(t - 1e-6)) / 2e-6
    };
    for half in [Half::Both, Half::Low] {
        let powers = b.open(&input, degrees[0].max(degrees[1]), half).unwrap();
        let saved = b.polynomial(&powers, &first, Role::FirstFactor).unwrap();
        let value = b.polynomial(&powers, &second, Role::SecondFactor).unwrap();
        let product = b.slot_product(&saved, &value).unwrap();
        let all = Mask::all(t.len());
        let out = b.close(&[vec![(&product, &all)]]).unwrap();
        let used = if half == Half::Low { t.len() / 2 } else { t.len() };
        let values = setup.output(&out[0]);
        let measured = rms(values[..used].iter().zip(&t).map(|(v, &t)| v - first.eval(t) * second.eval(t)));
        let sizes = [size(&first), size(&second)];
        let own = model.output(model.product(degrees, sizes), sizes[0] * sizes[1], false);
        let from_input = model.exponential() / TAU * rms(t[..used].iter().map(|&t| slope(t)));
        let (what, predicted) = (format!("{name} product {degrees:?} {half:?}"), own.hypot(from_input));
        // Where one half is empty, so are half of the slots' errors.
        hold(&what, measured.max(if half == Half::Low { predicted / 2.0 } else { 0.0 }), predicted);
        // The same behind a mask that leaves three values of five.
        let weights = uneven(t.len());
        let mask = Mask::new(weights.clone()).unwrap();
        let out = b.close(&[vec![(&product, &mask)]]).unwrap();
        let values = setup.output(&out[0]);
        let expected = |j: usize| weights[j] * first.eval(t[j]) * second.eval(t[j]);
        let measured = rms((0..used).map(|j| values[j] - expected(j)));
        let folded = b.profile().spare_levels(degrees[1]) < 2;
        let left = 0.6f64.sqrt();
        let own = model.output(model.product(degrees, sizes) * left, sizes[0] * sizes[1], folded);
        let (what, predicted) = (format!("{what} masked"), own.hypot(from_input * left));
        hold(&what, measured.max(if half == Half::Low { predicted / 2.0 } else { 0.0 }), predicted);
        assert!(b.slot_product(&value, &saved).is_err());
        assert!(b.close(&[vec![(&value, &all)]]).is_err());
    }
}

#[test]
fn every_stage_of_every_row_errs_as_predicted() {
    for row in 0..RING_PROFILES.len() {
        hold_input_stages(small(row));
        hold_outputs(small(row));
    }
    hold_products(small(2), [31, 31]);
    hold_products(small(2), [31, 15]);
    hold_products(small(2), [15, 15]);
    hold_products(small(1), [15, 15]);
    hold_products(small(0), [7, 7]);
}

#[test]
fn the_real_parameters_err_as_predicted() {
    let setup = Setup::new(&RING_PROFILES[2], LOG_DEGREE);
    hold_input_stages(&setup);
    hold_outputs(&setup);
    hold_products(&setup, [31, 31]);
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
        assert!(error < bound.exp2(), "2^{:.2}", error.log2());
    }
    assert!(mask.bytes() > 0 && all.bytes() == 0);
    // An equal mask is folded once.
    let bytes = b.transform_bytes();
    let equal = Mask::new(weights.clone()).unwrap();
    b.close(&[vec![(&deep_slots, &equal)]]).unwrap();
    assert_eq!(b.transform_bytes(), bytes);
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
    let empty = TrigPolynomial { coefficients: vec![] };
    assert!(b.polynomial(&powers, &empty, Role::Output).is_err());
}

#[test]
fn keys_go_over_the_wire_as_halves() {
    let setup = small(0);
    let keys = setup.bootstrapper.keys();
    let mut bytes = vec![];
    keys.write_to(&mut bytes).unwrap();
    assert_eq!(bytes.len(), keys.wire_bytes());
    assert!(bytes.len() < keys.bytes() / 2 + 100);
    let read = |bytes: &[u8]| BootstrapKeys::read_circuit(bytes, |profile| Circuit::of_degree(profile, 12));
    let back = read(&bytes).unwrap();
    assert_eq!(back.profile(), keys.profile());
    assert_eq!(back.keys.len(), keys.keys.len());
    for (id, key) in &keys.keys {
        assert!(back.keys[id].data == key.data, "{id:?}");
    }
    let refused = |bytes: &[u8], part: &str| {
        let message = read(bytes).err().unwrap().to_string();
        assert!(message.contains(part), "{message}");
    };
    refused(&bytes[..bytes.len() - 1], "ends before");
    refused(&bytes[..20], "header");
    let changed = |at: usize, value: u8| {
        let mut copy = bytes.clone();
        copy[at] = value;
        copy
    };
    refused(&changed(0, b'x'), "do not begin");
    refused(&changed(8, 9), "version 9");
    refused(&changed(12, b'x'), "profile");
    let last = bytes.len() - 1;
    refused(&changed(last, 0xFF), "not below its prime");
}

/// Takes so many bytes, then fails.
struct Full(usize);

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn keys_are_made_and_written_one_by_one() {
    let secret = RingSecret::of_degrees(1 << 12, (1 << 12) / RINGS).unwrap();
    let circuit = Circuit::of_degree(&RING_PROFILES[0], 12).unwrap();
    let mut bytes = vec![];
    let made = std::cell::Cell::new(0);
    secret.write_keys_of(&circuit, &mut bytes, &|done, _| made.set(done)).unwrap();
    assert_eq!(made.get(), circuit.keys().len());
    let read = BootstrapKeys::read_circuit(&bytes[..], |_| Ok(circuit)).unwrap();
    let setup = Setup { bootstrapper: Bootstrapper::new(read), secret };
    hold_input_stages(&setup);
    let circuit = Circuit::of_degree(&RING_PROFILES[0], 12).unwrap();
    let error = setup.secret.write_keys_of(&circuit, Full(1 << 20), &|_, _| {}).unwrap_err().to_string();
    assert!(error.contains("writing the evaluation keys failed"), "{error}");
}

#[test]
fn sizes_in_the_table_are_those_of_the_keys() {
    let sizes = RING_PROFILES.each_ref().map(|profile| {
        let circuit = Circuit::new(profile).unwrap();
        let (memory, wire) = circuit.key_bytes();
        (profile.name, memory, wire, circuit.transform_bytes())
    });
    let rows = RING_PROFILES
        .each_ref()
        .map(|row| (row.name, row.key_bytes, row.key_wire_bytes, row.transform_bytes));
    assert_eq!(sizes, rows);
    // 1.2 GiB in memory, 0.6 GiB on the wire.
    assert!(rows.iter().all(|&(_, memory, wire, _)| memory < 1_288_490_188 && wire < 644_245_094));
}
