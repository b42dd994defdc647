//! Rows of generations with their examples, of cached models, and all counts.

use sea_orm::{QueryResult, Value};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use crate::model::{CachedModel, Ending, Example, Generation, Owner, RUNNING, RagStatistics};
use crate::store::rows::damaged;
use crate::store::{Store, execute, rows as select};

const GENERATION: &str = "id, prompt, augmented_prompt, output_path, seed, steps, guidance_scale, \
    time_ms, memory_mb, model_config, status, error_message, created_at, created_by, finished_at";
const CACHED_MODEL: &str = "model_type, model_name, cache_path, size_bytes, access_count, \
    last_accessed, created_at";

macro_rules! get {
    ($row:expr, $name:literal) => {
        $row.try_get("", $name).map_err(db_error)?
    };
}

fn get_bytes(row: &QueryResult, name: &str) -> Result<Vec<u8>, ServiceError> {
    row.try_get("", name).map_err(db_error)
}

fn cached_model(row: &QueryResult) -> Result<CachedModel, ServiceError> {
    Ok(CachedModel {
        model_type: get!(row, "model_type"),
        model_name: get!(row, "model_name"),
        cache_path: get!(row, "cache_path"),
        size_bytes: get!(row, "size_bytes"),
        access_count: get!(row, "access_count"),
        last_accessed: get!(row, "last_accessed"),
        created_at: get!(row, "created_at"),
    })
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
        finished_at: get!(row, "finished_at"),
    })
}

