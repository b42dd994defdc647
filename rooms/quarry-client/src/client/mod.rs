//! The platform as the command line sees it: one connection, one credential,
//! the services behind it.

pub mod address;
pub mod export;
pub mod flight;
pub mod images;
pub mod import;
pub mod media;
pub mod model_files;
pub mod progress;
pub mod space;
pub mod sql;
pub mod statistics;
pub mod version;

use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use catalog_api::v1::datasets_service_client::DatasetsServiceClient;
use catalog_api::v1::namespaces_service_client::NamespacesServiceClient;
use files_api::v1::agent_service_client::AgentServiceClient;
use files_api::v1::changes_service_client::ChangesServiceClient;
use files_api::v1::files_service_client::FilesServiceClient;
use files_api::v1::imports_service_client::ImportsServiceClient;
use files_api::v1::locations_service_client::LocationsServiceClient;
use files_api::v1::marks_service_client::MarksServiceClient;
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
use service_channel::{Transport, resending};
use service_error::ServiceError;
use settings::Secret;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig};
use tonic::{Request, Status};
use vectors_api::v1::generations_service_client::GenerationsServiceClient;
use vectors_api::v1::images_service_client::ImagesServiceClient;
use vectors_api::v1::loading_service_client::LoadingServiceClient;
use vectors_api::v1::points_service_client::PointsServiceClient;
use vectors_api::v1::search_service_client::SearchServiceClient;
use vectors_api::v1::spaces_service_client::SpacesServiceClient;

use crate::failure::Failure;

/// The largest message that a client takes, in bytes; the server's own limit.
pub const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// A connection with its credential, as the generated clients take it.
pub type Authorized = InterceptedService<Transport, Bearer>;

/// Puts the token into each call.
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

/// A platform. Connects when the first call is made; clones share the
/// connections.
#[derive(Clone)]
pub struct Client {
    service: Authorized,
}

impl Client {
    /// A platform by its URL (`http://` or `https://`) and a token.
    ///
    /// # Errors
    /// The URL or the token cannot be sent.
    pub fn new(url: &str, token: Option<&Secret>) -> Result<Self, Failure> {
        Self::waiting(url, token, Duration::ZERO)
    }

