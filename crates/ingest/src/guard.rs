//! Decoders of others meet broken bytes; should one panic, the file is at
//! fault and the import says so.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::error::{ErrorKind, IngestError};

/// Runs a decoder; a panic becomes a typed error.
pub(crate) fn guarded<T>(path: &Path, decode: impl FnOnce() -> T) -> Result<T, IngestError> {
    catch_unwind(AssertUnwindSafe(decode)).map_err(|_| {
        IngestError::new(ErrorKind::Format, path, "the file is broken: it cannot be decoded")
    })
}
