//! Identity, as far as the catalog meets it: keys, tokens, a stream of grants,
//! and resources that get an owner.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use access::Resource;
use caller::{Actor, Claims, ISSUER, TOKEN_TYPE, scope};
use ed25519_dalek::pkcs8::{EncodePrivateKey, KeypairBytes};
use futures::stream::BoxStream;
use identity_api::v1 as api;
use identity_api::v1::audit_service_server::{AuditService, AuditServiceServer};
use identity_api::v1::exchange_service_server::{ExchangeService, ExchangeServiceServer};
use identity_api::v1::grant_change::Change;
use identity_api::v1::replica_service_server::{ReplicaService, ReplicaServiceServer};
use identity_api::v1::resources_service_server::{ResourcesService, ResourcesServiceServer};
use ids::{GrantId, PrincipalId};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use options_api::v1::Level;
use service_channel::Transport;
use tokio::sync::broadcast;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

/// Somebody who calls.
#[derive(Clone)]
pub struct Who {
    pub principal: PrincipalId,
    role: &'static str,
    actor: Option<&'static str>,
    scope: &'static str,
}

impl Who {
    pub fn user() -> Self {
        Self { principal: PrincipalId::new(), role: "user", actor: None, scope: scope::FULL }
    }

    pub fn viewer() -> Self {
        Self { role: "viewer", ..Self::user() }
    }

    pub fn admin() -> Self {
        Self { role: "admin", ..Self::user() }
    }

    /// The item store for itself.
    pub fn item_store() -> Self {
        Self { role: "service", ..Self::user() }
    }

    pub fn reading_only(&self) -> Self {
        Self { scope: scope::READ, ..self.clone() }
    }

    /// The same user, when the item store calls for it.
    pub fn via_item_store(&self) -> Self {
        if self.role == "service" {
            self.clone()
        } else {
            Self { actor: Some("item-store"), ..self.clone() }
        }
    }
}

struct State {
    revision: i64,
    changes: Vec<api::GrantChange>,
    events: HashSet<String>,
    resources: Vec<api::PutResourceRequest>,
}

