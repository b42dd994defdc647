//! Arrow Flight: rows into a dataset in one commit, and rows out of a version.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, FlightDescriptor, Ticket};
use futures::{Stream, StreamExt, TryStreamExt, future, stream};
use serde::Serialize;
use serde_json::{Value as Json, json};
use service_error::ServiceError;
use tokio::sync::{mpsc, oneshot};

use super::Client;
use super::version::{DatasetName, VersionName};
use crate::failure::Failure;

/// Batches that wait between whoever reads them and the network.
pub const BATCHES_IN_FLIGHT: usize = 4;
const FLIGHT_BYTES_MAX: usize = 4 << 20;

/// What goes into a put.
#[derive(Debug)]
pub enum Part {
    /// Rows.
    Rows(RecordBatch),
    /// All rows were sent. A put without an end is never committed.
    End,
}

/// How a put commits; becomes its JSON command.
#[derive(Debug, Serialize)]
pub struct Put {
    /// `namespace/name`.
    pub dataset: String,
    /// `append` or `overwrite`.
    pub mode: &'static str,
    /// The number of rows follows the last batch and is compared before the
    /// commit: a stream that was cut is then not taken for a short one.
    rows: &'static str,
    /// Repeating a put under the same key commits once.
    pub idempotency_key: String,
    /// Of the version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The upload whose media the rows name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_id: Option<String>,
    /// Of a dataset that the put makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<&'static str>,
    /// Of a dataset that the put makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_column: Option<String>,
    /// Of a dataset that the put makes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unique_columns: Vec<String>,
}

/// What a put committed.
#[derive(Debug, Clone, Copy)]
pub struct Committed {
    /// The version's number.
    pub version: i64,
}

impl Put {
    /// A put to a dataset, under a new idempotency key.
    pub fn new(dataset: &DatasetName, mode: &'static str) -> Self {
        Self {
            dataset: dataset.to_string(),
            mode,
            rows: "trailing",
            idempotency_key: uuid::Uuid::now_v7().to_string(),
            message: None,
            upload_id: None,
            profile: None,
            key_column: None,
            unique_columns: Vec::new(),
        }
    }

    /// Sends `parts` until their end and answers the version that they became.
    /// Dropped before that, or when `parts` closes without an end, nothing is
    /// committed.
    pub async fn send(
        self,
        client: &Client,
        schema: SchemaRef,
        parts: mpsc::Receiver<Part>,
    ) -> Result<Committed, Failure> {
        let (failed, failure) = oneshot::channel();
        let messages = self.messages(schema, parts, failed)?;
        let call = async {
            let mut answers = client.flight().do_put(messages).await?.into_inner();
            let mut version = None;
            while let Some(answer) = answers.message().await? {
                version = version_of(&answer.app_metadata).or(version);
            }
            version.ok_or_else(|| {
                Failure::from(ServiceError::internal("the server answered a put without a version"))
            })
        };
        let broken = async {
            match failure.await {
                Ok(err) => {
                    Failure::from(ServiceError::internal(format!("the rows cannot be sent: {err}")))
                }
                // All was sent; the call alone decides.
                Err(_) => future::pending().await,
            }
        };
        tokio::select! {
            version = call => Ok(Committed { version: version? }),
            failure = broken => Err(failure),
        }
    }

    fn messages(
        &self,
        schema: SchemaRef,
        parts: mpsc::Receiver<Part>,
        failed: oneshot::Sender<FlightError>,
    ) -> Result<impl Stream<Item = FlightData> + Send + 'static, Failure> {
        let command =
            serde_json::to_vec(self).map_err(|err| ServiceError::internal(err.to_string()))?;
        let rows = Arc::new(AtomicU64::new(0));
        let data = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .with_flight_descriptor(Some(FlightDescriptor::new_cmd(command)))
            .with_dictionary_handling(DictionaryHandling::Resend)
            .with_max_flight_data_size(FLIGHT_BYTES_MAX)
            .build(batches(parts, Arc::clone(&rows)).map(Ok));
        let trailer = stream::once(async move {
            let rows = json!({ "rows": rows.load(Ordering::Relaxed) });
            FlightData { app_metadata: rows.to_string().into(), ..FlightData::default() }
        });
        // A stream that ended would look whole to the server, so a broken one
        // waits for the call to be dropped.
        let data = stream::unfold((data, Some(failed)), |(mut data, mut failed)| async move {
            match data.next().await? {
                Ok(message) => Some((message, (data, failed))),
                Err(err) => {
                    drop(failed.take().map(|failed| failed.send(err)));
                    future::pending().await
                }
            }
        });
        Ok(data.chain(trailer))
    }
}

fn batches(
    parts: mpsc::Receiver<Part>,
    rows: Arc<AtomicU64>,
) -> impl Stream<Item = RecordBatch> + Send {
    stream::unfold((parts, rows), |(mut parts, rows)| async move {
        match parts.recv().await {
            Some(Part::Rows(batch)) => {
                rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                Some((batch, (parts, rows)))
            }
            Some(Part::End) => None,
            None => future::pending().await,
        }
    })
}

fn version_of(answer: &[u8]) -> Option<i64> {
    let answer: Json = serde_json::from_slice(answer).ok()?;
    let version = answer.get("version")?;
    version.as_i64().or_else(|| version.as_str()?.parse().ok())
}

/// Which rows to read.
#[derive(Debug, Clone)]
pub struct Query {
    /// Of which dataset, at which version.
    pub from: VersionName,
    /// E.g. `width > 3000`.
    pub filter: Option<String>,
    /// Empty: all.
    pub columns: Vec<String>,
    /// At most so many.
    pub limit: Option<u64>,
    /// E.g. `width desc, title`; `None`: storage order.
    pub order_by: Option<String>,
}

