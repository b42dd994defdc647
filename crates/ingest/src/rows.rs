//! What the text readers share: a sample that decides the types, columns that
//! become batches, and a file that counts what was read.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};

use item_schema::{CORE_COLUMNS, item_column};

use crate::cells::Column;
use crate::error::{ErrorKind, IngestError, bytes_text};

/// Rows that decide the types.
pub(crate) const SAMPLE_ROWS_MAX: usize = 10_000;
/// Bytes of the sample, whichever is reached first.
pub(crate) const SAMPLE_BYTES_MAX: usize = 16 << 20;
/// Rows of a batch.
pub(crate) const BATCH_ROWS_MAX: usize = 8192;
/// Bytes of text that make a batch, whichever is reached first.
pub(crate) const BATCH_BYTES_MAX: usize = 8 << 20;

/// A file that counts its bytes, and refuses to go on when one row takes more
/// than the limit.
pub(crate) struct CountedFile {
    file: File,
    meter: Meter,
}

/// Shared counters of a [`CountedFile`].
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    read: Arc<AtomicU64>,
    row: Arc<AtomicU64>,
    row_bytes_max: u64,
}

impl Meter {
    pub(crate) fn new(row_bytes_max: u64) -> Self {
        Self { read: Arc::default(), row: Arc::default(), row_bytes_max }
    }

    /// Bytes read so far.
    pub(crate) fn read(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.read)
    }

    /// A row is complete.
    pub(crate) fn row_done(&self) {
        self.row.store(0, Ordering::Relaxed);
    }

    /// Whether the row being read is over the limit.
    pub(crate) fn is_over(&self) -> bool {
        self.row.load(Ordering::Relaxed) > self.row_bytes_max
    }

    pub(crate) fn over(&self, path: &Path, line: u64) -> IngestError {
        let message = format!(
            "the row that begins here is larger than the limit of {} for one row (an unclosed quote?)",
            bytes_text(self.row_bytes_max)
        );
        IngestError::new(ErrorKind::Limit, path, message).line(line)
    }
}

impl CountedFile {
    pub(crate) fn open(path: &Path, meter: &Meter) -> Result<Self, IngestError> {
        let file = File::open(path).map_err(|err| IngestError::io(path, err))?;
        Ok(Self { file, meter: meter.clone() })
    }
}

impl Read for CountedFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.meter.is_over() {
            return Err(io::Error::other("a row is over the limit"));
        }
        let read = self.file.read(buf)?;
        self.meter.read.fetch_add(read as u64, Ordering::Relaxed);
        self.meter.row.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// The columns of a batch under construction.
pub(crate) struct Columns {
    path: PathBuf,
    schema: SchemaRef,
    cells: Vec<Column>,
    rows: usize,
    bytes: usize,
}

impl Columns {
    pub(crate) fn new(path: &Path, schema: &SchemaRef) -> Result<Self, IngestError> {
        let cells = schema.fields().iter().map(|field| {
            Column::new(field)
                .map_err(|err| IngestError::new(ErrorKind::Schema, path, err).column(field.name()))
        });
        Ok(Self {
            path: path.to_owned(),
            schema: Arc::clone(schema),
            cells: cells.collect::<Result<_, _>>()?,
            rows: 0,
            bytes: 0,
        })
    }

    pub(crate) fn cell(&mut self, at: usize) -> &mut Column {
        &mut self.cells[at]
    }

    /// Counts a row of `bytes`; true when the batch is large enough.
    pub(crate) fn row_done(&mut self, bytes: usize) -> bool {
        self.rows += 1;
        self.bytes += bytes;
        self.rows >= BATCH_ROWS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// The batch, or `None` when no row came.
    pub(crate) fn finish(&mut self) -> Result<Option<RecordBatch>, IngestError> {
        if self.rows == 0 {
            return Ok(None);
        }
        let broken = |err| IngestError::broken(&self.path, "the rows make no batch", err);
        let arrays = self
            .cells
            .iter_mut()
            .map(Column::finish)
            .collect::<Result<Vec<_>, _>>()
            .map_err(broken)?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .map_err(broken)?;
        (self.rows, self.bytes) = (0, 0);
        Ok(Some(batch))
    }
}

/// The found columns, with the given types in place of the guessed ones.
pub(crate) fn schema_of(
    path: &Path,
    found: Vec<FieldRef>,
    given: &GivenTypes,
) -> Result<SchemaRef, IngestError> {
    if found.is_empty() {
        return Err(IngestError::new(ErrorKind::Schema, path, "the file has no columns"));
    }
    if let Some(missing) =
        given.must_exist.iter().find(|name| !found.iter().any(|field| field.name() == *name))
    {
        let names: Vec<_> = found.iter().map(|field| field.name().as_str()).collect();
        let message =
            format!("--schema names a column that the file has not; it has {}", names.join(", "));
        return Err(IngestError::new(ErrorKind::Schema, path, message).column(missing));
    }
    let are_items =
        CORE_COLUMNS.iter().all(|column| found.iter().any(|field| field.name() == column.name));
    let fields = found.into_iter().map(|field| {
        match given.fields.iter().find(|other| other.name() == field.name()) {
            Some(given) => Arc::new(given.clone().with_nullable(true)),
            None if are_items => as_item(field),
            None => field,
        }
    });
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// A well-known column whose cells happen to look like something else (a
/// title of digits, flags that are all empty) keeps its kind.
fn as_item(field: FieldRef) -> FieldRef {
    match item_column(field.name()) {
        Some(column) if !column.kind.takes(field.data_type()) => {
            Arc::new(column.field().with_nullable(true))
        }
        _ => field,
    }
}

/// Types that are known before the file is read.
#[derive(Debug, Clone, Default)]
pub(crate) struct GivenTypes {
    pub fields: Vec<Field>,
    pub must_exist: Vec<String>,
}
