//! Which bytes a file holds, one row a content however many files have it.

use std::collections::HashMap;

use file_scan::{Content, MediaFacts};
use sea_orm::{DatabaseTransaction, DbBackend, QueryResult};
use service_error::ServiceError;
use sql_store::db_error;

use super::bulk::{self, Column};
use super::changes::{ChangeKind, Logged, path_in};
use super::given::Given;
use super::merge::take_ids;
use super::{ScanKey, Store, all, execute, get, sum};

/// Directories that are looked at for one page, at most.
const DIRS_MAX: i64 = 2_000;

/// A file whose bytes are to be read.
#[derive(Debug, Clone)]
pub struct ToHash {
    pub id: i64,
    /// Of the directory: pages go on after (dir, id).
    pub dir: i64,
    pub path: String,
    pub ino: i64,
    pub size: i64,
    pub modified: i64,
    pub changed: i64,
    /// The content that it had, and its hash: for `verify`.
    pub content: Option<(i64, Vec<u8>)>,
}

/// Whose bytes are read.
#[derive(Debug, Clone, Copy)]
pub enum Which {
    /// Those that have a hash, to compare it.
    Hashed,
    /// Those that have none, or one that may be old.
    Unhashed,
    /// And images whose pixels were not looked at.
    UnhashedOrUnseen,
}

impl Which {
    const fn condition(self) -> &'static str {
        match self {
            Self::Hashed => "e.hashed IN (1, 3)",
            Self::Unhashed => "e.hashed IN (0, 2)",
            Self::UnhashedOrUnseen => {
                "(e.hashed IN (0, 2) OR (c.kind = 4 AND c.likeness IS NULL AND COALESCE(c.broken, 0) = 0))"
            }
        }
    }
}

/// A file whose bytes were read.
#[derive(Debug)]
pub struct Hashed {
    pub entry: i64,
    /// Relative to the location.
    pub path: String,
    pub content: Content,
    pub media: Option<MediaFacts>,
    /// Its time is so fresh that a later change may bear the same one.
    pub is_fresh: bool,
}

impl Hashed {
    /// The pixels were looked at, or it is a clip: what the header of an image
    /// tells is known with the content, and must not take the place of more.
    fn was_decoded(&self) -> bool {
        self.media
            .as_ref()
            .is_some_and(|media| media.likeness.is_some() || media.broken || media.duration_ms > 0)
    }
}

/// Who read the bytes. What an agent says of them proves nothing: its contents
/// are its location's own, and nothing that is said of the same bytes elsewhere
/// shows through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashedBy {
    Server,
    Agent,
}

impl HashedBy {
    /// What tells a content apart: its hash, and after it the location whose
    /// agent says so.
    fn key(self, scan: ScanKey, content: &Content) -> Vec<u8> {
        let mut key = content.hash.to_vec();
        if self == Self::Agent {
            key.extend_from_slice(&scan.location.to_be_bytes());
        }
        key
    }
}

/// Its number, what tells it apart, and a file that holds it.
type NewContent<'a> = (i64, Vec<u8>, &'a Hashed);

impl Store {
    /// The next files of a location whose bytes are to be read; all hashed ones
    /// instead, to verify them.
    ///
    /// # Errors
    /// The database's.
    pub async fn to_hash(
        &self,
        location: i64,
        which: Which,
        mut after: (i64, i64),
        limit: u32,
    ) -> Result<Vec<ToHash>, ServiceError> {
        let limit = limit as usize;
        let mut files = Vec::new();
        while files.len() < limit {
            let left = i64::try_from(limit - files.len()).unwrap_or(i64::MAX);
            let Some((last, held)) = self.dirs_with(location, after.0, left).await? else { break };
            let (dir, id) = after;
            let mut values = vec![location.into(), dir.into(), id.into(), last.into()];
            let is_whole = held <= left;
            if !is_whole {
                values.push(left.into());
            }
            let sql = to_hash_sql(self.backend(), which, is_whole);
            for row in &self.rows(&sql, values).await? {
                files_of(row, &mut files)?;
            }
            // If there are more in these, the page is full.
            after = (last + 1, 0);
        }
        files.sort_unstable_by_key(|file| (file.dir, file.id));
        Ok(files)
    }

