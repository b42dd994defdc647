//! Bytes on their way in and out: hashed as they pass, in bounded memory.

use std::ops::Range;
use std::sync::Arc;

use blob_store::{BlobStore, BulkWriter};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use service_error::{Code, ServiceError};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::model::artifact::{SMALL_BYTES, object_key};
use crate::model::{Digest, FileEntry, Segment};
use crate::store::Store;

/// Read at once.
const READ_BYTES: u64 = 2 << 20;
/// Of such pieces, those that are read or wait for whoever takes them: while one is hashed and
/// sent, two are on their way from the disk.
const READ_AHEAD: usize = 3;

/// Bytes in pieces, as they come.
pub type Pieces = BoxStream<'static, Result<Bytes, ServiceError>>;

/// A piece of a file that is being written: in memory while it is small, and
/// no object if it stays so.
pub struct Incoming {
    blobs: BlobStore,
    held: Vec<u8>,
    writer: Option<BulkWriter>,
    hasher: Sha256,
    crc: crc32fast::Hasher,
    generation: Uuid,
    object_key: String,
    ordinal: i64,
    byte_begin: i64,
    bytes: i64,
}

impl Incoming {
    /// Begins a part.
    pub fn begin(blobs: &BlobStore, generation: Uuid, ordinal: i64, byte_begin: i64) -> Self {
        Self {
            blobs: blobs.clone(),
            held: Vec::new(),
            writer: None,
            hasher: Sha256::new(),
            crc: crc32fast::Hasher::new(),
            generation,
            object_key: object_key(generation, ordinal),
            ordinal,
            byte_begin,
            bytes: 0,
        }
    }

    /// Which part it is.
    pub const fn ordinal(&self) -> i64 {
        self.ordinal
    }

    /// How many bytes have come.
    pub const fn bytes(&self) -> i64 {
        self.bytes
    }

    /// CRC-32 of what has come.
    pub fn crc32(&self) -> u32 {
        self.crc.clone().finalize()
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// The object store's.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), ServiceError> {
        self.bytes += i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        self.hasher.update(&bytes);
        self.crc.update(&bytes);
        if let Some(writer) = &mut self.writer {
            return writer.write(&bytes).await;
        }
        if self.held.len() + bytes.len() <= SMALL_BYTES {
            self.held.extend_from_slice(&bytes);
            return Ok(());
        }
        let writer = self.blobs.bulk_writer(&self.object_key).await?;
        let writer = self.writer.insert(writer);
        writer.write(&std::mem::take(&mut self.held)).await?;
        writer.write(&bytes).await
    }

    /// Makes the object durable; what is small waits for its row.
    ///
    /// # Errors
    /// The object store's.
    pub async fn finish(self) -> Result<Segment, ServiceError> {
        let (object_key, content) = match self.writer {
            Some(writer) => {
                writer.finish().await?;
                (self.object_key, None)
            }
            None => (String::new(), Some(self.held)),
        };
        Ok(Segment {
            generation: self.generation,
            ordinal: self.ordinal,
            object_key,
            byte_begin: self.byte_begin,
            byte_count: self.bytes,
            digest: self.hasher.finalize().into(),
            content,
        })
    }

    /// Gives the part up; nothing of it stays.
    pub async fn abort(self) {
        if let Some(writer) = self.writer {
            writer.abort().await;
        }
    }
}

/// SHA-256 of a file whose pieces are all there. One piece is not read again.
///
/// # Errors
/// The object store's; `DataLoss` if a piece is shorter than it was.
pub async fn digest_of(store: &Store, segments: &[Segment]) -> Result<Digest, ServiceError> {
    if let [only] = segments {
        return Ok(only.digest);
    }
    let mut hasher = Sha256::new();
    let end = segments.last().map_or(0, |last| last.byte_begin + last.byte_count);
    let mut pieces = read(store.clone(), segments.to_vec(), 0..whole(end));
    while let Some(piece) = pieces.next().await {
        hasher.update(&piece?);
    }
    Ok(hasher.finalize().into())
}

