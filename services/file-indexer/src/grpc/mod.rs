//! The wire: requests into use cases, outcomes into messages.

mod agent;
mod changes;
mod files;
mod imports;
mod locations;
mod marks;
mod volumes;

use files_api::v1::agent_service_server::AgentServiceServer;
use files_api::v1::changes_service_server::ChangesServiceServer;
use files_api::v1::files_service_server::FilesServiceServer;
use files_api::v1::imports_service_server::ImportsServiceServer;
use files_api::v1::locations_service_server::LocationsServiceServer;
use files_api::v1::marks_service_server::MarksServiceServer;
use options_api::NeedTable;
use prost_types::Timestamp;
use service_error::ServiceError;
use tonic::service::Routes;
use tonic::{Response, Status};

use crate::app::Indexer;

/// The largest message of an agent.
const AGENT_MESSAGE_BYTES_MAX: usize = 2 << 20;

/// What each method needs.
///
/// # Errors
/// A contract that can't be read.
pub fn needs() -> Result<NeedTable, ServiceError> {
    let sets = [files_api::FILE_DESCRIPTOR_SET, ops_api::FILE_DESCRIPTOR_SET];
    NeedTable::from_descriptor_sets(&sets).map_err(|error| {
        ServiceError::internal("the file indexer's needs can't be read").caused_by(error)
    })
}

/// Every service of the role.
pub fn routes(indexer: &Indexer) -> Routes {
    let mut routes = Routes::builder();
    routes.add_service(LocationsServiceServer::new(locations::Locations(indexer.clone())));
    routes.add_service(FilesServiceServer::new(files::Files(indexer.clone())));
    routes.add_service(MarksServiceServer::new(marks::Marks(indexer.clone())));
    routes.add_service(ImportsServiceServer::new(imports::Imports(indexer.clone())));
    routes.add_service(ChangesServiceServer::new(changes::Changes(indexer.clone())));
    // Columns of numbers take eight times their bytes in memory: small messages.
    let agents = AgentServiceServer::new(agent::Agents(indexer.clone()))
        .max_decoding_message_size(AGENT_MESSAGE_BYTES_MAX);
    routes.add_service(agents);
    routes.add_service(jobs::service(indexer.jobs().clone()));
    routes.routes().prepare()
}

fn answer<T>(outcome: Result<T, ServiceError>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(Status::from)
}

/// No name holds a NUL, and no database takes one in a text.
fn plain<T: AsRef<str>>(field: &str, texts: &[T]) -> Result<(), ServiceError> {
    match texts.iter().any(|text| text.as_ref().contains('\0')) {
        true => Err(ServiceError::invalid(field, "holds a NUL")),
        false => Ok(()),
    }
}

/// Nanoseconds as the wire has them.
fn timestamp(nanos: i64) -> Timestamp {
    let rest = i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0);
    Timestamp { seconds: nanos.div_euclid(1_000_000_000), nanos: rest }
}

/// Nanoseconds of a wire time; what is out of their range is cut.
fn nanos(time: &Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos))
}
