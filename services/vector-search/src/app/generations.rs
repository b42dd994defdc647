//! The log of a retrieval-augmented generator, of a namespace.

use std::sync::Arc;

use caller::Caller;
use options_api::v1::Level;
use payload_index::Value;
use service_error::ServiceError;
use sql_store::now_micros;
use uuid::Uuid;

use crate::app::App;
use crate::model::{
    Address, Ask, CachedModel, Example, Generation, Image, Owner, Question, RagStatistics, Space,
    assemble,
};

const SERVICE: &str = "quarry.vectors.v1.GenerationsService";

/// What a context is made of.
#[derive(Debug, Clone)]
pub struct Assemble {
    /// What is to be generated.
    pub prompt: String,
    /// The payload column that an example's text is.
    pub text_column: String,
    /// Empty: a plain one.
    pub template: String,
    /// Empty: a plain one.
    pub example_template: String,
}

impl App {
    async fn log_of(
        &self,
        caller: &Caller,
        need: Level,
        namespace: &str,
    ) -> Result<Owner, ServiceError> {
        self.owner_for(caller, need, namespace, "", SERVICE).await
    }

    /// Logs a generation; what was logged, with its id and time.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound`, `PermissionDenied`.
    pub async fn log_generation(
        &self,
        caller: &Caller,
        namespace: &str,
        mut new: Generation,
    ) -> Result<Generation, ServiceError> {
        let owner = self.log_of(caller, Level::Write, namespace).await?;
        new.check()?;
        new.id = Uuid::now_v7();
        new.created_at = now_micros();
        new.created_by = caller.principal.uuid();
        self.store.log_generation(owner.namespace, &new).await?;
        Ok(new)
    }

    /// A generation with its examples.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_generation(
        &self,
        caller: &Caller,
        namespace: &str,
        id: Uuid,
    ) -> Result<Generation, ServiceError> {
        let owner = self.log_of(caller, Level::Read, namespace).await?;
        let found = self.store.generation(owner.namespace, id).await?;
        found.ok_or_else(|| ServiceError::not_found("generation", id))
    }

    /// Up to `limit` generations before an id, newest first.
    ///
    /// # Errors
    /// `NotFound` for the namespace.
    pub async fn list_generations(
        &self,
        caller: &Caller,
        namespace: &str,
        (status, before): (i16, Option<Uuid>),
        limit: u32,
    ) -> Result<Vec<Generation>, ServiceError> {
        let owner = self.log_of(caller, Level::Read, namespace).await?;
        self.store.generations(owner.namespace, status, before, limit).await
    }

    /// Adds an image.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound`, `AlreadyExists`.
    pub async fn add_image(
        &self,
        caller: &Caller,
        namespace: &str,
        mut new: Image,
    ) -> Result<Image, ServiceError> {
        let owner = self.log_of(caller, Level::Write, namespace).await?;
        new.check()?;
        new.id = Uuid::now_v7();
        new.created_at = now_micros();
        self.store.add_image(owner.namespace, &new).await?;
        Ok(new)
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

    /// Counts a use of a cached model; how many there were, and when.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound`.
    pub async fn touch_model(
        &self,
        caller: &Caller,
        namespace: &str,
        model: CachedModel,
    ) -> Result<(i64, i64), ServiceError> {
        let owner = self.log_of(caller, Level::Write, namespace).await?;
        if model.model_name.is_empty() || model.size_bytes < 0 {
            let message = "is empty, or size_bytes is negative";
            return Err(ServiceError::invalid("model_name", message));
        }
        self.store.touch_model(owner.namespace, &model).await
    }

    /// Exact counts.
    ///
    /// # Errors
    /// `NotFound` for the namespace.
    pub async fn rag_statistics(
        &self,
        caller: &Caller,
        namespace: &str,
        recent_hours: i64,
    ) -> Result<RagStatistics, ServiceError> {
        let owner = self.log_of(caller, Level::Read, namespace).await?;
        let after = now_micros() - recent_hours.saturating_mul(3_600_000_000);
        self.store.rag_statistics(owner.namespace, after).await
    }

    /// Retrieves examples and puts them into the template with the prompt.
    ///
    /// # Errors
    /// As [`Self::search`]'s; a template without `{prompt}`.
    pub async fn assemble(
        &self,
        caller: &Caller,
        address: &Address,
        question: impl FnOnce(&Space) -> Result<Question, ServiceError>,
        (asked, mut ask): (Assemble, Ask),
    ) -> Result<(String, Vec<Example>), ServiceError> {
        ask.with_payload = true;
        let (_, result): (Arc<Space>, _) = self.search(caller, address, question, ask).await?;
        let text_of = |payload: &[(String, Value)]| {
            let found = payload.iter().find(|(name, _)| *name == asked.text_column);
            match found {
                Some((_, Value::Text(text))) => text.clone(),
                _ => String::new(),
            }
        };
        let examples: Vec<Example> = result
            .found
            .iter()
            .map(|hit| Example {
                space: address.to_string(),
                item_id: hit.item_id.clone(),
                score: hit.score,
                text: text_of(&hit.payload),
            })
            .collect();
        let made = assemble(&asked.template, &asked.example_template, &asked.prompt, &examples)?;
        Ok((made, examples))
    }
}
