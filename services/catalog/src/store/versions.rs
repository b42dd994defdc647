//! Rows of versions and snapshots.

use ids::DatasetId;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, Statement,
    Value,
};
use service_error::ServiceError;
use sql_store::db_error;

use crate::model::{Snapshot, Version};
use crate::store::Store;
use crate::store::entity::{snapshot, version};
use crate::store::rows::VersionRow;

const SELECT_VERSIONS: &str = "SELECT v.number AS version, v.parent, v.message, v.author, \
    v.created_at AS version_created_at, s.number AS snapshot, s.row_count, s.byte_count, s.block_count, s.watermark \
    FROM version v JOIN snapshot s ON s.dataset_id = v.dataset_id AND s.number = v.snapshot WHERE v.dataset_id = $1";

impl Store {
    /// Up to `limit` versions below a number, newest first.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn list_versions(
        &self,
        dataset: DatasetId,
        below: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Version>, ServiceError> {
        let sql = format!("{SELECT_VERSIONS} AND v.number < $2 ORDER BY v.number DESC LIMIT $3");
        let values: [Value; 3] =
            [dataset.uuid().into(), below.unwrap_or(i64::MAX).into(), i64::from(limit).into()];
        let statement = Statement::from_sql_and_values(self.sql.backend(), sql, values);
        let rows =
            VersionRow::find_by_statement(statement).all(self.read()).await.map_err(db_error)?;
        Ok(rows.into_iter().map(Version::from).collect())
    }

    /// The version of a number.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn find_version(
        &self,
        dataset: DatasetId,
        number: i64,
    ) -> Result<Option<Version>, ServiceError> {
        version_in(self.read(), dataset, number).await
    }

    /// The snapshot of a number and the version that it is, or the newest
    /// before it (0: none).
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn find_snapshot(
        &self,
        dataset: DatasetId,
        number: i64,
    ) -> Result<Option<(Snapshot, i64)>, ServiceError> {
        if number == 0 {
            return Ok(Some((Snapshot::default(), 0)));
        }
        let key = (dataset.uuid(), number);
        let Some(row) =
            snapshot::Entity::find_by_id(key).one(self.read()).await.map_err(db_error)?
        else {
            return Ok(None);
        };
        let named = version::Entity::find()
            .filter(version::Column::DatasetId.eq(dataset.uuid()))
            .filter(version::Column::Snapshot.lte(number))
            .order_by_desc(version::Column::Number)
            .one(self.read())
            .await
            .map_err(db_error)?;
        Ok(Some((snapshot_of(&row), named.map_or(0, |version| version.number))))
    }
}

/// The version of a number, inside or outside a transaction.
pub async fn version_in<C: ConnectionTrait>(
    db: &C,
    dataset: DatasetId,
    number: i64,
) -> Result<Option<Version>, ServiceError> {
    let sql = format!("{SELECT_VERSIONS} AND v.number = $2");
    let values: [Value; 2] = [dataset.uuid().into(), number.into()];
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let row = VersionRow::find_by_statement(statement).one(db).await.map_err(db_error)?;
    Ok(row.map(Version::from))
}

/// The totals in a row.
pub fn snapshot_of(row: &snapshot::Model) -> Snapshot {
    Snapshot {
        number: row.number,
        row_count: row.row_count,
        byte_count: row.byte_count,
        block_count: row.block_count,
        watermark: row.watermark,
    }
}
