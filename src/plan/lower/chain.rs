//! Products of products that do not fit one ring: cut along an axis of the second.

use crate::graph::elements;

use super::{Form, Lowering, Product, ProductKind, Side};

/// Pieces into which one product is cut at most.
const MAX_PIECES: usize = 64;

impl Lowering<'_> {
    /// Coefficients that a product needs: one for each combination of its indices and of those that feed it directly.
    fn coefficients(&self, product: &Product) -> usize {
        let inner = product.sides.iter().map(|side| match side {
            Side::Leaf(_) => 1,
            Side::Product(inner) => {
                let inner = &self.out.products[*inner];
                let kept: usize = match &inner.kind {
                    ProductKind::Contract(own) => {
                        own.labels[2].iter().map(|&label| own.size(label)).product()
                    }
                    ProductKind::Conv { .. } => 1,
                };
                self.coefficients(inner) / kept.max(1)
            }
        });
        let own: Vec<usize> = match &product.kind {
            ProductKind::Contract(own) => own.sizes.values().copied().collect(),
            ProductKind::Conv { .. } => Vec::new(),
        };
        own.into_iter().chain(inner).fold(1, usize::saturating_mul)
    }

    /// Where a product of a product does not fit the ring: the axis of its right side, a leaf, along which it is cut, and how
    /// many of the axis' elements fit. Products of leaves are cut where they are placed.
    pub(super) fn split(&self, product: &Product) -> Option<(usize, usize)> {
        let ProductKind::Contract(own) = &product.kind else { return None };
        let needed = self.coefficients(product);
        if needed <= self.target.degree
            || own.contracted().is_empty()
            || !matches!(product.sides, [Side::Product(_), Side::Leaf(_)])
        {
            return None;
        }
        let free = |label: &u8| !own.labels[0].contains(label) && own.labels[2].contains(label);
        let (axis, &label) = own.labels[1].iter().enumerate().find(|(_, label)| free(label))?;
        let chunk = self.target.degree / (needed / own.size(label));
        (chunk > 0 && own.size(label).div_ceil(chunk) <= MAX_PIECES).then_some((axis, chunk))
    }

    /// A product cut along an axis of its right side: the pieces, one after another.
    pub(super) fn push_pieces(
        &mut self,
        product: &Product,
        depth: usize,
        shape: &[usize],
        axis: usize,
        chunk: usize,
    ) -> Form {
        let (Side::Leaf(right), ProductKind::Contract(own)) = (&product.sides[1], &product.kind) else {
            return self.push_product(product.clone(), depth, shape);
        };
        let label = own.labels[1][axis];
        let out_axis = own.labels[2].iter().position(|own| *own == label).unwrap_or_default();
        let size = own.size(label);
        let inner = elements(&right.shape[axis + 1..]);
        let mut pieces = Vec::new();
        for first in (0..size).step_by(chunk) {
            let count = chunk.min(size - first);
            let map: Vec<u32> = (0..right.elements() as u32)
                .filter(|&i| (first..first + count).contains(&(i as usize / inner % size)))
                .collect();
            let resized = |shape: &[usize], axis: usize| {
                let mut shape = shape.to_vec();
                shape[axis] = count;
                shape
            };
            let mut piece = product.clone();
            piece.sides[1] = Side::Leaf(Form::gather(&[right], &map, &resized(&right.shape, axis)));
            if let ProductKind::Contract(own) = &mut piece.kind {
                own.sizes.insert(label, count);
            }
            pieces.push((self.push_product(piece, depth, &resized(shape, out_axis)), count));
        }
        // Element i of the whole lies in the piece of its index along the axis.
        let inner = elements(&shape[out_axis + 1..]);
        let mut bases = vec![0];
        for (form, _) in &pieces {
            bases.push(bases[bases.len() - 1] + form.elements());
        }
        let map: Vec<u32> = (0..elements(shape))
            .map(|i| {
                let (outer, along, rest) = (i / (inner * size), i / inner % size, i % inner);
                let piece = along / chunk;
                (bases[piece] + (outer * pieces[piece].1 + along % chunk) * inner + rest) as u32
            })
            .collect();
        let parts: Vec<&Form> = pieces.iter().map(|(form, _)| form).collect();
        Form::gather(&parts, &map, shape)
    }
}
