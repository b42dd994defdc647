//! Files of items: many on one stream up, several at once down.

use std::collections::HashSet;
use std::path::Path;

use futures::TryStreamExt;
use ingest::images::Image;
use items_api::v1::upload_media_request::Part;
use items_api::v1::{
    AbortUploadRequest, BeginUploadRequest, DownloadMediaRequest, MediaHeader, UploadMediaRequest,
    UploadMediaResponse,
};
use service_error::ServiceError;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::Client;
use super::version::DatasetName;
use crate::failure::Failure;

/// Of a chunk on the wire.
const CHUNK_BYTES: usize = 1 << 20;
/// Streams of one upload.
const LANES: usize = 4;
/// Chunks that wait for the network, on each stream.
const CHUNKS_IN_FLIGHT: usize = 8;
/// Acknowledgements that wait to be read.
const ACKS_WAITING: usize = 64;

/// Opens a leased upload for a dataset, which may not exist yet.
pub async fn begin(client: &Client, dataset: &DatasetName) -> Result<String, Failure> {
    let request = BeginUploadRequest {
        namespace: dataset.namespace.clone(),
        dataset: dataset.dataset.clone(),
    };
    Ok(client.media().begin_upload(request).await?.into_inner().upload_id)
}

/// Gives an upload up, so that its files are swept now and not when its lease
/// ends.
pub async fn abort(client: &Client, upload_id: &str) -> Result<(), Failure> {
    client.media().abort_upload(AbortUploadRequest { upload_id: upload_id.to_owned() }).await?;
    Ok(())
}

/// The files of one upload on their way to the server, on several streams: the
/// server keeps the files of one stream one after another.
pub struct Uploads {
    upload_id: String,
    lanes: Vec<Lane>,
    /// The lane of the next file.
    turn: usize,
    sent: HashSet<[u8; 32]>,
}

/// A file that was sent and is yet to be acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Sent(usize);

/// One stream of files; acknowledgements come in its order.
struct Lane {
    parts: mpsc::Sender<UploadMediaRequest>,
    acks: mpsc::Receiver<Result<UploadMediaResponse, Status>>,
    _call: AbortOnDropHandle<()>,
}

impl Uploads {
    /// Opens the streams.
    pub fn start(client: &Client, upload_id: &str) -> Self {
        Self {
            upload_id: upload_id.to_owned(),
            lanes: (0..LANES).map(|_| Lane::open(client)).collect(),
            turn: 0,
            sent: HashSet::new(),
        }
    }

    /// Sends a file, unless the same bytes were sent before.
    pub async fn send(&mut self, image: &mut Image) -> Result<Option<Sent>, Failure> {
        if !self.sent.insert(image.content_hash) {
            return Ok(None);
        }
        let header = MediaHeader {
            upload_id: self.upload_id.clone(),
            content_hash: image.content_hash.to_vec(),
            size: i64::try_from(image.size).unwrap_or(i64::MAX),
            mime_type: image.mime_type.to_owned(),
        };
        let lane = self.turn % LANES;
        self.turn += 1;
        let out = &mut self.lanes[lane];
        out.part(Part::Header(header)).await?;
        match image.bytes.take() {
            Some(bytes) => out.part(Part::Chunk(bytes)).await?,
            None => out.file(&image.found.path).await?,
        }
        Ok(Some(Sent(lane)))
    }

    /// Waits until a file is kept; asked in the order in which files were sent.
    pub async fn kept(&mut self, sent: Sent) -> Result<(), Failure> {
        self.lanes[sent.0].ack().await
    }
}

impl Lane {
    fn open(client: &Client) -> Self {
        let (parts, requests) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let (acked, acks) = mpsc::channel(ACKS_WAITING);
        let mut media = client.media();
        let call = tokio::spawn(async move {
            let answers = match media.upload_media(ReceiverStream::new(requests)).await {
                Ok(answers) => answers.into_inner(),
                Err(status) => return drop(acked.send(Err(status)).await),
            };
            let mut answers = std::pin::pin!(answers);
            loop {
                let ack = match answers.try_next().await {
                    Ok(None) => return,
                    Ok(Some(ack)) => Ok(ack),
                    Err(status) => Err(status),
                };
                let ended = ack.is_err();
                if acked.send(ack).await.is_err() || ended {
                    return;
                }
            }
        });
        Self { parts, acks, _call: AbortOnDropHandle::new(call) }
    }

    async fn file(&mut self, path: &Path) -> Result<(), Failure> {
        let failed =
            |err: std::io::Error| ServiceError::precondition(format!("{}: {err}", path.display()));
        let mut file = File::open(path).await.map_err(failed)?;
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let mut part = (&mut file).take(CHUNK_BYTES as u64);
            part.read_to_end(&mut chunk).await.map_err(failed)?;
            if chunk.is_empty() {
                return Ok(());
            }
            self.part(Part::Chunk(chunk)).await?;
        }
    }

    async fn part(&mut self, part: Part) -> Result<(), Failure> {
        match self.parts.send(UploadMediaRequest { part: Some(part) }).await {
            Ok(()) => Ok(()),
            // The call has ended, and says why among its answers.
            Err(_) => loop {
                self.ack().await?;
            },
        }
    }

    async fn ack(&mut self) -> Result<(), Failure> {
        match self.acks.recv().await {
            Some(Ok(_)) => Ok(()),
            Some(Err(status)) => Err(status.into()),
            None => {
                let message = "the server ended the upload of files early";
                Err(ServiceError::unavailable(message).into())
            }
        }
    }
}

/// Fetches the file of a row to `path`, whose folders are made. What arrives is
/// compared with the hash.
pub async fn download(
    client: &Client,
    dataset: &DatasetName,
    hash: &str,
    path: &Path,
) -> Result<u64, Failure> {
    let failed =
        |err: std::io::Error| ServiceError::precondition(format!("{}: {err}", path.display()));
    if let Some(parent) = path.parent() {
        tokio::fs::create_dir_all(parent).await.map_err(failed)?;
    }
    let request = DownloadMediaRequest {
        namespace: dataset.namespace.clone(),
        dataset: dataset.dataset.clone(),
        content_hash: hash.to_owned(),
        ..Default::default()
    };
    let mut body = client.media().download_media(request).await?.into_inner();
    let mut file = File::create(path).await.map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    let mut size = 0;
    while let Some(part) = body.message().await? {
        hasher.update(&part.data);
        size += part.data.len() as u64;
        file.write_all(&part.data).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    if !hasher.finalize().to_hex().as_str().eq_ignore_ascii_case(hash) {
        let message = format!("the file {hash} did not arrive as it was stored");
        return Err(ServiceError::data_loss(message).into());
    }
    Ok(size)
}
