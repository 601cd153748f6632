//! Public initial weights, from the architecture and a seed.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::graph::{Graph, Init, NodeId, Op, ParamInfo, elements};

/// What of a model decides how its parameters start and how large they grow.
#[derive(Clone, Debug)]
pub struct Architecture {
    /// No function lies between the features and the result.
    pub linear: bool,
    /// By parameter: whether it reaches the result without a function in between.
    pub last: Vec<bool>,
}

impl Architecture {
    pub fn of(graph: &Graph, result: NodeId) -> Self {
        let needed = graph.reachable(&[result]);
        let is_table = |id: NodeId| matches!(graph.node(id).op, Op::Lut(_));
        let linear = !graph.ids().any(|id| needed[id.index()] && is_table(id));
        let mut last = vec![false; graph.params().len()];
        let mut seen = vec![false; graph.len()];
        let mut stack = vec![result];
        while let Some(id) = stack.pop() {
            if std::mem::replace(&mut seen[id.index()], true) || is_table(id) {
                continue;
            }
            if let Op::Param(param) = graph.node(id).op {
                last[param.index()] = true;
            }
            stack.extend(graph.operands(id));
        }
        Self { linear, last }
    }

    /// Initial values of all parameters: He's normal distribution, halved in the last layer, zero in a linear model.
    pub fn initial(&self, graph: &Graph, seed: u64) -> Vec<Vec<f32>> {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        graph
            .params()
            .iter()
            .zip(&self.last)
            .map(|(info, &last)| {
                let mut out = Vec::with_capacity(elements(&info.shape));
                let scale = if self.linear {
                    0.0
                } else if last {
                    0.5
                } else {
                    1.0
                };
                draw(info, scale, &mut rng, &mut out);
                out
            })
            .collect()
    }
}

fn draw(info: &ParamInfo, he_scale: f64, rng: &mut ChaCha20Rng, out: &mut Vec<f32>) {
    let count = elements(&info.shape);
    let mut normal = |deviation: f64, rng: &mut ChaCha20Rng| {
        out.extend((0..count).map(|_| {
            let sample: f64 = StandardNormal.sample(rng);
            (deviation * sample) as f32
        }));
    };
    match &info.init {
        Init::HeNormal => normal(he_scale * (2.0 / info.fan_in.max(1) as f64).sqrt(), rng),
        Init::Normal(deviation) => normal(*deviation, rng),
        Init::Constant(value) => out.extend(std::iter::repeat_n(*value as f32, count)),
        Init::Uniform(low, high) => {
            out.extend((0..count).map(|_| (low + (high - low) * rng.random::<f64>()) as f32))
        }
        Init::Given(values) => out.extend_from_slice(values),
        Init::Stacked(parts) => parts.iter().for_each(|part| draw(part, he_scale, rng, out)),
    }
}
