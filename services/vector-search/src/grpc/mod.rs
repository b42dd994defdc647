//! The wire: requests into use cases, outcomes into messages.

mod generations;
mod images;
mod loading;
mod payload;
mod points;
mod question;
mod search;
mod spaces;

use prost_types::Timestamp;
use service_error::{Code, ServiceError};
use tonic::service::Routes;
use tonic::{Response, Status};
use vectors_api::v1::generations_service_server::GenerationsServiceServer;
use vectors_api::v1::images_service_server::ImagesServiceServer;
use vectors_api::v1::loading_service_server::LoadingServiceServer;
use vectors_api::v1::points_service_server::PointsServiceServer;
use vectors_api::v1::search_service_server::SearchServiceServer;
use vectors_api::v1::spaces_service_server::SpacesServiceServer;

use crate::app::App;

/// The largest message in, in bytes: a thousand vectors of the greatest dimension.
const MESSAGE_BYTES_MAX: usize = 80 << 20;

/// All services of the vector search.
pub fn routes(app: &App, durable: ::jobs::Jobs) -> Routes {
    let mut routes = Routes::builder();
    routes.add_service(SpacesServiceServer::new(spaces::Spaces(app.clone())));
    routes.add_service(
        PointsServiceServer::new(points::Points(app.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(usize::MAX),
    );
    routes.add_service(
        SearchServiceServer::new(search::Searches(app.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(usize::MAX),
    );
    routes.add_service(GenerationsServiceServer::new(generations::Generations(app.clone())));
    routes.add_service(
        ImagesServiceServer::new(images::Images(app.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX),
    );
    routes.add_service(LoadingServiceServer::new(loading::Loading(app.clone())));
    routes.add_service(::jobs::service(durable));
    routes.routes().prepare()
}

/// Answers an outcome. A defect of ours is logged here, once, with its cause.
fn answer<T>(outcome: Result<T, ServiceError>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(|error| {
        if matches!(error.code(), Code::Internal | Code::DataLoss) {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "a call failed");
        }
        Status::from(error)
    })
}

/// A microsecond time as the wire has it.
fn timestamp(micros: i64) -> Option<Timestamp> {
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
    Some(Timestamp { seconds: micros.div_euclid(1_000_000), nanos })
}

/// A count as the wire has it.
fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
