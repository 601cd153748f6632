//! The whole way of a value: product → switch out → bootstrap → packing → product.
#![cfg(feature = "client")]

mod he_common;

use he_common::*;
use hesn::he::{Ciphertext, Control, LutTable, LweBig, PackEntry, noise};

const INPUTS: usize = 16;
const NEURONS: usize = 8;

/// One hidden layer: h = relu(x·W) for one sample, then z = h·v.
struct Layer {
    x: Vec<i64>,
    w: Vec<i64>,
    v: Vec<i64>,
}

impl Layer {
    fn new() -> Self {
        let mut data = Data::new(7);
        let x = data.integers(INPUTS, 1 << 10);
        // Even neurons agree with the sample and pass the ReLU, odd ones oppose it and do not.
        let magnitudes = data.integers(INPUTS * NEURONS, 1 << 10);
        let sign = |i: usize| x[i % INPUTS].signum() * if (i / INPUTS).is_multiple_of(2) { 1 } else { -1 };
        let w = magnitudes.iter().enumerate().map(|(i, m)| sign(i) * m.abs()).collect();
        let v = data.integers(NEURONS, 1 << 10).iter().map(|v| v.abs()).collect();
        Layer { x, w, v }
    }

    /// The pre-activation of neuron l, an integer.
    fn z(&self, l: usize) -> i64 {
        (0..INPUTS).map(|j| self.x[j] * self.w[l * INPUTS + j]).sum()
    }
}

/// X^exponent has its coefficient at (index, sign).
fn monomial(exponent: i64, degree: usize) -> (usize, i64) {
    let turn = exponent.rem_euclid(2 * degree as i64) as usize;
    (turn % degree, if turn < degree { 1 } else { -1 })
}

/// z_l at coefficient l·INPUTS.
fn first_product(keys: &Keys, layer: &Layer) -> Ciphertext {
    let degree = keys.client.profile().ring.degree;
    let mut x = vec![0; degree];
    for (j, &value) in layer.x.iter().enumerate() {
        let (index, sign) = monomial(-(j as i64), degree);
        x[index] = sign * value;
    }
    let x = keys.client.encrypt(&x, 1).unwrap();
    let w = keys.client.encrypt(&layer.w, 1).unwrap();
    keys.server.product(&x, &w).unwrap()
}

/// Amplitude of the activations: relu(z)/2^12 as integers.
fn activation(z: i64) -> f64 {
    z.max(0) as f64 / 4096.0
}

fn bootstrap(keys: &Keys, z: &Ciphertext, f: fn(i64) -> f64) -> Vec<LweBig> {
    let profile = keys.client.profile();
    let t = profile.t() as f64;
    let ring = keys.server.switch_out(z).unwrap();
    let inputs: Vec<_> = (0..NEURONS).map(|l| ring.extract(l * INPUTS).unwrap()).collect();
    // The signed range [-1, 1) is ±t/4 in integers.
    let table = LutTable::new(profile, |v| f((v * t / 4.0) as i64) / t).unwrap();
    let outputs = keys.server.bootstrap(&inputs, &[0; NEURONS], &[table], &Control::NONE).unwrap();
    outputs.into_iter().flatten().collect()
}

/// Σ_l h_l·v_l at coefficient 0, from activations placed at X^-l.
fn second_product(keys: &Keys, h: &Ciphertext, v: &[i64]) -> i64 {
    let v = keys.client.encrypt(v, 1).unwrap();
    keys.client.decrypt(&keys.server.product(h, &v).unwrap()).unwrap()[0]
}

fn pack(keys: &Keys, lwes: &[LweBig]) -> Ciphertext {
    let degree = keys.client.profile().ring.degree;
    let entries: Vec<_> =
        lwes.iter().enumerate().map(|(l, lwe)| PackEntry::at_exponent(lwe, -(l as i64), degree)).collect();
    keys.server.pack(&entries, 1).unwrap()
}

/// Six standard deviations of what the tables and the packing may add to the last sum.
fn tolerance(keys: &Keys, layer: &Layer) -> f64 {
    let profile = keys.client.profile();
    let t = profile.t() as f64;
    let input = noise::lut_input_error(profile, 1, 1.0) * t / 4096.0;
    let packed = noise::packed_lut_error_units(profile);
    let norm = layer.v.iter().map(|&v| (v * v) as f64).sum::<f64>().sqrt();
    6.0 * norm * (input * input + packed * packed).sqrt()
}

#[test]
fn a_value_goes_through_both_schemes() {
    let keys = standard();
    let layer = Layer::new();
    let z = first_product(keys, &layer);
    assert_eq!((z.level(), z.primes()), (0, 2), "a product leaves fewer primes");
    let integers = keys.client.decrypt(&z).unwrap();
    for l in 0..NEURONS {
        assert_eq!(integers[l * INPUTS], layer.z(l), "the products are exact");
    }
    let h = pack(keys, &bootstrap(keys, &z, activation));
    assert_eq!((h.level(), h.primes()), (1, 3));
    let got = second_product(keys, &h, &layer.v) as f64;
    let want: f64 = (0..NEURONS).map(|l| activation(layer.z(l)) * layer.v[l] as f64).sum();
    let tolerance = tolerance(keys, &layer);
    assert!(want.abs() > 3.0 * tolerance, "the test's signal {want} must stand out of {tolerance}");
    assert!((got - want).abs() < tolerance, "{got} against {want} ± {tolerance}");
}

#[test]
fn without_the_bootstrap_the_result_is_wrong() {
    let keys = standard();
    let layer = Layer::new();
    let z = first_product(keys, &layer);
    // With the identity instead of the ReLU the same way ends elsewhere.
    let h = pack(keys, &bootstrap(keys, &z, |z| z as f64 / 4096.0));
    let got = second_product(keys, &h, &layer.v) as f64;
    let want: f64 = (0..NEURONS).map(|l| activation(layer.z(l)) * layer.v[l] as f64).sum();
    assert!((got - want).abs() > tolerance(keys, &layer));
    // A level-0 product result cannot enter a product: only bootstrap and packing lead back.
    let error = keys.server.operand(&z).err().unwrap().to_string();
    assert!(error.contains("level 0") && error.contains("standard"), "{error}");
}

#[test]
fn without_the_packing_the_result_is_wrong() {
    let keys = standard();
    let layer = Layer::new();
    let z = first_product(keys, &layer);
    let mut lwes = bootstrap(keys, &z, activation);
    // Leave out one value: the sum misses it.
    let left_out = (0..NEURONS).max_by_key(|&l| layer.z(l).max(0) * layer.v[l].abs()).unwrap();
    lwes[left_out] = LweBig::trivial(keys.client.profile(), 0);
    let got = second_product(keys, &pack(keys, &lwes), &layer.v) as f64;
    let want: f64 = (0..NEURONS).map(|l| activation(layer.z(l)) * layer.v[l] as f64).sum();
    assert!((got - want).abs() > tolerance(keys, &layer));
}
