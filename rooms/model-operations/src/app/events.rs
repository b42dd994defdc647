//! Events: listed, watched, and sent to webhooks.

use std::time::Duration;

use caller::Caller;
use ids::{NamespaceId, WebhookId};
use options_api::v1::Level;
use service_error::ServiceError;
use sql_store::now_micros;
use uuid::Uuid;

use super::Registry;
use super::payload::{example, is_prompt, payload};
use crate::model::name::check_text;
use crate::model::{
    Delivery, DeliveryState, Event, ModelPath, Of, Subscription, Webhook, check_description,
};
use crate::store::Tried;

const SERVICE: &str = "quarry.models.v1.EventsService";
/// Tries of a delivery before it is given up: about a day and a half.
const ATTEMPTS_MAX: i64 = 16;
const BACKOFF_MICROS_MIN: i64 = 1_000_000;
const BACKOFF_MICROS_MAX: i64 = 4 * 3_600 * 1_000_000;
const DELIVERED_KEPT: Duration = Duration::from_secs(7 * 24 * 3_600);
const KINDS_MAX: usize = 64;
/// Of what a webhook answers to a trial.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// What came of a trial: the status and the beginning of the answer, or why
/// nothing was answered.
pub type TestedWebhook = Result<(u16, String), String>;

/// Whose events.
#[derive(Debug, Clone, Default)]
pub struct EventScope {
    /// Empty: of all.
    pub namespace: String,
    /// Empty: of all.
    pub model: String,
}

/// What a request changes on a webhook.
#[derive(Debug, Clone, Default)]
pub struct UpdateWebhook {
    pub name: Option<String>,
    pub description: Option<String>,
    pub url: Option<String>,
    /// `None`: as they are.
    pub kinds: Option<Vec<Subscription>>,
    pub secret: Option<String>,
    pub active: Option<bool>,
}

impl Registry {
    /// Events after a number that the caller may see, and the number to go on
    /// from. Grants are looked at each time.
    ///
    /// # Errors
    /// `NotFound` for a model that is named.
    pub async fn list_events(
        &self,
        caller: &Caller,
        scope: &EventScope,
        after: i64,
        limit: u32,
    ) -> Result<(Vec<Event>, i64), ServiceError> {
        let visible = self.visible_rows(caller).await?;
        let namespace = self.narrowed(&scope.namespace).await?;
        let model = if scope.model.is_empty() {
            None
        } else {
            let path = ModelPath::new(&scope.namespace, &scope.model);
            let action = format!("{SERVICE}/ListEvents");
            Some(self.model_for(caller, Level::Read, &path, &action).await?.id)
        };
        self.store.events(&visible, namespace, model, after, limit).await
    }

    /// The number of the newest event.
    ///
    /// # Errors
    /// The database's.
    pub async fn newest_event(&self) -> Result<i64, ServiceError> {
        self.store.newest_event().await
    }

    async fn webhooks_of(
        &self,
        caller: &Caller,
        namespace: &str,
        method: &str,
    ) -> Result<NamespaceId, ServiceError> {
        self.namespace_for(caller, Level::Admin, namespace, &format!("{SERVICE}/{method}")).await
    }

    /// Subscribes an address to events of a namespace.
    ///
    /// # Errors
    /// `InvalidArgument` for an address that is not public, `NotFound`,
    /// `PermissionDenied`, `AlreadyExists` for the name.
    pub async fn create_webhook(
        &self,
        caller: &Caller,
        namespace: &str,
        asked: UpdateWebhook,
    ) -> Result<Webhook, ServiceError> {
        let id = self.webhooks_of(caller, namespace, "CreateWebhook").await?;
        let now = now_micros();
        let webhook = Webhook {
            id: WebhookId::new(),
            namespace: namespace.to_owned(),
            name: String::new(),
            description: String::new(),
            url: String::new(),
            secret: String::new(),
            kinds: Vec::new(),
            active: true,
            created_at: now,
            updated_at: now,
        };
        let webhook = self.changed(webhook, asked)?;
        self.store.put_webhook(id, &webhook, caller.principal).await?;
        Ok(webhook)
    }

