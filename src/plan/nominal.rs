//! Nominal sizes of values, from the architecture and the data declaration alone: what amplitudes are solved with.

use std::collections::HashMap;

use crate::graph::{Graph, Init, NONE, Op, ParamInfo};

use super::form::{Form, Term};
use super::lower::{AtomKind, Lowered, Product, Side, SiteInput};

/// Sizes that the architecture and the data declaration give; never private data.
#[derive(Clone, Debug)]
pub struct Nominal {
    /// Root mean square of the features.
    pub input_rms: f64,
    /// Root mean square of a function's argument, by name.
    pub argument_rms: HashMap<String, f64>,
}

/// Nominal root mean square of the gradient at the outputs.
const OUTPUT_DELTA_RMS: f64 = 0.125;

/// Nominal root mean squares.
pub struct Sizes {
    /// By atom.
    atoms: Vec<f64>,
    batch: usize,
}

impl Sizes {
    /// Nominal root mean square of every atom, in the order in which they arise.
    pub fn of(graph: &Graph, lowered: &Lowered, batch: usize, nominal: &Nominal) -> Self {
        let mut sizes = Self { atoms: vec![0.5; lowered.atoms.len()], batch };
        for index in 0..lowered.atoms.len() {
            let atom = &lowered.atoms[index];
            sizes.atoms[index] = match atom.kind {
                AtomKind::Fresh(node) => match &graph.node(node).op {
                    Op::Argument(name) => {
                        nominal.argument_rms.get(name).copied().unwrap_or(nominal.input_rms)
                    }
                    _ => nominal.input_rms,
                },
                AtomKind::Label(_) => 0.5,
                AtomKind::Weight { param, .. } => weight_rms(graph.param_info(param)),
                AtomKind::Lut { site, .. } if site < lowered.sites.len() => {
                    let site = &lowered.sites[site];
                    match &site.input {
                        SiteInput::Form(form) if graph.node(site.node).origin.derivative => {
                            let size = sizes.form(lowered, form);
                            // The table of the loss makes the first gradient; the later ones hand on what they get.
                            if reads_derivative(graph, lowered, form) { size } else { OUTPUT_DELTA_RMS }
                        }
                        _ => 0.5,
                    }
                }
                AtomKind::Lut { .. } => 0.5,
                AtomKind::Product(product) if product < lowered.products.len() => {
                    sizes.product(lowered, &lowered.products[product])
                }
                AtomKind::Product(_) => 0.5,
            };
        }
        sizes
    }

    pub fn form(&self, lowered: &Lowered, form: &Form) -> f64 {
        let has_label =
            form.terms.iter().any(|t| matches!(lowered.atoms[t.atom.0 as usize].kind, AtomKind::Label(_)));
        if has_label {
            return OUTPUT_DELTA_RMS;
        }
        // A term that reaches some of the elements counts for these.
        let reach = |map: &[u32]| map.iter().filter(|&&i| i != NONE).count() as f64 / map.len().max(1) as f64;
        let square = |t: &Term| reach(&t.map) * (t.coefficient * self.atoms[t.atom.0 as usize]).powi(2);
        let squares: f64 = form.terms.iter().map(square).sum();
        let constant = form.constant.get(0);
        let size = (squares + constant * constant).sqrt();
        if size > 0.0 { size } else { 1.0 }
    }

    pub fn side(&self, lowered: &Lowered, side: &Side) -> f64 {
        match side {
            Side::Leaf(form) => self.form(lowered, form),
            Side::Product(inner) => self.product(lowered, &lowered.products[*inner]),
        }
    }

    pub fn product(&self, lowered: &Lowered, product: &Product) -> f64 {
        let mut summed = product.kind.summed() as f64;
        if product.batch_sum {
            summed *= self.batch as f64;
        }
        summed.sqrt() * self.side(lowered, &product.sides[0]) * self.side(lowered, &product.sides[1])
    }
}

fn reads_derivative(graph: &Graph, lowered: &Lowered, form: &Form) -> bool {
    form.terms.iter().any(|term| {
        let node = match lowered.atoms[term.atom.0 as usize].kind {
            AtomKind::Product(p) => lowered.products.get(p).map(|p| p.node),
            // A gradient that a mask has hidden in part.
            AtomKind::Lut { site, .. } => {
                lowered.sites.get(site).filter(|site| site.multiplier.is_some()).map(|site| site.node)
            }
            _ => None,
        };
        node.is_some_and(|node| graph.node(node).origin.derivative)
    })
}

/// Nominal root mean square of a parameter's values during training.
pub fn weight_rms(info: &ParamInfo) -> f64 {
    let he = (2.0 / info.fan_in.max(1) as f64).sqrt();
    match &info.init {
        Init::HeNormal => he,
        Init::Normal(std) => std.abs().max(1e-6),
        Init::Uniform(a, b) => ((a * a + a * b + b * b) / 3.0).sqrt().max(1e-6),
        Init::Given(values) => {
            let square: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
            (square / values.len().max(1) as f64).sqrt().max(1e-6)
        }
        // Zero at first, as large as others once trained.
        Init::Constant(_) => he,
        Init::Stacked(parts) => parts.first().map_or(he, weight_rms),
    }
}
