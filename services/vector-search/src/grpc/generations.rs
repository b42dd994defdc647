//! `quarry.vectors.v1.GenerationsService`.

use service_error::ServiceError;
use tonic::{Request, Response, Status};
use uuid::Uuid;
use vector_wire::grpc::{payload_from_wire, payload_to_wire, question_from_wire};
use vectors_api::v1 as wire;
use vectors_api::v1::generations_service_server::GenerationsService;

use crate::app::{App, Assemble};
use crate::grpc::search::k_of;
use crate::grpc::{answer, timestamp};
use crate::model::{
    Address, Ask, COMPLETED, CachedModel, Ending, Example, FAILED, Generation, Question, RUNNING,
};

/// Hours that count as recent when the request does not say.
const RECENT_HOURS: i32 = 24;

/// The service over the use cases.
pub struct Generations(pub App);

/// The id in a request.
pub fn id(text: &str) -> Result<Uuid, ServiceError> {
    Uuid::try_parse(text).map_err(|_| ServiceError::invalid("id", "is no id"))
}

#[tonic::async_trait]
impl GenerationsService for Generations {
    async fn log_generation(
        &self,
        request: Request<wire::LogGenerationRequest>,
    ) -> Result<Response<wire::LogGenerationResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let logged = async {
            let new = from_wire(asked.generation.unwrap_or_default())?;
            self.0.log_generation(&caller, &asked.namespace, new).await
        };
        let logged = logged.await;
        answer(logged.map(|made| wire::LogGenerationResponse { generation: Some(to_wire(made)) }))
    }

    async fn finish_generation(
        &self,
        request: Request<wire::FinishGenerationRequest>,
    ) -> Result<Response<wire::FinishGenerationResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let ended = async {
            let ending = Ending {
                output_path: asked.output_path,
                time_ms: asked.generation_time_ms,
                memory_mb: asked.memory_usage_mb,
                error_message: asked.error_message,
            };
            let ended = (id(&asked.id)?, ending);
            self.0.finish_generation(&caller, &asked.namespace, ended).await
        };
        let ended = ended.await;
        answer(ended.map(|made| wire::FinishGenerationResponse { generation: Some(to_wire(made)) }))
    }

    async fn get_generation(
        &self,
        request: Request<wire::GetGenerationRequest>,
    ) -> Result<Response<wire::GetGenerationResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let found = async {
            let id = id(&asked.id)?;
            self.0.get_generation(&caller, &asked.namespace, id).await
        };
        let found = found.await;
        answer(found.map(|made| wire::GetGenerationResponse { generation: Some(to_wire(made)) }))
    }

    async fn list_generations(
        &self,
        request: Request<wire::ListGenerationsRequest>,
    ) -> Result<Response<wire::ListGenerationsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let list = format!("generations:{}:{}", asked.namespace, asked.status);
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let before: Option<Uuid> = paging::key(&list, &asked.page_token)?;
            let status = wire::GenerationStatus::try_from(asked.status)
                .map_err(|_| ServiceError::invalid("status", "is no status"))?;
            let status = status_from_wire(status).unwrap_or(0);
            let of = (status, before);
            let found = self.0.list_generations(&caller, &asked.namespace, of, size + 1).await?;
            let (found, next_page_token) = paging::cut(found, size, &list, |last| last.id);
            let generations = found.into_iter().map(to_wire).collect();
            Ok::<_, ServiceError>(wire::ListGenerationsResponse { generations, next_page_token })
        };
        answer(page.await)
    }

    async fn touch_model(
        &self,
        request: Request<wire::TouchModelRequest>,
    ) -> Result<Response<wire::TouchModelResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let model = CachedModel {
            model_type: asked.model_type,
            model_name: asked.model_name,
            cache_path: asked.cache_path,
            size_bytes: asked.size_bytes,
            access_count: 0,
            last_accessed: 0,
            created_at: 0,
        };
        let touched = self.0.touch_model(&caller, &asked.namespace, model).await;
        answer(touched.map(|model| wire::TouchModelResponse { model: Some(model_to_wire(model)) }))
    }

    async fn list_cached_models(
        &self,
        request: Request<wire::ListCachedModelsRequest>,
    ) -> Result<Response<wire::ListCachedModelsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let list = format!("cached-models:{}", asked.namespace);
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let after: Option<(i64, String, String)> = paging::key(&list, &asked.page_token)?;
            let of = &asked.namespace;
            let found = self.0.cached_models(&caller, of, after.as_ref(), size + 1).await?;
            let (found, next_page_token) = paging::cut(found, size, &list, |last| {
                (last.last_accessed, last.model_type.clone(), last.model_name.clone())
            });
            let models = found.into_iter().map(model_to_wire).collect();
            Ok::<_, ServiceError>(wire::ListCachedModelsResponse { models, next_page_token })
        };
        answer(page.await)
    }

    async fn forget_model(
        &self,
        request: Request<wire::ForgetModelRequest>,
    ) -> Result<Response<wire::ForgetModelResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let which = (asked.model_type.as_str(), asked.model_name.as_str());
        let forgotten = self.0.forget_model(&caller, &asked.namespace, which).await;
        answer(forgotten.map(|()| wire::ForgetModelResponse {}))
    }

    async fn get_rag_statistics(
        &self,
        request: Request<wire::GetRagStatisticsRequest>,
    ) -> Result<Response<wire::GetRagStatisticsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let counted = async {
            let hours = match asked.recent_hours {
                0 => RECENT_HOURS,
                hours if hours > 0 => hours,
                _ => return Err(ServiceError::invalid("recent_hours", "is negative")),
            };
            self.0.rag_statistics(&caller, &asked.namespace, i64::from(hours)).await
        };
        let counted = counted.await;
        answer(counted.map(|counted| wire::GetRagStatisticsResponse {
            total_images: counted.images,
            total_embeddings: counted.embeddings,
            total_generations: counted.generations,
            recent_generations: counted.recent,
            failed_generations: counted.failed,
            avg_generation_time_ms: counted.mean_time_ms,
            cached_models: counted.models,
            running_generations: counted.running,
            total_spaces: counted.spaces,
            cached_model_bytes: counted.model_bytes,
        }))
    }

    async fn assemble_context(
        &self,
        request: Request<wire::AssembleContextRequest>,
    ) -> Result<Response<wire::AssembleContextResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let made = async {
            let address = Address::new(&asked.namespace, &asked.dataset, &asked.space)?;
            if asked.prompt.is_empty() {
                return Err(ServiceError::invalid("prompt", "is empty"));
            }
            let ask = Ask {
                k: k_of(asked.k)?,
                filter: asked.filter,
                threshold: asked.threshold,
                ..Ask::default()
            };
            let (query, prompt) = (asked.query, asked.prompt.clone());
            let question = |space: &_| match query {
                Some(query) => question_from_wire(space, "query", Some(query)),
                None => Ok(Question::Text(prompt)),
            };
            let parts = Assemble {
                prompt: asked.prompt,
                text_column: asked.text_column,
                template: asked.template,
                example_template: asked.example_template,
            };
            self.0.assemble(&caller, &address, question, (parts, ask)).await
        };
        let made = made.await;
        answer(made.map(|(augmented_prompt, examples)| wire::AssembleContextResponse {
            augmented_prompt,
            retrieved_examples: examples.into_iter().map(example_to_wire).collect(),
        }))
    }
}

