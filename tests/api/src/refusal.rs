//! What a refusal must be: the right code, a reason for programs, words for people.

use std::fmt::Debug;

use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

/// Ends the test unless the call was refused with `code`, a reason and a message.
pub fn refused<T: Debug>(answer: Result<Response<T>, Status>, code: Code) -> Status {
    let status = match answer {
        Ok(answer) => panic!("expected {code:?}, got {answer:?}"),
        Err(status) => status,
    };
    assert_eq!(status.code(), code, "{status:?}");
    well_formed(&status);
    status
}

/// Every error says what to do in words and why in one upper-case reason of our domain.
pub fn well_formed(status: &Status) {
    assert!(!status.message().is_empty(), "an error without words: {status:?}");
    let info = status.get_details_error_info();
    let info = info.unwrap_or_else(|| panic!("an error without ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "quarry", "{status:?}");
    let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    assert!(!info.reason.is_empty() && info.reason.chars().all(upper), "{info:?}");
}
