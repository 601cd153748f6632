//! Programmable bootstrapping in batches: one pass over the bootstrap key serves up to sixteen inputs, and the
//! batches are spread over the threads of the rayon pool that the caller has installed.

use super::{
    blind_rotation::Rotation,
    error::HeError,
    fourier::Aligned,
    keys::ServerKeys,
    lwe::{LweBig, LweSmall, extract_glwe},
    params::Profile,
    table::LutTable,
};
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Inputs per pass over the bootstrap key. The key streams from memory; beyond sixteen the accumulators no
/// longer fit the second-level cache.
const BATCH: usize = 16;

/// How a caller watches and stops a long operation.
pub struct Control<'a> {
    /// Called from worker threads with (inputs done, inputs in all).
    pub progress: &'a (dyn Fn(usize, usize) + Sync),
    /// Asked between batches; `true` ends the operation with [`HeError::Cancelled`].
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl Control<'static> {
    /// Shows nothing and never stops.
    pub const NONE: Control<'static> = Control { progress: &|_, _| {}, cancelled: &|| false };
}

/// The centred modulus switch from 2^64 to 2·N_T in steps of `outputs`: every word is rounded to nearest, and the
/// body takes the mean Σeᵢ/2 of what the rounding errors eᵢ of the mask add under a binary key. The input's
/// signed range starts at index 0 of the table, hence the quarter turn.
fn modulus_switch(lwe: &LweSmall, profile: &Profile, outputs: usize) -> Rotation {
    let log_modulus = profile.pbs.polynomial_size.ilog2() as usize + 1;
    let log_step = outputs.ilog2() as usize;
    let shift = 64 - (log_modulus - log_step);
    let half = 1u64 << (shift - 1);
    let wrap = (1usize << log_modulus) - 1;
    let (mask, body) = lwe.words.split_at(lwe.dimension());
    let mut error_sum = 0i128;
    let mask = mask
        .iter()
        .map(|&word| {
            let rounded = word.wrapping_add(half) >> shift;
            error_sum += i128::from((rounded << shift).wrapping_sub(word) as i64);
            ((rounded as usize) << log_step) & wrap
        })
        .collect();
    let quarter = 1u64 << 62;
    let mean = (error_sum / 2) as u64;
    let body = body.first().copied().unwrap_or(0).wrapping_add(quarter).wrapping_add(mean);
    Rotation { mask, body: (((body.wrapping_add(half) >> shift) as usize) << log_step) & wrap }
}

/// Size of the batches for `inputs` on `threads`: at most [`BATCH`], and an equal share for every thread where there
/// are few.
fn batch_size(inputs: usize, threads: usize) -> usize {
    let rounds = inputs.div_ceil(BATCH * threads).max(1);
    inputs.div_ceil(rounds * threads).clamp(1, BATCH)
}

impl ServerKeys {
    /// Looks up `inputs[i]` in `tables[table_of[i]]`; returns as many LWEs per input as its table has outputs.
    ///
    /// Batches may mix tables. Runs on all threads of the current rayon pool.
    ///
    /// # Errors
    /// Lists of different lengths, a table index or an LWE dimension that does not fit, tables of another profile,
    /// or a stop on request.
    pub fn bootstrap(
        &self,
        inputs: &[LweSmall],
        table_of: &[usize],
        tables: &[LutTable],
        control: &Control<'_>,
    ) -> Result<Vec<Vec<LweBig>>, HeError> {
        self.check_lookups(inputs, table_of, tables)?;
        let done = AtomicUsize::new(0);
        let size = batch_size(inputs.len(), rayon::current_num_threads());
        let batches: Vec<Vec<Vec<LweBig>>> = inputs
            .par_chunks(size)
            .zip(table_of.par_chunks(size))
            .map(|(batch, table_of)| {
                if (control.cancelled)() {
                    return Err(HeError::Cancelled);
                }
                let tables: Vec<&LutTable> = table_of.iter().map(|&i| &tables[i]).collect();
                let outputs = self.bootstrap_batch(batch, &tables);
                let now = done.fetch_add(batch.len(), Ordering::Relaxed) + batch.len();
                (control.progress)(now, inputs.len());
                Ok(outputs)
            })
            .collect::<Result<_, HeError>>()?;
        Ok(batches.into_iter().flatten().collect())
    }

    fn check_lookups(
        &self,
        inputs: &[LweSmall],
        table_of: &[usize],
        tables: &[LutTable],
    ) -> Result<(), HeError> {
        const DOING: &str = "bootstrap";
        if table_of.len() != inputs.len() {
            let (got, expected) = (table_of.len(), inputs.len());
            return Err(HeError::Count { operation: DOING, what: "table indices", got, expected });
        }
        if let Some(&index) = table_of.iter().find(|&&i| i >= tables.len()) {
            return Err(HeError::TableOutOfBounds { index, count: tables.len() });
        }
        let expected = self.profile().n_lwe;
        if let Some(lwe) = inputs.iter().find(|l| l.dimension() != expected) {
            return Err(HeError::LweDimension { operation: DOING, got: lwe.dimension(), expected });
        }
        let expected = self.profile().pbs.polynomial_size;
        if let Some(table) = tables.iter().find(|t| t.coefficients.len() != expected) {
            let got = table.coefficients.len();
            return Err(HeError::Count { operation: DOING, what: "table entries", got, expected });
        }
        Ok(())
    }

    /// One pass over the bootstrap key.
    fn bootstrap_batch(&self, batch: &[LweSmall], tables: &[&LutTable]) -> Vec<Vec<LweBig>> {
        let profile = self.profile();
        let (k, size) = (profile.pbs.glwe_dimension, profile.pbs.polynomial_size);
        let glwe_words = (k + 1) * size;
        let rotations: Vec<Rotation> = batch
            .iter()
            .zip(tables)
            .map(|(lwe, table)| modulus_switch(lwe, profile, table.outputs))
            .collect();
        let mut accumulators = Aligned::new(0u64, batch.len() * glwe_words);
        for (glwe, table) in accumulators.chunks_exact_mut(glwe_words).zip(tables) {
            glwe[k * size..].copy_from_slice(&table.coefficients);
        }
        self.bootstrap.rotate(&rotations, &mut accumulators);
        accumulators
            .chunks_exact(glwe_words)
            .zip(tables)
            .map(|(glwe, table)| (0..table.outputs).map(|i| extract_glwe(glwe, k, size, i)).collect())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_full_or_shared_equally() {
        assert_eq!(batch_size(455, 2), 16);
        assert_eq!(batch_size(31, 2), 16);
        assert_eq!(batch_size(20, 2), 10);
        assert_eq!(batch_size(1, 8), 1);
        assert_eq!(batch_size(0, 2), 1);
        assert_eq!(batch_size(34, 2), 9);
        for inputs in 1..200 {
            for threads in 1..9 {
                let size = batch_size(inputs, threads);
                let rounds = inputs.div_ceil(size).div_ceil(threads);
                assert_eq!(rounds, inputs.div_ceil(BATCH * threads), "{inputs} on {threads}");
            }
        }
    }
}