    /// The last of some directories of a location, from one on, that hold no more than so
    /// many files, or one that holds more, and how many they hold: without statistics a
    /// planner would sort all of them for each page.
    async fn dirs_with(
        &self,
        location: i64,
        from: i64,
        files: i64,
    ) -> Result<Option<(i64, i64)>, ServiceError> {
        let sql = "SELECT MAX(id) AS last, CAST(MAX(held) AS bigint) AS held FROM (
              SELECT id, files, SUM(files) OVER (ORDER BY id) AS held FROM (
                SELECT id, files FROM dir WHERE +location_id = $1 AND archive IS NULL AND id >= $2
                ORDER BY id LIMIT $4) page) counted WHERE held <= $3 OR held = files";
        let values = vec![location.into(), from.into(), files.into(), DIRS_MAX.into()];
        let Some(row) = self.row(sql, values).await? else { return Ok(None) };
        Ok(get::<Option<i64>>(&row, "last")?.zip(get(&row, "held")?))
    }

    /// How many files there are to read, counted up to `limit`.
    ///
    /// # Errors
    /// The database's.
    pub async fn to_hash_count(
        &self,
        location: i64,
        which: Which,
        limit: i64,
    ) -> Result<i64, ServiceError> {
        let sql = format!(
            "SELECT COUNT(*) AS n FROM (SELECT 1 FROM dir d JOIN entry e ON e.dir_id = d.id
               LEFT JOIN content c ON c.id = e.content_id
             WHERE d.location_id = $1 AND d.archive IS NULL AND e.kind = 1 AND {} AND e.gone IS NULL LIMIT $2) page",
            which.condition()
        );
        let row = self.row(&sql, vec![location.into(), limit.into()]).await?;
        row.as_ref().map_or(Ok(0), |row| sum(row, "n"))
    }

    /// Stores what files hold, and tells the log of each.
    ///
    /// # Errors
    /// As [`Store::merge`].
    pub async fn put_contents(
        &self,
        scan: ScanKey,
        hashed: Vec<Hashed>,
        by: HashedBy,
    ) -> Result<(), ServiceError> {
        self.put_hashed(scan, hashed, by, !scan.is_first()).await
    }

    /// The same for more files than the log is to be filled with: its readers
    /// begin anew.
    ///
    /// # Errors
    /// As [`Store::merge`].
    pub async fn put_many_contents(
        &self,
        scan: ScanKey,
        hashed: Vec<Hashed>,
        by: HashedBy,
    ) -> Result<(), ServiceError> {
        self.put_hashed(scan, hashed, by, false).await
    }

    async fn put_hashed(
        &self,
        scan: ScanKey,
        hashed: Vec<Hashed>,
        by: HashedBy,
        is_told: bool,
    ) -> Result<(), ServiceError> {
        if hashed.is_empty() {
            return Ok(());
        }
        let tx = self.sql.begin().await?;
        self.hold(&tx, scan).await?;
        let (contents, newest) = self.content_ids(&tx, scan, &hashed, by).await?;
        let mut given = Given::new(newest);
        for (file, content) in hashed.iter().zip(contents) {
            given.push(file.entry, content, if file.is_fresh { 2 } else { 1 });
        }
        self.give_contents(&tx, scan, given).await?;
        if !is_told {
            self.log_unsaid(&tx, scan).await?;
        } else {
            let mut logged = Logged::default();
            for file in hashed {
                logged.add(ChangeKind::Hashed, file.entry, file.path, None);
            }
            self.log(&tx, scan, logged).await?;
        }
        tx.commit().await.map_err(db_error)
    }

    /// The content of each of some files, made where it is new; and the first number of
    /// those that are.
    pub(super) async fn content_ids(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        hashed: &[Hashed],
        by: HashedBy,
    ) -> Result<(Vec<i64>, i64), ServiceError> {
        // Of each content the first file that holds it, which has the number 0 until it is
        // known: rows that are written together lie together.
        let mut ids: HashMap<[u8; 32], i64> = HashMap::with_capacity(hashed.len());
        let mut first: Vec<&Hashed> = Vec::with_capacity(hashed.len());
        first.extend(hashed.iter().filter(|file| ids.insert(file.content.hash, 0).is_none()));
        // First of all: whoever makes contents takes numbers, so from here to the end of
        // the transaction nobody else makes one.
        let newest = take_ids(tx, "content", first.len()).await?;
        let keys: Vec<Vec<u8>> = first.iter().map(|file| by.key(scan, &file.content)).collect();
        for (key, known) in self.known_contents(tx, &keys).await? {
            if let Some(id) = key.first_chunk::<32>().and_then(|hash| ids.get_mut(hash)) {
                *id = known;
            }
        }
        let mut fresh: Vec<NewContent<'_>> = Vec::with_capacity(first.len());
        for (file, key) in first.into_iter().zip(keys) {
            if let Some(id) = ids.get_mut(&file.content.hash).filter(|id| **id == 0) {
                *id = newest + i64::try_from(fresh.len()).unwrap_or(i64::MAX);
                fresh.push((*id, key, file));
            }
        }
        let found: Vec<i64> =
            hashed.iter().filter_map(|file| ids.get(&file.content.hash)).copied().collect();
        self.insert_contents(tx, &fresh).await?;
        // What is known better now of contents that were known.
        let looked = hashed.iter().zip(&found);
        let (looked, known): (Vec<&Hashed>, Vec<i64>) =
            looked.filter(|(file, id)| **id < newest && file.was_decoded()).unzip();
        let mut columns = vec![("id", Column::I64(known))];
        columns.extend(media_columns(looked.into_iter()));
        bulk::update(tx, "content", &columns, "").await?;
        Ok((found, newest))
    }

    /// Of most files nothing is known but what they are.
    async fn insert_contents(
        &self,
        tx: &DatabaseTransaction,
        rows: &[NewContent<'_>],
    ) -> Result<(), ServiceError> {
        let (seen, plain): (Vec<_>, Vec<_>) =
            rows.iter().partition(|(_, _, file)| file.media.is_some());
        for (rows, is_seen) in [(plain, false), (seen, true)] {
            let of = |number: fn(&Content) -> i64| {
                Column::I64(rows.iter().map(|(_, _, file)| number(&file.content)).collect())
            };
            let mut columns = vec![
                ("id", Column::I64(rows.iter().map(|(id, _, _)| *id).collect())),
                ("hash", Column::Bytes(rows.iter().map(|(_, key, _)| Some(key.clone())).collect())),
                ("size", of(|content| content.size)),
                ("kind", of(|content| content.kind as i64)),
            ];
            if is_seen {
                columns.extend(media_columns(rows.iter().map(|(_, _, file)| *file)));
            }
            bulk::insert(tx, "content", &columns, "").await?;
        }
        Ok(())
    }

    async fn known_contents(
        &self,
        tx: &DatabaseTransaction,
        keys: &[Vec<u8>],
    ) -> Result<Vec<(Vec<u8>, i64)>, ServiceError> {
        // All keys side by side, each as long as the others: one value, and no text.
        let Some(width) = keys.first().map(Vec::len) else { return Ok(Vec::new()) };
        let keys = keys.concat();
        let sql = match self.backend() {
            DbBackend::Postgres => {
                // The limit: each is looked up, and none compared with all rows.
                "SELECT c.id, c.hash FROM GENERATE_SERIES(1, $3, $2) n CROSS JOIN LATERAL (
                   SELECT id, hash FROM content
                   WHERE hash = SUBSTRING($1 FROM CAST(n AS integer) FOR CAST($2 AS integer)) LIMIT 1) c"
            }
            _ => {
                "WITH RECURSIVE key (at) AS (SELECT 1 UNION ALL SELECT at + $2 FROM key WHERE at + $2 <= $3)
                 SELECT c.id, c.hash FROM key CROSS JOIN content c ON c.hash = SUBSTR($1, key.at, $2)"
            }
        };
        let [width, end] = [width, keys.len()].map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        let rows = all(tx, sql, vec![keys.into(), width.into(), end.into()]).await?;
        rows.iter().map(|row| Ok((get(row, "hash")?, get(row, "id")?))).collect()
    }

    /// Marks files whose bytes are not what they were: rotten ones (nothing else
    /// of them changed) count as no one's duplicate, drifted ones are looked at anew.
    ///
    /// # Errors
    /// As [`Store::merge`].
    pub async fn mark_unlike(
        &self,
        scan: ScanKey,
        entries: &[i64],
        rotten: bool,
    ) -> Result<(), ServiceError> {
        if entries.is_empty() {
            return Ok(());
        }
        let (tx, backend) = (self.sql.begin().await?, self.backend());
        self.hold(&tx, scan).await?;
        let state = if rotten { 3 } else { 2 };
        let sql = format!(
            "UPDATE entry SET hashed = {state} WHERE {}",
            bulk::in_numbers(backend, "id", 1)
        );
        execute(&tx, &sql, vec![bulk::numbers(backend, entries)]).await?;
        if !rotten {
            let unhashed = "UPDATE location SET unhashed = TRUE WHERE id = $1";
            execute(&tx, unhashed, vec![scan.location.into()]).await?;
        }
        tx.commit().await.map_err(db_error)
    }
}

