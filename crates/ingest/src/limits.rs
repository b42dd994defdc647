//! How much of an input is held at once. Every limit is refused by an error
//! that names it, before the memory is taken.

/// Limits of the readers, in bytes unless named otherwise.
#[derive(Debug, Clone)]
pub struct Limits {
    /// One row of a text format, and one cell of a binary one.
    pub row_bytes_max: u64,
    /// One Parquet row group, uncompressed.
    pub row_group_bytes_max: u64,
    /// One Arrow record batch, uncompressed.
    pub batch_bytes_max: u64,
    /// The metadata files beside a folder of images, together.
    pub metadata_bytes_max: u64,
    /// One image file.
    pub image_bytes_max: u64,
    /// The pixels of one image.
    pub image_pixels_max: u64,
    /// The memory that decoding one image may take.
    pub image_memory_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            row_bytes_max: 64 << 20,
            row_group_bytes_max: 8 << 30,
            batch_bytes_max: 1 << 30,
            metadata_bytes_max: 256 << 20,
            image_bytes_max: 256 << 20,
            image_pixels_max: 200_000_000,
            image_memory_bytes_max: 1 << 30,
        }
    }
}
