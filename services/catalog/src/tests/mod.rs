//! The service over its in-memory transport, with an identity in memory,
//! on every database that this machine offers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod access;
mod commits;
mod datasets;
mod garbage;
mod manifest;
mod merges;
mod migrations;
mod uploads;
mod visibility;

use std::future::Future;
use std::time::Duration;

use ::access::{GrantReplica, Resource};
use catalog_api::v1 as wire;
use catalog_api::v1::datasets_service_client::DatasetsServiceClient;
use catalog_api::v1::garbage_service_client::GarbageServiceClient;
use catalog_api::v1::manifest_service_client::ManifestServiceClient;
use catalog_api::v1::namespaces_service_client::NamespacesServiceClient;
use neighbours::{Identity, Who};
use options_api::v1::Level;
use service_channel::Transport;
use service_error::ServiceError;
use sql_store::SqlSettings;
use tokio_util::sync::CancellationToken;

use crate::store::Store;
use crate::{Neighbours, Settings};

/// The role that calls for users.
const ITEM_STORE: &str = "item-store";

/// A running catalog and everybody around it.
struct House {
    identity: Identity,
    transport: Transport,
    /// Its database, to look at and to age.
    store: Store,
    grants: GrantReplica,
    end: CancellationToken,
}

impl Drop for House {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// Runs a case in a house on each database.
async fn in_each_house<F: Future<Output = ()>>(case: impl Fn(House) -> F) {
    in_each_house_with(Settings::default(), case).await;
}

async fn in_each_house_with<F: Future<Output = ()>>(settings: Settings, case: impl Fn(House) -> F) {
    let dir = tempfile::tempdir().unwrap();
    for sql in sql_store::testing::databases(dir.path()).await.unwrap() {
        case(House::open(settings.clone(), &sql).await).await;
    }
}

impl House {
    async fn open(settings: Settings, sql: &SqlSettings) -> Self {
        let identity = Identity::new(crate::ROLE);
        let end = CancellationToken::new();
        let (tokens, keys) = (identity.tokens(), identity.keys());
        let neighbours =
            Neighbours { identity: identity.transport(), tokens: tokens.clone(), keys };
        let service = crate::build(settings, sql, neighbours, end.clone()).await.unwrap();
        // A replica of the test's own tells when grants have arrived.
        let (grants, watching) = GrantReplica::new(identity.transport(), tokens, end.clone());
        for job in service.jobs.into_iter().chain(watching) {
            tokio::spawn(job.run);
        }
        for readiness in service.readiness.iter().chain([&grants.readiness()]) {
            while readiness.check().await.is_err() {
                tokio::task::yield_now().await;
            }
        }
        let store = Store::open(sql).await.unwrap();
        Self { identity, transport: service.transport, store, grants, end }
    }

    fn namespaces(&self) -> NamespacesServiceClient<Transport> {
        NamespacesServiceClient::new(self.transport.clone())
    }

    fn datasets(&self) -> DatasetsServiceClient<Transport> {
        DatasetsServiceClient::new(self.transport.clone())
    }

    fn garbage(&self) -> GarbageServiceClient<Transport> {
        GarbageServiceClient::new(self.transport.clone())
    }

    fn manifest(&self) -> ManifestServiceClient<Transport> {
        ManifestServiceClient::new(self.transport.clone())
    }

    /// A request by somebody.
    fn by<T>(&self, who: &Who, message: T) -> tonic::Request<T> {
        self.identity.request(who, message)
    }

    async fn grant(&self, who: &Who, resource: Resource, level: Level) {
        let revision = self.identity.grant(who, resource, level);
        self.grants.wait_for(revision, Duration::from_secs(5)).await.unwrap();
    }

    async fn namespace(&self, who: &Who, name: &str) -> wire::Namespace {
        let request = wire::CreateNamespaceRequest { name: name.into(), ..Default::default() };
        let made = self.namespaces().create_namespace(self.by(who, request)).await.unwrap();
        made.into_inner().namespace.unwrap()
    }

    async fn namespaces_of(&self, who: &Who) -> Result<Vec<String>, ServiceError> {
        let request = self.by(who, wire::ListNamespacesRequest::default());
        let listed = self.namespaces().list_namespaces(request).await?.into_inner();
        Ok(listed.namespaces.into_iter().map(|namespace| namespace.name).collect())
    }

    async fn dataset(&self, who: &Who, namespace: &str, name: &str) -> wire::Dataset {
        self.create(
            who,
            wire::CreateDatasetRequest {
                namespace: namespace.into(),
                name: name.into(),
                arrow_schema: table_schema(),
                ..Default::default()
            },
        )
        .await
        .unwrap()
    }

    async fn create(
        &self,
        who: &Who,
        request: wire::CreateDatasetRequest,
    ) -> Result<wire::Dataset, ServiceError> {
        let made = self.datasets().create_dataset(self.by(who, request)).await?;
        Ok(made.into_inner().dataset.unwrap())
    }

