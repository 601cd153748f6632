//! Secret randomness, from the operating system's generator alone. No function takes a seed, none branches or indexes
//! memory by what it draws, and every buffer is wiped.

use crate::he::error::HeError;
use rand::{TryRngCore, rngs::OsRng};
use zeroize::Zeroizing;

/// Coin flips per side of the centred binomial noise: its variance is half of that, [`RING_NOISE_VARIANCE`].
///
/// [`RING_NOISE_VARIANCE`]: crate::he::params::RING_NOISE_VARIANCE
const NOISE_FLIPS: u32 = 20;

/// Fills `bytes` from the operating system's generator.
///
/// # Errors
/// The operating system gives no randomness.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), HeError> {
    OsRng.try_fill_bytes(bytes).map_err(|e| HeError::Randomness(e.to_string()))
}

/// A seed of a public half: random, not secret.
///
/// # Errors
/// The operating system gives no randomness.
pub(crate) fn seed() -> Result<[u8; 32], HeError> {
    let mut seed = [0; 32];
    fill(&mut seed)?;
    Ok(seed)
}

fn words(count: usize) -> Result<Zeroizing<Vec<u64>>, HeError> {
    let mut bytes = Zeroizing::new(vec![0u8; 8 * count]);
    fill(&mut bytes)?;
    let word = |b: &[u8]| b.iter().rev().fold(0, |w, &x| w << 8 | u64::from(x));
    Ok(Zeroizing::new(bytes.chunks_exact(8).map(word).collect()))
}

/// ⌊r·m/2^64⌋: uniform below m for a uniform r, up to m·2^-64.
fn below(r: u64, m: u64) -> u64 {
    ((u128::from(r) * u128::from(m)) >> 64) as u64
}

/// `count` values of centred binomial noise of variance 10, by population counts.
///
/// # Errors
/// The operating system gives no randomness.
pub(crate) fn noise(count: usize) -> Result<Zeroizing<Vec<i64>>, HeError> {
    let mask = (1u64 << NOISE_FLIPS) - 1;
    let flips =
        |w: u64| i64::from((w & mask).count_ones()) - i64::from((w >> NOISE_FLIPS & mask).count_ones());
    Ok(Zeroizing::new(words(count)?.iter().map(|&w| flips(w)).collect()))
}

/// `count` uniform values of {−1, 0, 1}.
///
/// # Errors
/// The operating system gives no randomness.
pub(crate) fn ternary(count: usize) -> Result<Zeroizing<Vec<i64>>, HeError> {
    Ok(Zeroizing::new(words(count)?.iter().map(|&w| below(w, 3) as i64 - 1).collect()))
}

/// `count` values of which exactly `weight`, at uniform places, are ±1 with uniform signs and the others zero:
/// selection sampling, where place i is taken with probability (still to take)/(places left).
///
/// # Errors
/// The operating system gives no randomness.
pub(crate) fn sparse(count: usize, weight: usize) -> Result<Zeroizing<Vec<i64>>, HeError> {
    let (draws, signs) = (words(count)?, words(count)?);
    let mut missing = weight as u64;
    let mut values = Zeroizing::new(vec![0i64; count]);
    for (i, value) in values.iter_mut().enumerate() {
        let position = below(draws[i], (count - i) as u64);
        // The top bit of the wrapped difference says whether position < missing.
        let taken = position.wrapping_sub(missing) >> 63;
        missing -= taken;
        *value = taken as i64 * (1 - 2 * (signs[i] & 1) as i64);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::he::params::RING_NOISE_VARIANCE;

    fn moments(values: &[i64]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().sum::<i64>() as f64 / n;
        (mean, values.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / n)
    }

    #[test]
    fn the_samplers_have_the_moments_of_their_distributions() {
        let n = 1 << 18;
        let (mean, variance) = moments(&noise(n).unwrap());
        // Six standard deviations of the estimates.
        assert!(mean.abs() < 0.04, "{mean}");
        assert!((variance / RING_NOISE_VARIANCE - 1.0).abs() < 0.02, "{variance}");
        let values = ternary(n).unwrap();
        let (mean, variance) = moments(&values);
        assert!(mean.abs() < 0.01 && (variance - 2.0 / 3.0).abs() < 0.01, "{mean} {variance}");
        assert!(values.iter().all(|x| (-1..=1).contains(x)));
    }

    #[test]
    fn a_sparse_secret_has_its_weight_at_uniform_places() {
        let mut places = [0usize; 4];
        let mut sum = 0;
        for _ in 0..64 {
            let values = sparse(4096, 32).unwrap();
            assert_eq!(values.iter().map(|x| x.unsigned_abs()).sum::<u64>(), 32);
            assert!(values.iter().all(|x| (-1..=1).contains(x)));
            sum += values.iter().sum::<i64>();
            for (i, _) in values.iter().enumerate().filter(|(_, x)| **x != 0) {
                places[i / 1024] += 1;
            }
        }
        // 2048 draws: 512 expected in each quarter, six standard deviations are 118; of the signs' sum, 272.
        assert!(places.iter().all(|&k| k.abs_diff(512) < 118), "{places:?}");
        assert!(sum.abs() < 272, "{sum}");
    }
}
