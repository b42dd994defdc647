//! Making vectors of a dataset's texts, as a durable job.

use std::collections::HashMap;
use std::sync::Arc;

use ann::{Element, Metric};
use caller::Caller;
use embedder::Embedder;
use jobs::{JobResult, Work};
use options_api::v1::Level;
use payload_index::Value;
use service_error::{Code, ServiceError};
use vector_rows::{Columns, Row, TextRow};

use crate::app::load::{Arguments, Filling, Loaded, source_of, version_of};
use crate::app::{App, CreateSpace};
use crate::model::{Address, OwnedVector, Space};

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
    /// Empty: the dataset as it is.
    pub version: String,
    /// Empty: the dataset's key.
    pub id_column: String,
    /// Texts.
    pub text_column: String,
    /// Empty: all that can be.
    pub payload_columns: Vec<String>,
    /// Empty: the space's, or the only one.
    pub embedder: String,
    /// Points of items that the dataset does not have go.
    pub delete_missing: bool,
}

impl App {
    /// Queues an embedding. A space that is not there is made; an unfinished job of the same
    /// arguments is answered as it is.
    ///
    /// # Errors
    /// `FailedPrecondition` for an embedder that is not set up or not the space's, and while
    /// another job fills the space; `InvalidArgument` for columns and an embedder of images;
    /// `NotFound`; `PermissionDenied`.
    pub async fn embed_dataset(
        &self,
        caller: &Caller,
        address: &Address,
        asked: EmbedDataset,
    ) -> Result<Filling, ServiceError> {
        let (namespace, dataset) =
            source_of(address, asked.source_namespace, asked.source_dataset)?;
        self.owner_for(caller, Level::Read, &namespace, &dataset, EMBED_ACTION).await?;
        let described = self.catalog.described(&namespace, &dataset, &asked.version).await?;
        let id_column = if asked.id_column.is_empty() { described.key } else { asked.id_column };
        if id_column.is_empty() {
            return Err(ServiceError::invalid("id_column", "is empty, and the dataset has no key"));
        }
        let (text, payload) = (&asked.text_column, &asked.payload_columns);
        let (columns, left_out) = Columns::of_texts(&described.schema, &id_column, text, payload)
            .map_err(|error| {
            let is_of_ids = matches!(error, vector_rows::RowsError::NoIds(..));
            ServiceError::invalid(if is_of_ids { "id_column" } else { "text_column" }, error)
        })?;
        let space = self.space_to_embed(caller, address, &asked.embedder).await?;
        let arguments = Arguments {
            space: space.id,
            space_name: address.to_string(),
            namespace,
            dataset,
            version: version_of(&asked.version, described.version),
            id_column,
            vector_column: asked.text_column,
            payload_columns: columns.payload(),
            embedder: space.embedder.clone(),
            delete_missing: asked.delete_missing,
        };
        let title = format!("texts of {} into {address}", arguments.source());
        let job = self.submit_filling(EMBED, caller, title, &arguments).await?;
        Ok(Filling { job, left_out })
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
                demand_texts(name, embedder)?;
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
        demand_texts(name, embedder)?;
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
        work.phase("embedding", "rows");
        let mut rows = self.pinned(&work, &arguments, &mut loaded).await?;
        while let Some(batch) = self.next_rows(&work, &arguments, &mut rows, &mut loaded).await? {
            let (columns, _) = Columns::of_texts(
                batch.schema_ref(),
                &arguments.id_column,
                &arguments.vector_column,
                &arguments.payload_columns,
            )
            .map_err(|error| ServiceError::invalid("text_column", error))?;
            let rows = columns
                .text_rows(&batch)
                .map_err(|error| ServiceError::data_loss(error.to_string()))?;
            for some in rows.chunks(TEXTS) {
                // What this job embedded before it had to begin again.
                let known = match loaded.moments {
                    0 | 1 => HashMap::new(),
                    _ => self.embedded_texts(&space, &arguments.vector_column, some).await?,
                };
                let points = self.embed_rows(embedder, some.to_vec(), &known).await?;
                let to = (&work, &mut loaded);
                self.write_rows(&space, &arguments.embedder, points, to).await?;
                loaded.rows += i64::try_from(some.len()).unwrap_or(i64::MAX);
                work.progress(loaded.rows, loaded.total());
                work.step(&loaded).await?;
            }
        }
        self.filled(&work, &space, &arguments, &mut loaded).await
    }

    /// The vectors of rows whose points are of the same texts, by item.
    async fn embedded_texts(
        &self,
        space: &Space,
        column: &str,
        rows: &[TextRow],
    ) -> Result<HashMap<String, Vec<f32>>, ServiceError> {
        let items: Vec<String> = rows.iter().map(|row| row.item_id.clone()).collect();
        let texts: HashMap<&str, &str> = rows
            .iter()
            .filter_map(|row| Some((row.item_id.as_str(), row.text.as_deref()?)))
            .collect();
        let mut known = HashMap::new();
        for point in self.store.points_of(space, &items).await? {
            let text = texts.get(point.item_id.as_str());
            let is_same = matches!(
                (point.payload.get(column), text),
                (Some(Value::Text(was)), Some(is)) if was == is
            );
            if let (true, OwnedVector::Floats(values)) =
                (is_same, OwnedVector::of_stored(&space.vectors, &point.vector))
            {
                known.insert(point.item_id, values);
            }
        }
        Ok(known)
    }

    async fn embed_rows(
        &self,
        embedder: &Embedder,
        rows: Vec<TextRow>,
        known: &HashMap<String, Vec<f32>>,
    ) -> Result<Vec<Row>, ServiceError> {
        let unknown = rows.iter().filter(|row| !known.contains_key(&row.item_id));
        let texts: Vec<String> = unknown.filter_map(|row| row.text.clone()).collect();
        let made = if texts.is_empty() { Vec::new() } else { embedder.texts(texts).await? };
        let mut made = made.into_iter();
        let row = |row: TextRow| {
            let vector = match (known.get(&row.item_id), &row.text) {
                (Some(known), _) => Ok(known.clone()),
                (None, None) => Err("has no text".to_owned()),
                (None, Some(_)) => match made.next() {
                    Some(embedder::Embedding::Floats(values)) => Ok(values),
                    _ => Err("has no vector".to_owned()),
                },
            };
            Row { item_id: row.item_id, vector, payload: row.payload }
        };
        Ok(rows.into_iter().map(row).collect())
    }
}

fn demand_texts(name: &str, embedder: &Embedder) -> Result<(), ServiceError> {
    if embedder.takes_texts() {
        return Ok(());
    }
    let message = format!("{name} makes vectors of images; name one of texts");
    Err(ServiceError::invalid("embedder", message).reason("EMBEDDER_MISMATCH"))
}
