//! Thumbnails of media: made when first asked for, then kept by content beside it.

use std::sync::Arc;

use ::thumbnails::{Format, Limits, SIZES, Thumbnail, make};
use bytes::{Bytes, BytesMut};
use caller::Caller;
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use service_error::{Code, ServiceError};

use crate::app::App;
use crate::app::media::MediaBytes;
use crate::model::Address;
use crate::store::Media;

const THUMBNAIL: &str = "quarry.items.v1.MediaService/GetThumbnail";
const INFO: &str = "quarry.items.v1.MediaService/GetMediaInfo";

/// Pictures that are decoded at once; each may hold what [`Limits`] give it.
pub const DECODED_AT_ONCE: usize = 2;
/// Files of pictures that wait in memory for their turn, in bytes.
pub const FILES_BYTES_MAX: usize = 192 << 20;

/// What a picture looks like before it is there, kept beside its thumbnails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// Pixels, upright.
    pub width: u32,
    /// Pixels, upright.
    pub height: u32,
    /// `#rrggbb`: the mean of its pixels.
    pub color: String,
}

/// What is known of a file.
#[derive(Debug, Clone)]
pub struct MediaInfo {
    /// Bytes.
    pub byte_count: i64,
    /// As the uploader said.
    pub mime_type: String,
    /// If it is a picture that can be decoded.
    pub picture: Option<Picture>,
}

impl App {
    /// A thumbnail of a file of a dataset; `edge` in pixels.
    ///
    /// # Errors
    /// As [`App::find_media`] and [`make`].
    pub async fn thumbnail(
        &self,
        caller: &Caller,
        address: &Address,
        hash: &str,
        (edge, format): (u32, Format),
    ) -> Result<Bytes, ServiceError> {
        // Before what is kept, which knows nobody's rights. The file itself is left alone.
        let media = self.media_of(caller, address, (hash, THUMBNAIL)).await?;
        self.in_time(self.thumbnail_of(&media, edge, format)).await
    }

    async fn thumbnail_of(
        &self,
        media: &Media,
        edge: u32,
        format: Format,
    ) -> Result<Bytes, ServiceError> {
        let name = hex::encode(media.content_hash);
        let key = format!("thumbnails/{name}-{edge}.{}", format.extension());
        match self.store.blobs().get(&key).await {
            Err(error) if error.code() == Code::NotFound => {}
            kept => return kept,
        }
        let made = self.decoded(media, (edge, format)).await?;
        self.keep_picture(media, &made).await?;
        let bytes = Bytes::from(made.bytes);
        self.store.blobs().put(&key, bytes.clone()).await?;
        Ok(bytes)
    }

    /// What is known of a file of a dataset: of a picture, what stands for it until it is there.
    ///
    /// # Errors
    /// As [`App::find_media`]; a picture that is larger than any that is decoded is no error.
    pub async fn media_info(
        &self,
        caller: &Caller,
        address: &Address,
        hash: &str,
    ) -> Result<MediaInfo, ServiceError> {
        let media = self.media_of(caller, address, (hash, INFO)).await?;
        let picture = self.in_time(self.picture_of(&media)).await?;
        Ok(MediaInfo { byte_count: media.byte_count, mime_type: media.mime_type, picture })
    }

    async fn picture_of(&self, media: &Media) -> Result<Option<Picture>, ServiceError> {
        let kept = match self.store.blobs().get(&picture_key(media)).await {
            Err(error) if error.code() == Code::NotFound => None,
            // One that cannot be read is made again.
            kept => serde_json::from_slice(&kept?).ok(),
        };
        if kept.is_some() {
            return Ok(kept);
        }
        match self.decoded(media, (SIZES[0], Format::Jpeg)).await {
            Ok(made) => self.keep_picture(media, &made).await.map(Some),
            // It is no picture, a damaged one, or too large: nothing stands for it.
            Err(error)
                if [Code::InvalidArgument, Code::FailedPrecondition, Code::ResourceExhausted]
                    .contains(&error.code()) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Work on a picture, as long as a reader waits for it.
    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, ServiceError> {
        let limit = self.settings.picture_time();
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            let message =
                format!("the picture took longer than {} s; try again later", limit.as_secs());
            Err(ServiceError::new(Code::DeadlineExceeded, message).reason("PICTURE_SLOW"))
        })
    }

    async fn decoded(
        &self,
        media: &Media,
        (edge, format): (u32, Format),
    ) -> Result<Thumbnail, ServiceError> {
        let limits = Limits::default();
        let file_bytes = u64::try_from(media.byte_count).unwrap_or(u64::MAX);
        if file_bytes > limits.file_bytes_max {
            return Err(too_large(limits.file_bytes_max));
        }
        // The file is here before its turn: a slow bucket takes nobody else's.
        let held = self.pictures.take(usize::try_from(file_bytes).unwrap_or(usize::MAX)).await?;
        let bytes = whole(self.opened_media(media, None).await?, limits.file_bytes_max).await?;
        let permit = Arc::clone(&self.decoding).acquire_owned().await.map_err(|closed| {
            ServiceError::unavailable("the server is stopping").caused_by(closed)
        })?;
        let made = tokio::task::spawn_blocking(move || {
            let made = make(&bytes, edge, format, &limits);
            drop((permit, held));
            made
        });
        made.await.map_err(|error| {
            ServiceError::internal("the picture could not be decoded").caused_by(error)
        })?
    }

    async fn keep_picture(&self, media: &Media, made: &Thumbnail) -> Result<Picture, ServiceError> {
        let (width, height) = made.source;
        let picture = Picture { width, height, color: made.color.clone() };
        let json = serde_json::to_vec(&picture)
            .map_err(|error| ServiceError::internal(error.to_string()))?;
        self.store.blobs().put(&picture_key(media), json).await?;
        Ok(picture)
    }
}

/// By content, beside its thumbnails; collected with them.
fn picture_key(media: &Media) -> String {
    format!("thumbnails/{}-picture.json", hex::encode(media.content_hash))
}

fn too_large(bytes_max: u64) -> ServiceError {
    let message = format!("the file has more than {bytes_max} bytes, too many for a thumbnail");
    ServiceError::exhausted(message).reason("PICTURE_TOO_LARGE")
}

/// A file in memory, if it is no larger than a picture may be.
async fn whole(mut pieces: MediaBytes, bytes_max: u64) -> Result<Bytes, ServiceError> {
    let mut all = BytesMut::new();
    while let Some(piece) = pieces.try_next().await? {
        if (all.len() + piece.len()) as u64 > bytes_max {
            return Err(too_large(bytes_max));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}
