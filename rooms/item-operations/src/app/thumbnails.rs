//! Thumbnails of media: made when first asked for, then kept by content beside it.

use std::sync::Arc;

use ::thumbnails::{Format, Limits, make};
use bytes::{Bytes, BytesMut};
use caller::Caller;
use futures::TryStreamExt;
use service_error::{Code, ServiceError};

use crate::app::App;
use crate::app::media::MediaBody;
use crate::model::Address;

/// Pictures that are decoded at once; each may hold what [`Limits`] give it.
pub const DECODED_AT_ONCE: usize = 2;

impl App {
    /// A thumbnail of a file of a dataset; `edge` in pixels.
    ///
    /// # Errors
    /// As [`App::download`] and [`make`].
    pub async fn thumbnail(
        &self,
        caller: &Caller,
        address: &Address,
        hash: &str,
        edge: u32,
        format: Format,
    ) -> Result<Bytes, ServiceError> {
        // Before what is kept, which knows nobody's rights.
        let media = self.download(caller, address, hash).await?;
        let hash = hash.to_ascii_lowercase();
        let key = format!("thumbnails/{hash}-{edge}.{}", format.extension());
        match self.store.blobs().get(&key).await {
            Err(error) if error.code() == Code::NotFound => {}
            kept => return kept,
        }
        let permit = Arc::clone(&self.decoding).acquire_owned().await.map_err(|closed| {
            ServiceError::unavailable("the server is stopping").caused_by(closed)
        })?;
        let limits = Limits::default();
        let bytes = whole(media, limits.file_bytes_max).await?;
        let made = tokio::task::spawn_blocking(move || {
            let made = make(&bytes, edge, format, &limits);
            drop(permit);
            made
        });
        let made = made.await.map_err(|error| {
            ServiceError::internal("the picture could not be decoded").caused_by(error)
        })??;
        let bytes = Bytes::from(made.bytes);
        self.store.blobs().put(&key, bytes.clone()).await?;
        Ok(bytes)
    }
}

/// A file in memory, if it is no larger than a picture may be.
async fn whole(mut media: MediaBody, bytes_max: u64) -> Result<Bytes, ServiceError> {
    let mut all = BytesMut::new();
    while let Some(piece) = media.bytes.try_next().await? {
        if (all.len() + piece.len()) as u64 > bytes_max {
            let message =
                format!("the file has more than {bytes_max} bytes, too many for a thumbnail");
            return Err(ServiceError::exhausted(message).reason("PICTURE_TOO_LARGE"));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}
