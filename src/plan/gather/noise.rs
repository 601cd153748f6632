//! The noise of operands after their ways.

use crate::he::ckks::params::RingProfile;
use crate::he::ckks::small::noise::{fresh_units, switch_units, variance_units};

use super::super::functions::RingFunction;
use super::super::schedule::Schedule;
use super::{GatherPlan, RingSource};

impl GatherPlan {
    /// Standard deviations of the errors of all operands, in units: where values stand, and where none do. `functions` are those
    /// of the tables.
    pub fn operand_noise(
        &self,
        schedule: &Schedule,
        functions: &[Vec<RingFunction>],
        profile: &RingProfile,
    ) -> Vec<[f64; 2]> {
        let own = |index: usize| {
            let direct = if self.is_direct(schedule, index) { fresh_units().powi(2) } else { 0.0 };
            let mut variances = [direct; 2];
            for term in &self.operands[index].terms {
                let mut hidden = 0.0;
                let layers = term.routes.layers as f64;
                for &(origin, multiple) in &term.sources {
                    let [noise, elsewhere] = match origin {
                        RingSource::Table { site, table } => {
                            let own = &functions[site][table];
                            [own.output_noise, own.hidden_noise]
                        }
                        RingSource::Wire(_) => [fresh_units(); 2],
                    };
                    variances[0] += layers * (multiple as f64 * noise).powi(2);
                    hidden += (multiple as f64 * elsewhere).powi(2);
                }
                let route = term.routes.noise();
                let units = |own| variance_units(profile, own, hidden.sqrt());
                variances[0] += units(route.values());
                variances[1] += units(route.elsewhere());
            }
            variances
        };
        let turned = |index: usize| match self.operands[index].image {
            None => own(index),
            Some(image) => {
                let switch = if image.mirrored { switch_units(profile).powi(2) } else { 0.0 };
                own(image.of).map(|variance| (variance + switch) * (image.multiple as f64).powi(2))
            }
        };
        (0..schedule.operands.len()).map(|index| turned(index).map(f64::sqrt)).collect()
    }
}
