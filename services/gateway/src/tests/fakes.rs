//! Roles that answer by what they are asked.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::http::HeaderMap;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, Result as FlightResult, SchemaResult,
    Ticket,
};
use catalog_api::v1 as catalog;
use catalog_api::v1::namespaces_service_server::NamespacesService;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use identity_api::v1 as identity;
use identity_api::v1::exchange_service_server::ExchangeService;
use items_api::http_body::HttpBody;
use items_api::v1 as items;
use items_api::v1::media_service_server::MediaService;
use service_error::ServiceError;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming};

type Answer<T> = Result<Response<T>, Status>;
type Items<T> = BoxStream<'static, Result<T, Status>>;

/// What the fakes saw.
#[derive(Clone, Default)]
pub struct Seen {
    pub headers: Arc<Mutex<HeaderMap>>,
    /// Fires when a stream that never ends is dropped.
    pub dropped: CancellationToken,
}

impl Seen {
    fn note<T>(&self, request: &Request<T>) {
        *self.headers.lock().unwrap() = request.metadata().clone().into_headers();
    }
}

fn unknown_token() -> Status {
    ServiceError::unauthenticated("the token is unknown").reason("TOKEN_UNKNOWN").into()
}

fn in_a_minute() -> prost_types::Timestamp {
    let then = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(60);
    prost_types::Timestamp { seconds: i64::try_from(then.as_secs()).unwrap(), nanos: 0 }
}

/// Knows one token, `qpat_good`, of `ada`.
#[derive(Clone)]
pub struct Identity;

#[tonic::async_trait]
impl ExchangeService for Identity {
    async fn exchange_token(
        &self,
        request: Request<identity::ExchangeTokenRequest>,
    ) -> Answer<identity::ExchangeTokenResponse> {
        use identity::exchange_token_request::Credential;
        let request = request.into_inner();
        let good = match &request.credential {
            Some(Credential::Bearer(token)) => token == "qpat_good",
            Some(Credential::Basic(basic)) => basic.name == "ada" && basic.password == "qpat_good",
            None => false,
        };
        if !good || request.service_secret != "qsvc_gateway" {
            return Err(unknown_token());
        }
        Ok(Response::new(identity::ExchangeTokenResponse {
            jwt: format!("jwt-for-{}", request.audience),
            expire_time: Some(in_a_minute()),
            ..identity::ExchangeTokenResponse::default()
        }))
    }

    async fn issue_token(
        &self,
        request: Request<identity::IssueTokenRequest>,
    ) -> Answer<identity::IssueTokenResponse> {
        let request = request.into_inner();
        if request.service_secret != "qsvc_gateway" {
            return Err(unknown_token());
        }
        let jwt = format!("jwt-for-{}", request.audience);
        Ok(Response::new(identity::IssueTokenResponse { jwt, expire_time: Some(in_a_minute()) }))
    }

    async fn get_keys(
        &self,
        _: Request<identity::GetKeysRequest>,
    ) -> Answer<identity::GetKeysResponse> {
        Ok(Response::new(identity::GetKeysResponse {
            jwks_json: r#"{"keys":[{"kid":"k1"}]}"#.to_owned(),
            ..identity::GetKeysResponse::default()
        }))
    }
}

/// Answers by the name it is asked for.
#[derive(Clone)]
pub struct Catalog(pub Seen);

#[tonic::async_trait]
impl NamespacesService for Catalog {
    async fn create_namespace(
        &self,
        request: Request<catalog::CreateNamespaceRequest>,
    ) -> Answer<catalog::CreateNamespaceResponse> {
        self.0.note(&request);
        let request = request.into_inner();
        let namespace = catalog::Namespace {
            name: request.name,
            description: request.description,
            ..catalog::Namespace::default()
        };
        Ok(Response::new(catalog::CreateNamespaceResponse { namespace: Some(namespace) }))
    }

    async fn get_namespace(
        &self,
        request: Request<catalog::GetNamespaceRequest>,
    ) -> Answer<catalog::GetNamespaceResponse> {
        self.0.note(&request);
        let name = request.into_inner().name;
        match name.as_str() {
            "missing" => Err(ServiceError::not_found("namespace", name).into()),
            "panic" => panic!("a defect of the role"),
            "slow" => std::future::pending().await,
            _ => {
                let namespace = catalog::Namespace { name, ..catalog::Namespace::default() };
                Ok(Response::new(catalog::GetNamespaceResponse { namespace: Some(namespace) }))
            }
        }
    }

    async fn list_namespaces(
        &self,
        request: Request<catalog::ListNamespacesRequest>,
    ) -> Answer<catalog::ListNamespacesResponse> {
        self.0.note(&request);
        Ok(Response::new(catalog::ListNamespacesResponse::default()))
    }

    async fn delete_namespace(
        &self,
        _: Request<catalog::DeleteNamespaceRequest>,
    ) -> Answer<catalog::DeleteNamespaceResponse> {
        Ok(Response::new(catalog::DeleteNamespaceResponse {}))
    }
}

