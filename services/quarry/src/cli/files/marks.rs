//! Tags, labels, notes.

use std::path::PathBuf;

use clap::Args;
use files_api::v1 as wire;
use serde_json::json;

use super::super::{Context, Page};
use super::server_path;
use crate::failure::Failure;
use crate::output::{Column, column, message_json};

const TAG_COLUMNS: [Column; 3] =
    [column("tag", "name"), column("files", "count"), column("implies", "implies")];

#[derive(Debug, Args)]
pub struct TagCommand {
    /// The tag; without one the tags are listed
    tag: Option<String>,
    /// The files
    #[arg(requires = "tag")]
    paths: Vec<PathBuf>,
    /// On the bytes, wherever they are
    #[arg(long)]
    content: bool,
    /// Take it off
    #[arg(long)]
    remove: bool,
    /// The tag implies this one; may be repeated
    #[arg(long, value_name = "TAG", conflicts_with_all = ["paths", "remove"])]
    implies: Vec<String>,
    #[command(flatten)]
    page: Page,
}

impl TagCommand {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut marks = context.client()?.marks();
        let Some(tag) = self.tag else {
            let (page_size, page_token) = self.page.parts();
            let request = wire::ListTagsRequest { page_size, page_token };
            let answer = marks.list_tags(request).await?.into_inner();
            let json = message_json("quarry.files.v1.ListTagsResponse", &answer)?;
            return context.output.message(&json, "tags", &TAG_COLUMNS);
        };
        if self.paths.is_empty() {
            let request = wire::SetTagRequest { name: tag, implies: self.implies };
            let answer = marks.set_tag(request).await?.into_inner();
            let json = message_json("quarry.files.v1.SetTagResponse", &answer)?;
            return context.output.message(&json, "tag", &TAG_COLUMNS);
        }
        let request = wire::TagFilesRequest {
            tag,
            paths: server_paths(&self.paths)?,
            scope: scope(self.content),
            remove: self.remove,
        };
        let answer = marks.tag_files(request).await?.into_inner();
        let changed = answer.changed_count;
        context.output.answer(&json!({ "changed_count": changed }), || format!("{changed} changed"))
    }
}

#[derive(Debug, Args)]
pub struct LabelCommand {
    /// E.g. animal/cat
    label: String,
    /// The files
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// On the bytes, wherever they are
    #[arg(long)]
    content: bool,
    /// Take it off
    #[arg(long)]
    remove: bool,
    /// How sure its source is, 0 to 1
    #[arg(long, default_value_t = 1.0)]
    confidence: f64,
    /// Who says so, e.g. a model's name
    #[arg(long, default_value = "")]
    source: String,
}

impl LabelCommand {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let request = wire::LabelFilesRequest {
            label: self.label,
            paths: server_paths(&self.paths)?,
            scope: scope(self.content),
            remove: self.remove,
            confidence: self.confidence,
            source: self.source,
        };
        let answer = context.client()?.marks().label_files(request).await?.into_inner();
        let changed = answer.changed_count;
        context.output.answer(&json!({ "changed_count": changed }), || format!("{changed} changed"))
    }
}

#[derive(Debug, Args)]
pub struct NoteCommand {
    /// The file
    path: PathBuf,
    /// What to note
    text: Option<String>,
    /// Make it a favourite, or none
    #[arg(long, value_name = "BOOL")]
    favorite: Option<bool>,
    /// Hide it from searches, or not
    #[arg(long, value_name = "BOOL")]
    hidden: Option<bool>,
    /// A property of your own; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    properties: Vec<String>,
    /// On the bytes, wherever they are
    #[arg(long)]
    content: bool,
}

impl NoteCommand {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let properties = self.properties.iter().map(|text| {
            let pair =
                text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            pair.ok_or_else(|| Failure::usage(format!("--set: {text:?}: write NAME=VALUE")))
        });
        let request = wire::AnnotateFileRequest {
            path: server_path(&self.path)?,
            scope: scope(self.content),
            note: self.text,
            favorite: self.favorite,
            hidden: self.hidden,
            properties: properties.collect::<Result<_, _>>()?,
        };
        context.client()?.marks().annotate_file(request).await?;
        context.output.answer(&json!({}), || "noted".to_owned())
    }
}

fn server_paths(paths: &[PathBuf]) -> Result<Vec<String>, Failure> {
    paths.iter().map(|path| server_path(path)).collect()
}

fn scope(content: bool) -> i32 {
    if content { wire::MarkScope::Content.into() } else { wire::MarkScope::Entry.into() }
}
