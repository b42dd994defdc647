//! Flights: what a descriptor names, as tickets, and a ticket as rows.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use blocks::{OrderBy, Position};
use caller::Caller;
use catalog_api::v1::ListDatasetsRequest;
use catalog_api::v1::value::Kind;
use cells::{is_uuid, uuid_text};
use futures::stream::unfold;
use futures::{Stream, StreamExt};
use serde_json::json;
use service_error::{Code, ServiceError};
use sql_store::now_micros;

use crate::app::App;
use crate::app::catalog::by_id;
use crate::app::manifest::{ManifestBlock, merged};
use crate::app::ordered::OrderedRead;
use crate::app::reading::filter_hash;
use crate::app::stored::StoredRead;
use crate::app::watched::{Batches, Watched};
use crate::model::{Address, FlightCriteria, ReadCommand, Ticket};

const TICKET: &str = "ticket";
const INFO: &str = "arrow.flight.protocol.FlightService/GetFlightInfo";
const GET: &str = "arrow.flight.protocol.FlightService/DoGet";
const DESCRIBE: &str = "arrow.flight.protocol.FlightService/DoAction";
/// Datasets asked of the catalog at once for a list of flights.
const DATASETS_PAGE: i32 = 100;
const FLIGHTS_AHEAD: usize = 4;

/// What `GetFlightInfo` answers.
#[derive(Debug, Clone)]
pub struct Flight {
    /// The dataset.
    pub address: Address,
    /// Of the rows.
    pub schema: SchemaRef,
    /// In order.
    pub endpoints: Vec<Endpoint>,
    /// -1 where it takes reading to tell.
    pub total_records: i64,
    /// Of the Parquet files; -1 where it takes reading to tell.
    pub total_bytes: i64,
}

/// A part of a flight.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Sealed.
    pub ticket: Vec<u8>,
    /// Microseconds UTC.
    pub expires_at: i64,
}

