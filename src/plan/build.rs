//! Scheduling: layouts, levels, amplitudes and the order of stages for a lowered program.

use std::collections::HashMap;
use std::sync::Arc;

use crate::diagnostics::Diagnostic;
use crate::graph::{Constant, Graph, NodeId, ParamId};

use super::form::Form;
use super::layout::Layout;
use super::lower::{AtomKind, Lowered, RangeOf, Side, SiteInput, locate};
use super::nominal::{Nominal, Sizes, weight_rms};
use super::parameters::Parameters;
use super::place::{NoLayout, Placed, place};
use super::schedule::{Master, Operand, Output, ProductStep, Read, Schedule, SiteStep, Source, Table};
use super::stages::stages;

/// What the outputs of a lowered program are for.
pub enum Purpose<'a> {
    /// Gradients of these parameters.
    Train { params: &'a [ParamId], rate: f64 },
    /// Values that the client decrypts.
    Evaluate { ranges: &'a [f64] },
}

struct Builder<'a> {
    graph: &'a Graph,
    lowered: Lowered,
    parameters: Parameters,
    batch: usize,
    operands: Vec<Operand>,
    products: Vec<ProductStep>,
    /// Schedule index of a lowered product that is read, by lowered index.
    product_at: HashMap<usize, usize>,
    /// Requests: units of t per unit of value, by lowered product.
    requests: HashMap<usize, f64>,
    sizes: Sizes,
}

/// Builds the schedule of a lowered program.
pub fn build(
    graph: &Graph,
    lowered: Lowered,
    ranges: &dyn RangeOf,
    parameters: Parameters,
    batch: usize,
    nominal: &Nominal,
    purpose: &Purpose<'_>,
) -> Result<Schedule, Diagnostic> {
    let mut builder = Builder {
        sizes: Sizes::of(graph, &lowered, batch, nominal),
        graph,
        lowered,
        parameters,
        batch,
        operands: Vec::new(),
        products: Vec::new(),
        product_at: HashMap::new(),
        requests: HashMap::new(),
    };
    let masters = builder.masters(ranges, purpose)?;
    builder.request_products(&masters, purpose)?;
    builder.place_products()?;
    builder.finish(masters, purpose)
}

/// The power of two next to `x`.
fn power_of_two(x: f64) -> f64 {
    x.log2().round().exp2()
}

