//! Costs of the ring engine: `cargo bench --bench ckks`. Items are values: 32,768 of a bootstrap, half of them where only
//! the low half of the coefficients is useful.
//!
//! `threads` counts the threads of the rayon pool; zero stands for all cores.

use divan::{Bencher, counter::ItemsCount};
use hesn::he::ckks::{
    BootstrapKeys, Bootstrapper, Ciphertext, Half, Mask, RingSecret, Role,
    fit::{self, TrigPolynomial},
    params::{self, RING_PROFILES},
};
use rayon::prelude::*;
use std::sync::OnceLock;

fn main() {
    divan::main();
}

struct Bench {
    bootstrapper: Bootstrapper,
    input: Ciphertext,
    all: Mask,
}

/// The keys of one row at a time are in memory: benches of the same row follow each other.
fn bench_of(degree: usize) -> &'static Bench {
    static BENCHES: [OnceLock<Bench>; 3] = [const { OnceLock::new() }; 3];
    let row = RING_PROFILES.iter().position(|p| p.function_degree == degree).expect("a row of the table");
    BENCHES[row].get_or_init(|| {
        let secret = RingSecret::generate().expect("the system gives randomness");
        let keys = secret.bootstrap_keys(&RING_PROFILES[row], &|_, _| {}).expect("a gated row");
        let bootstrapper = Bootstrapper::new(keys);
        let n = 1 << params::LOG_DEGREE;
        let values: Vec<f64> = (0..n).map(|j| 0.25 - 0.5 * j as f64 / n as f64).collect();
        let input =
            secret.encrypt_input(bootstrapper.context(), &values).expect("the system gives randomness");
        Bench { bootstrapper, input, all: Mask::all(n) }
    })
}

fn fitted(f: impl Fn(f64) -> f64, degree: usize) -> TrigPolynomial {
    fit::fit_degree(&f, degree, 1.0).expect("finite").polynomial
}

fn relu(degree: usize) -> TrigPolynomial {
    fitted(|t| t.max(0.0), degree)
}

fn sigmoid(degree: usize) -> TrigPolynomial {
    fitted(|t| 0.25 / (1.0 + (-32.0 * t).exp()), degree)
}

fn functions(bencher: Bencher, threads: usize, row: usize, functions: &[TrigPolynomial], half: Half) {
    let Bench { bootstrapper, input, all } = bench_of(row);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let degree = functions.iter().map(TrigPolynomial::degree).max().unwrap_or(0);
    let values = all.degree() / if half == Half::Low { 2 } else { 1 };
    bencher.counter(ItemsCount::new(values)).bench(|| {
        pool.install(|| {
            let powers = bootstrapper.open(input, degree, half)?;
            let slots = functions
                .iter()
                .map(|f| bootstrapper.polynomial(&powers, f, Role::Output))
                .collect::<Result<Vec<_>, _>>()?;
            let outputs: Vec<_> = slots.iter().map(|s| vec![(s, all)]).collect();
            bootstrapper.close(&outputs)
        })
    });
}

const THREADS: [usize; 2] = [1, 0];

#[divan::bench(args = THREADS, sample_count = 5, sample_size = 1)]
fn a_relu_63(bencher: Bencher, threads: usize) {
    functions(bencher, threads, 63, &[relu(63)], Half::Both);
}

#[divan::bench(args = THREADS, sample_count = 5, sample_size = 1)]
fn a_relu_63_low_half(bencher: Bencher, threads: usize) {
    functions(bencher, threads, 63, &[relu(63)], Half::Low);
}

/// As many bootstraps at the same time as there are threads.
#[divan::bench(args = THREADS, sample_count = 5, sample_size = 1)]
fn a_relu_63_at_once(bencher: Bencher, threads: usize) {
    let Bench { bootstrapper, input, all } = bench_of(63);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let (relu, count) = (relu(63), pool.current_num_threads());
    let one = |_| {
        let powers = bootstrapper.open(input, 63, Half::Both)?;
        let slots = bootstrapper.polynomial(&powers, &relu, Role::Output)?;
        bootstrapper.close(&[vec![(&slots, all)]])
    };
    bencher.counter(ItemsCount::new(count * all.degree())).bench(|| {
        pool.install(|| (0..count).into_par_iter().with_max_len(1).map(one).collect::<Result<Vec<_>, _>>())
    });
}

#[divan::bench(args = THREADS, sample_count = 5, sample_size = 1)]
fn a_relu_63_and_step_31(bencher: Bencher, threads: usize) {
    let step = fitted(|t| 0.25 / (1.0 + (-96.0 * t).exp()), 31);
    functions(bencher, threads, 63, &[relu(63), step], Half::Both);
}

#[divan::bench(args = THREADS, sample_count = 5, sample_size = 1)]
fn b_sigmoid_15(bencher: Bencher, threads: usize) {
    functions(bencher, threads, 15, &[sigmoid(15)], Half::Both);
}

#[divan::bench(args = THREADS, sample_count = 5, sample_size = 1)]
fn b_sigmoid_15_low_half(bencher: Bencher, threads: usize) {
    functions(bencher, threads, 15, &[sigmoid(15)], Half::Low);
}

#[divan::bench(sample_count = 1, sample_size = 1)]
fn c_key_generation() {
    let secret = RingSecret::generate().expect("the system gives randomness");
    divan::black_box(secret.bootstrap_keys(&RING_PROFILES[2], &|_, _| {}).expect("a gated row"));
}

/// Half of the keys, expanded from a seed.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn c_keys_over_the_wire(bencher: Bencher) {
    let mut bytes = vec![];
    bench_of(63).bootstrapper.keys().write_to(&mut bytes).expect("memory");
    bencher.bench(|| BootstrapKeys::read_from(&bytes[..]).map(|keys| keys.bytes()));
}

/// The matrices of both transforms.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn c_transforms(bencher: Bencher) {
    let mut bytes = vec![];
    bench_of(15).bootstrapper.keys().write_to(&mut bytes).expect("memory");
    bencher
        .with_inputs(|| BootstrapKeys::read_from(&bytes[..]).expect("as written"))
        .bench_values(|keys| Bootstrapper::new(keys).transform_bytes());
}
