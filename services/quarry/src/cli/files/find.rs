//! Searching, duplicates, usage.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use files_api::v1 as wire;
use prost_types::Timestamp;
use serde_json::Value as Json;

use super::super::{Context, Page};
use super::{disk, root_of, server_path};
use crate::failure::Failure;
use crate::output::{Column, column, message_json, text_table};

const COLUMNS: [Column; 5] = [
    column("path", "path"),
    column("kind", "kind"),
    column("size", "size"),
    column("modified", "modify_time"),
    column("tags", "tags"),
];

/// `--kind`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum KindArg {
    /// A regular file
    File,
    /// A directory
    Dir,
    /// A symbolic link
    Symlink,
}

/// `--sort`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SortArg {
    /// By name
    Name,
    /// By size
    Size,
    /// By the time of the last change
    Modified,
}

/// What files are looked for.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// A part of the name, in any case
    #[arg(default_value = "")]
    text: String,
    /// In this directory and below it
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Only what lies in --path itself, not deeper
    #[arg(long, requires = "path")]
    directly: bool,
    /// With this extension; may be repeated
    #[arg(long, value_name = "EXT")]
    ext: Vec<String>,
    /// With this tag, or one that implies it; may be repeated
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// With this label, or one below it; may be repeated
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
    /// With this property; may be repeated
    #[arg(long = "property", value_name = "NAME=VALUE")]
    properties: Vec<String>,
    /// The name begins so
    #[arg(long, default_value = "")]
    prefix: String,
    /// The whole name matches
    #[arg(long, default_value = "")]
    glob: String,
    /// The name matches somewhere
    #[arg(long, default_value = "", conflicts_with = "glob")]
    regex: String,
    /// Of this kind; may be repeated
    #[arg(long, value_enum)]
    kind: Vec<KindArg>,
    /// Whose bytes are of this kind, e.g. image; may be repeated
    #[arg(long = "type", value_name = "WORD")]
    content_kind: Vec<String>,
    /// At least so many bytes
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    size_min: i64,
    /// At most so many bytes
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    size_max: i64,
    /// Changed at this time or later, e.g. 2024-05-01 or 2024-05-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    modified_after: Option<Timestamp>,
    /// Changed before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    modified_before: Option<Timestamp>,
    /// Only files whose content is there more than once
    #[arg(long)]
    duplicates_only: bool,
    /// Only favourites
    #[arg(long)]
    favorites: bool,
    /// Those marked hidden too
    #[arg(long)]
    hidden: bool,
}

impl QueryArgs {
    fn query(self) -> Result<wire::FileQuery, Failure> {
        let kinds = self.kind.iter().map(|kind| match kind {
            KindArg::File => wire::EntryKind::File.into(),
            KindArg::Dir => wire::EntryKind::Directory.into(),
            KindArg::Symlink => wire::EntryKind::Symlink.into(),
        });
        Ok(wire::FileQuery {
            text: self.text,
            prefix: self.prefix,
            glob: self.glob,
            regex: self.regex,
            extensions: self.ext,
            kinds: kinds.collect(),
            content_kinds: self.content_kind,
            size_min: self.size_min,
            size_max: self.size_max,
            modified_after: self.modified_after,
            modified_before: self.modified_before,
            tags: self.tag,
            labels: self.label,
            properties: super::marks::properties("--property", &self.properties)?,
            path: self.path.as_deref().map(server_path).transpose()?.unwrap_or_default(),
            directly: self.directly,
            duplicates_only: self.duplicates_only,
            favorites_only: self.favorites,
            with_hidden: self.hidden,
            ..wire::FileQuery::default()
        })
    }
}

#[derive(Debug, Args)]
pub struct SearchCommand {
    #[command(flatten)]
    query: QueryArgs,
    /// In which order
    #[arg(long, value_enum)]
    sort: Option<SortArg>,
    /// The last first
    #[arg(long)]
    descending: bool,
    #[command(flatten)]
    page: Page,
}

