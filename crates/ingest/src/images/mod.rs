//! A folder of images as rows of the items profile. Every file is decoded
//! under limits before it is believed; a broken one is one skipped row, not a
//! failed import.

mod captions;
mod metadata;
mod probe;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use walkdir::{DirEntry, WalkDir};

use crate::error::{ErrorKind, IngestError};
use crate::{Limits, ReadOptions};

use metadata::Metadata;
pub use probe::{Image, probe};
pub use rows::ImageRows;

const DECODED: [&str; 8] = ["png", "jpg", "jpeg", "jpe", "jfif", "gif", "webp", "bmp"];
const KNOWN: [&str; 13] = [
    "svg", "svgz", "tif", "tiff", "avif", "heic", "heif", "ico", "xpm", "tga", "psd", "jxl", "jp2",
];

/// Images below a folder, in the order of their paths.
pub struct ImageScan {
    root: PathBuf,
    walk: walkdir::IntoIter,
    metadata: Metadata,
    limits: Limits,
}

/// An image file that was found, not yet read.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// Below the folder, with `/` between its parts.
    pub relative: String,
    /// Its row of the metadata files: batch and row.
    row: Option<(usize, usize)>,
}

/// Walks a folder and reads its metadata files (`metadata.csv`,
/// `metadata.jsonl`, in any folder below it; their `file_name` is relative to
/// the folder they lie in).
///
/// # Errors
/// The folder cannot be read, or a metadata file is wrong.
pub fn scan(root: &Path, options: &ReadOptions) -> Result<ImageScan, IngestError> {
    let meta = std::fs::metadata(root).map_err(|err| IngestError::io(root, err))?;
    if !meta.is_dir() {
        return Err(IngestError::new(
            ErrorKind::Format,
            root,
            "is a file; the format images wants a folder",
        ));
    }
    let metadata = Metadata::load(root, options)?;
    Ok(ImageScan {
        root: root.to_owned(),
        walk: walk(root).into_iter(),
        metadata,
        limits: options.limits.clone(),
    })
}

/// Links to files are followed, links to folders are not: a tree of links has
/// no end.
fn walk(root: &Path) -> WalkDir {
    WalkDir::new(root).sort_by_file_name()
}

impl ImageScan {
    /// The columns of the rows that [`ImageRows`] makes.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        rows::schema(&self.metadata)
    }

    /// Collects probed images of this scan into batches.
    #[must_use]
    pub fn rows(&self) -> ImageRows {
        ImageRows::new(self.metadata.table(), self.schema())
    }

    /// The limits for [`probe`].
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts what [`ImageScan`] will yield, by names alone.
    #[must_use]
    pub fn count(root: &Path) -> u64 {
        walk(root)
            .into_iter()
            .filter(|entry| matches!(entry, Ok(entry) if is_image(entry.path()) && is_file(entry)))
            .count() as u64
    }

    /// Files that the metadata names and the walk (once finished) did not
    /// find: how many, and the first few.
    #[must_use]
    pub fn missing(&self) -> (usize, Vec<IngestError>) {
        self.metadata.left()
    }

    fn look(&mut self, entry: walkdir::Result<DirEntry>) -> Option<Result<Found, IngestError>> {
        let entry = match entry {
            Ok(entry) => entry,
            Err(err) => {
                let path = err.path().unwrap_or(&self.root).to_owned();
                return Some(Err(IngestError::broken(&path, "cannot be read", err)));
            }
        };
        let path = entry.path();
        if entry.file_type().is_dir() || !is_known(path) {
            return None;
        }
        if !is_image(path) {
            return Some(Err(IngestError::new(
                ErrorKind::Format,
                path,
                "this image format is not decoded; use png, jpeg, gif, webp or bmp",
            )));
        }
        if !is_file(&entry) {
            // A link to a folder that is named like an image is no image.
            return (!path.is_dir()).then(|| {
                Err(IngestError::new(ErrorKind::NotFound, path, "the link leads nowhere"))
            });
        }
        let relative = relative(&self.root, path)?;
        let row = self.metadata.take(&relative);
        Some(relative_text(path, relative).map(|relative| Found {
            path: path.to_owned(),
            relative,
            row,
        }))
    }
}

impl Iterator for ImageScan {
    type Item = Result<Found, IngestError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = self.walk.next()?;
            if let Some(found) = self.look(entry) {
                return Some(found);
            }
        }
    }
}

fn has_extension(path: &Path, among: &[&str]) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension
        .is_some_and(|extension| among.iter().any(|known| known.eq_ignore_ascii_case(extension)))
}

fn is_image(path: &Path) -> bool {
    has_extension(path, &DECODED)
}

fn is_known(path: &Path) -> bool {
    is_image(path) || has_extension(path, &KNOWN)
}

fn is_file(entry: &DirEntry) -> bool {
    entry.file_type().is_file() || (entry.path_is_symlink() && entry.path().is_file())
}

/// Below `root`, with `/` between the parts; `None` for `root` itself.
fn relative(root: &Path, path: &Path) -> Option<String> {
    let below = path.strip_prefix(root).ok()?;
    let parts: Vec<_> = below.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn relative_text(path: &Path, relative: String) -> Result<String, IngestError> {
    if path.to_str().is_none() {
        return Err(IngestError::new(ErrorKind::Value, path, "its name is not UTF-8; rename it"));
    }
    Ok(relative)
}

impl std::fmt::Debug for ImageScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageScan").field("root", &self.root).finish_non_exhaustive()
    }
}

type Table = Arc<metadata::MetadataTable>;

#[cfg(test)]
mod tests;
