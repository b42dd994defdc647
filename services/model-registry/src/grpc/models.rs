//! `quarry.models.v1.ModelsService`.

use model_query::Subject;
use models_api::v1 as wire;
use models_api::v1::models_service_server::ModelsService;
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use super::{answer, filter, order_by, parse, timestamp};
use crate::app::{CreateModel, ModelOrder, Registry, SearchModels, model_key};
use crate::model::{Alias, Model, ModelPath};

/// The service over the use cases.
pub struct Models(pub Registry);

#[tonic::async_trait]
impl ModelsService for Models {
    async fn create_model(
        &self,
        request: Request<wire::CreateModelRequest>,
    ) -> Result<Response<wire::CreateModelResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let asked = CreateModel {
            namespace: asked.namespace,
            name: asked.name,
            description: asked.description,
            tags: asked.tags.into_iter().collect(),
        };
        let made = self.0.create_model(&caller, asked).await;
        answer(made.map(|made| wire::CreateModelResponse { model: Some(to_wire(made)) }))
    }

    async fn get_model(
        &self,
        request: Request<wire::GetModelRequest>,
    ) -> Result<Response<wire::GetModelResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let path = ModelPath::new(asked.namespace, asked.name);
        let found = self.0.get_model(&caller, &path).await;
        answer(found.map(|found| wire::GetModelResponse { model: Some(to_wire(found)) }))
    }

    async fn search_models(
        &self,
        request: Request<wire::SearchModelsRequest>,
    ) -> Result<Response<wire::SearchModelsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let (order, descending) = order_of(&asked.order_by)?;
            let list = format!(
                "models:{}:{}:{}:{}",
                asked.namespace, asked.filter, asked.order_by, asked.deleted
            );
            let search = SearchModels {
                namespace: asked.namespace,
                filter: filter(&asked.filter, Subject::Models)?,
                order,
                descending,
                deleted: asked.deleted,
                after: paging::key(&list, &asked.page_token)?,
                limit: size + 1,
            };
            let found = self.0.search_models(&caller, &search).await?;
            let (found, next_page_token) =
                paging::cut(found, size, &list, |last| model_key(last, order));
            let models = found.into_iter().map(to_wire).collect();
            Ok::<_, ServiceError>(wire::SearchModelsResponse { models, next_page_token })
        };
        answer(page.await)
    }

    async fn update_model(
        &self,
        request: Request<wire::UpdateModelRequest>,
    ) -> Result<Response<wire::UpdateModelResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let path = ModelPath::new(asked.namespace, asked.name);
        let (description, name) = (asked.description.as_deref(), asked.new_name.as_deref());
        let changed = self.0.update_model(&caller, &path, description, name).await;
        answer(changed.map(|found| wire::UpdateModelResponse { model: Some(to_wire(found)) }))
    }

    async fn delete_model(
        &self,
        request: Request<wire::DeleteModelRequest>,
    ) -> Result<Response<wire::DeleteModelResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let path = ModelPath::new(asked.namespace, asked.name);
        let deleted = self.0.delete_model(&caller, &path).await;
        answer(deleted.map(|id| wire::DeleteModelResponse { id: id.to_string() }))
    }

    async fn restore_model(
        &self,
        request: Request<wire::RestoreModelRequest>,
    ) -> Result<Response<wire::RestoreModelResponse>, Status> {
        let caller = caller::of(&request)?;
        let id = parse("id", &request.into_inner().id)?;
        let restored = self.0.restore_model(&caller, id).await;
        answer(restored.map(|found| wire::RestoreModelResponse { model: Some(to_wire(found)) }))
    }

    async fn set_model_tags(
        &self,
        request: Request<wire::SetModelTagsRequest>,
    ) -> Result<Response<wire::SetModelTagsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let path = ModelPath::new(asked.namespace, asked.name);
        let tags = asked.tags.into_iter().collect();
        let set = self.0.set_model_tags(&caller, &path, &tags).await;
        answer(set.map(|()| wire::SetModelTagsResponse {}))
    }

    async fn delete_model_tag(
        &self,
        request: Request<wire::DeleteModelTagRequest>,
    ) -> Result<Response<wire::DeleteModelTagResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let path = ModelPath::new(asked.namespace, asked.name);
        let deleted = self.0.delete_model_tag(&caller, &path, &asked.key).await;
        answer(deleted.map(|_| wire::DeleteModelTagResponse {}))
    }

    async fn get_card(
        &self,
        request: Request<wire::GetCardRequest>,
    ) -> Result<Response<wire::GetCardResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let path = ModelPath::new(asked.namespace, asked.name);
        let found = self.0.get_card(&caller, &path, asked.version).await;
        let to_card = |card: crate::model::Card| wire::Card {
            markdown: card.markdown,
            update_time: Some(timestamp(card.updated_at)),
            updated_by: card.updated_by.to_string(),
        };
        answer(found.map(|card| wire::GetCardResponse { card: card.map(to_card) }))
    }

    async fn set_card(
        &self,
        request: Request<wire::SetCardRequest>,
    ) -> Result<Response<wire::SetCardResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let path = ModelPath::new(asked.namespace, asked.name);
        let set = self.0.set_card(&caller, &path, asked.version, &asked.markdown).await;
        answer(set.map(|()| wire::SetCardResponse {}))
    }

    async fn get_statistics(
        &self,
        request: Request<wire::GetStatisticsRequest>,
    ) -> Result<Response<wire::GetStatisticsResponse>, Status> {
        let caller = caller::of(&request)?;
        let counted = self.0.statistics(&caller, &request.into_inner().namespace).await;
        answer(counted.map(|counted| wire::GetStatisticsResponse {
            model_count: counted.models,
            version_count: counted.versions,
            total_bytes: counted.bytes,
            average_bytes: counted.average_bytes(),
            deployment_count: counted.deployments,
        }))
    }
}

fn order_of(text: &str) -> Result<(ModelOrder, bool), ServiceError> {
    let (column, descending) = order_by(text)?;
    let order = match column {
        "" | "name" => ModelOrder::Name,
        "create_time" => ModelOrder::Created,
        "update_time" => ModelOrder::Updated,
        _ => {
            let message = format!("{column:?} is not one of name, create_time, update_time");
            return Err(ServiceError::invalid("order_by", message));
        }
    };
    Ok((order, descending))
}

/// A model as the wire has it.
pub fn to_wire(model: Model) -> wire::Model {
    wire::Model {
        id: model.id.to_string(),
        namespace: model.namespace,
        name: model.name,
        description: model.description,
        tags: model.tags.into_iter().collect(),
        aliases: model.aliases.into_iter().map(alias_to_wire).collect(),
        latest_version: model.latest_version,
        latest_by_stage: model
            .latest_by_stage
            .into_iter()
            .map(|(stage, version)| wire::StageLatest { stage, version })
            .collect(),
        version_count: model.version_count,
        byte_count: model.byte_count,
        create_time: Some(timestamp(model.created_at)),
        update_time: Some(timestamp(model.updated_at)),
        created_by: model.created_by.to_string(),
        delete_time: model.deleted_at.map(timestamp),
    }
}

/// An alias as the wire has it.
pub fn alias_to_wire(alias: Alias) -> wire::Alias {
    wire::Alias {
        name: alias.name,
        version: alias.number,
        protected: alias.protected,
        set_time: Some(timestamp(alias.set_at)),
        set_by: alias.set_by.to_string(),
    }
}
