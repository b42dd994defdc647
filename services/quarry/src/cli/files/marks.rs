//! Tags, labels, notes.

use std::collections::HashMap;
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
    /// For yourself alone: nobody else sees it
    #[arg(long, conflicts_with = "implies")]
    personal: bool,
    /// List the most used first
    #[arg(long, conflicts_with = "tag")]
    by_count: bool,
    #[command(flatten)]
    page: Page,
}

impl TagCommand {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut marks = context.client()?.marks();
        let Some(tag) = self.tag else {
            let (page_size, page_token) = self.page.parts();
            let request = wire::ListTagsRequest { page_size, page_token, by_count: self.by_count };
            let answer = marks.list_tags(request).await?.into_inner();
            let json = message_json("quarry.files.v1.ListTagsResponse", &answer)?;
            return context.output.message(&json, "tags", &TAG_COLUMNS);
        };
        if self.paths.is_empty() {
            if self.implies.is_empty() {
                let message = "name the files to tag, or --implies TAG ('' for none)".to_owned();
                return Err(Failure::usage(message));
            }
            let implies = self.implies.into_iter().filter(|tag| !tag.is_empty()).collect();
            let request = wire::SetTagRequest { name: tag, implies };
            let answer = marks.set_tag(request).await?.into_inner();
            let json = message_json("quarry.files.v1.SetTagResponse", &answer)?;
            return context.output.message(&json, "tag", &TAG_COLUMNS);
        }
        let request = wire::TagFilesRequest {
            tag,
            paths: server_paths(&self.paths)?,
            scope: scope(self.content),
            remove: self.remove,
            personal: self.personal,
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
    /// For yourself alone: nobody else sees it
    #[arg(long)]
    personal: bool,
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
            personal: self.personal,
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
    /// A property of your own, without a value to remove it; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    properties: Vec<String>,
    /// On the bytes, wherever they are
    #[arg(long)]
    content: bool,
    /// For yourself alone: nobody else sees it
    #[arg(long)]
    personal: bool,
}

impl NoteCommand {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let request = wire::AnnotateFileRequest {
            path: server_path(&self.path)?,
            scope: scope(self.content),
            note: self.text,
            favorite: self.favorite,
            hidden: self.hidden,
            properties: properties("--set", &self.properties)?,
            personal: self.personal,
        };
        context.client()?.marks().annotate_file(request).await?;
        context.output.answer(&json!({}), || "noted".to_owned())
    }
}

/// Words `NAME=VALUE` of an option.
pub(super) fn properties(
    option: &str,
    words: &[String],
) -> Result<HashMap<String, String>, Failure> {
    let pairs = words.iter().map(|text| {
        let pair = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        pair.ok_or_else(|| Failure::usage(format!("{option}: {text:?}: write NAME=VALUE")))
    });
    pairs.collect()
}

fn server_paths(paths: &[PathBuf]) -> Result<Vec<String>, Failure> {
    paths.iter().map(|path| server_path(path)).collect()
}

fn scope(content: bool) -> i32 {
    if content { wire::MarkScope::Content.into() } else { wire::MarkScope::Entry.into() }
}
