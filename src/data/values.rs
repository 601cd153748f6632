//! Numbers as a file has them: bytes stay bytes, so that a large set of images takes no more memory than its files.

use super::scale::Scaler;

/// `[rows, width]` numbers, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    Bytes(Vec<u8>),
    Numbers(Vec<f32>),
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Values::Bytes(values) => values.len(),
            Values::Numbers(values) => values.len(),
        }
    }

    /// Puts the numbers of `other` behind these.
    pub fn append(&mut self, other: Values) {
        match (&mut *self, other) {
            (Values::Bytes(own), Values::Bytes(mut more)) => own.append(&mut more),
            (Values::Numbers(own), Values::Numbers(mut more)) => own.append(&mut more),
            (Values::Numbers(own), Values::Bytes(more)) => own.extend(more.into_iter().map(f32::from)),
            (Values::Bytes(own), Values::Numbers(mut more)) => {
                let mut all: Vec<f32> = own.iter().map(|&x| f32::from(x)).collect();
                all.append(&mut more);
                *self = Values::Numbers(all);
            }
        }
    }

    /// Keeps the first `first` numbers, and gives the next `then` ones; what follows is dropped.
    pub fn split(mut self, first: usize, then: usize) -> (Values, Values) {
        fn cut<T>(values: &mut Vec<T>, first: usize, then: usize) -> Vec<T> {
            values.truncate(first + then);
            let rest = values.split_off(first);
            values.shrink_to_fit();
            rest
        }
        let rest = match &mut self {
            Values::Bytes(values) => Values::Bytes(cut(values, first, then)),
            Values::Numbers(values) => Values::Numbers(cut(values, first, then)),
        };
        (self, rest)
    }

    /// The rows of `order`, each of `width` numbers.
    pub fn pick(&self, width: usize, order: &[u32]) -> Values {
        fn rows<T: Copy>(values: &[T], width: usize, order: &[u32]) -> Vec<T> {
            let mut out = Vec::with_capacity(order.len() * width);
            for &row in order {
                out.extend_from_slice(&values[row as usize * width..][..width]);
            }
            out
        }
        match self {
            Values::Bytes(values) => Values::Bytes(rows(values, width, order)),
            Values::Numbers(values) => Values::Numbers(rows(values, width, order)),
        }
    }

    /// Appends one row, scaled.
    pub fn scale_row(&self, row: usize, scaler: &Scaler, to: &mut Vec<f32>) {
        let width = scaler.offset.len();
        match self {
            Values::Bytes(values) => scaler.extend(&values[row * width..][..width], to),
            Values::Numbers(values) => scaler.extend(&values[row * width..][..width], to),
        }
    }
}
