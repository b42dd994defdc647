//! The log of a retrieval-augmented generator, of a namespace.

use caller::Caller;
use options_api::v1::Level;
use payload_index::{ColumnType, Kind, Value};
use service_error::ServiceError;
use sql_store::now_micros;
use uuid::Uuid;

use crate::app::App;
use crate::model::{
    Address, Ask, CachedModel, Ending, Example, Generation, Owner, Question, RUNNING,
    RagStatistics, SearchResult, Space, assemble, no_nul,
};

const SERVICE: &str = "quarry.vectors.v1.GenerationsService";
/// The longest name of a cached model, its type or its path, in bytes.
const NAME_BYTES_MAX: usize = 4_096;

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
    /// The namespace that a log is of.
    pub(super) async fn log_of(
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
        new.finished_at = (new.status != RUNNING).then_some(new.created_at);
        self.store.log_generation(&owner, &new).await?;
        Ok(new)
    }

    /// Ends a running generation.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound`; `FailedPrecondition` for one that has ended.
    pub async fn finish_generation(
        &self,
        caller: &Caller,
        namespace: &str,
        (id, ending): (Uuid, Ending),
    ) -> Result<Generation, ServiceError> {
        let owner = self.log_of(caller, Level::Write, namespace).await?;
        ending.check()?;
        let was_running = self.store.finish_generation(owner.namespace, id, &ending).await?;
        let found = self.store.generation(owner.namespace, id).await?;
        let found = found.ok_or_else(|| ServiceError::not_found("generation", id))?;
        if !was_running {
            let message = format!("generation {id} has ended; log another one");
            return Err(ServiceError::precondition(message).reason("GENERATION_ENDED"));
        }
        Ok(found)
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

    /// Counts a use of a cached model; its record then.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound`.
    pub async fn touch_model(
        &self,
        caller: &Caller,
        namespace: &str,
        model: CachedModel,
    ) -> Result<CachedModel, ServiceError> {
        let owner = self.log_of(caller, Level::Write, namespace).await?;
        if model.model_name.is_empty() {
            return Err(ServiceError::invalid("model_name", "is empty"));
        }
        for (field, text) in [
            ("model_name", &model.model_name),
            ("model_type", &model.model_type),
            ("cache_path", &model.cache_path),
        ] {
            if text.len() > NAME_BYTES_MAX {
                let message = format!("is longer than {NAME_BYTES_MAX} bytes");
                return Err(ServiceError::invalid(field, message));
            }
            no_nul(field, text)?;
        }
        if model.size_bytes < 0 {
            return Err(ServiceError::invalid("size_bytes", "is negative"));
        }
        self.store.touch_model(&owner, &model).await
    }

    /// Up to `limit` cached models, the last used first, after (used, type, name).
    ///
    /// # Errors
    /// `NotFound` for the namespace.
    pub async fn cached_models(
        &self,
        caller: &Caller,
        namespace: &str,
        after: Option<&(i64, String, String)>,
        limit: u32,
    ) -> Result<Vec<CachedModel>, ServiceError> {
        let owner = self.log_of(caller, Level::Read, namespace).await?;
        self.store.cached_models(owner.namespace, after, limit).await
    }

    /// Forgets a cached model's record.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn forget_model(
        &self,
        caller: &Caller,
        namespace: &str,
        (kind, name): (&str, &str),
    ) -> Result<(), ServiceError> {
        let owner = self.log_of(caller, Level::Write, namespace).await?;
        no_nul("model_type", kind)?;
        no_nul("model_name", name)?;
        if !self.store.forget_model(owner.namespace, (kind, name)).await? {
            return Err(ServiceError::not_found("cached model", format!("{kind}/{name}")));
        }
        Ok(())
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
        // A deleted dataset's spaces are not counted until they are swept.
        self.cascade_in(owner.namespace).await?;
        self.store.rag_statistics(owner.namespace, after).await
    }

    /// Retrieves examples and puts them into the template with the prompt.
    ///
    /// # Errors
    /// As [`Self::search`]'s; a template without `{prompt}`; a `text_column` of no texts.
    pub async fn assemble(
        &self,
        caller: &Caller,
        address: &Address,
        question: impl FnOnce(&Space) -> Result<Question, ServiceError>,
        (asked, mut ask): (Assemble, Ask),
    ) -> Result<(String, Vec<Example>), ServiceError> {
        if asked.text_column.is_empty() {
            let message = "is empty: name the payload column that an example's text is";
            return Err(ServiceError::invalid("text_column", message));
        }
        ask.with_payload = true;
        let (space, result) = self.search(caller, address, question, ask).await?;
        self.demand_text_column(&space, &asked.text_column, &result).await?;
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

    /// Refuses a column that no example's text can be of.
    async fn demand_text_column(
        &self,
        space: &Space,
        name: &str,
        result: &SearchResult,
    ) -> Result<(), ServiceError> {
        let columns = self.store.payload_columns(space.id).await?;
        let message = match columns.get(name) {
            Some(ColumnType { kind: Kind::Text, list: false }) => return Ok(()),
            // An empty space has no columns yet, and no examples.
            None if columns.is_empty() && result.found.is_empty() => return Ok(()),
            Some(other) => format!("{name:?} is {}, not text", other.data_type()),
            None => {
                let names: Vec<&str> = columns.keys().map(String::as_str).collect();
                format!("no column {name:?}; there are {}", names.join(", "))
            }
        };
        Err(ServiceError::invalid("text_column", message))
    }
}
