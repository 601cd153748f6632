//! Diagnostics about schemes and levels: E0301 to E0305.

use super::constraints::{Bound, Conflict, Why};
use super::{Alignment, Depth, Family, LevelOptions, ValueType, is_product};
use crate::diagnostics::{Diagnostic, Label, Span};
use crate::graph::{Graph, NodeId, Op, Scheme, Written};

/// Adds a label unless it is there already.
fn label(diagnostic: &mut Diagnostic, span: Span, text: String) {
    let label = Label { span, text };
    if !diagnostic.labels.contains(&label) {
        diagnostic.labels.push(label);
    }
}

/// Labels a node: the innermost line of the user's own file, then the line of the library that it stands on.
pub(in crate::typeck) fn label_node(diagnostic: &mut Diagnostic, graph: &Graph, id: NodeId, text: &str) {
    let origin = &graph.node(id).origin;
    let text = if origin.derivative { format!("in the derivative of this: {text}") } else { text.to_owned() };
    let (Some(inner), Some(own)) = (origin.spans.first(), origin.user()) else { return };
    label(diagnostic, own, text);
    if inner.file != own.file {
        label(diagnostic, *inner, format!("which is this `{}`", graph.node(id).op.name()));
    }
}

fn written(graph: &Graph, id: NodeId) -> Option<&Written> {
    match &graph.node(id).op {
        Op::Ascribe(written) => Some(written),
        _ => None,
    }
}

/// What a label says of a written type.
fn fixes(written: &Written) -> String {
    match written.level {
        Some(level) if level.variable.is_none() => format!("level {} is written here", level.offset),
        _ => "a level is written here".to_owned(),
    }
}

/// Products in a row on the way from one value to another, within one scheme.
fn products_between(graph: &Graph, from: NodeId, to: NodeId) -> i32 {
    let mut count: Vec<Option<i32>> = vec![None; graph.len()];
    count[from.index()] = Some(0);
    for id in graph.ids().skip(from.index() + 1).take_while(|id| *id <= to) {
        let longest = graph.operands(id).iter().filter_map(|o| count[o.index()]).max();
        count[id.index()] = match &graph.node(id).op {
            Op::Lut(_) | Op::Refresh | Op::Mul => None,
            op => longest.map(|n| n + i32::from(is_product(op))),
        };
    }
    count[to.index()].unwrap_or(0)
}

fn plural(count: i32, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// How precisely `refresh` reads.
fn refreshed(family: Family) -> &'static str {
    match family {
        Family::Tfhe => "keeps about 7 bits",
        Family::Ckks => "keeps about 12 bits",
    }
}

fn more_levels(family: Family) -> String {
    format!(
        "put `refresh(…)` around the value before it ({}), or a function: what comes out of a look-up table has its \
         levels back",
        refreshed(family)
    )
}

/// Products of a long chain that are shown.
const MAX_LABELS: usize = 8;

/// Labels products in the order in which data flows through them: each spends one of `levels`.
fn label_spent(diagnostic: &mut Diagnostic, graph: &Graph, products: &[NodeId], levels: i32) {
    let text = |i: i32| match levels - i {
        0 => "no level is left for this product".to_owned(),
        left if left < 0 => "nor for this one".to_owned(),
        left => format!("level {left} → {} spent here", left - 1),
    };
    // The product that fails comes first: it is the mistake.
    let mut order: Vec<usize> = (0..products.len().min(levels.max(0) as usize + MAX_LABELS)).collect();
    order.sort_by_key(|&i| i as i32 != levels);
    for i in order {
        label_node(diagnostic, graph, products[i], &text(i as i32));
    }
}

/// E0301: more products in a row than any profile has levels for. `chain` holds them as data flows.
pub(super) fn too_deep(
    graph: &Graph,
    chain: &[NodeId],
    fixed_by: Option<NodeId>,
    depth: u32,
    allowed: &Depth,
    options: &LevelOptions,
) -> Diagnostic {
    let LevelOptions { family, others, .. } = options;
    let message = match family {
        Family::Tfhe => format!(
            "level exhausted: this needs {depth} levels, the {}profile `{}` has {}",
            if others.is_empty() { "deepest " } else { "" },
            allowed.profile,
            allowed.levels
        ),
        Family::Ckks => {
            format!("level exhausted: this needs {depth} levels, the scheme `ckks` has {}", allowed.levels)
        }
    };
    let mut diagnostic = Diagnostic::error("E0301", message);
    label_spent(&mut diagnostic, graph, chain, allowed.levels as i32);
    if let Some(written) = fixed_by.and_then(|id| written(graph, id)) {
        label(&mut diagnostic, written.span, fixes(written));
    }
    let deeper = others.iter().find(|other| other.levels >= depth as usize);
    diagnostic.help(match deeper {
        Some(other) => format!(
            "{}; or take `{}--profile {}`, which has {} levels (a ring of twice the degree: a product takes \
             about ten times as long)",
            more_levels(*family),
            if *family == Family::Ckks { "--scheme tfhe " } else { "" },
            other.profile,
            other.levels
        ),
        None => more_levels(*family),
    })
}

