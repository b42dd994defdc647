//! Arrow Flight.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo,
    HandshakeRequest, HandshakeResponse, Location, PollInfo, PutResult, Result as ActionResult,
    SchemaResult, Ticket,
};
use bytes::Bytes;
use caller::Caller;
use flight_messages::{Decoder, Encoder, Message, Room};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use service_error::ServiceError;
use tonic::{Request, Response, Status, Streaming};

use super::flight_sql::{self as sql, SqlPut};
use super::needs;
use super::rows::Rows;
use super::trailers::Trailers;
use crate::app::{App, Batches, Flight, PlacedPut, Put, PutDone};
use crate::model::{ACTIONS, PutCommand, flight_criteria, put_command, read_command, told_mode};

/// The client goes on with the connection it has: locations are the public door.
const SAME_CONNECTION: &str = "arrow-flight-reuse-connection://?";

/// A stream on which nothing came for so long gets an empty batch.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes of the parameters of a prepared statement.
const PARAMETER_BYTES_MAX: usize = 256 << 10;

type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// Arrow Flight over the use cases.
#[derive(Debug, Clone)]
pub(super) struct FlightGrpc {
    app: App,
}

impl FlightGrpc {
    /// The service over the use cases.
    pub const fn new(app: App) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl FlightService for FlightGrpc {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<ActionResult>;
    type ListActionsStream = Answers<ActionType>;

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(ServiceError::unimplemented("the handshake is answered at the public door").into())
    }

    async fn list_flights(
        &self,
        request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        let caller = caller::of(&request)?;
        let criteria = flight_criteria(&request.get_ref().expression)?;
        let flights = self.app.flights(caller, criteria);
        let infos = flights.map(|flight| {
            flight.and_then(|flight| info(&flight, path_of(&flight))).map_err(Status::from)
        });
        Ok(Response::new(infos.boxed()))
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let caller = caller::of(&request)?;
        let descriptor = request.into_inner();
        let (path, cmd) = place(&descriptor);
        if let Some(command) = flight_sql::command_of(cmd)? {
            let flight = sql::flight(&self.app, &caller, &command).await?;
            return Ok(Response::new(sql::info(&flight, descriptor)?));
        }
        let flight = self.app.flight(&caller, &read_command(path, cmd)?).await?;
        Ok(Response::new(info(&flight, descriptor)?))
    }

