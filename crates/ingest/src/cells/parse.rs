//! Text into values, exactly.

use arrow::array::types::Decimal128Type;
use arrow::compute::kernels::cast_utils::{
    parse_decimal, string_to_datetime, string_to_time_nanoseconds,
};
use arrow::datatypes::{DataType, TimeUnit};
use chrono::{Datelike, NaiveDate, Timelike, Utc};

/// The text as a message shows it: quoted and cut.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn is_not(text: &str, what: &str) -> String {
    format!("{} is not {what}", quoted(text))
}

/// What a type is called in a message.
pub(super) fn type_text(kind: &DataType) -> &'static str {
    match kind {
        DataType::Boolean => "true or false",
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => "a list",
        DataType::Struct(_) => "an object",
        DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => "a number",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Date32 | DataType::Date64 => "a date",
        DataType::Timestamp(..) => "a timestamp",
        kind if kind.is_integer() => "an integer",
        _ => "a value of its type",
    }
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "True" | "TRUE" | "1" => Ok(true),
        "false" | "False" | "FALSE" | "0" => Ok(false),
        _ => Err(is_not(text, "true or false")),
    }
}

pub(super) fn int(text: &str, min: i64, max: i64) -> Result<i64, String> {
    let value: i64 =
        text.trim_ascii().parse().map_err(|_| is_not(text, "an integer of 64 bits"))?;
    if value < min || value > max {
        return Err(format!("{value} is outside {min}…{max}"));
    }
    Ok(value)
}

pub(super) fn uint(text: &str, max: u64) -> Result<u64, String> {
    let value: u64 =
        text.trim_ascii().parse().map_err(|_| is_not(text, "an unsigned integer of 64 bits"))?;
    if value > max {
        return Err(format!("{value} is outside 0…{max}"));
    }
    Ok(value)
}

pub(super) fn float(text: &str) -> Result<f64, String> {
    text.trim_ascii().parse().map_err(|_| is_not(text, "a number"))
}

pub(super) fn decimal(text: &str, precision: u8, scale: i8) -> Result<i128, String> {
    let text = text.trim_ascii();
    let digits_after = text.split_once('.').map_or(0, |(_, rest)| rest.trim_end_matches('0').len());
    if digits_after > usize::from(scale.unsigned_abs()) && !text.contains(['e', 'E']) {
        return Err(format!("{} has more than {scale} digits after the point", quoted(text)));
    }
    parse_decimal::<Decimal128Type>(text, precision, scale).map_err(|_| {
        is_not(text, &format!("a decimal of {precision} digits, {scale} after the point"))
    })
}

pub(super) fn bytes(text: &str) -> Result<Vec<u8>, String> {
    hex::decode(text).map_err(|_| is_not(text, "bytes in hex"))
}

/// Hex digits; hyphens between them (as in a UUID) are skipped.
pub(super) fn fixed(text: &str, size: i32) -> Result<Vec<u8>, String> {
    let digits: String = text.chars().filter(|letter| *letter != '-').collect();
    hex::decode(digits)
        .ok()
        .filter(|bytes| i32::try_from(bytes.len()) == Ok(size))
        .ok_or_else(|| is_not(text, &format!("{size} bytes in hex")))
}

pub(super) fn date(text: &str) -> Result<i32, String> {
    let date = NaiveDate::parse_from_str(text.trim_ascii(), "%Y-%m-%d")
        .map_err(|_| is_not(text, "a date (YYYY-MM-DD)"))?;
    Ok(date.num_days_from_ce() - 719_163)
}

pub(super) fn time(text: &str) -> Result<i64, String> {
    string_to_time_nanoseconds(text.trim_ascii())
        .map_err(|_| is_not(text, "a time of day (HH:MM:SS)"))
}

/// Since the epoch in `unit`; refused when the text is finer than the unit.
pub(super) fn timestamp(text: &str, unit: TimeUnit) -> Result<i64, String> {
    let moment = string_to_datetime(&Utc, text.trim_ascii())
        .map_err(|_| is_not(text, "a timestamp (YYYY-MM-DD HH:MM:SS[.ffffff][±HH:MM])"))?;
    let nanos = moment.nanosecond();
    let (value, rest) = match unit {
        TimeUnit::Second => (Some(moment.timestamp()), nanos),
        TimeUnit::Millisecond => (Some(moment.timestamp_millis()), nanos % 1_000_000),
        TimeUnit::Microsecond => (Some(moment.timestamp_micros()), nanos % 1000),
        TimeUnit::Nanosecond => (moment.timestamp_nanos_opt(), 0),
    };
    if rest != 0 {
        return Err(format!("{} is finer than its type keeps ({unit:?})", quoted(text)));
    }
    value.ok_or_else(|| format!("{} is outside what nanoseconds can express", quoted(text)))
}

/// Whether the text is a date by itself.
pub(crate) fn is_date(text: &str) -> bool {
    date(text).is_ok()
}

/// Whether the text is a timestamp.
pub(crate) fn is_timestamp(text: &str) -> bool {
    timestamp(text, TimeUnit::Microsecond).is_ok() || timestamp(text, TimeUnit::Nanosecond).is_ok()
}
