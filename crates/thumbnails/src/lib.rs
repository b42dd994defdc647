//! Thumbnails: decoded within limits, upright, shrunk, encoded.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Rgb, RgbImage};
use service_error::{Code, ServiceError};

/// The edges that thumbnails may have.
pub const SIZES: [u32; 5] = [64, 128, 256, 512, 1_024];
const JPEG_QUALITY: u8 = 82;

/// What decoding may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of the file.
    pub file_bytes_max: u64,
    /// Width times height.
    pub pixels_max: u64,
    /// What the decoder may hold.
    pub memory_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes_max: 64 << 20, pixels_max: 100_000_000, memory_bytes_max: 512 << 20 }
    }
}

/// How a thumbnail is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Small, on white where the picture is clear.
    Jpeg,
    /// Without loss.
    WebP,
}

impl Format {
    /// As HTTP names it.
    #[must_use]
    pub const fn mime_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::WebP => "image/webp",
        }
    }

    /// As file names end.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::WebP => "webp",
        }
    }
}

/// A small picture.
#[derive(Debug, Clone)]
pub struct Thumbnail {
    /// The file.
    pub bytes: Vec<u8>,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Of the picture it is of, upright.
    pub source: (u32, u32),
    /// `#rrggbb`: the mean of its pixels.
    pub color: String,
}

/// Makes a thumbnail that fits a square of `edge` pixels.
///
/// # Errors
/// An edge that is not in [`SIZES`]; a file that is no picture, is damaged, or
/// needs more than the limits give.
pub fn make(
    bytes: &[u8],
    edge: u32,
    format: Format,
    limits: &Limits,
) -> Result<Thumbnail, ServiceError> {
    if !SIZES.contains(&edge) {
        return Err(ServiceError::invalid("size", format!("must be one of {SIZES:?}")));
    }
    if bytes.len() as u64 > limits.file_bytes_max {
        let message = format!("has {} bytes; at most {}", bytes.len(), limits.file_bytes_max);
        return Err(too_large(&message));
    }
    let picture = decoded(bytes, limits)?;
    let source = (picture.width(), picture.height());
    let small =
        if source.0 > edge || source.1 > edge { picture.thumbnail(edge, edge) } else { picture };
    let (width, height) = (small.width(), small.height());
    let on_white = flattened(&small);
    let color = mean(&on_white);
    let mut out = Vec::new();
    let written = match format {
        Format::Jpeg => {
            on_white.write_with_encoder(JpegEncoder::new_with_quality(&mut out, JPEG_QUALITY))
        }
        Format::WebP => DynamicImage::from(small.to_rgba8())
            .write_with_encoder(WebPEncoder::new_lossless(&mut out)),
    };
    written.map_err(|error| {
        ServiceError::internal(format!("the thumbnail cannot be encoded: {error}"))
    })?;
    Ok(Thumbnail { bytes: out, width, height, source, color })
}

