//! Layouts: which element of a tensor is the coefficient of which power of X in Z[X]/(X^N + 1).
//!
//! A ring product of Σ a_i X^(p_i) and Σ b_k X^(q_k) adds a_i·b_k to the coefficient of X^(p_i + q_k). A layout of a
//! product is right if each coefficient that is read receives exactly the pairs that the contraction wants.

/// Where the first sample of a group holds an element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// Which of the polynomials of a group of samples.
    pub piece: u32,
    /// Modulo 2N, in 0..2N; X^N = −1.
    pub exponent: u32,
}

/// Places of a tensor's elements. As many samples as fit share a group of polynomials; the polynomials of a batch are those
/// of its groups, one after another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Polynomials of one group of samples.
    pub pieces: usize,
    /// By element.
    pub places: Vec<Place>,
    /// Added to exponents once per sample within a group, in 0..2N.
    pub sample_stride: u32,
    /// Samples of one group; 1 for what the batch shares.
    pub samples: usize,
}

/// Where a batch holds an element of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which polynomial of the batch.
    pub polynomial: usize,
    pub coefficient: usize,
    /// 1 or −1.
    pub sign: i64,
}

impl Layout {
    /// A tensor in one polynomial.
    pub fn single(exponents: impl IntoIterator<Item = u32>, sample_stride: u32, samples: usize) -> Self {
        let places = exponents.into_iter().map(|exponent| Place { piece: 0, exponent }).collect();
        Self { pieces: 1, places, sample_stride, samples }
    }

    pub fn elements(&self) -> usize {
        self.places.len()
    }

    /// Where an element of a sample of the batch stands.
    pub fn position(&self, degree: usize, sample: usize, element: usize) -> Position {
        let (group, sample) = (sample / self.samples, sample % self.samples);
        let place = self.places[element];
        let exponent =
            (place.exponent as u64 + sample as u64 * self.sample_stride as u64) % (2 * degree as u64);
        let exponent = exponent as usize;
        let (coefficient, sign) = if exponent < degree { (exponent, 1) } else { (exponent - degree, -1) };
        Position { polynomial: group * self.pieces + place.piece as usize, coefficient, sign }
    }

    /// Polynomials of a batch of so many samples; of one group for what the batch shares.
    pub fn polynomials(&self, samples: usize) -> usize {
        samples.div_ceil(self.samples) * self.pieces
    }

    /// Elements one after another, as many samples as fit; several pieces where one polynomial does not hold them.
    pub fn contiguous(degree: usize, elements: usize, batch: usize) -> Self {
        let samples = (degree / elements.max(1)).clamp(1, batch.max(1));
        let place = |i: usize| Place { piece: (i / degree) as u32, exponent: (i % degree) as u32 };
        Self {
            pieces: elements.div_ceil(degree).max(1),
            places: (0..elements).map(place).collect(),
            sample_stride: if samples > 1 { elements as u32 } else { 0 },
            samples,
        }
    }
}

/// Which coefficients of the polynomial of a layout of one piece are occupied.
pub fn support(layout: &Layout, degree: usize) -> Vec<bool> {
    let mut out = vec![false; degree];
    for sample in 0..layout.samples {
        for element in 0..layout.elements() {
            out[layout.position(degree, sample, element).coefficient] = true;
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
        (0..result.elements()).all(|element| {
            let place = result.position(degree, sample, element).coefficient;
            !std::mem::replace(&mut taken[place], true) && meetings[place] as usize == wanted
        })
    })
}
