//! Blind rotation of a batch of accumulators, in an order that suits caches and vector units.
//!
//! One pass over the bootstrap key. For each of its GGSWs and each few accumulators at a time: X^a·acc − acc is
//! formed, decomposed and twisted in one go; its digits are transformed; a tile of the key is multiplied with all of
//! them while it is in the first-level cache; the sums come back and are added. The transform is tfhe-fft's; the rest
//! is compiled for the vector unit of the CPU at hand, which tfhe's own loops for it are not.

// Only a client makes keys.
#![cfg_attr(not(feature = "client"), allow(dead_code, unused_imports))]

use super::{
    fourier::{Aligned, Fourier, MAGIC},
    params::Profile,
};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::sync::Arc;
use tfhe::core_crypto::{fft_impl::fft64::c64, prelude::ComputationBuffers};

/// Accumulators that share a tile of the key.
const GROUP: usize = 4;
/// Complex words of a tile: its part of the key takes 8 to 12 KB.
const TILE: usize = 64;
/// GGSWs per task of the key's transformation.
const KEY_CHUNK: usize = 16;

/// Where an accumulator turns: an LWE switched to Z_(2·N_T).
pub(crate) struct Rotation {
    pub mask: Vec<usize>,
    pub body: usize,
}

/// GGSW encryptions of the LWE key's bits in the Fourier domain: one after another, lowest level first, row by row.
pub(crate) struct BootstrapKey {
    fourier: Arc<Fourier>,
    words: Aligned<c64>,
    polynomials: usize,
    gadget: Gadget,
}

#[derive(Clone, Copy)]
struct Gadget {
    base_log: u32,
    levels: usize,
}

impl BootstrapKey {
    /// Transforms a key that has the same order in the standard domain.
    pub fn new(profile: &Profile, standard: &[u64]) -> Self {
        let pbs = profile.pbs;
        let fourier = Fourier::of(pbs.polynomial_size);
        let mut words = Aligned::new(c64::new(0.0, 0.0), standard.len() / 2);
        let chunk = KEY_CHUNK * pbs.polynomial_size;
        words.par_chunks_mut(chunk / 2).zip(standard.par_chunks(chunk)).for_each(|(words, standard)| {
            let mut scratch = fourier.scratch();
            let polynomials = standard.chunks_exact(pbs.polynomial_size);
            for (transform, polynomial) in words.chunks_exact_mut(fourier.half()).zip(polynomials) {
                fourier.forward_torus(polynomial, transform, &mut scratch);
            }
        });
        let decomposition = pbs.decomposition;
        let gadget = Gadget { base_log: decomposition.base_log as u32, levels: decomposition.levels };
        BootstrapKey { fourier, words, polynomials: pbs.glwe_dimension + 1, gadget }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.words)
    }

    /// Multiplies each accumulator (k mask polynomials and a body) by X^(−body + Σ maskᵢ·keyᵢ).
    pub fn rotate(&self, rotations: &[Rotation], accumulators: &mut [u64]) {
        let size = 2 * self.fourier.half();
        let words = self.polynomials * size;
        for (rotation, accumulator) in rotations.iter().zip(accumulators.chunks_exact_mut(words)) {
            for polynomial in accumulator.chunks_exact_mut(size) {
                turn_back(polynomial, rotation.body);
            }
        }
        let mut work = Work::new(self);
        let ggsw_words = self.polynomials * self.polynomials * self.gadget.levels * size / 2;
        for (index, ggsw) in self.words.chunks_exact(ggsw_words).enumerate() {
            let groups = rotations.chunks(GROUP).zip(accumulators.chunks_mut(GROUP * words));
            for (rotations, accumulators) in groups {
                work.external_products(ggsw, index, rotations, accumulators);
            }
        }
    }
}

/// Buffers of one thread.
struct Work<'a> {
    key: &'a BootstrapKey,
    arch: Arch,
    scratch: ComputationBuffers,
    state: Aligned<i64>,
    /// Per accumulator of a group: digits of all polynomials, lowest level first, in the Fourier domain.
    transforms: Aligned<c64>,
    /// Per accumulator of a group: the external product in the Fourier domain.
    sums: Aligned<c64>,
}

