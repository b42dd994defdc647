//! Whole blocks against the hashes that the manifest has of them, with no
//! service running.

use blob_store::BlobStore;
use futures::StreamExt;
use service_error::{Code, ServiceError};

/// The files of blocks.
#[derive(Debug, Clone)]
pub struct BlockFiles {
    blobs: BlobStore,
}

impl BlockFiles {
    /// Opens the object store.
    ///
    /// # Errors
    /// An object store that can't be used.
    pub async fn open(object_store_url: &str) -> Result<Self, ServiceError> {
        Ok(Self { blobs: BlobStore::open(object_store_url, "items").await? })
    }

    /// Reads a file from its first byte to its last. `Some` says what is wrong
    /// with it.
    ///
    /// # Errors
    /// An object store that fails.
    pub async fn check(
        &self,
        object_key: &str,
        byte_count: i64,
        content_hash: &[u8],
    ) -> Result<Option<String>, ServiceError> {
        let mut pieces = match self.blobs.get_stream(object_key).await {
            Ok(pieces) => pieces,
            Err(error) if error.code() == Code::NotFound => {
                return Ok(Some("the file is gone".to_owned()));
            }
            Err(error) => return Err(error),
        };
        let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0u64);
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            bytes += piece.len() as u64;
            hasher.update(&piece);
        }
        if i64::try_from(bytes) != Ok(byte_count) {
            return Ok(Some(format!("it has {bytes} bytes instead of {byte_count}")));
        }
        if hasher.finalize().as_bytes().as_slice() != content_hash {
            return Ok(Some("its BLAKE3 hash is not the manifest's".to_owned()));
        }
        Ok(None)
    }
}
