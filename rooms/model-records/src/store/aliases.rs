//! Aliases and all that they ever pointed to.

use ids::{Id, ModelId, PrincipalId};
use sea_orm::{DatabaseTransaction, FromQueryResult};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use super::events::{self, Place};
use super::models::hold_model;
use super::rows::AliasRow;
use super::sql::{all, execute, number, one};
use super::{Store, tags};
use crate::model::{Alias, Change, EventKind, ModelVersion};

/// Where an alias is moved.
#[derive(Debug, Clone)]
pub struct AliasMove<'a> {
    pub name: &'a str,
    pub to: &'a ModelVersion,
    /// `None`: as it is.
    pub protected: Option<bool>,
    /// Only if it points there now; 0: only if there is no such alias.
    pub expected: Option<i64>,
    /// Whoever asks may move one that is protected.
    pub by_admin: bool,
}

/// One step in the life of an alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasStep {
    /// From 1, for each alias of a model.
    pub seq: i64,
    /// 0: it was removed.
    pub number: i64,
    /// Microseconds UTC.
    pub set_at: i64,
    pub set_by: PrincipalId,
}

#[derive(Debug, FromQueryResult)]
struct StepRow {
    seq: i64,
    number: i64,
    set_at: i64,
    set_by: Uuid,
}

impl Store {
    /// Points an alias to a version.
    ///
    /// # Errors
    /// `NotFound` for the version, `PermissionDenied` (`ALIAS_PROTECTED`) unless
    /// by an admin, `Conflict` if the alias is not where the caller expects it.
    pub async fn set_alias(
        &self,
        moved: &AliasMove<'_>,
        actor: PrincipalId,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let place = hold_model(&tx, moved.to.model_id).await?;
        tags::alive(&tx, moved.to).await?;
        let before = alias_in(&tx, moved.to.model_id, moved.name).await?;
        let from = before.as_ref().map_or(0, |alias| alias.number);
        unprotected(before.as_ref(), moved.by_admin)?;
        if moved.expected.is_some_and(|expected| expected != from) {
            return Err(elsewhere(moved.name, from));
        }
        let protected =
            moved.protected.unwrap_or_else(|| before.as_ref().is_some_and(|a| a.protected));
        let sql = "INSERT INTO alias (model_id, name, number, protected, set_at, set_by, revision) \
                   VALUES ($1, $2, $3, $4, $5, $6, 1) ON CONFLICT (model_id, name) DO UPDATE SET \
                   number = excluded.number, protected = excluded.protected, \
                   set_at = excluded.set_at, set_by = excluded.set_by, \
                   revision = alias.revision + 1";
        let values = [
            moved.to.model_id.uuid().into(),
            moved.name.into(),
            moved.to.number.into(),
            protected.into(),
            now_micros().into(),
            actor.uuid().into(),
        ];
        execute(&tx, sql, values).await?;
        if from != moved.to.number {
            remember(&tx, moved.to.model_id, moved.name, moved.to.number, actor).await?;
        }
        let change = Change::of_version(EventKind::AliasSet, moved.to.number)
            .about(moved.name)
            .values(&shown(from), &moved.to.number.to_string());
        events::append(&tx, &place, change, actor).await?;
        tx.commit().await.map_err(db_error)
    }

    /// Removes an alias; answers whether it was there.
    ///
    /// # Errors
    /// `NotFound` for the model, `PermissionDenied` (`ALIAS_PROTECTED`) unless by
    /// an admin.
    pub async fn delete_alias(
        &self,
        model: ModelId,
        name: &str,
        actor: PrincipalId,
        by_admin: bool,
    ) -> Result<bool, ServiceError> {
        let tx = self.sql.begin().await?;
        let place = hold_model(&tx, model).await?;
        let Some(alias) = alias_in(&tx, model, name).await? else { return Ok(false) };
        unprotected(Some(&alias), by_admin)?;
        drop_alias(&tx, &place, &alias, actor).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(true)
    }

    /// An alias of a model.
    ///
    /// # Errors
    /// The database's.
    pub async fn alias(&self, model: ModelId, name: &str) -> Result<Option<Alias>, ServiceError> {
        let row: Option<AliasRow> =
            one(self.read(), ALIAS, [model.uuid().into(), name.into()]).await?;
        Ok(row.map(Alias::from))
    }

