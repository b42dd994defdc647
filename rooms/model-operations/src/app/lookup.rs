//! Finding what a request names, if the caller may have it. What it may not
//! see is not found, in the same words as what does not exist.

use access::{Resource, Subject, Visible};
use caller::Caller;
use ids::{ModelId, NamespaceId};
use options_api::v1::{Level, ResourceKind};
use service_error::ServiceError;

use super::Registry;
use crate::model::{Model, ModelPath, ModelVersion, VersionRef, model_name};
use crate::store::{OutboxEvent, VisibleRows};

impl Registry {
    /// The namespace of a name, if the caller holds `need` on it.
    pub(super) async fn namespace_for(
        &self,
        caller: &Caller,
        need: Level,
        name: &str,
        action: &str,
    ) -> Result<NamespaceId, ServiceError> {
        let not_found = || ServiceError::not_found("namespace", name).field("namespace");
        let id = self.catalog.namespace(name).await?.ok_or_else(not_found)?;
        let subject = Subject { kind: "namespace", name, action };
        let chain = [Resource::namespace(id.uuid())];
        self.grants.require(caller, need, &chain, false, subject).await?;
        Ok(id)
    }

    /// A live model, if the caller holds `need` on it.
    pub(super) async fn model_for(
        &self,
        caller: &Caller,
        need: Level,
        path: &ModelPath,
        action: &str,
    ) -> Result<Model, ServiceError> {
        model_name("model", &path.name)?;
        let not_found = || ServiceError::not_found("model", path);
        let namespace = self.catalog.namespace(&path.namespace).await?.ok_or_else(not_found)?;
        let found = self.store.find_model(namespace, &path.name).await?.ok_or_else(not_found)?;
        self.require_model(caller, need, &found, &path.to_string(), action).await?;
        Ok(found)
    }

    /// A live model that the caller may read, with the newest version of each stage.
    pub(super) async fn whole_model_for(
        &self,
        caller: &Caller,
        path: &ModelPath,
        action: &str,
    ) -> Result<(Model, Vec<ModelVersion>), ServiceError> {
        model_name("model", &path.name)?;
        let not_found = || ServiceError::not_found("model", path);
        let namespace = self.catalog.namespace(&path.namespace).await?.ok_or_else(not_found)?;
        let found = self.store.find_model_with_latest(namespace, &path.name).await?;
        let found = found.ok_or_else(not_found)?;
        self.require_model(caller, Level::Read, &found.0, &path.to_string(), action).await?;
        Ok(found)
    }

    pub(super) async fn require_model(
        &self,
        caller: &Caller,
        need: Level,
        model: &Model,
        shown: &str,
        action: &str,
    ) -> Result<(), ServiceError> {
        let place = (model.id, model.namespace_id);
        self.require_model_at(caller, need, place, shown, action).await
    }

    async fn require_model_at(
        &self,
        caller: &Caller,
        need: Level,
        (model, namespace): (ModelId, NamespaceId),
        shown: &str,
        action: &str,
    ) -> Result<(), ServiceError> {
        let chain = [Resource::model(model.uuid()), Resource::namespace(namespace.uuid())];
        let subject = Subject { kind: "model", name: shown, action };
        self.grants.require(caller, need, &chain, false, subject).await.map(drop)
    }

    /// A live version, if the caller holds `need` on its model.
    pub(super) async fn version_for(
        &self,
        caller: &Caller,
        need: Level,
        path: &ModelPath,
        which: &VersionRef,
        action: &str,
    ) -> Result<(Model, ModelVersion), ServiceError> {
        let model = self.model_for(caller, need, path, action).await?;
        let found = self.store.find_version(model.id, which).await?;
        let version = found
            .ok_or_else(|| ServiceError::not_found("model version", format!("{path}/{which}")))?;
        Ok((model, version))
    }

    /// A live version that the caller may read, by one query if it is there.
    pub(super) async fn readable_version_of(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
        action: &str,
    ) -> Result<ModelVersion, ServiceError> {
        model_name("model", &path.name)?;
        if let Some(namespace) = self.catalog.namespace(&path.namespace).await?
            && let Some(found) = self.store.find_version_of(namespace, &path.name, which).await?
        {
            let place = (found.model_id, found.namespace_id);
            self.require_model_at(caller, Level::Read, place, &path.to_string(), action).await?;
            return Ok(found);
        }
        // Which of them is missing is told to those alone who may see the model.
        Ok(self.version_for(caller, Level::Read, path, which, action).await?.1)
    }

    /// What of a list the caller may see, for its query.
    pub(super) async fn visible_rows(&self, caller: &Caller) -> Result<VisibleRows, ServiceError> {
        let Visible::Ids(namespaces) = self.grants.visible(caller, ResourceKind::Namespace).await?
        else {
            return Ok(VisibleRows::All);
        };
        let Visible::Ids(models) = self.grants.visible(caller, ResourceKind::Model).await? else {
            return Ok(VisibleRows::All);
        };
        Ok(VisibleRows::Only {
            namespaces: namespaces.into_iter().map(NamespaceId::from_uuid).collect(),
            models: models.into_iter().map(ModelId::from_uuid).collect(),
        })
    }

    /// The namespace that narrows a list, if one is named. One in which the
    /// caller may see nothing is told apart by its empty list only.
    pub(super) async fn narrowed(&self, name: &str) -> Result<Option<NamespaceId>, ServiceError> {
        if name.is_empty() {
            return Ok(None);
        }
        // An id that nothing has: the list is empty.
        let nowhere = NamespaceId::from_uuid(uuid::Uuid::nil());
        Ok(Some(self.catalog.namespace(name).await?.unwrap_or(nowhere)))
    }

    /// Announces what was made and waits until the owner's grant decides here.
    pub(super) async fn await_grant(&self, event: &OutboxEvent) -> Result<(), ServiceError> {
        let revision = self.outbox.announce(event).await.map_err(|error| {
            let message = "it is made, but identity does not answer to make you its owner; that happens by itself soon";
            ServiceError::unavailable(message).reason("GRANT_PENDING").caused_by(error)
        })?;
        self.grants.wait_for(revision, self.settings.grant_wait()).await
    }

    /// The namespace of callers that name none; made for the first of them.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn default_namespace(&self, caller: &Caller) -> Result<String, ServiceError> {
        let name = &self.settings.default_namespace;
        if self.catalog.namespace(name).await?.is_none() {
            self.catalog.make_namespace(caller, name).await?;
        }
        Ok(name.clone())
    }

    /// The id of a namespace on which a caller holds a level.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn namespace_id(
        &self,
        caller: &Caller,
        need: Level,
        name: &str,
        action: &str,
    ) -> Result<NamespaceId, ServiceError> {
        self.namespace_for(caller, need, name, action).await
    }
}
