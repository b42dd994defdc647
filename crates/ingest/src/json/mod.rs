//! JSON objects, one a line or in one array, row by row.

mod frames;
mod value;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, SchemaRef};

use crate::Opened;
use crate::error::{ErrorKind, IngestError};
use crate::infer::{Guess, merge_fields};
use crate::rows::{Columns, GivenTypes, Meter, SAMPLE_BYTES_MAX, SAMPLE_ROWS_MAX, schema_of};

use frames::Frames;
pub(crate) use value::Json;

type Row = Vec<(String, Json)>;

/// Objects as they stand in the file, each with its line and size.
struct Objects {
    path: PathBuf,
    frames: Frames,
}

impl Objects {
    fn next(&mut self) -> Result<Option<(u64, usize, Row)>, IngestError> {
        let Some((line, bytes)) = self.frames.next_frame()? else {
            return Ok(None);
        };
        match serde_json::from_slice(bytes.trim_ascii_end()) {
            Ok(Json::Object(row)) => Ok(Some((line, bytes.len(), row))),
            Ok(other) => {
                let shown = crate::cells::quoted(&other.to_string());
                let message = format!("each row must be an object, this is {shown}");
                Err(IngestError::new(ErrorKind::Format, &self.path, message).line(line))
            }
            Err(err) => {
                let at = line + (err.line() as u64).saturating_sub(1);
                let text = err.to_string();
                let what = text.split(" at line ").next().unwrap_or(&text).to_owned();
                let message = format!("not JSON at character {}: {what}", err.column());
                Err(IngestError::new(ErrorKind::Format, &self.path, message).line(at))
            }
        }
    }
}

/// Batches of a JSON file.
struct JsonBatches {
    objects: Objects,
    sample: VecDeque<(u64, usize, Row)>,
    columns: Columns,
    schema: SchemaRef,
    /// The row that gave each column its last cell.
    filled: Vec<u64>,
    row: u64,
    done: bool,
}

/// Opens a file of one object a line (`lines`), or of one array.
pub(crate) fn open(
    path: &Path,
    lines: bool,
    given: &GivenTypes,
    row_bytes_max: u64,
) -> Result<Opened, IngestError> {
    let meter = Meter::new(row_bytes_max);
    let mut objects = Objects { path: path.to_owned(), frames: Frames::open(path, lines, &meter)? };
    let (sample, guesses) = sample(&mut objects)?;
    let mut found: Vec<FieldRef> = guesses.iter().map(|(name, guess)| guess.field(name)).collect();
    // A column that only later rows carry can be given.
    for field in &given.fields {
        if given.must_exist.contains(field.name())
            && !found.iter().any(|other| other.name() == field.name())
        {
            found.push(Arc::new(field.clone()));
        }
    }
    let schema = schema_of(path, found, given)?;
    let columns = Columns::new(path, &schema)?;
    let filled = vec![0; schema.fields().len()];
    let batches = JsonBatches {
        objects,
        sample,
        columns,
        schema: Arc::clone(&schema),
        filled,
        row: 0,
        done: false,
    };
    Ok(Opened { schema, batches: Box::new(batches), done: meter.read(), rows: None })
}

type Sample = (VecDeque<(u64, usize, Row)>, Vec<(String, Guess)>);

fn sample(objects: &mut Objects) -> Result<Sample, IngestError> {
    let mut rows = VecDeque::new();
    let mut guesses = Vec::new();
    let mut bytes = 0;
    while rows.len() < SAMPLE_ROWS_MAX && bytes < SAMPLE_BYTES_MAX {
        let Some((line, size, row)) = objects.next()? else {
            break;
        };
        let more = row.iter().map(|(name, value)| (name.clone(), Guess::of_json(value))).collect();
        guesses = merge_fields(guesses, more);
        bytes += size;
        rows.push_back((line, size, row));
    }
    Ok((rows, guesses))
}

impl JsonBatches {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, IngestError> {
        loop {
            let next = match self.sample.pop_front() {
                Some(row) => Some(row),
                None => self.objects.next()?,
            };
            let Some((line, size, row)) = next else {
                return self.columns.finish();
            };
            self.add_row(line, &row)?;
            if self.columns.row_done(size) {
                return self.columns.finish();
            }
        }
    }

    fn add_row(&mut self, line: u64, row: &[(String, Json)]) -> Result<(), IngestError> {
        self.row += 1;
        for (at, (name, value)) in row.iter().enumerate() {
            let column = self.column_of(at, name).ok_or_else(|| {
                let message = format!("the first rows have no such field; give all columns' types by --schema (with '{name}:…')");
                IngestError::new(ErrorKind::Value, &self.objects.path, message).line(line).column(name)
            })?;
            self.columns.cell(column).append_json(value).map_err(|fault| {
                let message =
                    format!("{fault}; correct it, or give the type by --schema '{name}:…'");
                IngestError::new(ErrorKind::Value, &self.objects.path, message)
                    .line(line)
                    .column(name)
            })?;
            self.filled[column] = self.row;
        }
        for (column, filled) in self.filled.iter().enumerate() {
            if *filled != self.row {
                self.columns.cell(column).append_null();
            }
        }
        Ok(())
    }

    /// Rows of one file mostly agree on the order of their fields.
    fn column_of(&self, at: usize, name: &str) -> Option<usize> {
        let fields = self.schema.fields();
        match fields.get(at) {
            Some(field) if field.name() == name => Some(at),
            _ => fields.iter().position(|field| field.name() == name),
        }
    }
}

impl Iterator for JsonBatches {
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
