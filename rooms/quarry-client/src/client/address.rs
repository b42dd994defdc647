//! Which server, and with which token. The admin token of a data directory is
//! sent to one place only: the loopback address that the server itself wrote
//! beside it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use settings::Secret;

use super::Client;
use crate::failure::Failure;

const DEFAULT_SERVER: &str = "http://127.0.0.1:7070";
/// The first admin's token, in the data directory.
pub const ADMIN_TOKEN_FILE: &str = "admin-token";
/// In the data directory of a running platform: its process and its address.
pub const SERVER_FILE: &str = "server.json";
/// The data directory when none is named.
pub const DEFAULT_DATA_DIR: &str = "./quarry-data";

/// What the command line says about the server.
#[derive(Debug, Clone, Default)]
pub struct Address {
    /// `--server`.
    pub server: Option<String>,
    /// `--token`.
    pub given_token: Option<Secret>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--wait`: so long a platform that takes no connections is waited for.
    pub wait: std::time::Duration,
}

/// What a server writes about itself.
#[derive(Deserialize)]
struct Recorded {
    listen: SocketAddr,
}

impl Address {
    /// The server that is meant: the one that was named, else the one of the
    /// data directory, else the default door of this machine.
    pub fn url(&self) -> String {
        match (&self.server, self.recorded()) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Some(address)) => format!("http://{address}"),
            (None, None) => DEFAULT_SERVER.to_owned(),
        }
    }

    /// A client of that server.
    ///
    /// # Errors
    /// The URL is none.
    pub fn connect(&self) -> Result<Client, Failure> {
        Client::waiting(&self.url(), self.token().as_ref(), self.wait)
    }

    /// The token that was given, else the admin token of the data directory if
    /// the server is the one that runs on it.
    pub fn token(&self) -> Option<Secret> {
        match (&self.given_token, self.recorded()) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(address)) if is_at(&self.url(), address) => self.admin_token(),
            _ => None,
        }
    }

    fn data_dir(&self) -> &Path {
        self.data_dir.as_deref().unwrap_or(Path::new(DEFAULT_DATA_DIR))
    }

    /// The loopback address that the data directory's server wrote down.
    fn recorded(&self) -> Option<SocketAddr> {
        let text = std::fs::read(self.data_dir().join(SERVER_FILE)).ok()?;
        let Recorded { listen } = serde_json::from_slice(&text).ok()?;
        let ip = if listen.ip().is_unspecified() {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            listen.ip()
        };
        ip.is_loopback().then(|| SocketAddr::new(ip, listen.port()))
    }

    fn admin_token(&self) -> Option<Secret> {
        Secret::from_file(&self.data_dir().join(ADMIN_TOKEN_FILE)).ok()
    }
}

/// Whether a URL leads to this loopback address and nowhere else.
fn is_at(url: &str, address: SocketAddr) -> bool {
    let Some(authority) = url.strip_prefix("http://") else { return false };
    let authority = authority.trim_end_matches('/');
    match authority.parse::<SocketAddr>() {
        Ok(named) => named == address,
        Err(_) => authority == format!("localhost:{}", address.port()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn dir(listen: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(SERVER_FILE), format!(r#"{{"listen":"{listen}","pid":1}}"#))
            .unwrap();
        dir
    }

    fn address(dir: &tempfile::TempDir, server: Option<&str>) -> Address {
        Address {
            server: server.map(str::to_owned),
            given_token: None,
            data_dir: Some(dir.path().to_owned()),
            wait: std::time::Duration::ZERO,
        }
    }

    #[test]
    fn the_data_directory_says_where_its_server_is() {
        let dir = dir("127.0.0.1:7999");
        assert_eq!(address(&dir, None).url(), "http://127.0.0.1:7999");
        assert_eq!(address(&dir, Some("http://h:1/")).url(), "http://h:1");
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(address(&empty, None).url(), DEFAULT_SERVER);
    }

    #[test]
    fn the_admin_token_goes_to_the_recorded_loopback_address_only() {
        let recorded = "127.0.0.1:7999".parse().unwrap();
        assert!(
            is_at("http://127.0.0.1:7999", recorded) && is_at("http://localhost:7999", recorded)
        );
        for other in [
            "http://127.0.0.1:7998",
            "https://127.0.0.1:7999",
            "http://127.0.0.1:7999.example.com",
            "http://127.0.0.1:7999@example.com",
            "http://example.com:7999",
            "http://localhost:7999@evil:7999",
        ] {
            assert!(!is_at(other, recorded), "{other}");
        }
        let public = dir("192.0.2.1:7070");
        assert_eq!(address(&public, None).recorded(), None);
        assert!(address(&public, None).token().is_none());
        let any = dir("0.0.0.0:7070");
        assert_eq!(address(&any, None).recorded(), Some("127.0.0.1:7070".parse().unwrap()));
    }

    #[test]
    fn a_given_token_wins_and_the_file_needs_no_flag() {
        let dir = dir("127.0.0.1:7999");
        std::fs::write(dir.path().join(ADMIN_TOKEN_FILE), "from-file\n").unwrap();
        let token = |address: Address| address.token().map(|token| token.expose().to_owned());
        assert_eq!(token(address(&dir, None)).as_deref(), Some("from-file"));
        assert_eq!(token(address(&dir, Some("http://127.0.0.1:7998"))), None);
        let given = Address { given_token: Some(Secret::new("given")), ..address(&dir, None) };
        assert_eq!(token(given).as_deref(), Some("given"));
    }

    #[test]
    fn a_url_that_is_none_is_a_usage_error() {
        let dir = tempfile::tempdir().unwrap();
        let failure = address(&dir, Some("ftp://x")).connect().unwrap_err();
        assert_eq!(failure.exit() as u8, 2);
    }
}
