//! Rows of images, generations and cached models.

use sea_orm::{QueryResult, Value};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use crate::model::{CachedModel, Example, Generation, Image, RagStatistics};
use crate::store::rows::damaged;
use crate::store::{Store, execute, rows as select};

const IMAGE: &str = "id, path, description, tags, width, height, size_bytes, format, \
    source_dataset, item_id, created_at";
const GENERATION: &str = "id, prompt, augmented_prompt, output_path, seed, steps, guidance_scale, \
    time_ms, memory_mb, model_config, status, error_message, created_at, created_by";

macro_rules! get {
    ($row:expr, $name:literal) => {
        $row.try_get("", $name).map_err(db_error)?
    };
}

fn image(row: &QueryResult) -> Result<Image, ServiceError> {
    Ok(Image {
        id: get!(row, "id"),
        path: get!(row, "path"),
        description: get!(row, "description"),
        tags: Image::tags_of(&get_bytes(row, "tags")?).ok_or_else(|| damaged("tags"))?,
        width: get!(row, "width"),
        height: get!(row, "height"),
        size_bytes: get!(row, "size_bytes"),
        format: get!(row, "format"),
        source_dataset: get!(row, "source_dataset"),
        item_id: get!(row, "item_id"),
        created_at: get!(row, "created_at"),
    })
}

fn get_bytes(row: &QueryResult, name: &str) -> Result<Vec<u8>, ServiceError> {
    row.try_get("", name).map_err(db_error)
}

fn generation(row: &QueryResult) -> Result<Generation, ServiceError> {
    let config = payload_index::Payload::from_bytes(&get_bytes(row, "model_config")?);
    Ok(Generation {
        id: get!(row, "id"),
        prompt: get!(row, "prompt"),
        augmented_prompt: get!(row, "augmented_prompt"),
        output_path: get!(row, "output_path"),
        seed: get!(row, "seed"),
        steps: get!(row, "steps"),
        guidance_scale: get!(row, "guidance_scale"),
        time_ms: get!(row, "time_ms"),
        memory_mb: get!(row, "memory_mb"),
        model_config: config.map_err(|_| damaged("a model's settings"))?,
        examples: Vec::new(),
        status: get!(row, "status"),
        error_message: get!(row, "error_message"),
        created_at: get!(row, "created_at"),
        created_by: get!(row, "created_by"),
    })
}

impl Store {
    /// Adds an image.
    ///
    /// # Errors
    /// `AlreadyExists` for a path that the namespace has.
    pub async fn add_image(&self, namespace: Uuid, new: &Image) -> Result<(), ServiceError> {
        let sql = format!(
            "INSERT INTO image (namespace_id, {IMAGE}) VALUES \
             ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
        );
        let values: Vec<Value> = vec![
            namespace.into(),
            new.id.into(),
            new.path.as_str().into(),
            new.description.as_str().into(),
            new.tags_bytes().into(),
            new.width.into(),
            new.height.into(),
            new.size_bytes.into(),
            new.format.as_str().into(),
            new.source_dataset.as_str().into(),
            new.item_id.as_str().into(),
            new.created_at.into(),
        ];
        let tx = self.sql.begin().await?;
        match execute(&tx, sql, values).await {
            Ok(_) => tx.commit().await.map_err(db_error),
            Err(error) if error.reason_is("UNIQUE_VIOLATION") => {
                Err(ServiceError::already_exists("image", &new.path))
            }
            Err(error) => Err(error),
        }
    }

    /// Up to `limit` images after a path, by path.
    ///
    /// # Errors
    /// The database's.
    pub async fn images(
        &self,
        namespace: Uuid,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Image>, ServiceError> {
        let sql = format!(
            "SELECT {IMAGE} FROM image WHERE namespace_id = $1 AND path > $2 ORDER BY path LIMIT $3"
        );
        let values = vec![namespace.into(), after.into(), i64::from(limit).into()];
        self.rows(sql, values).await?.iter().map(image).collect()
    }

    /// Deletes an image; whether there was one.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete_image(&self, namespace: Uuid, id: Uuid) -> Result<bool, ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "DELETE FROM image WHERE namespace_id = $1 AND id = $2";
        let done = execute(&tx, sql, vec![namespace.into(), id.into()]).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(done.rows_affected() > 0)
    }

    /// Logs a generation with its examples.
    ///
    /// # Errors
    /// The database's.
    pub async fn log_generation(
        &self,
        namespace: Uuid,
        new: &Generation,
    ) -> Result<(), ServiceError> {
        let sql = format!(
            "INSERT INTO generation (namespace_id, {GENERATION}) VALUES \
             ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
        );
        let values: Vec<Value> = vec![
            namespace.into(),
            new.id.into(),
            new.prompt.as_str().into(),
            new.augmented_prompt.as_str().into(),
            new.output_path.as_str().into(),
            new.seed.into(),
            new.steps.into(),
            new.guidance_scale.into(),
            new.time_ms.into(),
            new.memory_mb.into(),
            new.model_config.to_bytes().into(),
            new.status.into(),
            new.error_message.as_str().into(),
            new.created_at.into(),
            new.created_by.into(),
        ];
        let tx = self.sql.begin().await?;
        execute(&tx, sql, values).await?;
        for (rank, example) in (1_i64..).zip(&new.examples) {
            let sql = "INSERT INTO generation_example \
                (generation_id, rank, space, item_id, score, body) VALUES ($1, $2, $3, $4, $5, $6)";
            let values: Vec<Value> = vec![
                new.id.into(),
                rank.into(),
                example.space.as_str().into(),
                example.item_id.as_str().into(),
                example.score.into(),
                example.text.as_str().into(),
            ];
            execute(&tx, sql, values).await?;
        }
        tx.commit().await.map_err(db_error)
    }

