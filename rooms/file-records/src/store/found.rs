//! An entry that was found, as a row and as a text of the database's.
//!
//! On SQLite, where each row is handed from thread to thread, a page is one row: a row more
//! costs more than its columns.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sea_orm::{QueryResult, TryGetable};
use service_error::ServiceError;
use sql_store::db_error;
use uuid::Uuid;

use crate::model::{ASIDE, Place};

/// Entries that were found together.
#[derive(Debug)]
pub struct FoundPage {
    pub found: Vec<Found>,
    /// Of the locations that they lie in.
    pub places: HashMap<i64, Place>,
    /// There may be something that is said of them.
    pub is_said: bool,
}

/// An entry that was found.
#[derive(Debug, Clone)]
pub struct Found {
    pub id: i64,
    pub location: i64,
    pub dir: String,
    pub name: String,
    pub kind: i16,
    pub size: i64,
    pub modified: i64,
    /// Of the directory that it lies in.
    pub dev: i64,
    pub ino: i64,
    pub ext: String,
    pub links: i64,
    pub mode: i32,
    pub target: Option<String>,
    pub is_gone: bool,
    /// The entry of the archive that it lies in.
    pub archive: Option<i64>,
    pub content: Option<FoundContent>,
}

/// What is known of its bytes.
#[derive(Debug, Clone)]
pub struct FoundContent {
    pub id: i64,
    pub hash: Vec<u8>,
    pub kind: i16,
    pub size: Option<(i64, i64)>,
    pub orientation: i16,
    pub taken: Option<String>,
    pub camera: Option<String>,
    pub is_broken: bool,
    /// How long it plays.
    pub duration_ms: Option<i64>,
}

impl Found {
    /// Relative to the location.
    pub fn path(&self) -> String {
        if self.dir.is_empty() { self.name.clone() } else { format!("{}/{}", self.dir, self.name) }
    }

    /// The last scan did not find it, or something else has its directory's place.
    pub fn is_missing(&self) -> bool {
        self.is_gone || self.dev == -1 || self.dir.contains(ASIDE)
    }
}

/// The first columns of a query over `e`, `d` and `c`; [`found_of`] reads them by their places.
pub(super) const FOUND: &str = "e.id, d.location_id, d.path, e.name, e.kind, e.size, e.modified, e.ino, e.ext, \
    e.links, e.mode, e.target, e.gone, d.archive, c.id AS content, c.hash, c.kind AS content_kind, c.width, c.height, \
    c.orientation, c.taken, c.camera, c.broken, c.duration, d.dev";

/// What follows them over `l`, for [`page_of_rows`].
pub(super) const PLACE: &str = "l.uuid, l.path AS place";

/// Behind it may stand whose agent says so.
const HASH_BYTES: usize = 32;

pub(super) fn found_of(row: &QueryResult) -> Result<Found, ServiceError> {
    let content = match at::<Option<i64>>(row, 14)? {
        None => None,
        Some(id) => {
            let mut hash: Vec<u8> = at(row, 15)?;
            hash.truncate(HASH_BYTES);
            let size: (Option<i64>, Option<i64>) = (at(row, 17)?, at(row, 18)?);
            Some(FoundContent {
                id,
                hash,
                kind: at(row, 16)?,
                size: size.0.zip(size.1),
                orientation: at::<Option<i16>>(row, 19)?.unwrap_or(0),
                taken: at(row, 20)?,
                camera: at(row, 21)?,
                is_broken: at::<Option<i16>>(row, 22)? == Some(1),
                duration_ms: at(row, 23)?,
            })
        }
    };
    Ok(Found {
        id: at(row, 0)?,
        location: at(row, 1)?,
        dir: at(row, 2)?,
        name: at(row, 3)?,
        kind: at(row, 4)?,
        size: at(row, 5)?,
        modified: at(row, 6)?,
        dev: at(row, 24)?,
        ino: at(row, 7)?,
        ext: at(row, 8)?,
        links: at(row, 9)?,
        mode: at(row, 10)?,
        target: at(row, 11)?,
        is_gone: at::<Option<i64>>(row, 12)?.is_some(),
        archive: at(row, 13)?,
        content,
    })
}

