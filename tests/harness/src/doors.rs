//! How a client connects: at once or never, or with patience for a door that is
//! closed while its process is started again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use service_channel::{Transport, remote_within};
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::Endpoint;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

const PAUSE: Duration = Duration::from_millis(20);

static PATIENCE_SECONDS: AtomicU64 = AtomicU64::new(0);

/// From now on every new session of this test's process waits so long for a door that
/// takes no connections, as a client with a retry policy does. What a door began is
/// never sent again.
pub fn wait_for_doors(at_most: Duration) {
    PATIENCE_SECONDS.store(at_most.as_secs(), Ordering::Relaxed);
}

/// How long sessions wait.
pub fn patience() -> Duration {
    Duration::from_secs(PATIENCE_SECONDS.load(Ordering::Relaxed))
}

/// A connection that is made when it is first used, and again when it was lost: a
/// foreign client's, or with patience one as our own command line has it.
pub fn connect(url: &str, patience: Duration) -> Transport {
    if !patience.is_zero() {
        return remote_within(url, patience).expect("an address");
    }
    let channel = Endpoint::from_shared(url.to_owned()).expect("an address").connect_lazy();
    let plain = channel.map_err(|error| Status::from_error(Box::new(error)));
    BoxCloneSyncService::new(plain)
}

/// Sends a request; one that found no connection is sent when there is one.
pub async fn send(request: reqwest::RequestBuilder) -> reqwest::Result<reqwest::Response> {
    let deadline = Instant::now() + patience();
    let mut tick = tokio::time::interval(PAUSE);
    loop {
        tick.tick().await;
        let copy = request.try_clone().expect("a body that can be sent again");
        let (client, copy) = copy.build_split();
        let copy = copy?;
        // A connection that was closed while it lay idle is noticed by the request on it.
        let may_repeat = copy.method().is_safe();
        match client.execute(copy).await {
            Err(error)
                if (error.is_connect() || (may_repeat && error.is_request()))
                    && Instant::now() < deadline => {}
            answer => return answer,
        }
    }
}
