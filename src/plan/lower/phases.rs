//! How many phases the images of a network have: what those who read them want.
//!
//! A strided convolution, and a pool, read every m-th row and column: an image that is cut into m phases hands them whole
//! polynomials. What comes last has one phase, or more where the grid would not fit the ring.

use super::super::place::conv::room;
use crate::graph::{ConvGeometry, Graph, NONE, NodeId, Op};

/// Phases of images, by node.
#[derive(Clone, Debug, Default)]
pub(super) struct Phases(Vec<usize>);

/// Phases of what comes last, at most.
const MOST: usize = 64;

impl Phases {
    /// The fewest with which the grid of all convolutions fits a ring of this degree.
    pub(super) fn of(graph: &Graph, needed: &[bool], degree: usize) -> Self {
        let mut last = 1;
        loop {
            let own = Self::with_last(graph, needed, last);
            let rooms =
                graph.ids().filter(|id| needed[id.index()]).filter_map(|id| match &graph.node(id).op {
                    Op::Conv(geometry) => Some(room(geometry, own.0[id.index()])),
                    _ => None,
                });
            let [rows, columns] = rooms.fold([1, 1], |a, b| [a[0].max(b[0]), a[1].max(b[1])]);
            if rows.saturating_mul(columns) <= degree || last == MOST {
                return own;
            }
            last *= 2;
        }
    }

    fn with_last(graph: &Graph, needed: &[bool], last: usize) -> Self {
        let forward = |id: &NodeId| needed[id.index()] && !graph.node(*id).origin.derivative;
        let mut wanted = vec![last; graph.len()];
        for id in graph.ids().rev().filter(forward) {
            let own = wanted[id.index()];
            let operands = graph.operands(id);
            let mut want = |operand: NodeId, phases: usize| {
                let slot = &mut wanted[operand.index()];
                *slot = (*slot).max(phases);
            };
            match &graph.node(id).op {
                Op::Conv(geometry) => want(operands[0], geometry.stride * own),
                Op::Gather { map, .. } | Op::ScatterAdd { map, .. } => {
                    for (k, &operand) in operands.iter().enumerate() {
                        if let Some(step) = step(graph, id, k, map) {
                            want(operand, step * own);
                        }
                    }
                }
                op if op.is_element_wise() => operands.iter().for_each(|&operand| want(operand, own)),
                _ => {}
            }
        }
        // What is computed has the phases that follow from what it is computed from.
        let mut fixed: Vec<Option<usize>> = vec![None; graph.len()];
        for id in graph.ids().filter(forward) {
            let operands = graph.operands(id);
            let of = |operand: NodeId| fixed[operand.index()].unwrap_or(wanted[operand.index()]);
            fixed[id.index()] = match &graph.node(id).op {
                Op::Conv(geometry) => {
                    let phases = of(operands[0]);
                    Some(if phases.is_multiple_of(geometry.stride) {
                        phases / geometry.stride
                    } else {
                        wanted[id.index()]
                    })
                }
                Op::Gather { map, .. } | Op::ScatterAdd { map, .. } => {
                    operands.iter().enumerate().find_map(|(k, &operand)| {
                        let step = step(graph, id, k, map)?;
                        of(operand).is_multiple_of(step).then(|| of(operand) / step)
                    })
                }
                op if op.is_element_wise() => operands.iter().find_map(|operand| fixed[operand.index()]),
                _ => None,
            };
        }
        Self(wanted.into_iter().zip(fixed).map(|(wanted, fixed)| fixed.unwrap_or(wanted)).collect())
    }

    /// Of the value of a node of the forward pass.
    pub(super) fn at(&self, id: NodeId) -> usize {
        self.0.get(id.index()).copied().unwrap_or(1)
    }

    /// Of the result of a convolution, from the node of the convolution or of one of its gradients.
    pub(super) fn of_result(&self, graph: &Graph, id: NodeId) -> usize {
        let operands = graph.operands(id);
        let convolution = |operand: NodeId, geometry: &ConvGeometry| {
            let own = |user: &NodeId| matches!(&graph.node(*user).op, Op::Conv(own) if own == geometry);
            graph.users(operand).into_iter().find(own)
        };
        let forward = match &graph.node(id).op {
            Op::ConvImageGrad(geometry) => convolution(operands[1], geometry),
            Op::ConvKernelGrad(geometry) => convolution(operands[0], geometry),
            _ => Some(id),
        };
        forward.map_or(1, |forward| self.at(forward))
    }

    /// Of the gradient of a convolution's result, from the gradients that use it or a part of it.
    pub(super) fn of_gradient(&self, graph: &Graph, id: NodeId) -> Option<usize> {
        graph.users(id).into_iter().find_map(|user| match &graph.node(user).op {
            Op::ConvImageGrad(_) | Op::ConvKernelGrad(_) => Some(self.of_result(graph, user)),
            Op::Gather { .. } => self.of_gradient(graph, user),
            _ => None,
        })
    }
}

/// An element's place in an image, or in a stack of them: the axes behind channels, rows and columns count as channels.
fn row_and_column(shape: &[usize], index: usize) -> Option<[usize; 2]> {
    let [_, height, width, rest @ ..] = shape else { return None };
    let index = index / rest.iter().product::<usize>().max(1);
    Some([index / width % height, index % width])
}

/// If a map between images leads from each row and column to every m-th of operand k: m.
fn step(graph: &Graph, id: NodeId, k: usize, map: &[u32]) -> Option<usize> {
    let operands = graph.operands(id);
    let base: usize = operands[..k].iter().map(|&operand| graph.node(operand).elements()).sum();
    let (own, source) = (&graph.node(id).shape, graph.node(operands[k]));
    let range = base as u32..(base + source.elements()) as u32;
    let source = &source.shape;
    let gathers = matches!(graph.node(id).op, Op::Gather { .. });
    // By row, and by column: where the first element of the result reads.
    let mut first: [Vec<Option<usize>>; 2] = [vec![None; *own.get(1)?], vec![None; *own.get(2)?]];
    for (at, &to) in map.iter().enumerate().filter(|(_, to)| **to != NONE) {
        if gathers && !range.contains(&to) {
            continue;
        }
        let (result, from) = if gathers { (at, to as usize - base) } else { (to as usize, at) };
        let (result, from) = (row_and_column(own, result)?, row_and_column(source, from)?);
        for k in 0..2 {
            let slot = &mut first[k][result[k]];
            *slot = Some(slot.map_or(from[k], |first| first.min(from[k])));
        }
    }
    let mut steps = first.iter().flat_map(|first| {
        let differences = first.windows(2).filter_map(|pair| Some((pair[0]?, pair[1]?)));
        differences.map(|(a, b)| b.checked_sub(a))
    });
    let step = steps.next().flatten()?;
    (step > 0 && steps.all(|own| own == Some(step))).then_some(step)
}
