//! Media: files under an upload, there to be read once its rows are.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blob_store::BlobWriter;
use bytes::Bytes;
use caller::Caller;
use catalog_api::v1::value::Kind;
use futures::stream::BoxStream;
use ids::{DatasetId, UploadId};
use service_error::{Code, ServiceError};

use crate::app::App;
use crate::app::catalog::by_name;
use crate::app::items::RowsRequest;
use crate::model::Address;
use crate::store::{Media, Upload};

const DOWNLOAD: &str = "quarry.items.v1.MediaService/DownloadMedia";
/// An upload that receives files is renewed this often.
const RENEW_INTERVAL: Duration = Duration::from_secs(20);
/// The column in which an item names its file.
const HASH_COLUMN: &str = "content_hash";
const MIME_TYPE_BYTES_MAX: usize = 255;

/// The bytes of a file, in pieces.
pub type MediaBytes = BoxStream<'static, Result<Bytes, ServiceError>>;

/// What tells which file of a dataset is meant.
#[derive(Debug, Clone, Copy)]
pub enum MediaName<'a> {
    /// Its content's BLAKE3-256 in hex.
    Hash(&'a str),
    /// The item that names it.
    Item {
        /// As text.
        key: &'a str,
        /// The version at which the item is looked at; empty: now.
        version: &'a str,
    },
}

/// Files that arrive on one stream, one after the other.
pub struct MediaUpload {
    app: App,
    caller: Arc<Caller>,
    /// The upload of the file before: a stream mostly has one.
    upload: Option<(Upload, Instant)>,
    file: Option<File>,
}

struct File {
    media: Media,
    size: u64,
    received: u64,
    hasher: blake3::Hasher,
    /// `None`: the bytes are there, and only compared.
    object: Option<BlobWriter>,
}

impl App {
    /// Opens an upload for media; answers its id and its end, in seconds since
    /// 1970.
    ///
    /// # Errors
    /// A dataset or namespace that the caller may not write to.
    pub async fn begin_upload(
        &self,
        caller: &Caller,
        address: &Address,
    ) -> Result<(UploadId, i64), ServiceError> {
        let opened = self.catalog.open_upload(caller, by_name(address)).await?;
        let broken = || ServiceError::internal("the catalog answered a malformed upload");
        let id: UploadId = opened.upload_id.parse().map_err(|_| broken())?;
        let dataset: DatasetId = opened.dataset_id.parse().map_err(|_| broken())?;
        let upload =
            Upload { id, dataset, principal: caller.principal, address: address.to_string() };
        self.store.add_upload(&upload).await?;
        Ok((id, opened.expire_time.map_or(0, |time| time.seconds)))
    }

    /// Gives an upload up; its objects are swept.
    ///
    /// # Errors
    /// An upload that is not the caller's or is committed.
    pub async fn abort_upload(&self, caller: &Caller, upload_id: &str) -> Result<(), ServiceError> {
        let id: UploadId =
            upload_id.parse().map_err(|error| ServiceError::invalid("upload_id", error))?;
        self.catalog.abort_upload(caller, id).await
    }

    /// A file of a dataset that the caller may read; its bytes are not touched.
    ///
    /// # Errors
    /// No such dataset, no such item, or no such file.
    pub async fn find_media(
        &self,
        caller: &Caller,
        address: &Address,
        name: MediaName<'_>,
    ) -> Result<Media, ServiceError> {
        let (key, version) = match name {
            MediaName::Hash(hash) => {
                return self.media_of(caller, address, (hash, DOWNLOAD)).await;
            }
            MediaName::Item { key, version } => (key, version),
        };
        let rows = RowsRequest {
            address: address.clone(),
            version: version.to_owned(),
            filter: String::new(),
            columns: vec![HASH_COLUMN.to_owned()],
        };
        let found = self.get_item(caller, rows, key).await.map_err(|error| {
            if error.field_name() != Some("columns") {
                return error;
            }
            let message = format!("{address} has no column {HASH_COLUMN}: its rows name no files");
            ServiceError::precondition(message).reason("NO_MEDIA")
        })?;
        let cell = found.items.into_iter().next().and_then(|item| item.values.into_iter().next());
        let hash = match cell.and_then(|cell| cell.kind) {
            Some(Kind::StringValue(hash)) => hash,
            Some(Kind::BytesValue(hash)) => hex::encode(hash),
            _ => {
                let shown: String = key.chars().take(100).collect();
                return Err(ServiceError::not_found("media", format!("of item {shown}"))
                    .reason("MEDIA_NOT_FOUND"));
            }
        };
        self.media_of(caller, address, (&hash, DOWNLOAD)).await
    }

