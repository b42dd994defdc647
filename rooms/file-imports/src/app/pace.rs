//! Steps of a job, not more often than needed.

use std::time::{Duration, Instant};

use jobs::{Interrupt, Work};

const STEP_EVERY: Duration = Duration::from_secs(2);
/// An import begins anew: what was put says so itself.
const CHECKPOINT: &str = "importing";

/// When the last step was.
pub struct Pace<'a> {
    work: &'a Work,
    last: Instant,
}

impl<'a> Pace<'a> {
    pub fn new(work: &'a Work) -> Self {
        Self { work, last: Instant::now() }
    }

    /// A step whatever the time: what was told so far becomes durable.
    pub async fn now(&mut self) -> Result<(), Interrupt> {
        self.last = Instant::now();
        self.work.step(&CHECKPOINT).await
    }

    /// Stops here if somebody wants it; else a step now and then.
    pub async fn step(&mut self) -> Result<(), Interrupt> {
        if self.work.is_stopping() || self.last.elapsed() > STEP_EVERY {
            self.now().await?;
        }
        Ok(())
    }
}
