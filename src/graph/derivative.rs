//! Reverse-mode differentiation: one rule per operation, none per layer.

use std::sync::Arc;

use super::{Binary, Graph, NONE, NodeId, Op, Origin, ParamId, ScalarExpr, ScalarFn, ShapeError, elements};

/// The gradients of a scalar, summed over the batch.
#[derive(Clone, Debug)]
pub struct Derivative {
    /// For each parameter that the scalar depends on, the node of its gradient (shared by the batch).
    pub gradients: Vec<(ParamId, NodeId)>,
}

impl Graph {
    /// Appends the derivative of `loss` (one element) to the graph.
    ///
    /// Every appended node keeps the origin of the node whose derivative it belongs to.
    pub fn differentiate(&mut self, loss: NodeId) -> Result<Derivative, ShapeError> {
        self.differentiate_clipped(loss, None)
    }

    /// The same with the elements of a sample's gradient held within ±`bound`, for `Some((bound, result))`: at the model's
    /// result, and at each table before it, where a look-up has to read the gradient anyway.
    pub fn differentiate_clipped(
        &mut self,
        loss: NodeId,
        clip: Option<(f64, NodeId)>,
    ) -> Result<Derivative, ShapeError> {
        let in_model = clip.map_or_else(Vec::new, |(_, result)| self.reachable(&[result]));
        let mut adjoints: Vec<Option<NodeId>> = vec![None; self.len()];
        let wanted = self.depends_on_params();
        let shape = self.node(loss).shape.clone();
        let seed_origin = derived(&self.node(loss).origin);
        adjoints[loss.index()] = Some(self.constant(1.0, &shape, &seed_origin)?);
        let mut gradients = Vec::new();
        for id in self.ids().take(adjoints.len()).rev().collect::<Vec<_>>() {
            let Some(mut g) = adjoints[id.index()] else { continue };
            if let Op::Param(param) = self.node(id).op {
                gradients.push((param, g));
                continue;
            }
            let origin = derived(&self.node(id).origin);
            if let Some((bound, result)) = clip
                && in_model[id.index()]
                && self.node(id).per_sample
                && (id == result || matches!(self.node(id).op, Op::Lut(_)))
            {
                g = self.lut(g, clipped(bound), &origin)?;
            }
            for (operand, contribution) in self.pull_back(id, g, &wanted, &origin)? {
                // By the nodes, not by the contribution: that may be one constant, received from every sample.
                let contribution = if self.node(id).per_sample && !self.node(operand).per_sample {
                    self.batch_sum(contribution, &origin)?
                } else {
                    contribution
                };
                let slot = operand.index();
                adjoints[slot] = Some(match adjoints[slot] {
                    None => contribution,
                    Some(sum) => self.add(sum, contribution, &origin)?,
                });
            }
        }
        gradients.sort_unstable_by_key(|&(param, _)| param);
        Ok(Derivative { gradients })
    }

    fn depends_on_params(&self) -> Vec<bool> {
        let mut depends = vec![false; self.len()];
        for id in self.ids() {
            depends[id.index()] = matches!(self.node(id).op, Op::Param(_))
                || self.operands(id).iter().any(|operand| depends[operand.index()]);
        }
        depends
    }

