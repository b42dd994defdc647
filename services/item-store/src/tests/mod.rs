//! The service over its in-memory transport, with neighbours made of memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod analysis;
mod edits;
mod faults;
mod limits;
mod media;
mod ordered;
mod pages;
mod puts;
mod reads;
mod unique;
mod unruly;

use std::sync::Arc;

use access::{GrantReplica, Resource};
use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, Int32Array, ListBuilder, RecordBatch,
    StringArray, StringBuilder,
};
use arrow::compute::concat_batches;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightData, FlightDescriptor, FlightInfo};
use blob_store::BlobStore;
use futures::{StreamExt, TryStreamExt};
use items_api::v1::items_service_client::ItemsServiceClient;
use items_api::v1::media_service_client::MediaServiceClient;
use neighbours::{Catalog, Identity, Who};
use options_api::v1::Level;
use service_channel::Transport;
use service_error::ServiceError;
use sql_store::SqlSettings;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::store::Store;
use crate::{Neighbours, Settings};

/// A running item store and everybody around it.
struct House {
    identity: Identity,
    catalog: Catalog,
    transport: Transport,
    /// Use cases on the same stores, for what no caller asks.
    app: App,
    store: Store,
    grants: GrantReplica,
    end: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Drop for House {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl House {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// Small blocks, so that a few rows are many.
    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::over(change, |blobs| blobs).await
    }

    /// With something between the item store and its objects.
    async fn over(
        change: impl FnOnce(&mut Settings),
        layer: impl FnOnce(BlobStore) -> BlobStore,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (identity, catalog, end) =
            (Identity::new(crate::ITEM_STORE), Catalog::new(), CancellationToken::new());
        catalog.namespace("vision");
        let mut settings = Settings {
            sql: Some(SqlSettings::sqlite(dir.path())),
            object_store_url: format!("file://{}", dir.path().join("objects").display()),
            sweep_seconds: 3_600,
            ..Settings::default()
        };
        settings.blocks.row_group_rows = 2_000;
        change(&mut settings);
        let sql = settings.sql.clone().unwrap();
        let store = Store::open(&sql, &settings.object_store_url).await.unwrap();
        store.migrate().await.unwrap();
        let store = store.with_blobs(layer);
        let neighbours = Neighbours {
            identity: identity.transport(),
            catalog: catalog.transport(),
            tokens: identity.tokens(),
            keys: identity.keys(),
        };
        let (service, app, grants) =
            crate::assemble_over(store.clone(), settings, neighbours, end.clone()).await.unwrap();
        for job in service.jobs {
            tokio::spawn(job.run);
        }
        for readiness in &service.readiness {
            while readiness.check().await.is_err() {
                tokio::task::yield_now().await;
            }
        }
        Self { identity, catalog, transport: service.transport, app, store, grants, end, _dir: dir }
    }

    fn flight(&self) -> FlightServiceClient<Transport> {
        FlightServiceClient::new(self.transport.clone()).max_decoding_message_size(64 << 20)
    }

    fn items(&self) -> ItemsServiceClient<Transport> {
        ItemsServiceClient::new(self.transport.clone()).max_decoding_message_size(64 << 20)
    }

    fn media(&self) -> MediaServiceClient<Transport> {
        MediaServiceClient::new(self.transport.clone())
    }

    /// A request by somebody.
    fn by<T>(&self, who: &Who, message: T) -> tonic::Request<T> {
        self.identity.request(who, message)
    }

    async fn grant(&self, who: &Who, level: Level) {
        let on = Resource::namespace(self.catalog.namespace("vision").uuid());
        let revision = self.identity.grant(who, on, level);
        self.grants.wait_for(revision, std::time::Duration::from_secs(5)).await.unwrap();
    }

    /// Puts batches; answers the JSON of the result.
    async fn put(
        &self,
        who: &Who,
        descriptor: FlightDescriptor,
        batches: &[RecordBatch],
    ) -> Result<serde_json::Value, ServiceError> {
        let messages = messages(descriptor, batches).await;
        self.put_messages(who, futures::stream::iter(messages)).await
    }

    async fn put_messages(
        &self,
        who: &Who,
        messages: impl futures::Stream<Item = FlightData> + Send + 'static,
    ) -> Result<serde_json::Value, ServiceError> {
        let answers = self.flight().do_put(self.by(who, messages)).await?.into_inner();
        let answers: Vec<_> = answers.try_collect().await?;
        Ok(serde_json::from_slice(&answers[0].app_metadata).unwrap())
    }

    async fn info(
        &self,
        who: &Who,
        descriptor: FlightDescriptor,
    ) -> Result<FlightInfo, ServiceError> {
        Ok(self.flight().get_flight_info(self.by(who, descriptor)).await?.into_inner())
    }

    /// The rows of all endpoints in order.
    async fn get(
        &self,
        who: &Who,
        descriptor: FlightDescriptor,
    ) -> Result<RecordBatch, ServiceError> {
        let info = self.info(who, descriptor).await?;
        let schema = Arc::new(info.clone().try_decode_schema().unwrap());
        let mut batches = Vec::new();
        for endpoint in info.endpoint {
            let messages =
                self.flight().do_get(self.by(who, endpoint.ticket.unwrap())).await?.into_inner();
            let messages = messages.map_err(ServiceError::from).try_collect::<Vec<_>>().await?;
            assert!(messages.iter().all(|message| message.data_body.len() < 4 << 20));
            let stream = futures::stream::iter(messages.into_iter().map(Ok));
            let rows = arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(stream);
            batches.extend(rows.try_collect::<Vec<_>>().await.unwrap());
        }
        Ok(concat_batches(&schema, &batches).unwrap())
    }
}

async fn messages(descriptor: FlightDescriptor, batches: &[RecordBatch]) -> Vec<FlightData> {
    let encoder = FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(descriptor))
        .with_schema(batches[0].schema())
        .with_max_flight_data_size(usize::MAX)
        .build(futures::stream::iter(batches.to_vec()).map(Ok));
    encoder.try_collect().await.unwrap()
}

