//! Headers of files that hold tensors, read by range. No byte of a tensor is.

mod gguf;
mod onnx;
mod outside;
mod safetensors;

use std::cell::Cell;
use std::collections::BTreeMap;

pub(crate) use outside::locations;

use crate::source::{Meter, Part, RangeReader, ReadError};

/// Tensors of a header.
pub const TENSORS_MAX: usize = 200_000;
/// Dimensions of a tensor.
const DIMENSIONS_MAX: usize = 16;
/// Bytes of a name.
const NAME_BYTES_MAX: u64 = 1_024;
/// Entries of metadata that are told.
const METADATA_MAX: usize = 2_000;
/// Characters of a value of metadata that are told.
const VALUE_CHARS_MAX: usize = 4_096;
/// Bytes that are read of a file for its header.
const HEADER_BYTES_MAX: u64 = 128 << 20;
/// Bytes of a header that take as long as an opcode of a pickle, or less.
const BYTES_PER_OPCODE: u64 = 2;

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Safetensors,
    Gguf,
    Onnx,
}

impl Format {
    /// Its name as users write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
            Self::Onnx => "onnx",
        }
    }
}

/// A tensor that a header names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tensor {
    pub name: String,
    /// As its format writes it: `F32`, `BF16`, `Q4_K`, `FLOAT`.
    pub kind: String,
    /// Elements along each dimension; -1 where it is open.
    pub shape: Vec<i64>,
    /// Elements; 0 where a dimension is open.
    pub parameters: u64,
    /// Bytes of its data; 0 where the header does not say.
    pub bytes: u64,
}

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub format: Format,
    /// In the order of the file.
    pub tensors: Vec<Tensor>,
    /// Elements of all tensors.
    pub parameters: u64,
    pub metadata: BTreeMap<String, String>,
    /// What a graph takes; of ONNX only.
    pub inputs: Vec<Tensor>,
    /// What a graph gives; of ONNX only.
    pub outputs: Vec<Tensor>,
    /// Where a file says that tensors of its graph lie elsewhere; of ONNX only,
    /// and not all of them where they are many.
    pub external: Vec<String>,
    /// A chat template reaches for what it should not; all of it was looked at.
    pub(crate) reaching: bool,
}

impl Header {
    fn new(format: Format) -> Self {
        Self {
            format,
            tensors: Vec::new(),
            parameters: 0,
            metadata: BTreeMap::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            external: Vec::new(),
            reaching: false,
        }
    }

    fn note(&mut self, key: String, value: &str) {
        // Before anything is cut.
        self.reaching |= is_template(&key) && reaches_inside(value);
        if self.metadata.len() < METADATA_MAX {
            self.metadata.insert(key, value.chars().take(VALUE_CHARS_MAX).collect());
        }
    }

    fn add(&mut self, tensor: Tensor) -> Result<(), HeaderError> {
        if self.tensors.len() >= TENSORS_MAX {
            return Err(HeaderError::TooLarge { what: "tensors", most: TENSORS_MAX as u64 });
        }
        self.parameters = self
            .parameters
            .checked_add(tensor.parameters)
            .ok_or_else(|| malformed("its parameters are more than can be counted"))?;
        self.tensors.push(tensor);
        Ok(())
    }
}

/// Why a header can't be told.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// None of the formats.
    #[error("it is no safetensors, GGUF or ONNX file")]
    UnknownFormat,
    /// It ends where its header does not.
    #[error("it ends in the middle of its header")]
    Truncated,
    /// It breaks a rule of its format.
    #[error("{0}")]
    Malformed(String),
    /// It is beyond a bound of ours.
    #[error("its {what} are more than the {most} that are read")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        most: u64,
    },
    /// The store's.
    #[error("it could not be read: {0}")]
    Io(#[source] std::io::Error),
}