    async fn poll_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        Err(ServiceError::unimplemented(
            "PollFlightInfo is not offered; GetFlightInfo answers at once",
        )
        .into())
    }

    async fn get_schema(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        let caller = caller::of(&request)?;
        let (path, cmd) = place(request.get_ref());
        let schema = match flight_sql::command_of(cmd)? {
            Some(command) => sql::flight(&self.app, &caller, &command).await?.schema,
            None => self.app.flight_schema(&caller, &read_command(path, cmd)?).await?,
        };
        Ok(Response::new(SchemaResult { schema: schema_bytes(&schema)? }))
    }

    async fn do_get(
        &self,
        request: Request<Ticket>,
    ) -> Result<Response<Self::DoGetStream>, Status> {
        let caller = caller::of(&request)?;
        let ticket = request.into_inner().ticket;
        let (schema, batches, stats) = match flight_sql::ticket_handle(&ticket)? {
            Some(handle) => {
                let scan = sql::scan(&self.app, caller, &handle).await?;
                (scan.schema, scan.batches, scan.stats)
            }
            None => {
                let scan = self.app.scan(caller, &ticket).await?;
                (scan.schema, scan.batches, Vec::new())
            }
        };
        let mut encoder = Encoder::new(&schema)?;
        let first = futures::stream::once(std::future::ready(Ok(encoder.schema())));
        let rows = kept_alive(batches, schema).map(move |batch| {
            let messages = batch.and_then(|batch| encoder.batch(&batch))?;
            Ok::<_, ServiceError>(futures::stream::iter(messages.into_iter().map(Ok)))
        });
        let body = flight_messages::body(first.chain(rows.try_flatten()));
        let mut response = Response::new(futures::stream::empty().boxed());
        response.extensions_mut().insert(Rows::new(body));
        if !stats.is_empty() {
            response.extensions_mut().insert(Trailers(stats));
        }
        Ok(response)
    }

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        let caller = caller::of(&request)?;
        let room = request.extensions().get::<Room>().cloned().unwrap_or_default();
        let receiver =
            Receiver { app: self.app.clone(), caller, room, messages: request.into_inner() };
        // The headers go at once; the rows are read while the answer is awaited.
        let done = async move { receiver.run().await.map_err(Status::from) };
        Ok(Response::new(futures::stream::once(done).boxed()))
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(ServiceError::unimplemented("DoExchange is not offered").into())
    }

    async fn do_action(
        &self,
        request: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        let caller = caller::of(&request)?;
        let action = request.into_inner();
        let answered = sql::action(&self.app, &caller, &action.r#type, &action.body).await?;
        if let Some(body) = answered {
            let answer = ActionResult { body };
            return Ok(Response::new(
                futures::stream::once(std::future::ready(Ok(answer))).boxed(),
            ));
        }
        let known = ACTIONS.iter().find(|known| known.name == action.r#type);
        let Some(known) = known else {
            let names: Vec<&str> = actions().map(|(name, _)| name).collect();
            let shown: String = action.r#type.chars().take(64).collect();
            let message = format!("there is no action {shown:?}; there are {}", names.join(", "));
            return Err(ServiceError::unimplemented(message).reason("ACTION_NOT_OFFERED").into());
        };
        tracing::debug!(action = known.name, "flight action");
        let body = self.app.describe(&caller, &read_command(&[], &action.body)?).await?;
        let answer = ActionResult { body: body.into() };
        Ok(Response::new(futures::stream::once(std::future::ready(Ok(answer))).boxed()))
    }

    async fn list_actions(
        &self,
        request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        caller::of(&request)?;
        let actions = actions().map(|(name, description)| {
            Ok(ActionType { r#type: name.to_owned(), description: description.to_owned() })
        });
        Ok(Response::new(futures::stream::iter(actions).boxed()))
    }
}

/// All actions: (type, description).
fn actions() -> impl Iterator<Item = (&'static str, &'static str)> {
    let own = ACTIONS.iter().map(|action| (action.name, action.description));
    own.chain(flight_sql::actions().iter().copied())
}

/// An empty batch whenever the next one is long in coming: what lies between
/// the two ends cuts streams on which nothing moves.
fn kept_alive(
    batches: Batches,
    schema: SchemaRef,
) -> impl Stream<Item = Result<RecordBatch, ServiceError>> + Send {
    futures::stream::unfold(batches, move |mut batches| {
        let empty = RecordBatch::new_empty(Arc::clone(&schema));
        async move {
            match tokio::time::timeout(KEEP_ALIVE_INTERVAL, batches.next()).await {
                Ok(next) => next.map(|batch| (batch, batches)),
                Err(_) => Some((Ok(empty), batches)),
            }
        }
    })
}

/// Path or command of a descriptor; the other one is empty.
fn place(descriptor: &FlightDescriptor) -> (&[String], &[u8]) {
    if descriptor.r#type() == DescriptorType::Path {
        (&descriptor.path, b"")
    } else {
        (&[], &descriptor.cmd)
    }
}

fn path_of(flight: &Flight) -> FlightDescriptor {
    FlightDescriptor::new_path(vec![
        flight.address.namespace.clone(),
        flight.address.dataset.clone(),
    ])
}

pub(super) fn schema_bytes(schema: &Schema) -> Result<Bytes, ServiceError> {
    let bytes = item_schema::schema_to_ipc(schema);
    Ok(bytes.map_err(|error| ServiceError::internal(error.to_string()))?.into())
}

fn info(flight: &Flight, descriptor: FlightDescriptor) -> Result<FlightInfo, ServiceError> {
    let parts = flight.endpoints.iter().map(|part| (part.ticket.clone().into(), part.expires_at));
    info_of(&flight.schema, descriptor, parts, (flight.total_records, flight.total_bytes))
}

/// What `GetFlightInfo` answers: tickets with the microseconds at which they
/// expire, and the totals of records and bytes.
pub(super) fn info_of(
    schema: &Schema,
    descriptor: FlightDescriptor,
    parts: impl IntoIterator<Item = (Bytes, i64)>,
    (total_records, total_bytes): (i64, i64),
) -> Result<FlightInfo, ServiceError> {
    let endpoints = parts.into_iter().map(|(ticket, expires_at)| FlightEndpoint {
        ticket: Some(Ticket { ticket }),
        location: vec![Location { uri: SAME_CONNECTION.to_owned() }],
        expiration_time: Some(prost_types::Timestamp {
            seconds: expires_at.div_euclid(1_000_000),
            nanos: i32::try_from(expires_at.rem_euclid(1_000_000) * 1_000).unwrap_or(0),
        }),
        app_metadata: Bytes::new(),
    });
    Ok(FlightInfo {
        schema: schema_bytes(schema)?,
        flight_descriptor: Some(descriptor),
        endpoint: endpoints.collect(),
        total_records,
        total_bytes,
        ordered: true,
        app_metadata: Bytes::new(),
    })
}

fn put_result(done: &PutDone) -> PutResult {
    let answer = serde_json::json!({
        "version": done.version,
        "snapshot": done.snapshot,
        "rows": done.rows,
        "dataset": done.dataset,
    });
    PutResult { app_metadata: answer.to_string().into() }
}

/// Reads the messages of a put: one arrives while the one before is decoded
/// and buffered.
struct Receiver {
    app: App,
    caller: Arc<Caller>,
    room: Room,
    messages: Streaming<FlightData>,
}

/// What is known while a put is read.
struct Reading {
    decoder: Decoder,
    put: Begun,
    /// Over all that came, where a retry must be told from another put.
    hasher: Option<blake3::Hasher>,
    last_metadata: Bytes,
    /// What SQL's clients say in metadata is theirs.
    is_ingest: bool,
}

/// A put begins with its first rows: their ids tell how ids are spelled.
enum Begun {
    Not(Box<PlacedPut>),
    Put(Box<Put>),
    Broken,
}

impl Receiver {
    async fn run(mut self) -> Result<PutResult, ServiceError> {
        let empty = || {
            ServiceError::invalid(
                "descriptor",
                "the stream is empty; send a descriptor and a schema",
            )
        };
        let first = self.next().await?.ok_or_else(empty)?;
        let room = self.room.take();
        let descriptor = first.flight_descriptor.clone().ok_or_else(empty)?;
        let (path, cmd) = place(&descriptor);
        let asked = sql::put_of(&self.app, &self.caller, cmd)?;
        if let Some(SqlPut::Parameters(handle)) = &asked {
            let decoder = Decoder::of(&first)?;
            drop(room);
            return self.parameters(handle, decoder).await;
        }
        let (command, is_ingest) = match asked {
            Some(SqlPut::Ingest(command)) => (command, true),
            _ => {
                needs::admit(&self.app, &self.caller, needs::PUT)?;
                let mut command = put_command(path, cmd)?;
                command.told(&first.app_metadata)?;
                (command, false)
            }
        };
        let decoder = Decoder::of(&first)?;
        let hasher = (!command.idempotency_key.is_empty()).then(|| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(format!("{:?} {}", command.mode, command.address).as_bytes());
            hasher.update(&first.data_header);
            hasher
        });
        drop(room);
        let done = self.rows((command, is_ingest), decoder, hasher).await?;
        Ok(if is_ingest { sql::ingested(done.rows) } else { put_result(&done) })
    }

    async fn rows(
        mut self,
        (command, is_ingest): (PutCommand, bool),
        decoder: Decoder,
        hasher: Option<blake3::Hasher>,
    ) -> Result<PutDone, ServiceError> {
        let caller = Arc::clone(&self.caller);
        let put = Begun::Not(Box::new(PlacedPut::open(&self.app, caller, command).await?));
        let last_metadata = Bytes::new();
        let mut reading = Reading { decoder, put, hasher, last_metadata, is_ingest };
        let mut next = self.next().await?;
        while let Some(message) = next.take() {
            let room = self.room.take();
            let took = async {
                let done = reading.take(message).await;
                drop(room);
                done
            };
            let (arrived, took) = tokio::join!(next_of(&mut self.messages), took);
            took?;
            next = arrived?;
        }
        reading.finish().await
    }

    /// Reads the parameters of a prepared statement into its handle.
    async fn parameters(
        mut self,
        handle: &[u8],
        mut decoder: Decoder,
    ) -> Result<PutResult, ServiceError> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while let Some(message) = self.next().await? {
            let room = self.room.take();
            bytes += message.data_body.len();
            if bytes > PARAMETER_BYTES_MAX {
                let message = format!("take more than {PARAMETER_BYTES_MAX} bytes");
                return Err(ServiceError::invalid("parameters", message).reason("SQL_PARAMETERS"));
            }
            if let Message::Rows(batch) = decoder.decode(message.data_header, message.data_body)? {
                rows.push(batch);
            }
            drop(room);
        }
        Ok(sql::bound(self.app.sql_bind(&self.caller, handle, &rows).await?))
    }

    async fn next(&mut self) -> Result<Option<FlightData>, ServiceError> {
        next_of(&mut self.messages).await
    }
}

