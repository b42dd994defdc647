//! The replica: fed by identity's stream, and its lag known by pings.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use caller::{Caller, Refused, TokenSource, authorized};
use identity_api::v1::replica_service_client::ReplicaServiceClient;
use identity_api::v1::{GetRevisionRequest, WatchGrantsRequest, WatchGrantsResponse};
use service_channel::{CONTROL_MESSAGE_BYTES_MAX, Job, Readiness, Transport};
use service_error::ServiceError;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::denials::Denials;
use crate::state::State;

pub(crate) const IDENTITY: &str = "identity";

const PING_INTERVAL: Duration = Duration::from_millis(500);
/// Pings whose revision the stream did not bring, before it is opened anew.
const MISSED_MAX: u32 = 3;
const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(50);
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(2);

/// The grants of the platform, as this service knows them. Clones share them.
#[derive(Clone)]
pub struct GrantReplica {
    pub(crate) inner: Arc<Inner>,
}

/// How stale the replica may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// With more lag, identity is asked for each decision.
    pub ask_after: Duration,
    /// With more lag and identity away, nothing is allowed.
    pub deny_after: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { ask_after: Duration::from_secs(2), deny_after: Duration::from_secs(5) }
    }
}

pub(crate) struct Inner {
    pub identity: Transport,
    pub tokens: TokenSource,
    pub state: RwLock<State>,
    pub denials: Denials,
    pub patience: Patience,
    /// The stream is behind what pings say: it is half open.
    behind: Notify,
    /// The newest revision that has been applied.
    applied: watch::Sender<i64>,
    /// When the last ping was sent whose answer named a revision that has been
    /// applied.
    confirmed: watch::Sender<Option<Instant>>,
}

impl std::fmt::Debug for GrantReplica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrantReplica")
            .field("revision", &*self.inner.applied.borrow())
            .finish_non_exhaustive()
    }
}

impl GrantReplica {
    /// A replica of `identity`'s grants and the jobs that keep it, until
    /// `shutdown`.
    #[must_use]
    pub fn new(
        identity: Transport,
        tokens: TokenSource,
        shutdown: CancellationToken,
    ) -> (Self, Vec<Job>) {
        Self::with_patience(identity, tokens, shutdown, Patience::default())
    }

    pub(crate) fn with_patience(
        identity: Transport,
        tokens: TokenSource,
        shutdown: CancellationToken,
        patience: Patience,
    ) -> (Self, Vec<Job>) {
        let (denials, sender) = Denials::new(identity.clone(), tokens.clone());
        let inner = Arc::new(Inner {
            identity,
            tokens,
            state: RwLock::default(),
            denials,
            patience,
            behind: Notify::new(),
            applied: watch::Sender::new(0),
            confirmed: watch::Sender::new(None),
        });
        let replica = Self { inner };
        let (watching, pinging) = (replica.clone(), replica.clone());
        let (watch_end, ping_end) = (shutdown.clone(), shutdown.clone());
        let jobs = vec![
            Job::new("grants.watch", async move {
                watch_end.run_until_cancelled(watching.watch()).await;
            }),
            Job::new("grants.ping", async move {
                ping_end.run_until_cancelled(pinging.ping()).await;
            }),
            Job::new("grants.denials", crate::denials::send(sender, shutdown)),
        ];
        (replica, jobs)
    }

    /// How long ago it was certain that nothing was missing; nothing before
    /// the first time.
    pub(crate) fn lag(&self) -> Option<Duration> {
        self.inner.confirmed.borrow().map(|at| at.elapsed())
    }

