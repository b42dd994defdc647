//! Files that are the same, from the index alone.

use std::collections::HashMap;

use sea_orm::{DbBackend, QueryResult, Value};
use service_error::ServiceError;

use super::bulk;
use super::found::{FOUND, found_of};
use super::{Store, get, sum, sum_of};
use crate::model::Found;

/// What the files of a group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupKey {
    Content,
    NameAndSize,
    Size,
}

impl GroupKey {
    const fn column(self) -> &'static str {
        match self {
            Self::Content => "e.content_id",
            Self::NameAndSize => "e.name",
            Self::Size => "e.size",
        }
    }

    const fn which(self) -> &'static str {
        match self {
            Self::Content => "e.content_id IS NOT NULL AND e.hashed IN (1, 2)",
            Self::NameAndSize | Self::Size => "e.kind = 1",
        }
    }

    /// The location's column. Files of one content are found by it and not by
    /// their directories, whatever the planner knows: the sign says so.
    fn location(self) -> String {
        let sign = if self == Self::Content { "+" } else { "" };
        format!("{sign}d.location_id")
    }

    fn place_of(self, found: &Found) -> Place<'_> {
        match self {
            Self::Content => {
                (found.content.as_ref().map_or(0, |content| content.id), "", found.size)
            }
            Self::NameAndSize => (0, &found.name, found.size),
            Self::Size => (found.size, "", found.size),
        }
    }
}

const JOINED: &str = "FROM entry e JOIN dir d ON d.id = e.dir_id";
/// On Postgres the files of contents, with their directories, looked up one by one (the
/// limits see to that): without statistics its planner would read all files of the location.
const LOOKED_UP: &str = "FROM UNNEST(CAST($2::text AS bigint[])) AS k (id)
    CROSS JOIN LATERAL (SELECT * FROM entry e WHERE e.content_id = k.id AND e.gone IS NULL AND {WHICH}
      LIMIT 9223372036854775807) e
    CROSS JOIN LATERAL (SELECT * FROM dir WHERE id = e.dir_id LIMIT 1) d";

/// What tells a group: its number, its name, its size.
type Place<'a> = (i64, &'a str, i64);

/// Files that are the same.
#[derive(Debug, Clone)]
pub struct Group {
    /// A content's number, or a size; 0 where the name counts.
    pub number: i64,
    /// The name, where it counts.
    pub name: String,
    pub size: i64,
    pub count: i64,
    /// What one copy would free: names of one inode waste nothing.
    pub wasted: i64,
}

impl Group {
    fn place(&self, key: GroupKey) -> Place<'_> {
        match key {
            GroupKey::NameAndSize => (0, &self.name, self.size),
            GroupKey::Content | GroupKey::Size => (self.number, "", self.size),
        }
    }
}

/// A group of a page; nothing where only the totals are.
fn group_of(key: GroupKey, row: &QueryResult) -> Result<Option<Group>, ServiceError> {
    let Some(count) = get::<Option<i64>>(row, "n")? else { return Ok(None) };
    let (number, name) = match key {
        GroupKey::NameAndSize => (0, get(row, "k")?),
        GroupKey::Content | GroupKey::Size => (get(row, "k")?, String::new()),
    };
    Ok(Some(Group { number, name, size: get(row, "size")?, count, wasted: get(row, "wasted")? }))
}

/// Over all groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub groups: i64,
    pub files: i64,
    pub wasted: i64,
}

/// A statement's groups as `k`, `size`, `n` and `rank`, the bytes that all copies
/// but one take, negative; its values; and whether they are read from an index.
pub(super) type Grouped = (String, Vec<Value>, bool);

/// The rank of so many copies of a size, as `holding_rank` has it; no less than a number holds.
fn rank(copies: &str) -> String {
    const MOST: i64 = i64::MAX;
    format!(
        "CASE WHEN {copies} < 2 THEN 0 WHEN size > {MOST} / ({copies} - 1) THEN -{MOST} ELSE (1 - {copies}) * size END"
    )
}

