//! Rows as the model's types.

use payload_index::Payload;
use sea_orm::{DbBackend, QueryResult};
use service_error::ServiceError;
use space_index::Point;
use sql_store::db_error;
use uuid::Uuid;

use crate::model::{Owner, Space, settings_of_codes};
use crate::store::dialect::stored_bytes;

pub const SPACE_COLUMNS: &str = "id, namespace_id, dataset_id, namespace_name, dataset_name, name, \
    dimension, metric, element, embedder, point_count, last_seq, last_number, epoch, snapshot_seq, \
    sql_indexed, created_at, created_by";

pub fn space(row: &QueryResult) -> Result<Space, ServiceError> {
    macro_rules! get {
        ($name:literal) => {
            row.try_get("", $name).map_err(db_error)?
        };
    }
    let dataset: Uuid = get!("dataset_id");
    let vectors = settings_of_codes(get!("metric"), get!("element"), get!("dimension"));
    let vectors = vectors.ok_or_else(|| damaged("a space's metric"))?;
    Ok(Space {
        id: get!("id"),
        owner: Owner {
            namespace: get!("namespace_id"),
            dataset: (!dataset.is_nil()).then_some(dataset),
            namespace_name: get!("namespace_name"),
            dataset_name: get!("dataset_name"),
            public: false,
        },
        name: get!("name"),
        vectors,
        embedder: get!("embedder"),
        points: get!("point_count"),
        seq: get!("last_seq"),
        epoch: get!("epoch"),
        snapshot_seq: get!("snapshot_seq"),
        sql_indexed: get!("sql_indexed"),
        created_at: get!("created_at"),
        created_by: get!("created_by"),
    })
}

/// A row of `item_id, number, payload, vector`.
pub fn point(
    backend: DbBackend,
    settings: &ann::Settings,
    row: &QueryResult,
) -> Result<Point, ServiceError> {
    let number: i64 = row.try_get("", "number").map_err(db_error)?;
    let payload: Vec<u8> = row.try_get("", "payload").map_err(db_error)?;
    let vector: Vec<u8> = row.try_get("", "vector").map_err(db_error)?;
    Ok(Point {
        number: u32::try_from(number).map_err(|_| damaged("a point's number"))?,
        item_id: row.try_get("", "item_id").map_err(db_error)?,
        vector: stored_bytes(backend, settings, vector).ok_or_else(|| damaged("a vector"))?,
        payload: Payload::from_bytes(&payload).map_err(|_| damaged("a payload"))?,
    })
}

pub fn damaged(what: &str) -> ServiceError {
    ServiceError::data_loss(format!("{what} in the database is not what was written"))
        .reason("ROW_DAMAGED")
}
