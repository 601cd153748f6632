//! Whole layers on the ring engine, from the operands of a product to the operands of the next one:
//! `cargo bench --bench ring_layers`. Items are useful values. Everything is included but the keys: products, relinearisation,
//! merging, the bootstrap with its masks, and the way back into ciphertexts that the next product takes.
//!
//! The argument counts the threads of the rayon pool; zero stands for all cores.

use divan::{Bencher, counter::ItemsCount};
use hesn::he::ckks::fit::fit_degree;
use hesn::he::ckks::params::{LOG_DEGREE, RING_PROFILES, RINGS};
use hesn::he::ckks::small::program::Program;
use hesn::he::ckks::small::{DEGREE, SmallCiphertext};
use hesn::he::ckks::{ClientKey, Half, Mask, Role, ServerKeys};
use hesn::plan::route::{Target, Wanted, route};
use rayon::prelude::*;
use std::sync::LazyLock;

fn main() {
    divan::main();
}

static KEYS: LazyLock<(ClientKey, ServerKeys)> = LazyLock::new(|| {
    let client = ClientKey::generate(&RING_PROFILES[2]).expect("a gated row");
    let keys = client.server_keys(&|_, _| {}).expect("the system gives randomness");
    (client, keys)
});

const SAMPLES: usize = 128;

/// ReLU with degree 63 of what stands at the useful coefficients of up to eight rings; zero elsewhere.
fn relu(rings: &[SmallCiphertext], half: Half, mask: &Mask) -> Vec<SmallCiphertext> {
    let keys = &KEYS.1;
    let f = fit_degree(&|t: f64| t.max(0.0), 63, 1.0).expect("finite").polynomial;
    let inputs: [Option<&SmallCiphertext>; RINGS] = std::array::from_fn(|i| rings.get(i));
    let large = keys.bootstrapper();
    let powers = large.open(&keys.embed(inputs).expect("one ring"), 63, half).expect("one limb");
    let slots = large.polynomial(&powers, &f, Role::Output).expect("the row's degree");
    let closed = large.close(&[vec![(&slots, mask)]]).expect("outputs");
    keys.extract(&closed[0]).expect("an output")
}

fn encrypted(count: usize, occupied: impl Fn(usize) -> bool) -> Vec<SmallCiphertext> {
    let values: Vec<i64> =
        (0..DEGREE).map(|i| if occupied(i) { ((i * 37 % 101) as i64 - 50) << 20 } else { 0 }).collect();
    (0..count).map(|_| KEYS.0.encrypt(&values).expect("small values").expand()).collect()
}

fn mask(useful: impl Fn(usize) -> bool) -> Mask {
    let weight = |j: usize| f64::from(u8::from(useful(j / RINGS)));
    Mask::new((0..1 << LOG_DEGREE).map(weight).collect()).expect("zeros and ones")
}

fn on(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
}

/// 5 filters of 5×5 with stride 2 and padding 'same' over 28×28: four phases of stride 1, each image's phase in 16×16
/// coefficients of which 14×14 are useful, 16 images to a polynomial.
#[divan::bench(args = [1, 0], sample_count = 3, sample_size = 1)]
fn conv_5x5_stride_2(bencher: Bencher, threads: usize) {
    const FILTERS: usize = 5;
    const PHASES: usize = 4;
    let groups = SAMPLES / 16;
    let image = |c: usize| c % 16 < 14 && c / 16 % 16 < 14;
    let images: Vec<Vec<_>> = (0..groups).map(|_| encrypted(PHASES, image)).collect();
    let filters: Vec<Vec<_>> =
        (0..FILTERS).map(|_| encrypted(PHASES, |c| c % 16 < 3 && c / 16 < 3)).collect();
    let mask = mask(image);
    let pool = on(threads);
    let step = || {
        let pairs: Vec<(usize, usize)> =
            (0..FILTERS).flat_map(|f| (0..groups).map(move |g| (f, g))).collect();
        let products: Vec<SmallCiphertext> = pairs
            .par_iter()
            .map(|&(f, g)| {
                let terms: Vec<_> = images[g].iter().zip(&filters[f]).collect();
                KEYS.1.small().product_sum_narrow(&terms).expect("one ring")
            })
            .collect();
        products.chunks(RINGS).flat_map(|rings| relu(rings, Half::Both, &mask)).collect::<Vec<_>>()
    };
    pool.install(step);
    bencher.counter(ItemsCount::new(SAMPLES * FILTERS * 14 * 14)).bench(|| pool.install(step));
}

