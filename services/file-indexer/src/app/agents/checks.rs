//! What an agent may say: paths and names that lead nowhere else, in order, in
//! batches of a bounded size.

use file_scan::Listing;
use service_error::ServiceError;

use super::Part;

/// Entries of one message.
pub const BATCH_ENTRIES_MAX: usize = 5_000;
/// Entries of one directory, in however many parts.
pub const DIRECTORY_ENTRIES_MAX: usize = 4_000_000;
const NAME_BYTES_MAX: usize = 255;
const PATH_BYTES_MAX: usize = 32 << 10;
const TARGET_BYTES_MAX: usize = 4_096;
const ERROR_CHARS_MAX: usize = 1_000;

/// A message that has no place where it came.
pub fn out_of_order(why: &str) -> ServiceError {
    ServiceError::invalid("message", why).reason("AGENT_OUT_OF_ORDER")
}

/// Refuses a batch that is too large or that names what no directory holds.
///
/// # Errors
/// Names the field and what is wrong with it.
pub fn check(parts: &[Part]) -> Result<(), ServiceError> {
    let entries: usize = parts.iter().map(|part| part.listing.entries.len()).sum();
    if entries > BATCH_ENTRIES_MAX || parts.len() > BATCH_ENTRIES_MAX {
        let message = format!(
            "a batch holds at most {BATCH_ENTRIES_MAX} entries and as many directories; {entries} came"
        );
        return Err(
            ServiceError::invalid("batch.listings", message).reason("AGENT_BATCH_TOO_LARGE")
        );
    }
    parts.iter().try_for_each(|part| listing(&part.listing))
}

fn listing(listing: &Listing) -> Result<(), ServiceError> {
    path(&listing.path)?;
    if listing.error.as_ref().is_some_and(|error| error.chars().count() > ERROR_CHARS_MAX) {
        let message = format!("is longer than {ERROR_CHARS_MAX} characters");
        return Err(ServiceError::invalid("batch.listings.error", message));
    }
    let mut before: Option<&[u8]> = None;
    for entry in &listing.entries {
        name("batch.listings.names", &entry.name)?;
        if before.is_some_and(|before| before >= entry.name.as_slice()) {
            return Err(refused(
                "batch.listings.names",
                &entry.name,
                "names must be sorted, each once",
            ));
        }
        before = Some(&entry.name);
        if entry.size < 0 || entry.links < 0 {
            return Err(ServiceError::invalid("batch.listings.sizes", "must not be negative"));
        }
        if entry.target.as_ref().is_some_and(|target| target.len() > TARGET_BYTES_MAX) {
            let message = format!("is longer than {TARGET_BYTES_MAX} bytes");
            return Err(ServiceError::invalid("batch.listings.link_targets", message));
        }
    }
    Ok(())
}

fn path(path: &[u8]) -> Result<(), ServiceError> {
    let field = "batch.listings.path";
    if path.is_empty() {
        return Ok(());
    }
    if path.len() > PATH_BYTES_MAX {
        let message = format!("is longer than {PATH_BYTES_MAX} bytes");
        return Err(ServiceError::invalid(field, message).reason("AGENT_NAME_REFUSED"));
    }
    if path[0] == b'/' {
        return Err(refused(field, path, "must be relative to the root"));
    }
    path.split(|byte| *byte == b'/').try_for_each(|part| name(field, part))
}

fn name(field: &str, name: &[u8]) -> Result<(), ServiceError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(refused(field, name, "a name has 1 to 255 bytes"));
    }
    if name == b"." || name == b".." {
        return Err(refused(field, name, "leads elsewhere"));
    }
    if name.contains(&b'/') || name.contains(&0) {
        return Err(refused(field, name, "no name holds '/' or NUL"));
    }
    Ok(())
}

fn refused(field: &str, name: &[u8], why: &str) -> ServiceError {
    let shown: String = String::from_utf8_lossy(name).chars().take(100).collect();
    ServiceError::invalid(field, format!("{shown:?}: {why}")).reason("AGENT_NAME_REFUSED")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_and_paths_that_lead_elsewhere_are_refused() {
        for bad in
            [&b"/etc"[..], b"a/../b", b"..", b"a//b", b"a/", b"./a", b"a\0b", &[b'x'; 40_000]]
        {
            assert_eq!(path(bad).unwrap_err().reason_text(), "AGENT_NAME_REFUSED", "{bad:?}");
        }
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 256]] {
            assert_eq!(name("f", bad).unwrap_err().field_name(), Some("f"), "{bad:?}");
        }
        for fine in [&b""[..], b"a", b"a/b", b"\xff\xfe/new\nline", "…/ü".as_bytes()] {
            path(fine).unwrap();
        }
    }
}