    /// A file of a dataset that the caller may read, by its hash in hex. Its bytes are not
    /// touched.
    pub async fn media_of(
        &self,
        caller: &Caller,
        address: &Address,
        (hash, action): (&str, &'static str),
    ) -> Result<Media, ServiceError> {
        let digits = hex::decode(hash).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let digest = digits.ok_or_else(|| {
            ServiceError::invalid("content_hash", "must be 64 hex digits (BLAKE3-256)")
        })?;
        let opened = self.open(caller, address, "", action).await?;
        let copies = self.store.media(ids::Id::from_uuid(opened.dataset), &digest).await?;
        if let Some(found) = copies.iter().find(|media| media.committed) {
            return Ok(found.clone());
        }
        let absent = || {
            ServiceError::not_found("media", format!("{hash} in {address}"))
                .reason("MEDIA_NOT_FOUND")
        };
        if copies.is_empty() {
            return Err(absent());
        }
        // A crash between the commit and the mark: the manifest knows.
        let manifest = self.manifest(caller, &opened).await?;
        let committed = |media: &&Media| {
            let below = format!("{}/{}/", media.dataset, media.upload);
            manifest.iter().any(|block| block.rows.location.object_key.starts_with(&below))
        };
        let found = copies.iter().find(committed).ok_or_else(absent)?;
        self.store.commit_media(found.upload).await?;
        Ok(found.clone())
    }

    /// The bytes of a file, or a part of them.
    ///
    /// # Errors
    /// `DataLoss` for a file that is gone; an object store that fails.
    pub async fn opened_media(
        &self,
        media: &Media,
        part: Option<Range<u64>>,
    ) -> Result<MediaBytes, ServiceError> {
        let (blobs, key) = (self.store.blobs(), media.object_key());
        let opened = match part {
            None => blobs.get_stream(&key).await,
            Some(part) => blobs.get_stream_range(&key, part).await,
        };
        opened.map_err(|error| match error.code() {
            Code::NotFound => {
                let hash = hex::encode(media.content_hash);
                let message = format!("the file {hash} is gone; restore it from a backup");
                ServiceError::data_loss(message).reason("MEDIA_LOST")
            }
            _ => error,
        })
    }
}

impl MediaUpload {
    /// A stream of files of one caller.
    #[must_use]
    pub const fn new(app: App, caller: Arc<Caller>) -> Self {
        Self { app, caller, upload: None, file: None }
    }

