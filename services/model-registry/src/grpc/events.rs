//! `quarry.models.v1.EventsService`.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use caller::Caller;
use futures::Stream;
use models_api::v1 as wire;
use models_api::v1::events_service_server::EventsService;
use service_error::ServiceError;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{answer, parse, timestamp};
use crate::app::{EventScope, Registry, UpdateWebhook};
use crate::model::{Delivery, Event, EventKind, Subscription, Webhook};

const EVENTS_AT_ONCE: u32 = 500;
/// Batches that wait for a slow reader; then it is not read on.
const BATCHES_WAITING: usize = 4;
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// An empty answer says that the watch is alive.
const ALIVE_INTERVAL: Duration = Duration::from_secs(15);
const WATCHES_MAX: usize = 1_000;

/// The service over the use cases.
pub struct Events {
    registry: Registry,
    watches: Arc<Semaphore>,
}

impl Events {
    /// The service over the use cases.
    pub fn new(registry: Registry) -> Self {
        Self { registry, watches: Arc::new(Semaphore::new(WATCHES_MAX)) }
    }
}

#[tonic::async_trait]
impl EventsService for Events {
    type WatchEventsStream =
        Pin<Box<dyn Stream<Item = Result<wire::WatchEventsResponse, Status>> + Send>>;

    async fn list_events(
        &self,
        request: Request<wire::ListEventsRequest>,
    ) -> Result<Response<wire::ListEventsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let scope = EventScope { namespace: asked.namespace, model: asked.model };
            self.registry.list_events(&caller, &scope, asked.after, size).await
        };
        answer(page.await.map(|(events, next)| wire::ListEventsResponse {
            events: events.into_iter().map(event_to_wire).collect(),
            next,
        }))
    }

    async fn watch_events(
        &self,
        request: Request<wire::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let permit = Arc::clone(&self.watches).try_acquire_owned().map_err(|_| {
            ServiceError::exhausted(format!("{WATCHES_MAX} watches are open; close one"))
        })?;
        let scope = EventScope { namespace: asked.namespace, model: asked.model };
        let after = match asked.after {
            -1 => self.registry.newest_event().await?,
            after => after,
        };
        // A model that the caller may not see is told before the stream begins.
        self.registry.list_events(&caller, &scope, after, 1).await?;
        let (batches, watched) = mpsc::channel(BATCHES_WAITING);
        let registry = self.registry.clone();
        tokio::spawn(async move {
            watch(registry, caller, scope, after, batches).await;
            drop(permit);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(watched))))
    }

    async fn create_webhook(
        &self,
        request: Request<wire::CreateWebhookRequest>,
    ) -> Result<Response<wire::CreateWebhookResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let made = async {
            let kinds = kinds(&asked.kinds)?;
            let update = UpdateWebhook {
                name: Some(asked.name),
                description: Some(asked.description),
                url: Some(asked.url),
                kinds: Some(kinds),
                secret: Some(asked.secret),
                active: Some(true),
            };
            self.registry.create_webhook(&caller, &asked.namespace, update).await
        };
        answer(made.await.map(|made| wire::CreateWebhookResponse { webhook: Some(to_wire(made)) }))
    }

    async fn get_webhook(
        &self,
        request: Request<wire::GetWebhookRequest>,
    ) -> Result<Response<wire::GetWebhookResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let found = async {
            let id = parse("id", &asked.id)?;
            self.registry.get_webhook(&caller, &asked.namespace, id).await
        };
        answer(found.await.map(|found| wire::GetWebhookResponse { webhook: Some(to_wire(found)) }))
    }

    async fn list_webhooks(
        &self,
        request: Request<wire::ListWebhooksRequest>,
    ) -> Result<Response<wire::ListWebhooksResponse>, Status> {
        let caller = caller::of(&request)?;
        let found = self.registry.list_webhooks(&caller, &request.into_inner().namespace).await;
        answer(found.map(|found| wire::ListWebhooksResponse {
            webhooks: found.into_iter().map(to_wire).collect(),
        }))
    }

    async fn update_webhook(
        &self,
        request: Request<wire::UpdateWebhookRequest>,
    ) -> Result<Response<wire::UpdateWebhookResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let changed = async {
            let id = parse("id", &asked.id)?;
            let kinds = kinds(&asked.kinds)?;
            let update = UpdateWebhook {
                name: asked.name,
                description: asked.description,
                url: asked.url,
                kinds: Some(kinds).filter(|kinds| !kinds.is_empty()),
                secret: asked.secret,
                active: asked.active,
            };
            self.registry.update_webhook(&caller, &asked.namespace, id, update).await
        };
        let changed = changed.await;
        answer(changed.map(|found| wire::UpdateWebhookResponse { webhook: Some(to_wire(found)) }))
    }

    async fn delete_webhook(
        &self,
        request: Request<wire::DeleteWebhookRequest>,
    ) -> Result<Response<wire::DeleteWebhookResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let deleted = async {
            let id = parse("id", &asked.id)?;
            self.registry.delete_webhook(&caller, &asked.namespace, id).await
        };
        answer(deleted.await.map(|()| wire::DeleteWebhookResponse {}))
    }

    async fn list_deliveries(
        &self,
        request: Request<wire::ListDeliveriesRequest>,
    ) -> Result<Response<wire::ListDeliveriesResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let list = format!("deliveries:{}", asked.id);
            let before: Option<i64> = paging::key(&list, &asked.page_token)?;
            let id = parse("id", &asked.id)?;
            let found =
                self.registry.list_deliveries(&caller, &asked.namespace, id, before, size + 1);
            let found = found.await?;
            let (found, next_page_token) = paging::cut(found, size, &list, |last| last.event);
            let deliveries = found.into_iter().map(delivery_to_wire).collect();
            Ok::<_, ServiceError>(wire::ListDeliveriesResponse { deliveries, next_page_token })
        };
        answer(page.await)
    }

    async fn retry_delivery(
        &self,
        request: Request<wire::RetryDeliveryRequest>,
    ) -> Result<Response<wire::RetryDeliveryResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let done = async {
            let id = parse("id", &asked.id)?;
            let delivery = parse("delivery_id", &asked.delivery_id)?;
            self.registry.retry_delivery(&caller, &asked.namespace, id, delivery).await
        };
        answer(done.await.map(|()| wire::RetryDeliveryResponse {}))
    }
}

