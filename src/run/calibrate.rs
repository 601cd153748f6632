//! Unit costs of this machine, for a plan's times.

use crate::he::params::Profile;
use crate::he::{HeError, UnitCosts};
use crate::plan::estimate::Costs;

/// Makes keys and measures for a few seconds.
pub fn costs(profile: &'static Profile) -> Result<Costs, HeError> {
    UnitCosts::measure_profile(profile).map(|measured| of(&measured))
}

fn of(measured: &UnitCosts) -> Costs {
    Costs {
        cores: measured.cores,
        pbs_seconds: measured.pbs_seconds,
        operand_seconds: measured.operand_seconds,
        accumulate_seconds: measured.accumulate_seconds,
        finish_seconds: measured.finish_seconds,
        switch_seconds: measured.switch_seconds,
        pack_seconds: measured.pack_seconds,
        parallel: measured.pbs_seconds / measured.pbs_all_cores_seconds.max(1e-9),
        measured: true,
    }
}
