//! What each method needs: ours from their contract, Arrow Flight's from here.

use options_api::NeedTable;
use options_api::v1::{Authz, Level, ResourceKind, ResourceNeed, Role};
use service_error::ServiceError;

const FLIGHT: &str = "/arrow.flight.protocol.FlightService";

/// (method, role, level, whether it only reads). What is not here is refused;
/// the handshake is the gateway's.
const FLIGHT_METHODS: [(&str, Role, Level, bool); 7] = [
    ("ListFlights", Role::Viewer, Level::Unspecified, true),
    ("GetFlightInfo", Role::Viewer, Level::Read, true),
    ("GetSchema", Role::Viewer, Level::Read, true),
    ("DoGet", Role::Viewer, Level::Read, true),
    ("DoPut", Role::User, Level::Write, false),
    ("ListActions", Role::Viewer, Level::Unspecified, true),
    ("DoAction", Role::Viewer, Level::Read, true),
];

/// The needs of every method that the item store answers.
///
/// # Errors
/// A contract that cannot be read.
pub fn needs() -> Result<NeedTable, ServiceError> {
    let mut table = NeedTable::from_descriptor_sets(&[items_api::FILE_DESCRIPTOR_SET])
        .map_err(|error| ServiceError::internal(error.to_string()))?;
    for (method, role, level, read_only) in FLIGHT_METHODS {
        let resource = (level != Level::Unspecified)
            .then_some(ResourceNeed { kind: ResourceKind::Dataset as i32, level: level as i32 });
        let need =
            Authz { public: false, role: role as i32, resource, service_only: false, read_only };
        table = table.with(&format!("{FLIGHT}/{method}"), need);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_what_writes_is_closed_to_reading_tokens() {
        let table = needs().unwrap();
        let need = |method: &str| table.need(&format!("{FLIGHT}/{method}"));
        assert!(!need("DoPut").unwrap().read_only);
        assert!(need("DoGet").unwrap().read_only);
        for absent in ["Handshake", "DoExchange", "PollFlightInfo"] {
            assert!(need(absent).is_none(), "{absent}");
        }
        assert!(table.need("/quarry.items.v1.ItemsService/ListItems").is_some());
    }
}
