//! From the typed graph to products, look-up tables and linear forms between them.
//!
//! What a form holds decides how a value is had: atoms that come out of tables or from the client can be packed in any
//! layout (leaves); a product is read where it stands.

use std::collections::{BTreeMap, HashMap};

use crate::diagnostics::{Diagnostic, Span};
use crate::graph::{Constant, ConvGeometry, Graph, NodeId, Op, ParamId, ScalarExpr};

use super::form::{AtomId, Form, Term};
use super::parameters::Parameters;

mod chain;
mod conv;
mod multiply;
mod phases;
mod public;

use phases::Phases;

/// Where an atom's elements come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtomKind {
    /// Encrypted by the client, once for each use: the features, or a function's argument.
    Fresh(NodeId),
    /// Encrypted by the client under the key of what leaves a table.
    Label(NodeId),
    /// Output `function` of the table at `site`.
    Lut {
        site: usize,
        function: usize,
    },
    /// The working weights: output `function` of a table over the master, and the public initial weights added in the
    /// clear.
    Weight {
        site: usize,
        function: usize,
        param: ParamId,
    },
    Product(usize),
}

impl AtomKind {
    /// The site and the function whose outputs the elements are, if a table gives them.
    pub fn table(self) -> Option<(usize, usize)> {
        match self {
            Self::Lut { site, function } | Self::Weight { site, function, .. } => Some((site, function)),
            Self::Fresh(_) | Self::Label(_) | Self::Product(_) => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Atom {
    pub kind: AtomKind,
    pub shape: Vec<usize>,
    pub per_sample: bool,
}

impl Atom {
    /// Whether the atom's elements can be packed in any layout.
    pub fn is_leaf(&self) -> bool {
        !matches!(self.kind, AtomKind::Product(_))
    }
}

/// One side of a product, before layouts.
#[derive(Clone, Debug)]
pub enum Side {
    Leaf(Form),
    /// The result of another product, used as it is: costs a level.
    Product(usize),
}

/// The sums over the labels that the result lacks.
#[derive(Clone, Debug, PartialEq)]
pub struct Contraction {
    /// Axis labels of the sides and of the result.
    pub labels: [Vec<u8>; 3],
    pub sizes: BTreeMap<u8, usize>,
}

impl Contraction {
    /// Labels that the result lacks.
    pub fn contracted(&self) -> Vec<u8> {
        self.labels[0].iter().copied().filter(|label| !self.labels[2].contains(label)).collect()
    }

    pub fn size(&self, label: u8) -> usize {
        self.sizes.get(&label).copied().unwrap_or(1)
    }
}

/// Which of the three products of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConvPart {
    /// Of an image and a kernel.
    Result,
    /// Of the result's gradient and a kernel: the image's gradient.
    Image,
    /// Of an image and the result's gradient: the kernel's gradient.
    Kernel,
}

/// What a product sums.
#[derive(Clone, Debug, PartialEq)]
pub enum ProductKind {
    Contract(Contraction),
    Conv {
        part: ConvPart,
        geometry: ConvGeometry,
        /// Of the convolution's result: residues of rows and columns that have polynomials of their own.
        phases: usize,
    },
}

impl ProductKind {
    /// Products of values that one element of the result is the sum of, within a sample; the largest number of them.
    pub fn summed(&self) -> usize {
        match self {
            Self::Contract(own) => own.contracted().iter().map(|&label| own.size(label)).product(),
            Self::Conv { part, geometry, .. } => {
                let [outputs, channels, height, width] = geometry.kernel;
                let taps = |stride: usize| height.div_ceil(stride) * width.div_ceil(stride);
                match part {
                    ConvPart::Result => channels * taps(1),
                    ConvPart::Image => outputs * taps(geometry.stride),
                    ConvPart::Kernel => geometry.output().iter().product(),
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
pub struct Product {
    pub node: NodeId,
    pub sides: [Side; 2],
    pub kind: ProductKind,
    /// Sums over the samples of the batch.
    pub batch_sum: bool,
    pub side_per_sample: [bool; 2],
}

impl Product {
    pub fn per_sample(&self) -> bool {
        !self.batch_sum && (self.side_per_sample[0] || self.side_per_sample[1])
    }
}

/// What a table reads.
#[derive(Clone, Debug)]
pub enum SiteInput {
    Form(Form),
    Master(ParamId),
}

#[derive(Clone, Debug)]
pub struct TableFn {
    pub name: String,
    pub expr: ScalarExpr,
}

/// One look-up per element: functions of the same value.
#[derive(Clone, Debug)]
pub struct Site {
    pub node: NodeId,
    pub input: SiteInput,
    pub functions: Vec<TableFn>,
    /// The input lies in −range..range.
    pub range: f64,
    pub elements: usize,
    pub per_sample: bool,
    /// A site and its function whose outputs multiply these, element by element, before they leave the slots.
    pub multiplier: Option<(usize, usize)>,
}

/// A program as atoms, products, tables and forms.
#[derive(Clone, Debug, Default)]
pub struct Lowered {
    pub atoms: Vec<Atom>,
    pub products: Vec<Product>,
    pub sites: Vec<Site>,
    /// The forms of the wanted outputs.
    pub outputs: Vec<Form>,
    /// Where a look-up was inserted only to get levels back.
    pub refreshed: Vec<NodeId>,
}

/// Ranges that the checker found: half-widths of symmetric ranges.
pub trait RangeOf {
    /// Range of the value of a node, where a table reads it.
    fn site(&self, node: NodeId) -> f64;
    fn param(&self, param: ParamId) -> f64;
}

/// What an engine can do.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Products in a row that the ring carries.
    pub depth: usize,
    /// Coefficients of the ring.
    pub degree: usize,
    /// Functions of one value that a bootstrap gives.
    pub functions: usize,
    /// Whether outputs of two tables can be multiplied, element by element, before they leave the slots.
    pub slot_products: bool,
}

impl Target {
    pub fn of(parameters: Parameters) -> Self {
        let (depth, degree) = (parameters.depth(), parameters.degree());
        match parameters {
            Parameters::Tfhe(_) => Self { depth, degree, functions: 2, slot_products: false },
            Parameters::Ckks(_) => Self { depth, degree, functions: usize::MAX, slot_products: true },
        }
    }
}

pub struct Lowering<'a> {
    graph: &'a Graph,
    ranges: &'a dyn RangeOf,
    target: Target,
    out: Lowered,
    forms: Vec<Option<Form>>,
    weights: HashMap<ParamId, AtomId>,
    tables: HashMap<NodeId, usize>,
    depth: Vec<usize>,
    phases: Phases,
}

impl<'a> Lowering<'a> {
    pub fn run(
        graph: &'a Graph,
        outputs: &[NodeId],
        ranges: &'a dyn RangeOf,
        target: Target,
    ) -> Result<Lowered, Diagnostic> {
        let needed = graph.reachable(outputs);
        let mut lowering = Self {
            phases: Phases::of(graph, &needed, target.degree),
            graph,
            ranges,
            target,
            out: Lowered::default(),
            forms: vec![None; graph.len()],
            weights: HashMap::new(),
            tables: HashMap::new(),
            depth: Vec::new(),
        };
        for id in graph.ids().filter(|id| needed[id.index()]) {
            let form = lowering.node(id)?;
            lowering.forms[id.index()] = Some(form);
        }
        lowering.out.outputs = outputs.iter().map(|&id| lowering.form(id)).collect();
        lowering.out.drop_unused(target.functions);
        Ok(lowering.out)
    }

    fn form(&self, id: NodeId) -> Form {
        self.forms[id.index()].clone().unwrap_or_else(|| Form::constant(Constant::Uniform(0.0), &[]))
    }

    fn unsupported(&self, id: NodeId, why: &str) -> Diagnostic {
        let node = self.graph.node(id);
        let message = format!("the encrypted engine cannot run this `{}` yet", node.op.name());
        locate(Diagnostic::error("E0501", message), &node.origin.spans, why)
            .help("`--engine clear` runs it in the clear; `hesn explain E0501` says what runs encrypted")
    }

    fn atom(&mut self, kind: AtomKind, shape: &[usize], per_sample: bool) -> AtomId {
        self.out.atoms.push(Atom { kind, shape: shape.to_vec(), per_sample });
        AtomId(self.out.atoms.len() as u32 - 1)
    }

    fn node(&mut self, id: NodeId) -> Result<Form, Diagnostic> {
        let node = self.graph.node(id).clone();
        let operands = self.graph.operands(id);
        let form = |this: &Self, k: usize| this.form(operands[k]);
        Ok(match &node.op {
            Op::Input | Op::Argument(_) => {
                let atom = self.atom(AtomKind::Fresh(id), &node.shape, node.per_sample);
                Form::atom(atom, &node.shape, node.per_sample)
            }
            Op::Label => {
                let atom = self.atom(AtomKind::Label(id), &node.shape, true);
                Form::atom(atom, &node.shape, true)
            }
            Op::Param(param) => Form::atom(self.weight(id, *param), &node.shape, false),
            Op::Const(value) => Form::constant(value.clone(), &node.shape),
            Op::Add => form(self, 0).add(&form(self, 1), 1.0),
            Op::Sub => form(self, 0).add(&form(self, 1), -1.0),
            Op::Scale(c) => form(self, 0).scale(*c),
            Op::Offset(c) => form(self, 0).offset(*c),
            Op::Ascribe(_) => form(self, 0),
            Op::Gather { map, .. } => {
                if let [operand] = operands.as_slice()
                    && let Some(form) = self.repeated(id, *operand, map)
                {
                    return Ok(form);
                }
                let parts: Vec<Form> = operands.iter().map(|&o| self.form(o)).collect();
                Form::gather(&parts.iter().collect::<Vec<_>>(), map, &node.shape)
            }
            Op::ScatterAdd { map, .. } => match self.summed_positions(id, operands[0], map) {
                Some(form) => form,
                None => form(self, 0).scatter_add(map, &node.shape).ok_or_else(|| {
                    self.unsupported(id, "it sums more encrypted values than one look-up can read; write it as a product with ones")
                })?,
            },
            Op::Contract { left, right, out } => {
                self.contract(id, &operands, [left.clone(), right.clone(), out.clone()])?
            }
            Op::BatchSum => self.batch_sum(id, operands[0]),
            Op::Lut(function) => {
                let expr = function.expr.clone();
                let range = self.ranges.site(operands[0]);
                let input = form(self, 0);
                let atom = self.table(id, operands[0], input, &function.name, expr, range);
                Form::atom(atom, &node.shape, node.per_sample)
            }
            Op::Refresh => self.refresh(id, operands[0]),
            Op::Mul => self.mul(id, &operands)?,
            Op::Conv(geometry) => self.conv(id, &operands, ConvPart::Result, geometry)?,
            Op::ConvImageGrad(geometry) => self.conv(id, &operands, ConvPart::Image, geometry)?,
            Op::ConvKernelGrad(geometry) => self.conv(id, &operands, ConvPart::Kernel, geometry)?,
        })
    }

    /// The working weights of a parameter: one table over its master.
    fn weight(&mut self, id: NodeId, param: ParamId) -> AtomId {
        if let Some(&atom) = self.weights.get(&param) {
            return atom;
        }
        let shape = self.graph.node(id).shape.clone();
        self.out.sites.push(Site {
            node: id,
            input: SiteInput::Master(param),
            functions: vec![TableFn { name: "refresh".into(), expr: ScalarExpr::Z }],
            range: self.ranges.param(param),
            elements: self.graph.node(id).elements(),
            per_sample: false,
            multiplier: None,
        });
        let kind = AtomKind::Weight { site: self.out.sites.len() - 1, function: 0, param };
        let atom = self.atom(kind, &shape, false);
        self.weights.insert(param, atom);
        atom
    }

    /// A table of the value of `input`; two tables of the same value share one look-up.
    fn table(
        &mut self,
        id: NodeId,
        key: NodeId,
        input: Form,
        name: &str,
        expr: ScalarExpr,
        range: f64,
    ) -> AtomId {
        let function = TableFn { name: name.to_owned(), expr };
        let (shape, per_sample) = (input.shape.clone(), input.per_sample);
        let (site, index) = match self.tables.get(&key) {
            Some(&site) => {
                let functions = &mut self.out.sites[site].functions;
                let index =
                    functions.iter().position(|known| known.expr == function.expr).unwrap_or_else(|| {
                        functions.push(function);
                        functions.len() - 1
                    });
                (site, index)
            }
            None => {
                self.out.sites.push(Site {
                    node: id,
                    elements: input.elements(),
                    per_sample: input.per_sample,
                    input: SiteInput::Form(input),
                    functions: vec![function],
                    range,
                    multiplier: None,
                });
                self.tables.insert(key, self.out.sites.len() - 1);
                (self.out.sites.len() - 1, 0)
            }
        };
        self.atom(AtomKind::Lut { site, function: index }, &shape, per_sample)
    }

    /// The value through an identity table: a leaf again.
    fn refresh(&mut self, id: NodeId, operand: NodeId) -> Form {
        let input = self.form(operand);
        let (shape, per_sample) = (input.shape.clone(), input.per_sample);
        let range = self.ranges.site(operand);
        let atom = self.table(id, operand, input, "refresh", ScalarExpr::Z, range);
        Form::atom(atom, &shape, per_sample)
    }

    fn is_leaf(&self, form: &Form) -> bool {
        form.terms.iter().all(|term| self.out.atoms[term.atom.0 as usize].is_leaf())
    }

    /// The side of a product that the value of `operand` can be, with the products in a row before it.
    fn side(&mut self, id: NodeId, operand: NodeId) -> (Side, usize) {
        let form = self.form(operand);
        if self.is_leaf(&form) {
            return (Side::Leaf(form), 0);
        }
        if let Some(atom) = form.as_atom()
            && let AtomKind::Product(product) = self.out.atoms[atom.0 as usize].kind
            && self.depth[product] < self.target.depth
            && let ProductKind::Contract(own) = &self.out.products[product].kind
            && own.labels[2].iter().map(|&label| own.size(label)).eq(form.shape.iter().copied())
        {
            return (Side::Product(product), self.depth[product]);
        }
        self.out.refreshed.push(id);
        (Side::Leaf(self.refresh(id, operand)), 0)
    }

    fn contract(
        &mut self,
        id: NodeId,
        operands: &[NodeId],
        labels: [Vec<u8>; 3],
    ) -> Result<Form, Diagnostic> {
        let node = self.graph.node(id).clone();
        let mut sizes = BTreeMap::new();
        let mut side_per_sample = [false; 2];
        for k in 0..2 {
            let operand = self.graph.node(operands[k]);
            side_per_sample[k] = operand.per_sample;
            sizes.extend(labels[k].iter().copied().zip(operand.shape.iter().copied()));
        }
        let ((left, left_depth), (right, right_depth)) =
            (self.side(id, operands[0]), self.side(id, operands[1]));
        let (right, right_depth) = match (&left, right) {
            // Of two products one goes through a table: their junk would meet.
            (Side::Product(_), Side::Product(_)) => {
                self.out.refreshed.push(id);
                (Side::Leaf(self.refresh(id, operands[1])), 0)
            }
            (_, right) => (right, right_depth),
        };
        let depth = 1 + left_depth.max(right_depth);
        let kind = ProductKind::Contract(Contraction { labels, sizes });
        let product = Product { node: id, sides: [left, right], kind, batch_sum: false, side_per_sample };
        Ok(match self.split(&product) {
            None => self.push_product(product, depth, &node.shape),
            Some((axis, chunk)) => self.push_pieces(&product, depth, &node.shape, axis, chunk),
        })
    }

    fn push_product(&mut self, product: Product, depth: usize, shape: &[usize]) -> Form {
        let per_sample = product.per_sample();
        self.out.products.push(product);
        self.depth.push(depth);
        let atom = self.atom(AtomKind::Product(self.out.products.len() - 1), shape, per_sample);
        Form::atom(atom, shape, per_sample)
    }

    /// The sum over the batch: of products, within them; of leaves, a product with one.
    fn batch_sum(&mut self, id: NodeId, operand: NodeId) -> Form {
        let form = self.form(operand);
        let shape = form.shape.clone();
        // Products sum over the batch by themselves, each in its own sum.
        let (products, leaves): (Vec<Term>, Vec<Term>) = form
            .terms
            .iter()
            .cloned()
            .partition(|term| matches!(self.out.atoms[term.atom.0 as usize].kind, AtomKind::Product(_)));
        let rest = Form { terms: leaves, ..form };
        let mut sum =
            Form { terms: Vec::new(), per_sample: false, constant: Constant::Uniform(0.0), ..rest.clone() };
        for mut term in products {
            let AtomKind::Product(product) = self.out.atoms[term.atom.0 as usize].kind else { continue };
            let mut summed = self.out.products[product].clone();
            summed.batch_sum = true;
            let depth = self.depth[product];
            let own_shape = self.out.atoms[term.atom.0 as usize].shape.clone();
            term.atom = self.push_product(summed, depth, &own_shape).terms[0].atom;
            sum.terms.push(term);
        }
        if rest.terms.is_empty() && rest.constant == Constant::Uniform(0.0) && !sum.terms.is_empty() {
            return sum;
        }
        let leaf = rest;
        let labels: Vec<u8> = (0..shape.len() as u8).map(|axis| b'a' + axis).collect();
        let product = Product {
            node: id,
            sides: [Side::Leaf(Form::constant(Constant::Uniform(1.0), &[])), Side::Leaf(leaf)],
            kind: ProductKind::Contract(Contraction {
                sizes: labels.iter().copied().zip(shape.iter().copied()).collect(),
                labels: [vec![], labels.clone(), labels],
            }),
            batch_sum: true,
            side_per_sample: [true, true],
        };
        sum.add(&self.push_product(product, 1, &shape), 1.0)
    }
}

/// Labels a diagnostic with a call stack: the user's line first, then where in the library it happened.
pub fn locate(diagnostic: Diagnostic, spans: &[Span], text: &str) -> Diagnostic {
    match spans {
        [] => diagnostic,
        [only] => diagnostic.label(*only, text),
        [inner, .., user] => diagnostic.label(*user, text).label(*inner, "in this operation of the library"),
    }
}