    /// Waits until a revision has been applied here, e.g. that of a grant just
    /// made.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it has not come within `at_most`.
    pub async fn wait_for(&self, revision: i64, at_most: Duration) -> Result<(), ServiceError> {
        let mut applied = self.inner.applied.subscribe();
        let known = timeout(at_most, applied.wait_for(|known| *known >= revision)).await;
        match known {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ServiceError::unavailable(
                "it is done, but the grant on it is not known here yet; look again in a moment",
            )
            .reason("GRANT_PENDING")),
        }
    }

    /// Whether the replica has a state that is at most seconds old.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let replica = self.clone();
        Readiness::new("grants", move || {
            let (lag, deny_after) = (replica.lag(), replica.inner.patience.deny_after);
            async move {
                match lag {
                    Some(lag) if lag < deny_after => Ok(()),
                    Some(lag) => Err(format!("identity has not answered for {} s", lag.as_secs())),
                    None => Err("identity has not answered yet".to_owned()),
                }
            }
        })
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.inner.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn watch(&self) {
        let mut delay = RECONNECT_DELAY_MIN;
        loop {
            let began = Instant::now();
            let followed = tokio::select! {
                followed = self.follow() => followed,
                () = self.inner.behind.notified() => Err(ServiceError::unavailable("it brings nothing")),
            };
            if let Err(error) = followed {
                tracing::debug!(%error, "the stream of grants ended");
            }
            if began.elapsed() > RECONNECT_DELAY_MAX {
                delay = RECONNECT_DELAY_MIN;
            }
            sleep(delay).await;
            delay = (delay * 2).min(RECONNECT_DELAY_MAX);
        }
    }

    async fn follow(&self) -> Result<(), ServiceError> {
        let bearer = self.inner.tokens.for_self(IDENTITY).await?;
        let since_revision = *self.inner.applied.borrow();
        let mut client = ReplicaServiceClient::new(self.inner.identity.clone())
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
        let stream = client
            .watch_grants(authorized(WatchGrantsRequest { since_revision }, &bearer))
            .await?
            .into_inner();
        self.apply_all(stream).await
    }

    async fn apply_all(
        &self,
        mut stream: Streaming<WatchGrantsResponse>,
    ) -> Result<(), ServiceError> {
        // A full state is gathered aside: until it is whole the old one
        // decides, so nobody is denied half-way.
        let mut gathering: Option<State> = None;
        while let Some(message) = stream.message().await? {
            if message.reset {
                gathering = Some(State::default());
            }
            let revision = message.revision;
            match &mut gathering {
                Some(state) => message.changes.into_iter().for_each(|change| state.apply(change)),
                None => self.write(|state| {
                    message.changes.into_iter().for_each(|change| state.apply(change))
                }),
            }
            if message.partial {
                continue;
            }
            let whole = gathering.take();
            self.write(|state| {
                if let Some(whole) = whole {
                    *state = whole;
                }
                state.revision = revision;
            });
            self.inner.applied.send_replace(revision);
        }
        Ok(())
    }

    fn write(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.inner.state.write().unwrap_or_else(PoisonError::into_inner));
    }

    async fn ping(&self) {
        let mut ticks = interval(PING_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut missed = 0;
        loop {
            ticks.tick().await;
            let sent = Instant::now();
            match timeout(PING_INTERVAL * 2, self.newest()).await {
                Ok(Ok(revision)) if self.confirm(sent, revision).await => missed = 0,
                Ok(Ok(_)) => missed += 1,
                Ok(Err(error)) => tracing::debug!(%error, "identity did not tell its revision"),
                Err(_) => tracing::debug!("identity did not tell its revision in time"),
            }
            if missed >= MISSED_MAX {
                missed = 0;
                self.inner.behind.notify_waiters();
            }
            self.write(|state| state.forget(now_seconds()));
        }
    }

    async fn newest(&self) -> Result<i64, ServiceError> {
        let bearer = self.inner.tokens.for_self(IDENTITY).await?;
        let mut client = ReplicaServiceClient::new(self.inner.identity.clone());
        Ok(client
            .get_revision(authorized(GetRevisionRequest {}, &bearer))
            .await?
            .into_inner()
            .revision)
    }

    /// Notes that nothing older than `sent` is missing, once the stream has
    /// brought what identity had then; tells whether it has.
    async fn confirm(&self, sent: Instant, revision: i64) -> bool {
        let mut applied = self.inner.applied.subscribe();
        let caught_up = timeout(PING_INTERVAL, applied.wait_for(|known| *known >= revision)).await;
        let current = matches!(caught_up, Ok(Ok(_)));
        if current {
            self.inner.confirmed.send_replace(Some(sent));
        }
        current
    }
}

impl Refused for GrantReplica {
    fn refused(&self, caller: &Caller) -> bool {
        !caller.service
            && self.read(|state| state.refuses(caller.principal, caller.token, caller.role))
    }

    fn denied(&self, caller: &Caller, path: &str, error: &ServiceError) {
        self.inner.denials.denied_at(caller, path, error);
    }
}

pub(crate) fn now_seconds() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}
