//! Rows of datasets.

use std::collections::BTreeMap;

use ids::{DatasetId, NamespaceId, PrincipalId};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, FromQueryResult, QueryFilter,
    Set, Statement, Value,
};
use service_error::ServiceError;
use sql_store::{db_error, is_unique_violation, now_micros};

use crate::model::{Dataset, Head, MAIN_BRANCH, NewDataset, OutboxEvent, ResourceChange};
use crate::store::dialect::{id_list, is_in_list};
use crate::store::entity::{branch, dataset, dataset_property};
use crate::store::namespaces::lock_namespace;
use crate::store::rows::{
    DatasetRow, new_dataset_row, select_datasets, select_datasets_without_schema,
};
use crate::store::{Store, VisibleRows, no_dataset, outbox};

/// Where a dataset is to be made.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub namespace: NamespaceId,
    pub namespace_name: &'a str,
    pub dataset: DatasetId,
}

impl Store {
    /// Makes an empty dataset and the event that tells identity.
    ///
    /// # Errors
    /// `NotFound` for the namespace, `AlreadyExists`.
    pub async fn create_dataset(
        &self,
        place: Place<'_>,
        new: &NewDataset,
        owner: PrincipalId,
    ) -> Result<OutboxEvent, ServiceError> {
        let tx = self.sql.begin().await?;
        lock_namespace(&tx, place.namespace, place.namespace_name).await?;
        let event = insert_dataset(&tx, place, new, owner).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(event)
    }

    /// The dataset of a name at its head.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn find_dataset(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Head>, ServiceError> {
        self.head_where(
            "n.name = $1 AND n.deleted_at IS NULL AND d.name = $2",
            vec![namespace.into(), name.into()],
        )
        .await
    }

    /// The dataset of an id at its head.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn find_dataset_by_id(&self, id: DatasetId) -> Result<Option<Head>, ServiceError> {
        self.head_where("d.id = $1", vec![id.uuid().into()]).await
    }

    async fn head_where(
        &self,
        condition: &str,
        values: Vec<Value>,
    ) -> Result<Option<Head>, ServiceError> {
        let statement =
            Statement::from_sql_and_values(self.sql.backend(), select_datasets(condition), values);
        let row =
            DatasetRow::find_by_statement(statement).one(self.read()).await.map_err(db_error)?;
        let Some(row) = row else { return Ok(None) };
        let has_properties = row.has_properties;
        let mut head = row.into_head(BTreeMap::new())?;
        if has_properties {
            let found = self.properties(&[head.dataset.id]).await?.remove(&head.dataset.id);
            head.dataset.properties = found.unwrap_or_default();
        }
        Ok(Some(head))
    }

    /// Up to `limit` visible datasets, without schemas, after a (namespace,
    /// name), in that order; of one namespace or of all.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn list_datasets(
        &self,
        visible: &VisibleRows,
        namespace: Option<NamespaceId>,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<Dataset>, ServiceError> {
        let (after_namespace, after_name) = after.unwrap_or(("", ""));
        let mut conditions = "(n.name, d.name) > ($1, $2)".to_owned();
        let mut values: Vec<Value> =
            vec![after_namespace.into(), after_name.into(), i64::from(limit).into()];
        if let Some(namespace) = namespace {
            values.push(namespace.uuid().into());
            conditions.push_str(&format!(" AND d.namespace_id = ${}", values.len()));
        }
        if let VisibleRows::Only { namespaces, datasets } = visible {
            values.push(id_list(namespaces.iter().map(|id| id.uuid())));
            let in_namespace = is_in_list(self.sql.backend(), "d.namespace_id", values.len());
            values.push(id_list(datasets.iter().map(|id| id.uuid())));
            let is_granted = is_in_list(self.sql.backend(), "d.id", values.len());
            conditions.push_str(&format!(" AND (d.public OR {in_namespace} OR {is_granted})"));
        }
        conditions.push_str(" ORDER BY n.name, d.name LIMIT $3");
        let sql = select_datasets_without_schema(&conditions);
        let statement = Statement::from_sql_and_values(self.sql.backend(), sql, values);
        let rows =
            DatasetRow::find_by_statement(statement).all(self.read()).await.map_err(db_error)?;
        let mut found = rows
            .into_iter()
            .map(|row| row.into_dataset(BTreeMap::new()))
            .collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<_> = found.iter().map(|dataset| dataset.id).collect();
        let mut properties = self.properties(&ids).await?;
        for dataset in &mut found {
            dataset.properties = properties.remove(&dataset.id).unwrap_or_default();
        }
        Ok(found)
    }

    async fn properties(
        &self,
        ids: &[DatasetId],
    ) -> Result<BTreeMap<DatasetId, BTreeMap<String, String>>, ServiceError> {
        let mut found: BTreeMap<DatasetId, BTreeMap<String, String>> = BTreeMap::new();
        if ids.is_empty() {
            return Ok(found);
        }
        let rows = dataset_property::Entity::find()
            .filter(dataset_property::Column::DatasetId.is_in(ids.iter().map(|id| id.uuid())))
            .all(self.read())
            .await
            .map_err(db_error)?;
        for row in rows {
            found
                .entry(DatasetId::from_uuid(row.dataset_id))
                .or_default()
                .insert(row.key, row.value);
        }
        Ok(found)
    }

    /// Deletes a dataset; its name is free at once, its rows stay.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_dataset(
        &self,
        id: DatasetId,
        namespace: NamespaceId,
    ) -> Result<OutboxEvent, ServiceError> {
        let tx = self.sql.begin().await?;
        let deleted = dataset::Entity::update_many()
            .col_expr(dataset::Column::DeletedAt, Expr::value(now_micros()))
            .col_expr(dataset::Column::Revision, Expr::cust("revision + 1"))
            .filter(dataset::Column::Id.eq(id.uuid()))
            .filter(dataset::Column::DeletedAt.is_null())
            .exec(&tx)
            .await
            .map_err(db_error)?;
        if deleted.rows_affected == 0 {
            return Err(no_dataset(id));
        }
        let event =
            outbox::append(&tx, ResourceChange::DatasetDeleted { dataset: id, namespace }).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(event)
    }
}

