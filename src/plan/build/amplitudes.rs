//! Amplitudes: how the scale of a product is shared between its sides, what tables give, and the noise that follows.

use std::collections::HashMap;

use crate::diagnostics::Diagnostic;
use crate::graph::NodeId;

use super::super::form::Form;
use super::super::functions::RingFunction;
use super::super::gather::GatherPlan;
use super::super::lower::{AtomKind, Product, Side, SiteInput};
use super::super::parameters::Parameters;
use super::super::schedule::{Master, Schedule, Source, Table};
use super::Builder;
use super::scales::is_multiple;

/// The power of two next to `x`.
fn power_of_two(x: f64) -> f64 {
    x.log2().round().exp2()
}

impl Builder<'_> {
    /// The largest outputs of all tables, in units of value; by site and function.
    pub(super) fn largest_outputs(&self, masters: &[Master]) -> HashMap<(usize, usize), f64> {
        let table = |site: usize, function: usize| {
            let site = &self.lowered.sites[site];
            let range = match &site.input {
                SiteInput::Master(param) => {
                    masters.iter().find(|m| m.param == *param).map_or(site.range, |master| master.range)
                }
                SiteInput::Form(_) => site.range,
            };
            let function = &site.functions[function];
            let mut table = Table::new(&function.name, &function.expr, range);
            if site.multiplier.is_some() {
                table.centre = 0.0;
            }
            (table, range)
        };
        let mut largest = HashMap::new();
        for (index, site) in self.lowered.sites.iter().enumerate() {
            let factor = site.multiplier.map_or(1.0, |(site, function)| {
                let (mut table, range) = table(site, function);
                table.centre = 0.0;
                table.largest(range)
            });
            for function in 0..site.functions.len() {
                let (table, range) = table(index, function);
                largest.insert((index, function), table.largest(range) * factor);
            }
        }
        largest
    }

    /// The amplitude of the left side of a product whose result has this amplitude: a power of two for the least noise.
    pub(super) fn split(&self, product: &Product, amplitude: f64) -> f64 {
        let rms = [0, 1].map(|k| self.sizes.side(&self.lowered, &product.sides[k]));
        match &product.sides {
            [Side::Leaf(left), Side::Leaf(right)] => {
                let units = [self.leaf_noise(left, 1.0), self.leaf_noise(right, 1.0)];
                match (units[0] > 0.0, units[1] > 0.0) {
                    (false, _) => 1.0,
                    (_, false) => amplitude,
                    _ => {
                        let least =
                            power_of_two((amplitude * units[0] * rms[1] / (units[1] * rms[0])).sqrt());
                        // Beyond what its bootstrap gives a side gains nothing.
                        let most = [self.most(left), self.most(right)];
                        if least > most[0] {
                            most[0]
                        } else if amplitude / least > most[1] {
                            power_of_two(amplitude / most[1])
                        } else {
                            least
                        }
                    }
                }
            }
            // In a row, every factor gets an equal share of the bits.
            [left, right] => {
                let (left, right) = (self.factors(left), self.factors(right));
                power_of_two(amplitude.powf(left / (left + right)))
            }
        }
    }

    /// The largest power of two as an amplitude at which the tables of a leaf come.
    fn most(&self, form: &Form) -> f64 {
        if !self.parameters.is_ckks() {
            return f64::INFINITY;
        }
        let largest = form
            .terms
            .iter()
            .filter_map(|term| {
                let table = self.lowered.atoms[term.atom.0 as usize].kind.table()?;
                Some(self.largest.get(&table)? * term.coefficient.abs())
            })
            .fold(0.0, f64::max);
        (self.parameters.table_limit_units() / largest).log2().floor().exp2()
    }

    /// Leaves that a side multiplies.
    fn factors(&self, side: &Side) -> f64 {
        match side {
            Side::Leaf(_) => 1.0,
            Side::Product(inner) => self.lowered.products[*inner].sides.iter().map(|s| self.factors(s)).sum(),
        }
    }

    /// Error of a leaf in units when its look-ups are multiplied by `multiple` before packing.
    pub(super) fn leaf_noise(&self, form: &Form, multiple: f64) -> f64 {
        let parameters = self.parameters;
        let mut packed = 0.0;
        let mut fresh = 0.0;
        for term in &form.terms {
            match self.lowered.atoms[term.atom.0 as usize].kind {
                kind if parameters.is_fresh(kind) => fresh = parameters.fresh_noise_units().powi(2),
                AtomKind::Label(_) => packed += parameters.label_variance_units() * multiple * multiple,
                _ => packed += parameters.table_variance_units() * multiple * multiple,
            }
        }
        let packed = if packed > 0.0 { parameters.packed_noise_units(packed).powi(2) } else { 0.0 };
        // What is public is only rounded, and whole numbers are not.
        let public = if form.terms.is_empty() && !form.constant.is_whole() { 1.0 / 12.0 } else { 0.0 };
        (packed + fresh + public).sqrt()
    }

    /// Each table gives the smallest amplitude that a use asks for, or less where a bootstrap gives no more; the others
    /// are integer multiples of it.
    pub(super) fn table_amplitudes(&self, schedule: &mut Schedule) -> Result<(), Diagnostic> {
        let mut label: Option<f64> = None;
        let mut tables: HashMap<(usize, usize), f64> = HashMap::new();
        let uses: Vec<(NodeId, AtomKind, f64, f64)> = schedule
            .operands
            .iter()
            .flat_map(|operand| {
                operand.form.terms.iter().map(|term| {
                    let kind = schedule.atoms[term.atom.0 as usize].kind;
                    (operand.node, kind, (operand.amplitude * term.coefficient).abs(), term.coefficient)
                })
            })
            .collect();
        for &(_, kind, amplitude, _) in &uses {
            if let AtomKind::Label(_) = kind {
                label = Some(label.map_or(amplitude, |own| own.min(amplitude)));
            } else if let Some(table) = kind.table() {
                let slot = tables.entry(table).or_insert(amplitude);
                *slot = slot.min(amplitude);
            }
        }
        for (&table, amplitude) in &mut tables {
            *amplitude = self.given(table, *amplitude);
        }
        let base = |kind: AtomKind| match kind {
            AtomKind::Label(_) => label,
            kind => tables.get(&kind.table()?).copied(),
        };
        for &(node, kind, amplitude, coefficient) in &uses {
            let Some(base) = base(kind) else { continue };
            if !is_multiple(amplitude / base) {
                let same = |other: &&(NodeId, AtomKind, f64, f64)| other.1.table() == kind.table();
                let divided = uses
                    .iter()
                    .filter(same)
                    .map(|own| own.3)
                    .find(|own| !is_multiple(own.abs().log2().abs()));
                return Err(self.misfit(node, amplitude / base, divided.unwrap_or(coefficient)));
            }
        }
        for (&(site, function), &amplitude) in &tables {
            let Some(step) = schedule.sites.get_mut(site) else { continue };
            let (node, range) = (step.node, step.range);
            let Some(table) = step.tables.get_mut(function) else { continue };
            table.amplitude = amplitude;
            let largest =
                self.largest.get(&(site, function)).copied().unwrap_or(table.largest(range)) * amplitude;
            if largest.is_nan() || largest > self.parameters.table_limit_units() {
                return Err(self.unsupported(
                    node,
                    format!("the outputs of `{}` do not fit the plaintext modulus", table.name),
                    "this table's outputs, times the scale that its use needs, leave the modulus",
                    "use `--scheme ckks`, write narrower ranges, lower the learning rate, or choose `--profile precise`",
                ));
            }
        }
        schedule.label_amplitude = label.unwrap_or(1.0);
        for operand in &mut schedule.operands {
            let multiple = operand
                .form
                .terms
                .iter()
                .filter_map(|term| {
                    let kind = schedule.atoms[term.atom.0 as usize].kind;
                    base(kind).map(|base| (operand.amplitude * term.coefficient / base).abs())
                })
                .fold(1.0, f64::max);
            operand.noise = self.leaf_noise(&operand.form, multiple);
        }
        Ok(())
    }

    /// The amplitude at which a table's outputs come, where a use asks for one: a power of two less where a bootstrap
    /// gives no more.
    pub(super) fn given(&self, table: (usize, usize), wanted: f64) -> f64 {
        let largest = self.largest.get(&table).copied().unwrap_or(1.0);
        let over = wanted * largest / self.parameters.table_limit_units();
        match self.parameters {
            Parameters::Ckks(_) if over > 1.0 => wanted / over.log2().ceil().exp2(),
            _ => wanted,
        }
    }

    /// Errors of operands on the ring engine: those that the bootstraps of their tables are predicted to have, instead of the
    /// worst of any table; and what gradients gather on the ways to their masters.
    pub(super) fn ring_noise(
        &self,
        schedule: &mut Schedule,
        functions: &[Vec<RingFunction>],
        plan: &GatherPlan,
    ) {
        let Some(profile) = self.parameters.ckks() else { return };
        let noises = plan.operand_noise(schedule, functions, profile);
        for (operand, noise) in schedule.operands.iter_mut().zip(noises) {
            [operand.noise, operand.hidden_noise] = noise;
        }
        for (master, merged) in schedule.masters.iter_mut().zip(&plan.masters) {
            master.route_noise = merged.as_ref().map_or(0.0, |own| own.routes.units(profile));
        }
    }

    /// Errors of products, of what tables read and of masters, from those of the operands.
    pub(super) fn predict_noise(&self, schedule: &mut Schedule) {
        let t = schedule.modulus();
        for index in 0..schedule.products.len() {
            let product = &schedule.products[index];
            let side = |source: Source| match source {
                Source::Operand(i) => {
                    let own = &schedule.operands[i];
                    (own.amplitude * own.rms, own.noise, own.hidden_noise)
                }
                Source::Product(i) => {
                    let own = &schedule.products[i];
                    (own.amplitude * own.rms, own.noise, own.noise)
                }
                Source::Master(_) => (0.0, 0.0, 0.0),
            };
            let [(left, left_noise, left_hidden), (right, right_noise, right_hidden)] =
                product.sides.map(side);
            let mut summed = product.kind.summed() as f64;
            if product.batch_sum {
                summed *= schedule.batch as f64;
            }
            let noises = [right_noise, left_noise, left_noise * right_noise].map(|noise| noise.powi(2));
            let matched = noises.map(|noise| summed * noise);
            let mut hidden = [0.0; 3];
            if self.parameters.is_ckks() {
                // Every coefficient is noisy, and meets every value of the other side's polynomial.
                let values = product.sides.map(|side| {
                    let layout = schedule.layout(side);
                    (layout.samples * layout.elements()) as f64 / layout.pieces.max(1) as f64
                });
                let groups = if product.batch_sum { schedule.groups(product) } else { 1 };
                let terms = product.sums.iter().map(Vec::len).max().unwrap_or(1);
                let polynomials = (groups * terms) as f64;
                let meetings = [values[0], values[1], schedule.degree() as f64];
                let noises =
                    [right_hidden, left_hidden, left_hidden * right_hidden].map(|noise| noise.powi(2));
                hidden = [0, 1, 2].map(|k| (polynomials * meetings[k] - summed).max(0.0) * noises[k]);
            }
            let product = &mut schedule.products[index];
            let squares = [left.powi(2), right.powi(2), 1.0];
            let sum = |k: usize| (matched[k] + hidden[k]) * squares[k];
            product.noise = (0..3).map(sum).sum::<f64>().sqrt();
            product.cross_variance = hidden;
        }
        for index in 0..schedule.sites.len() {
            let site = &schedule.sites[index];
            let own = |&(source, factor): &(Source, i64)| {
                let noise = match source {
                    Source::Product(i) => schedule.products[i].noise,
                    Source::Operand(i) => schedule.operands[i].noise,
                    Source::Master(_) => 0.0,
                };
                (noise * factor as f64 / t).powi(2)
            };
            let operands: f64 = site.reads.iter().flat_map(|read| &read.sources).map(own).sum();
            let switches = schedule.parameters.lut_input_error(site.tables.len(), site.reads.len());
            schedule.sites[index].input_error = 2.0 * (switches.powi(2) + operands).sqrt();
        }
        for master in &mut schedule.masters {
            let noise = |&(source, factor): &(Source, i64)| match source {
                Source::Product(i) => schedule.products[i].noise * factor as f64,
                Source::Operand(i) => schedule.operands[i].noise * factor as f64,
                Source::Master(_) => 0.0,
            };
            let variance: f64 = master.gradient.iter().map(|own| noise(own).powi(2)).sum();
            master.step_noise = (variance + master.route_noise.powi(2)).sqrt() / master.amplitude;
        }
    }
}