impl Store {
    /// Logs a generation with its examples.
    ///
    /// # Errors
    /// The database's.
    pub async fn log_generation(
        &self,
        owner: &Owner,
        new: &Generation,
    ) -> Result<(), ServiceError> {
        let sql = format!(
            "INSERT INTO generation (namespace_id, namespace_name, {GENERATION}) VALUES \
             ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"
        );
        let values: Vec<Value> = vec![
            owner.namespace.into(),
            owner.namespace_name.as_str().into(),
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
            new.finished_at.into(),
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

    /// Ends a running generation; whether it was running.
    ///
    /// # Errors
    /// The database's.
    pub async fn finish_generation(
        &self,
        namespace: Uuid,
        id: Uuid,
        ending: &Ending,
    ) -> Result<bool, ServiceError> {
        let sql = "UPDATE generation SET status = $1, output_path = $2, time_ms = $3, \
            memory_mb = $4, error_message = $5, finished_at = $6 \
            WHERE namespace_id = $7 AND id = $8 AND status = $9";
        let values: Vec<Value> = vec![
            ending.status().into(),
            ending.output_path.as_str().into(),
            ending.time_ms.into(),
            ending.memory_mb.into(),
            ending.error_message.as_str().into(),
            now_micros().into(),
            namespace.into(),
            id.into(),
            RUNNING.into(),
        ];
        let tx = self.sql.begin().await?;
        let done = execute(&tx, sql, values).await?.rows_affected();
        tx.commit().await.map_err(db_error)?;
        Ok(done > 0)
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
        let mut values: Vec<Value> =
            vec![namespace.into(), before.unwrap_or(Uuid::max()).into(), i64::from(limit).into()];
        let mut of_status = "";
        if status != 0 {
            values.push(status.into());
            of_status = "AND status = $4";
        }
        let sql = format!(
            "SELECT {GENERATION} FROM generation WHERE namespace_id = $1 AND id < $2 {of_status} \
             ORDER BY id DESC LIMIT $3"
        );
        self.rows(sql, values).await?.iter().map(generation).collect()
    }

    /// Counts a use of a cached model: what its record says then.
    ///
    /// # Errors
    /// The database's.
    pub async fn touch_model(
        &self,
        owner: &Owner,
        model: &CachedModel,
    ) -> Result<CachedModel, ServiceError> {
        let sql = format!(
            "INSERT INTO cached_model (namespace_id, namespace_name, {CACHED_MODEL}) \
             VALUES ($1, $7, $2, $3, $4, $5, 1, $6, $6) \
             ON CONFLICT (namespace_id, model_type, model_name) DO UPDATE SET \
             cache_path = excluded.cache_path, size_bytes = excluded.size_bytes, \
             access_count = cached_model.access_count + 1, last_accessed = excluded.last_accessed \
             RETURNING {CACHED_MODEL}"
        );
        let values: Vec<Value> = vec![
            owner.namespace.into(),
            model.model_type.as_str().into(),
            model.model_name.as_str().into(),
            model.cache_path.as_str().into(),
            model.size_bytes.into(),
            now_micros().into(),
            owner.namespace_name.as_str().into(),
        ];
        let tx = self.sql.begin().await?;
        let found = select(&tx, sql, values).await?;
        let touched = cached_model(found.first().ok_or_else(|| damaged("a cached model"))?)?;
        tx.commit().await.map_err(db_error)?;
        Ok(touched)
    }

    /// Up to `limit` cached models, the last used first, after (used, type, name).
    ///
    /// # Errors
    /// The database's.
    pub async fn cached_models(
        &self,
        namespace: Uuid,
        after: Option<&(i64, String, String)>,
        limit: u32,
    ) -> Result<Vec<CachedModel>, ServiceError> {
        let (used, kind, name) = match after {
            Some((used, kind, name)) => (*used, kind.as_str(), name.as_str()),
            None => (i64::MAX, "", ""),
        };
        let sql = format!(
            "SELECT {CACHED_MODEL} FROM cached_model WHERE namespace_id = $1 AND \
             (last_accessed < $2 OR (last_accessed = $2 AND (model_type, model_name) > ($3, $4))) \
             ORDER BY last_accessed DESC, model_type, model_name LIMIT $5"
        );
        let values: Vec<Value> =
            vec![namespace.into(), used.into(), kind.into(), name.into(), i64::from(limit).into()];
        self.rows(sql, values).await?.iter().map(cached_model).collect()
    }

    /// Forgets a cached model; whether there was one.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget_model(
        &self,
        namespace: Uuid,
        (kind, name): (&str, &str),
    ) -> Result<bool, ServiceError> {
        let sql = "DELETE FROM cached_model WHERE namespace_id = $1 AND model_type = $2 \
            AND model_name = $3";
        let tx = self.sql.begin().await?;
        let done = execute(&tx, sql, vec![namespace.into(), kind.into(), name.into()]).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(done.rows_affected() > 0)
    }

    /// Counts, all by one statement and so of one moment.
    ///
    /// # Errors
    /// The database's.
    pub async fn rag_statistics(
        &self,
        namespace: Uuid,
        recent_after: i64,
    ) -> Result<RagStatistics, ServiceError> {
        let sql = "SELECT i.n AS images, s.n AS spaces, s.points AS embeddings, \
            g.n AS generations, g.recent AS recent, g.failed AS failed, g.running AS running, \
            g.mean AS mean, m.n AS models, \
            m.high AS model_high, m.low AS model_low FROM \
            (SELECT count(*) AS n FROM image WHERE namespace_id = $1) i, \
            (SELECT count(*) AS n, CAST(coalesce(sum(point_count), 0) AS bigint) AS points \
                FROM space WHERE namespace_id = $1 AND deleted_at IS NULL) s, \
            (SELECT count(*) AS n, \
                count(CASE WHEN created_at >= $2 THEN 1 END) AS recent, \
                count(CASE WHEN status = 2 THEN 1 END) AS failed, \
                count(CASE WHEN status = 3 THEN 1 END) AS running, \
                CAST(avg(time_ms) AS double precision) AS mean \
                FROM generation WHERE namespace_id = $1) g, \
            (SELECT count(*) AS n, \
                CAST(coalesce(sum(size_bytes / 1073741824), 0) AS bigint) AS high, \
                CAST(coalesce(sum(size_bytes % 1073741824), 0) AS bigint) AS low \
                FROM cached_model WHERE namespace_id = $1) m";
        let found = self.rows(sql, vec![namespace.into(), recent_after.into()]).await?;
        let row = found.first().ok_or_else(|| damaged("a count"))?;
        // In two parts: sizes are the callers' word, and their sum may be beyond what a row holds.
        let (high, low): (i64, i64) = (get!(row, "model_high"), get!(row, "model_low"));
        Ok(RagStatistics {
            images: get!(row, "images"),
            spaces: get!(row, "spaces"),
            embeddings: get!(row, "embeddings"),
            generations: get!(row, "generations"),
            recent: get!(row, "recent"),
            failed: get!(row, "failed"),
            running: get!(row, "running"),
            mean_time_ms: get!(row, "mean"),
            models: get!(row, "models"),
            model_bytes: high.saturating_mul(1 << 30).saturating_add(low),
        })
    }

    /// Namespaces that have images, generations or cached models, with their names, after one,
    /// in order.
    ///
    /// # Errors
    /// The database's.
    pub async fn logging_namespaces(
        &self,
        after: Uuid,
        limit: u32,
    ) -> Result<Vec<(Uuid, String)>, ServiceError> {
        let of = |table: &str| {
            format!("SELECT namespace_id, namespace_name FROM {table} WHERE namespace_id > $1")
        };
        let sql = format!(
            "{} UNION {} UNION {} ORDER BY namespace_id, namespace_name LIMIT $2",
            of("image"),
            of("generation"),
            of("cached_model")
        );
        let found = self.rows(sql, vec![after.into(), i64::from(limit).into()]).await?;
        let read = |row: &QueryResult| {
            Ok((row.try_get("", "namespace_id")?, row.try_get("", "namespace_name")?))
        };
        found.iter().map(read).collect::<Result<_, sea_orm::DbErr>>().map_err(db_error)
    }

    /// Deletes some images, generations and cached models of a namespace that is gone; whether
    /// all are.
    ///
    /// # Errors
    /// The database's.
    pub async fn purge_log(&self, namespace: Uuid, rows_max: u32) -> Result<bool, ServiceError> {
        let limit = i64::from(rows_max);
        let some = "SELECT id FROM generation WHERE namespace_id = $1 ORDER BY id LIMIT $2";
        let deletions = [
            format!("DELETE FROM generation_example WHERE generation_id IN ({some})"),
            format!("DELETE FROM generation WHERE id IN ({some})"),
            "DELETE FROM image WHERE id IN \
                (SELECT id FROM image WHERE namespace_id = $1 ORDER BY id LIMIT $2)"
                .to_owned(),
            "DELETE FROM cached_model WHERE namespace_id = $1 AND (model_type, model_name) IN \
                (SELECT model_type, model_name FROM cached_model WHERE namespace_id = $1 LIMIT $2)"
                .to_owned(),
        ];
        let tx = self.sql.begin().await?;
        let mut gone = 0;
        for sql in deletions {
            let done = execute(&tx, sql, vec![namespace.into(), limit.into()]).await?;
            gone += done.rows_affected();
        }
        tx.commit().await.map_err(db_error)?;
        Ok(gone == 0)
    }
}
