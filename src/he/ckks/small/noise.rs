//! Predicted noise of the small ring. Pure.
//!
//! *Units* are standard deviations in steps of the product modulus q0·q1; the *torus* is what a function reads, a fraction of q0.

use super::super::params::{RingProfile, SMALL_LOG_DEGREE};
use crate::he::params::RING_NOISE_VARIANCE;

const DEGREE: f64 = (1u64 << SMALL_LOG_DEGREE) as f64;

/// Variance of the rounding of both polynomials of a ciphertext after a division, in squared steps of what remains:
/// 1/12 for the body, and 1/12 for each coefficient of the mask under a uniform ternary secret (2/3 of which are not zero).
fn rounding_variance() -> f64 {
    (1.0 + DEGREE * 2.0 / 3.0) / 12.0
}

/// A fresh coefficient: the encryption's centred binomial noise.
pub fn fresh_units() -> f64 {
    RING_NOISE_VARIANCE.sqrt()
}

/// One key switch (relinearisation, automorphism): the rounding of the division by the special prime p, and the key's noise
/// times the digits, which are uniform modulo q0 and modulo q1, divided by p.
pub fn switch_units(profile: &RingProfile) -> f64 {
    let special = profile.special_primes[0] as f64;
    let digits: f64 = profile.primes[..2].iter().map(|&q| (q as f64 / special).powi(2) / 12.0).sum();
    (rounding_variance() + DEGREE * RING_NOISE_VARIANCE * digits).sqrt()
}

/// What a route of so many levels adds to the noise of its sources: every level doubles the switching noise of those below
/// it, where the values themselves are divided beforehand: σ·√((4^depth − 1)/3).
pub fn route_units(profile: &RingProfile, depth: u32) -> f64 {
    switch_units(profile) * ((4f64.powi(depth as i32) - 1.0) / 3.0).sqrt()
}

/// Two kinds of noise variance: of the program's own key switches, one of them being 1; and what stood in the sources where they
/// have no values, 1 in each of them. The noise of a source's values goes with them, as it is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Variance {
    /// In squared [`switch_units`].
    pub switches: f64,
    /// In squares of the sources' noise where no value stands.
    pub sources: f64,
}

impl Variance {
    fn plus(self, other: Self) -> Self {
        Self { switches: self.switches + other.switches, sources: self.sources + other.sources }
    }

    fn max(self, other: Self) -> Self {
        Self { switches: self.switches.max(other.switches), sources: self.sources.max(other.sources) }
    }

    /// After a doubling of variances by `factor`, and a key switch.
    fn switched(self, factor: f64) -> Self {
        Self { switches: factor * self.switches + 1.0, sources: factor * self.sources }
    }
}

/// Noise of a polynomial on its route, in the frame of the coset 2^level·Z that its values lie in: bounds for each kind of place.
///
/// A switch at level k adds σ_k(E) to E. At multiples of 2^(k+1) both are the same noise: it doubles, as do the values, and its
/// variance is four times as large. At odd multiples of 2^k it vanishes. Everywhere else two coefficients of E meet: twice the
/// variance. To everything the key switch adds its own.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RouteNoise {
    level: u32,
    at: Variance,
    inside: Variance,
    outside: Variance,
}

impl RouteNoise {
    /// A source that is divided by 2^halvings.
    pub fn of_source(halvings: u32) -> Self {
        let hidden = Variance { switches: 0.0, sources: 0.25f64.powi(halvings as i32) };
        Self { inside: hidden, ..Self::default() }
    }

    /// Where a value stands.
    pub fn values(self) -> Variance {
        self.at
    }

    /// Where none does.
    pub fn elsewhere(self) -> Variance {
        if self.level == 0 { self.inside } else { self.inside.max(self.outside) }
    }

    /// After X → X^(−1), one key switch before everything else.
    pub fn mirrored(self) -> Self {
        // What the switch adds is noise of the source, where it has values and where it has none.
        let own = |x: Variance| Variance { switches: x.switches + x.sources, ..x };
        let at = Variance { switches: self.at.switches + 1.0, ..self.at };
        Self { at: own(at), inside: own(self.inside), outside: own(self.outside), ..self }
    }

    /// Where so many values are added up in one place, in a sum.
    pub fn layered(self, layers: usize) -> Self {
        let more = layers.saturating_sub(1) as f64;
        let own = Variance {
            switches: more * (self.at.switches - self.inside.switches).max(0.0),
            sources: more * (self.at.sources - self.inside.sources).max(0.0),
        };
        Self { at: self.at.plus(own), ..self }
    }

    /// The larger of both everywhere.
    pub fn max(self, other: Self) -> Self {
        let (a, b) = (self.seen(self.level.min(other.level)), other.seen(self.level.min(other.level)));
        Self {
            level: a.level,
            at: a.at.max(b.at),
            inside: a.inside.max(b.inside),
            outside: a.outside.max(b.outside),
        }
    }

