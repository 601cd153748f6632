//! Schemes and levels of every value of a graph, its derivative included.
//!
//! In: a graph. Out: a type for every value that the outputs need, the switches between schemes, the alignments, and
//! the depth, which picks the ring; or diagnostics. Knows no profile but by its name and depth, and no schedule.
//!
//! Three kinds of values: *clear* ones; *leaves*, which come from the client or out of a table and can be packed at
//! any level, for each use anew; and *products*, whose level is one less than their operands'. Only products, and
//! values whose level the user wrote, have a level that must be solved.

mod constraints;
mod explain;
mod family;

use std::fmt;

use crate::diagnostics::Diagnostic;
use crate::graph::{Graph, LevelExpr, NodeId, Op, Scheme, Written};
use constraints::{Solution, System, Var, Why};
pub(super) use explain::label_node;
pub use family::Family;

/// Levels that a parameter profile offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depth {
    pub profile: String,
    pub levels: usize,
}

/// What levels there are.
#[derive(Clone, Debug)]
pub struct LevelOptions {
    pub family: Family,
    /// The profiles that may be chosen.
    pub profiles: Vec<Depth>,
    /// Profiles that exist beyond those, for the help line.
    pub others: Vec<Depth>,
    /// The outputs are gradients, which are added to masters of level 0.
    pub training: bool,
}

impl LevelOptions {
    /// The rows of the ring engine.
    pub fn ring(training: bool) -> Self {
        let rows = &crate::he::ckks::params::RING_PROFILES;
        // A product's result has the modulus that a bootstrap reads.
        let profiles = rows.iter().map(|row| Depth { profile: row.name.to_owned(), levels: 1 }).collect();
        let Self { profiles: others, .. } = Self::from_table(training, None);
        Self { family: Family::Ckks, profiles, others, training }
    }

    /// All profiles of the table, or the one that the user chose.
    pub fn from_table(training: bool, profile: Option<&str>) -> Self {
        let all = crate::he::params::PROFILES
            .iter()
            .map(|profile| Depth { profile: profile.name.to_owned(), levels: profile.depth() });
        let (profiles, others) = all.partition(|depth| profile.is_none_or(|name| depth.profile == name));
        Self { family: Family::Tfhe, profiles, others, training }
    }

    fn deepest(&self) -> Option<&Depth> {
        // The first of equals: profiles are listed from cheap to dear.
        self.profiles.iter().rev().max_by_key(|depth| depth.levels)
    }
}

/// The type of a value, without its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct ValueType {
    pub scheme: Scheme,
    /// Products that are left, for `bfv` and `ckks`.
    pub level: Option<u32>,
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Some(level) => write!(f, "{}<{level}>", self.scheme),
            None => write!(f, "{}", self.scheme),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SwitchKind {
    /// Encrypted by the client for this use.
    Encrypt,
    /// `bfv` → `tfhe`
    Out,
    /// `tfhe` → `bfv`
    Pack,
    /// `bfv` → `bfv` or `ckks` → `ckks` through an identity table.
    Refresh,
}

/// A change of scheme between a value and a use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    pub from: NodeId,
    /// None: the value is an output.
    pub to: Option<NodeId>,
    pub kind: SwitchKind,
    /// The level of the side that has one.
    pub level: u32,
}

/// A ciphertext that is switched down only to meet its partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alignment {
    pub operand: NodeId,
    /// None: a gradient that meets its master.
    pub user: Option<NodeId>,
    pub from: u32,
    pub to: u32,
}

/// The solution.
#[derive(Clone, Debug, Default)]
pub struct Typing {
    /// By node; None where no output needs the value.
    pub types: Vec<Option<ValueType>>,
    /// Levels that the deepest value needs.
    pub depth: usize,
    pub switches: Vec<Switch>,
    pub alignments: Vec<Alignment>,
    /// How many there would be if every value entered at the ring's full depth.
    pub naive_alignments: usize,
}

impl Typing {
    /// An error for each alignment: what `strict` asks for.
    pub fn alignment_errors(&self, graph: &Graph) -> Vec<Diagnostic> {
        self.alignments.iter().map(|alignment| explain::alignment(graph, alignment)).collect()
    }
}

/// What is known of a value before levels are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Clear,
    Leaf(Leaf),
    /// A ciphertext with a level to be solved.
    Leveled,
}

/// Where a leaf comes from; of several, the last of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Leaf {
    Fresh,
    Refreshed,
    Table,
}

