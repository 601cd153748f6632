//! Shared by the tests of the kernels: keys made once per test program, statistics, integer references.
#![allow(dead_code)]

use hesn::he::{ClientKey, HeError, ServerKeys, params};
use std::sync::OnceLock;

pub struct Keys {
    pub client: ClientKey,
    pub server: ServerKeys,
}

/// Keys of the profile `standard`, made once.
pub fn standard() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| make("standard", 1).expect("keys of a gated profile"))
}

/// Keys of any profile, with the packing key at a level.
pub fn make(name: &str, pack_level: usize) -> Result<Keys, HeError> {
    let client = ClientKey::generate(params::profile(name)?)?;
    let server = client.server_keys_at(pack_level, &|_, _| {})?;
    Ok(Keys { client, server })
}

/// Test data: numbers that look random, the same in every run. No secret is made from them.
pub struct Data(u64);

impl Data {
    pub fn new(start: u64) -> Self {
        Data(start)
    }

    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [-1, 1).
    pub fn signed(&mut self) -> f64 {
        (self.word() >> 11) as f64 / 52f64.exp2() - 1.0
    }

    /// Uniform integers in [-bound, bound].
    pub fn integers(&mut self, count: usize, bound: i64) -> Vec<i64> {
        (0..count).map(|_| (self.signed() * (bound as f64 + 0.49)).round() as i64).collect()
    }
}

/// A fraction of the torus as a word.
pub fn torus(fraction: f64) -> u64 {
    (fraction * 64f64.exp2()).round() as i128 as u64
}

/// A word as a signed fraction of the torus.
pub fn fraction(word: u64) -> f64 {
    word as i64 as f64 / 64f64.exp2()
}

pub fn rms(errors: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0usize);
    for e in errors {
        sum += e * e;
        count += 1;
    }
    (sum / count as f64).sqrt()
}

pub fn centred(x: i64, t: u64) -> i64 {
    let r = x.rem_euclid(t as i64);
    if r >= t as i64 / 2 { r - t as i64 } else { r }
}

/// The product in Z_t[X]/(X^N + 1), centred.
pub fn ring_product(a: &[i64], b: &[i64], t: u64) -> Vec<i64> {
    let n = a.len();
    let mut sums = vec![0i64; n];
    for (i, &x) in a.iter().enumerate().filter(|&(_, &x)| x != 0) {
        for (j, &y) in b.iter().enumerate() {
            let term = x.wrapping_mul(y);
            if i + j < n {
                sums[i + j] = sums[i + j].wrapping_add(term);
            } else {
                sums[i + j - n] = sums[i + j - n].wrapping_sub(term);
            }
        }
    }
    sums.into_iter().map(|x| centred(x, t)).collect()
}

/// measured ≤ predicted ≤ measured + 1.5 bits, where the measured root mean square comes from `samples` values: its
/// own standard deviation is 1/√(2·samples) of it; four of them are granted.
pub fn assert_predicted(what: &str, measured_log2: f64, predicted_log2: f64, samples: usize) {
    let slack = (1.0 + 4.0 / (2.0 * samples as f64).sqrt()).log2();
    println!("{what}: measured 2^{measured_log2:.2}, predicted 2^{predicted_log2:.2}");
    assert!(
        measured_log2 <= predicted_log2 + slack,
        "{what}: measured 2^{measured_log2:.2} exceeds the prediction 2^{predicted_log2:.2}"
    );
    assert!(
        predicted_log2 <= measured_log2 + 1.5 + slack,
        "{what}: the prediction 2^{predicted_log2:.2} is loose: measured 2^{measured_log2:.2}"
    );
}
