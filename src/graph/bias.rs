//! A bias is one more input fixed to 1: `x @ w + b` becomes `[x; 1] @ [w; b]`, one tensor of weights.

use std::sync::Arc;

use super::{Graph, Init, NodeId, Op, ParamId, ParamInfo, ShapeError};

impl Graph {
    /// The graph with every `x @ w + b` of a vector `x` and parameters used nowhere else joined, and where
    /// `outputs` stand in it.
    pub fn with_joined_biases(&self, outputs: &[NodeId]) -> Result<(Graph, Vec<NodeId>), ShapeError> {
        let mut new = Graph {
            dag: Default::default(),
            params: Vec::new(),
            loops: Vec::new(),
            masks: Vec::new(),
            level_variables: self.level_variables,
        };
        let joins: Vec<Option<Join>> = self.ids().map(|id| self.join_at(id)).collect();
        let mut skipped = vec![false; self.len()];
        for join in joins.iter().flatten() {
            for id in [join.product, join.weights, join.bias] {
                skipped[id.index()] = true;
            }
        }
        let mut moved: Vec<NodeId> = vec![NodeId::default(); self.len()];
        for id in self.ids().filter(|id| !skipped[id.index()]) {
            let node = self.node(id);
            moved[id.index()] = match (&joins[id.index()], &node.op) {
                (Some(join), _) => {
                    let origin = &self.node(join.product).origin;
                    let (Op::Param(w), Op::Param(b)) =
                        (&self.node(join.weights).op, &self.node(join.bias).op)
                    else {
                        continue;
                    };
                    let joined = new.param(stack(self.param_info(*w), self.param_info(*b)), origin)?;
                    let one = new.constant(1.0, &[1], origin)?;
                    let x = new.concat(&[moved[join.x.index()], one], 0, origin)?;
                    new.matmul(x, joined, origin)?
                }
                (None, Op::Param(param)) => {
                    // Parameters are numbered anew.
                    new.param(self.param_info(*param).clone(), &node.origin)?
                }
                (None, op) => {
                    let operands: Vec<NodeId> = self.operands(id).iter().map(|o| moved[o.index()]).collect();
                    new.push(op.clone(), node.shape.clone(), &operands, &node.origin)?
                }
            };
        }
        new.loops = self
            .loops
            .iter()
            .map(|state| super::LoopState {
                before: moved[state.before.index()],
                after: moved[state.after.index()],
                ..state.clone()
            })
            .collect();
        Ok((new, outputs.iter().map(|id| moved[id.index()]).collect()))
    }

    fn join_at(&self, id: NodeId) -> Option<Join> {
        if !matches!(self.node(id).op, Op::Add) {
            return None;
        }
        let operands = self.operands(id);
        let used_once = |id: NodeId| self.users(id).len() == 1;
        [(0, 1), (1, 0)].into_iter().find_map(|(product, bias)| {
            let (product, bias) = (operands[product], operands[bias]);
            let is_vector = matches!(&self.node(product).op, Op::Contract { left, right, .. }
                if left.len() == 1 && right.len() == 2 && right[0] == left[0]);
            if !is_vector
                || !matches!(self.node(bias).op, Op::Param(_))
                || !used_once(product)
                || !used_once(bias)
            {
                return None;
            }
            let parts = self.operands(product);
            let weights = parts[1];
            let joins = matches!(self.node(weights).op, Op::Param(_)) && used_once(weights);
            joins.then(|| Join { x: parts[0], product, weights, bias })
        })
    }
}

struct Join {
    x: NodeId,
    product: NodeId,
    weights: NodeId,
    bias: NodeId,
}

fn stack(weights: &ParamInfo, bias: &ParamInfo) -> ParamInfo {
    let row = ParamInfo { shape: vec![1, bias.shape[0]], ..bias.clone() };
    let parts: Arc<[ParamInfo]> = vec![weights.clone(), row].into();
    ParamInfo {
        name: format!("{}+{}", weights.name, bias.name),
        shape: vec![weights.shape[0] + 1, weights.shape[1]],
        init: Init::Stacked(parts),
        ..weights.clone()
    }
}

impl ParamId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Parameters as the user named them: `(name, shape, elements)` of a stacked one, in order.
pub fn unstack<'a>(info: &'a ParamInfo, values: &'a [f32]) -> Vec<(&'a str, Vec<usize>, &'a [f32])> {
    match &info.init {
        Init::Stacked(parts) => {
            let mut rest = values;
            parts
                .iter()
                .enumerate()
                .map(|(index, part)| {
                    let (own, tail) = rest.split_at(super::elements(&part.shape).min(rest.len()));
                    rest = tail;
                    // The bias, last, became a row of its own.
                    let shape = if index > 0 { &part.shape[1..] } else { &part.shape[..] };
                    (part.name.as_str(), shape.to_vec(), own)
                })
                .collect()
        }
        _ => vec![(info.name.as_str(), info.shape.clone(), values)],
    }
}