fn path(dataset: &str) -> FlightDescriptor {
    FlightDescriptor::new_path(vec!["vision".into(), dataset.into()])
}

fn command(json: serde_json::Value) -> FlightDescriptor {
    FlightDescriptor::new_cmd(json.to_string())
}

/// Rows with a binary key in scrambled order, and a few types.
fn rows(range: std::ops::Range<u64>) -> RecordBatch {
    let id = |n: u64| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        id[8..].copy_from_slice(&n.to_be_bytes());
        id
    };
    let ids = FixedSizeBinaryArray::try_from_iter(range.clone().map(id)).unwrap();
    let width: Int32Array =
        range.clone().map(|n| (n % 10 != 0).then_some(i32::try_from(n % 4_000).unwrap())).collect();
    let section: StringArray =
        range.clone().map(|n| Some(["games", "web", "math"][(n % 3) as usize])).collect();
    let favorite: BooleanArray = range.clone().map(|n| Some(n % 5 == 0)).collect();
    let mut tags = ListBuilder::new(StringBuilder::new());
    for n in range {
        tags.append_value((0..n % 3).map(|i| Some(format!("t{i}"))));
    }
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(ids) as ArrayRef, false),
        ("width", Arc::new(width), true),
        ("section", Arc::new(section), true),
        ("is_favorite", Arc::new(favorite), true),
        ("tags", Arc::new(tags.finish()), true),
    ])
    .unwrap()
}

fn by_id(batch: &RecordBatch) -> RecordBatch {
    let order = arrow::compute::sort_to_indices(batch.column(0), None, None).unwrap();
    arrow::compute::take_record_batch(batch, &order).unwrap()
}
