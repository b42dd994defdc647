//! Pictures for tests of the vector search.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};

/// A PNG of one colour with a lighter square at an eighth of its diagonal.
///
/// # Panics
/// Never: a picture in memory can be written to memory.
#[must_use]
#[allow(clippy::expect_used, reason = "a test's")]
pub fn picture(side: u32, color: [u8; 3], eighth: u32) -> Vec<u8> {
    let image = RgbImage::from_fn(side, side, |x, y| {
        let inside = (x * 8 / side).abs_diff(eighth) < 2 && (y * 8 / side).abs_diff(eighth) < 2;
        Rgb(color.map(|shade| if inside { shade.saturating_add(90) } else { shade }))
    });
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).expect("a picture in memory");
    bytes.into_inner()
}
