//! The functional bootstrap: functions of 32,768 values of one ciphertext at once. The server's side, without secrets.
//!
//!     raise ─> coefficients to slots ─> exponential ─> powers ─┬> polynomial ─┬> slots to coefficients ─> small secret
//!                                                             └> polynomial ─┘
//!
//! [`Bootstrapper::open`] goes as far as the powers, which all functions of the same inputs share;
//! [`Bootstrapper::polynomial`] evaluates one function in slots; [`Bootstrapper::slot_product`] multiplies two results
//! element by element; [`Bootstrapper::close`] brings sums of them back to coefficients.

use super::{
    ciphertext::Ciphertext,
    circuit::Circuit,
    dft::{Diagonals, Embedding},
    fit::TrigPolynomial,
    keys::{BootstrapKeys, KeyId},
    linear::LinearTransform,
    mask::{FoldedMasks, MASK_BITS, Mask},
    params::RingProfile,
    polynomial::{Evaluator, HalfPowers},
    stages::{BOTTOM, Class, Direction, Factor, Role},
};
use crate::he::{
    error::HeError,
    ring::{context::RnsContext, parallel},
};
use std::sync::OnceLock;

/// Which coefficients of an input are useful. The others may hold anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// All.
    Both,
    /// Coefficients below N/2 of the large ring, that is those below 2048 of its eight small rings: the exponential,
    /// powers and polynomials are evaluated once instead of twice.
    Low,
}

/// Powers of exp(2πi·t) of an input's values t, in slots.
pub struct Powers {
    pub(crate) halves: (HalfPowers, Option<HalfPowers>),
    degree: usize,
}

/// Values of a function in slots. The mean is left away until they are back in coefficients, since rounding errors are
/// relative to the values' size.
pub struct Slots {
    pub(crate) halves: (Ciphertext, Option<Ciphertext>),
    pub(crate) mean: f64,
    role: Role,
}

impl Slots {
    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.halves.0.bytes() + self.halves.1.as_ref().map_or(0, Ciphertext::bytes)
    }
}

/// Evaluates functions on ciphertexts of the large ring.
pub struct Bootstrapper {
    keys: BootstrapKeys,
    pub(crate) embedding: Embedding,
    to_slots: Vec<LinearTransform>,
    to_coefficients: Vec<LinearTransform>,
    /// The first factor's matrix, for masks that are folded into it.
    first_matrix: Diagonals,
    /// The other factors after a masked first one.
    after_mask: OnceLock<Vec<LinearTransform>>,
    folded_masks: FoldedMasks,
}

impl Bootstrapper {
    /// Encodes the transforms: about 450 MB and two seconds on one core.
    pub fn new(keys: BootstrapKeys) -> Self {
        let circuit = &*keys.circuit;
        let context = &circuit.context;
        let embedding = Embedding::new(context.n / 2);
        let transform = |factors: &[Factor], direction| -> Vec<LinearTransform> {
            factors
                .iter()
                .map(|f| {
                    LinearTransform::new(
                        context,
                        &embedding,
                        f,
                        &embedding.factor(&f.lengths, direction),
                        None,
                    )
                })
                .collect()
        };
        let to_slots = transform(&circuit.stages.to_slots, Direction::ToSlots);
        let to_coefficients = transform(&circuit.stages.to_coefficients, Direction::ToCoefficients);
        let first = &circuit.stages.to_coefficients[0].lengths;
        let first_matrix = embedding.factor(first, Direction::ToCoefficients);
        Bootstrapper {
            embedding,
            to_slots,
            to_coefficients,
            first_matrix,
            after_mask: OnceLock::new(),
            folded_masks: FoldedMasks::default(),
            keys,
        }
    }