fn decoded(bytes: &[u8], limits: &Limits) -> Result<DynamicImage, ServiceError> {
    let mut reader = ImageReader::new(Cursor::new(bytes));
    let mut own = image::Limits::default();
    own.max_alloc = Some(limits.memory_bytes_max);
    reader.limits(own.clone());
    let reader = reader.with_guessed_format().map_err(|error| refused(&error.to_string()))?;
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > limits.pixels_max {
        return Err(too_large(&format!("has {width} × {height} pixels")));
    }
    if decoder.total_bytes() > limits.memory_bytes_max {
        return Err(too_large(&format!("has {} bytes when decoded", decoder.total_bytes())));
    }
    decoder.set_limits(own).map_err(failed)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(failed)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// On white, as JPEG has no clearness.
fn flattened(picture: &DynamicImage) -> RgbImage {
    let rgba = picture.to_rgba8();
    let mut flat = RgbImage::new(rgba.width(), rgba.height());
    for (from, to) in rgba.pixels().zip(flat.pixels_mut()) {
        let [red, green, blue, alpha] = from.0;
        let over = |part: u8| {
            let mixed = u32::from(part) * u32::from(alpha) + 255 * (255 - u32::from(alpha));
            u8::try_from(mixed / 255).unwrap_or(u8::MAX)
        };
        *to = Rgb([over(red), over(green), over(blue)]);
    }
    flat
}

fn mean(picture: &RgbImage) -> String {
    let mut sums = [0_u64; 3];
    for pixel in picture.pixels() {
        for (sum, part) in sums.iter_mut().zip(pixel.0) {
            *sum += u64::from(part);
        }
    }
    let count = (u64::from(picture.width()) * u64::from(picture.height())).max(1);
    let [red, green, blue] = sums.map(|sum| sum / count);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn failed(error: ImageError) -> ServiceError {
    match error {
        ImageError::Limits(error) => too_large(&error.to_string()),
        error => refused(&error.to_string()),
    }
}

fn refused(why: &str) -> ServiceError {
    ServiceError::new(
        Code::FailedPrecondition,
        format!("the file is no picture that can be shown (PNG, JPEG, GIF, WebP, BMP): {why}"),
    )
    .reason("NOT_A_PICTURE")
}

fn too_large(why: &str) -> ServiceError {
    ServiceError::exhausted(format!("the picture is too large for a thumbnail: it {why}"))
        .reason("PICTURE_TOO_LARGE")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use image::{ImageFormat, Rgba, RgbaImage};

    fn png(width: u32, height: u32, color: [u8; 4]) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        let picture = RgbaImage::from_pixel(width, height, Rgba(color));
        picture.write_to(&mut out, ImageFormat::Png).unwrap();
        out.into_inner()
    }

    #[test]
    fn pictures_shrink_into_their_square_and_never_grow() {
        for (format, kind) in [(Format::Jpeg, ImageFormat::Jpeg), (Format::WebP, ImageFormat::WebP)]
        {
            let made =
                make(&png(600, 300, [255, 0, 0, 255]), 128, format, &Limits::default()).unwrap();
            assert_eq!((made.width, made.height, made.source), (128, 64, (600, 300)));
            assert_eq!(made.color, "#ff0000");
            assert_eq!(image::guess_format(&made.bytes).unwrap(), kind);
            let small = make(&png(10, 5, [0, 0, 0, 255]), 256, format, &Limits::default()).unwrap();
            assert_eq!((small.width, small.height), (10, 5));
        }
        let clear = make(&png(8, 8, [0, 0, 0, 0]), 64, Format::Jpeg, &Limits::default()).unwrap();
        assert_eq!(clear.color, "#ffffff");
    }

    #[test]
    fn limits_are_kept_before_pixels_are_decoded() {
        let picture = png(2_000, 2_000, [1, 2, 3, 255]);
        let few = Limits { pixels_max: 3_999_999, ..Limits::default() };
        let error = make(&picture, 64, Format::Jpeg, &few).unwrap_err();
        assert!(error.reason_is("PICTURE_TOO_LARGE"), "{error}");
        let small = Limits { memory_bytes_max: 1 << 20, ..Limits::default() };
        let error = make(&picture, 64, Format::Jpeg, &small).unwrap_err();
        assert!(error.reason_is("PICTURE_TOO_LARGE"), "{error}");
        let short = Limits { file_bytes_max: 100, ..Limits::default() };
        assert!(make(&picture, 64, Format::Jpeg, &short).is_err());
        assert!(make(&picture, 65, Format::Jpeg, &Limits::default()).is_err());
        // A header that claims 60,000 × 60,000 pixels and has none of them.
        let mut claims = png(1, 1, [0; 4]);
        claims[16..24].copy_from_slice(&[0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60]);
        assert!(make(&claims, 64, Format::Jpeg, &Limits::default()).is_err());
    }

    #[test]
    fn no_bytes_panic() {
        let good = png(20, 20, [9, 8, 7, 255]);
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 0xFF;
            let _ = make(&changed, 64, Format::Jpeg, &Limits::default());
            let _ = make(&good[..at], 64, Format::WebP, &Limits::default());
        }
        let error = make(b"hello", 64, Format::Jpeg, &Limits::default()).unwrap_err();
        assert!(error.reason_is("NOT_A_PICTURE"), "{error}");
    }
}