    fn changed(&self, mut webhook: Webhook, by: UpdateWebhook) -> Result<Webhook, ServiceError> {
        webhook.name = by.name.unwrap_or(webhook.name);
        webhook.description = by.description.unwrap_or(webhook.description);
        webhook.url = by.url.unwrap_or(webhook.url);
        webhook.kinds = by.kinds.unwrap_or(webhook.kinds);
        webhook.secret = by.secret.unwrap_or(webhook.secret);
        webhook.active = by.active.unwrap_or(webhook.active);
        webhook.updated_at = now_micros();
        check_text("name", &webhook.name, 256)?;
        if webhook.name.trim().is_empty() {
            return Err(ServiceError::invalid("name", "is empty: name the webhook"));
        }
        check_description(&webhook.description)?;
        check_text("secret", &webhook.secret, 1_024)?;
        if webhook.kinds.is_empty() || webhook.kinds.len() > KINDS_MAX {
            return Err(ServiceError::invalid("kinds", "name the events that are to be sent"));
        }
        self.sender.check_url(&webhook.url)?;
        Ok(webhook)
    }

    /// The webhooks of a namespace.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn list_webhooks(
        &self,
        caller: &Caller,
        namespace: &str,
    ) -> Result<Vec<Webhook>, ServiceError> {
        let id = self.webhooks_of(caller, namespace, "ListWebhooks").await?;
        self.store.webhooks(id, None).await
    }

    /// A webhook of a namespace.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn get_webhook(
        &self,
        caller: &Caller,
        namespace: &str,
        webhook: WebhookId,
    ) -> Result<Webhook, ServiceError> {
        let id = self.webhooks_of(caller, namespace, "GetWebhook").await?;
        let found = self.store.webhooks(id, Some(webhook)).await?.pop();
        found.ok_or_else(|| ServiceError::not_found("webhook", webhook))
    }

    /// Changes a webhook.
    ///
    /// # Errors
    /// As [`Self::create_webhook`].
    pub async fn update_webhook(
        &self,
        caller: &Caller,
        namespace: &str,
        webhook: WebhookId,
        asked: UpdateWebhook,
    ) -> Result<Webhook, ServiceError> {
        let id = self.webhooks_of(caller, namespace, "UpdateWebhook").await?;
        let found = self.store.webhooks(id, Some(webhook)).await?.pop();
        let found = found.ok_or_else(|| ServiceError::not_found("webhook", webhook))?;
        let changed = self.changed(found, asked)?;
        self.store.put_webhook(id, &changed, caller.principal).await?;
        Ok(changed)
    }

    /// Sends an example of an event, or of the webhook's first, once and now;
    /// whether the webhook is active does not matter.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`; what comes of the sending is the answer.
    pub async fn test_webhook(
        &self,
        caller: &Caller,
        namespace: &str,
        webhook: WebhookId,
        event: Option<Subscription>,
    ) -> Result<TestedWebhook, ServiceError> {
        let id = self.webhooks_of(caller, namespace, "UpdateWebhook").await?;
        let found = self.store.webhooks(id, Some(webhook)).await?.pop();
        let found = found.ok_or_else(|| ServiceError::not_found("webhook", webhook))?;
        let event = event.or_else(|| found.kinds.first().copied());
        let event = event.ok_or_else(|| ServiceError::invalid("event", "name an event"))?;
        let sent = webhook_sender::Delivery {
            url: &found.url,
            id: &Uuid::new_v4().to_string(),
            timestamp: now_micros() / 1_000_000,
            body: &example(event, namespace, now_micros()),
            secret: &found.secret,
        };
        Ok(self.sender.send_and_read(sent, ANSWER_BYTES_MAX).await)
    }

    /// Deletes a webhook.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn delete_webhook(
        &self,
        caller: &Caller,
        namespace: &str,
        webhook: WebhookId,
    ) -> Result<(), ServiceError> {
        self.get_webhook(caller, namespace, webhook).await?;
        self.store.delete_webhook(webhook).await
    }

    /// What was sent and what waits, newest first.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn list_deliveries(
        &self,
        caller: &Caller,
        namespace: &str,
        webhook: WebhookId,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Delivery>, ServiceError> {
        self.get_webhook(caller, namespace, webhook).await?;
        self.store.deliveries(webhook, before, limit).await
    }

    /// Tries again what was given up.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `FailedPrecondition` if it was not given up.
    pub async fn retry_delivery(
        &self,
        caller: &Caller,
        namespace: &str,
        webhook: WebhookId,
        delivery: Uuid,
    ) -> Result<(), ServiceError> {
        self.get_webhook(caller, namespace, webhook).await?;
        if self.store.retry_delivery(webhook, delivery).await? {
            return Ok(());
        }
        let message = format!("delivery {delivery} was not given up");
        Err(ServiceError::precondition(message).reason("DELIVERY_NOT_GIVEN_UP"))
    }

    /// Sends what is due, some of it; answers whether there was any.
    ///
    /// # Errors
    /// The database's.
    pub async fn send_due(&self) -> Result<bool, ServiceError> {
        use futures::StreamExt as _;
        const AT_ONCE: u32 = 16;
        while self.store.match_events().await? {}
        let due = self.store.take_due(AT_ONCE).await?;
        let any = !due.is_empty();
        let sent = futures::stream::iter(due)
            .map(|(delivery, webhook)| self.send(delivery, webhook))
            .buffer_unordered(AT_ONCE as usize);
        let outcomes: Vec<Result<(), ServiceError>> = sent.collect().await;
        outcomes.into_iter().collect::<Result<(), _>>()?;
        Ok(any)
    }

    async fn send(&self, delivery: Delivery, webhook: Webhook) -> Result<(), ServiceError> {
        let Some(event) = self.store.event(delivery.event).await? else {
            let error = "the event is no longer kept".to_owned();
            return self.store.note_try(&delivery, &given_up(0, error)).await;
        };
        let version = match event.change.number {
            0 => None,
            number => self.store.find_any_version(event.model_id, number).await?,
        };
        let model = self.store.find_model_by_id(event.model_id).await?;
        let is_of_prompts =
            |it: &Subscription| it.of == Of::Prompts && it.kind == event.change.kind;
        let of_prompt = model.as_ref().is_some_and(is_prompt);
        let of = match of_prompt && webhook.kinds.iter().any(is_of_prompts) {
            true => Of::Prompts,
            false => Of::Everything,
        };
        let body = payload(&event, of, model.as_ref(), version.as_ref());
        let outcome = self
            .sender
            .send(webhook_sender::Delivery {
                url: &webhook.url,
                id: &delivery.id.to_string(),
                timestamp: now_micros() / 1_000_000,
                body: &body,
                secret: &webhook.secret,
            })
            .await;
        let tried = match outcome {
            Ok(status) if (200..300).contains(&status) => Tried {
                state: DeliveryState::Delivered,
                next_at: 0,
                status: status.into(),
                error: String::new(),
            },
            Ok(status) => failed(&delivery, status.into(), format!("it answered {status}")),
            Err(why) => failed(&delivery, 0, why),
        };
        self.store.note_try(&delivery, &tried).await
    }

    /// Forgets what was delivered long ago.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget_old(&self) -> Result<u64, ServiceError> {
        let kept = i64::try_from(DELIVERED_KEPT.as_micros()).unwrap_or(i64::MAX);
        self.store.forget_deliveries(now_micros() - kept).await
    }
}

