//! Finding what a request names, if the caller may have it. What it may not
//! see is not found, in the same words as what does not exist.

use access::{Resource, Subject, Visible};
use caller::Caller;
use ids::{DatasetId, Id, NamespaceId};
use options_api::v1::{Level, ResourceKind};
use service_error::ServiceError;

use crate::app::Catalog;
use crate::model::{Dataset, DatasetRef, Head, Name, Namespace};
use crate::store::VisibleRows;

impl Catalog {
    /// The namespace of a name, if the caller holds `need` on it.
    pub(super) async fn namespace_for(
        &self,
        caller: &Caller,
        need: Level,
        name: &Name,
        action: &str,
    ) -> Result<Namespace, ServiceError> {
        let Some(found) = self.store.find_namespace(name.as_str()).await? else {
            return Err(ServiceError::not_found("namespace", name));
        };
        let subject = Subject { kind: "namespace", name: name.as_str(), action };
        self.grants
            .require(caller, need, &[Resource::namespace(found.id.uuid())], false, subject)
            .await?;
        Ok(found)
    }

    /// A dataset at its head, if the caller holds `need` on it.
    pub(super) async fn dataset_for(
        &self,
        caller: &Caller,
        need: Level,
        reference: &DatasetRef,
        action: &str,
    ) -> Result<Head, ServiceError> {
        match self.find(reference).await? {
            Some(head) => {
                self.require_dataset(caller, need, &head.dataset, &reference.to_string(), action)
                    .await?;
                Ok(head)
            }
            None => Err(ServiceError::not_found("dataset", reference)),
        }
    }

    pub(super) async fn find(&self, reference: &DatasetRef) -> Result<Option<Head>, ServiceError> {
        match reference {
            DatasetRef::Id(id) => self.store.find_dataset_by_id(*id).await,
            DatasetRef::Name { namespace, name } => {
                self.store.find_dataset(namespace.as_str(), name.as_str()).await
            }
        }
    }

    pub(super) async fn require_dataset(
        &self,
        caller: &Caller,
        need: Level,
        dataset: &Dataset,
        shown: &str,
        action: &str,
    ) -> Result<(), ServiceError> {
        let chain = [
            Resource::dataset(dataset.id.uuid()),
            Resource::namespace(dataset.namespace_id.uuid()),
        ];
        let subject = Subject { kind: "dataset", name: shown, action };
        self.grants.require(caller, need, &chain, dataset.public, subject).await?;
        Ok(())
    }

    /// The namespace in which the caller may make the dataset. It is told of
    /// the dataset only, as one that exists and is hidden would be.
    pub(super) async fn namespace_of_new(
        &self,
        caller: &Caller,
        namespace: &Name,
        shown: &str,
        action: &str,
    ) -> Result<Namespace, ServiceError> {
        let Some(found) = self.store.find_namespace(namespace.as_str()).await? else {
            return Err(ServiceError::not_found("dataset", shown));
        };
        let subject = Subject { kind: "dataset", name: shown, action };
        let chain = [Resource::namespace(found.id.uuid())];
        self.grants.require(caller, Level::Write, &chain, false, subject).await?;
        Ok(found)
    }

    /// What of a list the caller may see, for its query.
    pub(super) async fn visible_rows(&self, caller: &Caller) -> Result<VisibleRows, ServiceError> {
        let Visible::Ids(namespaces) = self.grants.visible(caller, ResourceKind::Namespace).await?
        else {
            return Ok(VisibleRows::All);
        };
        let Visible::Ids(datasets) = self.grants.visible(caller, ResourceKind::Dataset).await?
        else {
            return Ok(VisibleRows::All);
        };
        Ok(VisibleRows::Only {
            namespaces: namespaces.into_iter().map(NamespaceId::from_uuid).collect(),
            datasets: datasets.into_iter().map(DatasetId::from_uuid).collect(),
        })
    }

    /// Refuses everybody but a role of the platform that acts for itself.
    pub(super) fn require_service(caller: &Caller) -> Result<(), ServiceError> {
        if caller.service {
            return Ok(());
        }
        Err(ServiceError::denied(
            "only a role of this platform, acting for itself, may make the call",
        ))
    }
}

/// The chain that grants on a namespace are looked up by.
pub(super) fn namespace_chain(id: NamespaceId) -> [Resource; 1] {
    [Resource::namespace(Id::uuid(id))]
}
