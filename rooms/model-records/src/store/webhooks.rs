//! Rows of webhooks and of what they are sent.

use std::collections::BTreeSet;

use ids::{Id, NamespaceId, PrincipalId, WebhookId};
use sea_orm::FromQueryResult;
use service_error::ServiceError;
use sql_store::{db_error, is_unique_violation, next_numbers, now_micros};
use uuid::Uuid;

use super::Store;
use super::events::kinds_after;
use super::sql::{all, execute, execute_or, insert_all, number, one};
use crate::model::{Delivery, DeliveryState, EventKind, Subscription, Webhook};

const COLUMNS: &str =
    "id, namespace, name, description, url, secret, active, created_at, updated_at";
/// The counter whose value is the last event that was matched with webhooks.
const CURSOR: &str = "webhook";
/// Another process may take a delivery over after this long.
const LEASE_MICROS: i64 = 120_000_000;

#[derive(Debug, FromQueryResult)]
struct WebhookRow {
    id: Uuid,
    namespace: String,
    name: String,
    description: String,
    url: String,
    secret: String,
    active: bool,
    created_at: i64,
    updated_at: i64,
}

#[derive(Debug, FromQueryResult)]
struct KindRow {
    kind: i16,
}

#[derive(Debug, FromQueryResult)]
struct Subscribed {
    webhook_id: Uuid,
    namespace_id: Uuid,
    kind: i16,
}

#[derive(Debug, FromQueryResult)]
struct DeliveryRow {
    id: Uuid,
    webhook_id: Uuid,
    event_seq: i64,
    state: i16,
    attempts: i64,
    next_at: i64,
    lease_epoch: i64,
    last_status: i64,
    last_error: String,
    ended_at: Option<i64>,
}

const DELIVERY: &str = "SELECT id, webhook_id, event_seq, state, attempts, next_at, lease_epoch, \
    last_status, last_error, ended_at FROM delivery";

impl From<DeliveryRow> for Delivery {
    fn from(row: DeliveryRow) -> Self {
        Self {
            id: row.id,
            event: row.event_seq,
            state: match row.state {
                1 => DeliveryState::Waiting,
                2 => DeliveryState::Delivered,
                _ => DeliveryState::GivenUp,
            },
            attempts: row.attempts,
            next_at: row.next_at,
            lease_epoch: row.lease_epoch,
            last_status: row.last_status,
            last_error: row.last_error,
            ended_at: row.ended_at,
        }
    }
}

/// How one try of a delivery ended.
#[derive(Debug, Clone)]
pub struct Tried {
    pub state: DeliveryState,
    pub next_at: i64,
    pub status: i64,
    pub error: String,
}

impl Store {
    /// Makes a webhook, or changes one of that id.
    ///
    /// # Errors
    /// `AlreadyExists` for the name.
    pub async fn put_webhook(
        &self,
        namespace: NamespaceId,
        webhook: &Webhook,
        by: PrincipalId,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "INSERT INTO webhook (id, namespace_id, namespace, name, description, url, \
                   secret, active, created_at, updated_at, created_by) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) \
                   DO UPDATE SET name = excluded.name, description = excluded.description, \
                   url = excluded.url, secret = excluded.secret, active = excluded.active, \
                   updated_at = excluded.updated_at";
        let values = [
            webhook.id.uuid().into(),
            namespace.uuid().into(),
            webhook.namespace.clone().into(),
            webhook.name.clone().into(),
            webhook.description.clone().into(),
            webhook.url.clone().into(),
            webhook.secret.clone().into(),
            webhook.active.into(),
            webhook.created_at.into(),
            webhook.updated_at.into(),
            by.uuid().into(),
        ];
        let taken = |error| {
            if is_unique_violation(&error) {
                ServiceError::already_exists("webhook", &webhook.name)
            } else {
                db_error(error)
            }
        };
        execute_or(&tx, sql, values, taken).await?;
        let id = webhook.id.uuid();
        execute(&tx, "DELETE FROM webhook_kind WHERE webhook_id = $1", [id.into()]).await?;
        let kinds = webhook.kinds.iter().map(|kind| vec![id.into(), kind.code().into()]);
        let into = "webhook_kind (webhook_id, kind)";
        insert_all(&tx, into, kinds.collect(), "ON CONFLICT DO NOTHING").await?;
        tx.commit().await.map_err(db_error)
    }

