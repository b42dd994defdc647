//! Small integers of the tables and what they mean.

use service_error::ServiceError;

use crate::model::{ScanVerdict, VersionStatus};

fn unreadable(what: &str, code: i16) -> ServiceError {
    ServiceError::internal(format!(
        "the database holds an unknown {what} ({code}); was it written by a newer quarry?"
    ))
}

pub fn status(code: i16) -> Result<VersionStatus, ServiceError> {
    [VersionStatus::Pending, VersionStatus::Ready, VersionStatus::Failed]
        .into_iter()
        .find(|status| *status as i16 == code)
        .ok_or_else(|| unreadable("status", code))
}

pub fn verdict(code: i16) -> Result<ScanVerdict, ServiceError> {
    [
        ScanVerdict::None,
        ScanVerdict::Clean,
        ScanVerdict::Suspicious,
        ScanVerdict::Dangerous,
        ScanVerdict::Unreadable,
        ScanVerdict::Unknown,
    ]
    .into_iter()
    .find(|verdict| *verdict as i16 == code)
    .ok_or_else(|| unreadable("verdict", code))
}
