//! Small integers of the tables and what they mean.

use service_error::ServiceError;

use crate::model::{Kind, Level, Outcome, Resource, ResourceKind, Role, Scope};

/// A row that this build can't read.
fn unreadable(what: &str, code: i16) -> ServiceError {
    ServiceError::internal(format!(
        "the database holds an unknown {what} ({code}); was it written by a newer quarry?"
    ))
}

pub fn role(code: i16) -> Result<Role, ServiceError> {
    [Role::Viewer, Role::User, Role::Admin]
        .into_iter()
        .find(|role| *role as i16 == code)
        .ok_or_else(|| unreadable("role", code))
}

pub fn kind(code: i16) -> Result<Kind, ServiceError> {
    [Kind::User, Kind::ServiceAccount]
        .into_iter()
        .find(|kind| *kind as i16 == code)
        .ok_or_else(|| unreadable("kind", code))
}

pub fn scope(code: i16) -> Scope {
    // What is not known must not open more.
    if code == Scope::Full as i16 { Scope::Full } else { Scope::ReadOnly }
}

pub fn level(code: i16) -> Result<Level, ServiceError> {
    let all = [Level::Read, Level::Write, Level::Admin, Level::Owner];
    all.into_iter().find(|level| *level as i16 == code).ok_or_else(|| unreadable("level", code))
}

pub fn resource(kind: i16, id: uuid::Uuid) -> Result<Resource, ServiceError> {
    let all = [
        ResourceKind::Namespace,
        ResourceKind::Dataset,
        ResourceKind::Model,
        ResourceKind::Location,
    ];
    let kind = all
        .into_iter()
        .find(|all| *all as i16 == kind)
        .ok_or_else(|| unreadable("resource kind", kind))?;
    Ok(Resource { kind, id })
}

pub fn outcome(code: i16) -> Outcome {
    if code == Outcome::Allowed as i16 { Outcome::Allowed } else { Outcome::Denied }
}
