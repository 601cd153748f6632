//! What a step changes masters by: the sums of their gradients, routed where the masters stand.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rayon::prelude::*;

use crate::he::HeError;
use crate::he::ckks::small::{SmallCiphertext, Width};
use crate::plan::schedule::Source;

use super::products::Sums;
use super::{Done, RingServer, RingState, scaled};

/// Polynomials of a part of a gradient.
enum Part<'a> {
    Made(&'a [SmallCiphertext]),
    /// A product that is made polynomial by polynomial, when it is needed.
    Streamed(Sums<'a>),
}

impl Part<'_> {
    fn polynomial(&self, at: usize) -> Result<Cow<'_, SmallCiphertext>, HeError> {
        match self {
            Self::Streamed(sums) => Ok(Cow::Owned(sums.polynomial(at)?)),
            Self::Made(made) => {
                let lacking = || HeError::Count {
                    operation: "gradient",
                    what: "ciphertexts",
                    got: made.len(),
                    expected: at + 1,
                };
                Ok(Cow::Borrowed(made.get(at).ok_or_else(lacking)?))
            }
        }
    }
}

impl RingServer<'_> {
    /// What a step subtracts from a master at the least rate. Its gradient is complete.
    pub(super) fn change(&self, master: usize, state: &mut RingState) -> Done<Vec<SmallCiphertext>> {
        let began = Instant::now();
        let schedule = self.schedule;
        let parts = schedule.masters[master].gradient.iter().map(|&(source, factor)| {
            let part = match source {
                Source::Product(product) if self.streamed[product] => {
                    Part::Streamed(Sums::of(self, &schedule.products[product], state)?)
                }
                source => Part::Made(state.made(source)),
            };
            Ok((part, factor))
        });
        let parts = parts.collect::<Done<Vec<_>>>()?;
        let multiplying = AtomicU64::new(nanoseconds(began));
        let gradient = |at: usize| -> Result<SmallCiphertext, HeError> {
            let began = Instant::now();
            let mut sum: Option<SmallCiphertext> = None;
            for (part, factor) in &parts {
                let own = part.polynomial(at)?;
                match &mut sum {
                    Some(sum) if *factor == 1 => sum.add_assign(&own)?,
                    Some(sum) => sum.add_assign(&scaled(&own, *factor))?,
                    None if *factor == 1 => sum = Some(own.into_owned()),
                    None => sum = Some(scaled(&own, *factor)),
                }
            }
            multiplying.fetch_add(nanoseconds(began), Ordering::Relaxed);
            Ok(sum.unwrap_or_else(|| self.keys.zero()))
        };
        let (change, products) = match &self.plan.masters[master] {
            None => {
                let pieces = schedule.masters[master].layout.pieces;
                let change = (0..pieces).into_par_iter().map(gradient).collect::<Result<_, _>>()?;
                (change, began.elapsed().as_secs_f64())
            }
            Some(merged) => {
                let rings = self.route(&merged.routes, Width::Full, &|at| Ok(Cow::Owned(gradient(at)?)))?;
                let change = rings.into_iter().map(|ring| ring.unwrap_or_else(|| self.keys.zero())).collect();
                // Both are done side by side, on all threads.
                let own = multiplying.load(Ordering::Relaxed) as f64 * 1e-9;
                let own = own / rayon::current_num_threads() as f64;
                (change, own.min(began.elapsed().as_secs_f64()))
            }
        };
        drop(parts);
        state.seconds.products += products;
        state.seconds.routes_in += began.elapsed().as_secs_f64() - products;
        Ok(change)
    }
}

fn nanoseconds(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
