//! The encrypted engine of a run in one process: a client that encrypts and decrypts, a server that trains.

use crate::interp::{Batch, Engine, EngineError, Traffic, Watch};
use crate::plan::estimate::StageSeconds;
use crate::plan::parameters::Parameters;
use crate::plan::schedule::Schedule;

use super::client::Client;
use super::events::{Observer, Phase, Progress};
use super::options::{Draws, RunError};
use super::ring_client::RingClient;
use super::roles::Roles;

/// The encrypted engine for the scheme of a schedule: makes keys and encrypts every batch.
pub fn encrypted<'a>(
    schedule: &'a Schedule,
    initial: Vec<Vec<f32>>,
    draws: &Draws<'_>,
    observer: &dyn Observer,
) -> Result<Box<dyn Engine + 'a>, RunError> {
    Ok(match schedule.parameters {
        Parameters::Tfhe(_) => Box::new(EncryptedEngine::<Client>::new(schedule, initial, draws, observer)?),
        Parameters::Ckks(_) => {
            Box::new(EncryptedEngine::<RingClient>::new(schedule, initial, draws, observer)?)
        }
    })
}

struct EncryptedEngine<'a, R: Roles> {
    client: R,
    schedule: &'a Schedule,
    server: R::Server<'a>,
    /// By index of the batch: encrypted once, used in every epoch.
    batches: Vec<R::Batch>,
    /// Of the last step.
    seconds: Option<StageSeconds>,
}

impl<'a, R: Roles> EncryptedEngine<'a, R> {
    fn new(
        schedule: &'a Schedule,
        initial: Vec<Vec<f32>>,
        draws: &Draws<'_>,
        observer: &dyn Observer,
    ) -> Result<Self, RunError> {
        let (client, keys) = R::with_keys(schedule, observer)?;
        observer.phase(Phase::Encrypt);
        let total = draws.count() as u64;
        let mut batches = Vec::with_capacity(draws.count());
        for index in 0..draws.count() {
            if observer.cancelled() {
                return Err(EngineError::Cancelled.into());
            }
            batches.push(client.encrypt(schedule, &draws.rows(index).batch())?);
            observer.progress(Progress { done: index as u64 + 1, total });
        }
        let server = R::server(keys, schedule, initial)?;
        Ok(Self { client, schedule, server, batches, seconds: None })
    }
}

impl<R: Roles> Engine for EncryptedEngine<'_, R> {
    fn name(&self) -> &'static str {
        "encrypted"
    }

    fn step(&mut self, batch: &Batch<'_>, watch: &dyn Watch) -> Result<(), EngineError> {
        let encrypted = self
            .batches
            .get(batch.index)
            .ok_or_else(|| EngineError::Failed(format!("batch {} was not encrypted", batch.index)))?;
        self.seconds = Some(R::step(&mut self.server, encrypted, watch)?);
        Ok(())
    }

    fn stage_seconds(&self) -> Option<StageSeconds> {
        self.seconds
    }

    fn traffic(&self) -> Option<Traffic> {
        let sent = R::sent_bytes(self.batches.first()?) as f64 / self.schedule.batch.max(1) as f64;
        Some(Traffic { ciphertext_bytes_per_sample: sent, weight_bytes: R::weight_bytes(&self.server) })
    }

    fn parameters(&mut self) -> Result<Vec<Vec<f32>>, EngineError> {
        Ok(self.client.weights(self.schedule, &self.server)?)
    }
}
