//! The profiles besides `standard`: real levels through two products, and the noise of their own bootstraps.
#![cfg(feature = "client")]

mod he_common;

use he_common::*;
use hesn::he::{Control, LutTable, LweBig, PackEntry, noise, noise::BfvNoise, params};

/// Table outputs of `inputs` in [-1, 1), from LWEs as a ring switch leaves them.
fn look_up(keys: &Keys, inputs: &[f64], table: LutTable) -> Vec<LweBig> {
    let p = keys.client.profile();
    let values: Vec<i64> = inputs.iter().map(|z| (z * p.t() as f64 / 4.0).round() as i64).collect();
    let ring = keys.server.switch_out(&keys.client.encrypt(&values, 0).unwrap()).unwrap();
    let lwes: Vec<_> = (0..inputs.len()).map(|i| ring.extract(i).unwrap()).collect();
    let outputs = keys.server.bootstrap(&lwes, &vec![0; inputs.len()], &[table], &Control::NONE).unwrap();
    outputs.into_iter().flatten().collect()
}

/// Input error, output noise and packed error of a profile's tables.
fn check_tables(keys: &Keys) {
    let p = keys.client.profile();
    let mut data = Data::new(9);
    let inputs: Vec<f64> = (0..96).map(|_| 0.95 * data.signed()).collect();
    let outputs = look_up(keys, &inputs, LutTable::new(p, |z| z / 4.0).unwrap());
    let errors = outputs.iter().zip(&inputs).map(|(o, z)| fraction(keys.client.decrypt_big(o)) - z / 4.0);
    assert_predicted(p.name, rms(errors).log2(), noise::lut_input_error(p, 1, 1.0).log2(), 96);

    let outputs = look_up(keys, &inputs, LutTable::new(p, |_| 0.0625).unwrap());
    let errors = outputs.iter().map(|o| fraction(keys.client.decrypt_big(o)) - 0.0625);
    assert_predicted(p.name, rms(errors).log2(), 0.5 * noise::pbs_output_variance(p).log2(), 96);

    let level = keys.server.pack_level();
    let entries: Vec<_> =
        outputs.iter().enumerate().map(|(i, lwe)| PackEntry { lwe, coefficient: i, negate: false }).collect();
    let packed = keys.server.pack(&entries, level).unwrap();
    let integers = keys.client.decrypt(&packed).unwrap();
    let errors = integers[..96].iter().map(|&m| m as f64 - p.t() as f64 / 16.0);
    assert_predicted(p.name, rms(errors).log2(), noise::packed_lut_error_units(p).log2(), 96);
    let predicted = BfvNoise::packed(p, 96, level, level).log2_relative();
    assert_predicted(p.name, keys.client.noise(&packed).unwrap().log2_rms, predicted, 256);
}

#[test]
fn fast_tables_are_as_noisy_as_predicted() {
    check_tables(&make("fast", 1).unwrap());
}

#[test]
fn precise_tables_are_as_noisy_as_predicted() {
    check_tables(&make("precise", 1).unwrap());
}

#[test]
fn deep_allows_one_product_after_another() {
    let keys = make("deep", 1).unwrap();
    let Keys { client, server } = &keys;
    let p = client.profile();
    let (n, t) = (p.ring.degree, p.t());
    let mut data = Data::new(11);
    let mut integers = || data.integers(n, 20);
    let (a, b, c, d) = (integers(), integers(), integers(), integers());
    let fresh = |v: &[i64], level| client.encrypt(v, level).unwrap();
    let check = |what, ct: &_, want: &[i64], predicted: BfvNoise| {
        assert_eq!(client.decrypt(ct).unwrap(), want, "{what}");
        assert_predicted(what, client.noise(ct).unwrap().log2_rms, predicted.log2_relative(), 256);
    };
    let noise_at = |level| BfvNoise::fresh(p, level);
    assert_eq!(p.depth(), 3);

    let ab = server.product(&fresh(&a, 3), &fresh(&b, 3)).unwrap();
    assert_eq!((ab.level(), ab.primes()), (2, 4));
    let (want, predicted) = (ring_product(&a, &b, t), noise_at(3).product(noise_at(3), p, 3));
    check("first product", &ab, &want, predicted);

    let abc = server.product(&ab, &fresh(&c, 2)).unwrap();
    assert_eq!((abc.level(), abc.primes()), (1, 3));
    let (want, predicted) = (ring_product(&want, &c, t), predicted.product(noise_at(2), p, 2));
    check("second product", &abc, &want, predicted);

    // The last factor comes out of a packing, the noisiest operand there is.
    let words: Vec<u64> = d.iter().map(|&v| torus(v as f64 / t as f64)).collect();
    let lwes = client.encrypt_lwe_values(&words).unwrap().expand();
    let entries: Vec<_> =
        lwes.iter().enumerate().map(|(i, lwe)| PackEntry { lwe, coefficient: i, negate: false }).collect();
    let packed = server.pack(&entries, 1).unwrap();
    let abcd = server.product(&abc, &packed).unwrap();
    assert_eq!((abcd.level(), abcd.primes()), (0, 2));
    let want = ring_product(&want, &client.decrypt(&packed).unwrap(), t);
    let packed = BfvNoise::packed(p, n, 1, 1);
    check("third product", &abcd, &want, predicted.product(packed, p, 1));

    check_tables(&keys);
}

#[test]
fn key_sizes_are_those_of_the_table() {
    let p = params::profile("standard").unwrap();
    let bytes = standard().server.bytes();
    assert_eq!(bytes.bootstrap, p.bootstrap_key_bytes());
    assert_eq!(bytes.packing, p.packing_key_bytes());
    assert_eq!(bytes.ring_switch, p.ring_switch_key_bytes());
    assert_eq!(bytes.total(), p.server_key_bytes());
    assert_eq!((bytes.packing, p.ciphertext_bytes(0)), (402_653_184, 131_072));
}
