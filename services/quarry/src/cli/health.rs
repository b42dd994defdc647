//! `quarry health`: asks the operations door of a server on this machine, for
//! health checks in images that hold nothing but the binary.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use service_channel::remote;
use service_error::{Code, ServiceError};
use tonic::body::Body;
use tower::ServiceExt;

use super::Context;
use crate::failure::Failure;
use crate::serve::ServeArgs;
use crate::serve::settings::{Settings, address};

const ANSWER_BYTES_MAX: usize = 1 << 20;
/// A door that says nothing for so long is not healthy.
const PATIENCE: Duration = Duration::from_secs(5);

/// Flags of the question.
#[derive(Debug, Args)]
pub struct HealthCommand {
    /// Settings file [default: quarry.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The operations door [default: as the server's settings have it]
    #[arg(long, value_name = "HOST:PORT")]
    ops_listen: Option<String>,
    /// Whether the process lives, not whether it is ready
    #[arg(long)]
    live: bool,
}

impl HealthCommand {
    /// Fails (exit code 6) unless the door says yes.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let settings = Settings::load(&ServeArgs {
            config: self.config,
            data_dir: context.address.data_dir.clone(),
            ops_listen: self.ops_listen,
            ..ServeArgs::default()
        })?;
        let door = reachable(address("ops_listen", &settings.ops_listen)?);
        let path = if self.live { "/healthz" } else { "/readyz" };
        let asked = tokio::time::timeout(PATIENCE, ask(door, path)).await;
        let (status, answer) = asked.map_err(|_| {
            let message = format!("{door} said nothing for {} s", PATIENCE.as_secs());
            ServiceError::new(Code::Unavailable, message)
        })??;
        if status != StatusCode::OK {
            let message = format!("{door}{path} answered {status}: {answer}");
            return Err(ServiceError::new(Code::Unavailable, message).into());
        }
        let document = json!({ "operations": door.to_string(), "answer": answer });
        context.output.answer(&document, || "healthy".to_owned())
    }
}

async fn ask(door: SocketAddr, path: &str) -> Result<(StatusCode, Value), Failure> {
    let unusable = |error: String| ServiceError::new(Code::Unavailable, format!("{door}: {error}"));
    let request = Request::get(path)
        .body(Body::empty())
        .map_err(|error| ServiceError::internal(error.to_string()))?;
    let response = remote(&format!("http://{door}"))?
        .oneshot(request)
        .await
        .map_err(|status| unusable(status.message().to_owned()))?;
    let status = response.status();
    let body = axum::body::to_bytes(axum::body::Body::new(response.into_body()), ANSWER_BYTES_MAX)
        .await
        .map_err(|error| unusable(error.to_string()))?;
    let text = String::from_utf8_lossy(&body);
    let answer = serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text.trim()));
    Ok((status, answer))
}

/// A door that listens everywhere is asked where it certainly is.
pub fn reachable(door: SocketAddr) -> SocketAddr {
    let ip = match door.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, door.port())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_door_that_listens_everywhere_is_asked_on_loopback() {
        let asked = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:7071"), "127.0.0.1:7071");
        assert_eq!(asked("[::]:7071"), "[::1]:7071");
        assert_eq!(asked("10.1.2.3:7071"), "10.1.2.3:7071");
    }
}