impl Builder<'_> {
    fn t(&self) -> f64 {
        self.parameters.modulus()
    }

    /// The masters, with an amplitude for which rate/batch leaves powers of two.
    fn masters(&self, ranges: &dyn RangeOf, purpose: &Purpose<'_>) -> Result<Vec<Master>, Diagnostic> {
        let Purpose::Train { params, rate } = purpose else { return Ok(Vec::new()) };
        let mut masters = Vec::new();
        for (&param, form) in params.iter().zip(&self.lowered.outputs) {
            let info = self.graph.param_info(param);
            let factor = match form.terms.as_slice() {
                [term] => term.coefficient.abs(),
                _ => 1.0,
            };
            let per_step = rate / self.batch as f64 * factor;
            // The gradient's amplitude is the largest power of two for which the range holds.
            let gradient = (per_step * self.t() / (4.0 * ranges.param(param))).log2().floor().exp2();
            let amplitude = gradient / per_step;
            masters.push(Master {
                param,
                name: info.name.clone(),
                elements: crate::graph::elements(&info.shape),
                shape: info.shape.clone(),
                layout: Layout { exponents: Vec::new(), sample_stride: 0, samples: 1 },
                amplitude,
                range: self.t() / (4.0 * amplitude),
                gradient: (0, 1),
                step_noise: 0.0,
            });
        }
        Ok(masters)
    }

    fn unsupported(&self, node: NodeId, message: String, label: &str, help: &str) -> Diagnostic {
        let spans = &self.graph.node(node).origin.spans;
        locate(Diagnostic::error("E0502", message), spans, label).help(help)
    }

    /// Collects at which amplitude every product is read: the smallest, of which the others are multiples.
    fn request_products(&mut self, masters: &[Master], purpose: &Purpose<'_>) -> Result<(), Diagnostic> {
        let t = self.t();
        let mut wanted: Vec<(Form, f64)> = Vec::new();
        for site in &self.lowered.sites {
            if let SiteInput::Form(form) = &site.input {
                wanted.push((form.clone(), t / (4.0 * site.range)));
            }
        }
        match purpose {
            Purpose::Train { rate, .. } => {
                for (form, master) in self.lowered.outputs.iter().zip(masters) {
                    wanted.push((form.clone(), master.amplitude * rate / self.batch as f64));
                }
            }
            Purpose::Evaluate { ranges } => {
                for (form, range) in self.lowered.outputs.iter().zip(*ranges) {
                    wanted.push((form.clone(), t / (4.0 * range)));
                }
            }
        }
        for (form, amplitude) in wanted {
            for term in &form.terms {
                if let AtomKind::Product(product) = self.lowered.atoms[term.atom.0 as usize].kind {
                    let request = amplitude * term.coefficient.abs();
                    let slot = self.requests.entry(product).or_insert(request);
                    *slot = slot.min(request);
                }
            }
        }
        Ok(())
    }

    /// Layouts, levels and amplitudes of every product that is read, and of those that feed it.
    fn place_products(&mut self) -> Result<(), Diagnostic> {
        let mut roots: Vec<usize> = self.requests.keys().copied().collect();
        roots.sort_unstable();
        for root in roots {
            let node = self.lowered.products[root].node;
            let placed =
                place(&self.lowered.products, root, self.parameters.degree(), self.batch).map_err(|why| {
                    match why {
                        NoLayout::TooLarge { needed, degree } => self.unsupported(
                            node,
                            format!("a product of {needed} weights does not fit a ring of degree {degree}"),
                            "this product needs one coefficient for each of its weights",
                            "use fewer inputs or units, or `--engine clear`",
                        ),
                        NoLayout::NotClean => self.unsupported(
                            node,
                            "no layout lets this product feed the next one".into(),
                            "its unused coefficients would meet what is read",
                            "put `refresh(…)` or a function between the two products",
                        ),
                    }
                })?;
            let amplitude = self.requests[&root];
            let (index, _) = self.add_product(root, &placed, amplitude, 0)?;
            self.product_at.insert(root, index);
        }
        Ok(())
    }

    /// Adds a product with its operands; its result has this level and amplitude. Returns its index and noise.
    fn add_product(
        &mut self,
        lowered: usize,
        placed: &Placed,
        amplitude: f64,
        level: usize,
    ) -> Result<(usize, f64), Diagnostic> {
        let product = self.lowered.products[lowered].clone();
        let rms: Vec<f64> = product.sides.iter().map(|side| self.sizes.side(&self.lowered, side)).collect();
        // Least noise in the result for a given product of the amplitudes.
        let left = match &product.sides {
            [Side::Leaf(left), Side::Leaf(right)] => {
                let units = [self.leaf_noise(left, 1.0), self.leaf_noise(right, 1.0)];
                match (units[0] > 0.0, units[1] > 0.0) {
                    (false, _) => 1.0,
                    (_, false) => amplitude,
                    _ => power_of_two((amplitude * units[0] * rms[1] / (units[1] * rms[0])).sqrt()),
                }
            }
            // In a row, every factor gets an equal share of the bits.
            [left, right] => {
                let (left, right) = (self.factors(left), self.factors(right));
                power_of_two(amplitude.powf(left / (left + right)))
            }
        };
        let amplitudes = [left, amplitude / left];
        let mut sides = [Source::Operand(0); 2];
        let mut noises = [0.0; 2];
        for k in 0..2 {
            (sides[k], noises[k]) = match (&product.sides[k], &placed.inner[k]) {
                (Side::Leaf(form), _) => {
                    let operand = self.operand(
                        product.node,
                        form,
                        product.side_per_sample[k],
                        &placed.sides[k],
                        amplitudes[k],
                        level + 1,
                    );
                    (Source::Operand(operand), self.operands[operand].noise)
                }
                (Side::Product(inner), Some(placed)) => {
                    let (index, noise) = self.add_product(*inner, placed, amplitudes[k], level + 1)?;
                    (Source::Product(index), noise)
                }
                (Side::Product(_), None) => {
                    return Err(self.unsupported(
                        product.node,
                        "no layout lets this product feed the next one".into(),
                        "here",
                        "put `refresh(…)` between the two products",
                    ));
                }
            };
        }
        let mut summed: f64 = product.contracted().iter().map(|l| product.sizes[l] as f64).product();
        if product.batch_sum {
            summed *= self.batch as f64;
        }
        let noise = summed.sqrt()
            * ((amplitudes[0] * rms[0] * noises[1]).powi(2)
                + (amplitudes[1] * rms[1] * noises[0]).powi(2)
                + (noises[0] * noises[1]).powi(2))
            .sqrt();
        let mut sizes: Vec<(u8, usize)> = product.sizes.iter().map(|(&l, &s)| (l, s)).collect();
        sizes.sort_unstable();
        self.products.push(ProductStep {
            node: product.node,
            sides,
            labels: product.labels.clone(),
            sizes,
            batch_sum: product.batch_sum,
            side_per_sample: product.side_per_sample,
            elements: placed.result.exponents.len(),
            layout: placed.result.clone(),
            level,
            amplitude,
            rms: self.sizes.product(&self.lowered, &product),
            noise,
        });
        Ok((self.products.len() - 1, noise))
    }

    /// Leaves that a side multiplies.
    fn factors(&self, side: &Side) -> f64 {
        match side {
            Side::Leaf(_) => 1.0,
            Side::Product(inner) => self.lowered.products[*inner].sides.iter().map(|s| self.factors(s)).sum(),
        }
    }

    /// Error of a leaf in units of t when its look-ups are multiplied by `multiple` before packing.
    fn leaf_noise(&self, form: &Form, multiple: f64) -> f64 {
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
        (packed + fresh).sqrt()
    }

    /// The operand with this form, layout, amplitude and level; an equal one is shared.
    fn operand(
        &mut self,
        node: NodeId,
        form: &Form,
        per_sample: bool,
        layout: &Layout,
        amplitude: f64,
        level: usize,
    ) -> usize {
        let same = |own: &Operand| {
            own.level == level
                && own.per_sample == per_sample
                && own.amplitude == amplitude
                && own.layout == *layout
                && own.form.constant == form.constant
                && own.form.terms.len() == form.terms.len()
                && own
                    .form
                    .terms
                    .iter()
                    .zip(&form.terms)
                    .all(|(a, b)| a.atom == b.atom && a.coefficient == b.coefficient && a.map == b.map)
        };
        if let Some(index) = self.operands.iter().position(same) {
            return index;
        }
        let kinds: Vec<AtomKind> =
            form.terms.iter().map(|t| self.lowered.atoms[t.atom.0 as usize].kind).collect();
        self.operands.push(Operand {
            node,
            layout: layout.clone(),
            amplitude,
            level,
            per_sample,
            fresh: kinds.iter().any(|&kind| self.parameters.is_fresh(kind)),
            packed: kinds.iter().any(|&kind| !self.parameters.is_fresh(kind)),
            noise: self.leaf_noise(form, 1.0),
            rms: self.sizes.form(&self.lowered, form),
            form: form.clone(),
        });
        self.operands.len() - 1
    }

    /// The reads of a form at an amplitude: products where they stand, leaves packed beside them.
    fn reads(&mut self, node: NodeId, form: &Form, amplitude: f64) -> Result<Vec<Read>, Diagnostic> {
        let mut reads: Vec<Read> = Vec::new();
        let mut leaf = Form { terms: Vec::new(), constant: Constant::Uniform(0.0), ..form.clone() };
        for term in &form.terms {
            let AtomKind::Product(product) = self.lowered.atoms[term.atom.0 as usize].kind else {
                leaf.terms.push(term.clone());
                continue;
            };
            let step = self.product_at[&product];
            let ratio = term.coefficient * amplitude / self.products[step].amplitude;
            let factor = ratio.round();
            if (ratio - factor).abs() > 1e-6 * ratio.abs() || factor == 0.0 {
                return Err(self.unsupported(
                    node,
                    format!("an encrypted value is used with factors whose ratio {ratio:.4} is no integer"),
                    "used here",
                    "use factors that are powers of two, or a `lut` that scales the value",
                ));
            }
            let per_sample = self.products[step].per_sample();
            let layout = self.products[step].layout.clone();
            let source = (Source::Product(step), factor as i64);
            match reads
                .iter_mut()
                .find(|r| r.layout == layout && r.map == term.map && r.per_sample == per_sample)
            {
                Some(read) => read.sources.push(source),
                None => {
                    reads.push(Read { sources: vec![source], map: Arc::clone(&term.map), layout, per_sample })
                }
            }
        }
        if !leaf.terms.is_empty() {
            leaf.per_sample = leaf.terms.iter().any(|t| self.lowered.atoms[t.atom.0 as usize].per_sample);
            let identity: Arc<[u32]> = (0..form.elements() as u32).collect();
            // Beside a product of the same elements the leaf takes its layout: the two are added as ciphertexts.
            let beside = reads.iter().position(|r| r.map == identity && r.per_sample == leaf.per_sample);
            let layout = match beside {
                // A product may hold more elements than are read: the leaf has just those.
                Some(at) => Layout {
                    exponents: reads[at].layout.exponents[..form.elements()].to_vec(),
                    ..reads[at].layout.clone()
                },
                None => {
                    let batch = if leaf.per_sample { self.batch } else { 1 };
                    Layout::contiguous(self.parameters.degree(), form.elements(), batch)
                }
            };
            if layout.exponents.len() > self.parameters.degree() {
                return Err(self.unsupported(
                    node,
                    format!("{} values do not fit one polynomial", form.elements()),
                    "here",
                    "use fewer values, or `--engine clear`",
                ));
            }
            let operand = self.operand(node, &leaf, leaf.per_sample, &layout, amplitude, 0);
            match beside {
                Some(at) => reads[at].sources.push((Source::Operand(operand), 1)),
                None => reads.push(Read {
                    sources: vec![(Source::Operand(operand), 1)],
                    map: identity,
                    layout,
                    per_sample: leaf.per_sample,
                }),
            }
        }
        Ok(reads)
    }

    fn finish(mut self, mut masters: Vec<Master>, purpose: &Purpose<'_>) -> Result<Schedule, Diagnostic> {
        for (master, form) in masters.iter_mut().zip(self.lowered.outputs.clone()) {
            let node = self.lowered.products.first().map_or(NodeId::default(), |p| p.node);
            let single = match form.terms.as_slice() {
                [term] if term.keeps_order() && form.constant == Constant::Uniform(0.0) => {
                    match self.lowered.atoms[term.atom.0 as usize].kind {
                        AtomKind::Product(product) => Some((self.product_at[&product], term.coefficient)),
                        _ => None,
                    }
                }
                _ => None,
            };
            let Some((step, coefficient)) = single else {
                return Err(self.unsupported(
                    node,
                    format!("the gradient of `{}` is no single product", master.name),
                    "used more than once, or rearranged",
                    "use each parameter in one product; `--engine clear` has no such limit",
                ));
            };
            let product = &self.products[step];
            master.layout = product.layout.clone();
            master.gradient = (step, if coefficient < 0.0 { -1 } else { 1 });
            master.step_noise = product.noise / master.amplitude;
        }
        let mut sites = Vec::new();
        for site in self.lowered.sites.clone() {
            let (reads, constant, range, rms) = match &site.input {
                SiteInput::Master(param) => {
                    let Some(index) = masters.iter().position(|m| m.param == *param) else {
                        let name = &self.graph.param_info(*param).name;
                        return Err(self.unsupported(
                            site.node,
                            format!("the parameter `{name}` gets no gradient"),
                            "it is used, but nothing trains it",
                            "write it as a constant, or let the loss depend on it",
                        ));
                    };
                    let map = (0..site.elements as u32).collect();
                    let layout = masters[index].layout.clone();
                    let sources = vec![(Source::Master(index), 1)];
                    let read = Read { sources, map, layout, per_sample: false };
                    let rms = weight_rms(self.graph.param_info(*param));
                    (vec![read], Constant::Uniform(0.0), masters[index].range, rms)
                }
                SiteInput::Form(form) => {
                    let reads = self.reads(site.node, form, self.t() / (4.0 * site.range))?;
                    (reads, form.constant.clone(), site.range, self.sizes.form(&self.lowered, form))
                }
            };
            if !(range.is_finite() && range > 0.0) {
                return Err(self.unsupported(
                    site.node,
                    "a value grows beyond every range".into(),
                    "read by a table here",
                    "write a range after its type, as `in -16..16`",
                ));
            }
            let outputs = site.functions.len();
            let operand_noise: f64 = reads
                .iter()
                .flat_map(|read| &read.sources)
                .map(|&(source, factor)| {
                    let own = match source {
                        Source::Product(i) => self.products[i].noise,
                        Source::Operand(i) => self.operands[i].noise,
                        Source::Master(_) => 0.0,
                    };
                    (own * factor as f64 / self.t()).powi(2)
                })
                .sum();
            let switches = self.parameters.lut_input_error(outputs, reads.len()).powi(2);
            sites.push(SiteStep {
                node: site.node,
                reads,
                constant,
                range,
                amplitude: self.t() / (4.0 * range),
                tables: site.functions.iter().map(|f| Table::new(&f.name, &f.expr, range)).collect(),
                elements: site.elements,
                per_sample: site.per_sample,
                input_error: 2.0 * (switches + operand_noise).sqrt(),
                rms,
            });
        }
        let mut outputs = Vec::new();
        if let Purpose::Evaluate { ranges } = purpose {
            for (form, &range) in self.lowered.outputs.clone().iter().zip(*ranges) {
                let amplitude = self.t() / (4.0 * range);
                let node = NodeId::default();
                let reads = self.reads(node, form, amplitude)?;
                let (constant, shape) = (form.constant.clone(), form.shape.clone());
                outputs.push(Output { reads, constant, amplitude, range, shape });
            }
        }
        let mut schedule = Schedule {
            parameters: self.parameters,
            batch: self.batch,
            stages: Vec::new(),
            atoms: self.lowered.atoms.clone(),
            operands: std::mem::take(&mut self.operands),
            products: std::mem::take(&mut self.products),
            sites,
            masters,
            outputs,
            label_amplitude: 0.0,
        };
        self.table_amplitudes(&mut schedule)?;
        schedule.stages = stages(&schedule);
        Ok(schedule)
    }

    /// Each table gives the smallest amplitude that a use asks for; the others are integer multiples of it.
    fn table_amplitudes(&self, schedule: &mut Schedule) -> Result<(), Diagnostic> {
        let mut label: Option<f64> = None;
        let mut tables: HashMap<(usize, usize), f64> = HashMap::new();
        let uses: Vec<(NodeId, AtomKind, f64)> = schedule
            .operands
            .iter()
            .flat_map(|operand| {
                operand.form.terms.iter().map(|term| {
                    let kind = schedule.atoms[term.atom.0 as usize].kind;
                    (operand.node, kind, (operand.amplitude * term.coefficient).abs())
                })
            })
            .collect();
        for &(_, kind, amplitude) in &uses {
            match kind {
                AtomKind::Label(_) => label = Some(label.map_or(amplitude, |own| own.min(amplitude))),
                AtomKind::Lut { site, function } => {
                    let slot = tables.entry((site, function)).or_insert(amplitude);
                    *slot = slot.min(amplitude);
                }
                AtomKind::Weight { site, .. } => {
                    let slot = tables.entry((site, 0)).or_insert(amplitude);
                    *slot = slot.min(amplitude);
                }
                AtomKind::Fresh(_) | AtomKind::Product(_) => {}
            }
        }
        let base = |kind: AtomKind| match kind {
            AtomKind::Label(_) => label,
            AtomKind::Lut { site, function } => tables.get(&(site, function)).copied(),
            AtomKind::Weight { site, .. } => tables.get(&(site, 0)).copied(),
            AtomKind::Fresh(_) | AtomKind::Product(_) => None,
        };
        for &(node, kind, amplitude) in &uses {
            let Some(base) = base(kind) else { continue };
            let ratio = amplitude / base;
            if (ratio - ratio.round()).abs() > 1e-6 * ratio {
                return Err(self.unsupported(
                    node,
                    format!("an encrypted value is used with factors whose ratio {ratio:.4} is no integer"),
                    "used here",
                    "use factors that are powers of two, or a `lut` that scales the value",
                ));
            }
        }
        for (&(site, function), &amplitude) in &tables {
            let Some(step) = schedule.sites.get_mut(site) else { continue };
            let (node, range) = (step.node, step.range);
            let Some(table) = step.tables.get_mut(function) else { continue };
            table.amplitude = amplitude;
            let largest = table.largest(range) * amplitude;
            if largest.is_nan() || largest > self.parameters.table_limit_units() {
                return Err(self.unsupported(
                    node,
                    format!("the outputs of `{}` do not fit the plaintext modulus", table.name),
                    "this table's outputs, times the scale that its use needs, leave the modulus",
                    "lower the learning rate, write narrower ranges, or choose `--profile precise`",
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
}
