//! `quarry.items.v1.MediaService`.

use std::ops::Range;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use items_api::http_body::HttpBody;
use items_api::v1::media_service_server::MediaService;
use items_api::v1::upload_media_request::Part;
use items_api::v1::{
    AbortUploadRequest, AbortUploadResponse, BeginUploadRequest, BeginUploadResponse,
    DownloadMediaRequest, GetMediaInfoRequest, GetMediaInfoResponse, GetThumbnailRequest,
    UploadMediaRequest, UploadMediaResponse,
};
use service_error::ServiceError;
use thumbnails::{Format, SIZES};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::conditions::{Share, Told};
use crate::app::{App, MediaName, MediaUpload};
use crate::model::Address;

/// Acknowledgements that wait for a client that does not read them.
const ANSWERS_AHEAD: usize = 64;
/// A piece of a download at most; gRPC's usual limit is 4 MiB.
const PIECE_BYTES_MAX: usize = 1 << 20;
/// Pixels.
const EDGE_DEFAULT: u32 = 256;
const DEFAULT_MIME_TYPE: &str = "application/octet-stream";

#[derive(Debug, Clone)]
pub(super) struct MediaGrpc {
    app: App,
}

impl MediaGrpc {
    /// The service over the use cases.
    pub const fn new(app: App) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl MediaService for MediaGrpc {
    type UploadMediaStream = BoxStream<'static, Result<UploadMediaResponse, Status>>;
    type DownloadMediaStream = BoxStream<'static, Result<HttpBody, Status>>;
    type GetThumbnailStream = BoxStream<'static, Result<HttpBody, Status>>;

    async fn begin_upload(
        &self,
        request: Request<BeginUploadRequest>,
    ) -> Result<Response<BeginUploadResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let address = Address::new(&request.namespace, &request.dataset)?;
        let (id, seconds) = self.app.begin_upload(&caller, &address).await?;
        let expire_time = Some(prost_types::Timestamp { seconds, nanos: 0 });
        Ok(Response::new(BeginUploadResponse { upload_id: id.to_string(), expire_time }))
    }

    async fn abort_upload(
        &self,
        request: Request<AbortUploadRequest>,
    ) -> Result<Response<AbortUploadResponse>, Status> {
        let caller = caller::of(&request)?;
        self.app.abort_upload(&caller, &request.get_ref().upload_id).await?;
        Ok(Response::new(AbortUploadResponse {}))
    }

    async fn upload_media(
        &self,
        request: Request<Streaming<UploadMediaRequest>>,
    ) -> Result<Response<Self::UploadMediaStream>, Status> {
        let caller = caller::of(&request)?;
        let upload = MediaUpload::new(self.app.clone(), caller);
        let (answers, waiting) = mpsc::channel(ANSWERS_AHEAD);
        // The two halves of a stream run apart: in memory a client may send all
        // it has before it reads.
        tokio::spawn(async move {
            if let Err(error) = receive(upload, request.into_inner(), &answers).await {
                let _ = answers.send(Err(error.into())).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(waiting).boxed()))
    }

    async fn download_media(
        &self,
        request: Request<DownloadMediaRequest>,
    ) -> Result<Response<Self::DownloadMediaStream>, Status> {
        let caller = caller::of(&request)?;
        let (metadata, _, request) = request.into_parts();
        let address = Address::new(&request.namespace, &request.dataset)?;
        let name = media_name(&request)?;
        let media = self.app.find_media(&caller, &address, name).await?;
        let content_type = match media.mime_type.as_str() {
            "" => DEFAULT_MIME_TYPE,
            said => said,
        };
        let tag = hex::encode(media.content_hash);
        let byte_count = u64::try_from(media.byte_count).unwrap_or(0);
        let told = Told { tag: &tag, byte_count, content_type };
        let share = match part(&request, byte_count)? {
            Some(part) => Share::Part(part),
            None => told.share(&metadata),
        };
        let bytes = match &share {
            Share::Whole => self.app.opened_media(&media, None).await?,
            Share::Part(range) if range.is_empty() => futures::stream::empty().boxed(),
            Share::Part(range) => self.app.opened_media(&media, Some(range.clone())).await?,
            Share::Nothing | Share::Outside => futures::stream::empty().boxed(),
        };
        let mut answer = Response::new(pieces(content_type.to_owned(), bytes));
        told.say(&share, answer.metadata_mut());
        Ok(answer)
    }

    async fn get_media_info(
        &self,
        request: Request<GetMediaInfoRequest>,
    ) -> Result<Response<GetMediaInfoResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let address = Address::new(&request.namespace, &request.dataset)?;
        let info = self.app.media_info(&caller, &address, &request.content_hash).await?;
        let pixels = |edge: u32| i32::try_from(edge).ok();
        let picture = info.picture.as_ref();
        Ok(Response::new(GetMediaInfoResponse {
            byte_count: info.byte_count,
            mime_type: info.mime_type,
            width: picture.and_then(|picture| pixels(picture.width)),
            height: picture.and_then(|picture| pixels(picture.height)),
            color: picture.map(|picture| picture.color.clone()).unwrap_or_default(),
        }))
    }

