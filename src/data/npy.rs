//! One NumPy array: its header, and its numbers in the order of the file.
//!
//! Format: NEP 1 and `numpy.lib.format`, versions 1.0 to 3.0.

use std::io::Read;

use super::problem::{quote, thousands};
use super::source::{self, Fault};
use super::values::Values;
use super::{MAX_NUMBERS, MAX_SAMPLE};

/// Bytes of a header; NumPy itself refuses more than 10,000.
const MAX_HEADER: usize = 1 << 16;
/// Numbers that are read at a time.
const CHUNK: usize = 1 << 14;

/// What the header of an array says.
#[derive(Debug, PartialEq)]
pub struct Header {
    kind: Kind,
    pub shape: Vec<usize>,
}

/// The type of the numbers: `|u1`, `<f4` and so on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Kind {
    /// `b` (truth values), `i`, `u` or `f`.
    class: u8,
    /// Bytes of a number.
    size: usize,
    big_endian: bool,
}

impl Kind {
    fn parse(text: &str) -> Option<Self> {
        let (&[order, class], size) = text.as_bytes().split_first_chunk::<2>()?;
        let size = match size {
            [digit @ b'1'..=b'8'] => usize::from(digit - b'0'),
            _ => return None,
        };
        let known = match class {
            b'b' => size == 1,
            b'i' | b'u' => matches!(size, 1 | 2 | 4 | 8),
            b'f' => matches!(size, 4 | 8),
            _ => false,
        };
        (known && matches!(order, b'<' | b'>' | b'|' | b'=')).then_some(Self {
            class,
            size,
            big_endian: order == b'>',
        })
    }

    fn number(self, bytes: &[u8]) -> f64 {
        let mut word = [0; 8];
        for (place, &byte) in bytes.iter().enumerate() {
            word[if self.big_endian { self.size - 1 - place } else { place }] = byte;
        }
        let bits = u64::from_le_bytes(word);
        let unused = 64 - 8 * self.size as u32;
        match (self.class, self.size) {
            (b'f', 8) => f64::from_bits(bits),
            (b'f', _) => f64::from(f32::from_bits(bits as u32)),
            (b'i', _) => ((bits << unused) as i64 >> unused) as f64,
            _ => bits as f64,
        }
    }
}

/// Reads the header.
pub fn header(source: &mut impl Read) -> Result<Header, Fault> {
    let mut start = [0; 8];
    source.read_exact(&mut start)?;
    if start[..6] != *b"\x93NUMPY" {
        return Err(Fault::Format("it is not a NumPy array".to_owned()));
    }
    let length = match start[6] {
        1 => {
            let mut length = [0; 2];
            source.read_exact(&mut length)?;
            usize::from(u16::from_le_bytes(length))
        }
        2 | 3 => {
            let mut length = [0; 4];
            source.read_exact(&mut length)?;
            u32::from_le_bytes(length) as usize
        }
        version => return Err(Fault::Format(format!("its version {version} is not known"))),
    };
    if length > MAX_HEADER {
        return Err(Fault::Format(format!("its header has {} bytes", thousands(length as u64))));
    }
    let text = source::bytes(source, length)?;
    let text = std::str::from_utf8(&text).map_err(|_| Fault::Format("its header is not text".to_owned()))?;
    parse(text)
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`
fn parse(text: &str) -> Result<Header, Fault> {
    let unclear = || Fault::Format(format!("its header cannot be understood: {}", quote(text.trim())));
    let after = |key: &str| -> Option<&str> {
        let (_, rest) = text.split_once(&format!("'{key}'"))?;
        Some(rest.trim_start().strip_prefix(':')?.trim_start())
    };
    let descr = after("descr").ok_or_else(unclear)?;
    let name = descr.strip_prefix('\'').and_then(|rest| rest.split('\'').next());
    let kind = name.and_then(Kind::parse).ok_or_else(|| {
        let shown = quote(name.unwrap_or_else(|| descr.split('}').next().unwrap_or_default()));
        Fault::Kind(
            format!("its type is {shown}"),
            match name.is_some_and(|name| name.contains(['U', 'S', 'O'])) {
                true => "words become integers by `np.unique(y, return_inverse=True)[1]`",
                false => "save it as float32 (`x.astype('float32')`), or as integers or bytes",
            },
        )
    })?;
    let order = after("fortran_order").ok_or_else(unclear)?;
    let inside =
        after("shape").and_then(|rest| rest.strip_prefix('(')?.split(')').next()).ok_or_else(unclear)?;
    let mut shape = Vec::new();
    for size in inside.split(',').map(str::trim).filter(|size| !size.is_empty()) {
        shape.push(size.trim_end_matches('L').parse::<usize>().map_err(|_| unclear())?);
    }
    if order.starts_with("True") {
        // Of one axis, both orders are the same.
        if shape.iter().filter(|&&size| size != 1).count() > 1 {
            return Err(Fault::Kind(
                "it is stored column by column".to_owned(),
                "save it row by row, with `np.ascontiguousarray(x)`",
            ));
        }
    } else if !order.starts_with("False") {
        return Err(unclear());
    }
    Ok(Header { kind, shape })
}

impl Header {
    /// Samples and numbers of each: the first axis and the others together.
    pub fn rows(&self) -> Result<(usize, usize), Fault> {
        let Some((&rows, rest)) = self.shape.split_first() else {
            return Err(Fault::Kind(
                "it is a single number".to_owned(),
                "the first axis of an array is that of the samples",
            ));
        };
        let width = rest.iter().try_fold(1usize, |a, &b| a.checked_mul(b)).unwrap_or(usize::MAX);
        if width == 0 || width > MAX_SAMPLE || rows > u32::MAX as usize {
            return Err(Fault::Format(format!("its header says the shape {:?}", self.shape)));
        }
        Ok((rows, width))
    }

    /// Numbers of the first `rows` samples: bytes as they are, others as f32.
    pub fn values(&self, source: &mut impl Read, rows: usize) -> Result<Values, Fault> {
        let (all, width) = self.rows()?;
        let Some(count) = rows.checked_mul(width).filter(|&count| count <= MAX_NUMBERS) else {
            let message =
                format!("{} samples of {} numbers", thousands(rows as u64), thousands(width as u64));
            return Err(Fault::TooLarge(message));
        };
        let values = if self.kind.class == b'u' && self.kind.size == 1 {
            Values::Bytes(source::bytes(source, count)?)
        } else {
            let mut numbers = Vec::new();
            self.each(source, count, |index, number| {
                if !(number as f32).is_finite() {
                    let sample = thousands((index / width) as u64 + 1);
                    return Err(Fault::Number(format!(
                        "sample {sample}, number {}: {number} is not a finite 32-bit number",
                        index % width + 1
                    )));
                }
                numbers.push(number as f32);
                Ok(())
            })?;
            Values::Numbers(numbers)
        };
        if rows == all {
            source::end(source)?;
        }
        Ok(values)
    }

    /// Gives the first `count` numbers to `take`, with their index.
    pub fn each<E: From<Fault>>(
        &self,
        source: &mut impl Read,
        count: usize,
        mut take: impl FnMut(usize, f64) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut chunk = vec![0; count.min(CHUNK) * self.kind.size];
        let mut index = 0;
        while index < count {
            chunk.truncate((count - index) * self.kind.size);
            source.read_exact(&mut chunk).map_err(Fault::Io)?;
            for bytes in chunk.chunks_exact(self.kind.size) {
                take(index, self.kind.number(bytes))?;
                index += 1;
            }
        }
        Ok(())
    }
}
