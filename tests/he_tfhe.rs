//! The switches between the schemes and the bootstrap: noise between the prediction and 1.5 bits below it.
#![cfg(feature = "client")]

mod he_common;

use he_common::*;
use hesn::he::{Control, HeError, LutTable, LweBig, LweSmall, PackEntry, noise};
use std::sync::atomic::{AtomicUsize, Ordering};

fn positions(lwes: &[LweBig]) -> Vec<PackEntry<'_>> {
    lwes.iter().enumerate().map(|(i, lwe)| PackEntry { lwe, coefficient: i, negate: false }).collect()
}

#[test]
fn the_ring_switch_adds_the_predicted_noise_from_every_level() {
    let Keys { client, server } = standard();
    let p = client.profile();
    let values = Data::new(1).integers(p.ring.degree, p.t() as i64 / 2 - 1);
    for level in 0..=p.depth() {
        let ring = server.switch_out(&client.encrypt(&values, level).unwrap()).unwrap();
        let errors = values.iter().enumerate().map(|(i, &v)| {
            let phase = client.decrypt_small(&ring.extract(i).unwrap());
            fraction(phase.wrapping_sub(torus(v as f64 / p.t() as f64)))
        });
        let predicted = 0.5 * noise::ring_switch_variance(p).log2();
        assert_predicted("ring switch", rms(errors).log2(), predicted, 1000);
    }
    let ring = server.switch_out(&client.encrypt(&values, 0).unwrap()).unwrap();
    assert!(matches!(
        ring.extract(4096),
        Err(HeError::CoefficientOutOfBounds { index: 4096, max: 4095, .. })
    ));
}

#[test]
fn a_linear_combination_of_lwes_adds_variances() {
    let Keys { client, server } = standard();
    let p = client.profile();
    let values = Data::new(2).integers(p.ring.degree, 1 << 20);
    let ring = server.switch_out(&client.encrypt(&values, 1).unwrap()).unwrap();
    let errors = (0..p.ring.degree / 2).map(|i| {
        let mut sum = ring.extract(2 * i).unwrap();
        sum.add_scaled(&ring.extract(2 * i + 1).unwrap(), -3).unwrap();
        sum.add_constant(torus(0.125));
        let want = (values[2 * i] - 3 * values[2 * i + 1]) as f64 / p.t() as f64 + 0.125;
        fraction(client.decrypt_small(&sum).wrapping_sub(torus(want)))
    });
    let predicted = 0.5 * (10.0 * noise::ring_switch_variance(p)).log2();
    assert_predicted("x - 3y", rms(errors).log2(), predicted, 1000);
}

/// Bootstraps values that come out of a ring ciphertext, as they do in a program.
fn look_up(keys: &Keys, inputs: &[f64], tables: &[LutTable], table_of: &[usize]) -> Vec<Vec<LweBig>> {
    let p = keys.client.profile();
    let values: Vec<i64> = inputs.iter().map(|z| (z * p.t() as f64 / 4.0).round() as i64).collect();
    let ring = keys.server.switch_out(&keys.client.encrypt(&values, 1).unwrap()).unwrap();
    let lwes: Vec<LweSmall> = (0..inputs.len()).map(|i| ring.extract(i).unwrap()).collect();
    keys.server.bootstrap(&lwes, table_of, tables, &Control::NONE).unwrap()
}

#[test]
fn tables_read_their_input_with_the_predicted_error() {
    let keys = standard();
    let p = keys.client.profile();
    let mut data = Data::new(3);
    let inputs: Vec<f64> = (0..256).map(|_| 0.95 * data.signed()).collect();
    // One batch mixes a table of one output with one of two.
    let identity = LutTable::new(p, |z| z / 4.0).unwrap();
    let pair = LutTable::pair(p, |z| z / 4.0, |z| if z < 0.0 { -0.125 } else { 0.125 }).unwrap();
    let table_of: Vec<usize> = (0..256).map(|i| i % 2).collect();
    let outputs = look_up(keys, &inputs, &[identity, pair], &table_of);
    for (outputs_per_input, parity) in [(1, 0), (2, 1)] {
        let errors = (0..256).filter(|i| i % 2 == parity).map(|i| {
            assert_eq!(outputs[i].len(), outputs_per_input);
            fraction(keys.client.decrypt_big(&outputs[i][0])) - inputs[i] / 4.0
        });
        let predicted = noise::lut_input_error(p, outputs_per_input, 1.0).log2();
        assert_predicted("table input", rms(errors).log2(), predicted, 128);
    }
    // The second function is right wherever the input is six errors away from its jump.
    let clear = 4.0 * 6.0 * noise::lut_input_error(p, 2, 1.0);
    for i in (1..256).step_by(2).filter(|&i| inputs[i].abs() > clear) {
        let step = fraction(keys.client.decrypt_big(&outputs[i][1]));
        assert!((step - 0.125 * inputs[i].signum()).abs() < 1e-4, "{} -> {step}", inputs[i]);
    }
}

