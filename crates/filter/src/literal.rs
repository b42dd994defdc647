//! Literals into a column's type. Numbers are exact: one that the type cannot
//! hold is placed between or beyond the values that it can.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Decimal32Array, Decimal64Array, Decimal128Array, Decimal256Array, Int32Array,
    Int64Array, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, i256};
use arrow::error::ArrowError;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

/// Where a literal stands among the values of an integer-like type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    At(i128),
    /// Greater than this value and less than the next.
    After(i128),
    /// Less than every value.
    Below,
    /// Greater than every value.
    Above,
}

/// A decimal literal: `mantissa / 10^scale`, or too large to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decimal {
    Exact { mantissa: i128, scale: i32 },
    Huge { negative: bool },
}

/// Reads `-12.5e3`; `None` if it is no number.
pub(crate) fn decimal(text: &str) -> Option<Decimal> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (number, exponent) = match digits.find(['e', 'E']) {
        Some(at) => (&digits[..at], digits[at + 1..].parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let joined = format!("{whole}{fraction}");
    let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    match joined.parse::<i128>() {
        Ok(mantissa) => {
            Some(Decimal::Exact { mantissa: if negative { -mantissa } else { mantissa }, scale })
        }
        Err(_) => Some(Decimal::Huge { negative }),
    }
}

impl Decimal {
    /// Its place among multiples of `10^-scale` from `least` to `greatest`.
    pub(crate) fn place(self, scale: i32, least: i128, greatest: i128) -> Place {
        let (mantissa, own_scale) = match self {
            Self::Huge { negative: true } => return Place::Below,
            Self::Huge { negative: false } => return Place::Above,
            Self::Exact { mantissa: 0, .. } => return clamp(Place::At(0), least, greatest),
            Self::Exact { mantissa, scale } => (mantissa, scale),
        };
        let shift = i64::from(scale) - i64::from(own_scale);
        let place =
            match u32::try_from(shift.unsigned_abs()).ok().and_then(|n| 10i128.checked_pow(n)) {
                Some(factor) if shift >= 0 => match mantissa.checked_mul(factor) {
                    Some(value) => Place::At(value),
                    None if mantissa < 0 => Place::Below,
                    None => Place::Above,
                },
                Some(factor) if mantissa.rem_euclid(factor) == 0 => Place::At(mantissa / factor),
                Some(factor) => Place::After(mantissa.div_euclid(factor)),
                // 10^39 and more: beyond everything, or next to zero.
                None if shift >= 0 && mantissa < 0 => Place::Below,
                None if shift >= 0 => Place::Above,
                None => Place::After(if mantissa < 0 { -1 } else { 0 }),
            };
        clamp(place, least, greatest)
    }
}

fn clamp(place: Place, least: i128, greatest: i128) -> Place {
    match place {
        Place::At(value) | Place::After(value) if value > greatest => Place::Above,
        Place::After(value) if value == greatest => Place::Above,
        Place::At(value) if value < least => Place::Below,
        Place::After(value) if value < least => Place::Below,
        other => other,
    }
}

/// `value / divisor` among whole numbers.
pub(crate) fn divided(value: i128, divisor: i128, least: i128, greatest: i128) -> Place {
    let place = if value.rem_euclid(divisor) == 0 {
        Place::At(value / divisor)
    } else {
        Place::After(value.div_euclid(divisor))
    };
    clamp(place, least, greatest)
}

/// The least and greatest value and the decimal scale of an integer-like type.
pub(crate) fn integer_range(data_type: &DataType) -> Option<(i128, i128, i32)> {
    let ten_to =
        |precision: u8| 10i128.checked_pow(u32::from(precision)).map_or(i128::MAX, |p| p - 1);
    Some(match data_type {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into(), 0),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into(), 0),
        DataType::Int32 | DataType::Date32 | DataType::Time32(_) => {
            (i32::MIN.into(), i32::MAX.into(), 0)
        }
        DataType::Int64
        | DataType::Date64
        | DataType::Time64(_)
        | DataType::Timestamp(_, _)
        | DataType::Duration(_) => (i64::MIN.into(), i64::MAX.into(), 0),
        DataType::UInt8 => (0, u8::MAX.into(), 0),
        DataType::UInt16 => (0, u16::MAX.into(), 0),
        DataType::UInt32 => (0, u32::MAX.into(), 0),
        DataType::UInt64 => (0, u64::MAX.into(), 0),
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => (-ten_to(*p), ten_to(*p), i32::from(*s)),
        _ => return None,
    })
}

