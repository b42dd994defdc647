//! Locations and their scans.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use files_api::v1 as wire;
use serde_json::json;

use super::super::jobs::{follow, job_json, outcome};
use super::super::{Context, Page};
use super::{location_of, root_of, server_path};
use crate::failure::Failure;
use crate::output::{Column, column, message_json};

const COLUMNS: [Column; 8] = [
    column("id", "id"),
    column("path", "path"),
    column("mode", "mode"),
    column("entries", "entry_count"),
    column("files", "file_count"),
    column("bytes", "byte_count"),
    column("scanned", "scan_time"),
    column("problem", "problem"),
];

const VOLUME_COLUMNS: [Column; 8] = [
    column("device", "device"),
    column("mounted at", "mount_point"),
    column("type", "file_system"),
    column("there", "is_there"),
    column("bytes", "byte_count"),
    column("free", "free_byte_count"),
    column("locations", "location_count"),
    column("seen", "seen_time"),
];

/// `--mode`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ModeArg {
    /// Names, sizes, times
    Metadata,
    /// And every file's hash
    Content,
    /// And what looks alike
    Deep,
}

impl From<ModeArg> for wire::ScanMode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Metadata => Self::Metadata,
            ModeArg::Content => Self::Content,
            ModeArg::Deep => Self::Deep,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum LocationCommand {
    /// Make a directory of the server, or s3://bucket/prefix, a location
    Add {
        /// The directory, or s3://bucket/prefix
        path: PathBuf,
        /// What to call it [default: its last name]
        #[arg(long, default_value = "")]
        name: String,
        /// How much is learnt of its files
        #[arg(long, value_enum)]
        mode: Option<ModeArg>,
        /// Leave out what matches, as in .gitignore; may be repeated
        #[arg(long = "ignore", value_name = "PATTERN")]
        rules: Vec<String>,
        /// It overlaps another location on purpose
        #[arg(long)]
        nested: bool,
        /// The device whose agent reads it; none: the server itself
        #[arg(long, value_name = "NAME", default_value = "")]
        device: String,
        /// Changes are noticed as they happen
        #[arg(long)]
        watch: bool,
        /// More than so many percent missing are not removed unasked
        #[arg(long, value_name = "PERCENT", default_value_t = 0)]
        guard: i32,
        /// Look into .zip, .tar, .tar.gz and .tar.zst: their members are found as files below them
        #[arg(long)]
        archives: bool,
    },
    /// The locations that you may see
    List(Page),
    /// Forget a location; its files stay untouched
    Remove {
        /// Its root
        path: PathBuf,
    },
    /// Look at its files again
    Rescan(ScanCommand),
    /// Follow what happens to its files, a line a change
    Watch {
        /// Its root
        path: PathBuf,
        /// From this change on [default: from now on]
        #[arg(long, value_name = "SEQ")]
        after: Option<i64>,
    },
}

impl LocationCommand {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self {
            Self::Add { path, name, mode, rules, nested, device, watch, guard, archives } => {
                let request = wire::CreateLocationRequest {
                    // A path elsewhere means nothing here: it is taken as it is.
                    path: if device.is_empty() { server_path(&path)? } else { plain_path(&path)? },
                    name,
                    mode: mode.map_or(wire::ScanMode::Unspecified, Into::into).into(),
                    rules,
                    guard_percent: guard,
                    nested,
                    watched: watch,
                    device,
                    archives,
                };
                let answer = client.locations().create_location(request).await?.into_inner();
                let json = message_json("quarry.files.v1.CreateLocationResponse", &answer)?;
                context.output.message(&json, "location", &COLUMNS)
            }
            Self::List(page) => {
                let (page_size, page_token) = page.parts();
                let request =
                    wire::ListLocationsRequest { page_size, page_token, holding: String::new() };
                let answer = client.locations().list_locations(request).await?.into_inner();
                let json = message_json("quarry.files.v1.ListLocationsResponse", &answer)?;
                context.output.message(&json, "locations", &COLUMNS)
            }
            Self::Remove { path } => {
                let id = server_path(&path)?.trim_start_matches('/').to_owned();
                client.locations().delete_location(wire::DeleteLocationRequest { id }).await?;
                context.output.answer(&json!({}), || {
                    format!("location {} is forgotten; its files are untouched", path.display())
                })
            }
            Self::Rescan(command) => command.run(context).await,
            Self::Watch { path, after } => super::imports::watch(context, &path, after).await,
        }
    }
}

