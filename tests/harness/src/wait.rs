//! Waiting for something to become true, with an end.

use std::time::{Duration, Instant};

/// Asks again and again, 10 ms apart, until `check` answers; ends the test with `what`
/// after `at_most`. The only place of the tests that lets time pass.
pub async fn eventually<T>(
    what: &str,
    at_most: Duration,
    mut check: impl AsyncFnMut() -> Option<T>,
) -> T {
    let begin = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    loop {
        tick.tick().await;
        if let Some(found) = check().await {
            return found;
        }
        assert!(begin.elapsed() < at_most, "not within {at_most:?}: {what}");
    }
}
