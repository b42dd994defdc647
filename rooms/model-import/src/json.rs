//! The small registry's JSON file: models by name, each a list of versions.

use std::collections::BTreeMap;
use std::path::Path;

use quarry_client::failure::Failure;
use serde::Deserialize;
use service_error::ServiceError;

use crate::place::Roots;
use crate::source::{Files, Opening, Page, SourceModel, SourceVersion, damaged};

/// The largest file that is read: it is held whole.
const BYTES_MAX: u64 = 256 << 20;

#[derive(Debug, Deserialize)]
struct Entry {
    version: serde_json::Value,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    tags: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(default)]
    created_at: Option<String>,
    storage_path: String,
    #[serde(default)]
    file_size: Option<u64>,
}

/// The file, read.
#[derive(Debug)]
pub struct JsonFile {
    models: BTreeMap<String, Vec<SourceVersion>>,
    roots: Roots,
}

impl JsonFile {
    /// Reads the file.
    ///
    /// # Errors
    /// What is no such file; the model is named.
    pub fn open(path: &Path, opening: Opening) -> Result<Self, Failure> {
        let shown = path.display().to_string();
        let unread =
            |err: std::io::Error| ServiceError::invalid("source", format!("{shown}: {err}"));
        let bytes = std::fs::metadata(path).map_err(unread)?.len();
        if bytes > BYTES_MAX {
            let message = format!("{shown} has {bytes} bytes; at most {BYTES_MAX}");
            return Err(ServiceError::invalid("source", message).into());
        }
        let text = std::fs::read(path).map_err(unread)?;
        let all: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(&text).map_err(|err| damaged(&shown, err))?;
        let mut models = BTreeMap::new();
        for (name, versions) in all {
            let entries: Vec<Entry> = serde_json::from_value(versions)
                .map_err(|err| damaged(&shown, format!("model {name:?}: {err}")))?;
            let mut versions: Vec<SourceVersion> = entries.into_iter().map(version_of).collect();
            // As a database would give them.
            versions.sort_by_key(|version| version.number().unwrap_or(i64::MAX));
            models.insert(name, versions);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let usual = [folder.unwrap_or(Path::new(".")).to_owned()];
        let roots = Roots::new(&opening.folders, &usual).map_err(Failure::usage)?;
        Ok(Self { models, roots })
    }

    /// All of them: the file is held whole.
    pub fn models(&self, _: &str) -> Page<SourceModel> {
        let model = |name: &String| SourceModel { name: name.clone(), ..SourceModel::default() };
        Page { rows: self.models.keys().map(model).collect(), next: String::new() }
    }

    /// All versions of a model.
    pub fn versions(&self, model: &str, _: &str) -> Page<SourceVersion> {
        Page { rows: self.models.get(model).cloned().unwrap_or_default(), next: String::new() }
    }

    /// Where its files may lie.
    pub const fn roots(&self) -> &Roots {
        &self.roots
    }
}

fn text_of(value: serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text,
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn version_of(entry: Entry) -> SourceVersion {
    let tags = entry.tags.unwrap_or_default();
    SourceVersion {
        version: text_of(entry.version),
        description: entry.description.unwrap_or_default(),
        created: entry.created_at.unwrap_or_default(),
        source: entry.storage_path.clone(),
        tags: tags.into_iter().map(|(key, value)| (key, text_of(value))).collect(),
        files: Files::Local(entry.storage_path.into()),
        bytes: entry.file_size.filter(|bytes| *bytes > 0),
        ..SourceVersion::default()
    }
}
