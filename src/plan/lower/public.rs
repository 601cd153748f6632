//! Products of an encrypted value and a public tensor, element by element.

use std::collections::BTreeMap;

use crate::diagnostics::Diagnostic;
use crate::graph::{Constant, NONE, NodeId};

use super::{AtomKind, Contraction, Form, Lowering, Product, ProductKind, Side, Term};

/// Different factors, up to their signs, of which a linear form takes a part each; beyond, one product costs less.
const MAX_PARTS: usize = 8;
/// Ratio of two factors of a form: the noise of what is read grows with it.
const MAX_RATIO: f64 = 64.0;
/// Different factors times elements, of values that the client encrypts.
const MAX_FRESH: usize = 1 << 22;
/// Factors of the product with a diagonal matrix, which has their number squared of entries.
const MAX_DIAGONAL: usize = 1024;

impl Lowering<'_> {
    /// `value * factors`. Factors that are whole multiples of the least one only change a linear form, which is free; others
    /// are the diagonal of a public matrix.
    pub(super) fn public_product(
        &mut self,
        id: NodeId,
        value: NodeId,
        factors: &Constant,
    ) -> Result<Form, Diagnostic> {
        let form = self.form(value);
        let factors: Vec<f64> = (0..form.elements()).map(|i| factors.get(i)).collect();
        let fresh = |term: &Term| matches!(self.out.atoms[term.atom.0 as usize].kind, AtomKind::Fresh(_));
        let parts = if form.terms.iter().all(fresh) {
            // The client encrypts what its values are times any factors.
            Some(different(&factors)).filter(|all| all.len() * factors.len() <= MAX_FRESH)
        } else {
            parts(&factors).filter(|parts| parts.len() * form.terms.len() <= 8 * MAX_PARTS)
        };
        match parts {
            Some(parts) => {
                let mut sum = Form::constant(Constant::Uniform(0.0), &form.shape);
                sum.per_sample = form.per_sample;
                for factor in parts {
                    let own = |(i, own): (usize, &f64)| if *own == factor { i as u32 } else { NONE };
                    let map: Vec<u32> = factors.iter().enumerate().map(own).collect();
                    sum = sum.add(&Form::gather(&[&form], &map, &form.shape), factor);
                }
                Ok(sum)
            }
            None => self.diagonal_product(id, value, &factors),
        }
    }

    fn diagonal_product(&mut self, id: NodeId, value: NodeId, factors: &[f64]) -> Result<Form, Diagnostic> {
        let node = self.graph.node(id).clone();
        let axes = varying(&node.shape, factors);
        let size = |axes: &[usize]| axes.iter().product::<usize>();
        let sizes =
            [size(&node.shape[..axes.start]), size(&node.shape[axes.clone()]), size(&node.shape[axes.end..])];
        let [_, count, inner] = sizes;
        if count > MAX_DIAGONAL {
            let why = format!(
                "{count} public factors that are no whole multiples of the least of them: at most {MAX_DIAGONAL} have a layout"
            );
            return Err(self.unsupported(id, &why));
        }
        let mut matrix = vec![0.0; count * count];
        for k in 0..count {
            matrix[k * count + k] = factors[k * inner];
        }
        let form = self.leaf(id, value);
        let left = Form { shape: sizes.to_vec(), ..form };
        let right = Form::constant(Constant::Tensor(matrix.into()), &[count, count]);
        let labels = [b"abc".to_vec(), b"bd".to_vec(), b"adc".to_vec()];
        let sizes: BTreeMap<u8, usize> =
            b"abcd".iter().copied().zip([sizes[0], count, inner, count]).collect();
        let product = Product {
            node: id,
            sides: [Side::Leaf(left), Side::Leaf(right)],
            kind: ProductKind::Contract(Contraction { labels, sizes }),
            batch_sum: false,
            side_per_sample: [node.per_sample, false],
        };
        Ok(self.push_product(product, 1, &node.shape))
    }
}

/// The different factors other than zero.
fn different(factors: &[f64]) -> Vec<f64> {
    let mut all: Vec<f64> = factors.iter().copied().filter(|factor| *factor != 0.0).collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}

/// The same, if all are whole multiples of the least and few.
fn parts(factors: &[f64]) -> Option<Vec<f64>> {
    let parts = different(factors);
    let least = parts.iter().map(|factor| factor.abs()).fold(f64::INFINITY, f64::min);
    let ratio = |factor: &f64| (factor / least).abs();
    let whole = |ratio: f64| (ratio - ratio.round()).abs() <= 1e-9 * ratio && ratio <= MAX_RATIO;
    let mut sizes: Vec<f64> = parts.iter().map(|factor| ratio(factor).round()).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    (sizes.len() <= MAX_PARTS && parts.iter().all(|factor| whole(ratio(factor)))).then_some(parts)
}

/// The axes from the first to the last along which factors vary.
fn varying(shape: &[usize], factors: &[f64]) -> std::ops::Range<usize> {
    let varies = |axis: &usize| {
        let inner: usize = shape[axis + 1..].iter().product();
        let own = shape[*axis] * inner;
        factors.iter().enumerate().any(|(i, factor)| *factor != factors[i / own * own + i % inner])
    };
    let first = (0..shape.len()).find(varies).unwrap_or(0);
    let last = (0..shape.len()).rev().find(varies).unwrap_or(first);
    first..(last + 1).min(shape.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_multiples_of_the_least_are_parts_of_a_form() {
        assert_eq!(parts(&[0.5, -1.0, 0.0, 0.5, 2.0]), Some(vec![-1.0, 0.5, 2.0]));
        assert_eq!(parts(&[0.0, 0.0]), Some(vec![]));
        for refused in [&[1.0, 1.5][..], &[1.0, 100.0]] {
            assert_eq!(parts(refused), None, "{refused:?}");
        }
        let many: Vec<f64> = (1..100).map(f64::from).collect();
        assert_eq!(parts(&many), None);
    }

    #[test]
    fn factors_vary_along_some_axes() {
        let channels: Vec<f64> = (0..24).map(|i| f64::from(i / 4 % 3)).collect();
        assert_eq!(varying(&[2, 3, 4], &channels), 1..2);
        let all: Vec<f64> = (0..24).map(f64::from).collect();
        assert_eq!(varying(&[2, 3, 4], &all), 0..3);
        assert_eq!(varying(&[2, 3, 4], &[1.0; 24]), 0..1);
        assert_eq!(varying(&[], &[1.0]), 0..0);
    }
}
