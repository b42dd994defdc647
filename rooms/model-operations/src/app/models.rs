//! Models.

use std::collections::BTreeMap;

use access::{Resource, Subject};
use caller::Caller;
use ids::ModelId;
use model_query::Expr;
use options_api::v1::Level;
use service_error::{Code, ServiceError};
use sql_store::now_micros;
use uuid::Uuid;

use super::Registry;
use crate::model::{
    Model, ModelPath, ModelVersion, Statistics, check_description, check_tags, model_name,
};
use crate::store::{ModelOrder, ModelPage, OutboxEvent};

const SERVICE: &str = "quarry.models.v1.ModelsService";

/// What a request to make a model says.
#[derive(Debug, Clone, Default)]
pub struct CreateModel {
    pub namespace: String,
    pub name: String,
    pub description: String,
    pub tags: BTreeMap<String, String>,
}

/// Which models a request asks for.
#[derive(Debug, Clone, Default)]
pub struct SearchModels {
    /// Empty: of all.
    pub namespace: String,
    pub filter: Option<Expr>,
    pub order: ModelOrder,
    pub descending: bool,
    pub deleted: bool,
    /// The key of the last one before: see [`model_key`].
    pub after: Option<(String, i64, Uuid)>,
    pub limit: u32,
}

/// The key by which a page of models is continued.
#[must_use]
pub fn model_key(model: &Model, order: ModelOrder) -> (String, i64, Uuid) {
    let number = match order {
        ModelOrder::Name => 0,
        ModelOrder::Created => model.created_at,
        ModelOrder::Updated => model.updated_at,
    };
    (model.path().to_string(), number, model.id.uuid())
}

impl Registry {
    /// Makes a model that the caller owns.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound` for the namespace, `AlreadyExists`;
    /// `Unavailable` with reason `GRANT_PENDING` when it is made but not yet
    /// accessible.
    pub async fn create_model(
        &self,
        caller: &Caller,
        asked: CreateModel,
    ) -> Result<Model, ServiceError> {
        model_name("name", &asked.name)?;
        check_description(&asked.description)?;
        check_tags(&asked.tags)?;
        let action = format!("{SERVICE}/CreateModel");
        let namespace = self.namespace_for(caller, Level::Write, &asked.namespace, &action).await?;
        let now = now_micros();
        let model = Model {
            id: ModelId::new(),
            namespace_id: namespace,
            namespace: asked.namespace,
            name: asked.name,
            description: asked.description,
            tags: asked.tags,
            aliases: Vec::new(),
            latest_version: 0,
            latest_by_stage: Vec::new(),
            version_count: 0,
            byte_count: 0,
            created_at: now,
            updated_at: now,
            created_by: caller.principal,
            deleted_at: None,
        };
        let event = self.store.create_model(&model).await?;
        self.await_grant(&event).await?;
        Ok(model)
    }

    /// The model of a name, made if there is none.
    ///
    /// # Errors
    /// As [`Self::create_model`].
    pub async fn model_or_new(
        &self,
        caller: &Caller,
        path: &ModelPath,
    ) -> Result<(), ServiceError> {
        let action = "quarry.models.v1.VersionsService/CreateVersion";
        match self.model_for(caller, Level::Write, path, action).await {
            Err(error) if error.code() == Code::NotFound => {}
            found => return found.map(drop),
        }
        let asked = CreateModel {
            namespace: path.namespace.clone(),
            name: path.name.clone(),
            ..CreateModel::default()
        };
        match self.create_model(caller, asked).await {
            // Somebody else was faster.
            Err(error) if error.code() == Code::AlreadyExists => Ok(()),
            made => made.map(drop),
        }
    }

