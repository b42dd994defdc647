//! Rows of saved filters.

use std::collections::BTreeMap;

use ids::{DatasetId, Id, PrincipalId};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Set,
};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};

use crate::model::SavedFilter;
use crate::store::Store;
use crate::store::entity::saved_filter as row;

/// The most saved filters of a dataset.
const FILTERS_MAX: u64 = 1_000;

impl Store {
    /// Texts of saved filters by name; names that are not there are left out.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn saved_texts(
        &self,
        dataset: DatasetId,
        names: &[String],
    ) -> Result<BTreeMap<String, String>, ServiceError> {
        let rows = row::Entity::find()
            .filter(row::Column::DatasetId.eq(dataset.uuid()))
            .filter(row::Column::Name.is_in(names.iter().map(String::as_str)))
            .all(self.read())
            .await
            .map_err(db_error)?;
        Ok(rows.into_iter().map(|row| (row.name, row.filter)).collect())
    }

    /// A saved filter.
    ///
    /// # Errors
    /// `NotFound`, or as [`db_error`].
    pub async fn saved_filter(
        &self,
        dataset: DatasetId,
        name: &str,
    ) -> Result<SavedFilter, ServiceError> {
        let row = row::Entity::find_by_id((dataset.uuid(), name.to_owned()))
            .one(self.read())
            .await
            .map_err(db_error)?;
        row.map(saved).ok_or_else(|| absent(name))
    }

    /// The saved filters of a dataset whose names follow one, in order.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn saved_filters(
        &self,
        dataset: DatasetId,
        after: &str,
        limit: u64,
    ) -> Result<Vec<SavedFilter>, ServiceError> {
        let rows = row::Entity::find()
            .filter(row::Column::DatasetId.eq(dataset.uuid()))
            .filter(row::Column::Name.gt(after))
            .order_by_asc(row::Column::Name)
            .limit(limit)
            .all(self.read())
            .await
            .map_err(db_error)?;
        Ok(rows.into_iter().map(saved).collect())
    }

    /// Saves a filter: its name, its text and what it is for.
    ///
    /// # Errors
    /// `AlreadyExists`, `ResourceExhausted` when there are too many, or as [`db_error`].
    pub async fn add_filter(
        &self,
        dataset: DatasetId,
        created_by: PrincipalId,
        (name, filter, description): (&str, &str, &str),
    ) -> Result<SavedFilter, ServiceError> {
        let tx = self.sql.begin().await?;
        let count = row::Entity::find()
            .filter(row::Column::DatasetId.eq(dataset.uuid()))
            .count(&tx)
            .await
            .map_err(db_error)?;
        if count >= FILTERS_MAX {
            let message = format!("the dataset has {count} saved filters, which is the most");
            return Err(ServiceError::exhausted(message).reason("TOO_MANY_FILTERS"));
        }
        let now = now_micros();
        let new = row::Model {
            dataset_id: dataset.uuid(),
            name: name.to_owned(),
            filter: filter.to_owned(),
            description: description.to_owned(),
            revision: 1,
            created_by: created_by.uuid(),
            created_at: now,
            updated_at: now,
        };
        let same = OnConflict::columns([row::Column::DatasetId, row::Column::Name])
            .do_nothing()
            .to_owned();
        let added = row::Entity::insert(row::ActiveModel {
            dataset_id: Set(new.dataset_id),
            name: Set(new.name.clone()),
            filter: Set(new.filter.clone()),
            description: Set(new.description.clone()),
            revision: Set(new.revision),
            created_by: Set(new.created_by),
            created_at: Set(new.created_at),
            updated_at: Set(new.updated_at),
        })
        .on_conflict(same)
        .exec_without_returning(&tx)
        .await
        .map_err(db_error)?;
        if added == 0 {
            return Err(ServiceError::already_exists("saved filter", name));
        }
        tx.commit().await.map_err(db_error)?;
        Ok(saved(new))
    }

    /// Replaces text and description of a filter that still has this revision; `None`: it has
    /// not.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn change_filter(
        &self,
        dataset: DatasetId,
        new: SavedFilter,
    ) -> Result<Option<SavedFilter>, ServiceError> {
        let tx = self.sql.begin().await?;
        let (revision, now) = (new.revision + 1, now_micros());
        let done = row::Entity::update_many()
            .col_expr(row::Column::Filter, Expr::value(new.filter.clone()))
            .col_expr(row::Column::Description, Expr::value(new.description.clone()))
            .col_expr(row::Column::Revision, Expr::value(revision))
            .col_expr(row::Column::UpdatedAt, Expr::value(now))
            .filter(row::Column::DatasetId.eq(dataset.uuid()))
            .filter(row::Column::Name.eq(new.name.as_str()))
            .filter(row::Column::Revision.eq(new.revision))
            .exec(&tx)
            .await
            .map_err(db_error)?;
        tx.commit().await.map_err(db_error)?;
        Ok((done.rows_affected == 1).then_some(SavedFilter { revision, updated_at: now, ..new }))
    }

    /// Forgets a saved filter.
    ///
    /// # Errors
    /// `NotFound`, or as [`db_error`].
    pub async fn forget_filter(&self, dataset: DatasetId, name: &str) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let done = row::Entity::delete_by_id((dataset.uuid(), name.to_owned())).exec(&tx).await;
        if done.map_err(db_error)?.rows_affected == 0 {
            return Err(absent(name));
        }
        tx.commit().await.map_err(db_error)
    }
}

fn absent(name: &str) -> ServiceError {
    let shown: String = name.chars().take(100).collect();
    ServiceError::not_found("saved filter", shown).reason("FILTER_NOT_FOUND")
}

fn saved(row: row::Model) -> SavedFilter {
    SavedFilter {
        name: row.name,
        filter: row.filter,
        description: row.description,
        revision: row.revision,
        created_by: Id::from_uuid(row.created_by),
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}
