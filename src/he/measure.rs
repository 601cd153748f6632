//! This machine's unit costs: what a plan multiplies its counts with, and what `hesn bench` prints.

use super::{
    Ciphertext, ClientKey, Control, HeError, LutTable, LweBig, LweSmall, PackEntry, ServerKeys,
    error::library, params::Profile,
};
use serde::Serialize;
use std::time::Instant;

/// Inputs of one pass over the bootstrap key.
const BATCH: usize = 16;

/// Wall-clock seconds per unit, the least of a few runs; on one core unless the name says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UnitCosts {
    /// Name of the profile.
    pub profile: &'static str,
    /// Threads of the pool in which `*_all_cores_*` were measured.
    pub cores: usize,
    /// One bootstrap, in batches of sixteen.
    pub pbs_seconds: f64,
    /// One bootstrap where all cores work: wall time over the number of bootstraps.
    pub pbs_all_cores_seconds: f64,
    /// One product of two ciphertexts: two operands, one accumulation, one finish.
    pub product_seconds: f64,
    /// Extending one operand, once for all its products.
    pub operand_seconds: f64,
    /// Accumulating one further term.
    pub accumulate_seconds: f64,
    /// Scaling down, relinearising and switching down one sum.
    pub finish_seconds: f64,
    /// Switching one ciphertext out: to the torus and to the LWE key, all coefficients.
    pub switch_seconds: f64,
    /// Extracting one coefficient.
    pub extract_seconds: f64,
    /// A full pack of N values.
    pub pack_seconds: f64,
    /// A pack of one value: what a pack costs however few its values are.
    pub pack_one_seconds: f64,
    /// A full pack where all cores work.
    pub pack_all_cores_seconds: f64,
    /// Adding two ciphertexts of level 0.
    pub add_seconds: f64,
    /// The client's encryption of one ciphertext.
    pub encrypt_seconds: f64,
    /// The client's decryption of one ciphertext.
    pub decrypt_seconds: f64,
    /// Making the evaluation keys on all cores; 0 where they were given.
    pub key_seconds: f64,
}

/// The least seconds of some runs of `f`, each of `count` repetitions, per repetition.
pub(super) fn least<T>(
    runs: usize,
    count: usize,
    mut f: impl FnMut() -> Result<T, HeError>,
) -> Result<f64, HeError> {
    let mut best = f64::INFINITY;
    for _ in 0..runs {
        let start = Instant::now();
        for _ in 0..count {
            std::hint::black_box(f()?);
        }
        best = best.min(start.elapsed().as_secs_f64() / count as f64);
    }
    Ok(best)
}

impl UnitCosts {
    /// Makes keys for a profile, measures, and throws the keys away.
    ///
    /// # Errors
    /// The gate refuses the profile, or the operating system gives no randomness.
    pub fn measure_profile(profile: &'static Profile) -> Result<Self, HeError> {
        let client = ClientKey::generate(profile)?;
        let start = Instant::now();
        let server = client.server_keys(&|_, _| {})?;
        let key_seconds = start.elapsed().as_secs_f64();
        Ok(UnitCosts { key_seconds, ..Self::measure(&client, &server)? })
    }

    /// Measures with existing keys: about two seconds for `standard` on two cores.
    ///
    /// # Errors
    /// The two keys have different profiles.
    pub fn measure(client: &ClientKey, server: &ServerKeys) -> Result<Self, HeError> {
        let cores = rayon::current_num_threads();
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(library("thread pool"))?;
        let probe = Probe::new(client, server)?;
        let mut costs = one.install(|| probe.one_core())?;
        costs.cores = cores;
        let inputs = BATCH * cores;
        costs.pbs_all_cores_seconds = probe.bootstrap(2, inputs)?;
        costs.pack_all_cores_seconds = probe.pack(2, probe.lwes.len())?;
        Ok(costs)
    }
}

/// Ciphertexts to measure with.
struct Probe<'a> {
    client: &'a ClientKey,
    server: &'a ServerKeys,
    values: Vec<i64>,
    top: Ciphertext,
    bottom: Ciphertext,
    lwes: Vec<LweBig>,
}

impl<'a> Probe<'a> {
    fn new(client: &'a ClientKey, server: &'a ServerKeys) -> Result<Self, HeError> {
        let profile = client.profile();
        let degree = profile.ring.degree;
        let values: Vec<i64> = (0..degree as i64).collect();
        let words: Vec<u64> = (0..degree as u64).map(|i| i << 48).collect();
        Ok(Probe {
            top: client.encrypt(&values, profile.depth())?,
            bottom: client.encrypt(&values, 0)?,
            lwes: client.encrypt_lwe_values(&words)?.expand(),
            client,
            server,
            values,
        })
    }

    /// Seconds per bootstrap.
    fn bootstrap(&self, runs: usize, inputs: usize) -> Result<f64, HeError> {
        let profile = self.server.profile();
        let table = [LutTable::new(profile, |z| z / 4.0)?];
        let ring = self.server.switch_out(&self.bottom)?;
        let lwes = (0..inputs).map(|i| ring.extract(i)).collect::<Result<Vec<LweSmall>, _>>()?;
        let tables = vec![0; inputs];
        let seconds = least(runs, 1, || self.server.bootstrap(&lwes, &tables, &table, &Control::NONE))?;
        Ok(seconds / inputs as f64)
    }

    /// Seconds per pack of `values` values.
    fn pack(&self, runs: usize, values: usize) -> Result<f64, HeError> {
        let entries: Vec<_> = self.lwes[..values]
            .iter()
            .enumerate()
            .map(|(coefficient, lwe)| PackEntry { lwe, coefficient, negate: false })
            .collect();
        let level = self.server.pack_level();
        least(runs, 1, || self.server.pack(&entries, level))
    }

    fn one_core(&self) -> Result<UnitCosts, HeError> {
        let server = self.server;
        let operand = server.operand(&self.top)?;
        let ring = server.switch_out(&self.bottom)?;
        let one = least(5, 4, || server.product_sum(&[(&operand, &operand)]))?;
        let many = least(3, 2, || server.product_sum(&[(&operand, &operand); 17]))?;
        let accumulate_seconds = ((many - one) / 16.0).max(0.0);
        let operand_seconds = least(5, 4, || server.operand(&self.top))?;
        Ok(UnitCosts {
            profile: server.profile().name,
            cores: 1,
            pbs_seconds: self.bootstrap(2, BATCH)?,
            pbs_all_cores_seconds: 0.0,
            product_seconds: 2.0 * operand_seconds + one,
            operand_seconds,
            accumulate_seconds,
            finish_seconds: one - accumulate_seconds,
            switch_seconds: least(5, 4, || server.switch_out(&self.top))?,
            extract_seconds: least(5, 100, || ring.extract(100))?,
            pack_seconds: self.pack(2, self.lwes.len())?,
            pack_one_seconds: self.pack(2, 1)?,
            pack_all_cores_seconds: 0.0,
            add_seconds: least(5, 10, || self.bottom.add(&self.bottom))?,
            encrypt_seconds: least(3, 2, || self.client.encrypt(&self.values, server.profile().depth()))?,
            decrypt_seconds: least(3, 2, || self.client.decrypt(&self.bottom))?,
            key_seconds: 0.0,
        })
    }
}
