//! What a file really is: decoded, measured and hashed.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::{ImageFormat, ImageReader};

use super::{Found, captions};
use crate::Limits;
use crate::error::{ErrorKind, IngestError, bytes_text};
use crate::guard::guarded;

/// Files up to this size keep their bytes, so that they are read once.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// An image that decodes.
#[derive(Debug)]
pub struct Image {
    /// Where it was found.
    pub found: Found,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// By its content, whatever its name.
    pub mime_type: &'static str,
    /// Of the file, in bytes.
    pub size: u64,
    /// BLAKE3-256 of the file.
    pub content_hash: [u8; 32],
    /// From the `.txt` file beside it.
    pub caption: Option<String>,
    /// The file, if it has at most 1 MiB; larger ones are read again.
    pub bytes: Option<Vec<u8>>,
    /// What is wrong with its caption file.
    pub warning: Option<IngestError>,
}

/// Reads and decodes one image; takes time and at most
/// `limits.image_memory_bytes_max` beside the file itself.
///
/// # Errors
/// The file cannot be read, is over a limit, or does not decode to the end.
pub fn probe(found: Found, limits: &Limits) -> Result<Image, IngestError> {
    let bytes = read(&found.path, limits.image_bytes_max)?;
    let (format, width, height) = guarded(&found.path, || decode(&found.path, &bytes, limits))??;
    let (caption, warning) = match captions::beside(&found.path) {
        Ok(caption) => (caption, None),
        Err(err) => (None, Some(err)),
    };
    Ok(Image {
        width,
        height,
        mime_type: format.to_mime_type(),
        size: bytes.len() as u64,
        content_hash: *blake3::hash(&bytes).as_bytes(),
        caption,
        bytes: (bytes.len() <= KEPT_BYTES_MAX).then_some(bytes),
        warning,
        found,
    })
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, IngestError> {
    let io = |err| IngestError::io(path, err);
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.is_empty() {
        return Err(IngestError::new(ErrorKind::Format, path, "the file is empty"));
    }
    if bytes.len() as u64 > limit {
        let message = format!("the file is over the limit of {} for one image", bytes_text(limit));
        return Err(IngestError::new(ErrorKind::Limit, path, message));
    }
    Ok(bytes)
}

fn decode(
    path: &Path,
    bytes: &[u8],
    limits: &Limits,
) -> Result<(ImageFormat, u32, u32), IngestError> {
    let broken = |err| IngestError::broken(path, "the image does not decode", err);
    let format = image::guess_format(bytes).map_err(broken)?;
    let (width, height) =
        ImageReader::with_format(Cursor::new(bytes), format).into_dimensions().map_err(broken)?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels > limits.image_pixels_max {
        let message = format!(
            "the image has {width} × {height} pixels, the limit is {}",
            limits.image_pixels_max
        );
        return Err(IngestError::new(ErrorKind::Limit, path, message));
    }
    if pixels == 0 {
        return Err(IngestError::new(ErrorKind::Format, path, "the image has no pixels"));
    }
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        return Err(IngestError::new(
            ErrorKind::Format,
            path,
            "the JPEG ends before its last marker; it is cut short",
        ));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut allowed = image::Limits::no_limits();
    allowed.max_alloc = Some(limits.image_memory_bytes_max);
    reader.limits(allowed);
    let decoded = reader.decode().map_err(broken)?;
    Ok((format, decoded.width(), decoded.height()))
}

/// Whether the markers of a JPEG lead to its end; decoders fill what is
/// missing with grey. What follows the end does not matter.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(begin) =
        bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0xff))
    {
        at += begin + 1;
        match bytes.get(at) {
            Some(0xd9) => return true,
            // Stuffing, restart markers and markers without content.
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 1,
            Some(0xff) => {}
            Some(_) => {
                let Some(length) = bytes.get(at + 1..at + 3) else {
                    return false;
                };
                at += 1 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
            }
            None => return false,
        }
    }
    false
}
