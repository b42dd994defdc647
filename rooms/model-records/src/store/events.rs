//! Events: written in the transaction of the change that they tell of.

use ids::{EventId, Id, ModelId, NamespaceId, PrincipalId};
use mlflow_wire::search::IS_PROMPT;
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult, Value};
use service_error::ServiceError;
use sql_store::{current_number, next_numbers, now_micros};
use uuid::Uuid;

use super::sql::{Values, all, insert_all};
use super::{Store, VisibleRows};
use crate::model::{Change, Event, EventKind};

/// The model that an event is of.
#[derive(Debug, Clone)]
pub struct Place {
    pub namespace_id: Uuid,
    pub namespace: String,
    pub model_id: Uuid,
    pub model: String,
}

/// Adds an event to the transaction of its change. Last of all: its counter is
/// everybody's.
pub async fn append(
    tx: &DatabaseTransaction,
    place: &Place,
    change: Change,
    actor: PrincipalId,
) -> Result<i64, ServiceError> {
    append_all(tx, place, vec![(change, actor)]).await
}

/// Adds the events of several changes of one model, in their order; answers the
/// last one's number.
pub async fn append_all(
    tx: &DatabaseTransaction,
    place: &Place,
    changes: Vec<(Change, PrincipalId)>,
) -> Result<i64, ServiceError> {
    let count = u32::try_from(changes.len())
        .map_err(|_| ServiceError::internal("too many events at once"))?;
    let last = next_numbers(tx, "event", count).await?;
    let at = now_micros();
    let first = last - i64::from(count) + 1;
    let row = |(seq, (change, actor)): (i64, (Change, PrincipalId))| -> Vec<Value> {
        vec![
            seq.into(),
            EventId::new().uuid().into(),
            place.namespace_id.into(),
            place.namespace.clone().into(),
            place.model_id.into(),
            place.model.clone().into(),
            change.number.into(),
            (change.kind as i16).into(),
            change.subject.into(),
            change.before.into(),
            change.after.into(),
            actor.uuid().into(),
            at.into(),
        ]
    };
    let into = "event (seq, id, namespace_id, namespace, model_id, model, number, kind, subject, \
                before, after, actor, at)";
    insert_all(tx, into, (first..).zip(changes).map(row).collect(), "").await?;
    Ok(last)
}

const COLUMNS: &str = "e.seq, e.id, e.namespace, e.model_id, e.model, e.number, e.kind, e.subject, \
    e.before, e.after, e.actor, e.at";

#[derive(Debug, FromQueryResult)]
struct Row {
    seq: i64,
    id: Uuid,
    namespace: String,
    model_id: Uuid,
    model: String,
    number: i64,
    kind: i16,
    subject: String,
    before: String,
    after: String,
    actor: Uuid,
    at: i64,
}

impl Row {
    /// Nothing for a kind that a newer build wrote.
    fn into_event(self) -> Option<Event> {
        Some(Event {
            seq: self.seq,
            id: Id::from_uuid(self.id),
            namespace: self.namespace,
            model_id: Id::from_uuid(self.model_id),
            model: self.model,
            change: Change {
                kind: EventKind::of(self.kind)?,
                number: self.number,
                subject: self.subject,
                before: self.before,
                after: self.after,
            },
            actor: Id::from_uuid(self.actor),
            at: self.at,
        })
    }
}

impl Store {
    /// Events after a number that a caller may see, in the order of commits; and
    /// the number to go on from.
    ///
    /// # Errors
    /// The database's.
    pub async fn events(
        &self,
        visible: &VisibleRows,
        namespace: Option<NamespaceId>,
        model: Option<ModelId>,
        after: i64,
        limit: u32,
    ) -> Result<(Vec<Event>, i64), ServiceError> {
        // Taken first: what commits meanwhile has a larger number.
        let newest = self.newest_event().await?;
        let mut values = Values::new(self.sql.backend());
        let seen = visible.event_condition(&mut values);
        let begin = values.add(after);
        let end = values.add(newest);
        let mut conditions = vec![seen, format!("e.seq > {begin} AND e.seq <= {end}")];
        if let Some(namespace) = namespace {
            conditions.push(format!("e.namespace_id = {}", values.add(namespace.uuid())));
        }
        if let Some(model) = model {
            conditions.push(format!("e.model_id = {}", values.add(model.uuid())));
        }
        let limit_value = values.add(i64::from(limit));
        let sql = format!(
            "SELECT {COLUMNS} FROM event e WHERE {} ORDER BY e.seq LIMIT {limit_value}",
            conditions.join(" AND ")
        );
        let rows: Vec<Row> = all(self.read(), &sql, values.all).await?;
        let whole = rows.len() < limit as usize;
        let next = if whole { newest.max(after) } else { rows.last().map_or(after, |row| row.seq) };
        Ok((rows.into_iter().filter_map(Row::into_event).collect(), next))
    }

    /// The number of the newest event; 0 before the first.
    ///
    /// # Errors
    /// The database's.
    pub async fn newest_event(&self) -> Result<i64, ServiceError> {
        current_number(self.read(), "event").await
    }

    /// An event by its number.
    ///
    /// # Errors
    /// The database's.
    pub async fn event(&self, seq: i64) -> Result<Option<Event>, ServiceError> {
        let sql = format!("SELECT {COLUMNS} FROM event e WHERE e.seq = $1");
        let rows: Vec<Row> = all(self.read(), &sql, [seq.into()]).await?;
        Ok(rows.into_iter().find_map(Row::into_event))
    }
}

/// The number and kind of events in a range, the namespace that each is of, and
/// whether its model is a prompt: more than 0.
#[derive(Debug, FromQueryResult)]
pub struct Kinded {
    pub seq: i64,
    pub kind: i16,
    pub namespace_id: Uuid,
    pub prompts: i64,
}

/// Events after a number, to be matched with webhooks.
pub async fn kinds_after<C: ConnectionTrait>(
    db: &C,
    after: i64,
    limit: i64,
) -> Result<Vec<Kinded>, ServiceError> {
    let sql = "SELECT e.seq, e.kind, e.namespace_id, (SELECT COUNT(*) FROM model_tag t \
               WHERE t.model_id = e.model_id AND t.key = $3 AND LOWER(t.value) = 'true') AS prompts \
               FROM event e WHERE e.seq > $1 ORDER BY e.seq LIMIT $2";
    all(db, sql, [after.into(), limit.into(), IS_PROMPT.into()]).await
}
