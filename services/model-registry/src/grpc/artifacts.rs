//! `quarry.models.v1.ArtifactsService`.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use caller::Caller;
use futures::{Stream, StreamExt};
use ids::UploadId;
use models_api::http_body::HttpBody;
use models_api::v1 as wire;
use models_api::v1::artifacts_service_server::ArtifactsService;
use service_error::ServiceError;
use sql_store::now_micros;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::versions::place;
use super::{answer, parse, timestamp};
use crate::app::{FileProgress, IncomingPart, Registry};
use crate::model::artifact::{PART_BYTES, parse_digest};
use crate::model::{UploadState, VersionRef};

/// Acknowledgements that wait to be read.
const ACKS_WAITING: usize = 16;
/// Set by the gateway, which lets no client set it.
const ORIGIN: &str = "x-quarry-origin";
const BYTES: &str = "application/octet-stream";

/// The service over the use cases.
pub struct Artifacts(pub Registry);

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ArtifactsService for Artifacts {
    type UploadPartsStream = Out<wire::UploadPartsResponse>;
    type DownloadFileStream = Out<HttpBody>;

    async fn has_blobs(
        &self,
        request: Request<wire::HasBlobsRequest>,
    ) -> Result<Response<wire::HasBlobsResponse>, Status> {
        let caller = caller::of(&request)?;
        let blobs = request.into_inner().blobs;
        let digests: Vec<String> = blobs.into_iter().map(|blob| blob.digest).collect();
        let found = self.0.has_blobs(&caller, &digests).await;
        answer(found.map(|found| wire::HasBlobsResponse {
            present: found.into_iter().map(hex::encode).collect(),
        }))
    }

    async fn begin_upload(
        &self,
        request: Request<wire::BeginUploadRequest>,
    ) -> Result<Response<wire::BeginUploadResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let opened = async {
            let files = asked.files.into_iter().map(|file| {
                let digest = parse_digest("files.digest", &file.digest)?;
                Ok((file.path, Some(digest), file.byte_count))
            });
            let files = files.collect::<Result<Vec<_>, ServiceError>>()?;
            let opened =
                self.0.begin_upload(&caller, &asked.namespace, files, asked.resume).await?;
            let present = opened.files.iter().filter(|file| file.present);
            Ok::<_, ServiceError>(wire::BeginUploadResponse {
                upload_id: opened.upload.id.to_string(),
                expire_time: Some(timestamp(opened.upload.expires_at)),
                part_bytes: PART_BYTES,
                present: present.map(|file| small(file.ordinal)).collect(),
                resumed: opened.resumed,
            })
        };
        answer(opened.await)
    }

    async fn upload_parts(
        &self,
        request: Request<Streaming<wire::UploadPartsRequest>>,
    ) -> Result<Response<Self::UploadPartsStream>, Status> {
        let caller = caller::of(&request)?;
        let parts = request.into_inner();
        let (acks, acked) = mpsc::channel(ACKS_WAITING);
        // Two tasks: a client that reads no acknowledgements must not stop its
        // own parts for ever, nor the other way round.
        tokio::spawn(take_parts(self.0.clone(), caller, parts, acks));
        Ok(Response::new(Box::pin(ReceiverStream::new(acked))))
    }

    async fn get_upload_status(
        &self,
        request: Request<wire::GetUploadStatusRequest>,
    ) -> Result<Response<wire::GetUploadStatusResponse>, Status> {
        let caller = caller::of(&request)?;
        let found = async {
            let id = parse("upload_id", &request.into_inner().upload_id)?;
            self.0.upload_status(&caller, id).await
        };
        answer(found.await.map(|(upload, files)| {
            wire::GetUploadStatusResponse {
                state: match upload.state {
                    UploadState::Open if upload.expires_at < now_micros() => {
                        wire::UploadState::Aborted
                    }
                    UploadState::Open => wire::UploadState::Open,
                    UploadState::Committed => wire::UploadState::Committed,
                    UploadState::Aborted => wire::UploadState::Aborted,
                }
                .into(),
                expire_time: Some(timestamp(upload.expires_at)),
                part_bytes: PART_BYTES,
                files: files.into_iter().map(progress_to_wire).collect(),
            }
        }))
    }

    async fn commit_upload(
        &self,
        request: Request<wire::CommitUploadRequest>,
    ) -> Result<Response<wire::CommitUploadResponse>, Status> {
        let caller = caller::of(&request)?;
        let done = async {
            let id = parse("upload_id", &request.into_inner().upload_id)?;
            self.0.commit_upload(&caller, id).await
        };
        answer(done.await.map(|done| wire::CommitUploadResponse {
            file_count: done.files,
            byte_count: done.bytes,
            deduplicated_bytes: done.known_bytes,
        }))
    }

    async fn abort_upload(
        &self,
        request: Request<wire::AbortUploadRequest>,
    ) -> Result<Response<wire::AbortUploadResponse>, Status> {
        let caller = caller::of(&request)?;
        let done = async {
            let id = parse("upload_id", &request.into_inner().upload_id)?;
            self.0.abort_upload(&caller, id).await
        };
        answer(done.await.map(|()| wire::AbortUploadResponse {}))
    }

    async fn list_files(
        &self,
        request: Request<wire::ListFilesRequest>,
    ) -> Result<Response<wire::ListFilesResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let list = format!("files:{}:{}:{}", asked.namespace, asked.model, asked.version);
            let after: Option<String> = paging::key(&list, &asked.page_token)?;
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            let after = after.unwrap_or_default();
            let found = self.0.list_files(&caller, &path, &which, &after, size + 1).await?;
            let (found, next_page_token) =
                paging::cut(found, size, &list, |last| last.path.clone());
            let files = found.into_iter().map(|file| wire::FileEntry {
                path: file.path,
                digest: hex::encode(file.digest),
                byte_count: file.byte_count,
            });
            let files = files.collect();
            Ok::<_, ServiceError>(wire::ListFilesResponse { files, next_page_token })
        };
        answer(page.await)
    }

    async fn download_file(
        &self,
        request: Request<wire::DownloadFileRequest>,
    ) -> Result<Response<Self::DownloadFileStream>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let wire::DownloadFileRequest { namespace, model, version, .. } = asked;
        let wire::DownloadFileRequest { path: file, offset: begin, byte_count, .. } = asked;
        let (path, which): (_, VersionRef) = place(namespace, model, &version)?;
        let range = match (begin, byte_count) {
            (0, 0) => None,
            (begin, 0) => Some(begin..i64::MAX),
            (begin, count) => Some(begin..begin.saturating_add(count)),
        };
        let (_, pieces) = self.0.download_file(&caller, &path, &which, &file, range).await?;
        let body = |piece: Result<Bytes, ServiceError>| match piece {
            Ok(data) => Ok(HttpBody { content_type: BYTES.to_owned(), data }),
            Err(error) => Err(Status::from(error)),
        };
        Ok(Response::new(Box::pin(pieces.map(body))))
    }

    async fn sign_download(
        &self,
        request: Request<wire::SignDownloadRequest>,
    ) -> Result<Response<wire::SignDownloadResponse>, Status> {
        let caller = caller::of(&request)?;
        let origin = origin(&request);
        let asked = request.into_inner();
        let signed = async {
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            self.0.sign_download(&caller, &path, &which, &asked.path, asked.seconds).await
        };
        answer(signed.await.map(|signed| wire::SignDownloadResponse {
            url: if signed.direct { signed.address } else { origin + &signed.address },
            expire_time: Some(timestamp(signed.expires_at)),
            direct: signed.direct,
            digest: hex::encode(signed.entry.digest),
            byte_count: signed.entry.byte_count,
        }))
    }

    async fn sign_parts(
        &self,
        request: Request<wire::SignPartsRequest>,
    ) -> Result<Response<wire::SignPartsResponse>, Status> {
        let caller = caller::of(&request)?;
        let origin = origin(&request);
        let asked = request.into_inner();
        let signed = async {
            let id = parse("upload_id", &asked.upload_id)?;
            let file = i64::from(asked.file);
            self.0.sign_parts(&caller, id, file, &asked.parts, asked.seconds).await
        };
        answer(signed.await.map(|(parts, expires_at)| {
            let signed = |(part, path): (i64, String)| wire::SignedPart {
                part: small(part),
                url: format!("{origin}{path}"),
            };
            wire::SignPartsResponse {
                parts: parts.into_iter().map(signed).collect(),
                expire_time: Some(timestamp(expires_at)),
            }
        }))
    }

    async fn collect_garbage(
        &self,
        request: Request<wire::CollectGarbageRequest>,
    ) -> Result<Response<wire::CollectGarbageResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let before =
            asked.trash_seconds.map(|age| now_micros() - age.max(0).saturating_mul(1_000_000));
        if asked.background && !asked.dry_run {
            let queued = self.0.queue_collection(&caller, before).await;
            return answer(queued.map(|job| wire::CollectGarbageResponse {
                job: self.0.job_name(&job),
                ..Default::default()
            }));
        }
        let done = if asked.dry_run {
            self.0.garbage(before).await
        } else {
            self.0.collect_garbage(before).await
        };
        answer(done.map(|done| wire::CollectGarbageResponse {
            blobs: done.blobs,
            freed_bytes: done.freed_bytes,
            purged_models: done.purged_models,
            purged_versions: done.purged_versions,
            swept_uploads: done.swept_uploads,
            job: String::new(),
            reclaimed_files: done.reclaimed_files,
        }))
    }
}

