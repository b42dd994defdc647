//! What the two databases say differently: vectors, lists of texts, pgvector.

use ann::{Element, Metric, Settings};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement, Value};
use service_error::ServiceError;
use sql_store::db_error;

/// Before it: CVE-2026-3172, and indexes that vacuum damages.
const PGVECTOR_MIN: (u32, u32, u32) = (0, 8, 4);
/// From it on nothing is known to be wrong.
const PGVECTOR_GOOD: (u32, u32, u32) = (0, 8, 6);

/// The column that holds the vectors of an element.
pub fn vector_column(backend: DbBackend, element: Element) -> &'static str {
    match (backend, element) {
        (DbBackend::Postgres, Element::F32 | Element::I8) => "vec",
        (DbBackend::Postgres, Element::F16) => "half",
        (DbBackend::Postgres, Element::Bit) => "bits",
        _ => "vector",
    }
}

/// A parameter as a value of that column.
pub fn vector_parameter(backend: DbBackend, element: Element, parameter: usize) -> String {
    match (backend, element) {
        (DbBackend::Postgres, Element::F32 | Element::I8) => {
            format!("${parameter}::text::public.vector")
        }
        (DbBackend::Postgres, Element::F16) => format!("${parameter}::text::public.halfvec"),
        (DbBackend::Postgres, Element::Bit) => format!("${parameter}::text::bit varying"),
        _ => format!("${parameter}"),
    }
}

/// The stored bytes of a vector as that parameter.
pub fn vector_value(backend: DbBackend, settings: &Settings, stored: &[u8]) -> Value {
    if backend != DbBackend::Postgres {
        return stored.to_vec().into();
    }
    let floats = settings.floats(stored);
    if settings.element() == Element::Bit {
        let digit = |bit: &f32| if *bit >= 0.5 { '1' } else { '0' };
        return floats.iter().map(digit).collect::<String>().into();
    }
    let mut text = String::with_capacity(floats.len() * 12 + 2);
    text.push('[');
    for (at, value) in floats.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(&value.to_string());
    }
    text.push(']');
    text.into()
}

/// The column as bytes, under the name `vector`.
pub fn vector_bytes(backend: DbBackend, element: Element, table: &str) -> String {
    match (backend, element) {
        (DbBackend::Postgres, Element::F32 | Element::I8) => {
            format!("vector_send({table}vec) AS vector")
        }
        (DbBackend::Postgres, Element::F16) => format!("halfvec_send({table}half) AS vector"),
        (DbBackend::Postgres, Element::Bit) => format!("varbit_send({table}bits) AS vector"),
        _ => format!("{table}vector AS vector"),
    }
}

/// Those bytes as they are stored elsewhere: little-endian elements.
pub fn stored_bytes(backend: DbBackend, settings: &Settings, bytes: Vec<u8>) -> Option<Vec<u8>> {
    if backend != DbBackend::Postgres {
        return (bytes.len() == settings.row_bytes()).then_some(bytes);
    }
    let body = bytes.get(4..)?;
    let stored: Vec<u8> = match settings.element() {
        Element::F32 => body.chunks_exact(4).flat_map(|b| [b[3], b[2], b[1], b[0]]).collect(),
        Element::F16 => body.chunks_exact(2).flat_map(|b| [b[1], b[0]]).collect(),
        Element::I8 => body
            .chunks_exact(4)
            .map(|b| (f32::from_be_bytes([b[0], b[1], b[2], b[3]]) as i8).cast_unsigned())
            .collect(),
        Element::Bit => {
            // Postgres has the first bit highest.
            let mut stored: Vec<u8> = body.iter().map(|byte| byte.reverse_bits()).collect();
            stored.resize(settings.row_bytes(), 0);
            stored
        }
    };
    (stored.len() == settings.row_bytes()).then_some(stored)
}

/// A condition that `column` is one of the texts in parameter `$parameter`,
/// which [`text_list`] makes: one parameter however many there are.
pub fn is_in_texts(backend: DbBackend, column: &str, parameter: usize) -> String {
    match backend {
        DbBackend::Postgres => {
            format!("{column} IN (SELECT value FROM json_array_elements_text(${parameter}::json))")
        }
        _ => format!("{column} IN (SELECT value FROM json_each(${parameter}))"),
    }
}

/// The same for whole numbers.
pub fn is_in_numbers(backend: DbBackend, column: &str, parameter: usize) -> String {
    match backend {
        DbBackend::Postgres => format!(
            "{column} IN (SELECT value::bigint FROM json_array_elements_text(${parameter}::json))"
        ),
        _ => format!("{column} IN (SELECT value FROM json_each(${parameter}))"),
    }
}

/// The same for ids.
pub fn is_in_ids(backend: DbBackend, column: &str, parameter: usize) -> String {
    match backend {
        DbBackend::Postgres => format!(
            "{column} IN (SELECT value::uuid FROM json_array_elements_text(${parameter}::json))"
        ),
        _ => format!("{column} IN (SELECT unhex(value, '-') FROM json_each(${parameter}))"),
    }
}

/// The parameter of [`is_in_texts`] and its kin.
pub fn text_list<T: serde::Serialize>(values: impl IntoIterator<Item = T>) -> Value {
    let values: Vec<T> = values.into_iter().collect();
    serde_json::to_string(&values).unwrap_or_else(|_| "[]".to_owned()).into()
}

