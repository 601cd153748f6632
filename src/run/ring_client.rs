//! The client's role on the ring engine: keys, encryption of batches, decryption of weights and results.

use std::sync::Arc;

use rayon::prelude::*;

use crate::he::HeError;
use crate::he::ckks::params::RingProfile;
use crate::he::ckks::small::SmallCiphertext;
use crate::he::ckks::{ClientKey, ServerKeys};
use crate::interp::ring::{RingBatch, RingServer};
use crate::interp::{Batch, EngineError, Watch, encode};
use crate::plan::estimate::StageSeconds;
use crate::plan::layout::Layout;
use crate::plan::schedule::{Operand, RingPlan, Schedule, Source};

use super::events::{Observer, Phase, Progress};
use super::roles::Roles;

/// Holds the only secret key.
pub struct RingClient {
    key: ClientKey,
}

impl RingClient {
    pub fn new(profile: &'static RingProfile) -> Result<Self, HeError> {
        Ok(Self { key: ClientKey::generate(profile)? })
    }

    /// The evaluation keys.
    pub fn server_keys(&self, progress: &dyn Fn(usize, usize)) -> Result<ServerKeys, HeError> {
        self.key.server_keys(progress)
    }

    /// Decrypts polynomials of a layout to the integers at its places.
    pub fn integers(
        &self,
        schedule: &Schedule,
        layout: &Layout,
        ciphertexts: &[SmallCiphertext],
        samples: usize,
    ) -> Result<Vec<i64>, HeError> {
        let polynomials: Vec<Vec<i64>> = ciphertexts
            .iter()
            .map(|ciphertext| Ok(self.key.decrypt(ciphertext)?.to_vec()))
            .collect::<Result<_, HeError>>()?;
        Ok(encode::read_back(schedule.degree(), layout, &polynomials, samples))
    }
}

fn other_scheme(schedule: &Schedule) -> HeError {
    let name = schedule.parameters.name();
    let message = format!("the schedule has parameters `{name}` of another scheme");
    HeError::Library { operation: "client", message }
}

impl Roles for RingClient {
    type Keys = Arc<ServerKeys>;
    type Batch = RingBatch;
    type Server<'a> = RingServer<'a>;

    fn with_keys(schedule: &Schedule, observer: &dyn Observer) -> Result<(Self, Arc<ServerKeys>), HeError> {
        observer.phase(Phase::Keys);
        let profile = schedule.parameters.ckks().ok_or_else(|| other_scheme(schedule))?;
        let client = Self::new(profile)?;
        let keys = client.server_keys(&|done, total| {
            observer.progress(Progress { done: done as u64, total: total as u64 });
        })?;
        Ok((client, Arc::new(keys)))
    }

    fn encrypt(&self, schedule: &Schedule, batch: &Batch<'_>) -> Result<RingBatch, HeError> {
        let Some(RingPlan { gather, .. }) = &schedule.ring else { return Err(other_scheme(schedule)) };
        let encrypted = |polynomials: Vec<Vec<i64>>| {
            polynomials
                .par_iter()
                .map(|polynomial| self.key.encrypt(polynomial))
                .collect::<Result<_, HeError>>()
        };
        let wires = gather
            .wires
            .iter()
            .map(|wire| encrypted(encode::wire_rings(schedule, wire, batch)))
            .collect::<Result<_, HeError>>()?;
        let direct = |(index, operand): (usize, &Operand)| {
            if !gather.is_direct(schedule, index) {
                return Ok(Vec::new());
            }
            let values = encode::fresh_part(schedule, operand, batch);
            encrypted(encode::polynomials(schedule.degree(), &operand.layout, &values, operand.per_sample))
        };
        let fresh = schedule.operands.iter().enumerate().map(direct).collect::<Result<_, HeError>>()?;
        Ok(RingBatch { size: batch.size, wires, fresh })
    }

    fn server<'a>(
        keys: Arc<ServerKeys>,
        schedule: &'a Schedule,
        initial: Vec<Vec<f32>>,
    ) -> Result<RingServer<'a>, EngineError> {
        RingServer::new(keys, schedule, initial)
    }

    fn set_at_once(server: &mut RingServer<'_>, most: usize) {
        server.set_at_once(most);
    }

    fn shelved(batch: &RingBatch) -> Option<Vec<u8>> {
        Some(batch.to_bytes())
    }

    fn restored(server: &RingServer<'_>, bytes: &[u8]) -> Result<RingBatch, EngineError> {
        Ok(RingBatch::from_bytes(server.keys(), bytes)?)
    }

    fn sent_bytes(batch: &RingBatch) -> usize {
        batch.wire_bytes()
    }

    fn weight_bytes(server: &RingServer<'_>) -> usize {
        server.weight_bytes()
    }

    fn set_rate(server: &mut RingServer<'_>, multiple: u32) {
        server.set_rate(multiple);
    }

    fn step(
        server: &mut RingServer<'_>,
        batch: &RingBatch,
        watch: &dyn Watch,
    ) -> Result<StageSeconds, EngineError> {
        server.step(batch, watch)
    }

    fn weights(&self, schedule: &Schedule, server: &RingServer<'_>) -> Result<Vec<Vec<f32>>, HeError> {
        schedule
            .masters
            .iter()
            .enumerate()
            .zip(server.masters())
            .zip(server.initial())
            .map(|(((index, plan), master), initial)| {
                let layout = schedule.layout(Source::Master(index));
                let learned = self.integers(schedule, layout, master, 1)?;
                Ok(encode::weights(plan, &learned, initial))
            })
            .collect()
    }

    fn evaluate(
        &self,
        schedule: &Schedule,
        server: &RingServer<'_>,
        batch: &RingBatch,
        watch: &dyn Watch,
    ) -> Result<Vec<f32>, EngineError> {
        let state = server.run(batch, watch)?;
        match schedule.outputs.first() {
            Some(output) => encode::output(schedule, output, |read| {
                Ok(self.integers(schedule, &read.layout, &server.gathered(read, &state)?, 1)?)
            }),
            None => Ok(Vec::new()),
        }
    }
}
