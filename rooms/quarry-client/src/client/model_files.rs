//! Files of model versions: hashed, sent in parts, fetched and compared.

use std::path::{Component, Path, PathBuf};

use models_api::v1 as api;
use service_error::ServiceError;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Client;
use crate::failure::Failure;

/// Of a piece on the wire.
const PIECE_BYTES: u64 = 2 << 20;
/// Pieces that wait for the network.
const PIECES_WAITING: usize = 4;

fn failed(path: &Path) -> impl Fn(std::io::Error) -> ServiceError {
    move |err| ServiceError::precondition(format!("{}: {err}", path.display()))
}

/// Sends a file, or the files of a folder; answers the committed upload's id.
/// What the server holds already is not sent.
pub async fn upload(client: &Client, namespace: &str, path: &Path) -> Result<String, Failure> {
    let found = files(path)?;
    let mut named = Vec::with_capacity(found.len());
    for (name, path) in &found {
        let (digest, byte_count) = hashed(path).await?;
        named.push(api::UploadFile { path: name.clone(), digest, byte_count });
    }
    let request = api::BeginUploadRequest { namespace: namespace.to_owned(), files: named.clone() };
    let opened = client.model_files().begin_upload(request).await?.into_inner();
    let part_bytes = opened.part_bytes.max(1);
    for (at, (file, (_, path))) in (0_i32..).zip(named.iter().zip(&found)) {
        if opened.present.contains(&at) {
            continue;
        }
        let parts = ((file.byte_count + part_bytes - 1) / part_bytes).max(1);
        for part in 0..parts {
            let begin = part * part_bytes;
            let bytes = (file.byte_count - begin).min(part_bytes);
            send(client, &opened.upload_id, (at, part), path, (begin, bytes)).await?;
        }
    }
    let request = api::CommitUploadRequest { upload_id: opened.upload_id.clone() };
    client.model_files().commit_upload(request).await?;
    Ok(opened.upload_id)
}

/// The files of a path, each with its name below it, by name.
fn files(path: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let unnamed =
        |path: &Path| Failure::usage(format!("{}: a file's name must be UTF-8", path.display()));
    if path.is_file() {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| unnamed(path))?;
        return Ok(vec![(name.to_owned(), path.to_owned())]);
    }
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(failed(&folder))? {
            let entry = entry.map_err(failed(&folder))?.path();
            if entry.is_dir() {
                folders.push(entry);
            } else {
                let below = entry.strip_prefix(path).ok().and_then(Path::to_str);
                found.push((below.ok_or_else(|| unnamed(&entry))?.to_owned(), entry.clone()));
            }
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(Failure::usage(format!("{} holds no file", path.display())));
    }
    Ok(found)
}

async fn hashed(path: &Path) -> Result<(String, i64), Failure> {
    let mut file = File::open(path).await.map_err(failed(path))?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; usize::try_from(PIECE_BYTES).unwrap_or(1 << 20)];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut piece).await.map_err(failed(path))?;
        if read == 0 {
            return Ok((hex::encode(hasher.finalize()), bytes));
        }
        hasher.update(&piece[..read]);
        bytes += i64::try_from(read).unwrap_or(i64::MAX);
    }
}

/// Sends one part and waits until it counts.
async fn send(
    client: &Client,
    upload_id: &str,
    (file, part): (i32, i64),
    path: &Path,
    (begin, bytes): (i64, i64),
) -> Result<(), Failure> {
    let (pieces, sent) = mpsc::channel(PIECES_WAITING);
    let upload_id = upload_id.to_owned();
    let path = path.to_owned();
    let part = i32::try_from(part).unwrap_or(i32::MAX);
    let reading = tokio::spawn(async move {
        let mut from = File::open(&path).await.map_err(failed(&path))?;
        let start = u64::try_from(begin).unwrap_or_default();
        from.seek(std::io::SeekFrom::Start(start)).await.map_err(failed(&path))?;
        let mut left = u64::try_from(bytes).unwrap_or_default();
        loop {
            let size = left.min(PIECE_BYTES);
            let mut data = vec![0; usize::try_from(size).unwrap_or_default()];
            from.read_exact(&mut data).await.map_err(failed(&path))?;
            left -= size;
            let piece = api::UploadPartsRequest {
                upload_id: upload_id.clone(),
                file,
                part,
                data,
                last: left == 0,
                crc32: None,
            };
            // Whoever stopped reading has said why.
            if pieces.send(piece).await.is_err() || left == 0 {
                return Ok::<_, ServiceError>(());
            }
        }
    });
    let mut client = client.model_files();
    let mut acks = client.upload_parts(ReceiverStream::new(sent)).await?.into_inner();
    let ack = acks.message().await?;
    reading.await.map_err(|err| ServiceError::internal(err.to_string()))??;
    if ack.is_none() {
        return Err(ServiceError::unavailable("the server ended the upload early").into());
    }
    Ok(())
}

/// Writes the files of a version below a folder; answers how many, and their
/// bytes. What arrives is compared with its digest.
pub async fn download(
    client: &Client,
    version: &api::ModelVersion,
    folder: &Path,
) -> Result<(u64, u64), Failure> {
    let (mut files, mut bytes) = (0, 0);
    let mut page_token = String::new();
    loop {
        let request = api::ListFilesRequest {
            namespace: version.namespace.clone(),
            model: version.model.clone(),
            version: version.number.to_string(),
            page_size: 0,
            page_token,
        };
        let page = client.model_files().list_files(request).await?.into_inner();
        for file in page.files {
            bytes += fetch(client, version, &file, folder).await?;
            files += 1;
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok((files, bytes));
        }
    }
}

async fn fetch(
    client: &Client,
    version: &api::ModelVersion,
    file: &api::FileEntry,
    folder: &Path,
) -> Result<u64, Failure> {
    let below = Path::new(&file.path);
    if !below.components().all(|part| matches!(part, Component::Normal(_))) {
        let message = format!("the server names a file outside: {:?}", file.path);
        return Err(ServiceError::data_loss(message).into());
    }
    let path = folder.join(below);
    if let Some(parent) = path.parent() {
        tokio::fs::create_dir_all(parent).await.map_err(failed(parent))?;
    }
    let request = api::DownloadFileRequest {
        namespace: version.namespace.clone(),
        model: version.model.clone(),
        version: version.number.to_string(),
        path: file.path.clone(),
        offset: 0,
        byte_count: 0,
    };
    let mut body = client.model_files().download_file(request).await?.into_inner();
    let mut into = File::create(&path).await.map_err(failed(&path))?;
    let mut hasher = Sha256::new();
    let mut bytes = 0;
    while let Some(piece) = body.message().await? {
        hasher.update(&piece.data);
        bytes += piece.data.len() as u64;
        into.write_all(&piece.data).await.map_err(failed(&path))?;
    }
    into.flush().await.map_err(failed(&path))?;
    if hex::encode(hasher.finalize()) != file.digest {
        let message = format!("{} did not arrive as it was stored", file.path);
        return Err(ServiceError::data_loss(message).into());
    }
    Ok(bytes)
}
