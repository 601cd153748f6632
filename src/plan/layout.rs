//! Layouts: which element of a tensor is the coefficient of which power of X in Z[X]/(X^N + 1).
//!
//! A ring product of Σ a_i X^(p_i) and Σ b_k X^(q_k) adds a_i·b_k to the coefficient of X^(p_i + q_k). A layout of a
//! product is right if each coefficient that is read receives exactly the pairs that the contraction wants.

/// Exponents of a tensor's elements, modulo 2N; X^N = −1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Exponent of each element, in 0..2N.
    pub exponents: Vec<u32>,
    /// Added once per sample within a polynomial, in 0..2N.
    pub sample_stride: u32,
    /// Samples that one polynomial holds; 1 for what the batch shares.
    pub samples: usize,
}

impl Layout {
    /// Coefficient and sign of an element of the `sample`-th sample of a polynomial.
    pub fn position(&self, degree: usize, sample: usize, element: usize) -> (usize, i64) {
        let exponent = (self.exponents[element] as u64 + sample as u64 * self.sample_stride as u64)
            % (2 * degree as u64);
        let exponent = exponent as usize;
        if exponent < degree { (exponent, 1) } else { (exponent - degree, -1) }
    }

    /// Elements one after another, as many samples as fit.
    pub fn contiguous(degree: usize, elements: usize, batch: usize) -> Self {
        let samples = (degree / elements.max(1)).clamp(1, batch.max(1));
        Self {
            exponents: (0..elements as u32).collect(),
            sample_stride: if samples > 1 { elements as u32 } else { 0 },
            samples,
        }
    }
}

/// Which coefficients of a polynomial are occupied.
pub fn support(layout: &Layout, degree: usize) -> Vec<bool> {
    let mut out = vec![false; degree];
    for sample in 0..layout.samples {
        for element in 0..layout.exponents.len() {
            out[layout.position(degree, sample, element).0] = true;
        }
    }
    out
}

/// For each coefficient of a product, how many pairs of occupied coefficients meet there.
pub fn meetings(left: &[bool], right: &[bool]) -> Vec<u32> {
    let degree = left.len();
    let places: Vec<usize> = (0..degree).filter(|&i| right[i]).collect();
    let mut out = vec![0u32; degree];
    for i in (0..degree).filter(|&i| left[i]) {
        for &j in &places {
            let k = i + j;
            out[if k < degree { k } else { k - degree }] += 1;
        }
    }
    out
}

/// Whether each coefficient that `result` reads receives `wanted` pairs and no other, and no two elements share one.
pub fn is_clean(result: &Layout, meetings: &[u32], wanted: usize) -> bool {
    let degree = meetings.len();
    let mut taken = vec![false; degree];
    (0..result.samples).all(|sample| {
        (0..result.exponents.len()).all(|element| {
            let (place, _) = result.position(degree, sample, element);
            !std::mem::replace(&mut taken[place], true) && meetings[place] as usize == wanted
        })
    })
}
