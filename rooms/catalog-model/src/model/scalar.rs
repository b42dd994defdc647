//! One value of a column, as statistics hold it, and its order.

use std::cmp::Ordering;

/// A bound of a column's values. Only values of one column are compared, so
/// the kinds meet only themselves.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// Seconds since 1970 UTC, and the rest in nanoseconds.
    Timestamp(i64, i32),
    /// Digits with an optional sign and point.
    Decimal(String),
    /// ISO 8601.
    Date(String),
    /// ISO 8601.
    Time(String),
    /// ISO 8601; they have no order as text.
    Duration(String),
}

impl Scalar {
    /// The order of two values of one column; `None` where there is none.
    #[must_use]
    pub fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::UInt(a), Self::UInt(b)) => Some(a.cmp(b)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Timestamp(s, n), Self::Timestamp(t, m)) => Some((s, n).cmp(&(t, m))),
            (Self::Decimal(a), Self::Decimal(b)) => order_decimals(a, b),
            (Self::Date(a), Self::Date(b)) => order_dates(a, b),
            // Of a fixed width up to the point, and a prefix sorts first.
            (Self::Time(a), Self::Time(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) if a == b => Some(Ordering::Equal),
            _ => None,
        }
    }

    /// How many bytes the value holds.
    #[must_use]
    pub fn byte_length(&self) -> usize {
        match self {
            Self::Text(text)
            | Self::Decimal(text)
            | Self::Date(text)
            | Self::Time(text)
            | Self::Duration(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            _ => size_of::<Self>(),
        }
    }
}

/// Years of four digits sort as text; others (before 0 or after 9999) do not.
fn order_dates(a: &str, b: &str) -> Option<Ordering> {
    let plain = |text: &str| {
        text.len() == "2024-01-31".len() && text.starts_with(|c: char| c.is_ascii_digit())
    };
    (a == b || plain(a) && plain(b)).then(|| a.cmp(b))
}

fn order_decimals(a: &str, b: &str) -> Option<Ordering> {
    let (a, b) = (Digits::of(a)?, Digits::of(b)?);
    Some(match (a.negative, b.negative) {
        (false, true) => Ordering::Greater,
        (true, false) => Ordering::Less,
        (false, false) => a.magnitude(&b),
        (true, true) => b.magnitude(&a),
    })
}

struct Digits<'a> {
    negative: bool,
    /// Without leading zeros.
    whole: &'a str,
    /// Without trailing zeros.
    fraction: &'a str,
}

impl<'a> Digits<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
        let digits = whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
        if rest.is_empty() || !digits {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        // There is one zero.
        Some(Self {
            negative: negative && !(whole.is_empty() && fraction.is_empty()),
            whole,
            fraction,
        })
    }

    fn magnitude(&self, other: &Self) -> Ordering {
        let whole =
            self.whole.len().cmp(&other.whole.len()).then_with(|| self.whole.cmp(other.whole));
        whole.then_with(|| self.fraction.cmp(other.fraction))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn decimal(text: &str) -> Scalar {
        Scalar::Decimal(text.to_owned())
    }

    #[test]
    fn decimals_are_ordered_by_value_not_by_text() {
        let ascending = [
            "-10.5",
            "-9",
            "-0.25",
            "0",
            "0.125",
            "0.5",
            "9",
            "10",
            "10.01",
            "123456789012345678901234567890",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(decimal(pair[0]).order(&decimal(pair[1])), Some(Ordering::Less), "{pair:?}");
            assert_eq!(
                decimal(pair[1]).order(&decimal(pair[0])),
                Some(Ordering::Greater),
                "{pair:?}"
            );
        }
        assert_eq!(decimal("-0").order(&decimal("0.000")), Some(Ordering::Equal));
        assert_eq!(decimal("1e5").order(&decimal("1")), None);
    }

    #[test]
    fn what_has_no_order_says_so() {
        assert_eq!(Scalar::Double(f64::NAN).order(&Scalar::Double(1.0)), None);
        assert_eq!(Scalar::Int(1).order(&Scalar::Text("1".into())), None);
        assert_eq!(
            Scalar::Date("-0044-03-15".into()).order(&Scalar::Date("2024-01-01".into())),
            None
        );
        assert_eq!(Scalar::Duration("P1D".into()).order(&Scalar::Duration("PT25H".into())), None);
    }

    #[test]
    fn times_are_ordered_with_and_without_a_fraction() {
        let (whole, half) = (Scalar::Time("12:00:00".into()), Scalar::Time("12:00:00.5".into()));
        assert_eq!(whole.order(&half), Some(Ordering::Less));
        assert_eq!(Scalar::Timestamp(1, 5).order(&Scalar::Timestamp(1, 6)), Some(Ordering::Less));
    }
}
