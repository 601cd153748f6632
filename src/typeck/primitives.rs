//! The names that the language itself brings: what is not written in the language.

use crate::graph::Function;

/// An operation of the core language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Primitive {
    Conv,
    Window,
    Reshape,
    Transpose,
    Slice,
    Concat,
    Pad,
    Sum,
    Mean,
    Max,
    Min,
    Fold,
    Size,
    Shape,
    Refresh,
    Mask,
    Require,
    /// A function of one value: a table if the value is encrypted.
    Scalar(Function),
}

impl Primitive {
    /// Name, and parameters; those with a `?` may be left out.
    const TABLE: [(Primitive, &'static str, &'static [&'static str]); 17] = [
        (Primitive::Conv, "conv", &["x", "kernel", "stride?", "pad?"]),
        (Primitive::Window, "window", &["x", "height", "width", "stride?"]),
        (Primitive::Reshape, "reshape", &["x", "shape"]),
        (Primitive::Transpose, "transpose", &["x", "axes?"]),
        (Primitive::Slice, "slice", &["x", "from", "to", "axis?", "step?"]),
        (Primitive::Concat, "concat", &["parts", "axis?"]),
        (Primitive::Pad, "pad", &["x", "before", "after", "axis?"]),
        (Primitive::Sum, "sum", &["x", "axis?"]),
        (Primitive::Mean, "mean", &["x", "axis?"]),
        (Primitive::Max, "max", &["a", "b"]),
        (Primitive::Min, "min", &["a", "b"]),
        (Primitive::Fold, "fold", &["x", "with", "axis?"]),
        (Primitive::Size, "size", &["x", "axis?"]),
        (Primitive::Shape, "shape", &["x"]),
        (Primitive::Refresh, "refresh", &["x"]),
        (Primitive::Mask, "mask", &["x", "keep"]),
        (Primitive::Require, "require", &["holds", "otherwise"]),
    ];

    pub fn by_name(name: &str) -> Option<Self> {
        let own = Self::TABLE.iter().find(|(_, known, _)| *known == name).map(|(primitive, ..)| *primitive);
        own.or_else(|| Function::by_name(name).map(Primitive::Scalar))
    }

    pub fn name(self) -> &'static str {
        match self {
            Primitive::Scalar(function) => function.name(),
            _ => Self::TABLE.iter().find(|(own, ..)| *own == self).map_or("", |(_, name, _)| name),
        }
    }

    /// Names of the parameters, and whether each may be left out.
    pub fn parameters(self) -> Vec<(&'static str, bool)> {
        let names = match self {
            Primitive::Scalar(_) => &["z"],
            _ => Self::TABLE.iter().find(|(own, ..)| *own == self).map_or(&[] as &[_], |(.., p)| p),
        };
        names.iter().map(|name| (name.trim_end_matches('?'), name.ends_with('?'))).collect()
    }

    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::TABLE.iter().map(|(_, name, _)| *name).chain(Function::ALL.iter().map(|(_, name)| *name))
    }
}

/// Words that stand after `~`.
pub const INITS: [&str; 5] = ["zeros", "ones", "he_normal", "normal", "uniform"];
