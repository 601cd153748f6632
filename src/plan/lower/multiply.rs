//! Products of two encrypted values, element by element.

use crate::diagnostics::Diagnostic;
use crate::graph::{Function, NodeId, Op, ScalarExpr};

use super::{AtomKind, Form, Lowering, Site, SiteInput, TableFn};

/// An output of a table that can take part in a product of slots.
struct Slot {
    site: usize,
    function: usize,
}

impl Lowering<'_> {
    /// Two outputs of tables, multiplied before they leave the slots: the second one's table is evaluated with the
    /// first as its multiplier. What is no output of a table goes through an identity. None where the engine has no
    /// slots, or where one factor is shared by the batch and the other is not.
    fn slot_product(&mut self, id: NodeId, operands: &[NodeId]) -> Option<Form> {
        let node = self.graph.node(id).clone();
        let sampled: Vec<bool> = operands.iter().map(|&o| self.graph.node(o).per_sample).collect();
        let public = |&operand: &NodeId| matches!(self.graph.node(operand).op, Op::Const(_));
        if !self.target.slot_products || sampled[0] != sampled[1] || operands.iter().any(public) {
            return None;
        }
        // The one that is looked up first is kept, until the other is there: a mask of the forward pass.
        let slots = [0, 1].map(|k| self.slot(operands[k]));
        let first = match &slots {
            [Some(a), Some(b)] => usize::from(b.site < a.site),
            [None, Some(_)] => 1,
            _ => 0,
        };
        let second = operands[1 - first];
        let [a, b] = slots;
        let (kept, other) = if first == 0 { (a, b) } else { (b, a) };
        let kept = match kept {
            Some(slot) => slot,
            None => self.refreshed_slot(id, operands[first])?,
        };
        let (input, function, range) = match other {
            Some(slot) => {
                let site = &self.out.sites[slot.site];
                (site.input.clone(), site.functions[slot.function].clone(), site.range)
            }
            None => {
                let identity = TableFn { name: "refresh".into(), expr: ScalarExpr::Z };
                (SiteInput::Form(self.form(second)), identity, self.ranges.site(second))
            }
        };
        self.out.sites.push(Site {
            node: id,
            input,
            functions: vec![function],
            range,
            elements: node.elements(),
            per_sample: node.per_sample,
            multiplier: Some((kept.site, kept.function)),
        });
        let kind = AtomKind::Lut { site: self.out.sites.len() - 1, function: 0 };
        let atom = self.atom(kind, &node.shape, node.per_sample);
        Some(Form::atom(atom, &node.shape, node.per_sample))
    }

    /// The table whose output a value is, as it is; none whose output is a product of slots already.
    fn slot(&self, operand: NodeId) -> Option<Slot> {
        let atom = self.form(operand).as_atom()?;
        match self.out.atoms[atom.0 as usize].kind {
            AtomKind::Lut { site, function } if self.out.sites[site].multiplier.is_none() => {
                Some(Slot { site, function })
            }
            _ => None,
        }
    }

    /// A value through an identity, as the output of a table.
    fn refreshed_slot(&mut self, id: NodeId, operand: NodeId) -> Option<Slot> {
        let form = self.refresh(id, operand);
        match self.out.atoms[form.as_atom()?.0 as usize].kind {
            AtomKind::Lut { site, function } => Some(Slot { site, function }),
            _ => None,
        }
    }

    /// A product of two encrypted values, element by element: in the slots where the engine has them, else one table
    /// for a mask, or two of quarter squares.
    pub(super) fn mul(&mut self, id: NodeId, operands: &[NodeId]) -> Result<Form, Diagnostic> {
        let node = self.graph.node(id).clone();
        if let Some(form) = self.slot_product(id, operands) {
            return Ok(form);
        }
        for (value, mask) in [(0, 1), (1, 0)] {
            let (value, mask) = (operands[value], operands[mask]);
            if let Op::Const(factors) = &self.graph.node(mask).op {
                return self.public_product(id, value, factors);
            }
            let Op::Lut(function) = &self.graph.node(mask).op else { continue };
            let source = self.graph.operands(mask)[0];
            let source_range = self.ranges.site(source);
            let Some((low, high)) = two_valued(&function.expr, source_range) else { continue };
            // The mask as ±range shifts the value into the half of the table that treats it.
            let range = self.ranges.site(value);
            let sign = step(ScalarExpr::Z).mul(constant(2.0 * range)).sub(constant(range));
            let source_form = self.form(source);
            let shift = self.table(mask, source, source_form, "mask", sign, source_range);
            let shift = Form::atom(shift, &node.shape, self.graph.node(mask).per_sample);
            let sum = self.form(value).add(&shift, 1.0);
            let above = step(ScalarExpr::Z);
            let expr = above
                .clone()
                .mul(constant(high).mul(ScalarExpr::Z.sub(constant(range))))
                .add(constant(1.0).sub(above).mul(constant(low).mul(ScalarExpr::Z.add(constant(range)))));
            let atom = self.table(id, id, sum, "masked", expr, 2.0 * range);
            return Ok(Form::atom(atom, &node.shape, node.per_sample));
        }
        let range = operands.iter().map(|&o| self.ranges.site(o)).fold(0.0, f64::max) * 2.0;
        let (a, b) = (self.form(operands[0]), self.form(operands[1]));
        let square = ScalarExpr::Z.mul(ScalarExpr::Z).mul(constant(0.25));
        let plus = self.own_table(id, a.clone().add(&b, 1.0), "quarter square", square.clone(), range);
        let minus = self.own_table(id, a.add(&b, -1.0), "quarter square", square, range);
        Ok(plus.add(&minus, -1.0))
    }

    /// A table of a value that no node of the graph holds.
    fn own_table(&mut self, id: NodeId, input: Form, name: &str, expr: ScalarExpr, range: f64) -> Form {
        let (shape, per_sample) = (input.shape.clone(), input.per_sample);
        self.out.sites.push(Site {
            node: id,
            elements: input.elements(),
            per_sample,
            input: SiteInput::Form(input),
            functions: vec![TableFn { name: name.to_owned(), expr }],
            range,
            multiplier: None,
        });
        let atom =
            self.atom(AtomKind::Lut { site: self.out.sites.len() - 1, function: 0 }, &shape, per_sample);
        Form::atom(atom, &shape, per_sample)
    }
}

fn constant(value: f64) -> ScalarExpr {
    ScalarExpr::Const(value)
}

fn step(of: ScalarExpr) -> ScalarExpr {
    ScalarExpr::call(Function::Step, of)
}

/// `Some((below zero, above zero))` if a function has one value on each side of zero.
fn two_valued(expr: &ScalarExpr, range: f64) -> Option<(f64, f64)> {
    let (low, high) = (expr.eval(-range / 2.0), expr.eval(range / 2.0));
    let constant_on = |sign: f64, value: f64| {
        (1..=512).all(|i| {
            (expr.eval(sign * range * i as f64 / 512.0) - value).abs() <= 1e-12 * value.abs().max(1.0)
        })
    };
    (constant_on(-1.0, low) && constant_on(1.0, high)).then_some((low, high))
}
