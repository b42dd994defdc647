//! URLs of object stores, and the stores behind them.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{ObjectStore, RetryConfig};
use service_error::ServiceError;

use crate::durable::DurableFiles;

const ACCEPTED: &str = "file:///absolute/path, file:./relative/path, s3://bucket/prefix, gs://bucket/prefix, \
                        az://container/prefix or memory://";

/// Where objects live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An absolute directory.
    Directory(PathBuf),
    /// This process's memory.
    Memory,
    /// A bucket or container of a cloud, and a prefix in it.
    Bucket { cloud: Cloud, prefix: String },
}

/// Whose protocol a bucket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    S3,
    Google,
    Azure,
}

/// A connected place.
pub struct Opened {
    pub store: Arc<dyn ObjectStore>,
    /// The URL's own prefix.
    pub path: Path,
    pub local_root: Option<PathBuf>,
    /// The same store, where it signs addresses.
    pub signer: Option<Arc<dyn Signer>>,
}

/// A bucket, which reads, writes and signs.
type Bucket = (Arc<dyn ObjectStore>, Arc<dyn Signer>);

/// The URL of a directory, as [`crate::BlobStore::open`] takes it. A relative
/// directory is taken from where the process stands.
///
/// # Errors
/// When the directory is no UTF-8 or the process stands nowhere.
pub fn file_url(directory: &FsPath) -> Result<String, ServiceError> {
    let absolute = std::path::absolute(directory).map_err(|error| {
        ServiceError::invalid(
            "object_store_url",
            format!("{} has no absolute path: {error}", directory.display()),
        )
    })?;
    match absolute.to_str() {
        Some(text) => Ok(format!("file://{text}")),
        None => {
            let message = format!("{} is no UTF-8; choose another directory", absolute.display());
            Err(ServiceError::invalid("object_store_url", message))
        }
    }
}

/// Reads a URL without touching what it names.
pub fn parse(url: &str) -> Result<Place, ServiceError> {
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    match scheme {
        "file" => parse_file(url, rest),
        "memory" => match rest.trim_matches('/') {
            "" => Ok(Place::Memory),
            _ => Err(refused(url, "memory:// takes no path")),
        },
        "s3" | "s3a" => parse_bucket(url, rest, Cloud::S3),
        "gs" => parse_bucket(url, rest, Cloud::Google),
        "az" | "azure" | "abfs" | "abfss" => parse_bucket(url, rest, Cloud::Azure),
        "" => Err(refused(url, "it has no scheme")),
        other => Err(refused(url, &format!("the scheme {other:?} is unknown"))),
    }
}

fn parse_file(url: &str, rest: &str) -> Result<Place, ServiceError> {
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(after) if after.starts_with('/') || after == "." || after == ".." => after,
        Some(after) if after.starts_with("./") || after.starts_with("../") => after,
        Some(after) => match after.strip_prefix("localhost/") {
            Some(_) => &after["localhost".len()..],
            None => {
                let host = after.split('/').next().unwrap_or_default();
                let message = format!(
                    "{host:?} stands where a host would; write file:///{after} or file:./{after}"
                );
                return Err(refused(url, &message));
            }
        },
    };
    if path.is_empty() || path.contains('\0') {
        return Err(refused(url, "it names no directory"));
    }
    let absolute = std::path::absolute(path).map_err(|error| refused(url, &error.to_string()))?;
    Ok(Place::Directory(absolute))
}

fn parse_bucket(url: &str, rest: &str, cloud: Cloud) -> Result<Place, ServiceError> {
    let after = rest
        .strip_prefix("//")
        .ok_or_else(|| refused(url, "two slashes must follow the scheme"))?;
    if after.contains(['?', '#']) {
        return Err(refused(
            url,
            "options belong into the environment (AWS_ENDPOINT_URL, AWS_REGION, …)",
        ));
    }
    let (bucket, prefix) = after.split_once('/').unwrap_or((after, ""));
    if bucket.is_empty() {
        return Err(refused(url, "it names no bucket"));
    }
    Ok(Place::Bucket { cloud, prefix: prefix.trim_matches('/').to_owned() })
}

fn refused(url: &str, why: &str) -> ServiceError {
    ServiceError::invalid(
        "object_store_url",
        format!("{url:?} is no place for objects: {why}. Accepted: {ACCEPTED}"),
    )
    .reason("INVALID_OBJECT_STORE_URL")
}

/// Opens the place; cloud credentials come from the variables of the cloud's
/// own tools.
pub fn connect(place: &Place, url: &str) -> Result<Opened, ServiceError> {
    match place {
        Place::Memory => Ok(Opened {
            store: Arc::new(InMemory::new()),
            path: Path::default(),
            local_root: None,
            signer: None,
        }),
        Place::Directory(directory) => {
            let store = DurableFiles::open(directory)?;
            Ok(Opened {
                store: Arc::new(store),
                path: Path::default(),
                local_root: Some(directory.clone()),
                signer: None,
            })
        }
        Place::Bucket { cloud, prefix } => {
            let (store, signer) =
                connect_bucket(*cloud, url).map_err(|error| refused(url, &error.to_string()))?;
            let path = Path::parse(prefix).map_err(|error| refused(url, &error.to_string()))?;
            Ok(Opened { store, path, local_root: None, signer: Some(signer) })
        }
    }
}

fn connect_bucket(cloud: Cloud, url: &str) -> Result<Bucket, object_store::Error> {
    // A request is given up after a minute: callers have deadlines of their own.
    let retry = RetryConfig {
        max_retries: 6,
        retry_timeout: Duration::from_secs(60),
        ..RetryConfig::default()
    };
    Ok(match cloud {
        // Whoever configures an http:// endpoint (MinIO, Garage) means it.
        Cloud::S3 => both(
            AmazonS3Builder::from_env()
                .with_url(url)
                .with_allow_http(true)
                .with_retry(retry)
                .build()?,
        ),
        Cloud::Google => {
            both(GoogleCloudStorageBuilder::from_env().with_url(url).with_retry(retry).build()?)
        }
        Cloud::Azure => {
            both(MicrosoftAzureBuilder::from_env().with_url(url).with_retry(retry).build()?)
        }
    })
}

fn both<S: ObjectStore + Signer>(store: S) -> Bucket {
    let store = Arc::new(store);
    (Arc::clone(&store) as Arc<dyn ObjectStore>, store)
}
