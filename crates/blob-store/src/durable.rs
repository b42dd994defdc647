//! Local files whose writes survive a power cut.
//!
//! `object_store`'s local files are renamed into place but never flushed: after
//! a crash a name may stand for an empty file, or be gone. Here an object is
//! flushed, renamed into place, and every directory up to the root flushed,
//! before the write is answered.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::ready;
use futures::stream::{self, BoxStream};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, UploadPart,
};
use service_error::ServiceError;

use crate::bulk::{ALIGNED_BYTES, Bulk};
use crate::direct::{self, open_direct};

/// After so many bytes an upload in parts flushes what it has written.
const FLUSHED_BYTES: u64 = 32 << 20;

/// A directory as an object store.
#[derive(Debug)]
pub struct DurableFiles {
    files: Arc<LocalFileSystem>,
    root: Arc<FsPath>,
}

impl DurableFiles {
    /// Opens a directory, making it and its parents if they are missing.
    pub fn open(root: &FsPath) -> Result<Self, ServiceError> {
        let refuse = |error: &dyn fmt::Display| {
            let message =
                format!("the directory {} can't be used for objects: {error}", root.display());
            ServiceError::precondition(message).reason("OBJECT_STORE_REFUSED")
        };
        // Rows and files of everybody: for this user's eyes alone.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(root);
        made.map_err(|error| refuse(&error))?;
        let root = root.canonicalize().map_err(|error| refuse(&error))?;
        let files = LocalFileSystem::new_with_prefix(&root).map_err(|error| refuse(&error))?;
        Ok(Self { files: Arc::new(files), root: Arc::from(root) })
    }

    /// Whether the directory is still there. Made anew below a running server
    /// it would take writes that nobody finds again.
    async fn present(&self) -> Result<()> {
        if tokio::fs::metadata(&self.root).await.is_ok_and(|found| found.is_dir()) {
            return Ok(());
        }
        let message =
            format!("its directory {} is gone: is the disk mounted?", self.root.display());
        Err(Error::Generic { store: "files", source: io::Error::other(message).into() })
    }

    /// Nothing is found in a directory that is gone; that is another failure.
    async fn found<T>(&self, answer: Result<T>) -> Result<T> {
        if matches!(answer, Err(Error::NotFound { .. })) {
            self.present().await?;
        }
        answer
    }

    async fn sync(&self, file: PathBuf) -> Result<()> {
        let root = Arc::clone(&self.root);
        blocking(move || {
            File::open(&file)?.sync_all()?;
            sync_dirs(&root, &file)
        })
        .await
    }
}

