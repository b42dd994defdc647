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

fn decode(bytes: &[u8]) -> Result<DynamicImage, ServiceError> {
    let wrong = |error: &dyn std::fmt::Display| {
        ServiceError::invalid(
            "image",
            format!("these bytes are no image that can be read: {error}"),
        )
        .reason("IMAGE_INVALID")
    };
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| wrong(&e))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODED_BYTES_MAX);
    reader.limits(limits);
    reader.decode().map_err(|error| wrong(&error))
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
