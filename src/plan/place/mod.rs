//! Layouts of products: strides for every index of a product and of the products that feed it directly.

pub mod conv;
pub mod dense;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use super::layout::{Layout, is_clean, meetings, support};
use super::lower::{Contraction, Product, ProductKind, Side};
use super::schedule::PieceProduct;
use dense::{Cut, Low};

/// Layouts of a product's sides and of its result.
#[derive(Clone, Debug)]
pub struct Placed {
    pub sides: [Layout; 2],
    pub result: Layout,
    /// By piece of the result.
    pub sums: Vec<Vec<PieceProduct>>,
    /// For a side that is itself a product: its layouts.
    pub inner: [Option<Box<Placed>>; 2],
}

/// Why a product has no layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoLayout {
    /// It needs this many coefficients, the ring has fewer.
    TooLarge { needed: usize, degree: usize },
    /// Junk meets what is read.
    NotClean,
}

type Class = usize;

struct Placer<'a> {
    products: &'a [Product],
    degree: usize,
    samples: usize,
    sizes: Vec<usize>,
    strides: Vec<i64>,
    sample_stride: i64,
    /// The matrix's first axis, if it has negative exponents: then every operand stands as its source was read, or
    /// mirrored (X → X^(−1)) as a whole.
    mirrored: Option<u8>,
    /// What keeps the exponents of the mirrored axis from becoming negative.
    offset: i64,
}

/// How far apart the elements along an index stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strides {
    /// As close as can be.
    Dense,
    /// Powers of two where they fit: trees of automorphisms merge and split coefficients at their multiples.
    PowersOfTwo,
}

/// Finds layouts for `root` and the products that feed it without a table in between. `cut` says how the matrix of a
/// product stands whose sides are leaves; otherwise its first axis comes first, and it is cut if it does not fit.
pub fn place(
    products: &[Product],
    root: usize,
    degree: usize,
    batch: usize,
    strides: Strides,
    cut: Option<&Cut>,
) -> Result<Placed, NoLayout> {
    if let Some(cut) = cut
        && is_cuttable(&products[root])
    {
        return dense::place(&products[root], degree, batch, strides, cut);
    }
    if strides == Strides::PowersOfTwo
        && let Ok(placed) = place_with(products, root, degree, batch, true, usize::next_power_of_two)
    {
        return Ok(placed);
    }
    match place_with(products, root, degree, batch, false, |size| size) {
        Err(NoLayout::TooLarge { .. }) if is_cuttable(&products[root]) => {
            let [first, second] = matrix_sizes(&products[root]);
            dense::place(&products[root], degree, batch, strides, &Cut::Low(Low::shorter(first, second)))
        }
        placed => placed,
    }
}

/// Lengths of the first two axes of a product's matrix.
pub fn matrix_sizes(product: &Product) -> [usize; 2] {
    let own = contraction(product);
    [0, 1].map(|at| matrix(product).get(at).map_or(1, |&label| own.size(label)))
}

/// Whether the matrix of a product may be cut into several polynomials.
pub fn is_cuttable(product: &Product) -> bool {
    let leaves = product.sides.iter().all(|side| matches!(side, Side::Leaf(_)));
    leaves && matches!(product.kind, ProductKind::Contract(_))
}

/// Layouts in which an index of a size takes `room` for it.
fn place_with(
    products: &[Product],
    root: usize,
    degree: usize,
    batch: usize,
    mirror: bool,
    room: impl Fn(usize) -> usize,
) -> Result<Placed, NoLayout> {
    let mut placer = Placer {
        products,
        degree,
        samples: 1,
        sizes: Vec::new(),
        strides: Vec::new(),
        sample_stride: 0,
        mirrored: None,
        offset: 0,
    };
    let mut classes = HashMap::new();
    let order = placer.order(root, &mut classes, &mut Vec::new());
    let product = &products[root];
    if mirror && product.sides.iter().all(|side| matches!(side, Side::Leaf(_))) {
        placer.mirrored = match matrix(product) {
            [first, _] => Some(*first),
            _ => None,
        };
    }
    // Two sides of the same sample would meet those of its neighbours.
    let sampled = (product.batch_sum || product.per_sample()) && !pairs_samples(products, root);
    let mut failure = NoLayout::NotClean;
    // Wider strides leave gaps for the junk of products in a row.
    for gap in [1usize, 2, 4] {
        let mut stride = 1usize;
        placer.strides = vec![0; placer.sizes.len()];
        for (position, &class) in order.iter().enumerate() {
            placer.strides[class] = stride as i64;
            stride = stride.saturating_mul(room(placer.sizes[class]));
            if position + 1 < order.len() {
                stride = stride.saturating_mul(gap);
            }
        }
        if stride > degree {
            if gap == 1 {
                failure = NoLayout::TooLarge { needed: stride, degree };
            }
            break;
        }
        placer.offset = placer.mirrored.map_or(0, |label| {
            let class = classes[&(root, label)];
            placer.strides[class] * (room(placer.sizes[class]) as i64 - 1)
        });
        placer.sample_stride = stride as i64;
        placer.samples = if sampled { (degree / stride).clamp(1, batch.max(1)) } else { 1 };
        if let Some((placed, _)) = placer.build(root, &classes, &HashMap::new(), 1) {
            return Ok(placed);
        }
    }
    Err(failure)
}

