//! What goes away in time: rows of deleted spaces, spaces and logs of deleted owners,
//! old changes, files of spaces that are no longer there.

use std::collections::HashSet;

use service_error::ServiceError;
use uuid::Uuid;

use crate::app::App;

/// Rows that one transaction removes.
const ROWS: u32 = 2_000;
/// Spaces or owners that are looked at together.
const PAGE: u32 = 100;
/// So many owners are asked for one by one; of more the catalog's list is read.
const ASKED_ALONE_MAX: usize = 4;
/// Transactions of one sweep; the next one goes on.
const STEPS_MAX: usize = 500;

impl App {
    /// Removes what is left of deleted spaces.
    ///
    /// # Errors
    /// The database's.
    pub async fn purge_deleted(&self) -> Result<(), ServiceError> {
        let mut steps = 0;
        for space in self.store.deleted_spaces(PAGE).await? {
            self.forget_index(space).await;
            self.forget_snapshot(space).await;
            while steps < STEPS_MAX {
                steps += 1;
                if self.store.purge(space, ROWS).await? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Deletes spaces whose dataset or namespace the catalog no longer has, and what a namespace
    /// that is gone has logged.
    ///
    /// Owners are read before the catalog is, so that one made meanwhile is not missed; what a
    /// list does not have is asked for by itself before anything is deleted.
    ///
    /// # Errors
    /// The catalog's or the database's.
    pub async fn cascade(&self) -> Result<u64, ServiceError> {
        let mut deleted = 0;
        let mut after = (Uuid::nil(), Uuid::nil());
        loop {
            let owners = self.store.owners(after, PAGE).await?;
            let Some((namespace, dataset, _)) = owners.last() else { break };
            after = (*namespace, *dataset);
            deleted += self.drop_spaces_of_gone(&owners).await?.1;
        }
        self.cascade_logs().await?;
        Ok(deleted)
    }

    /// The same for the spaces of one namespace, before they are counted.
    pub(super) async fn cascade_in(&self, namespace: Uuid) -> Result<(), ServiceError> {
        let mut after = (namespace, Uuid::nil());
        loop {
            let mut owners = self.store.owners(after, PAGE).await?;
            owners.retain(|(of, ..)| *of == namespace);
            let Some((_, dataset, _)) = owners.last() else { return Ok(()) };
            after = (namespace, *dataset);
            self.drop_spaces_of_gone(&owners).await?;
        }
    }

    /// Deletes the spaces of those of these owners, with their namespaces' names, that the
    /// catalog no longer has; how many owners and how many spaces.
    pub(super) async fn drop_spaces_of_gone(
        &self,
        owners: &[(Uuid, Uuid, String)],
    ) -> Result<(usize, u64), ServiceError> {
        let (mut gone, mut deleted) = (0, 0);
        let listed = self.listed(owners.len()).await?;
        for (namespace, dataset, name) in owners {
            let owner = if dataset.is_nil() { namespace } else { dataset };
            let is_there = listed.contains(owner)
                || if dataset.is_nil() {
                    self.catalog.namespace_of_name(name).await? == Some(*namespace)
                } else {
                    self.catalog.dataset_of_id(*dataset).await?.is_some()
                };
            if !is_there {
                gone += 1;
                deleted += self.store.delete_spaces_of(*namespace, *dataset).await?;
                self.spaces_deleted();
            }
        }
        Ok((gone, deleted))
    }

    /// What the catalog has, by one list if there are several to be looked for.
    async fn listed(&self, wanted: usize) -> Result<HashSet<Uuid>, ServiceError> {
        if wanted <= ASKED_ALONE_MAX {
            return Ok(HashSet::new());
        }
        self.catalog.listed().await
    }

    async fn cascade_logs(&self) -> Result<(), ServiceError> {
        let mut after = Uuid::nil();
        loop {
            let owners = self.store.logging_namespaces(after, PAGE).await?;
            let Some((last, _)) = owners.last() else { return Ok(()) };
            after = *last;
            let listed = self.listed(owners.len()).await?;
            for (namespace, name) in &owners {
                let is_there = listed.contains(namespace)
                    || self.catalog.namespace_of_name(name).await? == Some(*namespace);
                for _ in 0..STEPS_MAX {
                    if is_there || self.store.purge_log(*namespace, ROWS).await? {
                        break;
                    }
                }
            }
        }
    }

    /// Forgets changes that no index needs any more.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget_changes(&self) -> Result<u64, ServiceError> {
        let mut forgotten = 0;
        for _ in 0..STEPS_MAX {
            let gone = self.store.forget_changes(self.settings.change_micros(), ROWS).await?;
            forgotten += gone;
            if gone < u64::from(ROWS) {
                break;
            }
        }
        Ok(forgotten)
    }
}