/// E0301, E0302 or E0303: constraints that contradict one another.
pub(super) fn conflict(graph: &Graph, family: Family, conflict: &Conflict) -> Diagnostic {
    let bounds = &conflict.bounds;
    let looped = bounds.iter().find_map(|bound| match bound.why {
        Why::Loop(index) => graph.loops.get(index),
        _ => None,
    });
    if let Some(state) = looped {
        return loses_type(graph, family, state, bounds);
    }
    match (bounds.first(), bounds.last()) {
        (Some(Bound { why: Why::Floor, .. }), Some(Bound { why: Why::Written(id), gap }))
            if spent(bounds).next().is_some() =>
        {
            exhausted(graph, family, *id, -gap, bounds)
        }
        _ => mismatch(graph, bounds),
    }
}

/// Products that spend a level, against the flow of data.
fn spent(bounds: &[Bound]) -> impl DoubleEndedIterator<Item = NodeId> {
    bounds.iter().filter_map(|bound| match bound.why {
        Why::Product(id) if bound.gap > 0 => Some(id),
        _ => None,
    })
}

/// E0303
fn loses_type(
    graph: &Graph,
    family: Family,
    state: &crate::graph::LoopState,
    bounds: &[Bound],
) -> Diagnostic {
    let products: Vec<NodeId> = spent(bounds).rev().collect();
    let lost = products_between(graph, state.before, state.after);
    let name = &state.name;
    let message = if lost == 0 {
        format!("this loop does not keep the type of `{name}`")
    } else {
        format!("this loop does not keep the type of `{name}`: each time it loses {}", plural(lost, "level"))
    };
    let keyword = Span { end: state.span.end.min(state.span.start + 3), ..state.span };
    let mut diagnostic = Diagnostic::error("E0303", message)
        .label(keyword, format!("`{name}` must leave this loop with the type with which it enters"));
    for id in products.into_iter().take(MAX_LABELS) {
        label_node(&mut diagnostic, graph, id, "a level is spent here");
    }
    let named = bounds.iter().filter_map(|bound| match bound.why {
        Why::Written(id) => Some(id),
        _ => None,
    });
    for id in named.chain([state.before]) {
        if let Some(written) = written(graph, id).filter(|written| written.level.is_some()) {
            label(&mut diagnostic, written.span, fixes(written));
        }
    }
    diagnostic.help(format!(
        "give `{name}` its levels back at the end of the body, with `refresh(…)` ({}) or a function; or write \
         `unroll for`, which may change types",
        refreshed(family)
    ))
}

/// E0301 below a written level.
fn exhausted(graph: &Graph, family: Family, fixed: NodeId, levels: i32, bounds: &[Bound]) -> Diagnostic {
    let products: Vec<NodeId> = spent(bounds).rev().collect();
    let message = format!(
        "level exhausted: a value of level {levels} goes through {} in a row",
        plural(products.len() as i32, "product")
    );
    let mut diagnostic = Diagnostic::error("E0301", message);
    label_spent(&mut diagnostic, graph, &products, levels);
    if let Some(written) = written(graph, fixed) {
        label(&mut diagnostic, written.span, fixes(written));
    }
    diagnostic.help(format!("write level {} there, or {}", products.len(), more_levels(family)))
}

/// E0302
fn mismatch(graph: &Graph, bounds: &[Bound]) -> Diagnostic {
    let excess: i32 = bounds.iter().map(|bound| bound.gap).sum();
    // Two operands of one product: the levels on both of its sides, counted from where they are written.
    let meets = bounds.windows(2).position(|pair| match (pair[0].why, pair[1].why) {
        (Why::Product(a), Why::Product(b)) => a == b && pair[0].gap < 0 && pair[1].gap > 0,
        _ => false,
    });
    let fixed: Vec<(NodeId, i32)> = bounds
        .iter()
        .filter_map(|bound| match bound.why {
            Why::Written(id) => Some((id, bound.gap)),
            _ => None,
        })
        .collect();
    let mut diagnostic = match (meets, fixed.as_slice()) {
        (Some(at), _) => {
            let one: i32 = bounds[..at].iter().map(|bound| bound.gap).sum();
            let Why::Product(product) = bounds[at].why else {
                return Diagnostic::error("E0302", "level mismatch");
            };
            let message = format!(
                "level mismatch: the operands of this product have the levels {} and {}",
                (one - excess).min(one),
                (one - excess).max(one)
            );
            let mut diagnostic = Diagnostic::error("E0302", message);
            label_node(&mut diagnostic, graph, product, "both operands must have the same level");
            diagnostic
        }
        (None, [first, .., last]) => {
            // The one further down the flow of data is what the other does not reach.
            let downstream = if first.0 > last.0 { *first } else { *last };
            let (stands, has) =
                if downstream == *first { (first.1, first.1 - excess) } else { (-last.1, -last.1 + excess) };
            let message = format!("level mismatch: level {stands} is written, but the value has level {has}");
            let mut diagnostic = Diagnostic::error("E0302", message);
            if let Some(written) = written(graph, downstream.0) {
                label(&mut diagnostic, written.span, format!("level {stands} is written here"));
            }
            diagnostic
        }
        (None, _) => {
            let mut diagnostic = Diagnostic::error("E0302", "level mismatch: a written level cannot be met");
            if let Some(written) = fixed.first().and_then(|(id, _)| written(graph, *id)) {
                label(&mut diagnostic, written.span, "this level".to_owned());
            }
            diagnostic
        }
    };
    for (id, _) in fixed {
        if let Some(written) = written(graph, id)
            && diagnostic.labels.iter().all(|known| known.span != written.span)
        {
            label(&mut diagnostic, written.span, fixes(written));
        }
    }
    let products: Vec<NodeId> = bounds
        .iter()
        .enumerate()
        .filter_map(|(i, bound)| match bound.why {
            Why::Product(id) if meets.is_none_or(|at| i != at && i != at + 1) => Some(id),
            _ => None,
        })
        .collect();
    for id in products.into_iter().take(MAX_LABELS) {
        label_node(&mut diagnostic, graph, id, "this product spends a level");
    }
    diagnostic.help(
        "write the level that the value has, or leave the type out: levels that are not written are found; a \
         product's result has one level less than its operands",
    )
}

