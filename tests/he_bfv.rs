//! BFV kernels: exact results, real levels, and noise between the prediction and 1.5 bits below it.
#![cfg(feature = "client")]

mod he_common;

use he_common::*;
use hesn::he::{Ciphertext, ClientKey, HeError, noise::BfvNoise};

/// Samples that count as independent in a noise measurement: the coefficients of one ciphertext share key and
/// operands.
const SAMPLES: usize = 256;

fn check_noise(what: &str, client: &ClientKey, ciphertext: &Ciphertext, predicted: BfvNoise) {
    let measured = client.noise(ciphertext).unwrap();
    assert_predicted(what, measured.log2_rms, predicted.log2_relative(), SAMPLES);
}

#[test]
fn encryption_at_every_level_is_exact_and_as_noisy_as_predicted() {
    let Keys { client, .. } = standard();
    let p = client.profile();
    let half = p.t() as i64 / 2;
    let mut values = Data::new(1).integers(p.ring.degree, half - 1);
    values[0] = -half;
    for level in 0..=p.depth() {
        let ct = client.encrypt(&values, level).unwrap();
        assert_eq!((ct.level(), ct.primes()), (level, p.primes(level)));
        assert_eq!(client.decrypt(&ct).unwrap(), values);
        check_noise("fresh", client, &ct, BfvNoise::fresh(p, level));
    }
}

#[test]
fn linear_operations_are_exact_and_as_noisy_as_predicted() {
    let Keys { client, .. } = standard();
    let p = client.profile();
    let (n, t) = (p.ring.degree, p.t());
    let mut data = Data::new(2);
    let (a, b) = (data.integers(n, 1 << 23), data.integers(n, 1 << 23));
    let (x, y) = (client.encrypt(&a, 1).unwrap(), client.encrypt(&b, 1).unwrap());
    let fresh = BfvNoise::fresh(p, 1);
    let each = |f: &dyn Fn(i64, i64) -> i64| {
        a.iter().zip(&b).map(|(&a, &b)| centred(f(a, b), t)).collect::<Vec<_>>()
    };

    let sum = x.add(&y).unwrap();
    assert_eq!(client.decrypt(&sum).unwrap(), each(&|a, b| a + b));
    check_noise("sum", client, &sum, fresh.plus(fresh));
    assert_eq!(client.decrypt(&x.sub(&y).unwrap()).unwrap(), each(&|a, b| a - b));
    assert_eq!(client.decrypt(&x.negate().unwrap()).unwrap(), each(&|a, _| -a));
    for factor in [-3000, -1, 0, 1, 7] {
        let scaled = x.mul_integer(factor).unwrap();
        assert_eq!(client.decrypt(&scaled).unwrap(), each(&|a, _| factor * a));
        if factor.abs() > 100 {
            check_noise("integer multiple", client, &scaled, fresh.times_integer(factor));
        }
    }
    assert_eq!(client.decrypt(&x.add_plain(&b).unwrap()).unwrap(), each(&|a, b| a + b));

    let mut plain = vec![0; n];
    for i in 0..50 {
        plain[i * 80] = [1, -1, 3][i % 3];
    }
    let masked = x.mul_plain(&plain).unwrap();
    assert_eq!(client.decrypt(&masked).unwrap(), ring_product(&plain, &a, t));
    let norm = plain.iter().map(|w| (w * w) as f64).sum();
    check_noise("plaintext product", client, &masked, fresh.times_plain(norm));

    let lower = x.switch_down(0).unwrap();
    assert_eq!((lower.level(), lower.primes()), (0, 2));
    assert_eq!(client.decrypt(&lower).unwrap(), a);
    check_noise("switch down", client, &lower, fresh.switch_down(p, 0));
    let zero = Ciphertext::zero(client.ring(), 0).unwrap();
    assert_eq!(client.decrypt(&zero.add(&lower).unwrap()).unwrap(), a);
}

#[test]
fn products_are_exact_and_as_noisy_as_predicted() {
    let Keys { client, server } = standard();
    let p = client.profile();
    let (n, t) = (p.ring.degree, p.t());
    let mut data = Data::new(3);
    let (a, b) = (data.integers(n, 1500), data.integers(n, 1500));
    let (x, y) = (client.encrypt(&a, 1).unwrap(), client.encrypt(&b, 1).unwrap());
    let fresh = BfvNoise::fresh(p, 1);
    let want = ring_product(&a, &b, t);

    let product = server.product(&x, &y).unwrap();
    assert_eq!((product.level(), product.primes()), (0, 2), "the result lives in fewer primes");
    assert_eq!(client.decrypt(&product).unwrap(), want);
    check_noise("product", client, &product, fresh.product(fresh, p, 1));

    // Sixty-four products of one sign, accumulated: every sum is as large as it can be.
    let encrypt = |v: &[i64]| -> Vec<_> {
        (0..8).map(|_| server.operand(&client.encrypt(v, 1).unwrap()).unwrap()).collect()
    };
    let (xs, ys) = (encrypt(&a), encrypt(&b));
    let pairs: Vec<_> = xs.iter().flat_map(|x| ys.iter().map(move |y| (x, y))).collect();
    let sum = server.product_sum(&pairs).unwrap();
    let want: Vec<i64> = want.iter().map(|w| centred(64 * w, t)).collect();
    assert_eq!(client.decrypt(&sum).unwrap(), want);
    check_noise("sum of products", client, &sum, BfvNoise::product_sum(p, 1, vec![(fresh, fresh); 64]));
}

