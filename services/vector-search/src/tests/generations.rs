//! Images, the log of generations with retrieved examples as rows, cached models, exact counts.

use super::*;

fn log(prompt: &str) -> api::Generation {
    api::Generation { prompt: prompt.into(), ..Default::default() }
}

async fn logged(
    house: &House,
    generation: api::Generation,
) -> Result<api::Generation, ServiceError> {
    let request =
        api::LogGenerationRequest { namespace: "ns".into(), generation: Some(generation) };
    let mut client = GenerationsServiceClient::new(house.transport.clone());
    let answer = client.log_generation(house.own(request)).await?;
    Ok(answer.into_inner().generation.unwrap())
}

fn client(house: &House) -> GenerationsServiceClient<Transport> {
    GenerationsServiceClient::new(house.transport.clone())
}

fn full() -> api::Generation {
    let example = |item: &str, score| api::RetrievedExample {
        space: "ns/s".into(),
        item_id: item.into(),
        score,
        text: format!("about {item}"),
    };
    api::Generation {
        prompt: "a cat sitting on a chair".into(),
        augmented_prompt: "with examples".into(),
        output_path: "output/cat.png".into(),
        seed: Some(-7),
        num_inference_steps: Some(30),
        guidance_scale: Some(7.5),
        generation_time_ms: Some(2_500),
        memory_usage_mb: Some(512.5),
        model_config: HashMap::from([("scheduler".to_owned(), text("ddim"))]),
        retrieved_examples: vec![example("b", 0.9), example("a", 0.8)],
        ..Default::default()
    }
}

#[tokio::test]
async fn a_generation_is_logged_in_full() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        let made = logged(&house, full()).await.unwrap();
        let get = api::GetGenerationRequest { namespace: "ns".into(), id: made.id.clone() };
        let got = client(&house).get_generation(house.own(get)).await.unwrap().into_inner();
        assert_eq!(got.generation.unwrap(), made);
        assert_eq!(made.create_time, made.finish_time);
        let sent = api::Generation {
            id: made.id.clone(),
            status: api::GenerationStatus::Completed.into(),
            create_time: made.create_time,
            finish_time: made.finish_time,
            created_by: made.created_by.clone(),
            ..full()
        };
        assert_eq!(made, sent, "every field, and the examples in their order");
        let failed = api::Generation { error_message: "out of memory".into(), ..log("x") };
        let failed = logged(&house, failed).await.unwrap();
        assert_eq!(failed.status(), api::GenerationStatus::Failed);
        for (wrong, field) in [
            (log(""), "generation.prompt"),
            (api::Generation { status: 9, ..log("x") }, "generation.status"),
            (
                api::Generation { generation_time_ms: Some(-1), ..log("x") },
                "generation.generation_time_ms",
            ),
            (
                api::Generation { guidance_scale: Some(f64::NAN), ..log("x") },
                "generation.guidance_scale",
            ),
        ] {
            let error = refused(logged(&house, wrong).await, Code::InvalidArgument);
            assert_eq!(error.field_name(), Some(field), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_running_generation_ends_once() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        let running = api::GenerationStatus::Running.into();
        let made = logged(&house, api::Generation { status: running, ..log("x") }).await.unwrap();
        assert_eq!(made.finish_time, None);
        let finish = api::FinishGenerationRequest {
            namespace: "ns".into(),
            id: made.id.clone(),
            output_path: "out.png".into(),
            generation_time_ms: Some(7),
            ..Default::default()
        };
        let ends = async |request: api::FinishGenerationRequest| {
            let mut client = client(&house);
            let ended = client.finish_generation(house.own(request)).await;
            ended.map(tonic::Response::into_inner).map_err(ServiceError::from)
        };
        let ended = ends(finish.clone()).await.unwrap().generation.unwrap();
        assert_eq!(ended.status(), api::GenerationStatus::Completed);
        assert_eq!((ended.output_path.as_str(), ended.generation_time_ms), ("out.png", Some(7)));
        assert!(ended.finish_time.is_some());
        let again = ends(finish.clone()).await;
        assert!(refused(again, Code::FailedPrecondition).reason_is("GENERATION_ENDED"));
        let absent = uuid::Uuid::now_v7().to_string();
        let absent = ends(api::FinishGenerationRequest { id: absent, ..finish }).await;
        refused(absent, Code::NotFound);
    })
    .await;
}

