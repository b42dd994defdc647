//! Use cases: who may, what is read from disk, the transaction.

mod agents;
mod announce;
mod archives;
mod changes;
mod duplicates;
mod hashing;
mod imports;
mod locations;
mod marks;
mod scan;
mod search;
mod volumes;
mod walking;
mod watching;

use std::collections::HashMap;

use access::{GrantReplica, Resource, Subject, Visible};
use caller::Caller;
use file_imports::{Datasets, Imports};
use options_api::v1::{Level, ResourceKind};
use service_error::{Code, ServiceError};
use uuid::Uuid;

use crate::model::{Location, relative_to};
use crate::settings::{Paths, Settings};
use crate::store::Store;

pub use crate::store::{
    Annotation, Change, Facet, FacetRow, FoundContent, Group, TagRow, TagsAfter, ToHash, UsageRow,
};
pub use agents::{AgentOutcome, CREDITS, Hello, Part, Said, Told};
pub use announce::Announcer;
pub use changes::Changed;
pub use duplicates::{DuplicateMode, ShownGroup};
pub use locations::{CreateLocation, ScanAsked};
pub use marks::{MarkScope, Marking};
pub use scan::{ScanArguments, VerifyArguments};
pub use search::{QueryText, Shown};
pub use volumes::{LocationVolume, VolumeKey};

/// Locations that one caller's query looks through.
const LOCATIONS_MAX: u32 = 10_000;

/// The use cases. Clones share everything.
#[derive(Clone)]
pub struct Indexer {
    store: Store,
    jobs: ::jobs::Jobs,
    grants: GrantReplica,
    announcer: Announcer,
    importer: Imports,
    settings: Settings,
    paths: Paths,
}

impl Indexer {
    /// The use cases over a migrated store.
    #[must_use]
    pub fn new(
        store: Store,
        grants: GrantReplica,
        announcer: Announcer,
        datasets: Datasets,
        settings: Settings,
        paths: Paths,
    ) -> Self {
        let jobs = store.jobs(crate::ROLE);
        let limits = settings.archives.limits();
        let importer = Imports::new(store.clone(), jobs.clone(), grants.clone(), datasets, limits);
        Self { jobs, store, grants, announcer, importer, settings, paths }
    }

    /// The same with other paths.
    #[cfg(test)]
    pub fn with_paths(&self, paths: Paths) -> Self {
        Self { paths, ..self.clone() }
    }

    /// The service's jobs.
    #[must_use]
    pub fn jobs(&self) -> &::jobs::Jobs {
        &self.jobs
    }

    /// What can be set.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Refuses a caller without the level. Whoever may not even see the location is told what it
    /// `asked` for and nothing else, as of one that there is not.
    async fn require(
        &self,
        caller: &Caller,
        need: Level,
        location: &Location,
        asked: &str,
        action: &str,
    ) -> Result<(), ServiceError> {
        let subject = Subject { kind: "location", name: &location.path, action };
        let chain = [Resource::location(location.uuid)];
        match self.grants.require(caller, need, &chain, false, subject).await {
            Err(error) if error.code() == Code::NotFound => {
                Err(ServiceError::not_found("location", asked))
            }
            outcome => outcome.map(drop),
        }
    }

    /// A location by its id or path, if the caller holds the level on it.
    async fn location_for(
        &self,
        caller: &Caller,
        need: Level,
        id: &str,
        action: &str,
    ) -> Result<Location, ServiceError> {
        let found = match Uuid::try_parse(id) {
            Ok(uuid) => self.store.find_location(uuid).await?.into_iter().collect(),
            Err(_) => {
                let path = match file_sources::bucket_path(id) {
                    Some(path) => path.unwrap_or_default(),
                    None => format!("/{}", id.trim_matches('/')),
                };
                let mut holding = self.store.locations_holding(&path).await?;
                // Several devices may have one path.
                holding.retain(|location| location.path == path);
                holding
            }
        };
        let mut refused = ServiceError::not_found("location", id);
        for location in found {
            match self.require(caller, need, &location, id, action).await {
                Ok(()) => return Ok(location),
                Err(error) if error.code() == Code::NotFound => {}
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// The innermost location that holds a path and on which the caller holds
    /// the level, and the path within it.
    async fn place_of(
        &self,
        caller: &Caller,
        need: Level,
        path: &str,
        action: &str,
    ) -> Result<(Location, String), ServiceError> {
        let path = absolute("path", path)?;
        let mut refused = None;
        for location in self.store.locations_holding(&path).await? {
            match self.require(caller, need, &location, &path, action).await {
                Ok(()) => {
                    let relative = relative_to(&location.path, &path).unwrap_or("").to_owned();
                    return Ok((location, relative));
                }
                // As if there were none.
                Err(error) if error.code() == Code::NotFound => {}
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| {
            ServiceError::not_found("location", &path)
                .context("no location holds the path; `locations` lists them")
        }))
    }

    /// The locations that the caller may read, by number.
    async fn visible(&self, caller: &Caller) -> Result<HashMap<i64, Location>, ServiceError> {
        let visible = self.grants.visible(caller, ResourceKind::Location).await?;
        let ids = match &visible {
            Visible::All => None,
            Visible::Ids(ids) => Some(ids.as_slice()),
        };
        let locations = self.store.list_locations(ids, 0, LOCATIONS_MAX).await?;
        Ok(locations.into_iter().map(|location| (location.id, location)).collect())
    }
}

/// Refuses what only a location that the server itself reads can have.
fn elsewhere(location: &Location, done: &str) -> Result<(), ServiceError> {
    if location.device.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{} is on the device {:?}, whose agent alone reads it: it can't be {done}",
        location.path, location.device
    );
    Err(ServiceError::precondition(message).reason("LOCATION_ELSEWHERE"))
}

/// An absolute path without `.`, `..`, doubled or trailing slashes, or a bucket's.
fn absolute(field: &str, path: &str) -> Result<String, ServiceError> {
    const PATH_BYTES_MAX: usize = 4_095;
    let wrong = |why: &str| Err(ServiceError::invalid(field, format!("{path:?} {why}")));
    if path.len() <= PATH_BYTES_MAX
        && let Some(bucket) = file_sources::bucket_path(path)
    {
        return bucket.or_else(wrong);
    }
    if !path.starts_with('/') {
        return wrong("is no absolute path, and no s3://bucket/prefix");
    }
    if path.contains('\0') || path.len() > PATH_BYTES_MAX {
        return wrong("holds a NUL or is longer than 4,095 bytes");
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| *part == "." || *part == "..") {
        return wrong("holds '.' or '..'");
    }
    Ok(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::absolute;

    #[test]
    fn paths_are_absolute_and_plain() {
        assert_eq!(absolute("path", "/a//b/").unwrap(), "/a/b");
        assert_eq!(absolute("path", "/").unwrap(), "/");
        for wrong in ["a", "", "/a/../b", "/a/./b", "/a\0"] {
            assert_eq!(absolute("path", wrong).unwrap_err().field_name(), Some("path"), "{wrong}");
        }
    }
}
