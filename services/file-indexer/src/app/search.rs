//! Finding files.

use std::collections::HashMap;

use caller::Caller;
use options_api::v1::Level;
use serde::{Deserialize, Serialize};
use service_error::ServiceError;

use super::{Indexer, absolute};
use crate::model::{Location, Query, Sort, SortBy, relative_to};
use crate::store::{Found, Said, SortValue, UsageRow};

/// Entries that a pattern is tried on for one page; then the page ends short,
/// with a token.
const TRIED_MAX: usize = 200_000;
const TRIED_AT_ONCE: u32 = 2_000;
const FACETS: u32 = 50;

/// Where a query looks, in the caller's words.
#[derive(Debug, Default)]
pub struct QueryText {
    pub location: String,
    pub path: String,
}

/// An entry with its place and what is said of it.
#[derive(Debug)]
pub struct Shown {
    pub found: Found,
    pub location: Location,
    pub said: Said,
    /// Path and inode of the archive that it lies in.
    pub archive: Option<(String, i64)>,
}

/// A page, and the key it ends with if there may be more.
#[derive(Debug)]
pub struct FilePage {
    pub files: Vec<Shown>,
    pub next: Option<PageKey>,
}

/// The end of a page.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PageKey {
    number: Option<i64>,
    text: Option<String>,
    id: i64,
}

impl PageKey {
    fn of(found: &Found, by: SortBy) -> Self {
        let (number, text) = match by {
            SortBy::Number => (None, None),
            SortBy::Name => (None, Some(found.name.clone())),
            SortBy::Size => (Some(found.size), None),
            SortBy::Modified => (Some(found.modified), None),
        };
        Self { number, text, id: found.id }
    }

    fn parts(self) -> (SortValue, i64) {
        let value = match (self.text, self.number) {
            (Some(text), _) => SortValue::Text(text),
            (None, number) => SortValue::Number(number.unwrap_or(0)),
        };
        (value, self.id)
    }
}

/// How many match.
#[derive(Debug)]
pub struct Counted {
    pub count: i64,
    pub bytes: i64,
    pub kinds: Vec<(String, i64, i64)>,
    pub extensions: Vec<(String, i64, i64)>,
    pub locations: Vec<(String, i64, i64)>,
}

impl Indexer {
    /// Narrows a query to what the caller may read.
    async fn narrow(
        &self,
        caller: &Caller,
        asked: &QueryText,
        query: &mut Query,
    ) -> Result<HashMap<i64, Location>, ServiceError> {
        let action = "quarry.files.v1.FilesService/SearchFiles";
        let mut locations = self.visible(caller).await?;
        if !asked.location.is_empty() {
            let location = self.location_for(caller, Level::Read, &asked.location, action).await?;
            query.within = Some((location.id, String::new()));
            locations.insert(location.id, location);
        }
        if !asked.path.is_empty() {
            let (location, relative) =
                self.place_of(caller, Level::Read, &asked.path, action).await?;
            if query.within.as_ref().is_some_and(|(id, _)| *id != location.id) {
                return Err(ServiceError::invalid(
                    "query.path",
                    "lies in another location than query.location_id",
                ));
            }
            query.within = Some((location.id, relative));
            locations.insert(location.id, location);
        }
        query.locations = locations.keys().copied().collect();
        query.locations.sort_unstable();
        Ok(locations)
    }

