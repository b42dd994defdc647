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

/// A file to be sent: its path below the version, and where it lies here.
pub type Named = (String, PathBuf);

/// What sending files came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// The committed upload, of which a version is made.
    pub upload_id: String,
    /// Of all files.
    pub files: u64,
    pub bytes: u64,
    /// What went over the wire.
    pub sent_bytes: u64,
}

/// Sends files; answers the committed upload. What the server holds already is
/// not sent, nor what arrived before an earlier try was cut.
///
/// # Errors
/// A file that cannot be read, or the server's.
pub async fn upload(
    client: &Client,
    namespace: &str,
    files: &[Named],
    sent: impl Fn(u64),
) -> Result<Sent, Failure> {
    let mut named = Vec::with_capacity(files.len());
    for (name, path) in files {
        let (digest, byte_count) = hashed(path).await?;
        named.push(api::UploadFile { path: name.clone(), digest, byte_count });
    }
    let request = api::BeginUploadRequest {
        namespace: namespace.to_owned(),
        files: named.clone(),
        resume: true,
    };
    let opened = client.model_files().begin_upload(request).await?.into_inner();
    let mut arrived = Vec::new();
    if opened.resumed {
        let request = api::GetUploadStatusRequest { upload_id: opened.upload_id.clone() };
        arrived = client.model_files().get_upload_status(request).await?.into_inner().files;
    }
    let mut done = Sent { upload_id: opened.upload_id.clone(), ..Sent::default() };
    let part_bytes = opened.part_bytes.max(1);
    for (at, (file, (_, path))) in (0_i32..).zip(named.iter().zip(files)) {
        done.files += 1;
        done.bytes += file.byte_count.unsigned_abs();
        if opened.present.contains(&at) {
            continue;
        }
        let known = usize::try_from(at).ok().and_then(|at| arrived.get(at));
        let parts = ((file.byte_count + part_bytes - 1) / part_bytes).max(1);
        for part in 0..parts {
            if known.is_some_and(|known| known.parts.iter().any(|it| i64::from(*it) == part)) {
                continue;
            }
            let begin = part * part_bytes;
            let bytes = (file.byte_count - begin).min(part_bytes);
            send(client, &opened.upload_id, (at, part), path, (begin, bytes)).await?;
            done.sent_bytes += bytes.unsigned_abs();
            sent(bytes.unsigned_abs());
        }
    }
    let request = api::CommitUploadRequest { upload_id: opened.upload_id };
    client.model_files().commit_upload(request).await?;
    Ok(done)
}

/// The files of a path, each with its name below it, by name. A link is followed
/// within the folder; one that leads out of it only if the caller wants so.
///
/// # Errors
/// What cannot be read, a link that leads out or in circles, what is no file.
pub fn files(path: &Path, follow_links: bool) -> Result<Vec<Named>, Failure> {
    if path.is_file() {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| unnamed(path))?;
        return Ok(vec![(name.to_owned(), path.to_owned())]);
    }
    let root = std::fs::canonicalize(path).map_err(failed(path))?;
    let mut found = Vec::new();
    let mut folders = vec![(path.to_owned(), vec![root.clone()])];
    while let Some((folder, above)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(failed(&folder))? {
            let entry = entry.map_err(failed(&folder))?.path();
            let kind = std::fs::symlink_metadata(&entry).map_err(failed(&entry))?.file_type();
            if kind.is_symlink() {
                let target = std::fs::canonicalize(&entry).map_err(failed(&entry))?;
                if !follow_links && !target.starts_with(&root) {
                    return Err(leads_out(&entry, &target, path));
                }
            }
            let meta = std::fs::metadata(&entry).map_err(failed(&entry))?;
            if meta.is_dir() {
                let real = std::fs::canonicalize(&entry).map_err(failed(&entry))?;
                if above.contains(&real) {
                    let message = format!("{} leads to a folder that holds it", entry.display());
                    return Err(Failure::usage(message));
                }
                let below = above.iter().cloned().chain([real]).collect();
                folders.push((entry, below));
            } else if meta.is_file() {
                let below = entry.strip_prefix(path).ok().and_then(Path::to_str);
                found.push((below.ok_or_else(|| unnamed(&entry))?.to_owned(), entry.clone()));
            } else {
                let message = format!("{} is no file: a pipe or a device", entry.display());
                return Err(Failure::usage(message));
            }
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(Failure::usage(format!("{} holds no file", path.display())));
    }
    Ok(found)
}

fn unnamed(path: &Path) -> Failure {
    Failure::usage(format!("{}: a file's name must be UTF-8", path.display()))
}

fn leads_out(link: &Path, target: &Path, root: &Path) -> Failure {
    Failure::usage(format!(
        "{} is a link to {}, outside of {}: copy the file there, or follow such links with --follow-links",
        link.display(),
        target.display(),
        root.display()
    ))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(found: Vec<Named>) -> Vec<String> {
        found.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_link_is_followed_within_its_folder_only() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("model");
        std::fs::create_dir_all(folder.join("data")).unwrap();
        std::fs::write(place.path().join("secret"), "s").unwrap();
        std::fs::write(folder.join("data/w"), "w").unwrap();
        symlink("data/w", folder.join("inside")).unwrap();
        assert_eq!(names(files(&folder, false).unwrap()), ["data/w", "inside"]);
        symlink("../secret", folder.join("outside")).unwrap();
        let refused = files(&folder, false).unwrap_err().to_string();
        assert!(refused.contains("outside") && refused.contains("--follow-links"), "{refused}");
        assert_eq!(names(files(&folder, true).unwrap()), ["data/w", "inside", "outside"]);
        std::fs::remove_file(folder.join("outside")).unwrap();
        symlink(place.path(), folder.join("data/up")).unwrap();
        assert!(files(&folder, false).is_err(), "a folder outside");
        assert!(files(&folder, true).is_err(), "in circles");
        std::fs::remove_file(folder.join("data/up")).unwrap();
        symlink("nowhere", folder.join("dangling")).unwrap();
        assert!(files(&folder, true).unwrap_err().to_string().contains("dangling"));
        std::fs::remove_file(folder.join("dangling")).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap();
        assert!(pipe.success());
        assert!(files(&folder, false).unwrap_err().to_string().contains("pipe"), "never waits");
    }
}
