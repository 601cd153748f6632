//! Blind rotation of a batch of accumulators, in an order that suits caches and vector units.
//!
//! One pass over the bootstrap key. For each of its GGSWs and each few accumulators at a time: X^a·acc − acc is
//! decomposed as it is formed; its digits go to the Fourier domain; a tile of the key is multiplied with all of
//! them while it is in the first-level cache; the sums come back. The transforms are tfhe's; the rest is compiled for the
//! vector unit of the CPU at hand (tfhe's own loops for it run on the baseline of the build).

use super::params::Profile;
use pulp::{Arch, Simd, WithSimd};
use tfhe::core_crypto::{
    fft_impl::fft64::{c64, math::polynomial::FourierPolynomial},
    prelude::*,
};

/// Accumulators that share a tile of the key.
const GROUP: usize = 4;
/// Complex words of a tile: its part of the key takes 8 to 12 KB.
const TILE: usize = 64;

/// Where an accumulator turns: an LWE switched to Z_(2·N_T).
pub(crate) struct Rotation {
    pub mask: Vec<usize>,
    pub body: usize,
}

/// Buffers of one thread.
pub(crate) struct BlindRotation<'a> {
    arch: Arch,
    fft: &'a Fft,
    scratch: ComputationBuffers,
    /// GLWE dimension plus one.
    polynomials: usize,
    size: usize,
    gadget: Gadget,
    state: Vec<i64>,
    digits: Vec<u64>,
    /// Per accumulator of a group: digits of all polynomials, lowest level first, in the Fourier domain.
    transforms: Vec<c64>,
    /// Per accumulator of a group: the external product in the Fourier domain.
    sums: Vec<c64>,
}

#[derive(Clone, Copy)]
struct Gadget {
    base_log: u32,
    levels: usize,
}

impl<'a> BlindRotation<'a> {
    pub fn new(profile: &Profile, fft: &'a Fft) -> Self {
        let size = profile.pbs.polynomial_size;
        let polynomials = profile.pbs.glwe_dimension + 1;
        let decomposition = profile.pbs.decomposition;
        let gadget = Gadget { base_log: decomposition.base_log as u32, levels: decomposition.levels };
        let mut scratch = ComputationBuffers::new();
        let need = fft.as_view().forward_scratch().or(fft.as_view().backward_scratch());
        scratch.resize(need.unaligned_bytes_required());
        let zeros = |polynomials: usize| vec![c64::new(0.0, 0.0); GROUP * polynomials * size / 2];
        BlindRotation {
            arch: Arch::new(),
            fft,
            scratch,
            polynomials,
            size,
            gadget,
            state: vec![0; size],
            digits: vec![0; size],
            transforms: zeros(polynomials * gadget.levels),
            sums: zeros(polynomials),
        }
    }

    /// Multiplies each accumulator (`polynomials` of `size` words) by X^(−body + Σ maskᵢ·keyᵢ); `key` holds one GGSW
    /// after another in the Fourier domain, lowest level first, row by row.
    pub fn run(&mut self, key: &[c64], rotations: &[Rotation], accumulators: &mut [u64]) {
        let words = self.polynomials * self.size;
        for (rotation, accumulator) in rotations.iter().zip(accumulators.chunks_exact_mut(words)) {
            for polynomial in accumulator.chunks_exact_mut(self.size) {
                turn_back(polynomial, rotation.body);
            }
        }
        let ggsw_words = self.polynomials * self.polynomials * self.gadget.levels * self.size / 2;
        for (index, ggsw) in key.chunks_exact(ggsw_words).enumerate() {
            let groups = rotations.chunks(GROUP).zip(accumulators.chunks_mut(GROUP * words));
            for (rotations, accumulators) in groups {
                self.external_products(ggsw, index, rotations, accumulators);
            }
        }
    }