    /// A page of what is looked for.
    ///
    /// # Errors
    /// `NotFound` for a place that the caller may not see.
    pub async fn search(
        &self,
        caller: &Caller,
        asked: &QueryText,
        mut query: Query,
        sort: Sort,
        after: Option<PageKey>,
        size: u32,
    ) -> Result<FilePage, ServiceError> {
        let locations = self.narrow(caller, asked, &mut query).await?;
        let wanted = size as usize;
        let (mut found, mut key, mut tried) = (Vec::new(), after, 0);
        let next = loop {
            let at_once = if query.matcher.is_some() { TRIED_AT_ONCE } else { size + 1 };
            let after = key.clone().map(PageKey::parts);
            let rows = self.store.search(&query, sort, after, at_once).await?;
            let is_last = rows.len() < at_once as usize;
            tried += rows.len();
            let mut is_more = false;
            for row in rows {
                if found.len() == wanted {
                    is_more = true;
                    break;
                }
                key = Some(PageKey::of(&row, sort.by));
                if query.matcher.as_ref().is_none_or(|matcher| matcher.matches(&row.name)) {
                    found.push(row);
                }
            }
            if is_more || (tried >= TRIED_MAX && !is_last) {
                break key;
            }
            if is_last {
                break None;
            }
        };
        let files = self.shown(found, &locations).await?;
        Ok(FilePage { files, next })
    }

    /// Entries with their places and what is said of them.
    pub(super) async fn shown(
        &self,
        found: Vec<Found>,
        locations: &HashMap<i64, Location>,
    ) -> Result<Vec<Shown>, ServiceError> {
        let mut said = self.store.said_of(&found).await?;
        let mut within: Vec<i64> = found.iter().filter_map(|found| found.archive).collect();
        within.sort_unstable();
        within.dedup();
        let archives = self.store.archives_at(&within).await?;
        let shown = found.into_iter().filter_map(|found| {
            let location = locations.get(&found.location)?.clone();
            let said = said.remove(&found.id).unwrap_or_default();
            let archive = found.archive.and_then(|id| archives.get(&id)).cloned();
            Some(Shown { found, location, said, archive })
        });
        Ok(shown.collect())
    }

    /// How many match, in groups.
    ///
    /// # Errors
    /// As [`Self::search`]; a pattern can't be counted.
    pub async fn count(
        &self,
        caller: &Caller,
        asked: &QueryText,
        mut query: Query,
    ) -> Result<Counted, ServiceError> {
        if query.matcher.is_some() {
            return Err(ServiceError::invalid(
                "query",
                "glob and regex can't be counted; search pages of them",
            ));
        }
        let locations = self.narrow(caller, asked, &mut query).await?;
        let all = self.store.facet(&query, "1", 1).await?;
        let (count, bytes) = all.first().map_or((0, 0), |(_, count, bytes)| (*count, *bytes));
        let by_location = self.store.facet(&query, "d.location_id", FACETS).await?;
        let named = by_location.into_iter().filter_map(|(id, count, bytes)| {
            let location = locations.get(&id.parse().ok()?)?;
            Some((location.path.clone(), count, bytes))
        });
        Ok(Counted {
            count,
            bytes,
            kinds: self.store.facet(&query, "e.kind", FACETS).await?,
            extensions: self.store.facet(&query, "e.ext", FACETS).await?,
            locations: named.collect(),
        })
    }

    /// What lies below a directory, and in each directory of it.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn usage(
        &self,
        caller: &Caller,
        location: &str,
        path: &str,
        limit: u32,
    ) -> Result<(Location, UsageRow, Vec<UsageRow>), ServiceError> {
        let action = "quarry.files.v1.FilesService/GetUsage";
        let (location, relative) = if location.is_empty() {
            self.place_of(caller, Level::Read, path, action).await?
        } else {
            let location = self.location_for(caller, Level::Read, location, action).await?;
            let relative = if path.is_empty() {
                String::new()
            } else {
                let path = absolute("path", path)?;
                let relative = relative_to(&location.path, &path).map(str::to_owned);
                relative
                    .ok_or_else(|| ServiceError::invalid("path", "does not lie in the location"))?
            };
            (location, relative)
        };
        let total = self.store.usage(location.id, &relative).await?;
        let total = total.ok_or_else(|| ServiceError::not_found("directory", path))?;
        let within = self.store.usage_within(location.id, &relative, limit).await?;
        Ok((location, total, within))
    }
}
