use super::super::tests::{DEGREE, negacyclic, product, values};
use super::super::{Placed, Strides};
use super::{AxisMap, Cut, Low, place};
use crate::plan::layout::Layout;
use crate::plan::lower::Product;

/// The polynomials of `values[sample][element]`, group after group.
fn polynomials(layout: &Layout, values: &[Vec<i64>]) -> Vec<Vec<i64>> {
    let mut out = vec![vec![0; DEGREE]; layout.polynomials(values.len())];
    for (sample, row) in values.iter().enumerate() {
        for (element, &value) in row.iter().enumerate() {
            let at = layout.position(DEGREE, sample, element);
            let slot: &mut i64 = &mut out[at.polynomial][at.coefficient];
            assert_eq!(*slot, 0, "a place of its own for every value");
            *slot = at.sign * value;
        }
    }
    out
}

/// What a product reads in the sums of its polynomials: `[samples][elements]`.
fn run(product: &Product, placed: &Placed, sides: [&[Vec<i64>]; 2], batch: usize) -> Vec<Vec<i64>> {
    let polynomials = [0, 1].map(|k| polynomials(&placed.sides[k], sides[k]));
    let groups = (0..2)
        .filter(|&k| product.side_per_sample[k])
        .map(|k| batch.div_ceil(placed.sides[k].samples))
        .max()
        .unwrap_or(1);
    let pieces = placed.result.pieces;
    let mut results = vec![vec![0i64; DEGREE]; if product.batch_sum { pieces } else { groups * pieces }];
    for group in 0..groups {
        let base = |k: usize| if product.side_per_sample[k] { group * placed.sides[k].pieces } else { 0 };
        for (piece, sum) in placed.sums.iter().enumerate() {
            let to = if product.batch_sum { piece } else { group * pieces + piece };
            for pair in sum {
                let [left, right] = [pair.left, pair.right].map(|p| p as usize);
                let own = negacyclic(&polynomials[0][base(0) + left], &polynomials[1][base(1) + right]);
                results[to].iter_mut().zip(&own).for_each(|(sum, v)| *sum += v);
            }
        }
    }
    let rows = if product.per_sample() { batch } else { 1 };
    let read = |sample: usize, element: usize| {
        let at = placed.result.position(DEGREE, sample, element);
        at.sign * results[at.polynomial][at.coefficient]
    };
    (0..rows).map(|s| (0..placed.result.elements()).map(|e| read(s, e)).collect()).collect()
}

/// That forward, backward and gradient products of x [n], a matrix [n, m] and δ [m] read the right sums.
fn check_sums(
    n: usize,
    m: usize,
    batch: usize,
    products: [&Product; 3],
    placed: &[Placed; 3],
) -> Result<(), proptest::test_runner::TestCaseError> {
    let (x, delta, w) = (values(batch, n, 3), values(batch, m, 5), values(1, n * m, 7));
    let z = run(products[0], &placed[0], [&x, &w], batch);
    let g = run(products[1], &placed[1], [&delta, &w], batch);
    let outer = run(products[2], &placed[2], [&x, &delta], batch);
    for s in 0..batch {
        for l in 0..m {
            let want: i64 = (0..n).map(|j| x[s][j] * w[0][j * m + l]).sum();
            proptest::prop_assert_eq!(z[s][l], want);
        }
        for j in 0..n {
            let want: i64 = (0..m).map(|l| delta[s][l] * w[0][j * m + l]).sum();
            proptest::prop_assert_eq!(g[s][j], want);
        }
    }
    for element in 0..n * m {
        let want: i64 = (0..batch).map(|s| x[s][element / m] * delta[s][element % m]).sum();
        proptest::prop_assert_eq!(outer[0][element], want);
    }
    Ok(())
}

