//! Entries that were found, as rows. On SQLite, where each row is handed from thread to thread, a
//! page is one row, a text (`FOUND_TEXT`): a row more costs more than its columns.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sea_orm::{QueryResult, TryGetable};
use service_error::ServiceError;
use sql_store::db_error;

use crate::model::{Found, FoundContent, FoundPage, HASH_BYTES, Place};

/// The first columns of a query over `e`, `d` and `c`; [`found_of`] reads them by their places.
pub(super) const FOUND: &str = "e.id, d.location_id, d.path, e.name, e.kind, e.size, e.modified, e.ino, e.ext, \
    e.links, e.mode, e.target, e.gone, d.archive, c.id AS content, c.hash, c.kind AS content_kind, c.width, c.height, \
    c.orientation, c.taken, c.camera, c.broken, c.duration, d.dev";

/// What follows them over `l`, for [`page_of_rows`].
pub(super) const PLACE: &str = "l.uuid, l.path AS place, l.missing";

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
            place.insert(Place { uuid: at(row, 25)?, path: at(row, 26)?, missing: at(row, 27)? });
        }
    }
    Ok(FoundPage { found, places, is_said })
}

fn at<T: TryGetable>(row: &QueryResult, place: usize) -> Result<T, ServiceError> {
    row.try_get_by_index(place).map_err(db_error)
}