impl fmt::Display for DurableFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "files in {}", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for DurableFiles {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.present().await?;
        if matches!(opts.mode, PutMode::Update(_)) || !opts.attributes.is_empty() {
            return self.files.put_opts(location, payload, opts).await;
        }
        let dest = self.files.path_to_filesystem(location)?;
        let root = Arc::clone(&self.root);
        let create = matches!(opts.mode, PutMode::Create);
        let path = location.to_string();
        let written = blocking(move || write_file(&root, &dest, &payload, create)).await;
        written.map_err(|error| already_exists(error, path))?;
        let meta = self.files.head(location).await?;
        Ok(PutResult { e_tag: meta.e_tag, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.present().await?;
        if !opts.attributes.is_empty() {
            return self.files.put_multipart_opts(location, opts).await;
        }
        let dest = self.files.path_to_filesystem(location)?;
        let root = Arc::clone(&self.root);
        let is_bulk = opts.extensions.get::<Bulk>().is_some();
        Ok(Box::new(blocking(move || DurableUpload::begin(root, dest, is_bulk)).await?))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_bulk = options.extensions.get::<Bulk>().is_some();
        let mut found = self.found(self.files.get_opts(location, options).await).await?;
        if !is_bulk || found.meta.size < direct::OBJECT_BYTES_MIN {
            return Ok(found);
        }
        let GetResultPayload::File(file, path) = found.payload else { return Ok(found) };
        let range = found.range.clone();
        let bytes = blocking(move || direct::read(&file, &path, &range)).await?;
        found.payload = GetResultPayload::Stream(stream::once(ready(Ok(bytes))).boxed());
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.found(self.files.get_ranges(location, ranges).await).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await?;
        self.sync(self.files.path_to_filesystem(to)?).await
    }
}

/// A file that has no name of an object yet.
#[derive(Debug)]
struct Staged {
    file: File,
    /// The same file, written past the memory that caches files, where its system can.
    direct: Option<File>,
}

impl Staged {
    /// Writes a part; `flush`: and what was written before it.
    fn write(&self, data: &PutPayload, begin: u64, flush: bool) -> io::Result<()> {
        let pieces: &[Bytes] = data.as_ref();
        if let (Some(direct), [piece]) = (&self.direct, pieces)
            && is_aligned(piece, begin)
            && direct.write_all_at(piece, begin).is_ok()
        {
            return Ok(());
        }
        // A system that takes no direct write has its reasons: what fails here fails truly.
        let mut at = begin;
        for piece in data {
            self.file.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
        if flush { self.file.sync_data() } else { Ok(()) }
    }
}

fn is_aligned(piece: &[u8], begin: u64) -> bool {
    piece.as_ptr().align_offset(ALIGNED_BYTES) == 0
        && piece.len().is_multiple_of(ALIGNED_BYTES)
        && begin.is_multiple_of(ALIGNED_BYTES as u64)
}

/// An object in parts. What has come is flushed while more comes, so that little is
/// left to wait for at the end: a disk that is told late is idle before.
#[derive(Debug)]
struct DurableUpload {
    file: Arc<Staged>,
    staged: Option<PathBuf>,
    dest: PathBuf,
    root: Arc<FsPath>,
    /// Bytes of all parts so far.
    end: u64,
    /// Of them those that no part has flushed.
    unflushed: u64,
}

impl DurableUpload {
    fn begin(root: Arc<FsPath>, dest: PathBuf, is_bulk: bool) -> io::Result<Self> {
        if let Some(parent) = dest.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let staged = staged_name(&dest);
        let file = OpenOptions::new().write(true).create_new(true).open(&staged)?;
        let direct =
            is_bulk.then(|| open_direct(&staged, OpenOptions::new().write(true))).flatten();
        let file = Arc::new(Staged { file, direct });
        Ok(Self { file, staged: Some(staged), dest, root, end: 0, unflushed: 0 })
    }
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (file, begin) = (Arc::clone(&self.file), self.end);
        let bytes = data.content_length() as u64;
        self.end += bytes;
        self.unflushed += bytes;
        let flush = self.unflushed >= FLUSHED_BYTES;
        if flush {
            self.unflushed = 0;
        }
        Box::pin(blocking(move || file.write(&data, begin, flush)))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let ended = || io::Error::other("the upload was completed or given up before");
        let staged = self.staged.take().ok_or_else(ended);
        let (file, root, dest) =
            (Arc::clone(&self.file), Arc::clone(&self.root), self.dest.clone());
        blocking(move || {
            let staged = staged?;
            let placed = file.file.sync_all().and_then(|()| std::fs::rename(&staged, &dest));
            if placed.is_err() {
                // Of an error the first is told.
                drop(std::fs::remove_file(&staged));
            }
            placed?;
            sync_dirs(&root, &dest)
        })
        .await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        let Some(staged) = self.staged.take() else { return Ok(()) };
        blocking(move || std::fs::remove_file(staged)).await
    }
}

impl Drop for DurableUpload {
    fn drop(&mut self) {
        if let Some(staged) = self.staged.take() {
            // Best effort: a staged name is hidden from listings, and swept with its directory.
            drop(std::fs::remove_file(staged));
        }
    }
}

/// Flushes the bytes before the name stands for them.
fn write_file(root: &FsPath, dest: &FsPath, payload: &PutPayload, create: bool) -> io::Result<()> {
    if let Some(parent) = dest.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let staged = staged_name(dest);
    let placed = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&staged)?;
        for piece in payload {
            file.write_all(piece)?;
        }
        file.sync_all()?;
        if create { std::fs::hard_link(&staged, dest) } else { std::fs::rename(&staged, dest) }
    })();
    if create || placed.is_err() {
        // Of an error the first is told; a staged name is hidden from listings.
        drop(std::fs::remove_file(&staged));
    }
    placed?;
    sync_dirs(root, dest)
}

/// Digits after a `#`: what `object_store` hides from its listings.
fn staged_name(dest: &FsPath) -> PathBuf {
    let mut name = dest.as_os_str().to_owned();
    name.push(format!("#{}", uuid::Uuid::new_v4().as_u128()));
    PathBuf::from(name)
}

/// Flushes the directories from a file up to the root. All of them: another
/// writer may have made one without having flushed it yet.
fn sync_dirs(root: &FsPath, file: &FsPath) -> io::Result<()> {
    for directory in file.ancestors().skip(1).take_while(|directory| directory.starts_with(root)) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Whether a file is what a writer that was killed left behind.
fn is_staged(name: &std::ffi::OsStr) -> bool {
    let digits = name.to_str().and_then(|name| name.rsplit_once('#')).map(|(_, digits)| digits);
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Removes a directory and those below it if they hold nothing but staged files,
/// which no listing shows. Best effort: an empty directory harms nobody, and a
/// writer may be making a file in one.
pub async fn remove_empty_dirs(directory: PathBuf) {
    fn remove(directory: &FsPath) {
        let Ok(entries) = std::fs::read_dir(directory) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            } else if is_staged(&entry.file_name()) {
                drop(std::fs::remove_file(entry.path()));
            }
        }
        drop(std::fs::remove_dir(directory));
    }
    drop(tokio::task::spawn_blocking(move || remove(&directory)).await);
}

async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    let outcome = tokio::task::spawn_blocking(work).await?;
    outcome.map_err(|error| Error::Generic { store: "files", source: Box::new(error) })
}

fn already_exists(error: Error, path: String) -> Error {
    match error {
        Error::Generic { source, .. }
            if source
                .downcast_ref::<io::Error>()
                .is_some_and(|e| e.kind() == io::ErrorKind::AlreadyExists) =>
        {
            Error::AlreadyExists { path, source }
        }
        other => other,
    }
}