impl<'a> Work<'a> {
    fn new(key: &'a BootstrapKey) -> Self {
        let zeros =
            |polynomials: usize| Aligned::new(c64::new(0.0, 0.0), GROUP * polynomials * key.fourier.half());
        Work {
            key,
            arch: Arch::new(),
            scratch: key.fourier.scratch(),
            state: Aligned::new(0, 2 * key.fourier.half()),
            transforms: zeros(key.polynomials * key.gadget.levels),
            sums: zeros(key.polynomials),
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
        let BootstrapKey { fourier, polynomials, gadget, .. } = self.key;
        let half = fourier.half();
        let rows = polynomials * gadget.levels;
        for (member, rotation) in rotations.iter().enumerate() {
            let accumulator = &accumulators[member * polynomials * 2 * half..];
            let transforms = &mut self.transforms[member * rows * half..][..rows * half];
            for (row, polynomial) in accumulator.chunks_exact(2 * half).take(*polynomials).enumerate() {
                self.arch.dispatch(Decompose {
                    polynomial,
                    degree: rotation.mask[index],
                    gadget: *gadget,
                    fourier,
                    state: &mut self.state,
                    digits: &mut transforms[row * half..],
                    stride: polynomials * half,
                });
            }
            for digit in transforms.chunks_exact_mut(half) {
                fourier.forward(digit, &mut self.scratch);
            }
        }
        self.arch.dispatch(MultiplyKey {
            ggsw,
            transforms: &self.transforms,
            sums: &mut self.sums,
            members: rotations.len(),
            rows,
            columns: *polynomials,
            half,
        });
        for (polynomial, sum) in accumulators.chunks_exact_mut(2 * half).zip(self.sums.chunks_exact_mut(half))
        {
            fourier.backward(sum, &mut self.scratch);
            self.arch.dispatch(AddBack { polynomial, sum, fourier });
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

/// The signed digits of X^degree·p − p, rounded to the digits' bits, as twisted complex numbers: level `l` from
/// `digits[l·stride]`, the lowest first.
struct Decompose<'a> {
    polynomial: &'a [u64],
    degree: usize,
    gadget: Gadget,
    fourier: &'a Fourier,
    state: &'a mut [i64],
    digits: &'a mut [c64],
    stride: usize,
}

impl WithSimd for Decompose<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Gadget { base_log, levels } = self.gadget;
        let size = self.polynomial.len();
        let shift = 64 - base_log * levels as u32;
        // X^degree·p is p shifted, and negated where it wrapped; a full turn more negates all.
        let (degree, sign) = (self.degree % size, if self.degree < size { 0 } else { u64::MAX });
        let (state_low, state_high) = self.state.split_at_mut(degree);
        let (own_low, own_high) = self.polynomial.split_at(degree);
        let (stayed, wrapped) = self.polynomial.split_at(size - degree);
        round_difference(wrapped, own_low, !sign, shift, state_low);
        round_difference(stayed, own_high, sign, shift, state_high);
        let (low, high) = self.state.split_at_mut(size / 2);
        for level in 0..levels {
            // The last digit takes all that is left.
            let bits = if level + 1 == levels { 64 } else { base_log };
            let out = &mut self.digits[level * self.stride..][..size / 2];
            twisted_digit(low, high, bits, &self.fourier.twist_re, &self.fourier.twist_im, out);
        }
    }
}

/// state = ±turned − own in units of 2^shift, rounded; a sign of 0 keeps, one of −1 negates. (A function of its own, so that
/// the compiler knows that nothing overlaps; so are the next two.)
#[inline(always)]
fn round_difference(turned: &[u64], own: &[u64], sign: u64, shift: u32, state: &mut [i64]) {
    let half = 1u64 << (shift - 1);
    for ((state, &turned), &own) in state.iter_mut().zip(turned).zip(own) {
        let turned = (turned ^ sign).wrapping_sub(sign);
        *state = turned.wrapping_sub(own).wrapping_add(half) as i64 >> shift;
    }
}

/// Takes the lowest signed digit off two states, and twists the pair as a complex number.
#[inline(always)]
fn twisted_digit(low: &mut [i64], high: &mut [i64], bits: u32, w_re: &[f64], w_im: &[f64], out: &mut [c64]) {
    let length = out.len();
    let (low, high) = (&mut low[..length], &mut high[..length]);
    let (w_re, w_im) = (&w_re[..length], &w_im[..length]);
    let spare = 64 - bits;
    // A shift by all bits is none.
    let rest = bits & 63;
    for i in 0..length {
        let (digit_re, digit_im) = (low[i] << spare >> spare, high[i] << spare >> spare);
        low[i] = low[i].wrapping_sub(digit_re) >> rest;
        high[i] = high[i].wrapping_sub(digit_im) >> rest;
        let (re, im) = (small_integer(digit_re), small_integer(digit_im));
        out[i].re = re * w_re[i] - im * w_im[i];
        out[i].im = re * w_im[i] + im * w_re[i];
    }
}

/// An integer below 2^51 in magnitude as a double, in two instructions of any vector unit.
#[inline(always)]
fn small_integer(x: i64) -> f64 {
    f64::from_bits((MAGIC.to_bits() as i64).wrapping_add(x) as u64) - MAGIC
}

/// The torus word nearest to a real number below 2^51 in magnitude, to 52 bits.
#[inline(always)]
fn torus_word(x: f64) -> u64 {
    let fraction = x - ((x + MAGIC) - MAGIC);
    let bits = (fraction * 52f64.exp2() + MAGIC).to_bits();
    (bits << 12) ^ (1 << 63)
}

/// polynomial += the numbers of a backward transform, untwisted, as torus words.
struct AddBack<'a> {
    polynomial: &'a mut [u64],
    sum: &'a [c64],
    fourier: &'a Fourier,
}