#[tokio::test]
async fn generations_are_listed_newest_first_and_by_status() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        for n in 0..11 {
            logged(&house, log(&format!("prompt {n}"))).await.unwrap();
        }
        let failed = api::Generation { error_message: "out of memory".into(), ..log("bad") };
        logged(&house, failed).await.unwrap();
        let all = async |status: api::GenerationStatus| {
            let (mut seen, mut page_token) = (Vec::new(), String::new());
            loop {
                let request = api::ListGenerationsRequest {
                    namespace: "ns".into(),
                    page_size: 5,
                    page_token,
                    status: status.into(),
                };
                let page = client(&house).list_generations(house.own(request)).await;
                let page = page.unwrap().into_inner();
                seen.extend(page.generations.into_iter().map(|generation| generation.prompt));
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    return seen;
                }
            }
        };
        let seen = all(api::GenerationStatus::Unspecified).await;
        assert_eq!((seen.len(), seen[0].as_str(), seen[11].as_str()), (12, "bad", "prompt 0"));
        assert_eq!(all(api::GenerationStatus::Failed).await, ["bad"]);
        assert_eq!(all(api::GenerationStatus::Completed).await.len(), 11);
    })
    .await;
}

async fn add(house: &House, image: api::Image) -> Result<api::Image, ServiceError> {
    let request =
        api::AddImageRequest { namespace: "ns".into(), image: Some(image), ..Default::default() };
    let mut client = ImagesServiceClient::new(house.transport.clone());
    Ok(client.add_image(house.own(request)).await?.into_inner().image.unwrap())
}

fn cat() -> api::Image {
    api::Image {
        image_path: "data/images/cat.jpg".into(),
        description: "A cute cat sitting on a chair".into(),
        tags: vec!["cat".into(), "chair".into()],
        width: 800,
        height: 600,
        file_size_bytes: 5 << 32,
        format: "jpeg".into(),
        source_dataset: "photos".into(),
        item_id: "7".into(),
        content_hash: "abc".into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn images_are_linked_to_items_that_the_caller_may_read() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        refused(add(&house, cat()).await, Code::NotFound);
        house.catalog.dataset("ns/photos", 0);
        let added = add(&house, cat()).await.unwrap();
        let expected = "/v1/namespaces/ns/datasets/photos/media/abc/thumbnail";
        assert_eq!(added.thumbnail_path, expected);
        refused(add(&house, cat()).await, Code::AlreadyExists);
        let unlinked = api::Image { source_dataset: String::new(), ..cat() };
        refused(add(&house, unlinked).await, Code::InvalidArgument);
        let mut client = ImagesServiceClient::new(house.transport.clone());
        let get = api::GetImageRequest { namespace: "ns".into(), id: added.id.clone() };
        let got = client.get_image(house.own(get.clone())).await.unwrap().into_inner();
        assert_eq!(got.image.as_ref(), Some(&added));
        let list = api::ListImagesRequest { namespace: "ns".into(), ..Default::default() };
        let listed = client.list_images(house.own(list)).await.unwrap().into_inner();
        assert_eq!(listed.images, std::slice::from_ref(&added));
        let stranger = Who::user();
        let hidden = client.get_image(house.by(&stranger, get.clone())).await;
        refused(hidden.map_err(ServiceError::from), Code::NotFound);
        let delete = api::DeleteImageRequest { namespace: "ns".into(), id: added.id };
        client.delete_image(house.own(delete.clone())).await.unwrap();
        let gone = client.get_image(house.own(get)).await;
        refused(gone.map_err(ServiceError::from), Code::NotFound);
        let twice = client.delete_image(house.own(delete)).await;
        refused(twice.map_err(ServiceError::from), Code::NotFound);
    })
    .await;
}

