//! Rows of points, written under the space's lock.

use std::collections::{BTreeMap, HashMap};

use ann::Settings;
use payload_index::{ColumnType, Kind, PAYLOAD_BYTES_MAX, Payload};
use sea_orm::{DatabaseTransaction, Value};
use service_error::ServiceError;
use space_index::Point;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use crate::model::Space;
use crate::store::dialect::{
    is_in_numbers, is_in_texts, text_list, vector_bytes, vector_column, vector_parameter,
    vector_value,
};
use crate::store::rows::{self, damaged};
use crate::store::{Store, execute, rows as select};

/// A point to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPoint {
    /// Whose it is.
    pub item_id: String,
    /// As stored.
    pub vector: Vec<u8>,
    /// As stored.
    pub payload: Vec<u8>,
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// The space's newest change afterwards.
    pub seq: i64,
    /// Points that were not there.
    pub inserted: u64,
    /// Points that were replaced, or deleted.
    pub changed: u64,
}

/// What setting columns did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ColumnsSet {
    /// The points that are other ones now.
    pub written: Written,
    /// Items that have a point.
    pub found: u64,
    /// Items whose payload would be none, and why.
    pub failed: Vec<(String, String)>,
}

/// What the space's row says once it is locked.
struct Locked {
    seq: i64,
    number: i64,
    embedder: String,
    points: i64,
}

impl Store {
    /// Writes points, all or none. Item ids are different ones.
    ///
    /// # Errors
    /// `NotFound` for a space that was deleted; `InvalidArgument` for a payload value of another
    /// type than its column's; `FailedPrecondition` for vectors of another embedder than those
    /// that are there.
    pub async fn upsert(
        &self,
        space: &Space,
        points: &[NewPoint],
        columns: &BTreeMap<String, ColumnType>,
        embedder: &str,
    ) -> Result<Written, ServiceError> {
        let tx = self.sql.begin().await?;
        let written = self.upsert_in(&tx, space, points, columns, embedder).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(written)
    }

    /// The same within a transaction. Whoever writes to several spaces in one takes them in the
    /// order of their ids.
    pub(super) async fn upsert_in(
        &self,
        tx: &DatabaseTransaction,
        space: &Space,
        points: &[NewPoint],
        columns: &BTreeMap<String, ColumnType>,
        embedder: &str,
    ) -> Result<Written, ServiceError> {
        let count = i64::try_from(points.len()).unwrap_or(i64::MAX);
        let locked = take_numbers(tx, space, count).await?;
        same_embedder(tx, space, &locked, embedder).await?;
        demand_columns(tx, space.id, columns, points).await?;
        let there =
            self.numbers_in(tx, space.id, points.iter().map(|p| p.item_id.as_str())).await?;
        let (first_seq, first_number) = (locked.seq - count + 1, locked.number - count + 1);
        insert_points(tx, space, points, first_number).await?;
        let changes: Vec<(i64, i64, i64)> = points
            .iter()
            .zip(0..)
            .map(|(point, at)| {
                let removed = there.get(&point.item_id).copied().unwrap_or(0);
                (first_seq + at, first_number + at, removed)
            })
            .collect();
        insert_changes(tx, space.id, &changes).await?;
        let changed = there.len() as u64;
        let inserted = points.len() as u64 - changed;
        count_points(tx, space.id, i64::try_from(inserted).unwrap_or(0)).await?;
        Ok(Written { seq: locked.seq, inserted, changed })
    }

    /// Deletes the points of these items.
    ///
    /// # Errors
    /// `NotFound` for a space that was deleted.
    pub async fn delete_points(
        &self,
        space: &Space,
        item_ids: &[String],
    ) -> Result<Written, ServiceError> {
        let tx = self.sql.begin().await?;
        let written = self.delete_in(&tx, space, item_ids).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(written)
    }

