//! The reference: a graph evaluated in the clear, in f32.
//!
//! In: a graph, a batch of samples, parameter values. Out: the values of the wanted nodes. Values that depend on the
//! sample are `[batch, elements]`, shared ones `[elements]`, row-major; a value is dropped after its last use.

use std::borrow::Cow;

use rayon::prelude::*;

use super::numeric::conv::{self, Rows};
use super::numeric::gemm::{Labelled, contract};
use super::numeric::table::Compiled;
use super::numeric::{PIECE, for_each_row};
use super::{Batch, Engine, EngineError, Watch};
use crate::graph::{Constant, Graph, NONE, NodeId, Op, ParamId, ShapeError, show_shape};
use crate::plan::prepare::prepare_epoch;
use crate::typeck::{Optimizer, TrainTask};

/// The axis of the samples among the labels of a contraction: no letter.
const SAMPLE: u8 = 0;
/// Samples that [`predict`] evaluates at a time.
const CHUNK: usize = 256;

/// Gradient descent in the clear.
pub struct ClearEngine {
    graph: Graph,
    gradients: Vec<(ParamId, NodeId)>,
    /// The least rate, and the multiple of it that the epoch takes.
    rate: f64,
    multiple: u32,
    optimizer: Optimizer,
    params: Vec<Vec<f32>>,
    /// Of the gradients, in their order; empty without momentum.
    velocities: Vec<Vec<f32>>,
    /// The task, where its masks make each epoch's step another.
    masked: Option<Box<TrainTask>>,
}

impl ClearEngine {
    /// Trains with the gradients of a loss, which stand in `graph` as sums over the batch.
    pub fn new(graph: Graph, gradients: Vec<(ParamId, NodeId)>, rate: f64, params: Vec<Vec<f32>>) -> Self {
        let (optimizer, velocities) = (Optimizer::default(), Vec::new());
        Self { graph, gradients, rate, multiple: 1, optimizer, params, velocities, masked: None }
    }

    /// With rates that change, momentum and weight decay. Clipping is part of the gradients.
    pub fn with_optimizer(self, optimizer: Optimizer) -> Self {
        let has_momentum = optimizer.momentum > 0.0;
        let zeros = |&(param, _): &(ParamId, NodeId)| vec![0.0; self.params[param.index()].len()];
        let velocities = if has_momentum { self.gradients.iter().map(zeros).collect() } else { Vec::new() };
        Self { multiple: optimizer.multiple(0), optimizer, velocities, ..self }
    }

    /// Takes each epoch's gradients from the masks of this task.
    pub fn with_masks(self, task: Option<Box<TrainTask>>) -> Self {
        Self { masked: task, ..self }
    }

    /// Trains on `loss`, a node of one element: differentiates it and fuses the tables of its gradients.
    pub fn for_loss(
        graph: &Graph,
        loss: NodeId,
        rate: f64,
        params: Vec<Vec<f32>>,
    ) -> Result<Self, ShapeError> {
        let mut graph = graph.clone();
        let derivative = graph.differentiate(loss)?;
        let (ids, nodes): (Vec<ParamId>, Vec<NodeId>) = derivative.gradients.into_iter().unzip();
        let (graph, nodes) = graph.fused(&nodes)?;
        Ok(Self::new(graph, ids.into_iter().zip(nodes).collect(), rate, params))
    }
}

