//! The checks of a process, put together.

use std::time::Duration;

use serde::Serialize;
use service_channel::Readiness;

use crate::Drain;

/// A check that takes longer counts as failed.
const CHECK_TIME_MAX: Duration = Duration::from_secs(2);

/// What `/readyz` answers.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// All checks hold and the process stays.
    pub ready: bool,
    /// The process is going away.
    pub draining: bool,
    /// Every check, in the order of the roles.
    pub checks: Vec<CheckReport>,
}

/// One check of a report.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
    /// E.g. `"catalog.database"`.
    pub name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What is missing, for the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What was seen, of a check that tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
}

/// Asks every check now, all at once.
pub async fn report(readiness: &[Readiness], drain: &Drain) -> Report {
    report_within(readiness, drain, CHECK_TIME_MAX).await
}

pub async fn report_within(readiness: &[Readiness], drain: &Drain, time_max: Duration) -> Report {
    // As many as the process has roles and stores: a handful.
    let checks = futures::future::join_all(readiness.iter().map(|one| check(one, time_max))).await;
    let draining = drain.has_begun();
    Report { ready: !draining && checks.iter().all(|check| check.ok), draining, checks }
}

async fn check(readiness: &Readiness, time_max: Duration) -> CheckReport {
    let answer = tokio::time::timeout(time_max, readiness.check()).await;
    let result = answer.unwrap_or_else(|_| Err(format!("no answer within {time_max:?}")));
    let (seen, error) = match result {
        Ok(seen) => (seen, None),
        Err(error) => (None, Some(error)),
    };
    CheckReport { name: readiness.name, ok: error.is_none(), error, seen }
}