impl SearchCommand {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let (page_size, page_token) = self.page.parts();
        let sort_by = match self.sort {
            None => wire::SortBy::Unspecified,
            Some(SortArg::Name) => wire::SortBy::Name,
            Some(SortArg::Size) => wire::SortBy::Size,
            Some(SortArg::Modified) => wire::SortBy::ModifyTime,
        };
        let request = wire::SearchFilesRequest {
            query: Some(self.query.query()?),
            sort_by: sort_by.into(),
            descending: self.descending,
            page_size,
            page_token,
        };
        let answer = context.client()?.files().search_files(request).await?.into_inner();
        let mut json = message_json("quarry.files.v1.SearchFilesResponse", &answer)?;
        without_raw(&mut json["entries"]);
        // There on the last page too: whoever reads pages need not ask whether it is.
        json["next_page_token"] = answer.next_page_token.into();
        context.output.message(&json, "entries", &COLUMNS)
    }
}

/// `--by` of counts.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FacetArg {
    /// File, directory, symlink …
    Kind,
    /// The name's extension
    Extension,
    /// The location
    Location,
    /// What the bytes are, e.g. image
    Type,
    /// Each tag
    Tag,
    /// Each label
    Label,
    /// The directory that holds them, the most bytes first
    Directory,
}

#[derive(Debug, Args)]
pub struct CountCommand {
    #[command(flatten)]
    query: QueryArgs,
    /// In which groups; may be repeated [default: kind, extension, location]
    #[arg(long, value_enum, value_delimiter = ',')]
    by: Vec<FacetArg>,
    /// At most so many groups of each
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: i32,
}

impl CountCommand {
    /// Counts what matches.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let by = self.by.iter().map(|by| match by {
            FacetArg::Kind => wire::FacetBy::Kind.into(),
            FacetArg::Extension => wire::FacetBy::Extension.into(),
            FacetArg::Location => wire::FacetBy::Location.into(),
            FacetArg::Type => wire::FacetBy::ContentKind.into(),
            FacetArg::Tag => wire::FacetBy::Tag.into(),
            FacetArg::Label => wire::FacetBy::Label.into(),
            FacetArg::Directory => wire::FacetBy::Directory.into(),
        });
        let by = by.collect();
        let request =
            wire::CountFilesRequest { query: Some(self.query.query()?), by, limit: self.limit };
        let answer = context.client()?.files().count_files(request).await?.into_inner();
        let json = message_json("quarry.files.v1.CountFilesResponse", &answer)?;
        context.output.answer(&json, || counted(&answer))
    }
}

fn counted(answer: &wire::CountFilesResponse) -> String {
    let groups = [
        ("kind", &answer.kinds),
        ("extension", &answer.extensions),
        ("location", &answer.locations),
        ("type", &answer.content_kinds),
        ("tag", &answer.tags),
        ("label", &answer.labels),
        ("directory", &answer.directories),
    ];
    let rows = groups.into_iter().flat_map(|(by, facets)| {
        facets.iter().map(move |facet| {
            vec![
                by.to_owned(),
                facet.count.to_string(),
                facet.bytes.to_string(),
                facet.value.clone(),
            ]
        })
    });
    let table = text_table(&["by", "count", "bytes", "value"], rows);
    format!("{table}\n{} entries, {} bytes", answer.count, answer.bytes)
}

/// All that is known and said of one file.
pub async fn show(context: &Context, path: &Path) -> Result<(), Failure> {
    let request = wire::GetFileRequest { path: server_path(path)?, id: String::new() };
    let answer = context.client()?.files().get_file(request).await?.into_inner();
    let mut json = message_json("quarry.files.v1.GetFileResponse", &answer)?;
    let mut entry = Json::Array(vec![json["entry"].take()]);
    without_raw(&mut entry);
    json["entry"] = entry[0].take();
    context.output.answer(&json, || {
        let fields = json["entry"].as_object().into_iter().flatten();
        let said = fields.filter(|(_, value)| !is_nothing(value));
        let rows = said.map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            vec![name.clone(), text]
        });
        text_table(&["field", "value"], rows)
    })
}

fn is_nothing(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Bool(value) => !value,
        Json::String(text) => text.is_empty(),
        Json::Array(list) => list.is_empty(),
        Json::Object(fields) => fields.is_empty(),
        Json::Number(_) => false,
    }
}

/// A date or a time, in UTC unless it says its zone.
fn moment(text: &str) -> Result<Timestamp, String> {
    let wrong = |_| format!("{text:?} is no time; write e.g. 2024-05-01 or 2024-05-01T12:00:00Z");
    text.parse().map_err(wrong)
}

/// Empty raw paths say nothing.
fn without_raw(entries: &mut Json) {
    for entry in entries.as_array_mut().into_iter().flatten() {
        if let Some(fields) = entry.as_object_mut()
            && fields.get("path_raw").is_some_and(|raw| raw == "")
        {
            fields.remove("path_raw");
        }
    }
}

