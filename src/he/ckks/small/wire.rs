//! Ciphertexts and keys of the small ring as bytes: a header, then residues of as many bits as their primes have. What comes
//! in is checked before it is used.

use super::{
    ciphertext::{SmallCiphertext, limb_mut},
    keys::{KeyKind, SmallKeys, SwitchingKey},
    ring::{DEGREE, KEY_LIMBS, LIMBS, SmallRing, Width},
    seeded::SeededCiphertext,
};
use crate::he::{error::HeError, ring::buffer::Buffer};
use std::{
    io::{self, Read, Write},
    sync::Arc,
};

const MAGIC: [u8; 4] = *b"hesn";
const VERSION: u16 = 1;
/// Magic, version, kind, fingerprint of the ring.
const HEADER: usize = 4 + 2 + 1 + 8;
/// Where the kind stands.
const KIND: usize = 6;
const SEED: usize = 32;

/// What follows a header. BFV ciphertexts have a level in this place, which is smaller.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ciphertext = 0x51,
    Seeded = 0x52,
    Keys = 0x53,
    Narrow = 0x54,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Ciphertext => "a ciphertext of the small ring",
            Kind::Seeded => "a fresh ciphertext of the small ring",
            Kind::Keys => "keys of the small ring",
            Kind::Narrow => "a narrow ciphertext of the small ring",
        }
    }
}

/// FNV-1a over what two sides have to agree on: degree and primes.
fn fingerprint(ring: &SmallRing) -> u64 {
    let numbers = [DEGREE as u64].into_iter().chain(ring.primes());
    numbers.flat_map(u64::to_le_bytes).fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

fn header(ring: &SmallRing, kind: Kind) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&MAGIC);
    header[4..6].copy_from_slice(&VERSION.to_le_bytes());
    header[KIND] = kind as u8;
    header[7..].copy_from_slice(&fingerprint(ring).to_le_bytes());
    header
}

fn malformed<T>(kind: Kind, why: impl std::fmt::Display) -> Result<T, HeError> {
    Err(HeError::Malformed(format!("{}: {why}", kind.name())))
}

fn check_header(ring: &SmallRing, kind: Kind, bytes: &[u8]) -> Result<(), HeError> {
    if bytes[..4] != MAGIC {
        return malformed(kind, "it does not begin as one");
    }
    let version = u16::from_le_bytes([bytes[4], bytes[5]]);
    if version != VERSION {
        return malformed(
            kind,
            format_args!("it has version {version}, this program reads version {VERSION}"),
        );
    }
    if bytes[KIND] != kind as u8 {
        return malformed(kind, "these bytes are of another kind");
    }
    if bytes[7..HEADER] != fingerprint(ring).to_le_bytes() {
        let name = ring.profile.name;
        return malformed(
            kind,
            format_args!("it was made with other primes than those of '{name}'; use one profile"),
        );
    }
    Ok(())
}

/// Bits of a residue.
fn width(p: u64) -> u32 {
    u64::BITS - p.leading_zeros()
}

/// Bytes of a limb.
fn limb_bytes(p: u64) -> usize {
    DEGREE * width(p) as usize / 8
}

/// Appends residues, `width(p)` bits each, from the lowest bit on.
fn pack(residues: &[u64], p: u64, out: &mut Vec<u8>) {
    let (mut bits, mut count) = (0u128, 0);
    for &x in residues {
        bits |= u128::from(x) << count;
        count += width(p);
        while count >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            count -= 8;
        }
    }
}

/// Reads what [`pack`] wrote; false if a residue is not below the prime.
fn unpack(bytes: &[u8], p: u64, out: &mut [u64]) -> bool {
    let (mut bits, mut count) = (0u128, 0);
    let mut bytes = bytes.iter();
    let mask = (1u128 << width(p)) - 1;
    let mut largest = 0;
    for x in out {
        while count < width(p) {
            bits |= u128::from(bytes.next().copied().unwrap_or(0)) << count;
            count += 8;
        }
        *x = (bits & mask) as u64;
        largest = largest.max(*x);
        bits >>= width(p);
        count -= width(p);
    }
    largest < p
}

/// The limbs of one polynomial.
fn pack_polynomial(ring: &SmallRing, width: Width, polynomial: &[u64], out: &mut Vec<u8>) {
    for (limb, m) in polynomial.chunks_exact(DEGREE).zip(&ring.context.m[width.limbs()]) {
        pack(limb, m.p, out);
    }
}

/// The limbs of one polynomial, and what follows them.
fn unpack_polynomial<'b>(
    ring: &SmallRing,
    (kind, width): (Kind, Width),
    mut bytes: &'b [u8],
    polynomial: &mut [u64],
) -> Result<&'b [u8], HeError> {
    for (i, m) in ring.context.m[width.limbs()].iter().enumerate() {
        let p = m.p;
        let Some((limb, rest)) = bytes.split_at_checked(limb_bytes(p)) else {
            return malformed(kind, "it ends too early");
        };
        if !unpack(limb, p, limb_mut(polynomial, i)) {
            return malformed(kind, format_args!("a residue is not below its prime {p}"));
        }
        bytes = rest;
    }
    Ok(bytes)
}

fn body(ring: &SmallRing, kind: Kind, bytes: &[u8], expected: usize) -> Result<(), HeError> {
    if bytes.len() != HEADER + expected {
        let (got, expected) = (bytes.len(), HEADER + expected);
        return malformed(kind, format_args!("it has {got} bytes where {expected} are needed"));
    }
    check_header(ring, kind, bytes)
}

/// Bytes of one polynomial of a ciphertext.
fn polynomial_bytes(ring: &SmallRing, width: Width) -> usize {
    ring.context.m[width.limbs()].iter().map(|m| limb_bytes(m.p)).sum()
}