impl Engine for ClearEngine {
    fn name(&self) -> &'static str {
        "clear"
    }

    fn begin_epoch(&mut self, epoch: usize, multiple: u32) -> Result<(), EngineError> {
        self.multiple = multiple;
        let Some(task) = &self.masked else { return Ok(()) };
        let step = prepare_epoch(task, epoch).map_err(|error| EngineError::Failed(error.to_string()))?;
        if let Some((graph, gradients)) = step {
            (self.graph, self.gradients) = (graph, gradients);
        }
        Ok(())
    }

    fn step(&mut self, batch: &Batch<'_>, watch: &dyn Watch) -> Result<(), EngineError> {
        if watch.cancelled() {
            return Err(EngineError::Cancelled);
        }
        let nodes: Vec<NodeId> = self.gradients.iter().map(|&(_, node)| node).collect();
        let gradients = evaluate(&self.graph, &nodes, &self.params, batch)?;
        let rate = self.rate * f64::from(self.multiple);
        let factor = (rate / batch.size as f64) as f32;
        // The gradient is that of the sum over the batch, so the decay counts for each sample.
        let decay = (self.optimizer.weight_decay * batch.size as f64) as f32;
        for (k, (&(param, _), mut gradient)) in self.gradients.iter().zip(gradients).enumerate() {
            let values = &mut self.params[param.0 as usize];
            if decay > 0.0 {
                gradient.iter_mut().zip(values.iter()).for_each(|(g, w)| *g += decay * w);
            }
            if let Some(velocity) = self.velocities.get_mut(k) {
                let momentum = self.optimizer.momentum as f32;
                velocity.iter_mut().zip(&mut gradient).for_each(|(v, g)| {
                    *v = momentum * *v + *g;
                    *g = *v;
                });
            }
            values.iter_mut().zip(gradient).for_each(|(w, g)| *w -= factor * g);
            if values.iter().any(|w| !w.is_finite()) {
                let name = &self.graph.param_info(param).name;
                return Err(EngineError::Failed(format!(
                    "training diverges: `{name}` is no longer finite; take a smaller rate than {rate}",
                )));
            }
        }
        Ok(())
    }

    fn parameters(&mut self) -> Result<Vec<Vec<f32>>, EngineError> {
        Ok(self.params.clone())
    }
}

/// The values of `outputs`, per-sample ones over all samples, a few samples at a time.
///
/// Every output must depend on the sample; sums over the batch would be those of a part of it.
pub fn predict(
    graph: &Graph,
    outputs: &[NodeId],
    params: &[Vec<f32>],
    batch: &Batch<'_>,
) -> Result<Vec<Vec<f32>>, EngineError> {
    let needed = graph.reachable(outputs);
    let sums = graph.ids().any(|id| needed[id.index()] && matches!(graph.node(id).op, Op::BatchSum));
    if sums || outputs.iter().any(|&id| !graph.node(id).per_sample) || batch.size == 0 {
        return evaluate(graph, outputs, params, batch);
    }
    let mut out = vec![Vec::new(); outputs.len()];
    let (features, labels) = (batch.features.len() / batch.size, batch.labels.len() / batch.size);
    for start in (0..batch.size).step_by(CHUNK) {
        let end = (start + CHUNK).min(batch.size);
        let part = Batch {
            index: batch.index,
            size: end - start,
            features: &batch.features[start * features..end * features],
            labels: &batch.labels[start * labels..end * labels],
            arguments: batch.arguments,
        };
        for (all, values) in out.iter_mut().zip(evaluate(graph, outputs, params, &part)?) {
            all.extend(values);
        }
    }
    Ok(out)
}

/// The values of `outputs`: `[batch, elements]` where they depend on the sample, else `[elements]`.
pub fn evaluate(
    graph: &Graph,
    outputs: &[NodeId],
    params: &[Vec<f32>],
    batch: &Batch<'_>,
) -> Result<Vec<Vec<f32>>, EngineError> {
    let mut evaluation = Evaluation::new(graph, outputs, params, batch);
    for id in graph.ids() {
        if evaluation.uses[id.index()] > 0 {
            evaluation.visit(id)?;
        }
    }
    Ok(outputs.iter().map(|&id| evaluation.values[id.index()].to_vec()).collect())
}

/// Whether an operation commutes with a sum over the batch.
fn is_linear(op: &Op) -> bool {
    matches!(
        op,
        Op::Add | Op::Sub | Op::Scale(_) | Op::Gather { .. } | Op::ScatterAdd { .. } | Op::Ascribe(_)
    )
}

struct Evaluation<'a> {
    graph: &'a Graph,
    params: &'a [Vec<f32>],
    batch: &'a Batch<'a>,
    values: Vec<Cow<'a, [f32]>>,
    /// Uses of a value that are still to come.
    uses: Vec<usize>,
    /// Whether only the sum over the batch of a per-sample value is wanted: then no more is ever held.
    summed: Vec<bool>,
}

