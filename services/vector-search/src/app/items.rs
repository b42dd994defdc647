//! Rows of a dataset, over Flight from the item store.

use arrow::array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightDescriptor, FlightInfo, Ticket};
use caller::{TokenSource, authorized};
use futures::TryStreamExt;
use serde_json::json;
use service_channel::Transport;
use service_error::ServiceError;

const ITEM_STORE: &str = "item-store";
/// The largest message of rows.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// The item store's client.
#[derive(Clone)]
pub(super) struct Items {
    transport: Transport,
    tokens: TokenSource,
}

/// Where rows are.
#[derive(Debug)]
pub(super) struct Source {
    /// Rows in all, if it is known.
    pub rows: Option<i64>,
    /// In the order of their tickets.
    pub tickets: Vec<Ticket>,
}

impl Items {
    pub const fn new(transport: Transport, tokens: TokenSource) -> Self {
        Self { transport, tokens }
    }

    fn flight(&self) -> FlightServiceClient<Transport> {
        FlightServiceClient::new(self.transport.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Asks where the rows of a version are; nothing in `columns` means all.
    pub async fn find(
        &self,
        dataset: &str,
        version: i64,
        columns: &[String],
    ) -> Result<Source, ServiceError> {
        let mut command = json!({ "dataset": dataset });
        if version > 0 {
            command["version"] = version.into();
        }
        if !columns.is_empty() {
            command["columns"] = columns.into();
        }
        let bearer = self.tokens.for_self(ITEM_STORE).await?;
        let descriptor = FlightDescriptor::new_cmd(command.to_string());
        let asked = authorized(descriptor, &bearer);
        let info: FlightInfo = self.flight().get_flight_info(asked).await?.into_inner();
        let tickets = info.endpoint.into_iter().filter_map(|endpoint| endpoint.ticket).collect();
        Ok(Source { rows: (info.total_records >= 0).then_some(info.total_records), tickets })
    }

    /// The rows of a ticket.
    pub async fn rows(
        &self,
        ticket: Ticket,
    ) -> Result<impl futures::Stream<Item = Result<RecordBatch, ServiceError>> + use<>, ServiceError>
    {
        let bearer = self.tokens.for_self(ITEM_STORE).await?;
        let answer = self.flight().do_get(authorized(ticket, &bearer)).await?.into_inner();
        let messages = answer.map_err(FlightError::from);
        let rows = FlightRecordBatchStream::new_from_flight_data(messages);
        Ok(rows.map_err(|error| match error {
            FlightError::Tonic(status) => ServiceError::from(*status),
            other => ServiceError::unavailable(format!("the stream of rows broke off: {other}")),
        }))
    }
}
