//! Types guessed from a bounded sample of a text file.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};

use crate::json::Json;

/// What the cells of a column have in common so far.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Guess {
    /// Nothing but nulls.
    Unknown,
    Bool,
    /// `negative`: some are below zero; `large`: some need an unsigned type.
    Int {
        negative: bool,
        large: bool,
    },
    Float,
    Date,
    /// `zone`: each carries an offset; `nanos`: some have over six digits.
    Stamp {
        zone: bool,
        nanos: bool,
    },
    Text,
    List(Box<Guess>),
    Struct(Vec<(String, Guess)>),
}

impl Guess {
    /// From a cell of a CSV file.
    pub(crate) fn of_text(text: &str) -> Self {
        match text {
            "" => Self::Unknown,
            "true" | "false" | "True" | "False" | "TRUE" | "FALSE" => Self::Bool,
            _ => number(text).or_else(|| moment(text)).unwrap_or(Self::Text),
        }
    }

    /// From a value of a JSON file.
    pub(crate) fn of_json(json: &Json) -> Self {
        match json {
            Json::Null => Self::Unknown,
            Json::Bool(_) => Self::Bool,
            Json::Int(value) => Self::Int { negative: *value < 0, large: false },
            Json::Uint(_) => Self::Int { negative: false, large: true },
            Json::Float(_) => Self::Float,
            Json::Text(text) => moment(text).unwrap_or(Self::Text),
            Json::List(items) => Self::List(Box::new(
                items.iter().map(Self::of_json).fold(Self::Unknown, Self::merge),
            )),
            Json::Object(fields) => Self::Struct(
                fields.iter().map(|(name, value)| (name.clone(), Self::of_json(value))).collect(),
            ),
        }
    }

    /// What both have in common: text, if nothing better.
    pub(crate) fn merge(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Unknown, known) | (known, Self::Unknown) => known,
            (Self::Int { negative: a, large: b }, Self::Int { negative: c, large: d }) => {
                match (a || c, b || d) {
                    // No integer type holds both ends.
                    (true, true) => Self::Text,
                    (negative, large) => Self::Int { negative, large },
                }
            }
            // A float would lose digits of a large integer.
            (Self::Float, Self::Int { large: false, .. })
            | (Self::Int { large: false, .. }, Self::Float) => Self::Float,
            (Self::Date, stamp @ Self::Stamp { zone: false, .. })
            | (stamp @ Self::Stamp { zone: false, .. }, Self::Date) => stamp,
            (Self::Stamp { zone: a, nanos: b }, Self::Stamp { zone: c, nanos: d }) if a == c => {
                Self::Stamp { zone: a, nanos: b || d }
            }
            (Self::List(a), Self::List(b)) => Self::List(Box::new(a.merge(*b))),
            (Self::Struct(a), Self::Struct(b)) => Self::Struct(merge_fields(a, b)),
            _ => Self::Text,
        }
    }

    /// The Arrow type; a column of nulls is text.
    pub(crate) fn data_type(&self) -> DataType {
        match self {
            Self::Unknown | Self::Text => DataType::Utf8,
            Self::Bool => DataType::Boolean,
            Self::Int { large: true, .. } => DataType::UInt64,
            Self::Int { .. } => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Stamp { zone, nanos } => {
                let unit = if *nanos { TimeUnit::Nanosecond } else { TimeUnit::Microsecond };
                DataType::Timestamp(unit, zone.then(|| "UTC".into()))
            }
            Self::List(item) => {
                DataType::List(Arc::new(Field::new("item", item.data_type(), true)))
            }
            // Parquet has no struct without fields.
            Self::Struct(fields) if fields.is_empty() => DataType::Utf8,
            Self::Struct(fields) => DataType::Struct(Fields::from_iter(
                fields.iter().map(|(name, guess)| guess.field(name)),
            )),
        }
    }

    /// A nullable column of this type.
    pub(crate) fn field(&self, name: &str) -> FieldRef {
        Arc::new(Field::new(name, self.data_type(), true))
    }
}

/// Fields in the order in which they first stood.
pub(crate) fn merge_fields(
    mut known: Vec<(String, Guess)>,
    more: Vec<(String, Guess)>,
) -> Vec<(String, Guess)> {
    for (at, (name, guess)) in more.into_iter().enumerate() {
        // Rows of one file mostly agree on the order.
        let same = known.get(at).is_some_and(|(other, _)| *other == name);
        let found =
            if same { Some(at) } else { known.iter().position(|(other, _)| *other == name) };
        match found {
            Some(at) => {
                let before = std::mem::replace(&mut known[at].1, Guess::Unknown);
                known[at].1 = before.merge(guess);
            }
            None => known.push((name, guess)),
        }
    }
    known
}