/// Schemes and levels of everything that `outputs` need.
pub fn solve(graph: &Graph, outputs: &[NodeId], options: &LevelOptions) -> Result<Typing, Vec<Diagnostic>> {
    let mut roots = outputs.to_vec();
    roots.extend(graph.loops.iter().flat_map(|state| [state.before, state.after]));
    let needed = graph.reachable(&roots);
    let mut solver = Solver {
        graph,
        options,
        outputs,
        ids: graph.ids().filter(|id| needed[id.index()]).collect(),
        classes: vec![Class::Clear; graph.len()],
        vars: vec![None; graph.len()],
        written: vec![false; graph.len()],
        system: System::new(),
        diagnostics: Vec::new(),
    };
    solver.classify();
    if solver.diagnostics.is_empty() {
        solver.constrain();
    }
    if !solver.diagnostics.is_empty() {
        return Err(solver.diagnostics);
    }
    let solution = match solver.system.solve() {
        Ok(solution) => solver.lifted(solution),
        Err(conflict) => return Err(vec![explain::conflict(graph, options.family, &conflict)]),
    };
    solver.check_sums(&solution)?;
    solver.check_depth(&solution)?;
    Ok(solver.typing(&solution))
}

struct Solver<'a> {
    graph: &'a Graph,
    options: &'a LevelOptions,
    outputs: &'a [NodeId],
    /// What the outputs and loops need, operands before their users.
    ids: Vec<NodeId>,
    classes: Vec<Class>,
    vars: Vec<Option<Var>>,
    /// Values whose level a written type fixes, through nothing but operations that keep it.
    written: Vec<bool>,
    system: System,
    diagnostics: Vec<Diagnostic>,
}

fn is_product(op: &Op) -> bool {
    matches!(op, Op::Contract { .. } | Op::Conv(_) | Op::ConvImageGrad(_) | Op::ConvKernelGrad(_))
}

