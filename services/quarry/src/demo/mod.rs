//! `quarry demo`: a platform in this process, a sample in it, and proof that
//! what went in comes out.

mod connect;
mod verify;

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use catalog_api::v1::CreateNamespaceRequest;
use clap::Args;
use items_api::v1::{CountItemsRequest, GetStatisticsRequest, ListItemsRequest};
use serde::Serialize;
use service_error::{Code, ServiceError};
use settings::Secret;
use tokio_util::sync::CancellationToken;

use crate::cli::Context;
use crate::client::Client;
use crate::client::address::{ADMIN_TOKEN_FILE, DEFAULT_DATA_DIR};
use crate::client::import::{Import, ImportReport, existing};
use crate::client::statistics;
use crate::client::version::{DatasetName, VersionName};
use crate::failure::Failure;
use crate::output::{Column, Output, cell_text, column, table, text_table};
use crate::samples;
use crate::serve::{self, Running, ServeArgs};

const NAMESPACE: &str = "demo";
const DATASET: &str = "shapes";
const FILTER: &str = "section = \"rings\" AND width > 150";
const PAGE: [&str; 6] = ["file_path", "width", "height", "section", "is_favorite", "caption"];
const PAGE_ROWS: i32 = 5;
const STATISTICS: [&str; 5] = ["width", "height", "file_size_bytes", "section", "quality_score"];
const STATISTICS_COLUMNS: [Column; 4] = [
    column("column", "column"),
    column("nulls", "null_count"),
    column("min", "min"),
    column("max", "max"),
];
const DEFAULT_PUBLIC: &str = "127.0.0.1:7070";
const DEFAULT_OPERATIONS: &str = "127.0.0.1:7071";

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoCommand {
    /// Stop after the report
    #[arg(long)]
    exit: bool,
    /// The public door [default: 127.0.0.1:7070, or a free port if that is taken]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// The operations door [default: 127.0.0.1:7071, or a free port if that is taken]
    #[arg(long, value_name = "HOST:PORT")]
    ops_listen: Option<String>,
}

/// What the demo did, for `-o json`.
#[derive(Debug, Serialize)]
struct Report {
    url: String,
    data_dir: PathBuf,
    token_file: PathBuf,
    import: ImportReport,
    verified_rows: u64,
    filter: &'static str,
    filtered_count: i64,
    statistics: serde_json::Value,
}

impl DemoCommand {
    /// Serves, imports, shows; then serves on until Ctrl-C.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let output = context.output;
        let data_dir =
            context.address.data_dir.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR));
        let shutdown = CancellationToken::new();
        let running = serve::start(self.args(data_dir), shutdown.clone()).await?;
        let url = format!("http://{}", running.public);
        output.text(&format!(
            "Quarry serves at {url} (health: http://{}/readyz)",
            running.operations
        ))?;
        output.text(&format!("Its data is in {}\n", running.data_dir.display()))?;
        let shown = tokio::select! {
            shown = show(&url, &running, output, &context.stop) => shown,
            () = context.stop.cancelled() => Err(Failure::interrupted("interrupted")),
        };
        if shown.is_ok() && !self.exit {
            output.text("\nIt keeps serving. Ctrl-C ends it.")?;
            context.stop.cancelled().await;
        }
        shutdown.cancel();
        let stopped = running.stopped.await;
        shown?;
        Ok(stopped.map_err(|err| {
            ServiceError::internal("the server stopped unexpectedly").caused_by(err)
        })??)
    }

    fn args(&self, data_dir: PathBuf) -> ServeArgs {
        let listen = self.listen.clone().or_else(|| Some(free(DEFAULT_PUBLIC)));
        let ops_listen = self.ops_listen.clone().or_else(|| Some(free(DEFAULT_OPERATIONS)));
        ServeArgs {
            data_dir: Some(data_dir),
            listen,
            ops_listen,
            quiet: true,
            ..ServeArgs::default()
        }
    }
}

/// The address, or any port of this machine if it is taken.
fn free(address: &str) -> String {
    match TcpListener::bind(address) {
        Ok(_) => address.to_owned(),
        Err(_) => "127.0.0.1:0".to_owned(),
    }
}

