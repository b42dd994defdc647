//! Datasets.

use std::collections::BTreeMap;

use access::Subject;
use caller::Caller;
use ids::DatasetId;
use item_schema::Profile;
use options_api::v1::Level;
use service_error::ServiceError;

use crate::app::Catalog;
use crate::app::lookup::namespace_chain;
use crate::model::dataset::{check_description, check_properties};
use crate::model::schema::{Shape, check_unique};
use crate::model::{Dataset, DatasetRef, Name, NewDataset};
use crate::store::Place;

const LIST: &str = "quarry.catalog.v1.DatasetsService/ListDatasets";

/// What a request to make a dataset says.
#[derive(Debug, Clone, Default)]
pub struct CreateDataset {
    pub namespace: String,
    pub name: String,
    pub description: String,
    pub profile: Option<Profile>,
    pub schema_ipc: Vec<u8>,
    pub key_column: String,
    pub unique_columns: Vec<String>,
    pub public: bool,
    pub properties: BTreeMap<String, String>,
}

impl Catalog {
    /// Makes an empty dataset that the caller owns.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound` for the namespace, `AlreadyExists`;
    /// `Unavailable` with reason `GRANT_PENDING` when it is made but not yet
    /// accessible.
    pub async fn create_dataset(
        &self,
        caller: &Caller,
        asked: CreateDataset,
    ) -> Result<Dataset, ServiceError> {
        let namespace = Name::parse("namespace", &asked.namespace)?;
        let name = Name::parse("name", &asked.name)?;
        check_description(&asked.description)?;
        check_properties(&asked.properties)?;
        let shape = Shape::of(asked.profile, &asked.schema_ipc, &asked.key_column)?;
        check_unique(&shape.schema_ipc, shape.key_column.as_deref(), &asked.unique_columns)?;
        let action = "quarry.catalog.v1.DatasetsService/CreateDataset";
        let within = self.namespace_for(caller, Level::Write, &namespace, action).await?;
        let new = NewDataset {
            name,
            description: asked.description,
            profile: shape.profile,
            schema_ipc: shape.schema_ipc,
            key_column: shape.key_column,
            unique_columns: asked.unique_columns,
            public: asked.public,
            properties: asked.properties,
        };
        let id = DatasetId::new();
        let place = Place { namespace: within.id, namespace_name: namespace.as_str(), dataset: id };
        let event = self.store.create_dataset(place, &new, caller.principal).await?;
        self.await_grant(&event).await?;
        let made = self.store.find_dataset_by_id(id).await?;
        made.map(|head| head.dataset).ok_or_else(|| ServiceError::not_found("dataset", id))
    }

    /// A dataset that the caller may read.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_dataset(
        &self,
        caller: &Caller,
        namespace: &str,
        name: &str,
    ) -> Result<Dataset, ServiceError> {
        let reference = DatasetRef::named(namespace, ("name", name))?;
        let action = "quarry.catalog.v1.DatasetsService/GetDataset";
        Ok(self.dataset_for(caller, Level::Read, &reference, action).await?.dataset)
    }

    /// Up to `limit` datasets that the caller may see, after a (namespace,
    /// name), without schemas; of one namespace or of all.
    ///
    /// # Errors
    /// `NotFound` for a namespace in which the caller sees nothing.
    pub async fn list_datasets(
        &self,
        caller: &Caller,
        namespace: Option<&Name>,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<Dataset>, ServiceError> {
        let visible = self.visible_rows(caller).await?;
        let Some(name) = namespace else {
            return self.store.list_datasets(&visible, None, after, limit).await;
        };
        let Some(within) = self.store.find_namespace(name.as_str()).await? else {
            return Err(ServiceError::not_found("namespace", name));
        };
        let found = self.store.list_datasets(&visible, Some(within.id), after, limit).await?;
        if found.is_empty() && after.is_none() {
            // Nothing in it is visible: then neither may be the namespace.
            let subject = Subject { kind: "namespace", name: name.as_str(), action: LIST };
            self.grants
                .require(caller, Level::Read, &namespace_chain(within.id), false, subject)
                .await?;
        }
        Ok(found)
    }

    /// Deletes a dataset; its name is free at once.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn delete_dataset(
        &self,
        caller: &Caller,
        namespace: &str,
        name: &str,
    ) -> Result<(), ServiceError> {
        let reference = DatasetRef::named(namespace, ("name", name))?;
        let action = "quarry.catalog.v1.DatasetsService/DeleteDataset";
        let dataset = self.dataset_for(caller, Level::Owner, &reference, action).await?.dataset;
        let event = self.store.delete_dataset(dataset.id, dataset.namespace_id).await?;
        self.tell(&event).await;
        Ok(())
    }
}