/// Looks for events until the watcher goes away. What the caller may see is
/// decided anew at each look.
async fn watch(
    registry: Registry,
    caller: Arc<Caller>,
    scope: EventScope,
    mut after: i64,
    batches: mpsc::Sender<Result<wire::WatchEventsResponse, Status>>,
) {
    let mut said = Instant::now();
    loop {
        let batch = match registry.list_events(&caller, &scope, after, EVENTS_AT_ONCE).await {
            Ok((events, next)) => {
                after = next;
                let more = events.len() == EVENTS_AT_ONCE as usize;
                let silent = events.is_empty();
                let events = events.into_iter().map(event_to_wire).collect();
                if silent && said.elapsed() < ALIVE_INTERVAL {
                    tokio::select! {
                        () = batches.closed() => return,
                        () = sleep(LOOK_INTERVAL) => continue,
                    }
                }
                said = Instant::now();
                (Ok(wire::WatchEventsResponse { events, next }), more)
            }
            Err(error) => (Err(Status::from(error)), false),
        };
        let ended = batch.0.is_err();
        if batches.send(batch.0).await.is_err() || ended {
            return;
        }
        if !batch.1 {
            sleep(LOOK_INTERVAL).await;
        }
    }
}

fn kinds(numbers: &[i32]) -> Result<Vec<Subscription>, ServiceError> {
    let kind = |number: &i32| {
        let code = i16::try_from(*number).ok().and_then(EventKind::of);
        code.map(Subscription::from)
            .ok_or_else(|| ServiceError::invalid("kinds", format!("{number} is no kind of event")))
    };
    numbers.iter().map(kind).collect()
}

fn event_to_wire(event: Event) -> wire::Event {
    wire::Event {
        seq: event.seq,
        id: event.id.to_string(),
        kind: event.change.kind as i32,
        namespace: event.namespace,
        model: event.model,
        model_id: event.model_id.to_string(),
        version: event.change.number,
        subject: event.change.subject,
        before: event.change.before,
        after: event.change.after,
        actor: event.actor.to_string(),
        time: Some(timestamp(event.at)),
    }
}

fn to_wire(webhook: Webhook) -> wire::Webhook {
    // Two of one kind, of models and of prompts, are one here.
    let kinds: BTreeSet<EventKind> = webhook.kinds.into_iter().map(|it| it.kind).collect();
    wire::Webhook {
        id: webhook.id.to_string(),
        namespace: webhook.namespace,
        name: webhook.name,
        description: webhook.description,
        url: webhook.url,
        kinds: kinds.into_iter().map(|kind| kind as i32).collect(),
        active: webhook.active,
        has_secret: !webhook.secret.is_empty(),
        create_time: Some(timestamp(webhook.created_at)),
        update_time: Some(timestamp(webhook.updated_at)),
    }
}

fn delivery_to_wire(delivery: Delivery) -> wire::Delivery {
    let small = |number: i64| i32::try_from(number).unwrap_or(i32::MAX);
    wire::Delivery {
        id: delivery.id.to_string(),
        event: delivery.event,
        state: delivery.state as i32,
        attempts: small(delivery.attempts),
        next_time: Some(timestamp(delivery.next_at)),
        last_status: small(delivery.last_status),
        last_error: delivery.last_error,
        end_time: delivery.ended_at.map(timestamp),
    }
}