/// `--by`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ByArg {
    /// The same bytes
    Content,
    /// The same name and size
    NameAndSize,
    /// The same size
    Size,
    /// Images that look alike
    Near,
}

#[derive(Debug, Args)]
pub struct DuplicatesCommand {
    /// In this location alone, by its root
    #[arg(long, value_name = "PATH")]
    location: Option<PathBuf>,
    /// Read this directory of this machine here and now: no server, no index, all groups
    #[arg(long, value_name = "DIR", conflicts_with_all = ["location", "by", "verify", "page_token"])]
    from_disk: Option<PathBuf>,
    /// What is the same
    #[arg(long, value_enum, default_value = "content")]
    by: ByArg,
    /// Of at least so many bytes
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    size_min: i64,
    /// Read the bytes again and compare them
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    page: Page,
}

impl DuplicatesCommand {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        if let Some(path) = &self.from_disk {
            let (limit, _) = self.page.parts();
            return disk::duplicates(context, path, self.size_min, limit).await;
        }
        let client = context.client()?;
        let location_id = match &self.location {
            Some(path) => {
                let what = "name its root, or read the directory itself by --from-disk";
                root_of(&client, "location", path, what).await?.id
            }
            None => String::new(),
        };
        let mode = match self.by {
            ByArg::Content => wire::DuplicateMode::Content,
            ByArg::NameAndSize => wire::DuplicateMode::NameAndSize,
            ByArg::Size => wire::DuplicateMode::Size,
            ByArg::Near => wire::DuplicateMode::Near,
        };
        let (page_size, page_token) = self.page.parts();
        let request = wire::ListDuplicatesRequest {
            location_id,
            mode: mode.into(),
            size_min: self.size_min,
            verify: self.verify,
            page_size,
            page_token,
        };
        let answer = client.files().list_duplicates(request).await?.into_inner();
        let mut json = message_json("quarry.files.v1.ListDuplicatesResponse", &answer)?;
        for group in json["groups"].as_array_mut().into_iter().flatten() {
            without_raw(&mut group["entries"]);
        }
        json["next_page_token"] = answer.next_page_token.clone().into();
        context.output.answer(&json, || people(&answer))?;
        context.output.more(json["next_page_token"].as_str());
        if answer.unhashed_count > 0 {
            context.output.hint(&format!(
                "{} files are not hashed yet: `quarry files scan PATH --mode content` does it.",
                answer.unhashed_count
            ));
        }
        Ok(())
    }
}

fn people(answer: &wire::ListDuplicatesResponse) -> String {
    let groups = answer.groups.iter().map(|group| {
        let paths = group.entries.iter().map(|entry| entry.path.as_str()).collect();
        (group.wasted_bytes, group.size, paths)
    });
    let totals = format!(
        "{} groups, {} files, {} bytes wasted",
        answer.group_count, answer.file_count, answer.wasted_bytes
    );
    groups_table(groups, &totals)
}

/// Groups of equal files, each as what it wastes, the size of a file and their paths.
pub(super) fn groups_table<'a>(
    groups: impl Iterator<Item = (i64, i64, Vec<&'a str>)>,
    totals: &str,
) -> String {
    let rows = groups.flat_map(|(wasted, size, paths)| {
        let first = move |nth: usize, number: i64| match nth {
            0 => number.to_string(),
            _ => String::new(),
        };
        let row = move |(nth, path): (usize, &str)| {
            vec![first(nth, wasted), first(nth, size), path.to_owned()]
        };
        paths.into_iter().enumerate().map(row)
    });
    format!("{}\n{totals}", text_table(&["wasted", "size", "path"], rows))
}

/// How much lies below a directory.
pub async fn du(context: &Context, path: &Path, limit: Option<i32>) -> Result<(), Failure> {
    let request = wire::GetUsageRequest {
        path: server_path(path)?,
        location_id: String::new(),
        limit: limit.unwrap_or(0),
    };
    let answer = context.client()?.files().get_usage(request).await?.into_inner();
    let json = message_json("quarry.files.v1.GetUsageResponse", &answer)?;
    context.output.answer(&json, || {
        let rows = answer.directories.iter().chain(&answer.total).map(|row| {
            vec![row.byte_count.to_string(), row.file_count.to_string(), row.path.clone()]
        });
        text_table(&["bytes", "files", "path"], rows)
    })
}
