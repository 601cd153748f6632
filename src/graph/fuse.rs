//! Fusion of tables: whatever is a function of one value, element by element, becomes one look-up table.
//!
//! A table costs a bootstrap, so `sigmoid(z) − y + λ·z` must be one table of `z` less `y`, and
//! `sigmoid(z)·(1 − sigmoid(z))` one table of `z`.

use std::sync::Arc;

use super::{Constant, Graph, NodeId, Op, Origin, ScalarExpr, ScalarFn, ShapeError};

/// A sum of functions of single values, element by element, each with the name of its first table.
#[derive(Clone)]
struct Terms {
    parts: Vec<Part>,
    constant: f64,
}

#[derive(Clone)]
struct Part {
    root: NodeId,
    expr: ScalarExpr,
    /// Nodes of `expr` as a tree, at most.
    size: usize,
    name: Option<String>,
}

impl Terms {
    fn root(id: NodeId) -> Self {
        Self { parts: vec![Part { root: id, expr: ScalarExpr::Z, size: 1, name: None }], constant: 0.0 }
    }

    fn combine(mut self, other: Terms, factor: f64) -> Self {
        for part in other.parts {
            let expr = ScalarExpr::Const(factor).mul(part.expr);
            match self.parts.iter_mut().find(|own| own.root == part.root) {
                Some(own) => {
                    own.expr = own.expr.clone().add(expr);
                    own.size += part.size + 3;
                    own.name = own.name.take().or(part.name);
                }
                None => self.parts.push(Part { expr, size: part.size + 2, ..part }),
            }
        }
        self.constant += factor * other.constant;
        self
    }

    /// The expression in the one value that these terms depend on.
    fn single(&self) -> Option<Part> {
        match self.parts.as_slice() {
            [part] => {
                let expr = part.expr.clone().add(ScalarExpr::Const(self.constant));
                Some(Part { expr, size: part.size + 2, ..part.clone() })
            }
            _ => None,
        }
    }

    fn small(&self) -> bool {
        self.parts.len() <= MAX_PARTS && self.parts.iter().all(|part| part.size <= MAX_SIZE)
    }
}

/// Values that a fused sum may depend on.
const MAX_PARTS: usize = 16;
/// Size of a fused expression beyond which fusion stops: repeated squaring doubles it each time.
const MAX_SIZE: usize = 4096;

struct Fusion<'a> {
    old: &'a Graph,
    new: Graph,
    terms: Vec<Option<Terms>>,
    /// Where an old root, or an old node that something other than fusion uses, stands in the new graph.
    built: Vec<Option<NodeId>>,
}

impl Graph {
    /// The graph of what `outputs` need, with tables fused, and where the outputs stand in it.
    pub fn fused(&self, outputs: &[NodeId]) -> Result<(Graph, Vec<NodeId>), ShapeError> {
        let needed = self.reachable(outputs);
        let new = Graph {
            dag: Default::default(),
            params: self.params.clone(),
            loops: Vec::new(),
            masks: Vec::new(),
            level_variables: self.level_variables,
        };
        let mut fusion =
            Fusion { old: self, new, terms: vec![None; self.len()], built: vec![None; self.len()] };
        for id in self.ids().filter(|id| needed[id.index()]) {
            fusion.visit(id)?;
        }
        let mut moved = Vec::with_capacity(outputs.len());
        for &output in outputs {
            moved.push(fusion.build(output)?);
        }
        for state in &self.loops {
            if needed[state.before.index()] && needed[state.after.index()] {
                let (before, after) = (fusion.build(state.before)?, fusion.build(state.after)?);
                fusion.new.loops.push(super::LoopState { before, after, ..state.clone() });
            }
        }
        // A root may have been built for a table that a later fusion swallowed.
        fusion.new.pruned(&moved)
    }

    /// The graph without what neither `outputs` nor a loop needs.
    fn pruned(&self, outputs: &[NodeId]) -> Result<(Graph, Vec<NodeId>), ShapeError> {
        let mut roots = outputs.to_vec();
        roots.extend(self.loops.iter().flat_map(|state| [state.before, state.after]));
        let needed = self.reachable(&roots);
        let mut new =
            Graph { params: self.params.clone(), level_variables: self.level_variables, ..Graph::default() };
        let mut moved = vec![None; self.len()];
        for id in self.ids().filter(|id| needed[id.index()]) {
            let node = self.node(id);
            let operands: Vec<NodeId> = self.operands(id).iter().filter_map(|o| moved[o.index()]).collect();
            moved[id.index()] =
                Some(new.push(node.op.clone(), node.shape.clone(), &operands, &node.origin)?);
        }
        let at = |id: &NodeId| moved[id.index()].unwrap_or_default();
        new.loops = self
            .loops
            .iter()
            .map(|state| super::LoopState {
                before: at(&state.before),
                after: at(&state.after),
                ..state.clone()
            })
            .collect();
        Ok((new, outputs.iter().map(at).collect()))
    }
}

