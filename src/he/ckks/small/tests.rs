use super::{
    noise::{self, Factor},
    program::{Merge, Program, Shifted, Step, Value},
    *,
};
use crate::he::{
    HeError,
    ckks::{ciphertext::Ciphertext, params::RING_PROFILES, secret::RingSecret},
    ring::{arith::invmod, buffer::Buffer, context::RnsContext, key_switch::lb, simd},
};
use std::sync::{Arc, OnceLock};

const PROFILE: &crate::he::ckks::params::RingProfile = &RING_PROFILES[2];

struct Client {
    secret: RingSecret,
    small: SmallSecret,
    keys: SmallKeys,
    ring: Arc<SmallRing>,
}

fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let ring = SmallRing::of(PROFILE).unwrap();
        let secret = RingSecret::generate().unwrap();
        let small = SmallSecret::new(&ring, &secret).unwrap();
        Client { keys: small.server_keys().unwrap(), secret, small, ring }
    })
}

fn encrypt(values: &[i64]) -> SmallCiphertext {
    client().small.encrypt(values).unwrap().expand()
}

/// Values that look random, below 2^bits in magnitude.
fn values(bits: u32, seed: u64) -> Vec<i64> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> (63 - bits)) as i64 - (1 << bits)
    };
    (0..DEGREE).map(|_| next()).collect()
}

fn shifted(x: &[i64], by: usize) -> Vec<i64> {
    let mut out = vec![0; DEGREE];
    for (i, &c) in x.iter().enumerate() {
        let e = (i + by) % (2 * DEGREE);
        out[e % DEGREE] = if e < DEGREE { c } else { -c };
    }
    out
}

fn product(x: &[i64], y: &[i64]) -> Vec<i64> {
    let mut out = vec![0i64; DEGREE];
    for (i, &a) in x.iter().enumerate() {
        for (j, &b) in y.iter().enumerate() {
            let e = (i + j) % DEGREE;
            out[e] += if i + j < DEGREE { a * b } else { -a * b };
        }
    }
    out
}

fn norm(x: &[i64]) -> f64 {
    x.iter().map(|&v| (v as f64).powi(2)).sum::<f64>().sqrt()
}

/// measured ≤ predicted ≤ measured + 1.5 bits. The measurement's own spread is 0.027 bits: the mean of |s|²·|e|² over the 2048
/// places where s and e are evaluated, both exponentially distributed.
fn assert_predicted(measured: f64, predicted: f64) {
    assert_predicted_within(measured, predicted, 0.2);
}

fn assert_predicted_within(measured: f64, predicted: f64, spread: f64) {
    let bits = (predicted / measured).log2();
    assert!((-spread..=1.5).contains(&bits), "measured {measured}, predicted {predicted}: {bits} bits");
}

/// The same for what is rounded under s²: |s|⁴·|e|² spreads by 0.053 bits.
fn assert_predicted_under_square(measured: f64, predicted: f64) {
    assert_predicted_within(measured, predicted, 0.35);
}

fn assert_noise(x: &SmallCiphertext, expected: &[i64], predicted: f64) {
    assert_predicted(client().small.noise(x, expected).unwrap(), predicted);
}

#[test]
fn a_fresh_ciphertext_has_the_noise_of_its_encryption() {
    let values = values(59, 1);
    assert_noise(&encrypt(&values), &values, noise::fresh_units());
    let few = client().small.encrypt(&[5 << 40]).unwrap().expand();
    let phase = client().small.decrypt(&few).unwrap();
    assert!((phase[0] - (5 << 40)).abs() < 40 && phase[1..].iter().all(|p| p.abs() < 40));
}

#[test]
fn what_does_not_fit_is_refused() {
    let small = &client().small;
    let error = small.encrypt(&vec![0; DEGREE + 1]).unwrap_err();
    assert!(matches!(error, HeError::TooManyCoefficients { got: 4097, degree: 4096, .. }));
    assert!(matches!(small.encrypt(&[i64::MIN]).unwrap_err(), HeError::MultiplierTooLarge { .. }));
    assert!(matches!(encrypt(&[]).add_plain(&[i64::MAX]).unwrap_err(), HeError::MultiplierTooLarge { .. }));
    assert!(matches!(client().keys.product_sum(&[]).unwrap_err(), HeError::Count { .. }));
}