#[derive(Debug, Args)]
pub struct ScanCommand {
    /// The location's root
    path: PathBuf,
    /// How much is learnt of its files [default: as before]
    #[arg(long, value_enum)]
    mode: Option<ModeArg>,
    /// Wait until it is done
    #[arg(long)]
    wait: bool,
    /// What is missing is removed, however much it is
    #[arg(long)]
    accept_removals: bool,
    /// Look into archives from now on, or no more [default: as before]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    archives: Option<bool>,
}

impl ScanCommand {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let what = "a scan looks at all of it, name its root";
        let location = root_of(&client, "path", &self.path, what).await?;
        let request = wire::ScanLocationRequest {
            id: location.id,
            mode: self.mode.map_or(wire::ScanMode::Unspecified, Into::into).into(),
            accept_removals: self.accept_removals,
            archives: self.archives,
        };
        let job = client.locations().scan_location(request).await?.into_inner().job;
        queued(context, &job, self.wait).await?;
        if self.wait {
            let after = location_of(&client, &self.path).await?;
            if !after.problem.is_empty() {
                context.output.hint(&after.problem);
            }
        }
        Ok(())
    }
}

fn plain_path(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| Failure::usage("PATH is not UTF-8".to_owned()))
}

/// Scans a location and waits for it.
pub(super) async fn scanned(
    context: &Context,
    client: &crate::client::Client,
    id: String,
    mode: Option<ModeArg>,
    archives: Option<bool>,
) -> Result<(), Failure> {
    let mode = mode.map_or(wire::ScanMode::Unspecified, Into::into).into();
    let request = wire::ScanLocationRequest { id, mode, accept_removals: false, archives };
    let job = client.locations().scan_location(request).await?.into_inner().job;
    outcome(&follow(context, client, &job).await?)
}

/// What locations are on.
pub async fn volumes(context: &Context, page: Page) -> Result<(), Failure> {
    let (page_size, page_token) = page.parts();
    let request = wire::ListVolumesRequest { page_size, page_token };
    let answer = context.client()?.locations().list_volumes(request).await?.into_inner();
    let json = message_json("quarry.files.v1.ListVolumesResponse", &answer)?;
    context.output.message(&json, "volumes", &VOLUME_COLUMNS)
}

/// Reads every hashed file again.
pub async fn verify(context: &Context, path: &Path, wait: bool) -> Result<(), Failure> {
    let client = context.client()?;
    let what = "all of it is verified, name its root";
    let id = root_of(&client, "path", path, what).await?.id;
    let request = wire::VerifyLocationRequest { id };
    let job = client.locations().verify_location(request).await?.into_inner().job;
    queued(context, &job, wait).await
}

/// Names a job, or waits for it and tells how it ended.
pub(super) async fn queued(context: &Context, name: &str, wait: bool) -> Result<(), Failure> {
    if !wait {
        return context
            .output
            .answer(&json!({ "job": { "name": name } }), || format!("job {name} is queued"));
    }
    let client = context.client()?;
    let job = follow(context, &client, name).await?;
    context.output.answer(&json!({ "job": job_json(&job)? }), || {
        let numbers: Vec<String> = job
            .result
            .iter()
            .map(|(name, number)| format!("{number} {}", name.replace('_', " ")))
            .collect();
        let mut numbers = numbers;
        numbers.sort();
        numbers.join(", ")
    })?;
    outcome(&job)
}