/// One row a directory: a row costs more than what is in it. Directories are read whole,
/// without a sort; or, so many files at most, in the order of their numbers. The signs:
/// in the order of the directories' numbers and no further than a page needs.
pub(super) fn to_hash_sql(backend: DbBackend, which: Which, is_whole: bool) -> String {
    let (group, row, hex) = match backend {
        DbBackend::Postgres => ("json_agg", "json_build_array", "encode(c.hash, 'hex')"),
        _ => ("json_group_array", "json_array", "hex(c.hash)"),
    };
    let (content, join) = match which {
        Which::Unhashed => ("NULL", ""),
        Which::UnhashedOrUnseen => ("NULL", "LEFT JOIN content c ON c.id = e.content_id"),
        Which::Hashed => (hex, "LEFT JOIN content c ON c.id = e.content_id"),
    };
    let order = if is_whole { "" } else { "ORDER BY +e.id LIMIT $5" };
    format!(
        "SELECT d.id AS dir_id, d.path, CAST((
           SELECT {group}({row}(p.id, p.name, p.ino, p.size, p.modified, p.changed, p.content_id, p.hash)) FROM (
             SELECT e.id, e.name, e.ino, e.size, e.modified, e.changed, e.content_id, {content} AS hash
             FROM entry e {join}
             WHERE e.dir_id = d.id AND e.kind = 1 AND {} AND e.gone IS NULL AND (d.id > $2 OR e.id > $3)
             {order}) p) AS text) AS files
         FROM dir d WHERE +d.location_id = $1 AND d.archive IS NULL AND d.id >= $2 AND d.id <= $4 ORDER BY d.id",
        which.condition()
    )
}

