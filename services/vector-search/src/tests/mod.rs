//! The service over its in-memory transport, with neighbours made of memory,
//! on every database that this machine offers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod follow;
mod generations;
mod images;
mod points;
mod search;
mod spaces;

use std::collections::HashMap;
use std::path::Path;

use access::{GrantReplica, Resource};
use catalog_api::v1 as cell;
use neighbours::{Catalog, Identity, Who};
use options_api::v1::Level;
use service_channel::Transport;
use service_error::{Code, ServiceError};
use sql_store::SqlSettings;
use tokio_util::sync::CancellationToken;
use vectors_api::v1 as api;
use vectors_api::v1::generations_service_client::GenerationsServiceClient;
use vectors_api::v1::images_service_client::ImagesServiceClient;
use vectors_api::v1::points_service_client::PointsServiceClient;
use vectors_api::v1::search_service_client::SearchServiceClient;
use vectors_api::v1::spaces_service_client::SpacesServiceClient;

use crate::app::App;
use crate::{Neighbours, Settings};

/// A running vector search and everybody around it.
pub struct House {
    pub identity: Identity,
    pub catalog: Catalog,
    pub transport: Transport,
    pub app: App,
    pub grants: GrantReplica,
    pub owner: Who,
    end: CancellationToken,
}

impl Drop for House {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// Runs a test on every database.
pub async fn everywhere(test: impl AsyncFn(SqlSettings, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    for (at, sql) in
        sql_store::testing::databases(dir.path()).await.unwrap().into_iter().enumerate()
    {
        let own = dir.path().join(format!("on-{at}"));
        std::fs::create_dir(&own).unwrap();
        test(sql, &own).await;
    }
}

impl House {
    pub async fn new(sql: SqlSettings, dir: &Path) -> Self {
        Self::with(sql, dir, |_| {}).await
    }

    pub async fn with(sql: SqlSettings, dir: &Path, change: impl FnOnce(&mut Settings)) -> Self {
        let (identity, catalog) = (Identity::new(crate::VECTOR_SEARCH), Catalog::new());
        catalog.namespace("ns");
        Self::beside(sql, dir, change, identity, catalog).await
    }

    /// Another replica, with the same neighbours.
    pub async fn beside(
        sql: SqlSettings,
        dir: &Path,
        change: impl FnOnce(&mut Settings),
        identity: Identity,
        catalog: Catalog,
    ) -> Self {
        let end = CancellationToken::new();
        let mut settings = Settings {
            sql: Some(sql),
            object_store_url: format!("file://{}", dir.join("objects").display()),
            index_dir: Some(dir.join("index")),
            load_wait_ms: 20_000,
            ..Settings::default()
        };
        change(&mut settings);
        let neighbours = Neighbours {
            identity: identity.transport(),
            catalog: catalog.transport(),
            items: catalog.transport(),
            tokens: identity.tokens(),
            keys: identity.keys(),
        };
        let (service, app, grants) =
            crate::assemble(settings, neighbours, end.clone()).await.unwrap();
        for job in service.jobs {
            tokio::spawn(job.run);
        }
        for readiness in &service.readiness {
            while readiness.check().await.is_err() {
                tokio::task::yield_now().await;
            }
        }
        let transport = service.transport;
        let house = Self { identity, catalog, transport, app, grants, owner: Who::user(), end };
        house.grant(&house.owner, Level::Owner).await;
        house
    }

    pub async fn grant(&self, who: &Who, level: Level) {
        let on = Resource::namespace(self.catalog.namespace("ns").uuid());
        let revision = self.identity.grant(who, on, level);
        self.grants.wait_for(revision, std::time::Duration::from_secs(5)).await.unwrap();
    }

    pub fn spaces(&self) -> SpacesServiceClient<Transport> {
        SpacesServiceClient::new(self.transport.clone())
    }

    pub fn points(&self) -> PointsServiceClient<Transport> {
        PointsServiceClient::new(self.transport.clone()).max_decoding_message_size(64 << 20)
    }

    pub fn searches(&self) -> SearchServiceClient<Transport> {
        SearchServiceClient::new(self.transport.clone()).max_decoding_message_size(64 << 20)
    }

    /// A request by somebody.
    pub fn by<T>(&self, who: &Who, message: T) -> tonic::Request<T> {
        self.identity.request(who, message)
    }

    pub fn own<T>(&self, message: T) -> tonic::Request<T> {
        self.by(&self.owner, message)
    }

    pub async fn create(
        &self,
        space: &str,
        dimension: i32,
        metric: api::Metric,
    ) -> Result<api::Space, ServiceError> {
        let request = api::CreateSpaceRequest {
            namespace: "ns".into(),
            space: space.into(),
            dimension,
            metric: metric.into(),
            ..Default::default()
        };
        Ok(self.spaces().create_space(self.own(request)).await?.into_inner().space.unwrap())
    }

    pub async fn upsert(
        &self,
        space: &str,
        points: Vec<api::Point>,
    ) -> Result<api::UpsertPointsResponse, ServiceError> {
        let request = api::UpsertPointsRequest {
            namespace: "ns".into(),
            space: space.into(),
            points,
            ..Default::default()
        };
        Ok(self.points().upsert_points(self.own(request)).await?.into_inner())
    }

    pub async fn delete(&self, space: &str, items: &[&str]) -> api::DeletePointsResponse {
        let request = api::DeletePointsRequest {
            namespace: "ns".into(),
            space: space.into(),
            item_ids: items.iter().map(|item| (*item).to_owned()).collect(),
            ..Default::default()
        };
        self.points().delete_points(self.own(request)).await.unwrap().into_inner()
    }

    pub async fn search(
        &self,
        request: api::SearchRequest,
    ) -> Result<api::SearchResponse, ServiceError> {
        Ok(self.searches().search(self.own(request)).await?.into_inner())
    }

    pub async fn found(&self, request: api::SearchRequest) -> Vec<String> {
        items(&self.search(request).await.unwrap())
    }

    pub async fn stats(&self, space: &str) -> api::IndexStats {
        let request = api::GetSpaceStatsRequest {
            namespace: "ns".into(),
            space: space.into(),
            ..Default::default()
        };
        let answer = self.spaces().get_space_stats(self.own(request)).await.unwrap();
        answer.into_inner().index.unwrap()
    }

    pub async fn rebuild(&self, space: &str) -> Result<api::IndexStats, ServiceError> {
        let request = api::RebuildIndexRequest {
            namespace: "ns".into(),
            space: space.into(),
            ..Default::default()
        };
        Ok(self.spaces().rebuild_index(self.own(request)).await?.into_inner().index.unwrap())
    }
}

pub fn items(answer: &api::SearchResponse) -> Vec<String> {
    answer.hits.iter().map(|hit| hit.item_id.clone()).collect()
}

pub fn vector(values: &[f32]) -> api::Vector {
    api::Vector { values: values.to_vec(), bits: Vec::new() }
}

pub fn text(text: &str) -> cell::Value {
    cell::Value { kind: Some(cell::value::Kind::StringValue(text.into())) }
}

pub fn int(n: i64) -> cell::Value {
    cell::Value { kind: Some(cell::value::Kind::IntValue(n)) }
}

pub fn point(item: &str, values: &[f32], payload: &[(&str, cell::Value)]) -> api::Point {
    let payload: HashMap<String, cell::Value> =
        payload.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    api::Point { item_id: item.into(), vector: Some(vector(values)), payload }
}

pub fn near(space: &str, values: &[f32], k: i32) -> api::SearchRequest {
    asking(space, api::query::Kind::Vector(vector(values)), k)
}

pub fn asking(space: &str, kind: api::query::Kind, k: i32) -> api::SearchRequest {
    api::SearchRequest {
        namespace: "ns".into(),
        space: space.into(),
        query: Some(api::Query { kind: Some(kind) }),
        k: Some(k),
        ..Default::default()
    }
}

pub fn refused<T: std::fmt::Debug>(outcome: Result<T, ServiceError>, code: Code) -> ServiceError {
    let error = outcome.expect_err("it must be refused");
    assert_eq!(error.code(), code, "{error}");
    error
}

/// Vectors that are the same in every run and not all alike.
pub fn spread(count: usize, dimension: usize) -> Vec<Vec<f32>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 16_777_216.0 - 0.5
    };
    (0..count).map(|_| (0..dimension).map(|_| next()).collect()).collect()
}
