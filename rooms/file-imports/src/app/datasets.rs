//! The platform's datasets, as an import writes them: the catalog makes one for
//! the caller, the item store takes rows and files from this service.

use arrow::array::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightData, FlightDescriptor};
use caller::{Caller, TokenSource, authorized};
use catalog_api::v1::datasets_service_client::DatasetsServiceClient;
use catalog_api::v1::manifest_service_client::ManifestServiceClient;
use catalog_api::v1::{CreateDatasetRequest, DatasetRef, GetHeadRequest, Profile};
use futures::{Stream, StreamExt, stream};
use items_api::v1::media_service_client::MediaServiceClient;
use items_api::v1::{AbortUploadRequest, BeginUploadRequest, UploadMediaRequest};
use serde_json::json;
use service_channel::{CONTROL_MESSAGE_BYTES_MAX, Transport};
use service_error::{Code, ServiceError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::rows;

const CATALOG: &str = "catalog";
const ITEM_STORE: &str = "item-store";
/// The largest message of rows.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// The neighbours that keep datasets.
#[derive(Clone)]
pub struct Datasets {
    catalog: Transport,
    items: Transport,
    tokens: TokenSource,
}

/// A dataset as a decision about it needs it.
#[derive(Debug, Clone)]
pub(super) struct DatasetFound {
    pub id: Uuid,
    pub namespace: Uuid,
    pub key: String,
    pub public: bool,
}

/// What is done with the rows of a put.
#[derive(Debug, Clone, Copy)]
pub(super) enum PutMode {
    Upsert,
    Delete,
}

impl Datasets {
    /// Over the transports of the roles.
    #[must_use]
    pub fn new(catalog: Transport, items: Transport, tokens: TokenSource) -> Self {
        Self { catalog, items, tokens }
    }

    /// The dataset of a name, if there is one.
    pub(super) async fn find(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<DatasetFound>, ServiceError> {
        let dataset = DatasetRef {
            dataset_id: String::new(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let bearer = self.tokens.for_self(CATALOG).await?;
        let request = GetHeadRequest { dataset: Some(dataset), at: None };
        let mut client = ManifestServiceClient::new(self.catalog.clone())
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
        let head = match client.get_head(authorized(request, &bearer)).await {
            Ok(answer) => answer.into_inner().head.unwrap_or_default(),
            Err(status) => {
                let error = ServiceError::from(status);
                return if error.code() == Code::NotFound { Ok(None) } else { Err(error) };
            }
        };
        let dataset = head.dataset.unwrap_or_default();
        Ok(Some(DatasetFound {
            id: id(&dataset.id)?,
            namespace: id(&head.namespace_id)?,
            key: dataset.key_column,
            public: dataset.public,
        }))
    }

    /// Makes a dataset for the caller, who becomes its owner.
    pub(super) async fn make(
        &self,
        caller: &Caller,
        namespace: &str,
        name: &str,
    ) -> Result<(), ServiceError> {
        let schema = item_schema::items_schema(Some(&rows::schema()))
            .and_then(|schema| item_schema::schema_to_ipc(&schema))
            .map_err(|error| ServiceError::internal(format!("the schema of imports: {error}")))?;
        let request = CreateDatasetRequest {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            profile: Profile::Items.into(),
            arrow_schema: schema,
            key_column: rows::KEY.to_owned(),
            ..CreateDatasetRequest::default()
        };
        let bearer = self.tokens.for_caller(caller, CATALOG).await?;
        let mut client = DatasetsServiceClient::new(self.catalog.clone());
        client.create_dataset(authorized(request, &bearer)).await?;
        Ok(())
    }

    /// Opens an upload for the files of a dataset's new rows.
    pub(super) async fn begin_upload(
        &self,
        namespace: &str,
        dataset: &str,
    ) -> Result<String, ServiceError> {
        let bearer = self.tokens.for_self(ITEM_STORE).await?;
        let request =
            BeginUploadRequest { namespace: namespace.to_owned(), dataset: dataset.to_owned() };
        let mut client = MediaServiceClient::new(self.items.clone());
        Ok(client.begin_upload(authorized(request, &bearer)).await?.into_inner().upload_id)
    }

    /// Gives an upload up.
    pub(super) async fn abort_upload(&self, upload_id: &str) -> Result<(), ServiceError> {
        let bearer = self.tokens.for_self(ITEM_STORE).await?;
        let request = AbortUploadRequest { upload_id: upload_id.to_owned() };
        let mut client = MediaServiceClient::new(self.items.clone());
        client.abort_upload(authorized(request, &bearer)).await?;
        Ok(())
    }

    /// Sends files; `acked` hears how many are kept.
    pub(super) async fn send_media(
        &self,
        parts: mpsc::Receiver<UploadMediaRequest>,
        acked: impl Fn(i64),
    ) -> Result<(), ServiceError> {
        let bearer = self.tokens.for_self(ITEM_STORE).await?;
        let mut client = MediaServiceClient::new(self.items.clone());
        let request = authorized(ReceiverStream::new(parts), &bearer);
        let mut answers = client.upload_media(request).await?.into_inner();
        let mut count = 0;
        while answers.message().await?.is_some() {
            count += 1;
            acked(count);
        }
        Ok(())
    }

    /// Puts rows in one commit; answers the version.
    pub(super) async fn put(
        &self,
        dataset: &str,
        mode: PutMode,
        upload_id: &str,
        idempotency_key: &str,
        batches: Vec<RecordBatch>,
    ) -> Result<i64, ServiceError> {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let Some(schema) = batches.first().map(RecordBatch::schema) else { return Ok(0) };
        let mut command = json!({
            "dataset": dataset,
            "mode": match mode { PutMode::Upsert => "upsert", PutMode::Delete => "delete" },
            "rows": rows,
            "idempotency_key": idempotency_key,
            "message": "import from a location",
        });
        if !upload_id.is_empty() {
            command["upload_id"] = upload_id.into();
        }
        let messages = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .with_flight_descriptor(Some(FlightDescriptor::new_cmd(command.to_string())))
            .build(stream::iter(batches.into_iter().map(Ok)));
        let bearer = self.tokens.for_self(ITEM_STORE).await?;
        let mut client = FlightServiceClient::new(self.items.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let answer = client.do_put(authorized(until_broken(messages), &bearer)).await?;
        let (mut answers, mut version) = (answer.into_inner(), None);
        while let Some(answer) = answers.message().await? {
            version = version_of(&answer.app_metadata).or(version);
        }
        version.ok_or_else(|| ServiceError::internal("a put was answered without a version"))
    }
}

/// A put whose rows can't be encoded ends short of what its command says, and
/// is refused.
fn until_broken<E>(
    messages: impl Stream<Item = Result<FlightData, E>> + Send + 'static,
) -> impl Stream<Item = FlightData> + Send + 'static
where
    E: Send + 'static,
{
    messages
        .take_while(|message| std::future::ready(message.is_ok()))
        .filter_map(async |message| message.ok())
}

fn version_of(answer: &[u8]) -> Option<i64> {
    let answer: serde_json::Value = serde_json::from_slice(answer).ok()?;
    let version = answer.get("version")?;
    version.as_i64().or_else(|| version.as_str()?.parse().ok())
}

fn id(text: &str) -> Result<Uuid, ServiceError> {
    Uuid::try_parse(text)
        .map_err(|_| ServiceError::internal("the catalog answered an id that is none"))
}