/// Whether both sides of a product, or of one that feeds it, depend on the sample without a sum over the batch.
fn pairs_samples(products: &[Product], at: usize) -> bool {
    let product = &products[at];
    let own = product.side_per_sample == [true, true] && !product.batch_sum;
    own || product
        .sides
        .iter()
        .any(|side| matches!(side, Side::Product(inner) if pairs_samples(products, *inner)))
}

static NOTHING: Contraction =
    Contraction { labels: [Vec::new(), Vec::new(), Vec::new()], sizes: BTreeMap::new() };

fn contraction(product: &Product) -> &Contraction {
    match &product.kind {
        ProductKind::Contract(own) => own,
        ProductKind::Conv { .. } => &NOTHING,
    }
}

/// Labels of what the batch shares: a product's weights, or a sum over the batch.
fn matrix(product: &Product) -> &[u8] {
    let labels = &contraction(product).labels;
    if product.batch_sum {
        &labels[2]
    } else if product.side_per_sample[1] && !product.side_per_sample[0] {
        &labels[0]
    } else {
        &labels[1]
    }
}

impl Placer<'_> {
    /// Classes of indices from the innermost product outwards; labels that meet in a chain share a class.
    fn order(
        &mut self,
        at: usize,
        classes: &mut HashMap<(usize, u8), Class>,
        path: &mut Vec<usize>,
    ) -> Vec<Class> {
        let product = &self.products[at];
        let own = contraction(product);
        path.push(at);
        let mut order = Vec::new();
        let mut chained = false;
        for (side, labels) in product.sides.iter().zip(&own.labels) {
            if let Side::Product(inner) = side {
                chained = true;
                order.extend(self.order(*inner, classes, path));
                for (own, label) in contraction(&self.products[*inner]).labels[2].iter().zip(labels) {
                    let class = classes[&(*inner, *own)];
                    classes.insert((at, *label), class);
                }
            }
        }
        // The matrix keeps one layout in all its products: its axes come first, in their order.
        let mut labels: Vec<u8> = if chained { own.contracted() } else { matrix(product).to_vec() };
        for label in own.labels.iter().flatten() {
            if !labels.contains(label) {
                labels.push(*label);
            }
        }
        for label in labels {
            if let Entry::Vacant(class) = classes.entry((at, label)) {
                self.sizes.push(own.size(label));
                class.insert(self.sizes.len() - 1);
                order.push(self.sizes.len() - 1);
            }
        }
        order
    }

    /// Layouts of `at`, whose result must have the strides `signs` (of labels; + if absent), and its support.
    fn build(
        &self,
        at: usize,
        classes: &HashMap<(usize, u8), Class>,
        signs: &HashMap<u8, i64>,
        sample_sign: i64,
    ) -> Option<(Placed, Vec<bool>)> {
        let product = &self.products[at];
        let own = contraction(product);
        let mirrored = |label: u8| self.mirrored == Some(label);
        let natural = |label: u8| if mirrored(label) { -1 } else { 1 };
        let sign = |label: u8| signs.get(&label).copied().unwrap_or(natural(label));
        let contracted = own.contracted();
        // What carries the mirrored axis has mirrored samples too.
        let sample_sign = if own.labels[2].iter().any(|&l| mirrored(l)) { -sample_sign } else { sample_sign };
        // The side that the batch does not share takes the negative exponents of a contraction.
        let minus = usize::from(!product.side_per_sample[0] && product.side_per_sample[1]);
        let mut sides = Vec::new();
        let mut supports = Vec::new();
        let mut inner = [None, None];
        for (k, inner) in inner.iter_mut().enumerate() {
            let own_sign = |label: u8| match contracted.contains(&label) {
                true if k == minus => -natural(label),
                true => natural(label),
                false => sign(label),
            };
            let own_sample = match (product.side_per_sample[k], product.batch_sum) {
                (false, _) => 0,
                (true, true) if self.mirrored.is_some() => {
                    if own.labels[k].iter().any(|&l| mirrored(l)) {
                        -1
                    } else {
                        1
                    }
                }
                (true, true) if k == 1 => -1,
                (true, true) => 1,
                (true, false) => sample_sign,
            };
            match &product.sides[k] {
                Side::Leaf(_) => {
                    let offset = own.labels[k].iter().any(|&l| mirrored(l) && own_sign(l) < 0);
                    let layout = self.layout(at, &own.labels[k], classes, own_sign, own_sample, offset);
                    supports.push(support(&layout, self.degree));
                    sides.push(layout);
                }
                Side::Product(next) => {
                    let wanted = contraction(&self.products[*next]).labels[2]
                        .iter()
                        .zip(&own.labels[k])
                        .map(|(own, label)| (*own, own_sign(*label)))
                        .collect();
                    let (placed, support) = self.build(*next, classes, &wanted, own_sample)?;
                    supports.push(support);
                    sides.push(placed.result.clone());
                    *inner = Some(Box::new(placed));
                }
            }
        }
        let result_sample = if product.per_sample() { sample_sign } else { 0 };
        let offset = own.labels.iter().flatten().any(|&l| mirrored(l));
        let result = self.layout(at, &own.labels[2], classes, sign, result_sample, offset);
        let mut wanted = product.kind.summed();
        if product.batch_sum {
            wanted *= self.samples;
        }
        let meetings = meetings(&supports[0], &supports[1]);
        if !is_clean(&result, &meetings, wanted) {
            return None;
        }
        let occupied = meetings.iter().map(|&count| count > 0).collect();
        let right = sides.pop()?;
        let left = sides.pop()?;
        let sums = vec![vec![PieceProduct::default()]];
        Some((Placed { sides: [left, right], result, sums, inner }, occupied))
    }

    fn layout(
        &self,
        at: usize,
        labels: &[u8],
        classes: &HashMap<(usize, u8), Class>,
        sign: impl Fn(u8) -> i64,
        sample_sign: i64,
        offset: bool,
    ) -> Layout {
        let modulus = 2 * self.degree as i64;
        let mut exponents = vec![if offset { self.offset } else { 0 }];
        for &label in labels {
            let class = classes[&(at, label)];
            let stride = sign(label) * self.strides[class];
            let size = self.sizes[class] as i64;
            exponents = exponents.iter().flat_map(|base| (0..size).map(move |i| base + i * stride)).collect();
        }
        Layout::single(
            exponents.into_iter().map(|e| e.rem_euclid(modulus) as u32),
            (sample_sign * self.sample_stride).rem_euclid(modulus) as u32,
            if sample_sign == 0 { 1 } else { self.samples },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Constant, NodeId};
    use crate::plan::form::Form;

    pub(super) const DEGREE: usize = 256;

    pub(super) fn product(
        labels: [&str; 3],
        sizes: &[(u8, usize)],
        sampled: [bool; 2],
        batch_sum: bool,
    ) -> Product {
        let leaf = || Side::Leaf(Form::constant(Constant::Uniform(0.0), &[]));
        Product {
            node: NodeId::default(),
            sides: [leaf(), leaf()],
            kind: ProductKind::Contract(Contraction {
                labels: labels.map(|l| l.as_bytes().to_vec()),
                sizes: sizes.iter().copied().collect(),
            }),
            batch_sum,
            side_per_sample: sampled,
        }
    }

    /// Puts `values[sample][element]` into a polynomial.
    fn polynomial(layout: &Layout, values: &[Vec<i64>]) -> Vec<i64> {
        let mut out = vec![0; DEGREE];
        for (sample, row) in values.iter().enumerate() {
            for (element, &value) in row.iter().enumerate() {
                let at = layout.position(DEGREE, sample, element);
                out[at.coefficient] += at.sign * value;
            }
        }
        out
    }

    pub(super) fn negacyclic(a: &[i64], b: &[i64]) -> Vec<i64> {
        let mut out = vec![0; DEGREE];
        for (i, &x) in a.iter().enumerate() {
            for (j, &y) in b.iter().enumerate() {
                let k = i + j;
                if k < DEGREE { out[k] += x * y } else { out[k - DEGREE] -= x * y }
            }
        }
        out
    }

    pub(super) fn values(rows: usize, elements: usize, seed: i64) -> Vec<Vec<i64>> {
        (0..rows as i64)
            .map(|r| (0..elements as i64).map(|e| (seed * 31 + r * 17 + e * 7) % 23 - 11).collect())
            .collect()
    }

    pub(super) fn read(layout: &Layout, polynomial: &[i64], sample: usize, element: usize) -> i64 {
        let at = layout.position(DEGREE, sample, element);
        at.sign * polynomial[at.coefficient]
    }

    proptest::proptest! {
        #[test]
        fn forward_backward_and_gradient_read_the_right_sums(
            n in 1usize..20, m in 1usize..12, batch in 1usize..9, padded: bool,
        ) {
            let strides = if padded { Strides::PowersOfTwo } else { Strides::Dense };
            let sizes = [(b'j', n), (b'l', m)];
            let forward = product(["j", "jl", "l"], &sizes, [true, false], false);
            let backward = product(["l", "jl", "j"], &sizes, [true, false], false);
            let gradient = product(["j", "l", "jl"], &sizes, [true, true], true);
            let place = |p: &Product| place(std::slice::from_ref(p), 0, DEGREE, batch, strides, None).unwrap();
            let (forward, backward, gradient) = (place(&forward), place(&backward), place(&gradient));
            // What is read stands at multiples of a power of two, where that fits.
            if padded && n.next_power_of_two() * m.next_power_of_two() <= DEGREE {
                let step = n.next_power_of_two() as u32;
                proptest::prop_assert!(forward.result.places.iter().all(|p| (p.exponent + 1) % step == 0));
                proptest::prop_assert!(forward.result.samples == 1 || forward.result.sample_stride.is_power_of_two());
            }
            // Weights keep one layout in all three.
            proptest::prop_assert_eq!(&forward.sides[1].places, &gradient.result.places);
            proptest::prop_assert_eq!(&backward.sides[1].places, &gradient.result.places);
            let samples = forward.sides[0].samples;
            let (x, delta) = (values(samples, n, 3), values(samples, m, 5));
            let w = &values(1, n * m, 7);
            let run = |placed: &Placed, left: &[Vec<i64>], right: &[Vec<i64>]| {
                negacyclic(&polynomial(&placed.sides[0], left), &polynomial(&placed.sides[1], right))
            };
            let z = run(&forward, &x, w);
            let g = run(&backward, &delta, w);
            let outer = run(&gradient, &x, &delta);
            for s in 0..samples {
                for l in 0..m {
                    let want: i64 = (0..n).map(|j| x[s][j] * w[0][j * m + l]).sum();
                    proptest::prop_assert_eq!(read(&forward.result, &z, s, l), want);
                }
                for j in 0..n {
                    let want: i64 = (0..m).map(|l| delta[s][l] * w[0][j * m + l]).sum();
                    proptest::prop_assert_eq!(read(&backward.result, &g, s, j), want);
                }
            }
            for element in 0..n * m {
                let want: i64 = (0..samples).map(|s| x[s][element / m] * delta[s][element % m]).sum();
                proptest::prop_assert_eq!(read(&gradient.result, &outer, 0, element), want);
            }
        }

        #[test]
        fn two_products_in_a_row_stay_clean(n in 1usize..7, m in 1usize..6, k in 1usize..5) {
            let inner = product(["j", "jl", "l"], &[(b'j', n), (b'l', m)], [false, false], false);
            let mut outer = product(["j", "jl", "l"], &[(b'j', m), (b'l', k)], [false, false], false);
            outer.sides[0] = Side::Product(0);
            let placed = place(&[inner, outer], 1, DEGREE, 1, Strides::Dense, None).unwrap();
            let first = placed.inner[0].as_ref().unwrap();
            let (x, u, v) = (values(1, n, 3), values(1, n * m, 4), values(1, m * k, 5));
            let h = negacyclic(&polynomial(&first.sides[0], &x), &polynomial(&first.sides[1], &u));
            let z = negacyclic(&h, &polynomial(&placed.sides[1], &v));
            for c in 0..k {
                let want: i64 = (0..m)
                    .map(|l| (0..n).map(|j| x[0][j] * u[0][j * m + l]).sum::<i64>() * v[0][l * k + c])
                    .sum();
                proptest::prop_assert_eq!(read(&placed.result, &z, 0, c), want);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let sizes = [(b'j', 64), (b'l', 10), (b'k', 2)];
        let inner = product(["k", "kj", "j"], &sizes, [true, false], false);
        let mut wide = product(["j", "jl", "l"], &sizes, [true, false], false);
        wide.sides[0] = Side::Product(0);
        let refused = place(&[inner, wide], 1, DEGREE, 4, Strides::PowersOfTwo, None).unwrap_err();
        assert_eq!(refused, NoLayout::TooLarge { needed: 1280, degree: DEGREE });
    }
}
