//! Scheduling: layouts, levels, amplitudes and the order of stages for a lowered program.

mod amplitudes;
mod images;
mod orient;
mod scales;

use std::collections::HashMap;
use std::sync::Arc;

use crate::diagnostics::Diagnostic;
use crate::graph::{Constant, Graph, NodeId, ParamId};

use self::scales::is_multiple;
use super::form::Form;
use super::functions::{least_row, ring_functions};
use super::gather::GatherPlan;
use super::layout::Layout;
use super::lower::{AtomKind, Lowered, ProductKind, RangeOf, Side, SiteInput, TableFn, locate};
use super::nominal::{Nominal, Sizes, weight_rms};
use super::parameters::Parameters;
use super::place::conv::Grid;
use super::place::dense::Cut;
use super::place::{NoLayout, Placed, Strides, place};
use super::schedule::{
    Master, Operand, Output, ProductStep, Read, RingPlan, Schedule, SiteStep, Source, Table,
};
use super::stages::{make_originals_first, stages};

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
    /// The parameter of each product that reads one or is its gradient, by lowered index.
    param_of: HashMap<usize, ParamId>,
    /// How the weights of a parameter stand.
    cuts: HashMap<ParamId, Option<Cut>>,
    /// Largest outputs of tables, in units of value; by site and function.
    largest: HashMap<(usize, usize), f64>,
}

/// Builds the schedule of a lowered program. On the ring engine its functions pick the least of the `rows` that carries
/// them; `parameters` is the largest.
///
/// # Errors
/// What cannot run encrypted: a product without a layout, a table without a polynomial.
pub fn build(
    graph: &Graph,
    lowered: &Lowered,
    ranges: &dyn RangeOf,
    (parameters, rows): (Parameters, &[Parameters]),
    batch: usize,
    nominal: &Nominal,
    purpose: &Purpose<'_>,
) -> Result<Schedule, Diagnostic> {
    let on = |parameters| build_on(graph, lowered, ranges, parameters, batch, nominal, purpose);
    let (mut builder, mut schedule) = on(parameters)?;
    if let Parameters::Ckks(largest) = parameters {
        let mut functions = ring_functions(&schedule)?;
        let least = Parameters::Ckks(least_row(&schedule, &functions, largest));
        if least != parameters && rows.contains(&least) {
            (builder, schedule) = on(least)?;
            functions = ring_functions(&schedule)?;
        }
        // Outputs of their own may be far apart themselves.
        while builder.own_scales(&mut schedule, Some(&functions)) {
            builder.table_amplitudes(&mut schedule)?;
            functions = ring_functions(&schedule)?;
        }
        let mut gather = GatherPlan::of(&schedule).map_err(|error| {
            Diagnostic::error("E0502", format!("the values have no way between their places: {error}"))
                .help("`--scheme tfhe` has no such limit")
        })?;
        builder.share_outputs(&mut schedule, &functions, &mut gather);
        builder.ring_noise(&mut schedule, &functions, &gather);
        let images = gather.operands.iter().enumerate();
        let images: Vec<_> =
            images.filter_map(|(index, own)| Some((index, own.image.as_ref()?.of))).collect();
        make_originals_first(&mut schedule.stages, &images);
        schedule.ring = Some(RingPlan { functions, gather });
    }
    builder.predict_noise(&mut schedule);
    Ok(schedule)
}

/// The schedule on a row of parameters, up to the noise.
fn build_on<'a>(
    graph: &'a Graph,
    lowered: &Lowered,
    ranges: &dyn RangeOf,
    parameters: Parameters,
    batch: usize,
    nominal: &Nominal,
    purpose: &Purpose<'_>,
) -> Result<(Builder<'a>, Schedule), Diagnostic> {
    let mut builder = Builder {
        sizes: Sizes::of(graph, lowered, batch, nominal),
        param_of: orient::parameters_of(lowered, purpose),
        cuts: HashMap::new(),
        graph,
        lowered: lowered.clone(),
        parameters,
        batch,
        operands: Vec::new(),
        products: Vec::new(),
        product_at: HashMap::new(),
        requests: HashMap::new(),
        largest: HashMap::new(),
    };
    let masters = builder.masters(ranges, purpose)?;
    builder.largest = builder.largest_outputs(&masters);
    builder.request_products(&masters, purpose)?;
    builder.place_products()?;
    let schedule = builder.finish(masters, purpose)?;
    Ok((builder, schedule))
}