    /// Begins a file.
    ///
    /// # Errors
    /// A file before it that is not whole; an upload that is not the caller's;
    /// a file that is too large.
    pub async fn header(
        &mut self,
        upload_id: &str,
        hash: &[u8],
        size: i64,
        mime_type: &str,
    ) -> Result<(), ServiceError> {
        if self.file.is_some() {
            return Err(ServiceError::invalid("header", "the file before is not whole yet"));
        }
        let content_hash: [u8; 32] = hash
            .try_into()
            .map_err(|_| ServiceError::invalid("content_hash", "must be 32 bytes (BLAKE3-256)"))?;
        let max = self.app.settings.media_bytes_max;
        let size = u64::try_from(size)
            .map_err(|_| ServiceError::invalid("size", "must not be negative"))?;
        if size > max {
            return Err(ServiceError::exhausted(format!(
                "the file has {size} bytes; at most {max} are taken"
            ))
            .reason("MEDIA_TOO_LARGE"));
        }
        if mime_type.len() > MIME_TYPE_BYTES_MAX || mime_type.chars().any(char::is_control) {
            return Err(ServiceError::invalid("mime_type", "is no MIME type"));
        }
        let upload = self.upload(upload_id).await?;
        let media = Media {
            dataset: upload.dataset,
            content_hash,
            upload: upload.id,
            byte_count: i64::try_from(size).unwrap_or(i64::MAX),
            mime_type: mime_type.to_owned(),
            committed: false,
        };
        let copies = self.app.store.media(media.dataset, &content_hash).await?;
        let there = copies.iter().any(|copy| copy.committed || copy.upload == media.upload);
        let object = if there {
            None
        } else {
            Some(self.app.store.blobs().writer(&media.object_key()).await?)
        };
        self.file = Some(File { media, size, received: 0, hasher: blake3::Hasher::new(), object });
        Ok(())
    }

    /// Bytes of the file. Answers hash and whether it was there when it is whole.
    ///
    /// # Errors
    /// More bytes than the header said, or other bytes than its hash.
    pub async fn chunk(&mut self, bytes: Bytes) -> Result<(), ServiceError> {
        let file = self
            .file
            .as_mut()
            .ok_or_else(|| ServiceError::invalid("chunk", "came before a header"))?;
        file.received += bytes.len() as u64;
        if file.received > file.size {
            let message = format!("the header said {} bytes and more came", file.size);
            return Err(ServiceError::invalid("chunk", message));
        }
        file.hasher.update(&bytes);
        match &mut file.object {
            Some(object) => object.write(bytes).await,
            None => Ok(()),
        }
    }

    /// The file, if all its bytes have come: its hash, and whether it was there.
    ///
    /// # Errors
    /// Other bytes than the hash said; an object store that fails.
    pub async fn whole(&mut self) -> Result<Option<([u8; 32], bool)>, ServiceError> {
        if self.file.as_ref().is_none_or(|file| file.received < file.size) {
            return Ok(None);
        }
        let Some(file) = self.file.take() else { return Ok(None) };
        if file.hasher.finalize().as_bytes() != &file.media.content_hash {
            if let Some(object) = file.object {
                object.abort().await;
            }
            let hash = hex::encode(file.media.content_hash);
            return Err(ServiceError::invalid(
                "content_hash",
                format!("the bytes are not those of {hash}"),
            )
            .reason("HASH_MISMATCH"));
        }
        let existed = file.object.is_none();
        if let Some(object) = file.object {
            object.finish().await?;
            self.app.store.add_media(&file.media).await?;
        }
        Ok(Some((file.media.content_hash, existed)))
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// In the middle of a file.
    pub fn end(&self) -> Result<(), ServiceError> {
        match &self.file {
            None => Ok(()),
            Some(file) => {
                let message = format!(
                    "the stream ended after {} of {} bytes of a file",
                    file.received, file.size
                );
                Err(ServiceError::invalid("chunk", message).reason("MEDIA_INCOMPLETE"))
            }
        }
    }

    /// The upload, alive.
    async fn upload(&mut self, upload_id: &str) -> Result<Upload, ServiceError> {
        let id: UploadId =
            upload_id.parse().map_err(|error| ServiceError::invalid("upload_id", error))?;
        if let Some((upload, renewed)) = &self.upload
            && upload.id == id
            && renewed.elapsed() < RENEW_INTERVAL
        {
            return Ok(upload.clone());
        }
        let upload = self.app.store.upload(id, self.caller.principal).await?;
        self.app.catalog.renew_upload(&self.caller, id).await?;
        self.upload = Some((upload.clone(), Instant::now()));
        Ok(upload)
    }
}
