//! Webhooks, by MLflow's events.

use axum::body::Body;
use axum::http::Response;
use ids::WebhookId;
use mlflow_wire::proto::{
    CreateWebhook, ListWebhooks, TestWebhook, UpdateWebhook, Webhook as WebhookMessage,
    WebhookAction, WebhookEntity, WebhookEvent, WebhookStatus, WebhookTestResult, create_webhook,
    delete_webhook, get_webhook, list_webhooks, test_webhook, update_webhook,
};
use mlflow_wire::routes::Operation as Op;
use mlflow_wire::search::python_list;
use mlflow_wire::{Check, MlflowError, Result, Schema, names};
use service_error::{Code, ServiceError};

use super::asked::{Asked, answer as render};
use super::unserved;
use crate::app::UpdateWebhook as Change;
use crate::model::{EventKind, Of, Subscription, Webhook};

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
const EVENTS: [(WebhookEntity, WebhookAction, EventKind, Of); 14] = [
    (WebhookEntity::RegisteredModel, WebhookAction::Created, EventKind::ModelCreated, Of::Models),
    (WebhookEntity::ModelVersion, WebhookAction::Created, EventKind::VersionCreated, Of::Models),
    (WebhookEntity::ModelVersionTag, WebhookAction::Set, EventKind::VersionTagSet, Of::Models),
    (
        WebhookEntity::ModelVersionTag,
        WebhookAction::Deleted,
        EventKind::VersionTagDeleted,
        Of::Models,
    ),
    (WebhookEntity::ModelVersionAlias, WebhookAction::Created, EventKind::AliasSet, Of::Models),
    (WebhookEntity::ModelVersionAlias, WebhookAction::Deleted, EventKind::AliasDeleted, Of::Models),
    (WebhookEntity::Prompt, WebhookAction::Created, EventKind::ModelCreated, Of::Prompts),
    (WebhookEntity::PromptVersion, WebhookAction::Created, EventKind::VersionCreated, Of::Prompts),
    (WebhookEntity::PromptTag, WebhookAction::Set, EventKind::ModelTagSet, Of::Prompts),
    (WebhookEntity::PromptTag, WebhookAction::Deleted, EventKind::ModelTagDeleted, Of::Prompts),
    (WebhookEntity::PromptVersionTag, WebhookAction::Set, EventKind::VersionTagSet, Of::Prompts),
    (
        WebhookEntity::PromptVersionTag,
        WebhookAction::Deleted,
        EventKind::VersionTagDeleted,
        Of::Prompts,
    ),
    (WebhookEntity::PromptAlias, WebhookAction::Created, EventKind::AliasSet, Of::Prompts),
    (WebhookEntity::PromptAlias, WebhookAction::Deleted, EventKind::AliasDeleted, Of::Prompts),
];

pub async fn answer(asked: &Asked) -> Result<Response<Body>> {
    match asked.route.operation {
        Op::CreateWebhook => create(asked).await,
        Op::ListWebhooks => list(asked).await,
        Op::GetWebhook => get(asked).await,
        Op::UpdateWebhook => update(asked).await,
        Op::DeleteWebhook => delete(asked).await,
        Op::TestWebhook => test(asked).await,
        _ => Err(unserved(asked)),
    }
}

fn subscription(event: &WebhookEvent) -> Result<Subscription> {
    let of_entity = || EVENTS.iter().filter(|(entity, ..)| *entity == event.entity());
    if let Some((_, _, kind, of)) = of_entity().find(|(_, action, ..)| *action == event.action()) {
        return Ok(Subscription { kind: *kind, of: *of });
    }
    if event.entity() == WebhookEntity::BudgetPolicy {
        return Err(MlflowError::invalid("There are no budget policies here to tell of."));
    }
    let mut valid: Vec<String> =
        of_entity().map(|(_, action, ..)| action.as_str_name().to_lowercase()).collect();
    valid.sort();
    Err(MlflowError::invalid(format!(
        "Invalid action '{}' for entity '{}'. Valid actions are: {}",
        event.action().as_str_name().to_lowercase(),
        event.entity().as_str_name().to_lowercase(),
        python_list(&valid)
    )))
}

fn kinds(events: &[WebhookEvent]) -> Result<Vec<Subscription>> {
    events.iter().map(subscription).collect()
}

