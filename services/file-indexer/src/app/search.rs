//! Finding files.

use std::collections::HashMap;

use access::Visible;
use caller::Caller;
use options_api::v1::{Level, ResourceKind};
use serde::{Deserialize, Serialize};
use service_error::ServiceError;
use uuid::Uuid;

use super::{Indexer, absolute};
use crate::model::{Location, Locations, Place, Query, Sort, SortBy, relative_to};
use crate::store::{Facet, FacetRow, Found, FoundPage, Said, SortValue, UsageRow};

/// Entries that a pattern is tried on for one page; then the page ends short,
/// with a token.
const TRIED_MAX: usize = 200_000;
const TRIED_AT_ONCE: u32 = 2_000;

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
    pub place: Place,
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
    /// What was asked for; values of locations and directories are paths.
    pub facets: Vec<(Facet, Vec<FacetRow>)>,
}

impl Indexer {
    /// Narrows a query to what the caller may read, and tells the location it is narrowed to.
    async fn narrow(
        &self,
        caller: &Caller,
        asked: &QueryText,
        query: &mut Query,
    ) -> Result<Option<Location>, ServiceError> {
        let action = "quarry.files.v1.FilesService/SearchFiles";
        let mut within = None;
        if !asked.location.is_empty() {
            let location = self.location_for(caller, Level::Read, &asked.location, action).await?;
            query.within = Some((location.id, String::new()));
            within = Some(location);
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
            within = Some(location);
        }
        // The query itself looks them up.
        query.locations = match self.grants.visible(caller, ResourceKind::Location).await? {
            Visible::All => Locations::All,
            Visible::Ids(mut ids) => {
                ids.extend(within.as_ref().map(|location| location.uuid));
                Locations::Ids(ids)
            }
        };
        query.viewer = caller.principal.uuid();
        if query.directly && query.within.is_none() {
            return Err(ServiceError::invalid("query.directly", "needs query.path"));
        }
        Ok(within)
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
        self.narrow(caller, asked, &mut query).await?;
        let wanted = size as usize;
        let (mut key, mut tried) = (after, 0);
        let mut shown = FoundPage { found: Vec::new(), places: HashMap::new(), is_said: false };
        let next = loop {
            let at_once = if query.matcher.is_some() { TRIED_AT_ONCE } else { size + 1 };
            let after = key.clone().map(PageKey::parts);
            let page = self.store.search_page(&query, sort, after, at_once).await?;
            let is_last = page.found.len() < at_once as usize;
            tried += page.found.len();
            shown.places.extend(page.places);
            shown.is_said |= page.is_said;
            let mut is_more = false;
            for row in page.found {
                if shown.found.len() == wanted {
                    is_more = true;
                    break;
                }
                key = Some(PageKey::of(&row, sort.by));
                if query.matcher.as_ref().is_none_or(|matcher| matcher.matches(&row.name)) {
                    shown.found.push(row);
                }
            }
            if is_more || (tried >= TRIED_MAX && !is_last) {
                break key;
            }
            if is_last {
                break None;
            }
        };
        let files = self.shown_page(caller, shown).await?;
        Ok(FilePage { files, next })
    }

    /// Entries with their places and what is said of them.
    pub(super) async fn shown(
        &self,
        caller: &Caller,
        found: Vec<Found>,
        locations: &HashMap<i64, Location>,
    ) -> Result<Vec<Shown>, ServiceError> {
        let places = locations.iter().map(|(id, location)| (*id, location.into())).collect();
        self.shown_page(caller, FoundPage { found, places, is_said: true }).await
    }

