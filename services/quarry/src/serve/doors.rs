//! The doors of a process: bound early, so that a taken port is the first
//! thing that is said, and drained in order.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use identity_api::v1::GetKeysRequest;
use identity_api::v1::exchange_service_client::ExchangeServiceClient;
use service_channel::{DoorSettings, Transport, remote, serve};
use service_error::ServiceError;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::settings::{Role, Settings, address};

/// The streams that one connection to the public door may have open.
const PUBLIC_STREAMS_MAX: u32 = 2_000;
/// The streams that one connection between roles may have open.
const INTERNAL_STREAMS_MAX: u32 = 1_000_000;

/// How long a moment without calls is looked for before a connection is told to
/// go: foreign clients may need it, our own make an unsent call again.
const PUBLIC_PARTING: Duration = Duration::from_secs(1);
const INTERNAL_PARTING: Duration = Duration::from_millis(100);

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// How often, and how many times, a gateway asks an identity that is not there
/// yet.
const IDENTITY_INTERVAL: Duration = Duration::from_millis(250);
const IDENTITY_ATTEMPTS: u32 = 240;

/// Bound sockets, not serving yet.
pub struct Listeners {
    pub main: Socket,
    pub operations: TcpListener,
    pub internal: Option<Socket>,
}

/// An address that is ours.
pub enum Socket {
    /// Whoever connects waits until the door opens.
    Listening(TcpListener),
    /// Another process may serve the address until the door opens: who listens
    /// gets its share of the connections, and these would wait.
    Bound(TcpSocket),
}

impl Listeners {
    /// Binds every door of the settings. The operations door is never shared: it
    /// speaks of one process.
    ///
    /// # Errors
    /// An address that cannot be listened on, named with its flag.
    pub async fn bind(settings: &Settings) -> Result<Self, ServiceError> {
        let shared = settings.start.share_ports;
        let internal = match &settings.internal_listen {
            Some(text) => Some(Socket::bind("internal_listen", text, shared).await?),
            None => None,
        };
        Ok(Self {
            main: Socket::bind("listen", &settings.listen, shared).await?,
            operations: bind("ops_listen", &settings.ops_listen).await?,
            internal,
        })
    }
}

impl Socket {
    async fn bind(field: &'static str, text: &str, shared: bool) -> Result<Self, ServiceError> {
        if !shared {
            return Ok(Self::Listening(bind(field, text).await?));
        }
        let address = address(field, text)?;
        let bound = || {
            let socket =
                if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?;
            socket.set_reuseport(true)?;
            socket.bind(address)?;
            Ok(socket)
        };
        bound().map(Self::Bound).map_err(|error| unusable(field, address, error))
    }

    /// The address that it got.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn address(&self) -> Result<SocketAddr, ServiceError> {
        told(match self {
            Self::Listening(listener) => listener.local_addr(),
            Self::Bound(socket) => socket.local_addr(),
        })
    }

    fn listen(self) -> Result<TcpListener, ServiceError> {
        match self {
            Self::Listening(listener) => Ok(listener),
            Self::Bound(socket) => {
                let address = told(socket.local_addr())?;
                socket.listen(BACKLOG).map_err(|error| unusable("listen", address, error))
            }
        }
    }
}

async fn bind(field: &'static str, text: &str) -> Result<TcpListener, ServiceError> {
    let address = address(field, text)?;
    TcpListener::bind(address).await.map_err(|error| unusable(field, address, error))
}

fn unusable(field: &'static str, address: SocketAddr, error: io::Error) -> ServiceError {
    let flag = field.replace('_', "-");
    ServiceError::precondition(format!(
        "cannot listen on {address}: {error}; name a free address with --{flag}"
    ))
    .reason("ADDRESS_UNUSABLE")
    .field(field)
    .caused_by(error)
}

/// The address that a listener got.
///
/// # Errors
/// The system does not tell.
pub fn bound(listener: &TcpListener) -> Result<SocketAddr, ServiceError> {
    told(listener.local_addr())
}

fn told(address: io::Result<SocketAddr>) -> Result<SocketAddr, ServiceError> {
    address.map_err(|error| ServiceError::internal("a socket has no address").caused_by(error))
}

/// What each door serves.
pub struct Apps {
    pub main: Transport,
    pub internal: Option<Transport>,
}

