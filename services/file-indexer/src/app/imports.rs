//! Imports: who may read the place, and from what it is read.

use std::collections::{BTreeSet, HashMap};

use caller::Caller;
use file_imports::{ACTION, Begun, ImportAsked};
use jobs::{JobResult, Work};
use options_api::v1::Level;
use service_error::ServiceError;
use uuid::Uuid;

use super::{Indexer, elsewhere};
use crate::model::Location;
use crate::store::Import;

impl Indexer {
    /// Queues an import; answers the job's id.
    ///
    /// # Errors
    /// A place that the caller may not read or that is on another device, a
    /// dataset that it may not write or that has another key.
    pub async fn import(&self, caller: &Caller, asked: ImportAsked) -> Result<Uuid, ServiceError> {
        let (location, path) = self.place_of(caller, Level::Read, &asked.path, ACTION).await?;
        elsewhere(&location, "imported")?;
        self.importer.submit(caller, &location, path, asked).await
    }

    /// Runs an import.
    ///
    /// # Errors
    /// A root that is away, a dataset that is gone, the neighbours'.
    pub async fn run_import(&self, work: Work) -> JobResult {
        match self.importer.begin(&work).await? {
            Begun::Unchanged(numbers) => Ok(numbers),
            Begun::Differs(begun) => {
                let source = self.source(&begun.location).await?;
                self.importer.run(&work, *begun, source).await
            }
        }
    }

    /// Whether an import's owner still may have it done.
    pub(super) async fn may_import(
        &self,
        caller: &Caller,
        location: &Location,
        arguments: &str,
    ) -> Result<(), ServiceError> {
        self.require(caller, Level::Read, location, &location.uuid.to_string(), ACTION).await?;
        self.importer.may_go_on(caller, arguments).await
    }

    /// Imports of locations that the caller may read, with their locations.
    ///
    /// # Errors
    /// `NotFound` for a location that it may not see.
    pub async fn imports(
        &self,
        caller: &Caller,
        location: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(Import, Location)>, ServiceError> {
        let locations: HashMap<i64, Location> = if location.is_empty() {
            self.visible(caller).await?
        } else {
            let action = "quarry.files.v1.ImportsService/ListImports";
            let found = self.location_for(caller, Level::Read, location, action).await?;
            [(found.id, found)].into()
        };
        let ids: BTreeSet<i64> = locations.keys().copied().collect();
        let ids: Vec<i64> = ids.into_iter().collect();
        let found = self.store.imports(&ids, after, limit).await?;
        Ok(found
            .into_iter()
            .filter_map(|import| {
                let location = locations.get(&import.location)?.clone();
                Some((import, location))
            })
            .collect())
    }
}
