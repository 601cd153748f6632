//! What a client sends for one batch, and its bytes.

use crate::he::HeError;
use crate::he::ckks::ServerKeys;
use crate::he::ckks::small::SeededCiphertext;

/// What the client sends for one batch.
#[derive(Clone)]
pub struct RingBatch {
    pub size: usize,
    /// By wire of the plan: rings that the server takes apart.
    pub wires: Vec<Vec<SeededCiphertext>>,
    /// By operand: the ciphertexts of a part that the client encrypts in the operand's layout.
    pub fresh: Vec<Vec<SeededCiphertext>>,
}

impl RingBatch {
    fn all(&self) -> impl Iterator<Item = &SeededCiphertext> {
        self.wires.iter().chain(&self.fresh).flatten()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.all().map(SeededCiphertext::bytes).sum()
    }

    /// Bytes as sent.
    pub fn wire_bytes(&self) -> usize {
        self.all().map(SeededCiphertext::wire_bytes).sum()
    }

    /// The batch as bytes: its size, and each list of ciphertexts behind its length.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = number(self.size);
        for lists in [&self.wires, &self.fresh] {
            bytes.extend(number(lists.len()));
            for list in lists {
                bytes.extend(number(list.len()));
                list.iter().for_each(|own| bytes.extend(own.to_bytes()));
            }
        }
        bytes
    }

    /// Reads what [`RingBatch::to_bytes`] wrote for a server with these keys.
    ///
    /// # Errors
    /// Bytes of something else, or damaged.
    pub fn from_bytes(keys: &ServerKeys, bytes: &[u8]) -> Result<Self, HeError> {
        let ring = keys.small().ring();
        let mut rest = Rest(bytes);
        let size = rest.number()?;
        let mut lists = || -> Result<Vec<Vec<SeededCiphertext>>, HeError> {
            let count = rest.number()?;
            let mut lists = Vec::new();
            for _ in 0..count {
                let mut list = Vec::new();
                for _ in 0..rest.number()? {
                    let own = rest.take(SeededCiphertext::bytes_on_wire(ring))?;
                    list.push(SeededCiphertext::from_bytes(ring, own)?);
                }
                lists.push(list);
            }
            Ok(lists)
        };
        let (wires, fresh) = (lists()?, lists()?);
        Ok(Self { size, wires, fresh })
    }
}

fn number(x: usize) -> Vec<u8> {
    (x as u64).to_le_bytes().to_vec()
}

/// Bytes that are still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], HeError> {
        let early = || HeError::Malformed("a batch of ciphertexts: it ends too early".into());
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(early)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<usize, HeError> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        usize::try_from(u64::from_le_bytes(bytes))
            .map_err(|_| HeError::Malformed("a batch of ciphertexts: a length is beyond all bounds".into()))
    }
}