/// A value of an integer-like type as an array of one.
pub(crate) fn integer_scalar(value: i128, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let out_of_range = || ArrowError::ComputeError(format!("{value} is no {data_type}"));
    let wide = || i64::try_from(value).map_err(|_| out_of_range());
    let narrow = || i32::try_from(value).map_err(|_| out_of_range());
    match data_type {
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            let value = u64::try_from(value).map_err(|_| out_of_range())?;
            cast(&UInt64Array::from(vec![value]), data_type)
        }
        DataType::Date32 | DataType::Time32(_) => {
            cast(&Int32Array::from(vec![narrow()?]), data_type)
        }
        DataType::Decimal32(p, s) => {
            Ok(Arc::new(Decimal32Array::from(vec![narrow()?]).with_precision_and_scale(*p, *s)?))
        }
        DataType::Decimal64(p, s) => {
            Ok(Arc::new(Decimal64Array::from(vec![wide()?]).with_precision_and_scale(*p, *s)?))
        }
        DataType::Decimal128(p, s) => {
            Ok(Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(*p, *s)?))
        }
        DataType::Decimal256(p, s) => {
            let array = Decimal256Array::from(vec![i256::from_i128(value)]);
            Ok(Arc::new(array.with_precision_and_scale(*p, *s)?))
        }
        _ => cast(&Int64Array::from(vec![wide()?]), data_type),
    }
}

/// Nanoseconds since the epoch: RFC 3339, a date alone, or without a zone (UTC).
pub(crate) fn instant(text: &str) -> Option<i128> {
    let nanos = |at: DateTime<chrono::Utc>| {
        i128::from(at.timestamp()) * 1_000_000_000 + i128::from(at.timestamp_subsec_nanos())
    };
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(nanos(at.to_utc()));
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"] {
        if let Ok(at) = NaiveDateTime::parse_from_str(text, format) {
            return Some(nanos(at.and_utc()));
        }
    }
    days(text).map(|days| days * 86_400 * 1_000_000_000)
}

/// Days since the epoch.
pub(crate) fn days(text: &str) -> Option<i128> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(i128::from(date.signed_duration_since(NaiveDate::default()).num_days()))
}

/// Nanoseconds since midnight.
pub(crate) fn time_of_day(text: &str) -> Option<i128> {
    let time =
        ["%H:%M:%S%.f", "%H:%M"].iter().find_map(|f| NaiveTime::parse_from_str(text, f).ok())?;
    let seconds = i128::from(time.num_seconds_from_midnight());
    Some(seconds * 1_000_000_000 + i128::from(time.nanosecond()))
}

/// Nanoseconds of a duration such as `1.5s`.
pub(crate) fn duration(text: &str) -> Option<i128> {
    let Decimal::Exact { mantissa, scale } = decimal(text.strip_suffix('s')?)? else { return None };
    let shift = u32::try_from(9 - scale).ok()?;
    mantissa.checked_mul(10i128.checked_pow(shift)?)
}

pub(crate) const fn nanos_in(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

/// Bytes written as hex digits, with or without `0x`.
pub(crate) fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).ok()).collect()
}

/// One spelling of an array of one, for canonical text.
pub(crate) fn spelling(scalar: &dyn Array) -> String {
    arrow::util::display::array_value_to_string(scalar, 0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn place(text: &str) -> Place {
        decimal(text).unwrap().place(0, i32::MIN.into(), i32::MAX.into())
    }

    #[test]
    fn numbers_are_placed_exactly() {
        assert_eq!(place("3000"), Place::At(3000));
        assert_eq!(place("3000.0"), Place::At(3000));
        assert_eq!(place("3e3"), Place::At(3000));
        assert_eq!(place("2.5"), Place::After(2));
        assert_eq!(place("-2.5"), Place::After(-3));
        assert_eq!(place("9999999999"), Place::Above);
        assert_eq!(place("-9999999999"), Place::Below);
        assert_eq!(place("1e300"), Place::Above);
        assert_eq!(place("-1e-300"), Place::After(-1));
        assert_eq!(place("2147483647.5"), Place::Above);
        assert_eq!(place(&"9".repeat(60)), Place::Above);
        assert_eq!(decimal("12px"), None);
        assert_eq!(decimal("-"), None);
    }

    #[test]
    fn instants_take_zones_and_dates() {
        assert_eq!(instant("1970-01-02"), Some(86_400_000_000_000));
        assert_eq!(instant("1970-01-01T02:00:00+02:00"), Some(0));
        assert_eq!(instant("1969-12-31T23:59:59.5Z"), Some(-500_000_000));
        assert_eq!(instant("1970-01-01 00:00:01"), Some(1_000_000_000));
        assert_eq!(instant("yesterday"), None);
        assert_eq!(duration("1.5s"), Some(1_500_000_000));
        assert_eq!(time_of_day("00:01"), Some(60_000_000_000));
    }

    #[test]
    fn hex_is_read_in_pairs() {
        assert_eq!(hex("0x00ff"), Some(vec![0, 255]));
        assert_eq!(hex("abc"), None);
        assert_eq!(hex("zz"), None);
    }
}
