//! What lies in namespaces, and what is left of one that is gone.

use ids::NamespaceId;
use sea_orm::FromQueryResult;
use service_error::ServiceError;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use super::Store;
use super::sql::{all, execute, one};

/// Tables with rows of a namespace that hang on no model, and which of their rows count.
const OF_NAMESPACE: [(&str, &str); 5] = [
    ("tree_file", "1 = 1"),
    ("experiment", "1 = 1"),
    ("stage", "1 = 1"),
    ("signing_key", "1 = 1"),
    ("webhook", "deleted_at IS NULL"),
];

#[derive(Debug, FromQueryResult)]
struct Row {
    namespace_id: Uuid,
}

impl Store {
    /// Namespaces that live models lie in, after one.
    ///
    /// # Errors
    /// The database's.
    pub async fn namespaces_in_use(
        &self,
        after: NamespaceId,
        limit: u32,
    ) -> Result<Vec<NamespaceId>, ServiceError> {
        let sql = "SELECT namespace_id FROM model WHERE deleted_at IS NULL AND namespace_id > $1 \
                   GROUP BY namespace_id ORDER BY namespace_id LIMIT $2";
        let values = [after.uuid().into(), i64::from(limit).into()];
        let rows: Vec<Row> = all(self.read(), sql, values).await?;
        Ok(rows.into_iter().map(|row| NamespaceId::from_uuid(row.namespace_id)).collect())
    }

    /// Namespaces that keep something which hangs on no model, after one: files of runs,
    /// experiments, stages, keys, webhooks.
    ///
    /// # Errors
    /// The database's.
    pub async fn namespaces_that_keep(
        &self,
        mut after: NamespaceId,
        limit: usize,
    ) -> Result<Vec<NamespaceId>, ServiceError> {
        // The first row behind it in each table is a step of its index, however many rows there are.
        let firsts = OF_NAMESPACE.map(|(table, counts)| {
            format!(
                "SELECT namespace_id FROM (SELECT namespace_id FROM {table} \
                 WHERE namespace_id > $1 AND {counts} ORDER BY namespace_id LIMIT 1) {table}_first"
            )
        });
        let sql = format!(
            "SELECT namespace_id FROM ({}) firsts ORDER BY namespace_id LIMIT 1",
            firsts.join(" UNION ALL ")
        );
        let mut found = Vec::new();
        while found.len() < limit {
            let row: Option<Row> = one(self.read(), &sql, [after.uuid().into()]).await?;
            let Some(row) = row else { break };
            after = NamespaceId::from_uuid(row.namespace_id);
            found.push(after);
        }
        Ok(found)
    }

    /// Forgets what a namespace keeps that hangs on no model, but for what `tracking` has;
    /// answers how many files of runs there were. Open uploads end and are swept.
    ///
    /// # Errors
    /// The database's; what was done stays done.
    pub async fn forget_namespace(&self, namespace: NamespaceId) -> Result<usize, ServiceError> {
        let files = self.remove_tree(namespace, "").await?;
        let (id, now) = (namespace.uuid(), now_micros());
        let tx = self.sql.begin().await?;
        for table in ["stage_gate", "stage", "signing_key"] {
            let sql = format!("DELETE FROM {table} WHERE namespace_id = $1");
            execute(&tx, &sql, [id.into()]).await?;
        }
        let sql = "UPDATE delivery SET state = 3, ended_at = $1, last_error = $2 WHERE state = 1 \
                   AND webhook_id IN (SELECT id FROM webhook WHERE namespace_id = $3)";
        execute(&tx, sql, [now.into(), "the namespace was deleted".into(), id.into()]).await?;
        let sql = "UPDATE webhook SET deleted_at = $1, active = $2, secret = '' \
                   WHERE namespace_id = $3 AND deleted_at IS NULL";
        execute(&tx, sql, [now.into(), false.into(), id.into()]).await?;
        for (table, open) in [("upload", " AND state = 1"), ("tree_upload", "")] {
            let sql = format!("UPDATE {table} SET expires_at = 0 WHERE namespace_id = $1{open}");
            execute(&tx, &sql, [id.into()]).await?;
        }
        tx.commit().await.map_err(db_error)?;
        Ok(files)
    }
}
