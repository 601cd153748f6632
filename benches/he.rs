//! Unit costs of the kernels: `cargo bench --bench he`. Every figure is for the profile `standard`.
//!
//! `threads` counts the threads of the rayon pool in which a kernel runs; items are bootstraps, or packed values.

use divan::{Bencher, counter::ItemsCount};
use hesn::he::{Ciphertext, ClientKey, Control, LutTable, LweBig, LweSmall, PackEntry, ServerKeys, params};
use std::sync::LazyLock;

fn main() {
    divan::main();
}

struct Bench {
    client: ClientKey,
    server: ServerKeys,
    top: Ciphertext,
    bottom: Ciphertext,
    inputs: Vec<LweSmall>,
    lwes: Vec<LweBig>,
    identity: [LutTable; 1],
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let profile = params::profile("standard").expect("a row of the table");
    let client = ClientKey::generate(profile).expect("the system gives randomness");
    let server = client.server_keys(&|_, _| {}).expect("the system gives randomness");
    let values: Vec<i64> = (0..profile.ring.degree as i64).collect();
    let words: Vec<u64> = (0..profile.ring.degree as u64).map(|i| i << 48).collect();
    let bottom = client.encrypt(&values, 0).expect("fits the ring");
    let ring = server.switch_out(&bottom).expect("keys of one profile");
    Bench {
        top: client.encrypt(&values, 1).expect("fits the ring"),
        inputs: (0..64).map(|i| ring.extract(i).expect("in bounds")).collect(),
        lwes: client.encrypt_lwe_values(&words).expect("the system gives randomness").expand(),
        identity: [LutTable::new(profile, |z| z / 4.0).expect("within the torus")],
        bottom,
        client,
        server,
    }
});

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
}

/// Zero stands for all cores.
const THREADS: [usize; 2] = [1, 0];

#[divan::bench(args = THREADS, sample_count = 6, sample_size = 1)]
fn pbs(bencher: Bencher, threads: usize) {
    let b = &*BENCH;
    let pool = pool(threads);
    let inputs = &b.inputs[..16 * pool.current_num_threads().min(4)];
    let tables = vec![0; inputs.len()];
    bencher
        .counter(ItemsCount::new(inputs.len()))
        .bench(|| pool.install(|| b.server.bootstrap(inputs, &tables, &b.identity, &Control::NONE)));
}

fn pack_of(bencher: Bencher, threads: usize, count: usize) {
    let b = &*BENCH;
    let pool = pool(threads);
    let entries: Vec<_> = b.lwes[..count]
        .iter()
        .enumerate()
        .map(|(coefficient, lwe)| PackEntry { lwe, coefficient, negate: false })
        .collect();
    bencher.counter(ItemsCount::new(count)).bench(|| pool.install(|| b.server.pack(&entries, 1)));
}

#[divan::bench(args = THREADS, sample_count = 6, sample_size = 1)]
fn pack_4096(bencher: Bencher, threads: usize) {
    pack_of(bencher, threads, 4096);
}

#[divan::bench(args = THREADS, sample_count = 6, sample_size = 1)]
fn pack_60(bencher: Bencher, threads: usize) {
    pack_of(bencher, threads, 60);
}

#[divan::bench]
fn operand(bencher: Bencher) {
    let b = &*BENCH;
    bencher.bench(|| b.server.operand(&b.top));
}

/// A sum of so many products of extended operands, with scale-down and relinearisation.
#[divan::bench(args = [1, 17])]
fn product_sum(bencher: Bencher, terms: usize) {
    let b = &*BENCH;
    let operand = b.server.operand(&b.top).expect("level 1");
    let terms = vec![(&operand, &operand); terms];
    bencher.bench(|| b.server.product_sum(&terms));
}

#[divan::bench]
fn switch_out(bencher: Bencher) {
    let b = &*BENCH;
    bencher.bench(|| b.server.switch_out(&b.bottom));
}

#[divan::bench]
fn extract(bencher: Bencher) {
    let b = &*BENCH;
    let ring = b.server.switch_out(&b.bottom).expect("keys of one profile");
    bencher.bench(|| ring.extract(100));
}

#[divan::bench]
fn encrypt(bencher: Bencher) {
    let b = &*BENCH;
    bencher.bench(|| b.client.encrypt(&[1, 2, 3], 1));
}

#[divan::bench]
fn decrypt(bencher: Bencher) {
    let b = &*BENCH;
    bencher.bench(|| b.client.decrypt(&b.bottom));
}
