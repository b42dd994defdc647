//! Denials on their way to identity's audit: a bounded queue, counted per
//! (principal, action, resource, reason, minute), sent each second.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use caller::{Caller, Refused, TokenSource, authorized};
use identity_api::v1::audit_service_client::AuditServiceClient;
use identity_api::v1::{Denial, RecordDenialsRequest};
use ids::PrincipalId;
use service_channel::{Job, Transport};
use service_error::ServiceError;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::Resource;
use crate::replica::{IDENTITY, now_seconds};

const QUEUE_LENGTH_MAX: usize = 4_096;
/// Different denials that wait for identity; more are counted and dropped.
const PENDING_MAX: usize = 10_000;
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// What makes two denials alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    principal: PrincipalId,
    action: String,
    resource: String,
    reason: String,
    minute: i64,
}

/// The near end of the queue.
#[derive(Debug)]
pub(crate) struct Denials {
    queue: mpsc::Sender<Kind>,
    dropped: Arc<AtomicU64>,
}

/// The far end.
pub(crate) struct Sender {
    queue: mpsc::Receiver<Kind>,
    dropped: Arc<AtomicU64>,
    identity: Transport,
    tokens: TokenSource,
}

/// The audit of a door that lets everybody in whom its methods let in, without a
/// replica of grants: its denials, and the job that sends them until `shutdown`.
pub fn denials(
    identity: Transport,
    tokens: TokenSource,
    shutdown: CancellationToken,
) -> (Arc<dyn Refused>, Job) {
    let (denials, sender) = Denials::new(identity, tokens);
    (Arc::new(denials), Job::new("denials", send(sender, shutdown)))
}

impl Refused for Denials {
    fn refused(&self, _: &Caller) -> bool {
        false
    }

    fn denied(&self, caller: &Caller, path: &str, error: &ServiceError) {
        self.denied_at(caller, path, error);
    }
}

impl Denials {
    pub fn new(identity: Transport, tokens: TokenSource) -> (Self, Sender) {
        let (near, queue) = mpsc::channel(QUEUE_LENGTH_MAX);
        let dropped = Arc::default();
        let sender = Sender { queue, dropped: Arc::clone(&dropped), identity, tokens };
        (Self { queue: near, dropped }, sender)
    }

    /// A call that the guard denied; `path` is the method's.
    pub fn denied_at(&self, caller: &Caller, path: &str, error: &ServiceError) {
        let method = path.trim_start_matches('/');
        self.record(caller.principal, method, None::<Resource>, error.reason_text());
    }

    /// Never waits: a flood of denials must not slow the calls it denies.
    pub fn record(
        &self,
        principal: PrincipalId,
        action: &str,
        resource: Option<Resource>,
        reason: &str,
    ) {
        let kind = Kind {
            principal,
            action: action.to_owned(),
            resource: resource.map(|resource| resource.to_string()).unwrap_or_default(),
            reason: reason.to_owned(),
            minute: now_seconds() / 60 * 60,
        };
        if self.queue.try_send(kind).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends what was recorded until `shutdown`, and then once more.
pub(crate) async fn send(mut sender: Sender, shutdown: CancellationToken) {
    let mut pending: HashMap<Kind, i64> = HashMap::new();
    let mut ticks = interval(FLUSH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let ending = tokio::select! {
            () = shutdown.cancelled() => true,
            _ = ticks.tick() => false,
        };
        sender.gather(&mut pending);
        sender.flush(&mut pending).await;
        if ending {
            return;
        }
    }
}

impl Sender {
    fn gather(&mut self, pending: &mut HashMap<Kind, i64>) {
        while let Ok(kind) = self.queue.try_recv() {
            if pending.len() < PENDING_MAX || pending.contains_key(&kind) {
                *pending.entry(kind).or_default() += 1;
            } else {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "denials came faster than the audit takes them; the rest was counted only"
            );
        }
    }

    async fn flush(&self, pending: &mut HashMap<Kind, i64>) {
        if pending.is_empty() {
            return;
        }
        let denials = pending.iter().map(|(kind, count)| denial(kind, *count)).collect();
        match timeout(SEND_TIMEOUT, self.deliver(denials)).await {
            Ok(Ok(())) => pending.clear(),
            Ok(Err(error)) => tracing::debug!(%error, "denials wait for identity"),
            Err(_) => tracing::debug!("denials wait for identity"),
        }
    }

    async fn deliver(&self, denials: Vec<Denial>) -> Result<(), ServiceError> {
        let bearer = self.tokens.for_self(IDENTITY).await?;
        let mut client = AuditServiceClient::new(self.identity.clone());
        client.record_denials(authorized(RecordDenialsRequest { denials }, &bearer)).await?;
        Ok(())
    }
}

fn denial(kind: &Kind, count: i64) -> Denial {
    Denial {
        principal_id: kind.principal.to_string(),
        action: kind.action.clone(),
        resource: kind.resource.clone(),
        reason: kind.reason.clone(),
        minute: Some(prost_types::Timestamp { seconds: kind.minute, nanos: 0 }),
        count,
    }
}