#[test]
fn linear_operations_are_exact() {
    let (x, y, plain) = (values(40, 1), values(40, 2), values(40, 3));
    let mut sum = encrypt(&x);
    sum.add_assign(&encrypt(&y)).unwrap();
    sum.mul_integer(-3);
    sum.add_plain(&plain).unwrap();
    sum.sub_assign(&encrypt(&x)).unwrap();
    let expected: Vec<i64> = (0..DEGREE).map(|i| -4 * x[i] - 3 * y[i] + plain[i]).collect();
    assert_noise(&sum, &expected, noise::fresh_units() * (9.0f64 + 9.0 + 1.0).sqrt());
    for by in [1, 77, DEGREE, DEGREE + 5, 2 * DEGREE - 1] {
        assert_noise(&encrypt(&x).shift(by as u32), &shifted(&x, by), noise::fresh_units());
    }
    let zero = SmallCiphertext::zero(&client().ring);
    assert_eq!(client().small.noise(&zero, &[0; DEGREE]).unwrap(), 0.0);
}

#[test]
fn a_public_factor_multiplies_the_noise_by_its_norm() {
    let (x, y) = (values(30, 5), values(8, 6));
    let predicted = noise::fresh_units() * norm(&y);
    assert_noise(&encrypt(&x).mul_plain(&y).unwrap(), &product(&x, &y), predicted);
}

#[test]
fn sums_of_products_have_the_predicted_noise() {
    for (count, bits) in [(1, 20), (9, 20), (5, 3)] {
        let x: Vec<_> = (0..count).map(|i| values(bits, i + 1)).collect();
        let y: Vec<_> = (0..count).map(|i| values(bits, i + 100)).collect();
        let pairs: Vec<_> = x.iter().zip(&y).map(|(x, y)| (encrypt(x), encrypt(y))).collect();
        let factors: Vec<_> = pairs.iter().map(|(x, y)| (x, y)).collect();
        let sum = client().keys.product_sum(&factors).unwrap();
        let mut expected = vec![0; DEGREE];
        for (x, y) in x.iter().zip(&y) {
            expected.iter_mut().zip(product(x, y)).for_each(|(e, p)| *e += p);
        }
        let factor = |x: &Vec<i64>| Factor { norm: norm(x), units: noise::fresh_units() };
        let factors: Vec<_> = x.iter().zip(&y).map(|(x, y)| (factor(x), factor(y))).collect();
        assert_noise(&sum, &expected, noise::product_units(PROFILE, &factors));
    }
}

#[test]
fn narrow_products_have_the_predicted_error_on_the_torus() {
    let modulus = client().ring.modulus() as f64;
    let keys = &client().keys;
    // Products of about 2^57, three of them.
    let (x, y) = (values(25, 1), values(25, 2));
    let (cx, cy) = (encrypt(&x), encrypt(&y));
    let mut sum = keys.product_sum_narrow(&[(&cx, &cy), (&cx, &cy), (&cy, &cx)]).unwrap();
    assert_eq!(sum.width(), Width::Narrow);
    let again = SmallCiphertext::from_bytes(&client().ring, &sum.to_bytes()).unwrap();
    assert_eq!(client().small.decrypt(&again).unwrap(), client().small.decrypt(&sum).unwrap());
    let constants = values(57, 3);
    sum.add_plain(&constants).unwrap();
    let expected: Vec<i64> = product(&x, &y).iter().zip(&constants).map(|(v, c)| 3 * v + c).collect();
    let measured = client().small.noise(&sum, &expected).unwrap() / modulus;
    assert_predicted_under_square(measured, noise::narrow_error(PROFILE));
    let narrowed = encrypt(&x).narrow();
    let measured = client().small.noise(&narrowed, &x).unwrap() / modulus;
    assert_predicted(measured, noise::switch_units(PROFILE) / PROFILE.primes[1] as f64);
    // Full and narrow do not mix.
    let error = cx.clone().add_assign(&sum).unwrap_err();
    assert!(matches!(error, HeError::LevelMismatch { left: 1, right: 0, .. }));
    assert!(keys.product_sum(&[(&cx, &sum)]).is_err());
    assert!(keys.execute(&gather(1), &[cx, sum]).is_err());
}

