//! Rows of the outbox, written in the transaction of the change they tell of.

use ids::{EventId, Id};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Set,
};
use service_error::ServiceError;
use sql_store::{db_error, next_number, now_micros};
use uuid::Uuid;

use crate::model::{OutboxEvent, ResourceChange};
use crate::store::Store;
use crate::store::entity::outbox as row;

const CHANGE_NAMESPACE_CREATED: i16 = 1;
const CHANGE_NAMESPACE_DELETED: i16 = 2;
const CHANGE_DATASET_CREATED: i16 = 3;
const CHANGE_DATASET_DELETED: i16 = 4;

/// Events that wait for delivery at most at once.
const EVENTS_PER_READ: u64 = 100;

impl Store {
    /// The oldest undelivered events, in commit order.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn undelivered(&self) -> Result<Vec<OutboxEvent>, ServiceError> {
        let rows = row::Entity::find()
            .filter(row::Column::DeliveredAt.is_null())
            .order_by_asc(row::Column::Seq)
            .limit(EVENTS_PER_READ)
            .all(self.read())
            .await
            .map_err(db_error)?;
        rows.into_iter().map(event_of).collect()
    }

    /// The undelivered events of some resources up to one in commit order.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn undelivered_of(
        &self,
        resources: &[Uuid],
        up_to: i64,
    ) -> Result<Vec<OutboxEvent>, ServiceError> {
        let rows = row::Entity::find()
            .filter(row::Column::DeliveredAt.is_null())
            .filter(row::Column::ResourceId.is_in(resources.iter().copied()))
            .filter(row::Column::Seq.lte(up_to))
            .order_by_asc(row::Column::Seq)
            .limit(EVENTS_PER_READ)
            .all(self.read())
            .await
            .map_err(db_error)?;
        rows.into_iter().map(event_of).collect()
    }

    /// Notes that an event arrived.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn mark_delivered(&self, event: EventId) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        row::Entity::update_many()
            .col_expr(row::Column::DeliveredAt, Expr::value(now_micros()))
            .filter(row::Column::EventId.eq(event.uuid()))
            .exec(&tx)
            .await
            .map_err(db_error)?;
        tx.commit().await.map_err(db_error)
    }
}

/// Adds an event to the transaction of its change.
pub async fn append(
    tx: &DatabaseTransaction,
    change: ResourceChange,
) -> Result<OutboxEvent, ServiceError> {
    let event = OutboxEvent { id: EventId::new(), seq: next_number(tx, "outbox").await?, change };
    let (kind, resource, parent, owner) = match change {
        ResourceChange::NamespaceCreated { namespace, owner } => {
            (CHANGE_NAMESPACE_CREATED, namespace.uuid(), None, Some(owner.uuid()))
        }
        ResourceChange::NamespaceDeleted { namespace } => {
            (CHANGE_NAMESPACE_DELETED, namespace.uuid(), None, None)
        }
        ResourceChange::DatasetCreated { dataset, namespace, owner } => {
            (CHANGE_DATASET_CREATED, dataset.uuid(), Some(namespace.uuid()), Some(owner.uuid()))
        }
        ResourceChange::DatasetDeleted { dataset, namespace } => {
            (CHANGE_DATASET_DELETED, dataset.uuid(), Some(namespace.uuid()), None)
        }
    };
    let appended = row::ActiveModel {
        event_id: Set(event.id.uuid()),
        seq: Set(event.seq),
        kind: Set(kind),
        resource_id: Set(resource),
        parent_id: Set(parent),
        owner_id: Set(owner),
        created_at: Set(now_micros()),
        delivered_at: Set(None),
    };
    row::Entity::insert(appended).exec_without_returning(tx).await.map_err(db_error)?;
    Ok(event)
}

fn event_of(row: row::Model) -> Result<OutboxEvent, ServiceError> {
    let broken = || ServiceError::data_loss(format!("outbox event {} can't be read", row.event_id));
    let parent = || row.parent_id.map(Id::from_uuid).ok_or_else(broken);
    let owner = || row.owner_id.map(Id::from_uuid).ok_or_else(broken);
    let change = match row.kind {
        CHANGE_NAMESPACE_CREATED => ResourceChange::NamespaceCreated {
            namespace: Id::from_uuid(row.resource_id),
            owner: owner()?,
        },
        CHANGE_NAMESPACE_DELETED => {
            ResourceChange::NamespaceDeleted { namespace: Id::from_uuid(row.resource_id) }
        }
        CHANGE_DATASET_CREATED => ResourceChange::DatasetCreated {
            dataset: Id::from_uuid(row.resource_id),
            namespace: parent()?,
            owner: owner()?,
        },
        CHANGE_DATASET_DELETED => ResourceChange::DatasetDeleted {
            dataset: Id::from_uuid(row.resource_id),
            namespace: parent()?,
        },
        _ => return Err(broken()),
    };
    Ok(OutboxEvent { id: Id::from_uuid(row.event_id), seq: row.seq, change })
}
