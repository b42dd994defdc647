//! How old the replica may be at most.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Answered pings whose revision is not applied yet; older ones are dropped
/// first, which can only make the replica look older.
const PENDING_MAX: usize = 64;

/// Lag = now − the sending of the last answered ping that carried a revision
/// which the replica has applied: at that moment it was current.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    applied: i64,
    current_at: Option<Instant>,
    pending: VecDeque<(i64, Instant)>,
}

impl Freshness {
    /// A ping sent at `sent` was answered with `revision`.
    pub fn answered(&mut self, revision: i64, sent: Instant) {
        if revision <= self.applied {
            self.current_at = self.current_at.max(Some(sent));
            return;
        }
        if self.pending.len() == PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back((revision, sent));
    }

    /// Everything up to `revision` is applied.
    pub fn applied(&mut self, revision: i64) {
        self.applied = revision;
        let newest = self
            .pending
            .iter()
            .filter(|(waits_for, _)| *waits_for <= revision)
            .map(|(_, sent)| *sent)
            .max();
        self.current_at = self.current_at.max(newest);
        self.pending.retain(|(waits_for, _)| *waits_for > revision);
    }

    /// Nothing is, if the replica was never current.
    pub fn lag(&self) -> Option<Duration> {
        self.current_at.map(|at| at.elapsed())
    }

    /// The stream owes something for longer than `patience`.
    pub fn is_stuck(&self, patience: Duration) -> bool {
        self.pending
            .front()
            .is_some_and(|(_, sent)| sent.elapsed() > patience)
    }

    /// The stream begins anew; what it owed it owes from now on.
    pub fn restarted(&mut self) {
        self.pending.clear();
    }

    pub fn revision(&self) -> i64 {
        self.applied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_ping_whose_revision_is_applied_makes_it_fresh() {
        let mut freshness = Freshness::default();
        assert_eq!(freshness.lag(), None);
        freshness.applied(3);
        freshness.answered(3, Instant::now());
        tokio::time::advance(Duration::from_secs(3)).await;
        freshness.answered(4, Instant::now());
        assert_eq!(freshness.lag(), Some(Duration::from_secs(3)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(
            freshness.is_stuck(Duration::from_millis(900))
                && !freshness.is_stuck(Duration::from_secs(2))
        );
        freshness.applied(4);
        assert_eq!(
            freshness.lag(),
            Some(Duration::from_secs(1)),
            "since the ping was sent, not since it was applied"
        );
        assert!(!freshness.is_stuck(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_stream_ages_however_often_it_is_pinged() {
        let mut freshness = Freshness::default();
        freshness.answered(0, Instant::now());
        for second in 1..200 {
            tokio::time::advance(Duration::from_secs(1)).await;
            freshness.answered(second, Instant::now());
        }
        assert_eq!(freshness.lag(), Some(Duration::from_secs(199)));
    }
}
