//! Flight descriptors: a path, or a command in JSON.

use serde::{Deserialize, Deserializer};
use service_error::ServiceError;

use crate::model::Address;

/// The longest command, in bytes.
const COMMAND_BYTES_MAX: usize = 256 << 10;

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadCommand {
    /// The dataset.
    pub address: Address,
    /// A number or `latest`; empty: the newest.
    pub version: String,
    /// `None`: all.
    pub columns: Option<Vec<String>>,
    /// Empty: all rows.
    pub filter: String,
    /// Rows at most.
    pub limit: Option<u64>,
    /// Empty: storage order.
    pub order_by: String,
}

impl ReadCommand {
    /// All rows and columns of a dataset as it is at a version.
    #[must_use]
    pub fn whole(address: Address, version: &str) -> Self {
        Self {
            address,
            version: version.to_owned(),
            columns: None,
            filter: String::new(),
            limit: None,
            order_by: String::new(),
        }
    }
}

/// Which flights to list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlightCriteria {
    /// Empty: of all.
    pub namespace: String,
    /// What the dataset's name begins with.
    pub prefix: String,
}

/// The criteria of a list of flights: nothing, `namespace`, `namespace/prefix`, or JSON.
///
/// # Errors
/// A text of another form; a key of the JSON that does not exist.
pub fn flight_criteria(expression: &[u8]) -> Result<FlightCriteria, ServiceError> {
    const FORM: &str =
        "is nothing, namespace, namespace/prefix or {\"namespace\":\"…\",\"prefix\":\"…\"}";
    let wrong = |why: String| ServiceError::invalid("expression", format!("{FORM}: {why}"));
    if expression.len() > COMMAND_BYTES_MAX {
        return Err(wrong(format!("at most {COMMAND_BYTES_MAX} bytes")));
    }
    let text = std::str::from_utf8(expression).map_err(|error| wrong(error.to_string()))?.trim();
    if text.starts_with('{') {
        return serde_json::from_str(text).map_err(|error| wrong(error.to_string()));
    }
    let (namespace, prefix) = text.split_once('/').unwrap_or((text, ""));
    if namespace.is_empty() != text.is_empty() || prefix.contains('/') {
        return Err(wrong("a namespace comes first, then at most one prefix".to_owned()));
    }
    Ok(FlightCriteria { namespace: namespace.to_owned(), prefix: prefix.to_owned() })
}

/// What a put does to the rows that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PutMode {
    /// Adds rows; keys that exist are refused.
    #[default]
    Append,
    /// Replaces all rows.
    Overwrite,
    /// Adds rows; rows with the same keys give way to them.
    Upsert,
    /// Takes the rows with these keys away.
    Delete,
}

/// How many rows a put says that it brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PutRows {
    /// It does not say: a stream that was cut cleanly commits.
    #[default]
    Unknown,
    /// So many.
    Known(u64),
    /// The last message's metadata says `{"rows":N}`.
    Trailing,
}

impl<'de> Deserialize<'de> for PutRows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Wire {
            Number(u64),
            Text(String),
        }
        match Wire::deserialize(deserializer) {
            Ok(Wire::Number(rows)) => Ok(Self::Known(rows)),
            Ok(Wire::Text(text)) if text == "trailing" => Ok(Self::Trailing),
            _ => Err(serde::de::Error::custom("rows must be a number or \"trailing\"")),
        }
    }
}