#[test]
fn narrow_ciphertexts_are_routed_and_embedded_like_full_ones() {
    let modulus = client().ring.modulus() as f64;
    let q0 = PROFILE.primes[0] as f64;
    let keys = &client().keys;
    let y = values(25, 9);
    let one = encrypt(&y);
    let x: Vec<_> = (0..64).map(|i| values(25, i + 1)).collect();
    let narrow: Vec<_> = x.iter().map(|x| keys.product_sum_narrow(&[(&encrypt(x), &one)]).unwrap()).collect();
    let exact: Vec<Vec<i64>> = x.iter().map(|x| product(x, &y)).collect();
    let made = keys.execute(&gather(6), &narrow).unwrap();
    let expected: Vec<i64> = (0..DEGREE).map(|i| exact[i % 64][i / 64 * 64]).collect();
    let error = noise::narrow_route_error(PROFILE, 6).hypot(noise::narrow_error(PROFILE));
    assert_predicted(client().small.noise(&made[0], &expected).unwrap() / modulus, error);
    let phase = large_phase(&large(), &embed(&large(), std::array::from_fn(|_| Some(&made[0]))).unwrap());
    let squares: f64 =
        phase.iter().enumerate().map(|(k, p)| (p / q0 - expected[k / 8] as f64 / modulus).powi(2)).sum();
    let measured = (squares / phase.len() as f64).sqrt();
    assert_predicted(measured, error.hypot(noise::rescale_error(PROFILE)));
    let reversed = keys.reverse(&narrow[0]).unwrap();
    let mut expected = vec![exact[0][0]];
    expected.extend((1..DEGREE).map(|j| -exact[0][DEGREE - j]));
    let measured = client().small.noise(&reversed, &expected).unwrap() / modulus;
    assert_predicted_under_square(measured, noise::narrow_error(PROFILE));
}

#[test]
fn reversal_takes_coefficients_to_the_opposite_exponents() {
    let x = values(50, 9);
    let mut expected = vec![x[0]];
    expected.extend((1..DEGREE).map(|j| -x[DEGREE - j]));
    let reversed = client().keys.reverse(&encrypt(&x)).unwrap();
    assert_noise(&reversed, &expected, noise::switch_units(PROFILE).hypot(noise::fresh_units()));
}

/// The tree that gathers coefficient 0 of 2^log sources at multiples of N/2^log, as `plan::route` makes it.
fn gather(log: u32) -> Program {
    let mut values: Vec<Value> =
        (0..1usize << log).map(|index| Value::Source { index, halvings: log }).collect();
    let mut steps = Vec::new();
    for level in (0..log).rev() {
        let half = values.len() / 2;
        values = (0..half)
            .map(|i| {
                let odd = Some(Shifted { value: values[half + i], shift: 1 << level });
                steps.push(Step::Merge(Merge { level, even: values[i], odd, turns: vec![0] }));
                Value::Step { step: steps.len() - 1, result: 0 }
            })
            .collect();
    }
    Program { steps, outputs: vec![Some(Shifted { value: values[0], shift: 0 }), None] }
}

#[test]
fn a_tree_of_merges_has_the_predicted_noise_at_every_depth() {
    let x: Vec<_> = (0..64).map(|i| values(50, i + 1)).collect();
    let sources: Vec<_> = x.iter().map(|x| encrypt(x)).collect();
    for log in [1, 3, 6] {
        let program = gather(log);
        let made = client().keys.execute(&program, &sources[..1 << log]).unwrap();
        assert!(client().small.decrypt(&made[1]).unwrap().iter().all(|&p| p == 0));
        let expected: Vec<i64> = (0..DEGREE).map(|i| x[i % (1 << log)][i >> log << log]).collect();
        let [own, none] = program.noises()[..] else { panic!("two targets") };
        assert_eq!(
            (own.values().switches, none.values().switches),
            ((4f64.powi(log as i32) - 1.0) / 3.0, 0.0)
        );
        let predicted = noise::route_units(PROFILE, log).hypot(noise::fresh_units());
        assert_noise(&made[0], &expected, predicted);
    }
}

