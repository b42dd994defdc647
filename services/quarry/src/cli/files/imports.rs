//! Files of a location into a dataset, and what happened to files.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use files_api::v1 as wire;
use service_channel::is_going;
use tonic::Status;

use super::super::Context;
use super::places::{ModeArg, queued, scanned};
use super::{location_of, server_path};
use crate::client::Client;
use crate::client::version::DatasetName;
use crate::failure::Failure;
use crate::output::{Column, column, message_json};

const CHANGE_COLUMNS: [Column; 4] = [
    column("seq", "seq"),
    column("kind", "kind"),
    column("path", "path"),
    column("before", "old_path"),
];

/// `--format`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FormatArg {
    /// split/class/image, or images with metadata.csv or metadata.jsonl
    Imagefolder,
    /// JSON with images and annotations
    Coco,
    /// images/ beside labels/
    Yolo,
    /// JPEGImages/ and Annotations/*.xml
    Voc,
    /// Tars of samples
    Webdataset,
    /// image.txt beside image.png
    Captions,
}

#[derive(Debug, Args)]
pub struct ImportCommand {
    /// A directory of a location
    path: PathBuf,
    /// Made if it does not exist; its namespace must
    #[arg(value_name = "NAMESPACE/DATASET")]
    dataset: DatasetName,
    /// How the directory is laid out [default: as it looks]
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// Only images with this extension; may be repeated
    #[arg(long, value_name = "EXT")]
    ext: Vec<String>,
    /// Only images with this tag; may be repeated
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only images whose whole name matches
    #[arg(long, default_value = "")]
    glob: String,
    /// The bytes stay where they are
    #[arg(long)]
    by_reference: bool,
    /// Members of archives are images too; archives are looked into from now on
    #[arg(long, conflicts_with = "by_reference")]
    archives: bool,
    /// Do not look at the location's files first
    #[arg(long)]
    no_scan: bool,
    /// Wait until it is done
    #[arg(long)]
    wait: bool,
}

impl ImportCommand {
    /// Scans, unless told not to, and imports.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let path = server_path(&self.path)?;
        if !self.no_scan {
            // What is broken, and what looks alike, is told by pixels.
            let location = location_of(&client, &self.path).await?;
            let archives = self.archives.then_some(true);
            scanned(context, &client, location.id, Some(ModeArg::Deep), archives).await?;
        }
        let has_query = !self.ext.is_empty() || !self.tag.is_empty() || !self.glob.is_empty();
        let query = has_query.then(|| wire::FileQuery {
            extensions: self.ext,
            tags: self.tag,
            glob: self.glob,
            ..wire::FileQuery::default()
        });
        let format = match self.format {
            None => wire::ImportFormat::Unspecified,
            Some(FormatArg::Imagefolder) => wire::ImportFormat::ImageFolder,
            Some(FormatArg::Coco) => wire::ImportFormat::Coco,
            Some(FormatArg::Yolo) => wire::ImportFormat::Yolo,
            Some(FormatArg::Voc) => wire::ImportFormat::PascalVoc,
            Some(FormatArg::Webdataset) => wire::ImportFormat::WebDataset,
            Some(FormatArg::Captions) => wire::ImportFormat::Captions,
        };
        let request = wire::ImportFromLocationRequest {
            path,
            namespace: self.dataset.namespace,
            dataset: self.dataset.dataset,
            format: format.into(),
            query,
            by_reference: self.by_reference,
            archives: self.archives,
        };
        let job = client.imports().import_from_location(request).await?.into_inner().job;
        queued(context, &job, self.wait).await
    }
}

#[derive(Debug, Args)]
pub struct ChangesCommand {
    /// The location's root
    path: PathBuf,
    /// Changes after this one
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: i64,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: i32,
}

impl ChangesCommand {
    /// Lists what happened.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let location_id = location_of(&client, &self.path).await?.id;
        let request =
            wire::ListChangesRequest { location_id, after: self.after, page_size: self.limit };
        let answer = client.changes().list_changes(request).await?.into_inner();
        let json = message_json("quarry.files.v1.ListChangesResponse", &answer)?;
        context.output.message(&json, "changes", &CHANGE_COLUMNS)?;
        if answer.reset {
            context.output.hint(&format!(
                "changes before {} are not kept one by one: read the files, then go on with --after {}",
                answer.next, answer.next
            ));
        }
        Ok(())
    }
}

/// Follows what happens, a line a change, until it is interrupted.
pub async fn watch(
    context: &Context,
    path: &std::path::Path,
    after: Option<i64>,
) -> Result<(), Failure> {
    let client = context.client()?;
    let location_id = location_of(&client, path).await?.id;
    let mut after = match after {
        Some(after) => after,
        None => {
            let request = wire::ListChangesRequest {
                location_id: location_id.clone(),
                after: 0,
                page_size: 1,
            };
            client.changes().list_changes(request).await?.into_inner().newest
        }
    };
    loop {
        match watch_on(context, &client, &location_id, &mut after).await? {
            // The server is being restarted: the next one goes on from there.
            Err(status) if is_going(&status) => {}
            ended => return Ok(ended?),
        }
    }
}

/// Prints what comes after a change; the outer failure is that of the output.
async fn watch_on(
    context: &Context,
    client: &Client,
    location: &str,
    after: &mut i64,
) -> Result<Result<(), Status>, Failure> {
    let request = wire::WatchChangesRequest { location_id: location.to_owned(), after: *after };
    let mut changes = match client.changes().watch_changes(request).await {
        Ok(changes) => changes.into_inner(),
        Err(status) => return Ok(Err(status)),
    };
    loop {
        let message = match changes.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(Ok(())),
            Err(status) => return Ok(Err(status)),
        };
        *after = message.next;
        if message.reset {
            context.output.text(&format!("{}\treset", message.next))?;
        }
        for change in message.changes {
            let kind =
                change.kind().as_str_name().trim_start_matches("CHANGE_KIND_").to_ascii_lowercase();
            let before = if change.old_path.is_empty() {
                String::new()
            } else {
                format!("\t{}", change.old_path)
            };
            context.output.text(&format!("{}\t{kind}\t{}{before}", change.seq, change.path))?;
        }
    }
}
