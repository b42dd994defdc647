//! SQL: statements over the snapshots that a caller may read.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use caller::Caller;
use catalog_api::v1::Column;
use cells::columns_of;
use futures::TryStreamExt;
use futures::stream::{self, BoxStream, StreamExt};
use items_api::v1::Item;
use service_error::ServiceError;
use sql_engine::{Parameters, RunStats, Statement, Table, TableName, parameter_rows};
use sql_store::now_micros;

use crate::app::App;
use crate::app::answers::messages;
use crate::app::catalog::by_id;
use crate::app::reading::Opened;
use crate::app::sql_snapshot::SqlSnapshot;
use crate::app::watched::{Batches, Watched};
use crate::model::{Address, Pin, PreparedHandle, SqlAnswer, SqlHandle};

const QUERY: &str = "arrow.flight.protocol.FlightService/CommandStatementQuery";
const PREPARED: &str = "prepared_statement_handle";
const HANDLE: &str = "statement_handle";
/// Tables that are opened at once.
const TABLES_AHEAD: usize = 4;
/// Runs of one statement with rows of parameters.
const PARAMETER_ROWS_MAX: usize = 1_000;
/// Bytes of parameters: they travel in handles.
const PARAMETER_BYTES_MAX: usize = 128 << 10;

/// A statement that was prepared.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Sealed.
    pub handle: Vec<u8>,
    /// Of its rows.
    pub schema: SchemaRef,
    /// Its parameters.
    pub parameters: SchemaRef,
}

/// Rows that can be asked for.
#[derive(Debug, Clone)]
pub struct SqlFlight {
    /// Of the rows.
    pub schema: SchemaRef,
    /// Sealed.
    pub handle: Vec<u8>,
    /// Microseconds UTC.
    pub expires_at: i64,
}

/// Rows of a query.
pub struct SqlScan {
    /// Of the rows.
    pub schema: SchemaRef,
    /// Dropped, they stop the query.
    pub batches: Batches,
    /// Of each run of the statement.
    pub stats: Vec<Arc<RunStats>>,
}

/// Rows of a query in wire values.
pub struct QueryRows {
    /// Of each row.
    pub columns: Vec<Column>,
    /// Some rows at a time.
    pub rows: BoxStream<'static, Result<Vec<Item>, ServiceError>>,
}

/// A statement with the tables that it names.
struct Posed {
    statement: Statement,
    opened: Vec<Opened>,
    tables: Vec<Table>,
}

impl App {
    /// Prepares a statement.
    ///
    /// # Errors
    /// A statement that is no query, does not fit its tables, or names one
    /// that the caller may not read.
    pub async fn sql_prepare(
        &self,
        caller: &Caller,
        query: &str,
    ) -> Result<Prepared, ServiceError> {
        let posed = self.pose(caller, query).await?;
        let described = self.sql.describe(&posed.statement, posed.tables).await?;
        let handle = PreparedHandle {
            query: query.to_owned(),
            parameters: String::new(),
            principal: caller.principal,
            expires_at: now_micros() + self.settings.ticket_micros(),
        };
        Ok(Prepared {
            handle: self.sealing.seal(PREPARED, &handle)?,
            schema: described.schema,
            parameters: described.parameters,
        })
    }

    /// The handle of a prepared statement with rows of parameters.
    ///
    /// # Errors
    /// A handle that is not the caller's; too many parameters.
    pub async fn sql_bind(
        &self,
        caller: &Caller,
        handle: &[u8],
        rows: &[RecordBatch],
    ) -> Result<Vec<u8>, ServiceError> {
        let mut prepared = self.prepared(caller, handle).await?;
        let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
        if count > PARAMETER_ROWS_MAX {
            let message = format!("are {count} rows; at most {PARAMETER_ROWS_MAX} are taken");
            return Err(ServiceError::invalid("parameters", message));
        }
        prepared.parameters = packed(rows)?;
        self.sealing.seal(PREPARED, &prepared)
    }

    async fn prepared(
        &self,
        caller: &Caller,
        handle: &[u8],
    ) -> Result<PreparedHandle, ServiceError> {
        let prepared: PreparedHandle = self.sealing.open_sealed(PREPARED, handle).await?;
        prepared.check(caller.principal, now_micros())?;
        Ok(prepared)
    }

    /// Where the rows of a prepared statement are.
    ///
    /// # Errors
    /// As [`App::sql_flight`]; a handle that is not the caller's.
    pub async fn sql_prepared_flight(
        &self,
        caller: &Caller,
        handle: &[u8],
    ) -> Result<SqlFlight, ServiceError> {
        let prepared = self.prepared(caller, handle).await?;
        self.sql_flight(caller, &prepared.query, prepared.parameters).await
    }