#[test]
fn a_table_repeats_with_the_opposite_sign_beyond_its_range() {
    let keys = standard();
    let p = keys.client.profile();
    let table = LutTable::new(p, |z| (z + 1.0) / 16.0).unwrap();
    let outputs = look_up(keys, &[0.5, 1.5, -1.5], &[table], &[0, 0, 0]);
    let got: Vec<f64> = outputs.iter().map(|o| fraction(keys.client.decrypt_big(&o[0]))).collect();
    let want = [1.5 / 16.0, -0.5 / 16.0, -1.5 / 16.0];
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < 0.01, "{got} against {want}");
    }
}

#[test]
fn bootstraps_put_out_the_predicted_noise() {
    let keys = standard();
    let p = keys.client.profile();
    let inputs: Vec<f64> = Data::new(4).integers(256, 90).iter().map(|&z| z as f64 / 100.0).collect();
    let outputs = look_up(keys, &inputs, &[LutTable::new(p, |_| 0.125).unwrap()], &[0; 256]);
    let errors = outputs.iter().map(|o| fraction(keys.client.decrypt_big(&o[0])) - 0.125);
    let predicted = 0.5 * noise::pbs_output_variance(p).log2();
    assert_predicted("bootstrap output", rms(errors).log2(), predicted, 256);
}

#[test]
fn packed_values_have_the_predicted_error_and_ring_noise() {
    let Keys { client, server } = standard();
    let p = client.profile();
    let t = p.t() as f64;
    let mut data = Data::new(5);
    let values: Vec<f64> = (0..p.ring.degree).map(|_| 0.4 * data.signed()).collect();
    let words: Vec<u64> = values.iter().map(|&v| torus(v)).collect();
    let labels = client.encrypt_lwe_values(&words).unwrap();
    assert_eq!((labels.len(), labels.bytes()), (4096, 2 * (2048 * 8 + 16)));
    let lwes = labels.expand();
    for level in 0..=p.depth() {
        let packed = server.pack(&positions(&lwes), level).unwrap();
        assert_eq!((packed.level(), packed.primes()), (level, p.primes(level)));
        let integers = client.decrypt(&packed).unwrap();
        let errors = integers.iter().zip(&values).map(|(&m, v)| m as f64 - v * t);
        let predicted = noise::packed_error_units(p, noise::label_variance(p));
        assert_predicted("packed value", rms(errors).log2(), predicted.log2(), 1000);
        let measured = client.noise(&packed).unwrap().log2_rms;
        let predicted = noise::BfvNoise::packed(p, p.ring.degree, p.depth(), level).log2_relative();
        assert_predicted("ring noise of a pack", measured, predicted, 256);
    }
}

#[test]
fn a_product_of_packed_operands_is_exact_and_as_noisy_as_predicted() {
    let Keys { client, server } = standard();
    let p = client.profile();
    let mut data = Data::new(6);
    let mut pack = || {
        let words: Vec<u64> = (0..p.ring.degree).map(|_| torus(1e-4 * data.signed())).collect();
        let lwes = client.encrypt_lwe_values(&words).unwrap().expand();
        server.pack(&positions(&lwes), 1).unwrap()
    };
    let (a, b) = (pack(), pack());
    let product = server.product(&a, &b).unwrap();
    let want = ring_product(&client.decrypt(&a).unwrap(), &client.decrypt(&b).unwrap(), p.t());
    assert_eq!(client.decrypt(&product).unwrap(), want);
    let packed = noise::BfvNoise::packed(p, p.ring.degree, 1, 1);
    let measured = client.noise(&product).unwrap().log2_rms;
    assert_predicted("product of packs", measured, packed.product(packed, p, 1).log2_relative(), 256);
}

