//! Facts of images: size from the header, EXIF, and a perceptual hash of the
//! pixels; what clips say is in `clip`. What comes from outside is parsed within limits.

use std::fs::File;
use std::io::{Cursor, Read};

use exif::{In, Tag, Value};
use image::imageops::FilterType;
use image::{ImageFormat, ImageReader, Limits};

/// What parsing may take.
#[derive(Debug, Clone, Copy)]
pub struct MediaLimits {
    /// Larger files are not decoded.
    pub file_bytes_max: u64,
    /// Memory for pixels.
    pub pixels_bytes_max: u64,
}

impl Default for MediaLimits {
    fn default() -> Self {
        Self { file_bytes_max: 64 << 20, pixels_bytes_max: 256 << 20 }
    }
}

/// What an image or a clip says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MediaFacts {
    /// As stored, before its orientation is applied.
    pub width: i64,
    /// As stored.
    pub height: i64,
    /// EXIF's 1 to 8; 0 if it says none.
    pub orientation: i64,
    /// `2024-05-01 12:00:00`, the camera's own time.
    pub taken: Option<String>,
    /// Maker and model.
    pub camera: Option<String>,
    /// How long it plays; 0: no clip, or its headers do not tell.
    pub duration_ms: i64,
    /// 64 bits that are close for images that look alike; only where the
    /// pixels were decoded.
    pub likeness: Option<i64>,
    /// It begins like an image and is none to its end.
    pub broken: bool,
}

impl MediaFacts {
    /// Width and height as shown.
    #[must_use]
    pub fn shown_size(&self) -> (i64, i64) {
        if (5..=8).contains(&self.orientation) {
            (self.height, self.width)
        } else {
            (self.width, self.height)
        }
    }
}

/// The facts from a file's head; nothing if it tells no size.
#[must_use]
pub fn media_facts(head: &[u8]) -> Option<MediaFacts> {
    let reader = ImageReader::new(Cursor::new(head)).with_guessed_format().ok()?;
    let (width, height) = reader.into_dimensions().ok()?;
    let mut facts =
        MediaFacts { width: width.into(), height: height.into(), ..MediaFacts::default() };
    read_exif(head, &mut facts);
    Some(facts)
}

/// The same of a file of so many bytes: one whose header is none is broken. Where the rest of a
/// larger file might tell more, nothing is said.
pub fn head_facts(head: &[u8], size: i64) -> Option<MediaFacts> {
    let is_whole = usize::try_from(size).is_ok_and(|size| size <= head.len());
    let is_broken = || match image::guess_format(head) {
        Ok(format) if format.reading_enabled() && is_whole => true,
        Ok(ImageFormat::Png) => head.get(12..16) != Some(b"IHDR"),
        Ok(ImageFormat::Jpeg) => !has_jpeg_segments(head),
        _ => head.get(4..8) == Some(b"ftyp") && !has_boxes(head, size),
    };
    media_facts(head)
        .or_else(|| is_broken().then(|| MediaFacts { broken: true, ..MediaFacts::default() }))
}

/// Segment follows segment, as far as is seen or to the pixels.
fn has_jpeg_segments(head: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[mark, kind, high, low]) = head.get(at..at + 4) {
        let length = usize::from(u16::from_be_bytes([high, low]));
        match kind {
            _ if mark != 0xff => return false,
            // Filled up, or without a length.
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            0xda => return true,
            0x00 | 0xd9 => return false,
            _ if length < 2 => return false,
            _ => at += 2 + length,
        }
    }
    true
}

/// Box follows box, as far as is seen and none beyond the file's end, and one is the `meta` of
/// images.
fn has_boxes(head: &[u8], size: i64) -> bool {
    let (mut at, size, mut has_meta) = (0_u64, size.unsigned_abs(), false);
    while at < size {
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        let Some(bytes) = from.checked_add(16).and_then(|to| head.get(from..to)) else { break };
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        has_meta |= matches!(&bytes[4..8], b"meta" | b"moov");
        let length = match number(&bytes[..4]) {
            0 => size - at,
            1 => number(&bytes[8..]),
            length => length,
        };
        match at.checked_add(length) {
            Some(next) if length >= 8 && next <= size => at = next,
            _ => return false,
        }
    }
    has_meta || at < size
}

fn read_exif(bytes: &[u8], facts: &mut MediaFacts) {
    let Ok(exif) = exif::Reader::new().read_from_container(&mut Cursor::new(bytes)) else { return };
    let text = |tag| {
        let field = exif.get_field(tag, In::PRIMARY)?;
        let Value::Ascii(parts) = &field.value else { return None };
        let text =
            String::from_utf8_lossy(parts.first()?).trim().chars().take(100).collect::<String>();
        (!text.is_empty()).then_some(text.replace('\0', " "))
    };
    let orientation = exif.get_field(Tag::Orientation, In::PRIMARY);
    facts.orientation = orientation
        .and_then(|field| field.value.get_uint(0))
        .filter(|value| (1..=8).contains(value))
        .map_or(0, i64::from);
    facts.taken = text(Tag::DateTimeOriginal).or_else(|| text(Tag::DateTime));
    facts.camera = match (text(Tag::Make), text(Tag::Model)) {
        (Some(make), Some(model)) if !model.starts_with(&make) => Some(format!("{make} {model}")),
        (make, model) => model.or(make),
    };
}

/// The facts with the likeness: decodes the whole image.
///
/// # Errors
/// The file can't be read.
pub fn similarity(file: &mut File, limits: &MediaLimits) -> std::io::Result<Option<MediaFacts>> {
    let mut bytes = Vec::new();
    file.take(limits.file_bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limits.file_bytes_max {
        let head = &bytes[..crate::contents::HEAD_BYTES.min(bytes.len())];
        return Ok(head_facts(head, i64::MAX));
    }
    Ok(similarity_of(&bytes, limits))
}

/// The same of an image whose bytes are there, all of them.
#[must_use]
pub fn similarity_of(bytes: &[u8], limits: &MediaLimits) -> Option<MediaFacts> {
    let Some(mut facts) = media_facts(bytes) else {
        return head_facts(bytes, i64::try_from(bytes.len()).unwrap_or(i64::MAX));
    };
    let mut allowed = Limits::default();
    allowed.max_alloc = Some(limits.pixels_bytes_max);
    let decoded = std::panic::catch_unwind(|| {
        let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?;
        reader.limits(allowed);
        reader.decode().ok()
    });
    match decoded {
        Ok(Some(image)) => facts.likeness = Some(likeness(&image)),
        _ => facts.broken = true,
    }
    Some(facts)
}

/// Whether each of 8 × 8 fields is brighter than its right neighbour.
fn likeness(image: &image::DynamicImage) -> i64 {
    let small = image.resize_exact(9, 8, FilterType::Triangle).to_luma8();
    let mut bits = 0_u64;
    for y in 0..8 {
        for x in 0..8 {
            let brighter = small.get_pixel(x, y).0[0] > small.get_pixel(x + 1, y).0[0];
            bits = bits << 1 | u64::from(brighter);
        }
    }
    bits.cast_signed()
}
