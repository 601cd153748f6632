//! Linear forms: every value of a lowered program is a sum of multiples of atoms' elements. Additions, slices,
//! reshapes and scalings are free: they only rewrite forms.

use std::sync::Arc;

use crate::graph::{Constant, NONE, elements};

/// Index into [`super::Schedule::atoms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AtomId(pub u32);

/// `coefficient · atom[map[i]]` for element i; nothing where the map says [`NONE`].
#[derive(Clone, Debug)]
pub struct Term {
    pub coefficient: f64,
    pub atom: AtomId,
    pub map: Arc<[u32]>,
}

impl Term {
    /// Whether element i reads element i.
    pub fn keeps_order(&self) -> bool {
        self.map.iter().enumerate().all(|(i, &j)| i as u32 == j)
    }
}

/// The value `Σ terms + constant`, element by element.
#[derive(Clone, Debug)]
pub struct Form {
    pub shape: Vec<usize>,
    pub per_sample: bool,
    pub terms: Vec<Term>,
    pub constant: Constant,
}

/// Terms that a form may have: a sum of many elements is no linear form any more, but a product with ones.
const MAX_TERMS: usize = 64;

impl Form {
    pub fn atom(atom: AtomId, shape: &[usize], per_sample: bool) -> Self {
        let map = (0..elements(shape) as u32).collect();
        let terms = vec![Term { coefficient: 1.0, atom, map }];
        Self { shape: shape.to_vec(), per_sample, terms, constant: Constant::Uniform(0.0) }
    }

    pub fn constant(value: Constant, shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), per_sample: false, terms: Vec::new(), constant: value }
    }

    pub fn elements(&self) -> usize {
        elements(&self.shape)
    }

    pub fn add(mut self, other: &Form, factor: f64) -> Self {
        for term in &other.terms {
            let coefficient = factor * term.coefficient;
            match self.terms.iter_mut().find(|own| own.atom == term.atom && own.map == term.map) {
                Some(own) => own.coefficient += coefficient,
                None => self.terms.push(Term { coefficient, ..term.clone() }),
            }
        }
        self.terms.retain(|term| term.coefficient != 0.0);
        self.constant = combine(&self.constant, &other.constant, factor, elements(&self.shape));
        self.per_sample |= other.per_sample;
        self
    }

    pub fn scale(mut self, factor: f64) -> Self {
        self.terms.iter_mut().for_each(|term| term.coefficient *= factor);
        self.constant = map_constant(&self.constant, |c| c * factor);
        self
    }

    pub fn offset(mut self, by: f64) -> Self {
        self.constant = map_constant(&self.constant, |c| c + by);
        self
    }

    /// The gather of several forms, whose elements are counted one after another.
    pub fn gather(parts: &[&Form], map: &[u32], shape: &[usize]) -> Self {
        let mut out = Form::constant(Constant::Uniform(0.0), shape);
        let mut constant = vec![0.0; map.len()];
        let mut base = 0u32;
        for part in parts {
            let size = part.elements() as u32;
            let local = |i: u32| (i != NONE && i >= base && i - base < size).then(|| (i - base) as usize);
            for term in &part.terms {
                let composed: Arc<[u32]> =
                    map.iter().map(|&i| local(i).map_or(NONE, |i| term.map[i])).collect();
                if composed.iter().any(|&i| i != NONE) {
                    out.terms.push(Term { map: composed, ..term.clone() });
                }
            }
            for (slot, &i) in constant.iter_mut().zip(map) {
                if let Some(i) = local(i) {
                    *slot = part.constant.get(i);
                }
            }
            out.per_sample |= part.per_sample;
            base += size;
        }
        out.constant = compress(constant);
        out
    }

    /// `out[map[i]] += self[i]`; `None` if an element would sum over too many.
    pub fn scatter_add(&self, map: &[u32], shape: &[usize]) -> Option<Self> {
        // Layer r gathers the r-th contribution to each element.
        let mut layers: Vec<Vec<u32>> = Vec::new();
        let mut filled = vec![0usize; elements(shape)];
        for (from, &to) in map.iter().enumerate().filter(|(_, to)| **to != NONE) {
            let layer = filled[to as usize];
            if layer == layers.len() {
                if layers.len() * self.terms.len().max(1) >= MAX_TERMS {
                    return None;
                }
                layers.push(vec![NONE; elements(shape)]);
            }
            layers[layer][to as usize] = from as u32;
            filled[to as usize] += 1;
        }
        let mut out = Form::constant(Constant::Uniform(0.0), shape);
        out.per_sample = self.per_sample;
        for layer in layers {
            out = out.add(&Form::gather(&[self], &layer, shape), 1.0);
        }
        Some(out)
    }

    /// `Some(atom)` if the form is that atom as it is.
    pub fn as_atom(&self) -> Option<AtomId> {
        let [term] = self.terms.as_slice() else { return None };
        (term.keeps_order() && term.coefficient == 1.0 && self.constant == Constant::Uniform(0.0))
            .then_some(term.atom)
    }
}

fn map_constant(constant: &Constant, f: impl Fn(f64) -> f64) -> Constant {
    match constant {
        Constant::Uniform(c) => Constant::Uniform(f(*c)),
        Constant::Tensor(values) => Constant::Tensor(values.iter().map(|&c| f(c)).collect()),
    }
}

fn combine(a: &Constant, b: &Constant, factor: f64, count: usize) -> Constant {
    match (a, b) {
        (Constant::Uniform(x), Constant::Uniform(y)) => Constant::Uniform(x + factor * y),
        _ => compress((0..count).map(|i| a.get(i) + factor * b.get(i)).collect()),
    }
}

fn compress(values: Vec<f64>) -> Constant {
    match values.first() {
        None => Constant::Uniform(0.0),
        Some(&first) if values.iter().all(|&v| v == first) => Constant::Uniform(first),
        _ => Constant::Tensor(values.into()),
    }
}
