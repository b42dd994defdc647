//! Comma- and tab-separated text, row by row, with the line and the column of
//! whatever does not fit.

use std::collections::VecDeque;
use std::io::{Chain, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, SchemaRef};
use csv::{ByteRecord, Reader, ReaderBuilder};

use crate::Opened;
use crate::cells::quoted;
use crate::error::{ErrorKind, IngestError};
use crate::infer::Guess;
use crate::rows::{
    Columns, CountedFile, GivenTypes, Meter, SAMPLE_BYTES_MAX, SAMPLE_ROWS_MAX, schema_of,
};

/// Read after the end of a file: a record of its own, unless a quote is open.
const AFTER_END: &[u8] = b"\n.";

/// Records as they stand in the file, each with its line.
struct Records {
    path: PathBuf,
    reader: Reader<Chain<CountedFile, &'static [u8]>>,
    meter: Meter,
    line: u64,
}

impl Records {
    fn open(path: &Path, delimiter: u8, row_bytes_max: u64) -> Result<Self, IngestError> {
        let meter = Meter::new(row_bytes_max);
        let file = CountedFile::open(path, &meter)?;
        let reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(256 << 10)
            .from_reader(file.chain(AFTER_END));
        Ok(Self { path: path.to_owned(), reader, meter, line: 1 })
    }

    /// The next record into `record`, and its line; `None` at the end.
    fn next(&mut self, record: &mut ByteRecord) -> Result<Option<u64>, IngestError> {
        self.line = self.reader.position().line();
        let more =
            self.reader.read_byte_record(record).map_err(|err| match self.meter.is_over() {
                true => self.meter.over(&self.path, self.line),
                false => IngestError::broken(&self.path, "cannot be read", err).line(self.line),
            })?;
        self.meter.row_done();
        let line = record.position().map_or(self.line, csv::Position::line);
        if !more || !self.is_past_end() {
            return Ok(more.then_some(line));
        }
        if record.len() == 1 && record[0] == AFTER_END[1..] {
            return Ok(None);
        }
        let message = "the row that begins here has a quote that is never closed";
        Err(IngestError::new(ErrorKind::Format, &self.path, message).line(line))
    }

    /// Whether the last record holds what was added to the file.
    fn is_past_end(&self) -> bool {
        let file_bytes = self.meter.read().load(Ordering::Relaxed);
        self.reader.position().byte() >= file_bytes + AFTER_END.len() as u64
    }
}

/// Batches of a CSV file.
struct CsvBatches {
    records: Records,
    sample: VecDeque<(u64, ByteRecord)>,
    columns: Columns,
    schema: SchemaRef,
    record: ByteRecord,
    done: bool,
}

/// Opens a file whose fields are parted by `delimiter`.
pub(crate) fn open(
    path: &Path,
    delimiter: u8,
    given: &GivenTypes,
    row_bytes_max: u64,
) -> Result<Opened, IngestError> {
    let mut records = Records::open(path, delimiter, row_bytes_max)?;
    let names = header(&mut records)?;
    let (sample, guesses) = sample(&mut records, &names)?;
    let found = names
        .iter()
        .zip(&guesses)
        .map(|(name, guess)| guess.field(name))
        .collect::<Vec<FieldRef>>();
    let schema = schema_of(path, found, given)?;
    let read = records.meter.read();
    let columns = Columns::new(path, &schema)?;
    let batches = CsvBatches {
        records,
        sample,
        columns,
        schema: Arc::clone(&schema),
        record: ByteRecord::new(),
        done: false,
    };
    Ok(Opened { schema, batches: Box::new(batches), done: read, rows: None })
}

fn header(records: &mut Records) -> Result<Vec<String>, IngestError> {
    let mut record = ByteRecord::new();
    let Some(line) = records.next(&mut record)? else {
        return Err(IngestError::new(
            ErrorKind::Format,
            &records.path,
            "the file is empty: the first line must name the columns",
        ));
    };
    let mut names: Vec<String> = Vec::with_capacity(record.len());
    for (at, bytes) in record.iter().enumerate() {
        let text = std::str::from_utf8(bytes).map_err(|_| not_utf8(&records.path, line))?;
        let text = if at == 0 { text.trim_start_matches('\u{feff}') } else { text };
        let name = if text.is_empty() { format!("column_{}", at + 1) } else { text.to_owned() };
        if names.contains(&name) {
            let message = "two columns have this name; rename one";
            return Err(IngestError::new(ErrorKind::Schema, &records.path, message)
                .line(line)
                .column(name));
        }
        names.push(name);
    }
    Ok(names)
}

type Sample = (VecDeque<(u64, ByteRecord)>, Vec<Guess>);

fn sample(records: &mut Records, names: &[String]) -> Result<Sample, IngestError> {
    let mut rows = VecDeque::new();
    let mut guesses = vec![Guess::Unknown; names.len()];
    let mut bytes = 0;
    while rows.len() < SAMPLE_ROWS_MAX && bytes < SAMPLE_BYTES_MAX {
        let mut record = ByteRecord::new();
        let Some(line) = records.next(&mut record)? else {
            break;
        };
        for (guess, cell) in guesses.iter_mut().zip(&record) {
            let text = std::str::from_utf8(cell).map_err(|_| not_utf8(&records.path, line))?;
            if *guess != Guess::Text {
                *guess = std::mem::replace(guess, Guess::Unknown).merge(Guess::of_text(text));
            }
        }
        bytes += record.as_slice().len();
        rows.push_back((line, record));
    }
    Ok((rows, guesses))
}

fn not_utf8(path: &Path, line: u64) -> IngestError {
    IngestError::new(ErrorKind::Format, path, "the text is not UTF-8; convert the file first")
        .line(line)
}

impl CsvBatches {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, IngestError> {
        loop {
            let line = match self.sample.pop_front() {
                Some((line, record)) => {
                    self.record = record;
                    Some(line)
                }
                None => self.records.next(&mut self.record)?,
            };
            let Some(line) = line else {
                return self.columns.finish();
            };
            self.add_row(line)?;
            if self.columns.row_done(self.record.as_slice().len()) {
                return self.columns.finish();
            }
        }
    }

    fn add_row(&mut self, line: u64) -> Result<(), IngestError> {
        let (found, expected) = (self.record.len(), self.schema.fields().len());
        if found != expected {
            let message = format!("the row has {found} fields, the header {expected}");
            return Err(IngestError::new(ErrorKind::Value, &self.records.path, message).line(line));
        }
        for (at, bytes) in self.record.iter().enumerate() {
            let fault = match std::str::from_utf8(bytes) {
                Ok("") => {
                    self.columns.cell(at).append_null();
                    continue;
                }
                Ok(text) => match self.columns.cell(at).append_text(text) {
                    Ok(()) => continue,
                    Err(fault) => self.explain(at, text, fault),
                },
                Err(_) => "the text is not UTF-8; convert the file first".to_owned(),
            };
            let name = self.schema.field(at).name();
            return Err(IngestError::new(ErrorKind::Value, &self.records.path, fault)
                .line(line)
                .column(name));
        }
        Ok(())
    }

    fn explain(&self, at: usize, text: &str, fault: String) -> String {
        let name = self.schema.field(at).name();
        let better = match Guess::of_text(text) {
            Guess::Float => "float64",
            _ => "text",
        };
        if self.schema.field(at).data_type().is_nested() {
            return format!("{fault} (in {})", quoted(text));
        }
        format!("{fault}; correct it, or give the type by --schema '{name}:{better}'")
    }
}

impl Iterator for CsvBatches {
    type Item = Result<RecordBatch, IngestError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.next_batch().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}