#[test]
fn extreme_operands_do_not_overflow_the_product_basis() {
    let Keys { client, server } = standard();
    let p = client.profile();
    let half = p.t() as i64 / 2;
    let (a, b) = (vec![-half; p.ring.degree], vec![half - 1; p.ring.degree]);
    let product = server.product(&client.encrypt(&a, 1).unwrap(), &client.encrypt(&b, 1).unwrap()).unwrap();
    assert_eq!(client.decrypt(&product).unwrap(), ring_product(&a, &b, p.t()));
}

#[test]
fn a_hundred_updates_leave_a_master_exact() {
    let Keys { client, server } = standard();
    let p = client.profile();
    let mut data = Data::new(4);
    let (a, b) = (data.integers(p.ring.degree, 300), data.integers(p.ring.degree, 300));
    let mut master = client.encrypt(&[0], 0).unwrap();
    for _ in 0..100 {
        let x = client.encrypt(&a, 1).unwrap();
        let y = client.encrypt(&b, 1).unwrap();
        master.sub_assign(&server.product(&x, &y).unwrap()).unwrap();
    }
    let want: Vec<i64> = ring_product(&a, &b, p.t()).iter().map(|w| centred(-100 * w, p.t())).collect();
    assert_eq!(client.decrypt(&master).unwrap(), want);
    let fresh = BfvNoise::fresh(p, 1);
    check_noise(
        "master after a hundred updates",
        client,
        &master,
        fresh.product(fresh, p, 1).times_count(100.0),
    );
}

#[test]
fn what_does_not_fit_is_an_error_that_names_both_sides() {
    let Keys { client, server } = standard();
    let (high, low) = (client.encrypt(&[1], 1).unwrap(), client.encrypt(&[1], 0).unwrap());
    let message = |e: HeError| e.to_string();
    let levels = message(high.add(&low).unwrap_err());
    assert!(levels.contains("levels 1 and 0"), "{levels}");
    assert!(matches!(client.encrypt(&[1], 2), Err(HeError::LevelOutOfBounds { level: 2, max: 1, .. })));
    assert!(matches!(low.switch_down(1), Err(HeError::LevelOutOfBounds { level: 1, max: 0, .. })));
    assert!(matches!(client.encrypt(&vec![0; 4097], 1), Err(HeError::TooManyCoefficients { got: 4097, .. })));
    assert!(matches!(high.add_plain(&vec![0; 4097]), Err(HeError::TooManyCoefficients { got: 4097, .. })));
    assert!(matches!(high.mul_integer(1 << 20), Err(HeError::MultiplierTooLarge { .. })));
    assert!(matches!(server.operand(&low), Err(HeError::LevelExhausted { depth: 1, .. })));
    assert!(matches!(server.product_sum(&[]), Err(HeError::Count { .. })));

    let other = ClientKey::generate(hesn::he::params::profile("precise").unwrap()).unwrap();
    let foreign = other.encrypt(&[1], 1).unwrap();
    let profiles = message(high.add(&foreign).unwrap_err());
    assert!(profiles.contains("'standard'") && profiles.contains("'precise'"), "{profiles}");
    assert!(matches!(server.operand(&foreign), Err(HeError::ProfileMismatch { .. })));
    assert!(matches!(client.decrypt(&foreign), Err(HeError::ProfileMismatch { .. })));
}

#[test]
fn ciphertexts_survive_the_wire_and_damage_is_an_error() {
    let Keys { client, server } = standard();
    let p = client.profile();
    let values = Data::new(8).integers(p.ring.degree, 1000);
    let fresh = client.encrypt(&values, 1).unwrap();
    let changed = server.product(&fresh, &fresh).unwrap();
    let bytes = fresh.to_bytes();
    assert!(bytes.len().abs_diff(p.seeded_ciphertext_bytes(1)) < 100, "a fresh one is sent with a seed");
    for (ct, level) in [(&fresh, 1), (&changed, 0)] {
        let back = Ciphertext::from_bytes(&ct.to_bytes()).unwrap();
        assert_eq!((back.level(), back.primes()), (level, p.primes(level)));
        assert_eq!(client.decrypt(&back).unwrap(), client.decrypt(ct).unwrap());
        assert!(back.add(ct).is_ok(), "it belongs to the same ring");
    }
    let message = |bytes: &[u8]| Ciphertext::from_bytes(bytes).unwrap_err().to_string();
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        message(&bytes)
    };
    assert!(message(&[]).contains("0 bytes"));
    assert!(message(b"a text that is no ciphertext").contains("does not begin"));
    assert!(with(4, 9).contains("version 9"));
    assert!(with(7, bytes[7] ^ 1).contains("none of this program's profiles"));
    assert!(with(14, 0).contains("not those of level 0"));
    assert!(with(14, 77).contains("level 77 is out of bounds"));
    assert!(message(&bytes[..bytes.len() / 2]).contains("malformed"));
    assert!(message(&bytes[..15]).contains("malformed"));
}
