//! Hints that something below a directory changed.

#[cfg(target_os = "linux")]
mod file_system;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
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

impl Hints {
    fn add(&self) {
        self.is_dirty.store(true, Ordering::Release);
        self.more.notify_one();
    }
}

/// By what a directory is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// One mark on its file system, of whose events those elsewhere are passed over.
    FileSystem,
    /// A watch for each directory.
    Directories,
}

/// What watches, until it is dropped.
#[derive(Debug)]
enum Watcher {
    #[cfg(target_os = "linux")]
    FileSystem {
        _watch: file_system::FileSystemWatch,
    },
    Directories {
        _watcher: RecommendedWatcher,
    },
}

/// A watched directory with all below it, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    hints: Arc<Hints>,
    watcher: Watcher,
}

impl Watch {
    /// Begins to watch, by the file system where that is allowed; takes as long as a walk of
    /// all directories. Symlinks are not followed.
    ///
    /// # Errors
    /// It is not there, or the system has no watches left.
    pub fn begin(root: &Path) -> Result<Self, WatchError> {
        #[cfg(target_os = "linux")]
        if let Ok(watch) = Self::by_file_system(root) {
            return Ok(watch);
        }
        Self::by_directories(root)
    }

    /// By what it is watched.
    #[must_use]
    pub const fn way(&self) -> Way {
        match self.watcher {
            #[cfg(target_os = "linux")]
            Watcher::FileSystem { .. } => Way::FileSystem,
            Watcher::Directories { .. } => Way::Directories,
        }
    }

    #[cfg(target_os = "linux")]
    fn by_file_system(root: &Path) -> std::io::Result<Self> {
        let hints = Arc::new(Hints::default());
        let hinted = Arc::clone(&hints);
        let watch = file_system::FileSystemWatch::begin(root, move || hinted.add())?;
        Ok(Self { hints, watcher: Watcher::FileSystem { _watch: watch } })
    }

    fn by_directories(root: &Path) -> Result<Self, WatchError> {
        let wrong = |why: notify::Error| WatchError {
            path: root.display().to_string(),
            why: why.to_string(),
        };
        let hints = Arc::new(Hints::default());
        let hinted = Arc::clone(&hints);
        let heard = move |event: notify::Result<Event>| {
            // An error of the watcher is a hint too: something may be lost.
            if event.as_ref().map_or(true, is_change) {
                hinted.add();
            }
        };
        let config = Config::default().with_follow_symlinks(false);
        let mut watcher = RecommendedWatcher::new(heard, config).map_err(wrong)?;
        watcher.watch(root, RecursiveMode::Recursive).map_err(wrong)?;
        Ok(Self { hints, watcher: Watcher::Directories { _watcher: watcher } })
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

    async fn hears(watch: &Watch) {
        timeout(Duration::from_secs(5), watch.changed()).await.unwrap();
    }

    async fn hears_nothing(watch: &Watch) {
        assert!(timeout(Duration::from_millis(300), watch.changed()).await.is_err());
    }

    /// Both ways; where the mark is not allowed the other one is taken, which is all that is
    /// seen of it then.
    fn each_way(root: &Path) -> Vec<Watch> {
        let mut all = vec![Watch::by_directories(root).unwrap()];
        let chosen = Watch::begin(root).unwrap();
        match Watch::by_file_system(root) {
            Ok(watch) => {
                assert_eq!(chosen.way(), Way::FileSystem);
                all.push(watch);
            }
            Err(why) => {
                eprintln!("file systems can't be marked here ({why}): only the other way is seen");
                assert_eq!(chosen.way(), Way::Directories);
            }
        }
        all
    }

    #[tokio::test]
    async fn changes_far_below_are_heard_and_reads_are_not() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join("a/b")).unwrap();
        std::fs::write(tree.path().join("a/b/f"), "1").unwrap();
        for watch in each_way(tree.path()) {
            std::fs::read(tree.path().join("a/b/f")).unwrap();
            std::fs::read_dir(tree.path().join("a")).unwrap().for_each(drop);
            hears_nothing(&watch).await;
            std::fs::write(tree.path().join("a/b/f"), "22").unwrap();
            hears(&watch).await;
            // A directory that is new is watched too.
            std::fs::create_dir_all(tree.path().join("c/d")).unwrap();
            hears(&watch).await;
            std::fs::write(tree.path().join("c/d/f"), "1").unwrap();
            hears(&watch).await;
            std::fs::remove_dir_all(tree.path().join("c")).unwrap();
            hears(&watch).await;
        }
        assert!(Watch::begin(&tree.path().join("nowhere")).is_err());
    }

    #[tokio::test]
    async fn what_is_elsewhere_is_not_heard() {
        let place = tempfile::tempdir().unwrap();
        let (tree, other) = (place.path().join("tree"), place.path().join("other"));
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::create_dir_all(other.join("x/y")).unwrap();
        for watch in each_way(&tree) {
            std::fs::write(other.join("x/y/f"), "1").unwrap();
            hears_nothing(&watch).await;
            // What comes in is watched with all below it, what goes out is no more.
            std::fs::rename(other.join("x"), tree.join("a/x")).unwrap();
            hears(&watch).await;
            std::fs::write(tree.join("a/x/y/f"), "22").unwrap();
            hears(&watch).await;
            std::fs::rename(tree.join("a/x"), other.join("x")).unwrap();
            hears(&watch).await;
            if watch.way() == Way::FileSystem {
                std::fs::write(other.join("x/y/f"), "333").unwrap();
                hears_nothing(&watch).await;
            }
        }
    }
}