    /// The same within a transaction, as [`Self::upsert_in`].
    pub(super) async fn delete_in(
        &self,
        tx: &DatabaseTransaction,
        space: &Space,
        item_ids: &[String],
    ) -> Result<Written, ServiceError> {
        // The lock comes first; how many numbers are needed is known after it.
        let locked = take_numbers(tx, space, 0).await?;
        let there = self.numbers_in(tx, space.id, item_ids.iter().map(String::as_str)).await?;
        if there.is_empty() {
            return Ok(Written { seq: locked.seq, ..Written::default() });
        }
        let count = i64::try_from(there.len()).unwrap_or(i64::MAX);
        let sql = "UPDATE space SET last_seq = last_seq + $1 WHERE id = $2";
        execute(tx, sql, vec![count.into(), space.id.into()]).await?;
        let condition = is_in_texts(self.backend(), "item_id", 2);
        let sql = format!("DELETE FROM point WHERE space_id = $1 AND {condition}");
        execute(tx, sql, vec![space.id.into(), text_list(item_ids)]).await?;
        let changes: Vec<(i64, i64, i64)> =
            there.values().zip(1..).map(|(number, at)| (locked.seq + at, 0, *number)).collect();
        insert_changes(tx, space.id, &changes).await?;
        count_points(tx, space.id, -count).await?;
        Ok(Written { seq: locked.seq + count, inserted: 0, changed: there.len() as u64 })
    }

    /// Replaces some columns of points' payload. Items without a point are passed over. Rows are
    /// of different items.
    ///
    /// # Errors
    /// As [`Self::upsert`].
    pub async fn set_columns(
        &self,
        space: &Space,
        rows: &HashMap<String, Payload>,
        columns: &[String],
    ) -> Result<ColumnsSet, ServiceError> {
        let tx = self.sql.begin().await?;
        // The lock comes first: no other write between what is read and what is written.
        let locked = take_numbers(&tx, space, 0).await?;
        let there = self.points_in(&tx, space, rows.keys().map(String::as_str)).await?;
        let mut set = ColumnsSet { found: there.len() as u64, ..ColumnsSet::default() };
        set.written.seq = locked.seq;
        let (mut points, mut types) = (Vec::new(), BTreeMap::new());
        for point in there {
            let Some(given) = rows.get(&point.item_id) else { continue };
            let changed = match point.payload.with_columns(columns, given) {
                Ok(payload) if payload == point.payload => continue,
                Ok(payload) => payload.to_bytes(),
                Err(error) => {
                    set.failed.push((point.item_id, error.to_string()));
                    continue;
                }
            };
            if changed.len() > PAYLOAD_BYTES_MAX {
                let message =
                    format!("{} bytes of payload; at most {PAYLOAD_BYTES_MAX}", changed.len());
                set.failed.push((point.item_id, message));
                continue;
            }
            let fields = given.fields().iter().filter(|(name, _)| columns.contains(name));
            types.extend(fields.filter_map(|(name, v)| Some((name.clone(), v.column_type()?))));
            let Point { item_id, vector, .. } = point;
            points.push(NewPoint { item_id, vector, payload: changed });
        }
        if !points.is_empty() {
            set.written = self.upsert_in(&tx, space, &points, &types, "").await?;
        }
        tx.commit().await.map_err(db_error)?;
        Ok(set)
    }

    async fn points_in(
        &self,
        tx: &DatabaseTransaction,
        space: &Space,
        item_ids: impl Iterator<Item = &str>,
    ) -> Result<Vec<Point>, ServiceError> {
        let columns = self.point_columns(&space.vectors);
        let condition = is_in_texts(self.backend(), "item_id", 2);
        let sql = format!("SELECT {columns} FROM point WHERE space_id = $1 AND {condition}");
        let found = select(tx, sql, vec![space.id.into(), text_list(item_ids)]).await?;
        found.iter().map(|row| rows::point(self.backend(), &space.vectors, row)).collect()
    }

