//! Vectors as they come and as they are stored, and the exact distance of two.

use ann_kernels::{Kernels, Pair};
use half::f16;

use crate::error::{Error, Result};
use crate::settings::{Element, Metric, Settings};

/// Squares of distances between vectors no longer than this are within f32.
const LENGTH_MAX: f32 = 9e18;

/// A vector as a caller has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Vector<'a> {
    /// Numbers; for `i8` they must be whole and fit.
    Floats(&'a [f32]),
    /// Whole numbers, for `i8` alone.
    Bytes(&'a [i8]),
    /// Bits, eight to a byte, the first in the lowest bit; what follows the last is 0.
    Bits(&'a [u8]),
}

/// A vector of the space, checked, in the form of the file: little-endian elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The bytes; words keep them aligned.
    words: Vec<u64>,
    length: usize,
}

impl Stored {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0_u64; bytes.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self { words, length: bytes.len() }
    }

    /// The bytes of one row of the store.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.length]
    }
}

impl Settings {
    /// Checks a vector and puts it into the form that is stored.
    ///
    /// # Errors
    /// Another dimension or kind, a NaN or infinity (also one that only half precision makes), a
    /// length beyond 9e18, and a zero vector under cosine, which has no direction.
    pub fn store(&self, vector: Vector<'_>) -> Result<Stored> {
        let mut bytes = Vec::with_capacity(self.row_bytes());
        match (vector, self.element()) {
            (Vector::Floats(values), Element::F32) if values.iter().all(|v| v.is_finite()) => {
                self.expect(values.len())?;
                bytes.resize(self.row_bytes(), 0);
                for (to, value) in bytes.chunks_exact_mut(4).zip(values) {
                    to.copy_from_slice(&value.to_le_bytes());
                }
            }
            (Vector::Floats(values), Element::F32 | Element::F16 | Element::I8) => {
                self.expect(values.len())?;
                for (at, &value) in values.iter().enumerate() {
                    self.push(&mut bytes, at, value)?;
                }
            }
            (Vector::Bytes(values), Element::I8) => {
                self.expect(values.len())?;
                bytes.extend_from_slice(bytemuck::cast_slice(values));
            }
            (Vector::Bits(values), Element::Bit) => self.push_bits(&mut bytes, values)?,
            (vector, element) => {
                let kind = match vector {
                    Vector::Floats(_) => "numbers",
                    Vector::Bytes(_) => "bytes",
                    Vector::Bits(_) => "bits",
                };
                return Err(Error::invalid(
                    "vector",
                    format!("{kind} given; the space holds {element:?}"),
                ));
            }
        }
        let stored = Stored::new(&bytes);
        match Row::of(self, stored.bytes()) {
            Row::F32(row) if (Kernels::get().dot_f32)(row, row).sqrt() > LENGTH_MAX => {
                let message =
                    format!("its length is beyond {LENGTH_MAX:e}, and distances beyond f32");
                Err(Error::invalid("vector", message))
            }
            row if self.metric() == Metric::Cosine && row.norm().is_none() => {
                let message =
                    "its length is 0, or its square is; under cosine a vector needs a direction";
                Err(Error::invalid("vector", message))
            }
            _ => Ok(stored),
        }
    }

    fn expect(&self, length: usize) -> Result<()> {
        let wanted = match self.element() {
            Element::Bit => self.dimension().div_ceil(8),
            _ => self.dimension(),
        } as usize;
        if length == wanted {
            return Ok(());
        }
        let unit = if self.element() == Element::Bit { " bytes" } else { "" };
        Err(Error::invalid(
            "vector",
            format!("dimension {length}{unit}; the space has {wanted}{unit}"),
        ))
    }

