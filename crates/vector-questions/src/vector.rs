//! Vectors as requests bring them.

use ann::{Element, Metric, Settings, Vector};
use service_error::ServiceError;
use space_index::IndexError;

/// A vector that somebody owns.
#[derive(Debug, Clone, PartialEq)]
pub enum OwnedVector {
    /// Numbers.
    Floats(Vec<f32>),
    /// Bits, the first in the lowest bit of a byte.
    Bits(Vec<u8>),
}

impl OwnedVector {
    /// From a request's numbers or bits, whichever are there.
    ///
    /// # Errors
    /// Neither or both; numbers other than 0 and 1 for bits.
    pub fn new(
        values: Vec<f32>,
        bits: Vec<u8>,
        settings: &Settings,
        field: &str,
    ) -> Result<Self, ServiceError> {
        match (values.is_empty(), bits.is_empty()) {
            (true, true) => Err(ServiceError::invalid(field, "is empty")),
            (false, false) => {
                Err(ServiceError::invalid(field, "has values and bits; give one of them"))
            }
            (true, false) => Ok(Self::Bits(bits)),
            (false, true) if settings.element() == Element::Bit => {
                Self::packed(&values, settings, field)
            }
            (false, true) => Ok(Self::Floats(values)),
        }
    }

    fn packed(values: &[f32], settings: &Settings, field: &str) -> Result<Self, ServiceError> {
        if values.len() != settings.dimension() as usize {
            let message =
                format!("dimension {}; the space has {}", values.len(), settings.dimension());
            return Err(ServiceError::invalid(field, message).reason("VECTOR_INVALID"));
        }
        let mut bits = vec![0_u8; values.len().div_ceil(8)];
        for (at, value) in values.iter().enumerate() {
            if *value == 1.0 {
                bits[at / 8] |= 1 << (at % 8);
            } else if *value != 0.0 {
                let message = format!("coordinate {at} is {value}; a bit is 0 or 1");
                return Err(ServiceError::invalid(field, message).reason("VECTOR_INVALID"));
            }
        }
        Ok(Self::Bits(bits))
    }

    /// From a row's bytes.
    #[must_use]
    pub fn of_stored(settings: &Settings, bytes: &[u8]) -> Self {
        match settings.element() {
            Element::Bit => {
                let used = (settings.dimension().div_ceil(8) as usize).min(bytes.len());
                Self::Bits(bytes[..used].to_vec())
            }
            _ => Self::Floats(settings.floats(bytes)),
        }
    }

    /// From coordinates, as the index gives them.
    #[must_use]
    pub fn of_floats(settings: &Settings, floats: Vec<f32>) -> Self {
        if settings.element() != Element::Bit {
            return Self::Floats(floats);
        }
        let mut bits = vec![0_u8; floats.len().div_ceil(8)];
        for (at, _) in floats.iter().enumerate().filter(|(_, value)| **value >= 0.5) {
            bits[at / 8] |= 1 << (at % 8);
        }
        Self::Bits(bits)
    }

    /// What was reckoned with vectors, in numbers that the space's vectors are made of. Where
    /// length says nothing (cosine) or only how far (inner product), the direction stays.
    #[must_use]
    pub fn reckoned(settings: &Settings, mut floats: Vec<f32>) -> Self {
        let is_whole = settings.element() == Element::I8;
        let limit = match settings.element() {
            Element::I8 => f32::from(i8::MAX),
            Element::F16 => 65_504.0,
            Element::F32 | Element::Bit => return Self::Floats(floats),
        };
        let greatest = floats.iter().fold(0.0_f32, |greatest, value| greatest.max(value.abs()));
        let scales = match settings.metric() {
            Metric::Cosine => is_whole || greatest > limit,
            Metric::InnerProduct => greatest > limit,
            _ => false,
        };
        let scale = if scales && greatest > 0.0 { limit / greatest } else { 1.0 };
        for value in &mut floats {
            let fitting = (*value * scale).clamp(-limit, limit);
            *value = if is_whole { fitting.round() } else { fitting };
        }
        Self::Floats(floats)
    }

