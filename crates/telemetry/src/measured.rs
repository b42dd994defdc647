//! A role's routes, measured.

use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service, ServiceExt};

use crate::{MeasuredBody, RpcLayer};

/// A role's routes behind an [`RpcLayer`], with the body type that routes have.
pub fn measured<S>(
    role: &'static str,
    routes: S,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = S::Error, Future: Send>
+ Clone
+ Send
+ Sync
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    RpcLayer::new(role)
        .layer(routes)
        .map_response(|response: Response<MeasuredBody<Body>>| response.map(Body::new))
}
