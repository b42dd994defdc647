//! Where settings come from: each a figment provider that knows its own name.

use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};
use serde::Serialize;
use serde::de::DeserializeOwned;
use service_error::ServiceError;

use crate::{error, fields};

const PREFIX: &str = "QUARRY_";
const SECTION_MARK: &str = "__";

/// Endings of keys whose text is taken as it stands: a password `007` is no
/// number and a path `[x]` no list.
const TEXT_ENDINGS: [&str; 9] =
    ["secret", "token", "password", "key", "url", "file", "dir", "path", "name"];

/// A settings file.
pub struct TomlFile {
    path: PathBuf,
    values: Dict,
}

impl TomlFile {
    pub fn read(path: &Path) -> Result<Self, ServiceError> {
        let text = std::fs::read_to_string(path).map_err(|cause| {
            error::in_file(path, &format!("can't be read: {cause}")).caused_by(cause)
        })?;
        let table: toml::Table = toml::from_str(&text).map_err(|cause| {
            // Not the error's own text: it quotes the line, secrets included.
            let line = cause.span().map_or(1, |span| {
                text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
            });
            error::in_file(path, &format!("line {line}: {}", cause.message()))
        })?;
        let values = to_dict(&table).map_err(|cause| error::in_file(path, &cause.to_string()))?;
        Ok(Self { path: path.to_owned(), values })
    }
}

impl Provider for TomlFile {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.path.display().to_string()).interpolater(|_, keys| keys.join("."))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// One environment variable.
pub struct Variable {
    name: String,
    values: Dict,
}

/// The variables that are settings of `T`.
pub fn variables<T: DeserializeOwned>(
    variables: impl IntoIterator<Item = (String, String)>,
) -> Vec<Variable> {
    let top_level = fields::of::<T>();
    let mut found: Vec<_> = variables
        .into_iter()
        .filter_map(|(name, text)| {
            let key = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
            let is_setting = key.contains(SECTION_MARK) || top_level.contains(&key.as_str());
            let path = key.replace(SECTION_MARK, ".");
            if !is_setting || path.split('.').any(str::is_empty) {
                return None;
            }
            let values = figment::util::nest(&path, value_of(&path, &text)).into_dict()?;
            Some(Variable { name, values })
        })
        .collect();
    // Which of two spellings wins must not hang on the environment's order.
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn value_of(path: &str, text: &str) -> Value {
    let is_text = TEXT_ENDINGS.iter().any(|ending| path.ends_with(ending));
    match text.parse::<Value>() {
        Ok(value) if !is_text => value,
        _ => Value::from(text),
    }
}

impl Provider for Variable {
    fn metadata(&self) -> Metadata {
        Metadata::named(format!("the variable {}", self.name))
            .interpolater(|_, keys| keys.join("."))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// What the command line said.
pub struct Flags {
    values: Dict,
}

impl Flags {
    pub fn of(flags: impl Serialize) -> Result<Self, ServiceError> {
        let values = to_dict(flags).map_err(error::explain)?;
        Ok(Self { values: without_absent(values) })
    }
}

impl Provider for Flags {
    fn metadata(&self) -> Metadata {
        Metadata::named("the command line").interpolater(|_, keys| {
            let flag = keys.join(".").replace('_', "-");
            format!("--{flag}")
        })
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

fn to_dict(values: impl Serialize) -> Result<Dict, figment::Error> {
    match Value::serialize(values)? {
        Value::Dict(_, dict) => Ok(dict),
        // `()`: nothing was said.
        Value::Empty(..) => Ok(Dict::new()),
        other => {
            Err(figment::error::Kind::InvalidType(other.to_actual(), "a map".to_owned()).into())
        }
    }
}

/// An option that was not given must not hide what a lower source says.
fn without_absent(values: Dict) -> Dict {
    let kept = values.into_iter().filter_map(|(key, value)| match value {
        Value::Empty(..) => None,
        Value::Dict(tag, inner) => Some((key, Value::Dict(tag, without_absent(inner)))),
        other => Some((key, other)),
    });
    kept.collect()
}