    /// acc += GGSW ⊡ (X^a·acc − acc) for a group.
    fn external_products(
        &mut self,
        ggsw: &[c64],
        index: usize,
        rotations: &[Rotation],
        accumulators: &mut [u64],
    ) {
        let half = self.size / 2;
        let rows = self.polynomials * self.gadget.levels;
        for (member, rotation) in rotations.iter().enumerate() {
            let accumulator = &accumulators[member * self.polynomials * self.size..];
            let transforms = &mut self.transforms[member * rows * half..][..rows * half];
            for (row, polynomial) in accumulator.chunks_exact(self.size).take(self.polynomials).enumerate() {
                let turn = Turn {
                    polynomial,
                    degree: rotation.mask[index],
                    keep: self.gadget.base_log * self.gadget.levels as u32,
                    state: &mut self.state,
                };
                self.arch.dispatch(turn);
                for level in 0..self.gadget.levels {
                    let digit = NextDigit {
                        base_log: self.gadget.base_log,
                        last: level + 1 == self.gadget.levels,
                        state: &mut self.state,
                        digits: &mut self.digits,
                    };
                    self.arch.dispatch(digit);
                    let at = (level * self.polynomials + row) * half;
                    self.fft.as_view().forward_as_integer(
                        FourierPolynomial { data: &mut transforms[at..at + half] },
                        Polynomial::from_container(self.digits.as_slice()),
                        self.scratch.stack(),
                    );
                }
            }
        }
        self.arch.dispatch(MultiplyKey {
            ggsw,
            transforms: &self.transforms,
            sums: &mut self.sums,
            members: rotations.len(),
            rows,
            columns: self.polynomials,
            half,
        });
        let polynomials = accumulators.chunks_exact_mut(self.size);
        for (polynomial, sum) in polynomials.zip(self.sums.chunks_exact_mut(half)) {
            self.fft.as_view().add_backward_in_place_as_torus(
                Polynomial::from_container(polynomial),
                FourierPolynomial { data: sum },
                self.scratch.stack(),
            );
        }
    }
}

/// Multiplies a polynomial by X^(−degree), 0 ≤ degree < 2·size.
fn turn_back(polynomial: &mut [u64], degree: usize) {
    let size = polynomial.len();
    polynomial.rotate_left(degree % size);
    // What passed coefficient 0 changes its sign; a full turn more changes all signs.
    let (stayed, passed) = polynomial.split_at_mut(size - degree % size);
    let negated = if degree < size { passed } else { stayed };
    for word in negated {
        *word = word.wrapping_neg();
    }
}

/// state = X^degree·p − p, rounded to its `keep` leading bits, as a signed integer.
struct Turn<'a> {
    polynomial: &'a [u64],
    degree: usize,
    keep: u32,
    state: &'a mut [i64],
}

impl WithSimd for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let size = self.polynomial.len();
        let shift = 64 - self.keep;
        let half = 1u64 << (shift - 1);
        let (degree, flip) = (self.degree % size, if self.degree < size { 0 } else { u64::MAX });
        let (state_low, state_high) = self.state.split_at_mut(degree);
        let (own_low, own_high) = self.polynomial.split_at(degree);
        let (stayed, passed) = self.polynomial.split_at(size - degree);
        for (state, turned, own, sign) in
            [(state_low, passed, own_low, !flip), (state_high, stayed, own_high, flip)]
        {
            // (x ^ m) − m is x for m = 0 and −x for m = −1.
            for ((state, &turned), &own) in state.iter_mut().zip(turned).zip(own) {
                let turned = (turned ^ sign).wrapping_sub(sign);
                *state = turned.wrapping_sub(own).wrapping_add(half) as i64 >> shift;
            }
        }
    }
}

/// Takes the lowest signed digit off the state; the last one takes all.
struct NextDigit<'a> {
    base_log: u32,
    last: bool,
    state: &'a mut [i64],
    digits: &'a mut [u64],
}

impl WithSimd for NextDigit<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        if self.last {
            for (digit, &state) in self.digits.iter_mut().zip(self.state.iter()) {
                *digit = state as u64;
            }
            return;
        }
        let spare = 64 - self.base_log;
        for (digit, state) in self.digits.iter_mut().zip(self.state.iter_mut()) {
            let low = *state << spare >> spare;
            *digit = low as u64;
            *state = state.wrapping_sub(low) >> self.base_log;
        }
    }
}

