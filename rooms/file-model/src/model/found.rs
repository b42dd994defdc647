//! An entry that was found, and pages of them as a text of SQLite's.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use service_error::ServiceError;
use uuid::Uuid;

use super::dirs::ASIDE;
use super::location::Place;

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

/// Behind it may stand whose agent says so.
pub const HASH_BYTES: usize = 32;

/// Of `e`, `d`, `c` and `l` the values that [`page_in`] reads, by SQLite.
pub const FOUND_TEXT: &str = "json_array(json_array(e.id, d.location_id, d.path, e.name, e.kind, e.size, \
    e.modified, e.ino, e.ext, e.links, e.mode, e.target, e.gone, d.archive, hex(l.uuid), l.path), \
    json_array(c.id, hex(c.hash), c.kind, c.width, c.height, c.orientation, c.taken, c.camera, c.broken, c.duration, d.dev, \
    l.missing))";

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
    i64,
);

/// A page of [`FOUND_TEXT`], between brackets.
///
/// # Errors
/// Another text.
pub fn page_in(page: &str, is_said: bool) -> Result<FoundPage, ServiceError> {
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
    let (is_gone, dev, missing) = (gone.is_some(), content.10, content.11);
    if let Entry::Vacant(place) = places.entry(location) {
        place.insert(Place { uuid: Uuid::try_parse(&uuid).map_err(defect)?, path, missing });
    }
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
    let (id, hash, kind, width, height, orientation, taken, camera, broken, duration_ms, ..) =
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
