//! Tickets and page tokens: what they bind, and to whom.

use ids::PrincipalId;
use serde::{Deserialize, Serialize};
use service_error::ServiceError;
use uuid::Uuid;

/// A part of a flight. No credential: only its principal may use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The dataset.
    pub dataset: Uuid,
    /// The snapshot that is read.
    pub snapshot: i64,
    /// Changes of the delta up to here are seen over it.
    #[serde(default)]
    pub ceiling: i64,
    /// `None`: all.
    pub columns: Option<Vec<String>>,
    /// As it was asked for; empty: none.
    pub filter: String,
    /// Of the filter in its one spelling: a schema that reads it otherwise is
    /// not the one that was asked about.
    pub filter_hash: String,
    /// The first block, in storage order.
    pub first_block: usize,
    /// How many blocks.
    pub block_count: usize,
    /// Rows at most.
    pub limit: Option<u64>,
    /// Empty: storage order.
    #[serde(default)]
    pub order_by: String,
    /// Who may use it.
    pub principal: PrincipalId,
    /// Microseconds UTC.
    pub expires_at: i64,
}

/// Where the next page of a list begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageToken {
    /// The dataset.
    pub dataset: Uuid,
    /// The snapshot that the first page read.
    pub snapshot: i64,
    /// Changes of the delta up to here are seen over it.
    #[serde(default)]
    pub ceiling: i64,
    /// Its version's number.
    pub version: i64,
    /// Of the filter in its one spelling.
    pub filter_hash: String,
    /// Of the columns asked for.
    pub columns_hash: String,
    /// Of the order asked for.
    pub order_hash: String,
    /// The block, in storage order.
    pub block: usize,
    /// The row within it.
    pub row: u64,
    /// With an order, the rank of that row.
    pub rank: Option<Vec<u8>>,
    /// The page lies before that row.
    pub back: bool,
    /// Who may use it.
    pub principal: PrincipalId,
    /// Microseconds UTC.
    pub expires_at: i64,
}

impl Ticket {
    /// Refuses anybody but its principal, and everybody after its time.
    ///
    /// # Errors
    /// `PermissionDenied` or `FailedPrecondition`.
    pub fn check(&self, principal: PrincipalId, now: i64) -> Result<(), ServiceError> {
        if self.principal != principal {
            return Err(ServiceError::denied(
                "the ticket was made for somebody else; ask for one with GetFlightInfo",
            )
            .reason("TICKET_NOT_YOURS"));
        }
        if self.expires_at <= now {
            return Err(ServiceError::precondition(
                "the ticket has expired; ask for a new one with GetFlightInfo",
            )
            .reason("TICKET_EXPIRED"));
        }
        Ok(())
    }
}

impl PageToken {
    /// Refuses a token of another list, another caller or another hour.
    ///
    /// # Errors
    /// `InvalidArgument` naming what differs.
    pub fn check(
        &self,
        principal: PrincipalId,
        dataset: Uuid,
        [filter_hash, columns_hash, order_hash]: [&str; 3],
        now: i64,
    ) -> Result<(), ServiceError> {
        let refuse = |why: &str| {
            Err(ServiceError::invalid(
                "page_token",
                format!("{why}; repeat the list without a token"),
            )
            .reason("PAGE_TOKEN_INVALID"))
        };
        if self.principal != principal || self.dataset != dataset {
            return refuse("is not of this list");
        }
        if self.filter_hash != filter_hash {
            return refuse("was made with another filter");
        }
        if self.columns_hash != columns_hash {
            return refuse("was made with other columns");
        }
        if self.order_hash != order_hash {
            return refuse("was made with another order");
        }
        if self.expires_at <= now {
            return Err(ServiceError::invalid(
                "page_token",
                "has expired; repeat the list without a token",
            )
            .reason("PAGE_TOKEN_EXPIRED"));
        }
        Ok(())
    }
}

/// A hash that tells texts apart, for tokens.
#[must_use]
pub fn hash_of(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hex::encode(&hasher.finalize().as_bytes()[..16])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_page_token_is_of_one_list_and_one_caller() {
        let (mine, other) = (PrincipalId::new(), PrincipalId::new());
        let dataset = Uuid::now_v7();
        let token = PageToken {
            dataset,
            snapshot: 3,
            ceiling: 0,
            version: 2,
            filter_hash: "f".into(),
            columns_hash: "c".into(),
            order_hash: "o".into(),
            block: 0,
            row: 5,
            rank: None,
            back: false,
            principal: mine,
            expires_at: 10,
        };
        let list = ["f", "c", "o"];
        token.check(mine, dataset, list, 9).unwrap();
        assert!(token.check(other, dataset, list, 9).is_err());
        assert!(token.check(mine, Uuid::now_v7(), list, 9).is_err());
        for (list, word) in
            [(["g", "c", "o"], "filter"), (["f", "d", "o"], "columns"), (["f", "c", "p"], "order")]
        {
            let error = token.check(mine, dataset, list, 9).unwrap_err();
            assert!(error.message().contains(word), "{error}");
        }
        assert!(token.check(mine, dataset, list, 10).unwrap_err().reason_is("PAGE_TOKEN_EXPIRED"));
    }

    #[test]
    fn hashes_know_where_parts_end() {
        assert_ne!(hash_of(&["ab", "c"]), hash_of(&["a", "bc"]));
        assert_eq!(hash_of(&["a"]), hash_of(&["a"]));
    }
}
