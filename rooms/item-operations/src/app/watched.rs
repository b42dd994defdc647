//! Streams whose caller is looked at again while they run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use access::Resource;
use arrow::array::RecordBatch;
use caller::{Caller, Refused};
use futures::stream::{BoxStream, unfold};
use futures::{Stream, StreamExt};
use service_error::ServiceError;

use crate::app::App;
use crate::app::reading::Opened;

/// Grants are looked at this often while rows flow.
const RECHECK_INTERVAL: Duration = Duration::from_secs(4);
/// Blocks outlive a snapshot's end by an hour, so no stream may be older.
const STREAM_TIME_MAX: Duration = Duration::from_secs(3_600);

/// Batches of rows, or the error that ends them.
pub type Batches = BoxStream<'static, Result<RecordBatch, ServiceError>>;

/// A dataset whose rows flow.
struct Source {
    chain: [Resource; 2],
    public: bool,
    name: String,
}

/// A scan whose caller is looked at again while it runs.
pub struct Watched {
    batches: Batches,
    app: App,
    caller: Arc<Caller>,
    sources: Vec<Source>,
    begun: Instant,
    checked: Instant,
}

impl Watched {
    /// Rows of what was opened, for whom it was opened.
    pub fn new(app: &App, caller: Arc<Caller>, opened: &[Opened], batches: Batches) -> Self {
        let source = |opened: &Opened| Source {
            chain: opened.chain,
            public: opened.public,
            name: opened.address.to_string(),
        };
        let now = Instant::now();
        let sources = opened.iter().map(source).collect();
        Self { batches, app: app.clone(), caller, sources, begun: now, checked: now }
    }

    /// Ends with an error when the caller loses its right to the rows.
    pub fn stream(self) -> impl Stream<Item = Result<RecordBatch, ServiceError>> + Send {
        unfold(Some(self), |watched| async move {
            let mut watched = watched?;
            if let Err(error) = watched.check().await {
                return Some((Err(error), None));
            }
            let batch = watched.batches.next().await?;
            Some((batch, Some(watched)))
        })
    }

    async fn check(&mut self) -> Result<(), ServiceError> {
        if self.checked.elapsed() < RECHECK_INTERVAL {
            return Ok(());
        }
        self.checked = Instant::now();
        if self.begun.elapsed() > STREAM_TIME_MAX {
            let message =
                "the stream is older than an hour; ask for a new ticket and go on where it ended";
            return Err(ServiceError::precondition(message).reason("STREAM_TOO_OLD"));
        }
        if self.app.access.refused(&self.caller) {
            let message = "the token was revoked or its owner disabled";
            return Err(ServiceError::unauthenticated(message).reason("TOKEN_REVOKED"));
        }
        for source in &self.sources {
            let level = self.app.access.level(&self.caller, &source.chain, source.public).await?;
            if level.is_none() {
                return Err(ServiceError::not_found("dataset", &source.name));
            }
        }
        Ok(())
    }
}
