//! The encrypted engine of a run in one process: a client that encrypts and decrypts, a server that trains.

use crate::interp::encrypted::{EncryptedBatch, Server};
use crate::interp::{Batch, Engine, EngineError, Watch};
use crate::plan::schedule::Schedule;

use super::client::Client;
use super::events::{Observer, Phase, Progress};
use super::options::{Rows, RunError};

pub struct EncryptedEngine<'a> {
    client: Client,
    schedule: &'a Schedule,
    server: Server<'a>,
    /// By index of the batch: encrypted once, used in every epoch.
    batches: Vec<EncryptedBatch>,
}

impl<'a> EncryptedEngine<'a> {
    /// Makes keys and encrypts every batch.
    pub fn new(
        schedule: &'a Schedule,
        initial: Vec<Vec<f32>>,
        rows: &[Rows],
        observer: &dyn Observer,
    ) -> Result<Self, RunError> {
        let (client, keys) = Client::with_keys(schedule, observer)?;
        observer.phase(Phase::Encrypt);
        let total = rows.len() as u64;
        let mut batches = Vec::with_capacity(rows.len());
        for (done, rows) in rows.iter().enumerate() {
            if observer.cancelled() {
                return Err(EngineError::Cancelled.into());
            }
            batches.push(client.encrypt(schedule, &rows.batch())?);
            observer.progress(Progress { done: done as u64 + 1, total });
        }
        let server = Server::new(keys, schedule, initial)?;
        Ok(Self { client, schedule, server, batches })
    }
}

impl Engine for EncryptedEngine<'_> {
    fn name(&self) -> &'static str {
        "encrypted"
    }

    fn step(&mut self, batch: &Batch<'_>, watch: &dyn Watch) -> Result<(), EngineError> {
        let encrypted = self
            .batches
            .get(batch.index)
            .ok_or_else(|| EngineError::Failed(format!("batch {} was not encrypted", batch.index)))?;
        self.server.step(encrypted, watch)?;
        Ok(())
    }

    fn parameters(&mut self) -> Result<Vec<Vec<f32>>, EngineError> {
        Ok(self.client.weights(self.schedule, self.server.masters(), self.server.initial())?)
    }
}