#[test]
fn a_route_of_single_values_has_the_predicted_noise() {
    let (x, y) = (values(40, 1), values(40, 2));
    let wanted = |i: u32| crate::plan::route::Wanted {
        source: (i % 2) as usize,
        from: i * i * 37 % 4096,
        to: i * 821 % 4096,
        negate: i.is_multiple_of(3),
    };
    let wanted: Vec<_> = (0..40).map(wanted).collect();
    let target = crate::plan::route::Target { wanted: wanted.clone(), clean: true };
    let program = crate::plan::route::route(DEGREE, &[target], &|_, _| true).unwrap();
    let made = client().keys.execute(&program, &[encrypt(&x), encrypt(&y)]).unwrap();
    let mut expected = vec![0; DEGREE];
    for w in &wanted {
        let value = [&x, &y][w.source][w.from as usize];
        expected[w.to as usize] = if w.negate { -value } else { value };
    }
    assert_reached(&program, &made, &[wanted.iter().map(|w| w.to as usize).collect()], &[expected]);
}

/// Noise at the values of the targets, and elsewhere in them.
fn assert_reached(program: &Program, made: &[SmallCiphertext], places: &[Vec<usize>], expected: &[Vec<i64>]) {
    let modulus = client().ring.modulus();
    let mut squares = [(0.0, 0.0); 2];
    for ((made, places), expected) in made.iter().zip(places).zip(expected) {
        let phase = client().small.decrypt(made).unwrap();
        for (i, (&a, &b)) in phase.iter().zip(expected).enumerate() {
            let d = i128::from(a) - i128::from(b);
            let d = (d + i128::from(modulus / 2)).rem_euclid(i128::from(modulus)) - i128::from(modulus / 2);
            let (sum, count) = &mut squares[usize::from(!places.contains(&i))];
            *sum += (d as f64).powi(2);
            *count += 1.0;
        }
    }
    let noises = program.noises();
    let of = |f: fn(&noise::RouteNoise) -> noise::Variance| {
        let variance = |noise| noise::variance_units(PROFILE, f(noise), noise::fresh_units());
        noises.iter().map(variance).fold(0.0, f64::max)
    };
    let fresh = noise::fresh_units().powi(2);
    let predicted = [of(|n| n.values()) + fresh, of(|n| n.elsewhere())];
    for ((sum, count), predicted) in squares.into_iter().zip(predicted) {
        // So few values vary: five times the spread of their root mean square.
        let most = 1.0 + 5.0 / f64::sqrt(2.0 * count);
        let ratio = (sum / count / predicted).sqrt();
        assert!((0.35..=most).contains(&ratio), "{count} values: {ratio} of the prediction, at most {most}");
    }
}

/// Half of the values of two sources, in targets of so many neighbours each, which come from all over their source.
fn neighbours(count: usize) -> Vec<crate::plan::route::Target> {
    let wanted = |t: usize, i: usize| crate::plan::route::Wanted {
        source: t % 2,
        from: ((t * count + i) * 2 + t % 2) as u32,
        to: (100 * t + count - i) as u32 % DEGREE as u32,
        negate: i.is_multiple_of(3),
    };
    let target =
        |t| crate::plan::route::Target { wanted: (0..count).map(|i| wanted(t, i)).collect(), clean: true };
    (0..DEGREE / 2 / count).map(target).collect()
}

#[test]
fn sums_of_isolated_values_have_the_predicted_noise() {
    let full = [values(40, 1), values(40, 2)];
    // Nothing but noise where no value is taken from.
    let taken = |x: &Vec<i64>, s: usize| -> Vec<i64> {
        (0..DEGREE).map(|i| if i % 2 == s { x[i] } else { 0 }).collect()
    };
    let sparse = [taken(&full[0], 0), taken(&full[1], 1)];
    for (x, is_sparse) in [(full, false), (sparse, true)] {
        let sources = x.each_ref().map(|x| encrypt(x));
        let dirty = |s: usize, i: u32| !is_sparse || i as usize % 2 == s;
        assert_neighbours(&x, &sources, &dirty);
    }
}

fn assert_neighbours(x: &[Vec<i64>; 2], sources: &[SmallCiphertext; 2], dirty: &dyn Fn(usize, u32) -> bool) {
    for count in [32, 128] {
        let targets = neighbours(count);
        let all: Vec<Vec<crate::plan::route::Wanted>> = targets.iter().map(|t| t.wanted.clone()).collect();
        let expected: Vec<Vec<i64>> = all
            .iter()
            .map(|wanted| {
                let mut expected = vec![0; DEGREE];
                for w in wanted {
                    let value = x[w.source][w.from as usize];
                    expected[w.to as usize] = if w.negate { -value } else { value };
                }
                expected
            })
            .collect();
        let places: Vec<Vec<usize>> =
            all.iter().map(|own| own.iter().map(|w| w.to as usize).collect()).collect();
        for program in crate::plan::route::apart(DEGREE, &targets, dirty).unwrap() {
            let made = client().keys.execute(&program, sources).unwrap();
            assert_reached(&program, &made, &places, &expected);
        }
    }
}