/// Rows of a ticket.
pub struct Scan {
    /// Of the rows.
    pub schema: SchemaRef,
    /// The rows; ends with an error when the caller loses its right to them.
    pub batches: Batches,
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl App {
    /// The flight that a command names.
    ///
    /// # Errors
    /// A filter or columns that do not fit; no such dataset.
    pub async fn flight(
        &self,
        caller: &Caller,
        command: &ReadCommand,
    ) -> Result<Flight, ServiceError> {
        let opened = self.open(caller, &command.address, &command.version, INFO).await?;
        let columns = command.columns.clone().unwrap_or_default();
        let schema = opened.project(&columns)?;
        let filter = self.filter(&opened, &command.filter).await?;
        let order = OrderBy::parse(&command.order_by)?;
        OrderBy::check(&order, &opened.schema)?;
        let view = self.view(caller, &opened).await?;
        let manifest = &view.blocks;
        let wanted = match (&filter, command.limit) {
            (None, Some(limit)) if order.is_empty() => blocks_for(manifest, limit),
            _ => manifest.len(),
        };
        // A limit counts over all blocks and an order is one of all rows, so they are one part.
        let rows_max = match command.limit {
            None if order.is_empty() => self.settings.flight.endpoint_rows.max(1),
            _ => u64::MAX,
        };
        let expires_at = now_micros() + self.settings.ticket_micros();
        let mut endpoints = Vec::new();
        let mut parts = parts(manifest.get(..wanted).unwrap_or_default(), rows_max);
        // The delta's rows come after the last block, as one block more.
        if let Some((_, count)) = parts.last_mut().filter(|_| wanted == manifest.len()) {
            *count += 1;
        }
        for (first_block, block_count) in parts {
            let ticket = Ticket {
                dataset: opened.dataset,
                snapshot: opened.snapshot,
                ceiling: opened.ceiling,
                columns: command.columns.clone(),
                filter: command.filter.clone(),
                filter_hash: filter_hash(filter.as_deref()),
                first_block,
                block_count,
                limit: command.limit,
                order_by: command.order_by.clone(),
                principal: caller.principal,
                expires_at,
            };
            endpoints.push(Endpoint { ticket: self.sealing.seal(TICKET, &ticket)?, expires_at });
        }
        let limit =
            command.limit.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let known = filter.is_none();
        let rows = i64::try_from(view.row_count).unwrap_or(i64::MAX);
        let whole = known && command.limit.is_none() && columns.is_empty();
        Ok(Flight {
            address: opened.address,
            schema,
            endpoints,
            total_records: if known { rows.min(limit) } else { -1 },
            total_bytes: if whole { opened.byte_count } else { -1 },
        })
    }

    /// The schema of the rows that a command names.
    ///
    /// # Errors
    /// Columns that do not fit; no such dataset.
    pub async fn flight_schema(
        &self,
        caller: &Caller,
        command: &ReadCommand,
    ) -> Result<SchemaRef, ServiceError> {
        let opened = self.open(caller, &command.address, &command.version, INFO).await?;
        opened.project(command.columns.as_deref().unwrap_or_default())
    }

    /// A flight for each dataset that the caller may see and the criteria name.
    pub fn flights(
        &self,
        caller: Arc<Caller>,
        criteria: FlightCriteria,
    ) -> impl Stream<Item = Result<Flight, ServiceError>> + Send + use<> {
        let (app, asking) = (self.clone(), Arc::clone(&caller));
        let FlightCriteria { namespace, prefix } = criteria;
        let pages = unfold(Some(String::new()), move |token| {
            let (app, caller) = (app.clone(), Arc::clone(&asking));
            let (namespace, prefix) = (namespace.clone(), prefix.clone());
            async move {
                let request =
                    ListDatasetsRequest { namespace, page_size: DATASETS_PAGE, page_token: token? };
                match app.catalog.datasets(&caller, request).await {
                    Ok(page) => {
                        let next = Some(page.next_page_token).filter(|token| !token.is_empty());
                        let named = page.datasets.into_iter();
                        let named = named.filter(|dataset| dataset.name.starts_with(&prefix));
                        Some((named.map(Ok).collect::<Vec<_>>(), next))
                    }
                    // No such namespace, or none that the caller may see: nothing flies.
                    Err(error) if error.code() == Code::NotFound => None,
                    Err(error) => Some((vec![Err(error)], None)),
                }
            }
        });
        let app = self.clone();
        let one = move |dataset: Result<catalog_api::v1::Dataset, ServiceError>| {
            let (app, caller) = (app.clone(), Arc::clone(&caller));
            async move {
                let dataset = match dataset {
                    Ok(dataset) => dataset,
                    Err(error) => return Some(Err(error)),
                };
                let address = Address { namespace: dataset.namespace, dataset: dataset.name };
                let command = ReadCommand::whole(address, "");
                match app.flight(&caller, &command).await {
                    // Deleted, or taken from the caller, since it was listed.
                    Err(error) if error.code() == Code::NotFound => None,
                    flight => Some(flight),
                }
            }
        };
        pages
            .map(futures::stream::iter)
            .flatten()
            .map(one)
            .buffered(FLIGHTS_AHEAD)
            .filter_map(std::future::ready)
    }

    /// The rows of a ticket. Decoding keeps a little ahead of the consumer.
    ///
    /// # Errors
    /// A ticket that is not the caller's, not this server's, or too old.
    pub async fn scan(&self, caller: Arc<Caller>, ticket: &[u8]) -> Result<Scan, ServiceError> {
        let ticket: Ticket = self.sealing.open_sealed(TICKET, ticket).await?;
        ticket.check(caller.principal, now_micros())?;
        let pinned = (ticket.snapshot, ticket.ceiling);
        let opened = self.open_pinned(&caller, by_id(ticket.dataset), pinned, GET).await?;
        let schema = opened.project(ticket.columns.as_deref().unwrap_or_default())?;
        let filter = self.filter(&opened, &ticket.filter).await?;
        if filter_hash(filter.as_deref()) != ticket.filter_hash {
            return Err(ServiceError::precondition(
                "the filter means something else by now; ask for a new ticket",
            ));
        }
        let order = OrderBy::parse(&ticket.order_by)?;
        let (columns, limit) = (Arc::clone(&schema), ticket.limit);
        let batches = if order.is_empty() {
            let from = Position { block: ticket.first_block, row: 0 };
            let end = ticket.first_block.saturating_add(ticket.block_count);
            let read = StoredRead { filter, schema: columns, from, end, limit };
            self.stored(&caller, &opened, read).await?
        } else {
            let read = OrderedRead { filter, schema: columns, order, limit };
            self.ordered(&caller, &opened, read).await?
        };
        let watched = Watched::new(self, caller, &[opened], batches);
        Ok(Scan { schema, batches: watched.stream().boxed() })
    }

    /// What the action `quarry.describe` answers, as JSON.
    ///
    /// # Errors
    /// No such dataset.
    pub async fn describe(
        &self,
        caller: &Caller,
        command: &ReadCommand,
    ) -> Result<String, ServiceError> {
        let opened = self.open(caller, &command.address, &command.version, DESCRIBE).await?;
        let view = self.view(caller, &opened).await?;
        let mut columns = Vec::new();
        for field in opened.schema.fields() {
            let known = merged(&view.blocks, field.name())?;
            let uuid = is_uuid(field, opened.items_profile);
            let text = |value: Option<catalog_api::v1::Value>| {
                value
                    .map(|value| if uuid { uuid_text(value) } else { value })
                    .and_then(|value| value.kind)
                    .map(bound_text)
            };
            columns.push(json!({
                "name": field.name(),
                "type": field.data_type().to_string(),
                "nullable": field.is_nullable(),
                "null_count": known.null_count,
                "min": text(known.min),
                "max": text(known.max),
                "exact": known.exact && view.tail.is_none(),
            }));
        }
        let answer = json!({
            "id": opened.dataset.to_string(),
            "dataset": opened.address.to_string(),
            "profile": if opened.items_profile { "items" } else { "table" },
            "key_column": opened.key,
            "version": opened.version,
            "snapshot": opened.snapshot,
            "row_count": view.row_count,
            "byte_count": opened.byte_count,
            "block_count": opened.block_count,
            "columns": columns,
        });
        Ok(answer.to_string())
    }
}

fn bound_text(kind: Kind) -> serde_json::Value {
    match kind {
        Kind::BoolValue(value) => json!(value),
        Kind::IntValue(value) => json!(value),
        Kind::UintValue(value) => json!(value),
        Kind::DoubleValue(value) => json!(value),
        Kind::StringValue(text)
        | Kind::DecimalValue(text)
        | Kind::DateValue(text)
        | Kind::TimeValue(text)
        | Kind::DurationValue(text) => json!(text),
        Kind::BytesValue(bytes) => json!(hex::encode(bytes)),
        Kind::TimestampValue(at) => json!(at.to_string()),
        Kind::ListValue(_) | Kind::StructValue(_) => serde_json::Value::Null,
    }
}

/// How many blocks hold the first `limit` rows.
fn blocks_for(manifest: &[ManifestBlock], limit: u64) -> usize {
    let mut rows = 0;
    let mut count = 0;
    for block in manifest {
        if rows >= limit {
            break;
        }
        rows += block.rows.live_count();
        count += 1;
    }
    count
}

/// Neighbouring blocks of about `rows_max` rows: (first, how many). At least
/// one part, so that an empty dataset has a ticket too.
fn parts(manifest: &[ManifestBlock], rows_max: u64) -> Vec<(usize, usize)> {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    let mut rows = u64::MAX;
    for (index, block) in manifest.iter().enumerate() {
        let more = block.rows.live_count();
        match parts.last_mut() {
            Some((_, count)) if rows.saturating_add(more) <= rows_max => {
                *count += 1;
                rows += more;
            }
            _ => {
                parts.push((index, 1));
                rows = more;
            }
        }
    }
    if parts.is_empty() {
        parts.push((0, 0));
    }
    parts
}
