//! What identity must learn: models that were made (they get an owner) or that
//! are gone for good. Written in the transaction of the change.

use ids::{EventId, Id, ModelId, NamespaceId, PrincipalId};
use sea_orm::{DatabaseTransaction, FromQueryResult};
use service_error::ServiceError;
use sql_store::{db_error, next_number, now_micros};
use uuid::Uuid;

use super::Store;
use super::sql::{all, execute};

/// Events that are read at once.
const EVENTS_PER_READ: i64 = 100;

/// A change on its way to identity, at least once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxEvent {
    /// The receiver knows repetitions by it.
    pub id: EventId,
    /// Commit order.
    pub seq: i64,
    pub model: ModelId,
    pub namespace: NamespaceId,
    /// `None`: the model is gone.
    pub owner: Option<PrincipalId>,
}

#[derive(Debug, FromQueryResult)]
struct Row {
    event_id: Uuid,
    seq: i64,
    model_id: Uuid,
    namespace_id: Uuid,
    owner_id: Option<Uuid>,
}

impl From<Row> for OutboxEvent {
    fn from(row: Row) -> Self {
        Self {
            id: Id::from_uuid(row.event_id),
            seq: row.seq,
            model: Id::from_uuid(row.model_id),
            namespace: Id::from_uuid(row.namespace_id),
            owner: row.owner_id.map(Id::from_uuid),
        }
    }
}

impl Store {
    /// The oldest undelivered events, in commit order; of one model or of all.
    ///
    /// # Errors
    /// The database's.
    pub async fn undelivered(
        &self,
        model: Option<ModelId>,
    ) -> Result<Vec<OutboxEvent>, ServiceError> {
        let columns = "SELECT event_id, seq, model_id, namespace_id, owner_id FROM outbox \
                       WHERE delivered_at IS NULL";
        let rows: Vec<Row> = match model {
            Some(model) => {
                let sql = format!("{columns} AND model_id = $2 ORDER BY seq LIMIT $1");
                all(self.read(), &sql, [EVENTS_PER_READ.into(), model.uuid().into()]).await?
            }
            None => {
                let sql = format!("{columns} ORDER BY seq LIMIT $1");
                all(self.read(), &sql, [EVENTS_PER_READ.into()]).await?
            }
        };
        Ok(rows.into_iter().map(OutboxEvent::from).collect())
    }

    /// Notes that an event arrived.
    ///
    /// # Errors
    /// The database's.
    pub async fn mark_delivered(&self, event: EventId) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "UPDATE outbox SET delivered_at = $1 WHERE event_id = $2";
        execute(&tx, sql, [now_micros().into(), event.uuid().into()]).await?;
        tx.commit().await.map_err(db_error)
    }
}

/// Adds an event to the transaction of its change. Its counter is taken before the one of the
/// change's own event, everywhere: else two changes could wait for each other.
pub async fn append(
    tx: &DatabaseTransaction,
    model: ModelId,
    namespace: NamespaceId,
    owner: Option<PrincipalId>,
) -> Result<OutboxEvent, ServiceError> {
    let seq = next_number(tx, "outbox").await?;
    let event = OutboxEvent { id: EventId::new(), seq, model, namespace, owner };
    let sql = "INSERT INTO outbox (event_id, seq, model_id, namespace_id, owner_id, created_at) \
               VALUES ($1, $2, $3, $4, $5, $6)";
    let values = [
        event.id.uuid().into(),
        seq.into(),
        model.uuid().into(),
        namespace.uuid().into(),
        owner.map(PrincipalId::uuid).into(),
        now_micros().into(),
    ];
    execute(tx, sql, values).await?;
    Ok(event)
}
