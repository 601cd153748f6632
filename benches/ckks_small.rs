//! Unit costs of the small ring: `cargo bench --bench ckks_small`.

use divan::{Bencher, counter::ItemsCount};
use hesn::{
    he::ckks::{
        params::RING_PROFILES,
        secret::RingSecret,
        small::program::{Program, Shifted, Step, Value},
        small::{DEGREE, SmallCiphertext, SmallKeys, SmallRing, SmallSecret, embed},
    },
    he::ring::context::RnsContext,
    plan::route::{Target, Wanted, route},
};
use std::sync::LazyLock;

fn main() {
    divan::main();
}

struct Bench {
    secret: SmallSecret,
    keys: SmallKeys,
    large: RnsContext,
    sources: Vec<SmallCiphertext>,
    narrow: Vec<SmallCiphertext>,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let profile = &RING_PROFILES[2];
    let ring = SmallRing::of(profile).expect("a row of the table");
    let secret = RingSecret::generate().expect("the system gives randomness");
    let secret = SmallSecret::new(&ring, &secret).expect("a secret of this ring");
    let values: Vec<i64> = (0..DEGREE as i64).collect();
    let sources: Vec<_> =
        (0..128).map(|_| secret.encrypt(&values).expect("fits the ring").expand()).collect();
    Bench {
        narrow: sources.iter().map(SmallCiphertext::narrow).collect(),
        sources,
        keys: secret.server_keys().expect("the system gives randomness"),
        large: RnsContext::new(15, &profile.primes[..2], &profile.special_primes[..1], 2)
            .expect("primes of the table"),
        secret,
    }
});

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
}

fn wanted(source: usize, from: usize, to: usize) -> Wanted {
    Wanted { source, from: from as u32, to: to as u32, negate: false }
}

#[divan::bench]
fn encrypt(bencher: Bencher) {
    let b = &*BENCH;
    bencher.bench(|| b.secret.encrypt(&[1, 2, 3]));
}

/// A sum of so many products with one relinearisation.
#[divan::bench(args = [1, 4, 32])]
fn product_sum(bencher: Bencher, terms: usize) {
    let b = &*BENCH;
    let terms: Vec<_> = (0..terms).map(|i| (&b.sources[i], &b.sources[i + 1])).collect();
    bencher.counter(ItemsCount::new(terms.len())).bench(|| b.keys.product_sum(&terms));
}

/// One product whose result only a bootstrap reads.
#[divan::bench]
fn product_narrow(bencher: Bencher) {
    let b = &*BENCH;
    bencher.bench(|| b.keys.product_sum_narrow(&[(&b.sources[0], &b.sources[1])]));
}

/// A key switch of a full and of a narrow ciphertext.
#[divan::bench(args = [false, true])]
fn reverse(bencher: Bencher, is_narrow: bool) {
    let b = &*BENCH;
    let x = if is_narrow { &b.narrow[0] } else { &b.sources[0] };
    bencher.bench(|| b.keys.reverse(x));
}

#[divan::bench]
fn shift(bencher: Bencher) {
    let b = &*BENCH;
    bencher.bench(|| b.sources[0].shift(7));
}

/// A tree that merges 128 ciphertexts; items are key switches. Zero stands for all cores.
#[divan::bench(args = [1, 0])]
fn merge_128(bencher: Bencher, threads: usize) {
    merge_of(bencher, threads, &BENCH.sources);
}

/// The same of narrow ciphertexts.
#[divan::bench(args = [1, 0])]
fn merge_128_narrow(bencher: Bencher, threads: usize) {
    merge_of(bencher, threads, &BENCH.narrow);
}

fn merge_of(bencher: Bencher, threads: usize, sources: &[SmallCiphertext]) {
    let b = &*BENCH;
    let all = (0..DEGREE).map(|i| wanted(i % 128, i / 128 * 128, i)).collect();
    let program = route(DEGREE, &[Target { wanted: all, clean: true }], &|_, _| true).expect("valid places");
    let pool = pool(threads);
    bencher
        .counter(ItemsCount::new(program.switches()))
        .bench(|| pool.install(|| b.keys.execute(&program, sources)));
}

