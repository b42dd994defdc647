//! `quarry.files.v1.MarksService`.

use files_api::v1 as wire;
use files_api::v1::marks_service_server::MarksService;
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use super::{answer, plain};
use crate::app::{Annotation, Indexer, MarkScope, Marking, TagRow, TagsAfter};

const LIST: &str = "file tags";
const LIST_BY_COUNT: &str = "file tags by count";

/// The service over the use cases.
pub struct Marks(pub Indexer);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl MarksService for Marks {
    async fn tag_files(
        &self,
        request: Request<wire::TagFilesRequest>,
    ) -> Answer<wire::TagFilesResponse> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let marking = Marking {
            name: &asked.tag,
            paths: &asked.paths,
            scope: scope(asked.scope)?,
            remove: asked.remove,
            personal: asked.personal,
        };
        let changed = self.0.tag(&caller, marking).await;
        answer(changed.map(|changed_count| wire::TagFilesResponse { changed_count }))
    }

    async fn label_files(
        &self,
        request: Request<wire::LabelFilesRequest>,
    ) -> Answer<wire::LabelFilesResponse> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let marking = Marking {
            name: &asked.label,
            paths: &asked.paths,
            scope: scope(asked.scope)?,
            remove: asked.remove,
            personal: asked.personal,
        };
        plain("source", &[&asked.source])?;
        let confidence = if asked.confidence == 0.0 { 1.0 } else { asked.confidence };
        let changed = self.0.label(&caller, marking, confidence, &asked.source).await;
        answer(changed.map(|changed_count| wire::LabelFilesResponse { changed_count }))
    }

    async fn annotate_file(
        &self,
        request: Request<wire::AnnotateFileRequest>,
    ) -> Answer<wire::AnnotateFileResponse> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        plain("note", asked.note.as_slice())?;
        for (name, value) in &asked.properties {
            plain("properties", &[name, value])?;
        }
        let said = Annotation {
            note: asked.note,
            favorite: asked.favorite,
            hidden: asked.hidden,
            properties: asked.properties.into_iter().collect(),
        };
        let scope = scope(asked.scope)?;
        let done = self.0.annotate(&caller, &asked.path, scope, asked.personal, said).await;
        answer(done.map(|()| wire::AnnotateFileResponse {}))
    }

    async fn list_tags(
        &self,
        request: Request<wire::ListTagsRequest>,
    ) -> Answer<wire::ListTagsResponse> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let (after, list) = if asked.by_count {
                (TagsAfter::Count(paging::key(LIST_BY_COUNT, &asked.page_token)?), LIST_BY_COUNT)
            } else {
                let name = paging::key(LIST, &asked.page_token)?.unwrap_or_default();
                (TagsAfter::Name(name), LIST)
            };
            let mut found = self.0.tags(&caller, after, size + 1).await?;
            let is_more = found.len() > size as usize;
            found.truncate(size as usize);
            let next_page_token = match found.last().filter(|_| is_more) {
                Some(last) if asked.by_count => paging::token(list, &(last.count, &last.name)),
                Some(last) => paging::token(list, &last.name),
                None => String::new(),
            };
            let tags = found
                .into_iter()
                .map(|TagRow { name, count, implies }| wire::Tag { name, count, implies })
                .collect();
            Ok::<_, ServiceError>(wire::ListTagsResponse { tags, next_page_token })
        };
        answer(page.await)
    }

    async fn set_tag(&self, request: Request<wire::SetTagRequest>) -> Answer<wire::SetTagResponse> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let done = self.0.set_tag(&caller, &asked.name, &asked.implies).await;
        answer(done.map(|()| wire::SetTagResponse {
            tag: Some(wire::Tag { name: asked.name, count: 0, implies: asked.implies }),
        }))
    }
}

fn scope(number: i32) -> Result<MarkScope, ServiceError> {
    match wire::MarkScope::try_from(number) {
        Ok(wire::MarkScope::Unspecified | wire::MarkScope::Entry) => Ok(MarkScope::Entry),
        Ok(wire::MarkScope::Content) => Ok(MarkScope::Content),
        Err(_) => Err(ServiceError::invalid("scope", format!("{number} is no scope"))),
    }
}
