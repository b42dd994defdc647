//! Settings from a file, the environment and flags, in that order, into one
//! documented struct. This is the only place that reads the environment.

mod error;
mod fields;
mod origins;
mod role_secret;
mod secret;
mod sources;

use std::path::{Path, PathBuf};

use figment::Figment;
use serde::Serialize;
use serde::de::DeserializeOwned;
use service_error::ServiceError;

pub use origins::{Listed, Origins};
pub use role_secret::RoleSecret;
pub use secret::Secret;

/// Read from the working directory when no file is named.
pub const DEFAULT_FILE: &str = "quarry.toml";

/// Loads settings: `file` (or `quarry.toml` if there is one), then
/// `QUARRY_<SECTION>__<KEY>` and `QUARRY_<KEY>` variables, then `overrides`,
/// whose absent options change nothing.
///
/// `QUARRY_<KEY>` without a section is taken when `T` has a field of that name
/// and ignored otherwise: Kubernetes puts variables such as
/// `QUARRY_SERVICE_HOST` into every pod. Unknown keys in the file and in
/// sections are refused where `T` says `deny_unknown_fields`.
///
/// # Errors
/// `InvalidArgument` naming the key and where it stands; values of keys that
/// may be secret are not repeated.
pub fn load<T: DeserializeOwned>(
    file: Option<&Path>,
    overrides: impl Serialize,
) -> Result<T, ServiceError> {
    load_from(file, environment(), overrides)
}

/// [`load`], and where each setting that was set came from.
///
/// # Errors
/// As [`load`].
pub fn load_with_origins<T: DeserializeOwned>(
    file: Option<&Path>,
    overrides: impl Serialize,
) -> Result<(T, Origins), ServiceError> {
    let figment = merged::<T>(file, environment(), overrides)?;
    let settings = figment.extract().map_err(error::explain)?;
    Ok((settings, Origins::of(&figment)))
}

fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(key, value)| {
        // A name that is no UTF-8 is none of ours.
        Some((key.into_string().ok()?, value.to_string_lossy().into_owned()))
    })
}

/// [`load`] with the environment given: for tests and embedding.
///
/// # Errors
/// As [`load`].
pub fn load_from<T: DeserializeOwned>(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
    overrides: impl Serialize,
) -> Result<T, ServiceError> {
    merged::<T>(file, variables, overrides)?.extract().map_err(error::explain)
}

fn merged<T: DeserializeOwned>(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
    overrides: impl Serialize,
) -> Result<Figment, ServiceError> {
    let mut figment = Figment::new();
    if let Some(path) = existing(file) {
        figment = figment.merge(sources::TomlFile::read(&path)?);
    }
    for variable in sources::variables::<T>(variables) {
        figment = figment.merge(variable);
    }
    Ok(figment.merge(sources::Flags::of(overrides)?))
}

/// The named file, which must exist, or the default one if it does.
fn existing(file: Option<&Path>) -> Option<PathBuf> {
    match file {
        Some(named) => Some(named.to_owned()),
        None => Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()),
    }
}

#[cfg(test)]
mod tests;
