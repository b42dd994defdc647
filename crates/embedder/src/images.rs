//! Honest little embeddings of images: copies and palettes.

use std::io::Cursor;

use image::{DynamicImage, ImageReader, Limits};
use image_hasher::{HashAlg, HasherConfig};
use service_error::ServiceError;

use crate::Embedding;

/// Bits of a perceptual hash.
pub const HASH_BITS: usize = 64;
/// Colours of a histogram: four shades of each of three.
pub const COLORS: usize = 64;
const SIDE_MAX: u32 = 20_000;
const DECODED_BYTES_MAX: u64 = 512 << 20;
/// Pixels a side that a histogram looks at.
const SAMPLED: u32 = 128;

/// What an image file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// E.g. `jpeg`.
    pub format: String,
}

/// Reads the head of an image file.
///
/// # Errors
/// `InvalidArgument` with reason `IMAGE_INVALID` for bytes that are none.
pub fn image_facts(bytes: &[u8]) -> Result<ImageFacts, ServiceError> {
    let reader = reader(bytes)?;
    let format = reader.format().ok_or_else(|| wrong(&"its format is not known"))?;
    let (width, height) = reader.into_dimensions().map_err(|error| wrong(&error))?;
    if width > SIDE_MAX || height > SIDE_MAX {
        return Err(wrong(&format!("{width} × {height} pixels; a side has at most {SIDE_MAX}")));
    }
    let kind = format.to_mime_type();
    let format = kind.strip_prefix("image/").unwrap_or(kind).to_owned();
    Ok(ImageFacts { width, height, format })
}

fn wrong(error: &dyn std::fmt::Display) -> ServiceError {
    let message = format!("these bytes are no image that can be read: {error}");
    ServiceError::invalid("image", message).reason("IMAGE_INVALID")
}

fn reader(bytes: &[u8]) -> Result<ImageReader<Cursor<&[u8]>>, ServiceError> {
    let reader = ImageReader::new(Cursor::new(bytes));
    let mut reader = reader.with_guessed_format().map_err(|error| wrong(&error))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODED_BYTES_MAX);
    reader.limits(limits);
    Ok(reader)
}

fn decode(bytes: &[u8]) -> Result<DynamicImage, ServiceError> {
    reader(bytes)?.decode().map_err(|error| wrong(&error))
}

/// The signs of the lowest frequencies: the same for a picture and its scaled copy.
pub fn perceptual_hash(bytes: &[u8]) -> Result<Embedding, ServiceError> {
    let image = decode(bytes)?;
    let hasher =
        HasherConfig::new().hash_size(8, 8).hash_alg(HashAlg::Mean).preproc_dct().to_hasher();
    let mut bits = hasher.hash_image(&image.to_rgb8()).as_bytes().to_vec();
    bits.resize(HASH_BITS / 8, 0);
    Ok(Embedding::Bits(bits))
}

/// The share of each of 64 colours.
pub fn color_histogram(bytes: &[u8]) -> Result<Embedding, ServiceError> {
    let image = decode(bytes)?;
    let small = image.thumbnail_exact(SAMPLED, SAMPLED).to_rgb8();
    let mut counts = [0_u32; COLORS];
    for pixel in small.pixels() {
        let [red, green, blue] = pixel.0.map(|shade| usize::from(shade >> 6));
        counts[red * 16 + green * 4 + blue] += 1;
    }
    let all = (SAMPLED * SAMPLED) as f32;
    Ok(Embedding::Floats(counts.iter().map(|count| *count as f32 / all).collect()))
}
