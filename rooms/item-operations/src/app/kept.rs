//! Answers about all rows of a snapshot, kept while it is the newest: what a dataset looks
//! like costs a look-up until it is written to, and then what was written.

use std::any::Any;
use std::sync::Arc;

use moka::sync::Cache;
use service_error::ServiceError;
use uuid::Uuid;

use crate::app::reading::Opened;

/// A snapshot with the delta over it, and what was asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asked {
    dataset: Uuid,
    snapshot: i64,
    ceiling: i64,
    what: String,
}

#[derive(Clone)]
struct Answer {
    value: Arc<dyn Any + Send + Sync>,
    bytes: usize,
}

/// Answers within a budget of bytes. None of them is ever stale: snapshots do not change.
pub struct Kept {
    answers: Cache<Asked, Answer>,
}

impl Kept {
    pub fn new(bytes: u64) -> Self {
        let weigh = |asked: &Asked, answer: &Answer| {
            u32::try_from(answer.bytes + asked.what.len() + 128).unwrap_or(u32::MAX)
        };
        Self { answers: Cache::builder().max_capacity(bytes).weigher(weigh).build() }
    }

    /// What is known, or what `make` makes. Whoever asks says all that the answer depends on
    /// beside the rows in `what`.
    pub async fn get_or<T: Send + Sync + 'static>(
        &self,
        opened: &Opened,
        what: String,
        bytes: fn(&T) -> usize,
        make: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<Arc<T>, ServiceError> {
        let (dataset, snapshot, ceiling) = (opened.dataset, opened.snapshot, opened.ceiling);
        let asked = Asked { dataset, snapshot, ceiling, what };
        if let Some(known) = self.answers.get(&asked)
            && let Ok(known) = known.value.downcast::<T>()
        {
            return Ok(known);
        }
        let made = Arc::new(make.await?);
        let answer = Answer { bytes: bytes(&made), value: Arc::<T>::clone(&made) };
        self.answers.insert(asked, answer);
        Ok(made)
    }
}
