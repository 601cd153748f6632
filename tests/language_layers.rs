//! What the layers of the standard library compute, against plain loops over numbers.

use hesn::diagnostics::{Sources, render};
use hesn::graph::{Graph, NodeId, elements};
use hesn::interp::Batch;
use hesn::interp::clear::evaluate;
use hesn::typeck::{self, FunctionTask, NoData, Task};

fn checked(text: &str) -> Result<FunctionTask, String> {
    let mut sources = Sources::default();
    let file = sources.add("program.hes", text);
    let checked = typeck::check(&mut sources, file, &NoData);
    let shown: String = checked.diagnostics.iter().map(|d| render(d, &sources, false)).collect();
    match checked.program.and_then(|program| program.tasks.into_iter().next()) {
        Some(Task::Function(task)) if shown.is_empty() => Ok(*task),
        _ => Err(shown),
    }
}

/// Numbers in (−1, 1) that look random.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn params(graph: &Graph) -> Vec<Vec<f32>> {
    graph.params().iter().zip(10..).map(|(info, seed)| numbers(elements(&info.shape), seed)).collect()
}

fn values(graph: &Graph, result: NodeId, params: &[Vec<f32>], x: (NodeId, &[f32])) -> Vec<f32> {
    let arguments = [(x.0, x.1.to_vec())].into_iter().collect();
    let batch = Batch { index: 0, size: 1, features: &[], labels: &[], arguments: Some(&arguments) };
    evaluate(graph, &[result], params, &batch).unwrap().remove(0)
}

/// What a model of one argument gives for `x`, with the parameters that it declares.
fn run(text: &str, x: &[f32]) -> (Vec<f32>, Vec<Vec<f32>>) {
    let task = checked(text).unwrap();
    let params = params(&task.graph);
    (values(&task.graph, task.result, &params, (task.arguments[0].node, x)), params)
}

fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() < 1e-4, "element {i} is {a}, not {b}");
    }
}

/// `same` padding of a 3×3 window at stride 1: one zero on each side.
fn at(image: &[f32], [h, w]: [usize; 2], c: usize, r: isize, s: isize) -> f32 {
    let inside = r >= 0 && s >= 0 && (r as usize) < h && (s as usize) < w;
    if inside { image[(c * h + r as usize) * w + s as usize] } else { 0.0 }
}

#[test]
fn groups_of_a_convolution_see_their_own_channels_only() {
    let (h, w) = (5, 4);
    for (channels, filters, groups) in [(4, 4, 1), (4, 6, 2), (4, 8, 4), (3, 3, 3)] {
        let text = format!(
            "model M(x: [{channels}, {h}, {w}]) -> [{filters}, {h}, {w}] {{\n    \
             x |> conv2d({filters}, kernel: 3, pad: same, groups: {groups})\n}}\n"
        );
        let image = numbers(channels * h * w, 1);
        let (found, params) = run(&text, &image);
        let (own, share) = (filters / groups, channels / groups);
        let bias = &params[params.len() - 1];
        assert_eq!(params.len(), groups + 1);
        let mut expected = Vec::new();
        for f in 0..filters {
            let group = f / own;
            for r in 0..h {
                for s in 0..w {
                    let mut sum = bias[f];
                    for c in 0..share {
                        for (u, v) in (0..3).flat_map(|u| (0..3).map(move |v| (u, v))) {
                            let kernel = params[group][((f % own * share + c) * 3 + u) * 3 + v];
                            let (r, s) = (r as isize + u as isize - 1, s as isize + v as isize - 1);
                            sum += kernel * at(&image, [h, w], group * share + c, r, s);
                        }
                    }
                    expected.push(sum);
                }
            }
        }
        assert_close(&found, &expected);
    }
}

#[test]
fn groups_that_do_not_divide_are_refused() {
    for arguments in ["4, groups: 3", "3, groups: 2", "4, groups: 0"] {
        let text = format!("model M(x: [4, 5, 5]) -> [n] {{ x |> conv2d({arguments}) |> flatten }}\n");
        let shown = checked(&text).map(|task| task.name).unwrap_err();
        assert!(shown.contains("E0221") && shown.contains("groups must divide"), "{arguments}: {shown}");
    }
}

#[test]
fn pools_take_means() {
    let image = numbers(2 * 4 * 6, 3);
    let (found, _) = run("model M(x: [2, 4, 6]) -> [2, 2, 3] { x |> avg_pool }\n", &image);
    let mut expected = Vec::new();
    for (c, r, s) in (0..2).flat_map(|c| (0..2).flat_map(move |r| (0..3).map(move |s| (c, 2 * r, 2 * s)))) {
        let cell = |u: usize, v: usize| image[(c * 4 + r + u) * 6 + s + v];
        expected.push((cell(0, 0) + cell(0, 1) + cell(1, 0) + cell(1, 1)) / 4.0);
    }
    assert_close(&found, &expected);
    let (found, _) = run("model M(x: [2, 4, 6]) -> [2] { x |> global_avg_pool }\n", &image);
    let means: Vec<f32> = image.chunks(24).map(|c| c.iter().sum::<f32>() / 24.0).collect();
    assert_close(&found, &means);
}

