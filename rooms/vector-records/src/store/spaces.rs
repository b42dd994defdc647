//! Rows of spaces.

use sea_orm::{DbErr, Value};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use crate::model::{NewSpace, Owner, Space, element_code, metric_code};
use crate::store::dialect::{is_in_ids, text_list};
use crate::store::rows::{self, SPACE_COLUMNS};
use crate::store::{Store, execute};

/// Which spaces a caller may see in lists.
#[derive(Debug, Clone)]
pub enum Visible {
    /// All.
    All,
    /// Those of these namespaces and these datasets.
    Only {
        /// Ids.
        namespaces: Vec<Uuid>,
        /// Ids.
        datasets: Vec<Uuid>,
    },
}

impl Store {
    /// Makes an empty space.
    ///
    /// # Errors
    /// `AlreadyExists`.
    pub async fn create_space(
        &self,
        owner: &Owner,
        new: &NewSpace,
        by: Uuid,
    ) -> Result<Space, ServiceError> {
        let now = now_micros();
        let space = Space {
            id: Uuid::now_v7(),
            owner: owner.clone(),
            name: new.name.clone(),
            vectors: new.vectors,
            embedder: new.embedder.clone(),
            points: 0,
            seq: 0,
            epoch: now,
            snapshot_seq: 0,
            sql_indexed: false,
            created_at: now,
            created_by: by,
        };
        let sql = format!(
            "INSERT INTO space ({SPACE_COLUMNS}) VALUES \
             ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, 0, 0, $11, 0, $12, $11, $13)"
        );
        let values: Vec<Value> = vec![
            space.id.into(),
            owner.namespace.into(),
            owner.dataset.unwrap_or_default().into(),
            owner.namespace_name.as_str().into(),
            owner.dataset_name.as_str().into(),
            space.name.as_str().into(),
            i32::try_from(space.vectors.dimension()).unwrap_or(i32::MAX).into(),
            metric_code(space.vectors.metric()).into(),
            element_code(space.vectors.element()).into(),
            space.embedder.as_str().into(),
            now.into(),
            false.into(),
            by.into(),
        ];
        let tx = self.sql.begin().await?;
        match execute(&tx, sql, values).await {
            Ok(_) => tx.commit().await.map_err(db_error)?,
            Err(error) if error.reason_is("UNIQUE_VIOLATION") => {
                return Err(ServiceError::already_exists("space", &new.name));
            }
            Err(error) => return Err(error),
        }
        Ok(space)
    }

