//! The client's role: keys, encryption of batches, decryption of weights and results.

use std::time::Instant;

use rayon::prelude::*;

use crate::he::params::Profile;
use crate::he::{Ciphertext, ClientKey, HeError, ServerKeys};
use crate::interp::encrypted::{EncryptedBatch, Server, State, torus};
use crate::interp::{Batch, EngineError, Watch, encode};
use crate::plan::estimate::StageSeconds;
use crate::plan::schedule::{Output, Schedule};

use super::events::{Observer, Phase, Progress};
use super::roles::Roles;

/// The profile of a schedule that this client encrypts for.
fn tfhe_profile(schedule: &Schedule) -> Result<&'static Profile, HeError> {
    schedule.parameters.tfhe().ok_or_else(|| HeError::Library {
        operation: "client",
        message: format!("the schedule has parameters `{}` of another scheme", schedule.parameters.name()),
    })
}

/// Holds the only secret key.
pub struct Client {
    key: ClientKey,
}

impl Client {
    pub fn new(profile: &'static Profile) -> Result<Self, HeError> {
        Ok(Self { key: ClientKey::generate(profile)? })
    }

    /// The evaluation keys that a schedule needs.
    pub fn server_keys(
        &self,
        schedule: &Schedule,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<ServerKeys, HeError> {
        let level = schedule.operands.iter().filter(|o| o.packed).map(|o| o.level).max().unwrap_or(0);
        self.key.server_keys_at(level, progress)
    }

    /// Encrypts a batch: each operand of the client in its layout and amplitude, and the labels.
    pub fn encrypt(&self, schedule: &Schedule, batch: &Batch<'_>) -> Result<EncryptedBatch, HeError> {
        let fresh = schedule
            .operands
            .iter()
            .map(|operand| {
                if !operand.fresh {
                    return Ok(Vec::new());
                }
                let values = encode::fresh_part(schedule, operand, batch);
                encode::polynomials(schedule.degree(), &operand.layout, &values, operand.per_sample)
                    .par_iter()
                    .map(|polynomial| self.key.encrypt(polynomial, operand.level))
                    .collect()
            })
            .collect::<Result<_, HeError>>()?;
        let values: Vec<u64> = encode::labels(schedule, batch).into_iter().map(torus).collect();
        let labels = if values.is_empty() { None } else { Some(self.key.encrypt_lwe_values(&values)?) };
        Ok(EncryptedBatch { size: batch.size, fresh, labels })
    }

    /// The weights: the public initial ones and what the masters have learned.
    pub fn weights(
        &self,
        schedule: &Schedule,
        masters: &[Vec<Ciphertext>],
        initial: &[Vec<f32>],
    ) -> Result<Vec<Vec<f32>>, HeError> {
        schedule
            .masters
            .iter()
            .zip(masters)
            .zip(initial)
            .map(|((plan, master), initial)| {
                let learned = self.integers(schedule, &plan.layout, master, 1)?;
                Ok(encode::weights(plan, &learned, initial))
            })
            .collect()
    }

    /// Decrypts polynomials of a layout to the integers at its places.
    pub fn integers(
        &self,
        schedule: &Schedule,
        layout: &crate::plan::layout::Layout,
        ciphertexts: &[Ciphertext],
        samples: usize,
    ) -> Result<Vec<i64>, HeError> {
        let polynomials = ciphertexts
            .iter()
            .map(|ciphertext| self.key.decrypt(ciphertext))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(encode::read_back(schedule.degree(), layout, &polynomials, samples))
    }

    /// The value of an output of a program that is evaluated once.
    pub fn output(
        &self,
        schedule: &Schedule,
        output: &Output,
        server: &Server<'_>,
        state: &State,
    ) -> Result<Vec<f32>, EngineError> {
        encode::output(schedule, output, |read| {
            let ciphertext = server.gathered(read, state, 0)?;
            Ok(self.integers(schedule, &read.layout, &[ciphertext], 1)?)
        })
    }
}

impl Roles for Client {
    type Keys = ServerKeys;
    type Batch = EncryptedBatch;
    type Server<'a> = Server<'a>;

    fn with_keys(schedule: &Schedule, observer: &dyn Observer) -> Result<(Self, ServerKeys), HeError> {
        observer.phase(Phase::Keys);
        let client = Self::new(tfhe_profile(schedule)?)?;
        let keys = client.server_keys(schedule, &|done, total| {
            observer.progress(Progress { done: done as u64, total: total as u64 });
        })?;
        Ok((client, keys))
    }

    fn encrypt(&self, schedule: &Schedule, batch: &Batch<'_>) -> Result<EncryptedBatch, HeError> {
        Client::encrypt(self, schedule, batch)
    }

    fn server<'a>(
        keys: ServerKeys,
        schedule: &'a Schedule,
        initial: Vec<Vec<f32>>,
    ) -> Result<Server<'a>, EngineError> {
        Server::new(keys, schedule, initial)
    }

    fn shelved(_: &EncryptedBatch) -> Option<Vec<u8>> {
        None
    }

    fn restored(_: &Server<'_>, _: &[u8]) -> Result<EncryptedBatch, EngineError> {
        Err(EngineError::Failed("batches of this scheme stay in memory".into()))
    }

    fn sent_bytes(batch: &EncryptedBatch) -> usize {
        batch.wire_bytes()
    }

    fn weight_bytes(server: &Server<'_>) -> usize {
        server.masters().iter().flatten().map(|own| own.to_bytes().len()).sum()
    }

    fn step(
        server: &mut Server<'_>,
        batch: &EncryptedBatch,
        watch: &dyn Watch,
    ) -> Result<StageSeconds, EngineError> {
        let began = Instant::now();
        let state = server.step(batch, watch)?;
        Ok(state.seconds.with_rest_of(began.elapsed().as_secs_f64()))
    }

    fn weights(&self, schedule: &Schedule, server: &Server<'_>) -> Result<Vec<Vec<f32>>, HeError> {
        Client::weights(self, schedule, server.masters(), server.initial())
    }

    fn evaluate(
        &self,
        schedule: &Schedule,
        server: &Server<'_>,
        batch: &EncryptedBatch,
        watch: &dyn Watch,
    ) -> Result<Vec<f32>, EngineError> {
        let state = server.run(batch, watch)?;
        match schedule.outputs.first() {
            Some(output) => self.output(schedule, output, server, &state),
            None => Ok(Vec::new()),
        }
    }
}
