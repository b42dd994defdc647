//! The caption of an image: the `.txt` file beside it.

use std::fs::File;
use std::io::{ErrorKind as IoKind, Read};
use std::path::Path;

use crate::error::{ErrorKind, IngestError};

const CAPTION_BYTES_MAX: u64 = 1 << 20;

/// The trimmed text of `image.txt` for `image.png`; `None` without such a
/// file.
pub(super) fn beside(image: &Path) -> Result<Option<String>, IngestError> {
    let path = image.with_extension("txt");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(err) if err.kind() == IoKind::NotFound => return Ok(None),
        Err(err) => return Err(IngestError::io(&path, err)),
    };
    let mut bytes = Vec::new();
    file.take(CAPTION_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|err| IngestError::io(&path, err))?;
    if bytes.len() as u64 > CAPTION_BYTES_MAX {
        return Err(IngestError::new(
            ErrorKind::Limit,
            &path,
            "the caption is over the limit of 1 MiB",
        ));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| IngestError::new(ErrorKind::Format, &path, "the caption is not UTF-8"))?;
    let text = text.trim_start_matches('\u{feff}').trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}
