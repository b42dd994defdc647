//! How a coordinate is written in a code, and back.

use half::{bf16, f16};

use crate::{Error, Result};

/// The codes of an index.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Codec {
    F32,
    F16,
    Bf16,
    /// A byte is the value.
    Direct,
    /// A byte is the value plus 128.
    DirectSigned,
    /// `bits` a coordinate, between a least value and a range: of each coordinate, or of all.
    Ranged {
        bits: u32,
        least: Vec<f32>,
        range: Vec<f32>,
    },
}

impl Codec {
    /// FAISS' scalar quantiser of this number, with what it was trained to.
    pub(crate) fn scalar(number: i32, trained: &[f32], dimension: usize) -> Result<Self> {
        let ranged = |bits: u32, each: bool| {
            let count = if each { dimension } else { 1 };
            if trained.len() != 2 * count {
                return Err(Error::Malformed {
                    at: 0,
                    what: format!("a quantiser with {} values, not {}", trained.len(), 2 * count),
                });
            }
            let (least, range) = trained.split_at(count);
            Ok(Self::Ranged { bits, least: least.to_vec(), range: range.to_vec() })
        };
        match number {
            0 => ranged(8, true),
            1 => ranged(4, true),
            2 => ranged(8, false),
            3 => ranged(4, false),
            4 => Ok(Self::F16),
            5 => Ok(Self::Direct),
            6 => ranged(6, true),
            7 => Ok(Self::Bf16),
            8 => Ok(Self::DirectSigned),
            other => Err(Error::Unsupported {
                what: format!("scalar quantiser {other}"),
                why: "it is newer than this reader; export the index as Flat",
            }),
        }
    }

    /// Bytes of one code.
    pub(crate) fn bytes(&self, dimension: usize) -> usize {
        match self {
            Self::F32 => dimension * 4,
            Self::F16 | Self::Bf16 => dimension * 2,
            Self::Direct | Self::DirectSigned => dimension,
            Self::Ranged { bits, .. } => (dimension * *bits as usize).div_ceil(8),
        }
    }

    pub(crate) const fn is_lossy(&self) -> bool {
        !matches!(self, Self::F32)
    }

    /// The coordinates in a code of the right length.
    pub(crate) fn decode(&self, code: &[u8], dimension: usize) -> Vec<f32> {
        match self {
            Self::F32 => code.as_chunks::<4>().0.iter().map(|c| f32::from_le_bytes(*c)).collect(),
            Self::F16 => {
                code.as_chunks::<2>().0.iter().map(|c| f16::from_le_bytes(*c).to_f32()).collect()
            }
            Self::Bf16 => {
                code.as_chunks::<2>().0.iter().map(|c| bf16::from_le_bytes(*c).to_f32()).collect()
            }
            Self::Direct => code.iter().map(|byte| f32::from(*byte)).collect(),
            Self::DirectSigned => code.iter().map(|byte| f32::from(*byte) - 128.0).collect(),
            Self::Ranged { bits, least, range } => (0..dimension)
                .map(|at| {
                    let value = packed(code, at * *bits as usize, *bits);
                    let part = (value as f32 + 0.5) / ((1_u32 << bits) - 1) as f32;
                    let of = |values: &[f32]| {
                        values.get(at).or(values.first()).copied().unwrap_or_default()
                    };
                    of(least) + part * of(range)
                })
                .collect(),
        }
    }
}

/// `bits` bits from bit `begin` on, the lowest first.
fn packed(code: &[u8], begin: usize, bits: u32) -> u32 {
    let byte = |at: usize| u32::from(code.get(at).copied().unwrap_or_default());
    let two = byte(begin / 8) | byte(begin / 8 + 1) << 8;
    two >> (begin % 8) & ((1 << bits) - 1)
}
