//! Whether somebody still waits for an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use service_error::{Code, ServiceError};

/// Ends the work on a question once nobody waits for its answer. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

/// Stops the work when it goes: a call whose caller left, or whose deadline passed, is dropped.
#[derive(Debug)]
pub struct Waiting(Stop);

impl Stop {
    /// What is held as long as the answer is wanted.
    #[must_use]
    pub fn while_held(&self) -> Waiting {
        Waiting(self.clone())
    }

    /// Refuses to go on when nobody waits.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn check(&self) -> Result<(), ServiceError> {
        if self.0.load(Ordering::Relaxed) {
            return Err(ServiceError::new(Code::Cancelled, "nobody waits for the answer"));
        }
        Ok(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}