    async fn numbers_in(
        &self,
        tx: &DatabaseTransaction,
        space: Uuid,
        item_ids: impl Iterator<Item = &str>,
    ) -> Result<HashMap<String, i64>, ServiceError> {
        let condition = is_in_texts(self.backend(), "item_id", 2);
        let sql = format!("SELECT item_id, number FROM point WHERE space_id = $1 AND {condition}");
        let found = select(tx, sql, vec![space.into(), text_list(item_ids)]).await?;
        let read = |row: &sea_orm::QueryResult| {
            Ok((row.try_get("", "item_id")?, row.try_get("", "number")?))
        };
        found.iter().map(read).collect::<Result<_, sea_orm::DbErr>>().map_err(db_error)
    }

    pub(super) fn point_columns(&self, settings: &Settings) -> String {
        let vector = vector_bytes(self.backend(), settings.element(), "");
        format!("item_id, number, payload, {vector}")
    }

    async fn points_where(
        &self,
        space: &Space,
        condition: &str,
        values: Vec<Value>,
    ) -> Result<Vec<Point>, ServiceError> {
        let columns = self.point_columns(&space.vectors);
        let sql = format!("SELECT {columns} FROM point WHERE space_id = $1 AND {condition}");
        let found = self.rows(sql, values).await?;
        found.iter().map(|row| rows::point(self.backend(), &space.vectors, row)).collect()
    }

    /// The points of these items, by item id.
    ///
    /// # Errors
    /// The database's.
    pub async fn points_of(
        &self,
        space: &Space,
        item_ids: &[String],
    ) -> Result<Vec<Point>, ServiceError> {
        let condition = format!("{} ORDER BY item_id", is_in_texts(self.backend(), "item_id", 2));
        self.points_where(space, &condition, vec![space.id.into(), text_list(item_ids)]).await
    }

    /// The points of these numbers that are still there.
    ///
    /// # Errors
    /// The database's.
    pub async fn points_numbered(
        &self,
        space: &Space,
        numbers: &[u32],
    ) -> Result<Vec<Point>, ServiceError> {
        let condition = is_in_numbers(self.backend(), "number", 2);
        self.points_where(space, &condition, vec![space.id.into(), text_list(numbers)]).await
    }

