//! From slots back to coefficients: slot products, masks, sums, and the switch to the small secret.

use super::{
    bootstrap::{Bootstrapper, Halves, Slots},
    ciphertext::Ciphertext,
    keys::KeyId,
    linear::LinearTransform,
    mask::{MASK_BITS, Mask},
    stages::{BOTTOM, Class, Direction, Factor, Role},
};
use crate::he::{error::HeError, ring::parallel};

impl Bootstrapper {
    /// The element-wise product of a function's values with another's, at one level's price.
    ///
    /// # Errors
    /// The roles are not those of a first and a second factor.
    pub fn slot_product(&self, first: &Slots, second: &Slots) -> Result<Slots, HeError> {
        if (first.role, second.role) != (Role::FirstFactor, Role::SecondFactor) {
            return Err(HeError::Slots {
                operation: "slot product",
                reason: format!(
                    "its factors were evaluated as {:?} and {:?}; evaluate them as FirstFactor and SecondFactor",
                    first.role, second.role
                ),
            });
        }
        if first.halves.1.is_some() != second.halves.1.is_some() {
            return Err(HeError::Slots {
                operation: "slot product",
                reason:
                    "one factor has both halves of the coefficients, the other the low one; open both alike"
                        .to_owned(),
            });
        }
        let (halves, first) = (second.halves.clone(), Some(first.halves.clone()));
        Ok(Slots { halves, first, mean: 0.0, role: Role::Output })
    }

    /// The products of a slot product's halves, at the bottom level, with the mask where the second factor has a level for
    /// it; and whether it had.
    fn multiplied(&self, first: &Halves, second: &Halves, mask: &Mask) -> (Halves, bool) {
        let key = self.keys.key(KeyId::Relinearisation);
        let has_level = second.0.l > BOTTOM + 1;
        let scale = self.factor_scale(Role::SecondFactor);
        let product = |x: &Ciphertext, y: &Ciphertext, half: usize| {
            if has_level {
                let y = self.context().rescale(&self.masked(y, mask, half, BOTTOM + 1, scale));
                self.context().product(key, x, &y)
            } else {
                self.context().product(key, x, y)
            }
        };
        let halves = match (&first.1, &second.1) {
            (Some(b), Some(d)) => {
                let (low, high) = parallel::join(|| product(&first.0, &second.0, 0), || product(b, d, 1));
                (low, Some(high))
            }
            _ => (product(&first.0, &second.0, 0), None),
        };
        (halves, has_level)
    }

    /// x + conj(x): the same scaled values with twice the scale.
    pub(crate) fn twice_real(&self, x: &Ciphertext, class: Class) -> Ciphertext {
        let g = self.circuit().conjugation();
        let conjugate = self.context().automorphism(self.keys.key(KeyId::Galois(g, class)), x, g);
        self.context().combination(x.l, &[(x, (1, 0)), (&conjugate, (1, 0))], 2.0 * x.scale)
    }

