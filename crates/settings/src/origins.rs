//! Every setting with its value and where it came from, for operators.

use std::collections::BTreeMap;

use figment::value::{Dict, Value};
use figment::{Figment, Profile, Provider as _};
use serde::Serialize;
use serde_json::Value as Json;
use service_error::ServiceError;

use crate::error::is_secret;
use crate::secret::SET;

/// What is said of a setting that nobody set.
const DEFAULT: &str = "default";

/// Endings of keys that name a place or a measure, whatever else is in them.
const PLAIN_ENDINGS: [&str; 9] =
    ["file", "dir", "url", "_seconds", "_hours", "_days", "_ms", "_bytes", "_max"];

/// Where the settings came from that were set, by key.
#[derive(Debug, Clone, Default)]
pub struct Origins(BTreeMap<String, String>);

/// One setting as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// E.g. `items.cache_bytes`.
    pub key: String,
    /// As JSON; of a secret `"set"` or `null`.
    pub value: String,
    /// `default`, a file, a variable or the command line.
    pub source: String,
    /// Its value is not told.
    pub secret: bool,
}

impl Origins {
    pub(crate) fn of(figment: &Figment) -> Self {
        let mut found = BTreeMap::new();
        let data = figment.data().unwrap_or_default();
        for values in data.get(&Profile::Default).into_iter().chain(data.get(&Profile::Global)) {
            walk(figment, "", values, &mut found);
        }
        Self(found)
    }

    /// Every setting of `settings`, in the order of the keys. Secrets, and
    /// what a URL says before its host, are not told.
    ///
    /// # Errors
    /// Settings that cannot be written as JSON.
    pub fn list(&self, settings: &impl Serialize) -> Result<Vec<Listed>, ServiceError> {
        let json = serde_json::to_value(settings)
            .map_err(|error| ServiceError::internal(format!("settings as JSON: {error}")))?;
        let mut flat = BTreeMap::new();
        flatten("", json, &mut flat);
        Ok(flat.into_iter().map(|(key, value)| self.listed(key, &value)).collect())
    }

    fn listed(&self, key: String, value: &Json) -> Listed {
        let source = self.source(&key).unwrap_or(DEFAULT).to_owned();
        let holds_url = value.as_str().is_some_and(|text| text.contains("://"));
        let is_plain = PLAIN_ENDINGS.iter().any(|ending| key.ends_with(ending));
        let secret = value.as_str() == Some(SET) || (is_secret(&key) && !is_plain);
        let value = match value {
            Json::Null => Json::Null,
            _ if secret => Json::from(SET),
            Json::String(url) if holds_url => Json::from(without_credentials(url)),
            other => other.clone(),
        };
        Listed { key, value: value.to_string(), source, secret }
    }

    /// A list or a map has the source of what is above or in it.
    fn source(&self, key: &str) -> Option<&str> {
        let own = self.0.get(key);
        let inner = || self.0.iter().find(|(known, _)| known.starts_with(&format!("{key}.")));
        own.or_else(|| inner().map(|(_, source)| source)).map(String::as_str)
    }
}

fn walk(figment: &Figment, above: &str, values: &Dict, found: &mut BTreeMap<String, String>) {
    for (key, value) in values {
        let key = key.replace('-', "_");
        let path = if above.is_empty() { key } else { format!("{above}.{key}") };
        match value {
            Value::Dict(_, inner) => walk(figment, &path, inner, found),
            other => {
                let source = figment.get_metadata(other.tag());
                let name = source.map_or(DEFAULT.to_owned(), |source| source.name.to_string());
                found.insert(path, name);
            }
        }
    }
}

fn flatten(above: &str, value: Json, flat: &mut BTreeMap<String, Json>) {
    match value {
        Json::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                let path = if above.is_empty() { key } else { format!("{above}.{key}") };
                flatten(&path, value, flat);
            }
        }
        other => {
            flat.insert(above.to_owned(), other);
        }
    }
}

/// `scheme://user:password@host/…` without what is before the host.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://…@{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}
