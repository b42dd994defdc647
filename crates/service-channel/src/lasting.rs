//! Streams that have no end of their own: a watch lasts as long as its caller,
//! and would hold a process that wants to go for the whole of its grace.

use http::Request;
use service_error::ServiceError;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::Transport;
use crate::cut::CutBody;

/// A stream of these lasts though its name does not say so: an agent's, and what a
/// client asks reflection.
const CONNECTIONS: [&str; 2] = ["/quarry.files.v1.AgentService/Connect", "/ServerReflectionInfo"];

const GOING_AWAY: &str = "GOING_AWAY";

/// Whether a method's stream lasts as long as its caller wants.
pub(crate) fn lasts(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap_or_default();
    // Watching health has a last word of its own, and ends by itself after it.
    crate::is_grpc_path(path)
        && !path.starts_with("/grpc.health.")
        && (method.starts_with("Watch") || CONNECTIONS.iter().any(|one| path.ends_with(one)))
}

/// A callee whose lasting streams end with UNAVAILABLE, `GOING_AWAY`, once `ends`
/// fires: who followed one calls again and is answered by the next process. Other
/// streams go on to their ends.
pub fn ending(callee: Transport, ends: CancellationToken) -> Transport {
    BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
        let lasting = lasts(request.uri().path()).then(|| ends.clone());
        let answer = callee.clone().oneshot(request);
        async move {
            let Some(ends) = lasting else { return answer.await };
            let response = tokio::select! {
                response = answer => response?,
                () = ends.cancelled() => return Err(going()),
            };
            Ok(response.map(|body| {
                CutBody::around(body, async move {
                    ends.cancelled().await;
                    going()
                })
            }))
        }
    }))
}

fn going() -> Status {
    ServiceError::unavailable("the server is being restarted: call again").reason(GOING_AWAY).into()
}

/// Whether a lasting stream ended because its server goes: the next one goes on with it.
#[must_use]
pub fn is_going(status: &Status) -> bool {
    ServiceError::from_status(status).reason_is(GOING_AWAY)
}
