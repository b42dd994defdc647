//! `quarry.files.v1.FilesService`.

use std::collections::BTreeMap;

use file_scan::{ContentKind, names};
use files_api::v1 as wire;
use files_api::v1::files_service_server::FilesService;
use prost_types::Timestamp;
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use super::{answer, nanos, plain, timestamp};
use crate::app::{
    DuplicateMode, Facet, FacetRow, FoundContent, Group, Indexer, QueryText, Shown, ShownGroup,
    UsageRow,
};
use crate::model::{Location, Matcher, Query, Sort, SortBy, in_place};

/// Words of a list that one query takes.
const WORDS_MAX: usize = 1_000;
const DIRECTORIES: u32 = 100;
const FACETS: u32 = 50;
const PROPERTIES_MAX: usize = 100;

/// The service over the use cases.
pub struct Files(pub Indexer);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl FilesService for Files {
    async fn search_files(
        &self,
        request: Request<wire::SearchFilesRequest>,
    ) -> Answer<wire::SearchFilesResponse> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let sort = sort(asked.sort_by, asked.descending)?;
            let mut words = asked.query.unwrap_or_default();
            // Sorted: a map's own order is another one each time.
            let properties: BTreeMap<String, String> = words.properties.drain().collect();
            let list = format!("files:{words:?}:{properties:?}:{:?}:{}", sort.by, sort.descending);
            let after = paging::key(&list, &asked.page_token)?;
            words.properties = properties.into_iter().collect();
            let (place, query) = query(words)?;
            let page = self.0.search(&caller, &place, query, sort, after, size).await?;
            let next_page_token =
                page.next.map(|key| paging::token(&list, &key)).unwrap_or_default();
            let entries = page.files.into_iter().map(to_wire).collect();
            Ok::<_, ServiceError>(wire::SearchFilesResponse { entries, next_page_token })
        };
        answer(page.await)
    }

    async fn count_files(
        &self,
        request: Request<wire::CountFilesRequest>,
    ) -> Answer<wire::CountFilesResponse> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let counted = async {
            let by = facets(&asked.by)?;
            let limit = limit(asked.limit, FACETS)?;
            let (place, query) = query(asked.query.unwrap_or_default())?;
            let counted = self.0.count(&caller, &place, query, &by, limit).await?;
            let mut said = wire::CountFilesResponse {
                count: counted.count,
                bytes: counted.bytes,
                ..wire::CountFilesResponse::default()
            };
            for (facet, rows) in counted.facets {
                let rows = rows.into_iter().map(|row| facet_to_wire(facet, row)).collect();
                match facet {
                    Facet::All => {}
                    Facet::Kind => said.kinds = rows,
                    Facet::Extension => said.extensions = rows,
                    Facet::Location => said.locations = rows,
                    Facet::ContentKind => said.content_kinds = rows,
                    Facet::Tag => said.tags = rows,
                    Facet::Label => said.labels = rows,
                    Facet::Directory => said.directories = rows,
                }
            }
            Ok::<_, ServiceError>(said)
        };
        answer(counted.await)
    }

    async fn get_file(
        &self,
        request: Request<wire::GetFileRequest>,
    ) -> Answer<wire::GetFileResponse> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let found = self.0.file(&caller, &asked.path, &asked.id).await;
        answer(found.map(|found| wire::GetFileResponse { entry: Some(to_wire(found)) }))
    }

    async fn list_duplicates(
        &self,
        request: Request<wire::ListDuplicatesRequest>,
    ) -> Answer<wire::ListDuplicatesResponse> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let mode = duplicate_mode(asked.mode)?;
            not_negative("size_min", asked.size_min)?;
            let list = format!("duplicates:{}:{mode:?}:{}", asked.location_id, asked.size_min);
            let after: Option<(i64, String, i64, i64)> = paging::key(&list, &asked.page_token)?;
            let after = after.map(|(number, name, size, wasted)| Group {
                number,
                name,
                size,
                count: 0,
                wasted,
            });
            let page = self
                .0
                .duplicates(
                    &caller,
                    &asked.location_id,
                    mode,
                    asked.size_min,
                    asked.verify,
                    after.as_ref(),
                    size,
                )
                .await?;
            let next_page_token = match page.groups.last() {
                Some(ShownGroup { group, .. }) if page.more => {
                    paging::token(&list, &(group.number, &group.name, group.size, group.wasted))
                }
                _ => String::new(),
            };
            Ok::<_, ServiceError>(wire::ListDuplicatesResponse {
                groups: page.groups.into_iter().map(group_to_wire).collect(),
                next_page_token,
                wasted_bytes: page.totals.wasted,
                group_count: page.totals.groups,
                file_count: page.totals.files,
                unhashed_count: page.unhashed,
            })
        };
        answer(page.await)
    }

    async fn get_usage(
        &self,
        request: Request<wire::GetUsageRequest>,
    ) -> Answer<wire::GetUsageResponse> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let limit = limit(asked.limit, DIRECTORIES)?;
        let usage = self.0.usage(&caller, &asked.location_id, &asked.path, limit).await;
        answer(usage.map(|(location, total, within)| wire::GetUsageResponse {
            total: Some(usage_to_wire(&location, total)),
            directories: within.into_iter().map(|row| usage_to_wire(&location, row)).collect(),
        }))
    }
}