/// Takes the pieces of parts, one part after the other, and acknowledges each
/// part that is durable. The first error ends the stream.
async fn take_parts(
    registry: Registry,
    caller: Arc<Caller>,
    mut parts: Streaming<wire::UploadPartsRequest>,
    acks: mpsc::Sender<Result<wire::UploadPartsResponse, Status>>,
) {
    let mut open: Option<Open> = None;
    loop {
        let taken = match parts.message().await {
            Ok(Some(piece)) => take_piece(&registry, &caller, &mut open, piece).await,
            Ok(None) => return,
            Err(status) => Err(ServiceError::from_status(&status)),
        };
        let ack = match taken {
            Ok(None) => continue,
            Ok(Some((file, part))) => {
                Ok(wire::UploadPartsResponse { file: small(file), part: small(part) })
            }
            Err(error) => Err(Status::from(error)),
        };
        let ended = ack.is_err();
        if acks.send(ack).await.is_err() || ended {
            return;
        }
    }
}

struct Open {
    key: (String, i32, i32),
    part: IncomingPart,
}

async fn take_piece(
    registry: &Registry,
    caller: &Caller,
    open: &mut Option<Open>,
    piece: wire::UploadPartsRequest,
) -> Result<Option<(i64, i64)>, ServiceError> {
    let key = (piece.upload_id.clone(), piece.file, piece.part);
    let mut current = match open.take() {
        Some(current) if current.key == key => current,
        Some(current) => {
            let message =
                format!("part {} is not whole yet: its last piece says so", current.key.2);
            return Err(ServiceError::invalid("last", message));
        }
        None => {
            let id: UploadId = parse("upload_id", &piece.upload_id)?;
            let begun = registry.begin_part(caller, id, piece.file.into(), piece.part.into());
            Open { key, part: begun.await? }
        }
    };
    current.part.write(piece.data.into()).await?;
    if piece.last {
        return registry.end_part(current.part, piece.crc32).await.map(Some);
    }
    *open = Some(current);
    Ok(None)
}

/// Where the client reached the public door; empty if the door did not say.
fn origin<T>(request: &Request<T>) -> String {
    let said = request.metadata().get(ORIGIN).and_then(|value| value.to_str().ok());
    said.unwrap_or_default().to_owned()
}

fn progress_to_wire(progress: FileProgress) -> wire::FileStatus {
    wire::FileStatus {
        path: progress.file.path,
        byte_count: progress.file.byte_count,
        present: progress.file.present,
        parts: progress.parts.into_iter().map(small).collect(),
        received_bytes: progress.received,
    }
}

fn small(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
