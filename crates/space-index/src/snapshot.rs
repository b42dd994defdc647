//! Snapshots: opening one, making one from rows, sealing and merging into the next.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ann::{BuildOptions, Control, Index, Segment, SegmentBuilder, Task, Upkeep};
use payload_index::PayloadIndex;
use uuid::Uuid;

use crate::IndexError;
use crate::index::{Point, SpaceIndex, SpaceSettings, lock, with_vector};
use crate::manifest::{FileEntry, Manifest, sweep, write_whole};
use crate::private;

impl SpaceIndex {
    /// Opens the snapshot of a directory, if there is one of this space and epoch, and removes
    /// what a process that died left there.
    ///
    /// # Errors
    /// A file that is not what was written; the directory is then to be cleared.
    pub fn open(settings: SpaceSettings, dir: &Path) -> Result<Option<Self>, IndexError> {
        let Some(manifest) = Manifest::read(dir)? else {
            sweep(dir, None);
            return Ok(None);
        };
        if (manifest.space, manifest.epoch) != (settings.space, settings.epoch) {
            Self::clear(dir);
            return Ok(None);
        }
        private::close(dir);
        private::close(&dir.join(crate::MANIFEST));
        manifest.files().for_each(|file| private::close(&dir.join(&file.name)));
        let payload = PayloadIndex::from_bytes(&whole(dir, &manifest.payload)?)?;
        let mut segments = Vec::with_capacity(manifest.segments.len());
        for file in &manifest.segments {
            let path = dir.join(&file.name);
            expect_length(&path, file.bytes)?;
            segments.push(Arc::new(Segment::open(&path)?));
        }
        let mut deleted = roaring::RoaringBitmap::new();
        segments.iter().for_each(|segment| deleted |= segment.all() - payload.live());
        let vectors = Index::open(settings.vectors, segments, &deleted)?;
        sweep(dir, Some(&manifest));
        let index = Self::of(settings, dir, vectors, payload, manifest.seq);
        *lock(&index.snapshot) = Some(manifest);
        Ok(Some(index))
    }

    /// Removes all files of a directory, the manifest first.
    pub fn clear(dir: &Path) {
        let _ = fs::remove_file(dir.join(crate::MANIFEST));
        sweep(dir, None);
    }

    /// Whether upkeep is due.
    #[must_use]
    pub fn due(&self, upkeep: &Upkeep) -> Option<Task> {
        self.vectors.due(upkeep)
    }

    /// The task that makes one segment of everything; none if it is one already.
    #[must_use]
    pub fn whole(&self) -> Option<Task> {
        let segments = self.vectors.segments();
        let rows: u64 = segments.iter().map(|segment| u64::from(segment.rows())).sum();
        let points = self.payload().live().len();
        let is_whole = segments.len() == 1 && rows == points && self.vectors.deleted().is_empty();
        let paths = segments.iter().map(|segment| segment.path().to_owned()).collect();
        (points > 0 && !is_whole).then_some(Task { heads: true, segments: paths, rows: points })
    }

    /// Does a task and leaves the next snapshot in the directory. Searches and changes go on
    /// meanwhile.
    ///
    /// # Errors
    /// Cancellation, the memory bound, damage, the file system's; the index then serves on as it
    /// was, and the directory has the old snapshot.
    pub fn keep_up(
        &self,
        task: &Task,
        options: BuildOptions,
        control: &Control,
    ) -> Result<Manifest, IndexError> {
        private::make_dir(&self.dir).map_err(IndexError::io(&self.dir))?;
        // With the heads sealed, the segments and this payload are the space as of this change.
        let (work, as_of) = {
            let _applying = lock(&self.applying);
            let as_of = task.heads.then(|| (self.cursor(), self.payload().to_bytes()));
            (self.vectors.begin(task)?, as_of)
        };
        let path = self.dir.join(format!("{}.seg", Uuid::now_v7().simple()));
        let built = work.build(&path, options, control)?.map(Arc::new);
        let installed = self.vectors.install(work, built)?;
        let manifest = self.next_manifest(as_of)?;
        manifest.write(&self.dir)?;
        *lock(&self.snapshot) = Some(manifest.clone());
        for path in installed.replaced {
            let _ = fs::remove_file(path);
        }
        self.remove_old_payloads(&manifest);
        Ok(manifest)
    }

