//! Evaluation keys of the large ring: what they are made of, in memory and as bytes. No secret is at hand here.
//!
//! A key is, for each limb, groups of eight residues, for each digit the pair (b, a), packed to five or six bytes per
//! residue. The halves a are uniform and expanded from a seed, so that only the halves b go over the wire.

use super::{
    circuit::Circuit,
    params::{RING_PROFILES, RingProfile},
    stages::Class,
};
use crate::he::{
    error::HeError,
    ring::{buffer::Buffer, context::RnsContext, key_switch::SwitchKey, parallel, simd},
};
use rand_chacha::{
    ChaCha12Rng,
    rand_core::{RngCore, SeedableRng},
};
use std::{
    collections::HashMap,
    io::{Read, Write},
    sync::Arc,
};

const MAGIC: [u8; 8] = *b"hesnring";
const VERSION: u16 = 1;
/// A vector load at the last residue of a key or of a matrix reads up to 64 bytes.
pub(crate) const PADDING: usize = 64;

/// Which limbs and digits a switching key has.
#[derive(Debug, Clone)]
pub(crate) struct KeyShape {
    /// Indices of the limbs, special primes included.
    pub limbs: Vec<usize>,
    /// The limbs of each digit.
    pub digits: Vec<Vec<usize>>,
    /// Whether the first special prime is the only one.
    pub single_special: bool,
}

impl KeyShape {
    /// A hybrid key for ciphertexts of up to `level` limbs.
    pub(crate) fn hybrid(context: &RnsContext, level: usize) -> Self {
        let digits = context.digits.iter().filter(|d| d.start < level);
        KeyShape {
            limbs: context.limbs(level),
            digits: digits.map(|d| (d.start..d.end.min(level)).collect()).collect(),
            single_special: false,
        }
    }

    /// A key with one digit, for a polynomial that is small at any level, as a raised one is.
    pub(crate) fn one_digit(context: &RnsContext, level: usize) -> Self {
        KeyShape { limbs: context.limbs(level), digits: vec![(0..level).collect()], single_special: false }
    }

    /// A key with the first special prime alone and a digit per limb: where its modulus has to stay small.
    pub(crate) fn small(context: &RnsContext, level: usize) -> Self {
        KeyShape {
            limbs: (0..level).chain([context.l]).collect(),
            digits: (0..level).map(|i| vec![i]).collect(),
            single_special: true,
        }
    }

    /// The product of the special primes modulo a limb's prime.
    pub(crate) fn special_product(&self, context: &RnsContext, limb: usize) -> u64 {
        if self.single_special { context.m[context.l].p % context.m[limb].p } else { context.pmod(limb) }
    }

    /// Bytes of one limb's half, and of the whole key without the padding at its end.
    fn half_bytes(&self, context: &RnsContext, limb: usize) -> usize {
        self.digits.len() * context.n * context.m[limb].w
    }

    /// Bytes of the halves that no seed yields.
    pub(crate) fn wire_bytes(&self, context: &RnsContext) -> usize {
        self.limbs.iter().map(|&i| self.half_bytes(context, i)).sum()
    }

    /// An empty key, and its limbs' data for writing.
    pub(crate) fn empty(&self, context: &RnsContext) -> SwitchKey {
        let mut off = vec![usize::MAX; context.m.len()];
        let mut size = 0;
        for &i in &self.limbs {
            off[i] = size;
            size += 2 * self.half_bytes(context, i);
        }
        SwitchKey { data: simd::zeroed_bytes(size + PADDING), off, nd: self.digits.len() }
    }

    /// The parts of a key's data, one per limb of the shape.
    pub(crate) fn split<'a>(
        &self,
        context: &RnsContext,
        key: &'a mut SwitchKey,
    ) -> Vec<(usize, &'a mut [u8])> {
        let mut rest = &mut key.data[..];
        let mut parts = Vec::with_capacity(self.limbs.len());
        for &i in &self.limbs {
            let (part, tail) = rest.split_at_mut(2 * self.half_bytes(context, i));
            parts.push((i, part));
            rest = tail;
        }
        parts
    }
}