impl<'a> Evaluation<'a> {
    fn new(graph: &'a Graph, outputs: &[NodeId], params: &'a [Vec<f32>], batch: &'a Batch<'a>) -> Self {
        let needed = graph.reachable(outputs);
        let mut uses = vec![0; graph.len()];
        let mut summed = vec![false; graph.len()];
        for &id in outputs {
            uses[id.index()] += 1;
        }
        for id in graph.ids().rev().filter(|id| needed[id.index()]) {
            let node = graph.node(id);
            // The sum over the batch of these is had without the values of the samples.
            let summable =
                is_linear(&node.op) || matches!(node.op, Op::Contract { .. } | Op::ConvKernelGrad(_));
            let sums = |user: &NodeId| {
                let op = &graph.node(*user).op;
                matches!(op, Op::BatchSum) || summed[user.index()] && is_linear(op)
            };
            summed[id.index()] = summable
                && node.per_sample
                && !outputs.contains(&id)
                && graph.users(id).iter().filter(|user| needed[user.index()]).all(sums);
            for operand in graph.operands(id) {
                uses[operand.index()] += 1;
            }
        }
        Self { graph, params, batch, values: vec![Cow::default(); graph.len()], uses, summed }
    }

    fn visit(&mut self, id: NodeId) -> Result<(), EngineError> {
        let operands = self.graph.operands(id);
        self.values[id.index()] = self.value(id, &operands)?;
        for operand in operands {
            self.uses[operand.index()] -= 1;
            if self.uses[operand.index()] == 0 {
                self.values[operand.index()] = Cow::default();
            }
        }
        Ok(())
    }

    /// Whether a value is held for each sample.
    fn sampled(&self, id: NodeId) -> bool {
        self.graph.node(id).per_sample && !self.summed[id.index()]
    }

