//! The way out of the trash.

use ids::{Id, ModelId, NamespaceId};
use sea_orm::{DatabaseTransaction, FromQueryResult};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use super::blobs::{self, FileRow};
use super::events::{self, Place};
use super::sql::{Values, all, execute, number};
use super::{Store, outbox};
use crate::model::{Change, EventKind};

/// What hangs on a version, children first.
const OF_VERSION: [&str; 8] = [
    "version_tag",
    "version_flavor",
    "metric",
    "metric_last",
    "param",
    "lineage",
    "signature",
    "version_file",
];
/// What hangs on a model beside its versions.
const OF_MODEL: [&str; 6] =
    ["model_tag", "alias", "alias_history", "stage_latest", "card", "deployment"];

#[derive(Debug, FromQueryResult)]
struct ModelRow {
    id: Uuid,
    namespace_id: Uuid,
    namespace: String,
    name: String,
    created_by: Uuid,
}

#[derive(Debug, FromQueryResult)]
struct IdRow {
    id: Uuid,
}

impl Store {
    /// Deletes, for good, what has lain in the trash since before a time: some
    /// models with all their versions, and some versions. Answers how many.
    ///
    /// # Errors
    /// The database's.
    pub async fn purge(&self, before: i64, limit: u32) -> Result<(i64, i64), ServiceError> {
        let sql = "SELECT id, namespace_id, namespace, name, created_by FROM model \
                   WHERE deleted_at < $1 LIMIT $2";
        let values = [before.into(), i64::from(limit).into()];
        let models: Vec<ModelRow> = all(self.read(), sql, values).await?;
        let purged = i64::try_from(models.len()).unwrap_or(i64::MAX);
        let mut versions = 0;
        for model in models {
            versions += self.purge_model(&model, before).await?;
        }
        let sql = "SELECT v.id FROM version v WHERE v.deleted_at < $1 LIMIT $2";
        let values = [before.into(), i64::from(limit).into()];
        let rows: Vec<IdRow> = all(self.read(), sql, values).await?;
        for row in rows {
            let tx = self.sql.begin().await?;
            // Restored meanwhile?
            let sql =
                "UPDATE version SET updated_at = updated_at WHERE id = $1 AND deleted_at < $2";
            if execute(&tx, sql, [row.id.into(), before.into()]).await? > 0 {
                purge_version(&tx, row.id).await?;
                versions += 1;
            }
            tx.commit().await.map_err(db_error)?;
        }
        Ok((purged, versions))
    }

    async fn purge_model(&self, model: &ModelRow, before: i64) -> Result<i64, ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "UPDATE model SET revision = revision + 1 WHERE id = $1 AND deleted_at < $2";
        if execute(&tx, sql, [model.id.into(), before.into()]).await? == 0 {
            return Ok(0);
        }
        let sql = "SELECT id FROM version WHERE model_id = $1";
        let versions: Vec<IdRow> = all(&tx, sql, [model.id.into()]).await?;
        for version in &versions {
            purge_version(&tx, version.id).await?;
        }
        let sql = "DELETE FROM approval WHERE transition_id IN \
                   (SELECT id FROM transition WHERE model_id = $1)";
        execute(&tx, sql, [model.id.into()]).await?;
        execute(&tx, "DELETE FROM transition WHERE model_id = $1", [model.id.into()]).await?;
        for table in OF_MODEL {
            let sql = format!("DELETE FROM {table} WHERE model_id = $1");
            execute(&tx, &sql, [model.id.into()]).await?;
        }
        execute(&tx, "DELETE FROM model WHERE id = $1", [model.id.into()]).await?;
        let id: ModelId = Id::from_uuid(model.id);
        outbox::append(&tx, id, Id::from_uuid(model.namespace_id), None).await?;
        let place = Place {
            namespace_id: model.namespace_id,
            namespace: model.namespace.clone(),
            model_id: model.id,
            model: model.name.clone(),
        };
        let change = Change::of_model(EventKind::ModelPurged);
        events::append(&tx, &place, change, Id::from_uuid(model.created_by)).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(i64::try_from(versions.len()).unwrap_or(i64::MAX))
    }

    /// What a collection would remove: blobs, their bytes, models, versions. Files of runs in
    /// namespaces that are gone count for nothing.
    ///
    /// # Errors
    /// The database's.
    pub async fn garbage(
        &self,
        before: i64,
        gone: &[NamespaceId],
    ) -> Result<(i64, i64, i64, i64), ServiceError> {
        let count = async |sql: &str, at: i64| -> Result<i64, ServiceError> {
            Ok(number(self.read(), sql, [at.into()]).await?.unwrap_or_default())
        };
        let mut values = Values::new(self.sql.backend());
        let (now, before_value) = (values.add(now_micros()), values.add(before));
        let in_gone = values.is_one_of("t.namespace_id", gone.iter().map(|id| id.uuid()));
        let kept = format!(
            "FROM blob b WHERE b.pinned_until < {now} AND NOT EXISTS (SELECT 1 FROM tree_file t \
             WHERE t.digest = b.digest AND NOT {in_gone}) AND NOT EXISTS (SELECT 1 FROM version_file f \
             JOIN version v ON v.id = f.version_id JOIN model m ON m.id = v.model_id \
             WHERE f.digest = b.digest AND COALESCE(v.deleted_at, {before_value}) >= {before_value} \
             AND COALESCE(m.deleted_at, {before_value}) >= {before_value})"
        );
        let sql = format!("SELECT COUNT(*) {kept}");
        let blobs = number(self.read(), &sql, values.all.clone()).await?;
        let sql = format!("SELECT CAST(COALESCE(SUM(b.byte_count), 0) AS bigint) {kept}");
        let bytes = number(self.read(), &sql, values.all).await?;
        let models = count("SELECT COUNT(*) FROM model WHERE deleted_at < $1", before).await?;
        let versions = count("SELECT COUNT(*) FROM version WHERE deleted_at < $1", before).await?;
        Ok((blobs.unwrap_or_default(), bytes.unwrap_or_default(), models, versions))
    }

    /// Lets every lease end now, whoever holds one.
    ///
    /// # Errors
    /// The database's.
    pub async fn end_leases(&self) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        execute(&tx, "UPDATE blob SET pinned_until = 0", []).await?;
        execute(&tx, "UPDATE upload SET expires_at = 0", []).await?;
        tx.commit().await.map_err(db_error)
    }
}

async fn purge_version(tx: &DatabaseTransaction, id: Uuid) -> Result<(), ServiceError> {
    let sql = "SELECT path, digest, byte_count FROM version_file WHERE version_id = $1";
    let rows: Vec<FileRow> = all(tx, sql, [id.into()]).await?;
    let files = rows.into_iter().map(FileRow::into_entry).collect::<Result<Vec<_>, _>>()?;
    for table in OF_VERSION {
        let sql = format!("DELETE FROM {table} WHERE version_id = $1");
        execute(tx, &sql, [id.into()]).await?;
    }
    execute(tx, "DELETE FROM version WHERE id = $1", [id.into()]).await?;
    blobs::count(tx, &files, -1).await
}