/// Where the rows of a query are.
#[derive(Debug)]
pub struct Flight {
    /// Their columns.
    pub schema: SchemaRef,
    /// How many, if the server knows beforehand.
    pub rows: Option<u64>,
    /// In this order, they are all rows.
    pub tickets: Vec<Ticket>,
}

impl Query {
    /// All rows of a version.
    pub const fn all(from: VersionName) -> Self {
        Self { from, filter: None, columns: Vec::new(), limit: None, order_by: None }
    }

    fn descriptor(&self) -> FlightDescriptor {
        let name = &self.from.dataset;
        let is_whole = self.filter.is_none() && self.columns.is_empty() && self.limit.is_none();
        if is_whole && self.order_by.is_none() {
            let mut path = vec![name.namespace.clone(), name.dataset.clone()];
            path.extend(self.from.version.clone());
            return FlightDescriptor::new_path(path);
        }
        let mut command = json!({ "dataset": name.to_string() });
        if let Some(version) = &self.from.version {
            command["version"] =
                version.parse::<i64>().map_or_else(|_| version.as_str().into(), Json::from);
        }
        if let Some(filter) = &self.filter {
            command["filter"] = filter.as_str().into();
        }
        if !self.columns.is_empty() {
            command["columns"] = self.columns.clone().into();
        }
        if let Some(limit) = self.limit {
            command["limit"] = limit.into();
        }
        if let Some(order_by) = &self.order_by {
            command["order_by"] = order_by.as_str().into();
        }
        FlightDescriptor::new_cmd(command.to_string())
    }

    /// Asks where the rows are.
    pub async fn find(&self, client: &Client) -> Result<Flight, Failure> {
        let info = client.flight().get_flight_info(self.descriptor()).await?.into_inner();
        let rows = u64::try_from(info.total_records).ok();
        let tickets = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.clone()).collect();
        let schema = Schema::try_from(info).map_err(|err| {
            ServiceError::data_loss("the server answered no schema").caused_by(err)
        })?;
        Ok(Flight { schema: Arc::new(schema), rows, tickets })
    }
}

impl Flight {
    /// The rows, ticket after ticket.
    pub fn batches(
        self,
        client: &Client,
    ) -> impl Stream<Item = Result<RecordBatch, Failure>> + Send + use<> {
        let client = client.clone();
        stream::iter(self.tickets)
            .then(move |ticket| {
                let mut flight = client.flight();
                async move {
                    let data = flight.do_get(ticket).await?.into_inner().map_err(FlightError::from);
                    Ok::<_, Failure>(
                        FlightRecordBatchStream::new_from_flight_data(data).map_err(failure_of),
                    )
                }
            })
            .try_flatten()
    }
}

fn failure_of(err: FlightError) -> Failure {
    match err {
        FlightError::Tonic(status) => Failure::from(*status),
        other => ServiceError::data_loss(format!("the stream of rows is broken: {other}")).into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use arrow::array::{ArrayRef, Int64Array};
    use futures::FutureExt;

    use super::*;

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef)])
            .unwrap()
    }

    fn name() -> DatasetName {
        "a/b".parse().unwrap()
    }

    #[tokio::test]
    async fn the_count_of_rows_follows_the_last_batch() {
        let (send, parts) = mpsc::channel(4);
        let (failed, _failure) = oneshot::channel();
        let messages =
            Put::new(&name(), "append").messages(batch().schema(), parts, failed).unwrap();
        for part in [Part::Rows(batch()), Part::Rows(batch()), Part::End] {
            send.send(part).await.unwrap();
        }
        let messages: Vec<_> = messages.collect().await;
        let command: Json =
            serde_json::from_slice(&messages[0].flight_descriptor.as_ref().unwrap().cmd).unwrap();
        assert_eq!(
            (command["dataset"].as_str(), command["rows"].as_str()),
            (Some("a/b"), Some("trailing"))
        );
        assert_eq!(messages.last().unwrap().app_metadata.as_ref(), br#"{"rows":6}"#);
    }

    #[tokio::test]
    async fn a_put_that_is_given_up_never_ends_its_stream() {
        let (send, parts) = mpsc::channel(4);
        let (failed, _failure) = oneshot::channel();
        let messages =
            Put::new(&name(), "append").messages(batch().schema(), parts, failed).unwrap();
        send.send(Part::Rows(batch())).await.unwrap();
        drop(send);
        let mut messages = std::pin::pin!(messages);
        assert!(messages.next().await.is_some() && messages.next().await.is_some());
        assert!(messages.next().now_or_never().is_none());
    }

    #[test]
    fn plain_reads_go_by_path_and_others_by_command() {
        let from: VersionName = "a/b@2".parse().unwrap();
        let query = Query::all(from.clone());
        assert_eq!(query.descriptor().path, ["a", "b", "2"]);
        let query = Query { filter: Some("x > 1".to_owned()), limit: Some(5), ..Query::all(from) };
        let command: Json = serde_json::from_slice(&query.descriptor().cmd).unwrap();
        assert_eq!(
            command,
            json!({ "dataset": "a/b", "version": 2, "filter": "x > 1", "limit": 5 })
        );
    }

    #[test]
    fn versions_are_read_as_numbers_or_text() {
        assert_eq!(version_of(br#"{"version":7}"#), Some(7));
        assert_eq!(version_of(br#"{"version":"7"}"#), Some(7));
        assert_eq!(version_of(b"hello"), None);
    }
}