fn example_to_wire(example: Example) -> wire::RetrievedExample {
    let Example { space, item_id, score, text } = example;
    wire::RetrievedExample { space, item_id, score, text }
}

fn from_wire(new: wire::Generation) -> Result<Generation, ServiceError> {
    let otherwise = if new.error_message.is_empty() { COMPLETED } else { FAILED };
    let status = wire::GenerationStatus::try_from(new.status)
        .map_err(|_| ServiceError::invalid("generation.status", "is no status"))?;
    let status = status_from_wire(status).unwrap_or(otherwise);
    let example = |one: wire::RetrievedExample| Example {
        space: one.space,
        item_id: one.item_id,
        score: one.score,
        text: one.text,
    };
    Ok(Generation {
        id: Uuid::nil(),
        prompt: new.prompt,
        augmented_prompt: new.augmented_prompt,
        output_path: new.output_path,
        seed: new.seed,
        steps: new.num_inference_steps.map(i64::from),
        guidance_scale: new.guidance_scale,
        time_ms: new.generation_time_ms,
        memory_mb: new.memory_usage_mb,
        model_config: payload_from_wire("generation.model_config", new.model_config)?,
        examples: new.retrieved_examples.into_iter().map(example).collect(),
        status,
        error_message: new.error_message,
        created_at: 0,
        created_by: Uuid::nil(),
        finished_at: None,
    })
}

fn to_wire(made: Generation) -> wire::Generation {
    wire::Generation {
        id: made.id.to_string(),
        prompt: made.prompt,
        augmented_prompt: made.augmented_prompt,
        output_path: made.output_path,
        seed: made.seed,
        num_inference_steps: made.steps.and_then(|steps| i32::try_from(steps).ok()),
        guidance_scale: made.guidance_scale,
        generation_time_ms: made.time_ms,
        memory_usage_mb: made.memory_mb,
        model_config: payload_to_wire(made.model_config.fields()),
        retrieved_examples: made.examples.into_iter().map(example_to_wire).collect(),
        status: status_to_wire(made.status).into(),
        error_message: made.error_message,
        create_time: Some(timestamp(made.created_at)),
        created_by: made.created_by.to_string(),
        finish_time: made.finished_at.map(timestamp),
    }
}

const fn status_from_wire(status: wire::GenerationStatus) -> Option<i16> {
    match status {
        wire::GenerationStatus::Unspecified => None,
        wire::GenerationStatus::Completed => Some(COMPLETED),
        wire::GenerationStatus::Failed => Some(FAILED),
        wire::GenerationStatus::Running => Some(RUNNING),
    }
}

const fn status_to_wire(status: i16) -> wire::GenerationStatus {
    match status {
        COMPLETED => wire::GenerationStatus::Completed,
        FAILED => wire::GenerationStatus::Failed,
        RUNNING => wire::GenerationStatus::Running,
        _ => wire::GenerationStatus::Unspecified,
    }
}

fn model_to_wire(model: CachedModel) -> wire::CachedModel {
    wire::CachedModel {
        model_type: model.model_type,
        model_name: model.model_name,
        cache_path: model.cache_path,
        size_bytes: model.size_bytes,
        access_count: model.access_count,
        last_accessed: Some(timestamp(model.last_accessed)),
        create_time: Some(timestamp(model.created_at)),
    }
}