    /// A generation with its examples.
    ///
    /// # Errors
    /// The database's.
    pub async fn generation(
        &self,
        namespace: Uuid,
        id: Uuid,
    ) -> Result<Option<Generation>, ServiceError> {
        let sql =
            format!("SELECT {GENERATION} FROM generation WHERE namespace_id = $1 AND id = $2");
        let found = self.rows(sql, vec![namespace.into(), id.into()]).await?;
        let Some(mut found) = found.first().map(generation).transpose()? else { return Ok(None) };
        let sql = "SELECT space, item_id, score, body FROM generation_example \
            WHERE generation_id = $1 ORDER BY rank";
        for row in self.rows(sql, vec![id.into()]).await? {
            found.examples.push(Example {
                space: get!(row, "space"),
                item_id: get!(row, "item_id"),
                score: get!(row, "score"),
                text: get!(row, "body"),
            });
        }
        Ok(Some(found))
    }

    /// Up to `limit` generations before an id, newest first, without examples; of a status, or
    /// all for 0.
    ///
    /// # Errors
    /// The database's.
    pub async fn generations(
        &self,
        namespace: Uuid,
        status: i16,
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<Generation>, ServiceError> {
        // Ids are made in the order of time.
        let sql = format!(
            "SELECT {GENERATION} FROM generation WHERE namespace_id = $1 AND id < $2 \
             AND ($3 = 0 OR status = $3) ORDER BY id DESC LIMIT $4"
        );
        let before = before.unwrap_or(Uuid::max());
        let values: Vec<Value> = vec![
            namespace.into(),
            before.into(),
            i32::from(status).into(),
            i64::from(limit).into(),
        ];
        self.rows(sql, values).await?.iter().map(generation).collect()
    }

    /// Counts a use of a cached model.
    ///
    /// # Errors
    /// The database's.
    pub async fn touch_model(
        &self,
        namespace: Uuid,
        model: &CachedModel,
    ) -> Result<(i64, i64), ServiceError> {
        let sql = "INSERT INTO cached_model (namespace_id, model_type, model_name, cache_path, \
            size_bytes, access_count, last_accessed, created_at) VALUES ($1, $2, $3, $4, $5, 1, $6, $6) \
            ON CONFLICT (namespace_id, model_type, model_name) DO UPDATE SET \
            cache_path = excluded.cache_path, size_bytes = excluded.size_bytes, \
            access_count = cached_model.access_count + 1, last_accessed = excluded.last_accessed \
            RETURNING access_count, last_accessed";
        let values: Vec<Value> = vec![
            namespace.into(),
            model.model_type.as_str().into(),
            model.model_name.as_str().into(),
            model.cache_path.as_str().into(),
            model.size_bytes.into(),
            now_micros().into(),
        ];
        let tx = self.sql.begin().await?;
        let found = select(&tx, sql, values).await?;
        let row = found.first().ok_or_else(|| damaged("a cached model"))?;
        let touched = (get!(row, "access_count"), get!(row, "last_accessed"));
        tx.commit().await.map_err(db_error)?;
        Ok(touched)
    }

    /// Counts, each exact.
    ///
    /// # Errors
    /// The database's.
    pub async fn rag_statistics(
        &self,
        namespace: Uuid,
        recent_after: i64,
    ) -> Result<RagStatistics, ServiceError> {
        let sql = "SELECT \
            (SELECT count(*) FROM image WHERE namespace_id = $1) AS images, \
            (SELECT CAST(coalesce(sum(point_count), 0) AS bigint) FROM space \
                WHERE namespace_id = $1 AND deleted_at IS NULL) AS embeddings, \
            (SELECT count(*) FROM generation WHERE namespace_id = $1) AS generations, \
            (SELECT count(*) FROM generation WHERE namespace_id = $1 AND created_at >= $2) AS recent, \
            (SELECT count(*) FROM generation WHERE namespace_id = $1 AND status = 2) AS failed, \
            (SELECT CAST(avg(time_ms) AS double precision) FROM generation \
                WHERE namespace_id = $1 AND time_ms IS NOT NULL) AS mean, \
            (SELECT count(*) FROM cached_model WHERE namespace_id = $1) AS models";
        let found = self.rows(sql, vec![namespace.into(), recent_after.into()]).await?;
        let row = found.first().ok_or_else(|| damaged("a count"))?;
        Ok(RagStatistics {
            images: get!(row, "images"),
            embeddings: get!(row, "embeddings"),
            generations: get!(row, "generations"),
            recent: get!(row, "recent"),
            failed: get!(row, "failed"),
            mean_time_ms: get!(row, "mean"),
            models: get!(row, "models"),
        })
    }
}
