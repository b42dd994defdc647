//! What stands beside a FAISS file: one row a vector, in the file's order.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use catalog_api::v1::Value;
use catalog_api::v1::value::Kind;
use ingest::{ReadOptions, Source};
use quarry_client::failure::Failure;
use tempfile::NamedTempFile;

use crate::{pickle, wrong_file};

/// One vector's row.
#[derive(Debug, Default)]
pub struct Row {
    /// Whose the vector is; `None`: the file's id says.
    pub item_id: Option<String>,
    /// Its payload.
    pub payload: HashMap<String, Value>,
}

/// Rows of a metadata file, one after another.
pub struct Rows {
    source: Source,
    batch: Option<(RecordBatch, usize)>,
    id_column: Option<String>,
    wanted: Vec<usize>,
    path: PathBuf,
    /// What a pickle was turned into; it goes when the rows do.
    lines: Option<NamedTempFile>,
    /// Columns that no payload can hold.
    pub left_out: BTreeSet<String>,
}

impl Rows {
    /// Opens a JSON array, lines of JSON, Parquet, CSV, Arrow, or a pickle of plain data.
    ///
    /// # Errors
    /// A pickle of more than that, a file of another format, a column that is not there.
    pub fn open(path: &Path, id_column: Option<&str>) -> Result<Self, Failure> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let is_pickle = matches!(ending, "pkl" | "pickle");
        let lines = is_pickle.then(|| pickle::as_lines(path)).transpose()?;
        let read = lines.as_ref().map_or(path, NamedTempFile::path);
        let source = ingest::open(read, &ReadOptions::default())
            .map_err(|error| named(path, lines.as_ref(), error))?;
        if let Some(id) = id_column
            && source.schema.field_with_name(id).is_err()
        {
            return Err(wrong_file(path, format_args!("has no column {id:?} for --id-column")));
        }
        let (mut wanted, mut left_out) = (Vec::new(), BTreeSet::new());
        for (at, field) in source.schema.fields().iter().enumerate() {
            if Some(field.name().as_str()) == id_column {
                continue;
            }
            if is_payload(field.data_type()) {
                wanted.push(at);
            } else {
                left_out.insert(field.name().clone());
            }
        }
        let id_column = id_column.map(str::to_owned);
        let path = path.to_owned();
        Ok(Self { source, batch: None, id_column, wanted, path, lines, left_out })
    }

    /// The next row, if there is one.
    ///
    /// # Errors
    /// The file's, with its line.
    pub fn next_row(&mut self) -> Result<Option<Row>, Failure> {
        loop {
            if let Some((batch, at)) = &mut self.batch
                && *at < batch.num_rows()
            {
                let row = row_of(batch, *at, self.id_column.as_deref(), &self.wanted)?;
                *at += 1;
                return Ok(Some(row));
            }
            match self.source.next() {
                Some(batch) => {
                    let batch =
                        batch.map_err(|error| named(&self.path, self.lines.as_ref(), error))?;
                    self.batch = Some((batch, 0));
                }
                None => return Ok(None),
            }
        }
    }
}

/// What is wrong with a file, under the name that its owner gave it.
fn named(path: &Path, lines: Option<&NamedTempFile>, error: ingest::IngestError) -> Failure {
    let Some(lines) = lines else { return error.into() };
    let made = lines.path().display().to_string();
    wrong_file(path, error.to_string().replace(&made, "what it holds"))
}

fn row_of(
    batch: &RecordBatch,
    at: usize,
    id_column: Option<&str>,
    wanted: &[usize],
) -> Result<Row, Failure> {
    let mut row = Row::default();
    if let Some(column) = id_column.and_then(|name| batch.column_by_name(name)) {
        row.item_id = id_text(cells::cell(column, at)?);
    }
    let schema = batch.schema_ref();
    for column in wanted {
        let value = cells::cell(batch.column(*column), at)?;
        if value.kind.is_some() {
            row.payload.insert(schema.field(*column).name().clone(), value);
        }
    }
    Ok(row)
}

fn id_text(value: Value) -> Option<String> {
    match value.kind? {
        Kind::StringValue(text) => Some(text),
        Kind::IntValue(n) => Some(n.to_string()),
        Kind::UintValue(n) => Some(n.to_string()),
        _ => None,
    }
}

/// Whether a column's values can be filtered by.
fn is_payload(of: &DataType) -> bool {
    match of {
        DataType::List(field) | DataType::LargeList(field) => {
            !matches!(field.data_type(), DataType::List(_) | DataType::LargeList(_))
                && is_payload(field.data_type())
        }
        DataType::Boolean | DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => true,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        other => other.is_integer() || other.is_floating(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn rows_come_in_the_files_order_with_what_can_be_filtered_by() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.json");
        let text = r#"[{"name": "a", "n": 1, "tags": ["x"], "deep": {"k": 1}},
            {"name": "b", "n": null, "tags": [], "deep": {"k": 2}}]"#;
        std::fs::write(&path, text).unwrap();
        let mut rows = Rows::open(&path, Some("name")).unwrap();
        assert!(rows.left_out.contains("deep"), "{:?}", rows.left_out);
        let first = rows.next_row().unwrap().unwrap();
        assert_eq!(first.item_id.as_deref(), Some("a"));
        assert_eq!(first.payload["n"].kind, Some(Kind::IntValue(1)));
        assert!(!first.payload.contains_key("name"));
        let second = rows.next_row().unwrap().unwrap();
        assert_eq!(second.item_id.as_deref(), Some("b"));
        assert!(!second.payload.contains_key("n"));
        assert!(rows.next_row().unwrap().is_none());
    }

    #[test]
    fn a_pickle_of_plain_rows_is_read_as_any_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.pkl");
        std::fs::write(
            &path,
            b"]}(X\x01\x00\x00\x00nK\x07X\x01\x00\x00\x00t]X\x01\x00\x00\x00xaua.",
        )
        .unwrap();
        let mut rows = Rows::open(&path, None).unwrap();
        let row = rows.next_row().unwrap().unwrap();
        assert_eq!(row.payload["n"].kind, Some(Kind::IntValue(7)));
        assert!(matches!(row.payload["t"].kind, Some(Kind::ListValue(_))));
        assert!(rows.next_row().unwrap().is_none());
        std::fs::write(&path, b"cos\nsystem\n(S'true'\ntR.").unwrap();
        let error = Rows::open(&path, None).err().unwrap();
        assert!(error.to_string().contains("os system"), "{error}");
        assert_eq!(error.exit() as u8, 7);
        for nothing in [&b"]."[..], b"](}e.", b"](K\x01e."] {
            std::fs::write(&path, nothing).unwrap();
            let error = Rows::open(&path, None).err().map_or(String::new(), |e| e.to_string());
            assert!(!error.contains(".jsonl"), "{error}");
        }
    }
}
