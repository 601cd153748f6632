//! Convolutions and their gradients as products of leaves.

use crate::diagnostics::Diagnostic;
use crate::graph::{ConvGeometry, NodeId};

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
    fn leaf(&mut self, id: NodeId, operand: NodeId) -> Form {
        let form = self.form(operand);
        if self.is_leaf(&form) {
            return form;
        }
        self.out.refreshed.push(id);
        self.refresh(id, operand)
    }
}