/// What tells a copy of a file from its other names, wherever they are; within a location as
/// `holding` has it.
const INODE: &str = "p.device, e.ino, CASE WHEN e.links > 1 THEN 0 ELSE d.dev END";
const PLACED: &str =
    "FROM entry e JOIN dir d ON d.id = e.dir_id JOIN location p ON p.id = d.location_id";

impl Store {
    pub(super) fn grouped(&self, key: GroupKey, locations: &[i64], size_min: i64) -> Grouped {
        let size_min = size_min.max(1).into();
        match (key, locations) {
            (GroupKey::Content, [location]) => (
                format!(
                    "SELECT content_id AS k, size, files AS n, {} AS rank FROM holding
                     WHERE location_id = $1 AND files > 1 AND size >= $2",
                    rank("copies")
                ),
                vec![(*location).into(), size_min],
                true,
            ),
            (GroupKey::Content, _) => self.held_in_some(locations, size_min),
            _ => self.grouped_entries(key, locations, size_min),
        }
    }

    /// Contents that are in several of the locations may have names of one inode
    /// there, so their inodes are counted.
    fn held_in_some(&self, locations: &[i64], size_min: Value) -> Grouped {
        let backend = self.backend();
        let sql = format!(
            "SELECT k, size, n, {} AS rank FROM (SELECT h.content_id AS k, h.size, h.files AS n,
               CASE WHEN h.places = 1 THEN h.copies ELSE (SELECT COUNT(*) FROM (SELECT DISTINCT {INODE} {PLACED}
                 WHERE e.content_id = h.content_id AND e.size = h.size AND e.gone IS NULL AND {which} AND {}) i) END AS copies
             FROM (SELECT content_id, size, CAST(SUM(files) AS bigint) AS files, CAST(SUM(copies) AS bigint) AS copies,
               COUNT(*) AS places FROM holding WHERE {} AND size >= $2
               GROUP BY content_id, size HAVING SUM(files) > 1) h) c",
            rank("copies"),
            bulk::in_few(backend, &GroupKey::Content.location(), 1, "bigint"),
            bulk::in_few(backend, "location_id", 1, "bigint"),
            which = GroupKey::Content.which(),
        );
        (sql, vec![bulk::numbers(backend, locations), size_min], false)
    }

    fn grouped_entries(&self, key: GroupKey, locations: &[i64], size_min: Value) -> Grouped {
        let backend = self.backend();
        let sql = format!(
            "SELECT k, size, CAST(SUM(names) AS bigint) AS n, {} AS rank
             FROM (SELECT {column} AS k, e.size AS size, COUNT(*) AS names {PLACED}
               WHERE {} AND e.size >= $2 AND e.gone IS NULL AND {which} GROUP BY {column}, e.size, {INODE}) i
             GROUP BY k, size HAVING SUM(names) > 1",
            rank("COUNT(*)"),
            bulk::in_few(backend, "d.location_id", 1, "bigint"),
            column = key.column(),
            which = key.which(),
        );
        (sql, vec![bulk::numbers(backend, locations), size_min], false)
    }

    /// Up to `limit` groups, the most wasteful first, after the last of a page;
    /// and what all groups come to. Those of one location's contents are read from
    /// an index, others by one pass over the entries.
    ///
    /// # Errors
    /// The database's.
    pub async fn duplicate_groups(
        &self,
        key: GroupKey,
        locations: &[i64],
        size_min: i64,
        after: Option<&Group>,
        limit: u32,
    ) -> Result<(Vec<Group>, Totals), ServiceError> {
        let (grouped, mut values, is_indexed) = self.grouped(key, locations, size_min);
        let mut rest = "";
        if let Some(after) = after {
            // The first condition finds the place in an index.
            rest = "WHERE rank >= $3 AND (rank, k, size) > ($3, $4, $5)";
            values.push((-after.wasted).into());
            values.push(match key {
                GroupKey::NameAndSize => after.name.as_str().into(),
                GroupKey::Content | GroupKey::Size => after.number.into(),
            });
            values.push(after.size.into());
        }
        values.push(i64::from(limit).into());
        let (limit, not) = (values.len(), if is_indexed { "NOT" } else { "" });
        let sql = format!(
            "WITH grouped AS {not} MATERIALIZED ({grouped}),
               page AS (SELECT k, size, n, rank FROM grouped {rest} ORDER BY rank, k, size LIMIT ${limit}),
               total AS (SELECT COUNT(*) AS groups, CAST(SUM(n) AS bigint) AS files, {} AS all_wasted FROM grouped)
             SELECT total.groups, total.files, total.all_wasted, page.k, page.size, page.n, -page.rank AS wasted
             FROM total LEFT JOIN page ON 1 = 1 ORDER BY page.rank, page.k, page.size",
            sum_of(self.backend(), "(-rank)")
        );
        let rows = self.rows(&sql, values).await?;
        let totals = match rows.first() {
            None => Totals::default(),
            Some(row) => Totals {
                groups: get(row, "groups")?,
                files: sum(row, "files")?,
                wasted: sum(row, "all_wasted")?,
            },
        };
        let groups = rows.iter().filter_map(|row| group_of(key, row).transpose());
        Ok((groups.collect::<Result<_, _>>()?, totals))
    }

    /// The files of some groups, each group's in order; at most `limit` of each.
    ///
    /// # Errors
    /// The database's.
    pub async fn files_of_groups(
        &self,
        key: GroupKey,
        groups: &[Group],
        locations: &[i64],
        limit: u32,
    ) -> Result<Vec<Vec<Found>>, ServiceError> {
        let mut files: Vec<Vec<Found>> = groups.iter().map(|_| Vec::new()).collect();
        let mut few: HashMap<Place<'_>, usize> = HashMap::new();
        for (at, group) in groups.iter().enumerate() {
            if group.count > i64::from(limit) {
                files[at] = self.duplicate_files(key, group, locations, limit).await?;
            } else {
                few.insert(group.place(key), at);
            }
        }
        if few.is_empty() {
            return Ok(files);
        }
        let backend = self.backend();
        let mut values = vec![bulk::numbers(backend, locations)];
        let sizes: Vec<i64> = few.keys().map(|place| place.2).collect();
        let within = match key {
            GroupKey::Content => {
                let mut contents: Vec<i64> = few.keys().map(|place| place.0).collect();
                contents.sort_unstable();
                contents.dedup();
                values.push(bulk::numbers(backend, &contents));
                bulk::in_numbers(backend, "e.content_id", 2)
            }
            GroupKey::NameAndSize => {
                values.push(bulk::texts(backend, few.keys().map(|place| place.1)));
                values.push(bulk::numbers(backend, &sizes));
                let name = bulk::in_texts(backend, "e.name", 2);
                format!("{name} AND {}", bulk::in_numbers(backend, "e.size", 3))
            }
            GroupKey::Size => {
                values.push(bulk::numbers(backend, &sizes));
                bulk::in_numbers(backend, "e.size", 2)
            }
        };
        let which = key.which();
        let (from, condition) = match (key, backend) {
            (GroupKey::Content, DbBackend::Postgres) => {
                (LOOKED_UP.replace("{WHICH}", which), String::new())
            }
            _ => (JOINED.to_owned(), format!("{within} AND e.gone IS NULL AND {which} AND")),
        };
        let sql = format!(
            "SELECT {FOUND} {from} LEFT JOIN content c ON c.id = e.content_id WHERE {condition} {} ORDER BY e.id",
            bulk::in_few(backend, &key.location(), 1, "bigint"),
        );
        for row in &self.rows(&sql, values).await? {
            let found = found_of(row)?;
            // A name and a size of two groups may be one file's, which is of neither.
            let Some(at) = few.get(&key.place_of(&found)) else { continue };
            // It may have grown meanwhile.
            if files[*at].len() < limit as usize {
                files[*at].push(found);
            }
        }
        Ok(files)
    }

    /// The files of one group, in order; at most `limit`.
    ///
    /// # Errors
    /// The database's.
    pub async fn duplicate_files(
        &self,
        key: GroupKey,
        group: &Group,
        locations: &[i64],
        limit: u32,
    ) -> Result<Vec<Found>, ServiceError> {
        let key_value: Value = match key {
            GroupKey::NameAndSize => group.name.as_str().into(),
            GroupKey::Content | GroupKey::Size => group.number.into(),
        };
        let sql = format!(
            "SELECT {FOUND} FROM entry e JOIN dir d ON d.id = e.dir_id LEFT JOIN content c ON c.id = e.content_id
             WHERE {column} = $2 AND e.size = $3 AND e.gone IS NULL AND {which} AND {} ORDER BY e.id LIMIT $4",
            bulk::in_few(self.backend(), &key.location(), 1, "bigint"),
            column = key.column(),
            which = key.which(),
        );
        let values = vec![
            bulk::numbers(self.backend(), locations),
            key_value,
            group.size.into(),
            i64::from(limit).into(),
        ];
        self.rows(&sql, values).await?.iter().map(found_of).collect()
    }

    /// Files of some locations that no hash is known of. Where all files are known
    /// to be hashed only rotten ones and members of archives can be without.
    ///
    /// # Errors
    /// The database's.
    pub async fn unhashed_count(&self, locations: &[i64]) -> Result<i64, ServiceError> {
        let backend = self.backend();
        let sql = format!(
            "SELECT id, unhashed FROM location WHERE {}",
            bulk::in_numbers(backend, "id", 1)
        );
        let rows = self.rows(&sql, vec![bulk::numbers(backend, locations)]).await?;
        let (mut unhashed, mut hashed) = (Vec::new(), Vec::new());
        for row in &rows {
            let list = if get(row, "unhashed")? { &mut unhashed } else { &mut hashed };
            list.push(get::<i64>(row, "id")?);
        }
        let mut count = 0;
        for (locations, which, dirs) in [
            (unhashed, "e.hashed IN (0, 3)", "1 = 1"),
            (hashed.clone(), "e.hashed = 3", "d.archive IS NULL"),
            (hashed, "e.hashed IN (0, 3)", "d.archive IS NOT NULL"),
        ] {
            if locations.is_empty() {
                continue;
            }
            // Directory by directory, whatever the planner knows: archives are few.
            let sql = format!(
                "SELECT CAST(SUM((SELECT COUNT(*) FROM entry e WHERE e.dir_id = d.id AND e.kind = 1
                   AND {which} AND e.gone IS NULL AND e.size > 0)) AS bigint) AS n
                 FROM dir d WHERE {dirs} AND {}",
                bulk::in_few(backend, "d.location_id", 1, "bigint")
            );
            let row = self.row(&sql, vec![bulk::numbers(backend, &locations)]).await?;
            count += row.as_ref().map_or(Ok(0), |row| sum(row, "n"))?;
        }
        Ok(count)
    }

    /// Contents of images with their likeness, at most `limit`.
    ///
    /// # Errors
    /// The database's.
    pub async fn likenesses(
        &self,
        locations: &[i64],
        limit: u32,
    ) -> Result<Vec<(i64, i64, i64)>, ServiceError> {
        let sql = format!(
            "SELECT DISTINCT c.id, c.likeness, c.size FROM content c JOIN entry e ON e.content_id = c.id
             JOIN dir d ON d.id = e.dir_id WHERE c.likeness IS NOT NULL AND e.gone IS NULL AND {} ORDER BY c.id LIMIT $2",
            bulk::in_few(self.backend(), "d.location_id", 1, "bigint")
        );
        let values = vec![bulk::numbers(self.backend(), locations), i64::from(limit).into()];
        let rows = self.rows(&sql, values).await?;
        rows.iter()
            .map(|row| Ok((get(row, "id")?, get(row, "likeness")?, get(row, "size")?)))
            .collect()
    }
}