#[test]
fn packed_table_outputs_have_the_predicted_error() {
    let keys = standard();
    let p = keys.client.profile();
    let inputs: Vec<f64> = Data::new(7).integers(256, 90).iter().map(|&z| z as f64 / 100.0).collect();
    let outputs = look_up(keys, &inputs, &[LutTable::new(p, |_| 0.0625).unwrap()], &[0; 256]);
    let lwes: Vec<LweBig> = outputs.into_iter().flatten().collect();
    // Entries with a sign, spread over the ring, among packs of other sizes that share the pass over the key.
    let entries: Vec<_> =
        lwes.iter().enumerate().map(|(i, l)| PackEntry::at_exponent(l, -16 * i as i64, 4096)).collect();
    let packs =
        keys.server.pack_many(&[&entries[..1], &entries, &[], &entries[..3], &entries[..2]], 1).unwrap();
    let decrypted: Vec<Vec<i64>> = packs.iter().map(|c| keys.client.decrypt(c).unwrap()).collect();
    let value = p.t() as f64 / 16.0;
    let errors = (0..256).map(|i| {
        let (index, sign) = if i == 0 { (0, 1) } else { (4096 - 16 * i, -1) };
        (sign * decrypted[1][index]) as f64 - value
    });
    assert_predicted("packed table output", rms(errors).log2(), noise::packed_lut_error_units(p).log2(), 256);
    for (pack, filled) in [(0, 1), (1, 256), (2, 0), (3, 3), (4, 2)] {
        assert_eq!(decrypted[pack].iter().filter(|&&m| m != 0).count(), filled);
    }
    // A pack with few values is less noisy, as predicted.
    let measured = keys.client.noise(&packs[0]).unwrap().log2_rms;
    let predicted = noise::BfvNoise::packed(p, 1, 1, 1).log2_relative();
    assert_predicted("pack of one", measured, predicted, 256);
}

#[test]
fn a_bootstrap_reports_its_progress_and_stops_on_request() {
    let keys = standard();
    let p = keys.client.profile();
    let lwes = vec![LweSmall::trivial(p, 0); 40];
    let tables = [LutTable::new(p, |z| z / 4.0).unwrap()];
    let seen = AtomicUsize::new(0);
    let control = Control {
        progress: &|done, all| {
            assert_eq!(all, 40);
            seen.fetch_max(done, Ordering::Relaxed);
        },
        cancelled: &|| false,
    };
    keys.server.bootstrap(&lwes, &[0; 40], &tables, &control).unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 40);
    let stop = Control { cancelled: &|| true, ..Control::NONE };
    assert!(matches!(keys.server.bootstrap(&lwes, &[0; 40], &tables, &stop), Err(HeError::Cancelled)));
}

#[test]
fn lookups_and_packs_that_do_not_fit_are_errors() {
    let Keys { client, server } = standard();
    let p = client.profile();
    let small = vec![LweSmall::trivial(p, 0)];
    let tables = [LutTable::new(p, |z| z / 4.0).unwrap()];
    let run = |of: &[usize]| server.bootstrap(&small, of, &tables, &Control::NONE).map(|_| ()).unwrap_err();
    assert!(matches!(run(&[]), HeError::Count { got: 0, expected: 1, .. }));
    assert!(matches!(run(&[1]), HeError::TableOutOfBounds { index: 1, count: 1 }));
    let undefined = LutTable::new(p, |z| (z + 1.0).ln()).unwrap_err().to_string();
    assert!(undefined.contains("-inf") && undefined.contains("at input -1"), "{undefined}");

    let lwe = LweBig::trivial(p, 0);
    let at = |coefficient| PackEntry { lwe: &lwe, coefficient, negate: false };
    assert!(matches!(server.pack(&[at(4096)], 1), Err(HeError::CoefficientOutOfBounds { index: 4096, .. })));
    assert!(matches!(server.pack(&[at(5), at(5)], 1), Err(HeError::PackCollision(5))));
    assert!(matches!(server.pack(&[at(5)], 2), Err(HeError::LevelOutOfBounds { level: 2, max: 1, .. })));
    let fast = hesn::he::params::profile("deep").unwrap();
    let mut sum = LweSmall::trivial(fast, 1);
    assert!(sum.add_scaled(&small[0], 1).is_ok(), "profiles of one LWE key can be mixed");
}
