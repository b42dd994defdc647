//! Rows of namespaces.

use std::collections::HashMap;

use ids::{NamespaceId, PrincipalId};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, FromQueryResult,
    PaginatorTrait, QueryFilter, Set, Statement,
};
use service_error::ServiceError;
use sql_store::{db_error, is_unique_violation, now_micros};

use crate::model::{Name, Namespace, OutboxEvent, ResourceChange};
use crate::store::dialect::{id_list, is_in_list};
use crate::store::entity::{dataset, namespace};
use crate::store::{Store, VisibleRows, outbox};

impl Store {
    /// Makes a namespace and the event that tells identity.
    ///
    /// # Errors
    /// `AlreadyExists`.
    pub async fn create_namespace(
        &self,
        name: &Name,
        description: &str,
        owner: PrincipalId,
    ) -> Result<(Namespace, OutboxEvent), ServiceError> {
        let tx = self.sql.begin().await?;
        let id = NamespaceId::new();
        let row = namespace::ActiveModel {
            id: Set(id.uuid()),
            name: Set(name.as_str().to_owned()),
            description: Set(description.to_owned()),
            created_at: Set(now_micros()),
            created_by: Set(owner.uuid()),
            deleted_at: Set(None),
            revision: Set(1),
        };
        let row =
            namespace::Entity::insert(row).exec_with_returning(&tx).await.map_err(|error| {
                if is_unique_violation(&error) {
                    ServiceError::already_exists("namespace", name)
                } else {
                    db_error(error)
                }
            })?;
        let event =
            outbox::append(&tx, ResourceChange::NamespaceCreated { namespace: id, owner }).await?;
        tx.commit().await.map_err(db_error)?;
        Ok((row.into(), event))
    }

    /// The namespace of a name, if there is one.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn find_namespace(&self, name: &str) -> Result<Option<Namespace>, ServiceError> {
        let found = namespace::Entity::find()
            .filter(namespace::Column::Name.eq(name))
            .filter(namespace::Column::DeletedAt.is_null())
            .one(self.read())
            .await;
        Ok(found.map_err(db_error)?.map(Namespace::from))
    }

    /// Up to `limit` visible namespaces after a name, by name.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn list_namespaces(
        &self,
        visible: &VisibleRows,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Namespace>, ServiceError> {
        let mut sql = "SELECT * FROM namespace WHERE deleted_at IS NULL AND name > $1".to_owned();
        let mut values = vec![after.unwrap_or("").into(), i64::from(limit).into()];
        if let VisibleRows::Only { namespaces, .. } = visible {
            sql.push_str(&format!(" AND {}", is_in_list(self.sql.backend(), "id", 3)));
            values.push(id_list(namespaces.iter().map(|id| id.uuid())));
        }
        sql.push_str(" ORDER BY name LIMIT $2");
        let statement = Statement::from_sql_and_values(self.sql.backend(), sql, values);
        let rows = namespace::Model::find_by_statement(statement)
            .all(self.read())
            .await
            .map_err(db_error)?;
        Ok(rows.into_iter().map(Namespace::from).collect())
    }

    /// When namespaces were deleted, those that are there with `None`; others are not in it.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn deletions_of(
        &self,
        ids: &[NamespaceId],
    ) -> Result<HashMap<NamespaceId, Option<i64>>, ServiceError> {
        let of_these = is_in_list(self.sql.backend(), "id", 1);
        let sql = format!("SELECT * FROM namespace WHERE {of_these}");
        let values = [id_list(ids.iter().map(|id| id.uuid()))];
        let statement = Statement::from_sql_and_values(self.sql.backend(), sql, values);
        let rows = namespace::Model::find_by_statement(statement)
            .all(self.read())
            .await
            .map_err(db_error)?;
        let deletion = |row: namespace::Model| (NamespaceId::from_uuid(row.id), row.deleted_at);
        Ok(rows.into_iter().map(deletion).collect())
    }

    /// Deletes a namespace that holds no dataset; its name is free at once.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` with reason `NAMESPACE_NOT_EMPTY`.
    pub async fn delete_namespace(
        &self,
        id: NamespaceId,
        name: &str,
    ) -> Result<OutboxEvent, ServiceError> {
        let tx = self.sql.begin().await?;
        lock_namespace(&tx, id, name).await?;
        let datasets = dataset::Entity::find()
            .filter(dataset::Column::NamespaceId.eq(id.uuid()))
            .filter(dataset::Column::DeletedAt.is_null())
            .count(&tx)
            .await
            .map_err(db_error)?;
        if datasets > 0 {
            let message = format!("namespace {name} holds {datasets} datasets: delete them first");
            return Err(ServiceError::precondition(message)
                .reason("NAMESPACE_NOT_EMPTY")
                .with("datasets", datasets));
        }
        namespace::Entity::update_many()
            .col_expr(namespace::Column::DeletedAt, Expr::value(now_micros()))
            .filter(namespace::Column::Id.eq(id.uuid()))
            .exec(&tx)
            .await
            .map_err(db_error)?;
        let event = outbox::append(&tx, ResourceChange::NamespaceDeleted { namespace: id }).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(event)
    }
}

/// Takes the namespace's row lock, so that it is not deleted while a dataset is
/// made in it, nor the other way round.
pub async fn lock_namespace(
    tx: &DatabaseTransaction,
    id: NamespaceId,
    name: &str,
) -> Result<(), ServiceError> {
    let sql = "UPDATE namespace SET revision = revision + 1 WHERE id = $1 AND deleted_at IS NULL";
    let lock = Statement::from_sql_and_values(tx.get_database_backend(), sql, [id.uuid().into()]);
    match tx.execute_raw(lock).await.map_err(db_error)?.rows_affected() {
        0 => Err(ServiceError::not_found("namespace", name)),
        _ => Ok(()),
    }
}
