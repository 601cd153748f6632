//! Convolutions and their gradients as products of leaves.

use crate::diagnostics::Diagnostic;
use crate::graph::{Constant, ConvGeometry, NodeId, Op};

use super::{ConvPart, Form, Lowering, Product, ProductKind, Side};

impl Lowering<'_> {
    /// A convolution, or one of its gradients. What is no leaf goes through a table: a product's result has junk beside the
    /// places that are read, which would meet the kernel.
    pub(super) fn conv(
        &mut self,
        id: NodeId,
        operands: &[NodeId],
        part: ConvPart,
        geometry: &ConvGeometry,
    ) -> Result<Form, Diagnostic> {
        let node = self.graph.node(id).clone();
        let sides = [0, 1].map(|k| Side::Leaf(self.leaf(id, operands[k])));
        let phases = self.phases.of_result(self.graph, id);
        let product = Product {
            node: id,
            sides,
            kind: ProductKind::Conv { part, geometry: geometry.clone(), phases },
            batch_sum: false,
            side_per_sample: [0, 1].map(|k| self.graph.node(operands[k]).per_sample),
        };
        Ok(self.push_product(product, 1, &node.shape))
    }

    /// The value of an operand as a leaf.
    pub(super) fn leaf(&mut self, id: NodeId, operand: NodeId) -> Form {
        let form = self.form(operand);
        if self.is_leaf(&form) {
            return form;
        }
        self.out.refreshed.push(id);
        self.refresh(id, operand)
    }

    /// A vector that is repeated over the positions of images, as a bias is: a convolution of ones with 1×1 kernels, whose
    /// result stands where the images do that it is added to. None for other maps, and for what is public.
    pub(super) fn repeated(&mut self, id: NodeId, operand: NodeId, map: &[u32]) -> Option<Form> {
        let node = self.graph.node(id).clone();
        let form = self.form(operand);
        if node.per_sample || form.terms.is_empty() || !self.is_leaf(&form) {
            return None;
        }
        let geometry = positions(&node.shape, form.elements(), map)?;
        let sum = self.graph.users(id).into_iter().find(|&user| {
            let sum = self.graph.node(user);
            matches!(sum.op, Op::Add | Op::Sub) && sum.per_sample
        })?;
        let phases = self.phases.at(sum);
        let kernel = Form { shape: geometry.kernel.to_vec(), ..form };
        let product = Product {
            node: id,
            sides: [Side::Leaf(ones(&geometry)), Side::Leaf(kernel)],
            kind: ProductKind::Conv { part: ConvPart::Result, geometry, phases },
            batch_sum: false,
            side_per_sample: [true, false],
        };
        Some(self.push_product(product, 1, &node.shape))
    }

    /// The gradient of [`Self::repeated`]: the sum over the batch and over the positions of images.
    pub(super) fn summed_positions(&mut self, id: NodeId, operand: NodeId, map: &[u32]) -> Option<Form> {
        let Op::BatchSum = &self.graph.node(operand).op else { return None };
        let images = self.graph.operands(operand)[0];
        let (node, source) = (self.graph.node(id).clone(), self.graph.node(images));
        if !source.per_sample {
            return None;
        }
        let geometry = positions(&source.shape, node.elements(), map)?;
        let phases = self.phases.of_gradient(self.graph, images).unwrap_or(1);
        let product = Product {
            node: id,
            sides: [Side::Leaf(ones(&geometry)), Side::Leaf(self.leaf(id, images))],
            kind: ProductKind::Conv { part: ConvPart::Kernel, geometry, phases },
            batch_sum: true,
            side_per_sample: [true, true],
        };
        Some(self.push_product(product, 1, &node.shape))
    }
}

/// If a map leads from each position of images of this shape to one of `channels` values, that of its channel: the
/// convolution of one channel with 1×1 kernels that repeats the values.
fn positions(shape: &[usize], channels: usize, map: &[u32]) -> Option<ConvGeometry> {
    let &[own, height, width] = shape else { return None };
    let repeats = |(at, &to): (usize, &u32)| to as usize == at / (height * width);
    (own == channels && height * width > 1 && map.iter().enumerate().all(repeats)).then_some(ConvGeometry {
        image: [1, height, width],
        kernel: [channels, 1, 1, 1],
        stride: 1,
        pad: [0; 4],
    })
}

fn ones(geometry: &ConvGeometry) -> Form {
    Form::constant(Constant::Uniform(1.0), &geometry.image)
}
