//! A namespace's images: records, linked to items.

use caller::Caller;
use options_api::v1::Level;
use service_error::ServiceError;
use sql_store::now_micros;
use uuid::Uuid;

use crate::app::App;
use crate::model::Image;

const ADD_ACTION: &str = "quarry.vectors.v1.ImagesService/AddImage";

impl App {
    /// Adds an image; whoever adds it must be able to read the dataset that it is linked to.
    ///
    /// # Errors
    /// `InvalidArgument`, `AlreadyExists`; `NotFound` for the namespace or the dataset.
    pub async fn add_image(
        &self,
        caller: &Caller,
        namespace: &str,
        mut new: Image,
    ) -> Result<Image, ServiceError> {
        let owner = self.log_of(caller, Level::Write, namespace).await?;
        new.check()?;
        if let Some((of, dataset)) = new.source(namespace) {
            self.owner_for(caller, Level::Read, of, dataset, ADD_ACTION).await?;
        }
        new.id = Uuid::now_v7();
        new.created_at = now_micros();
        self.store.add_image(&owner, &new).await?;
        Ok(new)
    }

    /// An image.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_image(
        &self,
        caller: &Caller,
        namespace: &str,
        id: Uuid,
    ) -> Result<Image, ServiceError> {
        let owner = self.log_of(caller, Level::Read, namespace).await?;
        let found = self.store.image(owner.namespace, id).await?;
        found.ok_or_else(|| ServiceError::not_found("image", id))
    }

    /// Up to `limit` images after a path.
    ///
    /// # Errors
    /// `NotFound` for the namespace.
    pub async fn list_images(
        &self,
        caller: &Caller,
        namespace: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Image>, ServiceError> {
        let owner = self.log_of(caller, Level::Read, namespace).await?;
        self.store.images(owner.namespace, after, limit).await
    }

    /// Deletes an image's record; its item stays.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_image(
        &self,
        caller: &Caller,
        namespace: &str,
        id: Uuid,
    ) -> Result<(), ServiceError> {
        let owner = self.log_of(caller, Level::Write, namespace).await?;
        if !self.store.delete_image(owner.namespace, id).await? {
            return Err(ServiceError::not_found("image", id));
        }
        Ok(())
    }
}
