//! JSON over HTTP for gRPC services, at run time and from their descriptors:
//! the routes of `google.api.http`, ProtoJSON both ways, and an OpenAPI
//! document from the same table.

mod call;
mod error;
mod frame;
mod openapi;
mod params;
mod path;
mod percent;
mod request;
mod response;
mod table;
mod template;
mod upload;

pub use call::{Inbound, Limits, call};
pub use error::{error_response, error_response_as};
pub use openapi::Info;
pub use path::{MatchedRoute, Miss};
pub use table::{Exposure, Route, RouteTable, TableError};
pub use template::{Template, TemplateError};

#[cfg(test)]
mod testing;
