//! `split/class/image`, or images that a metadata file describes.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::Sample;
use crate::findings::FindingKind;
use crate::splits::split_of;
use crate::tree::{BOM, Tree, dir, join, name};

/// Rows of all metadata files that are taken.
const ROWS_MAX: usize = 5_000_000;
const FILE_NAME: &str = "file_name";

/// What metadata files say, by the image's path.
struct Described {
    rows: HashMap<String, Map<String, Value>>,
    /// Directories that a metadata file describes.
    dirs: Vec<String>,
}

pub fn samples(tree: &mut Tree<'_>) -> Vec<Sample> {
    let mut described = read_metadata(tree);
    let mut samples = Vec::new();
    for image in tree.images() {
        let path = tree.files[image].path.clone();
        let row = described.rows.remove(&path);
        let Some(mut sample) = tree.sample(image) else { continue };
        let (split, label) = place(&path);
        sample.split = split.map(str::to_owned);
        let is_described = described.dirs.iter().any(|dir| is_below(dir, &path));
        match row {
            Some(row) => describe(&mut sample, row),
            None if is_described => {
                let why = "is in no row of the metadata file above it";
                tree.findings.add(FindingKind::Orphaned, &path, why);
            }
            None => sample.label = label.map(str::to_owned),
        }
        samples.push(sample);
    }
    for path in described.rows.keys() {
        if tree.at(path).is_none() {
            tree.findings.add(FindingKind::Missing, path, "a metadata file names it");
        }
    }
    samples
}

fn is_below(dir: &str, path: &str) -> bool {
    dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

/// The split and the class that a path tells.
fn place(path: &str) -> (Option<&'static str>, Option<&str>) {
    let mut dirs = dir(path).split('/').filter(|part| !part.is_empty());
    let first = dirs.next();
    match first.and_then(split_of) {
        Some(split) => (Some(split), dirs.next()),
        None => (None, first),
    }
}

fn read_metadata(tree: &mut Tree<'_>) -> Described {
    let mut described = Described { rows: HashMap::new(), dirs: Vec::new() };
    for at in 0..tree.files.len() {
        let path = tree.files[at].path.clone();
        let is_csv = name(&path) == "metadata.csv";
        if !is_csv && name(&path) != "metadata.jsonl" {
            continue;
        }
        let about = dir(&path);
        let Some(bytes) = tree.read(at, tree.limits.json_bytes_max, about) else { continue };
        let bytes = bytes.strip_prefix(BOM).unwrap_or(&bytes);
        let rows = if is_csv { csv_rows(bytes) } else { json_rows(bytes) };
        described.dirs.push(about.to_owned());
        if bytes.trim_ascii().is_empty() {
            tree.unread(&path, about, "is empty");
        }
        for row in rows {
            let row = match row {
                Ok(row) => row,
                Err(why) => {
                    tree.unread(&path, about, why);
                    continue;
                }
            };
            match named(&row, about) {
                Ok(file) if described.rows.len() < ROWS_MAX => {
                    drop(described.rows.insert(file, row))
                }
                Ok(_) => return described,
                Err(why) => tree.findings.add(FindingKind::Broken, &path, why),
            }
        }
    }
    described
}

fn named(row: &Map<String, Value>, dir: &str) -> Result<String, String> {
    let file = row.get(FILE_NAME).and_then(Value::as_str).ok_or("a row without file_name")?;
    join(dir, file).ok_or_else(|| format!("{file:?} leads out of the directory"))
}

type Rows = Vec<Result<Map<String, Value>, String>>;

fn csv_rows(bytes: &[u8]) -> Rows {
    let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(err) => return vec![Err(err.to_string())],
    };
    if !header.is_empty() && !header.iter().any(|name| name == FILE_NAME) {
        return vec![Err(format!("has no column {FILE_NAME}"))];
    }
    let row =
        |record: Result<csv::StringRecord, csv::Error>| -> Result<Map<String, Value>, String> {
            let record = record.map_err(|err| err.to_string())?;
            let cells = header.iter().zip(record.iter());
            Ok(cells
                .map(|(name, cell)| (name.to_owned(), Value::String(cell.to_owned())))
                .collect())
        };
    let mut last = None;
    let records = reader.records().inspect(|record| {
        let cells = record.as_ref().ok().and_then(|record| record.get(record.len() - 1));
        last = cells.map(str::to_owned);
    });
    let mut rows: Rows = records.map(row).collect();
    if last.is_some_and(|last| has_open_quote(bytes, &last)) {
        rows.pop();
        rows.push(Err("a quote has no end".to_owned()));
    }
    rows
}

/// The last cell begins with a quote and does not end with one: the file was cut there, or the
/// quote takes in all that follows.
fn has_open_quote(bytes: &[u8], last: &str) -> bool {
    let (text, last) = (bytes.trim_ascii_end(), last.trim_end().as_bytes());
    !last.is_empty() && text.strip_suffix(last).is_some_and(|before| before.ends_with(b"\""))
}

fn json_rows(bytes: &[u8]) -> Rows {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    lines
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(nth, line)| {
            serde_json::from_slice(line).map_err(|err| format!("line {}: {err}", nth + 1))
        })
        .collect()
}

/// A row's caption, label and split have columns of their own.
fn describe(sample: &mut Sample, mut row: Map<String, Value>) {
    row.remove(FILE_NAME);
    let mut text = |names: &[&str]| {
        let name = names.iter().find(|name| row.contains_key(**name))?;
        match row.remove(*name)? {
            Value::String(text) if text.is_empty() => None,
            Value::String(text) => Some(text),
            Value::Null => None,
            other => Some(other.to_string()),
        }
    };
    sample.caption = text(&["caption", "text"]);
    sample.label = text(&["label", "class"]);
    sample.split = text(&["split"])
        .map(|word| split_of(&word).map_or(word, str::to_owned))
        .or(sample.split.take());
    sample.properties = row;
}
