//! Layouts of products: strides for every index of a product and of the products that feed it directly.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::layout::{Layout, is_clean, meetings, support};
use super::lower::{Product, Side};

/// Layouts of a product's sides and of its result.
#[derive(Clone, Debug)]
pub struct Placed {
    pub sides: [Layout; 2],
    pub result: Layout,
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
}

/// Finds layouts for `root` and the products that feed it without a table in between.
pub fn place(products: &[Product], root: usize, degree: usize, batch: usize) -> Result<Placed, NoLayout> {
    let mut placer =
        Placer { products, degree, samples: 1, sizes: Vec::new(), strides: Vec::new(), sample_stride: 0 };
    let mut classes = HashMap::new();
    let order = placer.order(root, &mut classes, &mut Vec::new());
    let product = &products[root];
    let sampled = product.batch_sum || product.per_sample();
    let mut failure = NoLayout::NotClean;
    // Wider strides leave gaps for the junk of products in a row.
    for gap in [1usize, 2, 4] {
        let mut stride = 1usize;
        placer.strides = vec![0; placer.sizes.len()];
        for (position, &class) in order.iter().enumerate() {
            placer.strides[class] = stride as i64;
            stride = stride.saturating_mul(placer.sizes[class]);
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
        placer.sample_stride = stride as i64;
        placer.samples = if sampled { (degree / stride).clamp(1, batch.max(1)) } else { 1 };
        if let Some((placed, _)) = placer.build(root, &classes, &HashMap::new(), 1) {
            return Ok(placed);
        }
    }
    Err(failure)
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
        path.push(at);
        let mut order = Vec::new();
        let mut chained = false;
        for (side, labels) in product.sides.iter().zip(&product.labels) {
            if let Side::Product(inner) = side {
                chained = true;
                order.extend(self.order(*inner, classes, path));
                for (own, label) in self.products[*inner].labels[2].clone().iter().zip(labels) {
                    let class = classes[&(*inner, *own)];
                    classes.insert((at, *label), class);
                }
            }
        }
        // The matrix keeps one layout in all its products: its axes come first, in their order.
        let matrix: &[u8] = if product.batch_sum {
            &product.labels[2]
        } else if product.side_per_sample[1] && !product.side_per_sample[0] {
            &product.labels[0]
        } else {
            &product.labels[1]
        };
        let mut labels: Vec<u8> = if chained { product.contracted() } else { matrix.to_vec() };
        for label in product.labels.iter().flatten() {
            if !labels.contains(label) {
                labels.push(*label);
            }
        }
        for label in labels {
            if let Entry::Vacant(class) = classes.entry((at, label)) {
                self.sizes.push(product.sizes.get(&label).copied().unwrap_or(1));
                order.push(*class.insert(self.sizes.len() - 1));
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
        let sign = |label: u8| signs.get(&label).copied().unwrap_or(1);
        let contracted = product.contracted();
        // The side that the batch does not share takes the negative exponents of a contraction.
        let minus = usize::from(!product.side_per_sample[0] && product.side_per_sample[1]);
        let mut sides = Vec::new();
        let mut supports = Vec::new();
        let mut inner = [None, None];
        for (k, inner) in inner.iter_mut().enumerate() {
            let own_sign = |label: u8| match contracted.contains(&label) {
                true if k == minus => -1,
                true => 1,
                false => sign(label),
            };
            let own_sample = match (product.side_per_sample[k], product.batch_sum) {
                (false, _) => 0,
                (true, true) if k == 1 => -1,
                (true, true) => 1,
                (true, false) => sample_sign,
            };
            match &product.sides[k] {
                Side::Leaf(_) => {
                    let layout = self.layout(at, &product.labels[k], classes, own_sign, own_sample);
                    supports.push(support(&layout, self.degree));
                    sides.push(layout);
                }
                Side::Product(next) => {
                    let wanted = self.products[*next].labels[2]
                        .iter()
                        .zip(&product.labels[k])
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
        let result = self.layout(at, &product.labels[2], classes, sign, result_sample);
        let mut wanted: usize =
            contracted.iter().map(|label| product.sizes.get(label).copied().unwrap_or(1)).product();
        if product.batch_sum {
            wanted *= self.samples;
        } else if product.side_per_sample == [true, true] && self.samples > 1 {
            return None;
        }
        let meetings = meetings(&supports[0], &supports[1]);
        if !is_clean(&result, &meetings, wanted) {
            return None;
        }
        let occupied = meetings.iter().map(|&count| count > 0).collect();
        let right = sides.pop()?;
        let left = sides.pop()?;
        Some((Placed { sides: [left, right], result, inner }, occupied))
    }

    fn layout(
        &self,
        at: usize,
        labels: &[u8],
        classes: &HashMap<(usize, u8), Class>,
        sign: impl Fn(u8) -> i64,
        sample_sign: i64,
    ) -> Layout {
        let modulus = 2 * self.degree as i64;
        let mut exponents = vec![0i64];
        for &label in labels {
            let class = classes[&(at, label)];
            let stride = sign(label) * self.strides[class];
            let size = self.sizes[class] as i64;
            exponents = exponents.iter().flat_map(|base| (0..size).map(move |i| base + i * stride)).collect();
        }
        Layout {
            exponents: exponents.into_iter().map(|e| e.rem_euclid(modulus) as u32).collect(),
            sample_stride: (sample_sign * self.sample_stride).rem_euclid(modulus) as u32,
            samples: if sample_sign == 0 { 1 } else { self.samples },
        }
    }
}
