//! Building a graph: every function checks shapes, simplifies what is constant, and appends a node.

use std::sync::Arc;

use super::{
    Constant, ConvGeometry, Graph, LevelExpr, MAX_ELEMENTS, MAX_NODES, NONE, Node, NodeId, Op, Origin,
    ParamId, ParamInfo, ScalarFn, Shape, Written, elements, show_shape,
};

/// Why an operation cannot be built. Its text names the shapes; the caller knows the place in the source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    #[error("{operation} cannot combine {left} with {right}: {why}")]
    Mismatch { operation: &'static str, left: String, right: String, why: String },
    #[error("{operation} cannot take {shape}: {why}")]
    Invalid { operation: &'static str, shape: String, why: String },
    #[error("a tensor of shape {shape} has more than {MAX_ELEMENTS} elements")]
    TooLarge { shape: String },
    #[error("the program has more than {MAX_NODES} operations")]
    TooManyNodes,
}

type Built = Result<NodeId, ShapeError>;

fn mismatch(operation: &'static str, left: &[usize], right: &[usize], why: impl Into<String>) -> ShapeError {
    ShapeError::Mismatch { operation, left: show_shape(left), right: show_shape(right), why: why.into() }
}

fn invalid(operation: &'static str, shape: &[usize], why: impl Into<String>) -> ShapeError {
    ShapeError::Invalid { operation, shape: show_shape(shape), why: why.into() }
}

/// Refuses a shape that is too large before anything of its size is allocated.
pub(super) fn check_size(shape: &[usize]) -> Result<(), ShapeError> {
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    match count {
        Some(count) if count <= MAX_ELEMENTS => Ok(()),
        _ => Err(ShapeError::TooLarge { shape: show_shape(shape) }),
    }
}

/// Row-major strides.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Calls `f` with every index of `shape`, in row-major order.
fn for_each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
    let mut index = vec![0; shape.len()];
    for _ in 0..elements(shape) {
        f(&index);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

fn flat(index: &[usize], strides: &[usize]) -> usize {
    index.iter().zip(strides).map(|(i, s)| i * s).sum()
}

impl Graph {
    pub(super) fn push(&mut self, op: Op, shape: Shape, operands: &[NodeId], origin: &Origin) -> Built {
        check_size(&shape)?;
        if self.len() >= MAX_NODES {
            return Err(ShapeError::TooManyNodes);
        }
        if let Some(value) = self.folded(&op, &shape, operands) {
            let op = Op::Const(value);
            let id = self.dag.add_node(Node { op, shape, per_sample: false, origin: origin.clone() });
            return Ok(id);
        }
        let per_sample = match op {
            Op::Input | Op::Label => true,
            Op::BatchSum => false,
            _ => operands.iter().any(|&id| self.node(id).per_sample),
        };
        let id = self.dag.add_node(Node { op, shape, per_sample, origin: origin.clone() });
        for (position, &operand) in operands.iter().enumerate() {
            self.dag.add_edge(operand, id, position as u32);
        }
        Ok(id)
    }

    fn shape(&self, id: NodeId) -> &[usize] {
        &self.node(id).shape
    }

    pub fn input(&mut self, shape: &[usize], origin: &Origin) -> Built {
        self.push(Op::Input, shape.to_vec(), &[], origin)
    }

    pub fn label(&mut self, shape: &[usize], origin: &Origin) -> Built {
        self.push(Op::Label, shape.to_vec(), &[], origin)
    }

    pub fn argument(&mut self, name: &str, shape: &[usize], origin: &Origin) -> Built {
        self.push(Op::Argument(name.to_owned()), shape.to_vec(), &[], origin)
    }

    pub fn param(&mut self, info: ParamInfo, origin: &Origin) -> Built {
        check_size(&info.shape)?;
        if elements(&info.shape) == 0 {
            let why = "it has no elements: a layer needs at least one input, unit or filter";
            return Err(invalid("param", &info.shape, why));
        }
        let shape = info.shape.clone();
        let id = ParamId(self.params.len() as u32);
        self.params.push(info);
        self.push(Op::Param(id), shape, &[], origin)
    }

    pub fn constant(&mut self, value: f64, shape: &[usize], origin: &Origin) -> Built {
        self.push(Op::Const(Constant::Uniform(value)), shape.to_vec(), &[], origin)
    }

    /// A public tensor, row-major.
    pub fn constant_tensor(&mut self, values: Vec<f64>, shape: &[usize], origin: &Origin) -> Built {
        if values.len() != elements(shape) {
            return Err(invalid("constant", shape, format!("it is given {} values", values.len())));
        }
        self.push(Op::Const(Constant::Tensor(values.into())), shape.to_vec(), &[], origin)
    }

    /// `a @ b`: `[n]@[n,m]`, `[k,n]@[n,m]`, `[k,n]@[n]` or `[n]@[n]`.
    pub fn matmul(&mut self, a: NodeId, b: NodeId, origin: &Origin) -> Built {
        let (left, right) = (self.shape(a).to_vec(), self.shape(b).to_vec());
        let (l, r, o): (&[u8], &[u8], &[u8]) = match (left.len(), right.len()) {
            (1, 2) => (b"j", b"jl", b"l"),
            (2, 2) => (b"kj", b"jl", b"kl"),
            (2, 1) => (b"kj", b"j", b"k"),
            (1, 1) => (b"j", b"j", b""),
            _ => return Err(mismatch("@", &left, &right, "it takes vectors and matrices")),
        };
        let (n, m) = (left[left.len() - 1], right[0]);
        if n != m {
            let why = format!("the left has {n} columns, the right {m} rows");
            return Err(mismatch("@", &left, &right, why));
        }
        self.contract(a, b, l, r, o, origin)
    }

    pub(super) fn contract(
        &mut self,
        a: NodeId,
        b: NodeId,
        l: &[u8],
        r: &[u8],
        o: &[u8],
        origin: &Origin,
    ) -> Built {
        let size = |label: &u8| {
            let at =
                |labels: &[u8], shape: &[usize]| labels.iter().position(|x| x == label).map(|i| shape[i]);
            at(l, self.shape(a)).or_else(|| at(r, self.shape(b))).unwrap_or(1)
        };
        let shape = o.iter().map(size).collect();
        self.push(
            Op::Contract { left: l.to_vec(), right: r.to_vec(), out: o.to_vec() },
            shape,
            &[a, b],
            origin,
        )
    }

    /// A cross-correlation, as the field calls convolution; `pad` is top, bottom, left, right.
    pub fn conv(&mut self, x: NodeId, k: NodeId, stride: usize, pad: [usize; 4], origin: &Origin) -> Built {
        let (image, kernel) = (self.shape(x).to_vec(), self.shape(k).to_vec());
        let (&[c, h, w], &[o, ci, kh, kw]) = (image.as_slice(), kernel.as_slice()) else {
            let why =
                "it takes an image [channels, height, width] and a kernel [outputs, channels, height, width]";
            return Err(mismatch("conv", &image, &kernel, why));
        };
        if c != ci {
            let why = format!("the image has {c} channels, the kernel {ci}");
            return Err(mismatch("conv", &image, &kernel, why));
        }
        if stride == 0 || kh == 0 || kw == 0 {
            return Err(mismatch("conv", &image, &kernel, "stride and kernel must be at least 1"));
        }
        let padded = |size: usize, before: usize, after: usize| size.checked_add(before)?.checked_add(after);
        let fits = padded(h, pad[0], pad[1]).is_some_and(|height| height >= kh && height <= MAX_ELEMENTS)
            && padded(w, pad[2], pad[3]).is_some_and(|width| width >= kw && width <= MAX_ELEMENTS);
        if !fits {
            let along = |size: usize, k: usize| size.saturating_add(pad[k]).saturating_add(pad[k + 1]);
            let (height, width) = (along(h, 0), along(w, 2));
            let why = format!(
                "the padded image has {height}x{width} pixels, so a kernel has {height}x{width} at most"
            );
            return Err(mismatch("conv", &image, &kernel, why));
        }
        let geometry = ConvGeometry { image: [c, h, w], kernel: [o, ci, kh, kw], stride, pad };
        let [oh, ow] = geometry.output();
        self.push(Op::Conv(geometry), vec![o, oh, ow], &[x, k], origin)
    }

    /// The common shape of two operands, as numpy broadcasts.
    fn broadcast_shape(&self, operation: &'static str, a: NodeId, b: NodeId) -> Result<Shape, ShapeError> {
        let (left, right) = (self.shape(a), self.shape(b));
        let rank = left.len().max(right.len());
        let at =
            |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
        (0..rank)
            .map(|axis| match (at(left, axis), at(right, axis)) {
                (x, y) if x == y || y == 1 => Ok(x),
                (1, y) => Ok(y),
                (x, y) => Err(mismatch(operation, left, right, format!("{x} and {y} elements do not match"))),
            })
            .collect()
    }

    /// `a` repeated to `shape`, as numpy broadcasts.
    pub fn broadcast(&mut self, a: NodeId, shape: &[usize], origin: &Origin) -> Built {
        let own = self.shape(a).to_vec();
        if own == shape {
            return Ok(a);
        }
        check_size(shape)?;
        let offset = shape.len().checked_sub(own.len());
        let fits = offset.is_some_and(|o| own.iter().zip(&shape[o..]).all(|(x, y)| x == y || *x == 1));
        let Some(offset) = offset.filter(|_| fits) else {
            return Err(mismatch("broadcast", &own, shape, "the shapes do not match"));
        };
        let own_strides: Vec<usize> =
            strides(&own).iter().zip(&own).map(|(&s, &d)| if d == 1 { 0 } else { s }).collect();
        let mut map = Vec::with_capacity(elements(shape));
        for_each_index(shape, |index| map.push(flat(&index[offset..], &own_strides) as u32));
        self.gather("broadcast", &[a], map, shape.to_vec(), origin)
    }

    pub fn add(&mut self, a: NodeId, b: NodeId, origin: &Origin) -> Built {
        let shape = self.broadcast_shape("+", a, b)?;
        let (a, b) = (self.broadcast(a, &shape, origin)?, self.broadcast(b, &shape, origin)?);
        match (self.node(a).uniform(), self.node(b).uniform()) {
            (Some(x), Some(y)) => self.constant(x + y, &shape, origin),
            (Some(c), None) => self.offset(b, c, origin),
            (None, Some(c)) => self.offset(a, c, origin),
            (None, None) => {
                let ((base_a, ca), (base_b, cb)) = (self.scaled(a), self.scaled(b));
                if base_a == base_b {
                    return self.scale(base_a, ca + cb, origin);
                }
                self.push(Op::Add, shape, &[a, b], origin)
            }
        }
    }

    pub fn sub(&mut self, a: NodeId, b: NodeId, origin: &Origin) -> Built {
        let shape = self.broadcast_shape("-", a, b)?;
        let (a, b) = (self.broadcast(a, &shape, origin)?, self.broadcast(b, &shape, origin)?);
        match (self.node(a).uniform(), self.node(b).uniform()) {
            (Some(x), Some(y)) => self.constant(x - y, &shape, origin),
            (Some(c), None) => {
                let minus = self.scale(b, -1.0, origin)?;
                self.offset(minus, c, origin)
            }
            (None, Some(c)) => self.offset(a, -c, origin),
            (None, None) => self.push(Op::Sub, shape, &[a, b], origin),
        }
    }

    pub fn mul(&mut self, a: NodeId, b: NodeId, origin: &Origin) -> Built {
        let shape = self.broadcast_shape("*", a, b)?;
        let (a, b) = (self.broadcast(a, &shape, origin)?, self.broadcast(b, &shape, origin)?);
        match (self.node(a).uniform(), self.node(b).uniform()) {
            (Some(x), Some(y)) => self.constant(x * y, &shape, origin),
            (Some(c), None) => self.scale(b, c, origin),
            (None, Some(c)) => self.scale(a, c, origin),
            (None, None) => self.push(Op::Mul, shape, &[a, b], origin),
        }
    }

    /// The value that `id` is a multiple of, and the factor.
    fn scaled(&self, id: NodeId) -> (NodeId, f64) {
        match self.node(id).op {
            Op::Scale(c) => (self.operands(id)[0], c),
            _ => (id, 1.0),
        }
    }

    pub fn scale(&mut self, a: NodeId, factor: f64, origin: &Origin) -> Built {
        let shape = self.shape(a).to_vec();
        if let Some(value) = self.node(a).uniform() {
            return self.constant(value * factor, &shape, origin);
        }
        let (base, inner) = self.scaled(a);
        match inner * factor {
            1.0 => Ok(base),
            0.0 => self.constant(0.0, &shape, origin),
            factor => self.push(Op::Scale(factor), shape, &[base], origin),
        }
    }

    pub fn offset(&mut self, a: NodeId, by: f64, origin: &Origin) -> Built {
        let shape = self.shape(a).to_vec();
        match self.node(a).uniform() {
            Some(value) => self.constant(value + by, &shape, origin),
            None if by == 0.0 => Ok(a),
            None => self.push(Op::Offset(by), shape, &[a], origin),
        }
    }

    /// `out[i] = operands[map[i]]`, see [`Op::Gather`].
    pub(super) fn gather(
        &mut self,
        what: &'static str,
        operands: &[NodeId],
        map: Vec<u32>,
        shape: Shape,
        origin: &Origin,
    ) -> Built {
        let uniform =
            operands.iter().map(|&a| self.node(a).uniform()).reduce(|x, y| if x == y { x } else { None });
        let complete = map.iter().all(|&i| i != NONE);
        match uniform.flatten() {
            Some(value) if complete || value == 0.0 => self.constant(value, &shape, origin),
            _ => self.push(Op::Gather { what, map: map.into() }, shape, operands, origin),
        }
    }

    pub fn reshape(&mut self, a: NodeId, shape: &[usize], origin: &Origin) -> Built {
        let own = self.shape(a).to_vec();
        check_size(shape)?;
        if elements(&own) != elements(shape) {
            let why = format!("{} elements do not fill {}", elements(&own), elements(shape));
            return Err(mismatch("reshape", &own, shape, why));
        }
        if own == shape {
            return Ok(a);
        }
        let map = (0..elements(shape) as u32).collect();
        self.gather("reshape", &[a], map, shape.to_vec(), origin)
    }

    /// Axis `i` of the result is axis `permutation[i]` of `a`.
    pub fn transpose(&mut self, a: NodeId, permutation: &[usize], origin: &Origin) -> Built {
        let own = self.shape(a).to_vec();
        let mut sorted = permutation.to_vec();
        sorted.sort_unstable();
        if sorted != (0..own.len()).collect::<Vec<_>>() {
            return Err(invalid("transpose", &own, format!("{permutation:?} does not name each axis once")));
        }
        let shape: Shape = permutation.iter().map(|&axis| own[axis]).collect();
        let own_strides = strides(&own);
        let from: Vec<usize> = permutation.iter().map(|&axis| own_strides[axis]).collect();
        let mut map = Vec::with_capacity(elements(&own));
        for_each_index(&shape, |index| map.push(flat(index, &from) as u32));
        self.gather("transpose", &[a], map, shape, origin)
    }

    /// `count` elements along `axis`, from `start`, every `step`-th.
    pub fn slice(
        &mut self,
        a: NodeId,
        axis: usize,
        start: usize,
        count: usize,
        step: usize,
        origin: &Origin,
    ) -> Built {
        let own = self.shape(a).to_vec();
        let Some(&size) = own.get(axis) else {
            return Err(invalid("slice", &own, format!("there is no axis {axis}")));
        };
        let last = count.checked_sub(1).and_then(|n| n.checked_mul(step)).and_then(|n| n.checked_add(start));
        if step == 0 || last.is_none_or(|last| last >= size) {
            let why = format!(
                "{count} elements from {start}, every {step}, do not lie in axis {axis} of size {size}"
            );
            return Err(invalid("slice", &own, why));
        }
        if count == size {
            return Ok(a);
        }
        let mut shape = own.clone();
        shape[axis] = count;
        let own_strides = strides(&own);
        let mut map = Vec::with_capacity(elements(&shape));
        for_each_index(&shape, |index| {
            let along = index[axis] * (step - 1) + start;
            map.push((flat(index, &own_strides) + along * own_strides[axis]) as u32);
        });
        self.gather("slice", &[a], map, shape, origin)
    }

    /// Zeros before and after, along `axis`.
    pub fn pad(&mut self, a: NodeId, axis: usize, before: usize, after: usize, origin: &Origin) -> Built {
        let own = self.shape(a).to_vec();
        if axis >= own.len() {
            return Err(invalid("pad", &own, format!("there is no axis {axis}")));
        }
        let mut shape = own.clone();
        shape[axis] = own[axis].saturating_add(before).saturating_add(after);
        check_size(&shape)?;
        let own_strides = strides(&own);
        let mut map = Vec::with_capacity(elements(&shape));
        for_each_index(&shape, |index| {
            let inside = index[axis] >= before && index[axis] < before + own[axis];
            map.push(if inside {
                let along: usize = index.iter().zip(&own_strides).map(|(i, s)| i * s).sum();
                (along - before * own_strides[axis]) as u32
            } else {
                NONE
            });
        });
        self.gather("pad", &[a], map, shape, origin)
    }

    pub fn concat(&mut self, parts: &[NodeId], axis: usize, origin: &Origin) -> Built {
        let Some(&first) = parts.first() else {
            return Err(invalid("concat", &[], "it needs at least one operand"));
        };
        let own = self.shape(first).to_vec();
        if axis >= own.len() {
            return Err(invalid("concat", &own, format!("there is no axis {axis}")));
        }
        let mut shape = own.clone();
        shape[axis] = 0;
        for &part in parts {
            let other = self.shape(part);
            let agrees = other.len() == own.len() && (0..own.len()).all(|i| i == axis || own[i] == other[i]);
            if !agrees {
                return Err(mismatch("concat", &own, other, format!("they differ beside axis {axis}")));
            }
            shape[axis] = shape[axis].saturating_add(other[axis]);
        }
        check_size(&shape)?;
        let (outer, inner) = (elements(&shape[..axis]), elements(&shape[axis + 1..]));
        let mut map = Vec::with_capacity(elements(&shape));
        for row in 0..outer {
            let mut base = 0;
            for &part in parts {
                let width = self.shape(part)[axis] * inner;
                map.extend((0..width).map(|i| (base + row * width + i) as u32));
                base += self.node(part).elements();
            }
        }
        self.gather("concat", parts, map, shape, origin)
    }

    /// Sliding windows of an image: `[c, h, w]` gives `[c, h', w', kh, kw]`.
    pub fn window(&mut self, a: NodeId, kernel: [usize; 2], stride: usize, origin: &Origin) -> Built {
        let own = self.shape(a).to_vec();
        let [kh, kw] = kernel;
        let &[c, h, w] = own.as_slice() else {
            return Err(invalid("window", &own, "it takes an image [channels, height, width]"));
        };
        if stride == 0 || kh == 0 || kw == 0 {
            return Err(invalid("window", &own, "stride and window must be at least 1"));
        }
        if kh > h || kw > w {
            let why = format!("a window of {kh}x{kw} does not fit, the largest is {h}x{w}");
            return Err(invalid("window", &own, why));
        }
        let shape = vec![c, (h - kh) / stride + 1, (w - kw) / stride + 1, kh, kw];
        check_size(&shape)?;
        let mut map = Vec::with_capacity(elements(&shape));
        for_each_index(&shape, |i| {
            map.push((i[0] * h * w + (i[1] * stride + i[3]) * w + i[2] * stride + i[4]) as u32);
        });
        self.gather("window", &[a], map, shape, origin)
    }

    /// The sum over one axis, which disappears.
    pub fn sum(&mut self, a: NodeId, axis: usize, origin: &Origin) -> Built {
        let own = self.shape(a).to_vec();
        if axis >= own.len() {
            return Err(invalid("sum", &own, format!("there is no axis {axis}")));
        }
        let mut shape = own.clone();
        shape.remove(axis);
        let (inner, size) = (elements(&own[axis + 1..]), own[axis]);
        let map = (0..elements(&own)).map(|i| (i / (inner * size) * inner + i % inner) as u32).collect();
        self.scatter_add("sum", a, map, shape, origin)
    }

    /// The sum over all elements: a scalar.
    pub fn sum_all(&mut self, a: NodeId, origin: &Origin) -> Built {
        let map = vec![0; self.node(a).elements()];
        self.scatter_add("sum", a, map, vec![], origin)
    }

    /// The mean over one axis, which disappears.
    pub fn mean(&mut self, a: NodeId, axis: usize, origin: &Origin) -> Built {
        let size = self.shape(a).get(axis).copied().unwrap_or(1).max(1);
        let sum = self.sum(a, axis, origin)?;
        self.scale(sum, 1.0 / size as f64, origin)
    }

    /// `out[map[i]] += a[i]`, see [`Op::ScatterAdd`].
    pub(super) fn scatter_add(
        &mut self,
        what: &'static str,
        a: NodeId,
        map: Vec<u32>,
        shape: Shape,
        origin: &Origin,
    ) -> Built {
        check_size(&shape)?;
        if let Some(value) = self.node(a).uniform() {
            let mut counts = vec![0.0; elements(&shape)];
            for &i in map.iter().filter(|&&i| i != NONE) {
                counts[i as usize] += value;
            }
            return match counts.first() {
                Some(&first) if counts.iter().all(|&c| c == first) => self.constant(first, &shape, origin),
                _ => self.constant_tensor(counts, &shape, origin),
            };
        }
        self.push(Op::ScatterAdd { what, map: map.into() }, shape, &[a], origin)
    }

    /// The larger by elements: `b + max(a − b, 0)`, one table.
    pub fn max(&mut self, a: NodeId, b: NodeId, origin: &Origin) -> Built {
        use super::{Binary, Function, ScalarExpr};
        if let (Some(x), Some(y)) = (self.node(a).uniform(), self.node(b).uniform()) {
            let shape = self.broadcast_shape("max", a, b)?;
            return self.constant(x.max(y), &shape, origin);
        }
        let positive = ScalarFn {
            name: "max".into(),
            expr: ScalarExpr::bin(Binary::Max, ScalarExpr::Z, ScalarExpr::Const(0.0)),
            grad: Some(ScalarExpr::call(Function::Step, ScalarExpr::Z)),
        };
        self.broadcast_shape("max", a, b)?;
        let difference = self.sub(a, b, origin)?;
        let excess = self.lut(difference, positive, origin)?;
        self.add(b, excess, origin)
    }

    pub fn lut(&mut self, a: NodeId, function: ScalarFn, origin: &Origin) -> Built {
        let shape = self.shape(a).to_vec();
        match self.node(a).uniform() {
            Some(value) => self.constant(function.expr.eval(value), &shape, origin),
            None => self.push(Op::Lut(Arc::new(function)), shape, &[a], origin),
        }
    }

    pub fn refresh(&mut self, a: NodeId, origin: &Origin) -> Built {
        let shape = self.shape(a).to_vec();
        self.push(Op::Refresh, shape, &[a], origin)
    }

    pub fn ascribe(&mut self, a: NodeId, written: Written, origin: &Origin) -> Built {
        let shape = self.shape(a).to_vec();
        self.push(Op::Ascribe(written), shape, &[a], origin)
    }

    pub fn batch_sum(&mut self, a: NodeId, origin: &Origin) -> Built {
        let shape = self.shape(a).to_vec();
        self.push(Op::BatchSum, shape, &[a], origin)
    }

    /// A level variable that nothing else uses.
    pub fn fresh_level(&mut self) -> LevelExpr {
        self.level_variables += 1;
        LevelExpr { variable: Some(self.level_variables - 1), offset: 0 }
    }
}
