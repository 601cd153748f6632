//! Levels and ranges of a task's graph, as the plan needs them.

use std::collections::HashMap;

use crate::diagnostics::Diagnostic;
use crate::graph::{Graph, NodeId, Op, ParamId};
use crate::he::params::Profile;
use crate::typeck::levels::{self, LevelOptions, Typing};

use super::initial::Architecture;
use super::lower::RangeOf;

/// What the checker found.
pub struct Checked {
    pub ranges: RangeTable,
    pub typing: Typing,
}

/// Ranges by node and parameter.
pub struct RangeTable {
    sites: HashMap<NodeId, f64>,
    params: Vec<f64>,
    /// Where nothing else is known.
    default: f64,
}

impl RangeOf for RangeTable {
    fn site(&self, node: NodeId) -> f64 {
        self.sites.get(&node).copied().unwrap_or(self.default)
    }

    fn param(&self, param: ParamId) -> f64 {
        self.params.get(param.index()).copied().unwrap_or(2.0)
    }
}

pub fn check_training(
    graph: &Graph,
    gradients: &[NodeId],
    architecture: &Architecture,
    profile: Option<&Profile>,
    strict: bool,
) -> Result<Checked, Vec<Diagnostic>> {
    let typing = levels::solve(graph, gradients, &LevelOptions::from_table(true, profile.map(|p| p.name)))?;
    let _ = strict;
    let mut sites = HashMap::new();
    for id in graph.ids() {
        let node = graph.node(id);
        let range = if node.origin.derivative { 1.0 } else { 16.0 };
        sites.insert(id, range);
        if let Op::Ascribe(written) = &node.op
            && let Some((low, high)) = written.range
        {
            let range = low.abs().max(high.abs()).log2().ceil().exp2();
            sites.insert(id, range);
            sites.insert(graph.operands(id)[0], range);
        }
    }
    let params = graph
        .params()
        .iter()
        .zip(&architecture.last)
        .map(|(info, &last)| {
            let he = (6.0 * (2.0 / info.fan_in.max(1) as f64).sqrt()).log2().ceil().exp2();
            if architecture.linear {
                2.0
            } else if last {
                2.0 * he
            } else {
                he
            }
        })
        .collect();
    Ok(Checked { ranges: RangeTable { sites, params, default: 16.0 }, typing })
}

pub fn check_function(
    graph: &Graph,
    outputs: &[NodeId],
    profile: Option<&Profile>,
) -> Result<Checked, Vec<Diagnostic>> {
    let typing = levels::solve(graph, outputs, &LevelOptions::from_table(false, profile.map(|p| p.name)))?;
    let mut sites = HashMap::new();
    for id in graph.ids() {
        if let Op::Ascribe(written) = &graph.node(id).op
            && let Some((low, high)) = written.range
        {
            let range = low.abs().max(high.abs()).log2().ceil().exp2();
            sites.insert(id, range);
            sites.insert(graph.operands(id)[0], range);
        }
    }
    Ok(Checked { ranges: RangeTable { sites, params: Vec::new(), default: 16.0 }, typing })
}
