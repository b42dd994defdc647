//! A query by Flight SQL: its rows as they come.

use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow_flight::FlightDescriptor;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use prost::Message;
use service_error::ServiceError;

use super::Client;
use super::flight::Flight;
use crate::failure::Failure;

/// Asks where the rows of a query are.
pub async fn find(client: &Client, query: String) -> Result<Flight, Failure> {
    let command = CommandStatementQuery { query, transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let info = client.flight().get_flight_info(descriptor).await?.into_inner();
    let tickets = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.clone()).collect();
    let schema = Schema::try_from(info)
        .map_err(|err| ServiceError::data_loss("the server answered no schema").caused_by(err))?;
    Ok(Flight { schema: Arc::new(schema), rows: None, tickets })
}
