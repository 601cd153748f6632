//! The encrypted engine of a run in one process: a client that encrypts and decrypts, a server that trains.

use crate::interp::{Batch, Engine, EngineError, Traffic, Watch};
use crate::plan::estimate::StageSeconds;
use crate::plan::parameters::Parameters;
use crate::plan::schedule::Schedule;

use super::client::Client;
use super::events::{Observer, Phase, Progress};
use super::options::{Draws, RunError, RunOptions};
use super::ring_client::RingClient;
use super::roles::Roles;
use super::spill::Shelf;

/// The encrypted engine for the scheme of a schedule: makes keys and encrypts every batch.
pub fn encrypted<'a>(
    schedule: &'a Schedule,
    initial: Vec<Vec<f32>>,
    draws: &Draws<'_>,
    options: &RunOptions,
    observer: &dyn Observer,
) -> Result<Box<dyn Engine + 'a>, RunError> {
    Ok(match schedule.parameters {
        Parameters::Tfhe(_) => {
            Box::new(EncryptedEngine::<Client>::new(schedule, initial, draws, options, observer)?)
        }
        Parameters::Ckks(_) => {
            Box::new(EncryptedEngine::<RingClient>::new(schedule, initial, draws, options, observer)?)
        }
    })
}

/// Where encrypted batches wait.
enum Kept<B> {
    Memory(Vec<B>),
    File(Shelf),
}

struct EncryptedEngine<'a, R: Roles> {
    client: R,
    schedule: &'a Schedule,
    server: R::Server<'a>,
    /// By index of the batch: encrypted once, used in every epoch.
    batches: Kept<R::Batch>,
    sent_per_sample: f64,
    /// Of the last step.
    seconds: Option<StageSeconds>,
}

impl<'a, R: Roles> EncryptedEngine<'a, R> {
    fn new(
        schedule: &'a Schedule,
        initial: Vec<Vec<f32>>,
        draws: &Draws<'_>,
        options: &RunOptions,
        observer: &dyn Observer,
    ) -> Result<Self, RunError> {
        let (client, keys) = R::with_keys(schedule, observer)?;
        observer.phase(Phase::Encrypt);
        let total = draws.count() as u64;
        let mut batches = if options.spill { Kept::File(Shelf::new()?) } else { Kept::Memory(Vec::new()) };
        let mut sent_per_sample = 0.0;
        for index in 0..draws.count() {
            if observer.cancelled() {
                return Err(EngineError::Cancelled.into());
            }
            let batch = client.encrypt(schedule, &draws.rows(index).batch())?;
            if index == 0 {
                sent_per_sample = R::sent_bytes(&batch) as f64 / schedule.batch.max(1) as f64;
            }
            match &mut batches {
                Kept::Memory(all) => all.push(batch),
                Kept::File(shelf) => {
                    let bytes = R::shelved(&batch).ok_or_else(|| {
                        RunError::Data("the encrypted batches of this scheme cannot wait in a file".into())
                    })?;
                    shelf.put(&bytes)?;
                }
            }
            observer.progress(Progress { done: index as u64 + 1, total });
        }
        let mut server = R::server(keys, schedule, initial)?;
        if let Some(most) = options.at_once {
            R::set_at_once(&mut server, most);
        }
        Ok(Self { client, schedule, server, batches, sent_per_sample, seconds: None })
    }
}

impl<R: Roles> Engine for EncryptedEngine<'_, R> {
    fn name(&self) -> &'static str {
        "encrypted"
    }

    fn begin_epoch(&mut self, _: usize, multiple: u32) -> Result<(), EngineError> {
        R::set_rate(&mut self.server, multiple);
        Ok(())
    }

    fn step(&mut self, batch: &Batch<'_>, watch: &dyn Watch) -> Result<(), EngineError> {
        let missing = || EngineError::Failed(format!("batch {} was not encrypted", batch.index));
        let restored;
        let encrypted = match &mut self.batches {
            Kept::Memory(all) => all.get(batch.index).ok_or_else(missing)?,
            Kept::File(shelf) => {
                let bytes = shelf.get(batch.index)?.ok_or_else(missing)?;
                restored = R::restored(&self.server, &bytes)?;
                &restored
            }
        };
        self.seconds = Some(R::step(&mut self.server, encrypted, watch)?);
        Ok(())
    }

    fn stage_seconds(&self) -> Option<StageSeconds> {
        self.seconds
    }

    fn traffic(&self) -> Option<Traffic> {
        let ciphertext_bytes_per_sample = self.sent_per_sample;
        Some(Traffic { ciphertext_bytes_per_sample, weight_bytes: R::weight_bytes(&self.server) })
    }

    fn parameters(&mut self) -> Result<Vec<Vec<f32>>, EngineError> {
        Ok(self.client.weights(self.schedule, &self.server)?)
    }
}