#[test]
fn routes_take_interleaved_values_apart_and_merge_them_again() {
    use crate::plan::route::{Target, Wanted, route};
    let x = values(45, 3);
    let wanted = |source, from, to| Wanted { source, from, to, negate: false };
    let apart: Vec<Target> = (0..16)
        .map(|p| Target { wanted: (0..256).map(|i| wanted(0, 16 * i + p, 16 * i)).collect(), clean: true })
        .collect();
    let program = route(DEGREE, &apart, &|_, _| true).unwrap();
    assert_eq!(program.switches(), 15);
    let parts = client().keys.execute(&program, &[encrypt(&x)]).unwrap();
    for (p, part) in parts.iter().enumerate() {
        let expected: Vec<i64> = (0..DEGREE).map(|i| if i % 16 == 0 { x[i + p] } else { 0 }).collect();
        let predicted = noise::route_units(PROFILE, 4);
        assert_noise(part, &expected, predicted);
    }
    let wanted = (0..4096).map(|i| wanted((i % 16) as usize, i / 16 * 16, i)).collect();
    let dirty = |_: usize, i: u32| i.is_multiple_of(16);
    let program = route(DEGREE, &[Target { wanted, clean: true }], &dirty).unwrap();
    assert_eq!(program.switches(), 0);
    let whole = client().keys.execute(&program, &parts).unwrap();
    // The parts share their switches, whose errors cancel in this sum: what is left is the noise that there was before.
    assert_noise(&whole[0], &x, noise::fresh_units());
}

#[test]
fn a_program_out_of_order_or_without_its_sources_is_refused() {
    let keys = &client().keys;
    let error = keys.execute(&gather(1), &[encrypt(&[1])]).unwrap_err();
    assert_eq!(error.to_string(), "route: 1 sources, where 2 are needed");
    let mut program = gather(2);
    program.steps.reverse();
    assert!(keys.execute(&program, &[]).is_err());
    let mut program = gather(1);
    let Step::Merge(merge) = &mut program.steps[0] else { unreachable!() };
    merge.level = 12;
    assert!(keys.execute(&program, &[encrypt(&[1]), encrypt(&[2])]).is_err());
}

#[test]
fn ciphertexts_and_keys_survive_the_wire() {
    let Client { ring, small, keys, .. } = client();
    let x = values(40, 4);
    let fresh = small.encrypt(&x).unwrap();
    let bytes = fresh.to_bytes();
    assert!(bytes.len() <= 32 * 1024, "{}", bytes.len());
    let read = SeededCiphertext::from_bytes(ring, &bytes).unwrap().expand();
    assert_noise(&read, &x, noise::fresh_units());
    let full = keys.reverse(&read).unwrap();
    let again = SmallCiphertext::from_bytes(ring, &full.to_bytes()).unwrap();
    assert_eq!(small.decrypt(&again).unwrap(), small.decrypt(&full).unwrap());

    let mut stream = Vec::new();
    keys.write_to(&mut stream).unwrap();
    let length = stream.len();
    stream.extend(b"more");
    let mut rest = &stream[..];
    let again = SmallKeys::read_from(ring, &mut rest).unwrap();
    assert_eq!(rest, b"more");
    assert_eq!(again.bytes(), keys.bytes());
    let sources = [encrypt(&x), encrypt(&x)];
    let results = |keys: &SmallKeys| {
        let merged = keys.execute(&gather(1), &sources).unwrap();
        let product = keys.product_sum(&[(&sources[0], &sources[1])]).unwrap();
        [&merged[0], &product, &keys.reverse(&sources[0]).unwrap()].map(|x| x.to_bytes())
    };
    assert!(results(keys) == results(&again));
    let error = SmallKeys::read_from(ring, &mut &stream[..length - 1]).unwrap_err();
    assert!(error.to_string().contains("end too early"), "{error}");
}

