//! Unit costs of this machine, for a plan's times.

use crate::he::ckks::measure;
use crate::he::{HeError, UnitCosts};
use crate::plan::estimate::{Costs, TfheUnits, Units};
use crate::plan::parameters::Parameters;

/// Makes keys and measures for a few seconds; for the ring engine, whose keys take longer than a plan may, measures the
/// transforms, of which its costs consist.
pub fn costs(parameters: Parameters) -> Result<Costs, HeError> {
    match parameters {
        Parameters::Tfhe(profile) => UnitCosts::measure_profile(profile).map(|measured| of(&measured)),
        Parameters::Ckks(profile) => {
            let slowness = measure::slowness(profile)?;
            Ok(Costs::typical(parameters, rayon::current_num_threads()).slower(slowness))
        }
    }
}

fn of(measured: &UnitCosts) -> Costs {
    let units = TfheUnits {
        pbs_seconds: measured.pbs_seconds,
        operand_seconds: measured.operand_seconds,
        accumulate_seconds: measured.accumulate_seconds,
        finish_seconds: measured.finish_seconds,
        switch_seconds: measured.switch_seconds,
        pack_seconds: measured.pack_seconds,
    };
    Costs {
        cores: measured.cores,
        units: Units::Tfhe(units),
        key_seconds: measured.key_seconds,
        parallel: measured.pbs_seconds / measured.pbs_all_cores_seconds.max(1e-9),
        measured: true,
    }
}