async fn next_of(messages: &mut Streaming<FlightData>) -> Result<Option<FlightData>, ServiceError> {
    messages.message().await.map_err(ServiceError::from)
}

impl Reading {
    /// The mode comes before the rows or with the first of them.
    fn told(&mut self, metadata: &Bytes) -> Result<(), ServiceError> {
        if let Begun::Not(put) = &mut self.put {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(metadata);
            }
            return put.told(metadata);
        }
        // A client's own marks may be anything by now.
        match told_mode(metadata) {
            Ok(Some(mode)) if !matches!(&self.put, Begun::Put(put) if put.mode() == mode) => {
                let message = "comes too late in the metadata: send it with the first rows";
                Err(ServiceError::invalid("mode", message))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn take(&mut self, message: FlightData) -> Result<(), ServiceError> {
        if !message.app_metadata.is_empty() {
            self.last_metadata = message.app_metadata.clone();
            if !self.is_ingest {
                self.told(&message.app_metadata)?;
            }
        }
        let (mut decoder, mut hasher) = (self.decoder.clone(), self.hasher.take());
        let decoding = tokio::task::spawn_blocking(move || {
            if let Some(hasher) = &mut hasher {
                hasher.update(&message.data_header);
                hasher.update(&message.data_body);
            }
            let rows = decoder.decode(message.data_header, message.data_body);
            (rows, decoder, hasher)
        });
        let (rows, decoder, hasher) = decoding.await.map_err(|error| {
            ServiceError::internal("a message could not be decoded").caused_by(error)
        })?;
        (self.decoder, self.hasher) = (decoder, hasher);
        let Message::Rows(rows) = rows? else { return Ok(()) };
        let schema = Arc::clone(self.decoder.schema());
        self.put.begin(&schema, Some(&rows))?.write(rows).await
    }

    async fn finish(mut self) -> Result<PutDone, ServiceError> {
        let schema = Arc::clone(self.decoder.schema());
        self.put.begin(&schema, None)?;
        let Begun::Put(put) = self.put else {
            return Err(ServiceError::internal("the put did not begin"));
        };
        let body_hash =
            self.hasher.map(|hasher| hasher.finalize().as_bytes().to_vec()).unwrap_or_default();
        put.finish(&self.last_metadata, body_hash).await
    }
}

impl Begun {
    fn begin(
        &mut self,
        schema: &Schema,
        first: Option<&RecordBatch>,
    ) -> Result<&mut Put, ServiceError> {
        if let Self::Not(..) = self
            && let Self::Not(placed) = std::mem::replace(self, Self::Broken)
        {
            *self = Self::Put(Box::new(placed.begin(schema, first)?));
        }
        match self {
            Self::Put(put) => Ok(put),
            _ => Err(ServiceError::internal("the put did not begin")),
        }
    }
}
