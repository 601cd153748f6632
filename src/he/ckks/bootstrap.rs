//! The functional bootstrap: functions of 32,768 values of one ciphertext at once. The server's side, without secrets.
//!
//! ```text
//! raise ─> coefficients to slots ─> exponential ─> powers ─┬> polynomial ─┬> slots to coefficients ─> small secret
//!                                                         └> polynomial ─┘
//! ```
//!
//! [`Bootstrapper::open`] goes as far as the powers, which all functions of the same inputs share;
//! [`Bootstrapper::polynomial`] evaluates one function in slots. What becomes of it there is in `close`.

use super::{
    ciphertext::Ciphertext,
    circuit::Circuit,
    dft::{Diagonals, Embedding},
    fit::TrigPolynomial,
    keys::{BootstrapKeys, KeyId},
    linear::LinearTransform,
    mask::{FoldedMasks, MASK_BITS},
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

/// The ciphertexts of both halves of the coefficients, or of the low one.
pub(crate) type Halves = (Ciphertext, Option<Ciphertext>);

/// Values of a function, or a product of two, in slots.
pub struct Slots {
    /// A function's values; the second factor of a product.
    pub(crate) halves: Halves,
    /// The first factor of a product, which is multiplied when the product is closed: then the mask is known, and can be
    /// multiplied into the second factor if that one has a level to spare.
    pub(crate) first: Option<Halves>,
    /// A function's mean, left away until its values are back in coefficients, since rounding errors are relative to the
    /// values' size.
    pub(crate) mean: f64,
    pub(crate) role: Role,
}

impl Slots {
    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let of = |halves: &Halves| halves.0.bytes() + halves.1.as_ref().map_or(0, Ciphertext::bytes);
        of(&self.halves) + self.first.as_ref().map_or(0, of)
    }
}

/// Evaluates functions on ciphertexts of the large ring.
pub struct Bootstrapper {
    pub(crate) keys: BootstrapKeys,
    pub(crate) embedding: Embedding,
    to_slots: Vec<LinearTransform>,
    pub(crate) to_coefficients: Vec<LinearTransform>,
    /// The first factor's matrix, for masks that are folded into it.
    pub(crate) first_matrix: Diagonals,
    /// The other factors after a masked first one.
    pub(crate) after_mask: OnceLock<Vec<LinearTransform>>,
    pub(crate) folded_masks: FoldedMasks,
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

    /// The scale of values in slots from which `close` comes out at the output scale.
    pub(crate) fn slot_scale(&self) -> f64 {
        self.circuit().stages.slot_scale(self.profile())
    }

    /// The scale of a factor of a slot product, one level above the bottom.
    pub(crate) fn factor_scale(&self, role: Role) -> f64 {
        self.circuit().stages.factor_scale(self.profile(), role)
    }

    /// The scale next to `natural` from which a mask, an integer and a division bring slots down to `level` and `scale`
    /// exactly.
    fn above(&self, level: usize, scale: f64, natural: f64) -> f64 {
        let wanted = scale * self.context().m[level].p as f64 / MASK_BITS.exp2();
        wanted / (wanted / natural).round().max(1.0)
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
        if function.coefficients.is_empty() {
            return Err(HeError::Slots {
                operation: "evaluating a function",
                reason: "it has no coefficients; a constant has one".to_owned(),
            });
        }
        let evaluator = self.evaluator();
        let (level, natural) = evaluator.natural(&powers.halves.0, degree);
        let mut coefficients = function.coefficients.clone();
        let mut mean = 0.0;
        let (scale, settled) = match role {
            Role::Output => {
                mean = std::mem::take(&mut coefficients[0]).re;
                let scale = self.slot_scale();
                (if level == BOTTOM { scale } else { self.above(BOTTOM, scale, natural) }, None)
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
                let scale = self.factor_scale(factor);
                match factor {
                    _ if level == BOTTOM + 1 => (scale, None),
                    Role::SecondFactor => (self.above(BOTTOM + 1, scale, natural), None),
                    _ => (natural, Some(scale)),
                }
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
        Ok(Slots { halves, first: None, mean, role })
    }
}
