//! Reads a version back over Arrow Flight and compares it with the files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use futures::TryStreamExt;
use ingest::ReadOptions;
use ingest::images::{probe, scan};
use service_error::ServiceError;

use crate::client::Client;
use crate::client::flight::Query;
use crate::client::version::VersionName;
use crate::failure::Failure;

/// What a row must say about its file.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    content_hash: String,
    mime_type: String,
    width: i32,
    height: i32,
    size: i64,
}

/// The number of rows, all of which are equal to their files.
///
/// # Errors
/// A row is missing, too many, or differs.
pub async fn read_back(client: &Client, version: VersionName, root: &Path) -> Result<u64, Failure> {
    let flight = Query::all(version).find(client).await?;
    let batches: Vec<RecordBatch> = flight.batches(client).try_collect().await?;
    let root = root.to_owned();
    let expected = crate::client::import::blocking(move || facts_of_files(root)).await??;
    let mut found = BTreeMap::new();
    let mut rows = 0;
    for batch in &batches {
        rows += batch.num_rows() as u64;
        found.extend(facts_of_rows(batch)?);
    }
    if rows != expected.len() as u64 {
        return Err(differs(&format!("{rows} rows came back for {} files", expected.len())));
    }
    match expected.iter().find(|(path, facts)| found.get(*path) != Some(facts)) {
        Some((path, _)) => Err(differs(&format!("the row of {path} differs from its file"))),
        None => Ok(rows),
    }
}

fn differs(what: &str) -> Failure {
    ServiceError::data_loss(format!("what was read back is not what went in: {what}")).into()
}

fn facts_of_files(root: PathBuf) -> Result<BTreeMap<String, Facts>, Failure> {
    let mut scan = scan(&root, &ReadOptions::default())?;
    let mut facts = BTreeMap::new();
    while let Some(found) = scan.next() {
        let image = probe(found?, scan.limits())?;
        let of_file = Facts {
            content_hash: image.content_hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            mime_type: image.mime_type.to_owned(),
            width: image.width.cast_signed(),
            height: image.height.cast_signed(),
            size: image.size.cast_signed(),
        };
        facts.insert(image.found.relative, of_file);
    }
    Ok(facts)
}

fn facts_of_rows(batch: &RecordBatch) -> Result<Vec<(String, Facts)>, Failure> {
    let column = |name: &str, kind: DataType| {
        let column = batch
            .column_by_name(name)
            .ok_or_else(|| differs(&format!("there is no column {name}")))?;
        let column = cast(column, &kind).map_err(|err| differs(&format!("{name}: {err}")))?;
        if column.null_count() > 0 {
            Err(differs(&format!("{name} has nulls")))
        } else {
            Ok(column)
        }
    };
    let (paths, hashes) =
        (column("file_path", DataType::Utf8)?, column("content_hash", DataType::Utf8)?);
    let (kinds, sizes) =
        (column("mime_type", DataType::Utf8)?, column("file_size_bytes", DataType::Int64)?);
    let (widths, heights) = (column("width", DataType::Int32)?, column("height", DataType::Int32)?);
    let facts = |row| Facts {
        content_hash: hashes.as_string::<i32>().value(row).to_owned(),
        mime_type: kinds.as_string::<i32>().value(row).to_owned(),
        width: widths.as_primitive::<Int32Type>().value(row),
        height: heights.as_primitive::<Int32Type>().value(row),
        size: sizes.as_primitive::<Int64Type>().value(row),
    };
    Ok((0..batch.num_rows())
        .map(|row| (paths.as_string::<i32>().value(row).to_owned(), facts(row)))
        .collect())
}