impl WithSimd for AddBack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (low, high) = self.polynomial.split_at_mut(self.fourier.half());
        add_back(low, high, self.sum, &self.fourier.twist_re, &self.fourier.twist_im);
    }
}

#[inline(always)]
fn add_back(low: &mut [u64], high: &mut [u64], sum: &[c64], w_re: &[f64], w_im: &[f64]) {
    let half = sum.len();
    let scale = 1.0 / half as f64;
    let (low, high) = (&mut low[..half], &mut high[..half]);
    let (w_re, w_im) = (&w_re[..half], &w_im[..half]);
    for i in 0..half {
        let c64 { re, im } = sum[i];
        let (w_re, w_im) = (w_re[i] * scale, w_im[i] * scale);
        low[i] = low[i].wrapping_add(torus_word(re * w_re + im * w_im));
        high[i] = high[i].wrapping_add(torus_word(im * w_re - re * w_im));
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
        let fourier = Fourier::of(size);
        let p: Vec<u64> = (0..size as u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        for (base_log, levels) in [(15, 2), (12, 3), (8, 4)] {
            for degree in [0, 1, 31, 32, 33, 63, 64, 100, 127] {
                let mut digits = vec![c64::new(0.0, 0.0); levels * size / 2];
                Arch::new().dispatch(Decompose {
                    polynomial: &p,
                    degree,
                    gadget: Gadget { base_log, levels },
                    fourier: &fourier,
                    state: &mut vec![0; size],
                    digits: &mut digits,
                    stride: size / 2,
                });
                for i in 0..size {
                    // X^degree·p at coefficient i.
                    let from = (i + 2 * size - degree) % (2 * size);
                    let turned = if from < size { p[from] } else { p[from - size].wrapping_neg() };
                    let mut back = 0u64;
                    for (level, digits) in digits.chunks_exact(size / 2).enumerate() {
                        let j = i % (size / 2);
                        let untwisted = digits[j] * c64::new(fourier.twist_re[j], -fourier.twist_im[j]);
                        let digit = (if i < size / 2 { untwisted.re } else { untwisted.im }).round();
                        assert!(digit.abs() <= (f64::from(base_log) - 1.0).exp2());
                        let shift = 64 - base_log * (levels - level) as u32;
                        back = back.wrapping_add((digit as i64 as u64) << shift);
                    }
                    let error = turned.wrapping_sub(p[i]).wrapping_sub(back) as i64;
                    assert!(
                        error.abs() <= 1 << (63 - base_log * levels as u32),
                        "coefficient {i} of X^{degree}"
                    );
                }
            }
        }
    }

    #[test]
    fn real_numbers_become_torus_words() {
        for (x, word) in
            [(0.0, 0), (0.25, 1 << 62), (-0.25, 3 << 62), (0.5, 1 << 63), (-1024.125, 7 << 61), (3.0, 0)]
        {
            assert_eq!(torus_word(x), word, "{x}");
        }
        for x in [0, 1, -1, 16_384, -16_384, (1 << 40) + 1] {
            assert_eq!(small_integer(x), x as f64);
        }
    }
}