    /// The same in the frame of a coset of another level.
    fn seen(self, level: u32) -> Self {
        let most = self.elsewhere();
        match level.cmp(&self.level) {
            std::cmp::Ordering::Less => Self { level, inside: most, ..self },
            std::cmp::Ordering::Equal => self,
            std::cmp::Ordering::Greater => Self { level, outside: most, ..self },
        }
    }

    pub(super) fn traced(self, level: u32) -> Self {
        let left = level + 1;
        if self.level > left {
            // A trace that comes late: what is outside may lie in the coset of this one.
            let [at, inside, outside] = [self.at, self.inside, self.outside].map(|x| x.switched(4.0));
            return Self { level: self.level, at, inside, outside };
        }
        let own = self.seen(level);
        // Within the coset of the last level there is the value alone.
        let inside =
            if left == SMALL_LOG_DEGREE as u32 { Variance::default() } else { own.inside.switched(4.0) };
        Self { level: left, at: own.at.switched(4.0), inside, outside: own.outside.switched(2.0) }
    }

    pub(super) fn merged(self, odd: Self, level: u32) -> Self {
        let (even, odd) = (self.seen(level + 1), odd.seen(level + 1));
        Self {
            level,
            at: even.at.max(odd.at).switched(4.0),
            inside: even.inside.max(odd.inside).switched(4.0),
            outside: even.outside.plus(odd.outside).switched(2.0),
        }
    }

    pub(super) fn folded(self, moved: Self) -> Self {
        let [kept, moved] = [self, moved].map(|own| Self::sum([own].into_iter()));
        // What is moved also stands in what is kept, with the same noise; the terms beside a value are independent of it.
        let own = |sum: Self, factor: f64| Variance {
            switches: factor * (sum.at.switches - sum.inside.switches).max(0.0),
            sources: factor * (sum.at.sources - sum.inside.sources).max(0.0),
        };
        let inside = kept.inside.plus(moved.inside).switched(1.0);
        let at = own(kept, 1.0).max(own(moved, 4.0)).plus(inside);
        Self { level: 0, at, inside, outside: Variance::default() }
    }

    /// What other values meet that are added, on an average over the places of a target: a coset of level k has one in 2^k.
    fn beside(self) -> Variance {
        let share = 0.5f64.powi(self.level as i32);
        let inside =
            Variance { switches: share * self.inside.switches, sources: share * self.inside.sources };
        if self.level == 0 { inside } else { self.outside.plus(inside) }
    }

    /// Every value has its own noise and what the other terms have where they have no value.
    pub(super) fn sum(terms: impl Iterator<Item = Self>) -> Self {
        let mut out = Self::default();
        let mut own = Variance::default();
        for term in terms {
            let beside = term.beside();
            out.inside = out.inside.plus(beside);
            // This term's own part is added below, with those of the others.
            own.switches = own.switches.max(term.at.switches - beside.switches);
            own.sources = own.sources.max(term.at.sources - beside.sources);
        }
        out.at = own.plus(out.inside);
        out
    }
}

/// A variance in squared units: `hidden` is the standard deviation of the sources' noise where they have no values.
pub fn variance_units(profile: &RingProfile, variance: Variance, hidden: f64) -> f64 {
    variance.switches * switch_units(profile).powi(2) + variance.sources * hidden.powi(2)
}

/// A factor of a product, as the prediction sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factor {
    /// Euclidean norm of the polynomial's coefficients, at their amplitude.
    pub norm: f64,
    /// Standard deviation of a coefficient's noise.
    pub units: f64,
}

/// A coefficient of a sum of products with one relinearisation: m₁·e₂ + m₂·e₁ + e₁·e₂ for each product.
pub fn product_units(profile: &RingProfile, products: &[(Factor, Factor)]) -> f64 {
    let variance: f64 = products
        .iter()
        .map(|(a, b)| {
            (a.norm * b.units).powi(2) + (b.norm * a.units).powi(2) + DEGREE * (a.units * b.units).powi(2)
        })
        .sum();
    (variance + switch_units(profile).powi(2)).sqrt()
}

/// A sum of products that is divided by q0 with its relinearisation, as a fraction of the torus: the rounding of the part under
/// s², whose coefficients have variance 8/9·N (each pair of its factors comes twice), and of both others.
pub fn narrow_error(profile: &RingProfile) -> f64 {
    let square = DEGREE * DEGREE * 8.0 / 9.0 / 12.0;
    (square + 2.0 * rounding_variance()).sqrt() / profile.primes[1] as f64
}

/// What a route of so many levels adds to narrow ciphertexts, as a fraction of the torus.
pub fn narrow_route_error(profile: &RingProfile, depth: u32) -> f64 {
    route_units(profile, depth) / profile.primes[1] as f64
}

/// The division by q1 on the way into the large ring, as a fraction of the torus.
pub fn rescale_error(profile: &RingProfile) -> f64 {
    rounding_variance().sqrt() / profile.primes[0] as f64
}
