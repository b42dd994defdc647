//! `quarry.vectors.v1.ImagesService`.

use service_error::ServiceError;
use tonic::{Request, Response, Status};
use uuid::Uuid;
use vectors_api::v1 as wire;
use vectors_api::v1::images_service_server::ImagesService;

use crate::app::{AddImage, AddedPoint, App};
use crate::grpc::generations::id;
use crate::grpc::{answer, timestamp};
use crate::model::Image;

/// The service over the use cases.
pub struct Images(pub App);

#[tonic::async_trait]
impl ImagesService for Images {
    async fn add_image(
        &self,
        request: Request<wire::AddImageRequest>,
    ) -> Result<Response<wire::AddImageResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let new = AddImage {
            image: from_wire(asked.image.unwrap_or_default()),
            content: asked.content,
            spaces: asked.spaces,
        };
        let made = self.0.add_image(&caller, &asked.namespace, new).await;
        answer(made.map(|(made, points)| wire::AddImageResponse {
            image: Some(to_wire(&asked.namespace, made)),
            points: points.into_iter().map(point_to_wire).collect(),
        }))
    }

    async fn get_image(
        &self,
        request: Request<wire::GetImageRequest>,
    ) -> Result<Response<wire::GetImageResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let found = async { self.0.get_image(&caller, &asked.namespace, id(&asked.id)?).await };
        answer(
            found.await.map(|found| wire::GetImageResponse {
                image: Some(to_wire(&asked.namespace, found)),
            }),
        )
    }

    async fn list_images(
        &self,
        request: Request<wire::ListImagesRequest>,
    ) -> Result<Response<wire::ListImagesResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let list = format!("images:{}", asked.namespace);
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let after: Option<String> = paging::key(&list, &asked.page_token)?;
            let after = after.unwrap_or_default();
            let found = self.0.list_images(&caller, &asked.namespace, &after, size + 1).await?;
            let (found, next_page_token) = paging::cut(found, size, &list, |l| l.path.clone());
            let images = found.into_iter().map(|one| to_wire(&asked.namespace, one)).collect();
            Ok::<_, ServiceError>(wire::ListImagesResponse { images, next_page_token })
        };
        answer(page.await)
    }

    async fn delete_image(
        &self,
        request: Request<wire::DeleteImageRequest>,
    ) -> Result<Response<wire::DeleteImageResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let deleted =
            async { self.0.delete_image(&caller, &asked.namespace, id(&asked.id)?).await };
        answer(deleted.await.map(|()| wire::DeleteImageResponse {}))
    }
}

fn from_wire(new: wire::Image) -> Image {
    Image {
        id: Uuid::nil(),
        path: new.image_path,
        description: new.description,
        tags: new.tags,
        width: new.width,
        height: new.height,
        size_bytes: new.file_size_bytes,
        format: new.format,
        source_dataset: new.source_dataset,
        item_id: new.item_id,
        content_hash: new.content_hash,
        created_at: 0,
    }
}

fn point_to_wire(added: AddedPoint) -> wire::ImagePoint {
    wire::ImagePoint {
        space: added.space,
        embedding_type: added.embedded.to_owned(),
        token: added.seq,
    }
}

fn to_wire(namespace: &str, made: Image) -> wire::Image {
    let thumbnail_path = match made.source(namespace) {
        Some((of, dataset)) if !made.content_hash.is_empty() => {
            format!("/v1/namespaces/{of}/datasets/{dataset}/media/{}/thumbnail", made.content_hash)
        }
        _ => String::new(),
    };
    wire::Image {
        id: made.id.to_string(),
        image_path: made.path,
        description: made.description,
        tags: made.tags,
        width: made.width,
        height: made.height,
        file_size_bytes: made.size_bytes,
        format: made.format,
        source_dataset: made.source_dataset,
        item_id: made.item_id,
        content_hash: made.content_hash,
        thumbnail_path,
        create_time: Some(timestamp(made.created_at)),
    }
}
