//! A folder of images with `metadata.jsonl`, as [`crate::images::scan`] reads
//! it.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::Writer;
use crate::Format;
use crate::error::{ErrorKind, IngestError};

/// Writes rows to `metadata.jsonl` and says where their files belong.
#[derive(Debug)]
pub struct ImageFolder {
    root: PathBuf,
    metadata: Writer,
    schema: SchemaRef,
    taken: HashSet<String>,
}

/// A file that a row wants in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedFile {
    /// BLAKE3-256 in hex.
    pub content_hash: String,
    /// Where to write it; its parent folders may not exist yet.
    pub path: PathBuf,
}

impl ImageFolder {
    /// Begins a folder, which must exist.
    ///
    /// # Errors
    /// The rows carry no `content_hash`, or the folder cannot be written.
    pub fn new(root: &Path, schema: &SchemaRef) -> Result<Self, IngestError> {
        if schema.column_with_name("content_hash").is_none() {
            let message =
                "the dataset has no column content_hash, so no files; export another format";
            return Err(IngestError::new(ErrorKind::Schema, root, message));
        }
        let mut fields = vec![Arc::new(Field::new("file_name", DataType::Utf8, true))];
        fields.extend(schema.fields().iter().cloned());
        let schema = Arc::new(Schema::new(fields));
        let path = root.join("metadata.jsonl");
        let file = File::create(&path).map_err(|err| IngestError::io(&path, err))?;
        let metadata = Writer::new(&path, Format::Jsonl, &schema, Box::new(BufWriter::new(file)))?;
        Ok(Self { root: root.to_owned(), metadata, schema, taken: HashSet::new() })
    }

    /// Adds rows to the metadata; answers the files to fetch. A row without
    /// `content_hash` has none. A path that would leave the folder, or that is
    /// taken, is replaced by the hash.
    ///
    /// # Errors
    /// The metadata cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<Vec<WantedFile>, IngestError> {
        let hashes = self.text(batch, "content_hash")?;
        let paths = self.text(batch, "file_path")?;
        let kinds = self.text(batch, "mime_type")?;
        let mut wanted = Vec::new();
        let mut names = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let Some(hash) = cell(&hashes, row).filter(|hash| is_hash(hash)) else {
                names.push(None);
                continue;
            };
            let name = self.name(hash, cell(&paths, row), cell(&kinds, row));
            wanted.push(WantedFile { content_hash: hash.to_owned(), path: self.root.join(&name) });
            names.push(Some(name));
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(names))];
        columns.extend(batch.columns().iter().cloned());
        let broken = |err| IngestError::broken(&self.root, "the rows make no batch", err);
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(broken)?;
        self.metadata.write(&batch)?;
        Ok(wanted)
    }

    /// Ends the metadata file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(self) -> Result<(), IngestError> {
        self.metadata.finish()
    }

    fn text(&self, batch: &RecordBatch, name: &str) -> Result<Option<StringArray>, IngestError> {
        let Some(column) = batch.column_by_name(name) else {
            return Ok(None);
        };
        let broken = |err| IngestError::broken(&self.root, "a column is no text", err).column(name);
        // Bytes are not text, but a hash may be kept as bytes.
        if matches!(column.data_type(), DataType::FixedSizeBinary(_)) {
            let bytes = column.as_fixed_size_binary();
            return Ok(Some(bytes.iter().map(|bytes| bytes.map(hex::encode)).collect()));
        }
        let text = cast(column, &DataType::Utf8).map_err(broken)?;
        Ok(text.as_string_opt::<i32>().cloned())
    }

    fn name(&mut self, hash: &str, path: Option<&str>, mime_type: Option<&str>) -> String {
        let own =
            path.filter(|path| is_inside(path) && !self.taken.contains(*path)).map(str::to_owned);
        let base = own.unwrap_or_else(|| format!("{hash}{}", extension(mime_type)));
        let mut name = base.clone();
        let mut copy = 1;
        while !self.taken.insert(name.clone()) {
            copy += 1;
            name = format!("{copy}-{base}");
        }
        name
    }
}

fn cell(column: &Option<StringArray>, row: usize) -> Option<&str> {
    column.as_ref().filter(|column| column.is_valid(row)).map(|column| column.value(row))
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A relative path without `..`, as every system understands it.
fn is_inside(path: &str) -> bool {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    let reserved =
        path.eq_ignore_ascii_case("metadata.jsonl") || path.eq_ignore_ascii_case("metadata.csv");
    plain
        && !reserved
        && !path.is_empty()
        && path.len() <= 1024
        && !path.ends_with('/')
        && !path.contains(['\0', '\\', ':'])
}

fn extension(mime_type: Option<&str>) -> &'static str {
    match mime_type {
        Some("image/png") => ".png",
        Some("image/jpeg") => ".jpg",
        Some("image/gif") => ".gif",
        Some("image/webp") => ".webp",
        Some("image/bmp") => ".bmp",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn paths_stay_inside_and_are_unique() {
        let dir = tempfile::tempdir().unwrap();
        let hash = "ab".repeat(32);
        let paths = [
            "a/b.png",
            "../out.png",
            "/etc/x.png",
            "a/b.png",
            "metadata.jsonl",
            "a\\..\\b.png",
            "../out.png",
        ];
        let columns: [(&str, ArrayRef); 3] = [
            ("file_path", Arc::new(StringArray::from_iter_values(paths))),
            ("mime_type", Arc::new(StringArray::from_iter_values(paths.map(|_| "image/png")))),
            ("content_hash", Arc::new(StringArray::from_iter_values(paths.map(|_| hash.clone())))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut folder = ImageFolder::new(dir.path(), &batch.schema()).unwrap();
        let wanted = folder.write(&batch).unwrap();
        folder.finish().unwrap();
        assert_eq!(wanted[0].path, dir.path().join("a/b.png"));
        assert_eq!(wanted[1].path, dir.path().join(format!("{hash}.png")));
        assert!(
            wanted.iter().all(|file| file.path.starts_with(dir.path())
                && !file.path.to_string_lossy().contains(".."))
        );
        assert_eq!(wanted.iter().map(|file| &file.path).collect::<HashSet<_>>().len(), paths.len());
        let lines = std::fs::read_to_string(dir.path().join("metadata.jsonl")).unwrap();
        assert!(
            lines.starts_with(r#"{"file_name":"a/b.png","#) && lines.lines().count() == paths.len()
        );
    }

    #[test]
    fn a_dataset_without_files_is_refused() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let err = ImageFolder::new(Path::new("/tmp"), &schema).unwrap_err();
        assert!(err.to_string().contains("content_hash"));
    }
}