async fn show(
    url: &str,
    running: &Running,
    output: Output,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let token_file = running.data_dir.join(ADMIN_TOKEN_FILE);
    let client = Client::new(url, Some(&Secret::from_file(&token_file)?))?;
    let name = DatasetName { namespace: NAMESPACE.to_owned(), dataset: DATASET.to_owned() };
    let sample = tempfile::tempdir()
        .map_err(|err| ServiceError::precondition(format!("no temporary folder: {err}")))?;
    samples::unpack(sample.path())
        .map_err(|err| ServiceError::precondition(format!("cannot unpack the sample: {err}")))?;

    let import = import(&client, &name, sample.path(), output, stop).await?;
    let version = VersionName { dataset: name.clone(), version: Some(import.version.to_string()) };
    let verified_rows = verify::read_back(&client, version, sample.path()).await?;
    output.text(&format!(
        "Read back over Arrow Flight: {verified_rows} rows, each equal to its file.\n"
    ))?;
    page(&client, &name, output).await?;
    let filtered_count = count(&client, &name).await?;
    output.text(&format!("\nRows where {FILTER}: {filtered_count}\n"))?;
    let statistics = statistics_of(&client, &name, output).await?;
    output.text(&connect::ways(running.public, &token_file, &name, FILTER))?;
    let report = Report {
        url: url.to_owned(),
        data_dir: running.data_dir.clone(),
        token_file,
        import,
        verified_rows,
        filter: FILTER,
        filtered_count,
        statistics,
    };
    output.answer(&report, String::new)
}

async fn import(
    client: &Client,
    name: &DatasetName,
    sample: &Path,
    output: Output,
    stop: &CancellationToken,
) -> Result<ImportReport, Failure> {
    let request = CreateNamespaceRequest {
        name: NAMESPACE.to_owned(),
        description: "The demo's own".to_owned(),
    };
    match client.namespaces().create_namespace(request).await.map_err(Failure::from) {
        Err(failure) if failure.code() != Code::AlreadyExists => return Err(failure),
        _ => {}
    }
    let is_new = existing(client, name).await?.is_none();
    let import = Import {
        path: sample.to_owned(),
        dataset: name.clone(),
        format: Some(ingest::Format::Images),
        mode: if is_new { "append" } else { "overwrite" },
        message: Some("The sample that ships with Quarry".to_owned()),
        types: Vec::new(),
        key_column: None,
        unique_columns: Vec::new(),
        idempotency_key: None,
    };
    let report = import.run(client, stop).await?;
    let version = report.version;
    output.text(&format!(
        "Imported {} images ({} bytes) into {name} as version {version}.",
        report.files, report.bytes
    ))?;
    if !is_new {
        output.text(&format!(
            "It replaces the rows of the demo before; version {} still has them.",
            version - 1
        ))?;
    }
    Ok(report)
}

async fn page(client: &Client, name: &DatasetName, output: Output) -> Result<(), Failure> {
    let request = ListItemsRequest {
        namespace: name.namespace.clone(),
        dataset: name.dataset.clone(),
        columns: PAGE.map(str::to_owned).to_vec(),
        page_size: PAGE_ROWS,
        ..ListItemsRequest::default()
    };
    let page = client.items().list_items(request).await?.into_inner();
    let titles: Vec<_> = page.columns.iter().map(|column| column.name.as_str()).collect();
    let rows = page.items.iter().map(|item| item.values.iter().map(cell_text).collect());
    output.text(&format!("A page of {PAGE_ROWS}:\n{}", text_table(&titles, rows)))
}

async fn count(client: &Client, name: &DatasetName) -> Result<i64, Failure> {
    let request = CountItemsRequest {
        namespace: name.namespace.clone(),
        dataset: name.dataset.clone(),
        filter: FILTER.to_owned(),
        ..CountItemsRequest::default()
    };
    Ok(client.items().count_items(request).await?.into_inner().count)
}

async fn statistics_of(
    client: &Client,
    name: &DatasetName,
    output: Output,
) -> Result<serde_json::Value, Failure> {
    let request = GetStatisticsRequest {
        namespace: name.namespace.clone(),
        dataset: name.dataset.clone(),
        ..GetStatisticsRequest::default()
    };
    let json = statistics::json(&client.items().get_statistics(request).await?.into_inner());
    let all = json["columns"].as_array().cloned().unwrap_or_default();
    let rows: Vec<_> = all
        .into_iter()
        .filter(|row| row["column"].as_str().is_some_and(|name| STATISTICS.contains(&name)))
        .collect();
    let (count, bytes) = (&json["row_count"], &json["byte_count"]);
    output.text(&format!(
        "Statistics: {count} rows in {bytes} bytes of Parquet\n{}",
        table(&STATISTICS_COLUMNS, &rows)
    ))?;
    Ok(json)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_taken_port_gives_way_to_a_free_one() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        assert_eq!(free(&address), "127.0.0.1:0");
        drop(taken);
        assert_eq!(free(&address), address);
    }
}
