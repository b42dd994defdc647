//! A large object, written in whole parts past the memory that caches files.

use bytes::{Buf as _, Bytes, BytesMut};
use object_store::WriteMultipart;
use service_error::ServiceError;

use crate::object_error;
use crate::writer::{PART_BYTES, PARTS_IN_FLIGHT_MAX, finished, give_up};

/// What a disk may want a direct write's memory, place and length to be multiples of.
pub const ALIGNED_BYTES: usize = 4 << 10;

/// Parts on their way to a local disk at once: one is written while the next one waits, and with
/// the one being filled they are 12 MiB. More, or larger ones, are no faster.
const LOCAL_PARTS_IN_FLIGHT_MAX: usize = 2;
const LOCAL_PART_BYTES: usize = 4 << 20;

/// Says of an upload in parts that its bytes are many, come once, and are better not kept in
/// the memory that caches files; of a read, that its object may have been written so.
#[derive(Debug, Clone, Copy)]
pub struct Bulk;

/// An object being written that may be larger than the machine's memory. Its pieces are copied
/// into parts, whose memory is used again and again. Dropped without [`BulkWriter::finish`],
/// nothing of it stays.
#[derive(Debug)]
pub struct BulkWriter {
    parts: Option<WriteMultipart>,
    part_bytes: usize,
    filling: BytesMut,
    /// Parts that were sent: their memory is free once nobody else holds it.
    sent: Vec<Bytes>,
    in_flight_max: usize,
}

impl BulkWriter {
    /// `is_local`: on a disk, where a part takes as long however many are on their way.
    pub(crate) fn new(upload: Box<dyn object_store::MultipartUpload>, is_local: bool) -> Self {
        let (part_bytes, in_flight_max) = if is_local {
            (LOCAL_PART_BYTES, LOCAL_PARTS_IN_FLIGHT_MAX)
        } else {
            (PART_BYTES, PARTS_IN_FLIGHT_MAX)
        };
        let parts = Some(WriteMultipart::new_with_chunk_size(upload, part_bytes));
        let filling = aligned(part_bytes);
        Self { parts, part_bytes, filling, sent: Vec::new(), in_flight_max }
    }

    /// Adds bytes; waits while too many parts are on their way.
    ///
    /// # Errors
    /// As [`object_error`] maps them.
    pub async fn write(&mut self, mut piece: &[u8]) -> Result<(), ServiceError> {
        while !piece.is_empty() {
            let room = self.part_bytes - self.filling.len();
            let (now, later) = piece.split_at(piece.len().min(room));
            self.filling.extend_from_slice(now);
            piece = later;
            if self.filling.len() == self.part_bytes {
                self.send().await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), ServiceError> {
        let parts = self.parts.as_mut().ok_or_else(finished)?;
        parts.wait_for_capacity(self.in_flight_max).await.map_err(object_error)?;
        let free = self.sent.iter().position(Bytes::is_unique);
        let next = free.and_then(|at| self.sent.swap_remove(at).try_into_mut().ok());
        let mut next = next.unwrap_or_else(|| aligned(self.part_bytes));
        next.clear();
        let part = std::mem::replace(&mut self.filling, next).freeze();
        // A store that keeps its parts leaves none of them free.
        self.sent.truncate(self.in_flight_max - 1);
        self.sent.push(part.clone());
        parts.put(part);
        Ok(())
    }

    /// Makes the object; it is durable when this answers.
    ///
    /// # Errors
    /// As [`object_error`] maps them; then there is no object.
    pub async fn finish(mut self) -> Result<(), ServiceError> {
        let mut parts = self.parts.take().ok_or_else(finished)?;
        parts.put(std::mem::take(&mut self.filling).freeze());
        parts.finish().await.map(drop).map_err(object_error)
    }

    /// Gives the object up, as [`crate::BlobWriter::abort`] does.
    pub async fn abort(mut self) {
        if let Some(parts) = self.parts.take() {
            give_up(parts).await;
        }
    }
}

impl Drop for BulkWriter {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(give_up(parts));
        }
    }
}

/// Memory of a part, where a direct write can take it from.
pub(crate) fn aligned(part_bytes: usize) -> BytesMut {
    let mut room = BytesMut::with_capacity(part_bytes + ALIGNED_BYTES);
    let before = room.as_ptr().align_offset(ALIGNED_BYTES);
    // Elsewhere it is as good, and only slower.
    if before < ALIGNED_BYTES {
        room.resize(before, 0);
        room.advance(before);
    }
    room
}
