//! The whole service behind its guard, as the gateway, another role and a
//! client see it, on every database that this machine offers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod bootstrap;
mod exchange;
mod feed;
mod grants;
mod guarded;
mod projected;
mod users;

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use caller::{Secret, TokenSource, authorized};
use identity_api::v1::audit_service_client::AuditServiceClient;
use identity_api::v1::exchange_service_client::ExchangeServiceClient;
use identity_api::v1::exchange_token_request::Credential;
use identity_api::v1::grants_service_client::GrantsServiceClient;
use identity_api::v1::replica_service_client::ReplicaServiceClient;
use identity_api::v1::tokens_service_client::TokensServiceClient;
use identity_api::v1::users_service_client::UsersServiceClient;
use identity_api::v1::*;
use ids::EventId;
use options_api::v1::{Level, ResourceKind, Role};
use service_channel::Transport;
use sql_store::testing;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status};

use crate::{Built, Platform, Settings, SqlSettings, build};

const GATEWAY_SECRET: &str = "qsvc_the-gateway's-own-secret-in-tests";
const CATALOG_SECRET: &str = "qsvc_the-catalog's-own-secret-in-tests";

/// A running identity.
struct Server {
    transport: Transport,
    admin_claimed: bool,
    shutdown: CancellationToken,
    jobs: Vec<JoinHandle<()>>,
    _end: DropGuard,
}

/// Somebody with a credential: each call exchanges it, as the gateway does.
#[derive(Clone)]
struct Client {
    transport: Transport,
    token: String,
}

fn platform(sql: &SqlSettings, data_dir: &Path) -> Platform {
    let secret = |role: &str, secret: &str| (role.to_owned(), Secret::new(secret));
    Platform {
        sql: sql.clone(),
        data_dir: data_dir.to_owned(),
        admin_token_file: None,
        service_secrets: vec![
            secret("gateway", GATEWAY_SECRET),
            secret("catalog", CATALOG_SECRET),
            secret("item-store", "qsvc_the-item-store's-own-secret-in-tests"),
        ],
    }
}

async fn start(platform: Platform) -> Server {
    start_with(Settings::default(), platform).await
}

async fn start_with(settings: Settings, platform: Platform) -> Server {
    let shutdown = CancellationToken::new();
    let Built { service, admin_claimed, .. } =
        build(settings, platform, shutdown.clone()).await.unwrap();
    for readiness in &service.readiness {
        readiness.check().await.unwrap();
    }
    let jobs = service.jobs.into_iter().map(|job| tokio::spawn(job.run)).collect();
    Server {
        transport: service.transport,
        admin_claimed,
        _end: shutdown.clone().drop_guard(),
        shutdown,
        jobs,
    }
}

/// Runs a case on a new server with each database; the directory is its data
/// dir. The case keeps the server: its jobs end with it.
async fn on_each<F: Future<Output = ()>>(
    case: impl Fn(Server, Client, SqlSettings, std::path::PathBuf) -> F,
) {
    let root = tempfile::tempdir().unwrap();
    for (number, sql) in
        testing::databases(&root.path().join("sql")).await.unwrap().into_iter().enumerate()
    {
        let data_dir = root.path().join(number.to_string());
        let server = start(platform(&sql, &data_dir)).await;
        let admin = server.client(&admin_token(&data_dir));
        case(server, admin, sql, data_dir).await;
    }
}

fn admin_token(data_dir: &Path) -> String {
    std::fs::read_to_string(data_dir.join("admin-token")).unwrap().trim().to_owned()
}

/// Waits until something holds: the bound is what is promised, 1 s.
async fn within_a_second<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(1), "{what}");
        tokio::task::yield_now().await;
    }
}

impl Server {
    fn client(&self, token: &str) -> Client {
        Client { transport: self.transport.clone(), token: token.to_owned() }
    }

    fn exchange(&self) -> ExchangeServiceClient<Transport> {
        ExchangeServiceClient::new(self.transport.clone())
    }

    /// Calls as the catalog itself.
    async fn as_catalog<T>(&self, message: T) -> Request<T> {
        let tokens = TokenSource::new(self.transport.clone(), Secret::new(CATALOG_SECRET));
        authorized(message, &tokens.for_self("identity").await.unwrap())
    }

    fn replica(&self) -> ReplicaServiceClient<Transport> {
        ReplicaServiceClient::new(self.transport.clone())
    }

    async fn put(&self, resource: &Resource, parent: Option<&Resource>, owner: &User) -> i64 {
        let request = PutResourceRequest {
            event_id: EventId::new().to_string(),
            resource: Some(resource.clone()),
            parent: parent.cloned(),
            owner_id: owner.id.clone(),
            deleted: false,
        };
        let request = self.as_catalog(request).await;
        self.replica().put_resource(request).await.unwrap().into_inner().revision
    }

