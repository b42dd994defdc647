//! How many calls a second one credential may make on the foreign surfaces.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use service_error::ServiceError;

use crate::credentials::Credential;
use crate::exchange;

const NANOS: u64 = 1_000_000_000;
/// A credential that has been quiet so long starts anew.
const QUIET: Duration = Duration::from_secs(60);

/// A leaky bucket for each credential: a second's worth at once, then evenly.
#[derive(Clone)]
pub struct Rate {
    /// Between two calls at the full rate, in nanoseconds; 0: no limit.
    interval: u64,
    per_second: u32,
    began: Instant,
    /// When each credential has spent what it used, since `began`.
    spent_until: Cache<[u8; 32], Arc<AtomicU64>>,
}

impl Rate {
    /// At most so many calls a second of each of so many credentials; 0 is no
    /// limit.
    pub fn new(per_second: u32, credentials_max: u64) -> Self {
        Self {
            interval: NANOS.checked_div(u64::from(per_second)).unwrap_or(0),
            per_second,
            began: Instant::now(),
            spent_until: Cache::builder().max_capacity(credentials_max).time_to_idle(QUIET).build(),
        }
    }

    /// Lets one call pass.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when the credential called too often.
    pub fn admit(&self, credential: &Credential) -> Result<(), ServiceError> {
        if self.interval == 0 {
            return Ok(());
        }
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.spent_until.get_with(exchange::key(credential, "rate"), Arc::default);
        let admitted = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |until| {
            let next = until.max(now).saturating_add(self.interval);
            (next <= now.saturating_add(NANOS)).then_some(next)
        });
        admitted.map(|_| ()).map_err(|_| {
            let message = format!(
                "more than {} calls a second with one token; wait a second and try again",
                self.per_second
            );
            ServiceError::exhausted(message).reason("RATE_LIMITED")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::settings::Secret;

    #[test]
    fn a_burst_of_a_second_passes_and_the_next_call_waits() {
        let rate = Rate::new(5, 10);
        let (mine, other) =
            (Credential::Bearer(Secret::new("a")), Credential::Bearer(Secret::new("b")));
        let admitted = (0..20).filter(|_| rate.admit(&mine).is_ok()).count();
        assert!((5..=6).contains(&admitted), "{admitted}");
        assert_eq!(rate.admit(&mine).unwrap_err().reason_text(), "RATE_LIMITED");
        assert!(rate.admit(&other).is_ok());
        let free = Rate::new(0, 10);
        assert!((0..1000).all(|_| free.admit(&mine).is_ok()));
    }
}
