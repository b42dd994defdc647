//! Objects: out of the store into the backup, and back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use blob_store::BlobStore;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use service_error::{Code, ServiceError};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_util::io::ReaderStream;

use crate::files::{self, Hashed};
use crate::{damaged, manifest, unusable};

/// Objects on their way at once.
const AT_ONCE: usize = 8;
/// Bytes of an object in one piece.
const PIECE_BYTES: usize = 1 << 20;

/// An object that a row names.
#[derive(Debug, Clone)]
pub struct Named {
    pub prefix: &'static str,
    pub key: String,
    pub bytes: i64,
    /// BLAKE3-256, where the row knows it.
    pub hash: Option<Vec<u8>>,
    /// It must be there.
    pub certain: bool,
}

/// An object of a backup: a line of its list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub prefix: String,
    pub key: String,
    pub bytes: u64,
    pub blake3: String,
}

impl Listed {
    /// Where its bytes are in a backup.
    pub fn path(&self, dir: &Path) -> PathBuf {
        let mut path = dir.join("objects").join(&self.prefix);
        path.extend(self.key.split('/'));
        path
    }

    /// A name that stays below the backup's directory.
    fn is_plain(&self) -> bool {
        let mut parts = self.key.split('/').chain([self.prefix.as_str()]);
        parts.all(|part| !matches!(part, "" | "." | ".."))
    }
}

/// The stores of a platform, one a prefix, opened when first needed.
pub struct Stores<'a> {
    url: &'a str,
    open: BTreeMap<&'static str, BlobStore>,
}

impl<'a> Stores<'a> {
    pub fn new(url: &'a str) -> Self {
        Self { url, open: BTreeMap::new() }
    }

    pub async fn of(&mut self, prefix: &'static str) -> Result<BlobStore, ServiceError> {
        if let Some(store) = self.open.get(prefix) {
            return Ok(store.clone());
        }
        let store = BlobStore::open(self.url, prefix).await?;
        self.open.insert(prefix, store.clone());
        Ok(store)
    }
}

/// The list of a backup that is being made.
pub struct List {
    file: Hashed,
    pub count: u64,
    pub bytes: u64,
}

impl List {
    pub async fn create(dir: &Path) -> Result<Self, ServiceError> {
        let path = dir.join(manifest::OBJECTS);
        let file = Hashed::create(&path).await.map_err(|error| unusable(&path, &error))?;
        Ok(Self { file, count: 0, bytes: 0 })
    }

    /// Copies the objects that rows name, each once.
    pub async fn copy_all(
        &mut self,
        named: BoxStream<'_, Result<Named, ServiceError>>,
        store: &BlobStore,
        dir: &Path,
    ) -> Result<(), ServiceError> {
        let mut copied =
            named.map_ok(|named| copy_out(named, store, dir)).try_buffer_unordered(AT_ONCE);
        while let Some(copied) = copied.try_next().await? {
            let Some(listed) = copied else { continue };
            self.add(&listed)
                .await
                .map_err(|error| unusable(&dir.join(manifest::OBJECTS), &error))?;
        }
        Ok(())
    }

    async fn add(&mut self, listed: &Listed) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(listed)?;
        line.push(b'\n');
        self.count += 1;
        self.bytes += listed.bytes;
        self.file.write(&line).await
    }

    pub async fn finish(self, dir: &Path) -> Result<manifest::File, ServiceError> {
        let path = dir.join(manifest::OBJECTS);
        let finished = self.file.finish(manifest::OBJECTS.to_owned()).await;
        finished.map_err(|error| unusable(&path, &error))
    }
}

/// Copies one object; none if it may be absent and is.
async fn copy_out(
    named: Named,
    store: &BlobStore,
    dir: &Path,
) -> Result<Option<Listed>, ServiceError> {
    let object = format!("{}/{}", named.prefix, named.key);
    let mut pieces = match store.get_stream(&named.key).await {
        Ok(pieces) => pieces,
        Err(error) if error.code() == Code::NotFound && !named.certain => return Ok(None),
        Err(error) if error.code() == Code::NotFound => return Err(missing(&object)),
        Err(error) => return Err(error.context(format!("reading {object}"))),
    };
    let mut listed =
        Listed { prefix: named.prefix.to_owned(), key: named.key, bytes: 0, blake3: String::new() };
    let path = listed.path(dir);
    let failed = |error: std::io::Error| unusable(&path, &error);
    let mut file = match Hashed::create(&path).await {
        Ok(file) => file,
        // Two rows name it.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| error.context(format!("reading {object}")))?;
        file.write(&piece).await.map_err(failed)?;
    }
    let written = file.finish(String::new()).await.map_err(failed)?;
    (listed.bytes, listed.blake3) = (written.bytes, written.blake3);
    let is_right = i64::try_from(listed.bytes).is_ok_and(|bytes| bytes == named.bytes)
        && named.hash.is_none_or(|hash| hex::encode(hash) == listed.blake3);
    if !is_right {
        return Err(ServiceError::data_loss(format!(
            "object {object} has other bytes than its row says; `quarry db verify --blocks` names all such"
        ))
        .reason("OBJECT_DAMAGED"));
    }
    Ok(Some(listed))
}

fn missing(object: &str) -> ServiceError {
    ServiceError::data_loss(format!(
        "object {object} is gone, and the rows still name it; run the backup again, and if it stays so `quarry db verify --blocks`"
    ))
    .reason("OBJECT_MISSING")
}

/// The objects of a backup, as its list has them.
pub async fn listed(
    dir: &Path,
) -> Result<BoxStream<'static, Result<Listed, ServiceError>>, ServiceError> {
    let path = dir.join(manifest::OBJECTS);
    let file = File::open(&path).await.map_err(|error| unusable(&path, &error))?;
    let lines = BufReader::new(file).lines();
    Ok(futures::stream::try_unfold((lines, path), |(mut lines, path)| async move {
        let line = lines.next_line().await.map_err(|error| unusable(&path, &error))?;
        let Some(line) = line else { return Ok(None) };
        let listed: Listed = serde_json::from_str(&line)
            .map_err(|error| damaged(&path, &format!("a line can't be read ({error})")))?;
        if !listed.is_plain() {
            return Err(damaged(&path, &format!("{:?} is no object's name", listed.key)));
        }
        Ok(Some((listed, (lines, path))))
    })
    .boxed())
}

/// Reads an object of a backup and compares it with the list.
pub async fn check(listed: Listed, dir: &Path) -> Result<(), ServiceError> {
    let path = listed.path(dir);
    let (bytes, blake3) = files::hash(&path).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => damaged(&path, "it is missing"),
        _ => unusable(&path, &error),
    })?;
    if (bytes, &blake3) == (listed.bytes, &listed.blake3) {
        return Ok(());
    }
    Err(damaged(&path, &format!("it has {bytes} bytes of hash {blake3}, not those of the list")))
}

/// Writes one object of a backup into a store.
pub async fn copy_in(listed: Listed, store: &BlobStore, dir: &Path) -> Result<(), ServiceError> {
    let path = listed.path(dir);
    let file = File::open(&path).await.map_err(|error| unusable(&path, &error))?;
    let pieces = ReaderStream::with_capacity(file, PIECE_BYTES)
        .map_ok(Bytes::from)
        .map_err(|error| unusable(&path, &error));
    let written = store.put_stream(&listed.key, Box::pin(pieces)).await?;
    if hex::encode(written.blake3) != listed.blake3 {
        return Err(damaged(&path, "it changed while it was read"));
    }
    Ok(())
}

/// How many objects are looked at and written at once.
pub const fn at_once() -> usize {
    AT_ONCE
}
