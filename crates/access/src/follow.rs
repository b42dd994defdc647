//! The replica's background work: the stream of changes, the pings that
//! measure its lag, the denials that go back.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use caller::authorized;
use identity_api::v1::audit_service_client::AuditServiceClient;
use identity_api::v1::replica_service_client::ReplicaServiceClient;
use identity_api::v1::{
    self as api, GetRevisionRequest, RecordDenialsRequest, WatchGrantsRequest, WatchGrantsResponse,
};
use service_error::ServiceError;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::state::State;
use crate::{Denial, GrantReplica, Refusals};

const PING_EVERY: Duration = Duration::from_millis(500);
const PING_TIMEOUT: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A stream that owes a committed revision for so long is opened anew.
const STUCK_AFTER: Duration = Duration::from_secs(3);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
const FLUSH_EVERY: Duration = Duration::from_secs(1);
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
const FLUSH_MOST: usize = 1_000;

/// Follows identity's changes until `shutdown`, over as many streams as it takes.
pub(crate) async fn grants(replica: GrantReplica, shutdown: CancellationToken) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let before = replica.revision();
        let ended = tokio::select! {
            () = shutdown.cancelled() => return,
            ended = follow(&replica) => ended,
        };
        if replica.revision() > before {
            backoff = BACKOFF_MIN;
        }
        match ended {
            Ok(()) => tracing::debug!("identity closed the stream of grants"),
            Err(error) => tracing::warn!(%error, "the stream of grants broke; following again"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(backoff) => {}
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

async fn follow(replica: &GrantReplica) -> Result<(), ServiceError> {
    let mut stream = timeout(CONNECT_TIMEOUT, open(replica))
        .await
        .map_err(|_| ServiceError::unavailable("identity did not answer"))??;
    replica
        .inner
        .freshness
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .restarted();
    let mut check = interval(Duration::from_secs(1));
    let mut whole = None;
    loop {
        tokio::select! {
            message = stream.message() => match message? {
                Some(message) => apply(replica, message, &mut whole),
                None => return Ok(()),
            },
            _ = check.tick() => {
                if replica.inner.freshness.lock().unwrap_or_else(PoisonError::into_inner).is_stuck(STUCK_AFTER) {
                    return Err(ServiceError::unavailable("the stream of grants is stuck"));
                }
            }
        }
    }
}

async fn open(replica: &GrantReplica) -> Result<Streaming<WatchGrantsResponse>, ServiceError> {
    let bearer = replica.inner.tokens.for_self("identity").await?;
    // Before the first whole state nothing may be taken for granted.
    let since_revision = if replica.inner.loaded.load(Ordering::Acquire) {
        replica.revision()
    } else {
        0
    };
    let mut identity = ReplicaServiceClient::new(replica.inner.identity.clone());
    let request = authorized(WatchGrantsRequest { since_revision }, &bearer);
    Ok(identity.watch_grants(request).await?.into_inner())
}

/// A whole state that is still arriving; decisions go on from the old one.
struct Arriving {
    state: State,
    refusals: Refusals,
}

fn apply(replica: &GrantReplica, message: WatchGrantsResponse, whole: &mut Option<Arriving>) {
    let inner = &replica.inner;
    if message.reset {
        *whole = Some(Arriving {
            state: State::default(),
            refusals: Refusals::default(),
        });
    }
    if let Some(arriving) = whole {
        for change in message.changes {
            arriving.state.apply(change, &arriving.refusals);
        }
    } else {
        let mut state = inner.state.write().unwrap_or_else(PoisonError::into_inner);
        for change in message.changes {
            state.apply(change, &inner.refusals);
        }
    }
    if message.partial {
        return;
    }
    if let Some(arrived) = whole.take() {
        inner.refusals.replace(&arrived.refusals);
        *inner.state.write().unwrap_or_else(PoisonError::into_inner) = arrived.state;
        inner.loaded.store(true, Ordering::Release);
    }
    inner
        .freshness
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .applied(message.revision);
    inner.revision.send_replace(message.revision);
}

/// Asks for identity's newest revision, again and again.
pub(crate) async fn pings(replica: GrantReplica, shutdown: CancellationToken) {
    let mut every = interval(PING_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = every.tick() => {}
        }
        let sent = Instant::now();
        match timeout(PING_TIMEOUT, newest(&replica)).await {
            Ok(Ok(revision)) => replica
                .inner
                .freshness
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .answered(revision, sent),
            Ok(Err(error)) => tracing::debug!(%error, "identity refused a ping"),
            Err(_) => tracing::debug!("identity did not answer a ping"),
        }
    }
}

async fn newest(replica: &GrantReplica) -> Result<i64, ServiceError> {
    let bearer = replica.inner.tokens.for_self("identity").await?;
    let mut identity = ReplicaServiceClient::new(replica.inner.identity.clone());
    Ok(identity
        .get_revision(authorized(GetRevisionRequest {}, &bearer))
        .await?
        .into_inner()
        .revision)
}

/// Sends what was denied to identity's audit each second, and once more at
/// the end.
pub(crate) async fn denials(replica: GrantReplica, shutdown: CancellationToken) {
    let mut every = interval(FLUSH_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            () = shutdown.cancelled() => true,
            _ = every.tick() => false,
        };
        flush(&replica).await;
        if last {
            return;
        }
    }
}

async fn flush(replica: &GrantReplica) {
    let queue = &replica.inner.denials;
    let dropped = queue.take_dropped();
    if dropped > 0 {
        tracing::warn!(
            dropped,
            "too many different denials; some were not recorded"
        );
    }
    loop {
        let denials = queue.take(FLUSH_MOST);
        if denials.is_empty() {
            return;
        }
        match timeout(FLUSH_TIMEOUT, send(replica, &denials)).await {
            Ok(Ok(())) => {}
            failed => {
                tracing::debug!(?failed, "denials could not be recorded; they are kept");
                return queue.put_back(denials);
            }
        }
    }
}

async fn send(replica: &GrantReplica, denials: &[Denial]) -> Result<(), ServiceError> {
    let bearer = replica.inner.tokens.for_self("identity").await?;
    let denials = denials.iter().map(|denial| api::Denial {
        principal_id: denial
            .principal
            .map(|id| id.to_string())
            .unwrap_or_default(),
        action: denial.action.clone(),
        resource: denial.resource.clone(),
        reason: denial.reason.clone(),
        minute: Some(prost_types::Timestamp {
            seconds: denial.minute / 1_000_000,
            nanos: 0,
        }),
        count: denial.count,
    });
    let request = RecordDenialsRequest {
        denials: denials.collect(),
    };
    AuditServiceClient::new(replica.inner.identity.clone())
        .record_denials(authorized(request, &bearer))
        .await?;
    Ok(())
}
