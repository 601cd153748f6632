//! Masks: a real factor for each coefficient of an output.

use super::{bootstrap::Bootstrapper, ciphertext::Ciphertext, complex::Complex, linear::LinearTransform};
use crate::he::{
    error::HeError,
    ring::{buffer::Buffer, key_switch::to_ntt, simd},
};
use std::sync::OnceLock;

/// log2 of the scale of a mask that is multiplied in slots.
pub(crate) const MASK_BITS: f64 = 22.0;

/// A real factor of magnitude at most one per coefficient of the large ring: 0 hides a value, −1 negates it.
///
/// What a mask is multiplied by is encoded when it is first used and kept: 1.3 MB where the function leaves a level, and
/// 40 MB, or 80 MB where the halves differ, where it does not, since the mask then is folded into the matrix of a transform.
pub struct Mask {
    degree: usize,
    /// None: ones everywhere.
    weights: Option<Vec<f64>>,
    plain: [OnceLock<Vec<Vec<u8>>>; 2],
    folded: OnceLock<(LinearTransform, Option<LinearTransform>)>,
}

impl Mask {
    /// Lets every coefficient of a ring of `degree` through.
    pub fn all(degree: usize) -> Self {
        Mask { degree, weights: None, plain: Default::default(), folded: OnceLock::new() }
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
        Ok(Mask { degree, weights, plain: Default::default(), folded: OnceLock::new() })
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
        let folded =
            self.folded.get().map_or(0, |(a, b)| a.bytes() + b.as_ref().map_or(0, LinearTransform::bytes));
        self.weights.as_ref().map_or(0, |w| 8 * w.len()) + plain + folded
    }

    /// The factors of one half of the coefficients, in the order of the slots.
    fn half(&self, bootstrapper: &Bootstrapper, half: usize) -> Vec<f64> {
        let slots = self.degree / 2;
        (0..slots).map(|k| self.weight(bootstrapper.embedding.place(k) + half * slots)).collect()
    }

    /// One half's slots times the mask at scale 2^[`MASK_BITS`] times an integer, on `level` limbs.
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
        let limbs = self.plain[half].get_or_init(|| {
            let mut values: Vec<Complex> =
                self.half(bootstrapper, half).into_iter().map(|w| Complex::new(w, 0.0)).collect();
            bootstrapper.embedding.encode(&mut values);
            let scaled = |x: f64| (x * MASK_BITS.exp2()).round() as i64;
            let coefficients: Vec<i64> =
                values.iter().map(|x| scaled(x.re)).chain(values.iter().map(|x| scaled(x.im))).collect();
            let indices: Vec<usize> = (0..level).collect();
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

    /// The mask folded into a matrix F that `encode` makes: F·diag(mean of the halves), to be applied to slots y, and
    /// F·diag(half the difference of the halves), to be applied to conj(y), if they differ.
    pub(crate) fn folded(
        &self,
        bootstrapper: &Bootstrapper,
        encode: impl Fn(&[f64]) -> LinearTransform,
    ) -> &(LinearTransform, Option<LinearTransform>) {
        self.folded.get_or_init(|| {
            let (low, high) = (self.half(bootstrapper, 0), self.half(bootstrapper, 1));
            let combine = |sign: f64| -> Vec<f64> {
                low.iter().zip(&high).map(|(a, b)| (a + sign * b) / 2.0).collect()
            };
            (encode(&combine(1.0)), (low != high).then(|| encode(&combine(-1.0))))
        })
    }
}
