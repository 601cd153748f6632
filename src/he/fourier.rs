//! Negacyclic Fourier transform of torus polynomials: a real polynomial of size N as N/2 complex numbers (Klemsa 2021,
//! "Fast and error-free negacyclic integer convolution using extended Fourier transform").
//!
//! The transform itself is tfhe-fft's. The twist before it and after it is ours, so that it can be fused with what
//! produces the numbers and with what takes them.

// Only a client makes keys.
#![cfg_attr(not(feature = "client"), allow(dead_code, unused_imports))]

use std::sync::{Arc, Mutex, PoisonError};
use tfhe::core_crypto::{fft_impl::fft64::c64, prelude::ComputationBuffers};
use tfhe_fft::{
    ordered::FftAlgo,
    unordered::{Method, Plan},
};

/// Bytes of a cache line: vectors that cross none load faster.
const LINE: usize = 64;

/// The largest transform that tfhe-fft does without splitting.
const LARGEST_BASE: usize = 1024;

/// 1.5·2^52: added to a double below 2^51 in magnitude it leaves the nearest integer in the low bits of the mantissa.
pub(crate) const MAGIC: f64 = 6_755_399_441_055_744.0;

/// A transform of one size.
pub(crate) struct Fourier {
    plan: Plan,
    /// exp(iπj/N) for j < N/2: real parts, imaginary parts.
    pub twist_re: Vec<f64>,
    pub twist_im: Vec<f64>,
}

/// Transforms by size.
static TRANSFORMS: Mutex<Vec<Arc<Fourier>>> = Mutex::new(Vec::new());

impl Fourier {
    /// The transform for polynomials of a size, made on first use.
    pub fn of(size: usize) -> Arc<Fourier> {
        let mut known = TRANSFORMS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fourier) = known.iter().find(|f| f.half() == size / 2) {
            return fourier.clone();
        }
        // The fastest of tfhe-fft's algorithms on Zen 4 (7.3 µs for four transforms and two inverse ones of 1024; the
        // slowest takes 12). Its own choice by measurement goes wrong on a busy machine.
        let base_n = (size / 2).min(LARGEST_BASE);
        let algorithm = Method::UserProvided { base_algo: FftAlgo::Dif4, base_n };
        let angle = |j: usize| std::f64::consts::PI * j as f64 / size as f64;
        let fourier = Arc::new(Fourier {
            plan: Plan::new(size / 2, algorithm),
            twist_re: (0..size / 2).map(|j| angle(j).cos()).collect(),
            twist_im: (0..size / 2).map(|j| angle(j).sin()).collect(),
        });
        known.push(fourier.clone());
        fourier
    }

    /// Complex numbers per polynomial.
    pub fn half(&self) -> usize {
        self.twist_re.len()
    }

    /// Working memory for one thread.
    pub fn scratch(&self) -> ComputationBuffers {
        let mut buffers = ComputationBuffers::new();
        buffers.resize(self.plan.fft_scratch().unaligned_bytes_required());
        buffers
    }

    /// Transforms numbers that are already twisted.
    pub fn forward(&self, twisted: &mut [c64], scratch: &mut ComputationBuffers) {
        self.plan.fwd(twisted, scratch.stack());
    }

    /// Back to N/2 times the twisted numbers.
    pub fn backward(&self, transform: &mut [c64], scratch: &mut ComputationBuffers) {
        self.plan.inv(transform, scratch.stack());
    }

    /// Transforms torus words as signed fractions.
    pub fn forward_torus(&self, words: &[u64], transform: &mut [c64], scratch: &mut ComputationBuffers) {
        let fraction = |word: u64| word as i64 as f64 * (-64f64).exp2();
        let (low, high) = words.split_at(self.half());
        let twists = self.twist_re.iter().zip(&self.twist_im);
        for (((out, &re), &im), (&w_re, &w_im)) in transform.iter_mut().zip(low).zip(high).zip(twists) {
            *out = c64::new(fraction(re), fraction(im)) * c64::new(w_re, w_im);
        }
        self.forward(transform, scratch);
    }
}

/// Words that start at a cache line.
pub(crate) struct Aligned<T> {
    words: Vec<T>,
    range: std::ops::Range<usize>,
}

impl<T: Copy> Aligned<T> {
    pub fn new(zero: T, length: usize) -> Self {
        let words = vec![zero; length + LINE / size_of::<T>()];
        // An allocator that cannot say where a line starts only costs speed.
        let start =
            Some(words.as_ptr().align_offset(LINE)).filter(|&s| s <= words.len() - length).unwrap_or(0);
        Aligned { words, range: start..start + length }
    }
}

impl<T> std::ops::Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.words[self.range.clone()]
    }
}

impl<T> std::ops::DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.words[self.range.clone()]
    }
}