    /// The value of an operand as `user` wants it: summed over the batch if `user` is.
    fn operand(&self, user: NodeId, operand: NodeId) -> Cow<'_, [f32]> {
        let value = &*self.values[operand.index()];
        if !self.summed[user.index()] || self.summed[operand.index()] {
            return Cow::Borrowed(value);
        }
        if self.graph.node(operand).per_sample {
            Cow::Owned(sum_over(value, self.graph.node(operand).elements()))
        } else {
            Cow::Owned(value.iter().map(|v| v * self.batch.size as f32).collect())
        }
    }

    /// The value of an operand with as many rows as `user` has, to be changed in place; not copied at its last use.
    fn taken(&mut self, user: NodeId, operand: NodeId) -> Vec<f32> {
        let rows = self.rows(user);
        if self.summed[user.index()] == self.summed[operand.index()]
            && self.rows(operand) == rows
            && self.uses[operand.index()] == 1
        {
            return std::mem::take(&mut self.values[operand.index()]).into_owned();
        }
        let value = self.operand(user, operand);
        if value.len() == rows * self.graph.node(operand).elements() {
            value.into_owned()
        } else {
            value.repeat(rows)
        }
    }

    /// Copies of the result that `id` holds: one, or one for each sample.
    fn rows(&self, id: NodeId) -> usize {
        if self.sampled(id) { self.batch.size } else { 1 }
    }

    fn value(&mut self, id: NodeId, operands: &[NodeId]) -> Result<Cow<'a, [f32]>, EngineError> {
        let graph = self.graph;
        let node = graph.node(id);
        let elements = node.elements();
        let (batch, params) = (self.batch, self.params);
        let values = match &node.op {
            Op::Input => {
                return self.given("features", batch.features, elements * batch.size, &node.shape);
            }
            Op::Label => return self.given("labels", batch.labels, elements * batch.size, &node.shape),
            Op::Argument(name) => {
                let values = batch.arguments.and_then(|all| all.get(&id)).ok_or_else(|| {
                    EngineError::Failed(format!("the argument `{name}` has no value: give it one"))
                })?;
                return self.given(name, values, elements, &node.shape);
            }
            Op::Param(param) => {
                let values = params.get(param.0 as usize).map_or(&[][..], Vec::as_slice);
                return self.given(&graph.param_info(*param).name, values, elements, &node.shape);
            }
            Op::Const(Constant::Uniform(value)) => vec![*value as f32; elements],
            Op::Const(Constant::Tensor(values)) => values.iter().map(|&v| v as f32).collect(),
            Op::Contract { left, right, out } => self.contract(id, operands, [left, right, out]),
            Op::Conv(geometry) => {
                let [image, kernel] = self.images(operands);
                conv::forward(geometry, self.rows(id), image, kernel)
            }
            Op::ConvImageGrad(geometry) => {
                let [gradient, kernel] = self.images(operands);
                conv::image_gradient(geometry, self.rows(id), gradient, kernel)
            }
            Op::ConvKernelGrad(geometry) => {
                let [image, gradient] = self.images(operands);
                let samples = if node.per_sample { batch.size } else { 1 };
                conv::kernel_gradient(geometry, samples, image, gradient, self.summed[id.index()])
            }
            Op::Add => self.zipped(id, operands, |a, b| a + b),
            Op::Sub => self.zipped(id, operands, |a, b| a - b),
            Op::Mul => self.zipped(id, operands, |a, b| a * b),
            Op::Scale(c) => self.mapped(id, operands[0], |v| v * *c as f32),
            Op::Offset(c) => self.mapped(id, operands[0], |v| v + *c as f32),
            Op::Lut(function) => {
                let table = Compiled::new(&function.expr);
                let mut values = self.taken(id, operands[0]);
                values
                    .par_chunks_mut(PIECE)
                    .for_each(|piece| table.apply(piece, f64::from, |value| value as f32));
                values
            }
            Op::Refresh | Op::Ascribe(_) => self.taken(id, operands[0]),
            Op::Gather { map, .. } => self.gather(id, operands, map),
            Op::ScatterAdd { map, .. } => {
                let value = self.operand(id, operands[0]);
                let size = graph.node(operands[0]).elements();
                let mut result = vec![0.0; self.rows(id) * elements];
                for_each_row(&mut result, elements, |row, to| {
                    for (&at, v) in map.iter().zip(row_of(&value, row, size)) {
                        if at != NONE {
                            to[at as usize] += v;
                        }
                    }
                });
                result
            }
            Op::BatchSum => {
                let (value, operand) = (&self.values[operands[0].index()], operands[0]);
                match (graph.node(operand).per_sample, self.summed[operand.index()]) {
                    (_, true) => value.to_vec(),
                    (true, false) => sum_over(value, elements),
                    (false, false) => value.iter().map(|v| v * batch.size as f32).collect(),
                }
            }
        };
        Ok(Cow::Owned(values))
    }

    fn given(
        &self,
        name: &str,
        values: &'a [f32],
        needed: usize,
        shape: &[usize],
    ) -> Result<Cow<'a, [f32]>, EngineError> {
        if values.len() == needed {
            return Ok(Cow::Borrowed(values));
        }
        Err(EngineError::Failed(format!(
            "`{name}` holds {} numbers, but {needed} are needed (shape {}, batch of {})",
            values.len(),
            show_shape(shape),
            self.batch.size
        )))
    }

    fn mapped(&mut self, id: NodeId, operand: NodeId, f: impl Fn(f32) -> f32 + Sync) -> Vec<f32> {
        let mut values = self.taken(id, operand);
        values.par_chunks_mut(PIECE).for_each(|piece| piece.iter_mut().for_each(|v| *v = f(*v)));
        values
    }

    fn zipped(&mut self, id: NodeId, operands: &[NodeId], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
        let elements = self.graph.node(id).elements();
        let mut values = self.taken(id, operands[0]);
        let other = self.operand(id, operands[1]);
        for_each_row(&mut values, elements, |row, own| {
            own.iter_mut().zip(row_of(&other, row, elements)).for_each(|(a, &b)| *a = f(*a, b));
        });
        values
    }

    fn gather(&mut self, id: NodeId, operands: &[NodeId], map: &[u32]) -> Vec<f32> {
        let size = |operand: NodeId| self.graph.node(operand).elements();
        let keeps_order = || map.iter().enumerate().all(|(i, &at)| i == at as usize);
        if let [operand] = *operands
            && size(operand) == map.len()
            && keeps_order()
        {
            return self.taken(id, operand);
        }
        let parts: Vec<(Cow<'_, [f32]>, usize)> =
            operands.iter().map(|&operand| (self.operand(id, operand), size(operand))).collect();
        let mut result = vec![0.0; self.rows(id) * map.len()];
        let pick = |out: &mut [f32], from: &[f32]| {
            // There is no element at NONE.
            let value = |at: u32| from.get(at as usize).copied().unwrap_or(0.0);
            out.iter_mut().zip(map).for_each(|(out, &at)| *out = value(at));
        };
        for_each_row(&mut result, map.len(), |row, out| match parts.as_slice() {
            [(value, size)] => pick(out, row_of(value, row, *size)),
            parts => {
                let rows: Vec<&[f32]> = parts.iter().map(|(value, size)| row_of(value, row, *size)).collect();
                pick(out, &rows.concat());
            }
        });
        result
    }

    fn contract(&self, id: NodeId, operands: &[NodeId], [left, right, out]: [&[u8]; 3]) -> Vec<f32> {
        let labelled = |operand: NodeId, labels: &[u8]| {
            let mut axes = Vec::new();
            if self.sampled(operand) {
                axes.push((SAMPLE, self.batch.size));
            }
            axes.extend(labels.iter().copied().zip(self.graph.node(operand).shape.iter().copied()));
            // A sum over the batch of a product is no product of sums: the operands come as they are held.
            Labelled { data: Cow::Borrowed(&*self.values[operand.index()]), axes }
        };
        let mut result_axes = Vec::new();
        if self.sampled(id) {
            result_axes.push(SAMPLE);
        }
        result_axes.extend(out);
        contract(labelled(operands[0], left), labelled(operands[1], right), &result_axes)
    }

    /// Both operands of an operation on images.
    fn images(&self, operands: &[NodeId]) -> [Rows<'_, f32>; 2] {
        [0, 1].map(|k| {
            let (value, id) = (&*self.values[operands[k].index()], operands[k]);
            if self.sampled(id) {
                Rows::each(value, self.graph.node(id).elements())
            } else {
                Rows::shared(value)
            }
        })
    }
}

