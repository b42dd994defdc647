//! Flight SQL, beside Flight: queries, prepared statements, metadata, ingest.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionCreatePreparedStatementResult,
    DoPutPreparedStatementResult, DoPutUpdateResult, ProstMessageExt,
};
use arrow_flight::{
    CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor, FlightInfo,
    PutResult,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use caller::Caller;
use flight_sql::{
    ClosePrepared, Command, CreatePrepared, Metadata, Wanted, action_result, action_type,
    command_of, ingest_of, sql_ticket,
};
use futures::StreamExt;
use prost::Message;
use service_error::ServiceError;
use sql_engine::CATALOG;

use super::flight::{info_of, schema_bytes};
use super::needs;
use crate::app::{App, SqlFlight, SqlScan};
use crate::model::{PutCommand, PutMode, SqlAnswer, put_command};

/// `CLOSED` of `CloseSessionResult`, which arrow-flight does not have.
const SESSION_CLOSED: &[u8] = &[8, 1];

/// What a descriptor's command asks for, as a flight.
pub(super) async fn flight(
    app: &App,
    caller: &Caller,
    command: &Command,
) -> Result<SqlFlight, ServiceError> {
    needs::admit(app, caller, command_name(command))?;
    match command {
        Command::CommandStatementQuery(query) => {
            no_transaction(query.transaction_id.as_ref())?;
            app.sql_flight(caller, &query.query, String::new()).await
        }
        Command::CommandPreparedStatementQuery(prepared) => {
            app.sql_prepared_flight(caller, &prepared.prepared_statement_handle).await
        }
        other => {
            let metadata = metadata_of(other)?;
            let packed = other.clone().into_any().encode_to_vec();
            app.sql_metadata_flight(caller, metadata.schema(), &packed)
        }
    }
}

fn metadata_of(command: &Command) -> Result<Metadata, ServiceError> {
    Metadata::of(command, CATALOG).ok_or_else(|| {
        let name = command_name(command);
        ServiceError::unimplemented(format!("{name} is not offered here"))
            .reason("COMMAND_NOT_OFFERED")
    })
}

/// `CommandStatementQuery`, without the package.
fn command_name(command: &Command) -> &str {
    let url = command.type_url();
    url.rsplit('.').next().unwrap_or(url)
}

fn no_transaction(id: Option<&Bytes>) -> Result<(), ServiceError> {
    if id.is_some_and(|id| !id.is_empty()) {
        return Err(ServiceError::unimplemented("transactions are not offered")
            .reason("COMMAND_NOT_OFFERED"));
    }
    Ok(())
}

/// The answer of `GetFlightInfo`.
pub(super) fn info(
    flight: &SqlFlight,
    descriptor: FlightDescriptor,
) -> Result<FlightInfo, ServiceError> {
    let ticket = sql_ticket(flight.handle.clone());
    info_of(&flight.schema, descriptor, [(ticket, flight.expires_at)], (-1, -1))
}

/// The rows of a handle.
pub(super) async fn scan(
    app: &App,
    caller: Arc<Caller>,
    handle: &[u8],
) -> Result<SqlScan, ServiceError> {
    match app.sql_open(&caller, handle).await? {
        SqlAnswer::Query { query, parameters, pins } => {
            app.sql_scan(caller, &query, &parameters, &pins).await
        }
        SqlAnswer::Metadata(command) => {
            let broken = || ServiceError::internal("a handle of ours holds no command");
            let packed = STANDARD.decode(command).map_err(|_| broken())?;
            let command = command_of(&packed)?.ok_or_else(broken)?;
            needs::admit(app, &caller, command_name(&command))?;
            let metadata = metadata_of(&command)?;
            let batch = answer(app, &caller, &metadata).await?;
            let schema = batch.schema();
            let batches = futures::stream::once(std::future::ready(Ok(batch))).boxed();
            Ok(SqlScan { schema, batches, stats: Vec::new() })
        }
    }
}

async fn answer(
    app: &App,
    caller: &Arc<Caller>,
    metadata: &Metadata,
) -> Result<RecordBatch, ServiceError> {
    match metadata.wanted() {
        Wanted::Nothing => metadata.answer(&[], &[]),
        Wanted::Namespaces => metadata.answer(&app.sql_namespaces(caller).await?, &[]),
        Wanted::Tables { with_schema, namespace, dataset } => {
            let tables = app.sql_tables(caller, with_schema, namespace, dataset).await?;
            metadata.answer(&[], &tables)
        }
    }
}

/// What a put with a command of Flight SQL is.
pub(super) enum SqlPut {
    /// Rows for a dataset.
    Ingest(PutCommand),
    /// Parameters of a prepared statement.
    Parameters(Bytes),
}

/// Reads the command of a put; `None` if it is not one of Flight SQL.
pub(super) fn put_of(
    app: &App,
    caller: &Caller,
    cmd: &[u8],
) -> Result<Option<SqlPut>, ServiceError> {
    let Some(command) = command_of(cmd)? else { return Ok(None) };
    needs::admit(app, caller, command_name(&command))?;
    match command {
        Command::CommandStatementIngest(command) => {
            let ingest = ingest_of(&command, CATALOG)?;
            let mut put = put_command(&[ingest.namespace, ingest.dataset], b"")?;
            put.mode = if ingest.replace { PutMode::Overwrite } else { PutMode::Append };
            put.must_be_new = ingest.must_be_new;
            Ok(Some(SqlPut::Ingest(put)))
        }
        Command::CommandPreparedStatementQuery(prepared) => {
            Ok(Some(SqlPut::Parameters(prepared.prepared_statement_handle)))
        }
        other => Err(ServiceError::denied(format!(
            "{}: SQL only reads here; rows are written with an ingest or a put",
            command_name(&other)
        ))
        .reason("SQL_READ_ONLY")),
    }
}

/// The answer to an ingest.
pub(super) fn ingested(rows: u64) -> PutResult {
    let result = DoPutUpdateResult { record_count: i64::try_from(rows).unwrap_or(i64::MAX) };
    PutResult { app_metadata: result.encode_to_vec().into() }
}

/// The answer to parameters.
pub(super) fn bound(handle: Vec<u8>) -> PutResult {
    let result = DoPutPreparedStatementResult { prepared_statement_handle: Some(handle.into()) };
    PutResult { app_metadata: result.encode_to_vec().into() }
}

/// An action of Flight SQL; `None` if there is none of this type.
pub(super) async fn action(
    app: &App,
    caller: &Caller,
    name: &str,
    body: &[u8],
) -> Result<Option<Bytes>, ServiceError> {
    if !flight_sql::actions().iter().any(|(known, _)| *known == name) {
        return Ok(None);
    }
    needs::admit(app, caller, name)?;
    Ok(Some(match name {
        "CreatePreparedStatement" => {
            let request: CreatePrepared = action_type(body)?;
            no_transaction(request.transaction_id.as_ref())?;
            let prepared = app.sql_prepare(caller, &request.query).await?;
            action_result(&ActionCreatePreparedStatementResult {
                prepared_statement_handle: prepared.handle.into(),
                dataset_schema: schema_bytes(&prepared.schema)?,
                parameter_schema: parameters(&prepared.parameters)?,
            })
        }
        "ClosePreparedStatement" => {
            action_type::<ClosePrepared>(body)?;
            Bytes::new()
        }
        "CancelQuery" => {
            action_type::<ActionCancelQueryRequest>(body)?;
            // A query lives in its stream: whoever drops it has cancelled it.
            let result = ActionCancelQueryResult { result: 1 };
            result.as_any().encode_to_vec().into()
        }
        "CancelFlightInfo" => {
            let request = CancelFlightInfoRequest::decode(body);
            request.map_err(|error| ServiceError::invalid("body", error))?;
            CancelFlightInfoResult::new(CancelStatus::Cancelled).encode_to_vec().into()
        }
        _ => Bytes::from_static(SESSION_CLOSED),
    }))
}

fn parameters(schema: &Schema) -> Result<Bytes, ServiceError> {
    if schema.fields().is_empty() {
        return Ok(Bytes::new());
    }
    schema_bytes(schema)
}
