//! What goes away in time: rows of deleted spaces, spaces of deleted owners,
//! old changes, files of spaces that are no longer there.

use service_error::ServiceError;
use uuid::Uuid;

use crate::app::App;

/// Rows that one transaction removes.
const ROWS: u32 = 2_000;
/// Spaces or owners that are looked at together.
const PAGE: u32 = 100;
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
            self.forget_objects(space).await;
            while steps < STEPS_MAX {
                steps += 1;
                if self.store.purge(space, ROWS).await? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Deletes spaces whose dataset or namespace the catalog no longer has.
    ///
    /// # Errors
    /// The catalog's or the database's.
    pub async fn cascade(&self) -> Result<u64, ServiceError> {
        let mut deleted = 0;
        let mut after = (Uuid::nil(), Uuid::nil());
        loop {
            let owners = self.store.owners(after, PAGE).await?;
            let Some((namespace, dataset, _)) = owners.last() else { return Ok(deleted) };
            after = (*namespace, *dataset);
            for (namespace, dataset, name) in &owners {
                let is_there = if dataset.is_nil() {
                    self.catalog.namespace_of_name(name).await? == Some(*namespace)
                } else {
                    self.catalog.dataset_of_id(*dataset).await?.is_some()
                };
                if !is_there {
                    deleted += self.store.delete_spaces_of(*namespace, *dataset).await?;
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