#[test]
fn damaged_bytes_are_refused() {
    let Client { ring, small, .. } = client();
    let fresh = small.encrypt(&[1]).unwrap();
    let good = fresh.expand().to_bytes();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        SmallCiphertext::from_bytes(ring, &bytes).unwrap_err().to_string()
    };
    assert!(refused(&|b| b.truncate(100)).contains("bytes where"));
    assert!(refused(&|b| b.push(0)).contains("bytes where"));
    assert!(refused(&|b| b[0] = b'x').contains("does not begin"));
    assert!(refused(&|b| b[4] = 9).contains("version 9"));
    assert!(refused(&|b| b[6] = 0x52).contains("another kind"));
    assert!(refused(&|b| b[8] ^= 1).contains("other primes"));
    assert!(refused(&|b| b[15..20].fill(0xFF)).contains("not below its prime 67043329"));
    assert!(SeededCiphertext::from_bytes(ring, &good).is_err());
    assert!(SeededCiphertext::from_bytes(ring, &[]).is_err());
}

fn large() -> RnsContext {
    RnsContext::new(15, &PROFILE.primes[..2], &PROFILE.special_primes[..1], 2).unwrap()
}

/// body + mask·s(X^8) modulo the first prime, centred.
fn large_phase(large: &RnsContext, x: &Ciphertext) -> Vec<f64> {
    let m = &large.m[0];
    let mut secret = Buffer::new(large.n);
    for (s, &c) in secret.iter_mut().zip(client().secret.embedded().iter()) {
        *s = c.rem_euclid(m.p as i64) as u64;
    }
    large.fwd(0, &mut secret);
    let scale = invmod(large.n as u64, m.p);
    let mut phase: Vec<u64> = (0..large.n)
        .map(|j| {
            ((u128::from(x.c[1][j]) * u128::from(secret[j]) + u128::from(x.c[0][j])) % u128::from(m.p)) as u64
        })
        .collect();
    large.inv(0, &mut phase);
    simd::mulc_in(&mut phase, m.mont(scale), m.md);
    phase.iter().map(|&x| if x > m.p / 2 { x as f64 - m.p as f64 } else { x as f64 }).collect()
}

#[test]
fn embedding_interleaves_and_divides_by_the_second_prime() {
    let large = large();
    let x: Vec<_> = (0..8).map(|i| values(59, i + 1)).collect();
    let small: Vec<_> = x.iter().map(|x| encrypt(x)).collect();
    let rings = std::array::from_fn(|i| if i == 3 { None } else { Some(&small[i]) });
    let phase = large_phase(&large, &embed(&large, rings).unwrap());
    let q1 = PROFILE.primes[1] as f64;
    let mut squares = 0.0;
    for (k, p) in phase.iter().enumerate() {
        let expected = if k % 8 == 3 { 0.0 } else { x[k % 8][k / 8] as f64 / q1 };
        squares += (p - expected).powi(2);
    }
    let measured = (squares / (7 * DEGREE) as f64).sqrt() / PROFILE.primes[0] as f64;
    assert_predicted(measured, noise::rescale_error(PROFILE));
    assert!(embed(&large, [None; 8]).is_err());
}

#[test]
fn extraction_undoes_the_interleaving() {
    let (large, Client { ring, .. }) = (large(), client());
    let x: Vec<_> = (0..8).map(|i| values(59, i + 11)).collect();
    let small: Vec<_> = x.iter().map(|x| encrypt(x)).collect();
    // Interleaves without dividing.
    let interleaved = |which: usize| {
        let mut all = Buffer::new(2 * large.n);
        for (i, all) in all.chunks_exact_mut(large.n).enumerate() {
            let m = &large.m[i];
            for (r, x) in small.iter().enumerate() {
                let mut one = x.limbs(i)[which].to_vec();
                ring.context.inv(i, &mut one);
                simd::mulc_in(&mut one, m.mont(invmod(DEGREE as u64, m.p)), m.md);
                one.iter().enumerate().for_each(|(j, &c)| all[8 * j + r] = c);
            }
            large.fwd(i, all);
        }
        all
    };
    let whole = Ciphertext { c: [interleaved(0), interleaved(1)], l: 2, scale: 1.0 };
    for (x, got) in small.iter().zip(extract(ring, &large, &whole).unwrap()) {
        assert!(got.to_bytes() == x.to_bytes());
    }
    let one = Ciphertext {
        c: [0, 1].map(|k| {
            let mut limb = Buffer::new(large.n);
            limb.copy_from_slice(lb(&whole.c[k], 0, large.n));
            limb
        }),
        l: 1,
        scale: 1.0,
    };
    assert!(extract(ring, &large, &one).is_err());
}
