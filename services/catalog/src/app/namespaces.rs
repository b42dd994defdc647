//! Namespaces.

use caller::Caller;
use ids::NamespaceId;
use options_api::v1::Level;
use service_error::ServiceError;

use crate::app::Catalog;
use crate::model::dataset::check_description;
use crate::model::{Name, Namespace, OutboxEvent};

impl Catalog {
    /// Makes a namespace that the caller owns.
    ///
    /// # Errors
    /// `InvalidArgument`, `AlreadyExists`; `Unavailable` with reason
    /// `GRANT_PENDING` when it is made but not yet accessible.
    pub async fn create_namespace(
        &self,
        caller: &Caller,
        name: &str,
        description: &str,
    ) -> Result<Namespace, ServiceError> {
        let name = Name::parse("name", name)?;
        check_description(description)?;
        let (made, event) =
            self.store.create_namespace(&name, description, caller.principal).await?;
        self.await_grant(&event).await?;
        Ok(made)
    }

    /// A namespace that the caller may read.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_namespace(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<Namespace, ServiceError> {
        let name = Name::parse("name", name)?;
        self.namespace_for(
            caller,
            Level::Read,
            &name,
            "quarry.catalog.v1.NamespacesService/GetNamespace",
        )
        .await
    }

    /// Up to `limit` namespaces that the caller may see, after a name.
    ///
    /// # Errors
    /// The database's.
    pub async fn list_namespaces(
        &self,
        caller: &Caller,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Namespace>, ServiceError> {
        let visible = self.visible_rows(caller).await?;
        self.store.list_namespaces(&visible, after, limit).await
    }

    /// Deletes an empty namespace.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`; `FailedPrecondition` while it holds a dataset.
    pub async fn delete_namespace(&self, caller: &Caller, name: &str) -> Result<(), ServiceError> {
        let name = Name::parse("name", name)?;
        let action = "quarry.catalog.v1.NamespacesService/DeleteNamespace";
        let found = self.namespace_for(caller, Level::Owner, &name, action).await?;
        self.refuse_while_used(found.id, &name).await?;
        let event = self.store.delete_namespace(found.id, name.as_str()).await?;
        self.tell(&event).await;
        Ok(())
    }

    /// Datasets are counted in the deletion's own transaction; what else lies in
    /// a namespace, identity was told by the roles that have it. What is made in
    /// this very moment, its role clears up when it sees the namespace gone.
    async fn refuse_while_used(&self, id: NamespaceId, name: &Name) -> Result<(), ServiceError> {
        let models = self.outbox.models_in(id).await?;
        if models == 0 {
            return Ok(());
        }
        let message = format!("namespace {name} holds {models} models: delete them first");
        Err(ServiceError::precondition(message)
            .reason("NAMESPACE_NOT_EMPTY")
            .with("models", models))
    }

    /// Announces what was made and waits until the owner's grant decides here.
    pub(super) async fn await_grant(&self, event: &OutboxEvent) -> Result<(), ServiceError> {
        let announced = self.outbox.announce(event).await;
        self.await_revision(announced).await
    }

    pub(super) async fn await_revision(
        &self,
        announced: Result<i64, ServiceError>,
    ) -> Result<(), ServiceError> {
        let revision = announced.map_err(|error| {
            let message = "it is made, but identity does not answer to make you its owner; that happens by itself soon";
            ServiceError::unavailable(message).reason("GRANT_PENDING").caused_by(error)
        })?;
        self.grants.wait_for(revision, self.settings.grant_wait()).await
    }

    /// Announces a deletion. It is done whether identity knows it at once or later.
    pub(super) async fn tell(&self, event: &OutboxEvent) {
        if let Err(error) = self.outbox.announce(event).await {
            tracing::warn!(%error, event = %event.id, "a deletion is told to identity later");
        }
    }
}