    fn push(&self, bytes: &mut Vec<u8>, at: usize, value: f32) -> Result<()> {
        if !value.is_finite() {
            return Err(Error::invalid("vector", format!("coordinate {at} is {value}")));
        }
        match self.element() {
            Element::F16 => {
                let half = f16::from_f32(value);
                if !half.is_finite() {
                    let message =
                        format!("coordinate {at} is {value}, beyond half precision's 65504");
                    return Err(Error::invalid("vector", message));
                }
                bytes.extend_from_slice(&half.to_le_bytes());
            }
            Element::I8 => {
                if value.fract() != 0.0 || !(-128.0..=127.0).contains(&value) {
                    let message =
                        format!("coordinate {at} is {value}, no whole number of -128 to 127");
                    return Err(Error::invalid("vector", message));
                }
                bytes.push((value as i8).cast_unsigned());
            }
            _ => bytes.extend_from_slice(&value.to_le_bytes()),
        }
        Ok(())
    }

    fn push_bits(&self, bytes: &mut Vec<u8>, values: &[u8]) -> Result<()> {
        self.expect(values.len())?;
        let over = self.dimension() % 8;
        if over != 0 && values.last().is_some_and(|last| last >> over != 0) {
            let message = format!("bits are set after the last of {}", self.dimension());
            return Err(Error::invalid("vector", message));
        }
        bytes.extend_from_slice(values);
        bytes.resize(self.row_bytes(), 0);
        Ok(())
    }

    /// The exact distance of two vectors of the space, as every search gives it.
    ///
    /// # Errors
    /// As [`Settings::store`].
    pub fn distance(&self, a: Vector<'_>, b: Vector<'_>) -> Result<f32> {
        let (a, b) = (self.store(a)?, self.store(b)?);
        Ok(Exact::new(self, &a).distance(Row::of(self, b.bytes()), None))
    }
}