/// Row `row` of a value that has one for each sample, or the only one.
fn row_of(value: &[f32], row: usize, elements: usize) -> &[f32] {
    if value.len() == elements { value } else { &value[row * elements..][..elements] }
}

fn sum_over(value: &[f32], elements: usize) -> Vec<f32> {
    let mut sum = vec![0.0; elements];
    for row in value.chunks(elements.max(1)) {
        sum.iter_mut().zip(row).for_each(|(s, v)| *s += v);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Origin, ScalarExpr, ScalarFn};
    use crate::interp::Unwatched;

    fn features(samples: usize) -> Vec<f32> {
        (0..samples * 3).map(|i| (i as f32 * 0.7).sin()).collect()
    }

    /// `x·x` of three features, and a shared constant.
    fn squares() -> (Graph, NodeId) {
        let (mut graph, origin) = (Graph::default(), Origin::default());
        let x = graph.input(&[3], &origin).unwrap();
        let product = graph.matmul(x, x, &origin).unwrap();
        (graph, product)
    }

    #[test]
    fn predictions_do_not_depend_on_how_samples_are_grouped() {
        let (graph, product) = squares();
        let samples = 2 * CHUNK + 17;
        let features = features(samples);
        let batch = Batch { size: samples, features: &features, labels: &[], arguments: None, index: 0 };
        let together = evaluate(&graph, &[product], &[], &batch).unwrap();
        assert_eq!(predict(&graph, &[product], &[], &batch).unwrap(), together);
        assert_eq!(together[0].len(), samples);
    }

    #[test]
    fn too_few_numbers_are_an_error_and_no_panic() {
        let (graph, product) = squares();
        let features = features(2);
        let batch = Batch { size: 3, features: &features, labels: &[], arguments: None, index: 0 };
        let error = evaluate(&graph, &[product], &[], &batch).unwrap_err().to_string();
        assert_eq!(error, "`features` holds 6 numbers, but 9 are needed (shape [3], batch of 3)");
    }

    #[test]
    fn a_step_that_diverges_says_so() {
        let origin = Origin::default();
        let mut graph = Graph::default();
        let info = crate::graph::ParamInfo {
            name: "w".into(),
            shape: vec![3],
            init: crate::graph::Init::Constant(0.0),
            fan_in: 3,
            range: None,
            span: crate::diagnostics::Span::new(crate::diagnostics::FileId(0), 0, 0),
        };
        let (x, w) = (graph.input(&[3], &origin).unwrap(), graph.param(info, &origin).unwrap());
        let z = graph.matmul(x, w, &origin).unwrap();
        let inverse =
            ScalarFn { name: "log".into(), expr: ScalarExpr::Const(1.0).div(ScalarExpr::Z), grad: None };
        let loss = graph.lut(z, inverse, &origin).unwrap();
        let mut engine = ClearEngine::for_loss(&graph, loss, 0.5, vec![vec![0.0; 3]]).unwrap();
        let features = features(2);
        let batch = Batch { size: 2, features: &features, labels: &[], arguments: None, index: 0 };
        let error = engine.step(&batch, &Unwatched).unwrap_err().to_string();
        assert!(error.contains("diverges: `w`"), "{error}");
    }
}
