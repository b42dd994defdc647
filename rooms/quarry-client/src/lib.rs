//! The platform as the command line sees it, as a crate: connections and calls,
//! what a failure prints, and what an answer prints.

pub mod client;
pub mod failure;
pub mod output;
pub mod page;
