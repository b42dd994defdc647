//! Webhooks, by MLflow's events.

use axum::body::Body;
use axum::http::Response;
use ids::WebhookId;
use mlflow_wire::proto::{
    CreateWebhook, ListWebhooks, UpdateWebhook, Webhook as WebhookMessage, WebhookAction,
    WebhookEntity, WebhookEvent, WebhookStatus, create_webhook, delete_webhook, get_webhook,
    list_webhooks, update_webhook,
};
use mlflow_wire::routes::Operation as Op;
use mlflow_wire::{Check, MlflowError, Result, Schema};
use service_error::{Code, ServiceError};

use super::asked::{Asked, answer as render};
use super::unserved;
use crate::app::UpdateWebhook as Change;
use crate::model::{EventKind, Webhook};

const RESULTS_MAX: i32 = 1_000;
const CREATE: Schema = &[
    ("name", &[Check::Str, Check::Required]),
    ("url", &[Check::Str, Check::Required]),
    ("events", &[Check::Array, Check::Required]),
    ("description", &[Check::Str]),
    ("secret", &[Check::Str]),
    ("status", &[Check::Str]),
];
const UPDATE: Schema = &[
    ("name", &[Check::Str]),
    ("description", &[Check::Str]),
    ("url", &[Check::Str]),
    ("events", &[Check::Array]),
    ("secret", &[Check::Str]),
    ("status", &[Check::Str]),
];

/// MLflow's events and the registry's own kinds of them.
const EVENTS: [(WebhookEntity, WebhookAction, EventKind); 6] = [
    (WebhookEntity::RegisteredModel, WebhookAction::Created, EventKind::ModelCreated),
    (WebhookEntity::ModelVersion, WebhookAction::Created, EventKind::VersionCreated),
    (WebhookEntity::ModelVersionTag, WebhookAction::Set, EventKind::VersionTagSet),
    (WebhookEntity::ModelVersionTag, WebhookAction::Deleted, EventKind::VersionTagDeleted),
    (WebhookEntity::ModelVersionAlias, WebhookAction::Created, EventKind::AliasSet),
    (WebhookEntity::ModelVersionAlias, WebhookAction::Deleted, EventKind::AliasDeleted),
];

pub async fn answer(asked: &Asked) -> Result<Response<Body>> {
    match asked.route.operation {
        Op::CreateWebhook => create(asked).await,
        Op::ListWebhooks => list(asked).await,
        Op::GetWebhook => get(asked).await,
        Op::UpdateWebhook => update(asked).await,
        Op::DeleteWebhook => delete(asked).await,
        _ => Err(unserved(asked)),
    }
}

fn kinds(events: &[WebhookEvent]) -> Result<Vec<EventKind>> {
    let kind = |event: &WebhookEvent| {
        let known = EVENTS
            .iter()
            .find(|(entity, action, _)| *entity == event.entity() && *action == event.action());
        known.map(|(_, _, kind)| *kind).ok_or_else(|| {
            MlflowError::invalid(format!(
                "Invalid action '{}' for entity '{}'.",
                event.action().as_str_name().to_lowercase(),
                event.entity().as_str_name().to_lowercase()
            ))
        })
    };
    events.iter().map(kind).collect()
}

fn message(webhook: Webhook) -> WebhookMessage {
    let status = if webhook.active { WebhookStatus::Active } else { WebhookStatus::Disabled };
    let shown = EVENTS.iter().filter(|(_, _, kind)| webhook.kinds.contains(kind));
    let events = shown.map(|(entity, action, _)| WebhookEvent {
        entity: Some(*entity as i32),
        action: Some(*action as i32),
    });
    WebhookMessage {
        webhook_id: Some(webhook.id.to_string()),
        name: Some(webhook.name),
        description: Some(webhook.description).filter(|text| !text.is_empty()),
        url: Some(webhook.url),
        events: events.collect(),
        status: Some(status as i32),
        creation_timestamp: Some(webhook.created_at / 1_000),
        last_updated_timestamp: Some(webhook.updated_at / 1_000),
    }
}