proptest::proptest! {
    #[test]
    fn cut_matrices_give_the_right_sums_in_all_three_products(
        n in 1usize..90, m in 1usize..50, batch in 1usize..5, padded: bool, second: bool,
    ) {
        let strides = if padded { Strides::PowersOfTwo } else { Strides::Dense };
        let low = Cut::Low(if second { Low::Second } else { Low::First });
        let sizes = [(b'j', n), (b'l', m)];
        let forward = product(["j", "jl", "l"], &sizes, [true, false], false);
        let backward = product(["l", "jl", "j"], &sizes, [true, false], false);
        let gradient = product(["j", "l", "jl"], &sizes, [true, true], true);
        let placed = [&forward, &backward, &gradient].map(|p| place(p, DEGREE, batch, strides, &low).unwrap());
        // Weights keep one layout in all three.
        proptest::prop_assert_eq!(&placed[0].sides[1], &placed[2].result);
        proptest::prop_assert_eq!(&placed[1].sides[1], &placed[2].result);
        check_sums(n, m, batch, [&forward, &backward, &gradient], &placed)?;
        // What lacks the low axis stands at multiples of a power of two, its distance from the next.
        if padded {
            let clean = if second { &placed[0].sides[0] } else { &placed[2].sides[1] };
            let step = clean.places.get(1).filter(|p| p.piece == 0).map_or(1, |p| p.exponent);
            proptest::prop_assert!(step.is_power_of_two());
            proptest::prop_assert!(clean.places.iter().all(|p| p.exponent % step == 0));
        }
    }

    #[test]
    fn an_axis_may_stand_as_its_producer_has_it(
        n in 1usize..60, m in 1usize..30, batch in 1usize..4, log_slots in 1u32..7, seed in 0usize..1000,
    ) {
        // Elements scattered over the slots of enough pieces, each at a place of its own.
        let slots = 1usize << log_slots;
        let pieces = (2 * n).div_ceil(slots);
        let place_of = |j: usize| { let at = (j * 2 + seed) % (pieces * slots); (at / slots, at % slots) };
        let cut = Cut::Along(AxisMap { pieces, slots, places: (0..n).map(place_of).collect() });
        let sizes = [(b'j', n), (b'l', m)];
        let forward = product(["j", "jl", "l"], &sizes, [true, false], false);
        let backward = product(["l", "jl", "j"], &sizes, [true, false], false);
        let gradient = product(["j", "l", "jl"], &sizes, [true, true], true);
        let placed = [&forward, &backward, &gradient].map(|p| place(p, DEGREE, batch, Strides::PowersOfTwo, &cut).unwrap());
        proptest::prop_assert_eq!(&placed[0].sides[1], &placed[2].result);
        proptest::prop_assert_eq!(&placed[1].sides[1], &placed[2].result);
        // The values stand as the ring that they are taken out of has them.
        for (j, place) in placed[0].sides[0].places.iter().enumerate() {
            let (piece, slot) = place_of(j);
            proptest::prop_assert_eq!((place.piece as usize, place.exponent as usize), (piece, slot * DEGREE / slots));
        }
        check_sums(n, m, batch, [&forward, &backward, &gradient], &placed)?;
    }

    #[test]
    fn other_indices_count_polynomials(n in 1usize..40, m in 1usize..20, t in 1usize..4, second: bool) {
        // The same matrix for t vectors of each sample: its gradient sums over them.
        let sizes = [(b'j', n), (b'l', m), (b't', t)];
        let low = Cut::Low(if second { Low::Second } else { Low::First });
        let forward = product(["tj", "jl", "tl"], &sizes, [true, false], false);
        let gradient = product(["tj", "tl", "jl"], &sizes, [true, true], true);
        let [first, last] = [&forward, &gradient].map(|p| place(p, DEGREE, 2, Strides::PowersOfTwo, &low).unwrap());
        let (x, delta, w) = (values(2, t * n, 3), values(2, t * m, 5), values(1, n * m, 7));
        let z = run(&forward, &first, [&x, &w], 2);
        let outer = run(&gradient, &last, [&x, &delta], 2);
        for (s, row) in z.iter().enumerate() {
            for (e, &own) in row.iter().enumerate() {
                let want: i64 = (0..n).map(|j| x[s][e / m * n + j] * w[0][j * m + e % m]).sum();
                proptest::prop_assert_eq!(own, want);
            }
        }
        for (e, &own) in outer[0].iter().enumerate() {
            let pairs = (0..2).flat_map(|s| (0..t).map(move |i| (s, i)));
            let want: i64 = pairs.map(|(s, i)| x[s][i * n + e / m] * delta[s][i * m + e % m]).sum();
            proptest::prop_assert_eq!(own, want);
        }
    }
}
