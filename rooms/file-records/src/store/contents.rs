//! Which bytes a file holds, one row a content however many files have it.

use std::collections::{HashMap, HashSet};

use file_scan::{Content, MediaFacts};
use sea_orm::{DatabaseTransaction, DbBackend, QueryResult};
use service_error::ServiceError;
use sql_store::db_error;

use super::bulk::{self, Column};
use super::changes::{ChangeKind, Logged, path_in};
use super::merge::take_ids;
use super::{ScanKey, Store, all, execute, get, sum};

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
        after: (i64, i64),
        limit: u32,
    ) -> Result<Vec<ToHash>, ServiceError> {
        let (group, row, hex) = match self.backend() {
            DbBackend::Postgres => ("json_agg", "json_build_array", "encode(c.hash, 'hex')"),
            _ => ("json_group_array", "json_array", "hex(c.hash)"),
        };
        let (content, join) = match which {
            Which::Unhashed => ("NULL", ""),
            Which::UnhashedOrUnseen => ("NULL", "LEFT JOIN content c ON c.id = e.content_id"),
            Which::Hashed => (hex, "LEFT JOIN content c ON c.id = e.content_id"),
        };
        // One row a directory: a row costs more than what is in it. The sign: directories
        // are read in the order of their numbers and no further than a page needs.
        let sql = format!(
            "SELECT p.dir_id, p.path, CAST({group}({row}(p.id, p.name, p.ino, p.size, p.modified, p.changed, p.content_id, p.hash))
               AS text) AS files
             FROM (SELECT e.dir_id, d.path, e.id, e.name, e.ino, e.size, e.modified, e.changed, e.content_id, {content} AS hash
               FROM dir d JOIN entry e ON e.dir_id = d.id {join}
               WHERE +d.location_id = $1 AND d.archive IS NULL AND e.kind = 1 AND {} AND e.gone IS NULL
                 AND d.id >= $2 AND (d.id > $2 OR e.id > $3)
               ORDER BY d.id, e.id LIMIT $4) p GROUP BY p.dir_id, p.path",
            which.condition()
        );
        let values = vec![location.into(), after.0.into(), after.1.into(), i64::from(limit).into()];
        let mut files = Vec::new();
        for row in &self.rows(&sql, values).await? {
            files_of(row, &mut files)?;
        }
        files.sort_unstable_by_key(|file| (file.dir, file.id));
        Ok(files)
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
        let ids = self.content_ids(&tx, scan, &hashed, by).await?;
        let (mut entries, mut contents, mut states) = (Vec::new(), Vec::new(), Vec::new());
        for file in &hashed {
            entries.push(file.entry);
            contents.push(ids.get(&by.key(scan, &file.content)).copied());
            states.push(if file.is_fresh { 2 } else { 1 });
        }
        let columns = [
            ("id", Column::I64(entries)),
            ("content_id", Column::OptI64(contents)),
            ("hashed", Column::I64(states)),
        ];
        bulk::update(&tx, "entry", &columns, "").await?;
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

    async fn content_ids(
        &self,
        tx: &DatabaseTransaction,
        scan: ScanKey,
        hashed: &[Hashed],
        by: HashedBy,
    ) -> Result<HashMap<Vec<u8>, i64>, ServiceError> {
        let key = |file: &Hashed| by.key(scan, &file.content);
        let unique: HashSet<Vec<u8>> = hashed.iter().map(key).collect();
        let mut ids = self.known_contents(tx, &unique).await?;
        let mut fresh: HashMap<Vec<u8>, &Hashed> = HashMap::new();
        let mut looked: Vec<&Hashed> = Vec::new();
        for file in hashed {
            if !ids.contains_key(&key(file)) {
                fresh.entry(key(file)).or_insert(file);
            } else if file.was_decoded() {
                looked.push(file);
            }
        }
        let first = take_ids(tx, "content", fresh.len()).await?;
        let mut rows: Vec<(i64, &Hashed)> = Vec::with_capacity(fresh.len());
        for (at, (hash, file)) in (first..).zip(fresh) {
            rows.push((at, file));
            ids.insert(hash, at);
        }
        let mut columns = vec![
            ("id", Column::I64(rows.iter().map(|(id, _)| *id).collect())),
            ("hash", Column::Bytes(rows.iter().map(|(_, file)| Some(key(file))).collect())),
            ("size", Column::I64(rows.iter().map(|(_, file)| file.content.size).collect())),
            ("kind", Column::I64(rows.iter().map(|(_, file)| file.content.kind as i64).collect())),
        ];
        columns.extend(media_columns(rows.iter().map(|(_, file)| *file)));
        // Two scans may find the same new content at once: the first row stays.
        bulk::insert(tx, "content", &columns, "ON CONFLICT DO NOTHING").await?;
        if self.backend() == DbBackend::Postgres {
            ids = self.known_contents(tx, &unique).await?;
            // What the other scan saw less closely.
            let stands = |row: &&(i64, &Hashed)| ids.get(&key(row.1)) == Some(&row.0);
            looked.extend(
                rows.iter().filter(|row| row.1.was_decoded() && !stands(row)).map(|row| row.1),
            );
        }
        let known: Vec<i64> =
            looked.iter().filter_map(|file| ids.get(&key(file))).copied().collect();
        let mut columns = vec![("id", Column::I64(known))];
        columns.extend(media_columns(looked.into_iter()));
        bulk::update(tx, "content", &columns, "").await?;
        Ok(ids)
    }

    async fn known_contents(
        &self,
        tx: &DatabaseTransaction,
        hashes: &HashSet<Vec<u8>>,
    ) -> Result<HashMap<Vec<u8>, i64>, ServiceError> {
        let backend = self.backend();
        let sql = match backend {
            DbBackend::Postgres => {
                "SELECT id, hash FROM content WHERE hash IN (
                   SELECT decode(word, 'hex') FROM UNNEST(CAST($1::text AS text[])) word)"
            }
            _ => {
                "SELECT id, hash FROM content WHERE hash IN (SELECT unhex(value) FROM json_each($1))"
            }
        };
        let words: Vec<String> = hashes.iter().map(hex::encode).collect();
        let list = bulk::texts(backend, words.iter().map(String::as_str));
        let rows = all(tx, sql, vec![list]).await?;
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

/// As JSON: number, name, inode, size, times, content and its hash.
type FileOf = (i64, String, i64, i64, i64, i64, Option<i64>, Option<String>);

/// The files of a directory.
fn files_of(row: &QueryResult, files: &mut Vec<ToHash>) -> Result<(), ServiceError> {
    let (dir, path): (i64, String) = (get(row, "dir_id")?, get(row, "path")?);
    let list: Vec<FileOf> = serde_json::from_str(&get::<String>(row, "files")?)
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
