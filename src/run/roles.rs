//! The two roles of an encrypted run, as every scheme plays them: a client that encrypts and decrypts, a server that computes.

use crate::he::HeError;
use crate::interp::{Batch, EngineError, Watch};
use crate::plan::estimate::StageSeconds;
use crate::plan::schedule::Schedule;

use super::events::Observer;

/// A client of one scheme, and what it exchanges with its server.
pub trait Roles: Sized {
    /// Evaluation keys: all that the server gets of the client's keys.
    type Keys;
    /// The ciphertexts of one batch.
    type Batch;
    type Server<'a>;

    /// A client with new keys, and the evaluation keys that a schedule needs.
    fn with_keys(schedule: &Schedule, observer: &dyn Observer) -> Result<(Self, Self::Keys), HeError>;

    /// Encrypts a batch: each operand of the client in its layout and amplitude, and the labels.
    fn encrypt(&self, schedule: &Schedule, batch: &Batch<'_>) -> Result<Self::Batch, HeError>;

    /// A server at the first step: the working weights are the public initial ones, by master.
    fn server<'a>(
        keys: Self::Keys,
        schedule: &'a Schedule,
        initial: Vec<Vec<f32>>,
    ) -> Result<Self::Server<'a>, EngineError>;

    /// Makes so many bootstraps at the same time from now on, at most.
    fn set_at_once(_: &mut Self::Server<'_>, _most: usize) {}

    /// A batch as bytes, where batches can wait in a file; none where they cannot.
    fn shelved(batch: &Self::Batch) -> Option<Vec<u8>>;

    /// Reads what [`Roles::shelved`] gave.
    fn restored(server: &Self::Server<'_>, bytes: &[u8]) -> Result<Self::Batch, EngineError>;

    /// Bytes of a batch as the client sends it.
    fn sent_bytes(batch: &Self::Batch) -> usize;

    /// Bytes of the masters as the client gets them back.
    fn weight_bytes(server: &Self::Server<'_>) -> usize;

    /// Takes this multiple of the least learning rate from now on.
    fn set_rate(server: &mut Self::Server<'_>, multiple: u32);

    /// One step of gradient descent, by the server; where its time went.
    fn step(
        server: &mut Self::Server<'_>,
        batch: &Self::Batch,
        watch: &dyn Watch,
    ) -> Result<StageSeconds, EngineError>;

    /// The weights, decrypted: by master.
    fn weights(&self, schedule: &Schedule, server: &Self::Server<'_>) -> Result<Vec<Vec<f32>>, HeError>;

    /// The first output of a program that is evaluated once: computed by the server, decrypted by the client.
    fn evaluate(
        &self,
        schedule: &Schedule,
        server: &Self::Server<'_>,
        batch: &Self::Batch,
        watch: &dyn Watch,
    ) -> Result<Vec<f32>, EngineError>;
}
