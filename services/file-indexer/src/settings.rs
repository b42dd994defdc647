//! What can be set about the file indexer.

use std::path::PathBuf;
use std::time::Duration;

use file_sources::Limits;
use serde::{Deserialize, Serialize};

/// The `[files]` section.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Directories that are read at once; 0: as many as there are cores.
    pub threads: usize,
    /// Scans and verifications at once.
    pub jobs_at_once: usize,
    /// How long a create call waits until its owner's grant is known here.
    pub grant_wait_seconds: u64,
    /// How long a job stays with a process that says nothing.
    pub lease_seconds: u64,
    /// What is read of archives.
    pub archives: Archives,
}

/// The `[files.archives]` section: bounds of one archive.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Archives {
    /// Files and directories of one; of a larger one the first so many are known.
    pub members_max: u64,
    /// One may unpack to 256 MiB, or to so many times its own size.
    pub ratio_max: u64,
}

impl Default for Archives {
    fn default() -> Self {
        let Limits { members_max, ratio_max, .. } = Limits::default();
        Self { members_max, ratio_max }
    }
}

impl Archives {
    pub(crate) fn limits(&self) -> Limits {
        Limits { members_max: self.members_max, ratio_max: self.ratio_max, ..Limits::default() }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threads: 0,
            jobs_at_once: 2,
            grant_wait_seconds: 5,
            lease_seconds: 15,
            archives: Archives::default(),
        }
    }
}

impl Settings {
    pub(crate) fn threads(&self) -> usize {
        if self.threads > 0 {
            return self.threads;
        }
        std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
    }

    pub(crate) const fn grant_wait(&self) -> Duration {
        Duration::from_secs(self.grant_wait_seconds)
    }

    pub(crate) fn runner(&self) -> jobs::RunnerSettings {
        jobs::RunnerSettings {
            at_once: self.jobs_at_once,
            lease: Duration::from_secs(self.lease_seconds.max(3)),
            ..jobs::RunnerSettings::default()
        }
    }
}

/// Which of this machine's paths may be locations.
#[derive(Debug, Clone, Default)]
pub struct Paths {
    /// Anybody may name what lies below these.
    pub allowed: Vec<PathBuf>,
    /// An admin may name any path: the server listens on loopback only.
    pub any_for_admins: bool,
    /// Never read, whoever asks: it holds tokens and keys.
    pub closed: PathBuf,
    /// The URL of the platform's own objects: never read either.
    pub closed_objects: String,
}
