//! What stands beside a FAISS file: one row a vector, in the file's order.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use catalog_api::v1::Value;
use catalog_api::v1::value::Kind;
use ingest::{ReadOptions, Source};
use quarry_client::failure::Failure;

use crate::wrong_file;

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
    /// Columns that no payload can hold.
    pub left_out: BTreeSet<String>,
}

impl Rows {
    /// Opens a JSON array, lines of JSON, Parquet, CSV or Arrow.
    ///
    /// # Errors
    /// A pickle, a file of another format, a column that is not there.
    pub fn open(path: &Path, id_column: Option<&str>) -> Result<Self, Failure> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if matches!(ending, "pkl" | "pickle") {
            return Err(wrong_file(
                path,
                "is a pickle, and reading one runs what it says; convert it where you trust it: python3 -c 'import json, pickle, sys; json.dump(pickle.load(open(sys.argv[1], \"rb\")), open(sys.argv[2], \"w\"))' FILE.pkl FILE.json",
            ));
        }
        let source = ingest::open(path, &ReadOptions::default())?;
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
        Ok(Self { source, batch: None, id_column, wanted, left_out })
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
                Some(batch) => self.batch = Some((batch?, 0)),
                None => return Ok(None),
            }
        }
    }
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
    fn a_pickle_is_refused_with_what_to_do() {
        let error = Rows::open(Path::new("metadata.pkl"), None).err().unwrap();
        assert!(error.to_string().contains("json.dump"), "{error}");
        assert_eq!(error.exit() as u8, 7);
    }
}