#[derive(Clone)]
pub struct FakeIdentity {
    state: Arc<Mutex<State>>,
    later: broadcast::Sender<api::WatchGrantsResponse>,
    away: Arc<AtomicBool>,
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
        let state = State {
            revision: 1,
            changes: Vec::new(),
            events: HashSet::new(),
            resources: Vec::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            later: broadcast::Sender::new(1_024),
            away: Arc::default(),
            key: Arc::new(key),
            jwks: jwks.into(),
        }
    }

    pub fn jwks(&self) -> String {
        self.jwks.to_string()
    }

    pub fn transport(&self) -> Transport {
        let mut routes = tonic::service::Routes::builder();
        routes.add_service(ReplicaServiceServer::new(self.clone()));
        routes.add_service(ExchangeServiceServer::new(self.clone()));
        routes.add_service(AuditServiceServer::new(self.clone()));
        routes.add_service(ResourcesServiceServer::new(self.clone()));
        service_channel::local(routes.routes().prepare())
    }

    pub fn token(&self, who: &Who) -> String {
        let now = sql_store::now_micros() / 1_000_000;
        let claims = Claims {
            iss: ISSUER.into(),
            aud: crate::ROLE.into(),
            sub: who.principal.to_string(),
            name: "somebody".into(),
            role: who.role.into(),
            scope: who.scope.into(),
            act: who.actor.map(|sub| Actor { sub: sub.into() }),
            tid: None,
            iat: now,
            exp: now + 60,
            jti: ids::EventId::new().to_string(),
        };
        let header = Header {
            typ: Some(TOKEN_TYPE.into()),
            kid: Some("k1".into()),
            ..Header::new(Algorithm::EdDSA)
        };
        encode(&header, &claims, &self.key).unwrap()
    }

    pub fn grant(&self, who: &Who, resource: Resource, level: Level) -> i64 {
        let resource = api::Resource { kind: resource.kind as i32, id: resource.id.to_string() };
        self.publish(&mut self.state.lock().unwrap(), who.principal.to_string(), resource, level)
    }

    /// Whether what the catalog tells it gets through.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// What it was told, in order, each event once.
    /// Another role tells of a model in a namespace, or that it left it.
    pub fn put_model(&self, model: uuid::Uuid, namespace: &str, is_there: bool) {
        use options_api::v1::ResourceKind;
        let of = |kind: ResourceKind, id: String| Some(api::Resource { kind: kind as i32, id });
        let parent = of(ResourceKind::Namespace, namespace.to_owned()).filter(|_| is_there);
        self.state.lock().unwrap().resources.push(api::PutResourceRequest {
            resource: of(ResourceKind::Model, model.to_string()),
            parent,
            ..Default::default()
        });
    }

    pub fn resources(&self) -> Vec<api::PutResourceRequest> {
        self.state.lock().unwrap().resources.clone()
    }

    fn publish(
        &self,
        state: &mut State,
        user_id: String,
        resource: api::Resource,
        level: Level,
    ) -> i64 {
        let grant = api::Grant {
            id: GrantId::new().to_string(),
            user_id,
            resource: Some(resource),
            level: level as i32,
            ..Default::default()
        };
        let change = api::GrantChange { change: Some(Change::Grant(grant)) };
        state.revision += 1;
        state.changes.push(change.clone());
        let message = api::WatchGrantsResponse {
            revision: state.revision,
            changes: vec![change],
            ..Default::default()
        };
        drop(self.later.send(message));
        state.revision
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
        let state = self.state.lock().unwrap();
        let first = api::WatchGrantsResponse {
            revision: state.revision,
            reset: true,
            changes: state.changes.clone(),
            partial: false,
        };
        let later = later.map(|message| message.map_err(|_| Status::aborted("behind")));
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(first)).chain(later))))
    }

    async fn get_revision(
        &self,
        _: Request<api::GetRevisionRequest>,
    ) -> Answer<api::GetRevisionResponse> {
        Ok(Response::new(api::GetRevisionResponse {
            revision: self.state.lock().unwrap().revision,
        }))
    }

    async fn check_access(
        &self,
        _: Request<api::CheckAccessRequest>,
    ) -> Answer<api::CheckAccessResponse> {
        Err(Status::unavailable("only the replica decides here"))
    }

    async fn put_resource(
        &self,
        request: Request<api::PutResourceRequest>,
    ) -> Answer<api::PutResourceResponse> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Status::unavailable("away"));
        }
        let request = request.into_inner();
        let mut state = self.state.lock().unwrap();
        if state.events.insert(request.event_id.clone()) {
            state.resources.push(request.clone());
            if !request.owner_id.is_empty() {
                let resource = request.resource.clone().unwrap();
                self.publish(&mut state, request.owner_id, resource, Level::Owner);
            }
        }
        Ok(Response::new(api::PutResourceResponse { revision: state.revision }))
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

    async fn issue_token(
        &self,
        _: Request<api::IssueTokenRequest>,
    ) -> Answer<api::IssueTokenResponse> {
        let seconds = sql_store::now_micros() / 1_000_000 + 60;
        let expire_time = Some(prost_types::Timestamp { seconds, nanos: 0 });
        Ok(Response::new(api::IssueTokenResponse { jwt: "token".into(), expire_time }))
    }

    async fn get_keys(&self, _: Request<api::GetKeysRequest>) -> Answer<api::GetKeysResponse> {
        Ok(Response::new(api::GetKeysResponse { jwks_json: self.jwks(), ..Default::default() }))
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

#[tonic::async_trait]
impl ResourcesService for FakeIdentity {
    async fn count_children(
        &self,
        request: Request<api::CountChildrenRequest>,
    ) -> Answer<api::CountChildrenResponse> {
        let parent = request.into_inner().parent;
        let state = self.state.lock().unwrap();
        // The last word on each resource.
        let mut last = std::collections::HashMap::new();
        for put in &state.resources {
            let of = put.resource.clone().unwrap();
            last.insert((of.kind, of.id), put);
        }
        let mut counts = std::collections::BTreeMap::new();
        for ((kind, _), put) in last {
            if put.parent == parent && !put.deleted {
                *counts.entry(kind).or_insert(0) += 1;
            }
        }
        let counts = counts.into_iter().map(|(kind, count)| api::ChildCount { kind, count });
        Ok(Response::new(api::CountChildrenResponse { counts: counts.collect() }))
    }
}
