//! Masks: a real factor for each coefficient of an output.

use super::{
    bootstrap::Bootstrapper, ciphertext::Ciphertext, complex::Complex, linear::LinearTransform,
    stages::BOTTOM,
};
use crate::he::{
    error::HeError,
    ring::{buffer::Buffer, key_switch::to_ntt, parallel, simd},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// log2 of the scale of a mask that is multiplied in slots.
pub(crate) const MASK_BITS: f64 = 22.0;
/// Folded masks that a bootstrapper keeps, in bytes.
const CACHE_BYTES: usize = 400 << 20;

/// A real factor of magnitude at most one per coefficient of the large ring: 0 hides a value, −1 negates it.
///
/// Where a function leaves a level, up to [`RingProfile::factor_degree`], a mask is multiplied in the slots: its plaintext is
/// encoded when it is first used, and kept (1.8 MB). Where it leaves none, the mask is folded into a matrix of the transform
/// to coefficients (40 MB, or 80 MB where the halves differ, a tenth of a second to make); the bootstrapper keeps those that
/// were used last, and equal masks share one. Such a mask also costs a pass of its own over that matrix, and precision.
///
/// [`RingProfile::factor_degree`]: super::params::RingProfile::factor_degree
pub struct Mask {
    degree: usize,
    /// None: ones everywhere.
    weights: Option<Vec<f64>>,
    plain: [OnceLock<Vec<Vec<u8>>>; 2],
    fingerprint: u64,
}

impl Mask {
    /// Lets every coefficient of a ring of `degree` through.
    pub fn all(degree: usize) -> Self {
        Mask { degree, weights: None, plain: Default::default(), fingerprint: 0 }
    }

    /// The given factors, one per coefficient of the ring.
    ///
    /// # Errors
    /// A weight is not in \[−1, 1\].
    pub fn new(weights: Vec<f64>) -> Result<Self, HeError> {
        if let Some((j, w)) = weights.iter().enumerate().find(|(_, w)| !(-1.0..=1.0).contains(*w)) {
            return Err(HeError::Slots {
                operation: "making a mask",
                reason: format!("the factor of coefficient {j} is {w}; factors are in -1 to 1"),
            });
        }
        let degree = weights.len();
        let weights = (!weights.iter().all(|&w| w == 1.0)).then_some(weights);
        let fingerprint = weights.as_deref().map_or(0, fingerprint);
        Ok(Mask { degree, weights, plain: Default::default(), fingerprint })
    }

    /// Degree of the ring that it is for.
    pub fn degree(&self) -> usize {
        self.degree
    }

    /// Whether it lets everything through.
    pub fn is_all(&self) -> bool {
        self.weights.is_none()
    }

    /// The factor of a coefficient.
    pub fn weight(&self, coefficient: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |w| w[coefficient])
    }

    /// Bytes in memory, with what has been encoded so far.
    pub fn bytes(&self) -> usize {
        let plain: usize = self.plain.iter().filter_map(OnceLock::get).flatten().map(Vec::len).sum();
        self.weights.as_ref().map_or(0, |w| 8 * w.len()) + plain
    }

    /// The factors of one half of the coefficients, in the order of the slots.
    fn half(&self, bootstrapper: &Bootstrapper, half: usize) -> Vec<f64> {
        let slots = self.degree / 2;
        (0..slots).map(|k| self.weight(bootstrapper.embedding.place(k) + half * slots)).collect()
    }

    /// One half's slots times the mask at scale 2^[`MASK_BITS`] times an integer, on `level` limbs: at most two above the
    /// bottom.
    pub(crate) fn multiply(
        &self,
        bootstrapper: &Bootstrapper,
        x: &Ciphertext,
        half: usize,
        level: usize,
        factor: u64,
    ) -> Ciphertext {
        let context = bootstrapper.context();
        let n = context.n;
        let limbs = parallel::once(&self.plain[half], || {
            let mut values: Vec<Complex> =
                self.half(bootstrapper, half).into_iter().map(|w| Complex::new(w, 0.0)).collect();
            bootstrapper.embedding.encode(&mut values);
            let scaled = |x: f64| (x * MASK_BITS.exp2()).round() as i64;
            let coefficients: Vec<i64> =
                values.iter().map(|x| scaled(x.re)).chain(values.iter().map(|x| scaled(x.im))).collect();
            let indices: Vec<usize> = (0..BOTTOM + 2).collect();
            let mut residues = to_ntt(context, &coefficients, &indices);
            let limbs = residues.chunks_exact_mut(n).zip(&context.m);
            limbs
                .map(|(limb, m)| {
                    simd::mulc_in(limb, m.r2, m.md);
                    let mut packed = vec![0; n * m.w + 64];
                    simd::pack(limb, m.w, 0, 1, &mut packed);
                    packed
                })
                .collect()
        });
        let mut c = [Buffer::new(n * level), Buffer::new(n * level)];
        let [c0, c1] = &mut c;
        for (i, (c0, c1)) in c0.chunks_exact_mut(n).zip(c1.chunks_exact_mut(n)).enumerate() {
            let m = &context.m[i];
            let [x0, x1] = x.limb(i, n);
            simd::diag(&limbs[i], 1, &[(0, x0, x1)], m.w, m.md, c0, c1);
            let constant = m.mont(factor % m.p);
            simd::mulc_in(c0, constant, m.md);
            simd::mulc_in(c1, constant, m.md);
        }
        Ciphertext { c, l: level, scale: x.scale * MASK_BITS.exp2() * factor as f64 }
    }

    /// What the mask is folded into a matrix with, for slots y whose imaginary parts hold the high half: the mean of the
    /// halves' factors, to be applied to y, and half of their difference, to be applied to conj(y), if they differ. Where
    /// only the low half is there, y is real, and its factors suffice.
    pub(crate) fn folding(&self, bootstrapper: &Bootstrapper, both: bool) -> (Vec<f64>, Option<Vec<f64>>) {
        let low = self.half(bootstrapper, 0);
        if !both {
            return (low, None);
        }
        let high = self.half(bootstrapper, 1);
        let combine =
            |sign: f64| -> Vec<f64> { low.iter().zip(&high).map(|(a, b)| (a + sign * b) / 2.0).collect() };
        (combine(1.0), (low != high).then(|| combine(-1.0)))
    }

    /// A number that differs with the factors.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

/// FNV-1a over words, with a rotation that brings their high bits down.
fn fingerprint(weights: &[f64]) -> u64 {
    weights.iter().fold(0xCBF2_9CE4_8422_2325, |hash: u64, w| {
        (hash ^ w.to_bits()).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(23)
    })
}

/// A mask folded into a matrix, and the matrix for conj(y) if there is one.
pub(crate) struct Folded {
    pub(crate) mean: LinearTransform,
    pub(crate) difference: Option<LinearTransform>,
}

impl Folded {
    fn bytes(&self) -> usize {
        self.mean.bytes() + self.difference.as_ref().map_or(0, LinearTransform::bytes)
    }
}

/// A folded mask, under its fingerprint and whether it is for both halves.
type Entry = ((u64, bool), Arc<Folded>);

/// Folded masks in the order of their use, the last one first, of up to [`CACHE_BYTES`].
#[derive(Default)]
pub(crate) struct FoldedMasks(Mutex<Vec<Entry>>);

impl FoldedMasks {
    /// The list. A panic elsewhere leaves it whole: entries are put in complete.
    fn list(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: (u64, bool)) -> Option<Arc<Folded>> {
        let mut list = self.list();
        let i = list.iter().position(|(k, _)| *k == key)?;
        let entry = list.remove(i);
        let folded = Arc::clone(&entry.1);
        list.insert(0, entry);
        Some(folded)
    }

    /// The folded mask, made by `encode` if it is not there.
    pub(crate) fn get(
        &self,
        bootstrapper: &Bootstrapper,
        mask: &Mask,
        both: bool,
        encode: impl Fn(&[f64]) -> LinearTransform,
    ) -> Arc<Folded> {
        let key = (mask.fingerprint(), both);
        self.find(key).unwrap_or_else(|| {
            let (mean, difference) = mask.folding(bootstrapper, both);
            let folded = Folded { mean: encode(&mean), difference: difference.as_deref().map(encode) };
            let folded = Arc::new(folded);
            let mut list = self.list();
            // Another bootstrap may have made it meanwhile.
            list.retain(|(other, _)| *other != key);
            list.insert(0, (key, Arc::clone(&folded)));
            let mut bytes = 0;
            list.retain(|(_, folded)| {
                bytes += folded.bytes();
                bytes <= CACHE_BYTES
            });
            folded
        })
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.list().iter().map(|(_, folded)| folded.bytes()).sum()
    }
}
