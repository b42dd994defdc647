//! What a descriptor, a ticket or an action asks for.

use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, Any,
    Command as Wire, ProstMessageExt, TicketStatementQuery,
};
use bytes::Bytes;
use prost::Message;
use service_error::ServiceError;

const URL: &str = "type.googleapis.com/";
const PACKAGE: &str = "arrow.flight.protocol.sql.";

/// A command of the protocol, decoded.
pub type Command = Wire;

/// The command in a descriptor; `None` if it is not one of Flight SQL.
///
/// # Errors
/// A command that is malformed or that the protocol does not have.
pub fn command_of(bytes: &[u8]) -> Result<Option<Command>, ServiceError> {
    let Some(any) = any_of(bytes) else { return Ok(None) };
    let shown: String = any.type_url.chars().take(100).collect();
    match Wire::try_from(any) {
        Ok(Wire::Unknown(_)) => Err(not_offered(&shown)),
        Ok(command) => Ok(Some(command)),
        Err(error) => Err(ServiceError::invalid("descriptor", format!("{shown}: {error}"))),
    }
}

/// A command that is not offered.
fn not_offered(name: &str) -> ServiceError {
    let name = name.trim_start_matches(URL).trim_start_matches(PACKAGE);
    ServiceError::unimplemented(format!("the command {name} is not offered"))
        .reason("COMMAND_NOT_OFFERED")
}

/// The protocol packs its messages; ours are JSON or sealed, and neither
/// begins so.
fn any_of(bytes: &[u8]) -> Option<Any> {
    let any = Any::decode(bytes).ok()?;
    any.type_url.strip_prefix(URL)?.starts_with(PACKAGE).then_some(any)
}

/// A ticket around a handle.
#[must_use]
pub fn sql_ticket(handle: Vec<u8>) -> Bytes {
    TicketStatementQuery { statement_handle: handle.into() }.as_any().encode_to_vec().into()
}

/// The handle in a ticket; `None` if the ticket is not of Flight SQL.
///
/// # Errors
/// A ticket of the protocol that holds no handle.
pub fn ticket_handle(ticket: &[u8]) -> Result<Option<Bytes>, ServiceError> {
    match command_of(ticket)? {
        None => Ok(None),
        Some(Wire::TicketStatementQuery(ticket)) => Ok(Some(ticket.statement_handle)),
        Some(other) => Err(not_offered(other.type_url())),
    }
}

/// The actions that are offered: (type, description).
#[must_use]
pub const fn actions() -> &'static [(&'static str, &'static str)] {
    &[
        (
            "CreatePreparedStatement",
            "Body ActionCreatePreparedStatementRequest; answers a handle and the schemas of rows and parameters.",
        ),
        (
            "ClosePreparedStatement",
            "Body ActionClosePreparedStatementRequest; handles hold nothing, so nothing is done.",
        ),
        ("CloseSession", "Answers CLOSED; sessions hold nothing."),
        (
            "CancelFlightInfo",
            "Body CancelFlightInfoRequest; a query stops when its stream is dropped.",
        ),
        ("CancelQuery", "Body ActionCancelQueryRequest; a query stops when its stream is dropped."),
    ]
}

/// The type of a body: what a request of an action must be.
///
/// # Errors
/// A body of another type.
pub fn action_type<M: ProstMessageExt>(body: &[u8]) -> Result<M, ServiceError> {
    let wanted = M::type_url().trim_start_matches(URL).trim_start_matches(PACKAGE);
    let wrong = |why: String| ServiceError::invalid("body", format!("must be {wanted}: {why}"));
    let any = any_of(body).ok_or_else(|| wrong("it is no message of Flight SQL".to_owned()))?;
    match any.unpack::<M>() {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(wrong(any.type_url.clone())),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// What an action answers, packed as the protocol has it.
#[must_use]
pub fn action_result<M: ProstMessageExt>(message: &M) -> Bytes {
    message.as_any().encode_to_vec().into()
}

/// The two actions about prepared statements.
pub type CreatePrepared = ActionCreatePreparedStatementRequest;
/// See [`CreatePrepared`].
pub type ClosePrepared = ActionClosePreparedStatementRequest;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use arrow_flight::sql::CommandStatementQuery;
    use service_error::Code;

    #[test]
    fn commands_are_told_from_json_and_from_sealed_texts() {
        let query = CommandStatementQuery { query: "select 1".to_owned(), transaction_id: None };
        let packed = query.as_any().encode_to_vec();
        assert_eq!(command_of(&packed).unwrap(), Some(Command::CommandStatementQuery(query)));
        for other in [&b"{\"dataset\":\"a/b\"}"[..], b"", b"select 1", &[1, 2, 3]] {
            assert_eq!(command_of(other).unwrap(), None);
        }
        let unknown =
            Any { type_url: format!("{URL}{PACKAGE}CommandFormatDisk"), value: Bytes::new() };
        let error = command_of(&unknown.encode_to_vec()).unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented);
        assert!(error.message().contains("CommandFormatDisk"), "{error}");
        let broken = Any { value: Bytes::from_static(&[255; 3]), ..query_any() };
        assert_eq!(command_of(&broken.encode_to_vec()).unwrap_err().code(), Code::InvalidArgument);
    }

    fn query_any() -> Any {
        CommandStatementQuery { query: String::new(), transaction_id: None }.as_any()
    }

    #[test]
    fn tickets_carry_handles() {
        let ticket = sql_ticket(vec![7, 8]);
        assert_eq!(ticket_handle(&ticket).unwrap().unwrap().as_ref(), [7, 8]);
        assert_eq!(ticket_handle(b"\x01sealed").unwrap(), None);
        assert!(ticket_handle(&query_any().encode_to_vec()).is_err());
    }

    #[test]
    fn an_action_of_another_body_says_which_it_wants() {
        let error = action_type::<CreatePrepared>(b"{}").unwrap_err();
        assert!(error.message().contains("ActionCreatePreparedStatementRequest"), "{error}");
        let request = CreatePrepared { query: "select 1".to_owned(), transaction_id: None };
        let body = request.as_any().encode_to_vec();
        assert_eq!(action_type::<CreatePrepared>(&body).unwrap(), request);
        assert!(action_type::<ClosePrepared>(&body).is_err());
    }
}
