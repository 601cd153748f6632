//! Contractions: any sum of products over labelled axes becomes matrix products.

use std::borrow::Cow;

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;

use super::{Number, matrix, matrix_mut};

/// A tensor with a label for each axis, row-major.
pub(crate) struct Labelled<'a, T: Clone> {
    pub data: Cow<'a, [T]>,
    pub axes: Vec<(u8, usize)>,
}

type Axes = Vec<(u8, usize)>;

impl<T: Clone> Labelled<'_, T> {
    fn size(&self, label: u8) -> Option<usize> {
        self.axes.iter().find(|(own, _)| *own == label).map(|(_, size)| *size)
    }

    fn has(&self, label: u8) -> bool {
        self.size(label).is_some()
    }
}

/// `out[…] = Σ left[…]·right[…]`, the sum over every label that `out` lacks. Each label of `out` must be one of the
/// operands'; its size is theirs.
pub(crate) fn contract<T: Number>(left: Labelled<'_, T>, right: Labelled<'_, T>, out: &[u8]) -> Vec<T> {
    let kept = |own: &Labelled<'_, T>, other: &Labelled<'_, T>| -> Vec<u8> {
        own.axes.iter().map(|(l, _)| *l).filter(|l| out.contains(l) || other.has(*l)).collect()
    };
    let (left_kept, right_kept) = (kept(&left, &right), kept(&right, &left));
    let (left, right) = (reduced(left, &left_kept), reduced(right, &right_kept));
    let labels = |of: &Labelled<'_, T>, wanted: &dyn Fn(u8) -> bool| -> Axes {
        of.axes.iter().copied().filter(|(l, _)| wanted(*l)).collect()
    };
    let shared = labels(&left, &|l| right.has(l) && out.contains(&l));
    let summed = labels(&left, &|l| right.has(l) && !out.contains(&l));
    let rows = labels(&left, &|l| !right.has(l));
    let columns = labels(&right, &|l| !left.has(l));
    let (a, a_turned) = matrices(left, &shared, &rows, &summed);
    let (b, b_turned) = matrices(right, &shared, &summed, &columns);
    let (m, k, n) = (product(&rows), product(&summed), product(&columns));
    let mut result = vec![T::zero(); product(&shared) * m * n];
    let axes = [shared.clone(), rows.clone(), columns.clone()].concat();
    let size = |label: &u8| axes.iter().find(|(l, _)| l == label).map_or(1, |(_, size)| *size);
    let wanted: Axes = out.iter().map(|label| (*label, size(label))).collect();
    let turned =
        significant(&wanted) == significant(&[shared.clone(), columns.clone(), rows.clone()].concat());
    if m * n * k > 0 {
        let view = |data, rows, columns, turned: bool| {
            if turned { matrix(data, columns, rows).reversed_axes() } else { matrix(data, rows, columns) }
        };
        // Many small products side by side, or one whose own rows are shared out.
        result.par_chunks_mut(m * n).zip(a.par_chunks(m * k)).zip(b.par_chunks(k * n)).for_each(
            |((result, a), b)| {
                let result =
                    if turned { matrix_mut(result, n, m).reversed_axes() } else { matrix_mut(result, m, n) };
                multiply(result, view(a, m, k, a_turned), view(b, k, n, b_turned));
            },
        );
    }
    if turned {
        return result;
    }
    permuted(Labelled { data: Cow::Owned(result), axes }, &[&wanted]).into_owned()
}

fn product(axes: &[(u8, usize)]) -> usize {
    axes.iter().map(|(_, size)| size).product()
}

fn significant(axes: &[(u8, usize)]) -> Axes {
    axes.iter().copied().filter(|(_, size)| *size != 1).collect()
}

/// The tensor as matrices `[shared; rows, columns]`, and whether each is stored transposed.
fn matrices<'a, T: Number>(
    tensor: Labelled<'a, T>,
    shared: &[(u8, usize)],
    rows: &[(u8, usize)],
    columns: &[(u8, usize)],
) -> (Cow<'a, [T]>, bool) {
    if significant(&tensor.axes) == significant(&[shared, columns, rows].concat()) {
        return (tensor.data, true);
    }
    (permuted(tensor, &[shared, rows, columns]), false)
}

/// Products of numbers that one task is worth.
const TASK: usize = 1 << 18;
/// Below so many products a plain loop is faster than what prepares a fast one.
const SMALL: usize = 64;

/// `c[m, n] = a[m, k] · b[k, n]`, where c is zero.
pub(super) fn multiply<T: Number>(mut c: ArrayViewMut2<'_, T>, a: ArrayView2<'_, T>, b: ArrayView2<'_, T>) {
    let ((m, k), n) = (a.dim(), b.dim().1);
    if m * n * k <= SMALL {
        for ((i, j), c) in c.indexed_iter_mut() {
            *c = (0..k).fold(T::zero(), |sum, l| sum + a[[i, l]] * b[[l, j]]);
        }
        return;
    }
    if m * n * k <= 2 * TASK {
        return general_mat_mul(T::one(), &a, &b, T::zero(), &mut c);
    }
    let along = usize::from(n > m);
    // Whole tiles of the product's kernel.
    let lines = (TASK * [m, n][along] / (m * n * k)).max(1).next_multiple_of(16);
    let pieces: Vec<_> = c.axis_chunks_iter_mut(Axis(along), lines).enumerate().collect();
    pieces.into_par_iter().for_each(|(piece, mut c)| {
        let start = piece * lines;
        let own = start..start + c.len_of(Axis(along));
        if along == 0 {
            general_mat_mul(T::one(), &a.slice(ndarray::s![own, ..]), &b, T::zero(), &mut c);
        } else {
            general_mat_mul(T::one(), &a, &b.slice(ndarray::s![.., own]), T::zero(), &mut c);
        }
    });
}

/// Sums over the axes that are not in `kept`.
fn reduced<'a, T: Number>(tensor: Labelled<'a, T>, kept: &[u8]) -> Labelled<'a, T> {
    if tensor.axes.len() == kept.len() {
        return tensor;
    }
    let (front, back): (Vec<_>, Vec<_>) = tensor.axes.iter().copied().partition(|(l, _)| kept.contains(l));
    let width = product(&back).max(1);
    let data = permuted(tensor, &[&front, &back]);
    let sums = data.chunks(width).map(|chunk| chunk.iter().fold(T::zero(), |sum, &v| sum + v)).collect();
    Labelled { data: Cow::Owned(sums), axes: front }
}

/// The elements with the axes in this order; nothing is copied where they already stand so.
fn permuted<'a, T: Number>(tensor: Labelled<'a, T>, order: &[&[(u8, usize)]]) -> Cow<'a, [T]> {
    let wanted: Vec<(u8, usize)> = order.concat();
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
    fn naive(left: &Labelled<'_, f32>, right: &Labelled<'_, f32>, out: &[u8]) -> Vec<f32> {
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
    fn a_long_sum_of_few_results_is_one_task() {
        let (m, n, k) = (4, 5, 70_000);
        let ones = |count: usize| vec![1.0f32; count];
        let left = Labelled { data: Cow::Owned(ones(m * k)), axes: vec![(b'i', m), (b'k', k)] };
        let right = Labelled { data: Cow::Owned(ones(k * n)), axes: vec![(b'k', k), (b'j', n)] };
        assert_eq!(contract(left, right, b"ij"), vec![k as f32; m * n]);
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
