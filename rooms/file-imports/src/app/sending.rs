//! Files of an import on their way to the item store, then the rows.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Take};

use dataset_layouts::Bytes;
use file_scan::names;
use file_sources::{Limits, Reader, Source};
use items_api::v1::upload_media_request::Part;
use items_api::v1::{MediaHeader, UploadMediaRequest};
use jobs::{Interrupt, Work};
use service_error::ServiceError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Imports;
use super::asked::ImportArguments;
use super::datasets::PutMode;
use super::importing::digest;
use super::members::{Archives, by_archive, through};
use super::rows::{self, Row};
use crate::model::Location;
use crate::store::ListedFile;

const CHUNK_BYTES: usize = 1 << 20;
/// Chunks between the disk and the network.
const QUEUE: usize = 8;
/// Larger files are not read into memory before they are sent.
const WHOLE_BYTES_MAX: u64 = 64 << 20;

/// The type that a name tells.
pub(super) fn mime_of(path: &str) -> &'static str {
    let ext = names::extension(path.rsplit('/').next().unwrap_or(path)).to_ascii_lowercase();
    match ext.as_str() {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "bmp" => "image/bmp",
        "tif" | "tiff" => "image/tiff",
        "avif" => "image/avif",
        _ => "application/octet-stream",
    }
}

/// What an import reads from.
#[derive(Clone, Copy)]
pub(super) struct Disk<'a> {
    pub source: &'a Source,
    pub files: &'a [ListedFile],
    pub archives: &'a Archives,
}

/// Sends what the rows name and puts them; answers the version, if there is a
/// new one, and the items
/// whose bytes could not be read, which are not put.
pub(super) async fn put(
    imports: &Imports,
    work: &Work,
    arguments: &ImportArguments,
    location: &Location,
    disk: Disk<'_>,
    fresh: &mut Vec<Row>,
) -> Result<(Option<i64>, HashSet<Uuid>), Interrupt> {
    let mut upload = String::new();
    let mut failed = HashSet::new();
    if !arguments.by_reference {
        upload = imports.datasets.begin_upload(&arguments.namespace, &arguments.dataset).await?;
        match send(imports, work, &upload, disk, fresh).await {
            Ok(unread) => failed = unread,
            Err(interrupt) => {
                if let Err(error) = imports.datasets.abort_upload(&upload).await {
                    tracing::warn!(%error, "an import's upload ends with its lease");
                }
                return Err(interrupt);
            }
        }
    }
    fresh.retain(|row| !failed.contains(&row.id));
    if fresh.is_empty() {
        return Ok((None, failed));
    }
    work.phase("putting", "items");
    let all: Vec<&Row> = fresh.iter().collect();
    let prints: Vec<[u8; 16]> = fresh.iter().map(|row| row.print(location)).collect();
    let key = format!("{}-{}", work.job().id, digest(prints.iter().map(<[u8; 16]>::as_slice)));
    let batches = rows::batches(&all, location)?;
    let version =
        imports.datasets.put(&arguments.name(), PutMode::Upsert, &upload, &key, batches).await?;
    Ok((Some(version), failed))
}

/// A file to be sent.
struct ToSend {
    file: ListedFile,
    begin: Option<u64>,
    size: u64,
    content: [u8; 32],
    mime_type: &'static str,
}

async fn send(
    imports: &Imports,
    work: &Work,
    upload: &str,
    disk: Disk<'_>,
    fresh: &[Row],
) -> Result<HashSet<Uuid>, Interrupt> {
    work.phase("sending", "files");
    let mut seen = HashSet::new();
    let files: Vec<ToSend> = fresh
        .iter()
        .filter(|row| seen.insert(row.sample.content))
        .filter_map(|row| {
            let (at, begin) = match row.sample.bytes {
                Bytes::File(at) => (at, None),
                Bytes::Within { file, offset } => (file, Some(offset)),
            };
            Some(ToSend {
                file: disk.files.get(at)?.clone(),
                begin,
                size: row.sample.size,
                content: row.sample.content,
                mime_type: row.mime_type,
            })
        })
        .collect();
    let total = i64::try_from(files.len()).unwrap_or(i64::MAX);
    let (parts, taken) = mpsc::channel(QUEUE);
    let (source, archives) = (disk.source.clone(), disk.archives.clone());
    let limits = imports.limits;
    let sender = Sender { upload: upload.to_owned(), parts, stopping: work.stopping() };
    let reading = tokio::task::spawn_blocking(move || {
        let mut unread = Vec::new();
        let goes_on = send_files(&sender, &source, &files, &mut unread);
        if goes_on {
            send_members(&sender, &source, &archives, &limits, &files, &mut unread);
        }
        unread.into_iter().map(|(file, why)| file.failed(why)).collect::<Vec<_>>()
    });
    let sent = imports.datasets.send_media(taken, |kept| work.progress(kept, Some(total))).await;
    let unread = reading
        .await
        .map_err(|err| ServiceError::internal("reading files failed").caused_by(err))?;
    if work.is_stopping() {
        // It may have ended amid a file.
        work.step(&"sent").await?;
    }
    sent?;
    work.step(&"sent").await?;
    let mut contents = HashSet::new();
    for (content, path, why) in unread {
        work.item_failed(&path, &why);
        contents.insert(content);
    }
    let failed = fresh.iter().filter(|row| contents.contains(&row.sample.content));
    Ok(failed.map(|row| row.id).collect())
}

