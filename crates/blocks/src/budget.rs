//! Bytes that all writers of the process may hold at once.

use std::sync::Arc;

use service_error::ServiceError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const UNIT_BYTES: usize = 1 << 10;

/// A number of bytes shared by everybody who buffers. Clones share it.
#[derive(Debug, Clone)]
pub struct ByteBudget {
    units: Arc<Semaphore>,
    total: u32,
}

/// Bytes taken from a budget; given back on drop.
#[derive(Debug)]
pub struct Held {
    permit: OwnedSemaphorePermit,
}

impl Held {
    /// Adds the bytes of another holding of the same budget.
    pub fn merge(&mut self, other: Self) {
        self.permit.merge(other.permit);
    }
}

impl ByteBudget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let total = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX / 2).max(1);
        Self { units: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// What is asked of more than all there is: a piece larger than the budget
    /// goes through alone.
    fn units(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(self.total).min(self.total)
    }

    /// Takes bytes if they are free now.
    #[must_use]
    pub fn try_take(&self, bytes: usize) -> Option<Held> {
        let permit = Arc::clone(&self.units).try_acquire_many_owned(self.units(bytes)).ok()?;
        Some(Held { permit })
    }

    /// Takes bytes, first come first served. Whoever waits must hold nothing
    /// that only it can give back.
    ///
    /// # Errors
    /// When the budget is closed, which it never is.
    pub async fn take(&self, bytes: usize) -> Result<Held, ServiceError> {
        let permit = Arc::clone(&self.units).acquire_many_owned(self.units(bytes)).await;
        permit
            .map(|permit| Held { permit })
            .map_err(|_| ServiceError::internal("the byte budget is closed"))
    }

    /// Bytes that are free now.
    #[must_use]
    pub fn free(&self) -> usize {
        self.units.available_permits() * UNIT_BYTES
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test]
    async fn a_piece_larger_than_the_budget_goes_through_alone() {
        let budget = ByteBudget::new(1 << 20);
        let held = budget.take(10 << 20).await.unwrap();
        assert_eq!(budget.free(), 0);
        assert!(budget.try_take(1).is_none());
        drop(held);
        assert_eq!(budget.free(), 1 << 20);
    }
}
