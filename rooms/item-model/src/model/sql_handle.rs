//! Handles of statements and of what they answer: sealed, bound to a caller
//! and to the snapshots they read, and complete: no replica remembers them.

use ids::PrincipalId;
use serde::{Deserialize, Serialize};
use service_error::ServiceError;
use uuid::Uuid;

/// A statement that was prepared, with its parameters if they were bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedHandle {
    /// Its text.
    pub query: String,
    /// Rows of parameters as an IPC stream in base64; empty: none.
    pub parameters: String,
    /// Who may use it.
    pub principal: PrincipalId,
    /// Microseconds UTC.
    pub expires_at: i64,
}

/// Rows that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlHandle {
    /// Of what.
    pub answer: SqlAnswer,
    /// Who may use it.
    pub principal: PrincipalId,
    /// Microseconds UTC.
    pub expires_at: i64,
}

/// What rows are of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SqlAnswer {
    /// A query.
    Query {
        /// Its text.
        query: String,
        /// As of [`PreparedHandle`].
        parameters: String,
        /// What it reads.
        pins: Vec<Pin>,
    },
    /// A command about metadata, in base64.
    Metadata(String),
}

/// A table of a query, as it stood when the query was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// As the query names it.
    pub namespace: String,
    /// As the query names it.
    pub dataset: String,
    /// As the query names it; empty: the newest.
    pub version: String,
    /// Which dataset it was.
    pub id: Uuid,
    /// At which snapshot.
    pub snapshot: i64,
    /// With small writes up to this one.
    pub ceiling: i64,
}

impl PreparedHandle {
    /// Refuses anybody but its principal, and everybody after its time.
    ///
    /// # Errors
    /// `PermissionDenied` or `FailedPrecondition`.
    pub fn check(&self, principal: PrincipalId, now: i64) -> Result<(), ServiceError> {
        check((self.principal, self.expires_at), principal, now, "statement; prepare it")
    }
}

impl SqlHandle {
    /// Refuses anybody but its principal, and everybody after its time.
    ///
    /// # Errors
    /// `PermissionDenied` or `FailedPrecondition`.
    pub fn check(&self, principal: PrincipalId, now: i64) -> Result<(), ServiceError> {
        check((self.principal, self.expires_at), principal, now, "ticket; ask for it")
    }
}

fn check(
    (owner, expires_at): (PrincipalId, i64),
    principal: PrincipalId,
    now: i64,
    what: &str,
) -> Result<(), ServiceError> {
    if owner != principal {
        let message = format!("somebody else's {what} yourself");
        return Err(ServiceError::denied(message).reason("TICKET_NOT_YOURS"));
    }
    if expires_at <= now {
        let message = format!("an expired {what} again");
        return Err(ServiceError::precondition(message).reason("TICKET_EXPIRED"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn handles_are_of_one_caller_and_one_hour() {
        let (mine, other) = (PrincipalId::new(), PrincipalId::new());
        let handle = SqlHandle {
            answer: SqlAnswer::Metadata(String::new()),
            principal: mine,
            expires_at: 10,
        };
        handle.check(mine, 9).unwrap();
        assert!(handle.check(other, 9).unwrap_err().reason_is("TICKET_NOT_YOURS"));
        assert!(handle.check(mine, 10).unwrap_err().reason_is("TICKET_EXPIRED"));
        let prepared = PreparedHandle {
            query: String::new(),
            parameters: String::new(),
            principal: mine,
            expires_at: 10,
        };
        assert!(prepared.check(other, 9).is_err() && prepared.check(mine, 11).is_err());
    }
}
