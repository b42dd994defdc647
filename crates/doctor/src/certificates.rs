//! Certificates that settings name, and when they end. Only their dates are
//! read: whether they are trusted is asked of TLS itself, by connecting.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, NaiveDateTime, Utc};
use url::Url;

use crate::Finding;

const WARNING_DAYS: i64 = 30;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Certificates that a database's URL names (`sslrootcert`, `sslcert`).
#[must_use]
pub fn of_database(url: &str) -> Vec<Finding> {
    of_database_at(url, Utc::now())
}

pub(crate) fn of_database_at(url: &str, now: DateTime<Utc>) -> Vec<Finding> {
    let Ok(url) = Url::parse(url) else { return Vec::new() };
    url.query_pairs()
        .filter(|(name, _)| matches!(&**name, "sslrootcert" | "sslcert"))
        .map(|(name, path)| file(&format!("certificates.{name}"), Path::new(&*path), now))
        .collect()
}

/// The certificates of a PEM file.
#[must_use]
pub fn file(check: &str, path: &Path, now: DateTime<Utc>) -> Finding {
    let shown = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let remedy = "mount the certificate there, or correct the database's URL";
            return Finding::problem(check, format!("{shown} cannot be read: {error}"), remedy);
        }
    };
    let ends: Vec<Option<DateTime<Utc>>> = blocks(&text).map(|der| end_of(&der)).collect();
    let known: Option<Vec<_>> = ends.into_iter().collect();
    let Some(first) = known.and_then(|ends| ends.into_iter().min()) else {
        let remedy = "write certificates as PEM, one after another";
        return Finding::problem(
            check,
            format!("{shown} holds no certificate that can be read"),
            remedy,
        );
    };
    let days = (first - now).num_days();
    let end = first.format("%Y-%m-%d %H:%M UTC");
    if first <= now {
        return Finding::problem(check, format!("{shown} ended at {end}"), "renew the certificate");
    }
    let message = format!("{shown} ends in {days} days, at {end}");
    if days < WARNING_DAYS {
        return Finding::warning(check, message, "renew the certificate");
    }
    Finding::ok(check, message)
}

fn blocks(text: &str) -> impl Iterator<Item = Vec<u8>> {
    text.split(BEGIN).skip(1).map(|after| {
        let body = after.split(END).next().unwrap_or_default();
        let packed: String = body.split_whitespace().collect();
        STANDARD.decode(packed).unwrap_or_default()
    })
}

/// `notAfter` of a certificate (RFC 5280): Certificate → TBSCertificate →
/// [version] serial, signature, issuer, validity → the second time.
fn end_of(der: &[u8]) -> Option<DateTime<Utc>> {
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    let (tag, _, after) = element(rest)?;
    // The version is left out in certificates of the first one.
    if tag == 0xa0 {
        rest = after;
    }
    for _ in ["serial", "signature", "issuer"] {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest)?;
    let (_, _, second) = element(validity)?;
    let (tag, time, _) = element(second)?;
    let text = std::str::from_utf8(time).ok()?.strip_suffix('Z')?;
    let text = match tag {
        // UTCTime has two digits of the year: up to 49 are of this century.
        0x17 if text.get(..2)?.parse::<u32>().ok()? < 50 => format!("20{text}"),
        0x17 => format!("19{text}"),
        0x18 => text.to_owned(),
        _ => return None,
    };
    Some(NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%S").ok()?.and_utc())
}

/// Tag and content of the first element, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(*first) {
        length @ 0..=0x7f => (length, rest),
        long @ 0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(long - 0x80)?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((*tag, content, after))
}
