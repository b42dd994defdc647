//! Real parts for tests: the `quarry` binary in every topology, Postgres from a wheel,
//! and clients of both.
//!
//! ```no_run
//! # async fn example() {
//! use harness::{Database, Platform, Topology};
//! let platform = Platform::start(Topology::Split, Database::Postgres).await;
//! let page = platform.admin().namespaces().list_namespaces(Default::default()).await;
//! # }
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests: a part that does not start ends the test, and says why"
)]

pub mod bytes_codec;
mod cli;
pub mod data;
mod doors;
mod flight;
mod parts;
mod platform;
mod postgres;
mod process;
mod replica;
mod s3;
mod session;
mod wait;

pub use cli::CliOutput;
pub use doors::wait_for_doors;
pub use flight::{Put, get_all, get_ticket, put};
pub use parts::{quarry_binary, venv};
pub use platform::{Database, Platform, Role, Setup, Topology};
pub use postgres::Postgres;
pub use process::{Launch, Process};
pub use replica::Replica;
pub use s3::{Bucket, variables as s3_variables};
pub use service_channel::is_going;
pub use session::{Answer, Authed, Session, fetch, fetch_bytes};
pub use wait::eventually;