/// Whether element i of a map reads element i.
fn keeps_order(map: &[u32]) -> bool {
    map.iter().enumerate().all(|(i, &j)| i as u32 == j)
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
            let product = form
                .terms
                .iter()
                .find(|term| matches!(self.lowered.atoms[term.atom.0 as usize].kind, AtomKind::Product(_)));
            let factor = product.map_or(1.0, |term| term.coefficient.abs());
            let per_step = rate / self.batch as f64 * factor;
            // The gradient's amplitude is the largest power of two for which the range holds.
            let gradient = (per_step * self.t() / (4.0 * ranges.param(param))).log2().floor().exp2();
            let amplitude = gradient / per_step;
            masters.push(Master {
                param,
                name: info.name.clone(),
                elements: crate::graph::elements(&info.shape),
                shape: info.shape.clone(),
                layout: Layout::default(),
                amplitude,
                range: self.t() / (4.0 * amplitude),
                gradient: Vec::new(),
                route_noise: 0.0,
                step_noise: 0.0,
            });
        }
        Ok(masters)
    }

    fn unsupported(&self, node: NodeId, message: String, label: &str, help: &str) -> Diagnostic {
        let spans = &self.graph.node(node).origin.spans;
        locate(Diagnostic::error("E0502", message), spans, label).help(help)
    }

    /// A use of an encrypted value, times `coefficient`, whose scale is no multiple of another's.
    fn misfit(&self, node: NodeId, ratio: f64, coefficient: f64) -> Diagnostic {
        let divisor = (1.0 / coefficient.abs()).round();
        let mean = divisor > 1.0 && divisor.log2().fract() != 0.0 && is_multiple(1.0 / coefficient.abs());
        let (what, help) = if mean {
            (
                format!("a mean over {divisor} encrypted values"),
                "take the mean over a power of two of values (`avg_pool(size: 2)`), or refresh it: `refresh(mean(…))`, \
                 `avg_pool(…) |> refresh`",
            )
        } else {
            (
                "this use of an encrypted value".to_owned(),
                "use factors that are powers of two, or `refresh(…)` the scaled value",
            )
        };
        let message =
            format!("{what} has {ratio:.4} times the scale of another use, which is no whole number");
        self.unsupported(node, message, "used here", help)
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
        let grid = Grid::of(&self.lowered.products, self.parameters.degree(), self.batch);
        for root in roots {
            let placed = self.place_product(root, &grid)?;
            let amplitude = self.requests[&root];
            let index = self.add_product(root, &placed, amplitude, 0)?;
            self.product_at.insert(root, index);
        }
        Ok(())
    }

    /// Layouts of a product; `grid` is that of all images.
    fn place_product(
        &mut self,
        root: usize,
        grid: &Result<Option<Grid>, NoLayout>,
    ) -> Result<Placed, Diagnostic> {
        let product = &self.lowered.products[root];
        let node = product.node;
        match (&product.kind, grid) {
            (ProductKind::Conv { part, geometry, phases }, Ok(Some(grid))) => {
                return Ok(grid.place(product, *part, geometry, *phases));
            }
            (ProductKind::Conv { .. }, _) => {
                return Err(self.unsupported(
                    node,
                    "the images of this convolution do not fit a ring".into(),
                    "too many rows and columns, even where only every 64th shares a polynomial",
                    "use smaller images, or `--engine clear`",
                ));
            }
            (ProductKind::Contract(_), _) => {}
        }
        let cut = self.cut(root);
        let strides = if self.parameters.is_ckks() { Strides::PowersOfTwo } else { Strides::Dense };
        let degree = self.parameters.degree();
        place(&self.lowered.products, root, degree, self.batch, strides, cut.as_ref()).map_err(
            |why| match why {
                NoLayout::TooLarge { needed, degree } => self.unsupported(
                    node,
                    format!("a product of {needed} values does not fit rings of degree {degree}"),
                    "it needs a coefficient for each combination of its indices, and of those of a product that feeds it",
                    "put `refresh(…)` or a function between two products, use fewer inputs or units, or `--engine clear`",
                ),
                NoLayout::NotClean => self.unsupported(
                    node,
                    "no layout lets this product feed the next one".into(),
                    "its unused coefficients would meet what is read",
                    "put `refresh(…)` or a function between the two products",
                ),
            },
        )
    }

    /// Adds a product with its operands; its result has this level and amplitude. Returns its index.
    fn add_product(
        &mut self,
        lowered: usize,
        placed: &Placed,
        amplitude: f64,
        level: usize,
    ) -> Result<usize, Diagnostic> {
        let product = self.lowered.products[lowered].clone();
        let left = self.split(&product, amplitude);
        let amplitudes = [left, amplitude / left];
        let mut sides = [Source::Operand(0); 2];
        for k in 0..2 {
            sides[k] = match (&product.sides[k], &placed.inner[k]) {
                (Side::Leaf(form), _) => {
                    let operand = self.operand(
                        product.node,
                        form,
                        product.side_per_sample[k],
                        &placed.sides[k],
                        amplitudes[k],
                        level + 1,
                    );
                    Source::Operand(operand)
                }
                (Side::Product(inner), Some(placed)) => {
                    Source::Product(self.add_product(*inner, placed, amplitudes[k], level + 1)?)
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
        self.products.push(ProductStep {
            node: product.node,
            sides,
            kind: product.kind.clone(),
            batch_sum: product.batch_sum,
            side_per_sample: product.side_per_sample,
            elements: placed.result.elements(),
            sums: placed.sums.clone(),
            layout: placed.result.clone(),
            level,
            amplitude,
            rms: self.sizes.product(&self.lowered, &product),
            noise: 0.0,
            cross_variance: [0.0; 3],
        });
        Ok(self.products.len() - 1)
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
            hidden_noise: 0.0,
            rms: self.sizes.form(&self.lowered, form),
            form: form.clone(),
        });
        self.operands.len() - 1
    }

    /// The reads of a form at an amplitude: products where they stand, leaves packed beside them.
    /// `multiplier` is the site whose outputs multiply those of the site that reads.
    fn reads(
        &mut self,
        node: NodeId,
        form: &Form,
        amplitude: f64,
        multiplier: Option<usize>,
    ) -> Result<Vec<Read>, Diagnostic> {
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
            if !is_multiple(ratio.abs()) || factor == 0.0 {
                return Err(self.misfit(node, ratio.abs(), term.coefficient));
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
                    places: reads[at].layout.places[..form.elements()].to_vec(),
                    ..reads[at].layout.clone()
                },
                None => {
                    let batch = if leaf.per_sample { self.batch } else { 1 };
                    let image = if leaf.per_sample { self.image_layout(form, multiplier) } else { None };
                    image.unwrap_or_else(|| {
                        Layout::contiguous(self.parameters.degree(), form.elements(), batch)
                    })
                }
            };
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

    /// What is subtracted from a master after each step: what its gradient sums, all in one layout, which is the master's.
    fn update(&mut self, master: &mut Master, form: &Form, per_step: f64) -> Result<(), Diagnostic> {
        let product =
            form.terms.iter().find_map(|term| match self.lowered.atoms[term.atom.0 as usize].kind {
                AtomKind::Product(product) => Some(self.lowered.products[product].node),
                _ => None,
            });
        let node = product.unwrap_or_default();
        let mut reads = self.reads(node, form, master.amplitude * per_step, None)?.into_iter();
        match (reads.next(), reads.next(), &form.constant) {
            (Some(read), None, Constant::Uniform(0.0)) if !read.per_sample && keeps_order(&read.map) => {
                master.layout = read.layout;
                master.gradient = read.sources;
                Ok(())
            }
            _ => Err(self.unsupported(
                node,
                format!("the parts of the gradient of `{}` stand in different arrangements", master.name),
                "used in more than one way, or rearranged",
                "use each parameter in one way; `--engine clear` has no such limit",
            )),
        }
    }

    fn finish(&mut self, mut masters: Vec<Master>, purpose: &Purpose<'_>) -> Result<Schedule, Diagnostic> {
        if let Purpose::Train { rate, .. } = purpose {
            for (master, form) in masters.iter_mut().zip(self.lowered.outputs.clone()) {
                self.update(master, &form, rate / self.batch as f64)?;
            }
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
                    let factor = site.multiplier.map(|(factor, _)| factor);
                    let reads = self.reads(site.node, form, self.t() / (4.0 * site.range), factor)?;
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
            let table = |function: &TableFn| {
                let mut table = Table::new(&function.name, &function.expr, range);
                if site.multiplier.is_some() {
                    // Two factors are whole, so that the product is.
                    table.centre = 0.0;
                }
                table
            };
            sites.push(SiteStep {
                node: site.node,
                reads,
                constant,
                range,
                amplitude: self.t() / (4.0 * range),
                tables: site.functions.iter().map(table).collect(),
                elements: site.elements,
                per_sample: site.per_sample,
                multiplier: site.multiplier,
                input_error: 0.0,
                rms,
            });
        }
        let mut outputs = Vec::new();
        if let Purpose::Evaluate { ranges } = purpose {
            for (form, &range) in self.lowered.outputs.clone().iter().zip(*ranges) {
                let amplitude = self.t() / (4.0 * range);
                let node = NodeId::default();
                let reads = self.reads(node, form, amplitude, None)?;
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
            ring: None,
            label_amplitude: 0.0,
        };
        while self.own_scales(&mut schedule, None) {}
        self.table_amplitudes(&mut schedule)?;
        schedule.stages = stages(&schedule);
        Ok(schedule)
    }
}