/// Makes a dataset with its main branch inside a transaction that holds the
/// namespace's lock.
pub async fn insert_dataset(
    tx: &DatabaseTransaction,
    place: Place<'_>,
    new: &NewDataset,
    owner: PrincipalId,
) -> Result<OutboxEvent, ServiceError> {
    let id = place.dataset.uuid();
    let row = new_dataset_row(id, place.namespace.uuid(), new, owner.uuid(), now_micros());
    dataset::Entity::insert(row).exec_without_returning(tx).await.map_err(|error| {
        if is_unique_violation(&error) {
            ServiceError::already_exists(
                "dataset",
                format!("{}/{}", place.namespace_name, new.name),
            )
        } else {
            db_error(error)
        }
    })?;
    let main = branch::ActiveModel {
        dataset_id: Set(id),
        branch: Set(MAIN_BRANCH),
        name: Set("main".to_owned()),
        parent_branch: Set(None),
        fork_snapshot: Set(None),
        head_snapshot: Set(0),
        head_version: Set(0),
        revision: Set(1),
    };
    branch::Entity::insert(main).exec_without_returning(tx).await.map_err(db_error)?;
    let properties = new.properties.iter().map(|(key, value)| dataset_property::ActiveModel {
        dataset_id: Set(id),
        key: Set(key.clone()),
        value: Set(value.clone()),
    });
    if !new.properties.is_empty() {
        dataset_property::Entity::insert_many(properties)
            .exec_without_returning(tx)
            .await
            .map_err(db_error)?;
    }
    let created = ResourceChange::DatasetCreated {
        dataset: place.dataset,
        namespace: place.namespace,
        owner,
    };
    outbox::append(tx, created).await
}

/// The live dataset of a name in a namespace, inside a transaction.
pub async fn dataset_of_name<C: ConnectionTrait>(
    db: &C,
    namespace: NamespaceId,
    name: &str,
) -> Result<Option<DatasetId>, ServiceError> {
    let found = dataset::Entity::find()
        .filter(dataset::Column::NamespaceId.eq(namespace.uuid()))
        .filter(dataset::Column::Name.eq(name))
        .filter(dataset::Column::DeletedAt.is_null())
        .one(db)
        .await;
    Ok(found.map_err(db_error)?.map(|row| DatasetId::from_uuid(row.id)))
}
