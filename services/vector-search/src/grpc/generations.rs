//! `quarry.vectors.v1.GenerationsService`.

use service_error::ServiceError;
use tonic::{Request, Response, Status};
use uuid::Uuid;
use vectors_api::v1 as wire;
use vectors_api::v1::generations_service_server::GenerationsService;

use crate::app::{App, Assemble};
use crate::grpc::payload::{payload_from_wire, payload_to_wire};
use crate::grpc::question::question_from_wire;
use crate::grpc::search::k_of;
use crate::grpc::{answer, timestamp};
use crate::model::{Address, Ask, CachedModel, Example, Generation, Image, Question};

/// Hours that count as recent when the request does not say.
const RECENT_HOURS: i32 = 24;

/// The service over the use cases.
pub struct Generations(pub App);

fn id(field: &str, text: &str) -> Result<Uuid, ServiceError> {
    Uuid::try_parse(text).map_err(|_| ServiceError::invalid(field, "is no id"))
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

    async fn get_generation(
        &self,
        request: Request<wire::GetGenerationRequest>,
    ) -> Result<Response<wire::GetGenerationResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let found = async {
            let id = id("id", &asked.id)?;
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
            let status = i16::try_from(asked.status)
                .map_err(|_| ServiceError::invalid("status", "is no status"))?;
            let of = (status, before);
            let found = self.0.list_generations(&caller, &asked.namespace, of, size + 1).await?;
            let (found, next_page_token) = paging::cut(found, size, &list, |last| last.id);
            let generations = found.into_iter().map(to_wire).collect();
            Ok::<_, ServiceError>(wire::ListGenerationsResponse { generations, next_page_token })
        };
        answer(page.await)
    }

    async fn add_image(
        &self,
        request: Request<wire::AddImageRequest>,
    ) -> Result<Response<wire::AddImageResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let new = image_from_wire(asked.image.unwrap_or_default());
        let made = self.0.add_image(&caller, &asked.namespace, new).await;
        answer(made.map(|made| wire::AddImageResponse { image: Some(image_to_wire(made)) }))
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
            let images = found.into_iter().map(image_to_wire).collect();
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
        let deleted = async {
            let id = id("id", &asked.id)?;
            self.0.delete_image(&caller, &asked.namespace, id).await
        };
        let deleted = deleted.await;
        answer(deleted.map(|()| wire::DeleteImageResponse {}))
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
        };
        let touched = self.0.touch_model(&caller, &asked.namespace, model).await;
        answer(touched.map(|(access_count, at)| wire::TouchModelResponse {
            access_count,
            last_accessed: timestamp(at),
        }))
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
    let status = match new.status() {
        wire::GenerationStatus::Unspecified if new.error_message.is_empty() => 1,
        wire::GenerationStatus::Unspecified => 2,
        status => i16::try_from(i32::from(status)).unwrap_or(1),
    };
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
        status: i32::from(made.status),
        error_message: made.error_message,
        create_time: timestamp(made.created_at),
        created_by: made.created_by.to_string(),
    }
}

fn image_from_wire(new: wire::Image) -> Image {
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
        created_at: 0,
    }
}

fn image_to_wire(made: Image) -> wire::Image {
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
        create_time: timestamp(made.created_at),
    }
}