    /// The same; a platform that takes no connections is waited for.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn waiting(url: &str, token: Option<&Secret>, wait: Duration) -> Result<Self, Failure> {
        let transport = transport(url, wait)?;
        let bearer = token
            .map(|token| format!("Bearer {}", token.expose()).parse::<MetadataValue<Ascii>>())
            .transpose()
            .map_err(|_| {
                ServiceError::unauthenticated("the token holds characters that no token has")
            })?
            .map(|mut value| {
                value.set_sensitive(true);
                value
            });
        Ok(Self { service: InterceptedService::new(transport, Bearer(bearer)) })
    }

    /// `quarry.catalog.v1.NamespacesService`.
    pub fn namespaces(&self) -> NamespacesServiceClient<Authorized> {
        NamespacesServiceClient::new(self.service.clone())
    }

    /// `quarry.catalog.v1.DatasetsService`.
    pub fn datasets(&self) -> DatasetsServiceClient<Authorized> {
        DatasetsServiceClient::new(self.service.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.items.v1.ItemsService`.
    pub fn items(&self) -> ItemsServiceClient<Authorized> {
        ItemsServiceClient::new(self.service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.items.v1.AnalysisService`.
    pub fn analysis(&self) -> AnalysisServiceClient<Authorized> {
        AnalysisServiceClient::new(self.service.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.items.v1.EditsService`.
    pub fn edits(&self) -> EditsServiceClient<Authorized> {
        EditsServiceClient::new(self.service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.items.v1.FiltersService`.
    pub fn filters(&self) -> FiltersServiceClient<Authorized> {
        FiltersServiceClient::new(self.service.clone())
    }

    /// `quarry.items.v1.MaintenanceService`.
    pub fn maintenance(&self) -> MaintenanceServiceClient<Authorized> {
        MaintenanceServiceClient::new(self.service.clone())
    }

    /// `quarry.items.v1.MediaService`.
    pub fn media(&self) -> MediaServiceClient<Authorized> {
        MediaServiceClient::new(self.service.clone())
    }

    /// `quarry.vectors.v1.SpacesService`.
    pub fn spaces(&self) -> SpacesServiceClient<Authorized> {
        SpacesServiceClient::new(self.service.clone())
    }

    /// `quarry.vectors.v1.LoadingService`.
    pub fn loading(&self) -> LoadingServiceClient<Authorized> {
        LoadingServiceClient::new(self.service.clone())
    }

    /// `quarry.vectors.v1.PointsService`.
    pub fn points(&self) -> PointsServiceClient<Authorized> {
        PointsServiceClient::new(self.service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.vectors.v1.ImagesService`.
    pub fn images(&self) -> ImagesServiceClient<Authorized> {
        ImagesServiceClient::new(self.service.clone())
    }

    /// `quarry.vectors.v1.GenerationsService`.
    pub fn generations(&self) -> GenerationsServiceClient<Authorized> {
        GenerationsServiceClient::new(self.service.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.vectors.v1.SearchService`.
    pub fn search(&self) -> SearchServiceClient<Authorized> {
        SearchServiceClient::new(self.service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.models.v1.ModelsService`.
    pub fn models(&self) -> ModelsServiceClient<Authorized> {
        ModelsServiceClient::new(self.service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.models.v1.VersionsService`.
    pub fn model_versions(&self) -> VersionsServiceClient<Authorized> {
        VersionsServiceClient::new(self.service.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.models.v1.LifecycleService`.
    pub fn model_lifecycle(&self) -> LifecycleServiceClient<Authorized> {
        LifecycleServiceClient::new(self.service.clone())
    }

    /// `quarry.models.v1.TrustService`.
    pub fn model_trust(&self) -> TrustServiceClient<Authorized> {
        TrustServiceClient::new(self.service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.models.v1.ArtifactsService`.
    pub fn model_files(&self) -> ArtifactsServiceClient<Authorized> {
        ArtifactsServiceClient::new(self.service.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.identity.v1.UsersService`.
    pub fn users(&self) -> UsersServiceClient<Authorized> {
        UsersServiceClient::new(self.service.clone())
    }

    /// `quarry.identity.v1.TokensService`.
    pub fn tokens(&self) -> TokensServiceClient<Authorized> {
        TokensServiceClient::new(self.service.clone())
    }

    /// `quarry.identity.v1.GrantsService`.
    pub fn grants(&self) -> GrantsServiceClient<Authorized> {
        GrantsServiceClient::new(self.service.clone())
    }

    /// `quarry.files.v1.LocationsService`.
    pub fn locations(&self) -> LocationsServiceClient<Authorized> {
        LocationsServiceClient::new(self.service.clone())
    }

    /// `quarry.files.v1.FilesService`.
    pub fn files(&self) -> FilesServiceClient<Authorized> {
        FilesServiceClient::new(self.service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.files.v1.MarksService`.
    pub fn marks(&self) -> MarksServiceClient<Authorized> {
        MarksServiceClient::new(self.service.clone())
    }

    /// `quarry.files.v1.ImportsService`.
    pub fn imports(&self) -> ImportsServiceClient<Authorized> {
        ImportsServiceClient::new(self.service.clone())
    }

    /// `quarry.files.v1.ChangesService`.
    pub fn changes(&self) -> ChangesServiceClient<Authorized> {
        ChangesServiceClient::new(self.service.clone())
    }

    /// `quarry.files.v1.AgentService`.
    pub fn agent(&self) -> AgentServiceClient<Authorized> {
        AgentServiceClient::new(self.service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `quarry.ops.v1.Jobs`.
    pub fn jobs(&self) -> JobsClient<Authorized> {
        JobsClient::new(self.service.clone())
    }

    /// `quarry.ops.v1.Ops`.
    pub fn ops(&self) -> OpsClient<Authorized> {
        OpsClient::new(self.service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Arrow Flight.
    pub fn flight(&self) -> FlightServiceClient<Authorized> {
        FlightServiceClient::new(self.service.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

fn transport(url: &str, wait: Duration) -> Result<Transport, Failure> {
    if url.starts_with("https://") {
        return tls(url);
    }
    service_channel::remote_within(url, wait).map_err(|_| {
        Failure::usage(format!(
            "--server: {url:?} is no address; write http://host:port or https://host:port"
        ))
    })
}

fn tls(url: &str) -> Result<Transport, Failure> {
    let wrong = |err: tonic::transport::Error| Failure::usage(format!("--server: {url:?}: {err}"));
    let endpoint = Channel::from_shared(url.to_owned())
        .map_err(|err| Failure::usage(format!("--server: {url:?}: {err}")))?
        .tls_config(ClientTlsConfig::new().with_native_roots())
        .map_err(wrong)?
        .tcp_nodelay(true)
        .http2_adaptive_window(true);
    Ok(resending(endpoint.connect_lazy()))
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
