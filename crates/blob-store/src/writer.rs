//! An object written in pieces, in bounded memory.

use bytes::Bytes;
use object_store::{MultipartUpload, WriteMultipart};
use service_error::ServiceError;

use crate::object_error;

/// One part of a multipart upload. S3 takes at most 10,000 parts, so this
/// bounds an object to 80 GB.
pub(crate) const PART_BYTES: usize = 8 << 20;
/// Parts on their way at once; with the one being filled they bound a
/// writer's memory to 40 MiB.
pub(crate) const PARTS_IN_FLIGHT_MAX: usize = 4;

/// What a finished object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3-256 of the bytes.
    pub blake3: [u8; 32],
}

/// An object being written. Dropped without [`BlobWriter::finish`], nothing of
/// it stays.
#[derive(Debug)]
pub struct BlobWriter {
    parts: Option<WriteMultipart>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl BlobWriter {
    pub(crate) fn new(upload: Box<dyn MultipartUpload>) -> Self {
        let parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        Self { parts: Some(parts), hasher: blake3::Hasher::new(), bytes: 0 }
    }

    /// Adds bytes; waits while too many parts are on their way.
    ///
    /// # Errors
    /// As [`object_error`] maps them.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), ServiceError> {
        let parts = self.parts.as_mut().ok_or_else(finished)?;
        self.hasher.update(&piece);
        self.bytes += piece.len() as u64;
        // A piece may hold many parts: each waits for its turn.
        let mut rest = piece;
        while !rest.is_empty() {
            parts.wait_for_capacity(PARTS_IN_FLIGHT_MAX).await.map_err(object_error)?;
            parts.put(rest.split_to(rest.len().min(PART_BYTES)));
        }
        Ok(())
    }

    /// How many bytes were added so far.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the object; it is durable when this answers.
    ///
    /// # Errors
    /// As [`object_error`] maps them; then there is no object.
    pub async fn finish(mut self) -> Result<Written, ServiceError> {
        let parts = self.parts.take().ok_or_else(finished)?;
        parts.finish().await.map_err(object_error)?;
        Ok(Written { bytes: self.bytes, blake3: *self.hasher.finalize().as_bytes() })
    }

    /// Gives the object up. An error of the store is logged: whoever gives up
    /// has a reason of their own to tell.
    pub async fn abort(mut self) {
        if let Some(parts) = self.parts.take() {
            give_up(parts).await;
        }
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else {
            return;
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(give_up(parts));
        }
    }
}

pub(crate) async fn give_up(parts: WriteMultipart) {
    if let Err(error) = parts.abort().await {
        tracing::warn!(%error, "an unfinished object could not be removed");
    }
}

pub(crate) fn finished() -> ServiceError {
    ServiceError::internal("the object was finished before")
}
