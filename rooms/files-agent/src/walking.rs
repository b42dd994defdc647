//! The walk on threads of its own, a few messages ahead of the stream.

use std::sync::{Mutex, PoisonError};

use file_scan::{Listing, Root, Rules, WalkOptions, walk};
use files_api::v1::AgentBatch;
use quarry_client::failure::Failure;
use service_error::ServiceError;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::listings::Batcher;

const AHEAD: usize = 4;

/// A walk that is under way. Dropped, it ends.
pub struct Walk {
    batches: mpsc::Receiver<AgentBatch>,
    walking: JoinHandle<i64>,
}

impl Walk {
    /// Begins to walk a root.
    ///
    /// # Errors
    /// Rules that are none.
    pub fn begin(root: Root, rules: &[String], threads: usize) -> Result<Self, Failure> {
        let rules = Rules::new(rules)
            .map_err(|why| ServiceError::precondition(format!("the location's rules: {why}")))?;
        let mut options = WalkOptions { rules, ..WalkOptions::default() };
        if threads > 0 {
            options.threads = threads;
        }
        let (send, batches) = mpsc::channel(AHEAD);
        let walking = tokio::task::spawn_blocking(move || {
            let batcher = Mutex::new(Batcher::default());
            let summary = walk(&root, &options, |listing: Listing| {
                // In the order of the walk: a parent before its children.
                let mut batcher = batcher.lock().unwrap_or_else(PoisonError::into_inner);
                batcher.add(&listing, |batch| send.blocking_send(batch).is_ok())
            });
            let mut rest = batcher.into_inner().unwrap_or_else(PoisonError::into_inner);
            if !rest.is_empty() {
                drop(send.blocking_send(rest.take()));
            }
            i64::try_from(summary.errors).unwrap_or(i64::MAX)
        });
        Ok(Self { batches, walking })
    }

    /// The next message; nothing at the end.
    pub async fn next(&mut self) -> Option<AgentBatch> {
        self.batches.recv().await
    }

    /// Directories that could not be read to their end.
    ///
    /// # Errors
    /// A walk that died.
    pub async fn end(self) -> Result<i64, Failure> {
        let died = |err| ServiceError::internal("the walk failed").caused_by(err);
        Ok(self.walking.await.map_err(died)?)
    }
}
