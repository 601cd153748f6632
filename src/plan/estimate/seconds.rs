//! Where the time of a step goes: predicted by the plan, measured by the engines.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Wall-clock seconds of the parts of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageSeconds {
    /// Values to the bootstraps: switches, extraction.
    pub routes_in: f64,
    /// From the small rings to powers of the exponential (ring engine): raise, coefficients to slots.
    pub open: f64,
    /// Functions of the opened values; whole bootstraps with TFHE.
    pub functions: f64,
    /// From slots back to the small rings (ring engine).
    pub close: f64,
    /// Looked-up and fresh values to the operands of products: switches, packing.
    pub routes_out: f64,
    pub products: f64,
    /// Everything else, such as the update of the masters.
    pub other: f64,
}

impl StageSeconds {
    /// Every part with its name.
    pub fn parts(&self) -> [(&'static str, f64); 7] {
        [
            ("routes in", self.routes_in),
            ("opening", self.open),
            ("functions", self.functions),
            ("closing", self.close),
            ("routes out", self.routes_out),
            ("products", self.products),
            ("other", self.other),
        ]
    }

    pub fn total(&self) -> f64 {
        self.parts().iter().map(|(_, seconds)| seconds).sum()
    }

    /// Every part times a factor.
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            routes_in: self.routes_in * factor,
            open: self.open * factor,
            functions: self.functions * factor,
            close: self.close * factor,
            routes_out: self.routes_out * factor,
            products: self.products * factor,
            other: self.other * factor,
        }
    }

    /// What a step took in all that no part accounts for.
    pub fn with_rest_of(self, total: f64) -> Self {
        Self { other: self.other + (total - self.total()).max(0.0), ..self }
    }
}

impl AddAssign for StageSeconds {
    fn add_assign(&mut self, more: Self) {
        self.routes_in += more.routes_in;
        self.open += more.open;
        self.functions += more.functions;
        self.close += more.close;
        self.routes_out += more.routes_out;
        self.products += more.products;
        self.other += more.other;
    }
}
