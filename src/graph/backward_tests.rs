//! The backward pass of each primitive against finite differences, over shapes, strides, paddings, channels and batch sizes.

use proptest::prelude::*;

use super::tests::{Model, lut, origin, sigmoid, tanh};
use super::*;

/// Compares the gradients of a smooth function of `f(input, parameter)`. What does not fit together is left out.
fn check(
    batch: usize,
    x: &[usize],
    w: &[usize],
    f: impl Fn(&mut Graph, NodeId, NodeId) -> Result<NodeId, ShapeError>,
) {
    let mut model = Model { batch: Some(batch), ..Model::default() };
    let (input, param) = (model.input(x), model.param(w));
    let Ok(result) = f(&mut model.graph, input, param) else { return };
    let loss = model.finish(result);
    if model.graph.reachable(&[loss])[param.index()] {
        let compared = model.check(loss);
        // A parameter that many tables read has a kink or a sharp bend nearly everywhere.
        assert!(
            elements(w) < 4 || 4 * compared >= elements(w),
            "only {compared} of {} compared",
            elements(w)
        );
    }
}

fn shape() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..4, 1..4)
}

fn image() -> impl Strategy<Value = [usize; 3]> {
    [1usize..4, 1usize..7, 1usize..7]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn convolutions(
        image in image(),
        (outputs, kh, kw) in (1usize..4, 1usize..4, 1usize..4),
        stride in 1usize..4,
        pad in [0usize..3, 0usize..3, 0usize..3, 0usize..3],
        batch in 1usize..4,
    ) {
        let kernel = [outputs, image[0], kh, kw];
        check(batch, &image, &kernel, |g, x, k| g.conv(x, k, stride, pad, &origin()));
        check(batch, &kernel, &image, |g, k, x| g.conv(x, k, stride, pad, &origin()));
    }

    #[test]
    fn grouped_convolutions(
        (groups, share, outputs) in (1usize..4, 1usize..3, 1usize..3),
        (size, stride, batch) in (2usize..6, 1usize..3, 1usize..4),
    ) {
        let o = origin();
        let mut model = Model { batch: Some(batch), ..Model::default() };
        let x = model.input(&[groups * share, size, size]);
        let mut parts = Vec::new();
        for group in 0..groups {
            let kernel = model.param(&[outputs, share, 2, 2]);
            let own = model.graph.slice(x, 0, group * share, share, 1, &o).unwrap();
            parts.push(model.graph.conv(own, kernel, stride, [1, 0, 1, 0], &o).unwrap());
        }
        let result = model.graph.concat(&parts, 0, &o).unwrap();
        let loss = model.finish(result);
        prop_assert!(2 * model.check(loss) >= groups * outputs * share * 4);
    }

    #[test]
    fn matrix_products((k, n, m) in (1usize..5, 1usize..5, 1usize..5), batch in 1usize..4) {
        let shapes: [(&[usize], &[usize]); 4] = [(&[n], &[n, m]), (&[k, n], &[n, m]), (&[k, n], &[n]), (&[n], &[n])];
        for (left, right) in shapes {
            check(batch, left, right, |g, x, w| g.matmul(x, w, &origin()));
            check(batch, right, left, |g, w, x| g.matmul(x, w, &origin()));
        }
    }

    #[test]
    fn arithmetic_with_repeated_axes(shape in shape(), ones in any::<u8>(), cut in 0usize..3, batch in 1usize..4) {
        let small: Vec<usize> = shape
            .iter()
            .enumerate()
            .map(|(axis, &size)| if ones >> axis & 1 == 1 { 1 } else { size })
            .skip(cut.min(shape.len() - 1))
            .collect();
        let o = origin();
        for (x, w) in [(&shape, &small), (&small, &shape)] {
            check(batch, x, w, |g, x, w| g.add(x, w, &o));
            check(batch, x, w, |g, x, w| g.sub(x, w, &o));
            check(batch, x, w, |g, x, w| g.mul(x, w, &o));
            check(batch, x, w, |g, x, w| g.max(x, w, &o));
            check(batch, x, w, |g, x, w| {
                let scaled = g.scale(w, -1.5, &o)?;
                let moved = g.offset(scaled, 0.75, &o)?;
                let refreshed = g.refresh(moved, &o)?;
                g.mul(refreshed, x, &o)
            });
        }
    }

    #[test]
    fn tables(shape in shape(), batch in 1usize..4) {
        let cubic = || lut("cubic", ScalarExpr::bin(Binary::Pow, ScalarExpr::Z, ScalarExpr::Const(3.0)));
        let gelu = || {
            let erf = ScalarExpr::call(Function::Erf, ScalarExpr::Z.div(ScalarExpr::Const(2f64.sqrt())));
            lut("gelu", ScalarExpr::Z.mul(ScalarExpr::Const(0.5)).mul(ScalarExpr::Const(1.0).add(erf)))
        };
        for table in [sigmoid(), tanh(), cubic(), gelu()] {
            check(batch, &shape, &shape, |g, x, w| {
                let sum = g.add(x, w, &origin())?;
                g.lut(sum, table.clone(), &origin())
            });
        }
    }

    #[test]
    fn windows_and_pools(image in image(), size in 1usize..4, stride in 1usize..3, batch in 1usize..4) {
        let o = origin();
        check(batch, &image, &image, |g, x, w| {
            let sum = g.add(x, w, &o)?;
            g.window(sum, [size, size.min(2)], stride, &o)
        });
        // A mean and a tournament over each window.
        check(batch, &image, &image, |g, x, w| {
            let product = g.mul(x, w, &o)?;
            let windows = g.window(product, [size, size], stride, &o)?;
            let rows = g.mean(windows, 4, &o)?;
            g.mean(rows, 3, &o)
        });
        check(batch, &image, &image, |g, x, w| {
            let sum = g.add(x, w, &o)?;
            let windows = g.window(sum, [size, size], stride, &o)?;
            let mut most = g.slice(windows, 4, 0, 1, 1, &o)?;
            for at in 1..size {
                let next = g.slice(windows, 4, at, 1, 1, &o)?;
                most = g.max(most, next, &o)?;
            }
            Ok(most)
        });
    }

    #[test]
    fn movements(shape in shape(), axis in 0usize..3, (start, step) in (0usize..2, 1usize..3), batch in 1usize..4) {
        let o = origin();
        let axis = axis % shape.len();
        let count = shape[axis].saturating_sub(start).div_ceil(step);
        check(batch, &shape, &shape, |g, x, w| {
            let product = g.mul(x, w, &o)?;
            g.slice(product, axis, start, count, step, &o)
        });
        check(batch, &shape, &shape, |g, x, w| {
            let both = g.concat(&[w, x, w], axis, &o)?;
            g.pad(both, axis, start, step, &o)
        });
        check(batch, &shape, &shape, |g, x, w| {
            let order: Vec<usize> = (0..shape.len()).map(|i| (i + axis) % shape.len()).collect();
            let product = g.mul(x, w, &o)?;
            let turned = g.transpose(product, &order, &o)?;
            g.reshape(turned, &[elements(&shape)], &o)
        });
    }

    #[test]
    fn sums(shape in shape(), axis in 0usize..3, batch in 1usize..4) {
        let o = origin();
        let axis = axis % shape.len();
        check(batch, &shape, &shape, |g, x, w| {
            let product = g.mul(x, w, &o)?;
            g.sum(product, axis, &o)
        });
        check(batch, &shape, &shape, |g, x, w| {
            let product = g.mul(x, w, &o)?;
            let (mean, all) = (g.mean(product, axis, &o)?, g.sum_all(w, &o)?);
            g.add(mean, all, &o)
        });
    }

    /// Of a masked graph, the gradients are those of the masked function; what is not kept is not looked up.
    #[test]
    fn masks(n in 2usize..7, keep in 0.2f64..1.0, epoch in 0usize..5, batch in 1usize..4) {
        let o = origin();
        let mut model = Model { batch: Some(batch), ..Model::default() };
        let (x, w) = (model.input(&[n]), model.param(&[n, n]));
        let z = model.graph.matmul(x, w, &o).unwrap();
        let h = model.graph.lut(z, tanh(), &o).unwrap();
        let turned = model.graph.reshape(h, &[1, n], &o).unwrap();
        let masked = model.graph.mask(turned, keep, &o).unwrap();
        let loss = model.finish(masked);
        let (graph, moved) = model.graph.masked(Some(epoch), &[x, loss]).unwrap();
        let kept = ((keep * n as f64).round() as usize).clamp(1, n);
        let looked_up = |graph: &Graph| {
            let tables = graph.ids().filter(|id| matches!(graph.node(*id).op, Op::Lut(_)));
            tables.map(|id| graph.node(id).elements()).sum::<usize>()
        };
        prop_assert_eq!(looked_up(&model.graph), n);
        prop_assert_eq!(looked_up(&graph), kept);
        let trained = Model { graph, ..model.clone() };
        trained.check(moved[1]);
        let mut derived = trained.graph.clone();
        derived.differentiate(moved[1]).unwrap();
        prop_assert_eq!(looked_up(&derived), 2 * kept);
    }
}
