//! Making vectors of a dataset's texts, as a durable job.

use std::sync::Arc;

use ann::{Element, Metric};
use caller::Caller;
use embedder::Embedder;
use futures::TryStreamExt;
use jobs::{JobResult, NewJob, Owner, Work};
use options_api::v1::Level;
use service_error::{Code, ServiceError};
use uuid::Uuid;
use vector_rows::{Columns, Row, TextRow};

use crate::app::load::{Arguments, Loaded, source_of};
use crate::app::{App, CreateSpace};
use crate::model::{Address, Space};

/// The kind of the job.
pub const EMBED: &str = "embed";
const EMBED_ACTION: &str = "quarry.vectors.v1.LoadingService/EmbedDataset";
/// Texts between two checkpoints.
const TEXTS: usize = 256;

/// What a request to embed says.
#[derive(Debug, Clone, Default)]
pub struct EmbedDataset {
    /// Where the texts are; empty: the space's own dataset.
    pub source_namespace: String,
    /// Beside it.
    pub source_dataset: String,
    /// Empty: the newest.
    pub version: String,
    /// Empty: the dataset's key.
    pub id_column: String,
    /// Texts.
    pub text_column: String,
    /// Empty: all that can be.
    pub payload_columns: Vec<String>,
    /// Empty: the space's, or the only one.
    pub embedder: String,
}

impl App {
    /// Queues an embedding; the job's id. A space that is not there is made.
    ///
    /// # Errors
    /// `FailedPrecondition` for an embedder that is not set up or not the space's;
    /// `InvalidArgument` for columns; `NotFound`; `PermissionDenied`.
    pub async fn embed_dataset(
        &self,
        caller: &Caller,
        address: &Address,
        asked: EmbedDataset,
    ) -> Result<Uuid, ServiceError> {
        let (namespace, dataset) =
            source_of(address, asked.source_namespace, asked.source_dataset)?;
        self.owner_for(caller, Level::Read, &namespace, &dataset, EMBED_ACTION).await?;
        let described = self.catalog.described(&namespace, &dataset, &asked.version).await?;
        let id_column = if asked.id_column.is_empty() { described.key } else { asked.id_column };
        if id_column.is_empty() {
            return Err(ServiceError::invalid("id_column", "is empty, and the dataset has no key"));
        }
        Columns::of_texts(
            &described.schema,
            &id_column,
            &asked.text_column,
            &asked.payload_columns,
        )
        .map_err(|error| ServiceError::invalid("text_column", error))?;
        let space = self.space_to_embed(caller, address, &asked.embedder).await?;
        let arguments = Arguments {
            space: space.id,
            space_name: address.to_string(),
            namespace,
            dataset,
            version: described.version,
            id_column,
            vector_column: asked.text_column,
            payload_columns: asked.payload_columns,
            embedder: space.embedder.clone(),
        };
        let new = NewJob::new(EMBED, Owner::of(caller))
            .title(format!("texts of {} into {address}", arguments.source()))
            .key(format!("load:{}", space.id))
            .arguments(&arguments)?;
        Ok(self.jobs.submit(new).await?.id)
    }

    /// The space, made with the embedder's dimension if it is not there.
    async fn space_to_embed(
        &self,
        caller: &Caller,
        address: &Address,
        asked: &str,
    ) -> Result<Arc<Space>, ServiceError> {
        let space = match self.space_for(caller, Level::Write, address, EMBED_ACTION).await {
            Err(error) if error.code() == Code::NotFound => {
                let (name, embedder) = self.embedders.get(asked)?;
                let made = CreateSpace {
                    address: address.clone(),
                    dimension: i32::try_from(embedder.dimension()).unwrap_or(i32::MAX),
                    metric: (!embedder.is_of_bits()).then_some(Metric::Cosine),
                    element: embedder.is_of_bits().then_some(Element::Bit),
                    embedder: name.to_owned(),
                };
                Arc::new(self.create_space(caller, &made).await?)
            }
            found => found?,
        };
        let wanted = if space.embedder.is_empty() { asked } else { &space.embedder };
        let (name, embedder) = self.embedders.get(wanted)?;
        if !asked.is_empty() && asked != name {
            let message = format!(
                "space {} holds vectors of {name}; those of {asked} are not comparable",
                space.name
            );
            return Err(ServiceError::precondition(message).reason("EMBEDDER_MISMATCH"));
        }
        if embedder.dimension() != space.vectors.dimension() as usize {
            let message = format!(
                "embedder {name} makes {} coordinates; space {} has {}",
                embedder.dimension(),
                space.name,
                space.vectors.dimension()
            );
            return Err(ServiceError::precondition(message).reason("EMBEDDER_MISMATCH"));
        }
        Ok(Arc::new(Space { embedder: name.to_owned(), ..Space::clone(&space) }))
    }

    /// Does an embedding, from where it was.
    ///
    /// # Errors
    /// A stop; the neighbours', the embedder's and the store's.
    pub async fn run_embed(&self, work: Work) -> JobResult {
        let arguments: Arguments = work.arguments()?;
        let mut loaded: Loaded = work.checkpoint()?.unwrap_or_default();
        let space = self.job_space(&arguments).await?;
        let (_, embedder) = self.embedders.get(&arguments.embedder)?;
        let version = arguments.version.to_string();
        let described =
            self.catalog.described(&arguments.namespace, &arguments.dataset, &version).await?;
        let columns = Columns::of_texts(
            &described.schema,
            &arguments.id_column,
            &arguments.vector_column,
            &arguments.payload_columns,
        )
        .map_err(|error| ServiceError::invalid("text_column", error))?;
        let source =
            self.items.find(&arguments.source(), arguments.version, &columns.names()).await?;
        work.phase("embedding", "rows");
        work.progress(loaded.rows, source.rows);
        let mut at = 0_i64;
        for ticket in source.tickets {
            let mut batches = Box::pin(self.items.rows(ticket).await?);
            while let Some(batch) = batches.try_next().await? {
                let rest = loaded.rest(&batch, at);
                at += i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
                let Some(rest) = rest else { continue };
                let rows = columns
                    .text_rows(&rest)
                    .map_err(|error| ServiceError::data_loss(error.to_string()))?;
                for some in rows.chunks(TEXTS) {
                    let points = self.embed_rows(embedder, some.to_vec()).await?;
                    let failed =
                        self.write_rows(&space, &arguments.embedder, points, &work).await?;
                    loaded.failed += failed;
                    loaded.rows += i64::try_from(some.len()).unwrap_or(i64::MAX);
                    work.progress(loaded.rows, source.rows);
                    work.step(&loaded).await?;
                }
            }
        }
        work.phase("indexing", "points");
        self.index_loaded(&space).await?;
        Ok(loaded.result())
    }

    async fn embed_rows(
        &self,
        embedder: &Embedder,
        rows: Vec<TextRow>,
    ) -> Result<Vec<Row>, ServiceError> {
        let texts = rows.iter().filter_map(|row| row.text.clone()).collect();
        let mut made = embedder.texts(texts).await?.into_iter();
        let row = |row: TextRow| {
            let vector = match (&row.text, row.text.is_some().then(|| made.next()).flatten()) {
                (Some(_), Some(embedder::Embedding::Floats(values))) => Ok(values),
                (Some(_), _) => Err("has no vector".to_owned()),
                (None, _) => Err("has no text".to_owned()),
            };
            Row { item_id: row.item_id, vector, payload: row.payload }
        };
        Ok(rows.into_iter().map(row).collect())
    }
}
