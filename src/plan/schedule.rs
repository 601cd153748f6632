//! The schedule: every operand with its layout, amplitude and level, every product, every batch of look-ups, in order.
//! All that an engine has to know; nothing about the language.

use std::collections::HashSet;
use std::sync::Arc;

use crate::graph::{Constant, NodeId, ParamId, ScalarExpr};

use super::form::Form;
use super::functions::RingFunction;
use super::gather::{GatherPlan, Image, MergedMaster};
use super::layout::Layout;
use super::lower::{Atom, ProductKind};
use super::parameters::Parameters;

/// A tensor packed into polynomials for one use.
#[derive(Clone, Debug)]
pub struct Operand {
    pub node: NodeId,
    /// Atoms of this form are leaves.
    pub form: Form,
    pub layout: Layout,
    /// The value v is held as the integer v·amplitude modulo t.
    pub amplitude: f64,
    /// Products that it can go through.
    pub level: usize,
    /// Whether it differs from polynomial to polynomial of the batch.
    pub per_sample: bool,
    /// Whether the client encrypts (part of) it.
    pub fresh: bool,
    /// Whether (part of) it is packed from look-ups.
    pub packed: bool,
    /// Standard deviation of its error, in units of t.
    pub noise: f64,
    /// The same where no values stand: CKKS ciphertexts are noisy everywhere.
    pub hidden_noise: f64,
    /// Nominal root mean square of its values.
    pub rms: f64,
}

impl Operand {
    /// Its samples in a batch of this size.
    pub fn rows(&self, batch: usize) -> usize {
        if self.per_sample { batch } else { 1 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    Operand(usize),
    Product(usize),
    Master(usize),
}

#[derive(Clone, Debug)]
pub struct ProductStep {
    pub node: NodeId,
    /// Operands or other products.
    pub sides: [Source; 2],
    pub kind: ProductKind,
    pub batch_sum: bool,
    pub side_per_sample: [bool; 2],
    pub layout: Layout,
    /// By piece of the result: the products of polynomials that it is the sum of; with `batch_sum` over all groups of
    /// samples. None where an element of the result meets nothing.
    pub sums: Vec<Vec<PieceProduct>>,
    /// Level of the result.
    pub level: usize,
    pub amplitude: f64,
    pub elements: usize,
    /// Nominal root mean square of the result.
    pub rms: f64,
    /// Standard deviation of the result's error that comes from its operands, in units of t.
    pub noise: f64,
    /// What noise beside the places of values adds, which CKKS ciphertexts have everywhere and which meets every value of the
    /// other side: the variance in units squared for each unit squared of the sides' mean squares, and a constant.
    pub cross_variance: [f64; 3],
}

/// X^shift · left · right, of pieces of the sides of a product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PieceProduct {
    pub left: u32,
    pub right: u32,
    /// In 0..2N.
    pub shift: u32,
}

/// Polynomials whose product, times X^shift, is a part of a sum: indices into those of the sides of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    pub left: usize,
    pub right: usize,
    pub shift: u32,
}

/// Which side of a product is shifted, the one of which fewer shifted polynomials are needed; these, and by how much.
pub fn shifted(sums: &[Vec<Pair>]) -> (usize, HashSet<(usize, u32)>) {
    let of = |side: usize| -> HashSet<(usize, u32)> {
        let pairs = sums.iter().flatten().filter(|pair| pair.shift != 0);
        pairs.map(|pair| (pair.side(side), pair.shift)).collect()
    };
    let [left, right] = [of(0), of(1)];
    if left.len() < right.len() { (0, left) } else { (1, right) }
}

impl Pair {
    /// The polynomial of a side.
    pub fn side(&self, side: usize) -> usize {
        [self.left, self.right][side]
    }
}

