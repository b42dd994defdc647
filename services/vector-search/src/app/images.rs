//! A namespace's images: records, linked to items.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use caller::Caller;
use embedder::{Embedder, image_facts};
use options_api::v1::Level;
use service_error::ServiceError;
use sql_store::now_micros;
use uuid::Uuid;

use crate::app::points::checked;
use crate::app::{App, Upsert};
use crate::model::{Address, Image, OwnedVector, Space};
use crate::store::ImagePoint;

const ADD_ACTION: &str = "quarry.vectors.v1.ImagesService/AddImage";
/// The most spaces that an image is embedded into at once.
const SPACES_MAX: usize = 16;

/// An image as a request brings it.
#[derive(Debug, Clone)]
pub struct AddImage {
    /// What is said of it.
    pub image: Image,
    /// Its file; empty: only the record.
    pub content: Vec<u8>,
    /// `space` or `dataset/space` of the namespace.
    pub spaces: Vec<String>,
}

/// A point that came with an image.
#[derive(Debug, Clone)]
pub struct AddedPoint {
    /// As asked for.
    pub space: String,
    /// `image` or `text`.
    pub embedded: &'static str,
    /// Its change.
    pub seq: i64,
}

impl App {
    /// Adds an image and embeds it into spaces; whoever adds it must be able to read the dataset
    /// that it is linked to.
    ///
    /// # Errors
    /// `InvalidArgument`, `AlreadyExists`; `NotFound` for the namespace, the dataset or a space;
    /// the embedders'.
    pub async fn add_image(
        &self,
        caller: &Caller,
        namespace: &str,
        asked: AddImage,
    ) -> Result<(Image, Vec<AddedPoint>), ServiceError> {
        let owner = self.log_of(caller, Level::Write, namespace).await?;
        let AddImage { image: mut new, content, spaces } = asked;
        if !content.is_empty() {
            let facts = image_facts(&content)?;
            new.told_by_file((facts.width, facts.height), content.len(), &facts.format)?;
        }
        new.check()?;
        if let Some((of, dataset)) = new.source(namespace) {
            self.owner_for(caller, Level::Read, of, dataset, ADD_ACTION).await?;
        }
        new.id = Uuid::now_v7();
        new.created_at = now_micros();
        let to = self.image_spaces(caller, namespace, &spaces).await?;
        let mut points = Vec::with_capacity(to.len());
        let mut added = Vec::with_capacity(to.len());
        for (name, space) in spaces.into_iter().zip(to) {
            let (point, embedded) = self.image_point(&space, &new, &content).await?;
            points.push(point);
            added.push(AddedPoint { space: name, embedded, seq: 0 });
        }
        let tokens = self.store.add_image(&owner, &new, &points).await?;
        for ((point, added), seq) in points.iter().zip(&mut added).zip(tokens) {
            added.seq = seq;
            self.applied(&point.space, seq).await;
        }
        Ok((new, added))
    }

    /// The spaces that an image goes to, each once, if the caller may write to all.
    async fn image_spaces(
        &self,
        caller: &Caller,
        namespace: &str,
        names: &[String],
    ) -> Result<Vec<Arc<Space>>, ServiceError> {
        if names.len() > SPACES_MAX {
            let message = format!("{} spaces; at most {SPACES_MAX}", names.len());
            return Err(ServiceError::invalid("spaces", message));
        }
        let mut seen = BTreeSet::new();
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let (dataset, space) = name.split_once('/').unwrap_or(("", name));
            let address = Address::new(namespace, dataset, space)?;
            let space = self.space_for(caller, Level::Write, &address, ADD_ACTION).await?;
            if !seen.insert(space.id) {
                return Err(ServiceError::invalid("spaces", format!("{name:?} is there twice")));
            }
            found.push(space);
        }
        Ok(found)
    }

    /// The image's point in a space: of its file where the space's embedder takes images, else of
    /// its description. And which of the two.
    async fn image_point(
        &self,
        space: &Arc<Space>,
        image: &Image,
        content: &[u8],
    ) -> Result<(ImagePoint, &'static str), ServiceError> {
        let (name, embedder) = self.embedders.get(&space.embedder)?;
        let (made, embedded) = self.image_vector(space, embedder, image, content).await?;
        let (values, bits) = match made {
            OwnedVector::Floats(values) => (values, Vec::new()),
            OwnedVector::Bits(bits) => (Vec::new(), bits),
        };
        let item_id = image.id.to_string();
        let point = Upsert { item_id, values, bits, payload: image.payload(embedded)? };
        let mut columns = BTreeMap::new();
        let point = checked(space, 0, &point, &mut columns)?;
        let embedder = name.to_owned();
        Ok((ImagePoint { space: Arc::clone(space), point, columns, embedder }, embedded))
    }

    async fn image_vector(
        &self,
        space: &Space,
        embedder: &Embedder,
        image: &Image,
        content: &[u8],
    ) -> Result<(OwnedVector, &'static str), ServiceError> {
        if embedder.takes_images() && !content.is_empty() {
            let made = embedder.image(content.to_vec()).await?;
            return Ok((self.embedded(space, made)?, "image"));
        }
        if !embedder.takes_texts() {
            let message = format!("is empty, and space {} is of images themselves", space.name);
            return Err(ServiceError::invalid("content", message));
        }
        if image.description.is_empty() {
            let message = format!("is empty, and space {} is of texts", space.name);
            return Err(ServiceError::invalid("image.description", message));
        }
        let made = embedder.texts(vec![image.description.clone()]).await?.pop();
        let made = made.ok_or_else(|| ServiceError::internal("no vector of the text"))?;
        Ok((self.embedded(space, made)?, "text"))
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

    /// Deletes an image's record and its points; its item stays.
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
        let lost = self.store.delete_image(owner.namespace, id).await?;
        for (space, seq) in lost.ok_or_else(|| ServiceError::not_found("image", id))? {
            self.applied(&space, seq).await;
        }
        Ok(())
    }
}
