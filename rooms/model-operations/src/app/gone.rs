//! What is left of namespaces that the catalog deleted. Only it can say so, by their ids: names
//! are given anew, and one that it never had is another catalog's.

use ids::{NamespaceId, PrincipalId};
use service_error::ServiceError;
use uuid::Uuid;

use super::Registry;

/// Namespaces, or models of one, that are looked at together.
const PAGE: u32 = 100;

impl Registry {
    /// Puts models into the trash whose namespace was deleted in the moment in which they were
    /// made. Answers how many.
    ///
    /// # Errors
    /// The catalog's or the database's.
    pub async fn leave_gone_namespaces(&self) -> Result<u64, ServiceError> {
        let nobody = PrincipalId::from_uuid(Uuid::nil());
        let mut after = NamespaceId::from_uuid(Uuid::nil());
        let mut left = 0;
        loop {
            let used = self.store.namespaces_in_use(after, PAGE).await?;
            let Some(last) = used.last() else { return Ok(left) };
            after = *last;
            for (id, _) in self.catalog.deleted_namespaces(&used).await? {
                // What is more than a page is the next round's.
                for model in self.store.models_in(id, PAGE).await? {
                    let told = self.store.delete_model(model, nobody).await?;
                    self.tell(&told).await;
                    left += 1;
                }
            }
        }
    }

    /// Forgets what namespaces that were deleted before a time kept beside their models: files
    /// of runs, experiments, stages, keys, webhooks. Answers how many files there were; their
    /// bytes are loose from then on.
    ///
    /// # Errors
    /// The catalog's or the database's; what was done stays done.
    pub async fn reclaim_gone_namespaces(&self, before: i64) -> Result<i64, ServiceError> {
        let mut files = 0;
        for namespace in self.gone_namespaces(before).await? {
            let forgotten = self.store.forget_namespace(namespace).await?;
            self.store.tracking().forget_namespace(namespace).await?;
            files += i64::try_from(forgotten).unwrap_or(i64::MAX);
        }
        Ok(files)
    }

    /// Namespaces that keep something and were deleted before a time.
    ///
    /// # Errors
    /// The catalog's or the database's.
    pub async fn gone_namespaces(&self, before: i64) -> Result<Vec<NamespaceId>, ServiceError> {
        let mut after = NamespaceId::from_uuid(Uuid::nil());
        let mut gone = Vec::new();
        loop {
            let keeping = self.store.namespaces_that_keep(after, PAGE as usize).await?;
            let Some(last) = keeping.last() else { return Ok(gone) };
            after = *last;
            let deleted = self.catalog.deleted_namespaces(&keeping).await?;
            gone.extend(deleted.into_iter().filter(|(_, at)| *at < before).map(|(id, _)| id));
        }
    }
}
