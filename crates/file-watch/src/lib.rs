//! Hints that something below a directory changed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// Quiet for so long: it is done.
const QUIET: Duration = Duration::from_millis(500);
/// Written to without end: a look all the same.
const RESTLESS_MAX: Duration = Duration::from_secs(10);

/// Why a directory is not watched.
#[derive(Debug, thiserror::Error)]
#[error("{path} can't be watched: {why}")]
pub struct WatchError {
    path: String,
    why: String,
}

/// What was heard and not yet told. It stays until it is told: whoever waits
/// may be called away.
#[derive(Debug, Default)]
struct Hints {
    is_dirty: AtomicBool,
    more: Notify,
}

/// A watched directory with all below it, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    hints: Arc<Hints>,
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// Begins to watch; takes as long as a walk of all directories. Symlinks
    /// are not followed.
    ///
    /// # Errors
    /// It is not there, or the system has no watches left.
    pub fn begin(root: &Path) -> Result<Self, WatchError> {
        let wrong = |why: notify::Error| WatchError {
            path: root.display().to_string(),
            why: why.to_string(),
        };
        let hints = Arc::new(Hints::default());
        let hinted = Arc::clone(&hints);
        let heard = move |event: notify::Result<Event>| {
            // An error of the watcher is a hint too: something may be lost.
            if event.as_ref().map_or(true, is_change) {
                hinted.is_dirty.store(true, Ordering::Release);
                hinted.more.notify_one();
            }
        };
        let config = Config::default().with_follow_symlinks(false);
        let mut watcher = RecommendedWatcher::new(heard, config).map_err(wrong)?;
        watcher.watch(root, RecursiveMode::Recursive).map_err(wrong)?;
        Ok(Self { hints, _watcher: watcher })
    }

    /// Waits until something changed and it is quiet again. Dropped before, the
    /// change is told to the next that waits.
    pub async fn changed(&self) {
        while !self.hints.is_dirty.load(Ordering::Acquire) {
            self.hints.more.notified().await;
        }
        let begun = Instant::now();
        while begun.elapsed() < RESTLESS_MAX
            && timeout(QUIET, self.hints.more.notified()).await.is_ok()
        {}
        self.hints.is_dirty.store(false, Ordering::Release);
    }
}

/// Reading is no change; an overflow is one.
fn is_change(event: &Event) -> bool {
    event.need_rescan() || !matches!(event.kind, EventKind::Access(_))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use notify::event::{AccessKind, Flag};

    use super::*;

    #[test]
    fn an_overflow_is_a_hint_and_reading_is_none() {
        assert!(!is_change(&Event::new(EventKind::Access(AccessKind::Any))));
        assert!(is_change(&Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        assert!(is_change(&Event::new(EventKind::Access(AccessKind::Any)).set_flag(Flag::Rescan)));
    }

    #[tokio::test]
    async fn changes_far_below_are_heard_and_reads_are_not() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join("a/b")).unwrap();
        std::fs::write(tree.path().join("a/b/f"), "1").unwrap();
        let watch = Watch::begin(tree.path()).unwrap();
        std::fs::read(tree.path().join("a/b/f")).unwrap();
        std::fs::read_dir(tree.path().join("a")).unwrap().for_each(drop);
        assert!(timeout(Duration::from_millis(300), watch.changed()).await.is_err());
        std::fs::write(tree.path().join("a/b/f"), "22").unwrap();
        timeout(Duration::from_secs(5), watch.changed()).await.unwrap();
        // A directory that is new is watched too.
        std::fs::create_dir_all(tree.path().join("c/d")).unwrap();
        timeout(Duration::from_secs(5), watch.changed()).await.unwrap();
        std::fs::write(tree.path().join("c/d/f"), "1").unwrap();
        timeout(Duration::from_secs(5), watch.changed()).await.unwrap();
        assert!(Watch::begin(&tree.path().join("nowhere")).is_err());
    }
}