    /// Where the rows of a query are: its tables are pinned as they stand now.
    ///
    /// # Errors
    /// As [`App::sql_prepare`].
    pub async fn sql_flight(
        &self,
        caller: &Caller,
        query: &str,
        parameters: String,
    ) -> Result<SqlFlight, ServiceError> {
        let posed = self.pose(caller, query).await?;
        let pins = posed.statement.tables().iter().zip(&posed.opened).map(|(name, opened)| Pin {
            namespace: name.namespace.clone(),
            dataset: name.dataset.clone(),
            version: name.version.clone(),
            id: opened.dataset,
            snapshot: opened.snapshot,
            ceiling: opened.ceiling,
        });
        let pins = pins.collect();
        let tables = posed.tables.clone();
        let described = self.sql.describe(&posed.statement, tables).await?;
        let given = unpacked(&parameters)?;
        let wanted = described.parameters.fields().len();
        let columns = given.first().map_or(0, RecordBatch::num_columns);
        if wanted != columns {
            let message = format!("has {wanted} parameters and {columns} values were given");
            return Err(ServiceError::invalid("query", message).reason("SQL_PARAMETERS"));
        }
        let answer = SqlAnswer::Query { query: query.to_owned(), parameters, pins };
        // Values decide the types of what is computed from them.
        let mut runs = parameter_rows(&given)?;
        let schema = match runs.is_empty() {
            true => described.schema,
            false => {
                self.sql.plan(&posed.statement, posed.tables, runs.swap_remove(0)).await?.schema
            }
        };
        self.sql_handle(caller, schema, answer)
    }

    /// Where the rows of a command about metadata are.
    ///
    /// # Errors
    /// A key ring that is empty.
    pub fn sql_metadata_flight(
        &self,
        caller: &Caller,
        schema: SchemaRef,
        command: &[u8],
    ) -> Result<SqlFlight, ServiceError> {
        self.sql_handle(caller, schema, SqlAnswer::Metadata(STANDARD.encode(command)))
    }

    fn sql_handle(
        &self,
        caller: &Caller,
        schema: SchemaRef,
        answer: SqlAnswer,
    ) -> Result<SqlFlight, ServiceError> {
        let expires_at = now_micros() + self.settings.ticket_micros();
        let handle = SqlHandle { answer, principal: caller.principal, expires_at };
        Ok(SqlFlight { schema, handle: self.sealing.seal(HANDLE, &handle)?, expires_at })
    }

    /// What a handle is of.
    ///
    /// # Errors
    /// A handle that is not the caller's, not this server's, or too old.
    pub async fn sql_open(
        &self,
        caller: &Caller,
        handle: &[u8],
    ) -> Result<SqlAnswer, ServiceError> {
        let handle: SqlHandle = self.sealing.open_sealed(HANDLE, handle).await?;
        handle.check(caller.principal, now_micros())?;
        Ok(handle.answer)
    }

    /// The rows of a query at its pins.
    ///
    /// # Errors
    /// Tables that the caller may no longer read; a plan that fails.
    pub async fn sql_scan(
        &self,
        caller: Arc<Caller>,
        query: &str,
        parameters: &str,
        pins: &[Pin],
    ) -> Result<SqlScan, ServiceError> {
        let statement = Statement::parse(query)?;
        let opening = pins.iter().map(|pin| {
            let caller = &caller;
            async move {
                let pinned = (pin.snapshot, pin.ceiling);
                let opened = self.open_pinned(caller, by_id(pin.id), pinned, QUERY).await?;
                let name = TableName {
                    namespace: pin.namespace.clone(),
                    dataset: pin.dataset.clone(),
                    version: pin.version.clone(),
                };
                let table = self.table(caller, name, &opened).await?;
                Ok::<_, ServiceError>((opened, table))
            }
        });
        let opened: Vec<(Opened, Table)> =
            stream::iter(opening.collect::<Vec<_>>()).buffered(TABLES_AHEAD).try_collect().await?;
        let (opened, tables): (Vec<Opened>, Vec<Table>) = opened.into_iter().unzip();
        let mut runs = vec![Parameters::default()];
        if !parameters.is_empty() {
            runs = parameter_rows(&unpacked(parameters)?)?;
        }
        self.run(caller, statement, (opened, tables), runs).await
    }

