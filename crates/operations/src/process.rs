//! The process that roles run in, as its operator sees it.

use settings::Listed;
use sql_store::now_micros;

/// One start of the program.
#[derive(Debug, Clone)]
pub struct Process {
    instance: String,
    started_at: i64,
    host: String,
    roles: Vec<String>,
    version: &'static str,
    settings: Vec<Listed>,
}

impl Process {
    /// This process, from now on.
    #[must_use]
    pub fn new(version: &'static str, roles: Vec<String>, settings: Vec<Listed>) -> Self {
        // Linux tells it so; elsewhere nobody asks for it.
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim().to_owned();
        let instance = uuid::Uuid::now_v7().simple().to_string();
        Self { instance, started_at: now_micros(), host, roles, version, settings }
    }

    /// Differs with every start.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// When it started, microseconds UTC.
    #[must_use]
    pub const fn started_at(&self) -> i64 {
        self.started_at
    }

    /// The machine's name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// All roles that run in it.
    #[must_use]
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// The program's version.
    #[must_use]
    pub const fn version(&self) -> &'static str {
        self.version
    }

    /// What it was told, and by what.
    #[must_use]
    pub fn settings(&self) -> &[Listed] {
        &self.settings
    }
}
