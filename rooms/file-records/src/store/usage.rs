//! How much lies below a directory: a range of the directories' own totals.

use sea_orm::DbBackend;
use service_error::ServiceError;

use super::{Store, below, get, sum, sum_of};

/// A directory's totals, with all below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// Relative to the location.
    pub path: String,
    pub files: i64,
    pub bytes: i64,
    pub dirs: i64,
}

/// Columns of those of a location's directories that `which` says, as a query; {PATH} is the
/// path. On Postgres they are read from an index that has all but very long paths.
pub(super) fn totals_in(backend: DbBackend, columns: &str, which: &str) -> String {
    let sql = format!("SELECT {columns} FROM dir WHERE location_id = $1 AND {which}");
    if backend != DbBackend::Postgres {
        return sql.replace("{PATH}", "path");
    }
    let sql = sql.replace("{PATH}", "CAST(path AS text)");
    format!("{sql} AND octet_length(path) <= 2000 UNION ALL {sql} AND octet_length(path) > 2000")
}

impl Store {
    /// The totals of a directory; nothing if it is not known.
    ///
    /// # Errors
    /// The database's.
    pub async fn usage(&self, location: i64, path: &str) -> Result<Option<UsageRow>, ServiceError> {
        let (from, to) = below(path);
        // Two searches of an index: with OR between them it is gone through whole.
        let own = match path {
            "" => "",
            _ => {
                "SELECT files, bytes, archive FROM dir WHERE location_id = $1 AND path = $2 UNION ALL"
            }
        };
        let sql = format!(
            "SELECT CAST(SUM(files) AS bigint) AS files, {} AS bytes, COUNT(*) AS dirs FROM ({own} {}) d
             WHERE archive IS NULL OR archive = (SELECT archive FROM dir WHERE location_id = $1 AND path = $2)",
            sum_of(self.backend(), "bytes"),
            totals_in(self.backend(), "files, bytes, archive", "{PATH} >= $3 AND {PATH} < $4"),
        );
        let values = vec![location.into(), path.into(), from.into(), to.into()];
        let Some(row) = self.row(&sql, values).await? else { return Ok(None) };
        let dirs: i64 = get(&row, "dirs")?;
        Ok((dirs > 0).then_some(UsageRow {
            path: path.to_owned(),
            files: sum(&row, "files")?,
            bytes: sum(&row, "bytes")?,
            dirs,
        }))
    }

    /// The totals of the directories directly in one, the largest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn usage_within(
        &self,
        location: i64,
        path: &str,
        limit: u32,
    ) -> Result<Vec<UsageRow>, ServiceError> {
        let (from, to) = below(path);
        // The part of a path up to the first `/` after the directory's own.
        let cut = i64::try_from(from.chars().count()).unwrap_or(0) + 1;
        let first = match self.backend() {
            DbBackend::Postgres => "split_part(substr(path, CAST($5 AS integer)), '/', 1)",
            _ => "substr(substr(path, $5), 1, instr(substr(path, $5) || '/', '/') - 1)",
        };
        let sql = format!(
            "SELECT {first} AS child, CAST(SUM(files) AS bigint) AS files, {} AS bytes, COUNT(*) AS dirs FROM ({}) d
             WHERE archive IS NULL OR archive = (SELECT archive FROM dir WHERE location_id = $1 AND path = $6)
             GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT $4",
            sum_of(self.backend(), "bytes"),
            totals_in(
                self.backend(),
                "{PATH} AS path, files, bytes, archive",
                "{PATH} >= $2 AND {PATH} < $3 AND {PATH} <> ''"
            ),
        );
        let values = vec![
            location.into(),
            from.clone().into(),
            to.into(),
            i64::from(limit).into(),
            cut.into(),
            path.into(),
        ];
        let rows = self.rows(&sql, values).await?;
        rows.iter()
            .map(|row| {
                let child: String = get(row, "child")?;
                Ok(UsageRow {
                    path: format!("{from}{child}"),
                    files: sum(row, "files")?,
                    bytes: sum(row, "bytes")?,
                    dirs: get(row, "dirs")?,
                })
            })
            .collect()
    }
}
