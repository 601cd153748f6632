//! What a `data` declaration says, without reading anything: the client's side (`data/`) reads the files, the
//! checker asks it through [`DataCatalog`] for what a declaration alone does not tell.

use crate::diagnostics::{Diagnostic, Span};

/// A value with the place where it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Span,
}

impl<T> Spanned<T> {
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// `csv("…")`, `idx("…")` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataFormat {
    /// One file with a header line, optionally gzipped; each further line is a sample.
    Csv,
    /// A folder with the four files of MNIST's format (`train-images-idx3-ubyte` …, optionally `.gz`).
    Idx,
    /// A folder of NumPy arrays: `x.npy` and `y.npy`, or `x_train.npy`, `x_test.npy` and so on.
    Npy,
    /// A NumPy archive with arrays of the same names.
    Npz,
    /// A folder of PNG files whose rows of pixels are images, with lists of labels as JSON.
    Png,
}

impl DataFormat {
    pub const ALL: [(DataFormat, &'static str); 5] = [
        (DataFormat::Csv, "csv"),
        (DataFormat::Idx, "idx"),
        (DataFormat::Npy, "npy"),
        (DataFormat::Npz, "npz"),
        (DataFormat::Png, "png"),
    ];

    /// As a program writes it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(own, _)| *own == self).map_or("", |(_, name)| name)
    }
}

/// Which samples come first, where a declaration takes a part of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subset {
    /// Those that come first in the file.
    First,
    /// Those that come first after a shuffle, the same on every machine.
    Shuffled,
}

impl Subset {
    pub const ALL: [(Subset, &'static str); 2] = [(Subset::First, "first"), (Subset::Shuffled, "shuffled")];
}

/// How the client scales features before it encrypts them. Whatever is fitted is fitted on the training split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Taken as they are.
    None,
    /// Each feature to mean 0 and standard deviation 1, clipped at ±4.
    Standard,
    /// Minimum to maximum (bytes: 0 to 255) onto `[0, 1]`.
    Unit,
    /// Minimum to maximum (bytes: 0 to 255) onto `[-1, 1]`, less the mean of each feature: within `[-2, 2]`.
    Centred,
}

impl Scale {
    pub const ALL: [(Scale, &'static str); 4] = [
        (Scale::None, "none"),
        (Scale::Standard, "standard"),
        (Scale::Unit, "unit"),
        (Scale::Centred, "centred"),
    ];

    /// The interval in which scaled features lie; `None` if only the data can tell.
    pub fn range(self) -> Option<(f64, f64)> {
        match self {
            Scale::None => None,
            Scale::Standard => Some((-4.0, 4.0)),
            Scale::Unit => Some((0.0, 1.0)),
            Scale::Centred => Some((-2.0, 2.0)),
        }
    }
}

/// What a model is to predict.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// `label: diagnosis`: the column (or array) of the classes.
    Class(Spanned<String>),
    /// `target: price`: the column (or array) of a number (a regression).
    Number(Spanned<String>),
    /// Nothing is written: the format says where the labels are (`idx`, `png`), or they have their usual name.
    Implied,
}

/// A `data` declaration.
#[derive(Clone, Debug, PartialEq)]
pub struct DataSpec {
    pub name: String,
    pub format: DataFormat,
    /// As written: relative to the folder of the program that declares it (`span.file`).
    pub path: Spanned<String>,
    pub outcome: Outcome,
    /// `positive: malignant`: the class with label 1, where there are two. The classes are otherwise in
    /// numeric order, or alphabetical if they are words.
    pub positive: Option<Spanned<String>>,
    /// `features: [radius, texture]`: the columns to learn from, or the one array; empty: all columns but the label's.
    pub features: Vec<Spanned<String>>,
    /// `scale: …`, or `none` at the span of the declaration.
    pub scale: Spanned<Scale>,
    /// `subset: shuffled`: which rows come first for the split and the numbers of samples.
    pub subset: Subset,
    /// `split: 0.8`: the fraction of the rows, from the first on, that trains; the others test.
    pub split: Option<Spanned<f64>>,
    /// `train: 6000`: how many samples train, from the first on.
    pub train: Option<Spanned<usize>>,
    /// `test: 1000`: how many samples test.
    pub test: Option<Spanned<usize>>,
    /// `classes: 10`: how many classes the labels have, where the data cannot be read.
    pub classes: Option<Spanned<usize>>,
    /// The whole declaration.
    pub span: Span,
}

/// What the data says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// Names of all columns in the file's order; empty where the format has none.
    pub columns: Vec<String>,
    /// Shape of one sample's features: `[30]`, `[1, 28, 28]`.
    pub features: Vec<usize>,
    /// Number of classes; `None` for a regression.
    pub classes: Option<usize>,
    /// Samples that train.
    pub train: usize,
    /// Samples that test.
    pub test: usize,
    /// Interval of the scaled features, over both splits.
    pub range: Option<(f64, f64)>,
}

/// Weights of a file, in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    pub tensors: Vec<WeightTensor>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WeightTensor {
    /// As the model that made it names it: `dense1.w`.
    pub name: String,
    pub shape: Vec<usize>,
    /// Row-major, as many as the shape has elements; all finite.
    pub values: std::sync::Arc<[f32]>,
}

/// Gives the checker a look at the data. The checker itself never touches a file.
pub trait DataCatalog {
    /// `None`: nothing is known (no files here, as in a browser). `Err`: the declaration does not fit the data;
    /// the diagnostics point into the declaration.
    fn schema(&self, spec: &DataSpec) -> Option<Result<Schema, Vec<Diagnostic>>>;

    /// Weights from a file, relative to the program's folder. `None` and `Err` as with [`DataCatalog::schema`].
    fn weights(&self, path: &Spanned<String>) -> Option<Result<Weights, Vec<Diagnostic>>> {
        let _ = path;
        None
    }
}

/// Knows nothing about any data.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoData;

impl DataCatalog for NoData {
    fn schema(&self, _: &DataSpec) -> Option<Result<Schema, Vec<Diagnostic>>> {
        None
    }
}
