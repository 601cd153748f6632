//! Contractions over plain f32 numbers: any sum of products over labelled axes becomes matrix products.

use std::borrow::Cow;

/// A tensor with a label for each axis, row-major.
pub(super) struct Labelled<'a> {
    pub data: Cow<'a, [f32]>,
    pub axes: Vec<(u8, usize)>,
}

impl Labelled<'_> {
    fn size(&self, label: u8) -> Option<usize> {
        self.axes.iter().find(|(own, _)| *own == label).map(|(_, size)| *size)
    }

    fn has(&self, label: u8) -> bool {
        self.size(label).is_some()
    }
}

/// `out[…] = Σ left[…]·right[…]`, the sum over every label that `out` lacks. Each label of `out` must be one of the
/// operands'; its size is theirs.
pub(super) fn contract(left: Labelled<'_>, right: Labelled<'_>, out: &[u8]) -> Vec<f32> {
    let kept = |own: &Labelled<'_>, other: &Labelled<'_>| -> Vec<u8> {
        own.axes.iter().map(|(l, _)| *l).filter(|l| out.contains(l) || other.has(*l)).collect()
    };
    let (left_kept, right_kept) = (kept(&left, &right), kept(&right, &left));
    let (left, right) = (reduced(left, &left_kept), reduced(right, &right_kept));
    let labels = |of: &Labelled<'_>, wanted: &dyn Fn(u8) -> bool| -> Vec<(u8, usize)> {
        of.axes.iter().copied().filter(|(l, _)| wanted(*l)).collect()
    };
    let shared = labels(&left, &|l| right.has(l) && out.contains(&l));
    let summed = labels(&left, &|l| right.has(l) && !out.contains(&l));
    let rows = labels(&left, &|l| !right.has(l));
    let columns = labels(&right, &|l| !left.has(l));
    // The inner loop runs over the columns: let it be the longer side.
    let (left, right, rows, columns) = if product(&columns) < product(&rows) {
        (right, left, columns, rows)
    } else {
        (left, right, rows, columns)
    };
    let a = permuted(left, &[&shared, &rows, &summed]);
    let b = permuted(right, &[&shared, &summed, &columns]);
    let (m, k, n) = (product(&rows), product(&summed), product(&columns));
    let mut result = vec![0.0; product(&shared) * m * n];
    if m * n * k > 0 {
        for ((result, a), b) in result.chunks_mut(m * n).zip(a.chunks(m * k)).zip(b.chunks(k * n)) {
            multiply_add(result, a, b, k, n);
        }
    }
    let axes = [shared, rows, columns].concat();
    let size = |label: &u8| axes.iter().find(|(l, _)| l == label).map_or(1, |(_, size)| *size);
    let wanted: Vec<(u8, usize)> = out.iter().map(|label| (*label, size(label))).collect();
    permuted(Labelled { data: Cow::Owned(result), axes }, &[&wanted]).into_owned()
}

fn product(axes: &[(u8, usize)]) -> usize {
    axes.iter().map(|(_, size)| size).product()
}

/// Rows of `b` that stay in the cache while all rows of `a` pass.
const BLOCK: usize = 64;

/// `c[m, n] += a[m, k] · b[k, n]`, all row-major.
pub(super) fn multiply_add(c: &mut [f32], a: &[f32], b: &[f32], k: usize, n: usize) {
    if k == 0 || n == 0 {
        return;
    }
    for start in (0..k).step_by(BLOCK) {
        let end = (start + BLOCK).min(k);
        for (c, a) in c.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
            for (&factor, b) in a[start..end].iter().zip(b[start * n..].chunks_exact(n)) {
                if factor != 0.0 {
                    c.iter_mut().zip(b).for_each(|(c, b)| *c += factor * b);
                }
            }
        }
    }
}

/// Sums over the axes that are not in `kept`.
fn reduced<'a>(tensor: Labelled<'a>, kept: &[u8]) -> Labelled<'a> {
    if tensor.axes.len() == kept.len() {
        return tensor;
    }
    let (front, back): (Vec<_>, Vec<_>) = tensor.axes.iter().copied().partition(|(l, _)| kept.contains(l));
    let width = product(&back).max(1);
    let data = permuted(tensor, &[&front, &back]);
    let sums = data.chunks(width).map(|chunk| chunk.iter().sum()).collect();
    Labelled { data: Cow::Owned(sums), axes: front }
}