fn number(text: &str) -> Option<Guess> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || digits.len() > 400 {
        return None;
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        // A code such as 007 would lose its zeros as a number.
        if digits.len() > 1 && digits.starts_with('0') {
            return None;
        }
        if text.parse::<i64>().is_ok() {
            return Some(Guess::Int { negative: digits.len() < text.len(), large: false });
        }
        return text.parse::<u64>().ok().map(|_| Guess::Int { negative: false, large: true });
    }
    let plain = digits.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.');
    let padded =
        digits.len() > 1 && digits.starts_with('0') && !digits[1..].starts_with(['.', 'e', 'E']);
    let named = matches!(digits, "nan" | "NaN" | "inf" | "Infinity");
    ((plain && !padded || named) && text.parse::<f64>().is_ok()).then_some(Guess::Float)
}

fn moment(text: &str) -> Option<Guess> {
    let bytes = text.as_bytes();
    let looks = bytes.len() >= 10
        && bytes.len() <= 40
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && bytes[0].is_ascii_digit();
    if !looks || !text.is_ascii() {
        return None;
    }
    if bytes.len() == 10 {
        return crate::cells::is_date(text).then_some(Guess::Date);
    }
    if !crate::cells::is_timestamp(text) {
        return None;
    }
    let rest = &text[11..];
    let zone = rest.ends_with(['Z', 'z']) || rest.contains(['+', '-']);
    let fraction = rest
        .split_once('.')
        .map_or(0, |(_, tail)| tail.bytes().take_while(u8::is_ascii_digit).count());
    Some(Guess::Stamp { zone, nanos: fraction > 6 })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn of(cells: &[&str]) -> DataType {
        cells.iter().map(|cell| Guess::of_text(cell)).fold(Guess::Unknown, Guess::merge).data_type()
    }

    #[test]
    fn a_column_gets_the_narrowest_type_that_loses_nothing() {
        assert_eq!(of(&["1", "", "-2"]), DataType::Int64);
        assert_eq!(of(&["1", "2.5", "1e3", "nan"]), DataType::Float64);
        assert_eq!(of(&["18446744073709551615", "3"]), DataType::UInt64);
        assert_eq!(of(&["18446744073709551615", "-3"]), DataType::Utf8);
        assert_eq!(of(&["18446744073709551615", "0.5"]), DataType::Utf8);
        assert_eq!(of(&["99999999999999999999999"]), DataType::Utf8);
        assert_eq!(of(&["true", "FALSE"]), DataType::Boolean);
        assert_eq!(of(&["", ""]), DataType::Utf8);
    }

    #[test]
    fn codes_and_names_stay_text() {
        assert_eq!(of(&["007", "12"]), DataType::Utf8);
        assert_eq!(of(&["00.5"]), DataType::Utf8);
        assert_eq!(of(&["1_000"]), DataType::Utf8);
        assert_eq!(of(&["infinity war"]), DataType::Utf8);
        assert_eq!(of(&["true", "1"]), DataType::Utf8);
    }

    #[test]
    fn moments_are_told_apart() {
        assert_eq!(of(&["2024-02-29"]), DataType::Date32);
        assert_eq!(of(&["2023-02-29"]), DataType::Utf8);
        assert_eq!(
            of(&["2024-01-01 10:00:00", "2024-01-02"]),
            DataType::Timestamp(TimeUnit::Microsecond, None)
        );
        assert_eq!(
            of(&["2024-01-01T10:00:00Z"]),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        );
        assert_eq!(
            of(&["2024-01-01 10:00:00.123456789"]),
            DataType::Timestamp(TimeUnit::Nanosecond, None)
        );
        assert_eq!(of(&["2024-01-01T10:00:00Z", "2024-01-01 10:00:00"]), DataType::Utf8);
    }

    #[test]
    fn json_shapes_merge_by_name() {
        let rows = [r#"{"a":[{"x":1}],"b":null}"#, r#"{"c":true,"a":[{"y":"t","x":2.5}],"b":[]}"#];
        let guess = rows
            .iter()
            .map(|row| Guess::of_json(&serde_json::from_str(row).unwrap()))
            .fold(Guess::Unknown, Guess::merge);
        let DataType::Struct(fields) = guess.data_type() else { panic!("struct") };
        let names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(fields[1].data_type(), &Guess::List(Box::new(Guess::Unknown)).data_type());
    }
}
