//! Snapshots in the object store: pushed after a build, fetched by a replica
//! that starts without one.

use std::collections::BTreeSet;
use std::path::Path;

use futures::StreamExt;
use service_error::{Code, ServiceError};
use space_index::{FileEntry, MANIFEST, Manifest, SpaceIndex};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::app::App;
use crate::model::Space;

fn key(space: &Space, file: &str) -> String {
    format!("{}/{file}", space.id.simple())
}

impl App {
    /// Copies the snapshot on this replica's disk to the object store. A failure is logged: the
    /// rows are the truth, and the next snapshot comes.
    pub(super) async fn push_snapshot(&self, space: &Space, index: &SpaceIndex) {
        if index.snapshot_seq() == 0 {
            return;
        }
        if let Err(error) = self.try_push(space).await {
            tracing::warn!(space = %space.id, %error, "a snapshot did not reach the object store");
        }
    }

    async fn try_push(&self, space: &Space) -> Result<(), ServiceError> {
        let dir = self.live.dir(space.id);
        let read = dir.clone();
        let manifest = super::blocking(move || Manifest::read(&read)).await?;
        let Ok(Some(manifest)) = manifest else { return Ok(()) };
        let before = self.remote_manifest(space).await?;
        let names = |manifest: &Manifest| {
            manifest.files().map(|file| file.name.clone()).collect::<BTreeSet<_>>()
        };
        let there = before.as_ref().map(names).unwrap_or_default();
        for file in manifest.files().filter(|file| !there.contains(&file.name)) {
            self.push_file(space, &dir, file).await?;
        }
        self.store.blobs().put(&key(space, MANIFEST), manifest.to_bytes()).await?;
        self.store.note_snapshot(space.id, manifest.seq).await?;
        let now = names(&manifest);
        for old in there.difference(&now) {
            self.store.blobs().delete(&key(space, old)).await?;
        }
        Ok(())
    }

    async fn push_file(
        &self,
        space: &Space,
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
        self.store.blobs().put_stream(&key(space, &file.name), Box::pin(pieces)).await?;
        Ok(())
    }

    async fn remote_manifest(&self, space: &Space) -> Result<Option<Manifest>, ServiceError> {
        let bytes = match self.store.blobs().get(&key(space, MANIFEST)).await {
            Ok(bytes) => bytes,
            Err(error) if error.code() == Code::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match Manifest::from_bytes(&bytes, Path::new(MANIFEST)) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) => {
                tracing::error!(space = %space.id, %error, "the object store's manifest is damaged");
                Ok(None)
            }
        }
    }

    /// Puts the object store's snapshot in the place of this replica's; whether there is one now.
    pub(super) async fn fetch_snapshot(&self, space: &Space) -> bool {
        match self.try_fetch(space).await {
            Ok(fetched) => fetched,
            Err(error) => {
                tracing::warn!(space = %space.id, %error, "the object store's snapshot could not be had");
                false
            }
        }
    }

    async fn try_fetch(&self, space: &Space) -> Result<bool, ServiceError> {
        let Some(manifest) = self.remote_manifest(space).await? else { return Ok(false) };
        let dir = self.live.dir(space.id);
        let unusable = |error: std::io::Error| {
            ServiceError::unavailable(format!("{}: {error}", dir.display())).reason("INDEX_FILES")
        };
        let mut private = tokio::fs::DirBuilder::new();
        private.recursive(true).mode(0o700).create(&dir).await.map_err(unusable)?;
        let cleared = dir.clone();
        super::blocking(move || SpaceIndex::clear(&cleared)).await?;
        for file in manifest.files() {
            let mut pieces = self.store.blobs().get_stream(&key(space, &file.name)).await?;
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

    /// Removes a snapshot that cannot be believed, or whose space is gone.
    pub(super) async fn forget_snapshot(&self, space: &Space) {
        self.forget_objects(space.id).await;
    }

    pub(super) async fn forget_objects(&self, space: Uuid) {
        let prefix = space.simple().to_string();
        if let Err(error) = self.store.blobs().delete_prefix(&prefix).await {
            tracing::warn!(%space, %error, "a snapshot could not be removed from the object store");
        }
    }
}
