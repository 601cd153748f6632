//! The reference: a graph evaluated in the clear, in f32.
//!
//! In: a graph, a batch of samples, parameter values. Out: the values of the wanted nodes. Values that depend on the
//! sample are `[batch, elements]`, shared ones `[elements]`, row-major; a value is dropped after its last use.

use std::borrow::Cow;

use super::gemm::{Labelled, contract, multiply_add};
use super::{Batch, Engine, EngineError, Watch};
use crate::graph::{Constant, ConvGeometry, Graph, NONE, NodeId, Op, ParamId, ShapeError, show_shape};
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

    fn begin_epoch(&mut self, epoch: usize) -> Result<(), EngineError> {
        self.multiple = self.optimizer.multiple(epoch);
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
    Ok(outputs.iter().map(|&id| evaluation.values[id.index()].clone()).collect())
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
    values: Vec<Vec<f32>>,
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
        Self { graph, params, batch, values: vec![Vec::new(); graph.len()], uses, summed }
    }

    fn visit(&mut self, id: NodeId) -> Result<(), EngineError> {
        let operands = self.graph.operands(id);
        let value = self.value(id, &operands)?;
        self.values[id.index()] = value;
        for operand in operands {
            self.uses[operand.index()] -= 1;
            if self.uses[operand.index()] == 0 {
                self.values[operand.index()] = Vec::new();
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
        let value = self.values[operand.index()].as_slice();
        if !self.summed[user.index()] || self.summed[operand.index()] {
            return Cow::Borrowed(value);
        }
        if self.graph.node(operand).per_sample {
            Cow::Owned(sum_over(value, self.graph.node(operand).elements()))
        } else {
            Cow::Owned(value.iter().map(|v| v * self.batch.size as f32).collect())
        }
    }

    /// Copies of the result that `id` holds: one, or one for each sample.
    fn rows(&self, id: NodeId) -> usize {
        if self.sampled(id) { self.batch.size } else { 1 }
    }

    fn value(&self, id: NodeId, operands: &[NodeId]) -> Result<Vec<f32>, EngineError> {
        let node = self.graph.node(id);
        let elements = node.elements();
        let of = |k: usize| self.operand(id, operands[k]);
        let mapped = |f: &dyn Fn(f32) -> f32| of(0).iter().map(|&v| f(v)).collect();
        Ok(match &node.op {
            Op::Input => {
                self.given("features", self.batch.features, elements * self.batch.size, &node.shape)?
            }
            Op::Label => self.given("labels", self.batch.labels, elements * self.batch.size, &node.shape)?,
            Op::Argument(name) => {
                let values = self.batch.arguments.and_then(|all| all.get(&id)).ok_or_else(|| {
                    EngineError::Failed(format!("the argument `{name}` has no value: give it one"))
                })?;
                self.given(name, values, elements, &node.shape)?
            }
            Op::Param(param) => {
                let info = self.graph.param_info(*param);
                let values = self.params.get(param.0 as usize).map_or(&[][..], Vec::as_slice);
                self.given(&info.name, values, elements, &node.shape)?
            }
            Op::Const(Constant::Uniform(value)) => vec![*value as f32; elements],
            Op::Const(Constant::Tensor(values)) => values.iter().map(|&v| v as f32).collect(),
            Op::Contract { left, right, out } => self.contract(id, operands, [left, right, out]),
            Op::Conv(geometry) => self.conv(id, operands, geometry),
            Op::ConvImageGrad(geometry) => self.conv_image_grad(id, operands, geometry),
            Op::ConvKernelGrad(geometry) => self.conv_kernel_grad(id, operands, geometry),
            Op::Add => self.zipped(id, operands, |a, b| a + b),
            Op::Sub => self.zipped(id, operands, |a, b| a - b),
            Op::Mul => self.zipped(id, operands, |a, b| a * b),
            Op::Scale(c) => mapped(&|v| v * *c as f32),
            Op::Offset(c) => mapped(&|v| v + *c as f32),
            Op::Lut(function) => mapped(&|v| function.expr.eval(f64::from(v)) as f32),
            Op::Refresh | Op::Ascribe(_) => of(0).into_owned(),
            Op::Gather { map, .. } => self.gather(id, operands, map),
            Op::ScatterAdd { map, .. } => {
                let value = of(0);
                let size = self.graph.node(operands[0]).elements();
                let mut result = vec![0.0; self.rows(id) * elements];
                for (to, from) in rows_mut(&mut result, elements).zip(rows(&value, size)) {
                    for (&at, v) in map.iter().zip(from) {
                        if at != NONE {
                            to[at as usize] += v;
                        }
                    }
                }
                result
            }
            Op::BatchSum => {
                let (value, operand) = (&self.values[operands[0].index()], operands[0]);
                match (self.graph.node(operand).per_sample, self.summed[operand.index()]) {
                    (_, true) => value.clone(),
                    (true, false) => sum_over(value, elements),
                    (false, false) => value.iter().map(|v| v * self.batch.size as f32).collect(),
                }
            }
        })
    }

    fn given(
        &self,
        name: &str,
        values: &[f32],
        needed: usize,
        shape: &[usize],
    ) -> Result<Vec<f32>, EngineError> {
        if values.len() == needed {
            return Ok(values.to_vec());
        }
        Err(EngineError::Failed(format!(
            "`{name}` holds {} numbers, but {needed} are needed (shape {}, batch of {})",
            values.len(),
            show_shape(shape),
            self.batch.size
        )))
    }

    fn zipped(&self, id: NodeId, operands: &[NodeId], f: impl Fn(f32, f32) -> f32) -> Vec<f32> {
        let (a, b) = (self.operand(id, operands[0]), self.operand(id, operands[1]));
        let elements = self.graph.node(id).elements();
        let mut result = Vec::with_capacity(self.rows(id) * elements);
        for row in 0..self.rows(id) {
            let (a, b) = (row_of(&a, row, elements), row_of(&b, row, elements));
            result.extend(a.iter().zip(b).map(|(&a, &b)| f(a, b)));
        }
        result
    }

    fn gather(&self, id: NodeId, operands: &[NodeId], map: &[u32]) -> Vec<f32> {
        let parts: Vec<(Cow<'_, [f32]>, usize)> = operands
            .iter()
            .map(|&operand| (self.operand(id, operand), self.graph.node(operand).elements()))
            .collect();
        let mut places = Vec::new();
        for (k, (_, size)) in parts.iter().enumerate() {
            places.extend((0..*size).map(|i| (k, i)));
        }
        let mut result = Vec::with_capacity(self.rows(id) * map.len());
        for row in 0..self.rows(id) {
            let rows: Vec<&[f32]> = parts.iter().map(|(value, size)| row_of(value, row, *size)).collect();
            result.extend(map.iter().map(|&at| match at {
                NONE => 0.0,
                at => {
                    let (k, i) = places[at as usize];
                    rows[k][i]
                }
            }));
        }
        result
    }

    fn contract(&self, id: NodeId, operands: &[NodeId], [left, right, out]: [&[u8]; 3]) -> Vec<f32> {
        let mut labelled = [(operands[0], left), (operands[1], right)].map(|(operand, labels)| {
            let mut axes = Vec::new();
            if self.sampled(operand) {
                axes.push((SAMPLE, self.batch.size));
            }
            axes.extend(labels.iter().copied().zip(self.graph.node(operand).shape.iter().copied()));
            // A sum over the batch of a product is no product of sums: the operands come as they are held.
            Labelled { data: Cow::Borrowed(self.values[operand.index()].as_slice()), axes }
        });
        let mut result_axes = Vec::new();
        if self.sampled(id) {
            result_axes.push(SAMPLE);
        }
        result_axes.extend(out);
        let [left, right] = &mut labelled;
        let empty = || Labelled { data: Cow::Borrowed(&[]), axes: Vec::new() };
        contract(std::mem::replace(left, empty()), std::mem::replace(right, empty()), &result_axes)
    }

    /// Both operands of an operation on images, sample by sample.
    fn each_sample<'b>(
        &'b self,
        id: NodeId,
        operands: &'b [NodeId],
    ) -> impl Iterator<Item = (usize, &'b [f32], &'b [f32])> + 'b {
        let of =
            |k: usize| (self.values[operands[k].index()].as_slice(), self.graph.node(operands[k]).elements());
        let ((a, a_size), (b, b_size)) = (of(0), of(1));
        let samples = if self.graph.node(id).per_sample { self.batch.size } else { 1 };
        (0..samples).map(move |row| (row, row_of(a, row, a_size), row_of(b, row, b_size)))
    }

    fn conv(&self, id: NodeId, operands: &[NodeId], geometry: &ConvGeometry) -> Vec<f32> {
        let elements = self.graph.node(id).elements();
        let mut result = vec![0.0; self.rows(id) * elements];
        let [oh, ow] = geometry.output();
        for (row, image, kernel) in self.each_sample(id, operands) {
            let columns = unfolded(image, geometry);
            let out = &mut result[row * elements..][..elements];
            multiply_add(out, kernel, &columns, taps(geometry), oh * ow);
        }
        result
    }

    /// Operands: the gradient of the result, the kernel.
    fn conv_image_grad(&self, id: NodeId, operands: &[NodeId], geometry: &ConvGeometry) -> Vec<f32> {
        let elements = self.graph.node(id).elements();
        let mut result = vec![0.0; self.rows(id) * elements];
        let [oh, ow] = geometry.output();
        let filters = geometry.kernel[0];
        for (row, gradient, kernel) in self.each_sample(id, operands) {
            let turned = transposed(kernel, filters, taps(geometry));
            let mut columns = vec![0.0; taps(geometry) * oh * ow];
            multiply_add(&mut columns, &turned, gradient, filters, oh * ow);
            fold_onto(&mut result[row * elements..][..elements], &columns, geometry);
        }
        result
    }

    /// Operands: the image, the gradient of the result.
    fn conv_kernel_grad(&self, id: NodeId, operands: &[NodeId], geometry: &ConvGeometry) -> Vec<f32> {
        let elements = self.graph.node(id).elements();
        let mut result = vec![0.0; self.rows(id) * elements];
        let [oh, ow] = geometry.output();
        for (row, image, gradient) in self.each_sample(id, operands) {
            let columns = transposed(&unfolded(image, geometry), taps(geometry), oh * ow);
            let out = &mut result[if self.sampled(id) { row * elements } else { 0 }..][..elements];
            multiply_add(out, gradient, &columns, oh * ow, taps(geometry));
        }
        result
    }
}

