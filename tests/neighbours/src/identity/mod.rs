//! Identity: keys, tokens, the feed of grants, resources and who owns them,
//! denials.

mod answers;
mod feed;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use caller::{Actor, Claims, ISSUER, Keys, Secret, TOKEN_TYPE, TokenSource};
use ed25519_dalek::pkcs8::{EncodePrivateKey, KeypairBytes};
use identity_api::v1 as api;
use identity_api::v1::audit_service_server::AuditServiceServer;
use identity_api::v1::exchange_service_server::ExchangeServiceServer;
use identity_api::v1::grant_change::Change;
use identity_api::v1::replica_service_server::ReplicaServiceServer;
use identity_api::v1::resources_service_server::ResourcesServiceServer;
use ids::{EventId, GrantId};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use options_api::v1::Level;
use service_channel::Transport;
use tokio::sync::{broadcast, watch};
use tonic::service::Routes;

use crate::{Calls, LEASE_SECONDS, SECRET, Who, now_seconds};
use feed::Feed;

const KEY_ID: &str = "k1";
/// Messages that a replica may be behind before its stream ends.
const BEHIND_MAX: usize = 1_024;

/// Identity in memory, for one role. Clones share it.
#[derive(Clone)]
pub struct Identity {
    /// Its calls.
    pub calls: Calls,
    role: &'static str,
    feed: Arc<Mutex<Feed>>,
    later: broadcast::Sender<api::WatchGrantsResponse>,
    credentials: Arc<Mutex<HashMap<String, Who>>>,
    denials: watch::Sender<Vec<api::Denial>>,
    key: Arc<EncodingKey>,
    jwks: Arc<str>,
    keys: Keys,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("role", &self.role).finish_non_exhaustive()
    }
}

impl Identity {
    /// An identity that knows nobody yet; its tokens are for `role`.
    #[must_use]
    pub fn new(role: &'static str) -> Self {
        let keypair = KeypairBytes { secret_key: rand::random(), public_key: None };
        let key = EncodingKey::from_ed_der(keypair.to_pkcs8_der().unwrap().as_bytes());
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::EdDSA).unwrap();
        jwk.common.key_id = Some(KEY_ID.into());
        let jwks = serde_json::to_string(&JwkSet { keys: vec![jwk] }).unwrap();
        Self {
            calls: Calls::default(),
            role,
            feed: Arc::default(),
            later: broadcast::Sender::new(BEHIND_MAX),
            credentials: Arc::default(),
            denials: watch::Sender::default(),
            key: Arc::new(key),
            keys: Keys::fixed(&jwks).unwrap(),
            jwks: jwks.into(),
        }
    }

    /// Its services, as another role reaches them.
    #[must_use]
    pub fn transport(&self) -> Transport {
        let routes = Routes::new(ReplicaServiceServer::new(self.clone()))
            .add_service(ExchangeServiceServer::new(self.clone()))
            .add_service(AuditServiceServer::new(self.clone()))
            .add_service(ResourcesServiceServer::new(self.clone()));
        self.calls.around(routes)
    }

    /// The keys that verify its tokens.
    #[must_use]
    pub fn keys(&self) -> Keys {
        self.keys.clone()
    }

    /// Where the role under test gets its tokens for other roles.
    #[must_use]
    pub fn tokens(&self) -> TokenSource {
        TokenSource::new(self.transport(), Secret::new(SECRET))
    }

    /// An internal token of somebody for the role under test.
    #[must_use]
    pub fn token(&self, who: &Who) -> String {
        self.sign(who, self.role)
    }

    /// A request by somebody to the role under test.
    #[must_use]
    pub fn request<T>(&self, who: &Who, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let header = format!("Bearer {}", self.token(who)).parse().unwrap();
        request.metadata_mut().insert("authorization", header);
        request
    }

    /// From now on this personal token or password stands for somebody.
    pub fn know(&self, credential: &str, who: &Who) {
        self.credentials.lock().unwrap().insert(credential.to_owned(), who.clone());
    }

    /// Grants a level; answers the revision to wait for.
    pub fn grant(&self, who: &Who, on: impl Into<api::Resource>, level: Level) -> i64 {
        self.lend(who, on, level).1
    }

    /// As [`Identity::grant`], with the grant's id before the revision.
    pub fn lend(&self, who: &Who, on: impl Into<api::Resource>, level: Level) -> (String, i64) {
        let grant = api::Grant {
            id: GrantId::new().to_string(),
            user_id: who.principal.to_string(),
            resource: Some(on.into()),
            level: level.into(),
            ..Default::default()
        };
        (grant.id.clone(), self.publish(Change::Grant(grant)))
    }

    /// Takes a grant back; answers the revision to wait for.
    pub fn take_back(&self, grant_id: &str) -> i64 {
        self.publish(Change::RemovedGrantId(grant_id.to_owned()))
    }

    /// Makes a change and tells every replica; answers its revision.
    pub fn publish(&self, change: Change) -> i64 {
        self.told(&mut self.feed.lock().unwrap(), vec![change])
    }

    /// Makes a change that the streams that are open never bring; answers its revision.
    pub fn publish_past_open_streams(&self, change: Change) -> i64 {
        self.feed.lock().unwrap().apply(vec![change]).revision
    }

    /// What other roles told of resources, in order, each event once.
    #[must_use]
    pub fn resources(&self) -> Vec<api::PutResourceRequest> {
        self.feed.lock().unwrap().resources.clone()
    }

    /// Another role tells of a resource.
    pub fn put_resource(&self, put: api::PutResourceRequest) -> i64 {
        let mut feed = self.feed.lock().unwrap();
        let changes = feed.put(put);
        if changes.is_empty() { feed.revision } else { self.told(&mut feed, changes) }
    }

    /// The denials that other roles recorded, to look at and to wait for.
    #[must_use]
    pub fn denials(&self) -> watch::Receiver<Vec<api::Denial>> {
        self.denials.subscribe()
    }

    /// Under the feed's lock, so that messages are in the order of revisions.
    fn told(&self, feed: &mut Feed, changes: Vec<Change>) -> i64 {
        let message = feed.apply(changes);
        let revision = message.revision;
        // Nobody may be listening.
        let _ = self.later.send(message);
        revision
    }

    fn sign(&self, who: &Who, audience: &str) -> String {
        let principal = who.principal.to_string();
        let now = now_seconds();
        let claims = Claims {
            iss: ISSUER.into(),
            aud: audience.into(),
            name: Who::name_of(&principal),
            sub: principal,
            role: who.role.into(),
            scope: who.scope.into(),
            act: who.actor.clone().map(|sub| Actor { sub }),
            tid: None,
            iat: now,
            exp: now + LEASE_SECONDS,
            jti: EventId::new().to_string(),
        };
        let header = Header {
            typ: Some(TOKEN_TYPE.into()),
            kid: Some(KEY_ID.into()),
            ..Header::new(Algorithm::EdDSA)
        };
        encode(&header, &claims, &self.key).unwrap()
    }
}
