//! `quarry models import`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use model_import::{Opening, Options, Report, Row, Source, State};
use quarry_client::client::progress::Progress;
use quarry_client::failure::{Exit, Failure};
use quarry_client::output::{Column, column};
use service_error::ServiceError;
use settings::Secret;

use crate::Context;

/// Failed rows that a table shows.
const SHOWN: usize = 20;
const ROWS: [Column; 4] = [
    column("model", "model"),
    column("version", "version"),
    column("state", "state"),
    column("message", "message"),
];

/// What `quarry models import` is asked.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Where to
    namespace: String,
    /// A registry's SQLite file or registry.json, MLflow's database (a file or
    /// postgres://…), or an MLflow server (http://…)
    source: String,
    /// Only this model; may be repeated
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<String>,
    /// A folder from below which files may be taken [default: beside the database]
    #[arg(long = "artifacts", value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// Of MLflow's workspaces
    #[arg(long, default_value = "")]
    workspace: String,
    /// A file with the token that the MLflow server wants
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Only say what would be imported
    #[arg(long)]
    dry_run: bool,
    /// Give the next number where a version's own is taken
    #[arg(long)]
    renumber: bool,
    /// Register versions whose files are out of reach without them
    #[arg(long)]
    without_files: bool,
    /// Where files of a server lie on their way [default: the system's place]
    #[arg(long, value_name = "FOLDER")]
    scratch: Option<PathBuf>,
    /// Write what became of each row here, one JSON document a line
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Imports, and ends with a failure if any row did.
pub async fn run(context: &Context<'_>, args: ImportArgs) -> Result<(), Failure> {
    let token = args.token_file.as_deref().map(Secret::from_file).transpose()?;
    let opening = Opening { folders: args.folders, workspace: args.workspace, token };
    let source = Source::open(&args.source, opening).await?;
    let options = Options {
        namespace: args.namespace,
        models: args.models,
        dry_run: args.dry_run,
        renumber: args.renumber,
        without_files: args.without_files,
        scratch: args.scratch,
    };
    let mut lines = args.report.as_deref().map(Lines::create).transpose()?;
    let client = context.client();
    let bar = Progress::new("versions", None);
    let mut unwritten = None;
    let done = model_import::run(client, &source, &options, |row| {
        bar.add(1);
        if row.state == State::Failed {
            bar.note(&format!("{}: {}", named(row), row.message));
        }
        if let Some(lines) = &mut lines
            && let Err(failure) = lines.write(row)
        {
            unwritten.get_or_insert(failure);
        }
    });
    let report = done.await?;
    drop(bar);
    if let Some(lines) = lines {
        lines.end()?;
    }
    if let Some(failure) = unwritten {
        return Err(failure);
    }
    context.output.answer(&report, || told(&report))?;
    if report.failed == 0 {
        return Ok(());
    }
    let message = format!("{} of the source's rows were not imported", report.failed);
    let error = ServiceError::precondition(message).reason("ROWS_FAILED");
    Err(Failure::with_exit(Exit::Failed, error))
}

fn named(row: &Row) -> String {
    if row.version.is_empty() {
        row.model.clone()
    } else {
        format!("{}/{}", row.model, row.version)
    }
}

fn told(report: &Report) -> String {
    let made = if report.dry_run { "would be created" } else { "created" };
    let mut text = format!(
        "{} models ({} {made}): {} versions {made}, {} were here, {} failed\n{} files, {} bytes, {} sent",
        report.models,
        report.models_created,
        report.created,
        report.present,
        report.failed,
        report.files,
        report.bytes,
        report.sent_bytes
    );
    if !report.rows.is_empty() {
        let rows: Vec<_> = report
            .rows
            .iter()
            .take(SHOWN)
            .filter_map(|row| serde_json::to_value(row).ok())
            .collect();
        text.push('\n');
        text.push_str(&quarry_client::output::table(&ROWS, &rows));
    }
    text
}

/// The report's file.
struct Lines {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Lines {
    fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|err| unwritable(path, &err))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    fn write(&mut self, row: &Row) -> Result<(), Failure> {
        let line =
            serde_json::to_string(row).map_err(|err| ServiceError::internal(err.to_string()))?;
        writeln!(self.file, "{line}").map_err(|err| unwritable(&self.path, &err))
    }

    fn end(mut self) -> Result<(), Failure> {
        self.file.flush().map_err(|err| unwritable(&self.path, &err))
    }
}

fn unwritable(path: &Path, err: &std::io::Error) -> Failure {
    Failure::usage(format!("--report {}: {err}", path.display()))
}
