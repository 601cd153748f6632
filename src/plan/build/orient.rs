//! How the weights of each parameter stand: one choice for all of its products, so that nothing is ever rearranged.

use std::collections::HashMap;

use crate::graph::{NONE, ParamId};

use super::super::form::Form;
use super::super::layout::Place;
use super::super::lower::{AtomKind, Lowered, Product, ProductKind, Side, SiteInput};
use super::super::place::dense::{AxisMap, Cut, Low};
use super::super::place::{is_cuttable, matrix_sizes};
use super::{Builder, Purpose};

/// Of the slots of an axis that stands as it comes, one in so many is filled at least.
const LEAST_FILL: usize = 4;

/// The parameter of each product that reads one or is its gradient, by lowered index.
pub(super) fn parameters_of(lowered: &Lowered, purpose: &Purpose<'_>) -> HashMap<usize, ParamId> {
    let mut out = HashMap::new();
    for (index, product) in lowered.products.iter().enumerate() {
        let own = product.sides.iter().find_map(|side| weight(lowered, side));
        out.extend(own.map(|param| (index, param)));
    }
    if let Purpose::Train { params, .. } = purpose {
        for (&param, form) in params.iter().zip(&lowered.outputs) {
            for term in &form.terms {
                if let AtomKind::Product(product) = lowered.atoms[term.atom.0 as usize].kind {
                    out.insert(product, param);
                }
            }
        }
    }
    out
}

/// The parameter that a side is, as it is.
fn weight(lowered: &Lowered, side: &Side) -> Option<ParamId> {
    let Side::Leaf(form) = side else { return None };
    let [term] = form.terms.as_slice() else { return None };
    match lowered.atoms[term.atom.0 as usize].kind {
        AtomKind::Weight { param, .. } if term.keeps_order() => Some(param),
        _ => None,
    }
}

impl Builder<'_> {
    /// How the matrix of a product stands; none where its first axis comes first, as what a client encrypts wants it.
    /// The first product of a parameter decides for the others.
    pub(super) fn cut(&mut self, root: usize) -> Option<Cut> {
        let product = &self.lowered.products[root];
        if !self.parameters.is_ckks() || !is_cuttable(product) {
            return None;
        }
        let param = self.param_of.get(&root).copied()?;
        if let Some(known) = self.cuts.get(&param) {
            return known.clone();
        }
        let cut = self.best_cut(product);
        self.cuts.insert(param, cut.clone());
        cut
    }

    fn best_cut(&self, product: &Product) -> Option<Cut> {
        let ProductKind::Contract(own) = &product.kind else { return None };
        let vector = product.sides.iter().position(|side| weight(&self.lowered, side).is_none())?;
        let Side::Leaf(form) = &product.sides[vector] else { return None };
        // Vectors of each sample, along the matrix's first axis.
        let weights = &own.labels[1 - vector];
        if own.labels[vector] != weights[..1] || weights.len() != 2 {
            return None;
        }
        let fresh = |kind: AtomKind| self.parameters.is_fresh(kind);
        if form.terms.iter().all(|term| fresh(self.lowered.atoms[term.atom.0 as usize].kind)) {
            return None;
        }
        if let Some(map) = self.axis_map(form) {
            return Some(Cut::Along(map));
        }
        let [first, second] = matrix_sizes(product);
        Some(Cut::Low(Low::shorter(first, second)))
    }

    /// Where the elements of a looked-up vector stand, if they come from a product whose samples are interleaved: slots that
    /// far apart, piece by piece. Elements that are public take free slots.
    fn axis_map(&self, form: &Form) -> Option<AxisMap> {
        let degree = self.parameters.degree();
        let mut product = None;
        let mut found: Vec<Option<Place>> = Vec::with_capacity(form.elements());
        for element in 0..form.elements() {
            let origin = self.origin(form, element);
            if let Some((own, _)) = origin
                && *product.get_or_insert(own) != own
            {
                return None;
            }
            let public = form.terms.iter().all(|term| term.map[element] == NONE);
            if origin.is_none() && !public {
                return None;
            }
            found.push(origin.map(|(_, place)| place));
        }
        let layout = &self.products[product?].layout;
        // Samples lie between the slots, which are a power of two apart.
        let bits = found.iter().flatten().fold(degree as u32, |bits, place| bits | place.exponent);
        let spacing = 1usize << bits.trailing_zeros();
        if spacing < 2 || layout.samples as u64 * u64::from(layout.sample_stride) > spacing as u64 {
            return None;
        }
        // Only the pieces that are read.
        let mut pieces: Vec<u32> = found.iter().flatten().map(|place| place.piece).collect();
        pieces.sort_unstable();
        pieces.dedup();
        let slots = degree / spacing;
        // Too empty, and a cut of its own is better.
        if found.len() * LEAST_FILL < pieces.len() * slots {
            return None;
        }
        let slot = |place: &Place| {
            let exponent = place.exponent as usize;
            (exponent < degree).then_some(exponent / spacing)
        };
        let mut taken = vec![false; pieces.len() * slots];
        let mut places: Vec<Option<(usize, usize)>> = Vec::with_capacity(found.len());
        for place in &found {
            places.push(match place {
                None => None,
                Some(place) => {
                    let own = (pieces.binary_search(&place.piece).ok()?, slot(place)?);
                    if std::mem::replace(&mut taken[own.0 * slots + own.1], true) {
                        return None;
                    }
                    Some(own)
                }
            });
        }
        let public = places.iter().filter(|place| place.is_none()).count();
        let mut count = pieces.len();
        while taken.iter().filter(|taken| !**taken).count() < public {
            taken.resize(taken.len() + slots, false);
            count += 1;
        }
        let mut free = (0..taken.len()).filter(|&at| !taken[at]).map(|at| (at / slots, at % slots));
        let places = places.into_iter().map(|place| place.or_else(|| free.next())).collect::<Option<_>>()?;
        Some(AxisMap { pieces: count, slots, places })
    }

    /// The product, and the place in it, that a table read for an element of a looked-up value; the first one of several.
    pub(super) fn origin(&self, form: &Form, element: usize) -> Option<(usize, Place)> {
        let term = form.terms.iter().find(|term| term.map[element] != NONE)?;
        let index = term.map[element] as usize;
        match self.lowered.atoms[term.atom.0 as usize].kind {
            AtomKind::Product(product) => {
                let step = *self.product_at.get(&product)?;
                Some((step, *self.products[step].layout.places.get(index)?))
            }
            AtomKind::Lut { site, .. } => {
                // What is multiplied in slots stands where its factor stood.
                let own = self.lowered.sites.get(site)?;
                let multiplier = own.multiplier.and_then(|(factor, _)| self.lowered.sites.get(factor));
                match &multiplier.unwrap_or(own).input {
                    SiteInput::Form(inner) => self.origin(inner, index),
                    SiteInput::Master(_) => None,
                }
            }
            _ => None,
        }
    }
}
