//! Arithmetic over plain numbers that engines without encryption share: matrix products, convolutions and their gradients,
//! functions of many values.
//!
//! In: slices, row-major, and geometry. Out: slices. Results do not depend on the number of threads: work is cut into
//! pieces of fixed size, and pieces of a sum are added in their order.

pub(super) mod conv;
pub(super) mod gemm;
pub(super) mod table;

use ndarray::{ArrayView2, ArrayViewMut2, LinalgScalar};

/// What sums of products can be taken of: f32, f64 and wrapping integers.
pub(super) trait Number: LinalgScalar + Send + Sync {}

impl<T: LinalgScalar + Send + Sync> Number for T {}

/// Numbers that one task works on where it does little with each.
pub(super) const PIECE: usize = 1 << 14;

/// The first `rows · columns` numbers as a matrix, row-major.
fn matrix<T>(data: &[T], rows: usize, columns: usize) -> ArrayView2<'_, T> {
    ArrayView2::from_shape((rows, columns), &data[..rows * columns])
        .expect("as many numbers as the shape has")
}

fn matrix_mut<T>(data: &mut [T], rows: usize, columns: usize) -> ArrayViewMut2<'_, T> {
    ArrayViewMut2::from_shape((rows, columns), &mut data[..rows * columns])
        .expect("as many numbers as the shape has")
}

/// Calls `f(row, its part of out)` for every row of `out`, several rows to a task.
pub(super) fn for_each_row<T: Send>(out: &mut [T], width: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    use rayon::prelude::*;
    if width == 0 {
        return;
    }
    let rows = (PIECE / width).max(1);
    out.par_chunks_mut(rows * width).enumerate().for_each(|(piece, out)| {
        for (row, out) in out.chunks_mut(width).enumerate() {
            f(piece * rows + row, out);
        }
    });
}