/// The uniform half of a key: digit and limb of key number `key` under a public seed. The residues are taken to be in
/// Montgomery form, which is as uniform.
pub(crate) fn expand_half(seed: &[u8; 32], key: usize, digit: usize, limb: usize, p: u64, out: &mut [u64]) {
    let mut generator = ChaCha12Rng::from_seed(*seed);
    generator.set_stream((key as u64) << 32 | (digit as u64) << 16 | limb as u64);
    let mask = u64::MAX >> p.leading_zeros();
    let mut bytes = vec![0u8; 8 * out.len()];
    let mut done = 0;
    while done < out.len() {
        let missing = &mut bytes[..8 * (out.len() - done)];
        generator.fill_bytes(missing);
        for chunk in missing.chunks_exact(8) {
            let x = chunk.iter().rev().fold(0, |w, &b| w << 8 | u64::from(b)) & mask;
            if x < p {
                out[done] = x;
                done += 1;
            }
        }
    }
}

/// The halves b of a key as bytes: limb by limb, groups of eight residues, digits.
pub(crate) fn write_half(
    context: &RnsContext,
    shape: &KeyShape,
    key: &SwitchKey,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    for &i in &shape.limbs {
        let size = 2 * shape.half_bytes(context, i);
        bytes.clear();
        for pair in key.data[key.off[i]..key.off[i] + size].chunks_exact(16 * context.m[i].w) {
            bytes.extend_from_slice(&pair[..pair.len() / 2]);
        }
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// Reads the halves b of a key and expands its halves a.
fn read_half(
    context: &RnsContext,
    shape: &KeyShape,
    number: usize,
    seed: &[u8; 32],
    input: &mut dyn Read,
) -> Result<SwitchKey, HeError> {
    let mut bytes = vec![0u8; shape.wire_bytes(context)];
    input.read_exact(&mut bytes).map_err(|e| {
        HeError::MalformedKeys(format!("key {number} ends before its {} bytes: {e}", bytes.len()))
    })?;
    let mut key = shape.empty(context);
    let mut rest = &bytes[..];
    let mut jobs = Vec::with_capacity(shape.limbs.len());
    for (i, part) in shape.split(context, &mut key) {
        let (half, tail) = rest.split_at(part.len() / 2);
        rest = tail;
        jobs.push((i, half, part));
    }
    let bad = std::sync::atomic::AtomicBool::new(false);
    parallel::run(jobs, |(i, half, part)| {
        let (w, p) = (context.m[i].w, context.m[i].p);
        let residue = |b: &[u8]| b.iter().rev().fold(0, |x, &b| x << 8 | u64::from(b));
        if half.chunks_exact(w).any(|b| residue(b) >= p) {
            bad.store(true, std::sync::atomic::Ordering::Relaxed);
            return;
        }
        for (pair, b) in part.chunks_exact_mut(16 * w).zip(half.chunks_exact(8 * w)) {
            pair[..8 * w].copy_from_slice(b);
        }
        let digits = shape.digits.len();
        let mut a = Buffer::new(context.n);
        for d in 0..digits {
            expand_half(seed, number, d, i, p, &mut a);
            simd::pack(&a, w, 2 * d + 1, 2 * digits, part);
        }
    });
    if bad.into_inner() {
        return Err(HeError::MalformedKeys(format!("a residue of key {number} is not below its prime")));
    }
    Ok(key)
}

/// What a key of the bootstrap is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum KeyId {
    /// The automorphism X → X^g, in one of two sizes.
    Galois(u64, Class),
    /// The square of the dense secret.
    Relinearisation,
    /// From the sparse secret to the dense one.
    SparseToDense,
    /// From the embedded small secret to the sparse one.
    EmbeddedToSparse,
    /// From the dense secret to the embedded small one.
    DenseToEmbedded,
}

/// The evaluation keys of a functional bootstrap: public, and all that a server needs.
pub struct BootstrapKeys {
    pub(crate) circuit: Arc<Circuit>,
    pub(crate) seed: [u8; 32],
    pub(crate) keys: HashMap<KeyId, SwitchKey>,
}

impl BootstrapKeys {
    /// The profile of the keys.
    pub fn profile(&self) -> &'static RingProfile {
        self.circuit.profile
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.keys.values().map(SwitchKey::bytes).sum()
    }

    /// Bytes of what [`BootstrapKeys::write_to`] writes.
    pub fn wire_bytes(&self) -> usize {
        header(&self.circuit, &self.seed).len() + self.circuit.key_bytes().1
    }

    /// Writes header, seed and the halves that no seed yields.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_to(&self, mut out: impl Write) -> std::io::Result<()> {
        out.write_all(&header(&self.circuit, &self.seed))?;
        for (id, shape) in self.circuit.keys() {
            write_half(&self.circuit.context, &shape, self.key(id), &mut out)?;
        }
        out.flush()
    }

    /// Reads what [`BootstrapKeys::write_to`] or [`RingSecret::write_bootstrap_keys`] wrote.
    ///
    /// [`RingSecret::write_bootstrap_keys`]: super::secret::RingSecret::write_bootstrap_keys
    ///
    /// # Errors
    /// Bytes of something else, of another version or profile, cut short, or with a residue out of range.
    pub fn read_from(input: impl Read) -> Result<Self, HeError> {
        Self::read_circuit(input, Circuit::new)
    }

    /// Reads the keys of the circuit that is made for their profile.
    pub(crate) fn read_circuit(
        mut input: impl Read,
        circuit: impl FnOnce(&'static RingProfile) -> Result<Circuit, HeError>,
    ) -> Result<Self, HeError> {
        let (profile, seed) = read_header(&mut input)?;
        let circuit = Arc::new(circuit(profile)?);
        let mut keys = HashMap::new();
        for (number, (id, shape)) in circuit.keys().into_iter().enumerate() {
            keys.insert(id, read_half(&circuit.context, &shape, number, &seed, &mut input)?);
        }
        Ok(BootstrapKeys { circuit, seed, keys })
    }

    /// A key. Whoever makes the struct puts in every key that its circuit lists.
    pub(crate) fn key(&self, id: KeyId) -> &SwitchKey {
        &self.keys[&id]
    }
}

