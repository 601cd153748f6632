//! From the typed graph to a schedule: parameters, layouts, amplitudes, batches of look-ups, estimates.
//!
//! In: a graph whose shapes, levels and ranges are checked. Out: a [`schedule::Schedule`] that every engine
//! understands, and an [`estimate::Report`] that says what it will cost before anything runs. Pure; knows no key and no data.

mod build;
pub mod check;
pub mod choice;
pub mod compile;
pub mod estimate;
pub mod form;
pub mod functions;
pub mod gather;
pub mod initial;
pub mod layout;
pub mod lower;
mod nominal;
pub mod parameters;
mod place;
pub mod prepare;
mod prune;
pub mod route;
pub mod schedule;
pub mod stages;

pub use build::{Purpose, build};
pub use nominal::Nominal;
