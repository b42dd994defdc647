//! The wire: requests into use cases, outcomes into messages.

mod generations;
mod images;
mod loading;
mod points;
mod search;
mod spaces;

use grpc_room::{answer, timestamp};
use tonic::service::Routes;
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

/// A count as the wire has it.
fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