#[test]
fn a_residual_connection_adds_what_came_in() {
    let x = numbers(6, 5);
    let text = "layer block(x: [n]) -> [n] { x + (x |> dense(n) |> tanh) }\n\
                model M(x: [6]) -> [6] { x |> block }\n";
    let (found, params) = run(text, &x);
    let expected: Vec<f32> = (0..6)
        .map(|l| {
            let z: f32 = (0..6).map(|j| x[j] * params[0][j * 6 + l]).sum::<f32>() + params[1][l];
            x[l] + z.tanh()
        })
        .collect();
    assert_close(&found, &expected);
}

#[test]
fn activations_can_be_imported_and_piped() {
    let x = [-2.5f32, -0.75, 0.5, 3.0];
    let gelu = |z: f32| {
        // Φ by its integral from 0, with Simpson's rule.
        let density = |t: f32| (-t * t / 2.0).exp() / (2.0 * std::f32::consts::PI).sqrt();
        let steps = 200;
        let h = z / steps as f32;
        let sum: f32 = (0..=steps)
            .map(|i| if i == 0 || i == steps { 1.0 } else if i % 2 == 1 { 4.0 } else { 2.0 } * density(i as f32 * h))
            .sum();
        z * (0.5 + sum * h / 3.0)
    };
    let cases: [(&str, &dyn Fn(f32) -> f32); 7] = [
        ("relu", &|z| z.max(0.0)),
        ("leaky_relu", &|z| if z > 0.0 { z } else { z / 16.0 }),
        ("sigmoid", &|z| 1.0 / (1.0 + (-z).exp())),
        ("tanh", &f32::tanh),
        ("gelu", &gelu),
        ("abs", &f32::abs),
        ("square", &|z| z * z),
    ];
    for (name, function) in cases {
        let text = format!("use std::{{{name}}}\nfn f(x: [4]) -> [4] {{ x |> {name} }}\n");
        let expected = x.map(function);
        assert_close(&run(&text, &x).0, &expected);
    }
}

/// A dropout is the identity until the graph is masked; each epoch has its own zeros, as many as the rate says.
#[test]
fn dropout_zeroes_a_share_that_changes_with_the_epoch() {
    let task = checked("model M(x: [40]) -> [40] { x |> relu |> dropout(rate: 0.25) }\n").unwrap();
    let x: Vec<f32> = numbers(40, 7).iter().map(|v| v.abs() + 0.5).collect();
    let argument = task.arguments[0].node;
    assert_eq!(values(&task.graph, task.result, &[], (argument, &x)), x);
    let epochs: Vec<Vec<f32>> = (0..3)
        .map(|epoch| {
            let (graph, moved) = task.graph.masked(Some(epoch), &[argument, task.result]).unwrap();
            values(&graph, moved[1], &[], (moved[0], &x))
        })
        .collect();
    for found in &epochs {
        assert_eq!(found.iter().filter(|v| **v == 0.0).count(), 10);
        for (found, x) in found.iter().zip(&x).filter(|(found, _)| **found != 0.0) {
            assert_eq!(found, x);
        }
    }
    assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2]);
    let (graph, moved) = task.graph.masked(None, &[argument, task.result]).unwrap();
    let expected: Vec<f32> = x.iter().map(|v| 0.75 * v).collect();
    assert_close(&values(&graph, moved[1], &[], (moved[0], &x)), &expected);
    let shown =
        checked("model M(x: [4]) -> [4] { x |> dropout(rate: 1) }\n").map(|task| task.name).unwrap_err();
    assert!(shown.contains("E0221"), "{shown}");
}

/// A table without `grad` has the derivative of its expression.
#[test]
fn tables_of_the_user_differentiate_by_themselves() {
    let bodies = [
        "z / (1 + exp(-1.5 * z))",
        "max(z, 0) - 0.25 * min(z, 0)",
        "log(1 + z * z) * tanh(z)",
        "erf(z) + sin(2 * z) * cos(z)",
        "sqrt(1 + abs(z)) ^ 3",
    ];
    for body in bodies {
        let text = format!("lut own(z) = {body}\nmodel M(x: [5]) -> [] {{ sum(x |> dense(1) |> own) }}\n");
        let task = checked(&text).unwrap();
        let mut graph = task.graph.clone();
        let gradient = graph.differentiate(task.result).unwrap().gradients[1].1;
        for bias in [-1.3f32, -0.4, 0.6, 2.1] {
            let x = (task.arguments[0].node, &[0.0; 5][..]);
            let loss = |b: f32| values(&task.graph, task.result, &[vec![0.0; 5], vec![b]], x)[0];
            let found = values(&graph, gradient, &[vec![0.0; 5], vec![bias]], x)[0];
            let expected = (loss(bias + 1e-2) - loss(bias - 1e-2)) / 2e-2;
            assert!((found - expected).abs() < 1e-2, "{body} at {bias}: {found}, by differences {expected}");
        }
    }
}
