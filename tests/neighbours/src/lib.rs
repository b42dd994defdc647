//! The roles that a service calls, in memory: one identity and one catalog for
//! the tests of all services.
//!
//! ```
//! use neighbours::{Catalog, Identity, Who};
//! let (identity, catalog) = (Identity::new("item-store"), Catalog::new());
//! let ana = Who::user();
//! catalog.namespace("vision");
//! let request = identity.request(&ana, catalog_api::v1::GetNamespaceRequest::default());
//! assert!(request.metadata().contains_key("authorization"));
//! # let _ = catalog.transport();
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "tests: a neighbour that breaks ends the test"
)]

mod calls;
mod catalog;
mod identity;
#[cfg(test)]
mod tests;
mod who;

use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;
use tonic::{Response, Status};

pub use calls::Calls;
pub use catalog::Catalog;
pub use identity::Identity;
pub use who::Who;

/// The secret with which the role under test asks identity for tokens.
pub const SECRET: &str = "secret";

/// How long a token, and the lease of an upload, holds, in seconds.
pub const LEASE_SECONDS: i64 = 60;

/// Entries of a page at the most, however many are asked for.
const PAGE_MAX: u32 = 2;

type Answer<T> = Result<Response<T>, Status>;

/// The page of a list after `token`, and the token of the next one.
fn page<T>(
    all: impl IntoIterator<Item = T>,
    size: i32,
    token: &str,
) -> Result<(Vec<T>, String), Status> {
    let size = paging::page_size(size, paging::PAGE_SIZE_MAX)?.min(PAGE_MAX) as usize;
    let from: usize = paging::key("page", token)?.unwrap_or_default();
    let mut entries: Vec<T> = all.into_iter().skip(from).take(size + 1).collect();
    if entries.len() <= size {
        return Ok((entries, String::new()));
    }
    entries.truncate(size);
    Ok((entries, paging::token("page", &(from + size))))
}

/// A time so many seconds from now.
fn in_seconds(seconds: i64) -> Timestamp {
    Timestamp { seconds: now_seconds() + seconds, nanos: 0 }
}

fn now_seconds() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(elapsed.as_secs()).unwrap()
}
