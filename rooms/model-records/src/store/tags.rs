//! Tags of models and of versions.

use std::collections::BTreeMap;

use ids::{ModelId, PrincipalId};
use sea_orm::DatabaseTransaction;
use service_error::ServiceError;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use super::models::hold_model;
use super::sql::{execute, head, insert_all, number};
use super::{Store, events};
use crate::model::{Change, EventKind, ModelVersion};

/// Whose tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Model,
    Version,
}

impl Owner {
    const fn table(self) -> (&'static str, &'static str) {
        match self {
            Self::Model => ("model_tag", "model_id"),
            Self::Version => ("version_tag", "version_id"),
        }
    }
}

impl Store {
    /// Replaces the values of a model's tags.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn set_model_tags(
        &self,
        model: ModelId,
        tags: &BTreeMap<String, String>,
        actor: PrincipalId,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let place = hold_model(&tx, model).await?;
        put(&tx, Owner::Model, model.uuid(), tags).await?;
        for (key, value) in tags {
            let change = Change::of_model(EventKind::ModelTagSet).about(key).values("", value);
            events::append(&tx, &place, change, actor).await?;
        }
        tx.commit().await.map_err(db_error)
    }

    /// Removes a model's tag; answers whether it was there.
    ///
    /// # Errors
    /// `NotFound` for the model.
    pub async fn delete_model_tag(
        &self,
        model: ModelId,
        key: &str,
        actor: PrincipalId,
    ) -> Result<bool, ServiceError> {
        let tx = self.sql.begin().await?;
        let place = hold_model(&tx, model).await?;
        let there = remove(&tx, Owner::Model, model.uuid(), key).await?;
        if there {
            let change = Change::of_model(EventKind::ModelTagDeleted).about(key);
            events::append(&tx, &place, change, actor).await?;
        }
        tx.commit().await.map_err(db_error)?;
        Ok(there)
    }

    /// Replaces the values of a version's tags.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn set_version_tags(
        &self,
        version: &ModelVersion,
        tags: &BTreeMap<String, String>,
        actor: PrincipalId,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let place = hold_model(&tx, version.model_id).await?;
        alive(&tx, version).await?;
        put(&tx, Owner::Version, version.id.uuid(), tags).await?;
        for (key, value) in tags {
            let change = Change::of_version(EventKind::VersionTagSet, version.number)
                .about(key)
                .values("", value);
            events::append(&tx, &place, change, actor).await?;
        }
        tx.commit().await.map_err(db_error)
    }

    /// Removes a version's tag; answers whether it was there.
    ///
    /// # Errors
    /// `NotFound` for the version.
    pub async fn delete_version_tag(
        &self,
        version: &ModelVersion,
        key: &str,
        actor: PrincipalId,
    ) -> Result<bool, ServiceError> {
        let tx = self.sql.begin().await?;
        let place = hold_model(&tx, version.model_id).await?;
        alive(&tx, version).await?;
        let there = remove(&tx, Owner::Version, version.id.uuid(), key).await?;
        if there {
            let change =
                Change::of_version(EventKind::VersionTagDeleted, version.number).about(key);
            events::append(&tx, &place, change, actor).await?;
        }
        tx.commit().await.map_err(db_error)?;
        Ok(there)
    }
}

/// Notes that a live version was changed. Tags and aliases are no such change,
/// as in MLflow: they leave the order of versions as it is.
pub async fn touch(tx: &DatabaseTransaction, version: &ModelVersion) -> Result<(), ServiceError> {
    let sql = "UPDATE version SET updated_at = $1 WHERE id = $2 AND deleted_at IS NULL";
    match execute(tx, sql, [now_micros().into(), version.id.uuid().into()]).await? {
        0 => Err(gone(version)),
        _ => Ok(()),
    }
}

/// That a version is live. Its model's row is locked, so it stays so.
pub async fn alive(tx: &DatabaseTransaction, version: &ModelVersion) -> Result<(), ServiceError> {
    let sql = "SELECT COUNT(*) FROM version WHERE id = $1 AND deleted_at IS NULL";
    match number(tx, sql, [version.id.uuid().into()]).await? {
        Some(1) => Ok(()),
        _ => Err(gone(version)),
    }
}

fn gone(version: &ModelVersion) -> ServiceError {
    let shown = format!("{}/{}/{}", version.namespace, version.model, version.number);
    ServiceError::not_found("model version", shown)
}

/// Writes tags over those of the same keys.
pub async fn put(
    tx: &DatabaseTransaction,
    owner: Owner,
    id: Uuid,
    tags: &BTreeMap<String, String>,
) -> Result<(), ServiceError> {
    let (table, column) = owner.table();
    let row = |(key, value): (&String, &String)| {
        vec![id.into(), key.clone().into(), value.clone().into(), head(value).into()]
    };
    let behind = format!(
        "ON CONFLICT ({column}, key) DO UPDATE SET value = excluded.value, head = excluded.head"
    );
    let into = format!("{table} ({column}, key, value, head)");
    insert_all(tx, &into, tags.iter().map(row).collect(), &behind).await.map(drop)
}

async fn remove(
    tx: &DatabaseTransaction,
    owner: Owner,
    id: Uuid,
    key: &str,
) -> Result<bool, ServiceError> {
    let (table, column) = owner.table();
    let sql = format!("DELETE FROM {table} WHERE {column} = $1 AND key = $2");
    Ok(execute(tx, &sql, [id.into(), key.into()]).await? > 0)
}
