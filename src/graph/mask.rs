//! Masks: while training, a public share of a value's elements is zero. The same for all samples of a step, so a table need
//! not look a masked element up at all, for no sample.

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use super::build::check_size;
use super::{Graph, LoopState, Mask, NONE, NodeId, Op, Origin, ShapeError};

impl Graph {
    /// The identity, to be masked in a training: see [`Graph::masked`]. `keep` lies above 0 and is at most 1.
    pub fn mask(&mut self, a: NodeId, keep: f64, origin: &Origin) -> Result<NodeId, ShapeError> {
        let shape = self.node(a).shape.clone();
        check_size(&shape)?;
        if keep >= 1.0 || self.node(a).uniform().is_some() {
            return Ok(a);
        }
        let map = (0..self.node(a).elements() as u32).collect();
        let node = self.push(Op::Gather { what: "mask", map }, shape, &[a], origin)?;
        self.masks.push(Mask { node, keep });
        Ok(node)
    }

    /// The graph as it trains in an epoch (from 0), and where `outputs` stand in it: masks keep elements that depend on the
    /// epoch alone, and tables look up only what somebody needs. For `None` the graph as it is evaluated: nothing is zero, and
    /// everything is multiplied by the share that training keeps (Srivastava et al. 2014, so that no integer of the training
    /// is multiplied by a fraction).
    pub fn masked(
        &self,
        epoch: Option<usize>,
        outputs: &[NodeId],
    ) -> Result<(Graph, Vec<NodeId>), ShapeError> {
        let kept = |index| match epoch {
            Some(epoch) => self.kept(index, epoch),
            None => vec![true; self.node(self.masks[index].node).elements()],
        };
        let kept: Vec<Vec<bool>> = (0..self.masks.len()).map(kept).collect();
        let mask_at = |id: NodeId| self.masks.iter().position(|mask| mask.node == id);
        let needed = self.needed(outputs, |id| mask_at(id).map(|index| kept[index].as_slice()));
        let mut new =
            Graph { params: self.params.clone(), level_variables: self.level_variables, ..Graph::default() };
        let mut moved: Vec<Option<NodeId>> = vec![None; self.len()];
        for id in self.ids() {
            let Some(needed) = &needed[id.index()] else { continue };
            let node = self.node(id);
            let operands: Vec<NodeId> = self.operands(id).iter().filter_map(|o| moved[o.index()]).collect();
            moved[id.index()] = Some(if let Some(index) = mask_at(id) {
                if epoch.is_some() {
                    let places =
                        (0..).zip(&kept[index]).map(|(i, &keep)| if keep { i } else { NONE }).collect();
                    new.gather("mask", &operands, places, node.shape.clone(), &node.origin)?
                } else {
                    let share = self.kept_count(index) as f64 / node.elements().max(1) as f64;
                    new.scale(operands[0], share, &node.origin)?
                }
            } else if matches!(node.op, Op::Lut(_) | Op::Refresh) && needed.contains(&false) {
                new.of_needed(node.op.clone(), operands[0], needed, &node.origin)?
            } else {
                new.push(node.op.clone(), node.shape.clone(), &operands, &node.origin)?
            });
        }
        let at = |id: NodeId| moved[id.index()];
        let state = |state: &LoopState| {
            Some(LoopState { before: at(state.before)?, after: at(state.after)?, ..state.clone() })
        };
        new.loops = self.loops.iter().filter_map(state).collect();
        Ok((new, outputs.iter().filter_map(|&id| at(id)).collect()))
    }

    /// How many elements a mask keeps in each epoch: at least one.
    fn kept_count(&self, index: usize) -> usize {
        let Mask { node, keep } = &self.masks[index];
        let count = self.node(*node).elements();
        ((keep * count as f64).round() as usize).clamp(count.min(1), count)
    }

    /// Which elements a mask keeps.
    fn kept(&self, index: usize, epoch: usize) -> Vec<bool> {
        let count = self.node(self.masks[index].node).elements();
        let mut rng = ChaCha20Rng::seed_from_u64((epoch as u64) << 32 | index as u64);
        let mut kept = vec![false; count];
        rand::seq::index::sample(&mut rng, count, self.kept_count(index)).iter().for_each(|i| kept[i] = true);
        kept
    }

    /// By node, which of its elements `outputs` depend on; `None` where they do not need the node.
    fn needed<'m>(
        &self,
        outputs: &[NodeId],
        mask: impl Fn(NodeId) -> Option<&'m [bool]>,
    ) -> Vec<Option<Vec<bool>>> {
        let mut needed: Vec<Option<Vec<bool>>> = vec![None; self.len()];
        for &id in outputs {
            needed[id.index()] = Some(vec![true; self.node(id).elements()]);
        }
        for id in self.ids().rev() {
            let Some(own) = needed[id.index()].take() else { continue };
            let operands = self.operands(id);
            let mut parts: Vec<Vec<bool>> =
                operands.iter().map(|o| vec![false; self.node(*o).elements()]).collect();
            match &self.node(id).op {
                Op::Gather { map, .. } => {
                    let kept = mask(id);
                    let mut all: Vec<&mut bool> = parts.iter_mut().flatten().collect();
                    for (i, &from) in map.iter().enumerate().filter(|(_, from)| **from != NONE) {
                        *all[from as usize] |= own[i] && kept.is_none_or(|kept| kept[i]);
                    }
                }
                op if op.is_element_wise() => {
                    parts.iter_mut().for_each(|part| part.clone_from(&own));
                }
                _ => parts.iter_mut().flatten().for_each(|element| *element = true),
            }
            for (operand, part) in operands.iter().zip(parts) {
                match &mut needed[operand.index()] {
                    Some(known) => known.iter_mut().zip(part).for_each(|(known, new)| *known |= new),
                    slot => *slot = Some(part),
                }
            }
            needed[id.index()] = Some(own);
        }
        needed
    }

    /// A table of the elements that are needed; the others are zero.
    fn of_needed(
        &mut self,
        op: Op,
        operand: NodeId,
        needed: &[bool],
        origin: &Origin,
    ) -> Result<NodeId, ShapeError> {
        let shape = self.node(operand).shape.clone();
        let (mut chosen, mut places) = (Vec::new(), vec![NONE; needed.len()]);
        for (i, _) in needed.iter().enumerate().filter(|(_, needed)| **needed) {
            places[i] = chosen.len() as u32;
            chosen.push(i as u32);
        }
        let count = chosen.len();
        let read = self.gather("mask", &[operand], chosen, vec![count], origin)?;
        let table = self.push(op, vec![count], &[read], origin)?;
        self.gather("mask", &[table], places, shape, origin)
    }
}