/// sums\[member\]\[column\] = Σ_row transforms\[member\]\[row\]·ggsw\[row\]\[column\].
struct MultiplyKey<'a> {
    ggsw: &'a [c64],
    transforms: &'a [c64],
    sums: &'a mut [c64],
    members: usize,
    rows: usize,
    columns: usize,
    half: usize,
}

impl WithSimd for MultiplyKey<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // A constant number of rows lets a sum stay in its register; these are all that the profiles have.
        match self.rows {
            4 => self.multiply::<S, 4>(simd, true),
            6 => self.multiply::<S, 6>(simd, true),
            _ => self.multiply::<S, 1>(simd, false),
        }
    }
}

impl MultiplyKey<'_> {
    /// Goes over the rows `ROWS` at a time; `all` says that these are all.
    #[inline(always)]
    fn multiply<S: Simd, const ROWS: usize>(self, simd: S, all: bool) {
        let (half, rows, columns) = (self.half, self.rows, self.columns);
        let tile = TILE.min(half);
        for start in (0..half).step_by(tile) {
            for member in 0..self.members {
                let transforms = &self.transforms[member * rows * half..][..rows * half];
                for column in 0..columns {
                    let sum = &mut self.sums[(member * columns + column) * half + start..][..tile];
                    let sum = S::as_mut_simd_c64s(sum).0;
                    let length = sum.len();
                    for first in (0..rows).step_by(ROWS) {
                        let x: [&[S::c64s]; ROWS] = std::array::from_fn(|row| {
                            let x = &transforms[(first + row) * half + start..][..tile];
                            &S::as_simd_c64s(x).0[..length]
                        });
                        let key: [&[S::c64s]; ROWS] = std::array::from_fn(|row| {
                            let key = &self.ggsw[((first + row) * columns + column) * half + start..][..tile];
                            &S::as_simd_c64s(key).0[..length]
                        });
                        for i in 0..length {
                            let product = simd.mul_c64s(key[0][i], x[0][i]);
                            let begin =
                                if all || first == 0 { product } else { simd.add_c64s(sum[i], product) };
                            sum[i] = (1..ROWS)
                                .fold(begin, |sum, row| simd.mul_add_c64s(key[row][i], x[row][i], sum));
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_back_divides_by_a_monomial() {
        let p = [1u64, 2, 3, 4];
        let turned = |degree| {
            let mut q = p;
            turn_back(&mut q, degree);
            q.map(|x| x as i64)
        };
        assert_eq!(turned(0), [1, 2, 3, 4]);
        assert_eq!(turned(1), [2, 3, 4, -1]);
        assert_eq!(turned(3), [4, -1, -2, -3]);
        assert_eq!(turned(4), [-1, -2, -3, -4]);
        assert_eq!(turned(7), [-4, 1, 2, 3]);
    }

    #[test]
    fn digits_of_a_turned_difference_add_up_again() {
        let size = 64;
        let p: Vec<u64> = (0..size as u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        for degree in [0, 1, 63, 64, 100, 127] {
            let (mut state, mut digits) = (vec![0i64; size], vec![0u64; size]);
            Arch::new().dispatch(Turn { polynomial: &p, degree, keep: 30, state: &mut state });
            let mut back = vec![0u64; size];
            for (last, shift) in [(false, 34), (true, 49)] {
                let (state, digits) = (&mut state, &mut digits);
                Arch::new().dispatch(NextDigit { base_log: 15, last, state, digits });
                for (back, &digit) in back.iter_mut().zip(digits.iter()) {
                    assert!((digit as i64).abs() <= 1 << 14);
                    *back = back.wrapping_add(digit << shift);
                }
            }
            for i in 0..size {
                // X^degree·p at coefficient i.
                let from = (i + 2 * size - degree) % (2 * size);
                let turned = if from < size { p[from] } else { p[from - size].wrapping_neg() };
                let error = turned.wrapping_sub(p[i]).wrapping_sub(back[i]) as i64;
                assert!(error.abs() <= 1 << 33, "coefficient {i} of X^{degree}");
            }
        }
    }
}