fn absent(id: &str) -> impl Fn(ServiceError) -> MlflowError {
    move |error| match error.code() {
        Code::NotFound => MlflowError::missing(format!("Webhook with ID {id} not found.")),
        _ => error.into(),
    }
}

fn named(asked: &Asked) -> Result<WebhookId> {
    let id = asked.part(0);
    id.parse().map_err(|_| MlflowError::missing(format!("Webhook with ID {id} not found.")))
}

fn active(status: Option<i32>) -> Option<bool> {
    status.map(|status| status == WebhookStatus::Active as i32)
}

async fn create(asked: &Asked) -> Result<Response<Body>> {
    let said: CreateWebhook = asked.read(CREATE)?;
    let change = Change {
        name: said.name.clone(),
        description: said.description.clone(),
        url: said.url.clone(),
        kinds: Some(kinds(&said.events)?),
        secret: said.secret.clone(),
        active: active(said.status),
    };
    let namespace = asked.namespace().await?;
    let registry = &asked.surface.registry;
    let made = registry.create_webhook(asked.caller()?, &namespace, change).await?;
    render(&create_webhook::Response { webhook: Some(message(made)) })
}

async fn list(asked: &Asked) -> Result<Response<Body>> {
    let said: ListWebhooks =
        asked.read(&[("max_results", &[Check::Int]), ("page_token", &[Check::Str])])?;
    if !(1..=RESULTS_MAX).contains(&said.max_results()) {
        return Err(MlflowError::invalid("max_results must be between 1 and 1000."));
    }
    let namespace = asked.namespace().await?;
    let registry = &asked.surface.registry;
    let mut all = registry.list_webhooks(asked.caller()?, &namespace).await?;
    all.sort_by_key(|webhook| (std::cmp::Reverse(webhook.created_at), webhook.id.uuid()));
    let list = format!("mlflow-webhooks:{namespace}");
    let after: Option<(i64, uuid::Uuid)> = paging::key(&list, said.page_token())
        .map_err(|_| MlflowError::invalid("Invalid page token"))?;
    let rest = all.into_iter().skip_while(|webhook| {
        after.is_some_and(|(at, id)| {
            (std::cmp::Reverse(webhook.created_at), webhook.id.uuid())
                <= (std::cmp::Reverse(at), id)
        })
    });
    let size = u32::try_from(said.max_results()).unwrap_or(1);
    let (page, token) = paging::cut(rest.collect(), size, &list, |last: &Webhook| {
        (last.created_at, last.id.uuid())
    });
    let webhooks = page.into_iter().map(message).collect();
    let next_page_token = Some(token).filter(|token| !token.is_empty());
    render(&list_webhooks::Response { webhooks, next_page_token })
}

async fn get(asked: &Asked) -> Result<Response<Body>> {
    let namespace = asked.namespace().await?;
    let registry = &asked.surface.registry;
    let found = registry.get_webhook(asked.caller()?, &namespace, named(asked)?).await;
    let webhook = Some(message(found.map_err(absent(asked.part(0)))?));
    render(&get_webhook::Response { webhook })
}

async fn update(asked: &Asked) -> Result<Response<Body>> {
    let said: UpdateWebhook = asked.read(UPDATE)?;
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let change = Change {
        name: given(&said.name),
        description: said.description.clone(),
        url: given(&said.url),
        kinds: if said.events.is_empty() { None } else { Some(kinds(&said.events)?) },
        secret: said.secret.clone(),
        active: active(said.status),
    };
    let namespace = asked.namespace().await?;
    let registry = &asked.surface.registry;
    let changed = registry.update_webhook(asked.caller()?, &namespace, named(asked)?, change).await;
    let webhook = Some(message(changed.map_err(absent(asked.part(0)))?));
    render(&update_webhook::Response { webhook })
}

async fn delete(asked: &Asked) -> Result<Response<Body>> {
    let namespace = asked.namespace().await?;
    let registry = &asked.surface.registry;
    let deleted = registry.delete_webhook(asked.caller()?, &namespace, named(asked)?).await;
    deleted.map_err(absent(asked.part(0)))?;
    render(&delete_webhook::Response {})
}