    /// Steps of an alias, newest first, below a sequence number.
    ///
    /// # Errors
    /// The database's.
    pub async fn alias_history(
        &self,
        model: ModelId,
        name: &str,
        below: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AliasStep>, ServiceError> {
        let sql = "SELECT seq, number, set_at, set_by FROM alias_history \
                   WHERE model_id = $1 AND name = $2 AND seq < $3 ORDER BY seq DESC LIMIT $4";
        let values = [
            model.uuid().into(),
            name.into(),
            below.unwrap_or(i64::MAX).into(),
            i64::from(limit).into(),
        ];
        let rows: Vec<StepRow> = all(self.read(), sql, values).await?;
        let step = |row: StepRow| AliasStep {
            seq: row.seq,
            number: row.number,
            set_at: row.set_at,
            set_by: Id::from_uuid(row.set_by),
        };
        Ok(rows.into_iter().map(step).collect())
    }

    /// What an alias pointed to at a time; 0 or nothing: to nothing.
    ///
    /// # Errors
    /// The database's.
    pub async fn alias_at(
        &self,
        model: ModelId,
        name: &str,
        at: i64,
    ) -> Result<Option<i64>, ServiceError> {
        let sql = "SELECT number FROM alias_history WHERE model_id = $1 AND name = $2 \
                   AND set_at <= $3 ORDER BY seq DESC LIMIT 1";
        number(self.read(), sql, [model.uuid().into(), name.into(), at.into()]).await
    }
}

const ALIAS: &str = "SELECT model_id, name, number, protected, set_at, set_by FROM alias \
                     WHERE model_id = $1 AND name = $2";

async fn alias_in(
    tx: &DatabaseTransaction,
    model: ModelId,
    name: &str,
) -> Result<Option<Alias>, ServiceError> {
    let row: Option<AliasRow> = one(tx, ALIAS, [model.uuid().into(), name.into()]).await?;
    Ok(row.map(Alias::from))
}

async fn drop_alias(
    tx: &DatabaseTransaction,
    place: &Place,
    alias: &Alias,
    actor: PrincipalId,
) -> Result<(), ServiceError> {
    let sql = "DELETE FROM alias WHERE model_id = $1 AND name = $2";
    execute(tx, sql, [place.model_id.into(), alias.name.clone().into()]).await?;
    remember(tx, Id::from_uuid(place.model_id), &alias.name, 0, actor).await?;
    let change = Change::of_version(EventKind::AliasDeleted, alias.number)
        .about(&alias.name)
        .values(&alias.number.to_string(), "");
    events::append(tx, place, change, actor).await.map(drop)
}

/// Removes the aliases of a version that is deleted.
pub async fn drop_of_version(
    tx: &DatabaseTransaction,
    place: &Place,
    version: &ModelVersion,
    actor: PrincipalId,
) -> Result<(), ServiceError> {
    let sql = "SELECT model_id, name, number, protected, set_at, set_by FROM alias \
               WHERE model_id = $1 AND number = $2 ORDER BY name";
    let values = [version.model_id.uuid().into(), version.number.into()];
    for row in all::<AliasRow, _>(tx, sql, values).await? {
        drop_alias(tx, place, &row.into(), actor).await?;
    }
    Ok(())
}

/// Adds a step to an alias's history. The model's row is locked, so the next
/// number is nobody else's.
async fn remember(
    tx: &DatabaseTransaction,
    model: ModelId,
    name: &str,
    to: i64,
    actor: PrincipalId,
) -> Result<(), ServiceError> {
    let sql = "INSERT INTO alias_history (model_id, name, seq, number, set_at, set_by) \
               VALUES ($1, $2, (SELECT COALESCE(MAX(seq), 0) + 1 FROM alias_history \
               WHERE model_id = $1 AND name = $2), $3, $4, $5)";
    let values =
        [model.uuid().into(), name.into(), to.into(), now_micros().into(), actor.uuid().into()];
    execute(tx, sql, values).await.map(drop)
}

/// Decided where the alias is locked: it may have been protected since the
/// caller looked.
fn unprotected(alias: Option<&Alias>, by_admin: bool) -> Result<(), ServiceError> {
    match alias.filter(|alias| alias.protected && !by_admin) {
        None => Ok(()),
        Some(alias) => {
            let message = format!("alias {} is protected: only an admin moves it", alias.name);
            Err(ServiceError::denied(message).reason("ALIAS_PROTECTED"))
        }
    }
}

fn shown(number: i64) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

fn elsewhere(name: &str, from: i64) -> ServiceError {
    let at = if from == 0 { "nothing".to_owned() } else { format!("version {from}") };
    ServiceError::conflict(format!("alias {name} points to {at} now; look and decide again"))
        .reason("ALIAS_MOVED")
        .with("version", from)
}