    /// What each operand of `id` receives of the adjoint `g` of `id`.
    fn pull_back(
        &mut self,
        id: NodeId,
        g: NodeId,
        wanted: &[bool],
        origin: &Origin,
    ) -> Result<Vec<(NodeId, NodeId)>, ShapeError> {
        let operands = self.operands(id);
        let want = |k: usize| wanted[operands[k].index()];
        let mut out = Vec::new();
        match self.node(id).op.clone() {
            Op::Input | Op::Label | Op::Argument(_) | Op::Param(_) | Op::Const(_) | Op::BatchSum => {}
            Op::Contract { left, right, out: result } => {
                if want(0) {
                    out.push((operands[0], self.contract(g, operands[1], &result, &right, &left, origin)?));
                }
                if want(1) {
                    out.push((operands[1], self.contract(operands[0], g, &left, &result, &right, origin)?));
                }
            }
            Op::Conv(geometry) => {
                if want(0) {
                    let shape = geometry.image.to_vec();
                    let op = Op::ConvImageGrad(geometry.clone());
                    out.push((operands[0], self.push(op, shape, &[g, operands[1]], origin)?));
                }
                if want(1) {
                    let shape = geometry.kernel.to_vec();
                    out.push((
                        operands[1],
                        self.push(Op::ConvKernelGrad(geometry), shape, &[operands[0], g], origin)?,
                    ));
                }
            }
            // They appear only in a derivative, which is not differentiated again.
            Op::ConvImageGrad(_) | Op::ConvKernelGrad(_) => {}
            Op::Add | Op::Sub => {
                if want(0) {
                    out.push((operands[0], g));
                }
                if want(1) {
                    let minus = matches!(self.node(id).op, Op::Sub);
                    out.push((operands[1], if minus { self.scale(g, -1.0, origin)? } else { g }));
                }
            }
            Op::Mul => {
                for (own, other) in [(0, 1), (1, 0)] {
                    if want(own) {
                        out.push((operands[own], self.mul(g, operands[other], origin)?));
                    }
                }
            }
            Op::Scale(c) => out.push((operands[0], self.scale(g, c, origin)?)),
            Op::Offset(_) | Op::Refresh | Op::Ascribe(_) => out.push((operands[0], g)),
            Op::Gather { what, map } => {
                let mut base = 0u32;
                for (k, &operand) in operands.iter().enumerate() {
                    let size = self.node(operand).elements() as u32;
                    if want(k) {
                        let part: Vec<u32> = map
                            .iter()
                            .map(|&i| if i != NONE && i >= base && i - base < size { i - base } else { NONE })
                            .collect();
                        out.push((operand, self.adjoint_of_gather(what, g, operand, part, origin)?));
                    }
                    base += size;
                }
            }
            Op::ScatterAdd { what, map } => {
                let shape = self.node(operands[0]).shape.clone();
                out.push((operands[0], self.gather(what, &[g], map.to_vec(), shape, origin)?));
            }
            Op::Lut(function) => {
                let slope =
                    ScalarFn { name: format!("{}'", function.name), expr: function.derivative(), grad: None };
                let slope = match slope.expr.affine() {
                    Some((0.0, c)) => {
                        let shape = self.node(operands[0]).shape.clone();
                        self.constant(c, &shape, origin)?
                    }
                    _ => self.lut(operands[0], slope, origin)?,
                };
                out.push((operands[0], self.mul(g, slope, origin)?));
            }
        }
        out.retain(|(operand, _)| wanted[operand.index()]);
        Ok(out)
    }

    /// The adjoint of `out[i] = a[map[i]]`: again a gather if no element was taken twice.
    fn adjoint_of_gather(
        &mut self,
        what: &'static str,
        g: NodeId,
        a: NodeId,
        map: Vec<u32>,
        origin: &Origin,
    ) -> Result<NodeId, ShapeError> {
        let shape = self.node(a).shape.clone();
        let mut inverse = vec![NONE; elements(&shape)];
        for (i, &from) in map.iter().enumerate().filter(|(_, from)| **from != NONE) {
            if std::mem::replace(&mut inverse[from as usize], i as u32) != NONE {
                return self.scatter_add(what, g, map, shape, origin);
            }
        }
        self.gather(what, &[g], inverse, shape, origin)
    }
}

/// The name of the table that holds gradients within a bound.
pub const CLIP: &str = "clip";

fn clipped(bound: f64) -> ScalarFn {
    let low = ScalarExpr::bin(Binary::Max, ScalarExpr::Z, ScalarExpr::Const(-bound));
    let expr = ScalarExpr::bin(Binary::Min, low, ScalarExpr::Const(bound));
    ScalarFn { name: CLIP.into(), expr, grad: None }
}

fn derived(origin: &Origin) -> Origin {
    Origin { spans: Arc::clone(&origin.spans), derivative: true }
}