/// Answers by the hash it is asked for.
#[derive(Clone)]
pub struct Media;

#[tonic::async_trait]
impl MediaService for Media {
    async fn begin_upload(
        &self,
        _: Request<items::BeginUploadRequest>,
    ) -> Answer<items::BeginUploadResponse> {
        Ok(Response::new(items::BeginUploadResponse::default()))
    }

    async fn abort_upload(
        &self,
        _: Request<items::AbortUploadRequest>,
    ) -> Answer<items::AbortUploadResponse> {
        Ok(Response::new(items::AbortUploadResponse {}))
    }

    type UploadMediaStream = Items<items::UploadMediaResponse>;

    async fn upload_media(
        &self,
        _: Request<Streaming<items::UploadMediaRequest>>,
    ) -> Answer<Self::UploadMediaStream> {
        Ok(Response::new(stream::empty().boxed()))
    }

    type DownloadMediaStream = Items<HttpBody>;

    async fn download_media(
        &self,
        request: Request<items::DownloadMediaRequest>,
    ) -> Answer<Self::DownloadMediaStream> {
        if request.get_ref().content_hash == "none" {
            return Err(ServiceError::not_found("file", "none").into());
        }
        let part = |text: &'static str| HttpBody {
            content_type: "image/png".to_owned(),
            data: text.as_bytes().into(),
        };
        Ok(Response::new(stream::iter([Ok(part("one ")), Ok(part("two"))]).boxed()))
    }

    type GetThumbnailStream = Items<HttpBody>;

    async fn get_thumbnail(
        &self,
        _: Request<items::GetThumbnailRequest>,
    ) -> Answer<Self::GetThumbnailStream> {
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn get_media_info(
        &self,
        _: Request<items::GetMediaInfoRequest>,
    ) -> Answer<items::GetMediaInfoResponse> {
        Ok(Response::new(items::GetMediaInfoResponse::default()))
    }
}

/// Answers by the ticket it is given.
#[derive(Clone)]
pub struct Flight(pub Seen);

/// A message of rows that is nothing but bytes.
pub fn rows(length: usize) -> FlightData {
    FlightData { data_body: vec![7; length].into(), ..FlightData::default() }
}

fn never_ending(guard: DropGuard) -> Items<FlightData> {
    stream::unfold(guard, |guard| async move {
        std::future::pending::<()>().await;
        Some((Ok(FlightData::default()), guard))
    })
    .boxed()
}

#[tonic::async_trait]
impl FlightService for Flight {
    type HandshakeStream = Items<HandshakeResponse>;
    type ListFlightsStream = Items<FlightInfo>;
    type DoGetStream = Items<FlightData>;
    type DoPutStream = Items<PutResult>;
    type DoExchangeStream = Items<FlightData>;
    type DoActionStream = Items<FlightResult>;
    type ListActionsStream = Items<ActionType>;

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Answer<Self::HandshakeStream> {
        Err(Status::internal("the gateway answers the handshake"))
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        self.0.note(&request);
        Ok(Response::new(FlightInfo { total_records: 5, ..FlightInfo::default() }))
    }

    /// Done at once.
    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<PollInfo> {
        let info = Some(self.get_flight_info(request).await?.into_inner());
        Ok(Response::new(PollInfo { info, progress: Some(1.0), ..PollInfo::default() }))
    }

    /// The command's own bytes.
    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        self.0.note(&request);
        Ok(Response::new(SchemaResult { schema: request.into_inner().cmd }))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let endless = || stream::repeat_with(|| Ok(rows(256 << 10))).boxed();
        let answer = match request.get_ref().ticket.as_ref() {
            b"endless" => endless(),
            b"hang" => stream::iter([Ok(rows(1))])
                .chain(never_ending(self.0.dropped.clone().drop_guard()))
                .boxed(),
            b"torn" => stream::iter([
                Ok(rows(3)),
                Err(ServiceError::data_loss("block 7 is torn").reason("BLOCK_TORN").into()),
            ])
            .boxed(),
            _ => stream::iter((0..3).map(|_| Ok(rows(1_000)))).boxed(),
        };
        Ok(Response::new(answer))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        let mut messages = request.into_inner();
        let mut bytes = 0;
        while let Some(message) = messages.message().await? {
            bytes += message.data_body.len();
        }
        let answer = PutResult { app_metadata: bytes.to_string().into() };
        Ok(Response::new(stream::iter([Ok(answer)]).boxed()))
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Answer<Self::DoExchangeStream> {
        Ok(Response::new(request.into_inner().boxed()))
    }

    /// The action's own bytes.
    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        let answer = FlightResult { body: request.into_inner().body };
        Ok(Response::new(stream::iter([Ok(answer)]).boxed()))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        Ok(Response::new(stream::empty().boxed()))
    }
}