impl Fusion<'_> {
    fn visit(&mut self, id: NodeId) -> Result<(), ShapeError> {
        let node = self.old.node(id);
        let operands = self.old.operands(id);
        let of = |k: usize| self.terms[operands[k].index()].clone();
        let fused = match &node.op {
            Op::Const(Constant::Uniform(value)) => Some(Terms { parts: vec![], constant: *value }),
            Op::Add => of(0).zip(of(1)).map(|(a, b)| a.combine(b, 1.0)),
            Op::Sub => of(0).zip(of(1)).map(|(a, b)| a.combine(b, -1.0)),
            Op::Scale(c) => of(0).map(|a| Terms { parts: vec![], constant: 0.0 }.combine(a, *c)),
            Op::Offset(c) => of(0).map(|mut a| {
                a.constant += c;
                a
            }),
            Op::Mul => of(0).zip(of(1)).and_then(|(a, b)| {
                let (a, b) = (a.single()?, b.single()?);
                let part = Part {
                    root: a.root,
                    expr: a.expr.mul(b.expr),
                    size: a.size + b.size + 1,
                    name: a.name.or(b.name),
                };
                (a.root == b.root).then(|| Terms { parts: vec![part], constant: 0.0 })
            }),
            Op::Lut(function) => of(0).and_then(|a| {
                let inner = a.single()?;
                let size = function.expr.size().saturating_mul(inner.size);
                let name = Some(function.name.clone());
                // Composing copies `inner` at every `z`, so the bound comes first.
                (size <= MAX_SIZE).then(|| Terms {
                    parts: vec![Part {
                        root: inner.root,
                        expr: function.expr.compose(&inner.expr),
                        size,
                        name,
                    }],
                    constant: 0.0,
                })
            }),
            _ => None,
        };
        self.terms[id.index()] = Some(match fused {
            // A table reads this sum: what else depends on it is a function of the sum, not of its parts.
            Some(terms) if terms.small() && terms.parts.len() > 1 && self.is_read(id) => {
                self.terms[id.index()] = Some(terms);
                self.build(id)?;
                Terms::root(id)
            }
            Some(terms) if terms.small() => terms,
            _ => {
                self.copy(id)?;
                Terms::root(id)
            }
        });
        Ok(())
    }

    fn is_read(&self, id: NodeId) -> bool {
        self.old.users(id).iter().any(|user| matches!(self.old.node(*user).op, Op::Lut(_)))
    }

    /// Whether a node is a table's slope that multiplies a gradient. A linear one stays a table: its value is read where the
    /// table's is, in the range of the forward pass, and not as if it were a gradient.
    fn is_slope(&self, id: NodeId) -> bool {
        let node = self.old.node(id);
        let multiplies = |user: &NodeId| matches!(self.old.node(*user).op, Op::Mul);
        matches!(node.op, Op::Lut(_)) && node.origin.derivative && self.old.users(id).iter().any(multiplies)
    }

    /// Copies an operation that is no part of a fused function.
    fn copy(&mut self, id: NodeId) -> Result<NodeId, ShapeError> {
        let node = self.old.node(id).clone();
        let mut operands = Vec::new();
        for operand in self.old.operands(id) {
            operands.push(self.build(operand)?);
        }
        let new = self.new.push(node.op, node.shape, &operands, &node.origin)?;
        self.built[id.index()] = Some(new);
        Ok(new)
    }

    /// The new node that holds the value of an old one.
    fn build(&mut self, id: NodeId) -> Result<NodeId, ShapeError> {
        if let Some(new) = self.built[id.index()] {
            return Ok(new);
        }
        let node = self.old.node(id);
        let (shape, origin) = (node.shape.clone(), node.origin.clone());
        let Some(terms) = self.terms[id.index()].clone() else { return self.copy(id) };
        if let [part] = terms.parts.as_slice()
            && part.name.is_some()
            && self.is_slope(id)
        {
            let root = self.built_root(part.root)?;
            let expr = part.expr.clone().add(ScalarExpr::Const(terms.constant));
            let table = self.table(root, expr, part.name.clone(), &origin)?;
            self.built[id.index()] = Some(table);
            return Ok(table);
        }
        let mut sum = None;
        let mut constant = terms.constant;
        for part in terms.parts {
            let root = self.built_root(part.root)?;
            let value = match part.expr.affine() {
                Some((a, b)) => {
                    constant += b;
                    self.new.scale(root, a, &origin)?
                }
                None => self.table(root, part.expr, part.name, &origin)?,
            };
            sum = Some(match sum {
                None => value,
                Some(sum) => self.new.add(sum, value, &origin)?,
            });
        }
        let new = match sum {
            None => self.new.constant(constant, &shape, &origin)?,
            Some(sum) => self.new.offset(sum, constant, &origin)?,
        };
        self.built[id.index()] = Some(new);
        Ok(new)
    }

    fn built_root(&mut self, root: NodeId) -> Result<NodeId, ShapeError> {
        match self.built[root.index()] {
            Some(new) => Ok(new),
            None => self.copy(root),
        }
    }

    /// A table of `root`, shared with an equal one.
    fn table(
        &mut self,
        root: NodeId,
        expr: ScalarExpr,
        name: Option<String>,
        origin: &Origin,
    ) -> Result<NodeId, ShapeError> {
        for user in self.new.users(root) {
            if matches!(&self.new.node(user).op, Op::Lut(known) if known.expr == expr) {
                return Ok(user);
            }
        }
        let name = name.unwrap_or_else(|| "table".into());
        let shape = self.new.node(root).shape.clone();
        let function = Arc::new(ScalarFn { name, expr, grad: None });
        self.new.push(Op::Lut(function), shape, &[root], origin)
    }
}