impl ToSend {
    fn failed(&self, why: String) -> ([u8; 32], String, String) {
        (self.content, names::shown(&self.file.found.path()), why)
    }
}

/// Where bytes go.
struct Sender {
    upload: String,
    parts: mpsc::Sender<UploadMediaRequest>,
    stopping: CancellationToken,
}

/// Sends files that lie in no archive; false when nobody takes them any more.
fn send_files<'a>(
    sender: &Sender,
    source: &Source,
    files: &'a [ToSend],
    unread: &mut Vec<(&'a ToSend, String)>,
) -> bool {
    let mut reader = source.reader();
    for file in files.iter().filter(|file| file.file.found.archive.is_none()) {
        if sender.stopping.is_cancelled() {
            return false;
        }
        match opened(&mut reader, file).and_then(|mut bytes| sender.send(file, &mut bytes)) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(why) => unread.push((file, why)),
        }
    }
    true
}

/// Sends members, each archive in one pass.
fn send_members<'a>(
    sender: &Sender,
    source: &Source,
    archives: &Archives,
    limits: &Limits,
    files: &'a [ToSend],
    unread: &mut Vec<(&'a ToSend, String)>,
) {
    let groups = by_archive(files.iter().map(|file| (&file.file, file)), archives);
    for (archive, wanted) in groups {
        let Some(place) = archives.get(&archive) else { continue };
        let mut outcomes: HashMap<[u8; 32], Result<(), String>> = HashMap::new();
        let mut goes_on = true;
        let read = through(source, place, &wanted, limits, &mut |file, bytes| {
            if sender.stopping.is_cancelled() {
                goes_on = false;
                return false;
            }
            // Of two of one name the one with the right bytes counts.
            if outcomes.get(&file.content).is_some_and(Result::is_ok) {
                return true;
            }
            match sender.send(file, bytes) {
                Ok(goes) => {
                    goes_on = goes;
                    outcomes.insert(file.content, Ok(()));
                }
                Err(why) => {
                    outcomes.insert(file.content, Err(why));
                }
            }
            goes_on
        });
        if !goes_on {
            return;
        }
        let missing = read.err().unwrap_or_else(|| "is not in its archive any more".to_owned());
        for file in wanted.into_values() {
            match outcomes.remove(&file.content) {
                Some(Ok(())) => {}
                Some(Err(why)) => unread.push((file, why)),
                None => unread.push((file, missing.clone())),
            }
        }
    }
}

/// A file's bytes, or the part of it that holds them, if it is as it was listed.
fn opened(reader: &mut Reader<'_>, file: &ToSend) -> Result<Take<File>, String> {
    let found = &file.file.found;
    let path = names::bytes(&found.path());
    let (mut opened, mark) = reader
        .open(&path, found.ino.cast_unsigned())
        .map_err(|error| format!("can't be read: {error}"))?;
    let is_as_listed = mark.size == found.size
        && mark.modified == found.modified
        && mark.changed == file.file.changed;
    if !is_as_listed {
        return Err("changed since the last scan".to_owned());
    }
    opened.seek(SeekFrom::Start(file.begin.unwrap_or(0))).map_err(|err| err.to_string())?;
    Ok(opened.take(file.size))
}

impl Sender {
    /// Hands bytes over; false when nobody takes them any more.
    fn send(&self, file: &ToSend, bytes: &mut dyn Read) -> Result<bool, String> {
        let part = |part| UploadMediaRequest { part: Some(part) };
        let header = part(Part::Header(MediaHeader {
            upload_id: self.upload.clone(),
            content_hash: file.content.to_vec(),
            size: file.size.cast_signed(),
            mime_type: file.mime_type.to_owned(),
        }));
        let mut rest = bytes.take(file.size);
        if file.size <= WHOLE_BYTES_MAX {
            let mut bytes = Vec::new();
            rest.read_to_end(&mut bytes).map_err(|err| format!("can't be read: {err}"))?;
            if *blake3::hash(&bytes).as_bytes() != file.content {
                return Err(
                    "its bytes are not those that were hashed: verify the location".to_owned()
                );
            }
            let chunks = bytes.chunks(CHUNK_BYTES).map(|chunk| part(Part::Chunk(chunk.to_vec())));
            return Ok(std::iter::once(header)
                .chain(chunks)
                .all(|part| self.parts.blocking_send(part).is_ok()));
        }
        if self.parts.blocking_send(header).is_err() {
            return Ok(false);
        }
        loop {
            if self.stopping.is_cancelled() {
                return Ok(false);
            }
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            // From here on a file that can't be read breaks the stream: the server
            // compares what came with the hash.
            let read = (&mut rest).take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
            if read.is_err() || chunk.is_empty() {
                return Ok(read.is_ok());
            }
            if self.parts.blocking_send(part(Part::Chunk(chunk))).is_err() {
                return Ok(false);
            }
        }
    }
}