/// What to write, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutCommand {
    /// The dataset; made if it does not exist.
    pub address: Address,
    /// What happens to the rows that are there.
    pub mode: PutMode,
    /// How many rows will come.
    pub rows: PutRows,
    /// The version's message.
    pub message: String,
    /// An upload opened before, whose media become part of the commit.
    pub upload_id: String,
    /// Makes a repeated put one put.
    pub idempotency_key: String,
    /// Of a new dataset; empty: `id` if there is one.
    pub key_column: String,
    /// Of a new dataset: columns in which no two rows may have the same value.
    pub unique_columns: Vec<String>,
    /// Of a new dataset: items or table; `None`: told by the columns.
    pub profile: Option<item_schema::Profile>,
    /// Refuse a dataset that exists (`true`) or one that does not (`false`).
    pub must_be_new: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadWire {
    dataset: String,
    #[serde(default)]
    version: Option<VersionWire>,
    #[serde(default)]
    columns: Option<Vec<String>>,
    #[serde(default)]
    filter: Option<String>,
    #[serde(default)]
    limit: Option<u64>,
    #[serde(default)]
    order_by: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum VersionWire {
    Number(u64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutWire {
    dataset: String,
    #[serde(default)]
    mode: PutMode,
    #[serde(default)]
    rows: Option<PutRows>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    upload_id: Option<String>,
    #[serde(default)]
    idempotency_key: Option<String>,
    #[serde(default)]
    key_column: Option<String>,
    #[serde(default)]
    unique_columns: Vec<String>,
    #[serde(default)]
    profile: Option<ProfileWire>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ProfileWire {
    Items,
    Table,
}

/// The read that a descriptor asks for: `[namespace, dataset]`,
/// `[namespace, dataset, version]`, or JSON.
///
/// # Errors
/// A descriptor of another form; a key of the JSON that does not exist.
pub fn read_command(path: &[String], cmd: &[u8]) -> Result<ReadCommand, ServiceError> {
    match path {
        [] => {}
        [namespace, dataset] => {
            return Ok(ReadCommand::whole(Address::new(namespace, dataset)?, ""));
        }
        [namespace, dataset, version] => {
            return Ok(ReadCommand::whole(Address::new(namespace, dataset)?, version));
        }
        _ => return Err(wrong_path()),
    }
    let wire: ReadWire = json(cmd, "a path or a command like {\"dataset\":\"namespace/dataset\"}")?;
    Ok(ReadCommand {
        address: Address::parse(&wire.dataset)?,
        version: match wire.version {
            None => String::new(),
            Some(VersionWire::Number(number)) => number.to_string(),
            Some(VersionWire::Text(text)) => text,
        },
        columns: wire.columns.filter(|columns| !columns.is_empty()),
        filter: wire.filter.unwrap_or_default(),
        limit: wire.limit,
        order_by: wire.order_by.unwrap_or_default(),
    })
}

/// The write that a descriptor asks for: `[namespace, dataset]`, or JSON.
///
/// # Errors
/// A descriptor of another form; a mode that is not offered.
pub fn put_command(path: &[String], cmd: &[u8]) -> Result<PutCommand, ServiceError> {
    let wire = match path {
        [] => json(
            cmd,
            "a path or a command like {\"dataset\":\"namespace/dataset\",\"mode\":\"append\"}",
        )?,
        [namespace, dataset] => PutWire {
            dataset: Address::new(namespace, dataset)?.to_string(),
            mode: PutMode::Append,
            rows: None,
            message: None,
            upload_id: None,
            idempotency_key: None,
            key_column: None,
            unique_columns: Vec::new(),
            profile: None,
        },
        _ => return Err(wrong_path()),
    };
    Ok(PutCommand {
        address: Address::parse(&wire.dataset)?,
        mode: wire.mode,
        rows: wire.rows.unwrap_or_default(),
        message: wire.message.unwrap_or_default(),
        upload_id: wire.upload_id.unwrap_or_default(),
        idempotency_key: wire.idempotency_key.unwrap_or_default(),
        key_column: wire.key_column.unwrap_or_default(),
        unique_columns: wire.unique_columns,
        profile: wire.profile.map(|profile| match profile {
            ProfileWire::Items => item_schema::Profile::Items,
            ProfileWire::Table => item_schema::Profile::Table,
        }),
        must_be_new: None,
    })
}

impl PutCommand {
    /// What the metadata of a put's first message says besides: `{"mode":"…"}`, for clients whose
    /// descriptor is a path. What is no JSON object is a client's own mark.
    ///
    /// # Errors
    /// A mode or a key that there is not; a mode beside another one of the command.
    pub fn told(&mut self, metadata: &[u8]) -> Result<(), ServiceError> {
        let Some(mode) = told_mode(metadata)? else { return Ok(()) };
        if self.mode != PutMode::default() && self.mode != mode {
            let message = format!("the command says {:?} and the metadata {mode:?}", self.mode);
            return Err(ServiceError::invalid("mode", message.to_lowercase()));
        }
        self.mode = mode;
        Ok(())
    }
}

/// The mode that a message's metadata names, if any.
///
/// # Errors
/// A JSON object with another mode or another key than there are.
pub fn told_mode(metadata: &[u8]) -> Result<Option<PutMode>, ServiceError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Told {
        mode: Option<PutMode>,
        #[serde(rename = "rows")]
        _rows: Option<PutRows>,
    }
    let is_object = metadata.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if !is_object || metadata.len() > COMMAND_BYTES_MAX {
        return Ok(None);
    }
    let told: Result<Told, _> = serde_json::from_slice(metadata);
    let told = told.map_err(|error| {
        let form = "a message's metadata is {\"mode\":\"append|overwrite|upsert|delete\"}";
        ServiceError::invalid("app_metadata", format!("{form}: {error}"))
    })?;
    Ok(told.mode)
}

/// The `rows` of a put's last message.
///
/// # Errors
/// Metadata that does not say.
pub fn trailing_rows(metadata: &[u8]) -> Result<u64, ServiceError> {
    #[derive(Deserialize)]
    struct Trailer {
        rows: u64,
    }
    if metadata.is_empty() || metadata.len() > COMMAND_BYTES_MAX {
        return Err(ServiceError::invalid(
            "rows",
            "was to be in the metadata of the last message, and is not: the stream was cut; nothing was stored",
        )
        .reason("PUT_INCOMPLETE"));
    }
    let trailer: Trailer = serde_json::from_slice(metadata).map_err(|error| {
        ServiceError::invalid(
            "rows",
            format!("the last message's metadata must be {{\"rows\":N}}: {error}"),
        )
    })?;
    Ok(trailer.rows)
}

fn wrong_path() -> ServiceError {
    ServiceError::invalid(
        "descriptor",
        "a path is [namespace, dataset] or [namespace, dataset, version]",
    )
}

fn json<'a, T: Deserialize<'a>>(cmd: &'a [u8], wanted: &str) -> Result<T, ServiceError> {
    if cmd.is_empty() {
        return Err(ServiceError::invalid("descriptor", format!("is empty; send {wanted}")));
    }
    if cmd.len() > COMMAND_BYTES_MAX {
        return Err(ServiceError::invalid(
            "descriptor",
            format!("a command has at most {COMMAND_BYTES_MAX} bytes"),
        ));
    }
    serde_json::from_slice(cmd)
        .map_err(|error| ServiceError::invalid("descriptor", format!("send {wanted}: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use service_error::Code;

    fn path(parts: &[&str]) -> Vec<String> {
        parts.iter().map(|part| (*part).to_owned()).collect()
    }

    #[test]
    fn paths_and_json_say_the_same() {
        let by_path = read_command(&path(&["ns", "ds", "3"]), b"").unwrap();
        let by_json = read_command(&[], br#"{"dataset":"ns/ds","version":3}"#).unwrap();
        assert_eq!(by_path, by_json);
        assert_eq!(by_path.version, "3");
        let full =
            read_command(&[], br#"{"dataset":"ns/ds","columns":["a"],"filter":"a = 1","limit":5,"order_by":"a desc"}"#)
                .unwrap();
        assert_eq!((full.columns, full.limit), (Some(vec!["a".to_owned()]), Some(5)));
        assert_eq!(full.order_by, "a desc");
    }

    #[test]
    fn flights_are_listed_by_namespace_and_prefix() {
        let all = flight_criteria(b"").unwrap();
        assert_eq!(all, FlightCriteria::default());
        let one = flight_criteria(b"ns/ds").unwrap();
        assert_eq!((one.namespace.as_str(), one.prefix.as_str()), ("ns", "ds"));
        assert_eq!(flight_criteria(br#"{"namespace":"ns","prefix":"ds"}"#).unwrap(), one);
        assert_eq!(flight_criteria(b"ns").unwrap().namespace, "ns");
        for wrong in [&b"/x"[..], b"a/b/c", br#"{"name":"a"}"#, b"\xff"] {
            assert!(flight_criteria(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn unknown_keys_and_forms_are_refused() {
        for cmd in
            [&b""[..], b"{}", b"[]", br#"{"dataset":"ns/ds","colums":[]}"#, br#"{"dataset":"ns"}"#]
        {
            assert_eq!(read_command(&[], cmd).unwrap_err().code(), Code::InvalidArgument);
        }
        assert!(read_command(&path(&["a"]), b"").is_err());
        assert!(put_command(&path(&["a", "b", "c"]), b"").is_err());
    }

    #[test]
    fn a_put_says_how_many_rows_it_brings() {
        let rows = |text: &str| {
            put_command(&[], format!(r#"{{"dataset":"a/b","rows":{text}}}"#).as_bytes())
        };
        assert_eq!(rows("7").unwrap().rows, PutRows::Known(7));
        assert_eq!(rows("\"trailing\"").unwrap().rows, PutRows::Trailing);
        assert!(rows("\"many\"").is_err());
        assert_eq!(trailing_rows(br#"{"rows":9}"#).unwrap(), 9);
        assert!(trailing_rows(b"").unwrap_err().reason_is("PUT_INCOMPLETE"));
    }

    #[test]
    fn metadata_says_the_mode_that_a_path_cannot() {
        let by_path = || put_command(&path(&["a", "b"]), b"").unwrap();
        let told = |metadata: &[u8]| by_path().told(metadata);
        let mut command = by_path();
        command.told(br#" {"mode":"upsert"}"#).unwrap();
        command.told(br#"{"rows":7}"#).unwrap();
        command.told(b"batch 7").unwrap();
        assert_eq!(command.mode, PutMode::Upsert);
        assert!(command.told(br#"{"mode":"delete"}"#).is_err(), "another one");
        for wrong in [&br#"{"mode":"replace"}"#[..], br#"{"Mode":"upsert"}"#, b"{"] {
            assert_eq!(told(wrong).unwrap_err().code(), Code::InvalidArgument);
        }
    }

    #[test]
    fn every_mode_has_its_word() {
        for (word, mode) in [
            ("append", PutMode::Append),
            ("overwrite", PutMode::Overwrite),
            ("upsert", PutMode::Upsert),
            ("delete", PutMode::Delete),
        ] {
            let command = format!(r#"{{"dataset":"a/b","mode":"{word}"}}"#);
            assert_eq!(put_command(&[], command.as_bytes()).unwrap().mode, mode);
        }
        assert!(put_command(&[], br#"{"dataset":"a/b","mode":"replace"}"#).is_err());
    }
}
