//! Batches into files.

pub mod images;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter;
use arrow::json::writer::{JsonArray, LineDelimited, WriterBuilder as JsonBuilder};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::Format;
use crate::error::{ErrorKind, IngestError};

type Sink = Box<dyn Write + Send>;

/// Writes one file. Nested cells of a CSV file are JSON text, bytes are hex.
pub struct Writer {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    Csv { out: Box<arrow::csv::Writer<Sink>>, flat: SchemaRef },
    Lines(arrow::json::Writer<Sink, LineDelimited>),
    Array(arrow::json::Writer<Sink, JsonArray>),
    Parquet(Box<ArrowWriter<Sink>>),
    Arrow(Box<FileWriter<Sink>>),
}

impl Writer {
    /// Begins a file in `out`; `path` is what errors name.
    ///
    /// # Errors
    /// The format is `images` (see [`images::ImageFolder`]) or cannot hold the
    /// schema.
    pub fn new(
        path: &Path,
        format: Format,
        schema: &SchemaRef,
        out: Sink,
    ) -> Result<Self, IngestError> {
        let broken =
            |err: ArrowError| IngestError::broken(path, "the columns do not fit the format", err);
        let kind = match format {
            Format::Csv => csv(schema, b',', out).map_err(broken)?,
            Format::Tsv => csv(schema, b'\t', out).map_err(broken)?,
            Format::Jsonl => Kind::Lines(JsonBuilder::new().with_explicit_nulls(true).build(out)),
            Format::Json => Kind::Array(JsonBuilder::new().with_explicit_nulls(true).build(out)),
            Format::Parquet => parquet(schema, out).map_err(broken)?,
            Format::Arrow => {
                Kind::Arrow(Box::new(FileWriter::try_new(out, schema).map_err(broken)?))
            }
            Format::Images => {
                return Err(IngestError::new(
                    ErrorKind::Format,
                    path,
                    "images are written to a folder",
                ));
            }
        };
        Ok(Self { path: path.to_owned(), kind })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// The disk is full, or a cell cannot be expressed.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), IngestError> {
        let written = match &mut self.kind {
            Kind::Csv { out, flat } => in_utc(batch)
                .and_then(|batch| flatten(&batch, flat))
                .and_then(|batch| out.write(&batch)),
            Kind::Lines(out) => in_utc(batch).and_then(|batch| out.write(&batch)),
            Kind::Array(out) => in_utc(batch).and_then(|batch| out.write(&batch)),
            Kind::Parquet(out) => out.write(batch).map_err(ArrowError::from),
            Kind::Arrow(out) => out.write(batch),
        };
        written.map_err(|err| IngestError::broken(&self.path, "cannot be written", err))
    }

    /// Ends the file and flushes it.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn finish(self) -> Result<(), IngestError> {
        let mut flushed = Ok(());
        let ended = match self.kind {
            Kind::Csv { out, .. } => {
                flushed = out.into_inner().flush();
                Ok(())
            }
            Kind::Lines(mut out) => {
                let ended = out.finish();
                flushed = out.into_inner().flush();
                ended
            }
            Kind::Array(mut out) => {
                let ended = out.finish();
                flushed = out.into_inner().flush();
                ended
            }
            Kind::Parquet(out) => {
                out.into_inner().map_err(ArrowError::from).map(|mut sink| flushed = sink.flush())
            }
            Kind::Arrow(out) => out.into_inner().map(|mut sink| flushed = sink.flush()),
        };
        ended.map_err(|err| IngestError::broken(&self.path, "cannot be written", err))?;
        flushed.map_err(|err| IngestError::io(&self.path, err))
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The header stands also above no rows.
fn csv(schema: &SchemaRef, delimiter: u8, out: Sink) -> Result<Kind, ArrowError> {
    let flat: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| match is_nested(field.data_type()) {
            true => Arc::new(Field::new(field.name(), DataType::Utf8, true)),
            false => utc_field(field),
        })
        .collect();
    let flat = Arc::new(Schema::new(flat));
    let mut out = arrow::csv::WriterBuilder::new().with_delimiter(delimiter).build(out);
    out.write(&RecordBatch::new_empty(Arc::clone(&flat)))?;
    Ok(Kind::Csv { out: Box::new(out), flat })
}

fn parquet(schema: &SchemaRef, out: Sink) -> Result<Kind, ArrowError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(131_072))
        .set_max_row_group_bytes(Some(256 << 20))
        .build();
    Ok(Kind::Parquet(Box::new(ArrowWriter::try_new(out, Arc::clone(schema), Some(properties))?)))
}

/// Text formats write moments in UTC, whatever zone the type names.
fn utc_field(field: &FieldRef) -> FieldRef {
    let kind = match field.data_type() {
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some("+00:00".into())),
        DataType::List(item) => DataType::List(utc_field(item)),
        DataType::LargeList(item) => DataType::LargeList(utc_field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(utc_field(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(utc_field).collect()),
        _ => return Arc::clone(field),
    };
    Arc::new(field.as_ref().clone().with_data_type(kind))
}

fn in_utc(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let fields: Vec<_> = batch.schema().fields().iter().map(utc_field).collect();
    let columns = batch.columns().iter().zip(&fields).map(|(column, field)| {
        match column.data_type() == field.data_type() {
            true => Ok(Arc::clone(column)),
            false => cast(column, field.data_type()),
        }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

fn is_nested(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, value) => is_nested(value),
        kind => kind.is_nested(),
    }
}

/// The batch with its nested columns as JSON text.
fn flatten(batch: &RecordBatch, flat: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|column| {
        if is_nested(column.data_type()) { json_text(column) } else { Ok(Arc::clone(column)) }
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(
        Arc::clone(flat),
        columns.collect::<Result<_, _>>()?,
        &options,
    )
}

fn json_text(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let field = Arc::new(Field::new("", column.data_type().clone(), true));
    let options = arrow::json::writer::EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = arrow::json::writer::make_encoder(&field, column, &options)?;
    let mut text = Vec::new();
    let mut cells = arrow::array::StringBuilder::with_capacity(column.len(), 0);
    for row in 0..column.len() {
        if encoder.is_null(row) {
            cells.append_null();
            continue;
        }
        text.clear();
        encoder.encode(row, &mut text);
        cells.append_value(String::from_utf8_lossy(&text));
    }
    let array: StringArray = cells.finish();
    Ok(Arc::new(array))
}