impl Solver<'_> {
    fn class(&self, id: NodeId) -> Class {
        self.classes[id.index()]
    }

    fn classify(&mut self) {
        // A loop that gives back a product began with a ciphertext of the same level, not with a leaf that each
        // iteration could encrypt anew.
        let mut promoted = vec![false; self.graph.len()];
        for _ in 0..=self.graph.loops.len() {
            for index in 0..self.ids.len() {
                let id = self.ids[index];
                self.classes[id.index()] =
                    if promoted[id.index()] { Class::Leveled } else { self.class_of(id) };
            }
            let before = self.graph.loops.iter().filter(|state| self.class(state.after) == Class::Leveled);
            let mut changed = false;
            for state in before {
                changed |= self.class(state.before) != Class::Leveled;
                promoted[state.before.index()] = true;
            }
            if !changed {
                break;
            }
        }
        for index in 0..self.ids.len() {
            if let Op::Ascribe(written) = &self.graph.node(self.ids[index]).op {
                self.check_scheme(self.ids[index], written);
            }
        }
    }

    fn class_of(&self, id: NodeId) -> Class {
        let operands = self.graph.operands(id);
        let classes = || operands.iter().map(|&operand| self.class(operand));
        let linear = || {
            classes().fold(Class::Clear, |sum, class| match (sum, class) {
                (Class::Leveled, _) | (_, Class::Leveled) => Class::Leveled,
                (Class::Leaf(a), Class::Leaf(b)) => Class::Leaf(a.max(b)),
                (Class::Clear, other) | (other, Class::Clear) => other,
            })
        };
        let all_clear = classes().all(|class| class == Class::Clear);
        match &self.graph.node(id).op {
            Op::Input | Op::Argument(_) => Class::Leaf(Leaf::Fresh),
            Op::Label if self.options.family == Family::Ckks => Class::Leaf(Leaf::Fresh),
            Op::Label | Op::Param(_) => Class::Leaf(Leaf::Table),
            Op::Const(_) => Class::Clear,
            _ if all_clear && !matches!(self.graph.node(id).op, Op::Ascribe(_)) => Class::Clear,
            Op::Lut(_) => Class::Leaf(Leaf::Table),
            Op::Refresh => Class::Leaf(Leaf::Refreshed),
            Op::Mul if classes().all(|class| class != Class::Clear) => Class::Leaf(Leaf::Table),
            op if is_product(op) => Class::Leveled,
            Op::Ascribe(written) => match (written.scheme, linear()) {
                (Some(Scheme::Bfv | Scheme::Ckks), _) => Class::Leveled,
                (Some(Scheme::Tfhe), _) => Class::Leaf(Leaf::Table),
                (_, class) => class,
            },
            _ => linear(),
        }
    }

    /// A written scheme: exact where a value is named, a use with room for a switch at a function's border.
    fn check_scheme(&mut self, id: NodeId, written: &Written) {
        let Some(scheme) = written.scheme else { return };
        let operand = self.graph.operands(id)[0];
        if Family::of(scheme).is_some_and(|family| family != self.options.family) {
            self.diagnostics.push(explain::other_family(self.graph, written, scheme, self.options.family));
            return;
        }
        let fits = match (scheme, self.class(operand)) {
            (Scheme::Ckks, class) => class != Class::Clear,
            (Scheme::Clear, class) => class == Class::Clear,
            (_, _) if !written.exact => true,
            (Scheme::Bfv, class) => !matches!(class, Class::Clear | Class::Leaf(Leaf::Table)),
            (Scheme::Tfhe, class) => matches!(class, Class::Leaf(_)),
        };
        if !fits {
            let found = match self.class(operand) {
                Class::Clear => "clear",
                _ if self.options.family == Family::Ckks => "ckks",
                Class::Leaf(Leaf::Table) => "tfhe",
                _ => "bfv",
            };
            self.diagnostics.push(explain::scheme(self.graph, id, written, scheme, found));
        }
    }

    fn constrain(&mut self) {
        let mut variables: Vec<Option<Var>> = vec![None; self.graph.level_variables as usize];
        for index in 0..self.ids.len() {
            let id = self.ids[index];
            if self.class(id) != Class::Leveled {
                continue;
            }
            let own = self.system.var();
            self.vars[id.index()] = Some(own);
            if self.class_of(id) != Class::Leveled {
                // A leaf that a loop made the beginning of its state.
                continue;
            }
            let operands = self.distinct_operands(id);
            let leveled: Vec<NodeId> =
                operands.iter().copied().filter(|o| self.class(*o) == Class::Leveled).collect();
            let op = &self.graph.node(id).op;
            if is_product(op) {
                // With one clear operand the level stays.
                let encrypted = operands.iter().all(|o| self.class(*o) != Class::Clear);
                let (gap, why) = if encrypted { (1, Why::Product(id)) } else { (0, Why::Same) };
                let fixed = leveled.iter().any(|o| self.written[o.index()]);
                self.join(own, &leveled, gap, why, fixed);
            } else {
                self.join(own, &leveled, 0, Why::Same, false);
                self.written[id.index()] = matches!(leveled.as_slice(), [one] if self.written[one.index()]);
            }
            if let Op::Ascribe(Written { level: Some(level), .. }) = op {
                self.written[id.index()] = true;
                self.write(own, id, *level, &mut variables);
            }
        }
        for (index, state) in self.graph.loops.iter().enumerate() {
            if let (Some(before), Some(after)) =
                (self.vars[state.before.index()], self.vars[state.after.index()])
            {
                self.system.equal(before, after, 0, Why::Loop(index));
            }
        }
    }

    /// Levels of the operands that have one, against the result's. A single one follows the result, since its
    /// partners are packed where it stands; several meet at the lowest, unless the user fixed one of them.
    fn join(&mut self, own: Var, operands: &[NodeId], gap: i32, why: Why, fixed: bool) {
        for operand in operands {
            let Some(var) = self.vars[operand.index()] else { continue };
            if operands.len() == 1 || fixed {
                self.system.equal(var, own, gap, why);
            } else {
                self.system.at_least(var, own, gap, why);
            }
        }
    }

    fn write(&mut self, own: Var, id: NodeId, level: LevelExpr, variables: &mut Vec<Option<Var>>) {
        let base = match level.variable {
            None => self.system.zero,
            Some(index) => {
                let index = index as usize;
                if index >= variables.len() {
                    variables.resize(index + 1, None);
                }
                *variables[index].get_or_insert_with(|| self.system.var())
            }
        };
        self.system.equal(own, base, level.offset, Why::Written(id));
    }

    fn distinct_operands(&self, id: NodeId) -> Vec<NodeId> {
        let mut operands = self.graph.operands(id);
        operands.sort_unstable();
        operands.dedup();
        operands
    }

    fn level(&self, solution: &Solution, id: NodeId) -> Option<u32> {
        self.vars[id.index()].map(|var| solution.levels[var.index()].max(0) as u32)
    }

    /// Operands whose levels meet at a node, and the level at which they do.
    fn meeting(&self, solution: &Solution, id: NodeId) -> Option<(Vec<NodeId>, u32)> {
        if self.class_of(id) != Class::Leveled {
            return None;
        }
        let mut operands = self.distinct_operands(id);
        let encrypted = operands.iter().all(|o| self.class(*o) != Class::Clear);
        operands.retain(|o| self.class(*o) == Class::Leveled);
        let spent = u32::from(is_product(&self.graph.node(id).op) && encrypted);
        let level = self.level(solution, id)?;
        (operands.len() > 1).then_some((operands, level + spent))
    }

    /// Raises sums whose operands all stand higher for other reasons: levels meet at the lowest operand's.
    fn lifted(&self, mut solution: Solution) -> Solution {
        for &id in &self.ids {
            let Some((operands, level)) = self.meeting(&solution, id) else { continue };
            let lowest = operands.iter().filter_map(|o| self.level(&solution, *o)).min().unwrap_or(level);
            if let Some(var) = self.vars[id.index()]
                && lowest > level
            {
                let to = solution.levels[var.index()] + (lowest - level) as i32;
                if let Some(raised) = self.system.raised(&solution, var, to)
                    && self.alignments(&raised).len() < self.alignments(&solution).len()
                {
                    solution = raised;
                }
            }
        }
        solution
    }

    fn alignments(&self, solution: &Solution) -> Vec<Alignment> {
        let mut alignments = Vec::new();
        for &id in &self.ids {
            let Some((operands, to)) = self.meeting(solution, id) else { continue };
            for operand in operands {
                let Some(from) = self.level(solution, operand) else { continue };
                if from > to {
                    alignments.push(Alignment { operand, user: Some(id), from, to });
                }
            }
        }
        if self.options.training {
            for &operand in self.outputs {
                match self.level(solution, operand) {
                    Some(from) if from > 0 => alignments.push(Alignment { operand, user: None, from, to: 0 }),
                    _ => {}
                }
            }
        }
        alignments
    }

    /// Operands that would be switched down if every leaf entered at the ring's full depth, and every product and sum stood one
    /// below, or at, the lowest of its operands.
    fn naive_alignments(&self, solution: &Solution) -> usize {
        let needed = self.ids.iter().map(|&id| self.demand(solution, id)).max().unwrap_or(0);
        let allowed = self.options.deepest().map_or(0, |depth| depth.levels as u32);
        let full = needed.max(allowed);
        let mut levels = vec![full; self.graph.len()];
        let mut count = 0;
        for &id in &self.ids {
            if self.class_of(id) != Class::Leveled {
                continue;
            }
            let mut operands = self.distinct_operands(id);
            let all = operands.len();
            operands.retain(|o| self.class(*o) != Class::Clear);
            let lowest = operands.iter().map(|o| levels[o.index()]).min().unwrap_or(full);
            count += operands.iter().filter(|o| levels[o.index()] > lowest).count();
            let spends = is_product(&self.graph.node(id).op) && operands.len() == all;
            levels[id.index()] = lowest.saturating_sub(u32::from(spends));
        }
        if self.options.training {
            count += self
                .outputs
                .iter()
                .filter(|&&output| self.class(output) == Class::Leveled && levels[output.index()] > 0)
                .count();
        }
        count
    }

    /// A written level below that of every operand of a sum: what is written is not adjusted.
    fn check_sums(&self, solution: &Solution) -> Result<(), Vec<Diagnostic>> {
        for &id in &self.ids {
            let Op::Ascribe(written) = &self.graph.node(id).op else { continue };
            let operand = self.graph.operands(id)[0];
            let Some((operands, level)) = self.meeting(solution, operand) else { continue };
            let lowest = operands.iter().filter_map(|o| self.level(solution, *o)).min().unwrap_or(level);
            if written.level.is_some() && lowest > level {
                let wanted = ValueType { scheme: self.options.family.ring(), level: Some(lowest) };
                return Err(vec![explain::sum_written_lower(
                    self.graph, id, operand, written, level, wanted,
                )]);
            }
        }
        Ok(())
    }

    /// Levels that a node needs: those of its own value, and of the operands that it multiplies.
    fn demand(&self, solution: &Solution, id: NodeId) -> u32 {
        let encrypted = |o: &NodeId| self.class(*o) != Class::Clear;
        let spends = is_product(&self.graph.node(id).op) && self.graph.operands(id).iter().all(encrypted);
        self.level(solution, id).map_or(0, |level| level + u32::from(spends))
    }

    fn check_depth(&self, solution: &Solution) -> Result<(), Vec<Diagnostic>> {
        let deepest = self.ids.iter().copied().max_by_key(|&id| self.demand(solution, id));
        let (Some(id), Some(allowed)) = (deepest, self.options.deepest()) else { return Ok(()) };
        let depth = self.demand(solution, id);
        if depth as usize <= allowed.levels {
            return Ok(());
        }
        let mut chain = Vec::new();
        let mut fixed_by = None;
        if depth > self.level(solution, id).unwrap_or(0) {
            chain.push(id);
        }
        let path = self.vars[id.index()].map(|var| self.system.path(solution, var)).unwrap_or_default();
        for bound in path.iter().rev() {
            match bound.why {
                Why::Product(product) if bound.gap > 0 => chain.push(product),
                Why::Written(node) => fixed_by = Some(node),
                _ => {}
            }
        }
        Err(vec![explain::too_deep(self.graph, &chain, fixed_by, depth, allowed, self.options)])
    }

    fn typing(&self, solution: &Solution) -> Typing {
        let mut typing = Typing {
            types: vec![None; self.graph.len()],
            alignments: self.alignments(solution),
            naive_alignments: self.naive_alignments(solution),
            depth: self.ids.iter().map(|&id| self.demand(solution, id)).max().unwrap_or(0) as usize,
            switches: Vec::new(),
        };
        for &id in &self.ids {
            self.switches(solution, id, &mut typing.switches);
        }
        for &id in self.outputs {
            if let (true, Class::Leaf(leaf)) = (self.options.training, self.class(id)) {
                let kind = entry(leaf);
                typing.switches.push(Switch { from: id, to: None, kind, level: 0 });
            }
        }
        // The deepest level at which a value is encrypted or packed for a use.
        let mut entry_levels = vec![0; self.graph.len()];
        for switch in &typing.switches {
            if matches!(switch.kind, SwitchKind::Encrypt | SwitchKind::Pack) {
                let entry = &mut entry_levels[switch.from.index()];
                *entry = switch.level.max(*entry);
            }
        }
        if self.options.family == Family::Ckks {
            // What a sum of leaves needs its operands have.
            for &id in self.ids.iter().rev() {
                let reads = matches!(self.graph.node(id).op, Op::Lut(_) | Op::Mul | Op::Refresh);
                if matches!(self.class(id), Class::Leaf(_)) && !reads {
                    for operand in self.graph.operands(id) {
                        let level = entry_levels[id.index()].max(entry_levels[operand.index()]);
                        entry_levels[operand.index()] = level;
                    }
                }
            }
        }
        for &id in &self.ids {
            let family = self.options.family;
            let ring = |level| ValueType { scheme: family.ring(), level: Some(level) };
            typing.types[id.index()] = Some(match (self.class(id), self.level(solution, id)) {
                (Class::Leveled, level) => ring(level.unwrap_or(0)),
                (Class::Leaf(Leaf::Table), _) if family == Family::Tfhe => {
                    ValueType { scheme: Scheme::Tfhe, level: None }
                }
                (Class::Leaf(_), _) => ring(entry_levels[id.index()]),
                (Class::Clear, _) => ValueType { scheme: Scheme::Clear, level: None },
            });
        }
        if self.options.family == Family::Ckks {
            // Functions read and give ciphertexts of the same scheme.
            typing.switches.retain(|switch| matches!(switch.kind, SwitchKind::Encrypt | SwitchKind::Refresh));
        }
        typing
    }

    /// The switches between the operands of a node and their use there.
    fn switches(&self, solution: &Solution, id: NodeId, switches: &mut Vec<Switch>) {
        let operands = self.graph.operands(id);
        let reads = matches!(self.graph.node(id).op, Op::Lut(_) | Op::Mul | Op::Refresh | Op::Ascribe(_));
        for operand in operands {
            let switch = |kind, level| Switch { from: operand, to: Some(id), kind, level };
            match (self.class(operand), self.class(id)) {
                (Class::Leaf(leaf), Class::Leveled) => {
                    switches.push(switch(entry(leaf), self.demand(solution, id)));
                }
                (Class::Leveled, Class::Leaf(leaf)) if reads => {
                    let kind = if leaf == Leaf::Refreshed { SwitchKind::Refresh } else { SwitchKind::Out };
                    switches.push(switch(kind, self.level(solution, operand).unwrap_or(0)));
                }
                _ => {}
            }
        }
    }
}

fn entry(leaf: Leaf) -> SwitchKind {
    if leaf == Leaf::Fresh { SwitchKind::Encrypt } else { SwitchKind::Pack }
}