    /// A model that the caller may read.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_model(
        &self,
        caller: &Caller,
        path: &ModelPath,
    ) -> Result<Model, ServiceError> {
        self.model_for(caller, Level::Read, path, "quarry.models.v1.ModelsService/GetModel").await
    }

    /// The same with the newest version of each stage, the newest first.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_model_with_latest(
        &self,
        caller: &Caller,
        path: &ModelPath,
    ) -> Result<(Model, Vec<ModelVersion>), ServiceError> {
        self.whole_model_for(caller, path, "quarry.models.v1.ModelsService/GetModel").await
    }

    /// Models that the caller may see and that pass a filter.
    ///
    /// # Errors
    /// The database's.
    pub async fn search_models(
        &self,
        caller: &Caller,
        asked: &SearchModels,
    ) -> Result<Vec<Model>, ServiceError> {
        let visible = self.visible_rows(caller).await?;
        let page = ModelPage {
            namespace: self.narrowed(&asked.namespace).await?,
            filter: asked.filter.as_ref(),
            order: asked.order,
            descending: asked.descending,
            deleted: asked.deleted,
            after: asked.after.clone(),
            limit: asked.limit,
        };
        self.store.search_models(&visible, &page).await
    }

    /// Changes a model's description or name; answers it as it is then.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `AlreadyExists` for the new name.
    pub async fn update_model(
        &self,
        caller: &Caller,
        path: &ModelPath,
        description: Option<&str>,
        name: Option<&str>,
    ) -> Result<Model, ServiceError> {
        if let Some(name) = name {
            model_name("new_name", name)?;
        }
        description.map_or(Ok(()), check_description)?;
        let action = format!("{SERVICE}/UpdateModel");
        let model = self.model_for(caller, Level::Write, path, &action).await?;
        self.store.update_model(&model, description, name, caller.principal).await?;
        self.model_by_id(model.id).await
    }

    async fn model_by_id(&self, id: ModelId) -> Result<Model, ServiceError> {
        let found = self.store.find_model_by_id(id).await?;
        found.ok_or_else(|| ServiceError::not_found("model", id))
    }

    /// Puts a model into the trash; answers its id.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn delete_model(
        &self,
        caller: &Caller,
        path: &ModelPath,
    ) -> Result<ModelId, ServiceError> {
        let action = format!("{SERVICE}/DeleteModel");
        let model = self.model_for(caller, Level::Admin, path, &action).await?;
        let told = self.store.delete_model(model.id, caller.principal).await?;
        self.tell(&told).await;
        Ok(model.id)
    }

    /// Announces what identity may also learn a moment later.
    pub(super) async fn tell(&self, event: &OutboxEvent) {
        if let Err(error) = self.outbox.announce(event).await {
            tracing::warn!(%error, event = %event.id, "a model is told to identity later");
        }
    }

    /// Takes a model out of the trash.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `AlreadyExists` if its name was taken.
    pub async fn restore_model(&self, caller: &Caller, id: ModelId) -> Result<Model, ServiceError> {
        let model = self.model_by_id(id).await?;
        let action = format!("{SERVICE}/RestoreModel");
        let subject = Subject { kind: "model", name: &id.to_string(), action: &action };
        let chain =
            [Resource::model(model.id.uuid()), Resource::namespace(model.namespace_id.uuid())];
        self.grants.require(caller, Level::Admin, &chain, false, subject).await?;
        if self.catalog.namespace_now(&model.namespace).await? != Some(model.namespace_id) {
            let message =
                format!("the namespace {} is gone, and the model with it", model.namespace);
            return Err(ServiceError::precondition(message).reason("NAMESPACE_GONE"));
        }
        let told = self.store.restore_model(&model, caller.principal).await?;
        self.tell(&told).await;
        self.model_by_id(id).await
    }

    /// Replaces the values of a model's tags.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound`, `PermissionDenied`.
    pub async fn set_model_tags(
        &self,
        caller: &Caller,
        path: &ModelPath,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), ServiceError> {
        check_tags(tags)?;
        let action = format!("{SERVICE}/SetModelTags");
        let model = self.model_for(caller, Level::Write, path, &action).await?;
        self.store.set_model_tags(model.id, tags, caller.principal).await
    }

    /// Removes a model's tag; answers whether it was there.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn delete_model_tag(
        &self,
        caller: &Caller,
        path: &ModelPath,
        key: &str,
    ) -> Result<bool, ServiceError> {
        let action = format!("{SERVICE}/DeleteModelTag");
        let model = self.model_for(caller, Level::Write, path, &action).await?;
        self.store.delete_model_tag(model.id, key, caller.principal).await
    }

    /// Counts and sizes over what the caller may see.
    ///
    /// # Errors
    /// The database's.
    pub async fn statistics(
        &self,
        caller: &Caller,
        namespace: &str,
    ) -> Result<Statistics, ServiceError> {
        let visible = self.visible_rows(caller).await?;
        let namespace = self.narrowed(namespace).await?;
        self.store.statistics(&visible, namespace).await
    }
}
