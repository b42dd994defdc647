//! `quarry vectors list-faiss`: what files, or the files of a folder, hold.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use quarry_client::failure::Failure;
use quarry_client::output::{Output, text_table};
use serde::Serialize;
use serde_json::json;

use crate::{blocking, metric_name, open_faiss, wrong_file};

/// Files of one folder that are looked at.
const FILES_MAX: usize = 10_000;
/// Endings under which FAISS' indexes are kept.
const ENDINGS: [&str; 4] = ["index", "faiss", "bin", "ivf"];

/// Which files.
#[derive(Debug, Args)]
pub struct ListFaissArgs {
    /// Files, or folders with `.index`, `.faiss`, `.bin` or `.ivf` files
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Listed {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kinds: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimension: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vectors: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lossy: Option<bool>,
    /// A file of the same name that may be its metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl ListFaissArgs {
    /// Reads the files' structure; no vectors, no server.
    ///
    /// # Errors
    /// A path that is away. A file that is no index is listed with what is wrong.
    pub async fn run(self, output: Output) -> Result<(), Failure> {
        let listed = blocking(move || {
            let mut files = Vec::new();
            for path in &self.paths {
                files.extend(files_of(path)?);
            }
            Ok(files.iter().map(|path| listed(path)).collect::<Vec<_>>())
        })
        .await?;
        output.answer(&json!({ "files": listed }), || {
            let or = |text: &Option<String>| text.clone().unwrap_or_default();
            let rows = listed.iter().map(|file| {
                let number = |n: Option<u64>| n.map_or_else(String::new, |n| n.to_string());
                let lossy = if file.lossy == Some(true) { "lossy" } else { "" };
                vec![
                    file.file.clone(),
                    file.error.clone().unwrap_or_else(|| or(&file.kinds)),
                    number(file.dimension.map(u64::from)),
                    number(file.vectors),
                    or(&file.metric),
                    lossy.to_owned(),
                    or(&file.metadata),
                ]
            });
            let heads = ["file", "index", "dimension", "vectors", "metric", "", "metadata"];
            text_table(&heads, rows)
        })
    }
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let away = |error: std::io::Error| {
        Failure::from(service_error::ServiceError::not_found(
            "file",
            format!("{}: {error}", path.display()),
        ))
    };
    if !fs::metadata(path).map_err(away)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(away)? {
        let found = entry.map_err(away)?.path();
        let ending = found.extension().and_then(|ending| ending.to_str());
        if ending.is_some_and(|ending| ENDINGS.contains(&ending)) && found.is_file() {
            files.push(found);
        }
        if files.len() > FILES_MAX {
            return Err(wrong_file(path, format_args!("holds more than {FILES_MAX} index files")));
        }
    }
    files.sort();
    Ok(files)
}

fn listed(path: &Path) -> Listed {
    let beside = ["metadata.jsonl", "metadata.json", "jsonl", "json", "parquet"];
    let metadata = beside.iter().map(|ending| path.with_extension(ending)).find(|p| p.is_file());
    let mut listed = Listed {
        file: path.display().to_string(),
        kinds: None,
        dimension: None,
        vectors: None,
        metric: None,
        lossy: None,
        metadata: metadata.map(|path| path.display().to_string()),
        error: None,
    };
    match open_faiss(path) {
        Ok(file) => {
            let summary = file.summary();
            listed.kinds = Some(summary.kinds.join(" > "));
            listed.dimension = Some(summary.dimension);
            listed.vectors = Some(summary.count);
            listed.metric = Some(metric_name(summary.metric));
            listed.lossy = Some(summary.is_lossy);
        }
        Err(failure) => listed.error = Some(failure.to_string()),
    }
    listed
}