    /// Sums of masked values, each back in coefficients: a ciphertext of two limbs (62 bits) under the embedded small
    /// secret, at the output scale. Keys and diagonals are read once for all outputs.
    ///
    /// # Errors
    /// A value is a factor of a slot product, or an output has no terms.
    pub fn close(&self, outputs: &[Vec<(&Slots, &Mask)>]) -> Result<Vec<Ciphertext>, HeError> {
        let context = self.context();
        let sums = outputs.iter().map(|terms| self.slot_sum(terms)).collect::<Result<Vec<_>, _>>()?;
        let plain: Vec<Ciphertext> = sums.iter().filter_map(|s| s.plain.clone()).collect();
        let masked: Vec<Ciphertext> = sums.iter().filter_map(|s| s.masked.clone()).collect();
        let run = |inputs: Vec<Ciphertext>, factors: &[LinearTransform]| {
            if inputs.is_empty() {
                return vec![];
            }
            factors.iter().fold(inputs, |x, f| f.apply(context, &self.keys, &x))
        };
        let mut plain = run(plain, &self.to_coefficients).into_iter();
        let after = if masked.is_empty() { &[][..] } else { self.after_mask() };
        let mut masked = run(masked, after).into_iter();
        let scale = self.profile().output_scale();
        let key = self.keys.key(KeyId::DenseToEmbedded);
        outputs
            .iter()
            .zip(&sums)
            .map(|(terms, sum)| {
                let parts = [
                    sum.plain.as_ref().and_then(|_| plain.next()),
                    sum.masked.as_ref().and_then(|_| masked.next()),
                ];
                let parts: Vec<&Ciphertext> = parts.iter().flatten().collect();
                let level = BOTTOM - 1;
                let mut out = match parts[..] {
                    [one] => one.clone(),
                    _ => {
                        let terms: Vec<_> = parts.iter().map(|&x| (x, (1, 0))).collect();
                        context.combination(level, &terms, scale)
                    }
                };
                out.scale = scale;
                self.add_means(&mut out, terms);
                Ok(context.small_switch(key, &out))
            })
            .collect()
    }

    /// Adds each function's mean where its mask lets it through.
    fn add_means(&self, out: &mut Ciphertext, terms: &[(&Slots, &Mask)]) {
        let n = self.context().n;
        let mut means = vec![0.0; n];
        for (slots, mask) in terms {
            let present = if slots.halves.1.is_some() { n } else { n / 2 };
            for (j, mean) in means[..present].iter_mut().enumerate() {
                *mean += slots.mean * mask.weight(j);
            }
        }
        let units: Vec<i64> = means.iter().map(|m| (m * out.scale).round() as i64).collect();
        self.context().add_coefficients(out, &units);
    }

    fn slot_sum(&self, terms: &[(&Slots, &Mask)]) -> Result<SlotSum, HeError> {
        let context = self.context();
        let invalid =
            |reason: &str| HeError::Slots { operation: "closing a bootstrap", reason: reason.to_owned() };
        if terms.is_empty() {
            return Err(invalid("an output has no terms; leave it away"));
        }
        let mut above: [Vec<Ciphertext>; 2] = Default::default();
        let mut bottom: [Vec<Ciphertext>; 2] = Default::default();
        let mut folded = vec![];
        for &(slots, mask) in terms {
            if slots.role != Role::Output {
                return Err(invalid(
                    "a value was evaluated as a factor of a slot product; evaluate it as an output, or close the product",
                ));
            }
            if mask.degree() != context.n {
                return Err(invalid(
                    "a mask has the length of another ring; make it with this bootstrapper's degree",
                ));
            }
            let ((low, high), is_masked) = match &slots.first {
                Some(first) => self.multiplied(first, &slots.halves, mask),
                None => (slots.halves.clone(), false),
            };
            if low.l == BOTTOM && !is_masked && !mask.is_all() {
                let y = self.recombine(&low, high.as_ref());
                folded.extend(self.fold_mask(&y, mask, high.is_some()));
                continue;
            }
            for (half, x) in [Some(low), high].into_iter().enumerate() {
                let Some(x) = x else { continue };
                if x.l > BOTTOM {
                    above[half].push(self.masked(&x, mask, half, BOTTOM, self.slot_scale()));
                } else {
                    bottom[half].push(x);
                }
            }
        }
        let half = |k: usize| -> Option<Ciphertext> {
            let sum = self.sum(&above[k].iter().collect::<Vec<_>>()).map(|x| context.rescale(&x));
            self.sum(&bottom[k].iter().chain(&sum).collect::<Vec<_>>())
        };
        let (low, high) = parallel::join(|| half(0), || half(1));
        let plain = low.map(|low| self.recombine(&low, high.as_ref()));
        Ok(SlotSum { plain, masked: self.sum(&folded.iter().collect::<Vec<_>>()) })
    }

