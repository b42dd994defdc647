//! The wire: authenticate, convert, ask a use case, convert back.

mod flight;
mod flight_sql;
mod items;
mod media;
mod needs;
mod sql;
mod trailers;

use std::convert::Infallible;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use blocks::ByteBudget;
use http::{Request, Response};
use items_api::v1::items_service_server::ItemsServiceServer;
use items_api::v1::media_service_server::MediaServiceServer;
use items_api::v1::sql_service_server::SqlServiceServer;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::app::App;
use crate::settings::FlightSettings;

pub use needs::needs;

/// Room beside a put's rows for the message's own fields.
const MESSAGE_FRAME_BYTES: usize = 64 << 10;

/// All services of the item store.
pub fn routes(
    app: &App,
    settings: &FlightSettings,
) -> BoxCloneSyncService<Request<Body>, Response<Body>, Infallible> {
    let message_bytes_max = settings.message_bytes_max.saturating_add(MESSAGE_FRAME_BYTES);
    let flight = FlightServiceServer::new(flight::FlightGrpc::new(app.clone()))
        .max_decoding_message_size(message_bytes_max)
        .max_encoding_message_size(usize::MAX);
    let items = ItemsServiceServer::new(items::ItemsGrpc::new(app.clone()))
        .max_encoding_message_size(usize::MAX);
    let media = MediaServiceServer::new(media::MediaGrpc::new(app.clone()));
    let sql =
        SqlServiceServer::new(sql::SqlGrpc::new(app.clone())).max_encoding_message_size(usize::MAX);
    let routes =
        Routes::new(flight).add_service(items).add_service(media).add_service(sql).prepare();
    let limits = flight_messages::Limits {
        budget: ByteBudget::new(settings.decode_bytes_max),
        shares: flight_messages::Shares::new(settings.decode_bytes_max / 3 * 2),
        message_bytes_max,
        stall: Duration::from_secs(settings.stall_seconds.max(1)),
    };
    BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
        let routes = routes.clone();
        let request = flight_messages::budgeted(request, &limits);
        async move { routes.oneshot(request).await.map(trailers::appended) }
    }))
}
