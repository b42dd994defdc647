//! The door itself: which lane a request takes.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use service_channel::{Transport, local};
use service_error::ServiceError;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt};
use transcode::{RouteTable, error_response};

use crate::exchange::Exchange;
use crate::headers::{self, REQUEST_ID};
use crate::load::{self, Load, Place};
use crate::methods::Methods;
use crate::rate::Rate;
use crate::settings::Settings;
use crate::{Upstream, documents, handshake, jobs, json, own, relay, surface, web};

/// Calls that show no credential get one of so many places: whoever is nobody
/// could otherwise hold all of them with streams that stay open.
const OPEN_SHARE: usize = 16;

/// What every lane works with.
pub struct State {
    pub settings: Settings,
    pub exchange: Exchange,
    pub upstreams: Vec<Upstream>,
    pub methods: Methods,
    pub routes: RouteTable,
    pub openapi: Bytes,
    pub own: Transport,
    pub load: Load,
    pub rate: Rate,
    /// Of the places, those for calls that show no credential.
    pub open_load: Load,
}

impl State {
    /// The gRPC lane, with deadlines enforced and panics caught.
    pub fn grpc(self: &Arc<Self>) -> Transport {
        let state = Arc::clone(self);
        local(tower::service_fn(move |request| {
            let state = Arc::clone(&state);
            async move { Ok(relay::relay(state, request).await) }
        }))
    }
}

/// The public door.
pub struct Door {
    state: Arc<State>,
}

/// By content type alone: a gRPC-Web layer around everything refuses JSON over
/// HTTP/1.1, and bodies must stay unread on the gRPC lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Grpc,
    GrpcWeb,
    Http,
}

impl Lane {
    fn of<B>(request: &Request<B>) -> Self {
        let content_type = request
            .headers()
            .get(CONTENT_TYPE)
            .map_or(&b""[..], |value| value.as_bytes())
            .to_ascii_lowercase();
        match content_type.strip_prefix(b"application/grpc") {
            Some(rest) if rest.starts_with(b"-web") => Self::GrpcWeb,
            Some(rest) if rest.is_empty() || matches!(rest[0], b'+' | b';' | b' ') => Self::Grpc,
            _ => Self::Http,
        }
    }

    fn refuse(self, error: ServiceError) -> Response<Body> {
        let status = Status::from(error);
        if self == Self::Http { error_response(&status) } else { status.into_http() }
    }
}

impl Door {
    /// # Errors
    /// Contracts that cannot be served together.
    pub fn new(
        settings: Settings,
        exchange: Exchange,
        mut upstreams: Vec<Upstream>,
        operations: Option<Transport>,
        draining: CancellationToken,
    ) -> Result<Self, ServiceError> {
        // First: of two with the same prefix the first one answers.
        upstreams.insert(0, jobs::gather(&exchange, &upstreams, operations));
        let methods = Methods::read(&upstreams)?;
        let routes = RouteTable::new(methods.pool(), |method| methods.exposure(method))
            .map_err(|error| ServiceError::internal(format!("the HTTP routes: {error}")))?;
        let own = own::services(&upstreams, &methods, settings.reflection, draining)?;
        let openapi = documents::openapi(&routes);
        let load = Load::new(settings.in_flight_max);
        let open_load = Load::new(settings.in_flight_max / OPEN_SHARE);
        let rate = Rate::new(settings.surface_calls_per_second_max, settings.cached_tokens_max);
        Ok(Self {
            state: Arc::new(State {
                settings,
                exchange,
                upstreams,
                methods,
                routes,
                openapi,
                own,
                load,
                rate,
                open_load,
            }),
        })
    }

    /// The door as what a socket serves: ids, measures and spans around the
    /// lanes.
    pub fn into_transport(self) -> Transport {
        let state = self.state;
        let lanes = tower::service_fn(move |request: Request<Body>| {
            let state = Arc::clone(&state);
            async move { Ok::<_, Status>(answer(state, request).await) }
        });
        let measured = telemetry::RpcLayer::new("gateway").layer(lanes);
        BoxCloneSyncService::new(tower::service_fn(move |mut request: Request<Body>| {
            let measured = measured.clone();
            let id = headers::ensure_request_id(request.headers_mut());
            async move {
                let mut response = measured.oneshot(request).await?.map(Body::new);
                response.headers_mut().insert(REQUEST_ID, id);
                Ok(response)
            }
        }))
    }
}

async fn answer(state: Arc<State>, request: Request<Body>) -> Response<Body> {
    let lane = Lane::of(&request);
    if lane == Lane::Grpc && own::is_health_check(request.uri().path()) {
        return relay::relay(state, request).await;
    }
    let foreign = (lane == Lane::Http).then(|| surface::of(&state, request.uri().path())).flatten();
    let place = match enter(&state, lane, foreign.as_ref(), request.uri().path()) {
        Ok(place) => place,
        Err(error) => {
            return match foreign {
                Some((surface, _)) => surface.refusal(&error),
                None => lane.refuse(error),
            };
        }
    };
    if let Some(found) = foreign {
        return load::hold(surface::answer(&state, found, request).await, place);
    }
    let response = match lane {
        Lane::Grpc => {
            state.grpc().oneshot(request).await.unwrap_or_else(|status| status.into_http())
        }
        Lane::GrpcWeb => web::answer(state, request).await,
        Lane::Http => json::answer(state, request).await,
    };
    load::hold(response, place)
}

fn enter(
    state: &State,
    lane: Lane,
    foreign: Option<&surface::Found>,
    path: &str,
) -> Result<Place, ServiceError> {
    let is_open = match foreign {
        Some((surface, _)) => surface.is_open(path),
        None => lane != Lane::Http && (own::is_own(path) || handshake::is_handshake(path)),
    };
    let among_open = is_open.then(|| state.open_load.enter()).transpose()?;
    Ok((state.load.enter()?, among_open))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_alone_chooses_the_lane() {
        let of = |content_type: &str| {
            Lane::of(&Request::builder().header(CONTENT_TYPE, content_type).body(()).unwrap())
        };
        for text in ["application/grpc", "application/grpc+proto", "Application/gRPC;x=1"] {
            assert_eq!(of(text), Lane::Grpc, "{text}");
        }
        for text in [
            "application/grpc-web",
            "application/grpc-web-text+proto",
            "application/grpc-web+proto; charset=utf-8",
        ] {
            assert_eq!(of(text), Lane::GrpcWeb, "{text}");
        }
        for text in ["application/json", "application/grpcx", ""] {
            assert_eq!(of(text), Lane::Http, "{text}");
        }
        assert_eq!(Lane::of(&Request::new(())), Lane::Http);
    }
}
