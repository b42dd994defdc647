//! The service over its in-memory transport, with neighbours in memory,
//! on every database that this machine offers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod artifacts;
mod events;
mod lifecycle;
mod moving;
mod mutations;
mod registry;
mod scans;
mod searching;
mod standing;
mod together;
mod trust;

use std::future::Future;
use std::time::Duration;

use ::access::{GrantReplica, Resource};
use models_api::v1 as wire;
use models_api::v1::artifacts_service_client::ArtifactsServiceClient;
use models_api::v1::events_service_client::EventsServiceClient;
use models_api::v1::lifecycle_service_client::LifecycleServiceClient;
use models_api::v1::lineage_service_client::LineageServiceClient;
use models_api::v1::models_service_client::ModelsServiceClient;
use models_api::v1::versions_service_client::VersionsServiceClient;
use neighbours::{Catalog, Identity, Who};
use options_api::v1::Level;
use service_channel::Transport;
use service_error::ServiceError;
use sql_store::SqlSettings;
use tokio_util::sync::CancellationToken;

use crate::store::Store;
use crate::{Neighbours, Platform, Settings};

/// A running registry and everybody around it.
struct House {
    identity: Identity,
    catalog: Catalog,
    transport: Transport,
    store: Store,
    grants: GrantReplica,
    end: CancellationToken,
    /// The objects lie here.
    objects: tempfile::TempDir,
}

impl Drop for House {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// Runs a case in a house on each database.
async fn in_each_house<F: Future<Output = ()>>(case: impl Fn(House) -> F) {
    let dir = tempfile::tempdir().unwrap();
    for sql in sql_store::testing::databases(dir.path()).await.unwrap() {
        case(House::open(&sql).await).await;
    }
}

impl House {
    async fn open(sql: &SqlSettings) -> Self {
        // Nothing happens by itself.
        Self::open_with(sql, Settings { scan_on_register: false, ..Settings::default() }).await
    }

    async fn open_with(sql: &SqlSettings, settings: Settings) -> Self {
        let (identity, catalog) = (Identity::new(crate::ROLE), Catalog::new());
        let end = CancellationToken::new();
        let tokens = identity.tokens();
        let neighbours = Neighbours {
            identity: identity.transport(),
            catalog: catalog.transport(),
            tokens: tokens.clone(),
            keys: identity.keys(),
        };
        let objects = tempfile::tempdir().unwrap();
        let platform = Platform {
            sql: sql.clone(),
            object_store_url: format!("file://{}", objects.path().display()),
        };
        let settings = Settings { webhooks_allow_private: true, ..settings };
        let service =
            crate::build(settings, platform.clone(), neighbours, end.clone()).await.unwrap();
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
        let store = Store::open(sql, &platform.object_store_url).await.unwrap();
        Self { identity, catalog, transport: service.transport, store, grants, end, objects }
    }

    fn models(&self) -> ModelsServiceClient<Transport> {
        ModelsServiceClient::new(self.transport.clone())
    }

    fn versions(&self) -> VersionsServiceClient<Transport> {
        VersionsServiceClient::new(self.transport.clone())
    }

    fn lifecycle(&self) -> LifecycleServiceClient<Transport> {
        LifecycleServiceClient::new(self.transport.clone())
    }

    fn lineage(&self) -> LineageServiceClient<Transport> {
        LineageServiceClient::new(self.transport.clone())
    }

    fn artifacts(&self) -> ArtifactsServiceClient<Transport> {
        ArtifactsServiceClient::new(self.transport.clone()).max_decoding_message_size(64 << 20)
    }

    fn events(&self) -> EventsServiceClient<Transport> {
        EventsServiceClient::new(self.transport.clone())
    }

    /// A request by somebody.
    fn by<T>(&self, who: &Who, message: T) -> tonic::Request<T> {
        self.identity.request(who, message)
    }

    async fn grant(&self, who: &Who, resource: Resource, level: Level) {
        let revision = self.identity.grant(who, resource, level);
        self.grants.wait_for(revision, Duration::from_secs(5)).await.unwrap();
    }

    /// Somebody who owns the namespace `ml`.
    async fn ana(&self) -> Who {
        let ana = Who::user();
        let id = self.catalog.namespace("ml");
        self.grant(&ana, Resource::namespace(id.uuid()), Level::Owner).await;
        let request = wire::GetStagesRequest { namespace: "ml".into() };
        let known = async || {
            let request = self.by(&ana, request.clone());
            self.lifecycle().get_stages(request).await.is_ok()
        };
        eventually(known).await;
        ana
    }

    async fn model(&self, who: &Who, name: &str) -> wire::Model {
        let request = wire::CreateModelRequest {
            namespace: "ml".into(),
            name: name.into(),
            ..Default::default()
        };
        let made = self.models().create_model(self.by(who, request)).await.unwrap();
        made.into_inner().model.unwrap()
    }

    async fn get_model(&self, who: &Who, name: &str) -> Result<wire::Model, ServiceError> {
        let request = wire::GetModelRequest { namespace: "ml".into(), name: name.into() };
        let found = self.models().get_model(self.by(who, request)).await?;
        Ok(found.into_inner().model.unwrap())
    }

    async fn register(
        &self,
        who: &Who,
        request: wire::CreateVersionRequest,
    ) -> Result<wire::ModelVersion, ServiceError> {
        let made = self.versions().create_version(self.by(who, request)).await?;
        Ok(made.into_inner().version.unwrap())
    }

    async fn version(&self, who: &Who, model: &str) -> wire::ModelVersion {
        self.register(who, new(model)).await.unwrap()
    }

    async fn get_version(
        &self,
        who: &Who,
        model: &str,
        version: &str,
    ) -> Result<wire::ModelVersion, ServiceError> {
        let request = wire::GetVersionRequest {
            namespace: "ml".into(),
            model: model.into(),
            version: version.into(),
            as_of: None,
        };
        let found = self.versions().get_version(self.by(who, request)).await?;
        Ok(found.into_inner().version.unwrap())
    }

    async fn alias(
        &self,
        who: &Who,
        model: &str,
        alias: &str,
        version: &str,
    ) -> Result<wire::Alias, ServiceError> {
        let request = wire::SetAliasRequest {
            namespace: "ml".into(),
            model: model.into(),
            alias: alias.into(),
            version: version.into(),
            ..Default::default()
        };
        let set = self.lifecycle().set_alias(self.by(who, request)).await?;
        Ok(set.into_inner().alias.unwrap())
    }
}

/// A version of a model of namespace `ml`.
fn new(model: &str) -> wire::CreateVersionRequest {
    wire::CreateVersionRequest { namespace: "ml".into(), model: model.into(), ..Default::default() }
}

/// Waits until something holds.
async fn eventually(holds: impl AsyncFn() -> bool) {
    let waiting = async {
        while !holds().await {
            // A loop without rest would take a core from what is waited for.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it to hold in time");
}

#[tokio::test]
async fn migrations_run_up_down_and_up() {
    let dir = tempfile::tempdir().unwrap();
    for sql in sql_store::testing::databases(dir.path()).await.unwrap() {
        crate::migrate(&sql).await.unwrap();
        crate::migrate(&sql).await.unwrap();
        let status = crate::migration_status(&sql).await.unwrap();
        assert!(status.iter().all(|migration| migration.applied));
        crate::store::revert(&sql, None).await.unwrap();
        let status = crate::migration_status(&sql).await.unwrap();
        assert!(status.iter().all(|migration| !migration.applied));
        crate::migrate(&sql).await.unwrap();
    }
}