impl ProductStep {
    /// The polynomials of the result, each as the products of polynomials of the sides that it is the sum of. `layouts` are
    /// those of the sides.
    pub fn pairs(&self, layouts: [&Layout; 2], batch: usize) -> Vec<Vec<Pair>> {
        let groups = |k: usize| if self.side_per_sample[k] { batch.div_ceil(layouts[k].samples) } else { 1 };
        let all = groups(0).max(groups(1));
        let pairs = |group: usize, sum: &[PieceProduct]| {
            let base = |k: usize| if self.side_per_sample[k] { group * layouts[k].pieces } else { 0 };
            let (left, right) = (base(0), base(1));
            let pair = |p: &PieceProduct| Pair {
                left: left + p.left as usize,
                right: right + p.right as usize,
                shift: p.shift,
            };
            sum.iter().map(pair).collect::<Vec<_>>()
        };
        if self.batch_sum {
            let over = |sum: &Vec<PieceProduct>| (0..all).flat_map(|group| pairs(group, sum)).collect();
            return self.sums.iter().map(over).collect();
        }
        (0..all).flat_map(|group| self.sums.iter().map(move |sum| pairs(group, sum))).collect()
    }

    pub fn per_sample(&self) -> bool {
        !self.batch_sum && (self.side_per_sample[0] || self.side_per_sample[1])
    }
}

/// Elements read from one layout: element i is the sum over `sources` of factor · value[map[i]].
#[derive(Clone, Debug)]
pub struct Read {
    /// All of the same layout; added as ciphertexts before they are switched.
    pub sources: Vec<(Source, i64)>,
    pub map: Arc<[u32]>,
    pub layout: Layout,
    pub per_sample: bool,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub name: String,
    pub expr: ScalarExpr,
    /// Where the function is defined within the range; beyond, the table holds the value at the border.
    pub domain: (f64, f64),
    /// Subtracted before the table is built and added back in the clear: the table is continuous where it wraps.
    pub centre: f64,
    /// Units per unit of value in the output; 0 where the outputs only multiply those of another site.
    pub amplitude: f64,
}

impl Table {
    /// Points on each side of zero at which a function is examined: as fine as any table.
    const POINTS: i32 = 2048;

    /// A table of `expr` on −range..range; its amplitude is set once its uses are known.
    pub fn new(name: &str, expr: &ScalarExpr, range: f64) -> Self {
        let at = |i: i32| range * f64::from(i) / f64::from(Self::POINTS);
        let defined = |i: &i32| expr.eval(at(*i)).is_finite();
        let high = (-Self::POINTS..=Self::POINTS).rev().find(defined).unwrap_or(0);
        let low = (-Self::POINTS..=high).rev().take_while(defined).last().unwrap_or(high);
        let mut table = Self {
            name: name.to_owned(),
            expr: expr.clone(),
            domain: (at(low), at(high)),
            centre: 0.0,
            amplitude: 0.0,
        };
        table.centre = (table.value(range) + table.value(-range)) / 2.0;
        table
    }

    /// The largest magnitude in the table, in units of value.
    pub fn largest(&self, range: f64) -> f64 {
        let at = |i: i32| self.value(range * f64::from(i) / f64::from(Self::POINTS)).abs();
        (-Self::POINTS..=Self::POINTS).map(at).fold(0.0, f64::max)
    }

    /// What the table holds at an input, less its centre.
    pub fn value(&self, input: f64) -> f64 {
        self.expr.eval(input.min(self.domain.1).max(self.domain.0)) - self.centre
    }
}

/// One batch of look-ups of the same functions.
#[derive(Clone, Debug)]
pub struct SiteStep {
    pub node: NodeId,
    pub reads: Vec<Read>,
    /// Public part of the input, in units of value.
    pub constant: Constant,
    /// Inputs lie in −range..range, which is −1/4..1/4 of the torus.
    pub range: f64,
    /// Units of t per unit of input.
    pub amplitude: f64,
    pub tables: Vec<Table>,
    /// A site and its table whose outputs, with its centre, multiply those of this site, element by element, before
    /// they leave the slots (ring engine only). The amplitudes of `tables` are those of the products.
    pub multiplier: Option<(usize, usize)>,
    pub elements: usize,
    pub per_sample: bool,
    /// Standard deviation of the error of the look-up's input, as a fraction of 2·range: switches and operands.
    pub input_error: f64,
    /// Nominal root mean square of the input.
    pub rms: f64,
}

