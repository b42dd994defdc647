//! A caller of the platform: gRPC clients and plain HTTP with one token.

use std::net::SocketAddr;

use arrow_flight::flight_service_client::FlightServiceClient;
use catalog_api::v1::datasets_service_client::DatasetsServiceClient;
use catalog_api::v1::namespaces_service_client::NamespacesServiceClient;
use files_api::v1::agent_service_client::AgentServiceClient;
use files_api::v1::changes_service_client::ChangesServiceClient;
use files_api::v1::files_service_client::FilesServiceClient;
use files_api::v1::imports_service_client::ImportsServiceClient;
use files_api::v1::locations_service_client::LocationsServiceClient;
use files_api::v1::marks_service_client::MarksServiceClient;
use identity_api::v1::audit_service_client::AuditServiceClient;
use identity_api::v1::grants_service_client::GrantsServiceClient;
use identity_api::v1::tokens_service_client::TokensServiceClient;
use identity_api::v1::users_service_client::UsersServiceClient;
use items_api::v1::analysis_service_client::AnalysisServiceClient;
use items_api::v1::edits_service_client::EditsServiceClient;
use items_api::v1::filters_service_client::FiltersServiceClient;
use items_api::v1::items_service_client::ItemsServiceClient;
use items_api::v1::maintenance_service_client::MaintenanceServiceClient;
use items_api::v1::media_service_client::MediaServiceClient;
use models_api::v1::artifacts_service_client::ArtifactsServiceClient;
use models_api::v1::lifecycle_service_client::LifecycleServiceClient;
use models_api::v1::models_service_client::ModelsServiceClient;
use models_api::v1::trust_service_client::TrustServiceClient;
use models_api::v1::versions_service_client::VersionsServiceClient;
use ops_api::v1::jobs_client::JobsClient;
use ops_api::v1::ops_client::OpsClient;
use reqwest::Method;
use serde_json::Value;
use service_channel::Transport;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};
use vectors_api::v1::points_service_client::PointsServiceClient;
use vectors_api::v1::search_service_client::SearchServiceClient;
use vectors_api::v1::spaces_service_client::SpacesServiceClient;

/// A connection that sends the session's token with every call.
pub type Authed = InterceptedService<Transport, Bearer>;

const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// One caller. Cheap to clone; clones share a connection.
#[derive(Clone)]
pub struct Session {
    channel: Transport,
    bearer: Bearer,
    url: String,
    http: reqwest::Client,
}

/// Adds `authorization: Bearer …`, or nothing.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// What plain HTTP answered.
#[derive(Debug)]
pub struct Answer {
    /// E.g. 404.
    pub status: u16,
    /// `content-type`, without parameters.
    pub content_type: String,
    /// The body, as it came.
    pub text: String,
}

impl Answer {
    /// The body as JSON; ends the test if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|err| panic!("{err}: {self:?}"))
    }
}

impl Session {
    /// Connects when first used.
    pub fn new(address: SocketAddr, token: Option<&str>) -> Self {
        let wait = crate::doors::patience();
        let url = format!("http://{address}");
        let bearer = token.map(|token| format!("Bearer {token}").parse().expect("ASCII"));
        Self {
            channel: crate::doors::connect(&url, wait),
            bearer: Bearer(bearer),
            url,
            http: reqwest::Client::new(),
        }
    }

    /// The same caller on a connection of its own.
    pub fn apart(&self) -> Self {
        let wait = crate::doors::patience();
        Self { channel: crate::doors::connect(&self.url, wait), ..self.clone() }
    }

    /// The connection with the token, for clients that have no method here.
    pub fn authed(&self) -> Authed {
        InterceptedService::new(self.channel.clone(), self.bearer.clone())
    }

    /// `quarry.identity.v1.UsersService`.
    pub fn users(&self) -> UsersServiceClient<Authed> {
        UsersServiceClient::new(self.authed())
    }

    /// `quarry.identity.v1.TokensService`.
    pub fn tokens(&self) -> TokensServiceClient<Authed> {
        TokensServiceClient::new(self.authed())
    }

    /// `quarry.identity.v1.GrantsService`.
    pub fn grants(&self) -> GrantsServiceClient<Authed> {
        GrantsServiceClient::new(self.authed())
    }

    /// `quarry.identity.v1.AuditService`.
    pub fn audit(&self) -> AuditServiceClient<Authed> {
        AuditServiceClient::new(self.authed())
    }

    /// `quarry.catalog.v1.NamespacesService`.
    pub fn namespaces(&self) -> NamespacesServiceClient<Authed> {
        NamespacesServiceClient::new(self.authed())
    }

    /// `quarry.catalog.v1.DatasetsService`.
    pub fn datasets(&self) -> DatasetsServiceClient<Authed> {
        DatasetsServiceClient::new(self.authed())
    }

    /// `quarry.items.v1.EditsService`.
    pub fn edits(&self) -> EditsServiceClient<Authed> {
        EditsServiceClient::new(self.authed())
    }

    /// `quarry.items.v1.FiltersService`.
    pub fn filters(&self) -> FiltersServiceClient<Authed> {
        FiltersServiceClient::new(self.authed())
    }

    /// `quarry.items.v1.MaintenanceService`.
    pub fn maintenance(&self) -> MaintenanceServiceClient<Authed> {
        MaintenanceServiceClient::new(self.authed())
    }

