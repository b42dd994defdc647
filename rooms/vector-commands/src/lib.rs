//! What the command line does with spaces, FAISS' files, images and generations. See the README.

mod cached_models;
mod export;
mod generations;
mod images;
mod import;
mod listing;
mod metadata;
mod pickle;
mod search;
mod spaces;

use std::path::Path;

use quarry_client::failure::Failure;
use service_error::ServiceError;

pub use export::ExportFaissArgs;
pub use generations::GenerationsCommand;
pub use images::ImagesCommand;
pub use import::ImportFaissArgs;
pub use listing::ListFaissArgs;
pub use search::{SearchArgs, SpaceArgs};
pub use spaces::SpacesCommand;

/// A file that cannot be used, and why.
fn wrong_file(path: &Path, why: impl std::fmt::Display) -> Failure {
    ServiceError::invalid("file", format!("{}: {why}", path.display())).into()
}

/// A FAISS file that is away, or wrong.
fn faiss_failure(path: &Path, error: &faiss_files::Error) -> Failure {
    match error {
        faiss_files::Error::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
            ServiceError::not_found("file", path.display()).into()
        }
        error => wrong_file(path, error),
    }
}

/// Opens a FAISS file under the limits that every command has.
fn open_faiss(
    path: &Path,
) -> Result<faiss_files::File<std::io::BufReader<std::fs::File>>, Failure> {
    let opened = std::fs::File::open(path).map_err(faiss_files::Error::from).and_then(|file| {
        let limits = faiss_files::Limits::default();
        faiss_files::File::open(std::io::BufReader::new(file), limits)
    });
    opened.map_err(|error| faiss_failure(path, &error))
}

/// A metric by the name that people type.
fn metric_name(metric: faiss_files::Metric) -> String {
    match metric {
        faiss_files::Metric::InnerProduct => "ip".to_owned(),
        faiss_files::Metric::L2 => "l2".to_owned(),
        faiss_files::Metric::L1 => "l1".to_owned(),
        faiss_files::Metric::Other(code) => format!("FAISS' {code}"),
    }
}

/// The largest file of an image, in bytes.
const IMAGE_BYTES_MAX: u64 = 64 << 20;

/// The bytes of an image's file.
fn read_image(path: &Path) -> Result<Vec<u8>, Failure> {
    let meta = std::fs::metadata(path).map_err(|error| {
        Failure::from(ServiceError::not_found("file", format!("{}: {error}", path.display())))
    })?;
    if meta.len() > IMAGE_BYTES_MAX {
        return Err(wrong_file(path, format!("{} bytes; at most {IMAGE_BYTES_MAX}", meta.len())));
    }
    std::fs::read(path).map_err(|error| wrong_file(path, error))
}

/// Runs what waits for a disk away from the threads that talk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ServiceError::internal("a piece of work was cut short").caused_by(error))?
}
