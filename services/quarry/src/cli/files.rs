//! `quarry files`: locations, and what is known of their files.

mod disk;
mod find;
mod imports;
mod marks;
mod places;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use files_api::v1 as wire;
use service_error::ServiceError;

use super::jobs::JobsCommand;
use super::{Context, Page};
use crate::client::Client;
use crate::failure::Failure;

pub use find::{CountCommand, DuplicatesCommand, SearchCommand};
pub use imports::{ChangesCommand, ImportCommand};
pub use marks::{LabelCommand, NoteCommand, TagCommand};
pub use places::{LocationCommand, ModeArg, ScanCommand};

#[derive(Debug, Subcommand)]
pub enum FilesCommand {
    /// Directory trees whose files are known
    #[command(subcommand)]
    Location(LocationCommand),
    /// The file systems, buckets and devices that locations are on
    Volumes(Page),
    /// Look at a location's files
    Scan(ScanCommand),
    /// Find files
    Search(SearchCommand),
    /// How many files there are, by extension, type, tag, directory …
    Count(CountCommand),
    /// All that is known and said of one file
    Show {
        /// The file
        path: PathBuf,
    },
    /// Files that are the same, the most wasteful first
    Duplicates(DuplicatesCommand),
    /// Make a dataset of a directory's images, or bring one up to date
    Import(ImportCommand),
    /// What happened to a location's files
    Changes(ChangesCommand),
    /// Put a tag on files, take it off, or list tags
    Tag(TagCommand),
    /// Put a label such as animal/cat on files, or take it off
    Label(LabelCommand),
    /// Note something of a file
    Note(NoteCommand),
    /// How much lies below a directory
    Du {
        /// The directory
        path: PathBuf,
        /// At most so many directories in it
        #[arg(long, value_name = "N")]
        limit: Option<i32>,
    },
    /// Read every hashed file again and tell what rotted or changed
    Verify {
        /// The location's root
        path: PathBuf,
        /// Wait until it is done
        #[arg(long)]
        wait: bool,
    },
    /// Long work of every service; as `quarry jobs`
    #[command(subcommand)]
    Jobs(JobsCommand),
}

impl FilesCommand {
    /// Asks the file indexer.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Location(command) => command.run(context).await,
            Self::Volumes(page) => places::volumes(context, page).await,
            Self::Scan(command) => command.run(context).await,
            Self::Search(command) => command.run(context).await,
            Self::Count(command) => command.run(context).await,
            Self::Show { path } => find::show(context, &path).await,
            Self::Duplicates(command) => command.run(context).await,
            Self::Import(command) => command.run(context).await,
            Self::Changes(command) => command.run(context).await,
            Self::Tag(command) => command.run(context).await,
            Self::Label(command) => command.run(context).await,
            Self::Note(command) => command.run(context).await,
            Self::Du { path, limit } => find::du(context, &path, limit).await,
            Self::Verify { path, wait } => places::verify(context, &path, wait).await,
            Self::Jobs(command) => command.run(context).await,
        }
    }
}

/// A path as the server has it: absolute, its symlinks resolved where it is
/// there; or a bucket's, as it is.
fn server_path(path: &Path) -> Result<String, Failure> {
    if let Some(bucket) = path.to_str().filter(|path| path.starts_with("s3://")) {
        return Ok(bucket.to_owned());
    }
    let absolute = std::fs::canonicalize(path)
        .or_else(|_| std::path::absolute(path))
        .map_err(|err| ServiceError::invalid("path", format!("{}: {err}", path.display())))?;
    absolute.to_str().map(str::to_owned).ok_or_else(|| {
        ServiceError::invalid("path", format!("{} is not UTF-8", path.display())).into()
    })
}

/// The location whose root a path is; of a directory in one `what` is not done.
pub(super) async fn root_of(
    client: &Client,
    field: &str,
    path: &Path,
    what: &str,
) -> Result<wire::Location, Failure> {
    let location = location_of(client, path).await?;
    let asked = server_path(path)?;
    if location.path == asked {
        return Ok(location);
    }
    let why = format!("{asked} is in the location {} and is none: {what}", location.path);
    Err(ServiceError::invalid(field, why).into())
}

/// The location whose root a path is, or else the innermost that holds it.
async fn location_of(client: &Client, path: &Path) -> Result<wire::Location, Failure> {
    let path = server_path(path)?;
    let request = wire::ListLocationsRequest {
        page_size: 1_000,
        holding: path.clone(),
        ..wire::ListLocationsRequest::default()
    };
    let found = client.locations().list_locations(request).await?.into_inner().locations;
    found.into_iter().max_by_key(|location| location.path.len()).ok_or_else(|| {
        ServiceError::not_found("location", &path)
            .context("no location holds the path; `quarry files location add` makes one")
            .into()
    })
}
