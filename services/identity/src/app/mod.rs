//! What identity does. Each file holds the use cases of one noun: who may,
//! the transaction, its audit row.

mod access;
mod audit;
mod bootstrap;
mod denials;
mod exchange;
mod feed;
mod grants;
mod keys;
mod refusals;
mod resources;
mod tokens;
mod users;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use caller::Caller;
use options_api::v1::Role as CallerRole;
use projected_tokens::Verifier;
use service_error::ServiceError;
use settings::Secret;
use sql_store::now_micros;
use tokio::sync::{Mutex, watch};

use crate::model::{AuditEvent, Outcome, fingerprint};
use crate::settings::{Platform, Settings};
use crate::store::{Store, Tx};

pub use audit::ReportedDenial;
pub use exchange::{Credential, Issued};
pub use grants::{GrantQuery, NamedGrant, NewGrant};
pub use resources::PutResource;
pub use tokens::{NamedToken, NewToken};
pub use users::{Me, NewUser, UserChange};

use denials::DenialQueue;
use keys::SigningKeys;
use refusals::Refusals;

/// The role's name: the audience of tokens for it, and its name in the audit.
pub const SERVICE: &str = "identity";
/// The role that clients' credentials come through.
const GATEWAY: &str = "gateway";
/// Streams and jobs may go on with a token that has expired for so long; no
/// ticket or stream of the platform lives longer.
const STALE_SUBJECT: Duration = Duration::from_secs(3_600);

const HOUR: i64 = 3_600_000_000;
/// An outbox repeats an event for at most so long.
const EVENTS_KEPT: i64 = 7 * 24 * HOUR;

/// The service, shared by its methods and jobs.
pub struct Identity {
    store: Store,
    settings: Settings,
    keys: SigningKeys,
    roles: Vec<RoleSecret>,
    projected: Option<Verifier>,
    refusals: Refusals,
    denials: DenialQueue,
    /// The newest revision that this process has seen committed.
    revision: watch::Sender<i64>,
    catching_up: Mutex<()>,
    claimed: AtomicBool,
    /// The data dir that holds the first admin's token.
    token_place: Option<String>,
}

/// By what a platform role is recognised.
struct RoleSecret {
    role: String,
    hash: [u8; 32],
}

impl Identity {
    /// Opens the store and makes what the first start makes: a signing key and
    /// the first admin.
    ///
    /// # Errors
    /// A database or data dir that can't be used, or a claiming token that is
    /// none.
    pub async fn open(settings: Settings, platform: &Platform) -> Result<Arc<Self>, ServiceError> {
        let projected = projected(&settings, platform)?;
        let store = Store::open(&platform.sql).await?;
        let keys = SigningKeys::open(&store).await?;
        let token_place = bootstrap::first_admin(&store, platform).await?;
        let identity = Self {
            settings,
            keys,
            roles: platform
                .service_secrets
                .iter()
                .map(|(role, secret)| role_secret(role, secret))
                .collect(),
            projected,
            refusals: Refusals::default(),
            denials: DenialQueue::default(),
            revision: watch::Sender::new(0),
            catching_up: Mutex::default(),
            claimed: AtomicBool::new(token_place.is_none()),
            token_place,
            store,
        };
        identity.load_refusals().await?;
        Ok(Arc::new(identity))
    }

