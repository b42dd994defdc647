//! Entries get their contents, and the counts of equal files (`holding`) follow.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Value};
use service_error::ServiceError;
use sql_store::db_error;

use super::bulk::{self, Column};
use super::{ScanKey, Store, execute, get};

/// Entries with the contents that were read of them.
#[derive(Debug, Default)]
pub struct Given {
    entries: Vec<i64>,
    contents: Vec<i64>,
    states: Vec<i64>,
    /// The first content that is the transaction's own: no other entry has it yet.
    newest: i64,
}

impl Given {
    pub fn new(newest: i64) -> Self {
        Self { newest, ..Self::default() }
    }

    pub fn push(&mut self, entry: i64, content: i64, state: i64) {
        self.entries.push(entry);
        self.contents.push(content);
        self.states.push(state);
    }
}

/// The triggers of `holding` leave alone what is done while it is on; of this
/// transaction alone.
const TOLD: &str = "SELECT set_config('quarry.holding', $1, TRUE)";

/// Entries that had no content, counted as they get it; those of the transaction's own
/// contents without a look at what is counted yet. What the others' twins, names of one
/// inode (as migration 11 has it), count is asked of the table as it was before: no entry of the list is in it.
/// The range: without statistics the table would be read from end to end.
const FIRST: &str = "WITH fresh (id, content_id, hashed) AS (SELECT * FROM UNNEST(
      CAST($1::text AS bigint[]), CAST($2::text AS bigint[]), CAST($3::text AS bigint[]))),
    given AS (UPDATE entry e SET content_id = fresh.content_id, hashed = CAST(fresh.hashed AS smallint)
      FROM fresh WHERE e.id = fresh.id AND e.id BETWEEN $6 AND $7 AND e.content_id IS NULL
      RETURNING e.content_id, e.size, e.ino, e.gone, CASE WHEN e.links > 1 THEN 0 ELSE
        (SELECT dev FROM dir WHERE id = e.dir_id) END AS dev),
    named AS (SELECT content_id, size, ino, dev, COUNT(*) AS names FROM given
      WHERE size > 0 AND gone IS NULL GROUP BY 1, 2, 3, 4),
    made AS (INSERT INTO holding (location_id, content_id, size, files, copies)
      SELECT CAST($4 AS bigint), content_id, size, SUM(names), COUNT(*)
      FROM named WHERE content_id >= $5 GROUP BY content_id, size ORDER BY content_id, size),
    counted AS (INSERT INTO holding AS h (location_id, content_id, size, files, copies)
      SELECT CAST($4 AS bigint), content_id, size, SUM(names), COUNT(*) FILTER (WHERE NOT EXISTS (
        SELECT 1 FROM entry x WHERE x.content_id = n.content_id AND x.ino = n.ino AND x.size = n.size
          AND x.hashed IN (1, 2) AND x.gone IS NULL
          AND (SELECT CASE WHEN x.links > 1 THEN 0 ELSE p.dev END FROM dir p
            WHERE p.id = x.dir_id AND p.location_id = $4) = n.dev))
      FROM named n WHERE content_id < $5 GROUP BY content_id, size ORDER BY content_id, size
      ON CONFLICT (location_id, content_id, size)
      DO UPDATE SET files = h.files + excluded.files, copies = h.copies + excluded.copies)
    SELECT COUNT(*) AS n FROM given";

/// Those that had one, where it is another one or another state now.
const AGAIN: &str = "WITH fresh (id, content_id, hashed) AS (SELECT * FROM UNNEST(
      CAST($1::text AS bigint[]), CAST($2::text AS bigint[]), CAST($3::text AS bigint[])))
    UPDATE entry e SET content_id = fresh.content_id, hashed = CAST(fresh.hashed AS smallint) FROM fresh
    WHERE e.id = fresh.id AND e.id BETWEEN $4 AND $5
      AND (e.content_id IS DISTINCT FROM fresh.content_id OR e.hashed <> fresh.hashed)";

impl Store {
    /// Gives entries of the scan's location their contents. On SQLite a trigger counts
    /// each, which costs little more than the count's own row. On Postgres a trigger's
    /// way from the rows to the counts costs more than both: first contents, nearly all,
    /// are counted by the statement that stores them.
    pub(super) async fn give_contents(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        given: Given,
    ) -> Result<(), ServiceError> {
        let Given { entries, contents, states, newest } = given;
        let (backend, count) = (self.backend(), entries.len());
        if backend != DbBackend::Postgres {
            let mut columns =
                vec![("id", Column::I64(entries)), ("content_id", Column::I64(contents))];
            // Nearly all are in the same state: then it is no value of each row.
            let state = states.first().filter(|first| states.iter().all(|state| state == *first));
            let also = state.map(|state| format!(", hashed = {state}")).unwrap_or_default();
            if also.is_empty() {
                columns.push(("hashed", Column::I64(states)));
            }
            return bulk::update(tx, "entry", &columns, &also).await;
        }
        let range = [entries.iter().min(), entries.iter().max()];
        let range = range.map(|id| Value::from(id.copied().unwrap_or(0)));
        let lists = [entries, contents, states].map(|list| bulk::numbers(backend, &list));
        let mut values = lists.to_vec();
        values.extend([scan.location.into(), newest.into()]);
        values.extend(range.clone());
        execute(tx, TOLD, vec!["on".into()]).await?;
        let row = tx.query_one_raw(self.statement(FIRST, values)).await.map_err(db_error)?;
        let first: i64 = row.as_ref().map_or(Ok(0), |row| get(row, "n"))?;
        if usize::try_from(first).is_ok_and(|first| first == count) {
            return Ok(());
        }
        execute(tx, TOLD, vec!["".into()]).await?;
        let values = lists.into_iter().chain(range).collect();
        execute(tx, AGAIN, values).await.map(drop)
    }
}
