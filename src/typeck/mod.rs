//! From the syntax tree to a typed graph: names and shapes on the source, then elaboration into [`crate::graph`];
//! schemes, levels and ranges are solved on that graph. Knows no file: data is seen through [`DataCatalog`].

pub mod data_spec;
pub mod levels;

pub use data_spec::{DataCatalog, DataFormat, DataSpec, NoData, Outcome, Scale, Schema, Spanned};