/// E0302 for a sum: the lowest operand is higher than what is written.
pub(super) fn sum_written_lower(
    graph: &Graph,
    ascribed: NodeId,
    sum: NodeId,
    written: &Written,
    level: u32,
    lowest: ValueType,
) -> Diagnostic {
    let has = lowest.level.unwrap_or(0);
    let message = format!("level mismatch: level {level} is written, but the value has level {has}");
    let mut diagnostic =
        Diagnostic::error("E0302", message).label(written.span, format!("level {level} is written here"));
    let at = if graph.node(sum).origin.spans.is_empty() { ascribed } else { sum };
    label_node(&mut diagnostic, graph, at, &format!("all operands have level {has} or more"));
    diagnostic.help(format!("write `{lowest}`, or leave the type out"))
}

/// E0304
pub(super) fn scheme(
    graph: &Graph,
    id: NodeId,
    written: &Written,
    wanted: Scheme,
    found: &str,
) -> Diagnostic {
    let message = format!("scheme mismatch: `{wanted}` is written, but the value is `{found}`");
    let mut diagnostic =
        Diagnostic::error("E0304", message).label(written.span, format!("`{wanted}` is written here"));
    let operand = graph.operands(id).first().copied().unwrap_or(id);
    label_node(&mut diagnostic, graph, operand, &format!("this value is `{found}`"));
    diagnostic.help(match (wanted, found) {
        (Scheme::Clear, _) => {
            "whatever depends on features, labels or weights is encrypted, and the server cannot decrypt: \
             leave the type out, or give a constant"
                .to_owned()
        }
        (_, "clear") => "write `clear`, or leave the type out: a constant needs no encryption".to_owned(),
        (Scheme::Tfhe, _) => {
            "leave the type out: a function that reads the value switches it to `tfhe`; or write `bfv`".to_owned()
        }
        _ => "leave the type out: a product that uses the value packs it at the level that it needs; or write `tfhe`"
            .to_owned(),
    })
}

/// E0305
pub(super) fn other_family(graph: &Graph, found: &Written, scheme: Scheme, family: Family) -> Diagnostic {
    let own = match family {
        Family::Tfhe => "`bfv` and `tfhe`",
        Family::Ckks => "`ckks`",
    };
    let partner = graph.ids().filter_map(|id| written(graph, id)).find_map(|written| {
        let own = written.scheme.filter(|scheme| Family::of(*scheme) == Some(family))?;
        Some((own, written.span))
    });
    match partner {
        Some((other, span)) => {
            let message = format!("`{other}` and `{scheme}` in one program: one engine runs all of it");
            Diagnostic::error("E0305", message)
                .label(found.span, format!("`{scheme}` is written here"))
                .label(span, format!("`{other}` is written here"))
                .help(
                    "write `ckks` for both, or `bfv` for what products use and `tfhe` for what functions use; or \
                     leave the schemes out, and the checker chooses",
                )
        }
        None => {
            let message = format!("`{scheme}` is written, but this program is to run on {own}");
            Diagnostic::error("E0305", message)
                .label(found.span, format!("`{scheme}` is written here"))
                .help("leave out `--scheme` and `--profile`, or leave the scheme out of the type")
        }
    }
}

/// E0306
pub(super) fn alignment(graph: &Graph, alignment: &Alignment) -> Diagnostic {
    let message = format!(
        "strict: a ciphertext is switched down from level {} to {} only to meet its partner",
        alignment.from, alignment.to
    );
    let mut diagnostic = Diagnostic::error("E0306", message);
    match alignment.user {
        Some(user) => label_node(&mut diagnostic, graph, user, "the operands meet here"),
        None => label_node(&mut diagnostic, graph, alignment.operand, "this gradient meets its weights"),
    }
    label_node(&mut diagnostic, graph, alignment.operand, &format!("this has level {}", alignment.from));
    diagnostic.help(
        "let both sides go through as many products, or one of them through a function (its result enters at any \
         level); or take `strict` out",
    )
}