    /// Up to `limit` points after an item id, by item id.
    ///
    /// # Errors
    /// The database's.
    pub async fn points_after_item(
        &self,
        space: &Space,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Point>, ServiceError> {
        let condition = "item_id > $2 ORDER BY item_id LIMIT $3";
        let values = vec![space.id.into(), after.into(), i64::from(limit).into()];
        self.points_where(space, condition, values).await
    }

    /// Up to `limit` item ids after one, in their order.
    ///
    /// # Errors
    /// The database's.
    pub async fn items_after(
        &self,
        space: &Space,
        after: &str,
        limit: u32,
    ) -> Result<Vec<String>, ServiceError> {
        let sql = "SELECT item_id FROM point WHERE space_id = $1 AND item_id > $2 ORDER BY item_id LIMIT $3";
        let values = vec![space.id.into(), after.into(), i64::from(limit).into()];
        let found = self.rows(sql, values).await?;
        found.iter().map(|row| row.try_get("", "item_id").map_err(db_error)).collect()
    }

    /// Up to `limit` points after a number, by number.
    ///
    /// # Errors
    /// The database's.
    pub async fn points_after_number(
        &self,
        space: &Space,
        after: u32,
        limit: u32,
    ) -> Result<Vec<Point>, ServiceError> {
        let condition = "number > $2 ORDER BY number LIMIT $3";
        let values = vec![space.id.into(), i64::from(after).into(), i64::from(limit).into()];
        self.points_where(space, condition, values).await
    }

    /// The payload columns of a space and their types.
    ///
    /// # Errors
    /// The database's.
    pub async fn payload_columns(
        &self,
        space: Uuid,
    ) -> Result<BTreeMap<String, ColumnType>, ServiceError> {
        let sql = "SELECT name, kind, list FROM payload_column WHERE space_id = $1";
        columns_of(&self.rows(sql, vec![space.into()]).await?)
    }
}

fn no_space(space: &Space) -> ServiceError {
    ServiceError::not_found("space", &space.name)
}

async fn take_numbers(
    tx: &DatabaseTransaction,
    space: &Space,
    count: i64,
) -> Result<Locked, ServiceError> {
    let sql = "UPDATE space SET last_seq = last_seq + $1, last_number = last_number + $1 \
        WHERE id = $2 AND deleted_at IS NULL RETURNING last_seq, last_number, embedder, point_count";
    let found = select(tx, sql, vec![count.into(), space.id.into()]).await?;
    let row = found.first().ok_or_else(|| no_space(space))?;
    let locked = Locked {
        seq: row.try_get("", "last_seq").map_err(db_error)?,
        number: row.try_get("", "last_number").map_err(db_error)?,
        embedder: row.try_get("", "embedder").map_err(db_error)?,
        points: row.try_get("", "point_count").map_err(db_error)?,
    };
    if locked.number > i64::from(u32::MAX - 1) {
        return Err(ServiceError::exhausted(
            "the space has given four billion numbers; make a new space and load it",
        )
        .reason("SPACE_FULL"));
    }
    Ok(locked)
}

/// A write that names no embedder says that its vectors are of the space's. The first name is
/// recorded while there is no point that it may not be true of.
async fn same_embedder(
    tx: &DatabaseTransaction,
    space: &Space,
    locked: &Locked,
    given: &str,
) -> Result<(), ServiceError> {
    let known = locked.embedder.as_str();
    if given.is_empty() || given == known {
        return Ok(());
    }
    if !known.is_empty() || locked.points > 0 {
        let known = if known.is_empty() { "no embedder that is known" } else { known };
        let message = format!(
            "space {} holds vectors of {known}; those of {given} are not comparable: make another space for them",
            space.name
        );
        return Err(ServiceError::precondition(message).reason("EMBEDDER_MISMATCH"));
    }
    let sql = "UPDATE space SET embedder = $1 WHERE id = $2";
    execute(tx, sql, vec![given.into(), space.id.into()]).await?;
    Ok(())
}

fn kind_code(kind: Kind) -> i16 {
    match kind {
        Kind::Bool => 1,
        Kind::Int => 2,
        Kind::Float => 3,
        Kind::Text => 4,
        Kind::Time => 5,
        Kind::Date => 6,
    }
}

fn columns_of(
    found: &[sea_orm::QueryResult],
) -> Result<BTreeMap<String, ColumnType>, ServiceError> {
    let all = [Kind::Bool, Kind::Int, Kind::Float, Kind::Text, Kind::Time, Kind::Date];
    let mut columns = BTreeMap::new();
    for row in found {
        let code: i16 = row.try_get("", "kind").map_err(db_error)?;
        let kind = all.into_iter().find(|kind| kind_code(*kind) == code);
        let kind = kind.ok_or_else(|| damaged("a column's type"))?;
        let list = row.try_get("", "list").map_err(db_error)?;
        let name: String = row.try_get("", "name").map_err(db_error)?;
        columns.insert(name, ColumnType { kind, list });
    }
    Ok(columns)
}

/// Compares with the columns that are there and adds those that are not. The
/// space's lock is held, so nobody adds them meanwhile.
async fn demand_columns(
    tx: &DatabaseTransaction,
    space: Uuid,
    columns: &BTreeMap<String, ColumnType>,
    points: &[NewPoint],
) -> Result<(), ServiceError> {
    if columns.is_empty() {
        return Ok(());
    }
    let sql = "SELECT name, kind, list FROM payload_column WHERE space_id = $1";
    let known = columns_of(&select(tx, sql, vec![space.into()]).await?)?;
    for (name, given) in columns {
        match known.get(name) {
            Some(has) if has == given => {}
            Some(has) => {
                let message =
                    format!("{name:?} is {} and {} is given", has.data_type(), given.data_type());
                let field = first_of(points, name, *given)
                    .map_or_else(|| "payload".to_owned(), |at| format!("points[{at}].payload"));
                return Err(ServiceError::invalid(&field, message)
                    .reason("PAYLOAD_TYPE_MISMATCH")
                    .with("column", name));
            }
            None => {
                let sql = "INSERT INTO payload_column (space_id, name, kind, list) VALUES ($1, $2, $3, $4)";
                let values = vec![
                    space.into(),
                    name.as_str().into(),
                    kind_code(given.kind).into(),
                    given.list.into(),
                ];
                execute(tx, sql, values).await?;
            }
        }
    }
    let total = known.keys().chain(columns.keys()).collect::<std::collections::BTreeSet<_>>().len();
    if total > payload_index::COLUMNS_MAX {
        let message =
            format!("{total} columns; a space has at most {}", payload_index::COLUMNS_MAX);
        return Err(ServiceError::invalid("payload", message));
    }
    Ok(())
}

/// The first point with a value of this type in a column.
fn first_of(points: &[NewPoint], column: &str, column_type: ColumnType) -> Option<usize> {
    points.iter().position(|point| {
        let payload = Payload::from_bytes(&point.payload).ok();
        payload.is_some_and(|payload| {
            payload.get(column).and_then(payload_index::Value::column_type) == Some(column_type)
        })
    })
}

async fn insert_points(
    tx: &DatabaseTransaction,
    space: &Space,
    points: &[NewPoint],
    first_number: i64,
) -> Result<(), ServiceError> {
    let backend = sea_orm::ConnectionTrait::get_database_backend(tx);
    let element = space.vectors.element();
    let column = vector_column(backend, element);
    let mut sql = format!(
        "INSERT INTO point (space_id, item_id, number, payload, updated_at, {column}) VALUES "
    );
    let mut values: Vec<Value> = vec![space.id.into(), now_micros().into()];
    for (point, at) in points.iter().zip(0_i64..) {
        let next = values.len() + 1;
        let separator = if at == 0 { "" } else { "," };
        let vector = vector_parameter(backend, element, next + 3);
        sql.push_str(&format!("{separator}($1,${next},${},${},$2,{vector})", next + 1, next + 2));
        values.push(point.item_id.as_str().into());
        values.push((first_number + at).into());
        values.push(point.payload.clone().into());
        values.push(vector_value(backend, &space.vectors, &point.vector));
    }
    sql.push_str(&format!(
        " ON CONFLICT (space_id, item_id) DO UPDATE SET number = excluded.number, \
         payload = excluded.payload, updated_at = excluded.updated_at, {column} = excluded.{column}"
    ));
    execute(tx, sql, values).await?;
    Ok(())
}

/// (seq, number, removed) of each.
async fn insert_changes(
    tx: &DatabaseTransaction,
    space: Uuid,
    changes: &[(i64, i64, i64)],
) -> Result<(), ServiceError> {
    for some in changes.chunks(2_000) {
        let mut sql =
            "INSERT INTO point_change (space_id, at, seq, number, removed) VALUES ".to_owned();
        let mut values: Vec<Value> = vec![space.into(), now_micros().into()];
        for (at, (seq, number, removed)) in some.iter().enumerate() {
            let next = values.len() + 1;
            let separator = if at == 0 { "" } else { "," };
            sql.push_str(&format!("{separator}($1,$2,${next},${},${})", next + 1, next + 2));
            values.extend([(*seq).into(), (*number).into(), (*removed).into()]);
        }
        execute(tx, sql, values).await?;
    }
    Ok(())
}

async fn count_points(
    tx: &DatabaseTransaction,
    space: Uuid,
    added: i64,
) -> Result<(), ServiceError> {
    let sql = "UPDATE space SET point_count = point_count + $1 WHERE id = $2";
    execute(tx, sql, vec![added.into(), space.into()]).await?;
    Ok(())
}
