//! Times as protobuf's JSON writes them: RFC 3339 in UTC.

/// Seconds since 1970; a fraction is cut.
pub fn seconds(text: &str) -> Option<u64> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let digits = fraction.len() <= 9 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let known = (1970..=9999).contains(&year) && (1..=12).contains(&month) && digits;
    let usual = (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    (known && usual && !fraction.is_empty())
        .then(|| days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Three numbers of so many digits.
fn numbers(text: &str, between: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(between);
    let mut found = [0; 3];
    for (number, digits) in found.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits)?;
        *number = part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(found)
}

/// Days since 1970-01-01: years begin in March, so that the leap day is the last.
const fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month < 3 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let leaps = year / 4 - year / 100 + year / 400;
    year * 365 + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_are_seconds() {
        let known = [
            ("1970-01-01T00:00:00Z", 0),
            ("2021-01-12T11:53:27Z", 1_610_452_407),
            ("2022-12-31T23:59:59.999Z", 1_672_531_199),
            ("2024-02-29T00:00:00Z", 1_709_164_800),
        ];
        for (text, expected) in known {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in ["", "2021-01-12", "2021-01-12T11:53:27", "2021-13-12T11:53:27Z", "Z", "T:Z"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
