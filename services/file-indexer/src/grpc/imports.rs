//! `quarry.files.v1.ImportsService`.

use dataset_layouts::Layout;
use file_imports::{ImportAsked, ImportQuery};
use files_api::v1 as wire;
use files_api::v1::imports_service_server::ImportsService;
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use super::{answer, timestamp};
use crate::ROLE;
use crate::app::Indexer;

const LIST: &str = "file imports";
/// Words in one list of a query.
const WORDS_MAX: usize = 1_000;

/// The service over the use cases.
pub struct Imports(pub Indexer);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ImportsService for Imports {
    async fn import_from_location(
        &self,
        request: Request<wire::ImportFromLocationRequest>,
    ) -> Answer<wire::ImportFromLocationResponse> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let job = async {
            let asked = ImportAsked {
                layout: layout(asked.format)?,
                query: query(asked.query)?,
                path: asked.path,
                namespace: asked.namespace,
                dataset: asked.dataset,
                by_reference: asked.by_reference,
                archives: asked.archives,
            };
            self.0.import(&caller, asked).await
        };
        let job = job.await;
        answer(job.map(|id| wire::ImportFromLocationResponse { job: format!("{ROLE}/{id}") }))
    }

    async fn list_imports(
        &self,
        request: Request<wire::ListImportsRequest>,
    ) -> Answer<wire::ListImportsResponse> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let after: i64 = paging::key(LIST, &asked.page_token)?.unwrap_or(0);
            let found = self.0.imports(&caller, &asked.location_id, after, size + 1).await?;
            let (found, next_page_token) = paging::cut(found, size, LIST, |(last, _)| last.id);
            let imports = found
                .into_iter()
                .map(|(import, location)| wire::Import {
                    id: import.uuid.to_string(),
                    location_id: location.uuid.to_string(),
                    path: file_scan::names::shown(&location.absolute(&import.path)),
                    dataset: import.dataset,
                    dataset_id: import.dataset_id.to_string(),
                    version: import.version,
                    sample_count: import.samples,
                    seq: import.seq,
                    import_time: (import.imported_at > 0)
                        .then(|| timestamp(import.imported_at.saturating_mul(1_000))),
                })
                .collect();
            Ok::<_, ServiceError>(wire::ListImportsResponse { imports, next_page_token })
        };
        answer(page.await)
    }
}

fn layout(format: i32) -> Result<Option<Layout>, ServiceError> {
    use wire::ImportFormat as Format;
    Ok(match Format::try_from(format) {
        Ok(Format::Unspecified) => None,
        Ok(Format::ImageFolder) => Some(Layout::ImageFolder),
        Ok(Format::Coco) => Some(Layout::Coco),
        Ok(Format::Yolo) => Some(Layout::Yolo),
        Ok(Format::PascalVoc) => Some(Layout::Voc),
        Ok(Format::WebDataset) => Some(Layout::WebDataset),
        Ok(Format::Captions) => Some(Layout::Captions),
        Err(_) => return Err(ServiceError::invalid("format", format!("{format} is no format"))),
    })
}

/// What an import understands of a query; the rest is refused, not ignored.
fn query(asked: Option<wire::FileQuery>) -> Result<ImportQuery, ServiceError> {
    let Some(asked) = asked else {
        return Ok(ImportQuery { with_hidden: true, ..ImportQuery::default() });
    };
    for (field, words) in [
        ("query.extensions", asked.extensions.len()),
        ("query.tags", asked.tags.len()),
        ("query.labels", asked.labels.len()),
    ] {
        if words > WORDS_MAX {
            return Err(ServiceError::invalid(field, format!("has more than {WORDS_MAX} words")));
        }
    }
    for (field, words) in [
        ("query.text", std::slice::from_ref(&asked.text)),
        ("query.prefix", std::slice::from_ref(&asked.prefix)),
        ("query.extensions", asked.extensions.as_slice()),
        ("query.tags", asked.tags.as_slice()),
        ("query.labels", asked.labels.as_slice()),
    ] {
        super::plain(field, words)?;
    }
    for (field, is_set) in [
        ("query.location_id", !asked.location_id.is_empty()),
        ("query.path", !asked.path.is_empty()),
        ("query.kinds", !asked.kinds.is_empty()),
        ("query.content_kinds", !asked.content_kinds.is_empty()),
        ("query.content", !asked.content.is_empty()),
        ("query.duplicates_only", asked.duplicates_only),
        ("query.modified_after", asked.modified_after.is_some()),
        ("query.modified_before", asked.modified_before.is_some()),
        ("query.directly", asked.directly),
        ("query.properties", !asked.properties.is_empty()),
    ] {
        if is_set {
            return Err(ServiceError::invalid(field, "is not taken by an import; leave it out"));
        }
    }
    super::files::not_negative("query.size_min", asked.size_min)?;
    super::files::not_negative("query.size_max", asked.size_max)?;
    let plain = |ext: &String| ext.trim_start_matches('.').to_ascii_lowercase();
    Ok(ImportQuery {
        text: asked.text,
        prefix: asked.prefix,
        glob: asked.glob,
        regex: asked.regex,
        extensions: asked.extensions.iter().map(plain).collect(),
        size_min: asked.size_min,
        size_max: asked.size_max,
        tags: asked.tags,
        labels: asked.labels,
        favorites_only: asked.favorites_only,
        with_hidden: asked.with_hidden,
    })
}