    /// The space of a name.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_space(
        &self,
        owner: &Owner,
        name: &str,
    ) -> Result<Option<Space>, ServiceError> {
        let sql = format!(
            "SELECT {SPACE_COLUMNS} FROM space WHERE namespace_id = $1 AND dataset_id = $2 \
             AND name = $3 AND deleted_at IS NULL"
        );
        let values =
            vec![owner.namespace.into(), owner.dataset.unwrap_or_default().into(), name.into()];
        let found = self.rows(sql, values).await?;
        let mut space = found.first().map(rows::space).transpose()?;
        if let Some(space) = &mut space {
            space.owner = owner.clone();
        }
        Ok(space)
    }

    /// The space of an id.
    ///
    /// # Errors
    /// The database's.
    pub async fn space(&self, id: Uuid) -> Result<Option<Space>, ServiceError> {
        let sql = format!("SELECT {SPACE_COLUMNS} FROM space WHERE id = $1 AND deleted_at IS NULL");
        self.rows(sql, vec![id.into()]).await?.first().map(rows::space).transpose()
    }

    /// Up to `limit` spaces after (namespace, dataset, name), in that order; of an owner's
    /// namespace, or of its dataset, or of all.
    ///
    /// # Errors
    /// The database's.
    pub async fn list_spaces(
        &self,
        visible: &Visible,
        within: (Option<Uuid>, Option<Uuid>),
        after: (&str, &str, &str),
        limit: u32,
    ) -> Result<Vec<Space>, ServiceError> {
        let mut conditions =
            "deleted_at IS NULL AND (namespace_name, dataset_name, name) > ($1, $2, $3)".to_owned();
        let mut values: Vec<Value> =
            vec![after.0.into(), after.1.into(), after.2.into(), i64::from(limit).into()];
        for (column, id) in [("namespace_id", within.0), ("dataset_id", within.1)] {
            if let Some(id) = id {
                values.push(id.into());
                conditions.push_str(&format!(" AND {column} = ${}", values.len()));
            }
        }
        if let Visible::Only { namespaces, datasets } = visible {
            values.push(text_list(namespaces.iter().map(Uuid::to_string)));
            let namespace = is_in_ids(self.backend(), "namespace_id", values.len());
            values.push(text_list(datasets.iter().map(Uuid::to_string)));
            let dataset = is_in_ids(self.backend(), "dataset_id", values.len());
            conditions.push_str(&format!(" AND ({namespace} OR {dataset})"));
        }
        let sql = format!(
            "SELECT {SPACE_COLUMNS} FROM space WHERE {conditions} \
             ORDER BY namespace_name, dataset_name, name LIMIT $4"
        );
        self.rows(sql, values).await?.iter().map(rows::space).collect()
    }

    /// Deletes a space; its points go later. Whether there was one.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete_space(&self, id: Uuid) -> Result<bool, ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "UPDATE space SET deleted_at = $1 WHERE id = $2 AND deleted_at IS NULL";
        let done = execute(&tx, sql, vec![now_micros().into(), id.into()]).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(done.rows_affected() > 0)
    }

    /// Owners of spaces: (namespace, dataset or nil, namespace's name), after a pair, in order.
    ///
    /// # Errors
    /// The database's.
    pub async fn owners(
        &self,
        after: (Uuid, Uuid),
        limit: u32,
    ) -> Result<Vec<(Uuid, Uuid, String)>, ServiceError> {
        let sql = "SELECT namespace_id, dataset_id, min(namespace_name) AS name FROM space \
            WHERE deleted_at IS NULL AND (namespace_id, dataset_id) > ($1, $2) \
            GROUP BY namespace_id, dataset_id ORDER BY namespace_id, dataset_id LIMIT $3";
        let values = vec![after.0.into(), after.1.into(), i64::from(limit).into()];
        let read = |row: &sea_orm::QueryResult| {
            Ok((
                row.try_get("", "namespace_id")?,
                row.try_get("", "dataset_id")?,
                row.try_get("", "name")?,
            ))
        };
        let found = self.rows(sql, values).await?;
        found.iter().map(read).collect::<Result<_, DbErr>>().map_err(db_error)
    }

    /// Deletes all spaces of an owner that is gone.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete_spaces_of(
        &self,
        namespace: Uuid,
        dataset: Uuid,
    ) -> Result<u64, ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "UPDATE space SET deleted_at = $1 \
            WHERE namespace_id = $2 AND dataset_id = $3 AND deleted_at IS NULL";
        let values = vec![now_micros().into(), namespace.into(), dataset.into()];
        let done = execute(&tx, sql, values).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(done.rows_affected())
    }

    /// Notes that the object store has a snapshot.
    ///
    /// # Errors
    /// The database's.
    pub async fn note_snapshot(&self, id: Uuid, seq: i64) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "UPDATE space SET snapshot_seq = $1 WHERE id = $2 AND snapshot_seq < $1";
        execute(&tx, sql, vec![seq.into(), id.into()]).await?;
        tx.commit().await.map_err(db_error)
    }

    /// Some spaces that were deleted and whose rows are still there.
    ///
    /// # Errors
    /// The database's.
    pub async fn deleted_spaces(&self, limit: u32) -> Result<Vec<Uuid>, ServiceError> {
        let sql = "SELECT id FROM space WHERE deleted_at IS NOT NULL ORDER BY id LIMIT $1";
        let found = self.rows(sql, vec![i64::from(limit).into()]).await?;
        found.iter().map(|row| row.try_get("", "id").map_err(db_error)).collect()
    }

    /// Removes some rows of a deleted space, the space's own last. Whether all are gone.
    ///
    /// # Errors
    /// The database's.
    pub async fn purge(&self, id: Uuid, rows_max: u32) -> Result<bool, ServiceError> {
        let tx = self.sql.begin().await?;
        let limit = i64::from(rows_max);
        for (table, key) in
            [("point", "item_id"), ("point_change", "seq"), ("payload_column", "name")]
        {
            let sql = format!(
                "DELETE FROM {table} WHERE space_id = $1 AND {key} IN \
                 (SELECT {key} FROM {table} WHERE space_id = $1 LIMIT $2)"
            );
            let gone = execute(&tx, sql, vec![id.into(), limit.into()]).await?.rows_affected();
            if gone > 0 {
                tx.commit().await.map_err(db_error)?;
                return Ok(false);
            }
        }
        if self.backend() == sea_orm::DbBackend::Postgres {
            let sql = format!("DROP INDEX IF EXISTS {}", super::nearest::index_name(id));
            execute(&tx, sql, Vec::new()).await?;
        }
        let sql = "DELETE FROM space WHERE id = $1 AND deleted_at IS NOT NULL";
        execute(&tx, sql, vec![id.into()]).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(true)
    }
}
