//! Objects in a bucket or a directory, behind one type.
//!
//! A `BlobStore` sees only the keys below its role's prefix. A write that was
//! acknowledged survives a power cut: cloud stores promise it, and on local
//! files every write is flushed, file and directories, before it is answered.

mod bulk;
mod direct;
mod durable;
mod error;
mod location;
mod through;
mod writer;

use std::ops::Range;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use http::Method;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::signer::Signer;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutPayload};
use service_error::ServiceError;

pub use bulk::BulkWriter;
pub use error::object_error;
pub use location::file_url;
pub use writer::{BlobWriter, Written};

/// How long a store may take to answer the first write before it counts as away.
const PROBE_TIME_MAX: Duration = Duration::from_secs(20);

/// A bucket that is only read, and what stands before the keys that a URL names
/// in it. Nothing is written there, not even to try. Credentials and endpoint are
/// those of the process.
///
/// # Errors
/// `InvalidArgument` for a URL that names no bucket.
pub fn read_only(url: &str) -> Result<(Arc<dyn ObjectStore>, Path), ServiceError> {
    let place = location::parse(url)?;
    if !matches!(place, location::Place::Bucket { .. }) {
        let message = format!("{url:?} names no bucket");
        return Err(
            ServiceError::invalid("object_store_url", message).reason("INVALID_OBJECT_STORE_URL")
        );
    }
    let opened = location::connect(&place, url)?;
    Ok((opened.store, opened.path))
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobMeta {
    /// Below the store's prefix.
    pub key: String,
    /// Size in bytes.
    pub bytes: u64,
    /// When it was written, microseconds UTC.
    pub modified_at: i64,
}

/// The objects of one role. Clones share the connection pool.
#[derive(Debug, Clone)]
pub struct BlobStore {
    store: Arc<dyn ObjectStore>,
    /// The directory behind it, if it is one; empty directories are removed there.
    local_root: Option<Arc<FsPath>>,
    /// A store that signs addresses, and what stands before every key in it.
    signer: Option<(Arc<dyn Signer>, Path)>,
}

impl BlobStore {
    /// Opens the objects below `prefix` of the place that `url` names:
    /// `file://`, `s3://`, `gs://`, `az://` or `memory://` (private to this
    /// store and its clones). A local directory is made if it is missing.
    ///
    /// # Errors
    /// `InvalidArgument` for a URL that names no such place, `FailedPrecondition`
    /// or `Unavailable` with the reason when a first object can't be written.
    pub async fn open(url: &str, prefix: &'static str) -> Result<Self, ServiceError> {
        let place = location::parse(url)?;
        let opened = location::connect(&place, url)?;
        let below = opened.path.parts().map(|part| part.as_ref().to_owned());
        let path = Path::from_iter(below.chain([prefix.to_owned()]));
        let local_root = opened.local_root.map(|root| Arc::from(root.join(prefix)));
        let signer = opened.signer.map(|signer| (signer, path.clone()));
        let store = Arc::new(PrefixStore::new(opened.store, path));
        let store = Self { store, local_root, signer };
        store.probe(url).await?;
        Ok(store)
    }

    /// The bare object store, already below the prefix and durable: for
    /// readers that want `object_store`'s own interface.
    #[must_use]
    pub fn inner(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// Writes a whole object, replacing one of that key.
    ///
    /// # Errors
    /// As [`object_error`] maps them.
    pub async fn put(&self, key: &str, bytes: impl Into<Bytes>) -> Result<(), ServiceError> {
        let payload = PutPayload::from_bytes(bytes.into());
        self.store.put(&parse_key(key)?, payload).await.map_err(object_error)?;
        Ok(())
    }

    /// Opens an object for writing in pieces; it exists once
    /// [`BlobWriter::finish`] answers, and never in part.
    ///
    /// # Errors
    /// As [`object_error`] maps them.
    pub async fn writer(&self, key: &str) -> Result<BlobWriter, ServiceError> {
        let upload = self.store.put_multipart(&parse_key(key)?).await.map_err(object_error)?;
        Ok(BlobWriter::new(upload))
    }

    /// Opens a large object for writing in pieces, like [`BlobStore::writer`]. It is not hashed,
    /// and what is written to a local disk does not displace what is read from there.
    ///
    /// # Errors
    /// As [`object_error`] maps them.
    pub async fn bulk_writer(&self, key: &str) -> Result<BulkWriter, ServiceError> {
        let mut options = PutMultipartOptions::default();
        options.extensions.insert(bulk::Bulk);
        let upload = self.store.put_multipart_opts(&parse_key(key)?, options).await;
        Ok(BulkWriter::new(upload.map_err(object_error)?, self.local_root.is_some()))
    }

    /// Writes an object from a stream; on an error of the stream nothing stays.
    ///
    /// # Errors
    /// The stream's own, or as [`object_error`] maps them.
    pub async fn put_stream<S>(&self, key: &str, mut pieces: S) -> Result<Written, ServiceError>
    where
        S: Stream<Item = Result<Bytes, ServiceError>> + Unpin + Send,
    {
        let mut writer = self.writer(key).await?;
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(bytes) => writer.write(bytes).await?,
                Err(error) => {
                    writer.abort().await;
                    return Err(error);
                }
            }
        }
        writer.finish().await
    }

    /// A whole object. For what is known to be small.
    ///
    /// # Errors
    /// `NotFound`, or as [`object_error`] maps them.
    pub async fn get(&self, key: &str) -> Result<Bytes, ServiceError> {
        let got = self.store.get(&parse_key(key)?).await.map_err(object_error)?;
        got.bytes().await.map_err(object_error)
    }

    /// The bytes of a range, cut at the object's end.
    ///
    /// # Errors
    /// `NotFound`, or as [`object_error`] maps them.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ServiceError> {
        self.store.get_range(&parse_key(key)?, range).await.map_err(object_error)
    }

    /// The same of an object that may be large: on a local disk a large piece that the machine's
    /// memory does not hold comes past the cache of files, the first time.
    ///
    /// # Errors
    /// As [`Self::get_range`].
    pub async fn get_bulk_range(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<Bytes, ServiceError> {
        let mut options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
        options.extensions.insert(bulk::Bulk);
        let got = self.store.get_opts(&parse_key(key)?, options).await.map_err(object_error)?;
        got.bytes().await.map_err(object_error)
    }

    /// An object in pieces, as they arrive.
    ///
    /// # Errors
    /// `NotFound`, or as [`object_error`] maps them; later ones are in the stream.
    pub async fn get_stream(
        &self,
        key: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, ServiceError>>, ServiceError> {
        let got = self.store.get(&parse_key(key)?).await.map_err(object_error)?;
        Ok(got.into_stream().map_err(object_error).boxed())
    }

    /// A part of an object in pieces, cut at its end.
    ///
    /// # Errors
    /// As [`BlobStore::get_stream`].
    pub async fn get_stream_range(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, ServiceError>>, ServiceError> {
        let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
        let got = self.store.get_opts(&parse_key(key)?, options).await.map_err(object_error)?;
        Ok(got.into_stream().map_err(object_error).boxed())
    }

    /// An address from which anybody can read an object for a while; nothing
    /// where the store signs none (local files, memory).
    ///
    /// # Errors
    /// As [`object_error`] maps them: credentials that cannot sign.
    pub async fn signed_url(
        &self,
        key: &str,
        lasts: Duration,
    ) -> Result<Option<String>, ServiceError> {
        let Some((signer, prefix)) = &self.signer else { return Ok(None) };
        let key = parse_key(key)?;
        let path = Path::from_iter(prefix.parts().chain(key.parts()));
        let url = signer.signed_url(Method::GET, &path, lasts).await.map_err(object_error)?;
        Ok(Some(url.to_string()))
    }

    /// Size and time of an object.
    ///
    /// # Errors
    /// `NotFound`, or as [`object_error`] maps them.
    pub async fn head(&self, key: &str) -> Result<BlobMeta, ServiceError> {
        let meta = self.store.head(&parse_key(key)?).await.map_err(object_error)?;
        Ok(to_meta(&meta))
    }

    /// Removes an object; one that is not there is removed already.
    ///
    /// # Errors
    /// As [`object_error`] maps them.
    pub async fn delete(&self, key: &str) -> Result<(), ServiceError> {
        match self.store.delete(&parse_key(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(object_error(error)),
        }
    }

    /// Removes every object below a key prefix and answers how many there were.
    ///
    /// # Errors
    /// `InvalidArgument` for an empty prefix, or as [`object_error`] maps them.
    pub async fn delete_prefix(&self, prefix: &str) -> Result<u64, ServiceError> {
        let path = parse_key(prefix)?;
        let found = self.store.list(Some(&path)).map_ok(|meta| meta.location).boxed();
        let mut deleted = self.store.delete_stream(found);
        let mut count = 0;
        while let Some(outcome) = deleted.next().await {
            match outcome {
                Ok(_) => count += 1,
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(object_error(error)),
            }
        }
        if let Some(root) = &self.local_root {
            durable::remove_empty_dirs(root.join(path.as_ref())).await;
        }
        Ok(count)
    }

    /// Every object below a key prefix (`""`: all), in no promised order.
    #[must_use]
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<BlobMeta, ServiceError>> {
        let path = if prefix.is_empty() { None } else { Some(Path::from(prefix)) };
        self.store.list(path.as_ref()).map_ok(|meta| to_meta(&meta)).map_err(object_error).boxed()
    }

    /// Whether the store answers; for readiness.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ping(&self) -> Result<(), ServiceError> {
        match self.store.head(&Path::from(".probe")).await {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(object_error(error)),
        }
    }

    async fn probe(&self, url: &str) -> Result<(), ServiceError> {
        let key = format!(".probe-{}", uuid::Uuid::now_v7().simple());
        let refused = |what: &'static str| {
            move |error: ServiceError| {
                error.context(format!("the object store {url} can't be {what}"))
            }
        };
        let probe = async {
            let content = Bytes::from_static(b"quarry");
            self.put(&key, content).await.map_err(refused("written"))?;
            let listed = self.list(&key).try_next().await.map_err(refused("listed"));
            let cleared = self.delete(&key).await.map_err(refused("cleared"));
            listed.and(cleared)
        };
        match tokio::time::timeout(PROBE_TIME_MAX, probe).await {
            Ok(probed) => probed,
            Err(_) => {
                let message = format!(
                    "the object store {url} did not answer within {} s",
                    PROBE_TIME_MAX.as_secs()
                );
                Err(ServiceError::unavailable(message).reason("OBJECT_STORE_AWAY"))
            }
        }
    }
}

fn to_meta(meta: &object_store::ObjectMeta) -> BlobMeta {
    BlobMeta {
        key: meta.location.to_string(),
        bytes: meta.size,
        modified_at: meta.last_modified.timestamp_micros(),
    }
}

fn parse_key(key: &str) -> Result<Path, ServiceError> {
    let path = Path::parse(key).map_err(|error| {
        let message = format!("{key:?} is no key of an object: {error}");
        ServiceError::invalid("key", message).reason("INVALID_OBJECT_KEY")
    })?;
    if path.as_ref().is_empty() {
        return Err(ServiceError::invalid("key", "an object's key must not be empty")
            .reason("INVALID_OBJECT_KEY"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests;
