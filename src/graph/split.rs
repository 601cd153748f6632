//! The part of a model that needs no secret weights is cut off: the client computes it before it encrypts.

use super::{Graph, LoopState, Mask, NodeId, Op, Scheme, ShapeError, elements};

/// A graph in two: `prefix` from the features to a vector or tensor, `rest` from there on.
#[derive(Clone, Debug)]
pub struct Split {
    /// Without parameters and labels.
    pub prefix: Graph,
    pub prefix_input: NodeId,
    pub prefix_output: NodeId,
    pub rest: Graph,
    /// The features of `rest` are the output of `prefix`.
    pub rest_input: NodeId,
    /// Where the wanted nodes stand in `rest`.
    pub outputs: Vec<NodeId>,
}

impl Graph {
    /// Cuts off everything that depends on the features, but on no parameter and no label. `None` if that is nothing but
    /// rearrangements, which cost nothing anywhere, or if one of `outputs` itself lies in it.
    pub fn split(&self, outputs: &[NodeId]) -> Result<Option<Split>, ShapeError> {
        let needed = self.reachable(outputs);
        let mut public = vec![false; self.len()];
        let mut works = false;
        for id in self.ids().filter(|id| needed[id.index()]) {
            let operands = self.operands(id);
            public[id.index()] = match &self.node(id).op {
                Op::Input => true,
                // Masks change from epoch to epoch; the prefix is computed once.
                _ if self.masks.iter().any(|mask| mask.node == id) => false,
                Op::Label | Op::Param(_) | Op::Argument(_) | Op::Const(_) | Op::BatchSum => false,
                // Whoever writes a scheme wants the value there.
                Op::Ascribe(written) if written.scheme.is_some_and(|scheme| scheme != Scheme::Clear) => false,
                _ => {
                    let is_constant = |id: &NodeId| matches!(self.node(*id).op, Op::Const(_));
                    operands.iter().any(|o| public[o.index()])
                        && operands.iter().all(|o| public[o.index()] || is_constant(o))
                }
            };
            works |= public[id.index()]
                && matches!(self.node(id).op, Op::Contract { .. } | Op::Conv(_) | Op::Lut(_) | Op::Mul);
        }
        if !works || outputs.iter().any(|o| public[o.index()]) {
            return Ok(None);
        }
        let is_border = |id: &NodeId| {
            let users = self.users(*id);
            public[id.index()] && users.iter().any(|user| needed[user.index()] && !public[user.index()])
        };
        let border: Vec<NodeId> = self.ids().filter(is_border).collect();
        let (prefix, prefix_input, prefix_output) = self.prefix(&border, &public)?;

        let mut rest =
            Graph { params: self.params.clone(), level_variables: self.level_variables, ..Graph::default() };
        let shape = prefix.node(prefix_output).shape.clone();
        let rest_input = rest.input(&shape, &self.node(border[0]).origin)?;
        let mut moved: Vec<Option<NodeId>> = vec![None; self.len()];
        let mut start = 0;
        for &id in &border {
            let node = self.node(id);
            moved[id.index()] = Some(if border.len() == 1 {
                rest_input
            } else {
                let part = rest.slice(rest_input, 0, start, node.elements(), 1, &node.origin)?;
                rest.reshape(part, &node.shape, &node.origin)?
            });
            start += node.elements();
        }
        for id in self.ids().filter(|id| needed[id.index()] && !public[id.index()]) {
            let node = self.node(id);
            let operands: Vec<NodeId> = self.operands(id).iter().filter_map(|o| moved[o.index()]).collect();
            moved[id.index()] =
                Some(rest.push(node.op.clone(), node.shape.clone(), &operands, &node.origin)?);
        }
        let at = |id: NodeId| moved[id.index()];
        rest.loops = self
            .loops
            .iter()
            .filter_map(|state| {
                Some(LoopState { before: at(state.before)?, after: at(state.after)?, ..state.clone() })
            })
            .collect();
        let masks = self.masks.iter().filter_map(|mask| Some(Mask { node: at(mask.node)?, ..mask.clone() }));
        rest.masks = masks.collect();
        let outputs = outputs.iter().filter_map(|&id| at(id)).collect();
        Ok(Some(Split { prefix, prefix_input, prefix_output, rest, rest_input, outputs }))
    }

    /// The graph of what `border` needs, and its values as one tensor.
    fn prefix(&self, border: &[NodeId], public: &[bool]) -> Result<(Graph, NodeId, NodeId), ShapeError> {
        let needed = self.reachable(border);
        let mut graph = Graph { level_variables: self.level_variables, ..Graph::default() };
        let mut moved: Vec<NodeId> = vec![NodeId::default(); self.len()];
        let mut input = NodeId::default();
        for id in self.ids().filter(|id| needed[id.index()]) {
            let node = self.node(id);
            debug_assert!(public[id.index()] || matches!(node.op, Op::Const(_)));
            let operands: Vec<NodeId> = self.operands(id).iter().map(|o| moved[o.index()]).collect();
            moved[id.index()] = graph.push(node.op.clone(), node.shape.clone(), &operands, &node.origin)?;
            if matches!(node.op, Op::Input) {
                input = moved[id.index()];
            }
        }
        if let [only] = border {
            let output = moved[only.index()];
            return Ok((graph, input, output));
        }
        let mut flat = Vec::new();
        for &id in border {
            let node = self.node(id);
            flat.push(graph.reshape(moved[id.index()], &[elements(&node.shape)], &node.origin)?);
        }
        let output = graph.concat(&flat, 0, &self.node(border[0]).origin)?;
        Ok((graph, input, output))
    }
}
