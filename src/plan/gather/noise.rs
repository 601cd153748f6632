//! The noise of operands after their ways.

use crate::he::ckks::params::RingProfile;
use crate::he::ckks::small::noise::{fresh_units, route_units, switch_units};

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
                for &(origin, multiple) in &term.sources {
                    let noises = match origin {
                        RingSource::Table { site, table } => {
                            let own = &functions[site][table];
                            [own.output_noise, own.hidden_noise]
                        }
                        RingSource::Wire(_) => [fresh_units(); 2],
                    };
                    for (variance, noise) in variances.iter_mut().zip(noises) {
                        *variance += (multiple as f64 * noise).powi(2);
                    }
                }
                let route = route_units(profile, term.routes.depth()).powi(2);
                variances.iter_mut().for_each(|variance| *variance += route);
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
