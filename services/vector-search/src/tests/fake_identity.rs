//! Identity, as far as the vector search meets it: keys, tokens, a stream of
//! grants.

use std::sync::{Arc, Mutex};

use access::Resource;
use caller::{Actor, Claims, ISSUER, TOKEN_TYPE, scope};
use ed25519_dalek::pkcs8::{EncodePrivateKey, KeypairBytes};
use futures::StreamExt;
use futures::stream::BoxStream;
use identity_api::v1 as api;
use identity_api::v1::audit_service_server::{AuditService, AuditServiceServer};
use identity_api::v1::exchange_service_server::{ExchangeService, ExchangeServiceServer};
use identity_api::v1::grant_change::Change;
use identity_api::v1::replica_service_server::{ReplicaService, ReplicaServiceServer};
use ids::{GrantId, PrincipalId};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use options_api::v1::Level;
use service_channel::Transport;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

/// Somebody who calls.
#[derive(Clone)]
pub struct Who {
    pub principal: PrincipalId,
    role: &'static str,
    scope: &'static str,
}

impl Who {
    pub fn user() -> Self {
        Self { principal: PrincipalId::new(), role: "user", scope: scope::FULL }
    }

    pub fn reading_only(&self) -> Self {
        Self { scope: scope::READ, ..self.clone() }
    }
}

#[derive(Clone)]
pub struct FakeIdentity {
    state: Arc<Mutex<(i64, Vec<api::GrantChange>)>>,
    later: broadcast::Sender<api::WatchGrantsResponse>,
    key: Arc<EncodingKey>,
    jwks: Arc<str>,
}

impl FakeIdentity {
    pub fn new() -> Self {
        let keypair = KeypairBytes { secret_key: rand::random(), public_key: None };
        let der = keypair.to_pkcs8_der().unwrap();
        let key = EncodingKey::from_ed_der(der.as_bytes());
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::EdDSA).unwrap();
        jwk.common.key_id = Some("k1".into());
        let jwks = serde_json::to_string(&JwkSet { keys: vec![jwk] }).unwrap();
        Self {
            state: Arc::new(Mutex::new((1, Vec::new()))),
            later: broadcast::Sender::new(64),
            key: Arc::new(key),
            jwks: jwks.into(),
        }
    }

    pub fn jwks(&self) -> &str {
        &self.jwks
    }

    pub fn transport(&self) -> Transport {
        let mut routes = tonic::service::Routes::builder();
        routes.add_service(ReplicaServiceServer::new(self.clone()));
        routes.add_service(ExchangeServiceServer::new(self.clone()));
        routes.add_service(AuditServiceServer::new(self.clone()));
        service_channel::local(routes.routes().prepare())
    }

    pub fn token(&self, who: &Who) -> String {
        let now = sql_store::now_micros() / 1_000_000;
        let claims = Claims {
            iss: ISSUER.into(),
            aud: crate::VECTOR_SEARCH.into(),
            sub: who.principal.to_string(),
            name: "somebody".into(),
            role: who.role.into(),
            scope: who.scope.into(),
            act: None::<Actor>,
            tid: None,
            iat: now,
            exp: now + 60,
            jti: "1".into(),
        };
        let header = Header {
            typ: Some(TOKEN_TYPE.into()),
            kid: Some("k1".into()),
            ..Header::new(Algorithm::EdDSA)
        };
        encode(&header, &claims, &self.key).unwrap()
    }

    pub fn grant(&self, who: &Who, resource: Resource, level: Level) -> i64 {
        let grant = api::Grant {
            id: GrantId::new().to_string(),
            user_id: who.principal.to_string(),
            resource: Some(api::Resource {
                kind: resource.kind as i32,
                id: resource.id.to_string(),
            }),
            level: level as i32,
            ..Default::default()
        };
        let change = api::GrantChange { change: Some(Change::Grant(grant)) };
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        state.1.push(change.clone());
        let message = api::WatchGrantsResponse {
            revision: state.0,
            changes: vec![change],
            ..Default::default()
        };
        drop(self.later.send(message));
        state.0
    }
}

#[tonic::async_trait]
impl ReplicaService for FakeIdentity {
    type WatchGrantsStream = BoxStream<'static, Result<api::WatchGrantsResponse, Status>>;

    async fn watch_grants(
        &self,
        _: Request<api::WatchGrantsRequest>,
    ) -> Answer<Self::WatchGrantsStream> {
        let later = BroadcastStream::new(self.later.subscribe());
        let (revision, changes) = self.state.lock().unwrap().clone();
        let first = api::WatchGrantsResponse { revision, reset: true, changes, partial: false };
        let later = later.map(|message| message.map_err(|_| Status::aborted("behind")));
        Ok(Response::new(futures::stream::iter([Ok(first)]).chain(later).boxed()))
    }

    async fn get_revision(
        &self,
        _: Request<api::GetRevisionRequest>,
    ) -> Answer<api::GetRevisionResponse> {
        Ok(Response::new(api::GetRevisionResponse { revision: self.state.lock().unwrap().0 }))
    }

    async fn check_access(
        &self,
        _: Request<api::CheckAccessRequest>,
    ) -> Answer<api::CheckAccessResponse> {
        Err(Status::unavailable("only the replica decides here"))
    }

    async fn put_resource(
        &self,
        _: Request<api::PutResourceRequest>,
    ) -> Answer<api::PutResourceResponse> {
        Err(Status::unimplemented("not asked here"))
    }
}

#[tonic::async_trait]
impl ExchangeService for FakeIdentity {
    async fn exchange_token(
        &self,
        _: Request<api::ExchangeTokenRequest>,
    ) -> Answer<api::ExchangeTokenResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    /// The subject's own token: the fake catalog looks at no audience.
    async fn issue_token(
        &self,
        request: Request<api::IssueTokenRequest>,
    ) -> Answer<api::IssueTokenResponse> {
        let subject = request.into_inner().subject_token;
        let jwt = if subject.is_empty() { "service".to_owned() } else { subject };
        let seconds = sql_store::now_micros() / 1_000_000 + 60;
        let expire_time = Some(prost_types::Timestamp { seconds, nanos: 0 });
        Ok(Response::new(api::IssueTokenResponse { jwt, expire_time }))
    }

    async fn get_keys(&self, _: Request<api::GetKeysRequest>) -> Answer<api::GetKeysResponse> {
        Err(Status::unimplemented("not asked here"))
    }
}

#[tonic::async_trait]
impl AuditService for FakeIdentity {
    async fn list_audit_events(
        &self,
        _: Request<api::ListAuditEventsRequest>,
    ) -> Answer<api::ListAuditEventsResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn record_denials(
        &self,
        _: Request<api::RecordDenialsRequest>,
    ) -> Answer<api::RecordDenialsResponse> {
        Ok(Response::new(api::RecordDenialsResponse {}))
    }
}