    /// Sum of ciphertexts of one level and scale.
    fn sum(&self, terms: &[&Ciphertext]) -> Option<Ciphertext> {
        let first = terms.first()?;
        if terms.len() == 1 {
            return Some((*first).clone());
        }
        // A sum of products takes sixteen terms at a time.
        let mut chunks = terms.chunks(15);
        let combine = |terms: &[&Ciphertext]| {
            let terms: Vec<_> = terms.iter().map(|&x| (x, (1, 0))).collect();
            self.context().combination(first.l, &terms, first.scale)
        };
        let start = combine(chunks.next()?);
        Some(chunks.fold(start, |sum, chunk| {
            let terms: Vec<&Ciphertext> = chunk.iter().copied().chain([&sum]).collect();
            combine(&terms)
        }))
    }

    /// (A + iB) + conj(A − iB) = 2·(Re A + i·Re B).
    fn recombine(&self, low: &Ciphertext, high: Option<&Ciphertext>) -> Ciphertext {
        let Some(high) = high else { return self.twice_real(low, Class::Low) };
        let (context, l, g) = (self.context(), BOTTOM, self.circuit().conjugation());
        let v = context.combination(l, &[(low, (1, 0)), (high, (0, -1))], low.scale);
        let conjugate = context.automorphism(self.keys.key(KeyId::Galois(g, Class::Low)), &v, g);
        context.combination(l, &[(low, (1, 0)), (high, (0, 1)), (&conjugate, (1, 0))], 2.0 * low.scale)
    }

    /// One half times a mask, on one limb more than `level`, at the scale that a rescaling brings to `scale`.
    fn masked(&self, x: &Ciphertext, mask: &Mask, half: usize, level: usize, scale: f64) -> Ciphertext {
        let wanted = scale * self.context().m[level].p as f64;
        if mask.is_all() {
            let factor = (wanted / x.scale).round();
            return self.context().combination(level + 1, &[(x, (factor as i128, 0))], wanted);
        }
        let factor = (wanted / x.scale / MASK_BITS.exp2()).round();
        let mut product = mask.multiply(self, x, half, level + 1, factor as u64);
        product.scale = wanted;
        product
    }

    /// The first factor of the transform to coefficients with a mask folded in, applied.
    fn fold_mask(&self, y: &Ciphertext, mask: &Mask, both: bool) -> Vec<Ciphertext> {
        let folded = self.folded_masks.get(self, mask, both, |weights| {
            let factor = &self.circuit().stages.masked_to_coefficients[0];
            LinearTransform::new(self.context(), &self.embedding, factor, &self.first_matrix, Some(weights))
        });
        let apply = |t: &LinearTransform, y: &Ciphertext| {
            t.apply(self.context(), &self.keys, std::slice::from_ref(y)).swap_remove(0)
        };
        let mut out = vec![apply(&folded.mean, y)];
        if let Some(difference) = &folded.difference {
            let g = self.circuit().conjugation();
            let key = self.keys.key(KeyId::Galois(g, Class::Low));
            out.push(apply(difference, &self.context().automorphism(key, y, g)));
        }
        out
    }

    /// The factors after a masked first one: 120 MB, made when first needed.
    fn after_mask(&self) -> &[LinearTransform] {
        let make = || -> Vec<LinearTransform> {
            let direction = Direction::ToCoefficients;
            let factors = &self.circuit().stages.masked_to_coefficients[1..];
            let encode = |f: &Factor| {
                let matrix = self.embedding.factor(&f.lengths, direction);
                LinearTransform::new(self.context(), &self.embedding, f, &matrix, None)
            };
            factors.iter().map(encode).collect()
        };
        parallel::once::<Vec<_>>(&self.after_mask, make)
    }
}

/// An output's slots at the bottom level: those that take the plain transform, and those behind the first factor of the
/// masked one.
struct SlotSum {
    plain: Option<Ciphertext>,
    masked: Option<Ciphertext>,
}