/// How a parameter is kept and changed.
#[derive(Clone, Debug)]
pub struct Master {
    pub param: ParamId,
    pub name: String,
    pub elements: usize,
    pub shape: Vec<usize>,
    /// That of its gradient; see [`Schedule::layout`].
    pub layout: Layout,
    /// Units of t per unit of weight.
    pub amplitude: f64,
    /// Weights lie in −range..range around their initial values.
    pub range: f64,
    /// Subtracted after each step, times these factors; all in the master's layout.
    pub gradient: Vec<(Source, i64)>,
    /// Standard deviation of what the ways of its gradient add to it in one step at the least rate, in units.
    pub route_noise: f64,
    /// Standard deviation of one step's error of a weight, in units of weight.
    pub step_noise: f64,
}

/// A value that the client decrypts at the end.
#[derive(Clone, Debug)]
pub struct Output {
    pub reads: Vec<Read>,
    pub constant: Constant,
    pub amplitude: f64,
    pub range: f64,
    pub shape: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Look-ups, gathered into one batch.
    Tables(Vec<usize>),
    /// Packing (and extension) of operands.
    Operands(Vec<usize>),
    Products(Vec<usize>),
}

/// How the ring engine looks up and routes.
#[derive(Clone, Debug)]
pub struct RingPlan {
    /// By site and table.
    pub functions: Vec<Vec<RingFunction>>,
    pub gather: GatherPlan,
}

#[derive(Clone, Debug)]
pub struct Schedule {
    pub parameters: Parameters,
    /// Samples of a step.
    pub batch: usize,
    pub atoms: Vec<Atom>,
    pub operands: Vec<Operand>,
    pub products: Vec<ProductStep>,
    pub sites: Vec<SiteStep>,
    pub masters: Vec<Master>,
    pub outputs: Vec<Output>,
    pub stages: Vec<Stage>,
    /// What the ring engine needs besides: functions and the ways of values; none for TFHE.
    pub ring: Option<RingPlan>,
    /// Units of t per unit of label, and the integer that each use multiplies it with is a multiple of it.
    pub label_amplitude: f64,
}

impl Schedule {
    pub fn degree(&self) -> usize {
        self.parameters.degree()
    }

    /// What values are held modulo, in units: the plaintext modulus t, or q0·q1.
    pub fn modulus(&self) -> f64 {
        self.parameters.modulus()
    }

    /// Polynomials that a layout needs for a batch.
    pub fn polynomials(&self, layout: &Layout, per_sample: bool) -> usize {
        layout.polynomials(if per_sample { self.batch } else { 1 })
    }

    /// Where the values of a source stand.
    pub fn layout(&self, source: Source) -> &Layout {
        match source {
            Source::Operand(i) => &self.operands[i].layout,
            Source::Product(i) => &self.products[i].layout,
            Source::Master(i) => self.merged_master(i).map_or(&self.masters[i].layout, |own| &own.layout),
        }
    }

    /// What an operand is turned from, if it is made so.
    pub fn image(&self, operand: usize) -> Option<&Image> {
        self.ring.as_ref()?.gather.operands.get(operand)?.image.as_ref()
    }

    /// How a master stands in the lanes of its look-up, if it does.
    pub fn merged_master(&self, master: usize) -> Option<&MergedMaster> {
        self.ring.as_ref()?.gather.masters.get(master)?.as_ref()
    }

    /// Look-ups of one step.
    pub fn luts(&self) -> usize {
        self.sites.iter().map(|site| site.elements * if site.per_sample { self.batch } else { 1 }).sum()
    }

    /// Groups of samples that a product goes over: those of its side that holds the fewest in a polynomial.
    pub fn groups(&self, product: &ProductStep) -> usize {
        let of = |k: usize| self.batch.div_ceil(self.layout(product.sides[k]).samples);
        (0..2).filter(|&k| product.side_per_sample[k]).map(of).max().unwrap_or(1)
    }

    /// Ring products of one step.
    pub fn ring_products(&self) -> usize {
        let own =
            |product: &ProductStep| self.groups(product) * product.sums.iter().map(Vec::len).sum::<usize>();
        self.products.iter().map(own).sum()
    }

    /// Sums of ring products that are finished (scaled down, relinearised) in one step.
    pub fn ring_sums(&self) -> usize {
        let own = |product: &ProductStep| {
            product.sums.len() * if product.batch_sum { 1 } else { self.groups(product) }
        };
        self.products.iter().map(own).sum()
    }
}
