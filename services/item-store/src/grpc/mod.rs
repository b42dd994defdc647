//! The wire: authenticate, convert, ask a use case, convert back.

mod analysis;
mod conditions;
mod edits;
mod filters;
mod flight;
mod flight_sql;
mod items;
mod maintenance;
mod media;
mod needs;
mod rows;
mod sql;
mod trailers;

use std::convert::Infallible;
use std::time::Duration;

use ::jobs::Jobs;
use arrow_flight::flight_service_server::FlightServiceServer;
use blocks::ByteBudget;
use http::{Request, Response};
use items_api::v1::analysis_service_server::AnalysisServiceServer;
use items_api::v1::edits_service_server::EditsServiceServer;
use items_api::v1::filters_service_server::FiltersServiceServer;
use items_api::v1::items_service_server::ItemsServiceServer;
use items_api::v1::maintenance_service_server::MaintenanceServiceServer;
use items_api::v1::media_service_server::MediaServiceServer;
use items_api::v1::sql_service_server::SqlServiceServer;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::app::App;
use crate::settings::FlightSettings;

pub use needs::needs;

/// The largest batch of edits.
const EDIT_BYTES_MAX: usize = 32 << 20;
/// Room beside a put's rows for the message's own fields.
const MESSAGE_FRAME_BYTES: usize = 64 << 10;

/// All services of the item store.
pub fn routes(
    app: &App,
    jobs: Jobs,
    settings: &FlightSettings,
) -> BoxCloneSyncService<Request<Body>, Response<Body>, Infallible> {
    let message_bytes_max = settings.message_bytes_max.saturating_add(MESSAGE_FRAME_BYTES);
    let flight = FlightServiceServer::new(flight::FlightGrpc::new(app.clone()))
        .max_decoding_message_size(message_bytes_max)
        .max_encoding_message_size(usize::MAX);
    let items = ItemsServiceServer::new(items::ItemsGrpc::new(app.clone()))
        .max_encoding_message_size(usize::MAX);
    let edits = EditsServiceServer::new(edits::EditsGrpc::new(app.clone()))
        .max_decoding_message_size(EDIT_BYTES_MAX)
        .max_encoding_message_size(usize::MAX);
    let media = MediaServiceServer::new(media::MediaGrpc::new(app.clone()));
    let analysis = AnalysisServiceServer::new(analysis::AnalysisGrpc::new(app.clone()))
        .max_encoding_message_size(usize::MAX);
    let sql =
        SqlServiceServer::new(sql::SqlGrpc::new(app.clone())).max_encoding_message_size(usize::MAX);
    let maintenance = maintenance::MaintenanceGrpc { app: app.clone(), jobs: jobs.clone() };
    let routes = Routes::new(flight)
        .add_service(items)
        .add_service(analysis)
        .add_service(FiltersServiceServer::new(filters::FiltersGrpc { app: app.clone() }))
        .add_service(edits)
        .add_service(media)
        .add_service(sql)
        .add_service(MaintenanceServiceServer::new(maintenance))
        .add_service(::jobs::service(jobs))
        .prepare();
    let limits = flight_messages::Limits {
        budget: ByteBudget::new(settings.decode_bytes_max),
        shares: flight_messages::Shares::new(settings.decode_bytes_max / 3 * 2),
        message_bytes_max,
        stall: Duration::from_secs(settings.stall_seconds.max(1)),
    };
    BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
        let routes = routes.clone();
        let request = flight_messages::budgeted(request, &limits);
        async move { routes.oneshot(request).await.map(rows::sent).map(trailers::appended) }
    }))
}
