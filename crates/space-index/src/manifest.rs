//! The manifest of a snapshot: which files, and the change they are as of.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{IndexError, private};

/// The format of files and manifest; another one is made anew from the rows.
const FORMAT: u32 = 1;
/// The manifest's name in a directory and in the object store.
pub const MANIFEST: &str = "manifest.json";
/// The longest manifest that is read.
const BYTES_MAX: u64 = 16 << 20;

/// A file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name in the directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// The space.
    pub space: Uuid,
    /// Of the space's rows; those of another epoch are other rows.
    pub epoch: i64,
    /// Everything up to this change is in the files.
    pub seq: i64,
    /// Vectors, in immutable files.
    pub segments: Vec<FileEntry>,
    /// Payload, item ids and which points are there.
    pub payload: FileEntry,
    checksum: u32,
}

impl Manifest {
    pub(crate) fn new(
        space: Uuid,
        epoch: i64,
        seq: i64,
        segments: Vec<FileEntry>,
        payload: FileEntry,
    ) -> Self {
        let mut manifest =
            Self { format: FORMAT, space, epoch, seq, segments, payload, checksum: 0 };
        manifest.checksum = manifest.sum();
        manifest
    }

    fn sum(&self) -> u32 {
        let bare = Self { checksum: 0, ..self.clone() };
        crc32fast::hash(&serde_json::to_vec(&bare).unwrap_or_default())
    }

    /// As it is stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What [`Self::to_bytes`] made.
    ///
    /// # Errors
    /// Bytes that were changed, or names that lead out of the directory.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, IndexError> {
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| IndexError::damaged(path, error.to_string()))?;
        if manifest.format != FORMAT {
            let what = format!("format {} is not {FORMAT}", manifest.format);
            return Err(IndexError::damaged(path, what));
        }
        if manifest.checksum != manifest.sum() {
            return Err(IndexError::damaged(path, "its checksum does not hold"));
        }
        let plain = |file: &FileEntry| {
            !file.name.is_empty()
                && file.name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
                && !file.name.starts_with('.')
        };
        if !manifest.files().all(plain) {
            return Err(IndexError::damaged(path, "it names a file outside its directory"));
        }
        Ok(manifest)
    }

    /// All files.
    pub fn files(&self) -> impl Iterator<Item = &FileEntry> {
        self.segments.iter().chain(std::iter::once(&self.payload))
    }

    /// The manifest of a directory, if there is one.
    ///
    /// # Errors
    /// As [`Self::from_bytes`], or the file system's.
    pub fn read(dir: &Path) -> Result<Option<Self>, IndexError> {
        let path = dir.join(MANIFEST);
        match fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IndexError::io(&path)(error)),
            Ok(meta) if meta.len() > BYTES_MAX => {
                return Err(IndexError::damaged(&path, "it is too long for a manifest"));
            }
            Ok(_) => {}
        }
        let bytes = fs::read(&path).map_err(IndexError::io(&path))?;
        Self::from_bytes(&bytes, &path).map(Some)
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), IndexError> {
        write_whole(dir, MANIFEST, &self.to_bytes())
    }
}

/// Writes a file whole and durable, or not at all.
pub(crate) fn write_whole(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), IndexError> {
    let path = dir.join(name);
    let draft = dir.join(format!(".{name}.{}", Uuid::now_v7().simple()));
    let write = || {
        let mut file = private::create_new(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(IndexError::io(&path))
}

/// Removes what no manifest names: files of builds that did not end, or of snapshots that were
/// replaced. What cannot be removed is left.
pub(crate) fn sweep(dir: &Path, manifest: Option<&Manifest>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let named = manifest.is_some_and(|manifest| {
            name == MANIFEST || manifest.files().any(|file| name.to_str() == Some(&file.name))
        });
        if !named {
            let _ = fs::remove_file(entry.path());
        }
    }
}