    async fn get(
        &self,
        who: &Who,
        namespace: &str,
        name: &str,
    ) -> Result<wire::Dataset, ServiceError> {
        let request = wire::GetDatasetRequest { namespace: namespace.into(), name: name.into() };
        let found = self.datasets().get_dataset(self.by(who, request)).await?;
        Ok(found.into_inner().dataset.unwrap())
    }

    /// A call that only the item store makes, for a user.
    async fn head(
        &self,
        who: &Who,
        dataset: &str,
        at: Option<i64>,
    ) -> Result<wire::Head, ServiceError> {
        let request = wire::GetHeadRequest {
            dataset: Some(by_id(dataset)),
            at: at.map(wire::get_head_request::At::Snapshot),
        };
        let head = self.manifest().get_head(self.by(&who.via(ITEM_STORE), request)).await?;
        Ok(head.into_inner().head.unwrap())
    }

    async fn open_upload(
        &self,
        who: &Who,
        dataset: wire::DatasetRef,
    ) -> Result<wire::OpenUploadResponse, ServiceError> {
        let request = wire::OpenUploadRequest { dataset: Some(dataset) };
        Ok(self.manifest().open_upload(self.by(&who.via(ITEM_STORE), request)).await?.into_inner())
    }

    async fn commit(
        &self,
        who: &Who,
        request: wire::CommitVersionRequest,
    ) -> Result<wire::CommitVersionResponse, ServiceError> {
        let request = self.by(&who.via(ITEM_STORE), request);
        Ok(self.manifest().commit_version(request).await?.into_inner())
    }

    /// Opens an upload and commits blocks of so many rows each.
    async fn put(
        &self,
        who: &Who,
        dataset: &str,
        put: Put<'_>,
    ) -> Result<wire::CommitVersionResponse, ServiceError> {
        let upload = self.open_upload(who, by_id(dataset)).await?;
        let head = upload.head.unwrap().snapshot;
        self.commit(who, put.request(&upload.upload_id, head)).await
    }

    /// All blocks of a snapshot, read in small pages.
    async fn blocks(
        &self,
        who: &Who,
        dataset: &str,
        snapshot: i64,
        added_after: i64,
    ) -> Vec<wire::Block> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = wire::ListBlocksRequest {
                dataset_id: dataset.into(),
                snapshot,
                added_after,
                with_statistics: true,
                page_size: 3,
                page_token,
            };
            let page =
                self.manifest().list_blocks(self.by(&who.via(ITEM_STORE), request)).await.unwrap();
            let page = page.into_inner();
            all.extend(page.blocks);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return all;
            }
        }
    }
}

/// What a test commits.
#[derive(Clone)]
struct Put<'a> {
    mode: wire::CommitMode,
    rows: &'a [i64],
    base: Option<i64>,
    keys_checked: bool,
    key: &'a str,
    body: &'a [u8],
}

impl<'a> Put<'a> {
    fn append(rows: &'a [i64]) -> Self {
        Self {
            mode: wire::CommitMode::Append,
            rows,
            base: None,
            keys_checked: false,
            key: "",
            body: b"",
        }
    }

    fn overwrite(rows: &'a [i64]) -> Self {
        Self { mode: wire::CommitMode::Overwrite, ..Self::append(rows) }
    }

    fn request(&self, upload: &str, head: i64) -> wire::CommitVersionRequest {
        wire::CommitVersionRequest {
            upload_id: upload.into(),
            mode: self.mode.into(),
            create: None,
            blocks: self.rows.iter().map(|rows| block(upload, *rows)).collect(),
            base_snapshot: self.base.unwrap_or(head),
            keys_checked: self.keys_checked,
            message: "test".into(),
            idempotency_key: self.key.into(),
            body_hash: self.body.to_vec(),
            ..Default::default()
        }
    }
}

/// A block of column `n` with the values from 0 to `rows`.
fn block(upload: &str, rows: i64) -> wire::Block {
    let id = ids::BlockId::new().to_string();
    let int = |value| Some(wire::Value { kind: Some(wire::value::Kind::IntValue(value)) });
    wire::Block {
        object_key: format!("blocks/{upload}/{id}.parquet"),
        id,
        row_count: rows,
        byte_count: rows * 100 + 500,
        footer_length: 500,
        content_hash: vec![7; 32],
        columns: vec![wire::ColumnStatistics {
            column: "n".into(),
            null_count: 0,
            min: int(0),
            max: int(rows - 1),
            exact: true,
        }],
        ..Default::default()
    }
}

fn table_schema() -> Vec<u8> {
    use arrow::datatypes::{DataType, Field, Schema};
    let fields =
        vec![Field::new("id", DataType::Utf8, false), Field::new("n", DataType::Int64, true)];
    item_schema::schema_to_ipc(&Schema::new(fields)).unwrap()
}

fn by_id(id: &str) -> wire::DatasetRef {
    wire::DatasetRef { dataset_id: id.into(), ..Default::default() }
}

fn by_name(namespace: &str, name: &str) -> wire::DatasetRef {
    wire::DatasetRef { namespace: namespace.into(), name: name.into(), ..Default::default() }
}