/// Takes one ciphertext of interleaved values apart into 128; items are key switches.
#[divan::bench(args = [1, 0])]
fn split_128(bencher: Bencher, threads: usize) {
    let b = &*BENCH;
    let part = |p| Target { wanted: (0..32).map(|i| wanted(0, 128 * i + p, 128 * i)).collect(), clean: true };
    let program = route(DEGREE, &(0..128).map(part).collect::<Vec<_>>(), &|_, _| true).expect("valid places");
    let pool = pool(threads);
    bencher
        .counter(ItemsCount::new(program.switches()))
        .bench(|| pool.install(|| b.keys.execute(&program, &b.sources)));
}

/// Takes one ciphertext apart and adds its values up to 128 targets of 32 neighbours; items are key switches.
#[divan::bench(args = [1, 0], sample_count = 5, sample_size = 1)]
fn apart_4096(bencher: Bencher, threads: usize) {
    let b = &*BENCH;
    let part =
        |p: usize| Target { wanted: (0..32).map(|i| wanted(0, 32 * p + i, 31 - i)).collect(), clean: true };
    let program = route(DEGREE, &(0..128).map(part).collect::<Vec<_>>(), &|_, _| true).expect("valid places");
    let pool = pool(threads);
    bencher
        .counter(ItemsCount::new(program.switches()))
        .bench(|| pool.install(|| b.keys.execute(&program, &b.sources)));
}

/// A sum of 128 shifted ciphertexts; items are terms.
#[divan::bench]
fn add_shifted(bencher: Bencher) {
    let b = &*BENCH;
    let place = |index: usize| {
        let value = Value::Source { index, halvings: 0 };
        Shifted { value, shift: 37 * index as u32 }
    };
    let output = Shifted { value: Value::Step { step: 0, result: 0 }, shift: 0 };
    let program =
        Program { steps: vec![Step::Sum((0..128).map(place).collect())], outputs: vec![Some(output)] };
    bencher.counter(ItemsCount::new(128usize)).bench(|| pool_of_one(|| b.keys.execute(&program, &b.sources)));
}

/// Any 4096 coefficients of eight ciphertexts: 4095 key switches.
#[divan::bench(args = [1, 0], sample_count = 3, sample_size = 1)]
fn pack_4096(bencher: Bencher, threads: usize) {
    let b = &*BENCH;
    let all = (0..DEGREE).map(|i| wanted(i * i % 8, i * 37 % DEGREE, i * 1021 % DEGREE)).collect();
    let program = route(DEGREE, &[Target { wanted: all, clean: false }], &|_, _| true).expect("valid places");
    let pool = pool(threads);
    bencher.counter(ItemsCount::new(DEGREE)).bench(|| pool.install(|| b.keys.execute(&program, &b.sources)));
}

/// The planning of a merge of 32,768 values from 4096 ciphertexts into eight.
#[divan::bench]
fn route_32768(bencher: Bencher) {
    let part = |t: usize| Target {
        wanted: (0..DEGREE).map(|i| wanted(512 * t + i % 512, i / 512 * 512, i)).collect(),
        clean: false,
    };
    let targets: Vec<_> = (0..8).map(part).collect();
    bencher.bench(|| route(DEGREE, &targets, &|_, _| true));
}

#[divan::bench]
fn embed_8(bencher: Bencher) {
    let b = &*BENCH;
    let rings = std::array::from_fn(|i| Some(&b.sources[i]));
    bencher.bench(|| pool_of_one(|| embed(&b.large, rings)));
}

fn pool_of_one<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    static POOL: LazyLock<rayon::ThreadPool> = LazyLock::new(|| pool(1));
    POOL.install(f)
}
