//! Connecting to a role that may be about to come back.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tower::{Service, ServiceExt};

use crate::unheard::Unheard;

const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(250);

type Connected = TokioIo<Unheard>;
type Refused = <HttpConnector as Service<Uri>>::Error;

/// Since when a callee takes no connections; shared by all that call it. Whoever
/// comes when the patience is over tries once and is told at once.
#[derive(Debug, Clone)]
pub(crate) struct Absence {
    patience: Duration,
    since: Arc<Mutex<Option<Instant>>>,
}

impl Absence {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, since: Arc::default() }
    }

    fn over(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Until when to try, now that a connection was refused.
    fn deadline(&self) -> Instant {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        *since.get_or_insert_with(Instant::now) + self.patience
    }
}

/// A connector that tries again while its callee is absent.
#[derive(Debug, Clone)]
pub(crate) struct Patient {
    connector: HttpConnector,
    absence: Absence,
}

impl Patient {
    pub(crate) fn new(connector: HttpConnector, absence: Absence) -> Self {
        Self { connector, absence }
    }
}

impl Service<Uri> for Patient {
    type Response = Connected;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Connected, Refused>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { connector, absence } = self.clone();
        Box::pin(async move {
            let mut pause = PAUSE_MIN;
            loop {
                let refused = match connector.clone().oneshot(uri.clone()).await {
                    Ok(connected) => {
                        absence.over();
                        return Ok(TokioIo::new(Unheard::new(connected.into_inner())));
                    }
                    Err(refused) => refused,
                };
                let (now, deadline) = (Instant::now(), absence.deadline());
                if now >= deadline {
                    return Err(refused);
                }
                tokio::time::sleep(pause.min(deadline - now)).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        })
    }
}