impl SmallCiphertext {
    /// How many bytes [`SmallCiphertext::to_bytes`] writes.
    pub fn wire_bytes(&self) -> usize {
        HEADER + 2 * polynomial_bytes(&self.ring, self.width)
    }

    /// The ciphertext as bytes: 64 KB, or 37 KB if it is narrow.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = header(&self.ring, kind_of(self.width)).to_vec();
        for polynomial in &self.polynomials {
            pack_polynomial(&self.ring, self.width, polynomial, &mut bytes);
        }
        bytes
    }

    /// Reads what [`SmallCiphertext::to_bytes`] wrote.
    ///
    /// # Errors
    /// Bytes of something else, of another version, of other primes, or damaged.
    pub fn from_bytes(ring: &Arc<SmallRing>, bytes: &[u8]) -> Result<Self, HeError> {
        let is_narrow = bytes.get(KIND) == Some(&(Kind::Narrow as u8));
        let width = if is_narrow { Width::Narrow } else { Width::Full };
        let kind = kind_of(width);
        body(ring, kind, bytes, 2 * polynomial_bytes(ring, width))?;
        let mut read = SmallCiphertext::unwritten(ring, width);
        let mut rest = &bytes[HEADER..];
        for polynomial in &mut read.polynomials {
            rest = unpack_polynomial(ring, (kind, width), rest, polynomial)?;
        }
        Ok(read)
    }
}

fn kind_of(width: Width) -> Kind {
    match width {
        Width::Full => Kind::Ciphertext,
        Width::Narrow => Kind::Narrow,
    }
}

impl SeededCiphertext {
    /// How many bytes [`SeededCiphertext::to_bytes`] writes.
    pub fn wire_bytes(&self) -> usize {
        Self::bytes_on_wire(&self.ring)
    }

    /// The same, of any fresh ciphertext of a ring.
    pub fn bytes_on_wire(ring: &SmallRing) -> usize {
        HEADER + SEED + polynomial_bytes(ring, Width::Full)
    }

    /// The ciphertext as bytes: at most 32 KB.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = header(&self.ring, Kind::Seeded).to_vec();
        bytes.extend(self.seed);
        pack_polynomial(&self.ring, Width::Full, &self.body, &mut bytes);
        bytes
    }

    /// Reads what [`SeededCiphertext::to_bytes`] wrote.
    ///
    /// # Errors
    /// Bytes of something else, of another version, of other primes, or damaged.
    pub fn from_bytes(ring: &Arc<SmallRing>, bytes: &[u8]) -> Result<Self, HeError> {
        let kind = Kind::Seeded;
        body(ring, kind, bytes, SEED + polynomial_bytes(ring, Width::Full))?;
        let mut seed = [0; SEED];
        seed.copy_from_slice(&bytes[HEADER..HEADER + SEED]);
        let mut read = Buffer::new(LIMBS * DEGREE);
        unpack_polynomial(ring, (kind, Width::Full), &bytes[HEADER + SEED..], &mut read)?;
        Ok(SeededCiphertext { ring: ring.clone(), seed, body: read })
    }
}

impl SmallKeys {
    /// Writes the keys, one after the other; of each the seed of its public halves and the others: about 1.5 MB in all.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&header(&self.ring, Kind::Keys))?;
        let mut limb = Buffer::new(DEGREE);
        let mut bytes = Vec::new();
        for key in self.all() {
            to.write_all(&key.seed)?;
            for digit in 0..LIMBS {
                for (i, m) in self.ring.context.m.iter().enumerate() {
                    SmallKeys::body(&self.ring, key, digit, i, &mut limb);
                    bytes.clear();
                    pack(&limb, m.p, &mut bytes);
                    to.write_all(&bytes)?;
                }
            }
        }
        Ok(())
    }

    /// Reads what [`SmallKeys::write_to`] wrote, and nothing beyond it.
    ///
    /// # Errors
    /// The reader's, or bytes of something else, of another version, of other primes, or damaged.
    pub fn read_from(ring: &Arc<SmallRing>, from: &mut impl Read) -> Result<Self, HeError> {
        let kind = Kind::Keys;
        let mut read = |bytes: &mut [u8]| match from.read_exact(bytes) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => malformed(kind, "they end too early"),
            Err(e) => malformed(kind, format_args!("reading failed: {e}")),
        };
        let mut bytes = [0; HEADER];
        read(&mut bytes)?;
        check_header(ring, kind, &bytes)?;
        let mut key = || -> Result<SwitchingKey, HeError> {
            let mut seed = [0; SEED];
            read(&mut seed)?;
            let mut packed = Vec::new();
            let mut bodies = Vec::with_capacity(LIMBS);
            for _ in 0..LIMBS {
                let mut digit: [Buffer; KEY_LIMBS] = std::array::from_fn(|_| Buffer::new(DEGREE));
                for (limb, m) in digit.iter_mut().zip(&ring.context.m) {
                    packed.resize(limb_bytes(m.p), 0);
                    read(&mut packed)?;
                    if !unpack(&packed, m.p, limb) {
                        return malformed(kind, format_args!("a residue is not below its prime {}", m.p));
                    }
                }
                bodies.push(digit);
            }
            Ok(SmallKeys::assemble(ring, seed, &bodies))
        };
        let relinearisation = key()?;
        let merges = KeyKind::all().filter(|k| matches!(k, KeyKind::Merge(_)));
        let merges = merges.map(|_| key()).collect::<Result<_, _>>()?;
        Ok(SmallKeys { ring: ring.clone(), relinearisation, merges, reverse: key()? })
    }
}