    /// Somebody has claimed the admin account.
    pub fn is_claimed(&self) -> bool {
        self.claimed.load(Ordering::Relaxed)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// UNAVAILABLE.
    pub async fn ping(&self) -> Result<(), ServiceError> {
        self.store.ping().await
    }

    /// The migrations that have run, those of other programs too, in order.
    ///
    /// # Errors
    /// UNAVAILABLE.
    pub async fn applied_migrations(&self) -> Result<Vec<String>, ServiceError> {
        self.store.applied_migrations().await
    }

    /// Microseconds after a revocation until no internal token made before it
    /// is left, streams that go on with a stale one included.
    fn forget_after(&self) -> i64 {
        let life = self.settings.token_life()
            + STALE_SUBJECT
            + Duration::from_secs(caller::LEEWAY_SECONDS);
        i64::try_from(life.as_micros()).unwrap_or(i64::MAX)
    }
}

/// Who tells roles by projected tokens, if the settings say so; each account is of a role that there is.
fn projected(settings: &Settings, platform: &Platform) -> Result<Option<Verifier>, ServiceError> {
    let known = |role: &str| {
        let role = role.replace('_', "-");
        platform.service_secrets.iter().any(|(known, _)| *known == role)
    };
    if let Some(role) = settings.projected.accounts.keys().find(|role| !known(role)) {
        let message = format!("{role:?} is no role");
        return Err(ServiceError::invalid("identity.projected.accounts", message)
            .reason("INVALID_SETTINGS"));
    }
    Verifier::new(&settings.projected)
}

fn role_secret(role: &str, secret: &Secret) -> RoleSecret {
    RoleSecret { role: role.to_owned(), hash: fingerprint(secret.expose().as_bytes()) }
}

/// A global admin, or a platform role.
fn is_admin(caller: &Caller) -> bool {
    caller.role == CallerRole::Admin
}

/// An audit row of something that a caller did.
fn done(caller: &Caller, action: &str, resource: String, detail: String) -> AuditEvent {
    let acting = caller.actor.as_ref().map(|actor| format!(" (by {actor})")).unwrap_or_default();
    AuditEvent {
        number: 0,
        at: now_micros(),
        principal: Some(caller.principal),
        principal_name: caller.name.clone(),
        service: SERVICE.to_owned(),
        action: action.to_owned(),
        resource,
        outcome: Outcome::Allowed,
        detail: detail + &acting,
        count: 1,
    }
}

/// An audit row of something that the server did by itself.
fn done_by_server(action: &str, resource: String, detail: &str) -> AuditEvent {
    AuditEvent {
        number: 0,
        at: now_micros(),
        principal: None,
        principal_name: String::new(),
        service: SERVICE.to_owned(),
        action: action.to_owned(),
        resource,
        outcome: Outcome::Allowed,
        detail: detail.to_owned(),
        count: 1,
    }
}

/// Writes the audit row and makes the change durable.
async fn finish(tx: Tx, event: &AuditEvent) -> Result<(), ServiceError> {
    tx.audit(event).await?;
    tx.commit().await
}

/// Work that is done again and again.
impl Identity {
    /// Takes over signing keys that another replica made, makes a new one when
    /// it is time, and forgets what nobody can ask for any more.
    ///
    /// # Errors
    /// Only of the store.
    pub async fn tidy(&self) -> Result<(), ServiceError> {
        self.keys.rotate(&self.store, self.settings.signing_key_days).await?;
        let now = now_micros();
        let hours = i64::try_from(self.settings.change_log_hours.max(2)).unwrap_or(i64::MAX / HOUR);
        let tx = self.store.change().await?;
        tx.forget_changes(now.saturating_sub(hours.saturating_mul(HOUR))).await?;
        tx.forget_events(now - EVENTS_KEPT).await?;
        tx.commit().await?;
        self.revoke_unused_tokens(now).await
    }

    /// Revokes the first admin's tokens in data dirs that no server uses any more, as seen at a
    /// time.
    ///
    /// # Errors
    /// Only of the store.
    pub async fn revoke_unused_tokens(&self, now: i64) -> Result<(), ServiceError> {
        match &self.token_place {
            Some(place) if !self.is_claimed() => {
                bootstrap::revoke_unused(&self.store, place, now).await
            }
            _ => Ok(()),
        }
    }

    /// Takes over signing keys that another replica made.
    ///
    /// # Errors
    /// Only of the store.
    pub async fn reload_keys(&self) -> Result<(), ServiceError> {
        self.keys.reload(&self.store).await
    }
}