/// A webhook as MLflow's client takes it. One that is told of nothing that MLflow
/// has a word for would be refused by it: such a one is none here.
fn message(webhook: Webhook) -> Option<WebhookMessage> {
    let status = if webhook.active { WebhookStatus::Active } else { WebhookStatus::Disabled };
    let is_told = |kind: EventKind, of: Of| {
        let whole = of == Of::Models && webhook.kinds.contains(&kind.into());
        whole || webhook.kinds.contains(&Subscription { kind, of })
    };
    let shown = EVENTS.iter().filter(|(_, _, kind, of)| is_told(*kind, *of));
    let events: Vec<WebhookEvent> = shown
        .map(|(entity, action, ..)| WebhookEvent {
            entity: Some(*entity as i32),
            action: Some(*action as i32),
        })
        .collect();
    if events.is_empty() {
        return None;
    }
    Some(WebhookMessage {
        webhook_id: Some(webhook.id.to_string()),
        name: Some(webhook.name),
        description: Some(webhook.description).filter(|text| !text.is_empty()),
        url: Some(webhook.url),
        events,
        status: Some(status as i32),
        creation_timestamp: Some(webhook.created_at / 1_000),
        last_updated_timestamp: Some(webhook.updated_at / 1_000),
    })
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

/// A webhook that MLflow has words for.
fn shown(asked: &Asked, webhook: Webhook) -> Result<WebhookMessage> {
    message(webhook).ok_or_else(|| {
        MlflowError::missing(format!("Webhook with ID {} not found.", asked.part(0)))
    })
}

async fn test(asked: &Asked) -> Result<Response<Body>> {
    let said: TestWebhook = asked.read(&[])?;
    let event = said.event.as_ref().map(subscription).transpose()?;
    let namespace = asked.namespace().await?;
    let registry = &asked.surface.registry;
    let tested = registry.test_webhook(asked.caller()?, &namespace, named(asked)?, event).await;
    let result = match tested.map_err(absent(asked.part(0)))? {
        Ok((status, body)) => WebhookTestResult {
            success: Some(status < 400),
            response_status: Some(status.into()),
            response_body: Some(body),
            error_message: None,
        },
        Err(why) => WebhookTestResult {
            success: Some(false),
            error_message: Some(format!("Failed to test webhook: {why}")),
            ..WebhookTestResult::default()
        },
    };
    render(&test_webhook::Response { result: Some(result) })
}

fn active(status: Option<i32>) -> Option<bool> {
    status.map(|status| status == WebhookStatus::Active as i32)
}

async fn create(asked: &Asked) -> Result<Response<Body>> {
    let said: CreateWebhook = asked.read(CREATE)?;
    let kinds = kinds(&said.events)?;
    names::webhook(said.name())?;
    let change = Change {
        name: said.name.clone(),
        description: said.description.clone(),
        url: said.url.clone(),
        kinds: Some(kinds),
        secret: said.secret.clone(),
        active: active(said.status),
    };
    let namespace = asked.namespace().await?;
    let registry = &asked.surface.registry;
    let made = registry.create_webhook(asked.caller()?, &namespace, change).await?;
    render(&create_webhook::Response { webhook: message(made) })
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
    all.retain(|webhook| message(webhook.clone()).is_some());
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
    let webhooks = page.into_iter().filter_map(message).collect();
    let next_page_token = Some(token).filter(|token| !token.is_empty());
    render(&list_webhooks::Response { webhooks, next_page_token })
}

async fn get(asked: &Asked) -> Result<Response<Body>> {
    let namespace = asked.namespace().await?;
    let registry = &asked.surface.registry;
    let found = registry.get_webhook(asked.caller()?, &namespace, named(asked)?).await;
    let webhook = Some(shown(asked, found.map_err(absent(asked.part(0)))?)?);
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
    let before = registry.get_webhook(asked.caller()?, &namespace, named(asked)?).await;
    shown(asked, before.map_err(absent(asked.part(0)))?)?;
    change.name.as_deref().map_or(Ok(()), names::webhook)?;
    let changed = registry.update_webhook(asked.caller()?, &namespace, named(asked)?, change).await;
    let webhook = Some(shown(asked, changed.map_err(absent(asked.part(0)))?)?);
    render(&update_webhook::Response { webhook })
}

async fn delete(asked: &Asked) -> Result<Response<Body>> {
    let namespace = asked.namespace().await?;
    let registry = &asked.surface.registry;
    let deleted = registry.delete_webhook(asked.caller()?, &namespace, named(asked)?).await;
    deleted.map_err(absent(asked.part(0)))?;
    render(&delete_webhook::Response {})
}
