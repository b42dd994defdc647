//! Rows as they come: as a table, as one JSON array, or as CSV.

use std::io::{self, BufWriter, StdoutLock, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::writer::{JsonArray, Writer, WriterBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use service_error::ServiceError;

use super::{Format, one_line};
use crate::failure::Failure;

/// Rows that the widths of a table's columns are taken from.
const MEASURED_ROWS: usize = 1_000;

/// Prints batches one after the other; nothing but the first rows of a table
/// is kept.
pub struct RowPrinter {
    schema: SchemaRef,
    form: Form,
}

enum Form {
    Table(TableForm),
    Json(Box<Writer<BufWriter<StdoutLock<'static>>, JsonArray>>),
    Csv(BufWriter<StdoutLock<'static>>),
}

struct TableForm {
    out: BufWriter<StdoutLock<'static>>,
    /// Before they are measured.
    waiting: Vec<Vec<Cell>>,
    /// Afterwards.
    widths: Vec<usize>,
    rows: u64,
}

/// Whether anybody reads on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Printed {
    /// Go on.
    More,
    /// The reader went away (`| head`), which is no failure.
    Enough,
}

struct Cell {
    text: String,
    is_number: bool,
}

impl RowPrinter {
    /// Of rows of a schema.
    pub fn new(format: Format, schema: SchemaRef) -> Result<Self, Failure> {
        let mut out = BufWriter::new(io::stdout().lock());
        let form = match format {
            Format::Table => {
                Form::Table(TableForm { out, waiting: Vec::new(), widths: Vec::new(), rows: 0 })
            }
            Format::Json => {
                let builder = WriterBuilder::new().with_explicit_nulls(true);
                Form::Json(Box::new(builder.build::<_, JsonArray>(out)))
            }
            Format::Csv => {
                let names = schema.fields().iter().map(|field| quoted(field.name()));
                written(writeln!(out, "{}", names.collect::<Vec<_>>().join(",")))?;
                Form::Csv(out)
            }
        };
        Ok(Self { schema, form })
    }

    /// Prints a batch.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Printed, Failure> {
        match &mut self.form {
            Form::Json(writer) => json(writer.write(batch)),
            Form::Csv(out) => {
                let options = FormatOptions::new();
                let columns = formatters(batch, &options)?;
                for row in 0..batch.num_rows() {
                    let cells = columns.iter().enumerate().map(|(at, column)| {
                        if batch.column(at).is_null(row) {
                            return Ok(String::new());
                        }
                        column.value(row).try_to_string().map(|text| quoted(&text))
                    });
                    let line = cells.collect::<Result<Vec<_>, _>>().map_err(failure)?.join(",");
                    if written(writeln!(out, "{line}"))? == Printed::Enough {
                        return Ok(Printed::Enough);
                    }
                }
                written(out.flush())
            }
            Form::Table(table) => {
                let rows = cells_of(batch)?;
                table.rows += rows.len() as u64;
                if table.widths.is_empty() {
                    table.waiting.extend(rows);
                    if table.waiting.len() < MEASURED_ROWS {
                        return Ok(Printed::More);
                    }
                    return written(table.measure(&self.schema));
                }
                let lines = rows.iter().try_for_each(|row| table.line(row));
                written(lines.and_then(|()| table.out.flush()))
            }
        }
    }

    /// Prints what is left; answers how many rows a table had.
    pub fn finish(mut self) -> Result<Option<u64>, Failure> {
        match &mut self.form {
            Form::Json(writer) => {
                json(writer.finish())?;
                let out = writer.get_mut();
                written(writeln!(out).and_then(|()| out.flush()))?;
                Ok(None)
            }
            Form::Csv(out) => written(out.flush()).map(|_| None),
            Form::Table(table) => {
                if table.widths.is_empty() {
                    written(table.measure(&self.schema))?;
                }
                Ok(Some(table.rows))
            }
        }
    }
}

impl TableForm {
    /// Takes widths from the rows that wait, and prints them.
    fn measure(&mut self, schema: &SchemaRef) -> io::Result<()> {
        let rows = std::mem::take(&mut self.waiting);
        let width = |text: &str| text.chars().count();
        self.widths = schema.fields().iter().map(|field| width(field.name()).max(1)).collect();
        for row in &rows {
            for (cell, widest) in row.iter().zip(&mut self.widths) {
                *widest = width(&cell.text).max(*widest);
            }
        }
        let title = |name: &String| Cell { text: name.to_uppercase(), is_number: false };
        let titles: Vec<Cell> = schema.fields().iter().map(|field| title(field.name())).collect();
        self.line(&titles)?;
        rows.iter().try_for_each(|row| self.line(row))?;
        self.out.flush()
    }

    fn line(&mut self, cells: &[Cell]) -> io::Result<()> {
        let mut line = String::new();
        for (at, (cell, width)) in cells.iter().zip(&self.widths).enumerate() {
            if at > 0 {
                line.push_str("  ");
            }
            let blank = " ".repeat(width.saturating_sub(cell.text.chars().count()));
            let (before, after) =
                if cell.is_number { (blank.as_str(), "") } else { ("", blank.as_str()) };
            line.push_str(before);
            line.push_str(&cell.text);
            line.push_str(after);
        }
        writeln!(self.out, "{}", line.trim_end())
    }
}

fn cells_of(batch: &RecordBatch) -> Result<Vec<Vec<Cell>>, Failure> {
    let options = FormatOptions::new();
    let columns = formatters(batch, &options)?;
    let schema = batch.schema();
    let cell = |row: usize, at: usize, column: &ArrayFormatter<'_>| {
        let text = column.value(row).try_to_string()?;
        let is_number = schema.field(at).data_type().is_numeric();
        // A plan is made of lines; a value is one.
        Ok(Cell { text: one_line(&text), is_number })
    };
    (0..batch.num_rows())
        .map(|row| columns.iter().enumerate().map(|(at, column)| cell(row, at, column)).collect())
        .collect::<Result<_, ArrowError>>()
        .map_err(failure)
}

fn formatters<'a>(
    batch: &'a RecordBatch,
    options: &'a FormatOptions<'_>,
) -> Result<Vec<ArrayFormatter<'a>>, Failure> {
    let formatters = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, options));
    formatters.collect::<Result<_, _>>().map_err(failure)
}

/// In quotes where CSV needs them.
fn quoted(text: &str) -> String {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

fn json(result: Result<(), ArrowError>) -> Result<Printed, Failure> {
    match result {
        Ok(()) => Ok(Printed::More),
        Err(ArrowError::IoError(_, error)) => written(Err(error)),
        Err(error) => Err(failure(error)),
    }
}

fn failure(error: ArrowError) -> Failure {
    ServiceError::internal(format!("the rows cannot be printed: {error}")).into()
}

fn written(result: io::Result<()>) -> Result<Printed, Failure> {
    match result {
        Ok(()) => Ok(Printed::More),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Printed::Enough),
        Err(error) => {
            Err(ServiceError::precondition(format!("cannot write the answer: {error}")).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_csv_needs_it() {
        for (text, expected) in [
            ("a", "a"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("", "\"\""),
            ("a\nb", "\"a\nb\""),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }
}