    /// As the index takes it.
    #[must_use]
    pub fn as_vector(&self) -> Vector<'_> {
        match self {
            Self::Floats(values) => Vector::Floats(values),
            Self::Bits(bits) => Vector::Bits(bits),
        }
    }

    /// The bytes of its row, if it is one of the space's.
    ///
    /// # Errors
    /// Another dimension, NaN, infinity, a zero vector under cosine.
    pub fn stored(&self, settings: &Settings, field: &str) -> Result<Vec<u8>, ServiceError> {
        let stored = settings.store(self.as_vector());
        stored.map(|stored| stored.bytes().to_vec()).map_err(|error| bad_vector(field, &error))
    }
}

/// A vector that the space does not take.
#[must_use]
pub fn bad_vector(field: &str, error: &ann::Error) -> ServiceError {
    match error {
        ann::Error::Invalid { message, .. } => {
            ServiceError::invalid(field, message).reason("VECTOR_INVALID")
        }
        other => bad_index(other),
    }
}

/// A failure of the index as the platform's error.
#[must_use]
pub fn bad_index(error: &ann::Error) -> ServiceError {
    match error {
        ann::Error::Invalid { field, message } => ServiceError::invalid(field, message),
        ann::Error::OverBudget { needed, limit } => ServiceError::exhausted(format!(
            "the index needs {needed} bytes of memory and may use {limit}; raise vectors.build_bytes_max"
        ))
        .reason("INDEX_OVER_BUDGET"),
        ann::Error::Cancelled => ServiceError::unavailable("the work was given up; try again"),
        ann::Error::Stale(_) => ServiceError::conflict("the index changed meanwhile; try again"),
        ann::Error::Damaged { .. } => {
            ServiceError::data_loss(error.to_string()).reason("INDEX_DAMAGED")
        }
        ann::Error::Io { .. } => {
            ServiceError::unavailable(format!("the index's files: {error}")).reason("INDEX_FILES")
        }
    }
}

impl From<IndexFailure<'_>> for ServiceError {
    fn from(IndexFailure(error): IndexFailure<'_>) -> Self {
        match error {
            IndexError::Ann(error) => bad_index(error),
            IndexError::Payload(payload_index::PayloadError::Filter(error)) => {
                Self::invalid("filter", error).reason("FILTER_INVALID")
            }
            IndexError::Payload(_) | IndexError::Damaged { .. } => {
                Self::data_loss(error.to_string()).reason("INDEX_DAMAGED")
            }
            IndexError::Io { .. } => {
                Self::unavailable(format!("the index's files: {error}")).reason("INDEX_FILES")
            }
        }
    }
}

/// A failure of a space's index.
#[derive(Debug)]
pub struct IndexFailure<'a>(pub &'a IndexError);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_was_reckoned_is_one_of_the_spaces_vectors() {
        let (l2, ip, cos) = (Metric::L2, Metric::InnerProduct, Metric::Cosine);
        for (metric, element, given, fitted) in [
            (l2, Element::I8, [1.5, -0.4], [2.0, 0.0]),
            (l2, Element::I8, [150.0, -300.0], [127.0, -127.0]),
            (ip, Element::I8, [254.0, -100.0], [127.0, -50.0]),
            (cos, Element::I8, [1.5, 2.0], [95.0, 127.0]),
            (cos, Element::F16, [131_008.0, 4.0], [65_504.0, 2.0]),
            (l2, Element::F16, [1e6, 0.1], [65_504.0, 0.1]),
            (l2, Element::F32, [1e6, 0.1], [1e6, 0.1]),
        ] {
            let settings = Settings::new(metric, element, 2).unwrap();
            let vector = OwnedVector::reckoned(&settings, given.to_vec());
            vector.stored(&settings, "query.recommend").unwrap();
            assert_eq!(vector, OwnedVector::Floats(fitted.to_vec()), "{metric:?} {element:?}");
        }
    }
}
