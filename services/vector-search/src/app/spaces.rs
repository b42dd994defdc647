//! Spaces.

use std::collections::BTreeSet;
use std::sync::Arc;

use ::access::Visible as Granted;
use ann::{Element, Metric};
use caller::Caller;
use options_api::v1::{Level, ResourceKind};
use service_error::ServiceError;
use uuid::Uuid;

use crate::app::App;
use crate::model::{Address, NewSpace, Space};
use crate::settings::PostgresIndex;
use crate::store::Visible;

/// What a request to make a space says.
#[derive(Debug, Clone)]
pub struct CreateSpace {
    /// Where.
    pub address: Address,
    /// Coordinates of a vector.
    pub dimension: i32,
    /// Nothing: cosine, or Hamming for bits.
    pub metric: Option<Metric>,
    /// Nothing: f32, or bits for their metrics.
    pub element: Option<Element>,
    /// Empty: the first embedding says.
    pub embedder: String,
}

impl App {
    /// Makes an empty space.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound` for the owner, `AlreadyExists`.
    pub async fn create_space(
        &self,
        caller: &Caller,
        asked: &CreateSpace,
    ) -> Result<Space, ServiceError> {
        let action = "quarry.vectors.v1.SpacesService/CreateSpace";
        let address = &asked.address;
        let owner = self
            .owner_for(caller, Level::Write, &address.namespace, &address.dataset, action)
            .await?;
        let new = NewSpace::new(
            &address.space,
            asked.dimension,
            asked.metric,
            asked.element,
            &asked.embedder,
        )?;
        self.demand_fitting_embedder(&new)?;
        let space = self.store.create_space(&owner, &new, caller.principal.uuid()).await?;
        if self.settings.postgres_index == PostgresIndex::Always {
            self.store.make_sql_index(&space).await?;
        }
        Ok(space)
    }

    /// Refuses a space that its embedder's vectors would not fit. A name that is not set up here
    /// is what the caller calls the maker of its own vectors.
    fn demand_fitting_embedder(&self, new: &NewSpace) -> Result<(), ServiceError> {
        let Ok((name, embedder)) = self.embedders.get(&new.embedder) else { return Ok(()) };
        if new.embedder.is_empty() {
            return Ok(());
        }
        if embedder.dimension() != new.vectors.dimension() as usize {
            let message = format!(
                "is {}; vectors of embedder {name} have {} coordinates",
                new.vectors.dimension(),
                embedder.dimension()
            );
            return Err(ServiceError::invalid("dimension", message).reason("EMBEDDER_MISMATCH"));
        }
        if embedder.is_of_bits() != (new.vectors.element() == Element::Bit) {
            let message = format!("embedder {name} makes vectors of another kind");
            return Err(ServiceError::invalid("element", message).reason("EMBEDDER_MISMATCH"));
        }
        Ok(())
    }

    /// A space that the caller may read, as its row is now.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_space(
        &self,
        caller: &Caller,
        address: &Address,
    ) -> Result<Space, ServiceError> {
        let action = "quarry.vectors.v1.SpacesService/GetSpace";
        let space = self.space_for(caller, Level::Read, address, action).await?;
        let found = self.store.space(space.id).await?;
        found.ok_or_else(|| ServiceError::not_found("space", address))
    }

    /// Up to `limit` spaces that the caller may see, after (namespace, dataset, name).
    ///
    /// # Errors
    /// `NotFound` for an owner that the caller may not read.
    pub async fn list_spaces(
        &self,
        caller: &Caller,
        (namespace, dataset): (&str, &str),
        after: (&str, &str, &str),
        limit: u32,
    ) -> Result<Vec<Space>, ServiceError> {
        let action = "quarry.vectors.v1.SpacesService/ListSpaces";
        if namespace.is_empty() && !dataset.is_empty() {
            return Err(ServiceError::invalid("namespace", "is empty beside a dataset"));
        }
        if !dataset.is_empty() {
            let owner = self.owner_for(caller, Level::Read, namespace, dataset, action).await?;
            // The dataset is there: the catalog has just said whose name it is.
            let within = (Some(owner.namespace), owner.dataset);
            return self.store.list_spaces(&Visible::All, within, after, limit).await;
        }
        let within = if namespace.is_empty() {
            None
        } else {
            let missing = || ServiceError::not_found("namespace", namespace);
            let found = self.catalog.namespace_of_name(namespace).await;
            Some(found.map_err(|_| missing())?.ok_or_else(missing)?)
        };
        let visible = self.visible(caller).await?;
        let found = loop {
            let found = self.store.list_spaces(&visible, (within, None), after, limit).await?;
            let owners: BTreeSet<_> = found.iter().map(owner_of).collect();
            if self.drop_spaces_of_gone(&Vec::from_iter(owners)).await?.0 == 0 {
                break found;
            }
        };
        if found.is_empty() && after.0.is_empty() && within.is_some() {
            // Nothing in it is visible: then neither may be the namespace.
            self.owner_for(caller, Level::Read, namespace, "", action).await?;
        }
        Ok(found)
    }

    async fn visible(&self, caller: &Caller) -> Result<Visible, ServiceError> {
        let Granted::Ids(namespaces) = self.grants.visible(caller, ResourceKind::Namespace).await?
        else {
            return Ok(Visible::All);
        };
        let Granted::Ids(datasets) = self.grants.visible(caller, ResourceKind::Dataset).await?
        else {
            return Ok(Visible::All);
        };
        Ok(Visible::Only { namespaces, datasets })
    }

    /// Deletes a space; its name is free at once.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn delete_space(
        &self,
        caller: &Caller,
        address: &Address,
    ) -> Result<(), ServiceError> {
        let action = "quarry.vectors.v1.SpacesService/DeleteSpace";
        let space: Arc<Space> = self.space_for(caller, Level::Admin, address, action).await?;
        let deleted = self.store.delete_space(space.id).await;
        self.spaces_deleted();
        self.known.invalidate(address).await;
        if !deleted? {
            return Err(ServiceError::not_found("space", address));
        }
        self.forget_index(space.id).await;
        Ok(())
    }
}

/// Its namespace, its dataset or nil, and its namespace's name.
fn owner_of(space: &Space) -> (Uuid, Uuid, String) {
    let owner = &space.owner;
    (owner.namespace, owner.dataset.unwrap_or_default(), owner.namespace_name.clone())
}
