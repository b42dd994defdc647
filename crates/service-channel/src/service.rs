//! What a service hands to the process that runs it.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use service_error::ServiceError;

use crate::Transport;

/// One built role: how to call it, what runs beside it, when it is ready.
pub struct Service {
    /// The role's name, e.g. `"catalog"`.
    pub name: &'static str,
    /// Its gRPC services behind all their layers; the same in memory and
    /// behind a door.
    pub transport: Transport,
    /// Plain HTTP surfaces of its own, if it has any.
    pub http: Option<axum::Router>,
    /// Background work, until the shutdown token that `build` was given fires.
    pub jobs: Vec<Job>,
    /// What must hold before traffic is sent to it.
    pub readiness: Vec<Readiness>,
    /// Which migrations its database has; none for a role without rows.
    pub applied: Option<Applied>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("jobs", &self.jobs)
            .finish_non_exhaustive()
    }
}

type Names = dyn Fn() -> BoxFuture<'static, Result<Vec<String>, ServiceError>> + Send + Sync;

/// Asks a role's database, over the role's own connections, for the names of the
/// migrations that have run, those of other programs too, in order.
#[derive(Clone)]
pub struct Applied(Arc<Names>);

impl Applied {
    /// As `ask` answers.
    pub fn new<F, Fut>(ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<String>, ServiceError>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(ask())))
    }

    /// The names, now.
    ///
    /// # Errors
    /// A database that is away.
    pub async fn names(&self) -> Result<Vec<String>, ServiceError> {
        (self.0)().await
    }
}

impl fmt::Debug for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Applied")
    }
}

/// Background work of a role.
pub struct Job {
    /// For the log, e.g. `"catalog.outbox"`.
    pub name: &'static str,
    /// Ends when the role shuts down.
    pub run: BoxFuture<'static, ()>,
}

impl Job {
    /// A named piece of background work.
    pub fn new(name: &'static str, run: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { name, run: Box::pin(run) }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

type Check = dyn Fn() -> BoxFuture<'static, Result<Option<String>, String>> + Send + Sync;

/// One thing that must hold before a role takes traffic.
#[derive(Clone)]
pub struct Readiness {
    /// For `/readyz`, e.g. `"catalog.database"`.
    pub name: &'static str,
    check: Arc<Check>,
}

impl Readiness {
    /// A named check; the text of a failure is shown to the operator.
    pub fn new<F, Fut>(name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self::telling(name, move || {
            let holds = check();
            async move { holds.await.map(|()| None) }
        })
    }

    /// A check that says what it saw also when all is well.
    pub fn telling<F, Fut>(name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<String>, String>> + Send + 'static,
    {
        Self { name, check: Arc::new(move || Box::pin(check())) }
    }

    /// Whether it holds now, and what was seen where it tells.
    ///
    /// # Errors
    /// What is missing, for the operator.
    pub async fn check(&self) -> Result<Option<String>, String> {
        (self.check)().await
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