    async fn stop(self) {
        self.shutdown.cancel();
        for job in self.jobs {
            job.await.unwrap();
        }
    }
}

impl Client {
    async fn exchange(&self, audience: &str) -> Result<ExchangeTokenResponse, Status> {
        let request = ExchangeTokenRequest {
            service_secret: GATEWAY_SECRET.into(),
            audience: audience.into(),
            credential: Some(Credential::Bearer(self.token.clone())),
        };
        Ok(ExchangeServiceClient::new(self.transport.clone())
            .exchange_token(request)
            .await?
            .into_inner())
    }

    async fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let jwt = self.exchange("identity").await?.jwt;
        Ok(with_jwt(message, &jwt))
    }

    fn users(&self) -> UsersServiceClient<Transport> {
        UsersServiceClient::new(self.transport.clone())
    }

    fn tokens(&self) -> TokensServiceClient<Transport> {
        TokensServiceClient::new(self.transport.clone())
    }

    fn grants(&self) -> GrantsServiceClient<Transport> {
        GrantsServiceClient::new(self.transport.clone())
    }

    async fn who_am_i(&self) -> Result<WhoAmIResponse, Status> {
        let request = self.request(WhoAmIRequest {}).await?;
        Ok(self.users().who_am_i(request).await?.into_inner())
    }

    async fn create_user(&self, name: &str, role: Role) -> Result<User, Status> {
        let request =
            CreateUserRequest { name: name.into(), role: role as i32, ..Default::default() };
        let request = self.request(request).await?;
        Ok(self.users().create_user(request).await?.into_inner().user.unwrap())
    }

    async fn update_user(&self, request: UpdateUserRequest) -> Result<User, Status> {
        let request = self.request(request).await?;
        Ok(self.users().update_user(request).await?.into_inner().user.unwrap())
    }

    async fn create_token(
        &self,
        request: CreateTokenRequest,
    ) -> Result<CreateTokenResponse, Status> {
        let request = self.request(request).await?;
        Ok(self.tokens().create_token(request).await?.into_inner())
    }

    /// A new user with a token of its own.
    async fn new_user(&self, name: &str, role: Role) -> (User, Client) {
        let user = self.create_user(name, role).await.unwrap();
        let made = self
            .create_token(CreateTokenRequest { user: name.into(), ..Default::default() })
            .await
            .unwrap();
        (user, Client { transport: self.transport.clone(), token: made.secret })
    }

    async fn revoke(&self, id: &str) -> Result<(), Status> {
        let request = self.request(RevokeTokenRequest { id: id.into() }).await?;
        self.tokens().revoke_token(request).await.map(drop)
    }

    async fn give(
        &self,
        user: &str,
        resource: &Resource,
        level: Level,
    ) -> Result<AddGrantResponse, Status> {
        self.add_grant(AddGrantRequest {
            user: user.into(),
            resource: Some(resource.clone()),
            level: level as i32,
            ..Default::default()
        })
        .await
    }

    async fn add_grant(&self, request: AddGrantRequest) -> Result<AddGrantResponse, Status> {
        let request = self.request(request).await?;
        Ok(self.grants().add_grant(request).await?.into_inner())
    }

    async fn remove_grant(&self, id: &str) -> Result<i64, Status> {
        let request = self.request(RemoveGrantRequest { id: id.into() }).await?;
        Ok(self.grants().remove_grant(request).await?.into_inner().revision)
    }

    async fn list_grants(&self, request: ListGrantsRequest) -> Result<ListGrantsResponse, Status> {
        let request = self.request(request).await?;
        Ok(self.grants().list_grants(request).await?.into_inner())
    }

    async fn audit(&self, request: ListAuditEventsRequest) -> Vec<AuditEvent> {
        let request = self.request(request).await.unwrap();
        AuditServiceClient::new(self.transport.clone())
            .list_audit_events(request)
            .await
            .unwrap()
            .into_inner()
            .events
    }
}

fn with_jwt<T>(message: T, jwt: &str) -> Request<T> {
    let mut request = Request::new(message);
    let header: MetadataValue<Ascii> = format!("Bearer {jwt}").parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    request
}

fn dataset() -> Resource {
    Resource { kind: ResourceKind::Dataset as i32, id: uuid::Uuid::now_v7().to_string() }
}

fn namespace() -> Resource {
    Resource { kind: ResourceKind::Namespace as i32, id: uuid::Uuid::now_v7().to_string() }
}

fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> Code {
    result.map_or_else(|status| status.code(), |answer| panic!("it was let in: {answer:?}"))
}

/// The machine-readable reason of a refusal.
fn reason<T: std::fmt::Debug>(result: Result<T, Status>) -> String {
    let status = result.expect_err("it was let in");
    service_error::ServiceError::from_status(&status).reason_text().to_owned()
}