/// One stored row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Row<'a> {
    F32(&'a [f32]),
    F16(&'a [u16]),
    I8(&'a [i8]),
    Bit(&'a [u64]),
}

impl<'a> Row<'a> {
    /// The row in these bytes, which begin at a multiple of eight.
    pub(crate) fn of(settings: &Settings, bytes: &'a [u8]) -> Self {
        match settings.element() {
            Element::F32 => Self::F32(aligned(bytes)),
            Element::F16 => Self::F16(aligned(bytes)),
            Element::I8 => Self::I8(aligned(bytes)),
            Element::Bit => Self::Bit(aligned(bytes)),
        }
    }

    /// The Euclidean length; none if it is 0 or overflows.
    pub(crate) fn norm(self) -> Option<f32> {
        let kernels = Kernels::get();
        let squared = match self {
            Self::F32(row) => (kernels.dot_f32)(row, row),
            Self::F16(row) => (kernels.dot_f16)(&widened(row), row),
            Self::I8(row) => (kernels.dot_i8)(row, row) as f32,
            Self::Bit(_) => return None,
        };
        let norm = squared.sqrt();
        (norm > 0.0 && norm.is_finite()).then_some(norm)
    }

    /// The coordinates as numbers; of bits, none.
    pub(crate) fn write_floats(self, into: &mut Vec<f32>) {
        into.clear();
        match self {
            Self::F32(row) => into.extend_from_slice(row),
            Self::F16(row) => into.extend(row.iter().map(|&bits| f16::from_bits(bits).to_f32())),
            Self::I8(row) => into.extend(row.iter().map(|&value| f32::from(value))),
            Self::Bit(_) => {}
        }
    }
}

fn widened(row: &[u16]) -> Vec<f32> {
    row.iter().map(|&bits| f16::from_bits(bits).to_f32()).collect()
}

/// Bytes as elements. Rows begin at multiples of their element's size in a store that begins at
/// a multiple of 64, so the cast holds; were it not to, the row is empty and nothing is near it.
pub(crate) fn aligned<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> &[T] {
    bytemuck::try_cast_slice(bytes).unwrap_or_default()
}

/// A query, ready to be measured against stored rows.
#[derive(Debug)]
pub(crate) struct Exact {
    metric: Metric,
    query: Prepared,
    norm: f32,
    kernels: &'static Kernels,
}

#[derive(Debug)]
enum Prepared {
    Floats(Vec<f32>),
    Bytes(Vec<i8>),
    Bits(Vec<u64>),
}

impl Exact {
    pub(crate) fn new(settings: &Settings, query: &Stored) -> Self {
        let bytes = query.bytes();
        let prepared = match settings.element() {
            Element::F32 => Prepared::Floats(aligned(bytes).to_vec()),
            Element::F16 => Prepared::Floats(widened(aligned(bytes))),
            Element::I8 => Prepared::Bytes(aligned(bytes).to_vec()),
            Element::Bit => Prepared::Bits(aligned(bytes).to_vec()),
        };
        let kernels = Kernels::get();
        let norm = match &prepared {
            Prepared::Floats(values) => (kernels.dot_f32)(values, values).sqrt(),
            Prepared::Bytes(values) => ((kernels.dot_i8)(values, values) as f32).sqrt(),
            Prepared::Bits(_) => 0.0,
        };
        Self { metric: settings.metric(), query: prepared, norm, kernels }
    }

    /// The query's coordinates as numbers; of bits, none.
    pub(crate) fn floats(&self) -> Vec<f32> {
        let mut values = match &self.query {
            Prepared::Floats(values) => values.clone(),
            Prepared::Bytes(values) => values.iter().map(|&value| f32::from(value)).collect(),
            Prepared::Bits(_) => Vec::new(),
        };
        if self.metric == Metric::Cosine {
            let factor = 1.0 / self.norm;
            values.iter_mut().for_each(|value| *value *= factor);
        }
        values
    }

    /// The query's bits; of numbers, none.
    pub(crate) fn bits(&self) -> Option<&[u64]> {
        match &self.query {
            Prepared::Bits(words) => Some(words),
            Prepared::Floats(_) | Prepared::Bytes(_) => None,
        }
    }

    /// The distance that a caller sees. `norm`, the row's length, is computed if not known.
    pub(crate) fn distance(&self, row: Row<'_>, norm: Option<f32>) -> f32 {
        match (&self.query, row) {
            (Prepared::Floats(query), Row::F32(row)) => self.of_floats(
                query,
                row,
                [self.kernels.dot_f32, self.kernels.l2_f32, self.kernels.l1_f32],
                norm.or_else(|| Row::F32(row).norm()),
            ),
            (Prepared::Floats(query), Row::F16(row)) => self.of_floats(
                query,
                row,
                [self.kernels.dot_f16, self.kernels.l2_f16, self.kernels.l1_f16],
                norm.or_else(|| Row::F16(row).norm()),
            ),
            (Prepared::Bytes(query), Row::I8(row)) => self.of_floats(
                query,
                row,
                [
                    |a, b| (Kernels::get().dot_i8)(a, b) as f32,
                    |a, b| (Kernels::get().l2_i8)(a, b) as f32,
                    |a, b| (Kernels::get().l1_i8)(a, b) as f32,
                ],
                norm.or_else(|| Row::I8(row).norm()),
            ),
            (Prepared::Bits(query), Row::Bit(row)) => self.of_bits(query, row),
            _ => f32::INFINITY,
        }
    }

    fn of_floats<A, B>(
        &self,
        query: &[A],
        row: &[B],
        [dot, l2, l1]: [Pair<A, B, f32>; 3],
        norm: Option<f32>,
    ) -> f32 {
        match self.metric {
            Metric::Cosine => {
                let cosine = dot(query, row) / (self.norm * norm.unwrap_or(f32::INFINITY));
                (1.0 - cosine).clamp(0.0, 2.0)
            }
            Metric::L2 => l2(query, row).sqrt(),
            Metric::InnerProduct => -dot(query, row),
            Metric::L1 => l1(query, row),
            Metric::Hamming | Metric::Jaccard => f32::INFINITY,
        }
    }

    fn of_bits(&self, query: &[u64], row: &[u64]) -> f32 {
        let mut out = [0];
        if self.metric == Metric::Hamming {
            (self.kernels.hamming_rows)(query, row, &[0], &mut out);
            return out[0] as f32;
        }
        (self.kernels.and_rows)(query, row, &[0], &mut out);
        let set = |bits: &[u64]| bits.iter().map(|word| word.count_ones()).sum::<u32>();
        jaccard(out[0], set(query), set(row))
    }
}

/// One minus shared bits over bits set in either.
pub(crate) fn jaccard(both: i32, a: u32, b: u32) -> f32 {
    let either = a + b - both.unsigned_abs();
    if either == 0 { 0.0 } else { 1.0 - both as f32 / either as f32 }
}
