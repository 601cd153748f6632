//! Difference constraints `a ≥ b + gap` between levels, and their least solution: longest paths from zero.

use std::collections::BinaryHeap;

use petgraph::graph::{DiGraph, EdgeIndex, NodeIndex};
use petgraph::visit::EdgeRef;

use crate::graph::NodeId;

/// A level to be found.
pub(super) type Var = NodeIndex<u32>;

/// Why one level depends on another: what a diagnostic can point to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Levels are not negative.
    Floor,
    /// A product gives one level less than its operands have.
    Product(NodeId),
    /// The operation keeps the level of its operand.
    Same,
    /// The user wrote this node's type.
    Written(NodeId),
    /// The state of a loop, an index into the graph's.
    Loop(usize),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub gap: i32,
    pub why: Why,
}

/// The constraints: an edge leads from `b` to `a` for `a ≥ b + gap`.
#[derive(Debug)]
pub(super) struct System {
    graph: DiGraph<(), Bound, u32>,
    /// What stands for the number 0.
    pub zero: Var,
}

/// Constraints that contradict one another: a circle whose gaps add up to more than nothing, in its order.
#[derive(Debug)]
pub(super) struct Conflict {
    pub bounds: Vec<Bound>,
}

#[derive(Clone, Debug)]
pub(super) struct Solution {
    pub levels: Vec<i32>,
    /// The constraint that raised a level last.
    causes: Vec<Option<EdgeIndex<u32>>>,
}

/// From this level on a circle is looked for, at every power of two: only a circle or a very long chain leads there.
const SUSPICIOUS: i32 = 16;

impl System {
    pub fn new() -> Self {
        let mut graph = DiGraph::default();
        let zero = graph.add_node(());
        Self { graph, zero }
    }

    /// A new level, at least 0.
    pub fn var(&mut self) -> Var {
        let var = self.graph.add_node(());
        self.at_least(var, self.zero, 0, Why::Floor);
        var
    }

    /// `a ≥ b + gap`
    pub fn at_least(&mut self, a: Var, b: Var, gap: i32, why: Why) {
        self.graph.add_edge(b, a, Bound { gap, why });
    }

    /// `a = b + gap`
    pub fn equal(&mut self, a: Var, b: Var, gap: i32, why: Why) {
        self.at_least(a, b, gap, why);
        self.at_least(b, a, -gap, why);
    }

    /// The least levels that satisfy every constraint.
    pub fn solve(&self) -> Result<Solution, Conflict> {
        let count = self.graph.node_count();
        let mut solution = Solution { levels: vec![-1; count], causes: vec![None; count] };
        solution.levels[self.zero.index()] = 0;
        self.relax(&mut solution, self.zero)?;
        Ok(solution)
    }

    /// The least solution in which `var` is at least `level`, if there is one.
    pub fn raised(&self, solution: &Solution, var: Var, level: i32) -> Option<Solution> {
        let mut raised = solution.clone();
        raised.levels[var.index()] = level;
        self.relax(&mut raised, var).ok()?;
        Some(raised)
    }

    /// Raises levels until every constraint holds, beginning with those that follow from `start`.
    fn relax(&self, solution: &mut Solution, start: Var) -> Result<(), Conflict> {
        // The last first: levels follow from those of the users of a value, which come after it. Where no type is
        // written, each level is then raised once.
        let mut queue = BinaryHeap::from([start]);
        let mut waiting = vec![false; self.graph.node_count()];
        while let Some(from) = queue.pop() {
            waiting[from.index()] = false;
            for edge in self.graph.edges(from) {
                let to = edge.target();
                let level = solution.levels[from.index()] + edge.weight().gap;
                if level <= solution.levels[to.index()] {
                    continue;
                }
                if to == self.zero {
                    let mut bounds = self.path(solution, from);
                    bounds.push(*edge.weight());
                    return Err(Conflict { bounds });
                }
                solution.levels[to.index()] = level;
                solution.causes[to.index()] = Some(edge.id());
                if level >= SUSPICIOUS
                    && level.cast_unsigned().is_power_of_two()
                    && let Some(conflict) = self.circle(solution, to)
                {
                    return Err(conflict);
                }
                if !std::mem::replace(&mut waiting[to.index()], true) {
                    queue.push(to);
                }
            }
        }
        Ok(())
    }

    /// The constraints that lead from zero to the level of `var`, in this order.
    pub fn path(&self, solution: &Solution, var: Var) -> Vec<Bound> {
        let mut bounds = Vec::new();
        let mut at = var;
        while let Some(edge) = solution.causes[at.index()] {
            let (Some((from, _)), Some(bound)) =
                (self.graph.edge_endpoints(edge), self.graph.edge_weight(edge))
            else {
                break;
            };
            bounds.push(*bound);
            at = from;
            if at == self.zero || bounds.len() > self.graph.node_count() {
                break;
            }
        }
        bounds.reverse();
        bounds
    }

    /// A circle among the causes of a level.
    fn circle(&self, solution: &Solution, var: Var) -> Option<Conflict> {
        let source = |at: Var| {
            let edge = solution.causes[at.index()]?;
            Some((self.graph.edge_endpoints(edge)?.0, *self.graph.edge_weight(edge)?))
        };
        // After as many steps as there are levels, one is on the circle.
        let mut first = var;
        for _ in 0..self.graph.node_count() {
            first = source(first)?.0;
        }
        let (mut at, mut bounds) = (first, Vec::new());
        loop {
            let (from, bound) = source(at)?;
            bounds.push(bound);
            at = from;
            if at == first {
                bounds.reverse();
                return Some(Conflict { bounds });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_solution_is_a_longest_path() {
        let mut system = System::new();
        let [a, b, c] = [(); 3].map(|()| system.var());
        system.at_least(a, b, 1, Why::Same);
        system.at_least(a, c, 0, Why::Same);
        system.equal(c, b, 2, Why::Same);
        let solution = system.solve().unwrap();
        assert_eq!(solution.levels, [0, 2, 0, 2]);
        let raised = system.raised(&solution, b, 3).unwrap();
        assert_eq!(raised.levels, [0, 5, 3, 5]);
    }

    #[test]
    fn contradictions_are_circles() {
        let mut system = System::new();
        let [a, b] = [(); 2].map(|()| system.var());
        system.at_least(a, b, 1, Why::Same);
        system.at_least(b, a, 0, Why::Loop(0));
        let conflict = system.solve().unwrap_err();
        assert_eq!(conflict.bounds.len(), 2);
        assert_eq!(conflict.bounds.iter().map(|b| b.gap).sum::<i32>(), 1);

        let mut system = System::new();
        let [a, b] = [(); 2].map(|()| system.var());
        system.equal(a, system.zero, 1, Why::Written(NodeId::new(7)));
        system.at_least(a, b, 2, Why::Same);
        let conflict = system.solve().unwrap_err();
        let whys: Vec<Why> = conflict.bounds.iter().map(|b| b.why).collect();
        assert_eq!(whys, [Why::Floor, Why::Same, Why::Written(NodeId::new(7))]);
    }
}
