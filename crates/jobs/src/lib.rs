//! Long work that outlives a process: durable, leased, stopped and taken up
//! again, with progress that can be watched.

mod grpc;
mod migration;
mod model;
mod runner;
mod store;
mod work;

pub use grpc::service;
pub use migration::Migration;
pub use model::{Failure, ItemError, Job, NewJob, Owner, Progress, State};
pub use runner::{Check, Runner, RunnerSettings};
pub use store::Jobs;
pub use work::{Interrupt, JobResult, Work};

#[cfg(test)]
mod tests;