/// Opens the doors for traffic; each ends, drained, after `shutdown`.
///
/// # Errors
/// A shared address that somebody took meanwhile for himself.
pub fn open(
    listeners: (Socket, Option<Socket>),
    apps: Apps,
    settings: &Settings,
    public: bool,
    shutdown: &CancellationToken,
) -> Result<Vec<Open>, ServiceError> {
    let grace = settings.drain.grace();
    let door = |listener, app, public| {
        let (concurrent_streams_max, parting) = match public {
            true => (PUBLIC_STREAMS_MAX, PUBLIC_PARTING),
            false => (INTERNAL_STREAMS_MAX, INTERNAL_PARTING),
        };
        let parted = CancellationToken::new();
        let settings =
            DoorSettings { concurrent_streams_max, grace, parting, parted: parted.clone() };
        let served = tokio::spawn(serve(listener, app, settings, shutdown.clone()));
        Open { served, parted }
    };
    let (main, internal) = listeners;
    let mut doors = vec![door(main.listen()?, apps.main, public)];
    if let (Some(internal), Some(app)) = (internal, apps.internal) {
        doors.push(door(internal.listen()?, app, false));
    }
    Ok(doors)
}

/// A door that serves.
pub struct Open {
    /// Ends when the door has drained.
    pub served: JoinHandle<()>,
    /// Fires once all of its connections have been told to go.
    pub parted: CancellationToken,
}

/// The listen rule: while nobody has claimed the admin account, the gateway
/// and identity listen on loopback only. `claimed` is unknown when identity
/// runs in another process.
///
/// # Errors
/// A non-loopback door of an unclaimed platform.
pub async fn allowed(
    settings: &Settings,
    roles: &BTreeSet<Role>,
    listen: SocketAddr,
    claimed: Option<bool>,
) -> Result<(), ServiceError> {
    let ruled = roles.contains(&Role::Gateway) || roles.contains(&Role::Identity);
    if !ruled || listen.ip().is_loopback() {
        return Ok(());
    }
    let claimed = match claimed {
        Some(claimed) => claimed,
        None => ask_claimed(settings).await?,
    };
    if claimed {
        return Ok(());
    }
    Err(ServiceError::precondition(format!(
        "listen: {listen} is open to others, and nobody has claimed the admin account; \
         claim it with QUARRY_ADMIN_TOKEN_FILE, or listen on 127.0.0.1"
    ))
    .reason("ADMIN_UNCLAIMED")
    .field("listen"))
}

async fn ask_claimed(settings: &Settings) -> Result<bool, ServiceError> {
    let url = settings.neighbours.of(Role::Identity).unwrap_or_default();
    let mut identity = ExchangeServiceClient::new(remote(url)?);
    let mut attempts = 0;
    loop {
        match identity.get_keys(GetKeysRequest {}).await {
            Ok(answer) => return Ok(answer.into_inner().admin_claimed),
            Err(status) if attempts >= IDENTITY_ATTEMPTS => {
                return Err(ServiceError::from_status(&status)
                    .context("identity does not tell whether the admin account is claimed"));
            }
            Err(status) => tracing::info!(error = status.message(), "waiting for identity"),
        }
        attempts += 1;
        tokio::time::sleep(IDENTITY_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = bind("ops_listen", &bound(&taken).unwrap().to_string()).await.unwrap_err();
        assert!(error.reason_is("ADDRESS_UNUSABLE"));
        assert!(error.message().contains("--ops-listen"), "{error}");
    }

    #[tokio::test]
    async fn an_unclaimed_platform_listens_on_loopback_only() {
        let settings = Settings::default();
        let everywhere: SocketAddr = ([0, 0, 0, 0], 7070).into();
        let all: BTreeSet<Role> = Role::ALL.into();
        let error = allowed(&settings, &all, everywhere, Some(false)).await.unwrap_err();
        assert!(error.reason_is("ADMIN_UNCLAIMED"));
        allowed(&settings, &all, everywhere, Some(true)).await.unwrap();
        allowed(&settings, &all, ([127, 0, 0, 1], 7070).into(), Some(false)).await.unwrap();
        allowed(&settings, &[Role::Catalog].into(), everywhere, None).await.unwrap();
    }
}
