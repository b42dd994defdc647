//! The vector search's room for what its messages say, as a crate.

pub mod grpc;
