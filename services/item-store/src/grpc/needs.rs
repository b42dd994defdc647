//! What each method needs: ours from their contract, Arrow Flight's from here.

use caller::Caller;
use options_api::NeedTable;
use options_api::v1::{Authz, Level, ResourceKind, ResourceNeed, Role};
use service_error::ServiceError;

use crate::app::App;

const FLIGHT: &str = "/arrow.flight.protocol.FlightService";

/// (method, role, level, whether it only reads). What is not here is refused;
/// the handshake is the gateway's.
const FLIGHT_METHODS: [(&str, Role, Level, bool); 7] = [
    ("ListFlights", Role::Viewer, Level::Unspecified, true),
    ("GetFlightInfo", Role::Viewer, Level::Read, true),
    ("GetSchema", Role::Viewer, Level::Read, true),
    ("DoGet", Role::Viewer, Level::Read, true),
    // What a put needs is told by its command, in COMMANDS: parameters of a
    // prepared statement are a put too.
    ("DoPut", Role::Viewer, Level::Unspecified, true),
    ("ListActions", Role::Viewer, Level::Unspecified, true),
    ("DoAction", Role::Viewer, Level::Read, true),
];

/// Contracts whose methods are answered here.
const SETS: [&[u8]; 2] = [items_api::FILE_DESCRIPTOR_SET, ops_api::FILE_DESCRIPTOR_SET];

/// A put of Arrow Flight itself.
pub(super) const PUT: &str = "DoPut";

/// (command or action, role, level, whether it only reads): what stands in
/// descriptors, tickets and actions of Flight SQL. What is not here is refused.
const COMMANDS: [(&str, Role, Level, bool); 24] = [
    (PUT, Role::User, Level::Write, false),
    ("CommandStatementQuery", Role::Viewer, Level::Read, true),
    ("CommandPreparedStatementQuery", Role::Viewer, Level::Read, true),
    ("CommandStatementIngest", Role::User, Level::Write, false),
    // Named to be refused in their own words: SQL only reads.
    ("CommandStatementUpdate", Role::User, Level::Write, false),
    ("CommandPreparedStatementUpdate", Role::User, Level::Write, false),
    ("CommandStatementSubstraitPlan", Role::Viewer, Level::Read, true),
    ("CommandGetCatalogs", Role::Viewer, Level::Unspecified, true),
    ("CommandGetDbSchemas", Role::Viewer, Level::Unspecified, true),
    ("CommandGetTables", Role::Viewer, Level::Unspecified, true),
    ("CommandGetTableTypes", Role::Viewer, Level::Unspecified, true),
    ("CommandGetSqlInfo", Role::Viewer, Level::Unspecified, true),
    ("CommandGetXdbcTypeInfo", Role::Viewer, Level::Unspecified, true),
    ("CommandGetPrimaryKeys", Role::Viewer, Level::Unspecified, true),
    ("CommandGetExportedKeys", Role::Viewer, Level::Unspecified, true),
    ("CommandGetImportedKeys", Role::Viewer, Level::Unspecified, true),
    ("CommandGetCrossReference", Role::Viewer, Level::Unspecified, true),
    ("TicketStatementQuery", Role::Viewer, Level::Read, true),
    ("CreatePreparedStatement", Role::Viewer, Level::Read, true),
    ("ClosePreparedStatement", Role::Viewer, Level::Unspecified, true),
    ("CloseSession", Role::Viewer, Level::Unspecified, true),
    ("CancelFlightInfo", Role::Viewer, Level::Unspecified, true),
    ("CancelQuery", Role::Viewer, Level::Unspecified, true),
    ("quarry.describe", Role::Viewer, Level::Read, true),
];

fn need(role: Role, level: Level, read_only: bool) -> Authz {
    let resource = (level != Level::Unspecified)
        .then_some(ResourceNeed { kind: ResourceKind::Dataset as i32, level: level as i32 });
    Authz { public: false, role: role as i32, resource, service_only: false, read_only }
}

/// Lets a caller pass if it may use a command at all; what it needs on a
/// dataset is looked at when the dataset is opened.
///
/// # Errors
/// A command without a row; a role or a token that does not suffice.
pub(super) fn admit(app: &App, caller: &Caller, command: &str) -> Result<(), ServiceError> {
    let row = COMMANDS.iter().find(|(name, ..)| *name == command);
    let Some((name, role, level, read_only)) = row else {
        let shown: String = command.chars().take(100).collect();
        return Err(ServiceError::unimplemented(format!("{shown} is not offered"))
            .reason("COMMAND_NOT_OFFERED"));
    };
    app.admit(caller, &need(*role, *level, *read_only), &format!("{FLIGHT}/{name}"))
}

/// The needs of every method that the item store answers.
///
/// # Errors
/// A contract that cannot be read.
pub fn needs() -> Result<NeedTable, ServiceError> {
    let mut table = NeedTable::from_descriptor_sets(&SETS)
        .map_err(|error| ServiceError::internal(error.to_string()))?;
    for (method, role, level, read_only) in FLIGHT_METHODS {
        table = table.with(&format!("{FLIGHT}/{method}"), need(role, level, read_only));
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_command_and_action_has_a_row() {
        let row = |name: &str| COMMANDS.iter().find(|(known, ..)| *known == name);
        for (name, _) in flight_sql::actions() {
            assert!(row(name).is_some(), "{name}");
        }
        for action in crate::model::ACTIONS {
            assert!(row(action.name).is_some(), "{}", action.name);
        }
        let writing = |name| !row(name).unwrap().3;
        assert!(writing(PUT) && writing("CommandStatementIngest"));
        assert!(!writing("CommandPreparedStatementQuery"));
        for absent in ["BeginTransaction", "ActionBeginSavepointRequest", "CommandDrop"] {
            assert!(row(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn only_what_writes_is_closed_to_reading_tokens() {
        let table = needs().unwrap();
        let need = |method: &str| table.need(&format!("{FLIGHT}/{method}"));
        assert!(need("DoGet").unwrap().read_only);
        for absent in ["Handshake", "DoExchange", "PollFlightInfo"] {
            assert!(need(absent).is_none(), "{absent}");
        }
        assert!(table.need("/quarry.items.v1.ItemsService/ListItems").is_some());
    }
}
