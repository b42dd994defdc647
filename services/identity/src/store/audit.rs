//! Queries about the audit.

use ids::PrincipalId;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use service_error::ServiceError;
use sha2::{Digest, Sha256};
use sql_store::{db_error, next_number};

use super::entity::audit::{ActiveModel, Column, Entity, Model};
use super::{Db, Tx, code};
use crate::model::{AuditEvent, Outcome};

const COUNTER: &str = "audit";

fn event(row: Model) -> AuditEvent {
    AuditEvent {
        number: row.number,
        at: row.at,
        principal: row.principal_id.map(PrincipalId::from_uuid),
        principal_name: row.principal_name,
        service: row.service,
        action: row.action,
        resource: row.resource,
        outcome: code::outcome(row.outcome),
        detail: row.detail,
        count: row.count,
    }
}

impl<C: ConnectionTrait> Db<C> {
    /// Newest first, before a number; of a principal, of an outcome, or both.
    pub async fn audit_events(
        &self,
        of: Option<PrincipalId>,
        outcome: Option<Outcome>,
        before: Option<i64>,
        most: u32,
    ) -> Result<Vec<AuditEvent>, ServiceError> {
        let mut query = Entity::find().order_by_desc(Column::Number).limit(u64::from(most));
        if let Some(of) = of {
            query = query.filter(Column::PrincipalId.eq(of.uuid()));
        }
        if let Some(outcome) = outcome {
            query = query.filter(Column::Outcome.eq(outcome as i16));
        }
        if let Some(before) = before {
            query = query.filter(Column::Number.lt(before));
        }
        Ok(query.all(&self.conn).await.map_err(db_error)?.into_iter().map(event).collect())
    }
}

impl Tx {
    /// Writes a row under the next number, in the transaction of what it tells.
    pub async fn audit(&self, event: &AuditEvent) -> Result<(), ServiceError> {
        self.insert_event(event, None).await
    }

    /// Adds to the row of alike denials within the minute, or begins it.
    pub async fn audit_denial(&self, event: &AuditEvent) -> Result<(), ServiceError> {
        let alike = alike(event);
        let add = Entity::update_many()
            .col_expr(Column::Count, Expr::col(Column::Count).add(event.count))
            .filter(Column::Alike.eq(alike.clone()));
        if add.exec(&self.conn).await.map_err(db_error)?.rows_affected > 0 {
            return Ok(());
        }
        self.insert_event(event, Some(alike)).await
    }

    async fn insert_event(
        &self,
        event: &AuditEvent,
        alike: Option<Vec<u8>>,
    ) -> Result<(), ServiceError> {
        let row = ActiveModel {
            number: Set(next_number(&self.conn, COUNTER).await?),
            at: Set(event.at),
            principal_id: Set(event.principal.map(PrincipalId::uuid)),
            principal_name: Set(event.principal_name.clone()),
            service: Set(event.service.clone()),
            action: Set(event.action.clone()),
            resource: Set(event.resource.clone()),
            outcome: Set(event.outcome as i16),
            detail: Set(event.detail.clone()),
            count: Set(event.count),
            alike: Set(alike),
        };
        Entity::insert(row).exec_without_returning(&self.conn).await.map(drop).map_err(db_error)
    }
}

fn alike(event: &AuditEvent) -> Vec<u8> {
    let principal = event.principal.map(|id| id.uuid().into_bytes());
    let mut hash = Sha256::new()
        .chain_update(event.at.to_be_bytes())
        .chain_update(principal.unwrap_or_default());
    for part in [&event.service, &event.action, &event.resource] {
        hash.update([0]);
        hash.update(part);
    }
    hash.finalize().to_vec()
}