/// 784 inputs to 128 units. An operand of a sample is cut into 25 polynomials of 32 inputs, the weights into 25 of 32×128, so
/// that the 128 sums of a sample are one accumulated product with one relinearisation, read at multiples of 32; a tree merges
/// 32 samples into one ring. Operands are of the same kind as those that come out: values at their places, zero elsewhere.
#[divan::bench(args = [1, 0], sample_count = 3, sample_size = 1)]
fn dense_784_to_128(bencher: Bencher, threads: usize) {
    const INPUTS: usize = 784;
    const UNITS: usize = 128;
    const CHUNK: usize = DEGREE / UNITS;
    let parts = INPUTS.div_ceil(CHUNK);
    let operands = encrypted(parts, |c| c == 0 || c > DEGREE - CHUNK);
    let weights = encrypted(parts, |_| true);
    let merged = merges(CHUNK);
    let mask = mask(|_| true);
    let pool = on(threads);
    let step = || {
        let products: Vec<SmallCiphertext> = (0..SAMPLES)
            .into_par_iter()
            .map(|_| {
                let terms: Vec<_> = operands.iter().zip(&weights).collect();
                KEYS.1.small().product_sum_narrow(&terms).expect("one ring")
            })
            .collect();
        let rings: Vec<SmallCiphertext> = products
            .chunks(CHUNK)
            .flat_map(|own| KEYS.1.small().execute(&merged, own).expect("32 sources"))
            .collect();
        // Four full rings stand in the low halves of eight.
        let half = |ring: &SmallCiphertext| [ring.clone(), ring.shift((2 * DEGREE - DEGREE / 2) as u32)];
        let halves: Vec<SmallCiphertext> = rings.iter().flat_map(half).collect();
        let outputs = relu(&halves, Half::Low, &mask);
        // Back into one polynomial per sample, as the next product takes them.
        let whole: Vec<SmallCiphertext> = outputs
            .chunks(2)
            .map(|pair| {
                let mut ring = pair[1].shift((DEGREE / 2) as u32);
                ring.add_assign(&pair[0]).expect("one ring");
                ring
            })
            .collect();
        let apart = splits(CHUNK);
        whole
            .iter()
            .flat_map(|ring| KEYS.1.small().execute(&apart, std::slice::from_ref(ring)).expect("one source"))
            .collect::<Vec<_>>()
    };
    pool.install(step);
    bencher.counter(ItemsCount::new(SAMPLES * UNITS)).bench(|| pool.install(step));
}

fn wanted(source: usize, from: usize, to: usize) -> Wanted {
    Wanted { source, from: from as u32, to: to as u32, negate: false }
}

/// `count` polynomials of values at multiples of `count` into one.
fn merges(count: usize) -> Program {
    let all = (0..DEGREE).map(|i| wanted(i % count, i / count * count, i)).collect();
    route(DEGREE, &[Target { wanted: all, clean: false }], &|_, _| true).expect("valid places")
}

/// One polynomial into `count`, of values at multiples of `count`.
fn splits(count: usize) -> Program {
    let part = |p: usize| Target {
        wanted: (0..DEGREE / count).map(|i| wanted(0, count * i + p, count * i)).collect(),
        clean: true,
    };
    route(DEGREE, &(0..count).map(part).collect::<Vec<_>>(), &|_, _| true).expect("valid places")
}