fn usage_to_wire(location: &Location, row: UsageRow) -> wire::Usage {
    wire::Usage {
        path: names::shown(&location.absolute(&row.path)),
        file_count: row.files,
        byte_count: row.bytes,
        directory_count: row.dirs,
    }
}

fn limit(asked: i32, unset: u32) -> Result<u32, ServiceError> {
    match u32::try_from(asked) {
        Ok(0) => Ok(unset),
        Ok(limit) if limit <= paging::PAGE_SIZE_MAX => Ok(limit),
        _ => Err(ServiceError::invalid("limit", "must be within 1 and 1000")),
    }
}

fn facets(asked: &[i32]) -> Result<Vec<Facet>, ServiceError> {
    if asked.is_empty() {
        return Ok(vec![Facet::Kind, Facet::Extension, Facet::Location]);
    }
    let mut facets = Vec::new();
    for by in asked {
        let facet = match wire::FacetBy::try_from(*by) {
            Ok(wire::FacetBy::Kind) => Facet::Kind,
            Ok(wire::FacetBy::Extension) => Facet::Extension,
            Ok(wire::FacetBy::Location) => Facet::Location,
            Ok(wire::FacetBy::ContentKind) => Facet::ContentKind,
            Ok(wire::FacetBy::Tag) => Facet::Tag,
            Ok(wire::FacetBy::Label) => Facet::Label,
            Ok(wire::FacetBy::Directory) => Facet::Directory,
            Ok(wire::FacetBy::Unspecified) | Err(_) => {
                return Err(ServiceError::invalid("by", format!("{by} is no group")));
            }
        };
        if !facets.contains(&facet) {
            facets.push(facet);
        }
    }
    Ok(facets)
}

fn facet_to_wire(facet: Facet, row: FacetRow) -> wire::Facet {
    let FacetRow { value, count, bytes, .. } = row;
    let value = match facet {
        Facet::Kind => {
            let number = value.parse::<i32>().ok();
            let kind = number.and_then(|number| wire::EntryKind::try_from(number).ok());
            let word = kind.map_or("", |kind| kind.as_str_name());
            word.trim_start_matches("ENTRY_KIND_").to_ascii_lowercase()
        }
        Facet::ContentKind => {
            let kind = value.parse().ok().map(|number| ContentKind::of(number).word());
            kind.unwrap_or_default().to_owned()
        }
        Facet::Location | Facet::Directory => names::shown(&value),
        _ => value,
    };
    wire::Facet { value, count, bytes }
}

fn group_to_wire(shown: ShownGroup) -> wire::DuplicateGroup {
    wire::DuplicateGroup {
        content: shown.content.map(hex::encode).unwrap_or_default(),
        size: shown.group.size,
        entries: shown.files.into_iter().map(to_wire).collect(),
        entry_count: shown.group.count,
        wasted_bytes: shown.group.wasted,
        verified: shown.verified,
    }
}

