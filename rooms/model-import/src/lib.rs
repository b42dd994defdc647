//! Other registries' models, read and registered here, as a crate.

mod json;
mod load;
mod place;
mod server;
mod source;
mod store;

pub use load::{Options, Report, Row, State, run};
pub use source::{Opening, Source};
#[cfg(test)]
mod tests;