    fn next_manifest(&self, as_of: Option<(i64, Vec<u8>)>) -> Result<Manifest, IndexError> {
        let mut segments = Vec::new();
        for segment in self.vectors.segments() {
            segments.push(entry(segment.path(), segment.file_bytes())?);
        }
        let (seq, payload) = match (as_of, &*lock(&self.snapshot)) {
            (Some((seq, bytes)), _) => (seq, self.write_payload(&bytes)?),
            (None, Some(before)) => (before.seq, before.payload.clone()),
            (None, None) => {
                return Err(IndexError::damaged(&self.dir, "segments without a snapshot"));
            }
        };
        let SpaceSettings { space, epoch, .. } = self.settings;
        Ok(Manifest::new(space, epoch, seq, segments, payload))
    }

    fn write_payload(&self, bytes: &[u8]) -> Result<FileEntry, IndexError> {
        let name = format!("{}.payload", Uuid::now_v7().simple());
        write_whole(&self.dir, &name, bytes)?;
        Ok(FileEntry { name, bytes: bytes.len() as u64 })
    }

    fn remove_old_payloads(&self, manifest: &Manifest) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.ends_with(".payload") && name != manifest.payload.name {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Makes an index from rows in the order of their numbers, without a graph's worth of memory
/// in heads.
#[derive(Debug)]
pub struct Builder {
    settings: SpaceSettings,
    dir: PathBuf,
    path: PathBuf,
    segment: SegmentBuilder,
    payload: PayloadIndex,
}

impl Builder {
    /// In a directory. The snapshot that is there stays until [`Self::finish`] replaces it: an
    /// index may serve by it.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(
        settings: SpaceSettings,
        dir: &Path,
        options: BuildOptions,
    ) -> Result<Self, IndexError> {
        private::make_dir(dir).map_err(IndexError::io(dir))?;
        sweep(dir, Manifest::read(dir).ok().flatten().as_ref());
        let path = dir.join(format!("{}.seg", Uuid::now_v7().simple()));
        let segment = SegmentBuilder::create(settings.vectors, &path, options)?;
        let payload = PayloadIndex::default();
        Ok(Self { settings, dir: dir.to_owned(), path, segment, payload })
    }

    /// Takes rows in.
    ///
    /// # Errors
    /// Numbers that do not ascend, a vector that is not the space's, the memory bound.
    pub fn add(&mut self, points: &[Point]) -> Result<(), IndexError> {
        for point in points {
            let stored = with_vector(&self.settings.vectors, &point.vector, |vector| {
                self.settings.vectors.store(vector)
            })?;
            self.segment.add(point.number, &stored)?;
            self.payload.insert(point.number, &point.item_id, &point.payload);
        }
        Ok(())
    }

    /// The index, as of a change at or before the first row that was read.
    ///
    /// # Errors
    /// Cancellation, the memory bound, the file system's.
    pub fn finish(self, seq: i64, control: &Control) -> Result<SpaceIndex, IndexError> {
        let Self { settings, dir, path, segment, payload } = self;
        if segment.rows() == 0 {
            SpaceIndex::clear(&dir);
            let index = SpaceIndex::empty(settings, &dir);
            index.advance(seq);
            return Ok(index);
        }
        let built = Arc::new(segment.finish(control)?);
        let file = entry(&path, built.file_bytes())?;
        let bytes = payload.to_bytes();
        let vectors = Index::open(settings.vectors, vec![built], &roaring::RoaringBitmap::new())?;
        let index = SpaceIndex::of(settings, &dir, vectors, payload, seq);
        let payload = index.write_payload(&bytes)?;
        let manifest = Manifest::new(settings.space, settings.epoch, seq, vec![file], payload);
        manifest.write(&dir)?;
        sweep(&dir, Some(&manifest));
        *lock(&index.snapshot) = Some(manifest);
        Ok(index)
    }
}

fn entry(path: &Path, bytes: u64) -> Result<FileEntry, IndexError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| IndexError::damaged(path, "it has no name"))?;
    Ok(FileEntry { name: name.to_owned(), bytes })
}

fn expect_length(path: &Path, bytes: u64) -> Result<(), IndexError> {
    let found = fs::metadata(path)
        .map_err(|error| IndexError::damaged(path, format!("it is gone: {error}")))?
        .len();
    if found == bytes {
        return Ok(());
    }
    Err(IndexError::damaged(path, format!("it has {found} bytes, not {bytes}")))
}

fn whole(dir: &Path, file: &FileEntry) -> Result<Vec<u8>, IndexError> {
    let path = dir.join(&file.name);
    expect_length(&path, file.bytes)?;
    fs::read(&path).map_err(IndexError::io(&path))
}
