//! Bounds of columns as bytes: a tag and the value, big-endian.

use service_error::ServiceError;

use crate::model::Scalar;

const BOOL: u8 = 1;
const INT: u8 = 2;
const UINT: u8 = 3;
const DOUBLE: u8 = 4;
const TEXT: u8 = 5;
const BYTES: u8 = 6;
const TIMESTAMP: u8 = 7;
const DECIMAL: u8 = 8;
const DATE: u8 = 9;
const TIME: u8 = 10;
const DURATION: u8 = 11;

/// The value as bytes. The tags are stored: never renumber them.
pub fn encode(value: &Scalar) -> Vec<u8> {
    match value {
        Scalar::Bool(value) => tagged(BOOL, &[u8::from(*value)]),
        Scalar::Int(value) => tagged(INT, &value.to_be_bytes()),
        Scalar::UInt(value) => tagged(UINT, &value.to_be_bytes()),
        Scalar::Double(value) => tagged(DOUBLE, &value.to_be_bytes()),
        Scalar::Text(text) => tagged(TEXT, text.as_bytes()),
        Scalar::Bytes(bytes) => tagged(BYTES, bytes),
        Scalar::Timestamp(seconds, nanos) => {
            tagged(TIMESTAMP, &[seconds.to_be_bytes().as_slice(), &nanos.to_be_bytes()].concat())
        }
        Scalar::Decimal(text) => tagged(DECIMAL, text.as_bytes()),
        Scalar::Date(text) => tagged(DATE, text.as_bytes()),
        Scalar::Time(text) => tagged(TIME, text.as_bytes()),
        Scalar::Duration(text) => tagged(DURATION, text.as_bytes()),
    }
}

/// The value in bytes that [`encode`] made.
pub fn decode(bytes: &[u8]) -> Result<Scalar, ServiceError> {
    read(bytes).ok_or_else(|| ServiceError::data_loss("a stored column bound can't be read"))
}

fn read(bytes: &[u8]) -> Option<Scalar> {
    let (tag, body) = bytes.split_first()?;
    let text = || String::from_utf8(body.to_vec()).ok();
    Some(match *tag {
        BOOL => Scalar::Bool(*body.first()? != 0),
        INT => Scalar::Int(i64::from_be_bytes(body.try_into().ok()?)),
        UINT => Scalar::UInt(u64::from_be_bytes(body.try_into().ok()?)),
        DOUBLE => Scalar::Double(f64::from_be_bytes(body.try_into().ok()?)),
        TEXT => Scalar::Text(text()?),
        BYTES => Scalar::Bytes(body.to_vec()),
        TIMESTAMP => {
            let (seconds, nanos) = body.split_first_chunk::<8>()?;
            Scalar::Timestamp(
                i64::from_be_bytes(*seconds),
                i32::from_be_bytes(nanos.try_into().ok()?),
            )
        }
        DECIMAL => Scalar::Decimal(text()?),
        DATE => Scalar::Date(text()?),
        TIME => Scalar::Time(text()?),
        DURATION => Scalar::Duration(text()?),
        _ => return None,
    })
}

fn tagged(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 1);
    bytes.push(tag);
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_kind_comes_back() {
        for value in [
            Scalar::Bool(true),
            Scalar::Int(i64::MIN),
            Scalar::UInt(u64::MAX),
            Scalar::Double(-0.5),
            Scalar::Text("ü".into()),
            Scalar::Bytes(vec![0, 255]),
            Scalar::Timestamp(-1, 999_999_999),
            Scalar::Decimal("-1.50".into()),
            Scalar::Date("2024-02-29".into()),
            Scalar::Time("23:59:59.999".into()),
            Scalar::Duration("PT1S".into()),
        ] {
            assert_eq!(decode(&encode(&value)).unwrap(), value);
        }
    }

    #[test]
    fn foreign_bytes_are_data_loss() {
        for bytes in [&[][..], &[0], &[INT, 1], &[TEXT, 0xff], &[TIMESTAMP, 0, 0]] {
            assert!(decode(bytes).is_err(), "{bytes:?}");
        }
    }
}