fn media_to_wire(content: &FoundContent) -> Option<wire::MediaInfo> {
    if content.size.is_none() && content.duration_ms.is_none() && !content.is_broken {
        return None;
    }
    let (width, height) = content.size.unwrap_or_default();
    Some(wire::MediaInfo {
        width,
        height,
        orientation: content.orientation.into(),
        taken: content.taken.clone().unwrap_or_default(),
        camera: content.camera.clone().unwrap_or_default(),
        broken: content.is_broken,
        duration_ms: content.duration_ms.unwrap_or(0),
    })
}

fn to_wire(shown: Shown) -> wire::FileEntry {
    let Shown { found, place, said, archive } = shown;
    // What went aside is shown where it was.
    let path = place.absolute(&in_place(&found.path()));
    let path_raw = if names::is_plain(&path) { Vec::new() } else { names::bytes(&path) };
    let content = found.content.as_ref();
    let (media, missing) = (content.and_then(media_to_wire), found.is_missing());
    wire::FileEntry {
        id: format!("{}.{}", place.uuid, found.id),
        path: names::shown(&path),
        name: names::shown(&in_place(&found.name)),
        location_id: place.uuid.to_string(),
        kind: found.kind.into(),
        size: found.size,
        modify_time: Some(timestamp(found.modified)),
        extension: found.ext,
        content: content.map(|content| hex::encode(&content.hash)).unwrap_or_default(),
        content_kind: content
            .map(|content| ContentKind::of(content.kind.into()).word().to_owned())
            .unwrap_or_default(),
        media,
        tags: said.tags,
        labels: said
            .labels
            .into_iter()
            .map(|label| wire::FileLabel {
                label: label.path,
                confidence: label.confidence,
                source: label.source,
            })
            .collect(),
        properties: said.properties.into_iter().collect(),
        note: said.note,
        favorite: said.favorite,
        hidden: said.hidden,
        links: found.links,
        mode: found.mode,
        missing,
        path_raw,
        link_target: found.target.as_deref().map(names::shown).unwrap_or_default(),
        archive: archive.map(|(path, _)| names::shown(&place.absolute(&path))).unwrap_or_default(),
    }
}

fn sort(by: i32, descending: bool) -> Result<Sort, ServiceError> {
    let by = match wire::SortBy::try_from(by) {
        Ok(wire::SortBy::Unspecified) => SortBy::Number,
        Ok(wire::SortBy::Name) => SortBy::Name,
        Ok(wire::SortBy::Size) => SortBy::Size,
        Ok(wire::SortBy::ModifyTime) => SortBy::Modified,
        Err(_) => return Err(ServiceError::invalid("sort_by", format!("{by} is no order"))),
    };
    Ok(Sort { by, descending })
}

fn duplicate_mode(mode: i32) -> Result<DuplicateMode, ServiceError> {
    match wire::DuplicateMode::try_from(mode) {
        Ok(wire::DuplicateMode::Unspecified | wire::DuplicateMode::Content) => {
            Ok(DuplicateMode::Content)
        }
        Ok(wire::DuplicateMode::NameAndSize) => Ok(DuplicateMode::NameAndSize),
        Ok(wire::DuplicateMode::Size) => Ok(DuplicateMode::Size),
        Ok(wire::DuplicateMode::Near) => Ok(DuplicateMode::Near),
        Err(_) => Err(ServiceError::invalid("mode", format!("{mode} is no mode"))),
    }
}

/// Refuses less than no bytes.
pub(super) fn not_negative(field: &str, bytes: i64) -> Result<(), ServiceError> {
    if bytes < 0 {
        return Err(ServiceError::invalid(field, "must not be negative"));
    }
    Ok(())
}