    /// The profile of the keys.
    pub fn profile(&self) -> &'static RingProfile {
        self.keys.profile()
    }

    /// The RNS basis of the large ring.
    pub fn context(&self) -> &RnsContext {
        &self.keys.circuit.context
    }

    /// The evaluation keys.
    pub fn keys(&self) -> &BootstrapKeys {
        &self.keys
    }

    /// Bytes of the transforms' diagonals, with the folded masks that are kept.
    pub fn transform_bytes(&self) -> usize {
        let after = self.after_mask.get().map_or(&[][..], |v| v);
        let transforms = self.to_slots.iter().chain(&self.to_coefficients).chain(after);
        transforms.map(LinearTransform::bytes).sum::<usize>() + self.folded_masks.bytes()
    }

    pub(crate) fn circuit(&self) -> &Circuit {
        &self.keys.circuit
    }

    pub(crate) fn evaluator(&self) -> Evaluator<'_> {
        Evaluator {
            context: self.context(),
            relinearisation: self.keys.key(KeyId::Relinearisation),
            profile: self.profile(),
        }
    }

    /// From a ciphertext of one limb under the embedded small secret, whose phase over q0 is the value t in (−1/4, 1/4) at
    /// the useful coefficients, to the powers that polynomials up to `degree` take.
    ///
    /// # Errors
    /// The input has another number of limbs or another degree, or `degree` is beyond the profile's.
    pub fn open(&self, input: &Ciphertext, degree: usize, half: Half) -> Result<Powers, HeError> {
        self.check_degree("opening a bootstrap", degree)?;
        let context = self.context();
        if input.l != 1 || input.c.iter().any(|c| c.len() != context.n) {
            return Err(HeError::Slots {
                operation: "opening a bootstrap",
                reason: format!(
                    "the input has {} limbs and {} coefficients where 1 and {} are needed; rescale and embed it first",
                    input.l,
                    input.c[0].len() / input.l.max(1),
                    context.n
                ),
            });
        }
        let (low, high) = self.to_slots(&self.raise(input), half);
        let evaluator = self.evaluator();
        let powers = |u: &Ciphertext| evaluator.powers(evaluator.exponential(u), degree);
        let halves = match high {
            Some(high) => {
                let (low, high) = parallel::join(|| powers(&low), || powers(&high));
                (low, Some(high))
            }
            None => (powers(&low), None),
        };
        Ok(Powers { halves, degree })
    }

    /// Raises an input to all limbs; values t + I, in units of q0.
    pub(crate) fn raise(&self, input: &Ciphertext) -> Ciphertext {
        let mut raised = self.context().raise(&self.keys, input);
        raised.scale = self.context().m[0].p as f64;
        raised
    }

    /// From coefficients to slots u = (t + I)/K: the low half of the coefficients, and the high one if it is useful.
    pub(crate) fn to_slots(&self, raised: &Ciphertext, half: Half) -> (Ciphertext, Option<Ciphertext>) {
        let (context, circuit) = (self.context(), self.circuit());
        let first = vec![raised.clone()];
        let mut x = self.to_slots.iter().fold(first, |x, f| f.apply(context, &self.keys, &x)).swap_remove(0);
        // The layers lack their 1/2.
        x.scale *= (context.n / 2) as f64;
        let g = circuit.conjugation();
        let conjugate = context.automorphism(self.keys.key(KeyId::Galois(g, Class::High)), &x, g);
        let scale = 2.0 * x.scale * super::params::RAISE_BOUND;
        // Split first, rescale after: so the noise of the conjugation's key switch is divided too.
        let part = |a, b| context.rescale(&context.combination(x.l, &[(&x, a), (&conjugate, b)], scale));
        match half {
            Half::Low => (part((1, 0), (1, 0)), None),
            Half::Both => {
                let (low, high) = parallel::join(|| part((1, 0), (1, 0)), || part((0, -1), (0, 1)));
                (low, Some(high))
            }
        }
    }

    fn check_degree(&self, operation: &'static str, degree: usize) -> Result<(), HeError> {
        let profile = self.profile();
        if degree > profile.function_degree {
            return Err(HeError::Slots {
                operation,
                reason: format!(
                    "a function of degree {degree} is beyond profile '{}', which has keys up to degree {}; fit the \
                     function with a lower degree, or choose a profile of a higher one",
                    profile.name, profile.function_degree
                ),
            });
        }
        Ok(())
    }

    /// The scale of values in slots from which [`Bootstrapper::close`] comes out at the output scale.
    fn slot_scale(&self) -> f64 {
        self.circuit().stages.slot_scale(self.profile())
    }

    /// The prime that slots above the bottom level are divided by on their way there.
    fn spare_prime(&self) -> f64 {
        self.context().m[BOTTOM].p as f64
    }

    /// A function of the values: Re Σ c_k·exp(2πi·k·t), at the real parts of the slots. Functions of lower degree take
    /// fewer products, and leave levels for a mask and for a slot product.
    ///
    /// # Errors
    /// The powers do not reach its degree, or no level is left for the role: a factor of a slot product needs
    /// `degree ≤ `[`RingProfile::factor_degree`].
    pub fn polynomial(
        &self,
        powers: &Powers,
        function: &TrigPolynomial,
        role: Role,
    ) -> Result<Slots, HeError> {
        let degree = function.degree();
        if degree > powers.degree {
            return Err(HeError::Slots {
                operation: "evaluating a function",
                reason: format!(
                    "it has degree {degree}, but the bootstrap was opened for degree {}; open it for the higher one",
                    powers.degree
                ),
            });
        }
        let evaluator = self.evaluator();
        let (level, natural) = evaluator.natural(&powers.halves.0, degree);
        let mut coefficients = function.coefficients.clone();
        let mut mean = 0.0;
        let (scale, settled) = match role {
            Role::Output => {
                mean = std::mem::take(&mut coefficients[0]).re;
                if level == BOTTOM {
                    (self.slot_scale(), None)
                } else {
                    // The integer that brings it to the slot scale together with a mask must be one exactly.
                    let wanted = self.slot_scale() * self.spare_prime() / MASK_BITS.exp2();
                    (wanted / (wanted / natural).round().max(1.0), None)
                }
            }
            _ if level <= BOTTOM => {
                return Err(HeError::Slots {
                    operation: "evaluating a factor of a slot product",
                    reason: format!(
                        "degree {degree} leaves no level for the product in profile '{}': fit it with degree {} at most",
                        self.profile().name,
                        self.profile().factor_degree()
                    ),
                });
            }
            factor => {
                let scale = self.circuit().stages.factor_scale(self.profile(), factor);
                if level == BOTTOM + 1 { (scale, None) } else { (natural, Some(scale)) }
            }
        };
        let evaluate = |powers: &HalfPowers| {
            let value = evaluator.polynomial(powers, &coefficients, Some(scale));
            let value = match settled {
                Some(scale) => self.context().settle(&value, BOTTOM + 1, scale),
                None => value,
            };
            // Re(a)·Re(b) = Re(Re(a)·b): one factor has to be real.
            if role == Role::FirstFactor { self.twice_real(&value, Class::High) } else { value }
        };
        let halves = match &powers.halves {
            (low, Some(high)) => {
                let (low, high) = parallel::join(|| evaluate(low), || evaluate(high));
                (low, Some(high))
            }
            (low, None) => (evaluate(low), None),
        };
        Ok(Slots { halves, mean, role })
    }

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
        let key = self.keys.key(KeyId::Relinearisation);
        let product = |x: &Ciphertext, y: &Ciphertext| self.context().product(key, x, y);
        let halves = match (&first.halves, &second.halves) {
            ((a, Some(b)), (c, Some(d))) => {
                let (low, high) = parallel::join(|| product(a, c), || product(b, d));
                (low, Some(high))
            }
            ((a, None), (c, None)) => (product(a, c), None),
            _ => {
                return Err(HeError::Slots {
                    operation: "slot product",
                    reason: "one factor has both halves of the coefficients, the other the low one; open both alike"
                        .to_owned(),
                });
            }
        };
        Ok(Slots { halves, mean: 0.0, role: Role::Output })
    }

    /// x + conj(x): the same scaled values with twice the scale.
    fn twice_real(&self, x: &Ciphertext, class: Class) -> Ciphertext {
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
        let mut bottom: [Vec<&Ciphertext>; 2] = Default::default();
        let mut folded = vec![];
        for (slots, mask) in terms {
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
            let halves = [Some(&slots.halves.0), slots.halves.1.as_ref()];
            for (half, x) in halves.into_iter().enumerate() {
                let Some(x) = x else { continue };
                if x.l > BOTTOM {
                    above[half].push(self.masked(x, mask, half));
                } else if mask.is_all() {
                    bottom[half].push(x);
                } else if half == 0 {
                    folded.push((*slots, *mask));
                }
            }
        }
        let half = |k: usize| -> Option<Ciphertext> {
            let sum = self.sum(&above[k].iter().collect::<Vec<_>>()).map(|x| context.rescale(&x));
            let all: Vec<&Ciphertext> = bottom[k].iter().copied().chain(&sum).collect();
            self.sum(&all)
        };
        let (low, high) = parallel::join(|| half(0), || half(1));
        let plain = low.map(|low| self.recombine(&low, high.as_ref()));
        let masked: Vec<Ciphertext> = folded
            .iter()
            .flat_map(|(slots, mask)| {
                let y = self.recombine(&slots.halves.0, slots.halves.1.as_ref());
                self.fold_mask(&y, mask, slots.halves.1.is_some())
            })
            .collect();
        Ok(SlotSum { plain, masked: self.sum(&masked.iter().collect::<Vec<_>>()) })
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

    /// One half times a mask, from whatever level to the one above the bottom, at the scale that a rescaling brings to the
    /// slot scale.
    fn masked(&self, x: &Ciphertext, mask: &Mask, half: usize) -> Ciphertext {
        let wanted = self.slot_scale() * self.spare_prime();
        if mask.is_all() {
            let factor = (wanted / x.scale).round();
            return self.context().combination(BOTTOM + 1, &[(x, (factor as i128, 0))], wanted);
        }
        let factor = (wanted / x.scale / MASK_BITS.exp2()).round();
        let mut product = mask.multiply(self, x, half, BOTTOM + 1, factor as u64);
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
        self.after_mask.get_or_init(|| {
            let direction = Direction::ToCoefficients;
            let factors = &self.circuit().stages.masked_to_coefficients[1..];
            let encode = |f: &Factor| {
                let matrix = self.embedding.factor(&f.lengths, direction);
                LinearTransform::new(self.context(), &self.embedding, f, &matrix, None)
            };
            factors.iter().map(encode).collect()
        })
    }
}

/// An output's slots at the bottom level: those that take the plain transform, and those behind the first factor of the
/// masked one.
struct SlotSum {
    plain: Option<Ciphertext>,
    masked: Option<Ciphertext>,
}