    /// The rows of a query now, in wire values.
    ///
    /// # Errors
    /// As [`App::sql_flight`] and [`App::sql_scan`].
    pub async fn query_rows(
        &self,
        caller: Arc<Caller>,
        query: &str,
    ) -> Result<QueryRows, ServiceError> {
        let Posed { statement, opened, tables } = self.pose(&caller, query).await?;
        let runs = vec![Parameters::default()];
        let scan = self.run(caller, statement, (opened, tables), runs).await?;
        let columns = columns_of(&scan.schema);
        let pieces = scan.batches.map_ok(|batch| stream::iter(messages(batch, false)));
        Ok(QueryRows { columns, rows: pieces.try_flatten().boxed() })
    }

    /// Runs a statement once for each row of parameters, one after the other.
    async fn run(
        &self,
        caller: Arc<Caller>,
        statement: Statement,
        (opened, tables): (Vec<Opened>, Vec<Table>),
        runs: Vec<Parameters>,
    ) -> Result<SqlScan, ServiceError> {
        let mut runs = runs.into_iter();
        let Some(first) = runs.next() else {
            let described = self.sql.describe(&statement, tables).await?;
            let batches = stream::empty().boxed();
            return Ok(SqlScan { schema: described.schema, batches, stats: Vec::new() });
        };
        let planned = self.sql.plan(&statement, tables.clone(), first).await?;
        let asker = caller.principal.uuid().as_u128();
        let rows = self.sql.run(planned, asker)?;
        let (schema, stats) = (rows.schema, vec![rows.stats]);
        let engine = self.sql.clone();
        let later = stream::iter(runs).then(move |parameters| {
            let (engine, statement, tables) = (engine.clone(), statement.clone(), tables.clone());
            async move {
                let planned = engine.plan(&statement, tables, parameters).await?;
                Ok::<_, ServiceError>(engine.run(planned, asker)?.batches)
            }
        });
        let batches = rows.batches.chain(later.try_flatten()).boxed();
        let batches = Watched::new(self, caller, &opened, batches).stream().boxed();
        Ok(SqlScan { schema, batches, stats })
    }

    /// Parses a query and opens the tables that it names.
    async fn pose(&self, caller: &Caller, query: &str) -> Result<Posed, ServiceError> {
        let statement = Statement::parse(query)?;
        let opening = statement.tables().iter().map(|name| async move {
            let address = Address::new(&name.namespace, &name.dataset)?;
            let opened = self.open(caller, &address, &name.version, QUERY).await?;
            let table = self.table(caller, name.clone(), &opened).await?;
            Ok::<_, ServiceError>((opened, table))
        });
        let opened: Vec<(Opened, Table)> =
            stream::iter(opening.collect::<Vec<_>>()).buffered(TABLES_AHEAD).try_collect().await?;
        let (opened, tables) = opened.into_iter().unzip();
        Ok(Posed { statement, opened, tables })
    }

    async fn table(
        &self,
        caller: &Caller,
        name: TableName,
        opened: &Opened,
    ) -> Result<Table, ServiceError> {
        let view = self.view(caller, opened).await?;
        let snapshot = SqlSnapshot::new(self.reader.clone(), view, opened);
        Ok(Table::new(name, Arc::clone(&opened.schema), Arc::new(snapshot)))
    }
}

/// Rows of parameters as text.
fn packed(rows: &[RecordBatch]) -> Result<String, ServiceError> {
    let wrong = |error| ServiceError::invalid("parameters", error);
    let Some(first) = rows.first() else { return Ok(String::new()) };
    let mut writer = StreamWriter::try_new(Vec::new(), &first.schema()).map_err(wrong)?;
    for batch in rows {
        writer.write(batch).map_err(wrong)?;
    }
    let bytes = writer.into_inner().map_err(wrong)?;
    if bytes.len() > PARAMETER_BYTES_MAX {
        let message =
            format!("take {} bytes; at most {PARAMETER_BYTES_MAX} are taken", bytes.len());
        return Err(ServiceError::invalid("parameters", message).reason("SQL_PARAMETERS"));
    }
    Ok(STANDARD.encode(bytes))
}

/// Rows of parameters out of a text of our own.
fn unpacked(parameters: &str) -> Result<Vec<RecordBatch>, ServiceError> {
    if parameters.is_empty() {
        return Ok(Vec::new());
    }
    let broken = |error: String| ServiceError::internal(format!("the parameters: {error}"));
    let bytes = STANDARD.decode(parameters).map_err(|error| broken(error.to_string()))?;
    let reader = StreamReader::try_new(std::io::Cursor::new(bytes), None);
    let reader = reader.map_err(|error| broken(error.to_string()))?;
    reader.collect::<Result<_, _>>().map_err(|error| broken(error.to_string()))
}
