//! `quarry import` and `quarry export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ingest::{Format, parse_schema};

use super::Context;
use crate::client::export::Export;
use crate::client::flight::Query;
use crate::client::import::Import;
use crate::client::version::{DatasetName, VersionName};
use crate::failure::Failure;

/// What happens to the rows that are there.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    /// They stay
    Append,
    /// The new rows replace them; older versions keep theirs
    Overwrite,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct ImportCommand {
    /// A file, or a folder of images
    path: PathBuf,
    /// Made if it does not exist; its namespace must
    #[arg(value_name = "NAMESPACE/DATASET")]
    dataset: DatasetName,
    /// How the file is laid out
    #[arg(long, default_value = "auto", value_parser = ["auto", "csv", "tsv", "jsonl", "json", "parquet", "arrow", "images"])]
    format: String,
    /// What happens to the rows that are there
    #[arg(long, value_enum, default_value = "append")]
    mode: Mode,
    /// Kept with the version
    #[arg(long)]
    message: Option<String>,
    /// Types that are not to be guessed: name:type,… or a JSON file
    #[arg(long, value_name = "TYPES")]
    schema: Option<String>,
    /// The column that identifies a row of a new dataset [default: id, if there is one]
    #[arg(long, value_name = "COLUMN")]
    key: Option<String>,
    /// Columns of a new dataset in which no two rows may have the same value
    #[arg(long, value_name = "C,…", value_delimiter = ',')]
    unique: Vec<String>,
    /// Repeating an import under the same key imports once
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl ImportCommand {
    /// Imports and reports.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let types = self.schema.as_deref().map(parse_schema).transpose()?.unwrap_or_default();
        let import = Import {
            path: self.path,
            dataset: self.dataset,
            format: format_of(&self.format),
            mode: match self.mode {
                Mode::Append => "append",
                Mode::Overwrite => "overwrite",
            },
            message: self.message,
            types,
            key_column: self.key,
            unique_columns: self.unique,
            idempotency_key: self.idempotency_key,
        };
        let report = import.run(&context.client()?, &context.stop).await?;
        context.output.answer(&report, || {
            let mut text = format!(
                "{} rows are in {} as version {}",
                report.rows, report.dataset, report.version
            );
            if report.files > 0 {
                text.push_str(&format!(", with {} files ({} bytes)", report.files, report.bytes));
            }
            if report.skipped_count > 0 {
                text.push_str(&format!("; {} skipped", report.skipped_count));
            }
            text
        })
    }
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportCommand {
    /// What to write; the newest version without @VERSION
    #[arg(value_name = "NAMESPACE/DATASET[@VERSION]")]
    from: VersionName,
    /// A file, replaced if it exists; a new or empty folder for images
    path: PathBuf,
    /// How to lay it out [auto: by the extension]
    #[arg(long, default_value = "auto", value_parser = ["auto", "csv", "tsv", "jsonl", "json", "parquet", "arrow", "images"])]
    format: String,
    /// Only rows that pass, e.g. 'width > 3000' or saved:NAME
    #[arg(long, value_name = "F")]
    filter: Option<String>,
    /// Only these columns
    #[arg(long, value_name = "C,…", value_delimiter = ',')]
    columns: Vec<String>,
    /// At most so many rows
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// E.g. 'width desc, title' [default: storage order]
    #[arg(long, value_name = "O")]
    order_by: Option<String>,
}

impl ExportCommand {
    /// Exports and reports.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let query = Query {
            from: self.from,
            filter: self.filter,
            columns: self.columns,
            limit: self.limit,
            order_by: self.order_by,
        };
        let export = Export { query, path: self.path, format: format_of(&self.format) };
        let report = export.run(&context.client()?).await?;
        context.output.answer(&report, || match report.files {
            0 => format!("{} rows are in {}", report.rows, report.path.display()),
            files => {
                format!("{} rows and {files} files are in {}", report.rows, report.path.display())
            }
        })
    }
}

/// `None` for `auto`; clap has refused other names.
fn format_of(name: &str) -> Option<Format> {
    name.parse().ok()
}