/// The elements with the axes in this order; nothing is copied where they already stand so.
fn permuted<'a>(tensor: Labelled<'a>, order: &[&[(u8, usize)]]) -> Cow<'a, [f32]> {
    let wanted: Vec<(u8, usize)> = order.concat();
    let significant = |axes: &[(u8, usize)]| -> Vec<(u8, usize)> {
        axes.iter().copied().filter(|(_, size)| *size != 1).collect()
    };
    let (own, target) = (significant(&tensor.axes), significant(&wanted));
    if own == target {
        return tensor.data;
    }
    let mut strides = vec![1; own.len()];
    for axis in (1..own.len()).rev() {
        strides[axis - 1] = strides[axis] * own[axis].1;
    }
    let from: Vec<usize> = target
        .iter()
        .map(|(label, _)| own.iter().position(|(l, _)| l == label).map_or(0, |i| strides[i]))
        .collect();
    let mut out = Vec::with_capacity(tensor.data.len());
    let mut index = vec![0; target.len()];
    let mut at = 0;
    for _ in 0..product(&target) {
        out.push(tensor.data[at]);
        for axis in (0..target.len()).rev() {
            index[axis] += 1;
            at += from[axis];
            if index[axis] < target[axis].1 {
                break;
            }
            at -= from[axis] * target[axis].1;
            index[axis] = 0;
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, with an index for each label.
    fn naive(left: &Labelled<'_>, right: &Labelled<'_>, out: &[u8]) -> Vec<f32> {
        let mut labels: Vec<(u8, usize)> = left.axes.clone();
        labels.extend(right.axes.iter().filter(|(l, _)| !left.has(*l)));
        let at = |axes: &[(u8, usize)], index: &[usize]| {
            axes.iter().fold(0, |flat, (label, size)| {
                let i = labels.iter().position(|(l, _)| l == label).map_or(0, |p| index[p]);
                flat * size + i
            })
        };
        let out_axes: Vec<(u8, usize)> =
            out.iter().map(|o| (*o, labels.iter().find(|(l, _)| l == o).unwrap().1)).collect();
        let mut result = vec![0.0; product(&out_axes)];
        for flat in 0..product(&labels) {
            let mut rest = flat;
            let mut index = vec![0; labels.len()];
            for axis in (0..labels.len()).rev() {
                index[axis] = rest % labels[axis].1;
                rest /= labels[axis].1;
            }
            result[at(&out_axes, &index)] +=
                left.data[at(&left.axes, &index)] * right.data[at(&right.axes, &index)];
        }
        result
    }

    #[test]
    fn contractions_follow_their_definition() {
        let sizes = |label: u8| 2 + usize::from(label % 4);
        let cases: [(&[u8], &[u8], &[u8]); 10] = [
            (b"j", b"jl", b"l"),
            (b"sj", b"jl", b"sl"),
            (b"sj", b"sl", b"jl"),
            (b"sl", b"jl", b"sj"),
            (b"skj", b"jl", b"skl"),
            (b"sj", b"sl", b"ljs"),
            (b"j", b"j", b""),
            (b"sj", b"j", b"s"),
            (b"sjk", b"l", b"lj"),
            (b"", b"sj", b"j"),
        ];
        for (left, right, out) in cases {
            let tensor = |labels: &[u8], seed: f32| {
                let axes: Vec<(u8, usize)> = labels.iter().map(|&l| (l, sizes(l))).collect();
                let data: Vec<f32> = (0..product(&axes)).map(|i| (i as f32 * seed).sin()).collect();
                Labelled { data: Cow::Owned(data), axes }
            };
            let expected = naive(&tensor(left, 1.7), &tensor(right, 0.9), out);
            let got = contract(tensor(left, 1.7), tensor(right, 0.9), out);
            assert_eq!(got.len(), expected.len());
            for (g, e) in got.iter().zip(&expected) {
                assert!((g - e).abs() < 1e-4, "{left:?} {right:?} {out:?}: {g} against {e}");
            }
        }
    }
}