/// As JSON: number, name, inode, size, times, content and its hash.
type FileOf = (i64, String, i64, i64, i64, i64, Option<i64>, Option<String>);

/// The files of a directory.
fn files_of(row: &QueryResult, files: &mut Vec<ToHash>) -> Result<(), ServiceError> {
    let (dir, path): (i64, String) = (get(row, "dir_id")?, get(row, "path")?);
    // Nothing at all is no list on Postgres.
    let Some(list) = get::<Option<String>>(row, "files")? else { return Ok(()) };
    let list: Vec<FileOf> = serde_json::from_str(&list)
        .map_err(|err| ServiceError::internal("files are told wrongly").caused_by(err))?;
    for (id, name, ino, size, modified, changed, content, hash) in list {
        let hash = hash.map(hex::decode).transpose();
        let hash = hash.map_err(|err| ServiceError::internal("no hash").caused_by(err))?;
        let path = path_in(&path, &name);
        let content = content.zip(hash);
        files.push(ToHash { id, dir, path, ino, size, modified, changed, content });
    }
    Ok(())
}

fn media_columns<'a>(
    files: impl Iterator<Item = &'a Hashed> + Clone,
) -> Vec<(&'static str, Column)> {
    let facts = || files.clone().map(|file| file.media.as_ref());
    let number = |of: fn(&MediaFacts) -> i64| {
        Column::OptI64(facts().map(|facts| facts.map(of).filter(|n| *n > 0)).collect())
    };
    let text = |of: fn(&MediaFacts) -> &Option<String>| {
        Column::OptText(facts().map(|facts| facts.and_then(|facts| of(facts).clone())).collect())
    };
    vec![
        ("width", number(|facts| facts.width)),
        ("height", number(|facts| facts.height)),
        ("orientation", number(|facts| facts.orientation)),
        ("duration", number(|facts| facts.duration_ms)),
        ("taken", text(|facts| &facts.taken)),
        ("camera", text(|facts| &facts.camera)),
        (
            "broken",
            Column::OptI64(facts().map(|facts| facts.map(|facts| facts.broken.into())).collect()),
        ),
        (
            "likeness",
            Column::OptI64(facts().map(|facts| facts.and_then(|facts| facts.likeness)).collect()),
        ),
        ("looked", Column::I64(facts().map(|facts| i64::from(facts.is_some())).collect())),
    ]
}
