//! Files into Arrow record batches, and back. A reader holds one batch at a
//! time whatever the size of the file, and names file, line and column of what
//! does not fit.

mod arrow_ipc;
mod cells;
mod csv;
mod error;
mod format;
mod guard;
pub mod images;
mod infer;
mod json;
mod limits;
mod parquet_file;
mod rows;
mod schema_text;
mod write;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, SchemaRef};

pub use error::{ErrorKind, IngestError};
pub use format::Format;
pub use limits::Limits;
pub use schema_text::parse_schema;
pub use write::{Writer, images::ImageFolder};

use rows::GivenTypes;

/// How a file is to be read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// `None`: by name and first bytes.
    pub format: Option<Format>,
    /// Types that a person gave; each must be a column of the file.
    pub types: Vec<Field>,
    /// Types to prefer over a guess where a column has the same name, e.g. of
    /// the dataset that the rows will be added to.
    pub expected: Vec<Field>,
    /// What is refused.
    pub limits: Limits,
}

/// An opened file: its schema and its rows.
pub struct Source {
    /// The columns of every batch.
    pub schema: SchemaRef,
    /// What it was read as.
    pub format: Format,
    batches: Box<dyn Iterator<Item = Result<RecordBatch, IngestError>> + Send>,
    done: Arc<AtomicU64>,
    total: Amount,
}

/// How much there is to read, in the unit that is known beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// Bytes of the file.
    Bytes(u64),
    /// Rows.
    Rows(u64),
}

/// What each reader gives.
struct Opened {
    schema: SchemaRef,
    batches: Box<dyn Iterator<Item = Result<RecordBatch, IngestError>> + Send>,
    /// Bytes read, or rows when `rows` is known.
    done: Arc<AtomicU64>,
    rows: Option<u64>,
}

/// Opens a file of any format but `images` (see [`images::scan`]). Text files
/// are sampled (10,000 rows or 16 MiB) for the types that nobody gave.
///
/// # Errors
/// The file is away, is not what its format promises, has no columns, or lacks
/// a column that was given a type.
pub fn open(path: &Path, options: &ReadOptions) -> Result<Source, IngestError> {
    let format = match options.format {
        Some(format) => format,
        None => Format::detect(path)?,
    };
    let size = std::fs::metadata(path).map_err(|err| IngestError::io(path, err))?;
    if size.is_dir() || format == Format::Images {
        let message = format!(
            "is {}, not one file to be read as {}",
            if size.is_dir() { "a folder" } else { "a file" },
            format.name()
        );
        return Err(IngestError::new(ErrorKind::Format, path, message));
    }
    let opened = open_as(path, format, options)?;
    Ok(Source {
        schema: opened.schema,
        format,
        batches: opened.batches,
        done: opened.done,
        total: opened.rows.map_or(Amount::Bytes(size.len()), Amount::Rows),
    })
}

fn open_as(path: &Path, format: Format, options: &ReadOptions) -> Result<Opened, IngestError> {
    let limits = &options.limits;
    let given = given_types(options);
    match format {
        Format::Csv => csv::open(path, b',', &given, limits.row_bytes_max),
        Format::Tsv => csv::open(path, b'\t', &given, limits.row_bytes_max),
        Format::Jsonl => json::open(path, true, &given, limits.row_bytes_max),
        Format::Json => json::open(path, false, &given, limits.row_bytes_max),
        Format::Parquet | Format::Arrow if !options.types.is_empty() => {
            let message =
                format!("--schema is for text formats; a {} file carries its types", format.name());
            Err(IngestError::new(ErrorKind::Schema, path, message))
        }
        Format::Parquet => parquet_file::open(path, limits),
        Format::Arrow => arrow_ipc::open(path, limits.batch_bytes_max),
        Format::Images => {
            Err(IngestError::new(ErrorKind::Format, path, "images are read from a folder"))
        }
    }
}

fn given_types(options: &ReadOptions) -> GivenTypes {
    let must_exist = options.types.iter().map(|field| field.name().clone()).collect();
    let expected = options
        .expected
        .iter()
        .filter(|field| !options.types.iter().any(|given| given.name() == field.name()));
    GivenTypes { fields: options.types.iter().chain(expected).cloned().collect(), must_exist }
}

impl Source {
    /// Everything there is to read.
    #[must_use]
    pub const fn total(&self) -> Amount {
        self.total
    }

    /// A counter that grows while batches are taken, in the unit of
    /// [`Source::total`]; may be read from another thread.
    pub fn progress(&self) -> impl Fn() -> u64 + Send + use<> {
        let done = Arc::clone(&self.done);
        move || done.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("format", &self.format)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl Iterator for Source {
    type Item = Result<RecordBatch, IngestError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.next()
    }
}

#[cfg(test)]
mod tests;
