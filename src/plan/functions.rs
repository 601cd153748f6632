//! The tables of a site as the ring engine evaluates them.

use super::parameters::Parameters;
use super::schedule::{Schedule, Table};

/// A table as a polynomial of the torus.
pub struct Fitted {
    table: Table,
    range: f64,
    /// The largest output, in units of value.
    largest: f64,
    parameters: Parameters,
}

impl Fitted {
    /// The tables of a site.
    pub fn all(schedule: &Schedule, site: usize) -> Vec<Self> {
        let site = &schedule.sites[site];
        let fitted = |table: &Table| Self {
            table: table.clone(),
            range: site.range,
            largest: table.largest(site.range),
            parameters: schedule.parameters,
        };
        site.tables.iter().map(fitted).collect()
    }

    /// What the table gives at a fraction of the torus, less its centre, in units of value.
    pub fn value(&self, torus: f64) -> f64 {
        // Beyond the range it is reflected.
        let reflected = if torus.abs() > 0.25 { 0.5f64.copysign(torus) - torus } else { torus };
        self.table.value(4.0 * reflected * self.range)
    }

    /// Standard deviation of the error of a value in its slot, in units of value.
    pub fn error(&self) -> f64 {
        self.output_noise_units() * self.largest / self.parameters.table_limit_units()
    }

    /// Standard deviation of the error of an output, in units.
    pub fn output_noise_units(&self) -> f64 {
        self.parameters.table_variance_units().sqrt()
    }
}