impl From<ReadError> for HeaderError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Truncated => Self::Truncated,
            ReadError::Exhausted(_) | ReadError::Bomb(_) => {
                Self::TooLarge { what: "header's bytes", most: HEADER_BYTES_MAX }
            }
            ReadError::Io(error) => Self::Io(error),
        }
    }
}

fn malformed(message: impl Into<String>) -> HeaderError {
    HeaderError::Malformed(message.into())
}

/// Reads the header of a file. `path` decides where the bytes alone do not: an
/// ONNX file has no mark.
///
/// # Errors
/// As [`HeaderError`] tells them apart.
pub fn read_header(path: &str, source: &dyn RangeReader) -> Result<Header, HeaderError> {
    let meter = Meter {
        read_bytes: Cell::new(HEADER_BYTES_MAX),
        inflated_bytes: Cell::new(0),
        opcodes: Cell::new(u64::MAX),
        members: Cell::new(0),
    };
    read_part(path, Part::whole(source), &meter)
}

/// Reads the header of a part of a file. It has a bound of its own within what the
/// meter leaves.
pub(crate) fn read_part(path: &str, part: Part<'_>, meter: &Meter) -> Result<Header, HeaderError> {
    let left = meter.read_bytes.get();
    // A reader of one header is soon done; of an archive full of them it is not.
    let opcodes = meter.opcodes.get().saturating_mul(BYTES_PER_OPCODE);
    let most = left.min(HEADER_BYTES_MAX).min(opcodes);
    let own = Meter {
        read_bytes: Cell::new(most),
        inflated_bytes: Cell::new(0),
        opcodes: Cell::new(0),
        members: Cell::new(0),
    };
    let header = read_format(path, part, &own);
    let read = most - own.read_bytes.get();
    meter.read_bytes.set(left - read);
    meter.take_opcodes(read / BYTES_PER_OPCODE)?;
    header
}

fn read_format(path: &str, part: Part<'_>, meter: &Meter) -> Result<Header, HeaderError> {
    let head = part.head(meter, 9)?;
    match sniff(path, &head) {
        Some(Format::Safetensors) => safetensors::read(part, meter),
        Some(Format::Gguf) => gguf::read(part, meter),
        Some(Format::Onnx) => onnx::read(part, meter),
        None => Err(HeaderError::UnknownFormat),
    }
}

/// Whether a key of metadata is that of a template which a loader renders.
fn is_template(key: &str) -> bool {
    key.contains("chat_template")
}

/// Whether a template reaches for Python's inner attributes: by their names, by
/// escapes that spell an underscore, or by a filter that takes any name.
fn reaches_inside(template: &str) -> bool {
    const UNDERSCORES: [&str; 5] = ["\\x5f", "\\u005f", "\\u0000005f", "\\137", "\\n{low"];
    let small = template.to_lowercase();
    let filter = |behind: &str| {
        let name = behind.trim_start().strip_prefix("attr");
        name.is_some_and(|rest| rest.trim_start().starts_with('('))
    };
    template.contains("__")
        || UNDERSCORES.iter().any(|of| small.contains(of))
        || template.split('|').skip(1).any(filter)
}

/// The format of a file, by its first nine bytes and its name.
#[must_use]
pub fn sniff(path: &str, head: &[u8]) -> Option<Format> {
    let named = |suffix: &str| path.to_ascii_lowercase().ends_with(suffix);
    if head.starts_with(b"GGUF") || named(".gguf") {
        return Some(Format::Gguf);
    }
    if named(".onnx") {
        return Some(Format::Onnx);
    }
    let length = head.get(..8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let plausible = length.is_some_and(|length| length <= safetensors::JSON_BYTES_MAX);
    (named(".safetensors") || (plausible && head.get(8) == Some(&b'{')))
        .then_some(Format::Safetensors)
}

/// Elements of a shape, if they can be counted.
fn elements(shape: &[i64]) -> Option<u64> {
    shape.iter().try_fold(1_u64, |product, of| product.checked_mul(u64::try_from(*of).ok()?))
}
