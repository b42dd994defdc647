//! Arrow Flight as a client speaks it: put a table, get a table.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, FlightDescriptor, Ticket};
use futures::{Stream, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tonic::Status;

use crate::session::Session;

/// A DoPut in the making.
pub struct Put {
    descriptor: FlightDescriptor,
    schema: SchemaRef,
    options: Value,
}

impl Put {
    /// To a dataset by its path, `append`, as pyarrow would without any option.
    pub fn to(namespace: &str, dataset: &str, schema: SchemaRef) -> Self {
        let path = vec![namespace.to_owned(), dataset.to_owned()];
        Self { descriptor: FlightDescriptor::new_path(path), schema, options: Value::Null }
    }

    /// Says one of the options in the JSON command, e.g. `mode`, `rows`, `idempotency_key`.
    #[must_use]
    pub fn option(mut self, name: &str, value: impl Into<Value>) -> Self {
        if self.options.is_null() {
            let path = self.descriptor.path.join("/");
            self.options = json!({ "dataset": path });
        }
        self.options[name] = value.into();
        self
    }

    /// The messages of the call.
    pub fn messages(
        self,
        batches: impl Stream<Item = RecordBatch> + Send + 'static,
    ) -> impl Stream<Item = FlightData> + Send + 'static {
        let descriptor = match &self.options {
            Value::Null => self.descriptor,
            options => FlightDescriptor::new_cmd(options.to_string()),
        };
        FlightDataEncoderBuilder::new()
            .with_schema(self.schema)
            .with_flight_descriptor(Some(descriptor))
            .build(batches.map(Ok::<_, FlightError>))
            .map(|message| message.expect("a batch that encodes"))
    }

    /// Sends them and returns what the server said about the commit, as JSON.
    pub async fn send(
        self,
        session: &Session,
        batches: impl Stream<Item = RecordBatch> + Send + 'static,
    ) -> Result<Value, Status> {
        let mut answers = session.flight().do_put(self.messages(batches)).await?.into_inner();
        let mut said = Value::Null;
        while let Some(answer) = answers.message().await? {
            if let Ok(json) = serde_json::from_slice(&answer.app_metadata) {
                said = json;
            }
        }
        Ok(said)
    }
}

/// Appends batches to a dataset, made if it isn't there, in one version.
pub async fn put(
    session: &Session,
    namespace: &str,
    dataset: &str,
    batches: Vec<RecordBatch>,
) -> Result<Value, Status> {
    let schema = batches.first().expect("a batch").schema();
    Put::to(namespace, dataset, schema).send(session, futures::stream::iter(batches)).await
}

/// All rows that a descriptor leads to, endpoint after endpoint.
pub async fn get_all(
    session: &Session,
    descriptor: FlightDescriptor,
) -> Result<Vec<RecordBatch>, Status> {
    let info = session.flight().get_flight_info(descriptor).await?.into_inner();
    let mut batches = Vec::new();
    for endpoint in info.endpoint {
        let ticket = endpoint.ticket.expect("a ticket");
        batches.extend(get_ticket(session, ticket).await?);
    }
    Ok(batches)
}

/// All rows of a ticket.
pub async fn get_ticket(session: &Session, ticket: Ticket) -> Result<Vec<RecordBatch>, Status> {
    let answer = session.flight().do_get(ticket).await?.into_inner();
    FlightRecordBatchStream::new_from_flight_data(answer.map_err(FlightError::from))
        .try_collect()
        .await
        .map_err(|err| match err {
            FlightError::Tonic(status) => *status,
            other => Status::data_loss(other.to_string()),
        })
}