fn given_up(status: i64, error: String) -> Tried {
    Tried { state: DeliveryState::GivenUp, next_at: 0, status, error }
}

/// The next try comes ever later, at a moment of its own.
fn failed(delivery: &Delivery, status: i64, error: String) -> Tried {
    if delivery.attempts >= ATTEMPTS_MAX {
        return given_up(status, error);
    }
    let exponent = u32::try_from(delivery.attempts.clamp(1, 30) - 1).unwrap_or(30);
    let delay = BACKOFF_MICROS_MIN.saturating_mul(1 << exponent).min(BACKOFF_MICROS_MAX);
    // Up to a quarter more, taken from the id: many that failed together spread.
    let jitter = i64::from(delivery.id.as_bytes()[15]) * delay / 1_024;
    let next_at = now_micros().saturating_add(delay + jitter);
    Tried { state: DeliveryState::Waiting, next_at, status, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_come_ever_later_and_end() {
        let delivery = |attempts| Delivery {
            id: Uuid::nil(),
            event: 1,
            state: DeliveryState::Waiting,
            attempts,
            next_at: 0,
            lease_epoch: 1,
            last_status: 0,
            last_error: String::new(),
            ended_at: None,
        };
        let delays: Vec<i64> = (1..ATTEMPTS_MAX)
            .map(|attempts| failed(&delivery(attempts), 500, String::new()).next_at - now_micros())
            .collect();
        assert!(delays.windows(2).all(|pair| pair[0] <= pair[1] + 1_000), "{delays:?}");
        assert!(delays[0] <= 1_000_000 && delays[14] > 3_600_000_000, "{delays:?}");
        let last = failed(&delivery(ATTEMPTS_MAX), 500, String::new());
        assert_eq!(last.state, DeliveryState::GivenUp);
    }
}
