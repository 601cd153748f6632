//! Layouts of looked-up images: at the places of the convolution's result that they come from, so that nothing moves.

use std::collections::{BTreeMap, HashSet};

use super::super::form::Form;
use super::super::layout::{Layout, Place};
use super::super::lower::{ProductKind, SiteInput};
use super::Builder;

impl Builder<'_> {
    /// The places of a form's elements in the results of convolutions; those of the site whose outputs multiply the form's
    /// look-ups, if one does. None where a form has another origin.
    pub(super) fn image_layout(&self, form: &Form, multiplier: Option<usize>) -> Option<Layout> {
        let form = match multiplier {
            Some(site) => match &self.lowered.sites.get(site)?.input {
                SiteInput::Form(input) => input,
                SiteInput::Master(_) => return None,
            },
            None => form,
        };
        let origins: Vec<(usize, Place)> =
            (0..form.elements()).map(|element| self.origin(form, element)).collect::<Option<_>>()?;
        let layout = &self.products[origins.first()?.0].layout;
        let is_alike = |product: usize| {
            let own = &self.products[product];
            matches!(own.kind, ProductKind::Conv { .. })
                && (own.layout.samples, own.layout.sample_stride) == (layout.samples, layout.sample_stride)
        };
        if !origins.iter().all(|&(product, _)| is_alike(product)) {
            return None;
        }
        // Only the pieces that are read, in their order.
        let mut pieces: BTreeMap<(usize, u32), u32> =
            origins.iter().map(|&(product, place)| ((product, place.piece), 0)).collect();
        pieces.values_mut().zip(0..).for_each(|(piece, at)| *piece = at);
        let places: Vec<Place> = origins
            .iter()
            .map(|(product, place)| Place { piece: pieces[&(*product, place.piece)], ..*place })
            .collect();
        let distinct = places.iter().collect::<HashSet<_>>().len() == places.len();
        distinct.then(|| Layout { pieces: pieces.len(), places, ..layout.clone() })
    }
}