    /// The live webhooks of a namespace, or the one of an id, by name.
    ///
    /// # Errors
    /// The database's.
    pub async fn webhooks(
        &self,
        namespace: NamespaceId,
        id: Option<WebhookId>,
    ) -> Result<Vec<Webhook>, ServiceError> {
        const WEBHOOKS_MAX: i64 = 1_000;
        let which = if id.is_some() { "id = $3" } else { "$3 = $3" };
        let sql = format!(
            "SELECT {COLUMNS} FROM webhook WHERE namespace_id = $1 AND deleted_at IS NULL \
             AND {which} ORDER BY name LIMIT $2"
        );
        let wanted = id.map_or(Uuid::nil(), Id::uuid);
        let values = [namespace.uuid().into(), WEBHOOKS_MAX.into(), wanted.into()];
        let rows: Vec<WebhookRow> = all(self.read(), &sql, values).await?;
        self.with_kinds(rows).await
    }

    async fn with_kinds(&self, rows: Vec<WebhookRow>) -> Result<Vec<Webhook>, ServiceError> {
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let sql = "SELECT kind FROM webhook_kind WHERE webhook_id = $1 ORDER BY kind";
            let kinds: Vec<KindRow> = all(self.read(), sql, [row.id.into()]).await?;
            found.push(Webhook {
                id: Id::from_uuid(row.id),
                namespace: row.namespace,
                name: row.name,
                description: row.description,
                url: row.url,
                secret: row.secret,
                kinds: kinds.into_iter().filter_map(|row| Subscription::of(row.kind)).collect(),
                active: row.active,
                created_at: row.created_at,
                updated_at: row.updated_at,
            });
        }
        Ok(found)
    }

    /// Deletes a webhook; what waits for it is given up.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete_webhook(&self, id: WebhookId) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let now = now_micros();
        let sql = "UPDATE webhook SET deleted_at = $1, active = $2, secret = '' WHERE id = $3";
        execute(&tx, sql, [now.into(), false.into(), id.uuid().into()]).await?;
        let sql = "UPDATE delivery SET state = 3, ended_at = $1, last_error = $2 \
                   WHERE webhook_id = $3 AND state = 1";
        execute(&tx, sql, [now.into(), "the webhook was deleted".into(), id.uuid().into()]).await?;
        tx.commit().await.map_err(db_error)
    }

    /// Matches new events with active webhooks: each event once, whichever
    /// process does it. Answers whether there may be more.
    ///
    /// # Errors
    /// The database's.
    pub async fn match_events(&self) -> Result<bool, ServiceError> {
        const AT_ONCE: i64 = 500;
        let known = sql_store::current_number(self.read(), CURSOR).await?;
        if known >= self.newest_event().await? {
            return Ok(false);
        }
        let tx = self.sql.begin().await?;
        // Takes the cursor's row lock: nobody matches the same events beside us.
        let cursor = next_numbers(&tx, CURSOR, 0).await?;
        let events = kinds_after(&tx, cursor, AT_ONCE).await?;
        let sql = "SELECT k.webhook_id, w.namespace_id, k.kind FROM webhook_kind k \
                   JOIN webhook w ON w.id = k.webhook_id WHERE w.active AND w.deleted_at IS NULL";
        let subscribed: Vec<Subscribed> = all(&tx, sql, []).await?;
        let now = now_micros();
        let mut rows = Vec::new();
        for event in &events {
            // Of a kind that a newer build wrote nobody here is told.
            let Some(kind) = EventKind::of(event.kind) else { continue };
            let is_told = |to: &&Subscribed| {
                let subscription = Subscription::of(to.kind);
                to.namespace_id == event.namespace_id
                    && subscription.is_some_and(|it| it.matches(kind, event.prompts > 0))
            };
            let told: BTreeSet<Uuid> =
                subscribed.iter().filter(is_told).map(|to| to.webhook_id).collect();
            rows.extend(told.into_iter().map(|webhook| {
                vec![
                    Uuid::now_v7().into(),
                    webhook.into(),
                    event.seq.into(),
                    1_i16.into(),
                    0_i64.into(),
                    now.into(),
                    1_i64.into(),
                    0_i64.into(),
                    "".into(),
                    now.into(),
                ]
            }));
        }
        let into = "delivery (id, webhook_id, event_seq, state, attempts, next_at, lease_epoch, \
                    last_status, last_error, created_at)";
        insert_all(&tx, into, rows, "ON CONFLICT (webhook_id, event_seq) DO NOTHING").await?;
        if let Some(last) = events.last() {
            let sql = "UPDATE counter SET value = $1 WHERE name = $2";
            execute(&tx, sql, [last.seq.into(), CURSOR.into()]).await?;
        }
        tx.commit().await.map_err(db_error)?;
        Ok(events.len() as i64 == AT_ONCE)
    }

    /// Takes deliveries that are due, each under a lease. Of one webhook and one
    /// model an older event that waits holds up the newer ones: their order is
    /// kept. Those of a webhook that is disabled wait until it is active again.
    ///
    /// # Errors
    /// The database's.
    pub async fn take_due(&self, limit: u32) -> Result<Vec<(Delivery, Webhook)>, ServiceError> {
        let now = now_micros();
        let sql = format!(
            "{DELIVERY} d WHERE d.state = 1 AND d.next_at <= $1 AND EXISTS (\
             SELECT 1 FROM webhook w WHERE w.id = d.webhook_id AND w.active) AND NOT EXISTS (\
             SELECT 1 FROM delivery o JOIN event oe ON oe.seq = o.event_seq \
             JOIN event e ON e.seq = d.event_seq WHERE o.webhook_id = d.webhook_id \
             AND o.state = 1 AND o.event_seq < d.event_seq AND oe.model_id = e.model_id) \
             ORDER BY d.next_at LIMIT $2"
        );
        let values = [now.into(), i64::from(limit).into()];
        let due: Vec<DeliveryRow> = all(self.read(), &sql, values).await?;
        let mut taken = Vec::with_capacity(due.len());
        for row in due {
            let tx = self.sql.begin().await?;
            let sql = "UPDATE delivery SET lease_epoch = lease_epoch + 1, next_at = $1, \
                       attempts = attempts + 1 WHERE id = $2 AND state = 1 AND lease_epoch = $3 \
                       AND EXISTS (SELECT 1 FROM webhook w WHERE w.id = delivery.webhook_id AND w.active)";
            let values = [(now + LEASE_MICROS).into(), row.id.into(), row.lease_epoch.into()];
            let mine = execute(&tx, sql, values).await? > 0;
            tx.commit().await.map_err(db_error)?;
            if !mine {
                continue;
            }
            let sql = format!("SELECT {COLUMNS} FROM webhook WHERE id = $1");
            let webhook: Option<WebhookRow> =
                one(self.read(), &sql, [row.webhook_id.into()]).await?;
            let webhook = self.with_kinds(webhook.into_iter().collect()).await?.pop();
            let mut delivery = Delivery::from(row);
            delivery.lease_epoch += 1;
            delivery.attempts += 1;
            taken.extend(webhook.map(|webhook| (delivery, webhook)));
        }
        Ok(taken)
    }

    /// Notes how a try ended, unless another process has taken it over.
    ///
    /// # Errors
    /// The database's.
    pub async fn note_try(&self, delivery: &Delivery, tried: &Tried) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let ended = Some(now_micros()).filter(|_| tried.state != DeliveryState::Waiting);
        let sql = "UPDATE delivery SET state = $1, next_at = $2, last_status = $3, last_error = $4, \
                   ended_at = $5 WHERE id = $6 AND state = 1 AND lease_epoch = $7";
        let values = [
            (tried.state as i16).into(),
            tried.next_at.into(),
            tried.status.into(),
            tried.error.clone().into(),
            ended.into(),
            delivery.id.into(),
            delivery.lease_epoch.into(),
        ];
        execute(&tx, sql, values).await?;
        tx.commit().await.map_err(db_error)
    }

    /// Deliveries of a webhook before an event, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn deliveries(
        &self,
        webhook: WebhookId,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Delivery>, ServiceError> {
        let sql = format!(
            "{DELIVERY} WHERE webhook_id = $1 AND event_seq < $2 ORDER BY event_seq DESC LIMIT $3"
        );
        let before = before.unwrap_or(i64::MAX);
        let values = [webhook.uuid().into(), before.into(), i64::from(limit).into()];
        let rows: Vec<DeliveryRow> = all(self.read(), &sql, values).await?;
        Ok(rows.into_iter().map(Delivery::from).collect())
    }

    /// Lets a delivery that was given up wait again; answers whether it was.
    ///
    /// # Errors
    /// The database's.
    pub async fn retry_delivery(&self, webhook: WebhookId, id: Uuid) -> Result<bool, ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "UPDATE delivery SET state = 1, attempts = 0, next_at = $1, ended_at = NULL, \
                   lease_epoch = lease_epoch + 1 WHERE id = $2 AND webhook_id = $3 AND state = 3";
        let values = [now_micros().into(), id.into(), webhook.uuid().into()];
        let was = execute(&tx, sql, values).await? > 0;
        tx.commit().await.map_err(db_error)?;
        Ok(was)
    }

    /// Forgets what was delivered before a time.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget_deliveries(&self, before: i64) -> Result<u64, ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "DELETE FROM delivery WHERE state = 2 AND ended_at < $1";
        let forgotten = execute(&tx, sql, [before.into()]).await?;
        let sql = "DELETE FROM outbox WHERE delivered_at < $1";
        execute(&tx, sql, [before.into()]).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(forgotten)
    }

    /// How many deliveries wait.
    ///
    /// # Errors
    /// The database's.
    pub async fn deliveries_waiting(&self) -> Result<i64, ServiceError> {
        let sql = "SELECT COUNT(*) FROM delivery WHERE state = 1";
        Ok(number(self.read(), sql, []).await?.unwrap_or_default())
    }
}