/// The bytes of a range of a file: the next ones are read while some are on their way.
pub fn read(store: Store, segments: Vec<Segment>, range: Range<u64>) -> Pieces {
    let segments: Arc<[Segment]> = segments.into();
    let cuts = Cuts { segments: Arc::clone(&segments), range };
    let pieces = stream::iter(cuts).map(move |cut| {
        let (store, segments) = (store.clone(), Arc::clone(&segments));
        async move {
            let (at, range) = cut.ok_or_else(lost)?;
            let length = range.end - range.start;
            let bytes = piece(&store, &segments[at], range)
                .await
                .map_err(|error| if error.code() == Code::NotFound { lost() } else { error })?;
            if bytes.len() as u64 == length { Ok(bytes) } else { Err(lost()) }
        }
    });
    pieces.buffered(READ_AHEAD).boxed()
}

/// A range as pieces of its segments: each segment's index and the range within it; nothing
/// where no segment is.
struct Cuts {
    segments: Arc<[Segment]>,
    range: Range<u64>,
}

impl Iterator for Cuts {
    type Item = Option<(usize, Range<u64>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let from = self.range.start;
        if self.range.is_empty() {
            return None;
        }
        let bounds = |segment: &Segment| {
            let begin = whole(segment.byte_begin);
            begin..begin + whole(segment.byte_count)
        };
        let found = self.segments.iter().position(|segment| bounds(segment).contains(&from));
        let Some(at) = found else {
            self.range.start = self.range.end;
            return Some(None);
        };
        let bounds = bounds(&self.segments[at]);
        self.range.start = bounds.end.min(self.range.end).min(from + READ_BYTES);
        Some(Some((at, from - bounds.start..self.range.start - bounds.start)))
    }
}

/// A range of a segment, counted from its begin.
///
/// # Errors
/// The object store's or the database's.
pub async fn piece(
    store: &Store,
    segment: &Segment,
    range: Range<u64>,
) -> Result<Bytes, ServiceError> {
    if !segment.object_key.is_empty() {
        return store.blobs().get_bulk_range(&segment.object_key, range).await;
    }
    let kept;
    let content = match &segment.content {
        Some(content) => content,
        None => {
            kept = store.segment_content(segment.generation, segment.ordinal).await?;
            &kept
        }
    };
    let at = |byte: u64| usize::try_from(byte).map_or(content.len(), |at| at.min(content.len()));
    Ok(Bytes::copy_from_slice(&content[at(range.start)..at(range.end)]))
}

/// A whole file, compared with its digest: the last piece comes only if all of
/// them were right.
pub fn verified(pieces: Pieces, entry: &FileEntry) -> Pieces {
    let state = (pieces, Sha256::new(), entry.digest, None::<Bytes>);
    stream::try_unfold(state, |(mut pieces, mut hasher, digest, mut held)| async move {
        loop {
            match pieces.next().await {
                Some(piece) => {
                    let piece = piece?;
                    hasher.update(&piece);
                    if let Some(before) = held.replace(piece) {
                        return Ok(Some((before, (pieces, hasher, digest, held))));
                    }
                }
                None => {
                    let Some(last) = held.take() else { return Ok(None) };
                    if Digest::from(hasher.clone().finalize()) != digest {
                        return Err(ServiceError::data_loss(
                            "the stored bytes are not those that were sent: restore the file from a backup",
                        )
                        .reason("BLOB_DAMAGED")
                        .with("digest", hex::encode(digest)));
                    }
                    return Ok(Some((last, (pieces, hasher, digest, None))));
                }
            }
        }
    })
    .boxed()
}

fn whole(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or_default()
}

fn lost() -> ServiceError {
    ServiceError::data_loss("a file's bytes are not where they were kept: restore it from a backup")
        .reason("BLOB_LOST")
}