#[tokio::test]
async fn uses_of_cached_models_are_counted() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        let touch = async |name: &str, size_bytes| {
            let request = api::TouchModelRequest {
                namespace: "ns".into(),
                model_type: "clip".into(),
                model_name: name.into(),
                size_bytes,
                ..Default::default()
            };
            let touched = client(&house).touch_model(house.own(request)).await;
            touched.map(|answer| answer.into_inner().model.unwrap()).map_err(ServiceError::from)
        };
        assert_eq!(touch("ViT-B-32", 7).await.unwrap().access_count, 1);
        touch("other", 1).await.unwrap();
        let twice = touch("ViT-B-32", 9).await.unwrap();
        assert_eq!((twice.access_count, twice.size_bytes), (2, 9));
        assert!(twice.last_accessed.unwrap().nanos >= 0 && twice.create_time.is_some());
        refused(touch("", 1).await, Code::InvalidArgument);
        refused(touch("x", -1).await, Code::InvalidArgument);
        let names = async |page_size, page_token| {
            let request =
                api::ListCachedModelsRequest { namespace: "ns".into(), page_size, page_token };
            let page = client(&house).list_cached_models(house.own(request)).await.unwrap();
            let page = page.into_inner();
            let names: Vec<String> = page.models.into_iter().map(|m| m.model_name).collect();
            (names, page.next_page_token)
        };
        let (first, token) = names(1, String::new()).await;
        let (second, end) = names(1, token).await;
        assert_eq!((first, second), (vec!["ViT-B-32".into()], vec!["other".into()]));
        assert_eq!(end, "");
        let forget = api::ForgetModelRequest {
            namespace: "ns".into(),
            model_type: "clip".into(),
            model_name: "other".into(),
        };
        client(&house).forget_model(house.own(forget.clone())).await.unwrap();
        let twice = client(&house).forget_model(house.own(forget)).await;
        refused(twice.map_err(ServiceError::from), Code::NotFound);
        assert_eq!(names(9, String::new()).await.0, ["ViT-B-32"]);
        let bytes = async || {
            let request = api::GetRagStatisticsRequest { namespace: "ns".into(), recent_hours: 0 };
            let counted = client(&house).get_rag_statistics(house.own(request)).await.unwrap();
            counted.into_inner().cached_model_bytes
        };
        assert_eq!(bytes().await, 9);
        touch("large", (5 << 30) + 3).await.unwrap();
        assert_eq!(bytes().await, (5 << 30) + 12);
        for name in ["a", "b"] {
            touch(name, i64::MAX).await.unwrap();
        }
        assert_eq!(bytes().await, i64::MAX, "as much as can be said");
    })
    .await;
}

#[tokio::test]
async fn counts_are_exact() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        let count = async |recent_hours| {
            let request = api::GetRagStatisticsRequest { namespace: "ns".into(), recent_hours };
            let counted = client(&house).get_rag_statistics(house.own(request)).await;
            counted.map(tonic::Response::into_inner).map_err(ServiceError::from)
        };
        assert_eq!(count(0).await.unwrap(), api::GetRagStatisticsResponse::default());
        for n in 0..10 {
            logged(&house, log(&format!("prompt {n}"))).await.unwrap();
        }
        logged(&house, full()).await.unwrap();
        logged(&house, api::Generation { generation_time_ms: Some(500), ..full() }).await.unwrap();
        let failed = api::Generation { error_message: "no".into(), ..log("x") };
        logged(&house, failed).await.unwrap();
        let running = api::GenerationStatus::Running.into();
        logged(&house, api::Generation { status: running, ..log("x") }).await.unwrap();
        house.catalog.dataset("ns/photos", 0);
        add(&house, cat()).await.unwrap();
        house.create("s", 2, api::Metric::L2).await.unwrap();
        house.upsert("s", vec![point("a", &[1.0, 0.0], &[])]).await.unwrap();
        house.create("t", 2, api::Metric::L2).await.unwrap();
        let expected = api::GetRagStatisticsResponse {
            total_images: 1,
            total_spaces: 2,
            total_embeddings: 1,
            total_generations: 14,
            recent_generations: 14,
            failed_generations: 1,
            running_generations: 1,
            avg_generation_time_ms: Some(1_500.0),
            cached_models: 0,
            cached_model_bytes: 0,
        };
        assert_eq!(count(1).await.unwrap(), expected);
        refused(count(-1).await, Code::InvalidArgument);
    })
    .await;
}

#[tokio::test]
async fn a_context_is_assembled_of_what_is_near() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        house.create("s", 2, api::Metric::Cosine).await.unwrap();
        let points = vec![
            point("cat", &[1.0, 0.1], &[("words", text("a cat {prompt}"))]),
            point("dog", &[0.1, 1.0], &[("words", text("a dog"))]),
        ];
        house.upsert("s", points).await.unwrap();
        let request = api::AssembleContextRequest {
            namespace: "ns".into(),
            space: "s".into(),
            prompt: "draw".into(),
            query: near("s", &[1.0, 0.0], 1).query,
            threshold: Some(0.5),
            text_column: "words".into(),
            template: "{examples}=> {prompt}".into(),
            ..Default::default()
        };
        let mut client = GenerationsServiceClient::new(house.transport.clone());
        let made = client.assemble_context(house.own(request.clone())).await.unwrap().into_inner();
        for column in ["", "word"] {
            let wrong =
                api::AssembleContextRequest { text_column: column.into(), ..request.clone() };
            let outcome = client.assemble_context(house.own(wrong)).await;
            let error = refused(outcome.map_err(ServiceError::from), Code::InvalidArgument);
            assert_eq!(error.field_name(), Some("text_column"), "{error}");
        }
        assert_eq!(made.augmented_prompt, "- a cat {prompt}\n=> draw");
        assert_eq!(
            (made.retrieved_examples.len(), made.retrieved_examples[0].item_id.as_str()),
            (1, "cat")
        );
    })
    .await;
}