/// Row `row` of a value that has one for each sample, or the only one.
fn row_of(value: &[f32], row: usize, elements: usize) -> &[f32] {
    if value.len() == elements { value } else { &value[row * elements..][..elements] }
}

fn rows(value: &[f32], elements: usize) -> std::slice::Chunks<'_, f32> {
    value.chunks(elements.max(1))
}

fn rows_mut(value: &mut [f32], elements: usize) -> std::slice::ChunksMut<'_, f32> {
    value.chunks_mut(elements.max(1))
}

fn sum_over(value: &[f32], elements: usize) -> Vec<f32> {
    let mut sum = vec![0.0; elements];
    for row in rows(value, elements) {
        sum.iter_mut().zip(row).for_each(|(s, v)| *s += v);
    }
    sum
}

/// Numbers of an image that one output of a convolution reads.
fn taps(geometry: &ConvGeometry) -> usize {
    geometry.kernel[1..].iter().product()
}

/// Calls `f(row of the unfolded image, position in the result, position in the image)` for every tap that lies inside.
fn for_each_tap(geometry: &ConvGeometry, mut f: impl FnMut(usize, usize, usize)) {
    let [channels, height, width] = geometry.image;
    let [_, _, kh, kw] = geometry.kernel;
    let [oh, ow] = geometry.output();
    let inside = |out: usize, tap: usize, pad: usize, size: usize| {
        (out * geometry.stride + tap).checked_sub(pad).filter(|&at| at < size)
    };
    for c in 0..channels {
        for u in 0..kh {
            for v in 0..kw {
                let tap = (c * kh + u) * kw + v;
                for r in 0..oh {
                    let Some(y) = inside(r, u, geometry.pad[0], height) else { continue };
                    for s in 0..ow {
                        let Some(x) = inside(s, v, geometry.pad[2], width) else { continue };
                        f(tap, r * ow + s, (c * height + y) * width + x);
                    }
                }
            }
        }
    }
}

/// `[taps, outputs]`: a convolution is the kernel times this.
fn unfolded(image: &[f32], geometry: &ConvGeometry) -> Vec<f32> {
    let outputs = geometry.output().iter().product::<usize>();
    let mut columns = vec![0.0; taps(geometry) * outputs];
    for_each_tap(geometry, |tap, out, at| columns[tap * outputs + out] = image[at]);
    columns
}

/// The adjoint of [`unfolded`].
fn fold_onto(image: &mut [f32], columns: &[f32], geometry: &ConvGeometry) {
    let outputs = geometry.output().iter().product::<usize>();
    for_each_tap(geometry, |tap, out, at| image[at] += columns[tap * outputs + out]);
}

fn transposed(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(matrix.len());
    for c in 0..columns {
        out.extend((0..rows).map(|r| matrix[r * columns + c]));
    }
    out
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