/// Magic, version, length and name of the profile, its fingerprint, seed.
pub(crate) fn header(circuit: &Circuit, seed: &[u8; 32]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.push(circuit.profile.name.len() as u8);
    bytes.extend(circuit.profile.name.bytes());
    bytes.extend(circuit.profile.fingerprint().to_le_bytes());
    bytes.extend(seed);
    bytes
}

fn read_header(input: &mut dyn Read) -> Result<(&'static RingProfile, [u8; 32]), HeError> {
    fn take<const N: usize>(input: &mut dyn Read) -> Result<[u8; N], HeError> {
        let mut bytes = [0; N];
        input
            .read_exact(&mut bytes)
            .map_err(|e| HeError::MalformedKeys(format!("they end within their header: {e}")))?;
        Ok(bytes)
    }
    if take::<8>(input)? != MAGIC {
        return Err(HeError::MalformedKeys(
            "they do not begin as evaluation keys of the ring engine".to_owned(),
        ));
    }
    let version = u16::from_le_bytes(take(input)?);
    if version != VERSION {
        return Err(HeError::MalformedKeys(format!(
            "they have version {version}, this program reads version {VERSION}"
        )));
    }
    let [length] = take(input)?;
    let mut name = vec![0; usize::from(length)];
    input
        .read_exact(&mut name)
        .map_err(|e| HeError::MalformedKeys(format!("they end within their header: {e}")))?;
    let fingerprint = u64::from_le_bytes(take(input)?);
    let profile = RING_PROFILES
        .iter()
        .find(|row| row.name.as_bytes() == name && row.fingerprint() == fingerprint)
        .ok_or_else(|| {
            HeError::MalformedKeys(format!(
                "their profile '{}' is none of this program's, or has other primes",
                String::from_utf8_lossy(&name)
            ))
        })?;
    Ok((profile, take(input)?))
}
