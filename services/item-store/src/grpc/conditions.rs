//! A file's bytes as HTTP asks for them: a range, or only what its reader does not have. The
//! gateway passes conditions and answers on as metadata.

use std::ops::Range;

use tonic::metadata::{MetadataMap, MetadataValue};

const PREFIX: &str = "quarry-http-";

/// What a reader gets of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Share {
    Whole,
    Part(Range<u64>),
    /// The reader has the file.
    Nothing,
    /// The range begins behind the file's end.
    Outside,
}

/// A file as HTTP tells it.
pub(super) struct Told<'a> {
    /// Without quotes; tells its bytes from all others.
    pub tag: &'a str,
    pub byte_count: u64,
    pub content_type: &'a str,
}

impl Told<'_> {
    /// What the conditions of a request leave of the file.
    pub fn share(&self, request: &MetadataMap) -> Share {
        let said =
            |name: &str| request.get(format!("{PREFIX}{name}")).and_then(|v| v.to_str().ok());
        let tag = format!("\"{}\"", self.tag);
        let has = |known: &str| {
            known.split(',').map(|one| one.trim().trim_start_matches("W/")).any(|one| one == tag)
                || known.trim() == "*"
        };
        if said("if-none-match").is_some_and(has) {
            return Share::Nothing;
        }
        // A part of another file would not fit what the reader has.
        if said("if-range").is_some_and(|known| known.trim() != tag) {
            return Share::Whole;
        }
        said("range").map_or(Share::Whole, |range| ranged(range, self.byte_count))
    }

    /// Says it in the answer.
    pub fn say(&self, share: &Share, answer: &mut MetadataMap) {
        let mut say = |name: &'static str, value: String| {
            if let Ok(value) = MetadataValue::try_from(value) {
                answer.insert(name, value);
            }
        };
        say("quarry-http-etag", format!("\"{}\"", self.tag));
        say("quarry-http-accept-ranges", "bytes".to_owned());
        // What may be read changes; the bytes of a hash do not.
        say("quarry-http-cache-control", "private, no-cache".to_owned());
        let total = self.byte_count;
        match share {
            Share::Whole => say("quarry-http-content-length", total.to_string()),
            Share::Part(range) if range.is_empty() => {
                say("quarry-http-content-length", "0".to_owned());
            }
            Share::Part(range) => {
                say("quarry-http-status", "206".to_owned());
                say("quarry-http-content-length", (range.end - range.start).to_string());
                let last = range.end.saturating_sub(1);
                say("quarry-http-content-range", format!("bytes {}-{last}/{total}", range.start));
            }
            Share::Nothing => say("quarry-http-status", "304".to_owned()),
            Share::Outside => {
                say("quarry-http-status", "416".to_owned());
                say("quarry-http-content-range", format!("bytes */{total}"));
            }
        }
        say("quarry-http-content-type", self.content_type.to_owned());
    }
}

/// The one range of a header; several, or what is none, ask for the whole.
fn ranged(header: &str, size: u64) -> Share {
    let Some((first, last)) = header
        .trim()
        .strip_prefix("bytes=")
        .filter(|spec| !spec.contains(','))
        .and_then(|spec| spec.trim().split_once('-'))
    else {
        return Share::Whole;
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (first, last) = (first.trim(), last.trim());
    if !digits(first) || !digits(last) {
        return Share::Whole;
    }
    // Beyond 2^64 is beyond every end.
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    let range = match (first.is_empty(), last.is_empty()) {
        (true, true) => return Share::Whole,
        (true, false) => size.saturating_sub(number(last))..size,
        (false, true) => number(first)..size,
        (false, false) if number(last) < number(first) => return Share::Whole,
        (false, false) => number(first)..number(last).saturating_add(1).min(size),
    };
    if range.start >= size || range.is_empty() { Share::Outside } else { Share::Part(range) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const FILE: Told<'static> = Told { tag: "abc", byte_count: 10, content_type: "image/png" };

    fn asked(of: &[(&'static str, &str)]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for (name, value) in of {
            metadata.insert(*name, value.parse().unwrap());
        }
        metadata
    }

    #[test]
    fn one_range_is_understood() {
        for (header, share) in [
            ("bytes=0-3", Share::Part(0..4)),
            ("bytes=5-", Share::Part(5..10)),
            ("bytes=-4", Share::Part(6..10)),
            ("bytes=-99", Share::Part(0..10)),
            ("bytes=8-100", Share::Part(8..10)),
            ("bytes=9-99999999999999999999", Share::Part(9..10)),
            ("bytes=3-1", Share::Whole),
            ("bytes=0-1,3-4", Share::Whole),
            ("items=0-1", Share::Whole),
            ("bytes=x-2", Share::Whole),
            ("bytes=-", Share::Whole),
            ("bytes=10-", Share::Outside),
            ("bytes=99-100", Share::Outside),
            ("bytes=-0", Share::Outside),
        ] {
            assert_eq!(FILE.share(&asked(&[("quarry-http-range", header)])), share, "{header}");
        }
        assert_eq!(ranged("bytes=0-", 0), Share::Outside);
    }

    #[test]
    fn what_the_reader_has_is_not_sent_again() {
        let range = ("quarry-http-range", "bytes=0-3");
        for (name, value, share) in [
            ("quarry-http-if-none-match", "\"abc\"", Share::Nothing),
            ("quarry-http-if-none-match", "\"x\", W/\"abc\"", Share::Nothing),
            ("quarry-http-if-none-match", "*", Share::Nothing),
            ("quarry-http-if-none-match", "\"x\"", Share::Part(0..4)),
            ("quarry-http-if-range", "\"abc\"", Share::Part(0..4)),
            ("quarry-http-if-range", "\"x\"", Share::Whole),
            ("quarry-http-if-range", "W/\"abc\"", Share::Whole),
            ("quarry-http-if-range", "Thu, 26 Nov 2026 18:00:00 GMT", Share::Whole),
        ] {
            assert_eq!(FILE.share(&asked(&[range, (name, value)])), share, "{name}: {value}");
        }
    }
}