    async fn shown_page(
        &self,
        caller: &Caller,
        mut page: FoundPage,
    ) -> Result<Vec<Shown>, ServiceError> {
        self.store.tell_missing(&mut page).await?;
        let FoundPage { found, places, is_said } = page;
        let mut said = HashMap::new();
        if is_said {
            said = self.store.said_of(&found, caller.principal).await?;
        }
        let mut within: Vec<i64> = found.iter().filter_map(|found| found.archive).collect();
        within.sort_unstable();
        within.dedup();
        let archives = self.store.archives_at(&within).await?;
        let shown = found.into_iter().filter_map(|found| {
            let place = places.get(&found.location)?.clone();
            let said = said.remove(&found.id).unwrap_or_default();
            let archive = found.archive.and_then(|id| archives.get(&id)).cloned();
            Some(Shown { found, place, said, archive })
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
        by: &[Facet],
        limit: u32,
    ) -> Result<Counted, ServiceError> {
        if query.matcher.is_some() {
            return Err(ServiceError::invalid(
                "query",
                "glob and regex can't be counted; search pages of them",
            ));
        }
        let within = self.narrow(caller, asked, &mut query).await?;
        let mut locations = HashMap::new();
        if by.iter().any(|facet| matches!(facet, Facet::Location | Facet::Directory)) {
            locations = self.visible(caller).await?;
            locations.extend(within.map(|location| (location.id, location)));
        }
        let all = self.store.facet(&query, Facet::All, 1).await?;
        let (count, bytes) = all.first().map_or((0, 0), |all| (all.count, all.bytes));
        let mut facets = Vec::with_capacity(by.len());
        for facet in by {
            let mut rows = self.store.facet(&query, *facet, limit).await?;
            for row in &mut rows {
                let place = match facet {
                    Facet::Location => row.value.parse().ok().map(|id| (id, String::new())),
                    Facet::Directory => Some((row.location, std::mem::take(&mut row.value))),
                    _ => None,
                };
                if let Some((id, path)) = place {
                    let location: Option<&Location> = locations.get(&id);
                    row.value =
                        location.map(|location| location.absolute(&path)).unwrap_or_default();
                }
            }
            facets.push((*facet, rows));
        }
        Ok(Counted { count, bytes, facets })
    }

    /// One file, by its path or as `location.entry`.
    ///
    /// # Errors
    /// `NotFound` for what is not known or may not be seen.
    pub async fn file(&self, caller: &Caller, path: &str, id: &str) -> Result<Shown, ServiceError> {
        let action = "quarry.files.v1.FilesService/GetFile";
        let (location, found) = match (path, id) {
            ("", "") => return Err(ServiceError::invalid("path", "or id must be given")),
            (path, "") => {
                let (location, relative) = self.place_of(caller, Level::Read, path, action).await?;
                let (dir, name) = relative.rsplit_once('/').unwrap_or(("", &relative));
                let found = self.store.entry_at(location.id, dir, name).await?;
                (location, found.ok_or_else(|| ServiceError::not_found("file", path))?)
            }
            ("", id) => {
                let parts = id.split_once('.').and_then(|(location, entry)| {
                    Uuid::try_parse(location).ok()?;
                    Some((location, entry.parse::<i64>().ok()?))
                });
                let (location, entry) = parts.ok_or_else(|| {
                    ServiceError::invalid(
                        "id",
                        format!("{id:?} is no id as SearchFiles answers it"),
                    )
                })?;
                let location = self.location_for(caller, Level::Read, location, action).await?;
                let found = self.store.entry(location.id, entry).await?;
                (location, found.ok_or_else(|| ServiceError::not_found("file", id))?)
            }
            _ => return Err(ServiceError::invalid("id", "can't be given with path")),
        };
        let locations = HashMap::from([(location.id, location)]);
        let shown = self.shown(caller, vec![found], &locations).await?;
        shown.into_iter().next().ok_or_else(|| ServiceError::internal("a file was not shown"))
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
        let (total, within) = futures::try_join!(
            self.store.usage(location.id, &relative),
            self.store.usage_within(location.id, &relative, limit)
        )?;
        let total = total.ok_or_else(|| ServiceError::not_found("directory", path))?;
        Ok((location, total, within))
    }
}