    /// `quarry.items.v1.ItemsService`.
    pub fn items(&self) -> ItemsServiceClient<Authed> {
        ItemsServiceClient::new(self.authed()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.vectors.v1.SpacesService`.
    pub fn spaces(&self) -> SpacesServiceClient<Authed> {
        SpacesServiceClient::new(self.authed())
    }

    /// `quarry.vectors.v1.PointsService`.
    pub fn points(&self) -> PointsServiceClient<Authed> {
        PointsServiceClient::new(self.authed()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.vectors.v1.SearchService`.
    pub fn search(&self) -> SearchServiceClient<Authed> {
        SearchServiceClient::new(self.authed()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.items.v1.AnalysisService`.
    pub fn analysis(&self) -> AnalysisServiceClient<Authed> {
        AnalysisServiceClient::new(self.authed()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.items.v1.MediaService`.
    pub fn media(&self) -> MediaServiceClient<Authed> {
        MediaServiceClient::new(self.authed())
    }

    /// `quarry.files.v1.LocationsService`.
    pub fn locations(&self) -> LocationsServiceClient<Authed> {
        LocationsServiceClient::new(self.authed())
    }

    /// `quarry.files.v1.FilesService`.
    pub fn files(&self) -> FilesServiceClient<Authed> {
        FilesServiceClient::new(self.authed()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.files.v1.MarksService`.
    pub fn marks(&self) -> MarksServiceClient<Authed> {
        MarksServiceClient::new(self.authed())
    }

    /// `quarry.files.v1.ImportsService`.
    pub fn imports(&self) -> ImportsServiceClient<Authed> {
        ImportsServiceClient::new(self.authed())
    }

    /// `quarry.files.v1.ChangesService`.
    pub fn changes(&self) -> ChangesServiceClient<Authed> {
        ChangesServiceClient::new(self.authed())
    }

    /// `quarry.files.v1.AgentService`.
    pub fn agent(&self) -> AgentServiceClient<Authed> {
        AgentServiceClient::new(self.authed())
    }

    /// `quarry.ops.v1.Jobs`.
    pub fn jobs(&self) -> JobsClient<Authed> {
        JobsClient::new(self.authed())
    }

    /// `quarry.ops.v1.Ops`.
    pub fn ops(&self) -> OpsClient<Authed> {
        OpsClient::new(self.authed()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.models.v1.ModelsService`.
    pub fn models(&self) -> ModelsServiceClient<Authed> {
        ModelsServiceClient::new(self.authed())
    }

    /// `quarry.models.v1.VersionsService`.
    pub fn model_versions(&self) -> VersionsServiceClient<Authed> {
        VersionsServiceClient::new(self.authed()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.models.v1.LifecycleService`.
    pub fn model_lifecycle(&self) -> LifecycleServiceClient<Authed> {
        LifecycleServiceClient::new(self.authed())
    }

    /// `quarry.models.v1.TrustService`.
    pub fn model_trust(&self) -> TrustServiceClient<Authed> {
        TrustServiceClient::new(self.authed()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.models.v1.ArtifactsService`.
    pub fn model_files(&self) -> ArtifactsServiceClient<Authed> {
        ArtifactsServiceClient::new(self.authed()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Arrow Flight.
    pub fn flight(&self) -> FlightServiceClient<Authed> {
        FlightServiceClient::new(self.authed())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `GET` of a path.
    pub async fn get(&self, path: &str) -> Answer {
        self.http(Method::GET, path, None).await
    }

    /// `GET` of a path of a door that may not be open yet: nothing if it is closed.
    pub async fn try_get(&self, path: &str) -> Option<Answer> {
        let response = self.http.get(format!("{}{path}", self.url)).send().await.ok()?;
        let status = response.status().as_u16();
        Some(Answer { status, content_type: String::new(), text: response.text().await.ok()? })
    }

    /// `POST` of a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.http(Method::POST, path, Some(body.to_string())).await
    }

    /// `PATCH` with a JSON body.
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.http(Method::PATCH, path, Some(body.to_string())).await
    }

    /// `DELETE` of a path.
    pub async fn delete(&self, path: &str) -> Answer {
        self.http(Method::DELETE, path, None).await
    }

    /// Any method, with a body that need not be JSON.
    pub async fn http(&self, method: Method, path: &str, body: Option<String>) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(value) = &self.bearer.0 {
            request = request.header("authorization", value.to_str().expect("ASCII"));
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        answered(request, path).await
    }
}

/// Any address without a token, e.g. a signed one; a range of it if one is given.
pub async fn fetch(method: Method, url: &str, range: Option<&str>, body: Option<String>) -> Answer {
    let mut request = reqwest::Client::new().request(method, url);
    if let Some(range) = range {
        request = request.header("range", range);
    }
    if let Some(body) = body {
        request = request.body(body);
    }
    answered(request, url).await
}

/// A request with headers of its own: status, headers and bytes of the answer.
pub async fn fetch_bytes(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
) -> (u16, reqwest::header::HeaderMap, Vec<u8>) {
    let mut request = reqwest::Client::new().request(method, url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = crate::doors::send(request).await.unwrap_or_else(|err| panic!("{url}: {err}"));
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let bytes = answer.bytes().await.unwrap_or_else(|err| panic!("{url}: {err}"));
    (status, headers, bytes.to_vec())
}

async fn answered(request: reqwest::RequestBuilder, what: &str) -> Answer {
    let response = crate::doors::send(request).await;
    let response = response.unwrap_or_else(|err| panic!("{what}: {err}"));
    let content_type = response.headers().get("content-type");
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    Answer {
        status: response.status().as_u16(),
        content_type: content_type.split(';').next().unwrap_or_default().to_owned(),
        text: response.text().await.unwrap_or_else(|err| panic!("{what}: {err}")),
    }
}