/// Refuses words that nothing can have.
fn checked(asked: &wire::FileQuery) -> Result<(), ServiceError> {
    for (field, words) in [
        ("query.extensions", asked.extensions.len()),
        ("query.kinds", asked.kinds.len()),
        ("query.tags", asked.tags.len()),
        ("query.labels", asked.labels.len()),
        ("query.content_kinds", asked.content_kinds.len()),
    ] {
        if words > WORDS_MAX {
            return Err(ServiceError::invalid(field, format!("has more than {WORDS_MAX} words")));
        }
    }
    for (field, words) in [
        ("query.location_id", std::slice::from_ref(&asked.location_id)),
        ("query.path", std::slice::from_ref(&asked.path)),
        ("query.text", std::slice::from_ref(&asked.text)),
        ("query.prefix", std::slice::from_ref(&asked.prefix)),
        ("query.extensions", asked.extensions.as_slice()),
        ("query.tags", asked.tags.as_slice()),
        ("query.labels", asked.labels.as_slice()),
    ] {
        plain(field, words)?;
    }
    for (name, value) in &asked.properties {
        plain("query.properties", &[name, value])?;
    }
    if asked.properties.len() > PROPERTIES_MAX {
        let why = format!("has more than {PROPERTIES_MAX} words");
        return Err(ServiceError::invalid("query.properties", why));
    }
    for (field, bytes) in [("query.size_min", asked.size_min), ("query.size_max", asked.size_max)] {
        not_negative(field, bytes)?;
    }
    for kind in &asked.kinds {
        let known = wire::EntryKind::try_from(*kind).ok();
        if known.is_none_or(|kind| kind == wire::EntryKind::Unspecified) {
            return Err(ServiceError::invalid("query.kinds", format!("{kind} is no kind")));
        }
    }
    Ok(())
}

fn query(asked: wire::FileQuery) -> Result<(QueryText, Query), ServiceError> {
    checked(&asked)?;
    let matcher = match (asked.glob.as_str(), asked.regex.as_str()) {
        ("", "") => None,
        (glob, "") => Some(Matcher::glob(glob)?),
        ("", regex) => Some(Matcher::regex(regex)?),
        _ => return Err(ServiceError::invalid("query.regex", "can't be given with query.glob")),
    };
    let kind = |word: &String| {
        let kind = ContentKind::named(word).map(|kind| kind as i64);
        kind.ok_or_else(|| {
            ServiceError::invalid("query.content_kinds", format!("{word:?} is no kind"))
        })
    };
    let content = match asked.content.as_str() {
        "" => None,
        hash => Some(hex::decode(hash).ok().filter(|hash| hash.len() == 32).ok_or_else(|| {
            ServiceError::invalid("query.content", "must be 64 hexadecimal digits")
        })?),
    };
    let some = |text: String| (!text.is_empty()).then_some(text);
    let time = |time: &Option<Timestamp>| time.as_ref().map(nanos);
    let query = Query {
        text: some(asked.text),
        prefix: some(asked.prefix),
        matcher,
        extensions: asked
            .extensions
            .iter()
            .map(|ext| ext.trim_start_matches('.').to_ascii_lowercase())
            .collect(),
        kinds: asked.kinds.iter().map(|kind| i64::from(*kind)).collect(),
        content_kinds: asked.content_kinds.iter().map(kind).collect::<Result<_, _>>()?,
        size_min: (asked.size_min > 0).then_some(asked.size_min),
        size_max: (asked.size_max > 0).then_some(asked.size_max),
        modified_after: time(&asked.modified_after),
        modified_before: time(&asked.modified_before),
        tags: asked.tags,
        labels: asked.labels,
        properties: asked.properties.into_iter().collect(),
        directly: asked.directly,
        duplicates_only: asked.duplicates_only,
        favorites_only: asked.favorites_only,
        with_hidden: asked.with_hidden,
        content,
        ..Query::default()
    };
    Ok((QueryText { location: asked.location_id, path: asked.path }, query))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_nul_is_refused_by_the_field_that_holds_it() {
        let (nul, fine) = (|| "a\0b".to_owned(), wire::FileQuery::default);
        let words = || vec!["fine".to_owned(), nul()];
        for (field, asked) in [
            ("query.text", wire::FileQuery { text: nul(), ..fine() }),
            ("query.prefix", wire::FileQuery { prefix: nul(), ..fine() }),
            ("query.path", wire::FileQuery { path: nul(), ..fine() }),
            ("query.location_id", wire::FileQuery { location_id: nul(), ..fine() }),
            ("query.extensions", wire::FileQuery { extensions: words(), ..fine() }),
            ("query.tags", wire::FileQuery { tags: words(), ..fine() }),
            ("query.labels", wire::FileQuery { labels: words(), ..fine() }),
            (
                "query.properties",
                wire::FileQuery { properties: [("a".to_owned(), nul())].into(), ..fine() },
            ),
        ] {
            let error = checked(&asked).unwrap_err();
            assert_eq!(error.field_name(), Some(field));
        }
        checked(&fine()).unwrap();
    }
}