/// pgvector's operator of a metric, and the operator class of an index for it.
pub const fn operator(metric: Metric, element: Element) -> (&'static str, &'static str) {
    match (metric, element) {
        (Metric::Cosine, Element::F16) => ("<=>", "halfvec_cosine_ops"),
        (Metric::L2, Element::F16) => ("<->", "halfvec_l2_ops"),
        (Metric::InnerProduct, Element::F16) => ("<#>", "halfvec_ip_ops"),
        (Metric::L1, Element::F16) => ("<+>", "halfvec_l1_ops"),
        (Metric::Cosine, _) => ("<=>", "vector_cosine_ops"),
        (Metric::L2, _) => ("<->", "vector_l2_ops"),
        (Metric::InnerProduct, _) => ("<#>", "vector_ip_ops"),
        (Metric::L1, _) => ("<+>", "vector_l1_ops"),
        (Metric::Hamming, _) => ("<~>", "bit_hamming_ops"),
        (Metric::Jaccard, _) => ("<%>", "bit_jaccard_ops"),
    }
}

/// The most dimensions that pgvector's HNSW index takes.
pub const fn indexed_dimension_max(element: Element) -> u32 {
    match element {
        Element::F32 | Element::I8 => 2_000,
        Element::F16 => 4_000,
        Element::Bit => 64_000,
    }
}

/// The column in the type, length included, that an index is of.
pub fn indexed_expression(settings: &Settings) -> String {
    let dimension = settings.dimension();
    match settings.element() {
        Element::F32 | Element::I8 => format!("(vec::public.vector({dimension}))"),
        Element::F16 => format!("(half::public.halfvec({dimension}))"),
        Element::Bit => format!("(bits::bit({dimension}))"),
    }
}

/// A query in that type.
pub fn indexed_parameter(settings: &Settings, parameter: usize) -> String {
    match settings.element() {
        Element::F32 | Element::I8 => format!("${parameter}::text::public.vector"),
        Element::F16 => format!("${parameter}::text::public.halfvec"),
        Element::Bit => format!("${parameter}::text::bit({})", settings.dimension()),
    }
}

/// Refuses a Postgres whose pgvector is missing or known to lose data.
pub async fn demand_pgvector(db: &DatabaseConnection) -> Result<(), ServiceError> {
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    let look = "SELECT coalesce((SELECT extversion FROM pg_extension WHERE extname = 'vector'), \
        (SELECT default_version FROM pg_available_extensions WHERE name = 'vector'), '') AS version";
    let row = db
        .query_one_raw(Statement::from_string(DbBackend::Postgres, look))
        .await
        .map_err(db_error)?;
    let version: String = match row {
        Some(row) => row.try_get("", "version").map_err(db_error)?,
        None => String::new(),
    };
    judge(&version)
}

fn judge(version: &str) -> Result<(), ServiceError> {
    let (major, minor, patch) = PGVECTOR_MIN;
    if version.is_empty() {
        let message = format!(
            "this Postgres server has no pgvector; install pgvector {major}.{minor}.{patch} or newer beside it, or run quarry without database_url"
        );
        return Err(ServiceError::precondition(message).reason("PGVECTOR_MISSING"));
    }
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    let found = (next(), next(), next());
    if found < PGVECTOR_MIN {
        let message = format!(
            "pgvector {version} is older than {major}.{minor}.{patch}, which mends lost rows and a security hole; install it, then run ALTER EXTENSION vector UPDATE"
        );
        return Err(ServiceError::precondition(message).reason("PGVECTOR_TOO_OLD"));
    }
    if found < PGVECTOR_GOOD {
        tracing::warn!(version, "pgvector 0.8.6 mends index damage under vacuum; upgrade it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn old_and_missing_pgvectors_are_refused_with_what_to_do() {
        for good in ["0.8.4", "0.8.5", "0.9.0", "1.0"] {
            judge(good).unwrap();
        }
        let old = judge("0.8.3").unwrap_err();
        assert!(old.reason_is("PGVECTOR_TOO_OLD"));
        assert!(old.message().contains("ALTER EXTENSION vector UPDATE"), "{old}");
        assert!(judge("0.7.10").unwrap_err().reason_is("PGVECTOR_TOO_OLD"));
        assert!(judge("").unwrap_err().reason_is("PGVECTOR_MISSING"));
    }

    #[test]
    fn operators_are_pgvectors_own() {
        // pgvector's README: <-> L2, <#> negative inner product, <=> cosine, <+> L1.
        assert_eq!(operator(Metric::L2, Element::F32), ("<->", "vector_l2_ops"));
        assert_eq!(operator(Metric::Cosine, Element::F16), ("<=>", "halfvec_cosine_ops"));
        assert_eq!(operator(Metric::InnerProduct, Element::I8).0, "<#>");
        assert_eq!(operator(Metric::L1, Element::F32).0, "<+>");
        assert_eq!(operator(Metric::Jaccard, Element::Bit), ("<%>", "bit_jaccard_ops"));
    }

    #[test]
    fn bytes_of_both_databases_are_the_same_vector() {
        let bits = Settings::new(Metric::Hamming, Element::Bit, 10).unwrap();
        let stored = [0b0000_0101, 0b10, 0, 0, 0, 0, 0, 0];
        let value = vector_value(DbBackend::Postgres, &bits, &stored);
        assert_eq!(value, Value::from("1010000001".to_owned()));
        let sent = vec![0, 0, 0, 10, 0b1010_0000, 0b0100_0000];
        assert_eq!(stored_bytes(DbBackend::Postgres, &bits, sent).unwrap(), stored);
        let floats = Settings::new(Metric::L2, Element::F32, 2).unwrap();
        let mut sent = vec![0, 2, 0, 0];
        sent.extend(1.5_f32.to_be_bytes());
        sent.extend((-2.0_f32).to_be_bytes());
        let stored = stored_bytes(DbBackend::Postgres, &floats, sent).unwrap();
        assert_eq!(floats.floats(&stored), [1.5, -2.0]);
        assert!(stored_bytes(DbBackend::Sqlite, &floats, vec![1, 2, 3]).is_none());
    }
}