/// Rows of [`FOUND`] and [`PLACE`].
pub(super) fn page_of_rows(rows: &[QueryResult], is_said: bool) -> Result<FoundPage, ServiceError> {
    let found = rows.iter().map(found_of).collect::<Result<Vec<_>, _>>()?;
    let mut places = HashMap::new();
    for (row, found) in rows.iter().zip(&found) {
        if let Entry::Vacant(place) = places.entry(found.location) {
            place.insert(Place { uuid: at(row, 25)?, path: at(row, 26)? });
        }
    }
    Ok(FoundPage { found, places, is_said })
}

fn at<T: TryGetable>(row: &QueryResult, place: usize) -> Result<T, ServiceError> {
    row.try_get_by_index(place).map_err(db_error)
}

/// The same columns as one text of SQLite's, an [`EntryText`] and a [`ContentText`].
pub(super) const FOUND_TEXT: &str = "json_array(json_array(e.id, d.location_id, d.path, e.name, e.kind, e.size, \
    e.modified, e.ino, e.ext, e.links, e.mode, e.target, e.gone, d.archive, hex(l.uuid), l.path), \
    json_array(c.id, hex(c.hash), c.kind, c.width, c.height, c.orientation, c.taken, c.camera, c.broken, c.duration, d.dev))";

type EntryText = (
    i64,
    i64,
    String,
    String,
    i16,
    i64,
    i64,
    i64,
    String,
    i64,
    i32,
    Option<String>,
    Option<i64>,
    Option<i64>,
    String,
    String,
);
type ContentText = (
    Option<i64>,
    String,
    Option<i16>,
    Option<i64>,
    Option<i64>,
    Option<i16>,
    Option<String>,
    Option<String>,
    Option<i16>,
    Option<i64>,
    i64,
);

/// A page of [`FOUND_TEXT`], between brackets.
pub(super) fn page_in(page: &str, is_said: bool) -> Result<FoundPage, ServiceError> {
    let rows: Vec<(EntryText, ContentText)> = serde_json::from_str(page).map_err(defect)?;
    let mut places = HashMap::new();
    let found = rows.into_iter().map(|(entry, content)| of_text(entry, content, &mut places));
    let found = found.collect::<Result<_, _>>()?;
    Ok(FoundPage { found, places, is_said })
}

fn of_text(
    entry: EntryText,
    content: ContentText,
    places: &mut HashMap<i64, Place>,
) -> Result<Found, ServiceError> {
    let (
        id,
        location,
        dir,
        name,
        kind,
        size,
        modified,
        ino,
        ext,
        links,
        mode,
        target,
        gone,
        archive,
        uuid,
        path,
    ) = entry;
    if let Entry::Vacant(place) = places.entry(location) {
        place.insert(Place { uuid: Uuid::try_parse(&uuid).map_err(defect)?, path });
    }
    let (is_gone, dev) = (gone.is_some(), content.10);
    let content = content_of(content)?;
    Ok(Found {
        id,
        location,
        dir,
        name,
        kind,
        size,
        modified,
        dev,
        ino,
        ext,
        links,
        mode,
        target,
        is_gone,
        archive,
        content,
    })
}

fn content_of(content: ContentText) -> Result<Option<FoundContent>, ServiceError> {
    let (id, hash, kind, width, height, orientation, taken, camera, broken, duration_ms, _) =
        content;
    let (Some(id), Some(kind)) = (id, kind) else { return Ok(None) };
    let mut hash = hex::decode(hash).map_err(defect)?;
    hash.truncate(HASH_BYTES);
    let (size, orientation) = (width.zip(height), orientation.unwrap_or(0));
    let is_broken = broken == Some(1);
    Ok(Some(FoundContent {
        id,
        hash,
        kind,
        size,
        orientation,
        taken,
        camera,
        is_broken,
        duration_ms,
    }))
}

fn defect(error: impl std::error::Error + Send + Sync + 'static) -> ServiceError {
    ServiceError::internal("the database answered what was not expected")
        .reason("DATABASE_DEFECT")
        .caused_by(error)
}