    async fn get_thumbnail(
        &self,
        request: Request<GetThumbnailRequest>,
    ) -> Result<Response<Self::GetThumbnailStream>, Status> {
        let caller = caller::of(&request)?;
        let (metadata, _, request) = request.into_parts();
        let address = Address::new(&request.namespace, &request.dataset)?;
        let format = match request.format.as_str() {
            "" | "jpeg" => Format::Jpeg,
            "webp" => Format::WebP,
            _ => Err(ServiceError::invalid("format", "must be `jpeg` or `webp`"))?,
        };
        let edge = match u32::try_from(request.size) {
            Ok(0) => EDGE_DEFAULT,
            Ok(edge) if SIZES.contains(&edge) => edge,
            _ => Err(ServiceError::invalid("size", format!("must be one of {SIZES:?}")))?,
        };
        let hash = &request.content_hash;
        let bytes = self.app.thumbnail(&caller, &address, hash, (edge, format)).await?;
        let tag = format!("{}-{edge}-{}", hash.to_lowercase(), format.extension());
        let content_type = format.mime_type();
        let told = Told { tag: &tag, byte_count: bytes.len() as u64, content_type };
        let share = told.share(&metadata);
        let shown = match &share {
            Share::Whole => bytes,
            Share::Part(range) => {
                let at = |place: u64| usize::try_from(place).unwrap_or(bytes.len());
                bytes.slice(at(range.start)..at(range.end))
            }
            Share::Nothing | Share::Outside => Bytes::new(),
        };
        let shown = futures::stream::iter([Ok(shown)]).boxed();
        let mut answer = Response::new(pieces(content_type.to_owned(), shown));
        told.say(&share, answer.metadata_mut());
        Ok(answer)
    }
}

/// Which file a request means: by its hash, or by an item.
fn media_name(request: &DownloadMediaRequest) -> Result<MediaName<'_>, ServiceError> {
    match (request.content_hash.as_str(), request.key.as_str()) {
        ("", "") => Err(ServiceError::invalid("content_hash", "is missing; or name a key")),
        ("", key) => Ok(MediaName::Item { key, version: &request.version }),
        (hash, "") if request.version.is_empty() => Ok(MediaName::Hash(hash)),
        (_, "") => Err(ServiceError::invalid("version", "goes with a key: a hash has one content")),
        _ => Err(ServiceError::invalid("key", "not beside a content_hash")),
    }
}

/// The part that a request names in numbers.
fn part(request: &DownloadMediaRequest, size: u64) -> Result<Option<Range<u64>>, ServiceError> {
    let &DownloadMediaRequest { offset, length, .. } = request;
    if (offset, length) == (0, 0) {
        return Ok(None);
    }
    let number = |field: &str, number: i64| {
        u64::try_from(number).map_err(|_| ServiceError::invalid(field, "must not be negative"))
    };
    let (offset, length) = (number("offset", offset)?, number("length", length)?);
    if offset > size {
        let message = format!("{offset} lies behind the file's end at {size}");
        return Err(ServiceError::invalid("offset", message).reason("RANGE_OUTSIDE"));
    }
    let end = match length {
        0 => size,
        length => offset.saturating_add(length).min(size),
    };
    Ok(Some(offset..end))
}

/// A body in messages that every client takes.
fn pieces(
    content_type: String,
    bytes: BoxStream<'static, Result<Bytes, ServiceError>>,
) -> BoxStream<'static, Result<HttpBody, Status>> {
    let messages = bytes.flat_map(move |piece| {
        let pieces: Vec<Result<HttpBody, Status>> = match piece {
            Err(error) => vec![Err(error.into())],
            Ok(mut piece) => {
                let mut pieces = Vec::new();
                while !piece.is_empty() {
                    let data = piece.split_to(piece.len().min(PIECE_BYTES_MAX));
                    pieces.push(Ok(HttpBody { content_type: content_type.clone(), data }));
                }
                pieces
            }
        };
        futures::stream::iter(pieces)
    });
    messages.boxed()
}

async fn receive(
    mut upload: MediaUpload,
    mut messages: Streaming<UploadMediaRequest>,
    answers: &mpsc::Sender<Result<UploadMediaResponse, Status>>,
) -> Result<(), ServiceError> {
    while let Some(message) = messages.message().await? {
        match message.part {
            Some(Part::Header(header)) => {
                upload
                    .header(&header.upload_id, &header.content_hash, header.size, &header.mime_type)
                    .await?;
            }
            Some(Part::Chunk(bytes)) => upload.chunk(bytes.into()).await?,
            None => return Err(ServiceError::invalid("part", "must be a header or a chunk")),
        }
        if let Some((content_hash, existed)) = upload.whole().await? {
            let answer = UploadMediaResponse { content_hash: content_hash.to_vec(), existed };
            if answers.send(Ok(answer)).await.is_err() {
                // The client is gone.
                return Ok(());
            }
        }
    }
    upload.end()
}
