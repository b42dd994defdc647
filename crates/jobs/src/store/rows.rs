//! Rows into jobs.

use std::collections::BTreeMap;

use ids::{PrincipalId, TokenId};
use options_api::v1::Role;
use sea_orm::{QueryResult, TryGetable};
use service_error::ServiceError;
use sql_store::db_error;
use uuid::Uuid;

use crate::model::{Failure, ItemError, Job, Owner, Progress, State, Wanted};

pub const COLUMNS: &str = "id, kind, title, state, wanted, owner, owner_name, owner_role, owner_token, owner_service, \
    arguments, checkpoint, phase, unit, done, total, per_second, attempt, lease_epoch, item_errors, failure_code, \
    failure_reason, failure_message, result, revision, created_at, started_at, ended_at";

pub fn job_of(row: &QueryResult) -> Result<Job, ServiceError> {
    let state: i32 = get(row, "state")?;
    let result: Option<String> = get(row, "result")?;
    Ok(Job {
        id: get(row, "id")?,
        kind: get(row, "kind")?,
        title: get(row, "title")?,
        state: State::of(state)
            .ok_or_else(|| ServiceError::internal(format!("a job has the state {state}")))?,
        owner: owner_of(row)?,
        arguments: get(row, "arguments")?,
        checkpoint: get(row, "checkpoint")?,
        progress: Progress {
            phase: get(row, "phase")?,
            unit: get(row, "unit")?,
            done: get(row, "done")?,
            total: get(row, "total")?,
            per_second: get(row, "per_second")?,
        },
        attempt: get(row, "attempt")?,
        lease_epoch: get(row, "lease_epoch")?,
        item_errors: get(row, "item_errors")?,
        stopping: Wanted::of(get(row, "wanted")?) != Wanted::Nothing,
        failure: failure_of(row)?,
        waiting: None,
        result: result
            .map_or_else(BTreeMap::new, |text| serde_json::from_str(&text).unwrap_or_default()),
        revision: get(row, "revision")?,
        created_at: get(row, "created_at")?,
        started_at: get(row, "started_at")?,
        ended_at: get(row, "ended_at")?,
    })
}

fn owner_of(row: &QueryResult) -> Result<Owner, ServiceError> {
    let token: Option<Uuid> = get(row, "owner_token")?;
    Ok(Owner {
        principal: PrincipalId::from_uuid(get(row, "owner")?),
        name: get(row, "owner_name")?,
        role: Role::try_from(get::<i32>(row, "owner_role")?).unwrap_or(Role::Viewer),
        token: token.map(TokenId::from_uuid),
        service: get(row, "owner_service")?,
    })
}

fn failure_of(row: &QueryResult) -> Result<Option<Failure>, ServiceError> {
    let Some(code) = get::<Option<i32>>(row, "failure_code")? else { return Ok(None) };
    let reason: Option<String> = get(row, "failure_reason")?;
    let message: Option<String> = get(row, "failure_message")?;
    Ok(Some(Failure {
        code,
        reason: reason.unwrap_or_default(),
        message: message.unwrap_or_default(),
    }))
}

pub fn item_error_of(row: &QueryResult) -> Result<ItemError, ServiceError> {
    Ok(ItemError { item: get(row, "item")?, message: get(row, "message")?, at: get(row, "at")? })
}

pub fn get<T: TryGetable>(row: &QueryResult, column: &str) -> Result<T, ServiceError> {
    row.try_get("", column).map_err(db_error)
}
