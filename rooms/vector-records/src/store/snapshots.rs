//! Snapshots of indexes in the object store: copied there after a build, and from there by a
//! replica that starts without one.

use std::collections::BTreeSet;
use std::path::Path;

use futures::StreamExt;
use service_error::{Code, ServiceError};
use space_index::{FileEntry, MANIFEST, Manifest, SpaceIndex};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::store::Store;

fn key(space: Uuid, file: &str) -> String {
    format!("{}/{file}", space.simple())
}

/// Work that keeps a core busy, or waits for a disk, away from the threads that serve.
///
/// # Errors
/// Work that died.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ServiceError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ServiceError::internal("a piece of work was cut short").caused_by(error))
}

impl Store {
    /// Copies the snapshot of a directory to the object store, without what is there already.
    ///
    /// # Errors
    /// The object store's, the database's, a file that is gone.
    pub async fn push_snapshot(&self, space: Uuid, dir: &Path) -> Result<(), ServiceError> {
        let read = dir.to_owned();
        let manifest = blocking(move || Manifest::read(&read)).await?;
        let Ok(Some(manifest)) = manifest else { return Ok(()) };
        let before = self.remote_manifest(space).await?;
        let names = |manifest: &Manifest| {
            manifest.files().map(|file| file.name.clone()).collect::<BTreeSet<_>>()
        };
        let there = before.as_ref().map(names).unwrap_or_default();
        for file in manifest.files().filter(|file| !there.contains(&file.name)) {
            self.push_file(space, dir, file).await?;
        }
        self.blobs.put(&key(space, MANIFEST), manifest.to_bytes()).await?;
        self.note_snapshot(space, manifest.seq).await?;
        let now = names(&manifest);
        for old in there.difference(&now) {
            self.blobs.delete(&key(space, old)).await?;
        }
        Ok(())
    }

    async fn push_file(
        &self,
        space: Uuid,
        dir: &Path,
        file: &FileEntry,
    ) -> Result<(), ServiceError> {
        let opened = tokio::fs::File::open(dir.join(&file.name)).await.map_err(|error| {
            ServiceError::unavailable(format!("a snapshot's file is gone: {error}"))
        })?;
        let pieces = tokio_util::io::ReaderStream::with_capacity(opened, 1 << 20);
        let pieces = pieces.map(|piece| {
            piece.map_err(|error| ServiceError::unavailable(format!("a snapshot's file: {error}")))
        });
        self.blobs.put_stream(&key(space, &file.name), Box::pin(pieces)).await?;
        Ok(())
    }

    async fn remote_manifest(&self, space: Uuid) -> Result<Option<Manifest>, ServiceError> {
        let bytes = match self.blobs.get(&key(space, MANIFEST)).await {
            Ok(bytes) => bytes,
            Err(error) if error.code() == Code::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match Manifest::from_bytes(&bytes, Path::new(MANIFEST)) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) => {
                tracing::error!(%space, %error, "the object store's manifest is damaged");
                Ok(None)
            }
        }
    }

    /// Puts the object store's snapshot in the place of a directory's; whether there is one.
    ///
    /// # Errors
    /// The object store's, the file system's.
    pub async fn fetch_snapshot(&self, space: Uuid, dir: &Path) -> Result<bool, ServiceError> {
        let Some(manifest) = self.remote_manifest(space).await? else { return Ok(false) };
        let unusable = |error: std::io::Error| {
            ServiceError::unavailable(format!("{}: {error}", dir.display())).reason("INDEX_FILES")
        };
        let mut private = tokio::fs::DirBuilder::new();
        private.recursive(true).mode(0o700).create(dir).await.map_err(unusable)?;
        let cleared = dir.to_owned();
        blocking(move || SpaceIndex::clear(&cleared)).await?;
        for file in manifest.files() {
            let mut pieces = self.blobs.get_stream(&key(space, &file.name)).await?;
            let mut out = tokio::fs::File::create(dir.join(&file.name)).await.map_err(unusable)?;
            while let Some(piece) = pieces.next().await {
                out.write_all(&piece?).await.map_err(unusable)?;
            }
            out.sync_all().await.map_err(unusable)?;
        }
        // Last: before it there is no snapshot.
        let draft = dir.join(format!(".{}", Uuid::now_v7().simple()));
        tokio::fs::write(&draft, manifest.to_bytes()).await.map_err(unusable)?;
        tokio::fs::rename(&draft, dir.join(MANIFEST)).await.map_err(unusable)?;
        Ok(true)
    }

    /// Removes the object store's snapshot of a space.
    ///
    /// # Errors
    /// The object store's.
    pub async fn forget_snapshot(&self, space: Uuid) -> Result<(), ServiceError> {
        self.blobs.delete_prefix(&space.simple().to_string()).await.map(drop)
    }
}
